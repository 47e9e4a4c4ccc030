"""The rulebook's clock over hand-made bars, and books, contracts and ranges as numbers."""

from dataclasses import replace
from datetime import time
from functools import cache

import numpy as np
import pytest

from made_bars import INDEX, bars_of, clock_of, garbage_after, take, without
from passline.errors import SimulationError
from passline.market.bars import Bars
from passline.market.calendar import calendar_names, load_calendar
from passline.market.clock import DAY_NS, MINUTE_NS, eastern_to_utc_ns
from passline.rulebook.catalog import list_rulebooks, load_rulebook
from passline.rulebook.model import Rulebook
from passline.sim.compile import (
    CompiledTape,
    Costs,
    check_range,
    compile_markets,
    compile_rules,
    compile_tape,
    flat_by_ns,
    join_tapes,
)
from passline.sim.layout import NEVER, BarFlag, LimitKind, PathRule, TargetTest, TrailKind

AT_1659 = "apex-intraday-50k"
AT_1610 = "topstep-combine-50k"
SMALLEST = -(2**31)

WEEK = (
    ("2024-01-07 18:00", "2024-01-08 17:00"),
    ("2024-01-08 18:00", "2024-01-09 17:00"),
)
THANKSGIVING = (
    ("2024-11-26 18:00", "2024-11-27 17:00"),
    ("2024-11-27 18:00", "2024-11-28 13:00"),
    ("2024-11-28 18:00", "2024-11-29 13:15"),
    ("2024-12-01 18:00", "2024-12-02 17:00"),
)


@cache
def book(id: str) -> Rulebook:
    return load_rulebook(id)


def where(compiled: CompiledTape, flag: BarFlag) -> np.ndarray:
    return (np.asarray(compiled.tape.flags) & flag) != 0


def times(bars: Bars, id: str, flag: BarFlag) -> list[str]:
    return clock_of(bars, where(compile_tape(bars, book(id)), flag))


def last_times(bars: Bars, id: str, flag: BarFlag) -> list[str]:
    """The last bar with the flag in each session."""
    compiled = compile_tape(bars, book(id))
    chosen = np.flatnonzero(where(compiled, flag))
    is_last = np.r_[np.diff(compiled.session[chosen]) != 0, True]
    return clock_of(bars, chosen[is_last])


@pytest.mark.parametrize(
    ("id", "minutes", "last_tradable", "last_entry"),
    [
        (AT_1659, 1, "16:58", "16:52"),
        (AT_1659, 5, "16:50", "16:40"),
        (AT_1659, 15, "16:30", "16:15"),
        (AT_1610, 1, "16:09", "16:03"),
        (AT_1610, 5, "16:05", "15:55"),
        (AT_1610, 15, "15:45", "15:30"),
    ],
)
def test_a_bar_is_tradable_if_it_ends_by_flat_by(
    id: str, minutes: int, last_tradable: str, last_entry: str
) -> None:
    """No entry is decided so that its bar would end within five minutes of flat-by."""
    bars = bars_of(*WEEK, minutes=minutes)
    days = ["01-08", "01-09"]
    assert last_times(bars, id, BarFlag.TRADABLE) == [f"{d} {last_tradable}" for d in days]
    assert last_times(bars, id, BarFlag.CAN_ENTER) == [f"{d} {last_entry}" for d in days]
    assert times(bars, id, BarFlag.FLAT) == [f"{d} {last_tradable}" for d in days]
    assert times(bars, id, BarFlag.DAY_CLOSE) == [f"{d} {last_tradable}" for d in days]
    assert times(bars, id, BarFlag.SESSION_START) == ["01-07 18:00", "01-08 18:00"]


@pytest.mark.parametrize(
    ("minutes", "no_entry", "n_left"),
    [(1, 0, 0), (1, 1, 1), (1, 5, 5), (5, 5, 1), (15, 5, 0), (15, 15, 1)],
)
def test_bars_left_to_close_an_entry_on_after_the_last_allowed_one(
    minutes: int, no_entry: int, n_left: int
) -> None:
    """Where no_entry_minutes are shorter than a bar, the entry's own bar is the FLAT one."""
    bars = bars_of(*WEEK, minutes=minutes)
    clock = replace(book(AT_1610).clock, no_entry_minutes=no_entry)
    compiled = compile_tape(bars, replace(book(AT_1610), clock=clock))
    decided = np.flatnonzero(where(compiled, BarFlag.CAN_ENTER))[-1]
    flat = np.flatnonzero(where(compiled, BarFlag.FLAT))[-1]
    assert flat - (decided + 1) == n_left


