"""A gate lets a planted edge through and nothing else; each measure has the sign it says."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from driving import follow, score_of
from passline.evaluate.gates import (
    GateResult,
    agent_score,
    gate_starts,
    measure,
    pass_gates,
    trip_r_estimate,
)
from passline.evaluate.slices import Starts
from passline.evaluate.stats import mean_interval
from passline.sim.layout import Outcome
from passline.task.phases import Gate
from passline.task.prepare import prepare

REVERT, CHASE, NEVER = (score_of(vwap_distance=weight) for weight in (-10.0, 10.0, 0.0))
N = 24


@pytest.fixture(scope="module")
def null(null_market, prepared):
    return prepare([null_market.bars], prepared.rulebook, prepared.config)


def gates(of: Any, phase: Any, params_of: Any, cut: Any, network: Any) -> tuple[Any, Any]:
    return pass_gates(
        of, params_of(of, phase), phase, cut, follow, network, CHASE, timesteps=1, seed=5, n=N
    )


def test_entries_on_the_planted_edge_pass_and_on_the_null_do_not(
    prepared, null, phases, params_of, cut
) -> None:
    entry = phases["entry"]
    (edge,), table = gates(prepared, entry, params_of, cut, REVERT)
    (luck,), _ = gates(null, entry, params_of, cut, REVERT)
    (wrong,), _ = gates(prepared, entry, params_of, cut, CHASE)
    assert edge.is_passed, edge.sentence()
    assert not luck.is_passed, luck.sentence()
    assert not wrong.is_passed, wrong.sentence()
    assert edge.estimate.n == N
    assert set(table.policy) == {"agent", "random entry", "previous"}
    assert "gate of phase 'entry' passed" in edge.sentence()
    assert "NOT passed" in luck.sentence()
    assert "accept that these bars hold no edge" in luck.advice


def test_without_a_single_round_trip_no_gate_of_entries_is_passed(
    prepared, phases, params_of, cut
) -> None:
    (result,), _ = gates(prepared, phases["entry"], params_of, cut, NEVER)
    assert result.estimate.value == 0
    assert not result.is_passed


def test_a_phase_may_have_several_gates_on_the_same_episodes(
    prepared, null, phases, params_of, cut
) -> None:
    manage = replace(
        phases["manage"],
        gate=(
            Gate(measure="result", above=0.0, days=0),
            Gate(measure="breach_rate_below_previous", above=-0.1, days=0),
        ),
    )
    (edge, safe), table = gates(prepared, manage, params_of, cut, REVERT)
    (luck, _), _ = gates(null, manage, params_of, cut, REVERT)
    assert edge.is_passed, edge.sentence()
    assert safe.is_passed, safe.sentence()
    assert not luck.is_passed, luck.sentence()
    assert len(table.policy) == 3 * N


def test_gates_play_on_the_gate_slices_alone(prepared, cut) -> None:
    first, last = cut.gate[0].first_bar, cut.gate[-1].end_bar
    for days in (0, 3, None):
        short = replace(prepared, rules=prepared.rules._replace(time_limit_days=np.int32(20)))
        starts = gate_starts(short, cut.gate, days, n=N, seed=1)
        assert (starts.bar >= first).all()
        assert (starts.end_bar <= last).all()


# The measures by hand.


def episodes(outcomes: list[int], **more: Any) -> Any:
    return SimpleNamespace(sim=SimpleNamespace(outcome=np.array(outcomes)), **more)


def starts_on(days: list[int]) -> Starts:
    n = np.zeros(len(days), np.int64)
    return Starts(bar=n, end_bar=n, slice=n.astype(str), market=n, day=np.array(days, np.int64))


PASSED, BREACHED, TIMED = int(Outcome.PASSED), int(Outcome.BREACHED), int(Outcome.TIMED_OUT)


def test_pass_rate_is_the_agents_less_that_of_random_entry(prepared) -> None:
    days = list(range(0, 240, 30))
    both = {
        "agent": episodes([PASSED] * 6 + [BREACHED] * 2),
        "random entry": episodes([PASSED] * 1 + [TIMED] * 7),
    }
    gate = Gate(measure="pass_rate_above_random", above=0.0)
    found = measure(gate, prepared, both, starts_on(days), 1)
    assert found.value == pytest.approx(5 / 8)
    assert found.low <= found.value <= found.high


def test_breach_rate_saved_is_the_previous_policys_less_the_agents(prepared) -> None:
    days = list(range(0, 56, 7))
    both = {
        "agent": episodes([BREACHED] * 1 + [TIMED] * 7),
        "previous": episodes([BREACHED] * 3 + [TIMED] * 5),
    }
    gate = Gate(measure="breach_rate_below_previous", above=0.0, days=7)
    assert measure(gate, prepared, both, starts_on(days), 1).value == pytest.approx(2 / 8)


def test_a_phase_that_left_its_policy_as_it_was_saves_nothing_and_loses_nothing(prepared) -> None:
    """However few the accounts: breaches by the same policy are no risk of the phase's."""
    days = list(range(0, 56, 7))
    ended = episodes([BREACHED] * 3 + [TIMED] * 5, length=np.ones(8))
    gate = Gate(measure="breach_rate_below_previous", above=-0.15, days=7)
    both = {"agent": ended, "previous": ended}
    sampled = measure(gate, prepared, both, starts_on(days), 1)
    known = measure(gate, prepared, both, starts_on(days), 1, is_unchanged=True)
    assert sampled.low < -0.15
    assert (known.low, known.value, known.high) == (0.0, 0.0, 0.0)
    assert known.n == sampled.n


