"""The inside of a bar: point rules at the open, two paths of three legs, and which one is kept.

The order of events is that of docs/fills.md sections 3 to 5. Account arrays are [L] at the open and
[2, L] on the two paths (0: high first, 1: low first).
"""

import jax
import jax.numpy as jnp
from jax import Array

from passline.sim.division import floor_divide
from passline.sim.layout import NO_PRICE, FillReason, Outcome, PathRule, Rules, TargetTest
from passline.sim.ledger import Account, Exit, Terms, equity_at, mark_trip, settle_exit
from passline.sim.rules import raise_peak

__all__ = ["choose_path", "meet_point", "walk_paths"]


def first_reason(*cases: tuple[Array, FillReason]) -> Array:
    """Returns the reason of the first case that holds, NONE if none does."""
    reason = jnp.full(cases[0][0].shape, FillReason.NONE, jnp.int32)
    for holds, name in reversed(cases):
        reason = jnp.where(holds, jnp.int32(name), reason)
    return reason


def balance_if_closed(account: Account, terms: Terms, price: Array) -> Array:
    """Returns the balance after a slipped exit at `price` with commission, mills."""
    slipped = price - jnp.sign(account.qty) * terms.slippage_ticks
    cost = jnp.abs(account.qty) * terms.commission_mills
    return equity_at(account, terms, slipped) - cost


def reaches_target(account: Account, terms: Terms, rules: Rules, price: Array) -> Array:
    """Tells where closing at `price` would leave the target balance (TOUCH rulebooks only)."""
    is_enough = balance_if_closed(account, terms, price) >= rules.target_balance
    return is_enough & (rules.target_test == TargetTest.TOUCH)


def raise_mark(account: Account, terms: Terms, rules: Rules, price: Array, where: Array) -> Account:
    """Marks open positions at `price` in lanes `where`: peak, floor, the round trip's extremes."""
    equity = equity_at(account, terms, price)
    peak, floor, is_locked = raise_peak(
        rules, account.peak, account.floor, account.is_locked, equity, where
    )
    account = account._replace(peak=peak, floor=floor, is_locked=is_locked)
    return mark_trip(account, terms, price, where)


def meet_point(account: Account, terms: Terms, rules: Rules, price: Array) -> tuple[Account, Exit]:
    """Applies the point rules at `price`; first match wins, else the mark raises the peak."""
    side = jnp.sign(account.qty)
    is_open = account.qty != 0
    equity = equity_at(account, terms, price)
    has_stop, has_target = terms.stop != NO_PRICE, terms.target != NO_PRICE
    reason = first_reason(
        (is_open & (equity <= account.floor), FillReason.FLOOR),
        (is_open & (equity <= terms.limit_level), FillReason.DAILY_LIMIT),
        (is_open & has_stop & (side * (price - terms.stop) <= 0), FillReason.STOP),
        (
            is_open & has_target & (side * (price - terms.target) >= rules.target_through),
            FillReason.TARGET,
        ),
        (is_open & reaches_target(account, terms, rules, price), FillReason.ACCOUNT_TARGET),
    )
    mark = jnp.where(reason == FillReason.TARGET, terms.target, price)
    account = raise_mark(account, terms, rules, price, is_open & (reason == FillReason.NONE))
    return account, Exit(reason, mark)


