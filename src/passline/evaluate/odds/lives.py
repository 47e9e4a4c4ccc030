"""The path engine: many accounts walked day by day through drawn source days, all at once.

Floors, locks, limits, tiers and days follow docs/fills.md; a spell moves an account through its
costs, its two extremes in the path's order, and its result. Ended accounts leave the arrays, so a
day costs what the living cost.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.odds.draws import Draws
from passline.evaluate.odds.payouts import Ledger, open_ledger, settle_payouts
from passline.evaluate.odds.stage import NEVER, PathOrder, Stage

__all__ = ["Ending", "Limits", "Results", "join_results", "walk_stage"]

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Ending(IntEnum):
    """How a stage of a life ends; exactly one each."""

    ALIVE = 0
    """Not ended; never in results."""
    PASSED = 1
    """Reached the target and what else a pass needs."""
    FLOOR_OPEN = 2
    """Fell to the floor on open loss, inside a trade."""
    FLOOR_CLOSED = 3
    """Fell to the floor with a closed trade."""
    DAILY_LIMIT = 4
    """Lost a hard daily limit."""
    TIME_LIMIT = 5
    """Ran out of the firm's time."""
    CAP = 6
    """Still alive after the days that this program walks."""
    INACTIVE = 7
    """Closed by the firm for idleness."""
    LAST_PAYOUT = 8
    """Closed, or called up to a live account, by the last payout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Where a walk stops on its own account.

    Attributes:
        cap_days: trading days after which a life is left, in a stage without a nearer end.
        keep_mills: cushion left above the floor by a payout.
    """

    cap_days: int
    keep_mills: int = 0


@dataclass(frozen=True, kw_only=True)
class Results:
    """What became of each life in a stage; int64 [L].

    Attributes:
        ending: Ending code.
        n_days: trading days lived.
        calendar_days: calendar days from the first day to the last, both counted.
        balance: at the end, mills.
        best_profit: highest balance at a close less the start.
        place: place in the record on the last day, where the next stage goes on.
        n_payouts: payouts.
        gross: sum of payouts before the split.
        net: the trader's share of them.
        payout_day: calendar day of the first payout; -1 if none.
    """

    ending: I64
    n_days: I64
    calendar_days: I64
    balance: I64
    best_profit: I64
    place: I64
    n_payouts: I64
    gross: I64
    net: I64
    payout_day: I64

    @property
    def is_pass(self) -> Mask:
        """Which lives passed; bool [L]."""
        return self.ending == Ending.PASSED


def join_results(parts: Iterable[Results]) -> Results:
    """Lays results one after the other."""
    listed = list(parts)
    return Results(
        **{f.name: np.concatenate([getattr(p, f.name) for p in listed]) for f in fields(Results)}
    )


def walk_stage(
    stage: Stage,
    draws: Draws,
    life: I64,
    record: I64,
    limits: Limits,
    *,
    first_day: int = 0,
    place: I64 | None = None,
) -> Results:
    """Walks lives through a stage until each has ended.

    Args:
        stage: the rules and the spells.
        draws: which source days they meet.
        life: number of each life, which fixes its draws [L].
        record: pseudo-record of each life [L].
        limits: where the walk stops.
        first_day: running number of the first day in the draws; a later stage begins after the
            days of the one before.
        place: place in the record on the day before [L]; None begins a block.
    """
    walk = _Walk(stage, draws, life, record, limits, first_day, place)
    while walk.n_alive:
        walk.live_day()
    return walk.results()


