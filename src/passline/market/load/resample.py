"""Longer bars from shorter ones, known only when their last short bar is closed.

A long bar covers [start, start + minutes) counted from the session's opening, 18:00 ET; it never
reaches over a session's end or a change of contract month.
"""

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.clock import MINUTE_NS, session_ns

__all__ = ["resample_bars"]

_ALLOWED = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


def resample_bars(bars: Bars, minutes: int) -> Bars:
    """Joins bars to longer ones.

    Open is the first open, close the last close, high and low the extremes, volume the sum (-1
    where any part has none). A stretch without a bar has none in the result.

    Args:
        bars: the tape; its bar length must divide the new one.
        minutes: new length, minutes: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60.

    Raises:
        BarsError: the length is not allowed or not a multiple of the tape's.
    """
    length = minutes * MINUTE_NS
    if minutes not in _ALLOWED or length % bars.bar_ns:
        raise BarsError(
            f"bars of {minutes} minutes were asked for from bars of {bars.bar_ns / MINUTE_NS:g}. "
            f"Allowed are multiples of the bar among {', '.join(map(str, _ALLOWED))} minutes"
        )
    if length == bars.bar_ns or not len(bars):
        return bars
    start = bars.ts - session_ns(bars.ts) % length
    is_first = np.ones(len(bars), dtype=np.bool_)
    is_first[1:] = (start[1:] != start[:-1]) | (bars.expiry[1:] != bars.expiry[:-1])
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(bars)) - 1
    return Bars(
        contract=bars.contract,
        bar_ns=length,
        ts=start[first],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=_volume(bars.volume, first),
        expiry=bars.expiry[first],
        expiries=bars.expiries,
        provenance={**bars.provenance, "resampled_from_ns": bars.bar_ns},
    )


def _volume(volume: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.add.reduceat(np.maximum(volume, 0), first)
    return np.where(np.minimum.reduceat(volume, first) < 0, -1, total)
