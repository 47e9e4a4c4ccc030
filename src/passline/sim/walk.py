"""One account over a whole tape under a short script of orders, exactly and quickly.

Bars in which nothing can happen are passed in one go, with NumPy; all others are walked by
`passline.sim.reference`. Which bars those are is decided cautiously, so that the account is the
same as if every bar had been walked; a test compares the two. Batches belong on the compiled
simulator.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from passline.sim.layout import (
    NEVER,
    NO_PRICE,
    BarFlag,
    DoneReason,
    Events,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    Outcome,
    Rules,
    State,
    Tape,
    TargetTest,
    TrailKind,
)
from passline.sim.reference import Prices, start, step

__all__ = ["HOLD", "Step", "has_ended", "walk"]

I64 = NDArray[np.int64]

HOLD = Orders(int(OrderKind.HOLD), 0, 0, 0)
"""The order that asks for nothing."""
WINDOW = 64
"""Bars looked at first; each further look in the same stretch is four times as long."""


class Step(NamedTuple):
    """One bar that was walked: the account at its close, what happened in it, and the order."""

    state: State
    events: Events
    order: Orders


class Column:
    """An array that gives plain Python ints."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __getitem__(self, index: int) -> int:
        return int(self.values[index])


def has_ended(state: State) -> bool:
    """Tells whether the account no longer moves."""
    return bool(state.outcome != Outcome.OPEN or state.done_reason != DoneReason.NONE)


def walk(
    tape: Tape,
    markets: Markets,
    rules: Rules,
    orders: Mapping[int, Orders],
    *,
    bar: int,
    market: int = 0,
    inside: Callable[[int], Sequence[Prices]] | None = None,
    skips: bool = True,
) -> Iterator[Step]:
    """Walks an account from the close of `bar` until it has ended, at the latest with the data.

    Args:
        tape: NumPy arrays [B].
        markets: constants, NumPy [M].
        rules: the rulebook, NumPy.
        orders: by the bar at whose close they were decided.
        bar: where the account starts; not the last of its market.
        market: index into markets.
        inside: returns the seconds of a bar, none if they are not known; None: no bar has any.
        skips: pass quiet bars in one go.

    Yields:
        Every bar that was walked by itself, among them each with an order, an exit, the first of a
        trading day and the one at which it is settled.
    """
    columns = Tape(*(Column(column) for column in tape))
    plain_markets = Markets(*(column.tolist() for column in markets))
    plain_rules = Rules(*(np.asarray(field).tolist() for field in rules))
    state = start(columns, plain_markets, plain_rules, bar=bar, market=market)
    stops = _stops(tape, orders) if skips else None
    window = WINDOW
    while not has_ended(state):
        before = state.bar
        if stops is not None:
            state = _pass_quiet(tape, plain_markets, plain_rules, state, stops, window)
        window = window * 4 if state.bar - before == window else WINDOW
        if window > WINDOW:
            continue
        order = orders.get(state.bar, HOLD)
        seconds = inside(state.bar + 1) if inside is not None and _may_trade(state, order) else ()
        state, events = step(columns, plain_markets, plain_rules, state, order, inside=seconds)
        yield Step(state, events, order)


def _may_trade(state: State, order: Orders) -> bool:
    """Tells whether a position can be open in the next bar."""
    return bool(state.qty != 0 or order.kind in (OrderKind.LONG, OrderKind.SHORT))


def _stops(tape: Tape, orders: Mapping[int, Orders]) -> I64:
    """Returns the bars that are walked whatever the prices do, rising; int64 [n].

    Those are the bars after an order, the first of each day, FLAT, DAY_CLOSE and the last.
    """
    flags, day = np.asarray(tape.flags), np.asarray(tape.day)
    is_stop = (flags & (BarFlag.FLAT | BarFlag.DAY_CLOSE)) != 0
    is_stop |= np.asarray(tape.next_day) == NEVER
    is_stop[1:] |= day[1:] != day[:-1]
    for bar in orders:
        is_stop[min(bar + 1, len(is_stop) - 1)] = True
    return np.flatnonzero(is_stop)


