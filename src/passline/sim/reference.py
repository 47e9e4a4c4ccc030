"""The account simulator in plain Python: one account, one bar at a time, every price walked.

Written from docs/fills.md alone and sharing nothing but passline.sim.layout with the compiled
simulator, which a test compares with it number by number. It is slow and meant to be read:
batches of accounts belong on the compiled one, a single account may be walked here. Values are
plain Python ints and bools of any size, records are those of the layout with scalars where it says
[L].
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from passline.sim.layout import (
    NEVER,
    NO_PRICE,
    BarFlag,
    DoneReason,
    Events,
    FillReason,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    Outcome,
    PathRule,
    Reject,
    Rules,
    State,
    Tape,
    TargetTest,
    TrailKind,
)

__all__ = ["Prices", "start", "step"]

Prices = tuple[int, int, int, int]
"""Four prices in ticks: open, high, low and close."""

_ENTRY_SIDE = {OrderKind.LONG: 1, OrderKind.SHORT: -1}


class _Desk(NamedTuple):
    """What one account trades under: the rulebook and the constants of its contract."""

    rules: Rules
    tick_mills: int
    commission_mills: int
    slippage_ticks: int
    size_units: int
    breakeven_ticks: int


class _Account(NamedTuple):
    """An account on its way through a bar, with what has happened to it so far."""

    state: State
    events: Events


def start(tape: Tape, markets: Markets, rules: Rules, *, bar: int, market: int = 0) -> State:
    """Opens an account at the close of a bar (docs/fills.md, "The start").

    Args:
        tape: the bars, sequences of ints [B].
        markets: constants, sequences of ints [M].
        rules: the rulebook, ints and tuples of ints [K].
        bar: index of a bar that is not the last of its market.
        market: index into markets.

    Returns:
        The state of the account, scalars.
    """
    del markets
    tier = _tier_reached(rules, 0)
    return State(
        bar=bar,
        market=market,
        outcome=int(Outcome.OPEN),
        done_reason=int(DoneReason.NONE),
        balance=rules.start_balance,
        peak=rules.start_balance,
        floor=rules.start_balance - rules.allowance,
        is_locked=False,
        qty=0,
        entry=0,
        stop=NO_PRICE,
        target=NO_PRICE,
        trail_ticks=0,
        is_trailing=False,
        entry_bar=0,
        trip_balance=0,
        trip_risk=0,
        trip_low=0,
        trip_high=0,
        day=tape.day[bar],
        first_day=tape.next_day[bar],
        day_balance=rules.start_balance,
        is_locked_out=False,
        has_traded=False,
        size_units=rules.tier_units[tier],
        daily_limit=rules.tier_daily_limit[tier],
        tier=tier,
        n_days=0,
        best_day=0,
        n_trips=0,
        n_rejected=0,
        n_ambiguous=0,
        n_late_flat=0,
        commissions=0,
    )


def step(
    tape: Tape,
    markets: Markets,
    rules: Rules,
    state: State,
    order: Orders,
    *,
    inside: Sequence[Prices] = (),
) -> tuple[State, Events]:
    """Takes an account from the close of bar `state.bar` to the close of the next one.

    Args:
        tape: the bars, sequences of ints [B].
        markets: constants, sequences of ints [M].
        rules: the rulebook, ints and tuples of ints [K].
        state: the account at the close of its last bar, scalars.
        order: the order decided there, scalars.
        inside: the seconds of the next bar (open, high, low, close), which together have its open,
            high, low and close; none if they are not known.

    Returns:
        The account at the close of the next bar, and what happened on the way.
    """
    desk = _desk(markets, rules, state.market)
    if _has_ended(state):
        refused = Reject.NONE if order.kind == OrderKind.HOLD else Reject.ACCOUNT_ENDED
        equity = _equity(desk, state, tape.close[state.bar])
        return state, _nothing()._replace(reject=int(refused), equity=equity)

    reject = _refusal(tape, desk, state, order)
    account = _Account(state, _nothing()._replace(reject=int(reject)))
    if reject not in (Reject.NONE, Reject.EXPIRED):
        account = _change(account, n_rejected=state.n_rejected + 1)

    bar = state.bar + 1
    account = _turn_day(desk, account, tape.day[bar])
    if reject == Reject.NONE:
        account = _carry_out(desk, account, order, tape.open[bar], bar)
    for prices in inside or [_prices(tape, bar)]:
        account = _walk_prices(desk, account, prices)
    account = _count_ambiguous(account)
    account = _close_bar(tape, desk, account, bar)
    account = _change(account, bar=bar, day=tape.day[bar])
    equity = _equity(desk, account.state, tape.close[bar])
    return account.state, account.events._replace(equity=equity)


# Small facts.


def _desk(markets: Markets, rules: Rules, market: int) -> _Desk:
    """Picks the constants of one market."""
    return _Desk(
        rules=rules,
        tick_mills=markets.tick_mills[market],
        commission_mills=markets.commission_mills[market],
        slippage_ticks=markets.slippage_ticks[market],
        size_units=markets.size_units[market],
        breakeven_ticks=markets.breakeven_ticks[market],
    )


def _nothing() -> Events:
    """The events of a step in which nothing happens."""
    return Events(
        reject=0,
        entry_qty=0,
        entry_price=0,
        exit_qty=0,
        exit_price=0,
        exit_reason=int(FillReason.NONE),
        trip_net=0,
        trip_risk=0,
        is_ambiguous=False,
        equity=0,
        is_new_day=False,
        is_day_close=False,
    )


def _change(account: _Account, **fields: int | bool) -> _Account:
    """Replaces fields of the account's state."""
    return account._replace(state=account.state._replace(**fields))