def test_a_limit_that_nobody_would_keep_is_refused() -> None:
    legacy = book("apex-legacy-50k-pa")
    assert legacy.orders.mae is not None
    compile_rules(legacy)
    orders = replace(legacy.orders, mae=replace(legacy.orders.mae, is_enforced=True))
    with pytest.raises(SimulationError, match=r"apex-legacy-50k-pa: orders\.mae is enforced"):
        compile_rules(replace(legacy, orders=orders))


def test_every_bar_from_the_open_on_may_be_entered() -> None:
    bars = bars_of(*WEEK)
    compiled = compile_tape(bars, book(AT_1659))
    enters = where(compiled, BarFlag.CAN_ENTER)
    opens = [t.split()[1] for t in clock_of(bars, enters)]
    assert opens[0] == "18:00"
    assert len(opens) == 2 * (22 * 60 + 53)


def test_minutes_to_flat_are_those_of_the_clock() -> None:
    bars = bars_of(*WEEK)
    compiled = compile_tape(bars, book(AT_1610))
    left = dict(zip(clock_of(bars, np.arange(len(bars))), compiled.minutes_to_flat, strict=True))
    assert left["01-07 18:00"] == 22 * 60 + 9
    assert left["01-08 16:08"] == 1
    assert left["01-08 16:09"] == 0
    assert left["01-08 16:30"] == 0


@pytest.mark.parametrize("seconds", [1, 5, 30, 60, 300, 900])
def test_a_position_must_be_closed_from_the_last_entry_on_to_the_second(seconds: int) -> None:
    """One bar is both, by design; a part of a minute makes no more of them."""
    hour = bars_of(("2024-01-08 16:00", "2024-01-08 17:00"))
    ts = np.arange(hour.ts[0], hour.ts[0] + 60 * MINUTE_NS, seconds * 10**9)
    bars = replace(take(hour, np.zeros(len(ts), np.int64)), ts=ts, bar_ns=seconds * 10**9)
    compiled = compile_tape(bars, book(AT_1659))
    no_entry = book(AT_1659).clock.no_entry_minutes
    left_s = 59 * 60 - (ts - ts[0]) // 10**9 - seconds
    held = where(compiled, BarFlag.TRADABLE)
    expected = left_s <= max(no_entry * 60 + seconds, 2 * seconds - 60)
    np.testing.assert_array_equal(where(compiled, BarFlag.CLOSING)[held], expected[held])
    both = where(compiled, BarFlag.CLOSING) & where(compiled, BarFlag.CAN_ENTER)
    assert np.count_nonzero(both) <= 1


def test_early_closes_are_flat_one_minute_before_and_holiday_halves_merge() -> None:
    bars = bars_of(*THANKSGIVING)
    flat = ["11-27 16:58", "11-28 12:58", "11-29 13:13", "12-02 16:58"]
    assert times(bars, AT_1659, BarFlag.FLAT) == flat
    assert times(bars, AT_1659, BarFlag.DAY_CLOSE) == [flat[0], flat[2], flat[3]]
    assert last_times(bars, AT_1659, BarFlag.CAN_ENTER) == [
        "11-27 16:52",
        "11-28 12:52",
        "11-29 13:07",
        "12-02 16:52",
    ]
    compiled = compile_tape(bars, book(AT_1659))
    days = np.unique(compiled.tape.day).astype("datetime64[D]").astype(str).tolist()
    assert days == ["2024-11-27", "2024-11-29", "2024-12-02"]
    assert len(np.unique(compiled.session)) == 4


def test_a_firm_that_is_flat_at_1610_keeps_the_earlier_holiday_close() -> None:
    bars = bars_of(*THANKSGIVING)
    flat = ["11-27 16:09", "11-28 12:58", "11-29 13:13", "12-02 16:09"]
    assert times(bars, AT_1610, BarFlag.FLAT) == flat


