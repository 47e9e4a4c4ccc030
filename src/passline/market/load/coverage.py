"""How much of what the exchange traded a tape holds, session by session, as plain data.

Minutes are counted against the exchange calendar: a minute in which no bar begins or lies is
missing. Markets that trade thinly at night miss many without fault; the medians say what is usual.
"""

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.market.bars import Bars
from passline.market.calendar import Calendar, Sessions, load_calendar
from passline.market.clock import EPOCH, MINUTE_NS, eastern_offset_ns, trade_date
from passline.market.load.wicks import find_wicks
from passline.market.load.zones import day_text, eastern_text

__all__ = ["Coverage", "Jump", "Run", "SessionCoverage", "Wick", "check_bars"]

_QUIET_NS = 30 * MINUTE_NS
"""Volume 0 for at least this long is listed."""
_JUMP_RANGES = 8.0
_JUMP_SHARE = 0.005
_LISTED = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionCoverage:
    """One session of the calendar against the tape.

    Attributes:
        day: trade date, ISO.
        n_expected: bars that fit into its open time.
        n_bars: bars the tape has.
        n_missing: bars missing.
        longest_gap_bars: longest stretch without a bar.
        is_early: it closed early.
        is_disrupted: the exchange failed for part of it.
        is_dst: the Eastern clock changed since the session before.
        note: what the calendar says of it.
    """

    day: str
    n_expected: int
    n_bars: int
    n_missing: int
    longest_gap_bars: int
    is_early: bool
    is_disrupted: bool
    is_dst: bool
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A stretch of bars with volume 0: first bar, Eastern clock, and its length in bars."""

    first: str
    n_bars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Jump:
    """A suspicious move from one bar's close to the next bar's open.

    Attributes:
        at: open of the bar, Eastern clock.
        move_ticks: size and direction, ticks.
        move: the same in price units.
        ranges: the move in medians of the session's bar ranges.
        is_roll: whether the contract month changes there.
        is_reopen: whether a session begins there.
    """

    at: str
    move_ticks: int
    move: float
    ranges: float
    is_roll: bool
    is_reopen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Wick:
    """A high or low far from every price around it, whether of a bad print or of a real one.

    Attributes:
        at: open of the bar, Eastern clock.
        move_ticks: how far it lies beyond the open and close of its bar and of those beside it,
            ticks; a low's is negative.
        move: the same in price units.
        share: the same as a share of the price.
        ranges: the same in median ranges of the bars around.
    """

    at: str
    move_ticks: int
    move: float
    share: float
    ranges: float


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What `check_bars` found.

    Attributes:
        contract: symbol.
        calendar: name of the calendar.
        bar_ns: length of a bar, ns.
        n_bars: bars of the tape.
        first: first bar, Eastern clock.
        last: last bar, Eastern clock.
        n_sessions: sessions the calendar has between them.
        n_present: of those, sessions with a bar.
        absent_days: trade dates without any bar, ISO.
        thin_days: trade dates with less than half of the median share of bars, ISO; first and last
            session left out, where the tape begins and ends.
        sessions: each session.
        median_share: median over sessions of bars held by bars expected.
        n_missing: bars missing in sessions that are present.
        n_outside: bars outside of every session.
        outside: the first of them, Eastern clock.
        holidays: days on which the exchange was closed, name by ISO date.
        half_days: trade dates that closed early, ISO.
        dst_days: trade dates whose session is the first after the clock changed, ISO.
        zero_volume_runs: stretches of half an hour or more with volume 0.
        n_zero_volume: bars with volume 0.
        has_volume: whether the tape has volumes.
        jumps: suspicious moves.
        n_jumps: how many there are; `jumps` lists the largest.
        wicks: highs and lows far from every price around them.
        n_wicks: how many there are; `wicks` lists the largest.
        rolls: first bars of each new month, Eastern clock, with the months.
        uncovered: trade dates that the holiday table does not reach, first and last, or empty.
        dropped_days: days left out at the import.
    """

    contract: str
    calendar: str
    bar_ns: int
    n_bars: int
    first: str
    last: str
    n_sessions: int
    n_present: int
    absent_days: tuple[str, ...]
    thin_days: tuple[str, ...]
    sessions: tuple[SessionCoverage, ...]
    median_share: float
    n_missing: int
    n_outside: int
    outside: tuple[str, ...]
    holidays: dict[str, str]
    half_days: tuple[str, ...]
    dst_days: tuple[str, ...]
    zero_volume_runs: tuple[Run, ...]
    n_zero_volume: int
    has_volume: bool
    jumps: tuple[Jump, ...]
    n_jumps: int
    wicks: tuple[Wick, ...]
    n_wicks: int
    rolls: tuple[str, ...]
    uncovered: tuple[str, ...]
    dropped_days: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON."""
        return asdict(self)


def check_bars(bars: Bars) -> Coverage:
    """Counts a tape against the calendar of its contract.

    Raises:
        BarsError: the contract's calendar is not known.
    """
    calendar = load_calendar(bars.contract.calendar)
    sessions = calendar.sessions(int(bars.ts[0]), int(bars.ts[-1]))
    place = sessions.locate(bars.ts)
    rows = _rows(bars, sessions, place)
    present = [row for row in rows if row.n_bars]
    shares = [row.n_bars / row.n_expected for row in present if row.n_expected]
    median = float(np.median(shares)) if shares else 0.0
    outside = bars.ts[place < 0]
    has_volume = bool((bars.volume >= 0).any())
    is_zero = bars.volume == 0
    jumps = _jumps(bars, place)
    wicks = _wicks(bars)
    return Coverage(
        contract=bars.contract.symbol,
        calendar=bars.contract.calendar,
        bar_ns=bars.bar_ns,
        n_bars=len(bars),
        first=eastern_text(int(bars.ts[0])),
        last=eastern_text(int(bars.ts[-1])),
        n_sessions=len(rows),
        n_present=len(present),
        absent_days=tuple(row.day for row in rows if not row.n_bars),
        thin_days=tuple(
            row.day for row in rows[1:-1] if 0 < row.n_bars < 0.5 * median * row.n_expected
        ),
        sessions=tuple(rows),
        median_share=median,
        n_missing=sum(row.n_missing for row in present),
        n_outside=len(outside),
        outside=tuple(eastern_text(int(t)) for t in outside[:_LISTED]),
        holidays=_holidays(calendar, bars),
        half_days=tuple(row.day for row in rows if row.is_early),
        dst_days=tuple(row.day for row in rows if row.is_dst),
        zero_volume_runs=_zero_runs(bars, is_zero, place),
        n_zero_volume=int(is_zero.sum()),
        has_volume=has_volume,
        jumps=tuple(sorted(jumps, key=lambda j: -j.ranges)[:_LISTED]),
        n_jumps=len(jumps),
        wicks=tuple(sorted(wicks, key=lambda w: -w.ranges)[:_LISTED]),
        n_wicks=len(wicks),
        rolls=_rolls(bars),
        uncovered=_uncovered(sessions),
        dropped_days=tuple(bars.provenance.get("dropped_days", ())),
    )


def _rows(bars: Bars, sessions: Sessions, place: NDArray[np.int32]) -> list[SessionCoverage]:
    counts = np.bincount(place[place >= 0], minlength=len(sessions))
    pause = sessions.pause_end_ns - sessions.pause_start_ns
    expected = (sessions.close_ns - sessions.open_ns - pause) // bars.bar_ns
    offsets = eastern_offset_ns(sessions.open_ns)
    gaps = _longest_gaps(bars, sessions, place)
    rows = []
    for index in range(len(sessions)):
        rows.append(
            SessionCoverage(
                day=day_text(int(sessions.trade_date[index])),
                n_expected=int(expected[index]),
                n_bars=int(counts[index]),
                n_missing=max(int(expected[index] - counts[index]), 0),
                longest_gap_bars=int(gaps[index]),
                is_early=bool(sessions.is_early[index]),
                is_disrupted=bool(sessions.is_disrupted[index]),
                is_dst=index > 0 and bool(offsets[index] != offsets[index - 1]),
                note=sessions.reason[index],
            )
        )
    return rows


def _longest_gaps(bars: Bars, sessions: Sessions, place: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the longest stretch without a bar of each session, bars, pause left out [S]."""
    inside = place >= 0
    ts, session = bars.ts[inside], place[inside].astype(np.int64)
    longest = (sessions.close_ns - sessions.open_ns) // bars.bar_ns
    if not len(ts):
        return longest
    is_first = np.append(True, session[1:] != session[:-1])
    before = np.empty_like(ts)
    before[1:] = ts[:-1] + bars.bar_ns
    before[is_first] = sessions.open_ns[session[is_first]]
    gap = ts - before
    pause = sessions.pause_end_ns[session] - sessions.pause_start_ns[session]
    over = (before <= sessions.pause_start_ns[session]) & (ts >= sessions.pause_end_ns[session])
    gap = np.where(over & (pause > 0), gap - pause, gap)
    first = np.flatnonzero(is_first)
    held = session[first]
    longest[held] = np.maximum.reduceat(gap, first) // bars.bar_ns
    last = np.append(first[1:], len(ts)) - 1
    tail = (sessions.close_ns[held] - ts[last] - bars.bar_ns) // bars.bar_ns
    longest[held] = np.maximum(longest[held], tail)
    return longest


