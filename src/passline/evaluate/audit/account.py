"""One account under one rulebook, walked over the events of a timeline in plain Python.

Floors, limits, tiers and days follow docs/fills.md; what the file tells differently from a
simulated account (fills that happened although the rules would have refused them) is recorded as a
violation and the fill is taken as it was.
"""

from passline.evaluate.audit.timeline import Event, Kind, Timeline
from passline.evaluate.audit.walk import Day, Path, Violation, Walk
from passline.rulebook.model import Consistency, Rulebook, Tier
from passline.sim.layout import DoneReason, Outcome

__all__ = ["best_day_holds", "tier_at", "walk_account"]


def tier_at(book: Rulebook, profit_mills: int) -> int:
    """Returns the index of the tier that a profit at the prior close reaches."""
    reached = [i for i, tier in enumerate(book.tiers) if profit_mills >= tier.from_profit_mills]
    return reached[-1] if reached else 0


def best_day_holds(rule: Consistency, best_mills: int, total_mills: int) -> bool:
    """Tells whether best <= num/den * total (or <)."""
    left, right = best_mills * rule.best_day_den, rule.best_day_num * total_mills
    return left < right if rule.is_strict else left <= right


def walk_account(
    timeline: Timeline, book: Rulebook, path: Path, *, late_ns: dict[int, int] | None = None
) -> Walk:
    """Walks an account from its first trade to its end or the file's.

    Args:
        timeline: the events.
        book: the rulebook.
        path: order of prices between fills.
        late_ns: moment at which each trade that was held beyond flat-by broke it, by trade.
    """
    account = _Account(timeline, book, path, late_ns or {})
    for event in timeline.events:
        account.take(event)
        if account.walk.outcome is not Outcome.OPEN:
            break
    else:
        account.close_day()
    return account.finish()


