"""The compiled simulator: starts accounts and walks all lanes one bar, as docs/fills.md says.

Pure functions of arrays, to be used inside `jax.jit`; no files, no learning.
"""

import jax
import jax.numpy as jnp
from jax import Array

from passline.sim.fills import choose_path, meet_point, walk_paths
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
    Reject,
    Rules,
    State,
    Tape,
)
from passline.sim.ledger import Account, Exit, Terms, settle_exit
from passline.sim.orders import breakeven_stop, refusal
from passline.sim.rules import begin_day, pick_tier, settle_day

__all__ = ["is_active", "mark_to_close", "start", "step"]


def start(tape: Tape, markets: Markets, rules: Rules, bar: Array, market: Array) -> State:
    """Opens an account at the close of `bar` in every lane.

    Args:
        tape: bars [B].
        markets: constants [M]; unused but for symmetry with `step`.
        rules: the rulebook.
        bar: index of the last bar already closed, int32 [L].
        market: index into markets, int32 [L].

    Returns:
        State [L].
    """
    del markets
    zero = jnp.zeros_like(bar)
    no = jnp.zeros(bar.shape, bool)
    balance = zero + rules.start_balance
    tier, units, limit = pick_tier(rules, zero, zero)
    day = tape.day[bar]
    return State(
        bar=bar,
        market=market,
        outcome=zero + Outcome.OPEN,
        done_reason=zero + DoneReason.NONE,
        balance=balance,
        peak=balance,
        floor=balance - rules.allowance,
        is_locked=no,
        qty=zero,
        entry=zero,
        stop=zero + NO_PRICE,
        target=zero + NO_PRICE,
        trail_ticks=zero,
        is_trailing=no,
        entry_bar=zero,
        trip_balance=zero,
        trip_risk=zero,
        trip_low=zero,
        trip_high=zero,
        day=day,
        first_day=tape.next_day[bar],
        day_balance=balance,
        is_locked_out=no,
        has_traded=no,
        size_units=units,
        daily_limit=limit,
        tier=tier,
        n_days=zero,
        best_day=zero,
        n_trips=zero,
        n_rejected=zero,
        n_ambiguous=zero,
        n_late_flat=zero,
        commissions=zero,
    )


def is_active(state: State) -> Array:
    """Tells which accounts still move [L]."""
    return (state.outcome == Outcome.OPEN) & (state.done_reason == DoneReason.NONE)


def mark_to_close(tape: Tape, markets: Markets, state: State) -> Array:
    """Returns equity at the close of each lane's bar, mills [L]."""
    tick_mills = markets.tick_mills[state.market]
    return state.balance + state.qty * (tape.close[state.bar] - state.entry) * tick_mills


def apply_order(
    state: State, markets: Markets, orders: Orders, kind: Array, open_: Array, bar: Array
) -> State:
    """Opens a position at the open, or changes stop and trailing (docs/fills.md, 3.2 and 3.3)."""
    slip = markets.slippage_ticks[state.market]
    is_entry = (kind == OrderKind.LONG) | (kind == OrderKind.SHORT)
    side = jnp.where(kind == OrderKind.LONG, 1, -1)
    entry = open_ + side * slip
    cost = orders.qty * markets.commission_mills[state.market]
    stop = jnp.where(orders.stop_ticks == 0, NO_PRICE, entry - side * orders.stop_ticks)
    target = jnp.where(orders.target_ticks == 0, NO_PRICE, entry + side * orders.target_ticks)
    risk = orders.qty * orders.stop_ticks * markets.tick_mills[state.market]
    kept_stop = jnp.where(kind == OrderKind.BREAKEVEN, breakeven_stop(markets, state), state.stop)
    is_trailing = (state.is_trailing | (kind == OrderKind.TRAIL_ON)) & (kind != OrderKind.TRAIL_OFF)

    def enter(new: Array, old: Array) -> Array:
        return jnp.where(is_entry, new, old)

    return state._replace(
        balance=enter(state.balance - cost, state.balance),
        commissions=enter(state.commissions + cost, state.commissions),
        qty=enter(side * orders.qty, state.qty),
        entry=enter(entry, state.entry),
        stop=enter(stop, kept_stop),
        target=enter(target, state.target),
        trail_ticks=enter(orders.stop_ticks, state.trail_ticks),
        is_trailing=is_trailing & ~is_entry,
        entry_bar=enter(bar, state.entry_bar),
        trip_balance=enter(state.balance, state.trip_balance),
        trip_risk=enter(risk, state.trip_risk),
        trip_low=enter(jnp.zeros_like(risk), state.trip_low),
        trip_high=enter(jnp.zeros_like(risk), state.trip_high),
        has_traded=state.has_traded | is_entry,
    )


