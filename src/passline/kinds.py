"""What a run directory holds, told from its own files, so that a command can say what fits it.

A training holds an agent. A judged model holds an agent that another library trained, and no
training. A walk-forward holds one result file a training and no agent. A null test of bars holds
results on null markets and no agent; one of a run lies inside that run.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from passline.errors import RunError
from passline.runs import Run, RunStatus

__all__ = [
    "NULL_RESULTS_FILE",
    "WALK_SECTION",
    "RunKind",
    "is_trained_here",
    "kind_of",
    "require_agent",
    "require_training",
]

NULL_RESULTS_FILE = "nulltest.jsonl"
"""Results of a null test's markets, a line each."""
WALK_SECTION = "walkforward"
"""Section of run.toml's [config] that a walk-forward has beside those of a training."""
MODEL_KEY = "model_sha256"
"""Key of run.toml's [config] that a judged model has in place of a learner and a curriculum."""


class RunKind(StrEnum):
    """What was done in a run directory."""

    TRAINING = "training"
    MODEL = "judged model"
    WALK_FORWARD = "walk-forward"
    NULL_TEST = "null test"
    UNKNOWN = "unknown"


_INSTEAD = {
    RunKind.WALK_FORWARD: "Its page: passline report {id}; going on: passline walkforward "
    "--resume {id}; an agent of these settings: passline train",
    RunKind.NULL_TEST: "Its page: passline report {id}; going on: passline nulltest {id}; an agent "
    "of these settings: passline train --resume {id}",
}


def kind_of(run: Run) -> RunKind:
    """Returns what a run is; UNKNOWN if its run.toml cannot be read."""
    if run.status is RunStatus.UNREADABLE:
        return RunKind.UNKNOWN
    if WALK_SECTION in run.manifest.get("config", {}):
        return RunKind.WALK_FORWARD
    if not is_trained_here(run.manifest):
        return RunKind.MODEL
    if (run.path / NULL_RESULTS_FILE).exists() and not _has_agent(run.path):
        return RunKind.NULL_TEST
    return RunKind.TRAINING


def is_trained_here(manifest: Mapping[str, Any]) -> bool:
    """Says whether a run's agent was trained in it, so that it is known on what.

    Args:
        manifest: its run.toml.
    """
    return MODEL_KEY not in manifest.get("config", {})


def require_agent(run: Run, purpose: str) -> None:
    """Refuses a run that holds no agent of its own.

    Args:
        run: what was given.
        purpose: what it would be needed for, such as "to compare"; ends the sentence "keeps no
            agent ...".

    Raises:
        RunError: it is a walk-forward or the null test of bars; says what to use instead.
    """
    kind = kind_of(run)
    if kind in _INSTEAD:
        raise RunError(
            f"{run.id}: is a {kind.value} and keeps no agent {purpose}. "
            f"{_INSTEAD[kind].format(id=run.id)}"
        )


def require_training(run: Run, purpose: str) -> None:
    """Refuses a judged model, whose training is not known here.

    Args:
        run: what was given.
        purpose: what a training would be needed for, such as "to go on with"; ends the sentence
            "holds no training ...".

    Raises:
        RunError: it is one; says what to use instead.
    """
    if kind_of(run) is RunKind.MODEL:
        raise RunError(
            f"{run.id}: is a model of stable-baselines3, judged and not trained here, and holds no "
            f"training {purpose}. Judge it again: passline evaluate {run.id}; an agent of these "
            "settings: passline train"
        )


def _has_agent(path: Path) -> bool:
    return any((path / "checkpoints").glob("*.toml")) or (path / "evaluations.npz").exists()