class _Walk:
    """Arrays of the living, and the results of all."""

    def __init__(
        self,
        stage: Stage,
        draws: Draws,
        life: I64,
        record: I64,
        limits: Limits,
        first_day: int,
        place: I64 | None,
    ) -> None:
        book, n = stage.book, len(life)
        zero = np.zeros(n, np.int64)
        self.stage, self.draws, self.limits, self.book = stage, draws, limits, book
        self.first_day, self.day = first_day, 0
        self.out = {f.name: np.zeros(n, np.int64) for f in fields(Results)}
        self.index = np.arange(n)
        self.keys, self.record = draws.keys(life), record
        self.weekday = draws.weekday(self.keys)
        self.place = zero - 1 if place is None else place
        self.balance = zero + book.start_balance_mills
        self.peak = self.balance.copy()
        self.floor = self.balance - book.drawdown.allowance_mills
        self.is_locked = np.zeros(n, bool)
        self.tier, self.n_good, self.best_day = zero.copy(), zero.copy(), zero.copy()
        self.best_profit = zero.copy()
        self.ending = zero.copy()
        is_funded = book.payout is not None
        self.ledger: Ledger | None = open_ledger(book, n) if is_funded else None
        idle = book.inactivity
        self.active = np.zeros((n, idle.active_days), np.int64) if idle else None

    @property
    def n_alive(self) -> int:
        """Lives that have not ended."""
        return len(self.index)

    def _calendar(self, day: int) -> I64:
        """Returns the calendar day of a trading day of each life, weekends counted, from 0."""
        return day + 2 * ((self.weekday + day) // 5)

    # --- a day ------------------------------------------------------------------------------------

    def live_day(self) -> None:
        """Lives one trading day in every account that is left."""
        stage = self.stage
        self.place, source = self.draws.next(
            self.keys, self.first_day + self.day, self.place, self.record
        )
        profit = self.balance - self.book.start_balance_mills
        tier = np.searchsorted(stage.tier_profit, profit, side="right") - 1
        self.tier = np.maximum(tier, self.tier) if self.book.tiers_latched else tier
        self.limit = stage.tier_limit[self.tier]
        self.day_balance = self.balance.copy()
        self.is_locked_out = np.zeros(self.n_alive, bool)
        n_spells = stage.n_spells[source]
        row = (self.tier * len(stage.n_spells) + source) * stage.n_places
        for at in range(int(n_spells.max(initial=0))):
            going = np.flatnonzero((n_spells > at) & (self.ending == 0) & ~self.is_locked_out)
            if not len(going):
                break
            self._live_spell(going, row[going] + at)
        self._close_day(n_spells > 0)
        self.day += 1
        self._drop_ended()

    def _live_spell(self, on: I64, cell: I64) -> None:
        """Moves accounts `on` through one spell each; docs/fills.md sections 4 and 5."""
        stage = self.stage
        close_cost = stage.close_cost[cell]
        equity = self.balance[on] - stage.open_cost[cell]
        high, low = equity + stage.high[cell], equity + stage.low[cell]
        peak, floor, is_locked = self.peak[on], self.floor[on], self.is_locked[on]
        early = self._meet(on, low, floor)
        if stage.order is PathOrder.WORST:
            peak, floor, is_locked = self._raise(peak, floor, is_locked, high)
            code, met = self._meet(on, low, floor), floor
        else:
            code, met = early, floor
            peak, floor, is_locked = self._raise(peak, floor, is_locked, high)
        level = self.day_balance[on] - self.limit[on]
        balance = equity + stage.gross[cell] - close_cost
        balance = np.where(code == _HIT_FLOOR, np.minimum(met, high) - close_cost, balance)
        balance = np.where(code == _HIT_LIMIT, np.minimum(level, high) - close_cost, balance)
        target = self.book.target
        ending = np.where(code == _HIT_FLOOR, Ending.FLOOR_OPEN, Ending.ALIVE)
        if target is not None and target.test == "touch":
            balance, ending = self._touch(on, early, high - close_cost, balance, ending)
        is_out = (ending == 0) & (balance <= floor)
        closed = np.where(code == 0, Ending.FLOOR_CLOSED, Ending.FLOOR_OPEN)
        ending = np.where(is_out, closed, ending)
        is_over = (ending == 0) & ((code == _HIT_LIMIT) | (balance <= level))
        if self.book.daily_limit.kind == "hard":
            ending = np.where(is_over, Ending.DAILY_LIMIT, ending)
        else:
            self.is_locked_out[on] = is_over
        peak, floor, is_locked = self._raise(peak, floor, is_locked, balance)
        self.balance[on], self.ending[on] = balance, ending
        self.peak[on], self.floor[on], self.is_locked[on] = peak, floor, is_locked

    def _meet(self, on: I64, low: I64, floor: I64) -> I64:
        """Returns which level a falling equity meets first: none, the floor, the daily limit."""
        level = self.day_balance[on] - self.limit[on]
        first = np.maximum(floor, level)
        hit = np.where(floor >= level, _HIT_FLOOR, _HIT_LIMIT)
        return np.where(low <= first, hit, 0)

    def _touch(self, on: I64, early: I64, high: I64, balance: I64, ending: I64) -> tuple[I64, I64]:
        """Passes accounts whose equity, net of costs, touched the target before any level.

        On either path a target counts only where the low did not meet the floor as it stood before
        the spell (`early`), since the low may have come first.
        """
        target = self.book.target
        assert target is not None
        reached = np.where(early == 0, high, -NEVER)
        reached = np.maximum(reached, np.where(ending == 0, balance, -NEVER))
        least = self.book.days.day_profit_mills
        counts = True if least is None else reached - self.day_balance[on] >= least
        is_pass = (reached >= target.balance_mills) & (
            self.n_good[on] + counts >= self.book.days.min_days
        )
        ending = np.where(is_pass, Ending.PASSED, ending)
        return np.where(is_pass, np.maximum(target.balance_mills, balance), balance), ending

    def _raise(self, peak: I64, floor: I64, is_locked: Mask, equity: I64) -> tuple[I64, I64, Mask]:
        """Raises an intraday peak and the floor behind it."""
        if self.book.drawdown.trail != "intraday":
            return peak, floor, is_locked
        return self._follow(np.maximum(peak, equity), floor, is_locked)

    def _follow(self, peak: I64, floor: I64, is_locked: Mask) -> tuple[I64, I64, Mask]:
        at_lock = peak >= self.stage.lock_trigger
        trailed = np.maximum(floor, peak - self.book.drawdown.allowance_mills)
        moved = np.where(is_locked, floor, trailed)
        locked = np.maximum(floor, self.stage.lock_level) if at_lock.any() else moved
        return peak, np.where(at_lock, locked, moved), is_locked | at_lock

    # --- the close --------------------------------------------------------------------------------

    def _close_day(self, has_traded: Mask) -> None:
        book, day = self.book, self.day
        is_alive = self.ending == 0
        pnl = self.balance - self.day_balance
        self.best_day = np.maximum(self.best_day, pnl)
        least = book.days.day_profit_mills
        self.n_good += has_traded & (True if least is None else pnl >= least)
        if book.drawdown.trail == "end_of_day":
            peak = np.maximum(self.peak, self.balance)
            self.peak, self.floor, self.is_locked = self._follow(peak, self.floor, self.is_locked)
        profit = self.balance - book.start_balance_mills
        self.best_profit = np.maximum(self.best_profit, profit)
        if book.target is not None:
            is_pass = is_alive & (self.balance >= book.target.balance_mills)
            is_pass &= self.n_good >= book.days.min_days
            for rule in [rule for rule in book.consistency if rule.scope == "pass"][:1]:
                left = self.best_day * rule.best_day_den
                right = rule.best_day_num * profit
                is_pass &= left < right if rule.is_strict else left <= right
            self.ending[is_pass] = Ending.PASSED
        if self.ledger is not None:
            self._pay(pnl, has_traded, is_alive)
        self._watch_activity(pnl, has_traded)
        tomorrow = self._calendar(day + 1)
        if book.time_limit_days is not None:
            is_late = (self.ending == 0) & (tomorrow >= book.time_limit_days)
            self.ending[is_late] = Ending.TIME_LIMIT
        if day + 1 >= self.limits.cap_days:
            self.ending[self.ending == 0] = Ending.CAP

    def _pay(self, pnl: I64, has_traded: Mask, is_alive: Mask) -> None:
        ledger, payout = self.ledger, self.book.payout
        assert ledger is not None
        assert payout is not None
        before = self.balance
        dead = np.where(is_alive, before, self.book.start_balance_mills)
        balance, floor, is_paid = settle_payouts(
            self.book,
            ledger,
            balance=dead,
            floor=self.floor,
            pnl=pnl,
            has_traded=has_traded,
            calendar_day=self._calendar(self.day) + 1,
            keep_mills=self.limits.keep_mills,
        )
        self.balance = np.where(is_alive, balance, before)
        self.floor = floor
        if self.book.drawdown.payout_lock_level_mills is not None:
            self.is_locked = self.is_locked | is_paid
        most = payout.max_payouts
        if most is not None and payout.after_last != "continues":
            self.ending[is_alive & is_paid & (ledger.n_payouts >= most)] = Ending.LAST_PAYOUT

    def _watch_activity(self, pnl: I64, has_traded: Mask) -> None:
        """Closes accounts with too few active days in the rolling window."""
        idle = self.book.inactivity
        if idle is None or self.active is None:
            return
        least = idle.day_profit_mills
        is_active = has_traded & (True if least is None else pnl >= least)
        today = self._calendar(self.day)
        shifted = np.concatenate([self.active[:, 1:], today[:, None]], axis=1)
        self.active = np.where(is_active[:, None], shifted, self.active)
        is_idle = self._calendar(self.day + 1) - self.active[:, 0] > idle.window_days
        self.ending[is_idle & (self.ending == 0)] = Ending.INACTIVE

    def _drop_ended(self) -> None:
        """Writes the results of the lives that ended and keeps the others."""
        ended = self.ending != 0
        if not ended.any():
            return
        at = self.index[ended]
        self.out["ending"][at] = self.ending[ended]
        self.out["n_days"][at] = self.day
        self.out["calendar_days"][at] = self._calendar(self.day - 1)[ended] + 1
        self.out["balance"][at] = self.balance[ended]
        self.out["best_profit"][at] = self.best_profit[ended]
        self.out["place"][at] = self.place[ended]
        self.out["payout_day"][at] = -1
        kept = ~ended
        if self.ledger is not None:
            for name in ("n_payouts", "gross", "net"):
                self.out[name][at] = getattr(self.ledger, name)[ended]
            self.out["payout_day"][at] = self.ledger.first_day[ended]
            self.ledger.keep(kept)
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[kept])
        if self.active is not None:
            self.active = self.active[kept]

    def results(self) -> Results:
        """Returns what became of all lives."""
        return Results(**self.out)


_HIT_FLOOR, _HIT_LIMIT = 1, 2
_COLUMNS = (
    "index",
    "keys",
    "record",
    "weekday",
    "place",
    "balance",
    "peak",
    "floor",
    "is_locked",
    "tier",
    "n_good",
    "best_day",
    "best_profit",
    "ending",
)