def account_of(state: State) -> Account:
    """Returns the part of the state that a path through a bar can change."""
    zero = jnp.zeros_like(state.qty)
    return Account(
        balance=state.balance,
        peak=state.peak,
        floor=state.floor,
        is_locked=state.is_locked,
        qty=state.qty,
        outcome=state.outcome,
        done_reason=state.done_reason,
        is_locked_out=state.is_locked_out,
        trip_low=state.trip_low,
        trip_high=state.trip_high,
        exit_qty=zero,
        exit_price=zero,
        exit_reason=zero,
        trip_net=zero,
    )


def terms_of(state: State, markets: Markets, rules: Rules) -> Terms:
    """Returns what holds through the bar for each lane."""
    has_limit = (rules.limit_kind != LimitKind.NONE) & (state.daily_limit != NEVER)
    return Terms(
        entry=state.entry,
        stop=state.stop,
        target=state.target,
        tick_mills=markets.tick_mills[state.market],
        commission_mills=markets.commission_mills[state.market],
        slippage_ticks=markets.slippage_ticks[state.market],
        limit_level=jnp.where(has_limit, state.day_balance - state.daily_limit, NO_PRICE),
        day_balance=state.day_balance,
        n_days=state.n_days,
        trip_balance=state.trip_balance,
    )


def close_bar(account: Account, terms: Terms, rules: Rules, flags: Array, close: Array) -> Account:
    """Liquidates what is open at flat-by; docs/fills.md, 6.1."""
    is_late = ((flags & BarFlag.FLAT) != 0) & (account.qty != 0) & (account.outcome == Outcome.OPEN)
    way = Exit(jnp.where(is_late, FillReason.LATE_FLAT, FillReason.NONE), close)
    account = settle_exit(account, terms, rules, way)
    fails = is_late & (account.outcome == Outcome.OPEN) & (rules.late_flat_fails == 1)
    return account._replace(
        outcome=jnp.where(fails, Outcome.BREACHED, account.outcome),
        done_reason=jnp.where(fails, DoneReason.LATE_FLAT, account.done_reason),
    )


def trail_stop(state: State, close: Array) -> State:
    """Ratchets trailing stops at the close; the new stop is first tested in the next bar.

    A position that trails has a stop: without one the order is refused.
    """
    side = jnp.sign(state.qty)
    stop = close - side * state.trail_ticks
    moves = state.is_trailing & (state.qty != 0) & (side * (stop - state.stop) > 0)
    return state._replace(stop=jnp.where(moves, stop, state.stop))


def clear_position(state: State) -> State:
    """Resets what belongs to a position in flat lanes."""
    is_flat = state.qty == 0
    return state._replace(
        stop=jnp.where(is_flat, NO_PRICE, state.stop),
        target=jnp.where(is_flat, NO_PRICE, state.target),
        trail_ticks=jnp.where(is_flat, 0, state.trail_ticks),
        is_trailing=state.is_trailing & ~is_flat,
    )


