"""Units, enums and records that the compiled simulator and its plain-Python twin share.

Only names, shapes and meanings live here; the order of events is in docs/fills.md. All records are
NamedTuples of int32 (or bool) arrays: `L` lanes (accounts), `B` bars, `K` tiers, `M` markets.
"""

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

__all__ = [
    "NEVER",
    "NO_PRICE",
    "AnyArray",
    "BarFlag",
    "DoneReason",
    "Events",
    "FillReason",
    "LimitKind",
    "Markets",
    "OrderKind",
    "Orders",
    "Outcome",
    "PathRule",
    "Reject",
    "Rules",
    "State",
    "Tape",
    "TargetTest",
    "TrailKind",
]

AnyArray = Any
"""A NumPy or JAX array, or a Python int in the twin."""

NEVER = 2**31 - 1
"""A mill amount or a date that is never reached."""
NO_PRICE = -(2**31)
"""Marks an absent stop or target price."""


class OrderKind(IntEnum):
    """What an account asks for at the close of a bar."""

    HOLD = 0
    CLOSE = 1
    BREAKEVEN = 2
    TRAIL_ON = 3
    TRAIL_OFF = 4
    LONG = 5
    SHORT = 6


class Outcome(IntEnum):
    """Where an account stands."""

    OPEN = 0
    PASSED = 1
    BREACHED = 2
    TIMED_OUT = 3


class DoneReason(IntEnum):
    """Why an episode ended; exactly one each."""

    NONE = 0
    TARGET = 1
    FLOOR = 2
    DAILY_LIMIT = 3
    LATE_FLAT = 4
    TIME_LIMIT = 5
    DATA_END = 6
    WINDOW_END = 7


class FillReason(IntEnum):
    """Why a position was opened or closed."""

    NONE = 0
    ENTRY = 1
    CLOSE = 2
    STOP = 3
    TARGET = 4
    FLOOR = 5
    DAILY_LIMIT = 6
    LATE_FLAT = 7
    ACCOUNT_TARGET = 8


class Reject(IntEnum):
    """Why an order was refused; a refused order counts as HOLD."""

    NONE = 0
    IN_POSITION = 1
    NO_POSITION = 2
    SIZE_LIMIT = 3
    LOCKED_OUT = 4
    NO_ENTRY_TIME = 5
    NO_STOP = 6
    NOT_TIGHTER = 7
    ALREADY_TRAILING = 8
    NOT_TRAILING = 9
    STOP_TO_TARGET = 10
    BAD_QTY = 11
    EXPIRED = 12
    ACCOUNT_ENDED = 13


class TrailKind(IntEnum):
    """What the floor follows."""

    STATIC = 0
    INTRADAY = 1
    END_OF_DAY = 2


class LimitKind(IntEnum):
    """What touching the daily loss limit does."""

    NONE = 0
    SOFT = 1
    HARD = 2


class TargetTest(IntEnum):
    """When the profit target is looked at."""

    DAY_CLOSE = 0
    TOUCH = 1


class PathRule(IntEnum):
    """Which of the two paths inside a bar is kept."""

    WORST = 0
    BEST = 1
    HIGH_FIRST = 2
    LOW_FIRST = 3


class BarFlag(IntFlag):
    """Facts about a bar that the calendar and the rulebook's clock fix."""

    SESSION_START = 1
    """First bar of a session on this tape."""
    TRADABLE = 2
    """Lies in a session and ends at or before its flat-by time: a position may be open in it."""
    FLAT = 4
    """Last TRADABLE bar of its session on this tape: a position is liquidated at its close."""
    DAY_CLOSE = 8
    """The day is settled at the close of this bar."""
    CAN_ENTER = 16
    """By the clock alone, an entry may be decided at the close of this bar."""
    CLOSING = 32
    """By the clock alone, a position must be closed now to be flat in time."""


