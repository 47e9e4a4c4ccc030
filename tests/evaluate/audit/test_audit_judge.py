"""Executed trades under a rulebook, worked by hand; firms' vectors carry their page and date."""

from dataclasses import replace
from datetime import time
from pathlib import Path

import numpy as np
import pytest

from passline.errors import FillsError
from passline.evaluate.audit.account import tier_at
from passline.evaluate.audit.judge import Audit, audit, audit_books
from passline.evaluate.audit.timeline import build_timeline
from passline.evaluate.audit.trips import UNKNOWN, Trips
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.rulebook.catalog import list_rulebooks, load_rulebook
from passline.rulebook.model import Clock, DailyLimit, Mae, Rulebook, Tier

ES = find_contract("ES")
MINUTE = 60 * 10**9


def at(text: str) -> int:
    """Returns an Eastern summer time of 2025 (UTC-4) as UTC ns."""
    return int(np.datetime64(text, "ns").astype(np.int64)) + 4 * 60 * MINUTE


def trade(
    day: str,
    start: str,
    end: str,
    ticks: int,
    *,
    qty: int = 1,
    side: int = 1,
    mae: int = -1,
    mfe: int = -1,
    cost: int = 0,
    entry: int = 22_000,
    stop: int = -1,
    target: int = -1,
) -> tuple[int, ...]:
    """One ES trade (12.5 USD a tick): profit in ticks of one contract, MAE and MFE in USD."""
    return (
        at(f"{day}T{start}"), at(f"{day}T{end}"), 0, side, qty, entry, entry + side * ticks,
        qty * ticks * ES.tick_mills, cost, mae * 1000 if mae >= 0 else UNKNOWN,
        mfe * 1000 if mfe >= 0 else UNKNOWN, stop, target,
    )  # fmt: skip


def trips(*rows: tuple[int, ...]) -> Trips:
    table = np.asarray(sorted(rows), np.int64)
    names = (
        "entry_ns", "exit_ns", "contract", "side", "qty", "entry_ticks", "exit_ticks",
        "gross_mills", "commission_mills", "mae_mills", "mfe_mills", "stop_ticks", "target_ticks",
    )  # fmt: skip
    columns = {name: table[:, i] for i, name in enumerate(names)}
    return Trips(contracts=(ES,), **columns)


def days(found: Audit) -> list[tuple[str, str]]:
    return [(d["close_balance_usd"], d["floor_usd"]) for d in found.to_dict()["days"]]


APEX = load_rulebook("apex-intraday-50k")
COMBINE = load_rulebook("topstep-combine-50k")


def test_topstep_floor_follows_closes() -> None:
    # facts 9.2 T1, help.topstep.com/en/articles/8284204, as of 2026-09-18.
    found = audit(
        trips(
            trade("2025-05-05", "10:00", "10:30", 40, mae=0, mfe=1900),
            trade("2025-05-06", "10:00", "10:30", -40, mae=500, mfe=0),
            trade("2025-05-07", "10:00", "10:30", 200, mae=0, mfe=2500),
        ),
        COMBINE,
    )
    assert days(found) == [
        ("50500.00", "48500.00"),
        ("50000.00", "48500.00"),
        ("52500.00", "50000.00"),
    ]
    assert found.verdict == "open"
    assert found.is_intratrade_seen


def test_floor_is_touched_inside_a_trade_only_where_it_can_be_seen() -> None:
    # T1, day 1: equity 48,000.00 is a breach although the day would close higher.
    seen = audit(trips(trade("2025-05-05", "10:00", "10:30", 40, mae=2000, mfe=500)), COMBINE)
    assert (seen.verdict, seen.worst.reason.name) == ("breached", "FLOOR")
    assert seen.worst.balance == 48_000_000
    almost = audit(trips(trade("2025-05-05", "10:00", "10:30", 40, mae=1999, mfe=500)), COMBINE)
    assert almost.verdict == "open"
    unseen = audit(trips(trade("2025-05-05", "10:00", "10:30", 40)), COMBINE)
    assert unseen.verdict == "open"
    assert not unseen.is_intratrade_seen
    assert "cannot be seen" in unseen.sentence()


