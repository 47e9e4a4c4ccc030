"""Signals played through a book on hand-made bars, each answer worked by hand.

Bars are ES minutes from 09:30 Eastern on Monday 2025-01-06; a tick is 0.25 and worth 12.50 USD.
Unless a case says otherwise every bar stands still at 5000 and trading is free.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from passline.errors import BarsError, ConfigError
from passline.evaluate.market_files import open_bars, shares_prices
from passline.evaluate.play import PlayConfig, play
from passline.evaluate.signals import read_signals
from passline.market.bars import Bars
from passline.market.contract import Contract
from passline.market.contracts import find_contract, load_contracts
from passline.market.load import write_bars
from passline.rulebook.catalog import load_rulebook
from passline.rulebook.model import Rulebook
from passline.sim.compile import Costs

OPEN = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
STILL = (5000.0, 5000.0, 5000.0, 5000.0)
FREE = Costs(commission_mills=0, slippage_ticks=0)
BOOK = """
firm = "Firm"
plan = "Plan"
size = 50_000
stage = "evaluation"
platform = "any"
start_balance = 50_000
as_of = 2025-01-01
confidence = "high"
source = "a test"
{top}
[automation]
policy = "allowed"
[drawdown]
trail = "{trail}"
allowance = 2_000
[target]
profit = {profit}
test = "{test}"
[[tiers]]
from_profit = 0
minis = 5
[clock]
flat_by = "16:10"
{more}
"""
Prices = tuple[float, float, float, float]
STORY_KEYS = [
    "outcome",
    "done_reason",
    "done_at",
    "balance_usd",
    "peak_usd",
    "floor_usd",
    "ambiguous_bars",
    "days",
    "round_trips",
    "rejected",
    "rulebook",
    "fingerprint",
]


def at(minute: int, day: int = 0) -> str:
    """The close of the bar that opens `minute` minutes after 09:30, as UTC text."""
    return (OPEN + timedelta(days=day, minutes=minute + 1)).isoformat()


def opens(minute: int, day: int = 0) -> str:
    """The open of that bar."""
    return at(minute - 1, day)


def bars_of(
    prices: Mapping[int, Prices] | None = None,
    *,
    n_bars: int = 12,
    n_days: int = 1,
    without: tuple[int, ...] = (),
    symbol: str = "ES",
    bar_s: int = 60,
) -> Bars:
    """Bars from 09:30 on each of the days, at 5000 unless given; keys count bars of all days."""
    contract = find_contract(symbol)
    rows, times = [], []
    for index in range(n_bars * n_days):
        if index in without:
            continue
        day, place = divmod(index, n_bars)
        opened = OPEN + timedelta(days=day, seconds=place * bar_s)
        times.append(int(opened.timestamp()) * 10**9)
        rows.append((prices or {}).get(index, STILL))
    ticks = np.array(rows) / float(contract.tick_size)
    columns = [np.rint(column).astype(np.int32) for column in ticks.T]
    return Bars(
        contract=contract,
        bar_ns=bar_s * 10**9,
        ts=np.array(times, np.int64),
        open=columns[0],
        high=columns[1],
        low=columns[2],
        close=columns[3],
        volume=np.ones(len(rows), np.int64),
        expiry=np.zeros(len(rows), np.int16),
        provenance={},
    )


@pytest.fixture
def desk(tmp_path: Path) -> "Desk":
    return Desk(tmp_path)


class Desk:
    """Plays rows on bars under a book made for the case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def book(
        self,
        *,
        trail: str = "static",
        profit: int = 3_000,
        test: str = "day_close",
        top: str = "",
        more: str = "",
    ) -> Rulebook:
        path = self.folder / "book.toml"
        path.write_text(BOOK.format(trail=trail, profit=profit, test=test, top=top, more=more))
        return load_rulebook(path)

    def play(
        self,
        bars: Bars,
        *rows: str,
        book: Rulebook | None = None,
        seconds: Bars | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        path = self.folder / "S.csv"
        path.write_text("\n".join(("time,action,qty,stop_ticks,target_ticks", *rows)) + "\n")
        config = PlayConfig(**{"costs": FREE, **settings})
        book = book or self.book()
        return play(bars, book, read_signals(path), config=config, seconds=seconds)

    def trip(self, bars: Bars, *rows: str, **settings: Any) -> dict[str, Any]:
        (trip,) = self.play(bars, *rows, **settings)["round_trips"]
        return dict(trip)

    def refusal(self, bars: Bars, *rows: str, **settings: Any) -> str:
        with pytest.raises((ConfigError, BarsError)) as caught:
            self.play(bars, *rows, **settings)
        return str(caught.value)


# The story.


def test_the_story_has_its_keys_and_exact_text(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5010.5, 5000, 5010)})
    story = desk.play(
        bars,
        f"{at(0)},long,2,20,40",
        f"{at(4)},close,,,",
        costs=Costs(commission_mills=1_745, slippage_ticks=1),
    )
    assert list(story)[: len(STORY_KEYS)] == STORY_KEYS
    assert story["outcome"] == "open"
    assert story["done_reason"] == "data_end"
    assert story["done_at"] == at(11)
    assert story["balance_usd"] == "50993.02"
    assert story["peak_usd"] == "50000.00"
    assert story["floor_usd"] == "48000.00"
    assert story["ambiguous_bars"] == 0
    assert story["days"] == [
        {
            "trade_date": "2025-01-06",
            "close_balance_usd": "50993.02",
            "floor_usd": "48000.00",
            "pnl_usd": "993.02",
        }
    ]
    # In at 5000 + one tick, out at the limit 40 ticks above: 2 * 40 * 12.50 less 4 * 1.745.
    assert story["round_trips"] == [
        {
            "entry_at": opens(1),
            "entry_price": "5000.25",
            "exit_at": at(2),
            "exit_price": "5010.25",
            "qty": 2,
            "reason": "target",
            "pnl_usd": "993.02",
            "commission_usd": "6.98",
        }
    ]
    assert story["rejected"] == [
        {
            "time": at(4),
            "line": 3,
            "action": "close",
            "qty": 0,
            "reason": "no_position",
            "why": "no position is open",
        }
    ]
    assert story["rulebook"] == "book"
    assert len(story["fingerprint"]) == 64


