"""Walk-forwards side by side: the same starts of the same windows, and a training's luck counts."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import make_run
from made_walk import BOOK, DATA, make_walk, window_of

from made_tables import bare_table
from passline.cli import main
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import GATE_SAID_NO, VerdictWord
from passline.evaluate.walk_results import load_walk
from passline.report.compare import compare_runs
from passline.report.compare_page import render_comparison
from passline.report.comparison import Comparison, difference_of
from passline.runs import Run, create_run
from proving import Figure, examples


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def good(root) -> Run:
    return make_walk(root, lambda window, seed: 160.0 + 20 * seed, seeds=3)


@pytest.fixture(scope="module")
def bad(root) -> Run:
    """Two seeds where the good one has three; a gate stopped one training."""
    return make_walk(root, lambda window, seed: -60.0 + 30 * seed, flat=[(1, 0)])


@pytest.fixture(scope="module")
def comparison(good, bad) -> Comparison:
    return compare_runs([good, bad])


def agents(run: Run, number: int) -> list[EvaluationTable]:
    """Returns the agent's rows of each seed in a window, from 0."""
    fold = load_walk(run).folds[number]
    return [t.table.where(policy=AGENT, path="worst") for t in fold.trainings]


def test_every_start_and_every_seed_counts_alike(comparison, good, bad) -> None:
    per_start = []
    for number in range(3):
        rates = [np.mean([t.is_pass for t in agents(run, number)], axis=0) for run in (good, bad)]
        per_start.append(rates[0] - rates[1])
        (window,) = [d.windows[number] for d in comparison.differences]
        assert window.value == pytest.approx(per_start[-1].mean())
    (pair,) = comparison.differences
    assert pair.advantage.value == pytest.approx(np.mean(per_start))
    assert pair.advantage_by_window.value == pytest.approx(np.mean(per_start))
    assert pair.advantage.n == 3 * 2 * 60, "copies of plays are no further episodes"
    assert pair.advantage.n_clusters == 3 * 6 - 3, "six blocks of 30 days, the last without a start"
    assert pair.advantage_by_window.n_clusters == 3
    assert pair.word == "A passes more often"


def test_each_keeps_its_own_verdict_and_its_rates_by_window(comparison, good, bad) -> None:
    for at, (contender, run) in enumerate(zip(comparison.contenders, (good, bad), strict=True)):
        results = load_walk(run)
        assert contender.verdict == results.verdict
        assert contender.pass_rate == results.verdict.agent.pass_rate
        for window, fold in zip(comparison.windows, results.folds, strict=True):
            assert window.rates[at] == fold.scores[0].pass_rate
            assert window.seeds[at] == fold.seed_rates
    first, last = window_of(0)
    assert comparison.windows[0].name == f"{day(first)} to {day(last - 1)}"
    assert comparison.contenders[1].coverage.endswith("a gate stopped 1, judged as never trading")


def day(number: int) -> str:
    return str(np.datetime64(number, "D"))


def test_the_same_settings_twice_cannot_be_told_apart(root, good) -> None:
    again = make_walk(root, lambda window, seed: 160.0 + 20 * seed, seeds=3)
    (pair,) = compare_runs([good, again]).differences
    assert pair.advantage.value == pair.result.value == 0
    assert pair.word == "cannot be told apart"


def false_names(luck: float, n_draws: int, seed: int, hurdle: float = 0.6) -> tuple[float, float]:
    """Compares walk-forwards of the same settings, whose trainings come out better or worse.

    Five windows of a year, three trainings each, 96 episodes of up to 30 days; a training's luck
    moves all of its episodes.

    Returns:
        How often a difference is named by the two intervals of dates alone, and by all three.
    """
    rng = np.random.default_rng(seed)
    named = np.zeros(2)
    for _ in range(n_draws):
        days, windows, passes = [], [], ([], [])
        for window in range(5):
            start = np.sort(rng.integers(0, 335, 96))

            def moving(start: np.ndarray = start) -> np.ndarray:
                sums = np.r_[0.0, np.cumsum(rng.standard_normal(396))]
                return (sums[start + 30] - sums[start]) / np.sqrt(30)

            market = moving()
            for side in passes:
                for _ in range(3):
                    own = 0.7 * market + 0.7 * moving() + 0.3 * rng.standard_normal(96)
                    side.append(own + rng.normal(0, luck) > hurdle)
            days += [365 * window + start] * 3
            windows += [np.full(96, window)] * 3
        day, window = np.concatenate(days), np.concatenate(windows)
        one, other = (bare_table(np.concatenate(side), day) for side in passes)
        for at, own in enumerate((None, window)):
            found = difference_of("A", "B", one, other, 30, own)
            named[at] += found.word != "cannot be told apart"
    return float(named[0] / n_draws), float(named[1] / n_draws)


def test_the_luck_of_trainings_names_no_difference() -> None:
    """What would be named if dates alone were the draws; then with windows as well."""
    dates, both = false_names(0.6, examples(40), seed=1)
    assert dates > 0.1
    assert both < dates
    assert both <= 0.1


@pytest.mark.proof
@pytest.mark.parametrize("luck", [0.0, 0.6])
def test_differences_of_walk_forwards_are_named_falsely_at_most_as_often_as_said(
    luck: float, figure: Figure
) -> None:
    dates, both = false_names(luck, 1000, seed=2)
    figure("named by dates alone", dates, "")
    figure("named by dates and windows", both, "at most 0.07")
    assert both <= 0.07


