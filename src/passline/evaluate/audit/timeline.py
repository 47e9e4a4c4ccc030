"""Closed trades and what is known between their fills, as one list of events in time order.

A mark is a range of open profit that an account surely or possibly saw between two fills of one
contract: from bars where there are bars, else from the trade's own excursions, else only the
fills' prices. The list knows no rulebook; `account` walks it under one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from passline.errors import FillsError
from passline.evaluate.audit.trips import Trips
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.market.contract import Contract
from passline.market.load.zones import eastern_text

__all__ = ["Event", "Kind", "Sight", "Timeline", "build_timeline", "trading_days"]

I64 = NDArray[np.int64]
Sight = Literal["bars", "excursions", "fills"]

_LARGEST_OFF_SHARE = 0.05
_OFF_TICKS = 4
_LARGEST_CLOSED_SHARE = 0.05


class Kind(IntEnum):
    """What happens at an event."""

    MARK = 0
    """Open profit moves within a range."""
    EXIT = 1
    """A trade is closed."""
    ENTRY = 2
    """A trade is opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happens to the account.

    Attributes:
        ns: when, UTC ns.
        order: place among events of the same instant.
        kind: what happens.
        day: trading day, days since 1970-01-01.
        trip: index of the trade; -1 for a mark.
        lane: index of the contract.
        worst: (highest, lowest) open profit that the contract's trades may have shown, mills.
        best: (highest, lowest) open profit that they surely showed, mills.
    """

    ns: int
    order: int
    kind: Kind
    day: int
    trip: int
    lane: int
    worst: tuple[int, int] = (0, 0)
    best: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All events of a table of trades.

    Attributes:
        trips: the trades.
        events: in time order.
        sight: the poorest source of marks that any trade had to be content with.
        sight_counts: trades by source of their marks.
        loss_mills: largest open loss each trade surely showed, 0 or more [n].
        notes: what a reader has to know.
    """

    trips: Trips
    events: tuple[Event, ...]
    sight: Sight
    sight_counts: dict[Sight, int]
    loss_mills: I64
    notes: tuple[str, ...]


def trading_days(contract: Contract, ns: I64, *, is_end: bool) -> I64:
    """Returns the trading day of each time, holidays merged into the next full day; int64 [n].

    Outside the sessions an entry belongs to the next one, and an end to the last one.
    """
    times = np.asarray(ns, np.int64) - (1 if is_end else 0)
    sessions = load_calendar(contract.calendar).all_sessions
    if is_end:
        index = np.searchsorted(sessions.open_ns, times, side="right") - 1
    else:
        index = np.searchsorted(sessions.close_ns, times, side="right")
    index = np.clip(index, 0, len(sessions) - 1)
    return sessions.trading_day[index].astype(np.int64)


def build_timeline(trips: Trips, bars: Mapping[str, Bars] | None = None) -> Timeline:
    """Lays out fills and marks in time order.

    Args:
        trips: closed trades, at least one.
        bars: tapes by contract symbol; trades of other contracts use their excursions.

    Raises:
        FillsError: most trades lie outside the exchange's hours (a wrong time zone), or the fills
            do not lie within the bars (another contract, another zone, adjusted prices).
    """
    check_hours(trips)
    entry_day, exit_day = trip_days(trips)
    events: list[Event] = []
    sights: list[Sight] = ["fills"] * len(trips)
    loss = np.zeros(len(trips), np.int64)
    for lane, contract in enumerate(trips.contracts):
        mine = np.flatnonzero(trips.contract == lane)
        if not len(mine):
            continue
        tape = (bars or {}).get(contract.symbol)
        if tape is not None:
            check_bars(trips.select(mine), tape)
        for group in _groups(trips, mine):
            builder = _Group(trips=trips, lane=lane, members=group, tape=tape)
            sight = builder.build()
            events += builder.events
            for trip in group:
                sights[trip] = sight
                loss[trip] = builder.loss.get(trip, max(-int(trips.gross_mills[trip]), 0))
    for trip in range(len(trips)):
        events += _fills(trips, trip, int(entry_day[trip]), int(exit_day[trip]))
    events.sort(key=lambda e: (e.ns, e.order))
    counts: dict[Sight, int] = {s: sights.count(s) for s in ("bars", "excursions", "fills")}
    poorest: Sight = (
        "fills" if counts["fills"] else "excursions" if counts["excursions"] else "bars"
    )
    return Timeline(
        trips=trips,
        events=tuple(events),
        sight=poorest,
        sight_counts=counts,
        loss_mills=loss,
        notes=_notes(trips, counts),
    )


