"""Simple strategies as people trade them, read from the very observation table the agent sees.

Each is a pair of columns: which side to enter after a bar and which side to leave. Nothing here
looks past a bar, because no row of the table does. The bracket, the costs, the rules and the mask
are the agent's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from passline.task.prepare import OBSERVATION_NAMES, Prepared

__all__ = ["STRATEGIES", "LeaveSide", "Signals", "strategy_signals"]

Bools = NDArray[np.bool_]
I8 = NDArray[np.int8]
F32 = NDArray[np.float32]

RTH_MINUTES = 390
OPENING_MINUTES = 30
LAST_ENTRY_MINUTES = 360
"""15:30 Eastern, counted from 09:30: no strategy of the day session enters later."""
STRETCHED = 2.0
"""Standard deviations from the session's VWAP at which reversion enters."""
COLUMNS = (
    "from_opening_high",
    "from_opening_low",
    "since_rth_open",
    "is_rth",
    "vwap_z",
    "trend_240",
)


class LeaveSide:
    """Codes of the side of a position that is to be closed; sums close either."""

    NONE, LONG, SHORT = 0, 1, 2


class Signals(NamedTuple):
    """What a strategy wants after each bar.

    Attributes:
        entries: side to enter if flat: 1 long, -1 short, 0 none; int8 [B].
        exits: LeaveSide of an open position; int8 [B].
    """

    entries: I8
    exits: I8


class Table(NamedTuple):
    """Columns of the observation table and what is the first bar of something.

    Attributes:
        columns: by name, float32 [B] each.
        is_session_start: first bar of a session [B].
        is_market_start: first bar of a market [B].
    """

    columns: Mapping[str, F32]
    is_session_start: Bools
    is_market_start: Bools


def strategy_signals(prepared: Prepared, name: str) -> Signals:
    """Returns the signals of a strategy on the joint tape.

    Args:
        prepared: markets with their observation table.
        name: a key of STRATEGIES.
    """
    index = [OBSERVATION_NAMES.index(column) for column in COLUMNS]
    values = np.asarray(prepared.base.features[:, np.array(index)])
    session, market = prepared.compiled.session, prepared.compiled.market
    is_market_start = np.r_[True, market[1:] != market[:-1]]
    table = Table(
        columns=dict(zip(COLUMNS, values.T, strict=True)),
        is_session_start=np.r_[True, session[1:] != session[:-1]] | is_market_start,
        is_market_start=is_market_start,
    )
    return STRATEGIES[name](table)


def opening_range(table: Table) -> Signals:
    """Enters the first close of the day beyond the range of 09:30-10:00 ET, once on each side.

    Until 15:30 ET. The bracket or flat-by ends the position.
    """
    is_open = _is_day_session(table)
    above = _first_of_session(table, is_open & (table.columns["from_opening_high"] > 0))
    below = _first_of_session(table, is_open & (table.columns["from_opening_low"] < 0))
    entries = above.astype(np.int8) - below.astype(np.int8)
    return Signals(entries=entries, exits=np.zeros_like(entries))


def vwap_reversion(table: Table) -> Signals:
    """Enters against a close that came to lie two standard deviations from the session's VWAP.

    From 10:00 to 15:30 ET; leaves when the close is back at the VWAP.
    """
    z, is_open = table.columns["vwap_z"], _is_day_session(table)
    rich = is_open & _begins(table.is_session_start, z >= STRETCHED)
    cheap = is_open & _begins(table.is_session_start, z <= -STRETCHED)
    exits = LeaveSide.LONG * (z >= 0) + LeaveSide.SHORT * (z <= 0)
    return Signals(
        entries=cheap.astype(np.int8) - rich.astype(np.int8), exits=exits.astype(np.int8)
    )


def moving_averages(table: Table) -> Signals:
    """Follows the crosses of the mean of 60 minutes over that of 240; leaves at the next cross.

    A cross counts for two bars: one to close what was open, one to enter.
    """
    trend = table.columns["trend_240"]
    up = _begins(table.is_market_start, trend > 0)
    down = _begins(table.is_market_start, trend < 0)
    cross = up.astype(np.int8) - down.astype(np.int8)
    later = np.r_[np.int8(0), cross[:-1]] * ~table.is_market_start
    entries = np.where(cross != 0, cross, later).astype(np.int8)
    exits = LeaveSide.LONG * (trend < 0) + LeaveSide.SHORT * (trend > 0)
    return Signals(entries=entries, exits=exits.astype(np.int8))


def _is_day_session(table: Table) -> Bools:
    """Tells where a bar of 09:30-16:00 ET closes between 10:00 and 15:30."""
    minutes = table.columns["since_rth_open"].astype(np.float64) * RTH_MINUTES
    is_late = minutes > LAST_ENTRY_MINUTES + 0.01
    return (table.columns["is_rth"] > 0) & (minutes > OPENING_MINUTES - 0.01) & ~is_late


def _begins(is_start: Bools, condition: Bools) -> Bools:
    """Tells where a condition holds that did not hold at the bar before, or there was none."""
    before = np.r_[False, condition[:-1]] & ~is_start
    return condition & ~before


def _first_of_session(table: Table, condition: Bools) -> Bools:
    """Tells where a condition holds for the first time in its session."""
    count = np.cumsum(condition)
    start = np.maximum.accumulate(np.where(table.is_session_start, np.arange(len(count)), 0))
    before: Bools = count - condition - (count - condition)[start]
    return condition & (before == 0)


STRATEGIES: dict[str, Callable[[Table], Signals]] = {
    "opening range": opening_range,
    "VWAP reversion": vwap_reversion,
    "moving averages": moving_averages,
}
"""By the names under which they are stored and shown."""