def test_the_day_of_the_end_shows_the_account_as_it_stood() -> None:
    # Three days of +500, -100 and +200 traded; the fourth wins one trade and is liquidated.
    found = audit(
        trips(
            trade("2025-05-05", "10:00", "10:30", 40, mae=0, mfe=500),
            trade("2025-05-06", "10:00", "10:30", -8, mae=100, mfe=0),
            trade("2025-05-07", "10:00", "10:30", 16, mae=0, mfe=200),
            trade("2025-05-08", "10:00", "10:10", 8, mae=0, mfe=100),
            trade("2025-05-08", "11:00", "11:30", 40, mae=2200, mfe=500),
        ),
        COMBINE,
    )
    assert (found.verdict, found.worst.reason.name) == ("breached", "FLOOR")
    told = found.to_dict()["days"]
    assert [day["n_days"] for day in told] == [1, 2, 3, 3], "a day that is not settled counts not"
    assert [day["best_day_usd"] for day in told] == ["500.00"] * 4
    assert [day["n_trips"] for day in told] == [1, 1, 1, 2], "what the firm closed is closed too"
    assert told[-1]["min_days"] == 2


def test_what_a_soft_limit_or_a_touched_target_closes_is_counted() -> None:
    book = load_rulebook("apex-eod-50k")
    rows = trips(
        trade("2025-05-05", "10:00", "10:30", 40, mae=1000, mfe=500),
        trade("2025-05-05", "11:00", "11:30", 80, mae=0, mfe=1000),
    )
    day = audit(rows, book).worst.days[0]
    assert (day.n_trips, day.is_locked_out, day.n_days) == (1, True, 1)
    assert APEX.target is not None
    touched = replace(APEX, target=replace(APEX.target, test="touch"))
    found = audit(trips(trade("2025-05-05", "10:00", "10:30", 0, mae=0, mfe=3100)), touched)
    assert (found.best.outcome.name, found.best.days[0].n_trips) == ("PASSED", 1)


def test_trailing_peak_makes_the_order_matter() -> None:
    # apex-intraday-50k: +1,000 then -1,000 is 2,000 below the peak; -1,000 then +1,000 is not.
    found = audit(trips(trade("2025-05-05", "10:00", "10:30", 0, mae=1000, mfe=1000)), APEX)
    assert found.verdict == "undecided"
    assert (found.worst.outcome.name, found.best.outcome.name) == ("BREACHED", "OPEN")
    assert found.worst.done_ns == at("2025-05-05T10:00")
    assert "Undecided" in found.sentence()


def test_apex_trail_and_exact_touch() -> None:
    # facts 9.1 A1, Apex's own numbers: 48,375.00 breaches, a cent above lives.
    book = load_rulebook("apex-legacy-50k")
    first = (
        trade("2025-05-05", "10:00", "10:30", 40, mae=0, mfe=500),
        trade("2025-05-05", "11:00", "11:30", -32, mae=400, mfe=375),
    )
    found = audit(trips(*first), book)
    assert (found.worst.peak, found.worst.floor) == (50_875_000, 48_375_000)
    assert found.worst.balance == 50_100_000
    end = trade("2025-05-05", "12:00", "12:30", 0, mae=1725, mfe=0)
    assert audit(trips(*first, end), book).verdict == "breached"
    end = trade("2025-05-05", "12:00", "12:30", 0, mae=1724, mfe=0)
    assert audit(trips(*first, end), book).verdict == "open"


def test_pass_is_settled_at_the_close_and_needs_the_best_day_rule() -> None:
    # facts 9.4: best 1,600 of 3,000 passes 55 %; best 1,800 needs 3,272.73.
    rows = [
        trade("2025-05-05", "10:00", "10:30", 128, mae=0, mfe=1600),
        trade("2025-05-06", "10:00", "10:30", 112, mae=0, mfe=1400),
    ]
    found = audit(trips(*rows), COMBINE)
    assert (found.verdict, found.worst.balance) == ("passed", 53_000_000)
    rows = [
        trade("2025-05-05", "10:00", "10:30", 144, mae=0, mfe=1800),
        trade("2025-05-06", "10:00", "10:30", 96, mae=0, mfe=1200),
        trade("2025-05-07", "10:00", "10:30", 21, mae=0, mfe=263),
        trade("2025-05-08", "10:00", "10:30", 1, mae=0, mfe=13),
    ]
    assert audit(trips(*rows[:3]), COMBINE).verdict == "open"
    passed = audit(trips(*rows), COMBINE)
    assert (passed.verdict, len(passed.worst.days)) == ("passed", 4)