def trip_days(trips: Trips) -> tuple[I64, I64]:
    """Returns the trading days of entries and of exits; int64 [n] each."""
    entry, end = np.zeros(len(trips), np.int64), np.zeros(len(trips), np.int64)
    for lane, contract in enumerate(trips.contracts):
        mine = trips.contract == lane
        entry[mine] = trading_days(contract, trips.entry_ns[mine], is_end=False)
        end[mine] = trading_days(contract, trips.exit_ns[mine], is_end=True)
    return entry, np.maximum(entry, end)


def check_hours(trips: Trips) -> None:
    """Refuses trades of which many begin while the exchange is closed: their zone is wrong.

    Raises:
        FillsError: more than one entry in twenty lies outside the sessions.
    """
    n_closed, first = 0, -1
    for lane, contract in enumerate(trips.contracts):
        times = trips.entry_ns[trips.contract == lane]
        is_closed = load_calendar(contract.calendar).all_sessions.locate(times) < 0
        n_closed += int(is_closed.sum())
        if first < 0 and is_closed.any():
            first = int(times[is_closed][0])
    if n_closed > max(_LARGEST_CLOSED_SHARE * len(trips), 1):
        raise FillsError(
            f"{n_closed:,} of {len(trips):,} trades begin while the exchange is closed, the first "
            f"at {eastern_text(first)}. The times are of another clock; name it with --tz."
        )


def check_bars(trips: Trips, tape: Bars) -> None:
    """Refuses bars that the fills do not lie in.

    Raises:
        FillsError: more than one fill in twenty lies more than 4 ticks outside its bar.
    """
    times = np.concatenate([trips.entry_ns, trips.exit_ns])
    prices = np.concatenate([trips.entry_ticks, trips.exit_ticks])
    index = np.clip(np.searchsorted(tape.ts, times, side="right") - 1, 0, len(tape) - 1)
    is_inside = (tape.ts[index] <= times) & (times < tape.ts[index] + tape.bar_ns)
    low, high = tape.low[index] - _OFF_TICKS, tape.high[index] + _OFF_TICKS
    is_off = is_inside & ((prices < low) | (prices > high))
    if is_off.sum() > max(_LARGEST_OFF_SHARE * is_inside.sum(), 1):
        at = int(np.flatnonzero(is_off)[0])
        size = trips.contracts[int(trips.contract[0])].tick_size
        raise FillsError(
            f"{int(is_off.sum()):,} of {int(is_inside.sum()):,} fills do not lie in their bar; "
            f"first at {eastern_text(int(times[at]))}: filled at {prices[at] * size}, the bar "
            f"{tape.low[index[at]] * size} to {tape.high[index[at]] * size}. The bars are of "
            "another contract month, zone or price adjustment."
        )


def _notes(trips: Trips, counts: dict[Sight, int]) -> tuple[str, ...]:
    notes = []
    if counts["fills"]:
        which = "all" if counts["fills"] == len(trips) else f"{counts['fills']:,} of {len(trips):,}"
        notes.append(
            f"What happened inside {which} trades is not known: a breach on open loss there cannot "
            "be seen, and a peak neither. Give bars with --bars, or a file with MAE and MFE."
        )
    if trips.n_open:
        notes.append(
            f"{trips.n_open:,} contracts were still open when the file ended; they are not judged."
        )
    return tuple(notes)


def _groups(trips: Trips, mine: I64) -> Iterator[list[int]]:
    """Yields the trades of one contract from flat to flat."""
    group: list[int] = []
    end = 0
    for trip in mine:
        if group and trips.entry_ns[trip] > end:
            yield group
            group = []
        end = max(end, int(trips.exit_ns[trip])) if group else int(trips.exit_ns[trip])
        group.append(int(trip))
    if group:
        yield group


def _fills(trips: Trips, trip: int, entry_day: int, exit_day: int) -> Iterator[Event]:
    entry, end = int(trips.entry_ns[trip]), int(trips.exit_ns[trip])
    lane = int(trips.contract[trip])
    yield Event(ns=entry, order=2, kind=Kind.ENTRY, day=entry_day, trip=trip, lane=lane)
    order = 1 if end > entry else 4
    yield Event(ns=end, order=order, kind=Kind.EXIT, day=exit_day, trip=trip, lane=lane)


