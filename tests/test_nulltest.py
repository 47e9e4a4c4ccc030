"""The null test of a run: what is trained on, going on after a stop, tries counted, the command."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tomli_w

from passline.cli import main
from passline.config import from_plain
from passline.errors import ConfigError, RunError
from passline.evaluate.null_test import load_null_test
from passline.evaluate.slices import Split
from passline.evaluate.table import AGENT, EvaluationTable, append_evaluation
from passline.kinds import NULL_RESULTS_FILE
from passline.nulltest import (
    NULL_KINDS,
    NullPlan,
    count_tries,
    null_market,
    run_null_test,
    tried_results,
)
from passline.pipeline import Job, start_job
from passline.runs import create_run, open_run
from passline.sim.layout import DoneReason, Outcome
from passline.task.prepare import Prepared

BOOK = """
extends = "apex-intraday-50k"
time_limit_days = 5
"""
SETTINGS: dict[str, Any] = {
    "market": {"start_date": "2020-01-02", "end_date": "2020-07-01"},
    "slices": {"test_days": 40, "gate_days": 30, "n_episodes": 12},
    "ppo": {"n_lanes": 32, "rollout_steps": 16, "minibatch_size": 128, "hidden": [16, 16]},
    "curriculum": {"total_steps": 3 * 512, "n_gate_episodes": 8, "evaluations_per_phase": 1},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, Any]:
    book = tmp_path_factory.mktemp("books") / "short.toml"
    book.write_text(BOOK)
    return SETTINGS | {"rulebook": str(book)}


@pytest.fixture(scope="module")
def prepared_job(settings, tmp_path_factory) -> Job:
    return start_job(from_plain(settings, "test"), root=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def job(prepared_job, settings, tmp_path) -> Job:
    """The job in a root of its own, with its run's folder empty but for run.toml."""
    folder = tmp_path / "runs" / prepared_job.run.id
    folder.mkdir(parents=True)
    (folder / "run.toml").write_bytes((prepared_job.run.path / "run.toml").read_bytes())
    return dataclasses.replace(prepared_job, run=open_run(folder))


def total_move(prepared: Prepared) -> tuple[float, float]:
    """Stands for a training: how far the test stretch rose; deterministic."""
    close = np.asarray(prepared.compiled.tape.close, float)
    seen = float(np.asarray(prepared.base.features)[-5000:].sum())
    return (close[-1] - close[-20_000]) / 1000 + seen * 1e-9, 0.25


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("kind", NULL_KINDS)
def test_null_markets_differ_by_draw_and_seed_and_are_drawn_again_alike(kind, job):
    def mark(seed: int, draw: int) -> bytes:
        found = null_market(kind, job.prepared, seed=seed, draw=draw)
        assert len(found.compiled.ts) == len(job.prepared.compiled.ts)
        digest = np.asarray(found.base.features, np.float64).sum(axis=1)
        return digest.tobytes() + np.asarray(found.base.tape.close).tobytes()

    first = mark(0, 0)
    assert mark(0, 0) == first
    assert len({first, mark(0, 1), mark(1, 0)}) == 3


def test_a_stopped_test_goes_on_to_the_same_result(job):
    plan = NullPlan(kinds=("sign_flip", "bar_flip"), n=3)
    calls: list[int] = []

    def stops(prepared: Prepared) -> tuple[float, float]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return total_move(prepared)

    with pytest.raises(KeyboardInterrupt):
        run_null_test(job, plan, quiet, measure=stops)
    assert load_null_test(job.run.path) is None
    path = job.run.path / NULL_RESULTS_FILE
    assert len(path.read_text().splitlines()) == 3
    path.write_text(path.read_text() + '{"fingerprint": "torn')
    calls.extend([1] * 10)
    found = run_null_test(job, plan, quiet, measure=stops)
    assert len(calls) == 4 + 10 + 4  # three were known, four were left
    assert len([line for line in path.read_text().splitlines() if line.endswith("}")]) == 7
    assert load_null_test(job.run.path) == found
    assert (job.run.path / "figures" / "nulltest.png").read_bytes().startswith(b"\x89PNG")
    path.unlink()
    again = run_null_test(job, plan, quiet, measure=total_move)
    assert [k.nulls for k in again.kinds] == [k.nulls for k in found.kinds]
    assert again.p_corrected == found.p_corrected


