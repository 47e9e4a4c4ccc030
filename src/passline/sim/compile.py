"""Turns bars, a rulebook and contracts into the integer records that the simulator walks.

Everything here is NumPy and runs once. What the agent may know of the clock stands in `Clock`; what
only the mechanics may know (which bar is the last before flat-by) stands in the tape's flags.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import SimulationError
from passline.market.bars import Bars
from passline.market.calendar import Sessions, load_calendar
from passline.market.clock import DAY_NS, MINUTE_NS, eastern_offset_ns, eastern_to_utc_ns
from passline.market.contract import Contract
from passline.rulebook.model import Rulebook
from passline.sim.layout import (
    NEVER,
    BarFlag,
    LimitKind,
    Markets,
    PathRule,
    Rules,
    Tape,
    TargetTest,
    TrailKind,
)

__all__ = [
    "CompiledTape",
    "Costs",
    "check_range",
    "compile_markets",
    "compile_rules",
    "compile_tape",
    "flat_by_ns",
    "join_tapes",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

N_TIERS = 8
"""Tiers of every compiled rulebook; unused ones are never reached."""
SMALLEST = -(2**31)
TO_MIDNIGHT_NS = 6 * 60 * MINUTE_NS


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one market that replace the rulebook's and the contract's.

    Attributes:
        commission_mills: per contract and side; None: the rulebook's, or else the contract's.
        slippage_ticks: at every market and stop fill; None: the contract's.
    """

    commission_mills: int | None = None
    slippage_ticks: int | None = None


@dataclass(frozen=True, kw_only=True)
class CompiledTape:
    """A tape and what stands beside each of its bars.

    Attributes:
        tape: what the simulator walks; NumPy int32 [B].
        minutes_to_flat: from the bar's close to flat-by of its session, by the clock; 0 from then
            on and outside sessions; int32 [B].
        session_minutes: from the open of the bar's session to its flat-by, by the clock; int32 [B].
        session: index of the bar's session, rising; int32 [B].
        ts: open time, UTC ns; int64 [B].
        market: index of the market; int32 [B].
    """

    tape: Tape
    minutes_to_flat: I32
    session_minutes: I32
    session: I32
    ts: I64
    market: I32


def flat_by_ns(sessions: Sessions, flat_by_minute: int) -> I64:
    """Returns the instant by which each session's positions must be closed, UTC ns [S].

    Args:
        sessions: of the contract's calendar.
        flat_by_minute: the rulebook's time of day, minutes from 18:00 ET of the evening before.
    """
    close_local = sessions.close_ns + eastern_offset_ns(sessions.close_ns)
    midnight = close_local // DAY_NS * DAY_NS
    wall = midnight - TO_MIDNIGHT_NS + flat_by_minute * MINUTE_NS
    flat_by = eastern_to_utc_ns(wall)
    early = sessions.close_ns - MINUTE_NS
    return np.where(
        sessions.is_early, np.minimum(flat_by, early), np.minimum(flat_by, sessions.close_ns)
    )


