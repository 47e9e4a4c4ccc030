"""The verdict: never flattering, and a function of the stored table alone."""

import json

import numpy as np
import pytest

from passline.errors import RunError
from passline.evaluate.table import EvaluationTable, join_tables
from passline.evaluate.verdict import (
    GATE_SAID_NO,
    VerdictWord,
    final_phase,
    odds_in_words,
    score_policies,
    verdict,
)
from passline.evaluate.verdict_file import write_verdict
from passline.kinds import Origin
from passline.sim.layout import DoneReason, Outcome

N = 240


def episodes(
    passes: np.ndarray, policy: str = "agent", results_usd: object = None, **more: object
) -> EvaluationTable:
    n = len(passes)
    if results_usd is None:
        results_usd = np.where(passes, 3000, -1200)
    columns = {
        "timesteps": 1000,
        "evaluation": 0,
        "phase": "account",
        "policy": policy,
        "slice": "2022",
        "path": "worst",
        "market": "ES",
        "start_bar": np.arange(n) * 300,
        "start_ns": 0,
        "start_day": 19_000 + np.arange(n) * 3 // 2,
        "seed": 0,
        "result_mills": np.asarray(results_usd) * 1000,
        "reward": passes.astype(float),
        "ep_length": 100,
        "n_days": 5,
        "outcome": np.where(passes, Outcome.PASSED, Outcome.BREACHED),
        "done_reason": np.where(passes, DoneReason.TARGET, DoneReason.FLOOR),
        "n_trips": 0 if policy == "flat" else 9,
        "mean_r": 0.0,
        "action_counts": np.zeros((n, 1), dtype=int),
        "choice_counts": np.zeros((n, 1), dtype=int),
        **dict.fromkeys(("n_invalid", "n_late_flat", "n_ambiguous", "commissions_mills"), 0),
        **dict.fromkeys(("max_equity_mills", "min_cushion_mills"), 0),
        **more,
    }
    return EvaluationTable.build(columns, ["hold"])


def draw(rate: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < rate


def rivals(rate: float = 0.15, **more: object) -> list[EvaluationTable]:
    none = np.zeros(N, dtype=bool)
    return [
        episodes(draw(rate, 1), "random_matched", **more),
        episodes(none, "flat", np.zeros(N, dtype=int), **more),
        episodes(draw(rate, 2), "long", **more),
    ]


def judge(*tables: EvaluationTable, origin: Origin | None = None):
    return verdict(join_tables(tables), span_days=30, origin=origin)


def test_a_clear_edge_is_found_and_told_with_its_sample():
    found = judge(episodes(draw(0.6, 3)), *rivals(), episodes(draw(0.6, 3), path="best"))
    assert found.word is VerdictWord.EDGE
    assert found.rival is not None
    assert found.rival.policy in ("random_matched", "long")
    assert found.rival.advantage.low > 0.2
    rate = found.agent.pass_rate
    for part in (f"{100 * rate.value:.1f}%", f"{100 * rate.low:.1f}%", "n = 240", "worth"):
        assert part in found.sentence
    assert any("not measured" in reason for reason in found.reasons)


def test_where_a_gate_said_no_an_edge_is_undecided():
    refused = Origin(passed_gates=False)
    found = judge(episodes(draw(0.6, 3)), *rivals(), origin=refused)
    assert found.word is VerdictWord.UNDECIDED
    assert found.reasons[0] == GATE_SAID_NO
    assert found.sentence.startswith("Undecided. On data it never saw the agent passed")
    found = judge(episodes(draw(0.15, 3)), *rivals(), origin=refused)
    assert found.word is VerdictWord.NO_EDGE
    assert GATE_SAID_NO not in found.reasons


def test_equal_to_the_baseline_is_no_edge_however_high_the_pass_rate():
    found = judge(episodes(draw(0.6, 3)), *rivals(rate=0.6))
    assert found.word is VerdictWord.NO_EDGE
    assert "cannot be told from" in found.reasons[0]
    assert found.sentence.startswith("No edge found. ")


def test_a_better_pass_rate_that_loses_money_is_no_edge():
    passes = draw(0.4, 3)
    found = judge(episodes(passes, results_usd=np.where(passes, 3000, -2400)), *rivals())
    assert found.agent.pass_rate.value > found.rival.pass_rate.high
    assert found.word is VerdictWord.NO_EDGE
    assert any("mean net result" in reason for reason in found.reasons)


def test_every_baseline_counts_not_only_the_weakest():
    strong = episodes(draw(0.6, 4), "breakout")
    assert judge(episodes(draw(0.6, 3)), *rivals(), strong).word is VerdictWord.NO_EDGE


def test_an_oracle_is_shown_but_not_a_rival():
    oracle = episodes(np.ones(N, dtype=bool), "oracle")
    found = judge(episodes(draw(0.6, 3)), *rivals(), oracle)
    assert found.word is VerdictWord.EDGE
    table = join_tables([episodes(draw(0.6, 3)), *rivals(), oracle])
    assert score_policies(table, span_days=30)[1].policy == "oracle"


@pytest.mark.parametrize(("worst", "best"), [(0.15, 0.6), (0.6, 0.15)])
def test_a_result_that_flips_with_the_path_is_undecided(worst, best):
    found = judge(
        episodes(draw(worst, 3)),
        *rivals(),
        episodes(draw(best, 3), path="best"),
        *rivals(path="best"),
    )
    assert found.word is VerdictWord.UNDECIDED
    assert any("Finer bars" in reason for reason in found.reasons)


def test_nothing_to_compare_or_one_block_of_dates_is_undecided():
    alone = judge(episodes(draw(0.6, 3)))
    assert alone.word is VerdictWord.UNDECIDED
    assert "No baseline" in alone.reasons[0]
    day = {"start_day": 19_000}
    block = judge(episodes(draw(0.6, 3), **day), *rivals(**day))
    assert block.word is VerdictWord.UNDECIDED
    assert "one block of dates" in block.reasons[0]


def test_an_agent_that_never_trades_is_told_so():
    idle = episodes(np.zeros(N, dtype=bool), results_usd=np.zeros(N, dtype=int), n_trips=0)
    found = judge(idle, *rivals(rate=0.0))
    assert found.word is VerdictWord.NO_EDGE
    assert "It never traded." in found.reasons
    assert "passed none of its evaluations" in found.sentence


def test_only_the_latest_evaluation_counts_and_the_order_of_rows_does_not():
    old = episodes(draw(0.9, 5), timesteps=500, evaluation=0)
    new = [episodes(draw(0.15, 3), evaluation=1), *rivals(evaluation=2)]
    table = join_tables([old, *new])
    found = verdict(table, span_days=30)
    assert found.word is VerdictWord.NO_EDGE
    shuffled = table.select(np.random.default_rng(0).permutation(len(table)))
    assert verdict(shuffled, span_days=30).word is found.word
    again = verdict(shuffled, span_days=30).rival.advantage
    assert again.value == pytest.approx(found.rival.advantage.value)


def test_the_final_phase_is_that_of_the_latest_evaluation():
    entry = episodes(draw(0.9, 5), phase="entry", evaluation=0)
    account = episodes(draw(0.2, 6), evaluation=1)
    assert final_phase(join_tables([account, entry])) == "account"


def test_luck_alone_is_called_an_edge_in_at_most_five_of_a_hundred_markets():
    generator = np.random.default_rng(17)
    n_found = 0
    for _ in range(200):
        rates = generator.beta(2, 6, 60)[np.arange(N) * 60 // N]
        tables = [episodes(generator.random(N) < rates), episodes(generator.random(N) < rates, "r")]
        n_found += judge(*tables).word is VerdictWord.EDGE
    assert n_found <= 10


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(RunError, match="no episode of policy 'agent'"):
        judge(*rivals())
    elsewhere = episodes(draw(0.2, 1), "long", start_bar=np.arange(N) + 10**6)
    with pytest.raises(RunError, match="Evaluate both on the same slices"):
        judge(episodes(draw(0.2, 2)), elsewhere)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "none of its"),
        (0.01, "about 1 in 100"),
        (0.31, "about 3 in 10"),
        (0.97, "more than 9 in 10"),
        (1.0, "all of its"),
    ],
)
def test_odds(rate, words):
    assert odds_in_words(rate) == words


