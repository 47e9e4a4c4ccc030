"""A block of consecutive rows of the tape: its windows in session time and its units of volatility.

Features are worked out block by block, so that temporary arrays stay small.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from passline.task.features.frame import MINUTE_NS, Frame, Ints
from passline.task.features.usual import Usual

__all__ = ["DAY_MINUTES", "WEEK_MINUTES", "Floats", "Rows", "log_ratio", "ratio"]

Floats = NDArray[np.float64]

DAY_MINUTES = 1380
WEEK_MINUTES = 5 * DAY_MINUTES
FAST_MINUTES = 120


def ratio(above: NDArray[np.number], below: NDArray[np.number]) -> Floats:
    """Returns above / below, and 0 where below is not positive."""
    out = np.zeros(np.shape(above))
    np.divide(above, below, out=out, where=below > 0)
    return out


def log_ratio(above: NDArray[np.number], below: NDArray[np.number]) -> Floats:
    """Returns ln((above / below + 0.01) / 1.01), and 0 where below is not positive.

    Equal quantities give 0; an empty one above gives -4.6 instead of minus infinity.
    """
    value: Floats = np.log(np.where(below > 0, (ratio(above, below) + 0.01) / 1.01, 1.0))
    return value


class Rows:
    """Rows [start, stop) of a frame; every array that it returns has N = stop - start entries."""

    def __init__(
        self, frame: Frame, *, usual_sq: Usual, usual_volume: Usual, start: int, stop: int
    ) -> None:
        """Takes the tape, what is usual at each time of day, and the block's bounds."""
        self.frame = frame
        self.usual_sq = usual_sq
        self.usual_volume = usual_volume
        self.cut = slice(start, stop)
        self.end = np.arange(start + 1, stop + 1)
        self._begins: dict[int, Ints] = {}

    @property
    def bar_minutes(self) -> float:
        """Length of a bar in minutes."""
        return self.frame.bars.bar_ns / MINUTE_NS

    def begin(self, minutes: int) -> Ints:
        """Returns the first bar of the window of the last `minutes` of session time.

        It is the first bar that closed later than that long ago; the row's own bar always counts.
        """
        if minutes not in self._begins:
            clock = self.frame.clock_ns
            since = clock[self.cut] - minutes * MINUTE_NS
            self._begins[minutes] = np.searchsorted(clock, since, side="right")
        return self._begins[minutes]

    def begin_in_session(self, minutes: int) -> Ints:
        """Returns the same, but not before the session's first bar."""
        return np.maximum(self.begin(minutes), self.session_begin)

    def total(self, sums: Ints, begin: Ints) -> Ints:
        """Returns the sum over bars from `begin` to the row's own, of a prefix sum."""
        return sums[self.end] - sums[begin]

    def mean(self, sums: Ints, begin: Ints) -> Floats:
        """Returns the mean over bars from `begin` to the row's own, of a prefix sum."""
        value: Floats = self.total(sums, begin) / (self.end - begin)
        return value

    def span(self, minutes: int) -> Floats:
        """Returns the minutes of session time that the window holds, less near the tape's start."""
        gone = self.frame.clock_ns[self.cut] / MINUTE_NS
        return np.minimum(gone, max(minutes, self.bar_minutes))

    def variance(self, minutes: int) -> Floats:
        """Returns the sum of squared moves over the window, a minute; ticks²."""
        value: Floats = self.total(self.frame.sums.move_sq, self.begin(minutes)) / self.span(
            minutes
        )
        return value

    @cached_property
    def session(self) -> Ints:
        """Index of each row's session."""
        return self.frame.session[self.cut]

    @cached_property
    def session_begin(self) -> Ints:
        """First bar of each row's session."""
        return self.frame.first[self.session]

    @cached_property
    def open_minute_ns(self) -> Ints:
        """Time from 18:00 Eastern to the bar's open."""
        return self.frame.minute_ns[self.cut]

    @cached_property
    def close_minute_ns(self) -> Ints:
        """Time from 18:00 Eastern to the bar's close."""
        return self.open_minute_ns + self.frame.bars.bar_ns

    @cached_property
    def close(self) -> Ints:
        """Close without roll gaps, ticks."""
        return self.frame.prices.close[self.cut]

    @cached_property
    def sigma(self) -> Floats:
        """Volatility now: ticks per square root of a minute.

        The root of the mean of two variances: of the last 120 minutes, and of this half hour of
        the day over the ten sessions before; of the first alone where the second is 0.
        """
        fast = self.variance(FAST_MINUTES)
        usual = self.usual_sq.per_minute(self.session, self.open_minute_ns)
        return np.sqrt(np.where(usual > 0, (fast + usual) / 2, fast))

    @cached_property
    def sigma_week(self) -> Floats:
        """Volatility of the last five days: ticks per square root of a minute."""
        return np.sqrt(self.variance(WEEK_MINUTES))

    @cached_property
    def daily(self) -> Floats:
        """Volatility of a day: ticks over 1380 minutes."""
        value: Floats = self.sigma_week * np.sqrt(DAY_MINUTES)
        return value
