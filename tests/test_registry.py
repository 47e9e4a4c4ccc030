"""What the runs of a root say together."""

from datetime import date

import pytest

from passline.registry import RunFilter, configurations_tried, select_runs
from passline.runs import create_run

ES, GC = "e5" * 32, "6c" * 32


def started(root, *, config, sha256=ES, contract="ES", book="apex-eod-50k", **entry):
    told = {
        "config": config,
        "markets": [contract],
        "data": {f"0-{contract}": {"sha256": sha256, **entry}},
        "rulebook": {"id": book},
    }
    return create_run(root, contract, told)


def test_configurations_are_counted_once_each_and_by_data(tmp_path):
    for seed in (0, 0, 1, 2):
        started(tmp_path, config={"seed": seed})
    started(tmp_path, config={"seed": 3}, sha256=GC, contract="GC")
    create_run(tmp_path, "plain", {"config": {"seed": 4}, "data": {"es": ES}})
    assert configurations_tried(tmp_path, ES) == 4
    assert configurations_tried(tmp_path, GC) == 1
    assert configurations_tried(tmp_path, "00" * 32) == 0
    assert configurations_tried(tmp_path / "none", ES) == 0


def test_runs_with_other_final_windows_are_on_the_same_data(tmp_path):
    started(tmp_path, config={"final": 90}, visible_sha256="a1" * 32)
    started(tmp_path, config={"final": 180}, visible_sha256="b2" * 32)
    assert configurations_tried(tmp_path, ES) == 2
    assert configurations_tried(tmp_path, "a1" * 32) == 1


def test_a_damaged_run_does_not_stop_the_count(tmp_path):
    run = started(tmp_path, config={"seed": 0})
    (run.path / "run.toml").write_text("status = ")
    started(tmp_path, config={"seed": 1})
    assert configurations_tried(tmp_path, ES) == 1


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunFilter(), ["es", "gc"]),
        (RunFilter(contract="gc"), ["gc"]),
        (RunFilter(rulebook="apex"), ["es"]),
        (RunFilter(status="killed"), ["es", "gc"]),
        (RunFilter(status="finished"), []),
        (RunFilter(data="6C6c6c"), ["gc"]),
        (RunFilter(data="c6"), []),
        (RunFilter(since=date(2026, 1, 1)), ["es", "gc"]),
        (RunFilter(since=date(2999, 1, 1)), []),
        (RunFilter(contract="ES", data="6c"), []),
    ],
)
def test_filters_choose_runs(tmp_path, wanted, found):
    started(tmp_path, config={})
    started(tmp_path, config={}, sha256=GC, contract="GC", book="topstep-combine-50k")
    assert [run.name.lower() for run in select_runs(tmp_path, wanted)] == found
