"""Money: equity of an open position and the exit that turns it into balance.

Everything is int32 mills and ticks, elementwise over any leading shape; docs/fills.md section 4.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from passline.sim.layout import DoneReason, FillReason, LimitKind, Outcome, Rules, TargetTest
from passline.sim.rules import raise_peak

__all__ = ["Account", "Exit", "Terms", "equity_at", "settle_exit"]


class Terms(NamedTuple):
    """What cannot change inside a bar.

    Attributes:
        entry: entry price of the open position, ticks.
        stop: ticks, NO_PRICE if none.
        target: ticks, NO_PRICE if none.
        tick_mills: value of a tick of one contract.
        commission_mills: per contract and side.
        slippage_ticks: against the trader.
        limit_level: equity at or below it touches the daily limit; NO_PRICE if none is in force.
        day_balance: balance at the start of the day.
        n_days: days counted before this one.
        trip_balance: balance before the round trip's entry commission.
    """

    entry: Array
    stop: Array
    target: Array
    tick_mills: Array
    commission_mills: Array
    slippage_ticks: Array
    limit_level: Array
    day_balance: Array
    n_days: Array
    trip_balance: Array


class Account(NamedTuple):
    """What a path through a bar can change; fields as in layout.State and layout.Events."""

    balance: Array
    peak: Array
    floor: Array
    is_locked: Array
    qty: Array
    outcome: Array
    done_reason: Array
    is_locked_out: Array
    trip_low: Array
    trip_high: Array
    exit_qty: Array
    exit_price: Array
    exit_reason: Array
    trip_net: Array


class Exit(NamedTuple):
    """A way out that was met: why (FillReason, NONE if none) and at which unslipped price."""

    reason: Array
    mark: Array


def open_pnl_at(account: Account, terms: Terms, price: Array) -> Array:
    """Returns the open P&L at `price`, mills; 0 when flat."""
    return account.qty * (price - terms.entry) * terms.tick_mills


def equity_at(account: Account, terms: Terms, price: Array) -> Array:
    """Returns balance + open P&L at `price`, mills."""
    return account.balance + open_pnl_at(account, terms, price)


def mark_trip(account: Account, terms: Terms, price: Array, where: Array) -> Account:
    """Takes the open P&L at `price` into the round trip's low and high in lanes `where`."""
    pnl = open_pnl_at(account, terms, price)
    return account._replace(
        trip_low=jnp.where(where, jnp.minimum(account.trip_low, pnl), account.trip_low),
        trip_high=jnp.where(where, jnp.maximum(account.trip_high, pnl), account.trip_high),
    )


def settle_exit(account: Account, terms: Terms, rules: Rules, way: Exit) -> Account:
    """Closes the position of every lane whose `way.reason` is not NONE, and tests what follows.

    Slips all fills but targets, charges commission, and then in this order: floor, daily limit,
    account target, peak (docs/fills.md, "Every exit").
    """
    is_exit = way.reason != FillReason.NONE
    account = mark_trip(account, terms, way.mark, is_exit)
    side = jnp.sign(account.qty)
    slip = jnp.where(way.reason == FillReason.TARGET, 0, side * terms.slippage_ticks)
    price = way.mark - slip
    cost = jnp.abs(account.qty) * terms.commission_mills
    balance = account.balance + open_pnl_at(account, terms, price) - cost
    is_floor = is_exit & ((way.reason == FillReason.FLOOR) | (balance <= account.floor))
    is_limit = is_exit & ~is_floor & (balance <= terms.limit_level)
    is_hard = is_limit & (rules.limit_kind == LimitKind.HARD)
    counts_today = (balance - terms.day_balance >= rules.day_profit).astype(jnp.int32)
    is_pass = (
        is_exit
        & ~is_floor
        & ~is_limit
        & (rules.target_test == TargetTest.TOUCH)
        & (balance >= rules.target_balance)
        & (terms.n_days + counts_today >= rules.min_days)
    )
    outcome = jnp.where(is_floor | is_hard, Outcome.BREACHED, account.outcome)
    reason = jnp.where(is_floor, DoneReason.FLOOR, account.done_reason)
    reason = jnp.where(is_hard, DoneReason.DAILY_LIMIT, reason)
    is_alive = is_exit & ~is_floor & ~is_hard
    peak, floor, is_locked = raise_peak(
        rules, account.peak, account.floor, account.is_locked, balance, is_alive
    )
    return account._replace(
        balance=jnp.where(is_exit, balance, account.balance),
        peak=peak,
        floor=floor,
        is_locked=is_locked,
        qty=jnp.where(is_exit, 0, account.qty),
        outcome=jnp.where(is_pass, Outcome.PASSED, outcome),
        done_reason=jnp.where(is_pass, DoneReason.TARGET, reason),
        is_locked_out=account.is_locked_out | (is_limit & ~is_hard),
        exit_qty=jnp.where(is_exit, account.qty, account.exit_qty),
        exit_price=jnp.where(is_exit, price, account.exit_price),
        exit_reason=jnp.where(is_exit, way.reason, account.exit_reason),
        trip_net=jnp.where(is_exit, balance - terms.trip_balance, account.trip_net),
    )
