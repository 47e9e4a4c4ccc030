"""What a whole tape must not show.

Disorder, jumps by a factor, wicks far from every price around them, bars while the exchange is
closed, copied stretches, filler instead of trades, and roll adjustments that cannot be right.
Nothing is repaired; each refusal names places and a remedy.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.calendar import load_calendar
from passline.market.clock import MINUTE_NS, session_ns, trade_date
from passline.market.contract import Contract
from passline.market.load.chunks import Source
from passline.market.load.rolls import Roll
from passline.market.load.tape import Tape
from passline.market.load.wicks import ABSURD_RANGES, ABSURD_SHARE, find_wicks
from passline.market.load.zones import day_text, eastern_text, local_to_utc

__all__ = ["check_rows_order", "check_tape", "stamp_hint"]

_GLOBEX = {"CME", "CBOT", "NYMEX", "COMEX"}
_BREAK_NS = 1380 * MINUTE_NS
"""17:00 ET, counted from 18:00 ET: the daily break begins."""
_EQUITY_BREAK_ENDED_NS = 1_442_793_600_000_000_000
"""2015-09-21 00:00 UTC: until then the break began at 17:15 ET (close 16:15 CT, then 16:00 CT)."""
_OLD_EXTRA_NS = 16 * MINUTE_NS
_FACTOR = 8.0
_JUMP = 0.1
_COPY_BARS = 15
_FILLER_SHARE = 0.5
_ROLL_GAP = 0.02
_SHOWN_ROLLS = 3
_WEEK_NS = 7 * 86_400 * 10**9


def _list(items: Sequence[str], count: int) -> str:
    more = f"; and {count - len(items):,} more" if count > len(items) else ""
    return "; ".join(items) + more


def _bar(tape: Tape, index: int, tick: Fraction) -> str:
    values = (float(int(column[index]) * tick) for column in tape.ticks)
    prices = ", ".join(f"{n} {v:g}" for n, v in zip(("o", "h", "l", "c"), values, strict=True))
    return f"{eastern_text(int(tape.ts[index]))} row {int(tape.row[index]):,} ({prices})"


def check_rows_order(tape: Tape, name: str) -> None:
    """Raises BarsError where a month's times repeat or go back."""
    for code in range(len(tape.months)):
        mine = slice(None) if len(tape.months) == 1 else tape.code == code
        ts, rows = tape.ts[mine], tape.row[mine]
        steps = np.diff(ts)
        if steps.min(initial=1) > 0:
            continue
        for bad, what in ((steps < 0, "out of order"), (steps == 0, "duplicate times")):
            if not bad.any():
                continue
            index = np.flatnonzero(bad)
            places = [
                f"{eastern_text(int(ts[i + 1]))} row {int(rows[i + 1]):,}"
                + (f" after {eastern_text(int(ts[i]))}" if steps[i] < 0 else "")
                for i in index[:5]
            ]
            month = f" of {tape.months[code]}" if tape.months[code] else ""
            advice = (
                "Sort the file by time and look why it was not"
                if what == "out of order"
                else "Each time may have one bar; two exports may be joined, or several "
                "instruments mixed (name their column with --column symbol=NAME)"
            )
            raise BarsError(
                f"{name}: {what} in {len(index):,} of {len(ts):,} bars{month}; first at "
                f"{_list(places, len(index))}. {advice}"
            )


def check_tape(
    tape: Tape,
    rolls: tuple[Roll, ...],
    contract: Contract,
    bar_ns: int,
    name: str,
    stamp: str,
    warnings: list[str],
) -> None:
    """Checks a selected tape; adds what is odd but possible to `warnings`.

    Raises:
        BarsError: the tape shows what no market does.
    """
    tick = Fraction(contract.tick_size)
    _check_volume(tape, name, warnings)
    _check_jumps(tape, rolls, tick, name, warnings)
    _check_wicks(tape, tick, name, warnings)
    _check_copies(tape, tick, name)
    _check_roll_gaps(tape, rolls, tick, contract, name, warnings)
    _check_roll_times(tape, rolls, contract, warnings)
    if contract.exchange in _GLOBEX:
        _check_closed(tape, tick, bar_ns, name, stamp, warnings)