def _zero_runs(bars: Bars, is_zero: NDArray[np.bool_], place: NDArray[np.int32]) -> tuple[Run, ...]:
    edges = np.diff(np.concatenate([[0], is_zero.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    runs = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        lasts = int(bars.ts[end - 1] - bars.ts[start]) + bars.bar_ns
        if lasts >= _QUIET_NS and place[start] == place[end - 1]:
            runs.append(Run(first=eastern_text(int(bars.ts[start])), n_bars=end - start))
    return tuple(sorted(runs, key=lambda run: -run.n_bars)[:_LISTED])


def _jumps(bars: Bars, place: NDArray[np.int32]) -> list[Jump]:
    """Lists opens far from the close before, measured in ranges of the bars around."""
    if len(bars) < 3:
        return []
    gap = (bars.open[1:].astype(np.int64) - bars.close[:-1]).astype(np.int64)
    days = trade_date(bars.ts)
    starts = np.append(0, np.flatnonzero(np.diff(days)) + 1)
    lengths = np.diff(np.append(starts, len(bars)))
    spread = np.maximum((bars.high - bars.low).astype(np.float64), 1.0)
    usual = np.repeat(np.add.reduceat(spread, starts) / lengths, lengths)
    price = np.maximum(np.abs(bars.close[:-1].astype(np.float64)), 1.0)
    is_roll = bars.expiry[1:] != bars.expiry[:-1]
    is_reopen = place[1:] != place[:-1]
    ranges = np.abs(gap) / usual[1:]
    limit = np.where(is_reopen, 4 * _JUMP_RANGES, _JUMP_RANGES)
    odd = (ranges > limit) & (np.abs(gap) > _JUMP_SHARE * price)
    tick = float(Fraction(bars.contract.tick_size))
    return [
        Jump(
            at=eastern_text(int(bars.ts[i + 1])),
            move_ticks=int(gap[i]),
            move=float(gap[i]) * tick,
            ranges=round(float(ranges[i]), 1),
            is_roll=bool(is_roll[i]),
            is_reopen=bool(is_reopen[i]),
        )
        for i in np.flatnonzero(odd).tolist()
    ]


def _wicks(bars: Bars) -> list[Wick]:
    found = find_wicks(bars.open, bars.high, bars.low, bars.close)
    tick = float(Fraction(bars.contract.tick_size))
    columns = (found.index, found.move_ticks, found.share, found.ranges)
    return [
        Wick(
            at=eastern_text(int(bars.ts[i])),
            move_ticks=move,
            move=move * tick,
            share=round(share, 5),
            ranges=round(ranges, 1),
        )
        for i, move, share, ranges in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _holidays(calendar: Calendar, bars: Bars) -> dict[str, str]:
    first, last = (int(day) for day in trade_date(bars.ts[[0, -1]]))
    return {
        day_text(day): name for day, name in sorted(calendar.closed.items()) if first <= day <= last
    }


def _rolls(bars: Bars) -> tuple[str, ...]:
    change = np.flatnonzero(bars.expiry[1:] != bars.expiry[:-1]) + 1
    return tuple(
        f"{eastern_text(int(bars.ts[i]))}: {bars.expiries[bars.expiry[i - 1]]} to "
        f"{bars.expiries[bars.expiry[i]]}"
        for i in change.tolist()
    )


def _uncovered(sessions: Sessions) -> tuple[str, ...]:
    days = sessions.trade_date[~sessions.is_covered]
    if not len(days):
        return ()
    ends: tuple[date, ...] = tuple(EPOCH + timedelta(days=int(day)) for day in (days[0], days[-1]))
    return tuple(day.isoformat() for day in ends)
