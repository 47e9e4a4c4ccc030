"""The path engine by hand, against the plain account of `audit`, and its payouts."""

from dataclasses import replace

import numpy as np
import pytest
from traders import record

from passline.evaluate.audit.account import walk_account
from passline.evaluate.audit.timeline import build_timeline
from passline.evaluate.audit.trips import Trips
from passline.evaluate.audit.walk import Path
from passline.evaluate.odds.days import days_from_trips
from passline.evaluate.odds.draws import Draws, resample_days, usual_block_days
from passline.evaluate.odds.lives import Ending, Limits, Results, walk_stage
from passline.evaluate.odds.payouts import open_ledger, settle_payouts
from passline.evaluate.odds.stage import PathOrder, make_stage
from passline.market.calendar import load_calendar
from passline.market.contracts import find_contract
from passline.rulebook.catalog import load_rulebook
from passline.rulebook.model import Inactivity, Rulebook, Target
from passline.sim.layout import DoneReason, Outcome

ES = find_contract("ES")


def in_order(
    source: object,
    book: Rulebook,
    order: PathOrder = PathOrder.WORST,
    *,
    cap: int = 0,
    keep: int = 0,
) -> Results:
    """One life that meets the source days in their order, then again from the first."""
    stage = make_stage(book, source, order)  # type: ignore[arg-type]
    n = len(stage.n_spells)
    draws = Draws(series=np.arange(n)[None], block_days=1e9, seed=0)
    one = np.zeros(1, np.int64)
    limits = Limits(cap_days=cap or n, keep_mills=keep)
    return walk_stage(stage, draws, one, one, limits, place=one + n - 1)


def usd_of(found: Results) -> tuple[str, float, int]:
    return Ending(int(found.ending[0])).name, found.balance[0] / 1000, int(found.n_days[0])


APEX = load_rulebook("apex-intraday-50k")
COMBINE = load_rulebook("topstep-combine-50k")


def test_target_floor_and_cap() -> None:
    assert usd_of(in_order(record(np.array([1500.0, 1500.0])), APEX)) == ("PASSED", 53_000, 2)
    found = in_order(record(np.array([1000.0, -2000.0])), APEX)
    assert usd_of(found) == ("FLOOR_OPEN", 49_000, 2)
    assert usd_of(in_order(record(np.array([1000.0, -1999.0])), APEX)) == ("CAP", 49_001, 2)
    # Consistency: the second day alone is 2,000 of 3,000, above 55 %.
    assert usd_of(in_order(record(np.array([1000.0, 2000.0])), COMBINE))[0] == "CAP"


def test_costs_can_be_the_last_straw() -> None:
    found = in_order(record(np.array([-1998.0]), cost_usd=2.0), APEX)
    assert usd_of(found) == ("FLOOR_CLOSED", 48_000, 1)


def test_order_of_extremes() -> None:
    source = record(np.array([0.0]), high_usd=np.array([1000.0]), low_usd=np.array([-1000.0]))
    assert usd_of(in_order(source, APEX, PathOrder.WORST))[0] == "FLOOR_OPEN"
    assert usd_of(in_order(source, APEX, PathOrder.BEST)) == ("CAP", 50_000, 1)
    assert usd_of(in_order(source, COMBINE, PathOrder.WORST))[0] == "CAP"


def test_touched_target_counts_only_if_the_floor_was_not_met_first() -> None:
    touch = replace(APEX, target=Target(balance_mills=53_000_000, test="touch"))
    source = record(np.array([0.0]), high_usd=np.array([3000.0]), low_usd=np.array([-100.0]))
    assert usd_of(in_order(source, touch))[0] == "PASSED"
    source = record(np.array([0.0]), high_usd=np.array([3000.0]), low_usd=np.array([-2000.0]))
    assert {usd_of(in_order(source, touch, order))[0] for order in PathOrder} == {"FLOOR_OPEN"}


def test_soft_limit_skips_the_rest_of_the_day() -> None:
    book = load_rulebook("apex-eod-50k")  # soft limit of 1,000
    source = record(np.array([-900.0, -400.0, 5000.0, 100.0]), per_day=3 + 1)
    assert usd_of(in_order(source, book)) == ("CAP", 49_000, 1)


def test_size_is_cut_to_the_tier() -> None:
    # 7 minis under a book of 6: money falls by a seventh.
    found = in_order(record(np.array([700.0]), qty=7), APEX)
    assert found.balance[0] == 50_600_000
    assert make_stage(APEX, record(np.array([700.0]), qty=7), PathOrder.WORST).cut_share == 1.0