def test_next_day_looks_beyond_the_settled_day() -> None:
    bars = bars_of(*THANKSGIVING)
    tape = compile_tape(bars, book(AT_1659)).tape
    closes = np.flatnonzero((tape.flags & BarFlag.DAY_CLOSE) != 0)
    after = tape.next_day[closes].astype("datetime64[D]").astype(str).tolist()
    assert after[:2] == ["2024-11-29", "2024-12-02"]
    before_merge = clock_of(bars, np.arange(len(bars))).index("11-28 12:59")
    assert str(tape.next_day[before_merge].astype("datetime64[D]")) == "2024-11-29"
    assert tape.next_day[-1] == NEVER


def test_the_last_day_may_be_one_bar_long() -> None:
    bars = bars_of(
        ("2024-01-08 16:00", "2024-01-08 17:00"), ("2024-01-08 18:00", "2024-01-08 18:01")
    )
    tape = compile_tape(bars, book(AT_1659)).tape
    settled = np.flatnonzero((tape.flags & BarFlag.DAY_CLOSE) != 0)[0]
    assert str(tape.next_day[settled].astype("datetime64[D]")) == "2024-01-09"


def test_the_first_session_may_be_one_bar_long() -> None:
    bars = bars_of(
        ("2024-01-05 16:30", "2024-01-05 16:31"), ("2024-01-07 18:00", "2024-01-07 19:00")
    )
    compiled = compile_tape(bars, book(AT_1659))
    assert where(compiled, BarFlag.TRADABLE).all()
    assert str(compiled.tape.day[0].astype("datetime64[D]")) == "2024-01-05"
    assert compiled.minutes_to_flat[0] == 28


@pytest.mark.parametrize(
    ("spans", "utc"),
    [
        (
            (
                ("2024-03-07 18:00", "2024-03-08 17:00"),
                ("2024-03-10 18:00", "2024-03-11 17:00"),
            ),
            ("2024-03-08T21:58", "2024-03-11T20:58"),
        ),
        (
            (
                ("2024-10-31 18:00", "2024-11-01 17:00"),
                ("2024-11-03 18:00", "2024-11-04 17:00"),
            ),
            ("2024-11-01T20:58", "2024-11-04T21:58"),
        ),
    ],
)
def test_flat_by_follows_the_eastern_clock_over_a_clock_change(
    spans: tuple[tuple[str, str], ...], utc: tuple[str, str]
) -> None:
    bars = bars_of(*spans)
    is_flat = where(compile_tape(bars, book(AT_1659)), BarFlag.FLAT)
    assert bars.ts[is_flat].astype("datetime64[ns]").tolist() == [
        np.datetime64(t, "ns").astype(int) for t in utc
    ]
    counts = np.bincount(compile_tape(bars, book(AT_1659)).session)
    assert counts[counts > 0].tolist() == [1380, 1380]


def test_missing_minutes_move_the_mechanics_and_not_the_clock() -> None:
    whole = bars_of(*WEEK)
    bars = without(whole, ("2024-01-08 16:40", "2024-01-08 18:00"))
    assert times(bars, AT_1659, BarFlag.FLAT)[0] == "01-08 16:39"
    assert times(bars, AT_1659, BarFlag.DAY_CLOSE)[0] == "01-08 16:39"
    compiled = compile_tape(bars, book(AT_1659))
    last = clock_of(bars, np.arange(len(bars))).index("01-08 16:39")
    assert compiled.tape.flags[last] & BarFlag.CAN_ENTER
    assert compiled.minutes_to_flat[last] == 19


def test_a_session_without_a_tradable_bar_is_settled_at_the_days_last_bar() -> None:
    bars = bars_of(
        ("2024-01-07 18:00", "2024-01-08 17:00"), ("2024-01-09 16:30", "2024-01-09 17:00")
    )
    assert times(bars, AT_1610, BarFlag.FLAT) == ["01-08 16:09"]
    assert times(bars, AT_1610, BarFlag.DAY_CLOSE) == ["01-08 16:09", "01-09 16:59"]
    compiled = compile_tape(bars, book(AT_1610))
    assert where(compiled, BarFlag.SESSION_START).sum() == 2
    assert compiled.minutes_to_flat[-30:].max() == 0


def test_bars_outside_any_session_are_never_tradable() -> None:
    bars = bars_of(
        ("2024-01-08 16:00", "2024-01-08 17:00"),
        ("2024-01-08 17:10", "2024-01-08 17:12"),
        ("2024-01-08 18:00", "2024-01-08 19:00"),
    )
    compiled = compile_tape(bars, book(AT_1659))
    stray = compiled.tape.flags[60:62] & (BarFlag.TRADABLE | BarFlag.CAN_ENTER | BarFlag.FLAT)
    assert stray.tolist() == [0, 0]
    assert times(bars, AT_1659, BarFlag.SESSION_START) == ["01-08 16:00", "01-08 18:00"]
    assert compiled.minutes_to_flat[60:62].tolist() == [0, 0]


