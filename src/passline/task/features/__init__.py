"""Market features: what an agent sees of the tape, the same for every contract and bar length.

Everything here is known at the close of the bar it stands beside. The account's side of the
observation is elsewhere; docs/features.md defines each feature.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.task.features.frame import (
    MINUTE_NS,
    Frame,
    Ints,
    Timeline,
    build_frame,
    build_timeline,
    prefix_sum,
)
from passline.task.features.groups import DAYS_20_MINUTES, GROUPS
from passline.task.features.rows import WEEK_MINUTES, Rows
from passline.task.features.usual import usual_of

__all__ = [
    "CLIP",
    "FEATURE_NAMES",
    "WARMUP_SESSIONS",
    "Features",
    "blank_table",
    "compute_features",
]

CLIP = 5.0
"""Features lie in [-CLIP, CLIP]."""

FEATURE_NAMES = (
    "return_bar",
    "return_5",
    "return_15",
    "return_30",
    "return_60",
    "return_240",
    "trend_60",
    "trend_240",
    "trend_1d",
    "trend_5d",
    "efficiency_60",
    "from_previous_close",
    "from_previous_high",
    "from_previous_low",
    "from_session_open",
    "range_position",
    "session_range",
    "from_overnight_high",
    "from_overnight_low",
    "from_opening_high",
    "from_opening_low",
    "from_rth_open",
    "opening_move",
    "vwap_distance",
    "vwap_z",
    "volatility_30_240",
    "volatility_1d_20d",
    "volatility_30_usual",
    "volatility_day_usual",
    "volume_bar_usual",
    "volume_30_usual",
    "bar_body",
    "bar_wicks",
    "bar_range",
    "up_balance_30",
    "time_sin",
    "time_cos",
    "is_rth",
    "since_rth_open",
    "to_close",
    "weekday_sin",
    "weekday_cos",
)
"""Names of the columns, in order."""

BLOCK_ROWS = 1 << 15
ALIGNMENT = 64
"""Bytes; what XLA asks of host memory that its CPU backend is to read in place."""
ATR_MINUTES = 30
ATR_MIN_BARS = 14
WARMUP_SESSIONS = 5
"""Sessions, and as many whole days of session time, before the first bar with known features."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Market features of a tape, row k known at the close of bar k.

    Attributes:
        names: names of the columns, in order.
        table: the features, each in [-5, 5], never NaN; 0 in the warm-up rows; float32 [B, F].
        atr_ticks: average true range of a bar, ticks, at least 1, warm-up rows too; int32 [B].
        n_warmup: how many leading rows lack the history that features need; callers skip them.
    """

    names: tuple[str, ...]
    table: NDArray[np.float32]
    atr_ticks: NDArray[np.int32]
    n_warmup: int


def blank_table(n_rows: int) -> NDArray[np.float32]:
    """Returns zeros that begin at a multiple of ALIGNMENT; float32 [n_rows, F]."""
    size = n_rows * len(FEATURE_NAMES) * np.dtype(np.float32).itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    skipped = -raw.ctypes.data % ALIGNMENT
    return raw[skipped : skipped + size].view(np.float32).reshape(n_rows, len(FEATURE_NAMES))


def compute_features(bars: Bars, *, table: NDArray[np.float32] | None = None) -> Features:
    """Computes the features of every bar from that bar and those before it.

    The tape is worked through in stretches, each with as much of what lies before it as the longest
    window needs, so that memory beside the table does not grow with the tape.

    Warm-up lasts until five sessions with bars have ended and five days (6900 minutes) of session
    time have gone by. Prices before a contract roll enter in the new month's frame: the gap between
    the last close of the old month and the first open of the new one is no move.

    Args:
        bars: a tape of at least one bar.
        table: zeros to write the features into, so that several markets stand in one table
            without a copy; a table of its own where None; float32 [B, F].

    Raises:
        BarsError: if the tape has no bars.
    """
    if len(bars) == 0:
        raise BarsError(
            f"{bars.contract.symbol}: the tape has 0 bars. Features need at least 1 bar; "
            "widen the range of dates that was asked for."
        )
    timeline = build_timeline(bars)
    n_warmup = _warmup(timeline)
    table = blank_table(len(bars)) if table is None else table
    atr_ticks = np.empty(len(bars), np.int32)
    n_rows = _stretch_rows(bars.bar_ns)
    begin, moved = 0, 0
    for start in range(0, len(bars), n_rows):
        stop = min(start + n_rows, len(bars))
        frame = build_frame(bars, timeline, start=begin, stop=stop, moved=moved)
        atr_ticks[start:stop] = _atr_ticks(frame)[start - begin :]
        _fill(table[start:stop], frame, start - begin)
        if stop < len(bars):
            behind, begin = begin, _lead(timeline, stop)
            moved = int(frame.sums.move[begin - behind])
    table[:n_warmup] = 0
    return Features(names=FEATURE_NAMES, table=table, atr_ticks=atr_ticks, n_warmup=n_warmup)


def _stretch_rows(bar_ns: int) -> int:
    """Returns how many rows are laid out at a time: enough that what lies before them is little."""
    return max(1 << 18, 4 * DAYS_20_MINUTES * MINUTE_NS // bar_ns)


def _lead(timeline: Timeline, row: int) -> int:
    """Returns the first bar of a session from which on a row's features can be worked out.

    It lies before the longest window, 20 days of session time. A session adds no more than a day
    to that time and a bar no more than an hour or its own length: so the ten sessions of what is
    usual and the 14 bars of the average true range lie behind it too.
    """
    since = timeline.clock_ns[row] - DAYS_20_MINUTES * MINUTE_NS
    at = max(int(np.searchsorted(timeline.clock_ns, since, side="right")) - 1, 0)
    return int(timeline.first[np.searchsorted(timeline.first, at, side="right") - 1])


def _fill(table: NDArray[np.float32], frame: Frame, begin: int) -> None:
    """Writes the features of a frame's rows from `begin` on, block by block; [N, F]."""
    usual_sq = usual_of(frame, frame.prices.move**2)
    usual_volume = usual_of(frame, np.maximum(frame.bars.volume, 0))
    for start in range(begin, len(frame.bars), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(frame.bars))
        rows = Rows(frame, usual_sq=usual_sq, usual_volume=usual_volume, start=start, stop=stop)
        _fill_block(table[start - begin : stop - begin], rows)