def meet_leg(
    account: Account, terms: Terms, rules: Rules, way: Exit, start: Array, end: Array
) -> tuple[Account, Exit]:
    """Walks one leg from `start` to `end` in the lanes that are still open.

    Thresholds are compared as equities, so no level needs a division here: floor and limit are met
    before the stop exactly when the equity at the stop is at or below the higher of the two. On one
    tick the floor goes before the limit, and a level already reached is met at `start`.
    """
    side = jnp.sign(account.qty)
    is_open = (account.qty != 0) & (way.reason == FillReason.NONE)
    move = side * (end - start)
    against, in_favor = is_open & (move < 0), is_open & (move > 0)
    equity = equity_at(account, terms, end)
    level = jnp.maximum(account.floor, terms.limit_level)
    stops = against & (terms.stop != NO_PRICE) & (side * (end - terms.stop) <= 0)
    breaks = against & (equity <= level)
    breaks &= ~stops | (equity_at(account, terms, terms.stop) <= level)
    beyond = side * (end - terms.target)
    targets = in_favor & (terms.target != NO_PRICE) & (beyond >= rules.target_through)
    passes = in_favor & reaches_target(account, terms, rules, end)
    before = terms.target + side * (rules.target_through - 1)
    passes &= ~targets | reaches_target(account, terms, rules, before)
    reason = first_reason(
        (breaks & (account.floor >= terms.limit_level), FillReason.FLOOR),
        (breaks, FillReason.DAILY_LIMIT),
        (stops, FillReason.STOP),
        (passes, FillReason.ACCOUNT_TARGET),
        (targets, FillReason.TARGET),
    )
    mark = level_price(account, terms, rules, reason)
    mark = jnp.where(breaks & (side * (mark - start) > 0), start, mark)
    shares_tick = breaks & (equity_at(account, terms, mark) <= account.floor)
    reason = jnp.where(shares_tick, FillReason.FLOOR, reason)
    mark = jnp.where(reason == FillReason.STOP, terms.stop, mark)
    mark = jnp.where(reason == FillReason.TARGET, terms.target, mark)
    lives_on = is_open & (reason == FillReason.NONE)
    raises = in_favor & (lives_on | (reason == FillReason.TARGET) | passes)
    account = raise_mark(account, terms, rules, jnp.where(lives_on, end, mark), raises)
    account = mark_trip(account, terms, end, lives_on)
    return account, Exit(jnp.where(is_open, reason, way.reason), jnp.where(is_open, mark, way.mark))


def level_price(account: Account, terms: Terms, rules: Rules, reason: Array) -> Array:
    """Returns the first price at which the equity threshold of `reason` is met, ticks."""
    side = jnp.sign(account.qty)
    per_tick = jnp.maximum(jnp.abs(account.qty) * terms.tick_mills, 1)
    is_target = reason == FillReason.ACCOUNT_TARGET
    level = jnp.where(reason == FillReason.FLOOR, account.floor, terms.limit_level)
    cost = jnp.abs(account.qty) * terms.commission_mills
    is_level = (reason == FillReason.FLOOR) | (reason == FillReason.DAILY_LIMIT)
    distance = jnp.where(is_level, account.balance - level, 0)
    distance = jnp.where(is_target, rules.target_balance - account.balance + cost, distance)
    ticks = -floor_divide(-distance, per_tick)
    return terms.entry + jnp.where(is_target, side * (ticks + terms.slippage_ticks), -side * ticks)


def walk_paths(
    account: Account, terms: Terms, rules: Rules, way: Exit, bar: tuple[Array, Array, Array, Array]
) -> Account:
    """Plays both paths through a bar (open, high, low, close, each [L]) and settles their exits.

    Args:
        account: after the point rules at the open, [L].
        terms: [L].
        rules: the rulebook.
        way: exit already met at the open, [L].
        bar: ticks, [L] each.

    Returns:
        Both accounts at the close, [2, L].
    """
    open_, high, low, close = bar
    both: tuple[Account, Exit] = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (2, *x.shape)), (account, way)
    )
    account, way = both
    first, second = jnp.stack([high, low]), jnp.stack([low, high])
    for start, end in ((open_[None], first), (first, second), (second, close[None])):
        account, way = meet_leg(account, terms, rules, way, start, end)
    return settle_exit(account, terms, rules, way)


def choose_path(paths: Account, terms: Terms, rules: Rules, close: Array) -> tuple[Account, Array]:
    """Keeps one of two paths [2, L] by the path rule; also tells where they differ [L]."""
    equity = equity_at(paths, terms, close[None])
    is_breached = paths.outcome == Outcome.BREACHED
    is_differing = (
        (paths.outcome[0] != paths.outcome[1])
        | (equity[0] != equity[1])
        | (paths.qty[0] != paths.qty[1])
        | (paths.is_locked_out[0] != paths.is_locked_out[1])
    )
    badness = (
        is_breached.astype(jnp.int32),
        -equity,
        paths.is_locked_out.astype(jnp.int32),
        paths.floor,
    )
    worse, is_tie = jnp.zeros_like(is_differing), jnp.ones_like(is_differing)
    for measure in badness:
        worse |= is_tie & (measure[1] > measure[0])
        is_tie &= measure[1] == measure[0]
    better = ~worse & ~is_tie
    rule = rules.path_rule
    takes_low = jnp.where(rule == PathRule.WORST, worse, rule == PathRule.LOW_FIRST)
    takes_low = jnp.where(rule == PathRule.BEST, better, takes_low)
    kept: Account = jax.tree.map(lambda x: jnp.where(takes_low, x[1], x[0]), paths)
    return kept, is_differing
