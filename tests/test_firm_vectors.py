"""The firms' own worked examples, lived through both simulators under the built-in books.

A life is a list of days; a day is the equities in USD that one long contract, bought at the day's
first bar and liquidated at its last, is seen at, one a bar without range. A tick is worth a cent
and costs are zero, so that each number of a firm's page is met exactly. Vectors of payouts and
prices stand with the odds and with the books' tables.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from passline.rulebook import load_rulebook
from passline.sim import reference
from passline.sim import step as compiled
from passline.sim.compile import compile_rules
from passline.sim.jit import sim_jit
from passline.sim.layout import (
    NEVER,
    BarFlag,
    DoneReason,
    FillReason,
    Markets,
    OrderKind,
    Orders,
    Outcome,
    Rules,
    State,
    Tape,
)

N_BARS = 48
CENT = 10
MARKETS = Markets(*(np.array([value], np.int32) for value in (CENT, 0, 0, 1, 0)))
FIRST_PRICE = 10_000_000
USUAL = BarFlag.TRADABLE | BarFlag.CAN_ENTER
HOLD = Orders(int(OrderKind.HOLD), 1, 0, 0)
LONG = Orders(int(OrderKind.LONG), 1, 0, 0)
START_ONE, STEP_ONE = sim_jit(compiled.start), sim_jit(compiled.step)

Days = Sequence[Sequence[float]]


class Seen(NamedTuple):
    """An account after a bar, USD where it is money."""

    floor: float
    balance: float
    outcome: Outcome
    done_reason: DoneReason
    exit_reason: FillReason
    is_locked_out: bool
    size_units: int


@cache
def rules_of(book: str) -> Rules:
    return compile_rules(load_rulebook(book))


def tape_of(start: float, days: Days) -> tuple[Tape, list[Orders]]:
    """The bars of a life and its orders: buy at the second bar of each day."""
    price, balance = FIRST_PRICE, start
    prices, flags, day_of, orders = [price], [int(USUAL)], [0], []
    for number, day in enumerate(days, start=1):
        ticks = [round((equity - balance) * 100) for equity in day]
        prices += [price, price, *(price + tick for tick in ticks)]
        flags += [int(USUAL | BarFlag.SESSION_START), *[int(USUAL)] * len(day)]
        flags.append(int(BarFlag.TRADABLE | BarFlag.FLAT | BarFlag.DAY_CLOSE))
        day_of += [number] * (len(day) + 2)
        orders += [HOLD, LONG, *[HOLD] * len(day)]
        price, balance = prices[-1], day[-1]
    n_more = N_BARS - len(prices)
    prices, flags = prices + [price] * n_more, flags + [int(USUAL)] * n_more
    day_of += [len(days) + 1] * n_more
    column = np.array(prices, np.int32)
    return Tape(
        *[column] * 4,
        flags=np.array(flags, np.int32),
        day=np.array(day_of, np.int32),
        next_day=np.array([*day_of[1:], NEVER], np.int32),
    ), orders


def plain(record: Any) -> Any:
    return type(record)(*(np.asarray(value).tolist() for value in record))


def live(book: str, days: Days, first_order: Orders = LONG) -> list[Seen]:
    """Lives the days in both simulators, which must agree; one entry for each equity."""
    rules = rules_of(book)
    tape, orders = tape_of(load_rulebook(book).start_balance_mills / 1000, days)
    constants = plain(tape), plain(MARKETS), plain(rules)
    orders[1] = first_order
    mine = START_ONE(tape, MARKETS, rules, jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32))
    twin = reference.start(*constants, bar=0)
    seen = []
    is_equity = chain.from_iterable([False, False, *[True] * len(day)] for day in days)
    for sent, is_seen in zip(orders, is_equity, strict=True):
        lane = Orders(*(jnp.asarray([value], jnp.int32) for value in sent))
        mine, events = STEP_ONE(tape, MARKETS, rules, mine, lane)
        twin, told = reference.step(*constants, twin, sent)
        assert plain(mine) == State(*([value] for value in twin))
        assert plain(events) == type(told)(*([value] for value in told))
        if is_seen:
            seen.append(view(twin, told))
    return seen


def view(state: State, events: Any) -> Seen:
    return Seen(
        floor=state.floor / 1000,
        balance=state.balance / 1000,
        outcome=Outcome(state.outcome),
        done_reason=DoneReason(state.done_reason),
        exit_reason=FillReason(events.exit_reason),
        is_locked_out=bool(state.is_locked_out),
        size_units=state.size_units,
    )


class Floors(NamedTuple):
    """A life and the floor after each of its equities."""

    book: str
    days: Days
    floors: Sequence[float]
    source: str


APEX = "apextraderfunding.com/help-center"
INTRADAY = f"{APEX} intraday-trailing-drawdown-explained, as of 2026-04-28"
PERFORMANCE = f"{APEX} intraday-trailing-drawdown-performance-accounts-pa, as of 2026-05-21"
LEGACY = f"{APEX} legacy-evaluation-rules, as of 2026-09-19"
EXAMPLE = "Apex, trailing drawdown example, support.apextraderfunding.com, as of 2025-10-07"
APEX_EOD = f"{APEX} eod-drawdown-explained, as of 2026-04-28"
TOPSTEP = "help.topstep.com 8284204, as of 2026-09-18"
XFA = "help.topstep.com 8284215, as of 2026-08-05"
MFFU = "help.myfundedfutures.com 13134709, as of 2026-08-24"
TPT = "takeprofittraderhelp.zendesk.com 15171769361053, as of 2026-09-02"
LUCID = "support.lucidtrading.com 12945815, as of 2026-08-26"
TRADEIFY = "help.tradeify.co 10495897, read 2026-09"
EARN2TRADE = "help.earn2trade.com 5941958, as of 2026-09-22"
TRAILS_ON = [[54_999, 55_000, 56_500]], [52_999, 53_000, 53_000]
LOCKS_AT_100 = [[52_099, 52_100, 60_000]], [50_099, 50_100, 50_100]

FLOORS = {
    "A1": Floors("apex-legacy-50k", [[50_500], [50_875, 50_100]], [48_000, *[48_375] * 2], EXAMPLE),
    "A2": Floors("apex-intraday-50k", [[50_900, 50_200, 50_300]], [48_900] * 3, INTRADAY),
    "A3 rithmic": Floors("apex-intraday-50k", *TRAILS_ON, INTRADAY),
    "A3 wealthcharts": Floors("apex-intraday-50k-wealthcharts", *TRAILS_ON, INTRADAY),
    "A3 tradovate": Floors(
        "apex-intraday-50k-tradovate", TRAILS_ON[0], [52_999, 53_000, 54_500], INTRADAY
    ),
    "A3 pa": Floors("apex-intraday-50k-pa", *LOCKS_AT_100, PERFORMANCE),
    "A3 pa wealthcharts": Floors("apex-intraday-50k-pa-wealthcharts", *LOCKS_AT_100, PERFORMANCE),
    "A3 pa tradovate": Floors("apex-intraday-50k-pa-tradovate", *LOCKS_AT_100, PERFORMANCE),
    "A3 legacy pa": Floors(
        "apex-legacy-50k-pa", [[52_599, 52_600, 58_000]], [50_099, 50_100, 50_100], LEGACY
    ),
    "A3 legacy": Floors(
        "apex-legacy-50k", [[55_499, 55_500, 58_000]], [52_999, 53_000, 53_000], LEGACY
    ),
    "A6": Floors("apex-legacy-100k-static", [[101_000, 100_500], [101_900]], [99_375] * 3, LEGACY),
    "E1": Floors(
        "apex-eod-50k",
        [[50_800], [51_600], [50_900], [51_900, 52_000]],
        [48_800, 49_600, 49_600, 49_600, 50_000],
        APEX_EOD,
    ),
    "T1": Floors(
        "topstep-combine-50k",
        [[51_900, 50_500], [50_000], [52_500], [55_000]],
        [48_000, 48_500, 48_500, 50_000, 50_000],
        TOPSTEP,
    ),
    "T2": Floors("topstep-xfa-50k", [[500], [2_000], [4_000]], [-1_500, 0, 0], XFA),
    "P1": Floors(
        "tpt-pro-25k",
        [[26_000, 25_500], [26_500, 30_000]],
        [24_500, 24_500, 25_000, 25_000],
        TPT,
    ),
    "M1": Floors("mffu-rapid-50k-funded", [[1_500, 2_100, 5_000]], [-500, 100, 100], MFFU),
    "L1 lucid": Floors(
        "lucid-flex-50k-funded", [[51_200], [52_100], [54_000]], [49_200, 50_100, 50_100], LUCID
    ),
    "L1 tradeify": Floors(
        "tradeify-growth-50k-funded",
        [[51_200], [52_100], [54_000]],
        [49_200, 50_100, 50_100],
        TRADEIFY,
    ),
    "G1": Floors(
        "earn2trade-gauntlet-mini-50k",
        [[51_000], [50_500], [51_500], [52_000], [52_500]],
        [49_000, 49_000, 49_500, 50_000, 50_000],
        EARN2TRADE,
    ),
}


@pytest.mark.parametrize("name", list(FLOORS))
def test_the_floor_is_the_firms(name: str) -> None:
    vector = FLOORS[name]
    assert [after.floor for after in live(vector.book, vector.days)] == list(vector.floors)


class End(NamedTuple):
    """A life and how its account stands after it."""

    book: str
    days: Days
    outcome: Outcome
    source: str


OPEN, PASSED, BREACHED = Outcome.OPEN, Outcome.PASSED, Outcome.BREACHED
A1_DAYS = [[50_500], [50_875, 50_100]]
PASS = f"{APEX} evaluation-plan-fees-and-access-explained, as of 2026-06-25"
TOPSTEP_DAYS = "help.topstep.com 8284208, as of 2026-09-17"
TPT_DAYS = "takeprofittraderhelp.zendesk.com 15170316538013, read 2026-09"
LUCID_DAYS = "support.lucidtrading.com 12945805, as of 2026-08-26"
MFFU_DAYS = "help.myfundedfutures.com 13134709, as of 2026-08-24"
SELECT_DAYS = "help.tradeify.co 10468320, read 2026-09"
QUICKPAY_DAYS = "tradeday.freshdesk.com 103000405229, as of 2026-09-22"
E1_DAYS = [[50_800], [51_600], [50_900]]
LEGACY_WEEK = [[53_000]] * 6

ENDS = {
    "A1 at the floor": End("apex-legacy-50k", [*A1_DAYS, [48_375]], BREACHED, EXAMPLE),
    "A1 a cent above": End("apex-legacy-50k", [*A1_DAYS, [48_375.01]], OPEN, EXAMPLE),
    "A4 a pass comes before the lock": End("apex-intraday-50k", [[53_000]], PASSED, INTRADAY),
    "A5 closed at the target": End("apex-eod-50k", [[53_000]], PASSED, PASS),
    "A5 touched and given back": End("apex-eod-50k", [[53_000, 52_900]], OPEN, PASS),
    "A5 a cent below": End("apex-intraday-50k", [[52_999.99]], OPEN, PASS),
    "A5 legacy, sixth day": End("apex-legacy-50k", LEGACY_WEEK, OPEN, LEGACY),
    "A5 legacy, seventh day": End("apex-legacy-50k", [*LEGACY_WEEK, [53_000]], PASSED, LEGACY),
    "A5 legacy, lost again": End("apex-legacy-50k", [*LEGACY_WEEK, [52_900]], OPEN, LEGACY),
    "A6 at the static floor": End(
        "apex-legacy-100k-static", [[101_000], [99_375]], BREACHED, LEGACY
    ),
    "E1 in the day": End("apex-eod-50k", [*E1_DAYS, [49_600, 52_000]], BREACHED, APEX_EOD),
    "T1 first day": End("topstep-combine-50k", [[48_000, 50_500]], BREACHED, TOPSTEP),
    "T1 second day": End("topstep-combine-50k", [[50_500], [48_499, 50_000]], BREACHED, TOPSTEP),
    "best 1,600 of 3,000": End("topstep-combine-50k", [[51_600], [53_000]], PASSED, TOPSTEP_DAYS),
    "best 1,650 of 3,000": End("topstep-combine-50k", [[51_650], [53_000]], PASSED, TOPSTEP_DAYS),
    "best 1,650.01 of 3,000": End(
        "topstep-combine-50k", [[51_650.01], [53_000]], OPEN, TOPSTEP_DAYS
    ),
    "best 1,800 of 3,272.72": End(
        "topstep-combine-50k", [[51_800], [53_272.72]], OPEN, TOPSTEP_DAYS
    ),
    "best 1,800 of 3,272.73": End(
        "topstep-combine-50k", [[51_800], [53_272.73]], PASSED, TOPSTEP_DAYS
    ),
    "TPT, 2,000 of 3,100": End("tpt-test-50k", [[52_000], [52_500], [53_100]], OPEN, TPT_DAYS),
    "TPT, 2,000 of 4,000": End("tpt-test-50k", [[52_000], [52_500], [54_000]], OPEN, TPT_DAYS),
    "TPT, 2,000 of 4,000.01": End(
        "tpt-test-50k", [[52_000], [52_500], [54_000.01]], PASSED, TPT_DAYS
    ),
    "Lucid, 1,500 of 3,000": End("lucid-flex-50k", [[51_500], [53_000]], PASSED, LUCID_DAYS),
    "Lucid, 1,500.01 of 3,000": End("lucid-flex-50k", [[51_500.01], [53_000]], OPEN, LUCID_DAYS),
    "MFFU Rapid, 1,500 of 3,000": End("mffu-rapid-50k", [[51_500], [53_000]], PASSED, MFFU_DAYS),
    "MFFU Pro, 1,500.01 of 3,000": End("mffu-pro-50k", [[51_500.01], [53_000]], OPEN, MFFU_DAYS),
    "MFFU Rapid EOD, 900 of 3,000": End(
        "mffu-rapid-eod-50k", [[50_900], [51_800], [52_700], [53_000]], PASSED, MFFU_DAYS
    ),
    "Tradeify Select, 1,200 of 3,000": End(
        "tradeify-select-50k", [[51_200], [52_400], [53_000]], PASSED, SELECT_DAYS
    ),
    "Tradeify Select, 1,200.01 of 3,000": End(
        "tradeify-select-50k", [[51_200.01], [52_400], [53_000]], OPEN, SELECT_DAYS
    ),
    "Earn2Trade, 900 of 3,000": End(
        "earn2trade-gauntlet-mini-50k", [[50_900], [51_800], [52_700], [53_000]], PASSED, EARN2TRADE
    ),
    "Earn2Trade, 900.01 of 3,000": End(
        "earn2trade-gauntlet-mini-50k",
        [[50_900.01], [51_800], [52_700], [53_000]],
        OPEN,
        EARN2TRADE,
    ),
    "TradeDay, 900 of 3,000": End(
        "tradeday-quickpay-50k-eod",
        [[50_900], [51_800], [52_700], [52_800], [53_000]],
        PASSED,
        QUICKPAY_DAYS,
    ),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_the_account_ends_as_the_firm_says(name: str) -> None:
    vector = ENDS[name]
    end = live(vector.book, vector.days)[-1]
    assert end.outcome == vector.outcome
    reasons = {OPEN: DoneReason.NONE, PASSED: DoneReason.TARGET, BREACHED: DoneReason.FLOOR}
    assert end.done_reason == reasons[vector.outcome]


def test_a_daily_limit_ends_the_day_and_a_higher_floor_the_account() -> None:
    """E2, Apex daily-loss-limit-explained, as of 2026-04-15: 1,000 from the day's start."""
    limited = live("apex-eod-50k", [[50_400], [49_400, 49_400], [49_500]])
    assert limited[1].exit_reason == FillReason.DAILY_LIMIT
    assert (limited[1].balance, limited[1].is_locked_out) == (49_400, True)
    assert limited[2].is_locked_out
    assert {after.floor for after in limited} == {48_400}
    assert (limited[3].is_locked_out, limited[3].outcome) == (False, OPEN)
    assert limited[3].exit_reason == FillReason.LATE_FLAT, "it traded again the next day"
    above = live("apex-eod-50k", [[51_500], [50_900], [50_400], [49_400]])
    assert (above[2].floor, above[3].exit_reason) == (49_500, FillReason.FLOOR)
    assert above[3].outcome == BREACHED


@pytest.mark.parametrize(("close", "units"), [(52_600, 50), (52_600.01, 100)])
def test_legacy_scaling_needs_more_than_the_safety_net(close: float, units: int) -> None:
    """Apex legacy-contract-scaling-rule, as of 2026-09-19; kept when the balance falls again."""
    assert [after.size_units for after in live("apex-legacy-50k-pa", [[close]])] == [50]
    later = live("apex-legacy-50k-pa", [[close], [close - 500], [close]])
    assert [after.size_units for after in later] == [50, units, units]


@pytest.mark.parametrize(("stop", "is_refused"), [(50, False), (51, True)])
def test_legacy_stop_is_at_most_five_times_the_target(stop: int, is_refused: bool) -> None:
    """Apex legacy-5-1-risk-reward-ratio-rule, as of 2026-09-19; a target of ten ticks."""
    bracket = LONG._replace(stop_ticks=stop, target_ticks=10)
    first = live("apex-legacy-50k-pa", [[50_000.05]], bracket)[0]
    assert (first.exit_reason == FillReason.NONE) == is_refused