@dataclass(kw_only=True, slots=True)
class _Group:
    """Marks of the trades of one contract from flat to flat."""

    trips: Trips
    lane: int
    members: list[int]
    tape: Bars | None
    events: list[Event]
    loss: dict[int, int]

    def __init__(self, *, trips: Trips, lane: int, members: list[int], tape: Bars | None) -> None:
        self.trips, self.lane, self.members, self.tape = trips, lane, members, tape
        self.events, self.loss = [], {}

    def build(self) -> Sight:
        """Adds the marks and returns their source."""
        times = sorted({int(self.trips.entry_ns[t]) for t in self.members})
        times = sorted({*times, *(int(self.trips.exit_ns[t]) for t in self.members)})
        if self.tape is not None and self._from_bars(self.tape, times):
            return "bars"
        self._points(times)
        known = self.trips.mae_mills[self.members], self.trips.mfe_mills[self.members]
        if (known[0] >= 0).all() and (known[1] >= 0).all():
            self._from_excursions(times)
            return "excursions"
        return "fills"

    def _open_between(self, start: int, end: int) -> list[int]:
        """Returns the trades open in the open interval (start, end), or in the instant."""
        entry, exit_ns = self.trips.entry_ns, self.trips.exit_ns
        return [t for t in self.members if entry[t] <= start and exit_ns[t] >= max(end, start)]

    def _value(self, members: Sequence[int], ticks: int) -> int:
        """Returns the open profit of trades at a price, mills."""
        trips = self.trips
        tick_mills = trips.contracts[self.lane].tick_mills
        return sum(
            int(trips.side[t] * trips.qty[t]) * (ticks - int(trips.entry_ticks[t])) * tick_mills
            for t in members
        )

    def _price_at(self, ns: int) -> int:
        """Returns the price of a fill at this instant."""
        for trip in self.members:
            if self.trips.entry_ns[trip] == ns:
                return int(self.trips.entry_ticks[trip])
        trip = next(t for t in self.members if self.trips.exit_ns[t] == ns)
        return int(self.trips.exit_ticks[trip])

    def _mark(
        self, ns: int, worst: tuple[int, int], best: tuple[int, int], *, order: int = 3
    ) -> None:
        contract = self.trips.contracts[self.lane]
        day = int(trading_days(contract, np.asarray([ns + 1]), is_end=True)[0])
        self.events.append(
            Event(
                ns=ns,
                order=order,
                kind=Kind.MARK,
                day=day,
                trip=-1,
                lane=self.lane,
                worst=worst,
                best=best,
            )
        )

    def _points(self, times: list[int]) -> None:
        """Marks the open trades at each fill's price: those before it, then those after it."""
        for ns in times:
            price = self._price_at(ns)
            before = [
                t
                for t in self.members
                if self.trips.entry_ns[t] < ns and self.trips.exit_ns[t] >= ns
            ]
            after = [
                t
                for t in self.members
                if self.trips.entry_ns[t] <= ns and self.trips.exit_ns[t] > ns
            ]
            if before:
                value = self._value(before, price)
                self._mark(ns, (value, value), (value, value), order=0)
            if after:
                value = self._value(after, price)
                self._mark(ns, (value, value), (value, value))

    def _from_excursions(self, times: list[int]) -> None:
        """Marks intervals by the trades' own excursions.

        Trades of one entry (a position closed in parts) have nested excursions and are exact; of
        trades that merely overlap the worst path takes the sum of all, the best only the fills.
        """
        trips = self.trips
        for trip in self.members:
            self.loss[trip] = max(int(trips.mae_mills[trip]), -int(trips.gross_mills[trip]), 0)
        first = self.members[0]
        is_nested = all(
            trips.entry_ns[t] == trips.entry_ns[first]
            and trips.entry_ticks[t] == trips.entry_ticks[first]
            and trips.side[t] == trips.side[first]
            for t in self.members
        )
        spans = list(pairwise(times)) or [(times[0], times[0])]
        for start, end in spans:
            alive = self._open_between(start, end)
            if not alive:
                continue
            if is_nested:
                ending = min(alive, key=lambda t: (trips.exit_ns[t], trips.mae_mills[t]))
                total = sum(int(trips.qty[t]) for t in alive)
                part = int(trips.qty[ending])
                high = int(trips.mfe_mills[ending]) * total // part
                low = -(int(trips.mae_mills[ending]) * total // part)
                self._mark(start, (high, low), (high, low))
                continue
            high = sum(int(trips.mfe_mills[t]) for t in alive)
            low = -sum(int(trips.mae_mills[t]) for t in alive)
            value = self._value(alive, self._price_at(start))
            self._mark(start, (max(high, value), min(low, value)), (value, value))

    def _from_bars(self, tape: Bars, times: list[int]) -> bool:
        """Marks bar by bar; a bar with fills inside is possible as a whole, sure only in points."""
        first = int(np.searchsorted(tape.ts, times[0], side="right")) - 1
        last = int(np.searchsorted(tape.ts, times[-1], side="right")) - 1
        is_covered = first >= 0 and times[0] < int(tape.ts[first]) + tape.bar_ns
        if not is_covered or times[-1] > int(tape.ts[last]) + 2 * tape.bar_ns:
            return False
        self._points(times)
        for bar in range(first, last + 1):
            start, end = int(tape.ts[bar]), int(tape.ts[bar]) + tape.bar_ns
            inside = [ns for ns in times if start <= ns < end]
            at_open = [ns for ns in inside if ns == start and self._all_at(ns, int(tape.open[bar]))]
            inside = [ns for ns in inside if ns not in at_open]
            if start in inside:
                self._mark_before(tape, bar)
            edges = [start, *[ns for ns in inside if ns > start], end]
            for left, right in pairwise(edges):
                self._mark_bar(tape, bar, left, right, is_whole=not inside)
        return True

    def _all_at(self, ns: int, ticks: int) -> bool:
        trips = self.trips
        fills = [int(trips.entry_ticks[t]) for t in self.members if trips.entry_ns[t] == ns]
        fills += [int(trips.exit_ticks[t]) for t in self.members if trips.exit_ns[t] == ns]
        return all(price == ticks for price in fills)

    def _mark_bar(self, tape: Bars, bar: int, left: int, right: int, *, is_whole: bool) -> None:
        """Marks the part [left, right) of a bar; `is_whole` if no fill lies inside the bar."""
        trips = self.trips
        alive = [
            t
            for t in self.members
            if trips.entry_ns[t] <= left
            and (trips.exit_ns[t] > left or trips.entry_ns[t] == trips.exit_ns[t] == left)
        ]
        if not alive:
            return
        ends = (
            self._value(alive, int(tape.high[bar])),
            self._value(alive, int(tape.low[bar])),
        )
        whole = max(ends), min(ends)
        if is_whole:
            self._mark(left, whole, whole)
            sure = whole
        else:
            points = []
            if left == int(tape.ts[bar]) and all(trips.entry_ns[t] < left for t in alive):
                points.append(self._value(alive, int(tape.open[bar])))
            if right == int(tape.ts[bar]) + tape.bar_ns:
                points.append(self._value(alive, int(tape.close[bar])))
            if not points and left > int(tape.ts[bar]):
                points.append(self._value(alive, self._price_at(left)))
            sure = (max(points), min(points)) if points else (0, 0)
            self._mark(left, whole, sure if points else self._middle(alive, left))
        for trip in alive:
            price = int(tape.low[bar] if trips.side[trip] > 0 else tape.high[bar])
            if is_whole:
                self.loss[trip] = max(self.loss.get(trip, 0), -self._value([trip], price))
            own = max(-int(trips.gross_mills[trip]), 0)
            self.loss[trip] = max(self.loss.get(trip, 0), own)

    def _mark_before(self, tape: Bars, bar: int) -> None:
        """Marks what was open before fills that are stamped with their bar's open time.

        Such stamps name the bar, not the moment, so all of the bar may have come before the fill.
        """
        trips, start = self.trips, int(tape.ts[bar])
        alive = [t for t in self.members if trips.entry_ns[t] < start and trips.exit_ns[t] == start]
        if alive:
            ends = [self._value(alive, int(p[bar])) for p in (tape.high, tape.low)]
            first = self._value(alive, int(tape.open[bar]))
            self._mark(start, (max(ends), min(ends)), (first, first), order=0)

    def _middle(self, alive: Sequence[int], ns: int) -> tuple[int, int]:
        """Returns a range that surely was shown although no price is known: the entries' own."""
        prices = [int(self.trips.entry_ticks[t]) for t in alive if self.trips.entry_ns[t] == ns]
        value = self._value(alive, prices[0]) if prices else 0
        return value, value
