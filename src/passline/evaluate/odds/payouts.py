"""Payouts of a funded account, settled at the close of a day for many accounts at once.

The trader asks as soon as the book lets him and for as much as it lets him, but leaves `keep_mills`
above the floor that follows, since a payout that empties the cushion ends the account.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.odds.stage import NEVER
from passline.rulebook.model import Payout, Rulebook

__all__ = ["Ledger", "least_request_mills", "open_ledger", "settle_payouts"]

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SMALLEST_REQUEST_MILLS = 100_000
"""What the trader asks for at least where the firm has no minimum."""
_MOST_PAYOUTS = 64
"""Payouts told apart by their number; the last cap and goal hold for all that follow."""


@dataclass(kw_only=True, slots=True)
class Ledger:
    """Payout books of L accounts; int64 [L].

    Attributes:
        base: balance after the last payout, or at the start.
        best_day: best day since the last payout.
        best_ever: best day since the start.
        good_days: qualifying days since the last payout.
        traded_days: days with a trade since the last payout.
        last_day: calendar day of the last payout, or of the start.
        n_payouts: payouts so far.
        gross: sum of payouts before the split.
        net: the trader's share of them.
        first_day: calendar day of the first payout; -1 if none.
    """

    base: I64
    best_day: I64
    best_ever: I64
    good_days: I64
    traded_days: I64
    last_day: I64
    n_payouts: I64
    gross: I64
    net: I64
    first_day: I64

    def keep(self, index: Mask) -> None:
        """Drops the accounts that are not in the mask."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name)[index])


def open_ledger(book: Rulebook, n_accounts: int) -> Ledger:
    """Returns the books of accounts that just opened."""
    zero = np.zeros(n_accounts, np.int64)
    return Ledger(
        base=zero + book.start_balance_mills,
        best_day=zero.copy(),
        best_ever=zero.copy(),
        good_days=zero.copy(),
        traded_days=zero.copy(),
        last_day=zero.copy(),
        n_payouts=zero.copy(),
        gross=zero.copy(),
        net=zero.copy(),
        first_day=zero - 1,
    )


def least_request_mills(payout: Payout) -> int:
    """Returns the smallest payout that is asked for."""
    return max(payout.min_request_mills, _SMALLEST_REQUEST_MILLS)


def settle_payouts(
    book: Rulebook,
    ledger: Ledger,
    *,
    balance: I64,
    floor: I64,
    pnl: I64,
    has_traded: Mask,
    calendar_day: I64,
    keep_mills: int,
) -> tuple[I64, I64, Mask]:
    """Counts the day, pays what may be asked for, and returns balance, floor and who was paid.

    Args:
        book: the funded stage; nothing is paid without its payout rules.
        ledger: changed in place.
        balance: at the close [L].
        floor: after the day was settled [L].
        pnl: the day's result [L].
        has_traded: whether the day had a trade [L].
        calendar_day: days since the account opened [L].
        keep_mills: cushion left above the floor.
    """
    payout = book.payout
    if payout is None:
        return balance, floor, np.zeros(len(balance), bool)
    least = payout.day_profit_mills
    ledger.good_days += has_traded & (True if least is None else pnl >= least)
    ledger.traded_days += has_traded
    ledger.best_day = np.maximum(ledger.best_day, pnl)
    ledger.best_ever = np.maximum(ledger.best_ever, pnl)
    may = _may_ask(book, payout, ledger, balance, calendar_day)
    if not may.any():
        return balance, floor, may
    level = book.drawdown.payout_lock_level_mills
    floor_after = floor if level is None else np.maximum(floor, level)
    room = max(keep_mills, 1)
    amount = np.minimum(_amount(book, payout, ledger, balance), balance - floor_after - room)
    is_paid = may & (amount >= least_request_mills(payout))
    paid = np.where(is_paid, amount, 0)
    balance = balance - paid
    _book(payout, ledger, paid, is_paid, balance, calendar_day)
    return balance, np.where(is_paid, floor_after, floor), is_paid


def _may_ask(
    book: Rulebook, payout: Payout, ledger: Ledger, balance: I64, calendar_day: I64
) -> Mask:
    number = ledger.n_payouts + 1
    earned = balance - ledger.base
    goals = np.asarray([payout.profit_goal_mills(n) for n in range(1, _MOST_PAYOUTS + 1)], np.int64)
    may = ledger.good_days >= payout.qualifying_days
    may &= ledger.traded_days >= payout.trading_days
    may &= calendar_day - ledger.last_day >= payout.every_days
    may &= earned >= np.maximum(goals[np.minimum(number, _MOST_PAYOUTS) - 1], 1)
    if payout.min_balance_mills is not None:
        may &= (balance >= payout.min_balance_mills) | ~_is_guarded(payout, number)
    if payout.max_payouts is not None:
        may &= number <= payout.max_payouts
    for rule in book.consistency:
        if rule.scope != "payout":
            continue
        applies = number >= rule.from_payout
        if rule.to_payout is not None:
            applies &= number <= rule.to_payout
        is_since = rule.window == "since_payout"
        best = ledger.best_day if is_since else ledger.best_ever
        total = earned if is_since else balance + ledger.gross - book.start_balance_mills
        left, right = best * rule.best_day_den, rule.best_day_num * total
        may &= ~applies | (left < right if rule.is_strict else left <= right)
    return may


def _is_guarded(payout: Payout, number: I64) -> Mask:
    """Tells whether the safety net guards the payout of this number."""
    until = payout.safety_net_payouts
    return number <= (NEVER if until is None else until)


def _amount(book: Rulebook, payout: Payout, ledger: Ledger, balance: I64) -> I64:
    """Returns the most that may be asked for."""
    number = ledger.n_payouts + 1
    caps = np.asarray(
        [
            NEVER if (cap := payout.cap_mills(n)) is None else cap
            for n in range(1, _MOST_PAYOUTS + 1)
        ],
        np.int64,
    )
    profit = balance - book.start_balance_mills
    amount = profit * payout.balance_share_num // payout.balance_share_den
    amount = np.minimum(amount, caps[np.minimum(number, _MOST_PAYOUTS) - 1])
    if payout.profit_multiple is not None:
        amount = np.minimum(amount, payout.profit_multiple * (balance - ledger.base))
    if payout.lifetime_mills is not None:
        amount = np.minimum(amount, payout.lifetime_mills - ledger.gross)
    if payout.safety_net_mills is not None:
        net = np.where(_is_guarded(payout, number), payout.safety_net_mills, -NEVER)
        amount = np.minimum(amount, balance - net)
    return amount


def _book(
    payout: Payout, ledger: Ledger, paid: I64, is_paid: Mask, balance: I64, calendar_day: I64
) -> None:
    """Writes a payout into the books and starts the next one's counts."""
    full_before = np.minimum(ledger.gross, payout.full_split_mills)
    ledger.gross = ledger.gross + paid
    full = np.minimum(ledger.gross, payout.full_split_mills) - full_before
    ledger.net += full + (paid - full) * payout.split_num // payout.split_den
    ledger.n_payouts += is_paid
    ledger.base = np.where(is_paid, balance, ledger.base)
    ledger.best_day = np.where(is_paid, 0, ledger.best_day)
    ledger.good_days = np.where(is_paid, 0, ledger.good_days)
    ledger.traded_days = np.where(is_paid, 0, ledger.traded_days)
    ledger.last_day = np.where(is_paid, calendar_day, ledger.last_day)
    is_first = is_paid & (ledger.first_day < 0)
    ledger.first_day = np.where(is_first, calendar_day, ledger.first_day)
