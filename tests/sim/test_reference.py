"""The phase-order table of docs/fills.md and firms' own numbers, on both simulators.

Every case is worked by hand and runs on the plain-Python twin and on the compiled simulator. Unless
a case says otherwise a tick is worth 1 USD (1000 mills) and trading is free.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from passline.sim import reference
from passline.sim import step as compiled
from passline.sim.layout import (
    NEVER,
    NO_PRICE,
    BarFlag,
    DoneReason,
    Events,
    FillReason,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    Outcome,
    PathRule,
    Reject,
    Rules,
    State,
    Tape,
    TargetTest,
    TrailKind,
)

USD = 1_000
SMALLEST = -(2**31)
N_BARS = 16
TRADE = BarFlag.TRADABLE | BarFlag.CAN_ENTER
SETTLED = BarFlag.TRADABLE | BarFlag.FLAT | BarFlag.DAY_CLOSE
HOLD = Orders(OrderKind.HOLD, 0, 0, 0)
CLOSE = Orders(OrderKind.CLOSE, 0, 0, 0)
LONG = Orders(OrderKind.LONG, 1, 0, 0)
SHORT = Orders(OrderKind.SHORT, 1, 0, 0)
FREE = Markets((1_000,), (0,), (0,), (10,), (0,))
COSTLY = Markets((1_000,), (500,), (1,), (10,), (2,))
RULES = Rules(
    start_balance=50_000 * USD,
    allowance=2_000 * USD,
    trail_kind=TrailKind.STATIC,
    lock_trigger=NEVER,
    lock_level=0,
    target_balance=NEVER,
    target_test=TargetTest.DAY_CLOSE,
    limit_kind=LimitKind.NONE,
    tier_profit=(SMALLEST, NEVER),
    tier_units=(100, 100),
    tier_daily_limit=(NEVER, NEVER),
    tier_latched=0,
    min_days=0,
    day_profit=SMALLEST,
    best_day_num=1,
    best_day_den=0,
    best_day_strict=0,
    time_limit_days=NEVER,
    late_flat_fails=0,
    max_stop_per_target=0,
    path_rule=PathRule.WORST,
    target_through=1,
)


class Bar(NamedTuple):
    """One bar of a hand-made tape."""

    prices: tuple[int, int, int, int]
    flags: int = TRADE
    day: int = 1


class Engine(NamedTuple):
    """A simulator that takes and gives plain numbers, for one account."""

    start: Callable[..., State]
    step: Callable[..., tuple[State, Events]]


def _lane(record: Any) -> Any:
    """Turns a record of scalars into one of arrays with a single lane."""
    return type(record)(*(np.array([field]) for field in record))


def _arrays(record: Any) -> Any:
    """Turns scalars and tuples into int32 arrays."""
    return type(record)(*(np.array(field, np.int32) for field in record))


def _plain(record: Any) -> Any:
    """Turns a record of arrays with a single lane into one of plain numbers."""
    return type(record)(*(np.asarray(field)[0].item() for field in record))


_compiled_step = jax.jit(compiled.step)


def _start_compiled(tape: Tape, markets: Markets, rules: Rules, *, bar: int) -> State:
    lane = np.array([bar], np.int32), np.array([0], np.int32)
    return _plain(compiled.start(*map(_arrays, (tape, markets, rules)), *lane))


def _step_compiled(
    tape: Tape, markets: Markets, rules: Rules, state: State, order: Orders
) -> tuple[State, Events]:
    int32s = jax.tree.map(
        lambda field: field if field.dtype == bool else field.astype(np.int32),
        (_lane(state), _lane(order)),
    )
    state, events = _compiled_step(*map(_arrays, (tape, markets, rules)), *int32s)
    return _plain(state), _plain(events)


ENGINES = {
    "reference": Engine(reference.start, reference.step),
    "compiled": Engine(_start_compiled, _step_compiled),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def tape_of(*bars: Bar) -> Tape:
    """A tape of one market, filled up to a fixed length behind its end."""
    days = [bar.day for bar in bars]
    spare = N_BARS - len(bars)
    rows = [bar.prices for bar in bars] + [(0, 0, 0, 0)] * spare
    return Tape(
        *(tuple(column) for column in zip(*rows, strict=True)),
        flags=(*(int(bar.flags) for bar in bars), *[0] * spare),
        day=(*days, *[0] * spare),
        next_day=(*days[1:], NEVER, *[NEVER] * spare),
    )


def flat_bar(price: int, flags: int = TRADE, day: int = 1) -> Bar:
    """A bar of one price: what happens in it happens at the open."""
    return Bar((price,) * 4, flags, day)


def play(
    engine: Engine,
    bars: Sequence[Bar],
    orders: Sequence[Orders],
    rules: Rules = RULES,
    markets: Markets = FREE,
    **changes: int | bool,
) -> list[tuple[State, Events]]:
    """Starts at the close of the first bar, changes the state, and sends one order a bar."""
    tape = tape_of(*bars)
    state = engine.start(tape, markets, rules, bar=0)._replace(**changes)
    steps = []
    for order in orders:
        state, events = engine.step(tape, markets, rules, state, order)
        steps.append((state, events))
    return steps


# The phase order. One contract entered at 100 with a balance of 100 USD (a tick is 1 USD, slippage
# one tick, commission 0.50 USD), stop at 90, target at 110, the floor at 93 or far away at 50.
# The bars: no gap 100-112-88-101, a gap down 88-112-86-101, a gap up 112-113-86-101.
# A row: gap, has stop, has target, is the flat-by bar, floor is near; then reason and price of the
# exit, balance (mills), breached, ambiguous. Worst path.

NONE, STOP, TARGET = FillReason.NONE, FillReason.STOP, FillReason.TARGET
FLOOR, LATE = FillReason.FLOOR, FillReason.LATE_FLAT
PHASES = [
    ("none", 0, 0, 0, 0, NONE, 0, 100_000, 0, 0),
    ("none", 0, 0, 0, 1, FLOOR, 92, 91_500, 1, 0),
    ("none", 0, 0, 1, 0, LATE, 100, 99_500, 0, 0),
    ("none", 0, 0, 1, 1, FLOOR, 92, 91_500, 1, 0),
    ("none", 0, 1, 0, 0, TARGET, 110, 109_500, 0, 0),
    ("none", 0, 1, 0, 1, FLOOR, 92, 91_500, 1, 1),
    ("none", 0, 1, 1, 0, TARGET, 110, 109_500, 0, 0),
    ("none", 0, 1, 1, 1, FLOOR, 92, 91_500, 1, 1),
    ("none", 1, 0, 0, 0, STOP, 89, 88_500, 0, 0),
    ("none", 1, 0, 0, 1, FLOOR, 92, 91_500, 1, 0),
    ("none", 1, 0, 1, 0, STOP, 89, 88_500, 0, 0),
    ("none", 1, 0, 1, 1, FLOOR, 92, 91_500, 1, 0),
    ("none", 1, 1, 0, 0, STOP, 89, 88_500, 0, 1),
    ("none", 1, 1, 0, 1, FLOOR, 92, 91_500, 1, 1),
    ("none", 1, 1, 1, 0, STOP, 89, 88_500, 0, 1),
    ("none", 1, 1, 1, 1, FLOOR, 92, 91_500, 1, 1),
    ("down", 0, 0, 0, 0, NONE, 0, 100_000, 0, 0),
    ("down", 0, 0, 0, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 0, 0, 1, 0, LATE, 100, 99_500, 0, 0),
    ("down", 0, 0, 1, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 0, 1, 0, 0, TARGET, 110, 109_500, 0, 0),
    ("down", 0, 1, 0, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 0, 1, 1, 0, TARGET, 110, 109_500, 0, 0),
    ("down", 0, 1, 1, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 1, 0, 0, 0, STOP, 87, 86_500, 0, 0),
    ("down", 1, 0, 0, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 1, 0, 1, 0, STOP, 87, 86_500, 0, 0),
    ("down", 1, 0, 1, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 1, 1, 0, 0, STOP, 87, 86_500, 0, 0),
    ("down", 1, 1, 0, 1, FLOOR, 87, 86_500, 1, 0),
    ("down", 1, 1, 1, 0, STOP, 87, 86_500, 0, 0),
    ("down", 1, 1, 1, 1, FLOOR, 87, 86_500, 1, 0),
    ("up", 0, 0, 0, 0, NONE, 0, 100_000, 0, 0),
    ("up", 0, 0, 0, 1, FLOOR, 92, 91_500, 1, 0),
    ("up", 0, 0, 1, 0, LATE, 100, 99_500, 0, 0),
    ("up", 0, 0, 1, 1, FLOOR, 92, 91_500, 1, 0),
    ("up", 0, 1, 0, 0, TARGET, 110, 109_500, 0, 0),
    ("up", 0, 1, 0, 1, TARGET, 110, 109_500, 0, 0),
    ("up", 0, 1, 1, 0, TARGET, 110, 109_500, 0, 0),
    ("up", 0, 1, 1, 1, TARGET, 110, 109_500, 0, 0),
    ("up", 1, 0, 0, 0, STOP, 89, 88_500, 0, 0),
    ("up", 1, 0, 0, 1, FLOOR, 92, 91_500, 1, 0),
    ("up", 1, 0, 1, 0, STOP, 89, 88_500, 0, 0),
    ("up", 1, 0, 1, 1, FLOOR, 92, 91_500, 1, 0),
    ("up", 1, 1, 0, 0, TARGET, 110, 109_500, 0, 0),
    ("up", 1, 1, 0, 1, TARGET, 110, 109_500, 0, 0),
    ("up", 1, 1, 1, 0, TARGET, 110, 109_500, 0, 0),
    ("up", 1, 1, 1, 1, TARGET, 110, 109_500, 0, 0),
]
GAPS = {"none": (100, 112, 88, 101), "down": (88, 112, 86, 101), "up": (112, 113, 86, 101)}


def mirror(prices: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The same bar upside down about 100."""
    first, high, low, last = prices
    return 200 - first, 200 - low, 200 - high, 200 - last


