"""The null at the level of the task: what the agent sees, turned against what it trades on.

Markets whose bars are changed are made in `passline.market.nulls`. Here the tape stays as it is,
to the last bar, and the features beside it come from another time.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.market.clock import session_minute, trade_date
from passline.task.features import FEATURE_NAMES, blank_table
from passline.task.prepare import Prepared, to_device

__all__ = ["CLOCK_FEATURES", "MIN_OFFSET", "rotate_features", "rotated_rows"]

CLOCK_FEATURES = (
    "time_sin",
    "time_cos",
    "is_rth",
    "since_rth_open",
    "to_close",
    "weekday_sin",
    "weekday_cos",
)
"""Features that tell the time and nothing of the market; they are not rotated."""
MIN_OFFSET = 25
"""Least distance of features from their prices, sessions: the longest window is 20 of them."""


def rotate_features(prepared: Prepared, *, seed: int) -> Prepared:
    """Shifts each market's features against its prices by a random number of whole sessions.

    A bar's features become those that stood at the same minute of a session far away, the last
    known by then where that minute had no bar. The shift is one number for the whole market, drawn
    between MIN_OFFSET sessions and the number of sessions less MIN_OFFSET, and goes around the end.
    Destroys every relation of features to prices. Keeps prices, costs and clock, the features with
    all their relations to each other, and what needs no features: a drift of the market or of an
    hour, and what an open position tells of the move since its entry.

    Args:
        prepared: the markets as they are.
        seed: of the shifts.

    Raises:
        ConfigError: a market has too few sessions to be shifted by that much.
    """
    rng = np.random.default_rng(seed)
    table = blank_table(len(prepared.base.features))
    table[:] = prepared.base.features
    moving = [i for i, name in enumerate(FEATURE_NAMES) if name not in CLOCK_FEATURES]
    for market, first in enumerate(prepared.first_bar):
        stop = prepared.offsets[market + 1]
        ts = prepared.compiled.ts[first:stop]
        n_sessions = len(np.unique(trade_date(ts)))
        if n_sessions <= 2 * MIN_OFFSET:
            raise ConfigError(
                f"{prepared.bars[market].contract.symbol}: {n_sessions} sessions with features; "
                f"a rotation needs more than {2 * MIN_OFFSET}. Give more bars, or choose another "
                "kind of null."
            )
        offset = int(rng.integers(MIN_OFFSET, n_sessions - MIN_OFFSET + 1))
        rows = first + rotated_rows(ts, offset)
        for column in moving:  # one at a time, which bounds memory
            table[first:stop, column] = table[rows, column]
    base = prepared.base._replace(features=to_device(table))
    return dataclasses.replace(prepared, base=base)


def rotated_rows(ts: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    """Returns the row whose features each row gets, int64 [n].

    Args:
        ts: open times, UTC ns, rising [n].
        offset: sessions to look ahead, around the end.
    """
    date = trade_date(ts)
    first = np.flatnonzero(np.r_[True, date[1:] != date[:-1]])
    session = np.cumsum(np.r_[False, date[1:] != date[:-1]])
    minute = session_minute(ts)
    clock = session * 1440 + minute  # rises with the tape
    target = (session + offset) % len(first)
    at = np.searchsorted(clock, target * 1440 + minute, side="right") - 1
    return np.maximum(at, first[target])
