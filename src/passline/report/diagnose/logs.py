"""A training's logs as plain data, whoever wrote them.

The readers make these; the checks look at nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Curve",
    "Detail",
    "Evaluation",
    "EvaluationFile",
    "GateLog",
    "PhaseLog",
    "TrainingLog",
]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One scalar over a phase.

    Attributes:
        step: training steps, never falling, int64 [U].
        value: the scalar as logged, float64 [U].
    """

    step: NDArray[np.int64]
    value: NDArray[np.float64]

    def finite(self) -> NDArray[np.float64]:
        """Returns the finite values in order."""
        return self.value[np.isfinite(self.value)]

    def recent(self) -> NDArray[np.float64]:
        """Returns the last quarter of the finite values, at least one if there is one."""
        values = self.finite()
        return values[-max(len(values) // 4, 1) :]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What passline's evaluations tell beyond reward and length.

    Attributes:
        done_reasons: episodes by reason of their end.
        n_breached: episodes that broke a rule.
        n_trips: round trips of all episodes.
        n_invalid: masked actions that were sent.
        n_actions: actions that were sent.
        hold_share: share of HOLD among the choices where another action was legal; NaN without any.
        slices: names of the slices played.
    """

    done_reasons: Mapping[str, int]
    n_breached: int
    n_trips: int
    n_invalid: int
    n_actions: int
    hold_share: float
    slices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a checkpoint.

    Attributes:
        step: training steps of the checkpoint.
        rewards: sum of rewards of each episode [n]; of the mean alone, [1].
        lengths: bars of each episode [n]; empty if unknown.
        n_passed: episodes counted as a success; None if not told.
        is_mean_only: only means are known, not the episodes.
        detail: more, where passline wrote it.
    """

    step: int
    rewards: NDArray[np.float64]
    lengths: NDArray[np.float64]
    n_passed: int | None = None
    is_mean_only: bool = False
    detail: Detail | None = None

    @property
    def mean_reward(self) -> float:
        """Mean over the episodes."""
        return float(self.rewards.mean())

    @property
    def mean_length(self) -> float:
        """Mean over the episodes; NaN if unknown."""
        return float(self.lengths.mean()) if len(self.lengths) else float("nan")

    @property
    def n_distinct(self) -> int:
        """Episodes that differ from each other in reward or length."""
        if len(self.lengths) != len(self.rewards):
            return len(np.unique(self.rewards))
        return len(np.unique(np.stack([self.rewards, self.lengths], axis=1), axis=0))

    @property
    def has_one_length(self) -> bool:
        """Whether there are several episodes and all have the same length."""
        return len(self.lengths) > 1 and bool(np.ptp(self.lengths) == 0)


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """Where evaluations were stored.

    Attributes:
        path: as it is shown.
        is_named_by_run: a part of the path carries a number or stamp of the run.
        steps: training steps in the order of the file.
    """

    path: str
    is_named_by_run: bool
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PhaseLog:
    """One phase of a training.

    Attributes:
        name: of the phase, or of the directory.
        curves: scalars by TensorBoard tag.
        evaluations: in the order of their steps.
        file: where the evaluations came from; None if from the curves, or if passline keeps them.
        n_attempts: event directories of this phase, such as PPO_1 and PPO_2; the last is read.
        n_restarts: times that the steps of the curves fall back.
        bars_per_lane: bars that each account walked in the phase; None if unknown.
    """

    name: str
    curves: Mapping[str, Curve] = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    file: EvaluationFile | None = None
    n_attempts: int = 1
    n_restarts: int = 0
    bars_per_lane: float | None = None

    def curve(self, tag: str) -> Curve | None:
        """Returns a curve with at least one finite value, or None."""
        found = self.curves.get(tag)
        return found if found is not None and len(found.finite()) else None

    def level(self, tag: str) -> float | None:
        """Returns the median of a curve's last quarter, or None if it was not logged."""
        found = self.curve(tag)
        return None if found is None else float(np.median(found.recent()))

    def main_curve(self) -> Curve | None:
        """Returns the curve with the most points outside of `eval/`, None without curves."""
        own = [curve for tag, curve in self.curves.items() if not tag.startswith("eval/")]
        return max(own, key=lambda curve: len(curve.step), default=None)


@dataclass(frozen=True, kw_only=True)
class GateLog:
    """A gate as run.toml keeps it; see passline.evaluate.gates.GateResult."""

    phase: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    above: float
    is_passed: bool


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """All that was read of a training.

    Attributes:
        path: what the user named, as it is shown.
        kind: who wrote the logs: "passline" or "stable-baselines3".
        phases: in their order.
        gates: in their order; empty where there are none.
        status: of a passline run, "" otherwise.
        has_config: the configuration of the run lies beside the logs.
        notes: what could not be read, in sentences.
    """

    path: str
    kind: str
    phases: tuple[PhaseLog, ...]
    gates: tuple[GateLog, ...] = ()
    status: str = ""
    has_config: bool = False
    notes: tuple[str, ...] = ()