def test_the_phase_table_has_every_combination() -> None:
    assert len({row[:5] for row in PHASES}) == len(PHASES) == 3 * 2**4


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("row", PHASES, ids=lambda row: "-".join(map(str, row[:5])))
def test_phases_of_a_bar(engine: Engine, row: tuple[Any, ...], side: int) -> None:
    gap, has_stop, has_target, is_flat_by, is_floor_near, *expected = row
    reason, price, balance, is_breached, is_ambiguous = expected
    prices = GAPS[gap] if side > 0 else mirror(GAPS[gap])
    flags = TRADE | (BarFlag.FLAT if is_flat_by else 0)
    [(state, events)] = play(
        engine,
        [flat_bar(100), Bar(prices, flags), flat_bar(100)],
        [HOLD],
        markets=COSTLY,
        qty=side,
        balance=100 * USD,
        floor=(93 if is_floor_near else 50) * USD,
        entry=100,
        stop=100 - 10 * side if has_stop else NO_PRICE,
        target=100 + 10 * side if has_target else NO_PRICE,
        trip_balance=100_500,
    )
    assert events.exit_reason == reason
    assert events.exit_price == (price if side > 0 or reason == NONE else 200 - price)
    assert events.exit_qty == (0 if reason == NONE else side)
    assert events.is_ambiguous == is_ambiguous
    assert state.n_late_flat == (reason == LATE)
    assert state.balance == balance
    assert state.outcome == (Outcome.BREACHED if is_breached else Outcome.OPEN)
    assert state.done_reason == (DoneReason.FLOOR if is_breached else DoneReason.NONE)
    assert events.equity == (101_000 if reason == NONE else balance)
    assert events.trip_net == (0 if reason == NONE else balance - 100_500)