def test_no_entry_is_decided_outside_a_session_though_the_next_bar_lies_in_one() -> None:
    bars = bars_of(("2024-01-08 17:58", "2024-01-08 18:03"))
    compiled = compile_tape(bars, book(AT_1659))
    assert where(compiled, BarFlag.CAN_ENTER).tolist() == [False, False, True, True, True]


def test_a_tape_that_ends_inside_a_session_is_flat_and_settled_there() -> None:
    bars = bars_of(
        ("2024-01-07 18:00", "2024-01-08 17:00"), ("2024-01-08 18:00", "2024-01-09 11:00")
    )
    assert times(bars, AT_1659, BarFlag.FLAT) == ["01-08 16:58", "01-09 10:59"]
    assert times(bars, AT_1659, BarFlag.DAY_CLOSE) == ["01-08 16:58", "01-09 10:59"]
    assert compile_tape(bars, book(AT_1659)).tape.next_day[-1] == NEVER


SEEN = BarFlag.SESSION_START | BarFlag.TRADABLE | BarFlag.CAN_ENTER


@pytest.mark.parametrize("seed", range(12))
def test_what_an_agent_may_read_depends_on_no_later_bar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bars = bars_of(*THANKSGIVING, minutes=int(rng.choice([1, 5, 15])))
    k = int(rng.integers(10, len(bars) - 10))
    whole = compile_tape(bars, book(AT_1659))
    for later in (bars.slice(0, k + 1), garbage_after(bars, k, rng, drops=True)):
        cut = compile_tape(later, book(AT_1659))
        seen = slice(0, k + 1)
        assert ((cut.tape.flags[seen] ^ whole.tape.flags[seen]) & SEEN == 0).all()
        for mine, other in (
            (cut.minutes_to_flat, whole.minutes_to_flat),
            (cut.tape.day, whole.tape.day),
            (cut.session, whole.session),
            (cut.tape.close, whole.tape.close),
        ):
            np.testing.assert_array_equal(mine[seen], other[seen])


def test_the_mechanics_do_depend_on_later_bars() -> None:
    """So that the test above compares tapes that differ."""
    bars = bars_of(*WEEK)
    cut = compile_tape(bars.slice(0, 500), book(AT_1659))
    assert cut.tape.flags[499] & BarFlag.FLAT
    assert not compile_tape(bars, book(AT_1659)).tape.flags[499] & BarFlag.FLAT


def test_markets_lie_one_after_the_other_each_with_its_own_end() -> None:
    one = compile_tape(bars_of(WEEK[0]), book(AT_1659))
    both = join_tapes([one, one])
    n = len(one.ts)
    assert both.tape.next_day[[n - 1, 2 * n - 1]].tolist() == [NEVER, NEVER]
    assert both.market.tolist() == [0] * n + [1] * n
    np.testing.assert_array_equal(both.tape.flags, np.tile(one.tape.flags, 2))


def test_tapes_without_bars_or_sessions_are_refused() -> None:
    with pytest.raises(SimulationError, match="1 bars; a simulation needs at least 2"):
        compile_tape(bars_of(WEEK[0]).slice(0, 1), book(AT_1659))
    weekend = bars_of(("2024-01-06 10:00", "2024-01-06 12:00"))
    with pytest.raises(SimulationError, match="none of 120 bars lies in a session"):
        compile_tape(weekend, book(AT_1659))


# Books as numbers. Each value is read off the firm's page by hand (the book names the page).


def values(id: str, **changes: int | PathRule) -> dict[str, object]:
    rules = compile_rules(book(id), **changes)  # type: ignore[arg-type]
    return {name: np.asarray(value).tolist() for name, value in rules._asdict().items()}


