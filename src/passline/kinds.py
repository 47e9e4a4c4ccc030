"""What a run directory holds, told from its own files, so that a command can say what fits it.

A training holds an agent. A judged model holds an agent that another library trained, and no
training. A walk-forward holds one result file a training and no agent. A null test of bars holds
results on null markets and no agent; one of a run lies inside that run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from passline.errors import RunError
from passline.runs import Run, RunStatus

__all__ = [
    "FORCED_FROM",
    "NULL_RESULTS_FILE",
    "WALK_SECTION",
    "Origin",
    "RunKind",
    "forced_phase",
    "is_forced",
    "is_trained_here",
    "kind_of",
    "origin_of",
    "require_agent",
    "require_training",
]

NULL_RESULTS_FILE = "nulltest.jsonl"
"""Results of a null test's markets, a line each."""
WALK_SECTION = "walkforward"
"""Section of run.toml's [config] that a walk-forward has beside those of a training."""
FORCED_FROM = "forced_from"
"""Key of run.toml's [progress]: the phase from which on --force was given."""
MODEL_KEY = "model_sha256"
"""Key of run.toml's [config] that a judged model has in place of a learner and a curriculum."""


class RunKind(StrEnum):
    """What was done in a run directory."""

    TRAINING = "training"
    MODEL = "judged model"
    WALK_FORWARD = "walk-forward"
    NULL_TEST = "null test"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of how an agent came to be, apart from its evaluation.

    Attributes:
        is_trained_here: passline trained it, so that the days it is judged on are known to be
            unseen; if not, the verdict says that they may not be.
        passed_gates: every gate of its training was passed, and of those it descends from.
    """

    is_trained_here: bool = True
    passed_gates: bool = True


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


def is_forced(manifest: Mapping[str, Any]) -> bool:
    """Says whether a run, or one that it descends from, went past a gate that was not passed.

    Args:
        manifest: its run.toml.
    """
    return bool(
        manifest.get("progress", {}).get("forced", False)
        or manifest.get("lineage", {}).get("base_forced", False)
    )


def forced_phase(manifest: Mapping[str, Any]) -> str | None:
    """Returns the phase from which on a training is forced; None if it is not.

    Args:
        manifest: its run.toml.
    """
    found: str | None = manifest.get("progress", {}).get(FORCED_FROM)
    return found


def origin_of(
    manifest: Mapping[str, Any], gates: Iterable[Mapping[str, Any]] | None = None
) -> Origin:
    """Tells how a run's agent came to be.

    Args:
        manifest: its run.toml.
        gates: those of its training, each with `is_passed`; by default the recorded ones.
    """
    if gates is None:
        gates = manifest.get("progress", {}).get("gates", ())
    return Origin(
        is_trained_here=is_trained_here(manifest),
        passed_gates=all(gate["is_passed"] for gate in gates) and not is_forced(manifest),
    )


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
