"""Reads a training's logs: a passline run, or what stable-baselines3 left behind.

Of stable-baselines3: event files, `evaluations.npz`, either alone, or a tree of both with a
directory per phase. Nothing that a file could execute is loaded.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passline.errors import RunError
from passline.report.diagnose.events import EventLog, read_events
from passline.report.diagnose.logs import (
    Curve,
    Evaluation,
    EvaluationFile,
    PhaseLog,
    TrainingLog,
)
from passline.report.diagnose.read_npz import read_sb3_evaluations
from passline.report.diagnose.read_run import is_passline_table, read_passline_run, read_table

__all__ = ["read_logs"]

MAX_DIRECTORIES = 20_000
"""Directories after which the search gives up; a training has a handful."""

_MANIFEST = "run.toml"
_EVALUATIONS = "evaluations.npz"
_EVENTS = "events.out.tfevents."
_GENERIC = re.compile(
    r"tensorboards?|tensorboard_logs?|tb|tb_logs?|logs?|runs?|evals?|evaluations?|results?|events?"
    r"|train|training|outputs?",
    re.IGNORECASE,
)
"""Names of directories that tell the kind of their content, not the phase."""
_ATTEMPT = re.compile(
    r"(?:maskable|recurrent)?_?(?:ppo|a2c|dqn|sac|td3|ddpg|trpo|qrdqn|tqc|ars|run|train)\w*?_(\d+)",
    re.IGNORECASE,
)
"""Name that stable-baselines3 gives to an event directory: the algorithm and a running number."""
_STAMP = re.compile(
    r"\d{8}|\d{4}-\d{2}-\d{2}|(?<![0-9a-z])(?=[a-f]*\d)[0-9a-f]{6,}(?![0-9a-z])|(?<!phase)_\d+$"
)
"""What a path holds that tells one run from the next."""
_CONFIG = re.compile(r"(config|args|hparams|hyperparameters|metadata|settings|run)\b.*", re.I)
_CONFIG_KINDS = (".toml", ".yaml", ".yml", ".json")


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a search of a tree found; paths by (phase, number of the attempt)."""

    events: dict[tuple[str, int], list[Path]]
    evaluations: dict[tuple[str, int], list[Path]]
    has_config: bool


def read_logs(path: Path) -> TrainingLog:
    """Reads the logs of one training.

    Args:
        path: directory of a passline run; or an event file, an `evaluations.npz`, or a directory
            that holds any of them.

    Raises:
        RunError: nothing is there to read, it belongs to several runs, or a file is damaged.
    """
    if not path.exists():
        raise RunError(f"{path}: no such file or directory. Give a run's directory or a log file.")
    if path.is_file():
        return _read_file(path)
    if (path / _MANIFEST).is_file():
        return read_passline_run(path)
    found = _search(path)
    if not found.events and not found.evaluations:
        raise RunError(
            f"{path}: nothing to diagnose. Looked for {_MANIFEST}, {_EVENTS}* and {_EVALUATIONS} "
            "in it and below."
        )
    return _read_tree(path, found)


def _read_file(path: Path) -> TrainingLog:
    name = path.parent.name or path.stem
    if path.suffix == ".npz":
        if is_passline_table(path):
            return TrainingLog(path=str(path), kind="passline", phases=read_table(path))
        phase = _evaluated(PhaseLog(name=name), path, path.parent)
        return TrainingLog(path=str(path), kind="stable-baselines3", phases=(phase,))
    if path.name == _MANIFEST:
        return read_passline_run(path.parent)
    log = read_events([path])
    return TrainingLog(
        path=str(path),
        kind="stable-baselines3",
        phases=(_with_logged_evaluations(_phase_of(name, log)),),
        notes=_notes(name, log),
    )


def _search(root: Path) -> _Found:
    events: dict[tuple[str, int], list[Path]] = {}
    evaluations: dict[tuple[str, int], list[Path]] = {}
    runs: list[str] = []
    has_config = False
    for count, (folder, folders, files) in enumerate(os.walk(root)):
        if count >= MAX_DIRECTORIES:
            raise RunError(
                f"{root}: more than {MAX_DIRECTORIES:,} directories. Name the one that holds the "
                "logs."
            )
        folders.sort()
        here = Path(folder)
        if _MANIFEST in files:
            runs.append(here.name)
            folders.clear()
            continue
        key = _phase_key(here.relative_to(root))
        for name in sorted(files):
            if name.startswith(_EVENTS):
                events.setdefault(key, []).append(here / name)
            elif name == _EVALUATIONS:
                evaluations.setdefault(key, []).append(here / name)
            elif name.endswith(_CONFIG_KINDS) and _CONFIG.fullmatch(name):
                has_config = True
    if runs:
        shown = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
        raise RunError(f"{root}: holds {len(runs)} passline runs: {shown}. Name one of them.")
    return _Found(events=events, evaluations=evaluations, has_config=has_config)


