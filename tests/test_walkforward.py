"""A walk-forward: its directory, going on, lost workers, and what is said of all windows."""

import json
import multiprocessing.spawn
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from passline.cli import main
from passline.config import TrainConfig
from passline.errors import ConfigError, RunError
from passline.evaluate.folds import FoldConfig
from passline.evaluate.slices import SliceConfig
from passline.evaluate.table import AGENT, join_tables, load_evaluations
from passline.evaluate.verdict import verdict
from passline.evaluate.walk_results import load_walk
from passline.kinds import is_forced
from passline.learn.curriculum import CurriculumConfig
from passline.market.synthetic import SyntheticConfig
from passline.registry import verify_run
from passline.runs import RunStatus, open_run
from passline.task.prepare import TaskConfig
from passline.walkforward import continue_walk, publish_walk, run_walk, start_walk, work
from passline.walkforward import walk as walking
from passline.walkforward.pool import Done, work_in_processes
from passline.walkforward.work import Task, Worker
from small_training import PPO

FOLDS = FoldConfig(folds=2, seeds=2)
PHASES = """
[[phase]]
name = "manage"
about = "One short phase."
actions = ["hold", "long", "short"]
sizes = [1]
budget_share = 1.0
entropy = [0.01, 0.001]
gamma = 0.99

[phase.reward]
equity = 10.0

[phase.rules]

[[phase.gate]]
measure = "trip_r"
above = ABOVE
days = 0

[[phase.mix]]
name = "window"
weight = 1.0
minutes = [240, 1400]
"""


def quiet(text: str) -> None:
    del text


def settings(folder: Path, *, above: float = -1e9) -> TrainConfig:
    """The shared market under a book without a time limit, of which two days are given."""
    phases = folder / "phases.toml"
    phases.write_text(PHASES.replace("ABOVE", str(above)))
    return TrainConfig(
        market=SyntheticConfig(
            strength=3.0, start_date=date(2024, 1, 2), end_date=date(2024, 6, 1)
        ),
        market_seed=3,
        rulebook="apex-legacy-50k",
        phases=str(phases),
        task=TaskConfig(time_limit_days=2),
        slices=SliceConfig(test_days=12, gate_days=10, embargo_days=2, n_episodes=10),
        ppo=PPO,
        curriculum=CurriculumConfig(total_steps=256, n_gate_episodes=8, seed=4),
    )