@pytest.mark.parametrize(
    ("prices", "order", "path", "expected"),
    [
        # Long from 5000, stop 4995, target 5010.
        ({2: (5000, 5000, 4994, 4996)}, "long,1,20,40", "worst", ("4995.00", "stop", "-250.00")),
        ({2: (4990, 4992, 4990, 4991)}, "long,1,20,40", "worst", ("4990.00", "stop", "-500.00")),
        ({2: (5000, 5011, 5000, 5011)}, "long,1,20,40", "worst", ("5010.00", "target", "500.00")),
        ({2: (5015, 5016, 5015, 5015)}, "long,1,20,40", "worst", ("5010.00", "target", "500.00")),
        ({2: (5000, 5005, 5000, 5005)}, "short,1,20,40", "worst", ("5005.00", "stop", "-250.00")),
        ({2: (5000, 5000, 4989, 4990)}, "short,1,20,40", "worst", ("4990.00", "target", "500.00")),
        # Both inside one bar.
        ({2: (5000, 5011, 4994, 5000)}, "long,1,20,40", "worst", ("4995.00", "stop", "-250.00")),
        ({2: (5000, 5011, 4994, 5000)}, "long,1,20,40", "best", ("5010.00", "target", "500.00")),
        ({2: (5000, 5011, 4994, 5000)}, "long,1,20,40", "high_first", ("5010.00", "target", None)),
        ({2: (5000, 5011, 4994, 5000)}, "long,1,20,40", "low_first", ("4995.00", "stop", None)),
        ({2: (5000, 5006, 4989, 5000)}, "short,1,20,40", "high_first", ("5005.00", "stop", None)),
        ({2: (5000, 5006, 4989, 5000)}, "short,1,20,40", "low_first", ("4990.00", "target", None)),
        # Five contracts lose 2000 USD in 32 ticks, 8 points.
        ({2: (5000, 5000, 4985, 4999)}, "long,5,,", "worst", ("4992.00", "floor", "-2000.00")),
    ],
)
def test_brackets_and_the_floor_fill_where_they_should(
    desk: Desk,
    prices: dict[int, Prices],
    order: str,
    path: str,
    expected: tuple[str, str, str | None],
) -> None:
    trip = desk.trip(bars_of(prices), f"{at(0)},{order}", path=path)
    price, reason, pnl = expected
    assert (trip["exit_price"], trip["reason"]) == (price, reason)
    assert trip["entry_at"] == opens(1)
    assert trip["exit_at"] == at(2)
    if pnl is not None:
        assert trip["pnl_usd"] == pnl