def _fill_block(block: NDArray[np.float32], rows: Rows) -> None:
    """Writes the features of a block of rows, clipped, in the order of FEATURE_NAMES; [N, F]."""
    named = (pair for group in GROUPS for pair in group(rows))
    for column, (expected, (name, values)) in enumerate(zip(FEATURE_NAMES, named, strict=True)):
        assert name == expected
        block[:, column] = np.clip(values, -CLIP, CLIP)


def _warmup(timeline: Timeline) -> int:
    """Returns the number of rows before the first with five sessions and five days behind it."""
    n_rows, first = len(timeline.clock_ns), timeline.first
    later = int(first[WARMUP_SESSIONS]) if len(first) > WARMUP_SESSIONS else n_rows
    return max(later, int(np.searchsorted(timeline.clock_ns, WEEK_MINUTES * MINUTE_NS)))


def _atr_ticks(frame: Frame) -> NDArray[np.int32]:
    """Returns the mean true range over the last 30 minutes or 14 bars, the longer; int32 [B].

    The true range joins a bar's range to the close before it, except on the first bar of a session
    or of a contract month. The mean is rounded to the nearest tick, halves up, and at least 1.
    """
    here = np.arange(len(frame.clock_ns))
    since = frame.clock_ns - ATR_MINUTES * MINUTE_NS
    begin: Ints = np.searchsorted(frame.clock_ns, since, side="right")
    begin = np.clip(here + 1 - ATR_MIN_BARS, 0, begin)
    sums = prefix_sum(frame.prices.true_range)
    count = here + 1 - begin
    total = sums[1:] - sums[begin]
    mean: Ints = np.maximum((2 * total + count) // (2 * count), 1)
    return mean.astype(np.int32)
