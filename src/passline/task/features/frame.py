"""The tape laid out for features: sessions, a session clock, gap-free prices and exact prefix sums.

The timeline is that of the whole tape. The rest, nine tenths of the memory, is laid out for one
stretch of it at a time, which begins with a session and knows what was summed up before. All sums
are of whole numbers (ticks, contracts), so a difference of two prefix sums is exact and a row does
not change by a bit when later bars change. Nothing here is a feature yet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.market.bars import Bars
from passline.market.calendar import load_calendar, session_ns, trade_date

__all__ = [
    "MINUTE_NS",
    "OPENING_END_NS",
    "RTH_END_NS",
    "RTH_START_NS",
    "Frame",
    "Ints",
    "Prices",
    "Sums",
    "Timeline",
    "build_frame",
    "build_timeline",
    "prefix_sum",
]

Ints = NDArray[np.int64]

MINUTE_NS = 60_000_000_000
RTH_START_NS = 930 * MINUTE_NS
"""09:30 Eastern, counted from 18:00 the evening before."""
OPENING_END_NS = 960 * MINUTE_NS
"""10:00 Eastern: the end of the opening range."""
RTH_END_NS = 1320 * MINUTE_NS
"""16:00 Eastern."""
HOLE_CAP_NS = 60 * MINUTE_NS
"""A stretch without a bar counts as at most this much session time."""
FAR = 1 << 40
"""More ticks than any two prices lie apart; separates sessions in running extremes."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What is known of the whole tape before any stretch of it.

    Attributes:
        clock_ns: session time gone by at each bar's close since the tape's start; int64 [B].
        to_close_ns: time from the bar's close to the session's close by the calendar; int64 [B].
        first: index of the first bar of each session; int64 [S].
        rolls: index of the first bar of each contract month but the first, rising; int64 [M].
        roll_gaps: sum of the gaps of the first k rolls, ticks; int64 [M + 1].
    """

    clock_ns: Ints
    to_close_ns: Ints
    first: Ints
    rolls: Ints
    roll_gaps: Ints


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices with the gaps of past rolls taken out, and extremes since each session's open.

    Attributes:
        open: first price of the bar, ticks; int64 [B], as are all others.
        high: highest price, ticks.
        low: lowest price, ticks.
        close: last price, ticks.
        move: close minus previous close; close minus open on the first bar of a session or month.
        true_range: the bar's range joined to the previous close, which is left out on such a bar.
        session_high: highest price of the session so far.
        session_low: lowest price of the session so far.
        overnight_high: highest price before 09:30 Eastern; -FAR // 2 or less before there is one.
        overnight_low: lowest price before 09:30 Eastern; FAR // 2 or more before there is one.
        opening_high: highest price of 09:30-10:00 Eastern so far, likewise.
        opening_low: lowest price of 09:30-10:00 Eastern so far, likewise.
    """

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    move: Ints
    true_range: Ints
    session_high: Ints
    session_low: Ints
    overnight_high: Ints
    overnight_low: Ints
    opening_high: Ints
    opening_low: Ints


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Prefix sums; entry k is the sum over bars < k of the stretch, int64 [B + 1].

    Attributes:
        move: of moves since the tape's start, ticks: the price with all gaps taken out.
        move_level: of that price at each close, for its moving averages.
        move_abs: of absolute moves, ticks.
        move_sq: of squared moves, ticks².
        close: of closes, ticks, for moving averages that keep session gaps.
        direction: of +1 for a bar that closed above its open and -1 for one below.
        volume: of contracts traded, a bar of unknown volume counting none.
        unknown: of 1 for a bar of unknown volume.
        typical: of high + low + close less three times the session's open, ticks.
        typical_sq: of its square.
        volume_typical: of volume times it.
        volume_typical_sq: of volume times its square.
    """

    move: Ints
    move_level: Ints
    move_abs: Ints
    move_sq: Ints
    close: Ints
    direction: Ints
    volume: Ints
    unknown: Ints
    typical: Ints
    typical_sq: Ints
    volume_typical: Ints
    volume_typical_sq: Ints


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Everything that features read of a stretch of the tape, one entry a bar or a session.

    Attributes:
        bars: the bars of the stretch; indices below count from its first.
        clock_ns: session time gone by at each bar's close since the tape's start; int64 [B].
        minute_ns: time from 18:00 Eastern to the bar's open; int64 [B].
        to_close_ns: time from the bar's close to the session's close by the calendar; int64 [B].
        weekday: of the trade date, Monday 0; int64 [B].
        session: index of the session of each bar, counted in sessions that have bars; int64 [B].
        first: index of the first bar of each session; int64 [S].
        rth_first: index of the first bar at or after 09:30 Eastern, or of the next session; [S].
        opening_end: index of the first bar at or after 10:00 Eastern, likewise; int64 [S].
        prices: prices without roll gaps and running extremes.
        sums: prefix sums.
    """

    bars: Bars
    clock_ns: Ints
    minute_ns: Ints
    to_close_ns: Ints
    weekday: Ints
    session: Ints
    first: Ints
    rth_first: Ints
    opening_end: Ints
    prices: Prices
    sums: Sums