def _check_roll_times(
    tape: Tape, rolls: tuple[Roll, ...], contract: Contract, warnings: list[str]
) -> None:
    """Warns of months that change inside a session, where a position would gain or lose the gap."""
    if not rolls:
        return
    calendar = load_calendar(contract.calendar)
    sessions = calendar.sessions(int(tape.ts[0]), int(tape.ts[-1]) + _WEEK_NS)
    first = np.array([roll.ts for roll in rolls], dtype=np.int64)
    before = tape.ts[np.maximum(np.searchsorted(tape.ts, first) - 1, 0)]
    session = sessions.locate(first)
    inside = np.flatnonzero((session >= 0) & (session == sessions.locate(before)))
    if len(inside):
        shown = [
            f"{rolls[i].before} to {rolls[i].after} at {eastern_text(rolls[i].ts)}"
            for i in inside[:_SHOWN_ROLLS]
        ]
        warnings.append(
            f"the contract month changes inside a session in {len(inside)} of {len(rolls)} rolls: "
            f"{_list(shown, len(inside))}. A position held there gains or loses the difference of "
            "the months, which nobody can trade; leave these days out with --drop-day, or take the "
            "months apart by --roll calendar from a file that holds both"
        )


def _check_volume(tape: Tape, name: str, warnings: list[str]) -> None:
    if not (tape.volume > 0).any():
        if (tape.volume == 0).any():
            warnings.append("volume is 0 in every bar; it is taken as not given")
            tape.volume = np.full(len(tape), -1, dtype=np.int64)
        else:
            warnings.append("the file has no volume")
        return
    filler = (tape.volume == 0) & (tape.ticks[1] == tape.ticks[2])
    share = float(filler.mean())
    if share > _FILLER_SHARE:
        first = np.flatnonzero(filler)[:5]
        places = [eastern_text(int(tape.ts[i])) for i in first]
        raise BarsError(
            f"{name}: {int(filler.sum()):,} of {len(tape):,} bars ({share:.0%}) have volume 0 and "
            f"one price; first at {_list(places, int(filler.sum()))}. These are filler between the "
            "trades of a month that hardly trades (a back month?). Export the front month, without "
            "filled minutes"
        )
    if share > 0.01:
        warnings.append(f"{int(filler.sum()):,} bars ({share:.1%}) have volume 0 and one price")


