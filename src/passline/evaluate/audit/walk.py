"""What a walk of an account leaves behind: its days, its end, and the rules broken on the way.

Filled in by `account`, read by `judge`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from passline.sim.layout import DoneReason, Outcome

__all__ = ["Day", "Path", "Violation", "Walk"]


class Path(StrEnum):
    """Which order of favorable and adverse prices between two fills is assumed."""

    WORST = "worst"
    """First the highest, then the lowest that may have been."""
    BEST = "best"
    """First the lowest, then the highest that surely was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A rule that was broken without ending the account.

    Attributes:
        rule: size_limit, late_flat, lockout, product, stop_to_target or mae.
        ns: when, UTC ns.
        trip: index of the trade.
        found: what was found, in the unit of `limit`.
        limit: what the book allows.
    """

    rule: str
    ns: int
    trip: int
    found: int
    limit: int


@dataclass(kw_only=True, slots=True)
class Day:
    """One trading day of the account: how near it came to each rule.

    Attributes:
        day: trading day, days since 1970-01-01.
        open_balance: balance at its start, mills.
        floor: floor in force at its start.
        daily_limit: daily loss limit in force; None if none.
        size_units: size limit in force, tenths of a mini.
        close_balance: balance at its end.
        close_floor: floor after it was settled.
        low_equity: lowest equity.
        high_equity: highest equity.
        cushion: smallest distance of equity from the floor of that moment.
        cushion_ns: when that was.
        limit_room: smallest distance of equity from the daily limit; None if none is in force.
        max_units: largest position, tenths of a mini.
        n_trips: trades closed, by the firm too.
        counts: whether the day counts toward the minimum days; never if the account ended in it.
        n_days: days that count so far; a day in which the account ended is not settled.
        best_day: best settled day's profit so far.
        days_left: calendar days until the time limit; None if none.
        is_locked_out: whether a soft limit ended it.
    """

    day: int
    open_balance: int
    floor: int
    daily_limit: int | None
    size_units: int
    close_balance: int
    close_floor: int
    low_equity: int
    high_equity: int
    cushion: int
    cushion_ns: int
    limit_room: int | None
    max_units: int = 0
    n_trips: int = 0
    counts: bool = False
    n_days: int = 0
    best_day: int = 0
    days_left: int | None = None
    is_locked_out: bool = False


@dataclass(kw_only=True, slots=True)
class Walk:
    """An account's life along one path.

    Attributes:
        path: which order of prices was assumed.
        outcome: where the account stands.
        reason: why it ended.
        done_ns: when it ended; at a day's close the day's last event.
        done_trip: trade that was open; -1 if none.
        balance: at the end, mills.
        peak: highest equity or closing balance that moved the floor.
        floor: at the end.
        days: every trading day with an event.
        violations: rules broken without ending the account.
    """

    path: Path
    outcome: Outcome = Outcome.OPEN
    reason: DoneReason = DoneReason.NONE
    done_ns: int = 0
    done_trip: int = -1
    balance: int = 0
    peak: int = 0
    floor: int = 0
    days: list[Day] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
