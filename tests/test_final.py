"""The record of openings: added to, counted over runs, never lost by a crash."""

from dataclasses import replace
from datetime import date

import pytest

from killing import at_most
from passline.errors import RunError
from passline.openings import (
    OPENINGS_FILE,
    SealedWindow,
    count_openings,
    read_openings,
    record_opening,
    record_result,
)
from passline.runs import create_run

ES = SealedWindow(
    contracts=("ES",), data=("e5" * 32,), first=date(2022, 1, 1), last=date(2022, 12, 30)
)


def opened(run, window=ES):
    return record_opening(
        run, window, checkpoint="3-account", checkpoint_sha256="ab" * 32, step=10, slices=["final"]
    )


@pytest.fixture
def runs(tmp_path):
    return [create_run(tmp_path, name, {"config": {}}) for name in ("one", "two")]


def test_an_opening_is_on_record_before_its_result(runs):
    run, _ = runs
    first = opened(run)
    assert read_openings(run) == [first]
    assert first.result is None
    assert "first time" in first.sentence()
    told = record_result(run, first, {"verdict": "no edge found", "value": 0.25})
    assert read_openings(run) == [told]
    assert told.result == {"verdict": "no edge found", "value": 0.25}
    assert told.window == ES


def test_openings_count_for_all_runs_of_the_folder(runs):
    one, two = runs
    opened(one)
    opened(two)
    third = opened(one)
    assert (third.n_by_run, third.n_by_others, third.number) == (1, 1, 2)
    assert third.sentence() == (
        "The final window was opened 3 times by runs of this folder (2 by this run, 1 by others): "
        "figures on it are no longer out of sample."
    )
    assert count_openings(two, ES) == (1, 2)


@pytest.mark.parametrize(
    ("other", "shares"),
    [
        (replace(ES, data=("00" * 32,)), True),
        (replace(ES, contracts=("MES",)), True),
        (replace(ES, contracts=("GC",), data=("6c" * 32,)), False),
        (replace(ES, first=date(2022, 12, 30), last=date(2023, 6, 1)), True),
        (replace(ES, first=date(2022, 12, 31), last=date(2023, 6, 1)), False),
    ],
)
def test_windows_that_share_dates_of_a_market_are_one(runs, other, shares):
    one, two = runs
    opened(one)
    assert opened(two, other).n_by_others == int(shares)


def test_a_damaged_record_is_refused_not_forgotten(runs):
    run, _ = runs
    opened(run)
    with (run.path / OPENINGS_FILE).open("a") as file:
        file.write("{half\n")
    with pytest.raises(RunError, match=r"openings.jsonl: line 2 cannot be read"):
        read_openings(run)


def test_a_line_that_was_torn_while_it_was_written_opens_nothing_and_goes(runs):
    """The window is looked at after its line is whole, so that a torn one was no look."""
    run, _ = runs
    first = opened(run)
    path = run.path / OPENINGS_FILE
    line = path.read_text()
    for cut in (3, line.index("}") + 1, len(line) - 2):
        path.write_text(line + line[:cut])
        assert read_openings(run) == [first]
    told = record_result(run, first, {"verdict": "no edge found"})
    assert len(path.read_text().splitlines()) == 2
    path.write_text(path.read_text().rstrip("\n"))
    assert read_openings(run) == [told], "a line that lacks its end alone is whole"
    assert opened(run).number == 2


def test_a_full_disk_is_named_before_the_window_is_looked_at(runs):
    run, _ = runs
    with at_most(100), pytest.raises(RunError, match=r"openings.jsonl: could not be written"):
        opened(run)
    assert read_openings(run) == []
