"""Wall clocks of files: zone names to UTC, vectorized, and times as messages show them.

The Eastern clock that trade dates follow is `passline.market.clock`.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.clock import EASTERN

__all__ = ["SECOND_NS", "check_zone", "day_text", "eastern_text", "local_to_utc"]

SECOND_NS = 1_000_000_000

_FIRST_YEAR, _LAST_YEAR = 1980, 2060
_FIXED = re.compile(r"^(?:UTC)?([+-])(\d{1,2})(?::?(\d{2}))?$")


def _zone(name: str) -> tzinfo:
    fixed = _FIXED.match(name)
    if fixed:
        minutes = int(fixed[2]) * 60 + int(fixed[3] or 0)
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=-minutes if fixed[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BarsError(
            f"time zone was {name!r}, which is not known. Give an IANA name such as UTC, "
            "America/New_York, America/Chicago, Europe/Berlin, or an offset such as +02:00"
        ) from None


def check_zone(name: str) -> str:
    """Returns `name` if it is a known zone or offset; raises BarsError otherwise."""
    _zone(name)
    return name


@lru_cache(maxsize=32)
def _table(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns UTC times of offset changes, ns [K], and the offset from each on, ns [K]."""
    zone = _zone(name)

    def offset(moment: int) -> int:
        at = datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset()
        return 0 if at is None else int(at.total_seconds())

    day = 86_400
    first = int(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    last = int(datetime(_LAST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    starts, offsets = [first], [offset(first)]
    for week in range(first, last, 7 * day):
        low, high = week, week + 7 * day
        if offset(high) == offsets[-1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        starts.append(high)
        offsets.append(offset(high))
    return (
        np.asarray(starts, dtype=np.int64) * SECOND_NS,
        np.asarray(offsets, dtype=np.int64) * SECOND_NS,
    )


def local_to_utc(
    local: NDArray[np.int64], zone: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Turns wall-clock times of a zone into UTC.

    Args:
        local: wall-clock times, ns since 1970-01-01 of that clock [B].
        zone: IANA name or offset.

    Returns:
        UTC times, ns [B], and a mask [B] of times that do not exist or occur twice on that clock.
    """
    starts, offsets = _table(zone)
    if len(starts) == 1:
        return local - offsets[0], np.zeros(len(local), dtype=np.bool_)
    local_starts = starts + offsets
    if len(local):
        low = max(int(np.searchsorted(local_starts, local.min(), side="right")) - 2, 0)
        high = int(np.searchsorted(local_starts, local.max(), side="right")) + 1
        starts, offsets = starts[low:high], offsets[low:high]
        local_starts = local_starts[low:high]
    ends = np.append(starts[1:] + offsets[:-1], np.iinfo(np.int64).max)
    segment = np.maximum(np.searchsorted(local_starts, local, side="right") - 1, 0)
    missing = local >= ends[segment]
    before = np.maximum(segment - 1, 0)
    twice = (segment > 0) & (local < ends[before])
    return local - offsets[segment], missing | twice


def eastern_text(ts: int) -> str:
    """Returns a UTC time as the Eastern clock shows it, such as '2024-03-14 10:31 ET'."""
    at = datetime.fromtimestamp(int(ts) / SECOND_NS, UTC).astimezone(EASTERN)
    return at.strftime("%Y-%m-%d %H:%M:%S ET" if at.second else "%Y-%m-%d %H:%M ET")


def day_text(day: int) -> str:
    """Returns a day count since 1970-01-01 as an ISO date."""
    return (date(1970, 1, 1) + timedelta(days=int(day))).isoformat()
