"""What is usual at a time of day: averages over the sessions before, by half hours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.task.features.frame import MINUTE_NS, Frame, Ints

__all__ = ["N_USUAL_SESSIONS", "Usual", "usual_of"]

N_USUAL_SESSIONS = 10
"""How many sessions back an average reaches."""
BUCKET_NS = 30 * MINUTE_NS
N_BUCKETS = 48


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The average of a summed quantity at each half hour over the sessions before.

    Attributes:
        rate: expected sum in each half hour of a session, from sessions before it; [S, 48].
        until: expected sum from 18:00 to the start of each half hour; float64 [S, 49].
    """

    rate: NDArray[np.float64]
    until: NDArray[np.float64]

    def per_minute(self, session: Ints, minute_ns: Ints) -> NDArray[np.float64]:
        """Returns the expected sum a minute in the half hour that holds the time; [N]."""
        return self.rate[session, _bucket(minute_ns)] / (BUCKET_NS / MINUTE_NS)

    def up_to(self, session: Ints, minute_ns: Ints) -> NDArray[np.float64]:
        """Returns the expected sum from 18:00 to a time of day, even within a half hour; [N]."""
        bucket = _bucket(minute_ns)
        part = (minute_ns - bucket * BUCKET_NS) / BUCKET_NS
        return self.until[session, bucket] + part * self.rate[session, bucket]


def usual_of(frame: Frame, values: Ints) -> Usual:
    """Averages a quantity by half hours over the ten sessions before each session.

    A session counts for a half hour only if it has a bar there; where none has, 0 is expected.

    Args:
        frame: the tape.
        values: whole numbers to sum up, one a bar; int64 [B].
    """
    n_sessions = len(frame.first)
    cell = frame.session * N_BUCKETS + _bucket(frame.minute_ns)
    shape = (n_sessions, N_BUCKETS)
    n_cells = n_sessions * N_BUCKETS
    total = np.bincount(cell, weights=values, minlength=n_cells).reshape(shape)
    present = (np.bincount(cell, minlength=n_cells) > 0).reshape(shape)
    rate = _before(total.astype(np.int64)) / np.maximum(_before(present.astype(np.int64)), 1)
    until = np.zeros((n_sessions, N_BUCKETS + 1))
    np.cumsum(rate, axis=1, out=until[:, 1:])
    return Usual(rate=rate, until=until)


def _before(table: Ints) -> Ints:
    """Returns, for each row, the sum of the rows before it, ten at most; [S, K]."""
    until = np.zeros((len(table) + 1, table.shape[1]), np.int64)
    np.cumsum(table, axis=0, out=until[1:])
    here = np.arange(len(table))
    before: Ints = until[here] - until[np.maximum(here - N_USUAL_SESSIONS, 0)]
    return before


def _bucket(minute_ns: Ints) -> Ints:
    """Returns the half hour that holds a time of day; the last one holds all after it."""
    return np.clip(minute_ns // BUCKET_NS, 0, N_BUCKETS - 1)