def spare(patch: pytest.MonkeyPatch) -> None:
    """Leaves out most baselines and the best path: judging is tested elsewhere."""
    patch.setattr(work, "BASELINES", ("flat", "always long"))
    patch.setattr(work, "PATHS", ("worst",))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole walk-forward: (walk, outcome, what was said)."""
    folder = tmp_path_factory.mktemp("walk")
    said: list[str] = []
    walk = start_walk(settings(folder), FOLDS, root=folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        spare(patch)
        return walk, run_walk(walk, said.append), said


def test_every_fold_and_seed_leaves_one_file_and_the_folder_explains_itself(finished) -> None:
    walk, outcome, said = finished
    assert [task.name for task in walk.tasks] == [
        "fold-1-seed-4", "fold-1-seed-5", "fold-2-seed-4", "fold-2-seed-5",
    ]  # fmt: skip
    assert all(walk.result_of(task).exists() for task in walk.tasks)
    assert said[-1] == "fold-2-seed-5 done (4 of 4)"
    run = open_run(walk.run.path)
    assert run.status is RunStatus.FINISHED
    assert run.manifest["config"]["walkforward"]["folds"] == 2
    assert len(run.manifest["data"]["0-SYN"]["sha256"]) == 64
    first, second = run.manifest["slices"]["folds"]
    assert first["test"].split(" to ")[1] < second["test"].split(" to ")[0]
    assert outcome.failed == ()


def test_the_verdict_is_that_of_all_windows_rows_together(finished) -> None:
    walk, outcome, _ = finished
    tables = [load_evaluations(walk.result_of(task)) for task in walk.tasks]
    rows = join_tables(tables)
    assert outcome.verdict == verdict(rows, span_days=2)
    rate = outcome.verdict.agent.pass_rate
    assert rate.n == sum(len(t.where(policy=AGENT, path="worst")) for t in tables)
    assert rate.n_effective <= rate.n / 2 + 1e-9, "two seeds on one date are no two dates"
    results = load_walk(walk.run)
    assert [fold.fold for fold in results.folds] == [1, 2]
    assert results.folds[0].seed_rates.keys() == {4, 5}


def test_the_track_record_counts_every_session_of_both_windows_once(finished) -> None:
    walk, _, _ = finished
    for record in load_walk(walk.run).records:
        assert (np.diff(record.day) > 0).all()
        assert len(record.day) == len(record.result_usd) > 10
    told = load_walk(walk.run).trainings[0].told["record"]
    assert sum(a["result_mills"] for a in told["accounts"]) == sum(told["result_mills"])


def test_a_stopped_walk_goes_on_with_what_is_missing_to_the_same_numbers(
    finished, tmp_path, monkeypatch
) -> None:
    whole, outcome, _ = finished
    walk = start_walk(settings(tmp_path), FOLDS, root=tmp_path / "runs")

    def stops(order: Any, tasks: Any) -> Iterator[Done]:
        for task in tasks[:2]:
            yield Done(task, content=whole.result_of(task).read_bytes())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(walking, "work_here", stops)
        with pytest.raises(KeyboardInterrupt):
            run_walk(walk, quiet)
    stopped = open_run(walk.run.path)
    assert stopped.status is RunStatus.INTERRUPTED
    spare(monkeypatch)
    again = continue_walk(stopped)
    assert [task.name for task in again.missing] == ["fold-2-seed-4", "fold-2-seed-5"]
    resumed = run_walk(again, quiet)
    assert resumed.verdict == outcome.verdict
    for task in whole.tasks:
        old, new = (load_walk(w.run).trainings for w in (whole, again))
        assert [t.told["weights_sha256"] for t in old] == [t.told["weights_sha256"] for t in new]
        assert task not in again.missing


def test_an_error_loses_its_own_training_only(finished, tmp_path, monkeypatch) -> None:
    whole, _, _ = finished
    walk = start_walk(settings(tmp_path), FOLDS, root=tmp_path / "runs")

    def fails(worker: Worker, task: Task) -> bytes:
        if task == Task(fold=1, seed=5):
            raise MemoryError("no more")
        return whole.result_of(task).read_bytes()

    monkeypatch.setattr(Worker, "work", fails)
    outcome = run_walk(walk, quiet)
    assert [(task.name, error) for task, error in outcome.failed] == [
        ("fold-1-seed-5", "MemoryError: no more")
    ]
    assert open_run(walk.run.path).status is RunStatus.FAILED
    assert [task.name for task in walk.missing] == ["fold-1-seed-5"]
    page = outcome.page.read_text()
    assert "It rests on 3 of 4 trainings" in page
    assert "Deepest fall" in page, "the complete seed has a record"


class Doomed:
    """Stands for an order in processes: some trainings kill theirs."""

    def __init__(self, deadly: tuple[Task, ...]) -> None:
        self.deadly = deadly


class DyingWorker:
    """Answers a training with its name, or dies as the kernel would end it."""

    def __init__(self, order: Doomed) -> None:
        self._order = order

    def work(self, task: Task) -> bytes:
        if task in self._order.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.name.encode()


def test_a_killed_process_loses_its_own_training_only() -> None:
    tasks = [Task(fold=fold, seed=0) for fold in range(1, 6)]
    done = list(work_in_processes(Doomed((tasks[1],)), tasks, 2, DyingWorker))
    assert sorted(item.task for item in done) == tasks
    lost = [item for item in done if item.error]
    assert [item.task for item in lost] == [tasks[1]]
    assert lost[0].error == "its process died (exit code -9)"
    assert all(item.content == item.task.name.encode() for item in done if not item.error)


def test_no_worker_outlives_a_killed_parent(tmp_path) -> None:
    """It holds a pipe open while it lives; a training of hours would have held it for hours."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = Path(__file__).parent / "endless.py"
    parent = subprocess.Popen([sys.executable, str(script), str(fifo)])
    with fifo.open("rb", buffering=0) as pipe:
        worker = int(pipe.readline())
        parent.kill()
        parent.wait()
        ended, _, _ = select.select([pipe], [], [], 60)
        if not ended:
            os.kill(worker, signal.SIGKILL)
        assert ended, "the worker lived on"
        assert pipe.read() == b""


