"""Several markets in one run: own contract and costs, verdicts by market, one left out."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from passline import pipeline
from passline.cli import main
from passline.cli.markets import leave_each_out
from passline.config import from_plain
from passline.errors import BarsError, ConfigError
from passline.evaluate.by_market import verdicts_by_market
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import SliceConfig, evaluation_starts, split
from passline.evaluate.table import load_evaluations
from passline.evaluate.verdict import verdict
from passline.learn import network
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load.parquet import write_bars
from passline.market.synthetic import synthesize
from passline.runs import open_run
from passline.task.actions import N_ACTIONS
from passline.task.phases import Phase
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params, prepare
from test_pipeline import BOOK, SETTINGS, Quiet

CUT = SliceConfig(test_days=40, gate_days=36, final_days=0)


def as_contract(bars: Bars, symbol: str) -> Bars:
    return replace(bars, contract=find_contract(symbol))


@pytest.fixture(scope="module")
def two(market, null_market, prepared) -> Prepared:
    """The same minutes, once with an edge as NQ and once without as MCL."""
    bars = [as_contract(market.bars, "NQ"), as_contract(null_market.bars, "MCL")]
    return prepare(bars, prepared.rulebook, prepared.config)


@pytest.mark.parametrize("which", [0, 1])
def test_a_market_among_others_is_played_as_it_is_alone(
    two: Prepared, phases: dict[str, Phase], which: int
) -> None:
    """Tape, contract, costs, features and sizes are its own: every number of every episode."""
    weights = network.init_params(jax.random.key(1), len(OBSERVATION_NAMES), N_ACTIONS, (8, 8))
    policy = scripted(PolicyKind.RANDOM_LEGAL, weights)
    alone = prepare([two.bars[which]], two.rulebook, two.config)
    played = []
    for world, number in ((two, which), (alone, 0)):
        cut = split(world, CUT)
        params = phase_params(world, phases["account"], cut.train)
        own = [part for part in cut.test if part.market == number]
        starts = evaluation_starts(world, own, n=8, span_days=5, seed=3)
        begun = begin_at(params, starts)
        played.append(play_episodes(params, network.act_greedy, policy, begun, seed=2))
    joint, single = played
    offset = two.offsets[which]
    for name, values in joint._asdict().items():
        other = getattr(single, name)
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(other), strict=True):
            shift = offset if name == "start_bar" else 0
            if name != "sim":
                np.testing.assert_array_equal(np.asarray(a) - shift, b, err_msg=name)
    for name in ("balance", "commissions", "outcome", "done_reason"):
        np.testing.assert_array_equal(getattr(joint.sim, name), getattr(single.sim, name))
    assert joint.n_trips.sum() > 50


def test_the_two_markets_cost_differently(two: Prepared) -> None:
    """So that the equality above is one of two different things."""
    markets = two.markets
    assert markets.tick_mills.tolist() == [5000, 1000]
    assert len(set(markets.commission_mills.tolist())) == 2


@pytest.mark.parametrize("symbol", ["NQ", "MCL"])
def test_a_market_left_out_is_neither_trained_on_nor_gated_and_alone_judged(
    two: Prepared, symbol: str
) -> None:
    whole = split(two, CUT)
    cut = split(two, replace(CUT, leave_out=symbol))
    out = [b.contract.symbol for b in two.bars].index(symbol)
    of_bar = two.compiled.market
    assert {int(of_bar[bar]) for part in cut.train for bar in (part[0], part[1] - 1)} == {1 - out}
    assert {part.market for part in cut.gate} == {1 - out}
    assert {part.market for part in cut.test} == {out}
    assert set(cut.train) < set(whole.train)
    assert set(cut.gate) < set(whole.gate)
    assert set(cut.test) < set(whole.test)


def test_the_dates_judged_on_one_market_are_trained_on_in_none(two: Prepared) -> None:
    day = two.compiled.tape.day
    for config in (CUT, replace(CUT, leave_out="NQ")):
        cut = split(two, config)
        last_trained = max(int(day[stop - 1]) for _, stop in cut.train)
        assert last_trained + CUT.embargo_days < min(int(day[s.first_bar]) for s in cut.gate)
        assert last_trained + CUT.embargo_days < min(int(day[s.first_bar]) for s in cut.test)


def test_a_market_that_ends_before_the_held_out_days_is_only_trained_on(two: Prepared) -> None:
    short = two.bars[1].slice(0, len(two.bars[1]) * 6 // 10)
    world = prepare([two.bars[0], short], two.rulebook, two.config)
    cut = split(world, replace(CUT, test_days=30, gate_days=24))
    assert {part.market for part in (*cut.gate, *cut.test)} == {0}
    assert len(cut.train) == 2
    with pytest.raises(ConfigError, match="no test slice lies on MCL, which is left out"):
        split(world, replace(CUT, test_days=30, gate_days=24, leave_out="MCL"))


@pytest.mark.parametrize("symbol", ["ES", "nq"])
def test_leaving_out_a_market_that_is_not_there_is_refused(two: Prepared, symbol: str) -> None:
    with pytest.raises(ConfigError, match=f"leave_out was '{symbol}', the markets NQ, MCL"):
        split(two, replace(CUT, leave_out=symbol))


def test_the_only_market_cannot_be_left_out(prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match="at least two contracts"):
        split(prepared, replace(CUT, leave_out="SYN"))


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[str, Any]:
    """Settings with two bar files of different contracts."""
    folder = tmp_path_factory.mktemp("several")
    book = folder / "short.toml"
    book.write_text(BOOK)
    market = from_plain({"market": SETTINGS["market"]}, "test").market
    assert market is not None
    names = []
    for seed, symbol in ((0, "ES"), (1, "CL")):
        made = synthesize(market, seed=seed)
        names.append(str(folder / f"{symbol}.parquet"))
        write_bars(as_contract(made.bars, symbol), Path(names[-1]))
    rest = {key: value for key, value in SETTINGS.items() if key != "market"}
    rest["slices"] = {**rest["slices"], "final_days": 0}
    return rest | {"bars": names, "rulebook": str(book)}


def test_a_market_given_twice_is_refused(given, tmp_path) -> None:
    again = tmp_path / "again.parquet"
    again.write_bytes(Path(given["bars"][0]).read_bytes())
    for second in (given["bars"][0], str(again)):
        with pytest.raises(BarsError, match=r"holds the bars of .*ES\.parquet once more"):
            pipeline.plan_job(from_plain(given | {"bars": [given["bars"][0], second]}, "test"))


def test_a_contract_of_other_prices_is_not_traded_on_the_bars(given) -> None:
    """NQ has the tick of ES, of another value; MES is a tenth of it."""
    own = given | {"bars": given["bars"][:1]}
    with pytest.raises(BarsError, match="NQ and the bars of ES do not trade at the same prices"):
        pipeline.plan_job(from_plain(own | {"trade_as": "NQ"}, "test"))
    plan = pipeline.plan_job(from_plain(own | {"trade_as": "MES"}, "test"))
    assert plan.prepared.bars[0].contract.symbol == "MES"


@pytest.fixture(scope="module")
def finished(given, tmp_path_factory) -> pipeline.Outcome:
    job = pipeline.start_job(from_plain(given, "test"), root=tmp_path_factory.mktemp("runs"))
    return pipeline.run_job(job, Quiet(), forced=True)


def test_a_run_on_two_markets_records_them_and_is_judged_by_market(finished) -> None:
    run = finished.run
    manifest = tomllib.loads((run.path / "run.toml").read_text())
    assert manifest["markets"] == ["ES", "CL"]
    assert [entry["contract"] for entry in manifest["data"].values()] == ["ES", "CL"]
    assert manifest["seeds"]["training"] == 0
    table = load_evaluations(run.path / "evaluations.npz")
    assert set(table.market) == {"ES", "CL"}
    assert set(finished.markets) == {"ES", "CL"}
    counts = [found.agent.pass_rate.n for found in finished.markets.values()]
    assert sum(counts) == finished.verdict.agent.pass_rate.n
    stored = json.loads((run.path / "verdict.json").read_text())["markets"]
    assert {symbol: own["verdict"] for symbol, own in stored.items()} == {
        symbol: found.word.value for symbol, found in finished.markets.items()
    }


def test_a_verdict_by_market_is_the_verdict_on_its_rows_alone(finished) -> None:
    table = load_evaluations(finished.run.path / "evaluations.npz")
    found = verdicts_by_market(table, span_days=5)
    for symbol, own in found.items():
        assert own == verdict(table.select(table.market == symbol), span_days=5)
    assert verdicts_by_market(table.select(table.market == "ES"), span_days=5) == {}


def test_evaluate_shows_each_market(finished, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(finished.run.path)])
    assert not stop.value.code
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if " found " in line} >= {"ES", "CL"}
    assert any("judged at its own 95 %" in line for line in lines)


def test_each_market_is_left_out_in_turn_by_one_command(given, finished, tmp_path, capsys) -> None:
    """A run each, trained on the other market and judged on it; the table names all of them."""
    jobs: dict[str, pipeline.Job] = {}

    def play(job: pipeline.Job) -> pipeline.Outcome:
        jobs[job.config.slices.leave_out] = job
        return replace(finished, run=job.run, stopped_at=None)

    leave_each_out(from_plain(given, "test"), play, root=tmp_path, name="lomo", as_json=False)
    out = capsys.readouterr().out
    assert list(jobs) == ["ES", "CL"]
    for (symbol, job), other in zip(jobs.items(), ("CL", "ES"), strict=True):
        manifest = open_run(job.run.path).manifest
        assert manifest["lineage"]["trained_on"] == [other]
        assert manifest["lineage"]["judged_on"] == [symbol]
        assert all(f"-{symbol}-" in name for name in manifest["lineage"]["test_slices"])
        assert job.run.id in out


def test_leaving_out_each_of_one_market_is_refused(given, tmp_path) -> None:
    config = from_plain(given | {"bars": given["bars"][:1]}, "test")
    with pytest.raises(ConfigError, match="at least two contracts; given: ES"):
        leave_each_out(config, lambda job: None, root=tmp_path, name=None, as_json=True)