def test_a_close_fills_at_the_open_slipped(desk: Desk) -> None:
    bars = bars_of({4: (5003, 5003, 5001, 5001)})
    costs = Costs(commission_mills=500, slippage_ticks=2)
    trip = desk.trip(bars, f"{at(0)},short,1,,", f"{at(3)},close,1,,", costs=costs)
    assert trip["entry_price"] == "4999.50"
    assert trip["exit_price"] == "5003.50"
    assert trip["exit_at"] == opens(4)
    assert trip["qty"] == -1
    assert trip["reason"] == "close"
    assert trip["pnl_usd"] == "-201.00"
    assert trip["commission_usd"] == "1.00"


def test_break_even_pays_the_costs(desk: Desk) -> None:
    up = (5004.0, 5004.0, 5004.0, 5004.0)
    bars = bars_of({2: (5000, 5004, 5000, 5004), 3: up, 4: (5004, 5004, 4990, 4990)})
    costs = Costs(commission_mills=6_300, slippage_ticks=1)
    rows = (f"{at(0)},long,1,40,", f"{at(2)},breakeven,,,")
    trip = desk.trip(bars, *rows, costs=costs)
    # In at 5000.25; 12.60 of commission is two ticks and the slip a third: stop 5001, out 5000.75.
    assert (trip["entry_price"], trip["exit_price"]) == ("5000.25", "5000.75")
    assert trip["pnl_usd"] == "12.40"
    assert trip["reason"] == "stop"


@pytest.mark.parametrize(("last", "price"), [("trail_on", "5001.00"), ("trail_off", "4996.00")])
def test_a_trailing_stop_follows_the_close_until_it_is_switched_off(
    desk: Desk, last: str, price: str
) -> None:
    bars = bars_of(
        {
            3: (5000, 5001, 5000, 5001),
            4: (5001, 5006, 5001, 5006),
            5: (5006, 5006, 4990, 4990),
        }
    )
    rows = [f"{at(0)},long,1,20,", f"{at(1)},trail_on,,,"]
    if last == "trail_off":
        rows.append(f"{at(3)},trail_off,,,")
    trip = desk.trip(bars, *rows)
    assert (trip["exit_price"], trip["reason"]) == (price, "stop")
    assert trip["exit_at"] == at(5)


def test_a_position_is_flat_by_the_book(desk: Desk) -> None:
    trip = desk.trip(bars_of(n_bars=420), f"{at(0)},long,1,,")
    assert trip["reason"] == "late_flat"
    assert trip["exit_at"] == "2025-01-06T21:10:00+00:00"


def test_a_soft_daily_limit_locks_the_day(desk: Desk) -> None:
    book = desk.book(more='[daily_limit]\nkind = "soft"\namount = 500\n')
    bars = bars_of({2: (5000, 5000, 4980, 4990)})
    rows = (f"{at(0)},long,1,,", f"{at(4)},long,1,,")
    story = desk.play(bars, *rows, book=book)
    (trip,) = story["round_trips"]
    assert (trip["exit_price"], trip["reason"]) == ("4990.00", "daily_limit")
    assert story["outcome"] == "open"
    assert [row["reason"] for row in story["rejected"]] == ["locked_out"]


def test_a_hard_daily_limit_breaches(desk: Desk) -> None:
    book = desk.book(more='[daily_limit]\nkind = "hard"\namount = 500\n')
    story = desk.play(bars_of({2: (5000, 5000, 4980, 4990)}), f"{at(0)},long,1,,", book=book)
    assert (story["outcome"], story["done_reason"]) == ("breached", "daily_limit")


def test_an_account_target_passes_on_touch(desk: Desk) -> None:
    book = desk.book(profit=300, test="touch")
    bars = bars_of({2: (5000, 5009, 5000, 5009)})
    story = desk.play(bars, f"{at(0)},long,1,,", f"{at(4)},close,,,", book=book)
    (trip,) = story["round_trips"]
    assert (trip["exit_price"], trip["reason"]) == ("5006.00", "account_target")
    assert (story["outcome"], story["done_reason"]) == ("passed", "target")
    assert story["done_at"] == at(2)
    assert story["balance_usd"] == "50300.00"
    assert [row["reason"] for row in story["rejected"]] == ["account_ended"]