def prefix_sum(values: NDArray[np.integer] | NDArray[np.bool_]) -> Ints:
    """Returns sums over all entries before each index, exact; [B] -> int64 [B + 1]."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, dtype=np.int64, out=total[1:])
    return total


def build_timeline(bars: Bars) -> Timeline:
    """Returns the timeline of a tape of at least one bar.

    Sessions are runs of bars with the same trade date. The session clock counts calendar time in
    which the exchange is open, a stretch without a bar for at most an hour of it, so that a hole in
    the data does not empty the windows behind it.
    """
    clock_ns, to_close_ns = _clocks(bars)
    rolls = np.flatnonzero(bars.expiry[1:] != bars.expiry[:-1]) + 1
    gaps = bars.open[rolls].astype(np.int64) - bars.close[rolls - 1]
    return Timeline(
        clock_ns=clock_ns,
        to_close_ns=to_close_ns,
        first=np.flatnonzero(_is_first(_days(bars))),
        rolls=rolls,
        roll_gaps=prefix_sum(gaps),
    )


def build_frame(bars: Bars, timeline: Timeline, *, start: int, stop: int, moved: int) -> Frame:
    """Lays out bars [start, stop) of a tape.

    Args:
        bars: the whole tape.
        timeline: of the whole tape.
        start: first bar of a session.
        stop: above start.
        moved: sum of the moves of all bars before start, ticks.
    """
    part = bars.slice(start, stop)
    date = _days(part)
    is_first = _is_first(date)
    first = np.flatnonzero(is_first)
    session = np.cumsum(is_first) - 1
    minute_ns = np.asarray(session_ns(part.ts), dtype=np.int64)
    behind = np.searchsorted(timeline.rolls, np.arange(start, stop), side="right")
    prices = _prices(part, session, is_first, minute_ns, timeline.roll_gaps[behind])
    return Frame(
        bars=part,
        clock_ns=timeline.clock_ns[start:stop],
        minute_ns=minute_ns,
        to_close_ns=timeline.to_close_ns[start:stop],
        weekday=(date + 3) % 7,
        session=session,
        first=first,
        rth_first=first + np.add.reduceat((minute_ns < RTH_START_NS).astype(np.int64), first),
        opening_end=first + np.add.reduceat((minute_ns < OPENING_END_NS).astype(np.int64), first),
        prices=prices,
        sums=_sums(part, prices, session, first, moved),
    )


def _days(bars: Bars) -> Ints:
    """Returns the trade date of each bar, days since 1970-01-01; int64 [B]."""
    return np.asarray(trade_date(bars.ts)).astype("datetime64[D]").astype(np.int64)


def _is_first(date: Ints) -> NDArray[np.bool_]:
    """Tells which bars are the first of their trade date; bool [B]."""
    is_first = np.ones(len(date), np.bool_)
    is_first[1:] = date[1:] != date[:-1]
    return is_first


def _clocks(bars: Bars) -> tuple[Ints, Ints]:
    """Returns the session clock and the time left to the session's close, at each bar's close."""
    calendar = load_calendar(bars.contract.calendar)
    sessions = calendar.sessions(int(bars.ts[0]), int(bars.ts[-1]))
    opens = np.asarray(sessions.open_ns, dtype=np.int64)
    closes = np.asarray(sessions.close_ns, dtype=np.int64)
    time = bars.ts + bars.bar_ns
    if len(opens) == 0:
        return np.full(len(bars), bars.bar_ns, np.int64), np.zeros(len(bars), np.int64)
    length = closes - opens
    before = np.cumsum(length) - length
    at = np.maximum(np.searchsorted(opens, time - 1, side="right") - 1, 0)
    clock = before[at] + np.clip(time - opens[at], 0, length[at])
    steps = np.minimum(np.diff(clock), max(HOLE_CAP_NS, bars.bar_ns))
    clock = bars.bar_ns + prefix_sum(steps)
    return clock, np.clip(closes[at] - time, 0, length[at])


def _running(values: Ints, mask: NDArray[np.bool_] | None, session: Ints) -> Ints:
    """Returns the highest value since the session's first bar, over bars in the mask; int64 [B]."""
    shift = session * (2 * FAR)
    seen = values if mask is None else np.where(mask, values, -FAR)
    return np.maximum.accumulate(seen + shift) - shift