def test_results_of_overlapping_episodes_are_bounded_less_closely() -> None:
    rng = np.random.default_rng(2)
    luck = np.repeat(rng.standard_normal(30), 2)
    sums = np.convolve(luck, np.ones(4), "same").astype(np.float32) + 4
    made = SimpleNamespace(sum_r=sums, n_trips=np.full(60, 4))
    apart, touching = (
        trip_r_estimate(made, np.arange(60) // 4, is_serial=serial) for serial in (False, True)
    )
    assert touching.value == apart.value
    assert touching.low < apart.low


def test_result_is_in_allowances(prepared) -> None:
    equity = np.array([51_000_000, 49_000_000, 52_000_000, 50_000_000])
    both = {"agent": episodes([0] * 4, equity=equity)}
    gate = Gate(measure="result", above=0.0, days=0)
    found = measure(gate, prepared, both, starts_on([1, 2, 3, 4]), 2_000_000)
    assert found.value == pytest.approx((0.5 - 0.5 + 1.0 + 0.0) / 4)


def test_the_agents_own_part_of_a_gate_orders_its_checkpoints(
    prepared, phases, params_of, cut
) -> None:
    """By hand from the stored rows; it is the gate's own figure where that compares nothing."""
    (result,), table = gates(prepared, phases["entry"], params_of, cut, REVERT)
    agent = table.where(policy="agent")
    trips = np.nan_to_num(agent.mean_r) * agent.n_trips
    assert result.agent_value == pytest.approx(trips.sum() / agent.n_trips.sum())
    assert result.agent_value == pytest.approx(result.estimate.value, rel=1e-5)
    ended = replace(agent, outcome=np.resize([PASSED, BREACHED, BREACHED, TIMED], N))
    expected = {
        "result": agent.result_mills.mean() / 2_500_000,
        "breach_rate_below_previous": -0.5,
        "pass_rate_above_random": 0.25,
    }
    for name, value in expected.items():
        assert agent_score(Gate(measure=name, above=0.0), ended, 2_500_000) == pytest.approx(value)
    flat = replace(agent, mean_r=np.full(N, np.nan), n_trips=np.zeros(N, np.int64))
    assert agent_score(Gate(measure="trip_r", above=0.0), flat, 1) == 0


def test_round_trips_are_weighed_by_their_number() -> None:
    """R of +3 over 3 trips on one day and -1 over 1 on another are 2 / 4 a trip, not 0."""
    found = trip_r_estimate(
        SimpleNamespace(sum_r=np.array([3.0, -1.0]), n_trips=np.array([3, 1])), np.array([1, 2])
    )
    assert found.value == pytest.approx(0.5)


@pytest.mark.parametrize("results", [[2.9], [2.9, 2.9], [2.9, 2.8, 2.9], [2.9] * 4])
def test_a_few_lucky_round_trips_pass_no_gate(results) -> None:
    """Each of them by chance 1 in 4 where nothing can be earned: there is no spread to see."""
    sum_r, n_trips = np.zeros(100), np.zeros(100, np.int64)
    sum_r[10 : 10 + len(results)], n_trips[10 : 10 + len(results)] = results, 1
    found = trip_r_estimate(SimpleNamespace(sum_r=sum_r, n_trips=n_trips), np.arange(100))
    made = {"phase": "x", "measure": "trip_r", "agent_value": found.value, "above": 0.0}
    assert not GateResult(**made, estimate=found).is_passed
    assert found.value == pytest.approx(np.mean(results))


def test_round_trips_of_a_single_day_pass_no_gate() -> None:
    sum_r, n_trips = np.zeros(100), np.zeros(100, np.int64)
    sum_r[10], n_trips[10] = 20.0, 10
    found = trip_r_estimate(SimpleNamespace(sum_r=sum_r, n_trips=n_trips), np.arange(100))
    assert (found.low, found.value, found.high) == (-np.inf, 2.0, np.inf)


def test_a_lower_bound_on_the_line_does_not_pass() -> None:
    estimate = mean_interval(np.array([0.5, 0.5, 0.5]), np.arange(3))
    assert estimate.low == 0.5
    made = {"phase": "x", "measure": "result", "estimate": estimate, "agent_value": 0.5}
    assert not GateResult(**made, above=0.5).is_passed
    assert GateResult(**made, above=0.49).is_passed