def test_a_breach_ends_the_account_and_its_day(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5000, 4980, 4990)}, n_days=2)
    story = desk.play(bars, f"{at(0)},long,5,,", f"{at(0, 1)},long,1,,")
    assert (story["outcome"], story["done_reason"]) == ("breached", "floor")
    assert story["done_at"] == at(2)
    assert [day["trade_date"] for day in story["days"]] == ["2025-01-06"]
    assert story["days"][0]["pnl_usd"] == "-2000.00"
    assert [row["reason"] for row in story["rejected"]] == ["account_ended"]
    assert story["rejected"][0]["time"] == at(0, 1)


def test_a_target_reached_is_passed_when_the_day_is_settled(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5011, 5000, 5011)}, n_days=2)
    story = desk.play(bars, f"{at(0)},long,5,,40", book=desk.book(profit=2_500))
    assert (story["outcome"], story["done_reason"]) == ("passed", "target")
    assert story["done_at"] == at(11)
    assert story["balance_usd"] == "52500.00"


def test_the_time_limit_counts_from_the_first_signal_or_the_given_start(desk: Desk) -> None:
    book = desk.book(top="time_limit_days = 2")
    bars = bars_of(n_days=4)
    story = desk.play(bars, f"{at(0, 1)},long,1,,40", book=book)
    assert (story["outcome"], story["done_reason"]) == ("timed_out", "time_limit")
    assert story["done_at"] == at(11, 2)
    assert [day["trade_date"] for day in story["days"]] == ["2025-01-07", "2025-01-08"]
    early = desk.play(bars, f"{at(0, 1)},long,1,,40", book=book, start=date(2025, 1, 6))
    assert early["done_at"] == at(11, 1)
    assert [day["trade_date"] for day in early["days"]] == ["2025-01-06", "2025-01-07"]


def test_the_end_of_the_data_closes_what_is_open(desk: Desk) -> None:
    bars = bars_of({3: (5000, 5002, 5000, 5002)}, n_bars=4)
    story = desk.play(bars, f"{at(0)},long,1,,", f"{at(3)},close,,,")
    (trip,) = story["round_trips"]
    assert (trip["reason"], trip["exit_price"]) == ("late_flat", "5002.00")
    assert (story["outcome"], story["done_reason"]) == ("open", "data_end")
    assert story["equity_usd"] == story["balance_usd"] == "50100.00"
    assert story["open_position"] is None
    assert [row["reason"] for row in story["rejected"]] == ["account_ended"]
    assert any("the bars end at" in note for note in story["notes"])
    closed = desk.play(bars, f"{at(0)},long,1,,", f"{at(1)},close,,,")
    assert closed["notes"] == []


def test_the_floor_trails_the_closing_balance(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5011, 5000, 5011)}, n_days=2)
    story = desk.play(bars, f"{at(0)},long,1,,40", book=desk.book(trail="end_of_day"))
    assert [day["floor_usd"] for day in story["days"]] == ["48500.00", "48500.00"]
    assert story["peak_usd"] == "50500.00"


# Paths.


def test_worst_and_best_that_end_differently_are_undecided(desk: Desk) -> None:
    book = desk.book(profit=400, test="touch")
    bars = bars_of({2: (5000, 5020, 4980, 5000)})
    story = desk.play(bars, f"{at(0)},long,5,,", book=book)
    assert story["outcome"] == "breached"
    assert story["undecided"] is True
    assert story["if_best"]["outcome"] == "passed"
    assert story["ambiguous_bars"] == 1
    assert story["ambiguous_at"] == [opens(2)]
    calm = desk.play(bars_of(), f"{at(0)},long,5,,", book=book)
    assert calm["undecided"] is False
    assert "undecided" not in desk.play(bars, f"{at(0)},long,5,,", book=book, path="best")


def seconds_of(prices: Mapping[int, Prices]) -> Bars:
    """Seconds from 09:30 on; keys count seconds."""
    full = bars_of(prices, n_bars=12 * 60, bar_s=1)
    keep = np.array(sorted(prices))
    names = ("ts", "open", "high", "low", "close", "volume", "expiry")
    return replace(full, **{name: getattr(full, name)[keep] for name in names})


