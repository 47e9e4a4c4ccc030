"""Asks every question of a training's logs, and sums up its curves and evaluations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from passline.report.diagnose.checks import CHECKS
from passline.report.diagnose.findings import Answer, Check, Clear, Problem, Severity, Unknown
from passline.report.diagnose.logs import Curve, Evaluation, PhaseLog, TrainingLog

__all__ = ["MEASURES", "Diagnosis", "Dynamics", "Finding", "diagnose", "dynamics"]

MEASURES = {
    "reward": "rollout/ep_rew_mean",
    "episode length": "rollout/ep_len_mean",
    "explained variance": "train/explained_variance",
    "KL": "train/approx_kl",
    "entropy": "train/entropy_loss",
    "clip fraction": "train/clip_fraction",
    "value loss": "train/value_loss",
    "steps/s": "time/fps",
}
"""Curves of the summary: name and TensorBoard tag. Entropy is shown without its sign."""


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """One curve of a phase in numbers.

    Attributes:
        measure: its name in MEASURES.
        first: mean of the first fiftieth of the updates, at least one.
        last: mean of the last fiftieth.
        least: lowest value.
        most: highest value.
        trend: "rises" or "falls" if the fitted line changes over the phase by more than twice the
            scatter about it, else "steady"; "" for fewer than four updates.
    """

    measure: str
    first: float
    last: float
    least: float
    most: float
    trend: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem that was found, in one phase or, with an empty phase, in the whole training."""

    check: str
    title: str
    phase: str
    problem: Problem


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All answers.

    Attributes:
        log: what was asked.
        answers: (check, phase, answer) in the order of CHECKS; phase "" is the whole training.
    """

    log: TrainingLog
    answers: tuple[tuple[Check, str, Answer], ...]

    @property
    def findings(self) -> list[Finding]:
        """Problems, the gravest check first; problems of a check stay together."""
        found = [
            Finding(check=check.name, title=check.problem, phase=phase, problem=answer)
            for check, phase, answer in self.answers
            if isinstance(answer, Problem)
        ]
        worst: dict[str, int] = {}
        for item in found:
            rank = item.problem.severity.rank
            worst[item.check] = min(rank, worst.get(item.check, rank))
        return sorted(found, key=lambda item: worst[item.check])

    def clear(self) -> list[tuple[Check, str, Clear]]:
        """Returns what was looked at and found right."""
        return [(c, phase, a) for c, phase, a in self.answers if isinstance(a, Clear)]

    def unknown(self) -> list[tuple[Check, str, Unknown]]:
        """Returns what the logs do not tell."""
        return [(c, phase, a) for c, phase, a in self.answers if isinstance(a, Unknown)]

    def sentence(self) -> str:
        """Returns the outcome in a line."""
        n_clear, n_unknown = len(self.clear()), len(self.unknown())
        rest = f"{n_clear} looked at and right, {n_unknown} that the logs do not tell"
        if not self.findings:
            return f"nothing wrong found: {rest}."
        by_check: dict[str, Severity] = {}
        for item in self.findings:
            severity = item.problem.severity
            before = by_check.get(item.check, severity)
            by_check[item.check] = min(severity, before, key=lambda s: s.rank)
        counts = [f"{list(by_check.values()).count(s)} {s.value}" for s in Severity
                  if s in by_check.values()]  # fmt: skip
        plural = "s" if len(by_check) > 1 else ""
        return f"{len(by_check)} problem{plural} found ({', '.join(counts)}); {rest}."

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON-ready data; what is not known is None."""
        return {
            "path": self.log.path,
            "kind": self.log.kind,
            "status": self.log.status or None,
            "sentence": self.sentence(),
            "phases": [_phase_dict(phase) for phase in self.log.phases],
            "findings": [
                {
                    "check": item.check,
                    "severity": item.problem.severity.value,
                    "title": item.title,
                    "phase": item.phase or None,
                    "evidence": item.problem.evidence,
                    "remedies": list(item.problem.remedies),
                }
                for item in self.findings
            ],
            "clear": [
                {"check": check.name, "phase": phase or None, "evidence": answer.evidence}
                for check, phase, answer in self.clear()
            ],
            "unknown": [
                {"check": check.name, "phase": phase or None, "missing": answer.missing}
                for check, phase, answer in self.unknown()
            ],
            "notes": list(self.log.notes),
        }


def diagnose(log: TrainingLog) -> Diagnosis:
    """Asks every question of CHECKS; a pure function of the logs."""
    return Diagnosis(log=log, answers=tuple(_answers(log)))


def _answers(log: TrainingLog) -> Iterator[tuple[Check, str, Answer]]:
    for check in CHECKS:
        if check.of_run is not None:
            yield check, "", check.of_run(log)
        if check.of_phase is not None:
            for phase in log.phases:
                yield check, phase.name, check.of_phase(phase)


def dynamics(phase: PhaseLog) -> list[Dynamics]:
    """Returns the curves of MEASURES that the phase has, in numbers."""
    found = []
    for measure, tag in MEASURES.items():
        curve = phase.curve(tag)
        if curve is not None:
            found.append(_describe(measure, curve))
    return found


def _describe(measure: str, curve: Curve) -> Dynamics:
    values = curve.finite()
    if measure == "entropy":
        values = np.abs(values)
    n = max(len(values) // 50, 1)
    return Dynamics(
        measure=measure,
        first=float(values[:n].mean()),
        last=float(values[-n:].mean()),
        least=float(values.min()),
        most=float(values.max()),
        trend=_trend(values),
    )


def _trend(values: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    if len(values) < 4:
        return ""
    time = np.linspace(-0.5, 0.5, len(values))
    slope = float((time @ (values - values.mean())) / (time @ time))
    scatter = float(np.std(values - values.mean() - slope * time))
    if abs(slope) <= max(2 * scatter, 1e-9 * float(np.abs(values).max())):
        return "steady"
    return "rises" if slope > 0 else "falls"


def _phase_dict(phase: PhaseLog) -> dict[str, Any]:
    curve = phase.main_curve()
    return {
        "name": phase.name,
        "n_updates": 0 if curve is None else len(curve.step),
        "first_step": None if curve is None else int(curve.step[0]),
        "last_step": None if curve is None else int(curve.step[-1]),
        "training": [vars(item) for item in dynamics(phase)],
        "evaluations": [_evaluation_dict(evaluation) for evaluation in phase.evaluations],
    }


def _evaluation_dict(evaluation: Evaluation) -> dict[str, Any]:
    known = len(evaluation.lengths) > 0
    is_mean = evaluation.is_mean_only
    return {
        "step": evaluation.step,
        "n": None if is_mean else len(evaluation.rewards),
        "n_distinct": None if is_mean else evaluation.n_distinct,
        "n_passed": evaluation.n_passed,
        "mean_reward": evaluation.mean_reward,
        "std_reward": None if is_mean else float(evaluation.rewards.std()),
        "mean_length": evaluation.mean_length if known else None,
        "min_length": float(evaluation.lengths.min()) if known else None,
        "max_length": float(evaluation.lengths.max()) if known else None,
    }
