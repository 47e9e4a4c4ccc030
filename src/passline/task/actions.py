"""The one action table of all phases: what each action orders, and which actions are legal.

Entries come in a short list of sizes, each a share of the allowance that the entry's stop puts at
risk, so that a policy keeps its meaning from contract to contract. Legality itself is the
simulator's; a phase can only forbid more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from passline.sim.division import floor_divide
from passline.sim.layout import AnyArray, Markets, OrderKind, Orders, Rules, State
from passline.sim.orders import can_break_even, can_enter

__all__ = [
    "ACTION_NAMES",
    "CLOSE",
    "KINDS",
    "N_ACTIONS",
    "N_SIZES",
    "SIZES",
    "Bracket",
    "action_index",
    "action_mask",
    "is_legal",
    "order_of",
    "stand_ins",
]

N_SIZES = 3
"""Entry sizes in the table."""
KINDS = (
    OrderKind.HOLD,
    OrderKind.CLOSE,
    OrderKind.BREAKEVEN,
    OrderKind.TRAIL_ON,
    OrderKind.TRAIL_OFF,
    *[OrderKind.LONG] * N_SIZES,
    *[OrderKind.SHORT] * N_SIZES,
)
N_ACTIONS = len(KINDS)
CLOSE = KINDS.index(OrderKind.CLOSE)
FIRST_ENTRY = 5
SIZES = (*[0] * FIRST_ENTRY, *range(N_SIZES), *range(N_SIZES))
ACTION_NAMES = tuple(
    kind.name.lower() + (f"_{size + 1}" if index >= FIRST_ENTRY else "")
    for index, (kind, size) in enumerate(zip(KINDS, SIZES, strict=True))
)
"""hold, close, breakeven, trail_on, trail_off, long_1…3, short_1…3; 1 is the smallest size."""


class Bracket(NamedTuple):
    """How an entry's stop, target and sizes are set.

    Attributes:
        stop_atr: distance of the stop in average true ranges, float32.
        target_r: distance of the target in stop distances, float32.
        risk_permille: share of `unit_mills` that each size may lose at its stop, int32 [S].
        unit_mills: the rulebook's allowance, mills.
    """

    stop_atr: AnyArray
    target_r: AnyArray
    risk_permille: AnyArray
    unit_mills: AnyArray


def action_index(kind: OrderKind, size: int = 0) -> int:
    """Returns the row of the action table for a kind and, for entries, a size index."""
    return KINDS.index(kind) + (size if kind in (OrderKind.LONG, OrderKind.SHORT) else 0)


def distances(bracket: Bracket, atr_ticks: Array) -> tuple[Array, Array]:
    """Returns stop and target distance for an average true range, ticks, at least 1 each [L]."""
    stop = jnp.maximum(jnp.round(bracket.stop_atr * atr_ticks).astype(jnp.int32), 1)
    target = jnp.maximum(jnp.round(bracket.target_r * stop).astype(jnp.int32), 1)
    return stop, target


def sizes(bracket: Bracket, stop_ticks: Array, tick_mills: Array) -> Array:
    """Returns the contracts of each size, at least 1; int32 [S, L].

    floor(risk_permille/1000 * unit / (stop_ticks * tick_mills)).
    """
    budget = bracket.unit_mills // 1000 * bracket.risk_permille
    return jnp.maximum(floor_divide(budget[:, None], (stop_ticks * tick_mills)[None, :]), 1)


def stand_ins(before: AnyArray, after: AnyArray) -> dict[int, int]:
    """Tells which action each newly allowed one is closest to among those allowed before.

    A size stands next to the largest smaller one of its side; everything else next to HOLD.

    Args:
        before: actions that were allowed, bool [A].
        after: actions that are allowed now, bool [A].

    Returns:
        Rows of the action table: {newly allowed: its stand-in}.
    """
    known, found = np.asarray(before), {}
    for action in np.flatnonzero(np.asarray(after) & ~known):
        smaller = [a for a in range(action) if KINDS[a] == KINDS[action] and known[a]]
        found[int(action)] = smaller[-1] if smaller else KINDS.index(OrderKind.HOLD)
    return found


def order_of(bracket: Bracket, markets: Markets, state: State, action: Array, atr: Array) -> Orders:
    """Turns actions into orders.

    Args:
        bracket: of the phase.
        markets: constants [M].
        state: accounts at the close of their bar [L].
        action: rows of the action table, int32 [L].
        atr: average true range at that close, ticks [L].
    """
    stop, target = distances(bracket, atr)
    contracts = sizes(bracket, stop, markets.tick_mills[state.market])
    size = jnp.asarray(SIZES, jnp.int32)[action]
    qty = contracts[0]
    for index in range(1, N_SIZES):
        qty = jnp.where(size == index, contracts[index], qty)
    return Orders(jnp.asarray(KINDS, jnp.int32)[action], qty, stop, target)


def is_legal(mask: Array, action: Array) -> Array:
    """Tells whether each lane's action is legal; mask [L, A] and rows of the table [L] give [L]."""
    rows = jnp.arange(mask.shape[1], dtype=jnp.int32)
    return jnp.any(mask & (action[:, None] == rows), axis=1)


def action_mask(
    bracket: Bracket,
    markets: Markets,
    rules: Rules,
    state: State,
    allowed: Array,
    *,
    close: Array,
    flags: Array,
    atr: Array,
    is_closing: Array,
) -> Array:
    """Tells which actions each account may take now; at least one always is.

    A larger size that comes to no more contracts than the one below it is masked, so that a
    decision is never counted twice. Shortly before flat-by an open position must be closed: where
    the phase allows CLOSE at all, it is then the only legal action, and elsewhere HOLD always is
    legal.

    Args:
        bracket: of the phase.
        markets: constants [M].
        rules: the rulebook, for what it demands of a bracket.
        state: accounts [L].
        allowed: what the phase allows, bool [A].
        close: close of the bar, ticks [L].
        flags: BarFlag bits of the bar [L].
        atr: average true range, ticks [L].
        is_closing: by the clock, this is the time to close for flat-by [L].

    Returns:
        bool [L, A].
    """
    stop, target = distances(bracket, atr)
    contracts = sizes(bracket, stop, markets.tick_mills[state.market])
    is_open = state.qty != 0
    ratio = rules.max_stop_per_target
    is_bracket_allowed = (ratio == 0) | (stop <= ratio * target)
    entries: Sequence[Array] = [
        can_enter(markets, state, flags, contracts[i])
        & is_bracket_allowed
        & (True if i == 0 else contracts[i] > contracts[i - 1])
        for i in range(N_SIZES)
    ]
    is_free = ~(is_closing & is_open & allowed[CLOSE])
    columns = [
        is_free,
        is_open,
        is_free & can_break_even(markets, state, close),
        is_free & is_open & ~state.is_trailing & (state.trail_ticks > 0),
        is_free & is_open & state.is_trailing,
        *entries,
        *entries,
    ]
    return jnp.stack(columns, axis=-1) & allowed
