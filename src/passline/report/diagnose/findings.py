"""What a check answers: a problem with its evidence and remedies, all clear, or not answerable."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from passline.report.diagnose.logs import PhaseLog, TrainingLog

__all__ = ["Answer", "Check", "Clear", "PhaseCheck", "Problem", "RunCheck", "Severity", "Unknown"]


class Severity(StrEnum):
    """How much a problem matters to what the training may claim."""

    CRITICAL = "critical"
    """The result cannot be believed, or the agent cannot pass, until this is mended."""
    WARNING = "warning"
    """It weakens the result, or hides what would."""
    NOTE = "note"
    """Worth mending when the training is next touched."""

    @property
    def rank(self) -> int:
        """Place in the order, the gravest first."""
        return list(Severity).index(self)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something is wrong.

    Attributes:
        severity: how much it matters.
        evidence: what the logs say, with numbers, in sentences.
        remedies: what to do, in sentences.
    """

    severity: Severity
    evidence: str
    remedies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Clear:
    """Looked at, and nothing wrong; the evidence says with which numbers."""

    evidence: str


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """The logs do not tell; `missing` says what they lack."""

    missing: str


Answer = Problem | Clear | Unknown
PhaseCheck = Callable[[PhaseLog], Answer]
RunCheck = Callable[[TrainingLog], Answer]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question to the logs.

    Attributes:
        name: short, for programs.
        problem: what is wrong where it finds something, as a heading.
        asks: what it looks at, where it finds nothing.
        of_phase: asked of each phase; None if it is asked of the whole training.
        of_run: asked of the whole training; None if it is asked of each phase.
    """

    name: str
    problem: str
    asks: str
    of_phase: PhaseCheck | None = None
    of_run: RunCheck | None = None