def test_calendar_days_and_time_limit() -> None:
    found = in_order(record(np.array([0.0] * 40)), APEX, cap=100)
    assert Ending(int(found.ending[0])) is Ending.TIME_LIMIT
    # 30 calendar days hold 20 to 22 weekdays.
    assert 20 <= found.n_days[0] <= 22
    assert found.calendar_days[0] <= 30


def test_idle_accounts_are_closed() -> None:
    book = replace(
        load_rulebook("topstep-xfa-50k"),
        inactivity=Inactivity(window_days=30, active_days=2, day_profit_mills=50_000),
    )
    source = record(np.array([40.0] * 60))
    found = in_order(source, book)
    assert Ending(int(found.ending[0])) is Ending.INACTIVE
    assert 20 <= found.n_days[0] <= 23
    assert (
        Ending(int(in_order(record(np.array([50.0] * 60)), book).ending[0])) is not Ending.INACTIVE
    )


# --- against the plain account ------------------------------------------------------------------

TRADING = load_calendar("equity").all_sessions
BOOKS = (
    "apex-intraday-50k",
    "apex-eod-50k",
    "apex-legacy-50k",
    "topstep-combine-50k-dll",
    "mffu-rapid-50k",
    "earn2trade-gauntlet-mini-50k",
    "tpt-test-25k",
    "tradeify-growth-50k",
)


def random_trips(rng: np.random.Generator) -> Trips:
    days = np.unique(TRADING.trading_day[(TRADING.trading_day > 20_200)])[: rng.integers(3, 30)]
    rows = []
    for day in days:
        start = int(day) * 86_400 * 10**9 + 14 * 3600 * 10**9
        for k in range(rng.integers(1, 4)):
            ticks, qty = int(rng.normal(4, 50)), int(rng.integers(1, 4))
            gross = ticks * qty * ES.tick_mills
            mae = max(-gross, 0) + int(rng.exponential(300)) * 1000
            mfe = max(gross, 0) + int(rng.exponential(300)) * 1000
            entry = start + k * 3600 * 10**9
            exit_ns = entry + 600 * 10**9
            cost = int(rng.integers(0, 5_000))
            rows.append((entry, exit_ns, 0, 1, qty, 22_000, 22_000 + ticks, gross, cost, mae, mfe))
    table = np.asarray(rows, np.int64)
    unknown = np.full(len(rows), -1)
    names = ("entry_ns", "exit_ns", "contract", "side", "qty", "entry_ticks", "exit_ticks")
    money = ("gross_mills", "commission_mills", "mae_mills", "mfe_mills")
    columns = {name: table[:, i] for i, name in enumerate((*names, *money))}
    return Trips(contracts=(ES,), stop_ticks=unknown, target_ticks=unknown, **columns)


@pytest.mark.parametrize("id", BOOKS)
def test_engine_equals_the_plain_account(id: str) -> None:
    book = replace(load_rulebook(id), time_limit_days=None, inactivity=None)
    # Audit takes sizes as they were; give the tier room so that the engine cuts nothing.
    book = replace(book, tiers=tuple(replace(t, size_units=1000) for t in book.tiers))
    rng = np.random.default_rng(len(id))
    seen = set()
    for _ in range(25):
        trips = random_trips(rng)
        timeline = build_timeline(trips)
        source = days_from_trips(trips, book)
        for path, order in ((Path.WORST, PathOrder.WORST), (Path.BEST, PathOrder.BEST)):
            walk = walk_account(timeline, book, path)
            found = in_order(source, book, order)
            assert found.balance[0] == walk.balance
            reason = {
                "PASSED": (Outcome.PASSED, DoneReason.TARGET),
                "FLOOR_OPEN": (Outcome.BREACHED, DoneReason.FLOOR),
                "FLOOR_CLOSED": (Outcome.BREACHED, DoneReason.FLOOR),
                "DAILY_LIMIT": (Outcome.BREACHED, DoneReason.DAILY_LIMIT),
                "CAP": (Outcome.OPEN, DoneReason.DATA_END),
            }[Ending(int(found.ending[0])).name]
            assert reason == (walk.outcome, walk.reason)
            seen.add(reason[0])
    assert Outcome.BREACHED in seen


# --- pairing ------------------------------------------------------------------------------------

MINUTE = 60 * 10**9
MORNING = 20_213 * 86_400 * 10**9 + 15 * 3600 * 10**9  # Monday 2025-05-05, 11:00 ET


