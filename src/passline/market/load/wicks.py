"""Wicks out of proportion: a high or low that nothing around its bar confirms.

What a bar's open and close and those of the bars beside it leave unexplained is measured three
ways: as a share of the price, in usual ranges of the bars around, and in ranges of its nearest
neighbors. After a real crash the bars beside are wide too; a bad print stands alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ABSURD_RANGES", "ABSURD_SHARE", "Wicks", "find_wicks"]

_SHARE, _RANGES = 0.005, 8.0
"""Suspicious beyond both: half a per cent of the price, and so many usual ranges."""
ABSURD_SHARE, ABSURD_RANGES = 0.04, 8.0
"""Absurd beyond both too: no market comes back from there between two quiet bars."""
_AROUND = 15
"""Bars before and after whose median range is the usual one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wicks:
    """Suspicious wicks of a tape, in its order; W wicks.

    Attributes:
        index: bars [W].
        move_ticks: how far the high (positive) or the low (negative) lies beyond the open and
            close of the bar and of the bars beside it, ticks [W].
        share: the same as a share of the price [W].
        ranges: the same in median ranges of the 15 bars before and after [W].
        is_absurd: more than 4 % of the price, and more than 8 times the second widest range of the
            four nearest bars [W].
    """

    index: NDArray[np.int64]
    move_ticks: NDArray[np.int64]
    share: NDArray[np.float64]
    ranges: NDArray[np.float64]
    is_absurd: NDArray[np.bool_]


def find_wicks(
    opened: NDArray[np.int32],
    high: NDArray[np.int32],
    low: NDArray[np.int32],
    close: NDArray[np.int32],
) -> Wicks:
    """Finds wicks of more than 0.5 % of the price and 8 usual ranges; prices in ticks [B]."""
    n_bars = len(close)
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    least = max(abs(int(np.median(close))) // 200, 1)
    price = np.maximum(np.abs(close), least)
    least_move = np.maximum(_SHARE * price, _RANGES)
    index = np.flatnonzero(np.maximum(high - top, bottom - low) > least_move)
    beside = np.clip(index[:, None] + np.array([-1, 0, 1]), 0, n_bars - 1)
    up = high[index].astype(np.int64) - top[beside].max(axis=1)
    down = bottom[beside].min(axis=1) - low[index].astype(np.int64)
    move = np.where(up >= down, up, -down)
    share = np.abs(move) / price[index]
    ranges = np.abs(move) / _usual_range(high, low, index)
    keep = (share > _SHARE) & (ranges > _RANGES)
    index, move, share, ranges = index[keep], move[keep], share[keep], ranges[keep]
    is_absurd = share > ABSURD_SHARE
    is_absurd &= np.abs(move) > ABSURD_RANGES * _near_range(high, low, index)
    return Wicks(index=index, move_ticks=move, share=share, ranges=ranges, is_absurd=is_absurd)


def _usual_range(
    high: NDArray[np.int32], low: NDArray[np.int32], index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the median range of the bars around each of some bars, at least a tick [W]."""
    first = np.clip(index - _AROUND, 0, max(len(high) - 2 * _AROUND - 1, 0))
    around = np.minimum(first[:, None] + np.arange(2 * _AROUND + 1), len(high) - 1)
    usual: NDArray[np.float64] = np.median(high[around] - low[around], axis=1)
    return np.maximum(usual, 1.0)


def _near_range(
    high: NDArray[np.int32], low: NDArray[np.int32], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the second widest range of the four bars nearest to each of some bars, ticks [W].

    The widest may be a bad print of its own.
    """
    first = np.clip(index - 2, 0, max(len(high) - 5, 0))
    near = first[:, None] + np.arange(4)
    near = np.minimum(near + (near >= index[:, None]), len(high) - 1)
    return np.sort(high[near] - low[near], axis=1)[:, -2].astype(np.int64)