HIGH_FIRST: dict[int, Prices] = {
    120: (5000, 5000, 5000, 5000),
    130: (5001, 5011, 5001, 5010),
    150: (5000, 5000, 4994, 4996),
    179: (5000, 5000, 5000, 5000),
}
LOW_FIRST: dict[int, Prices] = {
    120: (5000, 5000, 5000, 5000),
    121: (4996, 4997, 4994, 4996),
    150: (5000, 5011, 5000, 5011),
    151: (5000, 5000, 5000, 5000),
}
GAP: dict[int, Prices] = {120: STILL, 121: (4994, 4994, 4994, 4994), 122: (5011, 5011, 5000, 5000)}


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (HIGH_FIRST, ("5010.00", "target")),
        (LOW_FIRST, ("4995.00", "stop")),
        (GAP, ("4994.00", "stop")),
    ],
)
def test_seconds_settle_an_ambiguous_bar(
    desk: Desk, prices: dict[int, Prices], expected: tuple[str, str]
) -> None:
    bars = bars_of({2: (5000, 5011, 4994, 5000)})
    row = f"{at(0)},long,1,20,40"
    story = desk.play(bars, row, path="seconds", seconds=seconds_of(prices))
    (trip,) = story["round_trips"]
    assert (trip["exit_price"], trip["reason"]) == expected
    assert story["ambiguous_bars"] == 0
    assert trip["exit_at"] == at(2)


def test_a_second_with_both_is_ambiguous_and_the_worse_is_kept(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5011, 4994, 5000)})
    seconds = seconds_of({120: STILL, 125: (5000, 5011, 4994, 5000)})
    story = desk.play(bars, f"{at(0)},long,1,20,40", path="seconds", seconds=seconds)
    assert story["round_trips"][0]["reason"] == "stop"
    assert story["ambiguous_bars"] == 1


def test_seconds_that_are_not_the_bar_leave_it_whole(desk: Desk) -> None:
    bars = bars_of({2: (5000, 5011, 4994, 5000)})
    lost = {**HIGH_FIRST, 60: STILL}
    del lost[150]
    story = desk.play(bars, f"{at(0)},long,1,20,40", path="seconds", seconds=seconds_of(lost))
    assert story["round_trips"][0]["reason"] == "stop"
    assert "were walked as a whole" in " ".join(story["notes"])


def test_seconds_of_another_market_are_refused(desk: Desk) -> None:
    bars, row = bars_of(), f"{at(0)},long,1,20,40"
    foreign = seconds_of({60: (4000, 4000, 4000, 4000)})
    message = desk.refusal(bars, row, path="seconds", seconds=foreign)
    assert "none is made of them exactly" in message
    assert "opened at 5000.00 and its seconds at 4000.00" in message
    later = replace(foreign, ts=foreign.ts + 10**15)
    assert "no second lies inside a bar" in desk.refusal(bars, row, path="seconds", seconds=later)
    assert "must divide the bars" in desk.refusal(bars, row, path="seconds", seconds=bars)
    nq = replace(foreign, contract=find_contract("GC"))
    assert "must be of one market" in desk.refusal(bars, row, path="seconds", seconds=nq)
    assert "the path seconds needs them" in desk.refusal(bars, row, path="seconds")
    assert "the path seconds needs them" in desk.refusal(bars, row, seconds=foreign)


def test_a_touch_fills_a_target_only_if_asked(desk: Desk) -> None:
    bars, row = bars_of({2: (5000, 5010, 5000, 5009)}), f"{at(0)},long,1,,40"
    assert desk.trip(bars, row)["reason"] == "late_flat"
    touched = desk.trip(bars, row, target_fill="touch")
    assert (touched["reason"], touched["exit_price"]) == ("target", "5010.00")


# Signals on bars.


def test_offsets_name_the_same_moment_across_a_change_of_clocks(desk: Desk) -> None:
    bars = bars_of(n_days=64)
    # On 2025-03-10 New York is at -04:00; bars stay at 14:30 UTC.
    same = [
        "2025-03-07T09:31:00-05:00,long,1,,40",
        "2025-03-10T10:31:00-04:00,close,,,",
        "2025-03-10T14:32:00Z,long,1,,",
        "2025-03-10T15:33:00+01:00,close,,,",
    ]
    trips = desk.play(bars, *same)["round_trips"]
    assert [trip["entry_at"] for trip in trips] == [
        "2025-03-07T14:31:00+00:00",
        "2025-03-10T14:32:00+00:00",
    ]
    assert trips[1]["exit_at"] == "2025-03-10T14:33:00+00:00"


