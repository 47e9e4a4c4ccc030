"""A run trained again from its own run.toml, and whether the same weights and episodes come out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from passline.base_policy import kept_base
from passline.config import from_plain
from passline.errors import RunError
from passline.evaluate.table import EvaluationTable, load_evaluations
from passline.evaluate.verdict import final_phase, last_evaluations
from passline.kinds import FORCED_FROM, forced_phase, require_agent, require_training
from passline.learn.checkpoint import list_checkpoints
from passline.pipeline import EVALUATIONS, Screen, check_run, open_markets, run_job, start_job
from passline.runs import Run, RunStatus

__all__ = ["Reproduction", "reproduce", "surroundings_that_differ", "table_sha256"]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What training a run again came to.

    Attributes:
        original: the run.
        again: the run that trained it again.
        weights: SHA-256 of the last checkpoint of either, the original's first.
        episodes: SHA-256 of the last test evaluation of either.
        differences: what surrounds the two and differs: name, then either's value.
    """

    original: Run
    again: Run
    weights: tuple[str, str]
    episodes: tuple[str, str]
    differences: tuple[tuple[str, str, str], ...]

    @property
    def is_same(self) -> bool:
        """Whether weights and episodes are the same, bit for bit."""
        return self.weights[0] == self.weights[1] and self.episodes[0] == self.episodes[1]


def reproduce(run: Run, screen: Screen) -> Reproduction:
    """Trains a finished run again into a new run beside it, and compares what both hold.

    Raises:
        RunError: the run is not finished, or its settings, bars or rulebook have changed.
    """
    require_agent(run, "to compare hashes with")
    require_training(run, "to repeat")
    if run.status is not RunStatus.FINISHED:
        raise RunError(
            f"{run.id}: its status is {run.status.value}; only a finished run can be compared. "
            f"Finish it first with: passline train --resume {run.id}"
        )
    config = from_plain(run.manifest["config"], f"{run.id}/run.toml")
    check_run(run, config, open_markets(config).whole)
    job = start_job(
        config,
        root=run.path.parent,
        name=f"again-{run.name or 'run'}",
        base=kept_base(run, config.ppo),
    )
    forced_from = forced_phase(run.manifest)
    how = {} if forced_from is None else {FORCED_FROM: forced_from}
    job.run.record_progress({"reproduces": run.id} | how)
    again = run_job(job, screen).run
    return Reproduction(
        original=run,
        again=again,
        weights=(_weights(run.path), _weights(again.path)),
        episodes=(_episodes(run.path), _episodes(again.path)),
        differences=surroundings_that_differ(run.manifest, again.manifest),
    )


def table_sha256(table: EvaluationTable) -> str:
    """Returns the SHA-256 of all columns but the running number of the evaluation."""
    digest = hashlib.sha256(" ".join(table.action_names).encode())
    for name, column in vars(table).items():
        if name not in ("evaluation", "action_names"):
            values = column.tolist() if column.dtype.kind == "U" else np.ascontiguousarray(column)
            digest.update(name.encode())
            digest.update(repr(values).encode() if isinstance(values, list) else values.tobytes())
    return digest.hexdigest()


def surroundings_that_differ(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[tuple[str, str, str], ...]:
    """Returns versions, revision and hardware in which two runs differ."""
    found = []
    for part in ("passline", "git", "packages", "hardware"):
        a, b = (_flat(part, manifest.get(part, "")) for manifest in (first, second))
        for name in sorted(a.keys() | b.keys()):
            if a.get(name, "") != b.get(name, ""):
                found.append((name, a.get(name, ""), b.get(name, "")))
    return tuple(found)


def _flat(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {name: str(value)}
    return {f"{name} {key}": str(item) for key, item in value.items()}


def _weights(path: Path) -> str:
    known = list_checkpoints(path / "checkpoints")
    return max(known, key=lambda info: int(info.meta["step"])).sha256


def _episodes(path: Path) -> str:
    table = load_evaluations(path / EVALUATIONS)
    return table_sha256(last_evaluations(table, phase=final_phase(table)))
