"""One-second bars inside longer ones: which bars they show completely, and their prices.

Seconds resolve a bar only if together they have exactly its open, high, low and close; anything
else (another contract month, a vendor's lost trade) would invent prices or hide some.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.sim.reference import Prices

__all__ = ["Seconds", "fit_seconds"]


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Short bars laid into long ones.

    Attributes:
        bars: the short bars.
        first: index of the first short bar of each long one; int64 [B].
        end: index behind its last; int64 [B].
        is_exact: they have its open, high, low and close; bool [B].
    """

    bars: Bars
    first: NDArray[np.int64]
    end: NDArray[np.int64]
    is_exact: NDArray[np.bool_]

    def inside(self, bar: int) -> Sequence[Prices]:
        """Returns the prices of the short bars of a long one, none if they do not show it whole."""
        if not self.is_exact[bar]:
            return ()
        part = slice(int(self.first[bar]), int(self.end[bar]))
        short = self.bars
        columns = (short.open[part], short.high[part], short.low[part], short.close[part])
        return list(zip(*(column.tolist() for column in columns), strict=True))


def fit_seconds(bars: Bars, seconds: Bars) -> Seconds:
    """Lays short bars into long ones.

    Raises:
        BarsError: the short bars are not shorter, have another tick, or show no long bar whole.
    """
    if bars.bar_ns % seconds.bar_ns or seconds.bar_ns >= bars.bar_ns:
        raise BarsError(
            f"the seconds are bars of {seconds.bar_ns / 1e9:g} s and the bars have "
            f"{bars.bar_ns / 1e9:g} s; the seconds must divide the bars, as 1 s divides 60 s. "
            "Build them from ticks: passline data import TICKS --bar 1s"
        )
    if seconds.contract.tick_size != bars.contract.tick_size:
        raise BarsError(
            f"the seconds are {seconds.contract.symbol} with a tick of "
            f"{seconds.contract.tick_size}, the bars {bars.contract.symbol} with "
            f"{bars.contract.tick_size}; they must be of one market"
        )
    first = np.searchsorted(seconds.ts, bars.ts)
    end = np.searchsorted(seconds.ts, bars.ts + bars.bar_ns)
    has_any = end > first
    is_exact = np.zeros(len(bars), bool)
    if has_any.any():
        is_exact[has_any] = _match(bars, seconds, first, end, has_any)
    if not is_exact.any():
        raise BarsError(_no_match(bars, seconds, first, has_any))
    return Seconds(bars=seconds, first=first, end=end, is_exact=is_exact)


def _match(
    bars: Bars,
    seconds: Bars,
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    has_any: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Tells which of the long bars with short ones inside are made of them exactly; bool [n]."""
    begin, stop = first[has_any], end[has_any]
    edges = np.stack([begin, stop], axis=1).ravel()
    high = np.maximum.reduceat(np.append(seconds.high, np.int32(0)), edges)[::2]
    low = np.minimum.reduceat(np.append(seconds.low, np.int32(0)), edges)[::2]
    return (
        (seconds.open[begin] == bars.open[has_any])
        & (high == bars.high[has_any])
        & (low == bars.low[has_any])
        & (seconds.close[stop - 1] == bars.close[has_any])
    )


def _no_match(
    bars: Bars, seconds: Bars, first: NDArray[np.int64], has_any: NDArray[np.bool_]
) -> str:
    """Returns why no long bar is shown whole."""
    if not has_any.any():
        return (
            f"no second lies inside a bar: the seconds run from {_utc(seconds.ts[0])} to "
            f"{_utc(seconds.ts[-1])}, the bars from {_utc(bars.ts[0])} to {_utc(bars.ts[-1])}. "
            "Give seconds of the same days"
        )
    bar = int(np.flatnonzero(has_any)[0])
    tick = bars.contract.tick_size
    ours, theirs = int(bars.open[bar]) * tick, int(seconds.open[first[bar]]) * tick
    return (
        f"{int(has_any.sum()):,} bars have seconds inside, and none is made of them exactly: at "
        f"{_utc(bars.ts[bar])} the bar opened at {ours} and its seconds at {theirs}. Give "
        "seconds of the same contract month from the same source"
    )


def _utc(ns: int) -> str:
    return f"{np.datetime64(int(ns), 'ns').astype('datetime64[s]')}+00:00"