def paired(fills: list[tuple[int, int]], *, is_lifo: bool) -> Trips:
    """Long round trips of one contract from fills (side, price), a minute apart."""
    waiting: list[tuple[int, int]] = []
    rows = []
    for minute, (side, ticks) in enumerate(fills):
        now = MORNING + minute * MINUTE
        if side > 0:
            waiting.append((now, ticks))
        else:
            entry, bought = waiting.pop(-1 if is_lifo else 0)
            rows.append((entry, now, bought, ticks))
    table = np.asarray(sorted(rows), np.int64)
    one, unknown = np.ones(len(table), np.int64), np.full(len(table), -1)
    return Trips(
        contracts=(ES,),
        contract=0 * one,
        entry_ns=table[:, 0],
        exit_ns=table[:, 1],
        side=one,
        qty=one,
        entry_ticks=table[:, 2],
        exit_ticks=table[:, 3],
        gross_mills=(table[:, 3] - table[:, 2]) * ES.tick_mills,
        commission_mills=0 * one,
        mae_mills=unknown,
        mfe_mills=unknown,
        stop_ticks=unknown,
        target_ticks=unknown,
    )


@pytest.mark.parametrize("is_lifo", [False, True])
def test_an_exit_leaves_no_extreme_that_the_account_never_had(is_lifo: bool) -> None:
    # The position was worth 1,250 USD at the second entry and 0 at both exits.
    fills = [(1, 20_000), (1, 20_100), (-1, 20_050), (-1, 20_050)]
    source = days_from_trips(paired(fills, is_lifo=is_lifo), APEX)
    assert source.high_mills.ravel().tolist() == [1_250_000, 1_250_000]
    assert source.low_mills.ravel().tolist() == [0, 0]
    # Averaged down it was 1,250 USD in the red, and never ahead.
    fills = [(1, 20_100), (1, 20_000), (-1, 20_050), (-1, 20_050)]
    source = days_from_trips(paired(fills, is_lifo=is_lifo), APEX)
    assert source.high_mills.ravel().tolist() == [0, 0]
    assert source.low_mills.ravel().tolist() == [-1_250_000, -1_250_000]


def test_pairing_first_or_last_in_first_out_is_one_path() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        fills, n_open, ticks = [], 0, 22_000
        while len(fills) < 20 or n_open:
            side = 1 if not n_open or (len(fills) < 20 and rng.random() < 0.5) else -1
            ticks += int(rng.normal(0, 20))
            fills.append((side, ticks))
            n_open += side
        first, last = (
            days_from_trips(paired(fills, is_lifo=is_lifo), APEX) for is_lifo in (False, True)
        )
        for name in ("gross_mills", "high_mills", "low_mills", "qty"):
            assert np.array_equal(getattr(first, name), getattr(last, name)), name


# --- payouts -------------------------------------------------------------------------------------


def pay(
    book: Rulebook,
    balance: float,
    *,
    good: int = 5,
    traded: int = 8,
    best: float = 0.0,
    floor: float = 0.0,
    keep: float = 0.0,
    n_payouts: int = 0,
    paid: float = 0.0,
) -> tuple[float, float, float, float]:
    """Settles one close; returns gross and net of the payout, balance and floor, USD."""
    ledger = open_ledger(book, 1)
    ledger.good_days += good
    ledger.traded_days += traded
    ledger.best_day += round(best * 1000)
    ledger.n_payouts += n_payouts
    ledger.gross += round(paid * 1000)
    after, floor_after, _ = settle_payouts(
        book,
        ledger,
        balance=np.array([round(balance * 1000)]),
        floor=np.array([round(floor * 1000)]),
        pnl=np.zeros(1, np.int64),
        has_traded=np.zeros(1, bool),
        calendar_day=np.array([60]),
        keep_mills=round(keep * 1000),
    )
    gross = ledger.gross[0] / 1000 - paid
    return gross, ledger.net[0] / 1000, after[0] / 1000, floor_after[0] / 1000


def test_topstep_payout() -> None:
    # facts 9.2 T3, help.topstep.com/en/articles/8284233, 2026-09-03: half the balance, at most
    # 2,000; 90 % to the trader; the floor is 0 after the first request (T2).
    book = load_rulebook("topstep-xfa-50k")
    assert pay(book, 4400, floor=0) == (2000, 1800, 2400, 0)
    assert pay(book, 1800, floor=-200) == (900, 810, 900, 0)
    assert pay(book, 4400, good=4)[0] == 0
    # Half the allowance kept above the floor leaves less to ask for.
    assert pay(book, 1800, floor=-200, keep=1000)[0] == 800


def test_lucid_request_sets_the_floor() -> None:
    # facts 9.2 L1: a request at 51,000 puts the floor to 50,100 as well.
    book = load_rulebook("lucid-flex-50k-funded")
    gross, net, balance, floor = pay(book, 51_000, floor=49_000)
    assert (gross, net, balance, floor) == (500, 450, 50_500, 50_100)