def test_a_process_that_dies_before_it_knows_its_order_loses_its_training_only(
    monkeypatch,
) -> None:
    """The order is larger than what a pipe holds, so that sending it needs a reader."""

    def give_up(*_: Any) -> None:
        raise TimeoutError("the pool waited for a process that was dead")

    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        done = list(work_in_processes(bytes(10**6), [Task(fold=1, seed=0)], 1, DyingWorker))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert [item.error for item in done] == ["its process died (exit code 1)"]


def test_agents_that_a_gate_stopped_count_as_flat(tmp_path, monkeypatch) -> None:
    spare(monkeypatch)
    one = FoldConfig(folds=1, seeds=1)
    walk = start_walk(settings(tmp_path, above=1e9), one, root=tmp_path / "runs")
    outcome = run_walk(walk, quiet)
    assert outcome.verdict.sentence.startswith("No edge found.")
    assert "It never traded." in outcome.verdict.reasons
    (record,) = load_walk(walk.run).records
    assert not record.result_usd.any()
    page = outcome.page.read_text()
    assert "A gate stopped every one of them" in page
    assert not is_forced(open_run(walk.run.path).manifest)


def test_runs_marks_a_walk_forward_that_was_forced_past_a_gate(
    finished, tmp_path, monkeypatch, capsys
) -> None:
    spare(monkeypatch)
    one = FoldConfig(folds=1, seeds=1)
    walk = start_walk(settings(tmp_path, above=1e9), one, forced=True, root=tmp_path / "runs")
    outcome = run_walk(walk, quiet)
    with pytest.raises(SystemExit):
        main(["runs", "--root", str(tmp_path / "runs")])
    told = " ".join(capsys.readouterr().out.split())
    assert f"{outcome.verdict.word.value}, forced" in told
    assert "forced past a gate that was not passed" in told
    whole, _, _ = finished
    assert not is_forced(open_run(whole.run.path).manifest), "all its gates were passed"


def test_the_page_needs_nothing_else_and_says_the_verdict(finished) -> None:
    walk, outcome, _ = finished
    page = outcome.page.read_text()
    found = outcome.verdict
    assert found.sentence.removeprefix(f"{found.word.value.capitalize()}. ") in page.replace(
        "&#39;", "'"
    )
    assert page.count("<svg") == 2
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert not re.findall(r"@import|url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page
    before = outcome.page.read_bytes()
    publish_walk(open_run(walk.run.path))
    assert outcome.page.read_bytes() == before


def test_report_and_runs_tell_a_walk_forward(finished, capsys) -> None:
    walk, outcome, _ = finished
    root = str(walk.run.path.parent)
    before = outcome.page.read_bytes()
    outcome.page.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["report", walk.run.id, "--root", root])
    assert not ended.value.code
    assert outcome.page.read_bytes() == before
    assert not (walk.run.path / "report.html").exists()
    with pytest.raises(SystemExit):
        main(["runs", "--root", root])
    rate = outcome.verdict.agent.pass_rate
    row = next(line for line in capsys.readouterr().out.splitlines() if line[:1] == "2")
    for told in ("walk-forward", "4 of 4 trainings", f"{rate.value:.1%} (", f"{rate.n} ("):
        assert told in row
    assert outcome.verdict.word.value in row
    run = open_run(walk.run.path)
    checks = {check.name: check.is_sound for check in verify_run(run, Path(root))}
    assert checks["verdict"] is checks["files"] is True
    kept = walk.result_of(walk.tasks[0]).read_bytes()
    walk.result_of(walk.tasks[0]).write_bytes(walk.result_of(walk.tasks[2]).read_bytes())
    checks = {check.name: check.is_sound for check in verify_run(run, Path(root))}
    walk.result_of(walk.tasks[0]).write_bytes(kept)
    assert checks["files"] is False


def test_what_cannot_go_on_is_refused(finished, tmp_path, capsys) -> None:
    walk, _, _ = finished
    with pytest.raises(ConfigError, match="jobs was 0"):
        run_walk(walk, quiet, jobs=0)
    empty = start_walk(settings(tmp_path), FOLDS, root=tmp_path / "runs")
    with pytest.raises(RunError, match="no training has ended yet"):
        load_walk(empty.run)
    with pytest.raises(SystemExit) as ended:
        main(["walkforward", "--root", str(tmp_path)])
    assert ended.value.code == 2
    assert "no bars: give --bars FILE" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["walkforward", "--resume", str(walk.run.path), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == {}
    assert told["sentence"].startswith(told["verdict"].capitalize())
