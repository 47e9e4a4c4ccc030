"""What an account did, as records: round trips, settled days and refused orders, from its steps."""

from collections.abc import Iterable
from dataclasses import dataclass

from passline.sim.layout import FillReason, Markets, Orders, Reject, State
from passline.sim.walk import Step, has_ended

__all__ = ["Day", "Journal", "Refusal", "RoundTrip", "keep_journal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTrip:
    """One position from its entry to flat.

    Attributes:
        entry_bar: bar at whose open it was entered.
        entry_ticks: entry fill.
        exit_bar: bar in which it was closed.
        exit_ticks: exit fill.
        signed_qty: contracts, negative for a short position.
        reason: why it was closed.
        net_mills: result, commissions of both sides included.
        commission_mills: commissions of both sides.
    """

    entry_bar: int
    entry_ticks: int
    exit_bar: int
    exit_ticks: int
    signed_qty: int
    reason: FillReason
    net_mills: int
    commission_mills: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One trading day of the account; the last may have ended before it was settled.

    Attributes:
        day: trading day, days since 1970-01-01.
        balance_mills: at its settlement, or at the end of the account.
        floor_mills: after its settlement, or at the end of the account.
        net_mills: balance less the balance at its start.
    """

    day: int
    balance_mills: int
    floor_mills: int
    net_mills: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An order that was not carried out.

    Attributes:
        bar: bar at whose close it was decided.
        order: what was asked.
        reason: why not.
    """

    bar: int
    order: Orders
    reason: Reject


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """The account at its end and what it did.

    Attributes:
        state: at the end.
        equity_mills: balance and open P&L at the last close, or at the end.
        round_trips: in time order.
        days: in time order, days without orders among them.
        refusals: in time order.
        ambiguous_bars: bars whose two paths ended differently.
    """

    state: State
    equity_mills: int
    round_trips: tuple[RoundTrip, ...]
    days: tuple[Day, ...]
    refusals: tuple[Refusal, ...]
    ambiguous_bars: tuple[int, ...]


def keep_journal(steps: Iterable[Step], markets: Markets) -> Journal:
    """Writes down the steps of one account.

    Args:
        steps: those in which something happened at least, the last one among them; not empty.
        markets: the constants that were played with.
    """
    trips: list[RoundTrip] = []
    days: list[Day] = []
    refusals: list[Refusal] = []
    ambiguous: list[int] = []
    for step in steps:
        state, events = step.state, step.events
        if events.reject:
            reason = Reject(events.reject)
            refusals.append(Refusal(bar=state.bar - 1, order=step.order, reason=reason))
        if events.exit_qty:
            trips.append(_round_trip(step, int(markets.commission_mills[state.market])))
        if events.is_ambiguous:
            ambiguous.append(state.bar)
        if events.is_day_close:
            days.append(_day(state))
    if has_ended(state) and (not days or days[-1].day != state.day):
        days.append(_day(state))
    return Journal(
        state=state,
        equity_mills=events.equity,
        round_trips=tuple(trips),
        days=tuple(days),
        refusals=tuple(refusals),
        ambiguous_bars=tuple(ambiguous),
    )


def _round_trip(step: Step, commission_mills: int) -> RoundTrip:
    state, events = step.state, step.events
    return RoundTrip(
        entry_bar=state.entry_bar,
        entry_ticks=state.entry,
        exit_bar=state.bar,
        exit_ticks=events.exit_price,
        signed_qty=events.exit_qty,
        reason=FillReason(events.exit_reason),
        net_mills=events.trip_net,
        commission_mills=2 * abs(events.exit_qty) * commission_mills,
    )


def _day(state: State) -> Day:
    return Day(
        day=state.day,
        balance_mills=state.balance,
        floor_mills=state.floor,
        net_mills=state.balance - state.day_balance,
    )