def _tell(account: _Account, **fields: int | bool) -> _Account:
    """Replaces fields of the account's events."""
    return account._replace(events=account.events._replace(**fields))


def _has_ended(state: State) -> bool:
    """Whether the account no longer moves."""
    return bool(state.outcome != Outcome.OPEN or state.done_reason != DoneReason.NONE)


def _end(account: _Account, outcome: Outcome, reason: DoneReason) -> _Account:
    """Gives the account its outcome and the reason for it."""
    return _change(account, outcome=int(outcome), done_reason=int(reason))


def _side(qty: int) -> int:
    """1 for a long position, -1 for a short one, 0 for none."""
    return (qty > 0) - (qty < 0)


def _open_pnl(desk: _Desk, state: State, price: int) -> int:
    """Open P&L of the position at a price, mills."""
    return int(state.qty * (price - state.entry) * desk.tick_mills)


def _equity(desk: _Desk, state: State, price: int) -> int:
    """Balance plus open P&L at a price, mills."""
    return int(state.balance + _open_pnl(desk, state, price))


def _is_tighter(side: int, new: int, stop: int) -> bool:
    """Whether a new stop price lies nearer to profit than the present one."""
    return stop == NO_PRICE or side * (new - stop) > 0


def _tier_reached(rules: Rules, profit: int) -> int:
    """Index of the last tier whose profit is reached."""
    reached = 0
    for tier, tier_profit in enumerate(rules.tier_profit):
        if tier_profit != NEVER and profit >= tier_profit:
            reached = tier
    return reached


def _limit_in_force(desk: _Desk, state: State) -> bool:
    """Whether a daily loss limit holds today."""
    return bool(desk.rules.limit_kind != LimitKind.NONE and state.daily_limit != NEVER)


# Section 1: refusal.


def _refusal(tape: Tape, desk: _Desk, state: State, order: Orders) -> Reject:
    """The first reason for which the order is refused, NONE if it is accepted."""
    match order.kind:
        case OrderKind.LONG | OrderKind.SHORT:
            return _entry_refusal(tape, desk, state, order)
        case OrderKind.CLOSE | OrderKind.BREAKEVEN | OrderKind.TRAIL_ON | OrderKind.TRAIL_OFF:
            if state.qty == 0:
                return Reject.NO_POSITION
            return _management_refusal(tape, desk, state, order)
        case _:
            return Reject.NONE


