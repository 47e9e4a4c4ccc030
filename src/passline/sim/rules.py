"""A rulebook's arithmetic: the floor behind the peak, the tiers of a day, and the settled day."""

import jax.numpy as jnp
from jax import Array

from passline.sim.division import floor_divide
from passline.sim.layout import DoneReason, Outcome, Rules, State, TrailKind

__all__ = ["begin_day", "best_day_holds", "follow_floor", "pick_tier", "raise_peak", "settle_day"]


def follow_floor(rules: Rules, peak: Array, floor: Array, is_locked: Array) -> tuple[Array, Array]:
    """Returns floor and lock for a peak: min(peak - allowance, lock_level), never falling."""
    at_lock = peak >= rules.lock_trigger
    trailed = jnp.where(is_locked, floor, jnp.maximum(floor, peak - rules.allowance))
    return jnp.where(at_lock, jnp.maximum(floor, rules.lock_level), trailed), is_locked | at_lock


def raise_peak(
    rules: Rules, peak: Array, floor: Array, is_locked: Array, equity: Array, where: Array
) -> tuple[Array, Array, Array]:
    """Raises an intraday peak to `equity` in lanes `where`, and the floor behind it."""
    moves = where & (rules.trail_kind == TrailKind.INTRADAY)
    new_peak = jnp.maximum(peak, equity)
    new_floor, new_lock = follow_floor(rules, new_peak, floor, is_locked)
    return (
        jnp.where(moves, new_peak, peak),
        jnp.where(moves, new_floor, floor),
        jnp.where(moves, new_lock, is_locked),
    )


def pick_tier(rules: Rules, profit: Array, held: Array) -> tuple[Array, Array, Array]:
    """Returns tier, size limit and daily limit [L] for a profit at the last close, mills."""
    reached = jnp.sum(profit[..., None] >= rules.tier_profit, axis=-1, dtype=jnp.int32) - 1
    tier = jnp.where(rules.tier_latched == 1, jnp.maximum(reached, held), reached)
    return tier, rules.tier_units[tier], rules.tier_daily_limit[tier]


def begin_day(rules: Rules, state: State, day: Array) -> tuple[State, Array]:
    """Opens trading day `day` in the lanes that enter it; docs/fills.md section 2."""
    is_new = day != state.day
    tier, units, limit = pick_tier(rules, state.balance - rules.start_balance, state.tier)
    return state._replace(
        day=day,
        day_balance=jnp.where(is_new, state.balance, state.day_balance),
        is_locked_out=state.is_locked_out & ~is_new,
        has_traded=state.has_traded & ~is_new,
        tier=jnp.where(is_new, tier, state.tier),
        size_units=jnp.where(is_new, units, state.size_units),
        daily_limit=jnp.where(is_new, limit, state.daily_limit),
    ), is_new


def best_day_holds(rules: Rules, best_day: Array, total: Array) -> Array:
    """Tells whether best_day <= num/den * total (or <), exactly and without overflow.

    With best_day = q * num + r the rule reads r * den <= num * (total - q * den); the right factor
    is clamped where the comparison is already decided.
    """
    num = jnp.maximum(rules.best_day_num, 1)
    quotient = floor_divide(best_day, num)
    remainder = best_day - quotient * num
    slack = jnp.clip(total - quotient * rules.best_day_den, -(2**20), 2**20)
    left, right = remainder * rules.best_day_den, num * slack
    holds = jnp.where(rules.best_day_strict == 1, left < right, left <= right)
    return holds | (rules.best_day_den == 0)


def settle_day(rules: Rules, state: State, where: Array, next_day: Array, is_last: Array) -> State:
    """Settles the day in lanes `where`: counts it, moves the floor, passes or times out."""
    pnl = state.balance - state.day_balance
    best_day = jnp.where(where, jnp.maximum(state.best_day, pnl), state.best_day)
    counts = where & state.has_traded & (pnl >= rules.day_profit)
    n_days = state.n_days + counts.astype(jnp.int32)
    trails = where & (rules.trail_kind == TrailKind.END_OF_DAY)
    peak = jnp.where(trails, jnp.maximum(state.peak, state.balance), state.peak)
    floor, is_locked = follow_floor(rules, peak, state.floor, state.is_locked)
    is_pass = (
        where
        & (state.balance >= rules.target_balance)
        & (n_days >= rules.min_days)
        & best_day_holds(rules, best_day, state.balance - rules.start_balance)
    )
    is_late = where & ~is_pass & ~is_last
    is_late &= next_day - state.first_day >= rules.time_limit_days
    outcome = jnp.where(is_pass, Outcome.PASSED, state.outcome)
    reason = jnp.where(is_pass, DoneReason.TARGET, state.done_reason)
    return state._replace(
        best_day=best_day,
        n_days=n_days,
        peak=peak,
        floor=jnp.where(trails, floor, state.floor),
        is_locked=jnp.where(trails, is_locked, state.is_locked),
        outcome=jnp.where(is_late, Outcome.TIMED_OUT, outcome),
        done_reason=jnp.where(is_late, DoneReason.TIME_LIMIT, reason),
    )