def test_target_given_back_before_the_close_does_not_pass() -> None:
    # facts 9.1 A5: 53,000 touched intraday, close 52,900.
    rows = [
        trade("2025-05-05", "10:00", "10:30", 120, mae=0, mfe=1500),
        trade("2025-05-05", "10:40", "10:50", 120, mae=0, mfe=1500),
        trade("2025-05-05", "11:00", "11:30", -8, mae=100, mfe=0),
    ]
    assert audit(trips(*rows), APEX).verdict == "open"
    assert audit(trips(*rows[:2]), APEX).verdict == "passed"


def test_soft_daily_limit_ends_the_day_and_later_trades_never_were() -> None:
    # facts 9.2 E2, Apex EOD 50K: limit 1,000, the account lives.
    book = load_rulebook("apex-eod-50k")
    found = audit(
        trips(
            trade("2025-05-05", "10:00", "10:30", 40, mae=1000, mfe=500),
            trade("2025-05-05", "11:00", "11:30", 80, mae=0, mfe=1000),
            trade("2025-05-06", "10:00", "10:30", 8, mae=0, mfe=100),
        ),
        book,
    )
    assert days(found) == [("49000.00", "48000.00"), ("49100.00", "48000.00")]
    assert found.worst.days[0].is_locked_out
    assert [v.rule for v in found.violations] == ["lockout"]


def test_the_floor_goes_before_a_limit_below_it() -> None:
    book = replace(
        load_rulebook("apex-eod-50k"),
        daily_limit=DailyLimit(kind="soft", amount_mills=3_000_000),
        tiers=(Tier(from_profit_mills=0, size_units=60, daily_limit_mills=3_000_000),),
    )
    found = audit(trips(trade("2025-05-05", "10:00", "10:30", 40, mae=3500, mfe=500)), book)
    assert (found.verdict, found.worst.reason.name) == ("breached", "FLOOR")
    hard = replace(book, daily_limit=DailyLimit(kind="hard", amount_mills=1_000_000))
    hard = replace(hard, tiers=(Tier(from_profit_mills=0, size_units=60),))
    found = audit(trips(trade("2025-05-05", "10:00", "10:30", 40, mae=3500, mfe=500)), hard)
    assert found.worst.reason.name == "DAILY_LIMIT"


def test_commissions_are_the_files_else_the_firms() -> None:
    own = audit(trips(trade("2025-05-05", "10:00", "10:30", 40, cost=5_000)), APEX)
    assert own.worst.balance == 50_495_000
    row = trade("2025-05-05", "10:00", "10:30", 40, qty=2)
    firm = audit(trips((*row[:8], UNKNOWN, *row[9:])), APEX)
    assert firm.worst.balance == 51_000_000 - 4 * 1_990


def test_time_limit_and_open_end() -> None:
    rows = [
        trade("2025-05-05", "10:00", "10:30", 8, mae=0, mfe=100),
        trade("2025-06-03", "10:00", "10:30", 8, mae=0, mfe=100),
        trade("2025-06-04", "10:00", "10:30", 8, mae=0, mfe=100),
    ]
    # Day 30 from 2025-05-05 is 2025-06-04: 30 calendar days later is too late.
    assert audit(trips(*rows[:2]), APEX).verdict == "open"
    found = audit(trips(*rows), APEX)
    assert (found.verdict, found.worst.reason.name) == ("timed_out", "TIME_LIMIT")
    assert found.worst.balance == 50_200_000