class Tape(NamedTuple):
    """Bars as the simulator walks them.

    Attributes:
        open: ticks [B].
        high: ticks [B].
        low: ticks [B].
        close: ticks [B].
        flags: BarFlag bits [B].
        day: trading day of the bar as days since 1970-01-01, holiday halves merged forward [B].
        next_day: trading day of the next bar of the same market (on a DAY_CLOSE bar, of the next
            other day, if there is one), NEVER after the last [B].
    """

    open: AnyArray
    high: AnyArray
    low: AnyArray
    close: AnyArray
    flags: AnyArray
    day: AnyArray
    next_day: AnyArray


class Markets(NamedTuple):
    """Constants of each market on the tape.

    Attributes:
        tick_mills: value of a tick of one contract, mills [M].
        commission_mills: per contract and side [M].
        slippage_ticks: against the trader at every market and stop fill [M].
        size_units: tenths of a mini per contract [M].
        breakeven_ticks: ticks beyond entry at which a slipped stop pays the round trip's costs [M].
    """

    tick_mills: AnyArray
    commission_mills: AnyArray
    slippage_ticks: AnyArray
    size_units: AnyArray
    breakeven_ticks: AnyArray


class Rules(NamedTuple):
    """A rulebook as numbers; scalars unless [K] is given. Money in mills.

    Attributes:
        start_balance: balance at the start.
        allowance: distance of the floor below what it follows.
        trail_kind: TrailKind.
        lock_trigger: peak at which the floor goes to lock_level and stays; NEVER if it has no lock.
        lock_level: the locked floor.
        target_balance: balance to reach; NEVER if the stage has no target.
        target_test: TargetTest.
        limit_kind: LimitKind of the daily loss limit.
        tier_profit: profit (balance - start_balance) from which the tier holds, rising [K]; the
            first is the smallest int32. Unused tiers hold NEVER.
        tier_units: size limit of the tier, in tenths of a mini [K].
        tier_daily_limit: daily loss limit of the tier; NEVER if none [K].
        tier_latched: 1 if a tier once reached is kept.
        min_days: days that must count before a pass.
        day_profit: net profit that makes a day count; the smallest int32 if a round trip suffices.
        best_day_num: a pass needs best day <= num/den of the total profit; den 0: no such rule.
        best_day_den: see best_day_num.
        best_day_strict: 1 if the comparison is strict (<).
        time_limit_days: calendar days from the first trading day; NEVER if none.
        late_flat_fails: 1 if a position at the flat-by close fails the account, 0 if it is noted.
        max_stop_per_target: an entry's stop may be at most this many times its target; 0: no rule.
        path_rule: PathRule.
        target_through: ticks beyond a target's limit price that fill it; 1, or 0 for a touch.
    """

    start_balance: AnyArray
    allowance: AnyArray
    trail_kind: AnyArray
    lock_trigger: AnyArray
    lock_level: AnyArray
    target_balance: AnyArray
    target_test: AnyArray
    limit_kind: AnyArray
    tier_profit: AnyArray
    tier_units: AnyArray
    tier_daily_limit: AnyArray
    tier_latched: AnyArray
    min_days: AnyArray
    day_profit: AnyArray
    best_day_num: AnyArray
    best_day_den: AnyArray
    best_day_strict: AnyArray
    time_limit_days: AnyArray
    late_flat_fails: AnyArray
    max_stop_per_target: AnyArray
    path_rule: AnyArray
    target_through: AnyArray


class Orders(NamedTuple):
    """One order a lane, decided at the close of the lane's last bar.

    Attributes:
        kind: OrderKind [L].
        qty: contracts of an entry, at least 1 [L].
        stop_ticks: distance of the stop from the entry fill; 0: no stop [L].
        target_ticks: distance of the target from the entry fill; 0: no target [L].
    """

    kind: AnyArray
    qty: AnyArray
    stop_ticks: AnyArray
    target_ticks: AnyArray


