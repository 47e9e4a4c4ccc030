"""The whole exception tree of passline.

Every error that a user can cause or mend derives from PasslineError and carries the exit code
that the command line returns for it. A message names where, what was found, what is allowed and
what to do.
"""

__all__ = [
    "BarsError",
    "CheckpointError",
    "ConfigError",
    "FillsError",
    "GateNotPassedError",
    "PasslineError",
    "RulebookError",
    "RunError",
    "SimulationError",
    "TrainingLostError",
]


class PasslineError(Exception):
    """Base of all errors that passline raises on purpose; exit code 2, the user's to mend."""

    exit_code = 2


class BarsError(PasslineError):
    """A market file, contract or calendar question that cannot be answered as asked."""


class FillsError(PasslineError):
    """A file of executed trades that cannot be read, or that the bars or the clock contradict."""


class RulebookError(PasslineError):
    """A rulebook that cannot be read; the message carries the file and the field's path."""


class ConfigError(PasslineError):
    """A setting out of range, unknown, or at odds with another."""


class RunError(PasslineError):
    """A run directory that is missing, exists already, or does not fit what is asked of it."""


class CheckpointError(RunError):
    """A checkpoint that cannot be read or does not fit this program's network or data."""


class SimulationError(PasslineError):
    """Accounts that cannot be simulated in whole ticks and mills, with the lanes it concerns."""


class GateNotPassedError(PasslineError):
    """The curriculum ran, and a phase's gate was not passed; exit code 3."""

    exit_code = 3


class TrainingLostError(PasslineError):
    """Some trainings of a walk-forward failed or died; the others are kept. Exit code 1."""

    exit_code = 1
