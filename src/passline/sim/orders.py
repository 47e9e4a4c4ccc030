"""Which orders an account may send, and why the others are refused; docs/fills.md section 1."""

import jax.numpy as jnp
from jax import Array

from passline.sim.division import floor_divide
from passline.sim.layout import (
    NO_PRICE,
    BarFlag,
    Markets,
    OrderKind,
    Orders,
    Reject,
    Rules,
    State,
)

__all__ = ["breakeven_stop", "can_break_even", "can_enter", "refusal"]


def breakeven_stop(markets: Markets, state: State) -> Array:
    """Returns the stop at which a slipped exit pays the round trip's costs, ticks [L]."""
    return state.entry + jnp.sign(state.qty) * markets.breakeven_ticks[state.market]


def can_break_even(markets: Markets, state: State, close: Array) -> Array:
    """Tells where moving the stop to break-even tightens it and the close still lies beyond it."""
    side = jnp.sign(state.qty)
    new = breakeven_stop(markets, state)
    is_tighter = (state.stop == NO_PRICE) | (side * (new - state.stop) > 0)
    return (state.qty != 0) & is_tighter & (side * (close - new) > 0)


def can_enter(markets: Markets, state: State, flags: Array, qty: Array) -> Array:
    """Tells where an entry of `qty` contracts is allowed by position, lockout, size and clock."""
    return (
        (qty >= 1)
        & (state.qty == 0)
        & ~state.is_locked_out
        & (qty * markets.size_units[state.market] <= state.size_units)
        & ((flags & BarFlag.CAN_ENTER) != 0)
    )


def refusal(
    markets: Markets,
    rules: Rules,
    state: State,
    orders: Orders,
    close: Array,
    flags: Array,
    next_flags: Array,
) -> Array:
    """Returns the Reject code of each lane's order [L]; the first that applies.

    Args:
        markets: constants of the markets.
        rules: the rulebook.
        state: accounts at the close of bar k.
        orders: decided at that close.
        close: close of bar k, ticks [L].
        flags: BarFlag bits of bar k [L].
        next_flags: BarFlag bits of bar k + 1, where the order would fill [L].
    """
    kind, qty = orders.kind, orders.qty
    is_entry = (kind == OrderKind.LONG) | (kind == OrderKind.SHORT)
    is_flat = state.qty == 0
    is_managing = ~is_entry & (kind != OrderKind.HOLD)
    ratio = rules.max_stop_per_target
    wide = (orders.stop_ticks == 0) | (orders.stop_ticks > ratio * orders.target_ticks)
    lapses = (next_flags & BarFlag.SESSION_START) | (~next_flags & BarFlag.TRADABLE)
    is_on, is_off = kind == OrderKind.TRAIL_ON, kind == OrderKind.TRAIL_OFF
    cases = (
        (is_entry & (qty < 1), Reject.BAD_QTY),
        (is_entry & ~is_flat, Reject.IN_POSITION),
        (is_entry & state.is_locked_out, Reject.LOCKED_OUT),
        (
            is_entry & (qty > floor_divide(state.size_units, markets.size_units[state.market])),
            Reject.SIZE_LIMIT,
        ),
        (is_entry & ((flags & BarFlag.CAN_ENTER) == 0), Reject.NO_ENTRY_TIME),
        (is_entry & (ratio > 0) & (orders.target_ticks > 0) & wide, Reject.STOP_TO_TARGET),
        (is_entry & (lapses != 0), Reject.EXPIRED),
        (is_managing & is_flat, Reject.NO_POSITION),
        (
            (kind == OrderKind.BREAKEVEN) & ~can_break_even(markets, state, close),
            Reject.NOT_TIGHTER,
        ),
        (is_on & (state.trail_ticks == 0), Reject.NO_STOP),
        (is_on & state.is_trailing, Reject.ALREADY_TRAILING),
        (is_off & ~state.is_trailing, Reject.NOT_TRAILING),
    )
    code = jnp.full(kind.shape, Reject.NONE, jnp.int32)
    for holds, name in reversed(cases):
        code = jnp.where(holds, jnp.int32(name), code)
    return code