def test_apex_intraday_50k() -> None:
    """50,000; floor 2,000 under the highest equity, stops at 53,000 once that is 55,000."""
    rules = values("apex-intraday-50k")
    expected = {
        "start_balance": 50_000_000,
        "allowance": 2_000_000,
        "trail_kind": TrailKind.INTRADAY,
        "lock_trigger": 55_000_000,
        "lock_level": 53_000_000,
        "target_balance": 53_000_000,
        "target_test": TargetTest.DAY_CLOSE,
        "limit_kind": LimitKind.NONE,
        "tier_profit": [SMALLEST, *[NEVER] * 7],
        "tier_units": [60] * 8,
        "tier_daily_limit": [NEVER] * 8,
        "min_days": 0,
        "day_profit": SMALLEST,
        "best_day_den": 0,
        "time_limit_days": 30,
        "late_flat_fails": 0,
        "max_stop_per_target": 0,
        "path_rule": PathRule.WORST,
        "target_through": 1,
    }
    assert {name: rules[name] for name in expected} == expected


def test_topstep_combine_50k() -> None:
    """Floor 2,000 under the best close, stops at the start; 5 minis; best day at most 55 %."""
    rules = values("topstep-combine-50k")
    expected = {
        "start_balance": 50_000_000,
        "allowance": 2_000_000,
        "trail_kind": TrailKind.END_OF_DAY,
        "lock_trigger": 52_000_000,
        "lock_level": 50_000_000,
        "target_balance": 53_000_000,
        "tier_units": [50] * 8,
        "min_days": 2,
        "best_day_num": 11,
        "best_day_den": 20,
        "best_day_strict": 0,
        "time_limit_days": NEVER,
    }
    assert {name: rules[name] for name in expected} == expected


def test_apex_eod_50k_performance_account() -> None:
    """Levels of 2, 3, 4 and 4 minis with a soft daily limit of 1,000, 1,000, 2,000 and 3,000."""
    rules = values("apex-eod-50k-pa")
    expected = {
        "lock_trigger": 52_100_000,
        "lock_level": 50_100_000,
        "target_balance": NEVER,
        "limit_kind": LimitKind.SOFT,
        "tier_profit": [SMALLEST, 1_500_000, 3_000_000, 6_000_000, *[NEVER] * 4],
        "tier_units": [20, 30, 40, 40, 40, 40, 40, 40],
        "tier_daily_limit": [1_000_000, 1_000_000, 2_000_000, *[3_000_000] * 5],
        "best_day_den": 0,
    }
    assert {name: rules[name] for name in expected} == expected


def test_topstep_express_starts_at_zero_and_scales() -> None:
    rules = values("topstep-xfa-50k")
    expected = {
        "start_balance": 0,
        "lock_trigger": 2_000_000,
        "lock_level": 0,
        "tier_profit": [SMALLEST, 1_500_000, 2_000_000, *[NEVER] * 5],
        "tier_units": [20, 30, 50, 50, 50, 50, 50, 50],
    }
    assert {name: rules[name] for name in expected} == expected


def test_books_with_a_static_floor_and_a_stop_rule() -> None:
    rules = values("apex-legacy-100k-static-pa", path_rule=PathRule.BEST, target_through=0)
    assert rules["trail_kind"] == TrailKind.STATIC
    assert rules["max_stop_per_target"] == 5
    assert rules["path_rule"] == PathRule.BEST
    assert rules["target_through"] == 0


def test_a_book_with_too_many_tiers_is_refused() -> None:
    tall = replace(book(AT_1659), tiers=book(AT_1659).tiers * 9)
    with pytest.raises(SimulationError, match="9 tiers; the simulator holds at most 8"):
        compile_rules(tall)


def test_late_flat_can_fail_the_account() -> None:
    strict = replace(book(AT_1659), clock=replace(book(AT_1659).clock, late_flat="fail"))
    assert int(compile_rules(strict).late_flat_fails) == 1


def test_costs_are_the_configured_ones_else_the_firms_else_the_contracts() -> None:
    """Breakeven of ES at Apex: 2 · 1.99 is one tick of 12.50, and one tick slips."""
    unlisted = replace(INDEX, symbol="ZN", tick_mills=15_625, commission_mills=1_500)
    markets = compile_markets([INDEX, unlisted], book(AT_1659))
    assert markets.commission_mills.tolist() == [1_990, 1_500]
    assert markets.slippage_ticks.tolist() == [1, 1]
    assert markets.breakeven_ticks.tolist() == [2, 2]
    assert markets.size_units.tolist() == [10, 10]
    costs = Costs(commission_mills=12_501, slippage_ticks=3)
    dear = compile_markets([INDEX], book(AT_1659), costs)
    assert dear.commission_mills.tolist() == [12_501]
    assert dear.breakeven_ticks.tolist() == [3 + 3]
    free = compile_markets([INDEX], book(AT_1659), Costs(commission_mills=0, slippage_ticks=0))
    assert free.breakeven_ticks.tolist() == [0]