def _entry_refusal(tape: Tape, desk: _Desk, state: State, order: Orders) -> Reject:
    """The first reason for which an entry is refused."""
    ratio, stop, target = desk.rules.max_stop_per_target, order.stop_ticks, order.target_ticks
    now, following = tape.flags[state.bar], tape.flags[state.bar + 1]
    reasons = (
        (order.qty < 1, Reject.BAD_QTY),
        (state.qty != 0, Reject.IN_POSITION),
        (state.is_locked_out, Reject.LOCKED_OUT),
        (order.qty * desk.size_units > state.size_units, Reject.SIZE_LIMIT),
        (not now & BarFlag.CAN_ENTER, Reject.NO_ENTRY_TIME),
        (ratio > 0 and target > 0 and (stop == 0 or stop > ratio * target), Reject.STOP_TO_TARGET),
        (following & BarFlag.SESSION_START, Reject.EXPIRED),
        (not following & BarFlag.TRADABLE, Reject.EXPIRED),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    return Reject.NONE


def _management_refusal(tape: Tape, desk: _Desk, state: State, order: Orders) -> Reject:
    """The first reason for which an order on an open position is refused."""
    if order.kind == OrderKind.BREAKEVEN:
        side = _side(state.qty)
        new = state.entry + side * desk.breakeven_ticks
        is_behind_close = side * (tape.close[state.bar] - new) > 0
        if not (_is_tighter(side, new, state.stop) and is_behind_close):
            return Reject.NOT_TIGHTER
    if order.kind == OrderKind.TRAIL_ON:
        if state.trail_ticks == 0:
            return Reject.NO_STOP
        if state.is_trailing:
            return Reject.ALREADY_TRAILING
    if order.kind == OrderKind.TRAIL_OFF and not state.is_trailing:
        return Reject.NOT_TRAILING
    return Reject.NONE


# Section 2: a new day.


def _turn_day(desk: _Desk, account: _Account, day: int) -> _Account:
    """Starts the day of the bar if it is not the account's present one."""
    state, rules = account.state, desk.rules
    if day == state.day:
        return account
    tier = _tier_reached(rules, state.balance - rules.start_balance)
    if rules.tier_latched:
        tier = max(tier, state.tier)
    account = _change(
        account,
        day_balance=state.balance,
        is_locked_out=False,
        has_traded=False,
        tier=tier,
        size_units=rules.tier_units[tier],
        daily_limit=rules.tier_daily_limit[tier],
    )
    return _tell(account, is_new_day=True)


# Section 3: the open.


def _carry_out(desk: _Desk, account: _Account, order: Orders, price: int, bar: int) -> _Account:
    """Fills or applies an accepted order at the open."""
    state = account.state
    match order.kind:
        case OrderKind.CLOSE:
            return _exit_at_market(desk, account, price, FillReason.CLOSE)
        case OrderKind.LONG | OrderKind.SHORT:
            return _enter(desk, account, order, price, bar)
        case OrderKind.BREAKEVEN:
            stop = state.entry + _side(state.qty) * desk.breakeven_ticks
            return _change(account, stop=stop)
        case OrderKind.TRAIL_ON:
            return _change(account, is_trailing=True)
        case OrderKind.TRAIL_OFF:
            return _change(account, is_trailing=False)
        case _:
            return account


def _enter(desk: _Desk, account: _Account, order: Orders, price: int, bar: int) -> _Account:
    """Opens a position with its bracket at a price, slipped."""
    state, side = account.state, _ENTRY_SIDE[order.kind]
    entry = price + side * desk.slippage_ticks
    commission = order.qty * desk.commission_mills
    account = _change(
        account,
        balance=state.balance - commission,
        commissions=state.commissions + commission,
        qty=side * order.qty,
        entry=entry,
        stop=entry - side * order.stop_ticks if order.stop_ticks else NO_PRICE,
        target=entry + side * order.target_ticks if order.target_ticks else NO_PRICE,
        trail_ticks=order.stop_ticks,
        is_trailing=False,
        entry_bar=bar,
        trip_balance=state.balance,
        trip_risk=order.qty * order.stop_ticks * desk.tick_mills,
        trip_low=0,
        trip_high=0,
        has_traded=True,
    )
    return _tell(account, entry_qty=side * order.qty, entry_price=entry)


# Section 4: inside the bar.


def _prices(tape: Tape, bar: int) -> Prices:
    """Open, high, low and close of a bar."""
    return tape.open[bar], tape.high[bar], tape.low[bar], tape.close[bar]


def _walk_prices(desk: _Desk, account: _Account, prices: Prices) -> _Account:
    """Plays both paths of a bar, or of a second, and keeps the one that the path rule names."""
    first, high, low, last = prices
    high_first = _walk_path(desk, account, (first, high, low, last))
    low_first = _walk_path(desk, account, (first, low, high, last))
    is_ambiguous = _outcome_of_path(desk, high_first, last) != _outcome_of_path(
        desk, low_first, last
    )
    kept = _kept_path(desk, high_first, low_first, last)
    return _tell(kept, is_ambiguous=account.events.is_ambiguous or is_ambiguous)


def _count_ambiguous(account: _Account) -> _Account:
    """Counts the bar if its two paths, or those of one of its seconds, ended differently."""
    n_ambiguous = account.state.n_ambiguous + account.events.is_ambiguous
    return _change(account, n_ambiguous=n_ambiguous)


def _walk_path(desk: _Desk, account: _Account, turns: Prices) -> _Account:
    """Plays the open and the three legs between four prices."""
    account = _meet_point(desk, account, turns[0])
    for begin, end in pairwise(turns):
        direction = _side(account.state.qty) * (end - begin)
        if direction < 0:
            account = _walk_against(desk, account, begin, end)
        elif direction > 0:
            account = _walk_in_favor(desk, account, begin, end)
    return account


def _at_floor(desk: _Desk, state: State, price: int) -> bool:
    """Whether equity at the price touches the floor."""
    return _equity(desk, state, price) <= int(state.floor)


def _at_limit(desk: _Desk, state: State, price: int) -> bool:
    """Whether equity at the price touches the daily loss limit."""
    loss_line = state.day_balance - state.daily_limit
    return _limit_in_force(desk, state) and _equity(desk, state, price) <= int(loss_line)


def _at_stop(desk: _Desk, state: State, price: int) -> bool:
    """Whether the price reaches the stop."""
    del desk
    return bool(state.stop != NO_PRICE and _side(state.qty) * (price - state.stop) <= 0)


def _through_target(desk: _Desk, state: State, price: int) -> bool:
    """Whether the price trades far enough through the limit order to fill it."""
    beyond = _side(state.qty) * (price - state.target)
    return bool(state.target != NO_PRICE and beyond >= desk.rules.target_through)


def _at_account_target(desk: _Desk, state: State, price: int) -> bool:
    """Whether closing at the price, slipped and with commission, reaches the account's target."""
    if desk.rules.target_test != TargetTest.TOUCH or desk.rules.target_balance == NEVER:
        return False
    slipped = price - _side(state.qty) * desk.slippage_ticks
    left = _equity(desk, state, slipped) - abs(state.qty) * desk.commission_mills
    return bool(left >= desk.rules.target_balance)


_Test = Callable[[_Desk, State, int], bool]
_AGAINST: tuple[tuple[_Test, FillReason], ...] = (
    (_at_floor, FillReason.FLOOR),
    (_at_limit, FillReason.DAILY_LIMIT),
    (_at_stop, FillReason.STOP),
)
_IN_FAVOR: tuple[tuple[_Test, FillReason], ...] = (
    (_through_target, FillReason.TARGET),
    (_at_account_target, FillReason.ACCOUNT_TARGET),
)


def _first_match(
    desk: _Desk, state: State, price: int, tests: tuple[tuple[_Test, FillReason], ...]
) -> FillReason:
    """The first rule of the list that matches at the price."""
    for test, reason in tests:
        if test(desk, state, price):
            return reason
    return FillReason.NONE


def _meet_point(desk: _Desk, account: _Account, price: int) -> _Account:
    """Holds the point rules at a price."""
    state = account.state
    if state.qty == 0:
        return account
    reason = _first_match(desk, state, price, _AGAINST + _IN_FAVOR)
    if reason == FillReason.NONE:
        return _mark_peak(desk, _mark_trip(desk, account, price), price)
    if reason == FillReason.TARGET:
        return _exit_at_limit(desk, account)
    return _exit_at_market(desk, account, price, reason)


def _walk_against(desk: _Desk, account: _Account, begin: int, end: int) -> _Account:
    """Walks a leg against the position, price by price, `begin` and `end` included."""
    direction = 1 if end > begin else -1
    for price in range(begin, end + direction, direction):
        reason = _first_match(desk, account.state, price, _AGAINST)
        if reason != FillReason.NONE:
            return _exit_at_market(desk, account, price, reason)
    return _mark_trip(desk, account, end)


def _walk_in_favor(desk: _Desk, account: _Account, begin: int, end: int) -> _Account:
    """Walks a leg in favor of the position, price by price, `begin` and `end` included."""
    direction = 1 if end > begin else -1
    for price in range(begin, end + direction, direction):
        reason = _first_match(desk, account.state, price, _IN_FAVOR)
        if reason == FillReason.TARGET:
            account = _mark_peak(desk, account, account.state.target)
            return _exit_at_limit(desk, account)
        if reason == FillReason.ACCOUNT_TARGET:
            account = _mark_peak(desk, account, price)
            return _exit_at_market(desk, account, price, reason)
    return _mark_peak(desk, _mark_trip(desk, account, end), end)


# Section 4: exits.


def _exit_at_market(desk: _Desk, account: _Account, price: int, reason: FillReason) -> _Account:
    """Closes the position at a price, slipped."""
    account = _mark_trip(desk, account, price)
    fill = price - _side(account.state.qty) * desk.slippage_ticks
    return _exit(desk, account, fill, reason)


def _exit_at_limit(desk: _Desk, account: _Account) -> _Account:
    """Closes the position at its target, which does not slip."""
    target = account.state.target
    account = _mark_trip(desk, account, target)
    return _exit(desk, account, target, FillReason.TARGET)


def _exit(desk: _Desk, account: _Account, fill: int, reason: FillReason) -> _Account:
    """Pays out the position at a fill price and looks at what is left."""
    state = account.state
    commission = abs(state.qty) * desk.commission_mills
    balance = _equity(desk, state, fill) - commission
    account = _tell(
        account,
        exit_qty=state.qty,
        exit_price=fill,
        exit_reason=int(reason),
        trip_net=balance - state.trip_balance,
        trip_risk=state.trip_risk,
    )
    account = _change(
        account,
        balance=balance,
        commissions=state.commissions + commission,
        qty=0,
        stop=NO_PRICE,
        target=NO_PRICE,
        trail_ticks=0,
        is_trailing=False,
        has_traded=True,
        n_trips=state.n_trips + 1,
    )
    return _judge_exit(desk, account, reason)


def _judge_exit(desk: _Desk, account: _Account, reason: FillReason) -> _Account:
    """Holds the rules that follow every exit; the peak rises last, and not after a breach."""
    state = account.state
    if state.balance <= state.floor or reason == FillReason.FLOOR:
        return _end(account, Outcome.BREACHED, DoneReason.FLOOR)
    if _at_limit(desk, state, state.entry):
        if desk.rules.limit_kind == LimitKind.HARD:
            return _end(account, Outcome.BREACHED, DoneReason.DAILY_LIMIT)
        account = _change(account, is_locked_out=True)
    elif _passes_by_touch(desk, state):
        account = _end(account, Outcome.PASSED, DoneReason.TARGET)
    return _mark_peak(desk, account, state.entry)


def _passes_by_touch(desk: _Desk, state: State) -> bool:
    """Whether a flat account passes at once, today counted if it counts."""
    n_days = state.n_days + _day_counts(desk, state)
    return bool(
        desk.rules.target_test == TargetTest.TOUCH
        and state.balance >= desk.rules.target_balance
        and n_days >= desk.rules.min_days
    )


def _day_counts(desk: _Desk, state: State) -> bool:
    """Whether the present day counts toward the minimum of days as it stands."""
    return bool(state.has_traded and state.balance - state.day_balance >= desk.rules.day_profit)


# Section 4: the peak and the floor.


def _mark_trip(desk: _Desk, account: _Account, price: int) -> _Account:
    """Takes the open P&L at a price into the extremes of the round trip."""
    state, pnl = account.state, _open_pnl(desk, account.state, price)
    low, high = min(state.trip_low, pnl), max(state.trip_high, pnl)
    return _change(account, trip_low=low, trip_high=high)


def _mark_peak(desk: _Desk, account: _Account, price: int) -> _Account:
    """Raises peak and floor with the equity at a price, where the floor trails intraday."""
    if desk.rules.trail_kind != TrailKind.INTRADAY:
        return account
    return _raise_peak(desk, account, _equity(desk, account.state, price))


def _raise_peak(desk: _Desk, account: _Account, equity: int) -> _Account:
    """Raises the peak to an equity, and the floor after it, up to the lock."""
    state, rules = account.state, desk.rules
    peak, floor, is_locked = max(state.peak, equity), state.floor, state.is_locked
    if peak >= rules.lock_trigger:
        floor, is_locked = max(floor, rules.lock_level), True
    elif not is_locked:
        floor = max(floor, peak - rules.allowance)
    return _change(account, peak=peak, floor=floor, is_locked=is_locked)


# Section 5: which path is kept.


def _outcome_of_path(desk: _Desk, account: _Account, close: int) -> tuple[int, int, int, bool]:
    """What must differ between two paths for the bar to be ambiguous."""
    state = account.state
    return state.outcome, _equity(desk, state, close), state.qty, state.is_locked_out


def _badness(desk: _Desk, account: _Account, close: int) -> tuple[int, int, int, int]:
    """The order of paths, the worse the lower."""
    state = account.state
    is_breached = state.outcome == Outcome.BREACHED
    equity = _equity(desk, state, close)
    return -int(is_breached), equity, -int(state.is_locked_out), -state.floor


def _kept_path(desk: _Desk, high_first: _Account, low_first: _Account, close: int) -> _Account:
    """Chooses between the two paths."""
    high_badness = _badness(desk, high_first, close)
    low_badness = _badness(desk, low_first, close)
    match desk.rules.path_rule:
        case PathRule.HIGH_FIRST:
            return high_first
        case PathRule.LOW_FIRST:
            return low_first
        case PathRule.WORST:
            return high_first if high_badness <= low_badness else low_first
        case _:
            return high_first if high_badness >= low_badness else low_first


# Section 6: the close.


def _close_bar(tape: Tape, desk: _Desk, account: _Account, bar: int) -> _Account:
    """Holds the rules of the close one after the other, while the account is open."""
    flags, close = tape.flags[bar], tape.close[bar]
    if account.state.outcome == Outcome.OPEN and flags & BarFlag.FLAT:
        account = _flatten(desk, account, close)
    if account.state.outcome == Outcome.OPEN:
        account = _trail_stop(account, close)
    if account.state.outcome == Outcome.OPEN and flags & BarFlag.DAY_CLOSE:
        account = _settle_day(desk, account)
    if account.state.outcome == Outcome.OPEN and flags & BarFlag.DAY_CLOSE:
        account = _look_at_the_clock(desk, account, tape.next_day[bar])
    if account.state.outcome == Outcome.OPEN and tape.next_day[bar] == NEVER:
        account = _change(account, done_reason=int(DoneReason.DATA_END))
    return account


def _flatten(desk: _Desk, account: _Account, close: int) -> _Account:
    """Liquidates what is open at the flat-by close."""
    if account.state.qty == 0:
        return account
    account = _exit_at_market(desk, account, close, FillReason.LATE_FLAT)
    account = _change(account, n_late_flat=account.state.n_late_flat + 1)
    if account.state.outcome == Outcome.OPEN and desk.rules.late_flat_fails:
        account = _end(account, Outcome.BREACHED, DoneReason.LATE_FLAT)
    return account


def _trail_stop(account: _Account, close: int) -> _Account:
    """Moves the stop of a trailing position behind the close, never back."""
    state, side = account.state, _side(account.state.qty)
    stop = close - side * state.trail_ticks
    if side != 0 and state.is_trailing and _is_tighter(side, stop, state.stop):
        account = _change(account, stop=stop)
    return account


def _settle_day(desk: _Desk, account: _Account) -> _Account:
    """Settles the day and looks whether the account has passed."""
    state = account.state
    account = _tell(account, is_day_close=True)
    account = _change(
        account,
        best_day=max(state.best_day, state.balance - state.day_balance),
        n_days=state.n_days + _day_counts(desk, state),
    )
    if desk.rules.trail_kind == TrailKind.END_OF_DAY:
        account = _raise_peak(desk, account, state.balance)
    if _passes_at_close(desk, account.state):
        account = _end(account, Outcome.PASSED, DoneReason.TARGET)
    return account


def _passes_at_close(desk: _Desk, state: State) -> bool:
    """Whether a settled day leaves the account with target, days and consistency."""
    rules = desk.rules
    return bool(
        state.balance >= rules.target_balance
        and state.n_days >= rules.min_days
        and _is_consistent(rules, state)
    )


def _is_consistent(rules: Rules, state: State) -> bool:
    """Whether the best day is a small enough part of the total profit."""
    if rules.best_day_den <= 0:
        return True
    best = state.best_day * rules.best_day_den
    allowed = rules.best_day_num * (state.balance - rules.start_balance)
    return bool(best < allowed if rules.best_day_strict else best <= allowed)


def _look_at_the_clock(desk: _Desk, account: _Account, next_day: int) -> _Account:
    """Times the account out if the next bar lies beyond its time limit."""
    if next_day != NEVER and next_day - account.state.first_day >= desk.rules.time_limit_days:
        return _end(account, Outcome.TIMED_OUT, DoneReason.TIME_LIMIT)
    return account