def test_flat_by_follows_the_eastern_clock(desk: Desk) -> None:
    bars = bars_of(n_bars=480, n_days=64)
    rows = ("2025-03-07T14:31:00Z,long,1,,", "2025-03-10T14:31:00Z,long,1,,")
    trips = desk.play(bars, *rows)["round_trips"]
    ends = [trip["exit_at"] for trip in trips]
    assert ends == ["2025-03-07T21:10:00+00:00", "2025-03-10T20:10:00+00:00"]


def test_a_signal_after_a_minute_without_a_trade_belongs_to_the_bar_before(desk: Desk) -> None:
    bars = bars_of({6: (5001, 5001, 5001, 5001)}, without=(4, 5))
    story = desk.play(bars, f"{at(5)},long,1,,")
    assert story["round_trips"][0]["entry_at"] == opens(6)
    assert story["round_trips"][0]["entry_price"] == "5001.00"
    note = next(note for note in story["notes"] if "no bar closes" in note)
    assert f"line 2 to {at(3)}" in note


def test_a_moved_signal_does_not_slip_past_the_end_of_entries(desk: Desk) -> None:
    # flat-by 16:10 and five minutes before it: the last entry is decided at 16:04.
    minutes = range(392, 398)
    bars = bars_of(n_bars=400, without=tuple(minutes))
    story = desk.play(bars, f"{at(395)},long,1,,", f"{at(398)},long,1,,")
    assert [row["reason"] for row in story["rejected"]] == ["no_entry_time"] * 2
    kept = desk.play(bars, f"{at(393)},long,1,,")
    assert kept["rejected"] == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["2025-01-06T14:31:30Z,long,1,,"], "no bar's close: line 2 (2025-01-06T14:31:30+00:00)"),
        (["2025-01-06T14:31:30Z,long,1,,"], "nearest 2025-01-06T14:31:00+00:00 and "),
        (["2025-01-06T14:30:00Z,long,1,,"], "lie outside the bars: line 2"),
        (["2025-01-08T14:31:00Z,long,1,,"], "the last at 2025-01-07T14:42:00+00:00"),
        (["2025-01-06T22:30:00Z,long,1,,"], "fit no bar's close"),
        (["2025-01-06T23:30:00Z,long,1,,"], "fit no bar's close"),
        ([f"{at(1)},close,,,", f"{at(1)},long,1,,"], "lines 2 and 3 (close, long) at"),
    ],
)  # fmt: skip
def test_signals_that_fit_no_bar_are_refused(desk: Desk, rows: list[str], words: str) -> None:
    assert words in desk.refusal(bars_of(n_days=2), *rows)


def test_five_lost_signals_are_shown_and_the_rest_counted(desk: Desk) -> None:
    rows = [f"2025-01-06T14:3{i}:30Z,long,1,," for i in range(1, 8)]
    message = desk.refusal(bars_of(), *rows)
    assert "S.csv: 7 of 7 rows fit no bar's close: line 2" in message
    assert message.count("nearest") == 5
    assert "and 2 more" in message


def test_a_partial_close_is_refused(desk: Desk) -> None:
    message = desk.refusal(bars_of(), f"{at(0)},long,2,,", f"{at(2)},close,1,,")
    assert "line 3: 1 of 2" in message
    assert "A position closes whole" in message


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([f"{at(0)},long,6,,"], "size_limit"),
        ([f"{at(0)},long,1,,", f"{at(2)},short,1,,"], "in_position"),
        ([f"{at(0)},trail_on,,,"], "no_position"),
        ([f"{at(0)},long,1,,", f"{at(2)},trail_on,,,"], "no_stop"),
        ([f"{at(0)},long,1,8,", f"{at(2)},trail_off,,,"], "not_trailing"),
        ([f"{at(0)},long,1,8,", f"{at(1)},trail_on,,,", f"{at(3)},trail_on,,,"],
         "already_trailing"),
        ([f"{at(0)},long,1,8,", f"{at(2)},breakeven,,,"], "not_tighter"),
        ([f"{at(11)},long,1,,"], "expired"),
    ],
)  # fmt: skip
def test_refused_orders_are_told_with_time_and_reason(
    desk: Desk, rows: list[str], reason: str
) -> None:
    story = desk.play(bars_of(n_days=2), *rows)
    assert [row["reason"] for row in story["rejected"]] == [reason]
    assert story["rejected"][0]["line"] == len(rows) + 1
    assert story["rejected"][0]["time"] == rows[-1].partition(",")[0]
    assert story["rejected"][0]["why"]