def _prices(
    bars: Bars, session: Ints, is_first: NDArray[np.bool_], minute_ns: Ints, roll_gap: Ints
) -> Prices:
    """Takes past roll gaps out of the prices and follows each session's extremes.

    Args:
        bars: of the stretch.
        session: index of each bar's session.
        is_first: whether a bar is its session's first.
        minute_ns: time from 18:00 Eastern to the bar's open.
        roll_gap: sum of the gaps of all rolls up to each bar since the tape's start, ticks.
    """
    rolled = np.zeros(len(bars), np.bool_)
    rolled[1:] = bars.expiry[1:] != bars.expiry[:-1]
    open_, high, low, close = (
        column.astype(np.int64) - roll_gap
        for column in (bars.open, bars.high, bars.low, bars.close)
    )
    alone = is_first | rolled
    previous = np.where(alone, open_, np.concatenate([open_[:1], close[:-1]]))
    overnight = minute_ns < RTH_START_NS
    opening = ~overnight & (minute_ns < OPENING_END_NS)
    return Prices(
        open=open_,
        high=high,
        low=low,
        close=close,
        move=close - previous,
        true_range=np.maximum(high, previous) - np.minimum(low, previous),
        session_high=_running(high, None, session),
        session_low=-_running(-low, None, session),
        overnight_high=_running(high, overnight, session),
        overnight_low=-_running(-low, overnight, session),
        opening_high=_running(high, opening, session),
        opening_low=-_running(-low, opening, session),
    )


def _sums(bars: Bars, prices: Prices, session: Ints, first: Ints, moved: int) -> Sums:
    """Sums moves, closes, volume and volume-weighted prices; integers, so differences are exact."""
    typical = prices.high + prices.low + prices.close - 3 * prices.open[first][session]
    volume = np.maximum(bars.volume, 0)
    move = prefix_sum(prices.move) + moved
    return Sums(
        move=move,
        move_level=prefix_sum(move[1:]),
        move_abs=prefix_sum(np.abs(prices.move)),
        move_sq=prefix_sum(prices.move**2),
        close=prefix_sum(prices.close),
        direction=prefix_sum(np.sign(prices.close - prices.open)),
        volume=prefix_sum(volume),
        unknown=prefix_sum(bars.volume < 0),
        typical=prefix_sum(typical),
        typical_sq=prefix_sum(typical**2),
        volume_typical=prefix_sum(volume * typical),
        volume_typical_sq=prefix_sum(volume * typical**2),
    )