@pytest.mark.parametrize(
    ("path_rule", "reason", "balance"),
    [
        (PathRule.WORST, STOP, 88_500),
        (PathRule.BEST, TARGET, 109_500),
        (PathRule.HIGH_FIRST, TARGET, 109_500),
        (PathRule.LOW_FIRST, STOP, 88_500),
    ],
)
def test_the_path_rule_chooses(
    engine: Engine, path_rule: PathRule, reason: FillReason, balance: int
) -> None:
    """A bar that reaches stop and target; every rule calls it ambiguous."""
    held = {"qty": 1, "balance": 100 * USD, "floor": 0, "entry": 100, "stop": 90, "target": 110}
    [(state, events)] = play(
        engine,
        [flat_bar(100), Bar((100, 112, 88, 101)), flat_bar(100)],
        [HOLD],
        RULES._replace(path_rule=path_rule),
        COSTLY,
        **held,
    )
    assert (events.exit_reason, state.balance) == (reason, balance)
    assert (events.is_ambiguous, state.n_ambiguous) == (True, 1)


# Fills.


def test_an_entry_slips_and_pays_and_brackets_from_its_fill(engine: Engine) -> None:
    order = Orders(OrderKind.SHORT, 2, 10, 30)
    [(state, events)] = play(
        engine, [flat_bar(100), flat_bar(100), flat_bar(100)], [order], markets=COSTLY
    )
    assert (events.entry_qty, events.entry_price) == (-2, 99)
    assert (state.qty, state.entry, state.stop, state.target) == (-2, 99, 109, 69)
    assert state.balance == 50_000 * USD - 2 * 500
    assert (state.trip_balance, state.trip_risk) == (50_000 * USD, 20 * USD)
    assert (state.trip_low, state.trip_high) == (-2 * USD, 0)
    assert events.equity == 50_000 * USD - 2 * 500 - 2 * USD
    assert (state.entry_bar, state.commissions, state.has_traded) == (1, 1_000, True)


def test_a_stop_nearer_than_the_slippage_fills_at_the_open(engine: Engine) -> None:
    order = Orders(OrderKind.LONG, 1, 1, 0)
    [(state, events)] = play(
        engine, [flat_bar(100), Bar((100, 120, 100, 120)), flat_bar(100)], [order], markets=COSTLY
    )
    assert (events.entry_price, events.exit_price, events.exit_reason) == (101, 99, STOP)
    assert (events.trip_net, events.trip_risk) == (-3_000, 1_000)
    assert state.qty == 0


def test_a_target_that_is_only_touched_does_not_fill(engine: Engine) -> None:
    order = Orders(OrderKind.LONG, 1, 0, 10)
    bars = [flat_bar(100), Bar((100, 110, 100, 105)), Bar((105, 111, 105, 105)), flat_bar(100)]
    touched, through = play(engine, bars, [order, HOLD])
    assert touched[0].qty == 1
    assert (through[1].exit_reason, through[1].exit_price) == (TARGET, 110)


def test_the_floor_goes_before_the_daily_limit_on_one_tick(engine: Engine) -> None:
    """Six contracts: a tick is 6 USD, so floor 98 and limit 99 are both met one tick down."""
    rules = RULES._replace(limit_kind=LimitKind.SOFT, tier_daily_limit=(1 * USD, NEVER))
    held = {"qty": 6, "balance": 100 * USD, "day_balance": 100 * USD, "entry": 100}
    [(_, events)] = play(
        engine,
        [flat_bar(100), Bar((100, 100, 90, 95)), flat_bar(95)],
        [HOLD],
        rules,
        floor=98 * USD,
        **held,
    )
    assert (events.exit_reason, events.exit_price) == (FLOOR, 99)


