"""Runs side by side: only shared slices are counted, pairs share episodes, luck stays luck."""

import json
import re
import shutil

import pytest
from made_run import make_run

from passline.cli import main
from passline.errors import RunError
from passline.evaluate.table import append_evaluation, load_evaluations
from passline.report.compare import compare_runs
from passline.report.compare_page import render_comparison
from passline.runs import open_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(root):
    """A good agent, a hopeless one on the same bars and luck, and the good one again."""
    good, bad = make_run(root, drift=260.0, seed=7), make_run(root, drift=-160.0, seed=7)
    return good, bad, make_run(root, drift=260.0, seed=7)


@pytest.fixture(scope="module")
def comparison(runs):
    return compare_runs(runs)


def test_pairs_are_told_apart_only_where_both_intervals_say_so(comparison, runs):
    by_pair = {(d.first, d.second): d for d in comparison.differences}
    assert set(by_pair) == {("A", "B"), ("A", "C"), ("B", "C")}
    better = by_pair["A", "B"]
    rates = [c.pass_rate.value for c in comparison.contenders]
    assert better.advantage.value == pytest.approx(rates[0] - rates[1])
    assert better.advantage.n == len(comparison.contenders[0].agent)
    assert better.word == "A passes more often"
    assert by_pair["B", "C"].word == "C passes more often"
    same = by_pair["A", "C"]
    assert same.advantage.value == 0
    assert same.result.value == 0
    assert same.word == "cannot be told apart"


def test_differences_are_of_the_same_episodes(runs, comparison):
    a, b = (c.agent for c in comparison.contenders[:2])
    assert (a.start_ns == b.start_ns).all()
    expected = float((a.result_mills - b.result_mills).mean()) / 1000
    found = comparison.differences[0].result
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high
    assert comparison.slices == ("2022",)


@pytest.mark.parametrize("change", [("5d1f5d1f", "00000000"), ("seed = 1", "seed = 9")])
def test_other_data_are_never_paired_and_other_settings_are_listed(runs, tmp_path, change):
    copy = tmp_path / runs[0].id.replace("-es-", "-gc-")
    shutil.copytree(runs[0].path, copy)
    file = copy / "run.toml"
    file.write_text(file.read_text().replace(*change))
    found = compare_runs([runs[0], open_run(copy)])
    if change[0] == "seed = 1":
        assert found.settings["train.seed"] == ("1", "9")
        assert not found.unpaired
        return
    assert found.unpaired == (("A", "B"),)
    assert found.differences == found.slices == ()
    assert all(c.pass_rate is None for c in found.contenders)
    assert "must not be ranked" in found.notes[0]
    assert "must not be ranked" in render_comparison(found)


def test_only_shared_slices_are_counted(runs, tmp_path):
    copy = tmp_path / runs[0].id.replace("-es-", "-more-")
    shutil.copytree(runs[0].path, copy)
    table = load_evaluations(copy / "evaluations.npz")
    slices = table.slice.copy()
    slices[table.start_day > 19_150] = "late"
    (copy / "evaluations.npz").unlink()
    columns = vars(table) | {"slice": slices}
    append_evaluation(copy / "evaluations.npz", [type(table)(**columns)])
    found = compare_runs([runs[0], open_run(copy)])
    assert found.slices == ("2022",)
    whole, part = found.contenders
    assert whole.pass_rate.n == len(whole.agent)
    assert part.pass_rate.n < len(part.agent)
    assert found.differences[0].advantage.n == part.pass_rate.n


def test_a_forced_run_is_marked_and_a_run_without_judgment_refused(runs, tmp_path):
    copy = tmp_path / runs[0].id.replace("-es-", "-forced-")
    shutil.copytree(runs[0].path, copy)
    forced = open_run(copy)
    forced.record_progress({"forced": True})
    found = compare_runs([runs[1], forced])
    assert "Forced past a gate that was not passed: B." in found.notes
    (copy / "evaluations.npz").unlink()
    with pytest.raises(RunError, match="it was never judged"):
        compare_runs([runs[1], forced])
    with pytest.raises(RunError, match="1 runs given"):
        compare_runs(runs[:1])
    with pytest.raises(RunError, match="same run was given twice"):
        compare_runs([runs[0], runs[0]])


def test_the_page_needs_nothing_else_and_prints_every_n(comparison, runs):
    page = render_comparison(comparison)
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import', page)
    assert page.count("<svg ") == 2
    for run in runs:
        assert run.id in page
    for contender in comparison.contenders:
        assert f"worth {contender.verdict.agent.pass_rate.n_effective:,.0f}" in page
    assert "{{" not in page


def test_the_command_prints_and_writes(runs, root, tmp_path, capsys):
    out = tmp_path / "page.html"
    ids = [run.id for run in runs[:2]]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *ids, "--root", str(root), "--out", str(out)])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "A passes more often" in shown
    assert "no difference" not in shown
    assert out.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(SystemExit):
        main(["compare", *ids, "--root", str(root), "--out", str(out), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["pairs"][0]["advantage"]["low"] > 0
    assert answer["runs"]["A"]["id"] == ids[0]
