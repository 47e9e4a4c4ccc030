"""What the agent sees of its own account: position, bracket, cushion, target, day and clock.

All values are free of the contract's and the account's size: ticks in average true ranges, money
in allowances (or in the round trip's risk), time as a share.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from passline.sim.layout import NEVER, NO_PRICE, BarFlag, LimitKind, Markets, Rules, State
from passline.task.actions import Bracket, distances, sizes

__all__ = [
    "ACCOUNT_FEATURES",
    "BAR_FEATURES",
    "POSITION_FEATURES",
    "BarFacts",
    "account_features",
]

ACCOUNT_FEATURES = (
    "side",
    "is_flat",
    "size_used",
    "open_r",
    "open_allowance",
    "to_stop_atr",
    "to_target_atr",
    "stop_secures",
    "is_trailing",
    "hours_in_position",
    "worst_open_r",
    "best_open_r",
    "cushion",
    "floor_locked",
    "to_target",
    "day_result",
    "to_daily_limit",
    "is_locked_out",
    "days_missing",
    "best_day_share",
    "time_left",
    "hours_to_flat",
    "flat_soon",
    "can_enter",
    "cost_r",
    "risk_per_cushion",
)
"""Names of the account features, in the order of the observation."""
BAR_FEATURES = frozenset({"hours_to_flat", "flat_soon", "can_enter", "cost_r"})
"""Those of them that are the same for all accounts at a bar's close."""
POSITION_FEATURES = frozenset(
    {
        "side",
        "is_flat",
        "open_r",
        "to_stop_atr",
        "to_target_atr",
        "stop_secures",
        "hours_in_position",
        "worst_open_r",
        "best_open_r",
    }
)
"""Those that tell of a position in its own units, whatever account holds it."""

DAYS_SCALE = 30.0


class BarFacts(NamedTuple):
    """What the market side knows at the close of each lane's bar [L].

    Attributes:
        close: ticks.
        flags: BarFlag bits; only CAN_ENTER is read.
        atr: average true range, ticks.
        minutes_to_flat: minutes from the close to flat-by.
        is_closing: a position must be closed now to be flat in time.
        bar_minutes: length of a bar, minutes, float32.
        day: trading day.
    """

    close: Array
    flags: Array
    atr: Array
    minutes_to_flat: Array
    is_closing: Array
    bar_minutes: Array
    day: Array


def share(amount: Array, unit: Array, low: float, high: float) -> Array:
    """Returns amount / unit clipped to [low, high], float32."""
    ratio = amount.astype(jnp.float32) / jnp.maximum(unit, 1).astype(jnp.float32)
    clipped: Array = jnp.clip(ratio, low, high)
    return clipped


def price_distance(price: Array, close: Array, side: Array, atr: Array) -> Array:
    """Returns how far `price` lies in the position's favor, in ATR, 0 if there is none."""
    distance = (side * (price - close)).astype(jnp.float32) / atr
    return jnp.where((price == NO_PRICE) | (side == 0), 0.0, jnp.clip(distance, -5.0, 5.0))


def account_features(
    bracket: Bracket, markets: Markets, rules: Rules, state: State, facts: BarFacts
) -> Array:
    """Computes the account's part of the observation, float32 [L, len(ACCOUNT_FEATURES)]."""
    columns = (
        *position_features(markets, bracket, state, facts),
        *rule_features(markets, rules, bracket, state, facts),
        *clock_features(markets, rules, bracket, state, facts),
    )
    return jnp.stack([c.astype(jnp.float32) for c in columns], axis=-1)


def open_pnl(markets: Markets, state: State, close: Array) -> Array:
    """Returns the open P&L at the close, mills [L]."""
    return state.qty * (close - state.entry) * markets.tick_mills[state.market]