def _check_jumps(
    tape: Tape, rolls: tuple[Roll, ...], tick: Fraction, name: str, warnings: list[str]
) -> None:
    close, opened = tape.ticks[3], tape.ticks[0]
    floor = max(int(np.median(close[:: max(len(close) // 10_000, 1)])) // 200, 1)
    gap = opened[1:] - close[:-1]
    lowest = max(int(tape.ticks[2].min()), floor)
    widest = int((tape.ticks[1] - tape.ticks[2]).max(initial=0))
    if max(int(gap.max(initial=0)), -int(gap.min(initial=0)), widest) < _JUMP * lowest:
        return
    before = np.maximum(close[:-1], floor).astype(np.float64)
    ratio = np.maximum(opened[1:], floor) / before
    is_roll = tape.code[1:] != tape.code[:-1]
    far = (ratio >= _FACTOR) | (ratio <= 1 / _FACTOR)
    inside = tape.ticks[1] > _FACTOR * np.maximum(tape.ticks[2], floor)
    bad = np.flatnonzero(np.append(False, far) | inside)
    if len(bad):
        places = [_bar(tape, int(i), tick) for i in bad[:5]]
        raise BarsError(
            f"{name}: the price jumps by a factor of {_FACTOR:g} or more in {len(bad):,} bars; "
            f"first at {_list(places, len(bad))}. A decimal point is misplaced, or two "
            "instruments are mixed; correct the source or drop the day with --drop-day"
        )
    odd = (np.abs(ratio - 1) > _JUMP) & ~is_roll & (np.diff(tape.ts) < _WEEK_NS)
    if odd.any():
        index = np.flatnonzero(odd) + 1
        places = [_bar(tape, int(i), tick) for i in index[:3]]
        warnings.append(
            f"{len(index):,} jumps of more than {_JUMP:.0%} from one bar to the next; first at "
            f"{_list(places, len(index))}"
        )


def _check_wicks(tape: Tape, tick: Fraction, name: str, warnings: list[str]) -> None:
    """Refuses highs and lows that nothing around confirms; warns of those that may be real."""
    wicks = find_wicks(*tape.ticks)
    bad = wicks.index[wicks.is_absurd]
    if len(bad):
        days = np.unique(trade_date(tape.ts[bad]))
        drops = " ".join(f"--drop-day {day_text(int(day))}" for day in days[:20])
        places = [_bar(tape, int(i), tick) for i in bad[:5]]
        raise BarsError(
            f"{name}: the high or low lies more than {ABSURD_SHARE:.0%} of the price and "
            f"{ABSURD_RANGES:g} times the ranges of the bars beside it away from every price "
            f"around it in {len(bad):,} of {len(tape):,} bars; first at "
            f"{_list(places, len(bad))}. No market does that between quiet bars: a bad print, or a "
            "wrong digit. Bars are never repaired; take "
            f"another source, or drop the {'days' if len(days) > 1 else 'day'} with {drops}"
            + (f" and {len(days) - 20} more" if len(days) > 20 else "")
        )
    if len(wicks.index):
        places = [_bar(tape, int(i), tick) for i in wicks.index[:3]]
        warnings.append(
            f"the high or low stands out from every price around it in {len(wicks.index):,} of "
            f"{len(tape):,} bars (data check lists them); first at "
            f"{_list(places, len(wicks.index))}"
        )


def _check_copies(tape: Tape, tick: Fraction, name: str) -> None:
    """Refuses a stretch of bars that stands in the tape twice, bar for bar."""
    n_bars = len(tape)
    if n_bars < 4 * _COPY_BARS:
        return
    mixed = np.zeros(n_bars, dtype=np.uint64)
    columns: list[NDArray[Any]] = [*tape.ticks, tape.volume]
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    moves = np.append(0, np.cumsum(np.diff(tape.ticks[3]) != 0))
    starts = np.flatnonzero((mixed[: n_bars - _COPY_BARS] & np.uint64(7)) == 0)
    lively = moves[starts + _COPY_BARS] - moves[starts] >= (2 * _COPY_BARS) // 3
    starts = starts[lively]
    window = np.zeros(len(starts), dtype=np.uint64)
    for offset in range(_COPY_BARS):
        window = window * np.uint64(0x100000001B3) + mixed[starts + offset]
    order = np.argsort(window, kind="stable")
    same = np.flatnonzero(window[order][1:] == window[order][:-1])
    if not len(same):
        return
    first = starts[order[same]]
    second = starts[order[same + 1]]
    pick = int(second.argmin())
    a, b = int(first[pick]), int(second[pick])
    length = 0
    while b + length < n_bars and mixed[a + length] == mixed[b + length]:
        length += 1
    day = day_text(int(trade_date(tape.ts[b : b + 1])[0]))
    raise BarsError(
        f"{name}: {length:,} bars from {_bar(tape, b, tick)} repeat, bar for bar, those from "
        f"{_bar(tape, a, tick)}. Hours of a wrong day were pasted in; take another source, or "
        f"drop the day with --drop-day {day}"
    )


def _check_roll_gaps(
    tape: Tape,
    rolls: tuple[Roll, ...],
    tick: Fraction,
    contract: Contract,
    name: str,
    warnings: list[str],
) -> None:
    """Refuses prices that leap at a roll far beyond what days and months around it do."""
    days = trade_date(tape.ts)
    starts = np.append(0, np.flatnonzero(np.diff(days)) + 1)
    ranges = np.maximum.reduceat(tape.ticks[1], starts) - np.minimum.reduceat(tape.ticks[2], starts)
    bad = []
    for roll in rolls:
        index = int(np.searchsorted(tape.ts, roll.ts))
        last = int(tape.ticks[3][index - 1])
        gap = int(tape.ticks[0][index]) - last
        if tape.ts[index] - tape.ts[index - 1] > _WEEK_NS:
            warnings.append(
                f"{roll.before} ends {eastern_text(int(tape.ts[index - 1]))} and {roll.after} "
                f"begins {eastern_text(roll.ts)}: more than a week without bars at the roll"
            )
            continue
        session = int(np.searchsorted(starts, index, side="right")) - 1
        near = ranges[max(session - 5, 0) : session + 5]
        if abs(gap) > _ROLL_GAP * abs(last) and abs(gap) > 2.5 * float(np.median(near)):
            bad.append(
                f"{roll.before} to {roll.after} at {eastern_text(roll.ts)} "
                f"({float(last * tick):g} to {float((last + gap) * tick):g})"
            )
    if bad:
        raise BarsError(
            f"{name}: the price leaps at {len(bad)} of {len(rolls)} rolls by more than 2 % and "
            f"more than 2.5 days' ranges: {_list(bad[:5], len(bad))}. Neighboring months of "
            f"{contract.symbol} do not lie that far apart; a back-adjustment was applied wrongly. "
            "Export unadjusted months and adjust with --adjust"
        )


def _check_closed(
    tape: Tape, tick: Fraction, bar_ns: int, name: str, stamp: str, warnings: list[str]
) -> None:
    """Refuses bars in the daily break or at the weekend: a wrong zone, stamp, or mixed clocks."""
    clock = session_ns(tape.ts)
    weekday = (trade_date(tape.ts).astype(np.int64) + 3) % 7
    closed = (clock >= _BREAK_NS) | (weekday >= 5)
    closed &= ~((tape.ts < _EQUITY_BREAK_ENDED_NS) & (clock < _BREAK_NS + _OLD_EXTRA_NS)
                & (clock >= _BREAK_NS) & (weekday < 5))  # fmt: skip
    if not closed.any():
        return
    usual = float(np.median(tape.volume))
    lone = closed & (clock - _BREAK_NS < max(bar_ns, MINUTE_NS)) & (clock >= _BREAK_NS)
    lone &= (tape.volume >= 0) & (tape.volume < usual)
    n_lone, n_closed = int(lone.sum()), int(closed.sum())
    n_days = len(np.unique(trade_date(tape.ts)))
    if n_lone == n_closed and 10 * n_lone <= n_days:
        places = [eastern_text(int(t)) for t in tape.ts[lone][:3]]
        warnings.append(
            f"{n_lone:,} late prints with little volume in the first minutes of the daily break: "
            f"{_list(places, n_lone)}"
        )
        return
    index = np.flatnonzero(closed)
    places = [_bar(tape, int(i), tick) for i in index[:5]]
    days = np.unique(trade_date(tape.ts[closed]))
    is_weekend = bool(((days + 3) % 7 >= 5).all())
    if len(days) <= 20 and (is_weekend or 2 * len(days) <= n_days + 1):
        drops = " ".join(f"--drop-day {day_text(int(day))}" for day in days)
        shift = (
            "If only part of the file is affected, its zone shifts inside the file; take another "
            f"source, or drop the days with {drops}"
        )
    else:
        shift = "The zone or the stamp is not what the file uses"
    raise BarsError(
        f"{name}: {n_closed:,} of {len(tape):,} bars lie in the daily break (17:00-18:00 ET) or "
        f"the weekend, on {len(days)} of {n_days} trade dates; first at "
        f"{_list(places, n_closed)}. Check --tz and --stamp (read as {stamp}). {shift}"
    )


def stamp_hint(source: Source, zone: str | None) -> str:
    """Says what the first rows suggest about open or close stamps, from the edges of sessions."""
    first = next(iter(source.chunks()), None)
    if first is None:
        return ""
    ts: NDArray[np.int64] = first.time[~first.is_unread]
    if zone is not None:
        ts, _ = local_to_utc(ts, zone)
    if not len(ts) or ts.min() < 631_152_000 * 10**9 or ts.max() > 4_000_000_000 * 10**9:
        return ""
    clock = session_ns(ts)
    opens, closes = int((clock == 0).sum()), int((clock == _BREAK_NS).sum())
    if opens == closes:
        return ""
    looks = "open" if opens > closes else "close"
    return (
        f" The first rows look {looks}-stamped ({opens} at 18:00 ET, when sessions begin, and "
        f"{closes} at 17:00 ET, when they end)."
    )