def test_soft_rules_are_recorded() -> None:
    rows = [
        trade("2025-05-05", "10:00", "10:30", 8, qty=7, mae=0, mfe=700),
        trade("2025-05-05", "16:50", "17:00", 8, mae=0, mfe=100),
    ]
    found = audit(trips(*rows), APEX)
    assert [v.rule for v in found.violations] == ["size_limit", "late_flat"]
    assert (found.violations[0].found, found.violations[0].limit) == (70, 60)
    assert found.violations[1].limit == at("2025-05-05T16:59")
    strict = replace(APEX, clock=Clock(flat_by=time(16, 59), late_flat="fail"))
    assert audit(trips(*rows), strict).worst.reason.name == "LATE_FLAT"


def test_legacy_pa_records_mae_and_five_to_one() -> None:
    # facts 9.3: profit 0 allows 750 of open loss; target 10 ticks, stop 50 ok, 51 not.
    book = load_rulebook("apex-legacy-50k-pa")
    rows = [
        trade("2025-05-05", "10:00", "10:10", 8, mae=750, mfe=100, stop=50, target=10),
        trade("2025-05-05", "11:00", "11:10", 8, mae=751, mfe=100, stop=51, target=10),
    ]
    found = audit(trips(*rows), book)
    assert [(v.rule, v.trip) for v in found.violations] == [("stop_to_target", 1), ("mae", 1)]
    mae = book.orders.mae
    assert isinstance(mae, Mae)
    assert [mae.limit_mills(p) for p in (4_000_000, 0, 5_200_000)] == [
        1_200_000,
        750_000,
        2_600_000,
    ]


def test_scaling_tier_needs_more_than_the_safety_net() -> None:
    # facts 9.3: 52,600.00 is not over, 52,600.01 is (10 minis next session).
    book = load_rulebook("apex-legacy-50k-pa")
    assert [book.tiers[tier_at(book, p)].size_units for p in (2_600_000, 2_600_010)] == [50, 100]


def test_parts_of_one_entry_have_nested_excursions() -> None:
    # Two contracts in, out in two steps: the position of 2 lost 2 x 500 first, then 1 lost 900.
    rows = [
        trade("2025-05-05", "10:00", "10:10", 0, mae=500, mfe=0),
        trade("2025-05-05", "10:00", "10:30", 0, mae=900, mfe=0),
    ]
    found = audit(trips(*rows), COMBINE)
    assert found.worst.days[0].low_equity == 49_000_000
    assert found.best.days[0].low_equity == 49_000_000
    assert found.worst.days[0].max_units == 20


def test_overlapping_trades_are_bounded() -> None:
    rows = [
        trade("2025-05-05", "10:00", "10:20", 0, mae=1500, mfe=0),
        trade("2025-05-05", "10:10", "10:30", 0, mae=1500, mfe=0),
    ]
    found = audit(trips(*rows), COMBINE)
    assert found.verdict == "undecided"
    assert found.worst.days[0].low_equity <= 48_000_000 < found.best.days[0].low_equity


def tape(day: str, start: str, rows: list[tuple[int, int, int, int]]) -> Bars:
    table = np.asarray(rows, np.int32)
    n = len(rows)
    return Bars(
        contract=ES,
        bar_ns=MINUTE,
        ts=at(f"{day}T{start}") + MINUTE * np.arange(n, dtype=np.int64),
        open=table[:, 0],
        high=table[:, 1],
        low=table[:, 2],
        close=table[:, 3],
        volume=np.ones(n, np.int64),
        expiry=np.zeros(n, np.int16),
    )


def test_bars_show_what_fills_do_not() -> None:
    bars = tape(
        "2025-05-05",
        "10:00",
        [
            (22_000, 22_001, 21_999, 22_000),
            (22_000, 22_010, 21_840, 22_000),
            (22_000, 22_045, 21_999, 22_040),
        ],
    )
    row = trade("2025-05-05", "10:00:30", "10:02:30", 40)
    found = audit(trips(row), COMBINE, bars={"ES": bars})
    assert (found.verdict, found.timeline.sight) == ("breached", "bars")
    assert found.worst.done_ns == at("2025-05-05T10:01")
    # A dip in the bar of the entry may have come before it: undecided.
    early = tape(
        "2025-05-05",
        "10:00",
        [(22_000, 22_001, 21_840, 22_000), *[(22_000, 22_041, 22_000, 22_040)] * 2],
    )
    found = audit(trips(row), COMBINE, bars={"ES": early})
    assert found.verdict == "undecided"
    # Filled at the open of the bar, the dip comes after.
    row = trade("2025-05-05", "10:00", "10:02:30", 40)
    assert audit(trips(row), COMBINE, bars={"ES": early}).verdict == "breached"