def test_a_range_that_money_could_not_count_is_refused() -> None:
    """6 contracts of 12.50 a tick: 2^31 mills less twice the start leave 27,299 ticks a session."""
    bars = bars_of(*WEEK)
    markets = compile_markets([INDEX], book(AT_1659))
    room = 2**31 - 1 - 2 * 50_000_000
    widest = room // (6 * 12_500)

    def with_range(ticks: int) -> Bars:
        high = bars.high.copy()
        high[700] = bars.low[700] + ticks - 1
        return replace(bars, high=high)

    check_range(compile_tape(with_range(widest), book(AT_1659)), markets, book(AT_1659))
    too_wide = compile_tape(with_range(widest + 1), book(AT_1659))
    told = (
        r"6 contracts over the widest session of market 0 \(27,300 ticks\) could move "
        r"2,047,500 USD, more than the 2,047,484 USD the simulator counts exactly\."
        r".*at most 5 contracts"
    )
    with pytest.raises(SimulationError, match=told):
        check_range(too_wide, markets, book(AT_1659))


def test_flat_by_of_a_firm_is_a_time_of_its_own() -> None:
    early = replace(book(AT_1659), clock=replace(book(AT_1659).clock, flat_by=time(15, 30)))
    bars = bars_of(*WEEK)
    assert clock_of(bars, where(compile_tape(bars, early), BarFlag.FLAT)) == [
        "01-08 15:29",
        "01-09 15:29",
    ]


# --- the time at which a daily limit resets ------------------------------------------------------


def eastern_clock_ns(day: np.ndarray, minute: int) -> np.ndarray:
    """UTC ns of a clock time on each Eastern date, days since 1970-01-01 [n]."""
    return eastern_to_utc_ns(day.astype(np.int64) * DAY_NS + minute * MINUTE_NS)


RESETTING = [
    book
    for book in list_rulebooks()
    if book.daily_limit.kind != "none" and book.daily_limit.reset != time(18)
]


def test_the_books_that_reset_at_another_time_than_18_are_lucids() -> None:
    assert {(b.firm, b.daily_limit.reset, b.clock.flat_by) for b in RESETTING} == {
        ("Lucid Trading", time(17, 30), time(16, 45))
    }
    assert len(RESETTING) == 12


@pytest.mark.parametrize("calendar", calendar_names())
def test_a_reset_between_flat_by_and_18_never_falls_where_a_position_may_be_open(
    calendar: str,
) -> None:
    """Every session of the table of holidays: no reset in it, and one between it and the next."""
    every = load_calendar(calendar).all_sessions
    covered = np.flatnonzero(every.is_covered)
    sessions = every.slice(int(covered[0]), int(covered[-1]) + 1)
    assert len(sessions) > 3_500
    for book in RESETTING:
        reset = book.daily_limit.reset.hour * 60 + book.daily_limit.reset.minute
        flat_by = flat_by_ns(sessions, book.clock.flat_by_minute)
        after = eastern_clock_ns(sessions.trade_date, reset)
        before = eastern_clock_ns(sessions.trade_date - 1, reset)
        assert np.all(before <= sessions.open_ns)
        assert np.all(flat_by <= after)
        assert np.all(after[:-1] <= sessions.open_ns[1:])
        six = eastern_clock_ns(sessions.trade_date, 18 * 60)
        assert np.all(six[:-1] <= sessions.open_ns[1:])


def test_a_lockout_ends_with_the_first_session_after_the_reset_but_for_merged_halves() -> None:
    """A holiday's halves are one day of every book, whatever its reset; six or seven a year."""
    sessions = load_calendar("equity").all_sessions
    goes_on = (np.diff(sessions.trading_day) == 0) & sessions.is_covered[1:]
    year = sessions.trade_date[1:][goes_on].astype("datetime64[D]").astype("datetime64[Y]")
    years, counts = np.unique(year, return_counts=True)
    assert (len(years), set(counts.tolist())) == (14, {6, 7})
    assert np.all(sessions.is_early[:-1][goes_on])