def test_the_start_must_fit_bars_and_signals(desk: Desk) -> None:
    bars, row = bars_of(n_days=3), f"{at(0)},long,1,,"
    assert "lies before the start" in desk.refusal(bars, row, start=date(2025, 1, 7))
    assert "the last trading day" in desk.refusal(bars, row, start=date(2025, 1, 9))


def test_signals_before_the_start_are_left_out_and_counted(desk: Desk) -> None:
    bars = bars_of(n_days=2)
    late = [f"{at(3, day=1)},long,1,,", f"{at(6, day=1)},close,,,"]
    alone = desk.play(bars, *late)
    both = desk.play(bars, f"{at(0)},long,1,,", *late, start=date(2025, 1, 7))
    assert both["round_trips"] == alone["round_trips"] != []
    assert both["days"] == alone["days"]
    assert any("1 signals before the start" in note for note in both["notes"])


def test_unknown_settings_and_forbidden_contracts_are_refused(desk: Desk) -> None:
    row = f"{at(0)},long,1,,"
    assert "path was 'middle'" in desk.refusal(bars_of(), row, path="middle")
    assert "target_fill was 'no'" in desk.refusal(bars_of(), row, target_fill="no")
    book = desk.book(more='[products]\nexcluded = ["ES"]\n')
    assert "ES may not be traded under this book" in desk.refusal(bars_of(), row, book=book)


def test_the_fingerprint_names_everything_the_result_depends_on(desk: Desk) -> None:
    row, bars = f"{at(0)},long,1,8,8", bars_of()
    book = desk.book()
    stories = [
        desk.play(bars, row, book=book),
        desk.play(bars_of({9: (5000, 5001, 5000, 5000)}), row, book=book),
        desk.play(bars, row + "0", book=book),
        desk.play(bars, row, book=book, path="best"),
        desk.play(bars, row, book=book, target_fill="touch"),
        desk.play(bars, row, book=book, costs=Costs(commission_mills=1, slippage_ticks=0)),
        desk.play(bars, row, book=desk.book(profit=3_001)),
    ]
    assert len({story["fingerprint"] for story in stories}) == len(stories)
    assert desk.play(bars, row, book=book) == stories[0]


# Contracts.


def test_only_a_product_and_its_micro_share_prices() -> None:
    known = list(load_contracts().values())
    pairs = {
        frozenset((first.symbol, second.symbol))
        for first in known
        for second in known
        if first.symbol < second.symbol and shares_prices(first, second)
    }
    expected = ("ES MES", "NQ MNQ", "YM MYM", "RTY M2K", "CL MCL", "GC MGC")
    assert pairs == {frozenset(pair.split()) for pair in expected}


def contract_with(**fields: Any) -> Contract:
    return replace(find_contract("ES"), **fields)


def test_another_tick_or_calendar_is_another_market() -> None:
    es = find_contract("ES")
    assert not shares_prices(es, contract_with(tick_size=Decimal("0.5")))
    assert not shares_prices(es, contract_with(calendar="energy"))
    assert not shares_prices(es, contract_with(tick_mills=5_000))


def test_a_micro_is_played_on_the_minis_bars(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "es.parquet"
    write_bars(bars_of({2: (5000, 5011, 5000, 5011)}), path)
    bars, notes = open_bars(path, "MES")
    assert "es.parquet holds ES; it was played as MES" in notes[0]
    story = desk.play(bars, f"{at(0)},long,50,,40")
    assert story["round_trips"][0]["pnl_usd"] == "2500.00"
    assert story["contract"] == "MES"
    too_many = desk.play(bars, f"{at(0)},long,51,,40")
    assert too_many["rejected"][0]["reason"] == "size_limit"
    assert open_bars(path, None)[0].contract.symbol == "ES"
    assert open_bars(path, "es")[1] == ()
    with pytest.raises(BarsError, match=r"holds ES .* they do not trade at the same prices"):
        open_bars(path, "NQ")


def test_files_that_are_no_bars_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("hello\n")
    with pytest.raises(BarsError, match="Give --contract"):
        open_bars(path, None)
    with pytest.raises(BarsError, match=r"x\.csv"):
        open_bars(path, "ES")
    with pytest.raises(BarsError, match="no such file"):
        open_bars(tmp_path / "none.parquet", "ES")