@pytest.mark.parametrize(("simple", "says"), [(0.6, "may do as well"), (0.95, "passes more")])
def test_a_simple_strategy_that_is_not_beaten_is_told_and_takes_no_edge_away(simple, says):
    strategy = episodes(draw(simple, 12), "VWAP reversion")
    found = judge(episodes(draw(0.6, 3)), *rivals(), strategy)
    assert found.word is VerdictWord.EDGE
    assert says in found.reasons[0]
    assert "VWAP reversion" in found.sentence
    beaten = judge(episodes(draw(0.6, 3)), *rivals(), episodes(draw(0.1, 9), "VWAP reversion"))
    assert not any("simple strategy" in reason for reason in beaten.reasons)


def test_a_strategy_alone_is_no_baseline():
    found = judge(episodes(draw(0.6, 3)), episodes(draw(0.1, 9), "opening range"))
    assert found.word is VerdictWord.UNDECIDED


def test_the_agent_must_beat_itself_with_shuffled_features():
    same = episodes(draw(0.6, 12), "shuffled features")
    found = judge(episodes(draw(0.6, 3)), *rivals(), same)
    assert found.word is VerdictWord.NO_EDGE
    assert any("shuffled features" in reason for reason in found.reasons)


def test_both_intervals_of_a_difference_are_kept_as_plain_data(tmp_path):
    found = judge(episodes(draw(0.6, 3)), *rivals())
    write_verdict(tmp_path / "verdict.json", found)
    told = json.loads((tmp_path / "verdict.json").read_text())
    assert [p["policy"] for p in told["policies"]] == [s.policy for s in found.scores]
    for told_of, score in zip(told["policies"][1:], found.scores[1:], strict=True):
        for name in ("advantage", "advantage_redrawn", "result_advantage"):
            assert told_of[name]["low"] == pytest.approx(getattr(score, name).low)
        clustered, redrawn = told_of["advantage"], told_of["advantage_redrawn"]
        assert redrawn["value"] == pytest.approx(clustered["value"])
        ratio = (redrawn["high"] - redrawn["low"]) / (clustered["high"] - clustered["low"])
        assert 0.3 < ratio < 3
    assert "advantage" not in told["policies"][0]
