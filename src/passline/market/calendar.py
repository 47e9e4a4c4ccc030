"""The sessions of each CME Globex product group, and what is known of each date.

Facts come from calendar.toml; this module turns them into arrays, on the clock of
`passline.market.clock`, whose functions it passes on. It knows nothing of bars, and nothing of the
times by which a firm wants its traders flat.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.clock import (
    DAY_NS,
    EASTERN,
    END_YEAR,
    EPOCH,
    FIRST_YEAR,
    MINUTE_NS,
    eastern_offset_ns,
    eastern_to_utc_ns,
    session_minute,
    session_ns,
    trade_date,
)

__all__ = [
    "Calendar",
    "CalendarDay",
    "Sessions",
    "calendar_names",
    "eastern_offset_ns",
    "load_calendar",
    "session_minute",
    "session_ns",
    "trade_date",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

CHICAGO_TO_EASTERN_MIN = 60


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Sessions in time order, one element each; [S] is their number.

    Attributes:
        open_ns: open, UTC ns; int64 [S].
        close_ns: close, UTC ns, the first instant outside; int64 [S].
        pause_start_ns: start of the daily halt inside the session, UTC ns, 0 for none; int64 [S].
        pause_end_ns: its end, 0 for none; int64 [S].
        trade_date: date of the close, days since 1970-01-01; int32 [S].
        trading_day: trade date that the session counts for: a holiday's half counts for the next
            full day; int32 [S].
        is_early: it closes before the regular time; bool [S].
        is_disrupted: the exchange failed for part of it; bool [S].
        is_covered: the holiday table reaches it; where not, plain weekdays are assumed; bool [S].
        reason: what is special about it, "" for nothing.
    """

    open_ns: I64
    close_ns: I64
    pause_start_ns: I64
    pause_end_ns: I64
    trade_date: I32
    trading_day: I32
    is_early: Mask
    is_disrupted: Mask
    is_covered: Mask
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.open_ns)

    def locate(self, ts: I64) -> I32:
        """Returns the index of the session [open, close) of each time, -1 outside; int32 [n].

        A pause belongs to its session; `in_pause` tells it apart.
        """
        times = np.asarray(ts, np.int64)
        index = np.searchsorted(self.open_ns, times, side="right") - 1
        is_inside = index >= 0
        is_inside[is_inside] = times[is_inside] < self.close_ns[index[is_inside]]
        return np.where(is_inside, index, -1).astype(np.int32)

    def in_pause(self, ts: I64) -> Mask:
        """Returns whether each time lies in the daily halt of its session; bool [n]."""
        times = np.asarray(ts, np.int64)
        index = self.locate(times)
        is_paused = index >= 0
        at = index[is_paused]
        inside = times[is_paused]
        is_paused[is_paused] = (inside >= self.pause_start_ns[at]) & (
            inside < self.pause_end_ns[at]
        )
        return is_paused

    def slice(self, start: int, stop: int) -> "Sessions":
        """Returns sessions [start, stop) as views on the same memory."""
        return replace(self, **{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class CalendarDay:
    """One date of a calendar as a reader wants it.

    Attributes:
        trade_date: date of the close.
        trading_day: day that its session counts for; None without a session.
        open_et: open on the Eastern clock, the evening before; None without a session.
        close_et: close on the Eastern clock; None without a session.
        pause_et: daily halt on the Eastern clock; None for none.
        is_early: it closes before the regular time.
        is_disrupted: the exchange failed for part of it.
        note: what is special, "" for nothing.
    """

    trade_date: date
    trading_day: date | None
    open_et: datetime | None
    close_et: datetime | None
    pause_et: tuple[time, time] | None
    is_early: bool
    is_disrupted: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Sessions of one product group.

    Attributes:
        key: name in calendar.toml, such as equity.
        name: what trades on it, in words.
        first_covered: first trade date of the holiday table.
        last_covered: last trade date of the holiday table.
        closed: name of each closed day by days since 1970-01-01.
        all_sessions: every session from 1990 to 2099.
    """

    key: str
    name: str
    first_covered: date
    last_covered: date
    closed: dict[int, str]
    all_sessions: Sessions

    def sessions(self, first_ns: int, last_ns: int) -> Sessions:
        """Returns the sessions that share an instant with [first_ns, last_ns], UTC ns."""
        every = self.all_sessions
        start = int(np.searchsorted(every.close_ns, first_ns, side="right"))
        stop = int(np.searchsorted(every.open_ns, last_ns, side="right"))
        return every.slice(start, max(start, stop))

    def trading_day(self, ts: I64) -> I32:
        """Returns the trading day that each time counts for, outside sessions the next; int32 [n].

        It differs from the trade date where a holiday's half session counts for the next full day.
        """
        every = self.all_sessions
        return every.trading_day[np.searchsorted(every.close_ns, ts, side="right")]

    def require_covered(self, first: date, last: date) -> None:
        """Refuses dates that the holiday table does not reach.

        Raises:
            BarsError: `first` or `last` lies outside the table.
        """
        for day in (first, last):
            if not self.first_covered <= day <= self.last_covered:
                raise BarsError(
                    f"calendar {self.key}: {day} was asked for; its holidays are known from "
                    f"{self.first_covered} to {self.last_covered}. Choose a date in that range, or "
                    "extend market/calendar.toml."
                )

    def day(self, when: date) -> CalendarDay:
        """Returns one trade date, weekends included.

        Raises:
            BarsError: the date lies outside the holiday table.
        """
        self.require_covered(when, when)
        every = self.all_sessions
        number = (when - EPOCH).days
        at = int(np.searchsorted(every.trade_date, number))
        if at == len(every) or every.trade_date[at] != number:
            note = "weekend" if when.weekday() >= 5 else f"closed: {self.closed[number]}"
            return CalendarDay(
                trade_date=when,
                trading_day=None,
                open_et=None,
                close_et=None,
                pause_et=None,
                is_early=False,
                is_disrupted=False,
                note=note,
            )
        pause = (
            (_eastern(every.pause_start_ns[at]).time(), _eastern(every.pause_end_ns[at]).time())
            if every.pause_start_ns[at]
            else None
        )
        return CalendarDay(
            trade_date=when,
            trading_day=EPOCH + timedelta(days=int(every.trading_day[at])),
            open_et=_eastern(every.open_ns[at]),
            close_et=_eastern(every.close_ns[at]),
            pause_et=pause,
            is_early=bool(every.is_early[at]),
            is_disrupted=bool(every.is_disrupted[at]),
            note=every.reason[at],
        )

    def month(self, year: int, month: int) -> tuple[CalendarDay, ...]:
        """Returns the weekdays of a month in order.

        Raises:
            BarsError: no such month, or outside the holiday table.
        """
        if not (1 <= month <= 12 and FIRST_YEAR <= year < END_YEAR):
            raise BarsError(
                f"calendar {self.key}: month was {year}-{month:02d}; allowed are months 01–12 of "
                f"{self.first_covered.year}–{self.last_covered.year}, such as 2024-11."
            )
        first = date(year, month, 1)
        days = [first + timedelta(days=n) for n in range(31)]
        return tuple(self.day(d) for d in days if d.month == month and d.weekday() < 5)


def _eastern(ns: np.int64) -> datetime:
    return datetime.fromtimestamp(int(ns) // 10**9, EASTERN)


# --- reading calendar.toml -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Special:
    """A day unlike the others: kind closed, holiday, early or late_open; time in minutes of ET."""

    day: int
    kind: str
    minute: int
    name: str


@lru_cache(maxsize=1)
def _facts() -> dict[str, Any]:
    text = resources.files("passline.market").joinpath("calendar.toml").read_text("utf-8")
    return tomllib.loads(text)


def calendar_names() -> tuple[str, ...]:
    """Returns the names that `load_calendar` knows, in order."""
    return tuple(sorted(_facts()["calendar"]))


@lru_cache(maxsize=16)
def load_calendar(name: str) -> Calendar:
    """Loads the calendar of a product group.

    Args:
        name: equity, energy, metals, fx or rates.

    Raises:
        BarsError: no calendar has that name.
    """
    facts = _facts()
    if name not in facts["calendar"]:
        known = ", ".join(calendar_names())
        raise BarsError(f"no calendar '{name}'. Known calendars: {known}.")
    specials = list(_specials(facts, name))
    closed = {s.day: s.name for s in specials if s.kind == "closed"}
    return Calendar(
        key=name,
        name=facts["calendar"][name]["name"],
        first_covered=facts["first_covered"],
        last_covered=facts["last_covered"],
        closed=closed,
        all_sessions=_build(facts, name, specials),
    )


def _eastern_minute(chicago: str) -> int:
    """Reads a Chicago clock time, HH:MM, as minutes after midnight ET."""
    hour, minute = chicago.split(":")
    return int(hour) * 60 + int(minute) + CHICAGO_TO_EASTERN_MIN


def _specials(facts: dict[str, Any], name: str) -> Iterator[_Special]:
    """Yields the special days of a calendar: its table first, then single days over it."""
    for row in facts["table"][facts["calendar"][name]["table"]]:
        cells = [("closed", "00:00", day) for day in row["closed"]]
        for kind in ("holiday", "early"):
            cells += [(kind, at, day) for at, days in row.get(kind, {}).items() for day in days]
        for kind, at, month_day in cells:
            day = (date.fromisoformat(f"{row['year']}-{month_day}") - EPOCH).days
            label = _occasion(facts, kind, month_day)
            yield _Special(day=day, kind=kind, minute=_eastern_minute(at), name=label)
    for row in facts["special"]:
        if name in row["calendars"]:
            yield _Special(
                day=(row["date"] - EPOCH).days,
                kind=row["kind"],
                minute=_eastern_minute(row.get("time", "00:00")),
                name=row["name"],
            )


def _occasion(facts: dict[str, Any], kind: str, month_day: str) -> str:
    for row in facts["occasion"]:
        if kind in row["kinds"] and row["window"][0] <= month_day <= row["window"][1]:
            return str(row["name"])
    raise AssertionError(f"calendar.toml names no occasion for {kind} {month_day}")


def _build(facts: dict[str, Any], name: str, specials: list[_Special]) -> Sessions:
    """Builds every session of a calendar: weekdays, then what the special days change."""
    first, end = date(FIRST_YEAR, 1, 3), date(END_YEAR - 1, 12, 31)
    days = np.arange((first - EPOCH).days, (end - EPOCH).days, dtype=np.int64)
    days = days[(days + 3) % 7 < 5]  # 1970-01-01 was a Thursday, so Monday is 0
    closed = [s.day for s in specials if s.kind == "closed"]
    days = days[~np.isin(days, closed)]
    hours = facts["calendar"][name]["hours"]
    eras = np.array([(row["from"] - EPOCH).days for row in hours])
    regular = np.array([_eastern_minute(row["close"]) for row in hours])
    regular_close = regular[np.searchsorted(eras, days, side="right") - 1]
    open_minute = np.full(len(days), _eastern_minute(facts["open"]), np.int64)
    close_minute = regular_close.copy()
    is_merged = np.zeros(len(days), bool)
    reason = [""] * len(days)
    for special in specials:
        if special.kind == "closed":
            continue
        at = int(np.searchsorted(days, special.day))
        assert days[at] == special.day, f"calendar.toml: no session on {special}"
        reason[at] = special.name
        if special.kind == "late_open":
            open_minute[at] = special.minute
        else:
            close_minute[at] = special.minute
            is_merged[at] = special.kind == "holiday"
    full_days = days[~is_merged]
    covered = [(facts[key] - EPOCH).days for key in ("first_covered", "last_covered")]
    open_ns = eastern_to_utc_ns((days - 1) * DAY_NS + open_minute * MINUTE_NS)
    close_ns = eastern_to_utc_ns(days * DAY_NS + close_minute * MINUTE_NS)
    is_disrupted = _disruptions(facts, name, open_ns, close_ns, reason)
    pause_start, pause_end = _pauses(facts["calendar"][name], days, close_minute)
    return Sessions(
        open_ns=open_ns,
        close_ns=close_ns,
        pause_start_ns=pause_start,
        pause_end_ns=pause_end,
        trade_date=days.astype(np.int32),
        trading_day=full_days[
            np.minimum(np.searchsorted(full_days, days), len(full_days) - 1)
        ].astype(np.int32),
        is_early=close_minute < regular_close,
        is_disrupted=is_disrupted,
        is_covered=(days >= covered[0]) & (days <= covered[1]),
        reason=tuple(reason),
    )


def _disruptions(
    facts: dict[str, Any], name: str, open_ns: I64, close_ns: I64, reason: list[str]
) -> Mask:
    """Returns which sessions an outage touched, and adds its name to their reasons."""
    is_disrupted = np.zeros(len(open_ns), bool)
    for row in facts["disruption"]:
        if name not in row["calendars"]:
            continue
        start, end = (int(row[key].timestamp()) * 10**9 for key in ("start", "end"))
        for at in np.flatnonzero((open_ns < end) & (close_ns > start)):
            is_disrupted[at] = True
            reason[at] = "; ".join(filter(None, (reason[at], row["name"])))
    return is_disrupted


def _pauses(row: dict[str, Any], days: I64, close_minute: I64) -> tuple[I64, I64]:
    """Returns start and end of the daily halt, UTC ns, 0 where a session has none; int64 [S]."""
    if "pause" not in row:
        return np.zeros(len(days), np.int64), np.zeros(len(days), np.int64)
    start, end = (_eastern_minute(text) for text in row["pause"])
    has_pause = (days < (row["pause_until"] - EPOCH).days) & (close_minute > end)
    bounds = [eastern_to_utc_ns(days * DAY_NS + minute * MINUTE_NS) for minute in (start, end)]
    return np.where(has_pause, bounds[0], 0), np.where(has_pause, bounds[1], 0)