def test_a_floor_locked_above_the_equity_is_met_where_the_leg_starts(engine: Engine) -> None:
    rules = RULES._replace(
        trail_kind=TrailKind.INTRADAY, lock_trigger=50_010 * USD, lock_level=50_020 * USD
    )
    bars = [flat_bar(100), flat_bar(100), Bar((110, 110, 100, 105)), flat_bar(105)]
    _, (state, events) = play(engine, bars, [LONG, HOLD], rules)
    assert (events.exit_reason, events.exit_price) == (FLOOR, 110)
    assert (state.outcome, state.balance, state.floor) == (
        Outcome.BREACHED,
        50_010 * USD,
        50_020 * USD,
    )


def test_the_floor_goes_before_a_target_gapped_through(engine: Engine) -> None:
    """The floor was locked at 120 while the equity gaps to 115, beyond the target at 110."""
    held = {"qty": 1, "balance": 100 * USD, "floor": 120 * USD, "entry": 100, "target": 110}
    [(state, events)] = play(
        engine, [flat_bar(100), flat_bar(115), flat_bar(115)], [HOLD], markets=COSTLY, **held
    )
    assert (events.exit_reason, events.exit_price) == (FLOOR, 114)
    assert state.outcome == Outcome.BREACHED


def test_breakeven_and_trailing_stops(engine: Engine) -> None:
    order = Orders(OrderKind.LONG, 1, 10, 0)
    manage = [Orders(kind, 0, 0, 0) for kind in (OrderKind.BREAKEVEN, OrderKind.TRAIL_ON)]
    bars = [
        flat_bar(100),
        flat_bar(100),
        flat_bar(103),
        flat_bar(104),
        flat_bar(104),
        Bar((104, 120, 104, 120)),
        Bar((120, 120, 108, 112)),
        flat_bar(100),
    ]
    steps = play(engine, bars, [order, *manage[:1] * 2, manage[1], HOLD, HOLD], markets=COSTLY)
    states, events = zip(*steps, strict=True)
    assert [state.stop for state in states] == [91, 91, 91, 94, 110, NO_PRICE]
    assert events[1].reject == Reject.NOT_TIGHTER
    assert [event.reject for event in events[2:]] == [Reject.NOT_TIGHTER, 0, 0, 0]
    assert (events[5].exit_reason, events[5].exit_price) == (STOP, 109)
    assert [state.n_rejected for state in states] == [0, 1, 2, 2, 2, 2]


def test_breakeven_stop_pays_the_round_trip(engine: Engine) -> None:
    """Entry 101, stop 103 (2 commissions of 0.50 and one tick slippage), filled at 102."""
    breakeven = Orders(OrderKind.BREAKEVEN, 0, 0, 0)
    bars = [
        flat_bar(100),
        Bar((100, 110, 100, 110)),
        flat_bar(110),
        Bar((110, 110, 100, 100)),
        flat_bar(100),
    ]
    steps = play(engine, bars, [LONG._replace(stop_ticks=10), breakeven, HOLD], markets=COSTLY)
    assert steps[1][0].stop == 103
    assert (steps[2][1].exit_price, steps[2][1].trip_net) == (102, 0)


# Refusals, one row a reason: flags of bar k and j, the order, what is changed in the state.

HELD = {"qty": 1, "entry": 100, "stop": 90, "trail_ticks": 10}
REFUSALS = [
    (Reject.BAD_QTY, TRADE, TRADE, LONG._replace(qty=0), HELD),
    (Reject.IN_POSITION, TRADE, TRADE, LONG, {**HELD, "is_locked_out": True}),
    (Reject.LOCKED_OUT, TRADE, TRADE, LONG._replace(qty=11), {"is_locked_out": True}),
    (Reject.SIZE_LIMIT, 0, TRADE, LONG._replace(qty=11), {}),
    (Reject.NONE, TRADE, TRADE, LONG._replace(qty=10), {}),
    (Reject.NO_ENTRY_TIME, BarFlag.TRADABLE, TRADE, LONG._replace(target_ticks=1), {}),
    (Reject.STOP_TO_TARGET, TRADE, 0, LONG._replace(target_ticks=10), {}),
    (Reject.STOP_TO_TARGET, TRADE, TRADE, Orders(OrderKind.LONG, 1, 51, 10), {}),
    (Reject.NONE, TRADE, TRADE, Orders(OrderKind.LONG, 1, 50, 10), {}),
    (Reject.EXPIRED, TRADE, BarFlag.CAN_ENTER, LONG, {}),
    (Reject.EXPIRED, TRADE, TRADE | BarFlag.SESSION_START, LONG, {}),
    (Reject.NO_POSITION, TRADE, TRADE, CLOSE, {}),
    (Reject.NO_POSITION, TRADE, TRADE, CLOSE._replace(kind=OrderKind.BREAKEVEN), {}),
    (Reject.NO_POSITION, TRADE, TRADE, CLOSE._replace(kind=OrderKind.TRAIL_ON), {}),
    (Reject.NO_POSITION, TRADE, TRADE, CLOSE._replace(kind=OrderKind.TRAIL_OFF), {}),
    (Reject.NOT_TIGHTER, TRADE, TRADE, CLOSE._replace(kind=OrderKind.BREAKEVEN), HELD),
    (
        Reject.NO_STOP,
        TRADE,
        TRADE,
        CLOSE._replace(kind=OrderKind.TRAIL_ON),
        {**HELD, "trail_ticks": 0, "is_trailing": True},
    ),
    (
        Reject.ALREADY_TRAILING,
        TRADE,
        TRADE,
        CLOSE._replace(kind=OrderKind.TRAIL_ON),
        {**HELD, "is_trailing": True},
    ),
    (Reject.NOT_TRAILING, TRADE, TRADE, CLOSE._replace(kind=OrderKind.TRAIL_OFF), HELD),
    (Reject.ACCOUNT_ENDED, TRADE, TRADE, LONG, {"done_reason": DoneReason.WINDOW_END}),
]