def step(
    tape: Tape, markets: Markets, rules: Rules, state: State, orders: Orders
) -> tuple[State, Events]:
    """Walks every active account through its next bar; ended accounts stay as they are.

    Args:
        tape: bars [B].
        markets: constants [M].
        rules: the rulebook.
        state: accounts at the close of their bar k [L].
        orders: decided at that close [L].

    Returns:
        The accounts at the close of bar k + 1 and what happened on the way.
    """
    moves = is_active(state)
    j = jnp.minimum(state.bar + 1, tape.close.shape[0] - 1)
    reject = refusal(
        markets,
        rules,
        state,
        orders,
        tape.close[state.bar],
        tape.flags[state.bar],
        tape.flags[j],
    )
    kind = jnp.where(reject == Reject.NONE, orders.kind, OrderKind.HOLD)
    new, is_new_day = begin_day(rules, state, tape.day[j])
    new = apply_order(new, markets, orders, kind, tape.open[j], j)
    account, is_ambiguous = walk_bar(tape, markets, rules, new, kind == OrderKind.CLOSE, j)
    new = absorb(new, account, markets)
    new = new._replace(
        bar=j,
        n_rejected=new.n_rejected + ((reject != Reject.NONE) & (reject != Reject.EXPIRED)),
        n_ambiguous=new.n_ambiguous + is_ambiguous,
    )
    new, is_day_close = end_bar(tape, rules, new, j)
    state = jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, state)
    events = Events(
        reject=reject,
        entry_qty=entry_qty(kind, orders),
        entry_price=jnp.where(entry_qty(kind, orders) != 0, new.entry, 0),
        exit_qty=account.exit_qty,
        exit_price=account.exit_price,
        exit_reason=account.exit_reason,
        trip_net=account.trip_net,
        trip_risk=jnp.where(account.exit_qty != 0, new.trip_risk, 0),
        is_ambiguous=is_ambiguous,
        equity=new.balance,
        is_new_day=is_new_day,
        is_day_close=is_day_close,
    )
    events = jax.tree.map(lambda x: jnp.where(moves, x, jnp.zeros_like(x)), events)
    is_order = orders.kind != OrderKind.HOLD
    return state, events._replace(
        reject=jnp.where(~moves & is_order, Reject.ACCOUNT_ENDED, events.reject),
        equity=mark_to_close(tape, markets, state),
    )


def walk_bar(
    tape: Tape, markets: Markets, rules: Rules, state: State, is_close: Array, bar: Array
) -> tuple[Account, Array]:
    """Walks accounts from the open of `bar` to its close; docs/fills.md, 3.4 to 6.1.

    Args:
        tape: bars [B].
        markets: constants [M].
        rules: the rulebook.
        state: accounts with the order already applied [L].
        is_close: an accepted CLOSE fills at the open [L].
        bar: the bar's index [L].

    Returns:
        The accounts, and where the two paths differed [L].
    """
    open_, close = tape.open[bar], tape.close[bar]
    terms = terms_of(state, markets, rules)
    begun = account_of(state)
    left = begun._replace(qty=jnp.where(is_close, 0, begun.qty))
    met, way = meet_point(left, terms, rules, open_)
    way = Exit(jnp.where(is_close, FillReason.CLOSE, way.reason), way.mark)
    bar_prices = (open_, tape.high[bar], tape.low[bar], close)
    paths = walk_paths(met._replace(qty=begun.qty), terms, rules, way, bar_prices)
    account, is_ambiguous = choose_path(paths, terms, rules, close)
    return close_bar(account, terms, rules, tape.flags[bar], close), is_ambiguous


def end_bar(tape: Tape, rules: Rules, state: State, bar: Array) -> tuple[State, Array]:
    """Trails stops, settles the day and ends the data (docs/fills.md, 6.2 to 6.5).

    Returns:
        The accounts, and where the day was settled [L].
    """
    next_day = tape.next_day[bar]
    is_last = next_day == NEVER
    state = clear_position(trail_stop(state, tape.close[bar]))
    is_day_close = ((tape.flags[bar] & BarFlag.DAY_CLOSE) != 0) & (state.outcome == Outcome.OPEN)
    state = settle_day(rules, state, is_day_close, next_day, is_last)
    ends = is_last & (state.outcome == Outcome.OPEN)
    done_reason = jnp.where(ends, DoneReason.DATA_END, state.done_reason)
    return state._replace(done_reason=done_reason), is_day_close


def entry_qty(kind: Array, orders: Orders) -> Array:
    """Returns the signed quantity of an accepted entry, 0 for other orders [L]."""
    short = jnp.where(kind == OrderKind.SHORT, -orders.qty, 0)
    return jnp.where(kind == OrderKind.LONG, orders.qty, short)


def absorb(state: State, account: Account, markets: Markets) -> State:
    """Returns the state with what the kept path made of the account."""
    is_exit = account.exit_qty != 0
    side_cost = markets.commission_mills[state.market]
    return state._replace(
        balance=account.balance,
        peak=account.peak,
        floor=account.floor,
        is_locked=account.is_locked,
        qty=account.qty,
        outcome=account.outcome,
        done_reason=account.done_reason,
        is_locked_out=account.is_locked_out,
        trip_low=account.trip_low,
        trip_high=account.trip_high,
        has_traded=state.has_traded | is_exit,
        n_trips=state.n_trips + is_exit,
        n_late_flat=state.n_late_flat + (account.exit_reason == FillReason.LATE_FLAT),
        commissions=state.commissions + jnp.abs(account.exit_qty) * side_cost,
    )