class State(NamedTuple):
    """One account a lane, as it stands at the close of bar `bar`.

    Attributes:
        bar: index on the tape of the last bar that was walked [L].
        market: index into Markets [L].
        outcome: Outcome [L].
        done_reason: DoneReason [L].
        balance: mills [L].
        peak: what the floor follows: highest equity, highest closing balance, or the start [L].
        floor: equity at or below it breaches [L].
        is_locked: the floor has reached its lock [L].
        qty: signed contracts; 0 is flat [L].
        entry: fill price of the open position, ticks [L].
        stop: stop price, ticks; NO_PRICE if none [L].
        target: limit price, ticks; NO_PRICE if none [L].
        trail_ticks: distance the stop keeps when trailing; 0: it cannot trail [L].
        is_trailing: bool [L].
        entry_bar: bar of the entry fill [L].
        trip_balance: balance before the open round trip's entry commission [L].
        trip_risk: initial risk of the open round trip, mills, without costs; 0 if no stop [L].
        trip_low: lowest open P&L since entry, mills, at most 0 [L].
        trip_high: highest open P&L since entry, mills, at least 0 [L].
        day: trading day of `bar` [L].
        first_day: trading day on which the account began [L].
        day_balance: balance at the start of the day [L].
        is_locked_out: the soft daily limit was touched; no entries until the next day [L].
        has_traded: an entry or exit filled this day [L].
        size_units: size limit of the day, tenths of a mini [L].
        daily_limit: daily loss limit of the day; NEVER if none [L].
        tier: index of the day's tier [L].
        n_days: days that counted [L].
        best_day: highest net result of a settled day, at least 0 [L].
        n_trips: finished round trips [L].
        n_rejected: refused orders [L].
        n_ambiguous: bars whose two paths ended differently [L].
        n_late_flat: liquidations at flat-by [L].
        commissions: paid so far, mills [L].
    """

    bar: AnyArray
    market: AnyArray
    outcome: AnyArray
    done_reason: AnyArray
    balance: AnyArray
    peak: AnyArray
    floor: AnyArray
    is_locked: AnyArray
    qty: AnyArray
    entry: AnyArray
    stop: AnyArray
    target: AnyArray
    trail_ticks: AnyArray
    is_trailing: AnyArray
    entry_bar: AnyArray
    trip_balance: AnyArray
    trip_risk: AnyArray
    trip_low: AnyArray
    trip_high: AnyArray
    day: AnyArray
    first_day: AnyArray
    day_balance: AnyArray
    is_locked_out: AnyArray
    has_traded: AnyArray
    size_units: AnyArray
    daily_limit: AnyArray
    tier: AnyArray
    n_days: AnyArray
    best_day: AnyArray
    n_trips: AnyArray
    n_rejected: AnyArray
    n_ambiguous: AnyArray
    n_late_flat: AnyArray
    commissions: AnyArray


class Events(NamedTuple):
    """What happened to a lane in one step.

    Attributes:
        reject: Reject of the order [L].
        entry_qty: signed contracts filled at the open; 0 if none [L].
        entry_price: ticks, slipped [L].
        exit_qty: contracts closed, signed as the position was; 0 if none [L].
        exit_price: fill price, ticks [L].
        exit_reason: FillReason [L].
        trip_net: net result of the round trip that ended, costs included, mills [L].
        trip_risk: its initial risk, mills; 0 if it had no stop [L].
        is_ambiguous: the two paths of the bar ended differently [L].
        equity: balance + open P&L at the close of the bar (or at the end of the account) [L].
        is_new_day: the bar opened a new trading day for the account [L].
        is_day_close: the day was settled [L].
    """

    reject: AnyArray
    entry_qty: AnyArray
    entry_price: AnyArray
    exit_qty: AnyArray
    exit_price: AnyArray
    exit_reason: AnyArray
    trip_net: AnyArray
    trip_risk: AnyArray
    is_ambiguous: AnyArray
    equity: AnyArray
    is_new_day: AnyArray
    is_day_close: AnyArray