def position_features(
    markets: Markets, bracket: Bracket, state: State, facts: BarFacts
) -> tuple[Array, ...]:
    """Computes what concerns the open position; 0 when flat."""
    side = jnp.sign(state.qty)
    is_open = side != 0
    pnl = open_pnl(markets, state, facts.close)
    used = jnp.abs(state.qty) * markets.size_units[state.market]
    held = (state.bar - state.entry_bar).astype(jnp.float32) * facts.bar_minutes / 60.0
    risk = jnp.where(state.trip_risk > 0, state.trip_risk, bracket.unit_mills)
    return (
        side,
        ~is_open,
        share(used, state.size_units, 0.0, 1.0),
        share(pnl, risk, -2.0, 5.0),
        share(pnl, bracket.unit_mills, -2.0, 2.0),
        price_distance(state.stop, facts.close, side, facts.atr),
        price_distance(state.target, facts.close, side, facts.atr),
        is_open & (state.stop != NO_PRICE) & (side * (state.stop - state.entry) > 0),
        state.is_trailing,
        jnp.where(is_open, jnp.clip(held, 0.0, 4.0), 0.0),
        jnp.where(is_open, share(state.trip_low, risk, -2.0, 0.0), 0.0),
        jnp.where(is_open, share(state.trip_high, risk, 0.0, 5.0), 0.0),
    )


def rule_features(
    markets: Markets, rules: Rules, bracket: Bracket, state: State, facts: BarFacts
) -> tuple[Array, ...]:
    """Computes distances to everything that can end or settle the account, in allowances."""
    unit = bracket.unit_mills
    equity = state.balance + open_pnl(markets, state, facts.close)
    day_result = equity - state.day_balance
    has_limit = (rules.limit_kind != LimitKind.NONE) & (state.daily_limit != NEVER)
    to_limit = share(day_result + jnp.where(has_limit, state.daily_limit, 0), unit, 0.0, 2.0)
    total = jnp.maximum(equity - rules.start_balance, 1)
    best = jnp.maximum(state.best_day, day_result)
    has_best = rules.best_day_den > 0
    has_target = rules.target_balance != NEVER
    missing = share(rules.min_days - state.n_days, rules.min_days, 0.0, 1.0)
    return (
        share(equity - state.floor, unit, 0.0, 3.0),
        state.is_locked,
        jnp.where(has_target, share(rules.target_balance - equity, unit, -1.0, 3.0), 3.0),
        share(day_result, unit, -2.0, 2.0),
        jnp.where(has_limit, to_limit, 2.0),
        state.is_locked_out,
        missing,
        jnp.where(has_best, share(jnp.maximum(best, 0), total, 0.0, 2.0), 0.0),
    )


def clock_features(
    markets: Markets, rules: Rules, bracket: Bracket, state: State, facts: BarFacts
) -> tuple[Array, ...]:
    """Computes what the clock and the costs of the next entry say."""
    # first_day may lie ahead of the start's bar; how far is not the agent's to know
    elapsed = jnp.maximum(facts.day - state.first_day, 0).astype(jnp.float32)
    has_end = rules.time_limit_days != NEVER
    left = (rules.time_limit_days.astype(jnp.float32) - elapsed) / DAYS_SCALE
    hours = facts.minutes_to_flat.astype(jnp.float32) / 60.0
    stop, _ = distances(bracket, facts.atr)
    tick_mills = markets.tick_mills[state.market]
    per_contract = stop * tick_mills
    cost = 2 * (
        markets.commission_mills[state.market] + markets.slippage_ticks[state.market] * tick_mills
    )
    smallest = sizes(bracket, stop, tick_mills)[0]
    cushion = state.balance - state.floor
    return (
        jnp.where(has_end, jnp.clip(left, 0.0, 1.0), 1.0),
        jnp.clip(hours / 8.0, 0.0, 3.0),
        jnp.clip((30 - facts.minutes_to_flat).astype(jnp.float32) / 30.0, 0.0, 1.0),
        (facts.flags & BarFlag.CAN_ENTER) != 0,
        share(cost, per_contract, 0.0, 3.0),
        share(smallest * per_contract, jnp.maximum(cushion, 1), 0.0, 2.0),
    )