def _phase_key(relative: Path) -> tuple[str, int]:
    """Returns the phase that a directory's path names ("" if none), and the attempt's number."""
    attempt, parts = 0, []
    for part in relative.parts:
        numbered = _ATTEMPT.fullmatch(part)
        if numbered and part == relative.parts[-1]:
            attempt = int(numbered[1])
        elif not _GENERIC.fullmatch(part):
            parts.append(part)
    return "/".join(parts), attempt


def _read_tree(root: Path, found: _Found) -> TrainingLog:
    events, evaluations = found.events, found.evaluations
    names = {name for name, _ in events}, {name for name, _ in evaluations}
    if len(names[0]) == len(names[1]) == 1 and names[0] != names[1]:
        # One training whose two kinds of logs lie in directories of their own names.
        (name,) = names[0]
        evaluations = {(name, attempt): paths for (_, attempt), paths in evaluations.items()}
    phases: list[PhaseLog] = []
    notes: list[str] = []
    for name in sorted({key[0] for key in (*events, *evaluations)}, key=_natural):
        shown = name or root.resolve().name or "training"
        attempts = sorted(number for key, number in events if key == name)
        log = read_events(events[name, attempts[-1]]) if attempts else None
        phase = PhaseLog(name=shown) if log is None else _phase_of(shown, log, len(attempts))
        notes += [] if log is None else _notes(shown, log)
        stored = _stored(evaluations, name, attempts)
        if stored:
            phase = _evaluated(phase, stored[0], root)
        for other in stored[1:]:
            notes.append(f"{other.relative_to(root)}: not looked at; {stored[0].name} is read from "
                         f"{stored[0].relative_to(root).parent}.")  # fmt: skip
        phases.append(_with_logged_evaluations(phase))
    return TrainingLog(
        path=str(root),
        kind="stable-baselines3",
        phases=tuple(phases),
        has_config=found.has_config,
        notes=tuple(notes),
    )


def _stored(
    evaluations: dict[tuple[str, int], list[Path]], name: str, attempts: list[int]
) -> list[Path]:
    """Returns the evaluation files of the last attempt, else those of no attempt, else the last."""
    numbers = sorted(number for key, number in evaluations if key == name)
    if not numbers:
        return []
    last = attempts[-1] if attempts else numbers[-1]
    chosen = last if last in numbers else 0 if 0 in numbers else numbers[-1]
    return evaluations[name, chosen]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts phase2 before phase10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _phase_of(name: str, log: EventLog, n_attempts: int = 1) -> PhaseLog:
    return PhaseLog(name=name, curves=log.curves, n_attempts=n_attempts, n_restarts=log.n_restarts)


def _evaluated(phase: PhaseLog, path: Path, root: Path) -> PhaseLog:
    """Returns the phase with the evaluations of a file of stable-baselines3."""
    stored = read_sb3_evaluations(path)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    named = (root.resolve().name, *shown.parts[:-1])
    return replace(
        phase,
        evaluations=tuple(sorted(stored, key=lambda evaluation: evaluation.step)),
        file=EvaluationFile(
            path=str(shown),
            is_named_by_run=any(_STAMP.search(part) for part in named),
            steps=tuple(evaluation.step for evaluation in stored),
        ),
    )


def _with_logged_evaluations(phase: PhaseLog) -> PhaseLog:
    """Returns the phase with the means under `eval/` where no file of evaluations was found."""
    rewards = phase.curve("eval/mean_reward")
    if phase.evaluations or rewards is None:
        return phase
    lengths = phase.curve("eval/mean_ep_length")
    by_step = {} if lengths is None else _by_step(lengths)
    return replace(
        phase,
        evaluations=tuple(
            Evaluation(
                step=step,
                rewards=np.array([value]),
                lengths=np.array([by_step[step]] if step in by_step else []),
                is_mean_only=True,
            )
            for step, value in _by_step(rewards).items()
        ),
    )


def _by_step(curve: Curve) -> dict[int, float]:
    pairs = zip(curve.step.tolist(), curve.value.tolist(), strict=True)
    return {int(step): float(value) for step, value in pairs if np.isfinite(value)}


def _notes(name: str, log: EventLog) -> tuple[str, ...]:
    notes = []
    if log.n_cut:
        notes.append(f"{name}: the last record of {log.n_cut} event file(s) was cut off.")
    if log.n_damaged:
        notes.append(f"{name}: {log.n_damaged} damaged record(s) were left out.")
    return tuple(notes)