class _Account:
    """The state of a walk."""

    def __init__(
        self, timeline: Timeline, book: Rulebook, path: Path, late_ns: dict[int, int]
    ) -> None:
        self.trips, self.book, self.timeline = timeline.trips, book, timeline
        self.late_ns = late_ns
        start = book.start_balance_mills
        floor = start - book.drawdown.allowance_mills
        self.walk = Walk(path=path, balance=start, peak=start, floor=floor)
        self.is_locked = False
        self.tier = 0
        self.is_locked_out = False
        self.has_traded = False
        self.n_days = 0
        self.best_day = 0
        self.first_day = timeline.events[0].day if timeline.events else 0
        self.today: Day | None = None
        self.open: dict[int, int] = {}
        self.skipped: set[int] = set()
        self.ranges: dict[int, tuple[int, int]] = {}
        self.last_ns = 0
        self.ceiling = 0
        self.costs = self._costs()
        self.pass_rules = [rule for rule in book.consistency if rule.scope == "pass"]

    def _costs(self) -> list[int]:
        """Returns the commission of each trade: the file's, else the firm's, else the usual."""
        sides = []
        for contract in self.trips.contracts:
            own = self.book.commission_mills(contract.symbol)
            sides.append(contract.commission_mills if own is None else own)
        told = self.trips.commission_mills
        return [
            int(told[t]) if told[t] >= 0 else 2 * int(self.trips.qty[t]) * sides[lane]
            for t, lane in enumerate(self.trips.contract)
        ]

    # --- days ---------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Takes one event, opening and settling days on the way."""
        if self.today is None or event.day > self.today.day:
            self.close_day()
            if self.walk.outcome is Outcome.OPEN:
                self._open_day(event)
            if self.walk.outcome is not Outcome.OPEN:
                return
        self.last_ns = event.ns
        if event.kind is Kind.ENTRY:
            self._enter(event)
        elif event.kind is Kind.EXIT:
            self._exit(event)
        else:
            self._mark(event)

    def _open_day(self, event: Event) -> None:
        book, walk = self.book, self.walk
        limit_days = book.time_limit_days
        if limit_days is not None and event.day - self.first_day >= limit_days:
            self._end(Outcome.TIMED_OUT, DoneReason.TIME_LIMIT, self.last_ns)
            return
        profit = walk.balance - book.start_balance_mills
        tier = tier_at(book, profit)
        self.tier = max(tier, self.tier) if book.tiers_latched else tier
        self.is_locked_out = False
        self.has_traded = False
        self.today = Day(
            day=event.day,
            open_balance=walk.balance,
            floor=walk.floor,
            daily_limit=self._limit_of(book.tiers[self.tier]),
            size_units=book.tiers[self.tier].size_units,
            close_balance=walk.balance,
            close_floor=walk.floor,
            low_equity=walk.balance,
            high_equity=walk.balance,
            cushion=walk.balance - walk.floor,
            cushion_ns=event.ns,
            limit_room=None,
            n_days=self.n_days,
            best_day=self.best_day,
            days_left=None if limit_days is None else self.first_day + limit_days - event.day,
        )
        walk.days.append(self.today)
        self._see_limit(walk.balance)

    def _limit_of(self, tier: Tier) -> int | None:
        if self.book.daily_limit.kind == "none":
            return None
        own = tier.daily_limit_mills
        return self.book.daily_limit.amount_mills if own is None else own

    def close_day(self) -> None:
        """Settles the day: counts it, moves an end-of-day floor, and tests the target."""
        day, walk, book = self.today, self.walk, self.book
        if day is None or walk.outcome is not Outcome.OPEN:
            return
        pnl = walk.balance - day.open_balance
        self.best_day = max(self.best_day, pnl)
        day.counts = self._counts(pnl)
        self.n_days += day.counts
        day.n_days, day.best_day = self.n_days, self.best_day
        if book.drawdown.trail == "end_of_day":
            self._raise(walk.balance)
        day.close_balance, day.close_floor = walk.balance, walk.floor
        if (
            book.target is not None
            and walk.balance >= book.target.balance_mills
            and self.n_days >= book.days.min_days
            and all(
                best_day_holds(rule, self.best_day, walk.balance - book.start_balance_mills)
                for rule in self.pass_rules[:1]
            )
        ):
            self._end(Outcome.PASSED, DoneReason.TARGET, self.last_ns)

    def _counts(self, pnl: int) -> bool:
        least = self.book.days.day_profit_mills
        return self.has_traded and (least is None or pnl >= least)

    # --- what happens in a day ------------------------------------------------------------------

    def _enter(self, event: Event) -> None:
        trip, trips, day = event.trip, self.trips, self.today
        assert day is not None
        contract = trips.contracts[event.lane]
        if self.is_locked_out:
            self.skipped.add(trip)
            self._violate("lockout", event, 1, 0)
            return
        if not self.book.products.allows(contract.symbol):
            self._violate("product", event, 1, 0)
        self.open[trip] = self.costs[trip] // 2
        self.has_traded = True
        units = self._units()
        day.max_units = max(day.max_units, units)
        if units > day.size_units:
            self._violate("size_limit", event, units, day.size_units)
        ratio = self.book.orders.max_stop_per_target
        stop, target = int(trips.stop_ticks[trip]), int(trips.target_ticks[trip])
        if ratio is not None and stop > 0 and target > 0 and stop > ratio * target:
            self._violate("stop_to_target", event, stop, ratio * target)
        self.walk.balance -= self.costs[trip] // 2
        self._test(self._equity(0, event.lane), event)

    def _units(self) -> int:
        """Returns the open position in tenths of a mini, each contract netted."""
        net: dict[int, int] = {}
        for trip in self.open:
            lane = int(self.trips.contract[trip])
            signed = int(self.trips.side[trip] * self.trips.qty[trip])
            net[lane] = net.get(lane, 0) + signed
        units = [c.size_units for c in self.trips.contracts]
        return sum(abs(qty) * units[lane] for lane, qty in net.items())

    def _exit(self, event: Event) -> None:
        trip, walk, day = event.trip, self.walk, self.today
        assert day is not None
        if trip in self.skipped:
            self.skipped.discard(trip)
            return
        entry_half = self.open.pop(trip)
        walk.balance += int(self.trips.gross_mills[trip]) - (self.costs[trip] - entry_half)
        day.n_trips += 1
        self.has_traded = True
        self._record(trip, event)
        if not any(self.trips.contract[t] == event.lane for t in self.open):
            self.ranges.pop(event.lane, None)
        if self.open:
            return
        self._after_exit(event)

    def _after_exit(self, event: Event) -> None:
        """Tests a flat account as docs/fills.md does after every exit, then raises the peak."""
        walk = self.walk
        self._test(walk.balance, event)
        if walk.outcome is not Outcome.OPEN:
            return
        target = self.book.target
        if target is not None and target.test == "touch" and not self.is_locked_out:
            self._touch(walk.balance, event)
        if walk.outcome is Outcome.OPEN:
            self._raise_intraday(walk.balance)

    def _record(self, trip: int, event: Event) -> None:
        """Records what a closed trade broke without ending the account."""
        day, mae = self.today, self.book.orders.mae
        assert day is not None
        if mae is not None:
            limit = mae.limit_mills(day.open_balance - self.book.start_balance_mills)
            loss = int(self.timeline.loss_mills[trip])
            if loss > limit:
                self._violate("mae", event, loss, limit)
        late = self.late_ns.get(trip)
        if late is not None:
            self._violate("late_flat", event, int(self.trips.exit_ns[trip]), late)
            if self.book.clock.late_flat == "fail":
                self._end(Outcome.BREACHED, DoneReason.LATE_FLAT, late, trip)

    def _mark(self, event: Event) -> None:
        """Moves the open profit of one contract through its range, in the path's order."""
        if not self.open or self.skipped:
            return
        high, low = event.worst if self.walk.path is Path.WORST else event.best
        self.ranges[event.lane] = (high, low)
        others = [span for lane, span in self.ranges.items() if lane != event.lane]
        is_worst = self.walk.path is Path.WORST
        top = self.walk.balance + high + sum(span[0 if is_worst else 1] for span in others)
        bottom = self.walk.balance + low + sum(span[1 if is_worst else 0] for span in others)
        top = max(top, bottom)
        self.ceiling = top
        target = self.book.target
        is_touch = target is not None and target.test == "touch"
        is_top_first = is_worst and not (is_touch and bottom <= self.walk.floor)
        marks = ((top, True), (bottom, False)) if is_top_first else ((bottom, False), (top, True))
        for equity, is_high in marks:
            self._test(equity, event)
            if self.walk.outcome is not Outcome.OPEN or not self.open:
                return
            if is_high:
                self._touch_open(equity, event)
                self._raise_intraday(equity)
            if self.walk.outcome is not Outcome.OPEN:
                return

    def _equity(self, own: int, lane: int) -> int:
        index = 1 if self.walk.path is Path.WORST else 0
        others = sum(span[index] for key, span in self.ranges.items() if key != lane)
        return self.walk.balance + own + others

    # --- rules ----------------------------------------------------------------------------------

    def _test(self, equity: int, event: Event) -> None:
        """Tests the floor, then the daily limit, whichever a falling equity meets first."""
        day, walk = self.today, self.walk
        assert day is not None
        level = None if day.daily_limit is None else day.open_balance - day.daily_limit
        self._see(equity, level, event)
        if equity <= walk.floor and (level is None or self.is_locked_out or walk.floor >= level):
            self._breach(DoneReason.FLOOR, walk.floor, equity, event)
        elif level is not None and equity <= level and not self.is_locked_out:
            if self.book.daily_limit.kind == "hard":
                self._breach(DoneReason.DAILY_LIMIT, level, equity, event)
            else:
                self._lock_out(level, equity, event)
        elif equity <= walk.floor:
            self._breach(DoneReason.FLOOR, walk.floor, equity, event)

    def _breach(self, reason: DoneReason, level: int, equity: int, event: Event) -> None:
        """Ends the account; open trades are closed at the level met, at the price if beyond."""
        self.walk.balance = self._liquidated(level, equity, event)
        self._end(Outcome.BREACHED, reason, event.ns, event.trip)

    def _lock_out(self, level: int, equity: int, event: Event) -> None:
        """Ends the day: open trades are closed at the limit, later ones of the day never were."""
        day, walk = self.today, self.walk
        assert day is not None
        walk.balance = self._liquidated(level, equity, event)
        self.skipped |= set(self.open)
        self.open.clear()
        self.ranges.clear()
        self.is_locked_out = day.is_locked_out = True
        if walk.balance <= walk.floor:
            self._end(Outcome.BREACHED, DoneReason.FLOOR, event.ns, event.trip)

    def _liquidated(self, level: int, equity: int, event: Event) -> int:
        """Closes all that is open at an equity; returns the balance after it, costs paid."""
        if not self.open:
            return equity
        self._count_closed()
        at = max(min(level, self.ceiling), equity) if event.kind is Kind.MARK else equity
        costs = sum(self.costs[trip] - half for trip, half in self.open.items())
        return at - costs

    def _count_closed(self) -> None:
        """Counts what the firm closes among the day's trades."""
        day = self.today
        assert day is not None
        day.n_trips += len(self.open)

    def _touch_open(self, equity: int, event: Event) -> None:
        """With a touch target, passes where closing here would leave the target's balance."""
        target = self.book.target
        if target is not None and target.test == "touch":
            costs = sum(self.costs[trip] - half for trip, half in self.open.items())
            self._touch(equity - costs, event)

    def _touch(self, balance: int, event: Event) -> None:
        target, day = self.book.target, self.today
        assert target is not None
        assert day is not None
        n_days = self.n_days + self._counts(balance - day.open_balance)
        if balance >= target.balance_mills and n_days >= self.book.days.min_days:
            self.walk.balance = target.balance_mills if self.open else balance
            self._count_closed()
            self._end(Outcome.PASSED, DoneReason.TARGET, event.ns, event.trip)

    def _raise_intraday(self, equity: int) -> None:
        if self.book.drawdown.trail == "intraday":
            self._raise(equity)

    def _raise(self, equity: int) -> None:
        """Raises the peak, and the floor behind it up to its lock; docs/fills.md section 4."""
        walk, drawdown = self.walk, self.book.drawdown
        walk.peak = max(walk.peak, equity)
        trigger, level = drawdown.lock_trigger_mills, drawdown.lock_level_mills
        if trigger is not None and level is not None and walk.peak >= trigger:
            walk.floor = max(walk.floor, level)
            self.is_locked = True
        elif not self.is_locked:
            walk.floor = max(walk.floor, walk.peak - drawdown.allowance_mills)

    def _see(self, equity: int, level: int | None, event: Event) -> None:
        """Notes how near the day came to its rules; what is liquidated falls no further."""
        day, walk = self.today, self.walk
        assert day is not None
        if event.kind is Kind.MARK:
            stops = [walk.floor] if level is None or self.is_locked_out else [walk.floor, level]
            equity = max(equity, min(max(stops), self.ceiling))
        day.high_equity = max(day.high_equity, equity)
        day.low_equity = min(day.low_equity, equity)
        if equity - walk.floor < day.cushion:
            day.cushion, day.cushion_ns = equity - walk.floor, event.ns
        self._see_limit(equity)

    def _see_limit(self, equity: int) -> None:
        day = self.today
        assert day is not None
        if day.daily_limit is not None:
            room = equity - (day.open_balance - day.daily_limit)
            day.limit_room = room if day.limit_room is None else min(day.limit_room, room)

    def _violate(self, rule: str, event: Event, found: int, limit: int) -> None:
        self.walk.violations.append(
            Violation(rule=rule, ns=event.ns, trip=event.trip, found=found, limit=limit)
        )

    def _end(self, outcome: Outcome, reason: DoneReason, ns: int, trip: int = -1) -> None:
        walk = self.walk
        walk.outcome, walk.reason, walk.done_ns, walk.done_trip = outcome, reason, ns, trip
        if self.today is not None:
            self.today.close_balance, self.today.close_floor = walk.balance, walk.floor

    def finish(self) -> Walk:
        """Returns the walk; an account that outlived the file ends with DATA_END."""
        if self.walk.outcome is Outcome.OPEN:
            self.walk.reason, self.walk.done_ns = DoneReason.DATA_END, self.last_ns
        return self.walk