def _pass_quiet(
    tape: Tape, markets: Markets, rules: Rules, state: State, stops: I64, window: int
) -> State:
    """Takes the account to the close of the last bar of the quiet ones that follow.

    A flat account is quiet up to the next stop, a position up to the first bar whose range may
    meet one of its levels, at most `window` bars.
    """
    first = state.bar + 1
    following = int(np.searchsorted(stops, first))
    end = int(stops[following]) if following < len(stops) else first
    if state.qty == 0:
        return state._replace(bar=max(end, first) - 1)
    end = min(end, first + window)
    if end <= first:
        return state
    return _carry(tape, markets, rules, state, first, end)


def _carry(tape: Tape, markets: Markets, rules: Rules, state: State, first: int, end: int) -> State:
    """Carries an open position through the quiet bars at the front of [first, end)."""
    side = 1 if state.qty > 0 else -1
    high, low = tape.high[first:end].astype(np.int64), tape.low[first:end].astype(np.int64)
    best, worst = (high, low) if side > 0 else (low, high)
    per_tick = state.qty * markets.tick_mills[state.market]
    gain, loss = per_tick * (best - state.entry), per_tick * (worst - state.entry)
    stop = _stop_in_force(tape, state, first, end, side)
    is_eventful = _meets_order(rules, state, best, worst, stop, side)
    is_eventful |= _meets_rule(markets, rules, state, state.balance + gain, state.balance + loss)
    n_quiet = int(np.argmax(is_eventful)) if is_eventful.any() else len(is_eventful)
    if n_quiet == 0:
        return state
    last = first + n_quiet - 1
    if state.is_trailing:
        close = int(tape.close[last]) - side * state.trail_ticks
        state = state._replace(stop=side * max(side * int(stop[n_quiet - 1]), side * close))
    if rules.trail_kind == TrailKind.INTRADAY:
        peak = max(state.peak, state.balance + int(gain[:n_quiet].max()))
        floor = state.floor if state.is_locked else max(state.floor, peak - rules.allowance)
        state = state._replace(peak=peak, floor=floor)
    return state._replace(
        bar=last,
        trip_low=min(state.trip_low, int(loss[:n_quiet].min())),
        trip_high=max(state.trip_high, int(gain[:n_quiet].max())),
    )


def _stop_in_force(tape: Tape, state: State, first: int, end: int, side: int) -> I64:
    """Returns the stop price that is tested in each bar of [first, end), NO_PRICE if none."""
    stop = np.full(end - first, state.stop, np.int64)
    if state.is_trailing:
        behind = side * tape.close[first : end - 1].astype(np.int64) - state.trail_ticks
        stop[1:] = side * np.maximum(np.maximum.accumulate(behind), side * state.stop)
    return stop


def _meets_order(
    rules: Rules, state: State, best: I64, worst: I64, stop: I64, side: int
) -> NDArray[np.bool_]:
    """Tells in which bars the stop or the target is met; bool [n]."""
    meets = np.zeros(len(best), bool)
    if state.stop != NO_PRICE:
        meets |= side * (worst - stop) <= 0
    if state.target != NO_PRICE:
        meets |= side * (best - state.target) >= rules.target_through
    return meets


def _meets_rule(
    markets: Markets, rules: Rules, state: State, highest: I64, lowest: I64
) -> NDArray[np.bool_]:
    """Tells in which bars a rule of the account may be met.

    Args:
        markets: constants.
        rules: the rulebook.
        state: at the close before.
        highest: equity at the best price of each bar, mills [n].
        lowest: equity at its worst price, mills [n].
    """
    floor: Any = state.floor
    meets = np.zeros(len(highest), bool)
    if rules.trail_kind == TrailKind.INTRADAY:
        peak = np.maximum(np.maximum.accumulate(highest), state.peak)
        if not state.is_locked:
            meets |= peak >= rules.lock_trigger
            floor = np.maximum(floor, peak - rules.allowance)
    meets |= lowest <= floor
    if rules.limit_kind != LimitKind.NONE and state.daily_limit != NEVER:
        meets |= lowest <= state.day_balance - state.daily_limit
    if rules.target_test == TargetTest.TOUCH and rules.target_balance != NEVER:
        tick_mills = markets.tick_mills[state.market]
        slip = markets.slippage_ticks[state.market] * tick_mills
        cost = abs(state.qty) * (slip + markets.commission_mills[state.market])
        meets |= highest - cost >= rules.target_balance
    return meets
