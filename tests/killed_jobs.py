"""Small jobs of `train`, `walkforward` and `nulltest` that are killed, and what they leave.

What two directories of one job hold is compared by `story`, which leaves out clocks alone.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from killing import Ended, run_passline
from passline.learn.checkpoint import list_checkpoints, load_checkpoint
from passline.market.load.parquet import write_bars
from passline.market.load.resample import resample_bars
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.runs import list_runs
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
    """What is done, how it goes on, and where its compiled code is kept.

    Attributes:
        folder: holds the bars and the compiled code.
        begins: the command with its arguments.
        goes_on: the command that goes on with RUN.
        is_spare: the trainings of a walk-forward are judged on little.
    """

    folder: Path
    begins: tuple[str, ...]
    goes_on: tuple[str, ...]
    is_spare: bool = False

    def begin(self, root: Path, **task: Any) -> Ended:
        """Begins in a new run."""
        return self._run(self.begins, root, task)

    def resume(self, root: Path, **task: Any) -> Ended:
        """Goes on with the only run of a root."""
        given = [only(root).id if word == "RUN" else word for word in self.goes_on]
        return self._run(given, root, task)

    def _run(self, words: Sequence[str], root: Path, task: dict[str, Any]) -> Ended:
        cache = self.folder / "cache"
        return run_passline(*words, root=root, cache=cache, is_spare=self.is_spare, **task)


def write_inputs(folder: Path, phases: str) -> list[str]:
    """Writes five months of the built-in market in bars of 15 minutes; returns what names them."""
    made = SyntheticConfig(start_date=date(2021, 1, 4), end_date=date(2021, 6, 1))
    bars = resample_bars(synthesize(made, seed=0).bars, 15)
    write_bars(bars, folder / "bars.parquet")
    (folder / "phases.toml").write_text(phases)
    (folder / "short.toml").write_text(BOOK)
    files = {"--bars": "bars.parquet", "--rulebook": "short.toml", "--phases": "phases.toml"}
    given = [f"{option}={folder / name}" for option, name in files.items()]
    return given + [f"--set={setting}" for setting in SETTINGS]


def job_in(
    folder: Path, command: str, phases: str, n_updates: int, goes_on: str, more: str = ""
) -> Job:
    """Makes a job of a command on small inputs, its gates forced.

    Args:
        folder: where the inputs are written.
        command: of passline.
        phases: the curriculum.
        n_updates: over all phases.
        goes_on: words behind the command with which RUN is gone on with.
        more: options of the command.
    """
    days = {"--test-days": 20, "--gate-days": 14, "--final-days": 0, "--episodes": 4}
    given = [f"--steps={n_updates * UPDATE}", "--force", *more.split()]
    given += [f"{option}={n}" for option, n in days.items()]
    given += write_inputs(folder, phases)
    return Job(
        folder=folder, begins=(command, *given), goes_on=(command, *goes_on.split(), *more.split())
    )


def training_job(folder: Path, phases: str, n_updates: int) -> Job:
    """Makes a job of `passline train`."""
    return job_in(folder, "train", phases, n_updates, "--resume RUN --force")


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
        content = path.read_bytes().replace(run.id.encode(), b"RUN")
        if path.parent.name == "tensorboard":
            name = "tensorboard"
            told[name] = [point for point in points(run.path) if not point[1].startswith("time/")]
        elif name in ("report.html", "figures/curves.png"):
            told[name] = None
        else:
            told[name] = WITHOUT_CLOCKS[name](content) if name in WITHOUT_CLOCKS else content
    return told


def _manifest(content: bytes) -> dict[str, Any]:
    manifest = tomllib.loads(content.decode())
    kept = ("config", "config_fingerprint", "data", "curriculum", "slices", "status", "message")
    told = {key: manifest[key] for key in kept}
    hashes = manifest.get("files", {}).items()
    return told | {
        "progress": manifest.get("progress"),
        "files": {file: sha for file, sha in hashes if file != "scalars.jsonl"},
    }


def _scalars(content: bytes) -> list[Any]:
    lines = [json.loads(line) for line in content.splitlines()]
    return [(line["step"], line["phase"], without_speed(line["scalars"])) for line in lines]


def _walk_page(content: bytes) -> str:
    """Without when and by which commit it was made, and resumed."""
    text = re.sub(r"<div><dt>(Resumed|Commit)</dt>.*?</div>", "", content.decode())
    return re.sub(r"\d{4}-\d\d-\d\d(T[\d:]+Z| · run)", "WHEN", text)


def _null_lines(content: bytes) -> list[Any]:
    return [json.loads(line) | {"seconds": None} for line in content.splitlines()]


def _null_test(content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(content)
    return told | {"settings": told["settings"] | {"seconds": None}}


WITHOUT_CLOCKS: dict[str, Any] = {
    "run.toml": _manifest,
    "scalars.jsonl": _scalars,
    "walkforward.html": _walk_page,
    "nulltest.jsonl": _null_lines,
    "nulltest.json": _null_test,
}
"""Files with a clock in them, to what is told of them."""


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
        assert word in line, line


def refused(capsys: Any, *words: str) -> None:
    """Checks that the command in this process was refused in one line on stderr alone."""
    said = capsys.readouterr()
    (line,) = [text for text in said.err.splitlines() if text.startswith("passline:")]
    assert "Traceback" not in said.err
    for word in words:
        assert word in line, line


def nth(changes: list[str], *words: str, n: int = 0) -> int:
    """Returns the number of the n-th change that holds all words, counted from 1."""
    return [i for i, change in enumerate(changes, 1) if all(w in change for w in words)][n]


def kind_of(change: str) -> str:
    """Returns a change in words that do not name the run: "fsync safetensors" and the like."""
    word, _, name = change.partition(" ")
    known = ("safetensors", "run.toml", "run.lock", "evaluations", "scalars", "tfevents", "toml")
    known += ("fold", "nulltest")
    found = [part for part in known if part in name]
    parts = name.lstrip(".").split(".")
    return f"{word} {found[0] if found else 'directory' if len(parts) < 2 else parts[1]}"