def test_apex_legacy_payouts() -> None:
    # facts 9.3: 52,600 may take 500; 1,200 needs 53,300; 52,000 none; 100 % of the first 25,000.
    book = load_rulebook("apex-legacy-50k-pa")
    assert pay(book, 52_600, floor=50_100) == (500, 500, 52_100, 50_100)
    assert pay(book, 53_300, floor=50_100)[0] == 1200
    assert pay(book, 52_599, floor=50_100)[0] == 0
    assert pay(book, 52_000, floor=50_100)[0] == 0
    assert pay(book, 52_600, floor=50_100, traded=7)[0] == 0
    # The cap of 2,000 until the 6th; the safety net guards the first three only.
    assert pay(book, 60_000, floor=50_100)[0] == 2000
    assert pay(book, 51_500, floor=49_000, n_payouts=3)[0] == 1500
    # A payout never empties the cushion: touching the floor ends the account.
    assert pay(book, 51_500, floor=50_100, n_payouts=3)[0] == 1399.999
    gross, net, *_ = pay(book, 60_000, floor=50_100, n_payouts=6, paid=24_000)
    assert (gross, net) == pytest.approx((9_899.999, 1000 + 0.9 * 8899.999))


def test_apex_legacy_windfall() -> None:
    # facts 9.4: best 1,500 needs a total of 5,000 since the last payout.
    book = load_rulebook("apex-legacy-50k-pa")
    assert pay(book, 54_999.99, best=1500, floor=50_100)[0] == 0
    assert pay(book, 55_000, best=1500, floor=50_100)[0] == 2000


def test_consistency_of_payouts() -> None:
    # facts 9.4: Apex PA strictly below one half; Topstep XFA consistency path at most 40 %.
    book = load_rulebook("apex-intraday-50k-pa")
    assert pay(book, 53_000, best=1500, floor=50_100)[0] == 0
    assert pay(book, 53_000.01, best=1500, floor=50_100)[0] == 900.01
    xfa = load_rulebook("topstep-xfa-50k-consistency")
    assert pay(xfa, 3000, best=1500)[0] == 0
    assert pay(xfa, 4500, best=1500)[0] == 2250


def test_the_last_payout_closes_the_account() -> None:
    book = load_rulebook("apex-intraday-50k-pa")
    found = in_order(record(np.array([900.0] * 200)), book, keep=1_000_000)
    assert Ending(int(found.ending[0])) is Ending.LAST_PAYOUT
    assert found.n_payouts[0] == 6
    assert found.gross[0] == found.net[0] == sum((1500, 2000, 2500, 2500, 3000, 3000)) * 1000


# --- draws -------------------------------------------------------------------------------------


def test_blocks_have_their_mean_length_and_every_day_its_share() -> None:
    draws = Draws(series=np.arange(50)[None], block_days=5, seed=4)
    keys = draws.keys(np.arange(4000))
    zero = np.zeros(4000, np.int64)
    place, sources = zero - 1, []
    for day in range(60):
        place, source = draws.next(keys, day, place, zero)
        sources.append(source)
    table = np.stack(sources, axis=1)
    follows = (np.diff(table, axis=1) % 50 == 1).mean()
    # A block goes on with 4/5; a new one follows by chance in 1 of 50.
    assert follows == pytest.approx(0.8 + 0.2 / 50, abs=0.005)
    counts = np.bincount(table.ravel(), minlength=50)
    assert np.abs(counts / counts.mean() - 1).max() < 0.08
    assert np.array_equal(table[17:18, :1], np.stack(sources, axis=1)[17:18, :1])


def test_draws_depend_on_seed_and_life_alone() -> None:
    series = np.arange(30)[None]

    def first(seed: int, lives: np.ndarray) -> list[int]:
        draws = Draws(series=series, block_days=1, seed=seed)
        zero = np.zeros(len(lives), np.int64)
        return draws.next(draws.keys(lives), 3, zero - 1, zero)[1].tolist()

    together = first(5, np.arange(100))
    assert together[40:42] == first(5, np.array([40, 41]))
    assert together != first(6, np.arange(100))


def test_pseudo_records_differ_and_keep_the_length() -> None:
    records = resample_days(40, 30, 4.0, seed=1)
    assert records.shape == (30, 40)
    assert len({tuple(row) for row in records.tolist()}) == 30
    assert [usual_block_days(n) for n in (1, 27, 125, 250)] == [1, 3, 5, 6]
