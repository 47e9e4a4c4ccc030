"""A walk-forward or null test that was killed, or its worker, ends as if nothing had happened.

Real processes die by SIGKILL and are gone on with. `make proof` trains in them and kills at random;
here what a training would have come to is made before.
"""

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from killed_jobs import (
    ROLLOUTS,
    Job,
    assert_one_line,
    differing,
    job_in,
    kind_of,
    nth,
    only,
    refused,
    story,
)
from killing import Ended, Going, at_most, canned
from made_tables import bare_table
from passline.cli import main
from passline.evaluate.table import AGENT, encode_table, join_tables, load_evaluations
from passline.registry import verify_run
from passline.runs import RunStatus
from passline.walkforward.work import Task
from proving import Figure

FOLDS, SEEDS = 2, 2
MORE = f"--folds {FOLDS} --seeds {SEEDS}"
NULLS = "--kind bar_flip --kind sign_flip --n 2"


def result_file(task: Task) -> bytes:
    """Returns a result of a training that never was."""
    day = np.arange(19_000 + 20 * task.fold, 19_010 + 20 * task.fold)
    is_pass = np.arange(10) % (2 + task.seed) == 0
    tables = [
        bare_table(is_pass & (policy == AGENT), day, policy=policy, path=path, start_ns=day)
        for policy in (AGENT, "flat")
        for path in ("worst", "best")
    ]
    told = {
        "fold": task.fold,
        "seed": task.seed,
        "train": [18_000, 18_900],
        "gate": [18_910, 18_990],
        "test": [int(day[0]), int(day[-1]) + 1],
        "gates": [],
        "is_flat": False,
        "record": {"day": day.tolist(), "result_mills": [1] * 10, "accounts": []},
        "weight": np.random.default_rng(task.seed).bytes(20_000).hex(),  # larger than run.toml
    }
    return encode_table(join_tables(tables), {"walk": json.dumps(told)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Results of all trainings, in a folder."""
    folder = tmp_path_factory.mktemp("canned")
    for task in [Task(fold=f + 1, seed=s) for f in range(FOLDS) for s in range(SEEDS)]:
        (folder / f"{task.name}.npz").write_bytes(result_file(task))
    return str(folder)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A walk-forward in one process."""
    folder = tmp_path_factory.mktemp("quick")
    job = job_in(folder, "walkforward", ROLLOUTS, 4, "--resume RUN", MORE)
    return dataclasses.replace(job, goes_on=job.goes_on[:3])


@pytest.fixture(scope="module")
def whole(quick, files) -> Path:
    """The root of one that nothing stopped."""
    root = quick.folder / "whole"
    assert here(quick.begins, root, files) == 0
    return root


def here(arguments: tuple[str, ...], root: Path, made: str) -> int:
    """Does the command in this process, with what was made before; returns its code."""
    with canned(made), pytest.raises(SystemExit) as ended:
        main([*arguments, "--root", str(root)])
    return int(ended.value.code or 0)


def goes_on(job: Job, root: Path) -> tuple[str, ...]:
    """Returns the command that goes on with the only run of a root."""
    return tuple(only(root).id if word == "RUN" else word for word in job.goes_on)


def test_a_walk_forward_killed_while_it_writes_ends_as_if_nothing_had_happened(
    quick, whole, files, tmp_path, capsys
) -> None:
    """Killed half way through a result; then the disk is full; then it is let go on."""
    root = tmp_path / "runs"
    assert quick.begin(root, canned=files, die_on="fsync .fold-2-seed-0").code == -9
    run = only(root)
    assert run.status is RunStatus.KILLED
    half, *results = sorted(path.name for path in (run.path / "results").iterdir())
    assert half.startswith(".fold-2-seed-0.npz.")
    assert results == ["fold-1-seed-0.npz", "fold-1-seed-1.npz"]

    capsys.readouterr()
    with at_most((run.path / "run.toml").stat().st_size + 500):
        assert here(goes_on(quick, root), root, files) == 2
    refused(capsys, "fold-2-seed-0.npz", "File too large", "--resume RUN")
    assert sorted(path.name for path in (run.path / "results").iterdir()) == results

    assert here(goes_on(quick, root), root, files) == 0
    assert differing(story(root), story(whole)) == []
    assert only(root).manifest["resumes"][-1]["trainings"] == 2


def test_one_killed_before_its_first_result_has_where_to_put_it(quick, files, tmp_path) -> None:
    root = tmp_path / "runs"
    assert quick.begin(root, canned=files, die_on="mkdir results").code == -9
    assert not (only(root).path / "results").exists()
    assert here(goes_on(quick, root), root, files) == 0
    assert len(list(only(root).path.glob("results/*"))) == FOLDS * SEEDS


def test_other_phases_are_not_gone_on_with(quick, whole, files, capsys) -> None:
    phases = quick.folder / "phases.toml"
    before = phases.read_text()
    phases.write_text(before.replace("gamma = 0.99", "gamma = 0.9"))
    try:
        assert here(goes_on(quick, whole), whole, files) == 2
    finally:
        phases.write_text(before)
    refused(capsys, "the phases of the curriculum are not those that the run began with")


def test_a_null_test_killed_while_it_writes_ends_as_if_nothing_had_happened(
    tmp_path, capsys
) -> None:
    """Killed half way through a line; then the disk is full; then it is let go on."""
    job = job_in(tmp_path, "nulltest", ROLLOUTS, 4, "RUN --force", NULLS)
    assert here(job.begins, tmp_path / "whole", "market") == 3
    root = tmp_path / "runs"
    assert job.begin(root, canned="market", die_on="fsync nulltest.jsonl", die_nth=3).code == -9
    assert only(root).status is RunStatus.KILLED
    *told, torn = lines(root)
    assert len(told) == 2
    assert not torn.endswith("}")
    results = only(root).path / "nulltest.jsonl"
    others = 40 * (json.dumps(json.loads(told[0]) | {"fingerprint": "another test"}) + "\n")
    results.write_text(others + results.read_text())  # larger than run.toml

    capsys.readouterr()
    with at_most(results.stat().st_size + 50):
        assert here(goes_on(job, root), root, "market") == 2
    refused(capsys, "nulltest.jsonl", "File too large", "a null test with its RUN")

    assert here(goes_on(job, root), root, "market") == 3
    assert results.read_text().startswith(others)
    results.write_text(results.read_text().removeprefix(others))
    assert differing(story(root), story(tmp_path / "whole")) == []
    assert only(root).status is RunStatus.FINISHED
    assert only(root).manifest["resumes"][-1]["markets"] == 2


def lines(root: Path) -> list[str]:
    """Returns what the null test of the only run holds, the last line torn or not."""
    return (only(root).path / "nulltest.jsonl").read_text().splitlines()


# The long version.


@dataclass(frozen=True, kw_only=True)
class Long:
    """A job that trains in earnest, played out.

    Attributes:
        job: what is done.
        code: with which it ends.
        whole: how it goes when nothing stops it.
        told: what is left of it.
        seconds: that it takes.
    """

    job: Job
    code: int
    whole: Ended
    told: dict[str, Any]
    seconds: float

    @classmethod
    def of(cls, job: Job, code: int) -> "Long":
        """Plays a job out twice, the first time to compile."""
        for root in (job.folder / "first", job.folder / "whole"):
            began = time.monotonic()
            whole = job.begin(root)
            seconds = time.monotonic() - began
            assert whole.code == code, whole.err
        told = story(job.folder / "whole")
        assert differing(story(job.folder / "first"), told) == []
        return cls(job=job, code=code, whole=whole, told=told, seconds=seconds)


@dataclass(kw_only=True)
class Killer:
    """Kills a job, or one of its workers, at a moment.

    Attributes:
        seconds: after which.
        rng: draws the worker; None kills the job itself.
        n_workers: that were killed.
    """

    seconds: float
    rng: np.random.Generator | None = None
    n_workers: int = 0

    def __call__(self, going: Going) -> None:
        """Waits, and kills if there is something left to kill."""
        try:
            going.process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            if self.rng is None:
                going.process.kill()
            elif workers := going.workers():
                os.kill(int(self.rng.choice(workers)), signal.SIGKILL)
                self.n_workers += 1


N_KILLS = 5
"""Of each run."""


def kill_and_go_on(long: Long, root: Path, seed: int, *, has_workers: bool) -> Counter[str]:
    """Kills a job at random writes and moments, going on each time; returns what died where."""
    rng = np.random.default_rng(seed)
    begun = nth(long.whole.changes, "rename", "run.toml")  # before it there is nothing to go on
    ended = long.job.begin(root, die_at=int(rng.integers(begun + 1, len(long.whole.changes))))
    assert ended.code == -9
    died = Counter({f"job: {kind_of(ended.changes[-1])}": 1})
    for _ in range(60):
        assert_results_whole(root)
        is_enough = died.total() >= N_KILLS
        pick = 0 if is_enough else int(rng.integers(1, 4 if has_workers else 3))
        killer = Killer(seconds=float(rng.uniform(0.1, 1.0)) * long.seconds)
        if pick == 0:
            ended = long.job.resume(root)
        elif pick == 1:
            ended = long.job.resume(root, die_at=int(rng.integers(1, len(long.whole.changes))))
        else:
            killer.rng = rng if pick == 3 else None
            ended = long.job.resume(root, meanwhile=killer)
        if ended.code == -9:
            died["job: a moment" if pick == 2 else f"job: {kind_of(ended.changes[-1])}"] += 1
        elif ended.code == 1 and killer.n_workers:
            (lost,) = json.loads(ended.out)["failed"].items()
            assert lost[1] == "its process died (exit code -9)"
            died["worker"] += 1
        else:
            assert ended.code == long.code, ended.err
            if is_enough or not killer.n_workers:
                return died
            died["worker, its work done"] += 1
    raise AssertionError("it does not come to an end")


def assert_results_whole(root: Path) -> None:
    """Reads every result that is there."""
    for path in (only(root).path / "results").glob("fold-*.npz"):
        load_evaluations(path)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Long:
    """Four trainings in two processes."""
    folder = tmp_path_factory.mktemp("walk")
    job = job_in(folder, "walkforward", ROLLOUTS, 4, "--resume RUN", f"{MORE} --jobs 2")
    goes_on = (*job.goes_on[:3], "--jobs", "2")
    return Long.of(dataclasses.replace(job, goes_on=goes_on, is_spare=True), code=0)


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> Long:
    """The actual market and two null markets of two kinds each."""
    folder = tmp_path_factory.mktemp("null")
    return Long.of(job_in(folder, "nulltest", ROLLOUTS, 4, "RUN --force", NULLS), code=3)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["walk", "null"])
def test_killed_at_random_it_ends_as_if_nothing_had_happened(
    kind: str, seed: int, request: pytest.FixtureRequest, tmp_path, figure: Figure
) -> None:
    """Parent and workers die at any write and moment; no process outlives them by a minute."""
    long: Long = request.getfixturevalue(kind)
    root = tmp_path / "runs"
    died = kill_and_go_on(long, root, seed, has_workers=kind == "walk")
    differ = differing(story(root), long.told)
    figure("kills", died.total(), "at least 1")
    figure("killed at", ", ".join(f"{n} {w}" for w, n in died.items()), "")
    figure("files that differ", len(differ), "0")
    assert differ == []
    assert all(check.is_sound is not False for check in verify_run(only(root), root))


@pytest.mark.proof
@pytest.mark.parametrize(
    ("kind", "full_on"),
    [
        ("walk", "mkdir results"),
        ("walk", "open .fold-1"),
        ("walk", "open .run.toml"),
        ("walk", "rename fold-2"),
        ("walk", "open .walkforward.html"),
        ("null", "open nulltest.jsonl"),
        ("null", "open .nulltest.json"),
        ("null", "mkdir figures"),
        ("null", "open .report.html"),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_gone_on_from(
    kind: str, full_on: str, request: pytest.FixtureRequest, tmp_path
) -> None:
    long: Long = request.getfixturevalue(kind)
    root = tmp_path / "runs"
    # A run that nothing refuses is made first: what it can be gone on with has begun.
    begun = nth(long.whole.changes, "rename", "run.toml")
    assert long.job.begin(root, die_at=begun + 2).code == -9
    assert_one_line(long.job.resume(root, full_on=full_on), "No space left on device")
    assert_results_whole(root)
    assert long.job.resume(root).code == long.code
    assert differing(story(root), long.told) == []
