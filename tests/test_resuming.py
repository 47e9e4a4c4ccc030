"""A run that was killed at any write ends as if nothing had happened; a full disk costs nothing.

Real processes of `passline train` die by SIGKILL in the middle of what they write, and go on with
`--resume`. `make proof` kills them at random all over the job.
"""

import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest

from killed_jobs import (
    EXACT,
    ROLLOUTS,
    Job,
    assert_one_line,
    assert_whole,
    differing,
    kind_of,
    nth,
    only,
    story,
    training_job,
)
from killing import Ended
from passline.learn.checkpoint import list_checkpoints
from passline.registry import verify_run
from passline.runs import open_run
from proving import Figure


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Ended, dict[str, Any]]:
    """A job of four updates, how it goes when nothing stops it, and what is left of it."""
    folder = tmp_path_factory.mktemp("small")
    job = training_job(folder, ROLLOUTS, 4)
    ended = job.begin(folder / "whole", is_trained_alone=True)
    assert ended.code == 130, ended.err
    return job, ended, story(folder / "whole")


def test_a_training_killed_while_it_writes_ends_as_if_nothing_had_happened(small, tmp_path) -> None:
    """Killed half way through tensors; then no disk; then no permission; then it is let go on."""
    job, whole, wanted = small
    root = tmp_path / "runs"
    half = nth(whole.changes, "fsync", "safetensors", n=2)
    assert job.begin(root, die_at=half).code == -9
    (left,) = only(root).path.glob("checkpoints/.*.tmp")
    assert left.stat().st_size > 1000
    assert_whole(root)
    before = {info.path.stem for info in list_checkpoints(only(root).path / "checkpoints")}
    assert before

    full = job.resume(root, full_on="open .evaluations")
    assert_one_line(full, "evaluations.npz", "No space left on device", "--resume RUN")
    assert_whole(root)
    assert before <= {info.path.stem for info in list_checkpoints(only(root).path / "checkpoints")}

    only(root).path.chmod(0o500)
    try:
        assert_one_line(job.resume(root, is_bound=True), "Permission denied", "directory writable")
    finally:
        only(root).path.chmod(0o700)

    assert job.resume(root, is_trained_alone=True).code == 130
    assert differing(story(root), wanted) == []
    assert len(only(root).manifest["resumes"]) == 2


def test_a_root_that_cannot_be_written_is_told_before_anything_is_trained(small, tmp_path) -> None:
    job, _, _ = small
    root = tmp_path / "runs"
    root.mkdir(mode=0o500)
    assert_one_line(job.begin(root, is_bound=True), str(root), "Permission denied")
    assert list(root.iterdir()) == []


def test_a_story_tells_runs_apart(small, tmp_path) -> None:
    """What the comparison rests on: a bit of any weight, row or scalar would be found."""
    _, _, wanted = small
    names = {name.split(".")[-1] for name in wanted if name.startswith("checkpoints/")}
    assert names == {"toml", "safetensors"}
    assert len(wanted["scalars.jsonl"]) == 4
    assert len({step for step, _, _ in wanted["tensorboard"]}) == 4
    shutil.copytree(small[0].folder / "whole", tmp_path / "copy")
    assert differing(story(tmp_path / "copy"), wanted) == []
    file = only(tmp_path / "copy").path / "evaluations.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["row_reward"][0] += 1e-9
    np.savez_compressed(file, **arrays)
    assert differing(story(tmp_path / "copy"), wanted) == ["evaluations.npz"]


# The long version.


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Ended, dict[str, Any]]:
    """A job of both learners with verdict and report, played out."""
    folder = tmp_path_factory.mktemp("long")
    job = training_job(folder, EXACT + ROLLOUTS, 12)
    ended = job.begin(folder / "whole")
    assert ended.code == 0, ended.err
    return job, ended, story(folder / "whole")


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_writes_a_run_ends_as_if_nothing_had_happened(
    seed: int, long, tmp_path, figure: Figure
) -> None:
    """Four kills a run: anywhere in its training, and then at any early write of what goes on."""
    job, whole, wanted = long
    rng = np.random.default_rng(seed)
    root = tmp_path / "runs"
    begun = nth(whole.changes, "rename", "run.toml")  # before it there is no run to go on with
    trained = nth(whole.changes, "open", ".trips")
    ended = job.begin(root, die_at=int(rng.integers(begun + 1, trained)))
    died: list[str] = []
    while ended.code == -9:
        died.append(kind_of(ended.changes[-1]))
        assert_whole(root)
        ended = job.resume(root, die_at=int(rng.integers(1, 71)) if len(died) < 4 else 0)
    assert ended.code == 0, ended.err
    differ = differing(story(root), wanted)
    figure("kills", len(died), "at least 1")
    figure("killed at", ", ".join(f"{n} {w}" for w, n in Counter(died).items()), "")
    figure("files that differ", len(differ), "0")
    assert died
    assert differ == []
    checks = verify_run(open_run(only(root).path), root)
    assert all(check.is_sound is not False for check in checks)