@pytest.mark.parametrize(("reject", "now", "then", "order", "changes"), REFUSALS)
def test_refusals(
    engine: Engine, reject: Reject, now: int, then: int, order: Orders, changes: dict[str, int]
) -> None:
    bars = [flat_bar(100, now), flat_bar(100, then), flat_bar(100)]
    rules = RULES._replace(max_stop_per_target=5)
    [(state, events)] = play(engine, bars, [order], rules, **changes)
    assert events.reject == reject
    is_counted = reject not in (Reject.NONE, Reject.EXPIRED, Reject.ACCOUNT_ENDED)
    assert state.n_rejected == is_counted
    assert state.bar == (0 if reject == Reject.ACCOUNT_ENDED else 1)
    assert state.qty == (order.qty if reject == Reject.NONE else changes.get("qty", 0))


# Firms' own numbers (facts: rulebook pages of the firms as of 2025-08 to 2026-09). The price of the
# one contract is the account's equity in USD: it is entered where the price equals the balance.

INTRADAY = RULES._replace(trail_kind=TrailKind.INTRADAY)
END_OF_DAY = RULES._replace(trail_kind=TrailKind.END_OF_DAY)


def test_apex_intraday_trailing_example(engine: Engine) -> None:
    """Apex Legacy 50K, "Trailing Drawdown Example", 2025-08: 48,000, then 48,375."""
    rules = INTRADAY._replace(allowance=2_500 * USD)
    bars = [
        flat_bar(50_000),
        Bar((50_000, 50_500, 50_000, 50_500)),
        flat_bar(50_500),
        Bar((50_500, 50_875, 50_100, 50_100)),
        flat_bar(50_100),
        Bar((50_100, 50_100, 48_376, 48_400)),
        Bar((48_400, 48_400, 48_375, 48_400)),
        flat_bar(48_400),
    ]
    steps = play(engine, bars, [LONG, CLOSE, LONG, CLOSE, LONG, HOLD], rules)
    balances = [state.balance // USD for state, _ in steps]
    assert [state.floor // USD for state, _ in steps] == [48_000, 48_000, *[48_375] * 4]
    assert balances == [50_000, 50_500, 50_500, 50_100, 50_100, 48_375]
    assert [state.outcome for state, _ in steps] == [*[Outcome.OPEN] * 5, Outcome.BREACHED]


@pytest.mark.parametrize(
    ("cents", "outcome"), [(4_837_500, Outcome.BREACHED), (4_837_501, Outcome.OPEN)]
)
def test_apex_floor_to_the_cent(engine: Engine, cents: int, outcome: Outcome) -> None:
    """Equity 48,375.00 breaches, 48,375.01 lives; a tick is a cent here."""
    rules = INTRADAY._replace(allowance=2_500 * USD)
    bars = [flat_bar(price) for price in (5_000_000, 5_000_000, 5_087_500, cents, cents)]
    steps = play(engine, bars, [LONG, HOLD, HOLD], rules, FREE._replace(tick_mills=(10,)))
    assert steps[1][0].floor == 48_375 * USD
    assert steps[2][0].outcome == outcome


# Floors behind a sequence of marks: open equity for intraday trailing, closing balances for
# end-of-day trailing. Start, allowance, lock trigger, lock level (USD), marks, floors after them.

FLOORS = [
    ("A2 Apex 50K", INTRADAY, 50_000, 2_000, None, 0, [50_900, 50_200, 50_300], [48_900] * 3),
    ("A3 before", INTRADAY, 50_000, 2_000, 55_000, 53_000, [54_999], [52_999]),
    ("A3 Rithmic", INTRADAY, 50_000, 2_000, 55_000, 53_000, [55_000, 56_500], [53_000] * 2),
    ("A3 Tradovate", INTRADAY, 50_000, 2_000, None, 0, [55_000, 56_500], [53_000, 54_500]),
    (
        "A3 performance",
        INTRADAY,
        50_000,
        2_000,
        52_100,
        50_100,
        [52_099, 52_100, 60_000],
        [50_099, 50_100, 50_100],
    ),
    ("A3 legacy", INTRADAY, 50_000, 2_500, 52_600, 50_100, [52_599, 52_600], [50_099, 50_100]),
    ("A3 legacy lock", INTRADAY, 50_000, 2_500, 55_500, 53_000, [55_499, 58_000], [52_999, 53_000]),
    ("A6 static", RULES, 100_000, 625, None, 0, [100_700, 102_000, 99_400], [99_375] * 3),
    (
        "P1 TPT PRO",
        INTRADAY,
        25_000,
        1_500,
        26_500,
        25_000,
        [26_000, 25_500, 26_500],
        [24_500, 24_500, 25_000],
    ),
    ("M1 MFFU Rapid", INTRADAY, 0, 2_000, 2_100, 100, [1_500, 2_100, 4_000], [-500, 100, 100]),
    (
        "E1 Apex EOD",
        END_OF_DAY,
        50_000,
        2_000,
        None,
        0,
        [50_800, 51_600, 50_900, 52_000],
        [48_800, 49_600, 49_600, 50_000],
    ),
    (
        "T1 Topstep",
        END_OF_DAY,
        50_000,
        2_000,
        52_000,
        50_000,
        [50_500, 50_000, 52_500, 55_000],
        [48_500, 48_500, 50_000, 50_000],
    ),
    ("L1 Lucid", END_OF_DAY, 50_000, 2_000, 52_100, 50_100, [51_200, 52_100], [49_200, 50_100]),
    (
        "G1 Earn2Trade",
        END_OF_DAY,
        50_000,
        2_000,
        52_000,
        50_000,
        [51_000, 50_500, 51_500, 56_000],
        [49_000, 49_000, 49_500, 50_000],
    ),
]


@pytest.mark.parametrize("row", FLOORS, ids=lambda row: row[0])
def test_floors_of_the_firms(engine: Engine, row: tuple[Any, ...]) -> None:
    """Open equity at an open, or closing balances with an ignored high 100 USD above them."""
    _, rules, begin, allowance, trigger, level, marks, floors = row
    rules = rules._replace(
        start_balance=begin * USD,
        allowance=allowance * USD,
        lock_trigger=NEVER if trigger is None else trigger * USD,
        lock_level=level * USD,
    )
    bars, orders = [flat_bar(begin), flat_bar(begin)], [LONG]
    for day, mark in enumerate(marks, start=2):
        last = bars[-1].prices[3]
        if rules.trail_kind == TrailKind.END_OF_DAY:
            prices = (last, max(last, mark) + 100, min(last, mark), mark)
            bars.append(Bar(prices, SETTLED | BarFlag.CAN_ENTER, day))
            orders.append(LONG if day > 2 else HOLD)
        else:
            bars.append(flat_bar(mark))
            orders.append(HOLD)
    steps = play(engine, [*bars, flat_bar(marks[-1])], orders, rules)[1:]
    assert [events.reject for _, events in steps] == [Reject.NONE] * len(marks)
    assert [events.equity // USD for _, events in steps] == marks
    assert [state.floor // USD for state, _ in steps] == floors
    assert all(state.outcome == Outcome.OPEN for state, _ in steps)


@pytest.mark.parametrize(("low", "outcome"), [(49_601, Outcome.OPEN), (49_600, Outcome.BREACHED)])
def test_an_end_of_day_floor_is_tested_inside_the_day(
    engine: Engine, low: int, outcome: Outcome
) -> None:
    """Apex EOD 50K: low 49,600 against the floor of the last close fails, wherever it closes."""
    changes = {"balance": 50_900 * USD, "peak": 51_600 * USD, "floor": 49_600 * USD}
    bars = [flat_bar(50_900), Bar((50_900, 52_000, low, 52_000), SETTLED), flat_bar(52_000)]
    [(state, _)] = play(engine, bars, [LONG], END_OF_DAY, **changes)
    assert state.outcome == outcome


@pytest.mark.parametrize(
    ("begin", "floor", "low"), [(50_000, 48_000, 48_000), (50_500, 48_500, 48_499)]
)
def test_topstep_loses_inside_the_day(engine: Engine, begin: int, floor: int, low: int) -> None:
    """Topstep Combine 50K: the loss limit counts in real time though it moves at the close."""
    bars = [flat_bar(begin), Bar((begin, begin, low, 50_000), SETTLED), flat_bar(50_000)]
    [(state, events)] = play(
        engine, bars, [LONG], END_OF_DAY, balance=begin * USD, floor=floor * USD
    )
    assert (state.outcome, state.done_reason) == (Outcome.BREACHED, DoneReason.FLOOR)
    assert (events.exit_price, events.is_day_close) == (floor, False)


@pytest.mark.parametrize(
    ("floor", "kind", "outcome", "exit_reason", "price"),
    [
        (48_000, LimitKind.SOFT, Outcome.OPEN, FillReason.DAILY_LIMIT, 49_400),
        (49_500, LimitKind.SOFT, Outcome.BREACHED, FillReason.FLOOR, 49_500),
        (48_000, LimitKind.HARD, Outcome.BREACHED, FillReason.DAILY_LIMIT, 49_400),
        (48_000, LimitKind.NONE, Outcome.OPEN, FillReason.NONE, 0),
    ],
)
def test_apex_daily_loss_limit(
    engine: Engine, floor: int, kind: LimitKind, outcome: Outcome, exit_reason: int, price: int
) -> None:
    """Apex 50K, 1,000 a day from 50,400: out at 49,400 and locked till the next day."""
    rules = END_OF_DAY._replace(limit_kind=kind, tier_daily_limit=(1_000 * USD, NEVER))
    bars = [
        flat_bar(50_400),
        Bar((50_400, 50_400, 49_300, 49_450)),
        flat_bar(49_450),
        flat_bar(49_450, TRADE, day=2),
        flat_bar(49_450, TRADE, day=2),
        flat_bar(49_450, TRADE, day=2),
    ]
    changes = {"balance": 50_400 * USD, "day_balance": 50_400 * USD, "floor": floor * USD}
    steps = play(engine, bars, [LONG, LONG, HOLD, LONG], rules, **changes)
    first, events = steps[0]
    assert (events.exit_reason, events.exit_price, first.outcome) == (exit_reason, price, outcome)
    assert first.floor == floor * USD
    is_soft_stop = exit_reason == FillReason.DAILY_LIMIT and kind == LimitKind.SOFT
    assert first.is_locked_out == is_soft_stop
    if is_soft_stop:
        assert [event.reject for _, event in steps] == [0, Reject.LOCKED_OUT, 0, 0]
        assert [state.is_locked_out for state, _ in steps] == [True, True, False, False]
        assert steps[3][0].qty == 1


@pytest.mark.parametrize(("close", "outcome"), [(53_000, Outcome.PASSED), (52_900, Outcome.OPEN)])
def test_apex_passes_on_the_closed_balance(engine: Engine, close: int, outcome: Outcome) -> None:
    """Apex 50K: 53,000.00 at the close passes; touched and closed at 52,900 does not."""
    rules = INTRADAY._replace(target_balance=53_000 * USD)
    bars = [
        flat_bar(50_000),
        flat_bar(50_000),
        Bar((52_500, 53_000, 52_500, 52_950)),
        Bar((52_950, 53_000, 52_900, close), SETTLED),
        flat_bar(close, TRADE, day=2),
    ]
    steps = play(engine, bars, [LONG, HOLD, HOLD], rules)
    assert [state.outcome for state, _ in steps] == [Outcome.OPEN, Outcome.OPEN, outcome]
    assert (steps[2][1].exit_reason, steps[2][1].is_day_close) == (LATE, True)


@pytest.mark.parametrize(
    ("high", "min_days", "outcome"),
    [(53_002, 1, Outcome.OPEN), (53_003, 1, Outcome.PASSED), (53_003, 2, Outcome.OPEN)],
)
def test_a_touch_passes_at_once(engine: Engine, high: int, min_days: int, outcome: Outcome) -> None:
    """Entry 50,001 and two commissions of 0.50: 53,003 slipped to 53,002 leaves 53,000."""
    rules = RULES._replace(
        target_balance=53_000 * USD, target_test=TargetTest.TOUCH, min_days=min_days
    )
    bars = [flat_bar(50_000), Bar((50_000, high, 50_000, 50_000)), flat_bar(50_000)]
    [(state, events)] = play(engine, bars, [LONG], rules, COSTLY)
    assert state.outcome == outcome
    is_met = high >= 53_003
    assert events.exit_reason == (FillReason.ACCOUNT_TARGET if is_met else NONE)
    assert state.balance == (53_000 * USD if is_met else 49_999_500)


def test_a_touch_does_not_look_at_the_best_day(engine: Engine) -> None:
    """3,000 in all and 2,000 on one day: at the close of a day it would have to wait."""
    rules = RULES._replace(
        target_balance=53_000 * USD,
        target_test=TargetTest.TOUCH,
        best_day_num=50,
        best_day_den=100,
    )
    bars = [flat_bar(50_000), Bar((50_000, 53_003, 50_000, 50_000)), flat_bar(50_000)]
    [(state, _)] = play(engine, bars, [LONG], rules, COSTLY, best_day=2_000 * USD)
    assert (state.outcome, state.best_day) == (Outcome.PASSED, 2_000 * USD)


# Consistency: best day and total (USD), the part allowed in percent, strict or not, passed or not.

CONSISTENCY = [
    ("Topstep Combine", 1_600, 3_000, 55, 0, True),
    ("Topstep Combine", 1_650, 3_000, 55, 0, True),
    ("Topstep Combine", 1_800, 3_000, 55, 0, False),
    ("Topstep Combine", 1_800, 3_272.72, 55, 0, False),
    ("Topstep Combine", 1_800, 3_272.73, 55, 0, True),
    ("Topstep XFA", 1_500, 3_000, 40, 0, False),
    ("Topstep XFA", 1_500, 4_500, 40, 0, True),
    ("Apex performance", 1_500, 3_000, 50, 1, False),
    ("Apex performance", 1_500, 3_000.01, 50, 1, True),
    ("Apex legacy", 1_500, 4_999.99, 30, 0, False),
    ("Apex legacy", 1_500, 5_000, 30, 0, True),
    ("TPT", 2_000, 3_100, 50, 1, False),
    ("TPT", 2_000, 4_000, 50, 1, False),
    ("TPT", 2_000, 4_000.01, 50, 1, True),
    ("Lucid, MFFU", 1_500, 3_000, 50, 0, True),
]


@pytest.mark.parametrize(("firm", "best", "total", "percent", "is_strict", "passes"), CONSISTENCY)
def test_consistency_of_the_firms(
    engine: Engine, firm: str, best: int, total: float, percent: int, is_strict: int, passes: bool
) -> None:
    balance = 50_000 * USD + round(total * USD)
    rules = RULES._replace(
        target_balance=53_000 * USD,
        best_day_num=percent,
        best_day_den=100,
        best_day_strict=is_strict,
    )
    bars = [flat_bar(100), flat_bar(100, SETTLED), flat_bar(100, TRADE, day=2)]
    changes = {"balance": balance, "day_balance": balance, "best_day": best * USD}
    [(state, _)] = play(engine, bars, [HOLD], rules, **changes)
    assert (state.outcome == Outcome.PASSED) == passes, firm


@pytest.mark.parametrize(("profit", "tier"), [(2_600_000, 0), (2_600_010, 1)])
def test_apex_legacy_scaling_holds_from_the_next_day(
    engine: Engine, profit: int, tier: int
) -> None:
    """Legacy 50K: a close of 52,600.00 is not over the line, 52,600.01 is; then 10 minis, not 5."""
    rules = RULES._replace(tier_profit=(SMALLEST, 2_600_010), tier_units=(50, 100))
    bars = [
        flat_bar(100),
        flat_bar(100, SETTLED),
        flat_bar(100, TRADE, day=2),
        flat_bar(100, TRADE, day=2),
    ]
    steps = play(engine, bars, [HOLD, HOLD], rules, balance=50_000 * USD + profit)
    assert [state.size_units for state, _ in steps] == [50, 50 + 50 * tier]
    assert [events.is_new_day for _, events in steps] == [False, True]


# Days, clocks and ends.


def test_days_count_when_traded_and_good_enough(engine: Engine) -> None:
    rules = RULES._replace(day_profit=5 * USD)
    bars = [flat_bar(100)]
    for day, close in enumerate((105, 104, 105, 105), start=2):
        bars.append(flat_bar(100, TRADE | BarFlag.SESSION_START, day))
        bars.append(Bar((100, 105, 100, close), SETTLED, day))
    bars.append(flat_bar(100, TRADE, day=6))
    orders = [HOLD, LONG, HOLD, LONG, HOLD, HOLD, HOLD, LONG]
    steps = play(engine, bars, orders, rules)
    assert [state.n_days for state, _ in steps[1::2]] == [1, 1, 1, 2]
    assert [state.best_day for state, _ in steps[1::2]] == [5 * USD] * 4
    traded = [state.has_traded for state, _ in steps]
    assert traded == [False, True, False, True, False, False, False, True]


@pytest.mark.parametrize(("limit", "outcome"), [(4, Outcome.TIMED_OUT), (5, Outcome.OPEN)])
def test_time_runs_out_when_the_next_day_lies_beyond(
    engine: Engine, limit: int, outcome: Outcome
) -> None:
    rules = RULES._replace(time_limit_days=limit)
    bars = [flat_bar(100), flat_bar(100, SETTLED), flat_bar(100, TRADE, day=5)]
    [(state, _)] = play(engine, bars, [HOLD], rules)
    assert state.outcome == outcome
    assert (state.done_reason == DoneReason.TIME_LIMIT) == (outcome == Outcome.TIMED_OUT)


@pytest.mark.parametrize(("fails", "outcome"), [(0, Outcome.OPEN), (1, Outcome.BREACHED)])
def test_a_position_at_flat_by_is_recorded_or_fails(
    engine: Engine, fails: int, outcome: Outcome
) -> None:
    bars = [flat_bar(100), flat_bar(100, TRADE | BarFlag.FLAT), flat_bar(100)]
    [(state, events)] = play(engine, bars, [LONG], RULES._replace(late_flat_fails=fails), COSTLY)
    assert (events.exit_reason, state.n_late_flat, state.outcome) == (LATE, 1, outcome)
    assert state.done_reason == (DoneReason.LATE_FLAT if fails else DoneReason.NONE)


def test_the_end_of_the_data_leaves_the_position_marked(engine: Engine) -> None:
    steps = play(engine, [flat_bar(100), Bar((100, 107, 100, 107))], [LONG, HOLD, CLOSE])
    state, events = steps[0]
    assert (state.outcome, state.done_reason, state.qty) == (0, DoneReason.DATA_END, 1)
    assert [event.equity for _, event in steps] == [50_007 * USD] * 3
    assert [after for after, _ in steps] == [state] * 3
    assert [event.reject for _, event in steps] == [0, 0, Reject.ACCOUNT_ENDED]
    assert (events.entry_qty, steps[1][1].entry_qty) == (1, 0)
