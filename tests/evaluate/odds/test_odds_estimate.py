"""Odds as a whole: intervals that cover, costs, curves, runs, and the command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from traders import coin, record

from made_tables import bare_table
from passline.errors import ConfigError, RunError
from passline.evaluate.odds.answer import Odds, OddsSettings
from passline.evaluate.odds.costs import Costs, life_values, way_to_pass
from passline.evaluate.odds.days import days_from_run
from passline.evaluate.odds.draws import Draws, resample_days, usual_block_days
from passline.evaluate.odds.estimate import _figure, estimate_odds, make_plan
from passline.evaluate.odds.lives import Ending, Results
from passline.evaluate.odds.simulate import Lives, Plan, live
from passline.evaluate.odds.stage import PathOrder, make_stage
from passline.evaluate.table import AGENT, append_evaluation
from passline.rulebook.catalog import load_rulebook
from passline.rulebook.model import Fees

COMBINE = load_rulebook("topstep-combine-50k")
XFA = load_rulebook("topstep-xfa-50k")
SMALL = OddsSettings(
    n_lives=4000, n_records=40, n_record_lives=40, n_side_lives=1000, sizes=(0.5, 1.0, 20.0),
    blocks=(1.0, 5.0),
)  # fmt: skip


def trader(seed: int, n_days: int = 120, mean: float = 60.0) -> object:
    """One trade a day with a normal result and exponential excursions beyond it, USD."""
    rng = np.random.default_rng(seed)
    gross = rng.normal(mean, 500, n_days)
    beyond = rng.exponential(150, (2, n_days))
    return record(
        gross,
        high_usd=np.maximum(gross, 0) + beyond[0],
        low_usd=np.minimum(gross, 0) - beyond[1],
    )


def found(seed: int = 0, **changes: object) -> Odds:
    return estimate_odds(trader(1), COMBINE, XFA, replace(SMALL, seed=seed, **changes))  # type: ignore[arg-type]


def test_interval_covers_the_known_pass_rate() -> None:
    # The truth comes from 100,000 days; each of 40 traders shows 125 of them. docs/odds.md has the
    # figures of a larger run.
    plan = Plan(evaluation=COMBINE, funded=None, cap_days=250, horizon_days=1, keep_mills=0)

    def passes(source: object, draws: Draws, n: int, per_record: int) -> np.ndarray:
        record_of = np.arange(n) // per_record
        lives = live(
            plan, source, draws, life=np.arange(n), record=record_of, order=PathOrder.WORST
        )  # type: ignore[arg-type]
        return lives.evaluation.is_pass.astype(float)

    everything = Draws(series=np.arange(100_000)[None], block_days=1, seed=1)
    truth = passes(trader(999, 100_000), everything, 20_000, 20_000).mean()
    block = float(usual_block_days(125))
    covered = 0
    for seed in range(40):
        records = resample_days(125, 60, block, seed)
        draws = Draws(series=records, block_days=block, seed=seed)
        rates = passes(trader(seed, 125), draws, 60 * 60, 60).reshape(60, 60)
        figure = _figure(float(rates.mean()), rates, 125 / block, 0.95)
        covered += figure.low <= truth <= figure.high
    assert 0.3 < truth < 0.6
    assert 33 <= covered <= 40


def test_interval_follows_source_days_not_lives() -> None:
    def width(n_days: int, n_lives: int) -> float:
        settings = replace(SMALL, n_lives=n_lives)
        rate = estimate_odds(trader(2, n_days), COMBINE, None, settings).worst.pass_rate  # type: ignore[arg-type]
        return rate.high - rate.low

    short = width(40, 1000)
    assert width(40, 20_000) == pytest.approx(short, abs=0.02)
    assert width(1000, 1000) < 0.6 * short


def test_too_few_days_bound_nothing() -> None:
    odds = estimate_odds(trader(3, 5), COMBINE, None, replace(SMALL, block_days=4.0))  # type: ignore[arg-type]
    assert (odds.worst.pass_rate.low, odds.worst.pass_rate.high) == (0.0, 1.0)
    assert odds.to_dict()["worst"]["value_low_usd"] is None


def test_worst_never_beats_best_and_seeds_repeat() -> None:
    odds = found()
    assert odds.worst.pass_rate.value <= odds.best.pass_rate.value
    assert odds.to_dict() == found().to_dict()
    assert odds.to_dict() != found(seed=1).to_dict()
    assert sum(odds.worst.endings.values()) == pytest.approx(1.0)
    assert odds.worst.endings["passed"] == odds.worst.pass_rate.value
    rate = odds.worst.pass_rate
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert [length for length, _ in odds.blocks] == [1.0, 5.0]


def test_size_helps_then_kills() -> None:
    rates = {size: worst for size, worst, *_ in found().sizes}
    assert rates[20.0] < min(rates[1.0], rates[0.5])
    cut = {row[0]: row[4] for row in found().sizes}
    assert (cut[1.0], cut[20.0]) == (0.0, 1.0)


def test_a_certain_winner_and_a_certain_loser() -> None:
    winner = estimate_odds(record(np.full(80, 500.0)), COMBINE, XFA, SMALL)
    assert winner.worst.pass_rate.value == 1.0
    assert winner.worst.days_to_pass == (6.0, 6.0, 6.0)
    assert winner.worst.paid_share == 1.0
    assert winner.worst.way.attempts == 1.0
    loser = estimate_odds(record(np.full(80, -500.0)), COMBINE, XFA, SMALL)
    assert loser.worst.pass_rate.value == 0.0
    told = loser.to_dict()["worst"]
    assert (told["cost_to_pass_usd"], told["attempts_to_pass"]) == (None, None)
    assert loser.worst.endings == {"floor_open": 1.0}


@pytest.mark.parametrize(("step", "rate"), [(500.0, 1.0), (-500.0, 0.0)])
def test_days_that_all_agree_have_an_interval(step: float, rate: float) -> None:
    odds = estimate_odds(record(np.full(20, step)), COMBINE, XFA, replace(SMALL, block_days=2))
    found = odds.worst.pass_rate
    # Ten blocks of ten alike: Wilson's interval with Student's t on 9 degrees of freedom.
    far = 2.2622**2 / (10 + 2.2622**2)
    assert (found.value, found.high - found.low) == (rate, pytest.approx(far, abs=1e-4))
    assert found.low <= rate <= found.high
    told = odds.to_dict()["worst"]
    assert (told["value_low_usd"], told["value_high_usd"]) == (None, None)
    assert told["value_usd"] is not None


def results(*rows: tuple[Ending, int, int]) -> Results:
    """Lives by ending, trading days and calendar days."""
    table = np.asarray(rows, np.int64)
    zero = np.zeros(len(rows), np.int64)
    return Results(
        ending=table[:, 0], n_days=table[:, 1], calendar_days=table[:, 2], balance=zero,
        best_profit=zero, place=zero, n_payouts=zero, gross=zero, net=zero, payout_day=zero - 1,
    )  # fmt: skip


def test_costs_by_hand() -> None:
    book = replace(
        COMBINE,
        fees=Fees(
            price_mills=50_000, billing="monthly", reset_mills=30_000, activation_mills=149_000
        ),
    )
    costs = Costs.of(make_plan(book, None, SMALL))
    # Fail after 31 calendar days (two months), fail at once, pass in 10; then one pass in 10.
    lives = results(
        (Ending.FLOOR_OPEN, 22, 31),
        (Ending.FLOOR_OPEN, 1, 1),
        (Ending.PASSED, 8, 10),
        (Ending.PASSED, 8, 10),
    )
    way = way_to_pass(costs, lives)
    assert way.attempts == 2.0
    assert way.n_ways == 2
    # First way: 50 + 50 (second month) + 30 (reset) + 30 (reset) + 149; second: 50 + 149.
    assert way.cost_median_mills == (309_000 + 199_000) / 2
    assert way.cost_mills == (309_000 + 199_000) / 2
    net = replace(results((Ending.CAP, 9, 11), (Ending.CAP, 9, 11)), net=np.array([0, 900_000]))
    values = life_values(costs, Lives(evaluation=lives, funded=net, cut_share=0.0))
    assert values.tolist() == [-100_000, -50_000, -199_000, 701_000]
    once = replace(book, fees=replace(book.fees, billing="one_time", reset_mills=None))
    once_costs = Costs.of(make_plan(once, None, SMALL))
    assert way_to_pass(once_costs, lives).cost_mills == 100_000 + 149_000


def test_a_monthly_bill_runs_on_through_resets() -> None:
    fees = Fees(price_mills=197_000, billing="monthly", reset_mills=80_000)
    reset, anew = (
        Costs.of(make_plan(replace(COMBINE, fees=f), None, SMALL))
        for f in (fees, replace(fees, reset_mills=None))
    )
    # No attempt lasts a month, the way 20 + 20 + 25 = 65 days: billed on days 1, 31 and 61.
    # The life after the last pass begins the way.
    lives = results(
        (Ending.FLOOR_OPEN, 14, 20), (Ending.PASSED, 18, 25), (Ending.FLOOR_OPEN, 14, 20)
    )
    assert way_to_pass(reset, lives).cost_mills == 3 * 197_000 + 2 * 80_000
    # An account bought anew is billed from its own first day.
    assert way_to_pass(anew, lives).cost_mills == 3 * 197_000
    once = replace(reset, is_monthly=False)
    assert way_to_pass(once, lives).cost_mills == 197_000 + 2 * 80_000
    assert way_to_pass(reset, lives).calendar_days == pytest.approx(65)


@pytest.mark.parametrize(
    ("id", "unknown"),
    [
        ("apex-intraday-50k", []),
        ("apex-intraday-100k", ["activation"]),
        ("lucid-flex-50k", []),
        ("lucid-flex-25k", ["price"]),
    ],
)
def test_a_cost_that_is_not_known_is_told(id: str, unknown: list[str]) -> None:
    found = estimate_odds(trader(1), load_rulebook(id), None, SMALL)  # type: ignore[arg-type]
    told = [note for note in found.notes if note.endswith("is not known; taken as 0.")]
    assert told == [f"The {name} of {id} is not known; taken as 0." for name in unknown]


def test_settings_and_books_are_checked() -> None:
    with pytest.raises(ConfigError, match="n_lives was 10"):
        OddsSettings(n_lives=10)
    with pytest.raises(ConfigError, match="without a target"):
        estimate_odds(coin(0.5, 100), XFA)
    with pytest.raises(ConfigError, match=r"block length was 0\.5"):
        estimate_odds(coin(0.5, 100), COMBINE, None, replace(SMALL, block_days=0.5))
    with pytest.raises(ConfigError, match=r"block length was 0"):
        estimate_odds(coin(0.5, 100), COMBINE, None, replace(SMALL, block_days=0.0))
    with pytest.raises(ConfigError, match="size was 0"):
        estimate_odds(coin(0.5, 100), COMBINE, None, replace(SMALL, sizes=(0.0,)))


def write_run(folder: Path, **changes: np.ndarray) -> Path:
    """A run of three episodes; the second shares dates with the first."""
    day = 86_400 * 10**9
    start = 20_213 * day + 15 * 3600 * 10**9  # Monday 2025-05-05, 11:00 ET
    entry = start + day * np.array([0, 1, 1, 2, 3])
    columns = {
        "entry_ns": entry,
        "exit_ns": entry + 60 * 10**9,
        "pnl_mills": np.array([100, -200, 300, 400, 500]) * 1000,
        "commission_mills": np.full(5, 4000),
        "mae_mills": np.array([10, 250, 0, 0, 0]) * 1000,
        "mfe_mills": np.array([150, 0, 310, 420, 510]) * 1000,
        "qty": np.ones(5, np.int64),
        "episode": np.array([0, 0, 1, 1, 2]),
        "symbol": np.array(["ES"] * 5),
        **changes,
    }
    np.savez_compressed(folder / "trips.npz", **columns)
    return folder


def test_a_run_counts_every_date_once(tmp_path: Path) -> None:
    source = days_from_run(write_run(tmp_path), COMBINE)
    # Episode 1 begins on the date on which episode 0 ends, so 0 and 2 are kept.
    assert source.day_net_mills.tolist() == [100_000, -200_000, 500_000]
    assert (len(source), source.n_traded, source.starts) == (3, 3, (0, 2))
    assert source.gross_mills.tolist() == [104_000, -196_000, 504_000]
    assert source.low_mills[0].tolist() == [-10_000, -250_000, 0]
    assert "2 of 3 episodes" in source.note
    assert "days before and after an episode's trades are lost" in source.note


def test_only_days_that_a_run_lived_through_count(tmp_path: Path) -> None:
    monday = 20_213
    # Episode 2 begins a year later and lives a week; episode 3 follows it and never trades.
    entry = (monday + np.array([0, 1, 1, 2, 366])) * 86_400 * 10**9 + 15 * 3600 * 10**9
    write_run(tmp_path, entry_ns=entry, exit_ns=entry + 60 * 10**9)
    rows = bare_table(
        np.zeros(4, bool),
        monday + np.array([0, 1, 364, 371]),
        n_days=np.array([3, 2, 5, 2]),
        n_trips=np.array([2, 2, 1, 0]),
        policy=AGENT,
        path="worst",
    )
    append_evaluation(tmp_path / "evaluations.npz", [rows])
    source = days_from_run(tmp_path, COMBINE)
    lived = [0, 1, 2, 364, 365, 366, 367, 368, 371, 372]
    assert (source.day - monday).tolist() == lived
    assert source.n_traded == 3
    # A weekend is no gap.
    assert source.starts == (0, 3)
    assert "3 of 4 episodes" in source.note
    assert "lost" not in source.note
    (tmp_path / "evaluations.npz").unlink()
    append_evaluation(tmp_path / "evaluations.npz", [rows.select(np.arange(3))])
    assert days_from_run(tmp_path, COMBINE).n_traded == 3
    (tmp_path / "evaluations.npz").unlink()
    append_evaluation(tmp_path / "evaluations.npz", [rows.select(np.arange(2))])
    with pytest.raises(RunError, match=r"2 episodes with 4 round trips, trips\.npz 5 of others"):
        days_from_run(tmp_path, COMBINE)


def test_no_block_joins_days_that_lie_apart() -> None:
    starts, n = (0, 3, 7), 12
    draws = Draws(series=np.arange(n)[None], block_days=50, seed=3, starts=starts)
    life = np.arange(4000)
    keys, record_of = draws.keys(life), np.zeros(4000, np.int64)
    place = np.full(4000, -1)
    met = []
    for day in range(60):
        place, source = draws.next(keys, day, place, record_of)
        met.append(source)
    days = np.array(met)
    before, after = days[:-1].ravel(), days[1:].ravel()
    # From the end of a stretch on: a start of any, but for new blocks (1 day in 50).
    follows = np.isin(after, starts)[np.isin(before, (2, 6, 11))]
    assert follows.mean() > 0.97
    onward = np.bincount(after[before == 2], minlength=n)[list(starts)]
    assert onward.min() > 0.3 * onward.sum()
    inside = ~np.isin(before, (2, 6, 11))
    assert (after[inside] == before[inside] + 1).mean() > 0.97
    # Every day is equally likely.
    assert np.bincount(days.ravel()) / days.size == pytest.approx(1 / n, rel=0.05)


def test_shorts_of_a_run_are_sized_as_longs(tmp_path: Path) -> None:
    columns = {"qty": np.array([-1, 1, 1, 1, -7]), "symbol": np.array(["MES"] * 5)}
    source = days_from_run(write_run(tmp_path, **columns), COMBINE)
    assert source.qty.tolist() == [1, 1, 7]
    # The combine allows 50 micros: nothing is cut, and a short earns and loses as it did.
    stage = make_stage(COMBINE, source, PathOrder.WORST)
    assert stage.cut_share == 0.0
    assert stage.gross[stage.gross != 0].tolist() == source.gross_mills.tolist()
    large = days_from_run(write_run(tmp_path, qty=np.array([-10, 1, 1, 1, -5])), COMBINE)
    stage = make_stage(COMBINE, large, PathOrder.WORST)
    assert stage.cut_share == pytest.approx(1 / 3)
    assert stage.gross[stage.gross != 0].tolist() == [52_000, -196_000, 504_000]


def test_broken_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        days_from_run(tmp_path, COMBINE)
    with pytest.raises(RunError, match="columns of"):
        days_from_run(write_run(tmp_path, qty=np.ones(3, np.int64)), COMBINE)
    (tmp_path / "trips.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(RunError, match="cannot be read"):
        days_from_run(tmp_path, COMBINE)


def test_the_command(tmp_path: Path, passline_command: object) -> None:
    assert callable(passline_command)
    rng = np.random.default_rng(0)
    rows = ["entry_time,exit_time,symbol,side,qty,entry_price,exit_price,mae_usd,mfe_usd"]
    for day in range(5, 31):
        ticks = int(rng.normal(5, 40))
        mae, mfe = max(-ticks, 0) * 12.5 + 50, max(ticks, 0) * 12.5 + 50
        if np.is_busday(f"2025-05-{day:02d}"):
            stamp = f"2025-05-{day:02d}T10:00-04:00,2025-05-{day:02d}T10:30-04:00"
            rows.append(f"{stamp},ES,long,1,5500,{5500 + ticks / 4},{mae},{mfe}")
    path = tmp_path / "fills.csv"
    path.write_text("\n".join(rows) + "\n")
    options = ("--rulebook", "topstep-combine-50k", "--paths", 500, "--seed", 3)
    code, out, _ = passline_command("odds", path, *options, "--json")
    assert code == 0
    for word in ('"pass_rate_low"', '"cost_to_pass_usd"', '"funded": "topstep-xfa-50k"'):
        assert word in out
    code, text, _ = passline_command("odds", path, *options)
    assert code == 0
    assert "pass rate" in text
    assert "how attempts end" in text
    code, text, error = passline_command("odds", write_run(tmp_path), *options[:2], "--paths", 1)
    assert (code, text) == (2, "")
    assert "n_lives was 1" in error
    code, text, _ = passline_command("odds", write_run(tmp_path), *options, "--funded", "none")
    assert code == 0
    assert "no funded stage" in text
    path.write_text("\n".join(rows[:2]) + "\n")
    code, text, _ = passline_command("odds", path, *options)
    assert code == 0
    assert "(bounds not known)" in text


def test_portions_of_lives_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found().to_dict()
    monkeypatch.setattr("passline.evaluate.odds.simulate._PORTION", 333)
    assert found().to_dict() == whole
