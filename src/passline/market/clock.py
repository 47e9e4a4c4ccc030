"""The Eastern clock over UTC nanoseconds: offsets, trade dates, session time.

Plain arithmetic on arrays, with the offsets of America/New_York looked up once. Holidays and
product groups live in `passline.market.calendar`.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError

__all__ = [
    "DAY_NS",
    "EASTERN",
    "END_YEAR",
    "EPOCH",
    "FIRST_YEAR",
    "HOUR_NS",
    "MINUTE_NS",
    "eastern_offset_ns",
    "eastern_to_utc_ns",
    "session_minute",
    "session_ns",
    "trade_date",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
DAY_SHIFT_NS = 6 * HOUR_NS
"""From the open of a session, 18:00 ET, to midnight."""
FIRST_YEAR, END_YEAR = 1990, 2100
"""Years the clock answers for, END_YEAR not included."""
EASTERN = ZoneInfo("America/New_York")
EPOCH = date(1970, 1, 1)


@lru_cache(maxsize=1)
def _transitions() -> tuple[I64, I64]:
    """Returns the UTC ns at which Eastern time changes its offset, and the offsets between, ns.

    Offsets have one element more than transitions. Each year has two changes, found by bisection
    to the second.
    """
    moments: list[int] = []
    offsets = [_offset_s(_seconds(FIRST_YEAR, 1))]
    for year in range(FIRST_YEAR, END_YEAR):
        for low, high in (
            (_seconds(year, 1), _seconds(year, 7)),
            (_seconds(year, 7), _seconds(year + 1, 1)),
        ):
            after = _offset_s(high)
            if after == _offset_s(low):
                continue
            a, b = low, high
            while b - a > 1:
                middle = (a + b) // 2
                a, b = (a, middle) if _offset_s(middle) == after else (middle, b)
            moments.append(b)
            offsets.append(after)
    second = 10**9
    return np.array(moments, np.int64) * second, np.array(offsets, np.int64) * second


def _seconds(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def _offset_s(seconds: int) -> int:
    offset = datetime.fromtimestamp(seconds, UTC).astimezone(EASTERN).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def eastern_offset_ns(ts: I64) -> I64:
    """Returns what must be added to UTC to read the Eastern clock, ns; int64 [n].

    Args:
        ts: times, UTC ns; int64 [n], in any order.

    Raises:
        BarsError: a time lies outside 1990–2099, as it does when the unit is not ns.
    """
    times = np.asarray(ts, np.int64)
    first, end = _seconds(FIRST_YEAR, 1) * 10**9, _seconds(END_YEAR, 1) * 10**9
    if times.size:
        for value in (int(times.min()), int(times.max())):
            if not first <= value < end:
                raise BarsError(
                    f"time stamp {value} is {_utc_text(value)} when read as UTC nanoseconds; "
                    f"allowed are the years {FIRST_YEAR}–{END_YEAR - 1}. Convert the times to "
                    "nanoseconds since 1970."
                )
    moments, offsets = _transitions()
    return offsets[np.searchsorted(moments, times, side="right")]


def _utc_text(ns: int) -> str:
    return f"{np.datetime64(ns, 'ns').astype('datetime64[s]')} UTC"


def trade_date(ts: I64) -> I32:
    """Returns the trade date of each time: the Eastern date of time + 6 h.

    The session that opens on Sunday 18:00 ET is Monday's. Holidays are not looked at: a halved
    holiday keeps its own date here; `Sessions.trading_day` merges it into the next.

    Args:
        ts: times, UTC ns; int64 [n].

    Returns:
        Days since 1970-01-01; int32 [n].
    """
    times = np.asarray(ts, np.int64)
    days = (times + (eastern_offset_ns(times) + DAY_SHIFT_NS)) // DAY_NS
    return days.astype(np.int32)


def session_ns(ts: I64) -> I64:
    """Returns the time since the last 18:00 ET on the Eastern clock, ns in [0, 24 h); int64 [n]."""
    times = np.asarray(ts, np.int64)
    return (times + (eastern_offset_ns(times) + DAY_SHIFT_NS)) % DAY_NS


def session_minute(ts: I64) -> I64:
    """Returns whole minutes since the last 18:00 ET, rounded down, in [0, 1440); int64 [n]."""
    return session_ns(ts) // MINUTE_NS


def eastern_to_utc_ns(wall_ns: I64) -> I64:
    """Converts Eastern clock readings to UTC ns; wrong only within an hour of a clock change.

    Session bounds never are that near: clocks change on Sunday at 02:00.
    """
    return wall_ns - eastern_offset_ns(wall_ns + 5 * HOUR_NS)