def compile_tape(bars: Bars, rulebook: Rulebook) -> CompiledTape:
    """Lays a rulebook's clock over bars.

    Args:
        bars: one market.
        rulebook: its flat-by time and entry window.

    Raises:
        SimulationError: if there are no bars, or none lies in a session.
    """
    if len(bars) < 2:
        raise SimulationError(
            f"{bars.contract.symbol}: {len(bars)} bars; a simulation needs at least 2."
        )
    ts, size = bars.ts, bars.bar_ns
    sessions = load_calendar(bars.contract.calendar).sessions(int(ts[0]), int(ts[-1]) + DAY_NS * 7)
    located = sessions.locate(ts)
    in_session = located >= 0
    following = np.searchsorted(sessions.close_ns, ts, side="right").astype(np.int32)
    session = np.where(in_session, located, following)
    limits = flat_by_ns(sessions, rulebook.clock.flat_by_minute)[session]
    ends = ts + size
    is_tradable = in_session & (ends <= limits)
    if not is_tradable.any():
        raise SimulationError(
            f"{bars.contract.symbol}: none of {len(bars):,} bars lies in a session of calendar "
            f"'{bars.contract.calendar}' and ends by the rulebook's flat-by time "
            f"{rulebook.clock.flat_by:%H:%M} ET. Check the time zone the bars were imported with, "
            "and that they are shorter than the session."
        )
    no_entry = rulebook.clock.no_entry_minutes * MINUTE_NS
    day = sessions.trading_day[session].astype(np.int32)
    is_flat = last_of_group(session, is_tradable)
    flags = np.zeros(len(ts), np.int32)
    flags[first_of_group(session, in_session)] |= BarFlag.SESSION_START
    flags[is_tradable] |= BarFlag.TRADABLE
    flags[is_tradable & (ends + size <= limits - no_entry)] |= BarFlag.CAN_ENTER
    flags[is_flat] |= BarFlag.FLAT
    left = np.where(in_session, np.maximum(limits - ends, 0), 0)
    flags[left <= max(no_entry + size, 2 * size - MINUTE_NS)] |= BarFlag.CLOSING
    flags[day_close_bars(day, session, is_flat)] |= BarFlag.DAY_CLOSE
    next_day = next_days(day, (flags & BarFlag.DAY_CLOSE) != 0)
    lengths = (limits - sessions.open_ns[session]) // MINUTE_NS
    return CompiledTape(
        tape=Tape(bars.open, bars.high, bars.low, bars.close, flags, day, next_day),
        minutes_to_flat=(left // MINUTE_NS).astype(np.int32),
        session_minutes=lengths.astype(np.int32),
        session=session.astype(np.int32),
        ts=ts,
        market=np.zeros(len(ts), np.int32),
    )


def next_days(day: I32, is_day_close: NDArray[np.bool_]) -> I32:
    """Returns the trading day of the next bar, of the next other day on DAY_CLOSE bars; int32 [B].

    NEVER after the last bar.
    """
    following = np.r_[day[1:], np.int32(NEVER)].astype(np.int32)
    after = np.searchsorted(day, day, side="right")
    other = np.where(after < len(day), day[np.minimum(after, len(day) - 1)], following)
    return np.where(is_day_close, other, following).astype(np.int32)


def first_of_group(group: I32, where: NDArray[np.bool_]) -> I64:
    """Returns the first element of each (rising) group for which `where` holds; int64 [groups]."""
    index = np.flatnonzero(where)
    return index[np.r_[True, group[index][1:] != group[index][:-1]]]


def last_of_group(group: I32, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tells which bar is the last of its (rising) group for which `where` holds; bool [B]."""
    index = np.flatnonzero(where)
    chosen = group[index]
    is_last = np.r_[chosen[1:] != chosen[:-1], True]
    out = np.zeros(len(group), bool)
    out[index[is_last]] = True
    return out


def day_close_bars(day: I32, session: I32, is_flat: NDArray[np.bool_]) -> I64:
    """Returns the bar at which each trading day is settled, int64 [days].

    That is the FLAT bar of the day's last session, or the day's last bar if it has none.
    """
    last = np.flatnonzero(np.r_[day[1:] != day[:-1], True])
    flat = np.flatnonzero(is_flat)
    if not len(flat):
        return last
    candidate = flat[np.maximum(np.searchsorted(flat, last, side="right") - 1, 0)]
    fits = (candidate <= last) & (session[candidate] == session[last])
    return np.where(fits, candidate, last)


def join_tapes(tapes: Sequence[CompiledTape]) -> CompiledTape:
    """Lays several markets one after the other; each keeps its own end (next_day = NEVER)."""
    return CompiledTape(
        tape=Tape(
            *(np.concatenate(columns) for columns in zip(*(t.tape for t in tapes), strict=True))
        ),
        minutes_to_flat=np.concatenate([t.minutes_to_flat for t in tapes]),
        session_minutes=np.concatenate([t.session_minutes for t in tapes]),
        session=np.concatenate([t.session for t in tapes]),
        ts=np.concatenate([t.ts for t in tapes]),
        market=np.concatenate([np.full(len(t.ts), i, np.int32) for i, t in enumerate(tapes)]),
    )


def compile_markets(
    contracts: Sequence[Contract], rulebook: Rulebook, costs: Costs | None = None
) -> Markets:
    """Returns the constants of each market: the firm's commission, or else the contract's [M]."""
    costs = costs or Costs()
    commission, slippage, breakeven = [], [], []
    for contract in contracts:
        side = costs.commission_mills
        if side is None:
            side = rulebook.commission_mills(contract.symbol)
        if side is None:
            side = contract.commission_mills
        slip = contract.slippage_ticks if costs.slippage_ticks is None else costs.slippage_ticks
        commission.append(side)
        slippage.append(slip)
        breakeven.append(-(-2 * side // contract.tick_mills) + slip)

    def column(values: Sequence[int]) -> I32:
        return np.asarray(values, np.int32)

    return Markets(
        tick_mills=column([c.tick_mills for c in contracts]),
        commission_mills=column(commission),
        slippage_ticks=column(slippage),
        size_units=column([c.size_units for c in contracts]),
        breakeven_ticks=column(breakeven),
    )


def compile_rules(
    rulebook: Rulebook, *, path_rule: PathRule = PathRule.WORST, target_through: int = 1
) -> Rules:
    """Returns a rulebook as the simulator's numbers.

    Only what the account lives or dies by: payouts, fees, news and recorded-only rules stay with
    the rulebook.

    Args:
        rulebook: the firm's demands.
        path_rule: which of the two paths inside a bar is kept.
        target_through: ticks beyond a target's limit price that fill it, 1 or 0.

    Raises:
        SimulationError: if the book has more tiers than the simulator holds, or a limit on the
            open loss of a round trip that ends the position.
    """
    tiers = rulebook.tiers
    if len(tiers) > N_TIERS:
        raise SimulationError(
            f"{rulebook.id}: {len(tiers)} tiers; the simulator holds at most {N_TIERS}."
        )
    if rulebook.orders.mae is not None and rulebook.orders.mae.is_enforced:
        raise SimulationError(
            f"{rulebook.id}: orders.mae is enforced; the simulator ends no position by the open "
            "loss of one round trip. Set enforced = false to play without it; passline audit "
            "records what crosses it."
        )
    pad = N_TIERS - len(tiers)
    profits = [SMALLEST, *(t.from_profit_mills for t in tiers[1:]), *[NEVER] * pad]
    units = [t.size_units for t in tiers] + [tiers[-1].size_units] * pad
    flat = rulebook.daily_limit.amount_mills
    limits = [
        _or_never(t.daily_limit_mills if t.daily_limit_mills is not None else flat) for t in tiers
    ]
    limits += [limits[-1]] * pad
    passes = [c for c in rulebook.consistency if c.scope == "pass"]
    best = passes[0] if passes else None
    target, drawdown = rulebook.target, rulebook.drawdown
    day_profit = rulebook.days.day_profit_mills

    def number(value: int) -> I32:
        return np.asarray(value, np.int32)

    return Rules(
        start_balance=number(rulebook.start_balance_mills),
        allowance=number(drawdown.allowance_mills),
        trail_kind=number(TRAILS[drawdown.trail]),
        lock_trigger=number(_or_never(drawdown.lock_trigger_mills)),
        lock_level=number(_or_never(drawdown.lock_level_mills)),
        target_balance=number(NEVER if target is None else target.balance_mills),
        target_test=number(
            TargetTest.TOUCH
            if target is not None and target.test == "touch"
            else TargetTest.DAY_CLOSE
        ),
        limit_kind=number(LIMITS[rulebook.daily_limit.kind]),
        tier_profit=np.asarray(profits, np.int32),
        tier_units=np.asarray(units, np.int32),
        tier_daily_limit=np.asarray(limits, np.int32),
        tier_latched=number(int(rulebook.tiers_latched)),
        min_days=number(rulebook.days.min_days),
        day_profit=number(SMALLEST if day_profit is None else day_profit),
        best_day_num=number(best.best_day_num if best else 0),
        best_day_den=number(best.best_day_den if best else 0),
        best_day_strict=number(int(best.is_strict) if best else 0),
        time_limit_days=number(_or_never(rulebook.time_limit_days)),
        late_flat_fails=number(int(rulebook.clock.late_flat == "fail")),
        max_stop_per_target=number(rulebook.orders.max_stop_per_target or 0),
        path_rule=number(path_rule),
        target_through=number(target_through),
    )


TRAILS = {
    "static": TrailKind.STATIC,
    "intraday": TrailKind.INTRADAY,
    "end_of_day": TrailKind.END_OF_DAY,
}
LIMITS = {"none": LimitKind.NONE, "soft": LimitKind.SOFT, "hard": LimitKind.HARD}


def _or_never(value: int | None) -> int:
    return NEVER if value is None else value


def check_range(tape: CompiledTape, markets: Markets, rulebook: Rulebook) -> None:
    """Refuses data and sizes whose money could leave int32 mills.

    The largest position of the book is held through the widest session of each market.

    Raises:
        SimulationError: naming the market and the largest position that would fit.
    """
    largest_units = max(t.size_units for t in rulebook.tiers)
    room = 2**31 - 1 - 2 * max(abs(rulebook.start_balance_mills), rulebook.drawdown.allowance_mills)
    edges = np.flatnonzero(np.r_[True, np.diff(tape.session) != 0])
    high = np.maximum.reduceat(np.asarray(tape.tape.high, np.int64), edges)
    low = np.minimum.reduceat(np.asarray(tape.tape.low, np.int64), edges)
    for market in range(len(markets.tick_mills)):
        mine = tape.market[edges] == market
        widest = int((high - low)[mine].max()) + 1
        per_contract = widest * int(markets.tick_mills[market])
        largest = largest_units // int(markets.size_units[market])
        if largest * per_contract > room:
            raise SimulationError(
                f"{rulebook.id}: {largest} contracts over the widest session of market {market} "
                f"({widest:,} ticks) could move {largest * per_contract / 1000:,.0f} USD, more "
                f"than the {room / 1000:,.0f} USD the simulator counts exactly. Drop that day, or "
                f"use a smaller book (at most {room // per_contract} contracts)."
            )