def test_a_walk_forward_forced_past_a_gate_is_undecided_where_it_would_be_an_edge(root) -> None:
    passed, forced, stopped = (
        load_walk(make_walk(root, lambda w, s: 400.0, **how)).verdict
        for how in ({}, {"forced": True}, {"flat": [(0, 0)]})
    )
    assert passed.word is VerdictWord.EDGE
    assert (forced.word, forced.reasons[0]) == (VerdictWord.UNDECIDED, GATE_SAID_NO)
    assert forced.agent == passed.agent
    assert GATE_SAID_NO not in (*passed.reasons, *stopped.reasons), "a stopped one is flat"


def test_only_windows_and_starts_that_all_share_count(root, good) -> None:
    other = make_walk(
        root, lambda w, s: 100.0, windows=(1, 2, 3), n=40, missing=[(2, 1)], forced=True
    )
    found = compare_runs([good, other])
    assert [w.name[:10] for w in found.windows] == [day(window_of(n)[0]) for n in (1, 2)]
    assert found.contenders[0].pass_rate.n == 2 * 3 * 60
    starts = [set(t.start_ns.tolist()) for run in (good, other) for t in agents(run, 1)[:1]]
    shared = len(starts[0] & agents_starts(other, 0))
    assert found.differences[0].advantage.n == 3 * shared, "two seeds in one window, one in other"
    notes = " ".join(found.notes)
    for told in (
        "A was judged on 1 further window;",
        "B was judged on 1 further window;",
        "B: 1 of 6 trainings failed",
        "Not every start was played by both",
        "Forced past a gate that was not passed: B.",
    ):
        assert told in notes
    assert found.settings["slices.n_episodes"] == ("60", "40")


def agents_starts(run: Run, number: int) -> set[int]:
    return set(agents(run, number)[0].start_ns.tolist())


def test_one_window_cannot_tell_the_luck_of_trainings(root) -> None:
    pair = [make_walk(root, lambda w, s, d=d: d, windows=(0,)) for d in (300.0, -200.0)]
    found = compare_runs(pair)
    assert found.differences[0].advantage.low > 0
    assert found.differences[0].word == "cannot be told apart"
    assert "They share one test window." in " ".join(found.notes)
    assert "unbounded" in render_comparison(found)


@pytest.mark.parametrize(
    ("changes", "windows", "told"),
    [
        ({"data": {"0-ES": DATA | {"sha256": "0" * 64}}}, (0, 1), "differing in bars (ES of 300 s"),
        ({"data": {"0-ES": DATA, "1-GC": DATA}}, (0, 1), "differing in bars"),
        (
            {"rulebook": BOOK | {"id": "apex-eod-50k", "sha256": "0" * 64}},
            (0, 1),
            "rulebook (apex-intraday-50k ab12ab12 against apex-eod-50k 00000000)",
        ),
        ({"rulebook": BOOK | {"time_limit_days": 10}}, (0, 1), "time limit (30 against 10 cal"),
        ({}, (3, 4), "share no test window"),
    ],
)
def test_walk_forwards_without_a_shared_episode_are_refused(
    changes, windows, told, root, good, capsys
) -> None:
    other = make_walk(root, lambda w, s: 0.0, windows=windows, seeds=1, changes=changes)
    line = refused([good, other], capsys)
    assert told in line
    assert good.id in line
    assert other.id in line


def refused(runs: list[Run], capsys: Any) -> str:
    """Returns the one line of a refusal."""
    with pytest.raises(SystemExit) as ended:
        main(["compare", *(str(run.path) for run in runs), "--out", "/nonexistent.html"])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    return line


def test_walk_forwards_that_have_not_come_far_enough_are_refused(root, good, capsys) -> None:
    half = make_walk(root, lambda w, s: 0.0, windows=(2, 3), seeds=1, missing=[(2, 0)])
    line = refused([good, half], capsys)
    assert f"passline walkforward --resume {half.id}" in line


def test_kinds_are_not_mixed(root, good, tmp_path, capsys) -> None:
    training = make_run(tmp_path, n=12)
    line = refused([training, good], capsys)
    assert f"{good.id} is a walk-forward and {training.id} a training" in line
    assert "walk-forwards with walk-forwards" in line
    null = create_run(tmp_path, "null", {"config": {}})
    (null.path / "nulltest.jsonl").write_text("")
    assert f"passline report {null.id}" in refused([good, null], capsys)


def test_the_page_needs_nothing_else_and_prints_every_interval(comparison, good, bad) -> None:
    page = render_comparison(comparison)
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import', page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg ") == 2
    assert "2 walk-forwards side by side" in page
    assert "3 shared test windows" in page
    for run in (good, bad):
        assert run.id in page
    for window in comparison.windows:
        assert window.first in page
        for rate in window.rates:
            assert f"{rate.low:.1%} to {rate.high:.1%}" in page
    assert "{{" not in page


def test_the_command_prints_and_writes(good, bad, root, tmp_path, capsys) -> None:
    out = tmp_path / "page.html"
    arguments = ["compare", good.id, bad.id, "--root", str(root), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    shown = capsys.readouterr().out
    for told in ("pass rate, shared windows", "between windows", "3 above, 0 below", good.id):
        assert told in shown
    assert out.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "walk-forward"
    assert answer["pairs"][0]["advantage_by_window"]["low"] > 0
    assert answer["windows"][2]["advantages"]["A-B"]["n"] == 120
    assert answer["windows"][0]["pass_rates"]["A"]["seeds"].keys() == {"0", "1", "2"}
    assert answer["shared_slices"] == [w["first"] + " to " + w["last"] for w in answer["windows"]]
