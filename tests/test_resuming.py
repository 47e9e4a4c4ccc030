"""A run that was killed at any write ends as if nothing had happened; a full disk costs nothing.

Real processes of `passline train` die by SIGKILL in the middle of what they write, and go on with
`--resume`. `make proof` kills them at random all over the job.
"""

import json
import shutil
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from killing import Ended, train
from passline.learn.checkpoint import list_checkpoints, load_checkpoint
from passline.market.load.parquet import write_bars
from passline.market.load.resample import resample_bars
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.registry import verify_run
from passline.runs import list_runs, open_run
from proving import Figure
from report.test_scalars import points

PHASE = """
[[phase]]
name = "{name}"
about = "A few updates."
actions = ["hold", "long", "short"]
sizes = [1]
budget_share = 0.5
learner = "{learner}"
entropy = [0.01, 0.001]
gamma = 0.99
[phase.reward]
{reward}
[phase.rules]
{rules}
[[phase.gate]]
measure = "{measure}"
above = 0.0
days = 0
[[phase.mix]]
name = "window"
weight = 1.0
minutes = [240, 1400]
"""
ROLLOUTS = PHASE.format(
    name="manage", learner="ppo", reward="equity = 10.0", measure="result", rules='target = "off"'
)
EXACT = PHASE.format(
    name="entry",
    learner="full_information",
    reward="trip_r = 1.0",
    measure="trip_r",
    rules='floor = "off"\ntarget = "off"\ndaily_limit = "off"\ntime_limit = "off"',
)
BOOK = 'extends = "apex-intraday-50k"\ntime_limit_days = 5\n'
SETTINGS = (
    "slices.embargo_days=3",
    "ppo.n_lanes=16",
    "ppo.rollout_steps=16",
    "ppo.minibatch_size=128",
    "ppo.hidden=[8,8]",
    "curriculum.checkpoint_every=2",
    "curriculum.keep_every=0",
)
UPDATE = 256
"""Steps of an update."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and where its compiled code is kept."""

    folder: Path
    arguments: tuple[str, ...]

    def begin(self, root: Path, **task: Any) -> Ended:
        """Trains in a new run."""
        return train(*self.arguments, root=root, cache=self.folder / "cache", **task)

    def resume(self, root: Path, **task: Any) -> Ended:
        """Goes on with the only run of a root."""
        given = ("--resume", only(root).id, "--force")
        return train(*given, root=root, cache=self.folder / "cache", **task)


def job_in(folder: Path, phases: str, n_updates: int) -> Job:
    """Writes five months of the built-in market in bars of 15 minutes, and what trains on them."""
    made = SyntheticConfig(start_date=date(2021, 1, 4), end_date=date(2021, 6, 1))
    bars = resample_bars(synthesize(made, seed=0).bars, 15)
    write_bars(bars, folder / "bars.parquet")
    (folder / "phases.toml").write_text(phases)
    (folder / "short.toml").write_text(BOOK)
    files = {"--bars": "bars.parquet", "--rulebook": "short.toml", "--phases": "phases.toml"}
    days = {"--test-days": 20, "--gate-days": 14, "--final-days": 0, "--episodes": 4}
    given = [f"--steps={n_updates * UPDATE}", "--force"]
    given += [f"{option}={folder / name}" for option, name in files.items()]
    given += [f"{option}={n}" for option, n in days.items()]
    given += [f"--set={setting}" for setting in SETTINGS]
    return Job(folder=folder, arguments=tuple(given))


def only(root: Path) -> Any:
    """Opens the only run of a root."""
    (run,) = list_runs(root)
    return run


def story(root: Path) -> dict[str, Any]:
    """Returns all that the only run of a root holds, but for clocks, speeds and its own name.

    Left out are the lock, the lines on when and by what it was made or resumed, hashes of files
    with a clock in them, and the two pictures of speed: the report and its curves.
    """
    run = only(root)
    told: dict[str, Any] = {}
    for path in sorted(run.path.rglob("*")):
        name = str(path.relative_to(run.path))
        if path.is_dir() or name == "run.lock":
            continue
        content: Any = path.read_bytes().replace(run.id.encode(), b"RUN")
        if name == "run.toml":
            manifest = tomllib.loads(path.read_text())
            kept = ("config", "config_fingerprint", "data", "slices", "status", "message")
            content = {key: manifest[key] for key in (*kept, "progress")}
            hashes = manifest.get("files", {}).items()
            content["files"] = {file: sha for file, sha in hashes if file != "scalars.jsonl"}
        elif name == "scalars.jsonl":
            lines = [json.loads(line) for line in content.splitlines()]
            content = [
                (line["step"], line["phase"], without_speed(line["scalars"])) for line in lines
            ]
        elif path.parent.name == "tensorboard":
            name = "tensorboard"
            content = [point for point in points(run.path) if not point[1].startswith("time/")]
        elif name in ("report.html", "figures/curves.png"):
            content = None
        told[name] = content
    return told


def without_speed(scalars: dict[str, float]) -> dict[str, float]:
    """Returns the scalars that do not depend on the clock."""
    return {name: value for name, value in scalars.items() if not name.startswith("time/")}


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns the files in which two stories differ, and those that one of them has not."""
    known = found.keys() & wanted.keys()
    return sorted(
        (found.keys() ^ wanted.keys()) | {name for name in known if found[name] != wanted[name]}
    )


def assert_whole(root: Path) -> None:
    """Loads every checkpoint that has a TOML file, tensors and all."""
    for info in list_checkpoints(only(root).path / "checkpoints"):
        with pytest.raises(Exception, match=r"arrays .* unknown"):  # not before all is verified
            load_checkpoint(info.path, {})


def assert_one_line(ended: Ended, *words: str) -> None:
    """Checks that a process refused as the user's mistake, in one line."""
    assert ended.code == 2, ended.err
    (line,) = [text for text in ended.err.splitlines() if text.startswith("passline:")]
    assert "Traceback" not in ended.err
    for word in words:
        assert word in line


def nth(changes: list[str], *words: str, n: int = 0) -> int:
    """Returns the number of the n-th change that holds all words, counted from 1."""
    return [i for i, change in enumerate(changes, 1) if all(w in change for w in words)][n]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Ended, dict[str, Any]]:
    """A job of four updates, how it goes when nothing stops it, and what is left of it."""
    folder = tmp_path_factory.mktemp("small")
    job = job_in(folder, ROLLOUTS, 4)
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
    job = job_in(folder, EXACT + ROLLOUTS, 12)
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


def kind_of(change: str) -> str:
    """Returns a change in words that do not name the run: "fsync safetensors" and the like."""
    word, _, name = change.partition(" ")
    known = ("safetensors", "run.toml", "run.lock", "evaluations", "scalars", "tfevents", "toml")
    found = [part for part in known if part in name]
    parts = name.lstrip(".").split(".")
    return f"{word} {found[0] if found else 'directory' if len(parts) < 2 else parts[1]}"