def test_an_exit_stamped_with_its_bar_may_have_lived_through_it() -> None:
    bars = tape(
        "2025-05-05",
        "10:00",
        [(22_000, 22_001, 21_999, 22_000), (22_000, 22_041, 21_840, 22_000)],
    )
    found = audit(trips(trade("2025-05-05", "10:00", "10:01", 40)), COMBINE, bars={"ES": bars})
    assert found.verdict == "undecided"


def test_bars_of_another_price_are_refused() -> None:
    bars = tape("2025-05-05", "10:00", [(21_000, 21_001, 20_999, 21_000)] * 40)
    rows = [trade("2025-05-05", f"10:{m:02d}", f"10:{m:02d}:40", 0) for m in range(0, 30, 2)]
    with pytest.raises(FillsError, match=r"30 of 30 fills do not lie in their bar"):
        audit(trips(*rows), COMBINE, bars={"ES": bars})


def test_another_clock_is_refused() -> None:
    rows = [trade("2025-05-05", f"17:{m:02d}", f"17:{m:02d}:40", 0) for m in range(0, 30, 2)]
    with pytest.raises(FillsError, match=r"begin while the exchange is closed.*--tz"):
        audit(trips(*rows), COMBINE)


def test_sunday_evening_belongs_to_monday_and_holidays_merge() -> None:
    rows = [
        trade("2025-05-04", "19:00", "19:30", 4, mae=0, mfe=50),
        trade("2025-05-05", "10:00", "10:30", 4, mae=0, mfe=50),
        trade("2025-05-26", "10:00", "10:30", 4, mae=0, mfe=50),  # Memorial Day
        trade("2025-05-27", "10:00", "10:30", 4, mae=0, mfe=50),
    ]
    found = audit(trips(*rows), COMBINE).to_dict()["days"]
    assert [(d["trade_date"], d["n_trips"]) for d in found] == [
        ("2025-05-05", 2),
        ("2025-05-27", 2),
    ]


def test_every_evaluation_judges_and_agrees_with_itself() -> None:
    rows = [
        trade("2025-05-05", f"{9 + i:02d}:00", f"{9 + i:02d}:20", 8, mae=90, mfe=110)
        for i in range(7)
    ]
    table = trips(*rows)
    books: list[Rulebook] = [b for b in list_rulebooks() if b.stage == "evaluation"]
    found = audit_books(table, books)
    assert len(found) == len(books) > 50
    assert found[3].to_dict() == audit(table, books[3]).to_dict()
    assert {a.verdict for a in found} <= {"passed", "breached", "timed_out", "open", "undecided"}
    timeline = build_timeline(table)
    assert timeline.sight == "excursions"
    keys = [(e.ns, e.order) for e in timeline.events]
    assert keys == sorted(keys)


def test_the_command(tmp_path: Path, passline_command: object) -> None:
    path = tmp_path / "fills.csv"
    path.write_text(
        "entry_time,exit_time,symbol,side,qty,entry_price,exit_price,mae_usd,mfe_usd\n"
        "2025-05-05T10:00-04:00,2025-05-05T10:30-04:00,ESM5,long,1,5500.00,5510.00,100,500\n"
    )
    assert callable(passline_command)
    code, out, _ = passline_command("audit", path, "--rulebook", "apex-intraday-50k", "--json")
    assert code == 0
    assert '"outcome": "open"' in out
    assert '"balance_usd": "50496.02"' in out
    code, out, _ = passline_command("audit", path, "--all")
    assert code == 0
    assert "of them without breaking a rule" in out
    code, out, err = passline_command("audit", path)
    assert (code, out) == (2, "")
    assert "either --rulebook ID or --all" in err