def test_more_markets_keep_those_that_were_played_and_other_seeds_do_not(job):
    counted: list[Prepared] = []

    def counts(prepared: Prepared) -> tuple[float, float]:
        counted.append(prepared)
        return total_move(prepared)

    small = run_null_test(job, NullPlan(n=2), quiet, measure=counts)
    large = run_null_test(job, NullPlan(n=4), quiet, measure=counts)
    assert len(counted) == 5
    assert large.kinds[0].nulls[:2] == small.kinds[0].nulls
    run_null_test(job, NullPlan(n=2, seeds=(0, 1)), quiet, measure=counts)
    assert len(counted) == 8
    assert counted[0] is job.prepared


def test_a_line_that_is_no_result_is_refused(job):
    (job.run.path / NULL_RESULTS_FILE).write_text('{"kind": "rotate"}\n')
    with pytest.raises(RunError, match=r"line 1 is no result of a null test"):
        run_null_test(job, NullPlan(n=1), quiet, measure=total_move)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kinds": ()},
        {"kinds": ("rotate", "rotate")},
        {"kinds": ("shuffle",)},
        {"n": 0},
        {"seeds": ()},
        {"n_configurations": 0},
    ],
)
def test_plans_that_make_no_test_are_refused(wrong):
    with pytest.raises(ConfigError, match="nulltest"):
        NullPlan(**wrong)


def sibling(job: Job, name: str, learning_rate: float) -> Path:
    """Another run of the same root on the same bars with another setting."""
    plain = copy.deepcopy(job.run.manifest["config"])
    plain["ppo"]["learning_rate"] = learning_rate
    manifest = {"config": plain, "data": job.run.manifest["data"]}
    return create_run(job.run.path.parent, name, manifest).path


@pytest.fixture
def agent_rows() -> EvaluationTable:
    """Episodes of an agent, one a session over eight blocks of dates and more."""
    n = 80
    rng = np.random.default_rng(0)
    columns = {
        "timesteps": 100,
        "phase": "account",
        "policy": AGENT,
        "slice": "test",
        "path": "worst",
        "market": "SYN",
        "start_bar": np.arange(n) * 100,
        "start_ns": np.arange(n) * 10**11,
        "start_day": np.arange(n) + 19_000,
        "seed": 0,
        "result_mills": rng.integers(-2_500_000, 3_000_000, n),
        "reward": 0.0,
        "ep_length": 100,
        "n_days": 5,
        "outcome": Outcome.TIMED_OUT,
        "done_reason": DoneReason.TIME_LIMIT,
        "mean_r": 0.0,
        "action_counts": np.zeros((n, 2), int),
        "choice_counts": np.zeros((n, 2), int),
    }
    whole = dict.fromkeys(
        (
            "n_trips",
            "n_invalid",
            "n_late_flat",
            "n_ambiguous",
            "commissions_mills",
            "max_equity_mills",
            "min_cushion_mills",
        ),
        0,
    )
    return EvaluationTable.build(columns | whole, ("hold", "long"))


def test_the_tries_on_these_bars_are_counted(job):
    plan = NullPlan(n=3)
    assert run_null_test(job, plan, quiet, measure=total_move).n_configurations == 1
    sibling(job, "other", 1e-4)
    sibling(job, "same", 3e-4)  # the default: the same configuration again
    found = run_null_test(job, plan, quiet, measure=total_move)
    assert found.n_configurations == 2
    assert found.correction == "sidak"
    told = run_null_test(
        job, dataclasses.replace(plan, n_configurations=7), quiet, measure=total_move
    )
    assert told.n_configurations == 7


@dataclasses.dataclass
class Trials:
    """Stands for the trainings: keeps how they were asked for, earns what the market rose."""

    asked: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __call__(
        self, prepared: Prepared, cut: Split, phases: Any, ppo: Any, curriculum: Any, **more: Any
    ) -> Any:
        """Takes the arguments of earn."""
        days = [int(prepared.compiled.tape.day[part.first_bar]) for part in cut.test]
        self.asked.append({"days": days, "steps": curriculum.total_steps, **more})
        rose, rate = total_move(prepared)
        return SimpleNamespace(result=-abs(rose) + more["seed"] * 1e-3, pass_rate=rate)


@pytest.fixture(scope="module")
def command(settings, tmp_path_factory) -> Iterator[tuple[Path, Path, Trials]]:
    """A null test of two markets by the command, forced, two seeds: (root, run, trials)."""
    root = tmp_path_factory.mktemp("commanded")
    config = root / "settings.toml"
    config.write_text(tomli_w.dumps(settings))
    trials = Trials()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passline.nulltest.earn", trials)
        arguments = ["nulltest", "--config", str(config), "--root", str(root / "runs")]
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--kind", "bar_flip", "--n", "2", "--force", "--seeds", "2"])
        assert stop.value.code == 3
        (run,) = (root / "runs").iterdir()
        yield root / "runs", run, trials


@pytest.mark.proof
def test_the_pipeline_itself_is_trained_on_each_market(settings, tmp_path):
    job = start_job(from_plain(settings, "test"), root=tmp_path)
    found = run_null_test(job, NullPlan(kinds=("bar_flip",), n=2, forced=True), quiet)
    assert len({found.actual, *found.kinds[0].nulls}) == 3


def test_the_command_trains_on_each_market_alike_and_claims_nothing(command, prepared_job):
    _, run, trials = command
    assert len(trials.asked) == 3 * 2
    assert [asked["seed"] for asked in trials.asked] == [0, 1] * 3
    alike = [{k: v for k, v in asked.items() if k != "seed"} for asked in trials.asked]
    assert all(asked == alike[0] for asked in alike)
    assert alike[0]["forced"] is True
    assert alike[0]["steps"] == SETTINGS["curriculum"]["total_steps"]
    assert len(alike[0]["days"]) == len(prepared_job.split.test)
    assert open_run(run).manifest["status"] == "finished"
    found = load_null_test(run)
    assert found is not None
    assert not found.is_edge
    assert found.p_smallest == pytest.approx(1 / 3)
    assert "at least 19 are needed" in found.sentence
    results = {found.actual, *found.kinds[0].nulls}
    assert len(results) == 3


def test_the_command_goes_on_with_its_run_and_prints_json(command, capsys):
    root, run, _ = command
    lines = (run / NULL_RESULTS_FILE).read_text()
    options = ["--kind", "bar_flip", "--n", "2", "--force", "--json", "--seeds", "2"]
    with pytest.raises(SystemExit) as stop:
        main(["nulltest", run.name, "--root", str(root), *options])
    assert stop.value.code == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["run"] == run.name
    assert answer["n_configurations"] == 1
    assert (run / NULL_RESULTS_FILE).read_text() == lines


def test_the_command_needs_a_run_or_bars_and_not_both(command, capsys):
    root, run, _ = command
    for arguments in (["nulltest"], ["nulltest", run.name, "--steps", "9", "--root", str(root)]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "nothing to test" in err
    assert "its own settings; leave out --steps." in err


def test_the_first_line_counts_the_tries_that_the_last_one_does(job, monkeypatch, capsys):
    monkeypatch.setattr("passline.nulltest.earn", Trials())
    sibling(job, "other", 1e-4)
    options = ["--root", str(job.run.path.parent), "--kind", "bar_flip", "--n", "2"]
    with pytest.raises(SystemExit) as stop:
        main(["nulltest", job.run.id, *options])
    assert stop.value.code == 3
    told = capsys.readouterr()
    assert (
        "with --n 2 and 2 configurations tried no result can reach p = 0.05; --n 39 is the least"
    ) in told.err
    assert "at least 39 are needed" in " ".join(told.out.split())
    found = load_null_test(job.run.path)
    assert found is not None
    (kind,) = found.kinds
    low, high = sorted(kind.nulls)
    assert low < high
    assert f"median {(low + high) / 2:+.4f}" in told.out, "of two, half way between them"


def test_results_of_all_tries_on_the_same_episodes_are_found(job, agent_rows):
    append_evaluation(job.run.path / "evaluations.npz", [agent_rows])
    other = sibling(job, "other", 1e-4)
    assert tried_results(job.run, job.run.path.parent, 2) is None  # the other stored nothing
    better = dataclasses.replace(agent_rows, result_mills=agent_rows.result_mills + 1_000)
    append_evaluation(other / "evaluations.npz", [better])
    results, days = tried_results(job.run, job.run.path.parent, 2)
    assert results.shape == (2, len(agent_rows))
    assert set((results[1] - results[0]).tolist()) == {1_000}
    assert len(days) == len(agent_rows)
    assert tried_results(job.run, job.run.path.parent, 3) is None
    (other / "evaluations.npz").unlink()
    shifted = dataclasses.replace(agent_rows, start_ns=agent_rows.start_ns + 1)
    append_evaluation(other / "evaluations.npz", [shifted])
    assert tried_results(job.run, job.run.path.parent, 2) is None


def test_the_reality_check_enters_where_it_can(job, agent_rows):
    append_evaluation(job.run.path / "evaluations.npz", [agent_rows])
    append_evaluation(sibling(job, "other", 1e-4) / "evaluations.npz", [agent_rows])
    tries = count_tries(job, NullPlan(n=3))
    assert (tries.n_configurations, tries.n_independent) == (2, 1)
    found = run_null_test(job, NullPlan(n=3), quiet, measure=total_move)
    assert found.correction == "reality check"
    assert found.p_reality_check is not None
    assert found.p_corrected >= found.p_reality_check
