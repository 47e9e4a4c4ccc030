"""Reward terms: each fires in a scripted episode, and the weighted sum is the reward."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import N_LANES, Step, drive, often_in
from passline.sim.layout import NEVER, DoneReason, OrderKind, Outcome, TargetTest
from passline.sim.step import start
from passline.task.actions import action_index
from passline.task.env import begin
from passline.task.reward import REWARD_TERMS, RUIN, RewardWeights, potential, trip_utility

N_STEPS = 400
TERMS_OF = {
    "entry": ("trip_utility",),
    "manage": ("trip_utility", "breach"),
    "account": ("potential",),
    "by equity": ("equity", "breach"),
}


def tight(params: Any) -> Any:
    """Makes accounts pass and breach within a few hundred bars."""
    unit = jnp.int32(300_000)
    start_at = params.rules.start_balance
    rules = params.rules._replace(
        allowance=unit, lock_trigger=jnp.int32(NEVER), target_balance=start_at + 150_000
    )
    return params._replace(rules=rules, bracket=params.bracket._replace(unit_mills=unit))


def on_touch(params: Any) -> Any:
    """Tight, and passed as soon as an exit would leave the target."""
    params = tight(params)
    return params._replace(rules=params.rules._replace(target_test=jnp.int32(TargetTest.TOUCH)))


def played(
    of, phase, params_of, env_reset, env_step, env_observe, change=tight
) -> tuple[Any, list[Step]]:
    params = change(params_of(of, phase))
    lanes = env_reset(params, jax.random.key(5), N_LANES)
    return params, drive(env_step, env_observe, params, lanes, often_in(6), N_STEPS)


@pytest.mark.parametrize("name", TERMS_OF)
def test_every_term_of_a_phase_fires_and_their_sum_is_the_reward(
    name, prepared, phases, params_of, env_reset, env_step, env_observe
) -> None:
    by_equity = replace(phases["manage"], reward={"equity": 10.0, "breach": 5.0})
    phase = (phases | {"by equity": by_equity})[name]
    _, steps = played(prepared, phase, params_of, env_reset, env_step, env_observe)
    reward = np.stack([s.reward for s in steps])
    terms = {t: np.stack([getattr(s.info.terms, t) for s in steps]) for t in REWARD_TERMS}
    fired = {t for t, values in terms.items() if (values != 0).any()}
    assert fired == set(TERMS_OF[name])
    total = sum(terms[t].astype(np.float64) for t in REWARD_TERMS)
    np.testing.assert_allclose(reward, total, rtol=0, atol=1e-6)
    assert (reward != 0).sum() > 50


def test_a_round_trip_is_paid_the_utility_of_its_net_result_once(
    prepared, phases, params_of, env_reset, env_step, env_observe
) -> None:
    """Every exit there is pays: what won after costs above 0, what lost below."""
    params, steps = played(
        prepared, phases["entry"], params_of, env_reset, env_step, env_observe, lambda p: p
    )
    n_won, n_lost, wins, held = 0, 0, 0, 0
    for s in steps:
        before, ended = s.before.sim, s.info.n_trips > 0
        is_held = (before.qty != 0) & ~ended
        held += int(is_held.sum())
        assert (s.reward[~ended] == 0).all()
        n_won += int((ended & (s.reward > 0)).sum())
        n_lost += int((ended & (s.reward < 0)).sum())
        wins += int(s.info.n_wins.sum())
        goes_on = ended & ~s.is_terminated & ~s.is_truncated & (before.qty != 0)
        net = s.after.sim.balance - before.trip_balance
        expected = trip_utility(params.bracket, net / np.maximum(before.trip_risk, 1))
        np.testing.assert_allclose(s.reward[goes_on], np.asarray(expected)[goes_on], rtol=1e-5)
    assert n_won == wins > 20
    assert n_lost > 20
    assert held > 500
    assert (np.asarray(params.rules.target_balance) == NEVER).all()


def episodes_of(steps: list[Step]) -> list[tuple[int, int, int]]:
    """(lane, first step, last step) of the episodes that began and ended within the steps."""
    done = np.stack([s.is_terminated | s.is_truncated for s in steps])
    spans = []
    for lane in range(done.shape[1]):
        ends = np.flatnonzero(done[:, lane])
        spans += [(lane, int(a) + 1, int(b)) for a, b in pairwise(ends)]
        if len(ends):
            spans.append((lane, 0, int(ends[0])))
    return spans


def test_the_potential_of_an_episode_sums_to_pass_1_breach_0_less_its_start(
    prepared, phases, params_of, env_reset, env_step, env_observe
) -> None:
    params, steps = played(
        prepared, phases["account"], params_of, env_reset, env_step, env_observe, on_touch
    )
    weight = float(params.weights.potential)
    reward = np.stack([s.reward for s in steps]).astype(np.float64)
    close = np.asarray(params.tape.close)
    tick = int(params.markets.tick_mills[0])
    seen = {Outcome.PASSED: 0, Outcome.BREACHED: 0}
    for lane, first, last in episodes_of(steps):
        sim = jax.tree.map(lambda x, lane=lane: x[lane], steps[first].before.sim)
        equity = sim.balance + sim.qty * (close[sim.bar] - sim.entry) * tick
        goal = int(params.rules.target_balance)
        at_start = np.clip((equity - sim.floor) / (goal - sim.floor), 0, 1)
        reasons = steps[last].info.done_reasons[lane]
        total = reward[first : last + 1, lane].sum() / weight
        if not steps[last].is_terminated[lane]:
            continue
        is_pass = reasons[DoneReason.TARGET] == 1
        seen[Outcome.PASSED if is_pass else Outcome.BREACHED] += 1
        assert total == pytest.approx(float(is_pass) - at_start, abs=1e-4)
    assert min(seen.values()) > 5, seen


def test_the_potential_is_the_way_from_floor_to_target(prepared, phases, params_of) -> None:
    """2,000 of 5,000 USD above the floor at the start, kept when the time is over; 1 if passed."""
    params = params_of(prepared, phases["account"])
    n = 5
    bars = jnp.full(n, 10_000, jnp.int32)
    sim = start(params.tape, params.markets, params.rules, bars, jnp.zeros(n, jnp.int32))
    outcome = jnp.asarray([0, 0, 0, Outcome.PASSED, Outcome.TIMED_OUT], jnp.int32)
    equity = jnp.asarray([48_000_000, 50_500_000, 54_000_000, 50_000_000, 52_000_000], jnp.int32)
    found = potential(
        params.rules, sim._replace(outcome=outcome), equity, params.bracket.unit_mills
    )
    assert found.tolist() == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.8])
    aimless = params.rules._replace(target_balance=jnp.int32(NEVER))
    found = potential(aimless, sim._replace(outcome=outcome * 0), equity, params.bracket.unit_mills)
    assert found[1] == pytest.approx(2.5 / 4)


def test_bets_without_utility_ruin_no_more_often_than_said(prepared) -> None:
    """Gambler's ruin: bets of -1 or +2 R whose utility is 0 lose an allowance with at most RUIN."""
    bracket = prepared.base.bracket
    loss, win = (float(trip_utility(bracket, jnp.float32(r))) for r in (-1.0, 2.0))
    chance = -loss / (win - loss)
    assert 1 / 3 < chance < 0.37
    stakes = round(1000 / int(bracket.risk_permille[0]))
    levels = np.arange(stakes * 40)
    ruin = np.where(levels <= 0, 1.0, 0.0)
    up = np.minimum(levels + 2, len(levels) - 1)
    for _ in range(60_000):
        ruin[1:-1] = (chance * ruin[up] + (1 - chance) * ruin[levels - 1])[1:-1]
    assert RUIN * 0.9 < ruin[stakes] <= RUIN * 1.001


def test_the_utility_of_small_results_is_the_result(prepared) -> None:
    r = jnp.asarray([-500.0, -1.0, 0.0, 0.01, 1.0, 3.0, 1e6])
    found = np.asarray(trip_utility(prepared.base.bracket, r))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found[2] == 0.0
    assert found[3] == pytest.approx(0.01, rel=1e-3)
    assert found[1] < -1.0
    assert found[4] < 1.0


def test_weights_multiply_terms(prepared, phases, params_of, env_step, env_observe) -> None:
    """One scripted position under four weightings: the rewards are those of the terms."""
    base = params_of(prepared, phases["manage"])
    bars = jnp.arange(N_LANES, dtype=jnp.int32) * 40 + 8_000
    sim = start(base.tape, base.markets, base.rules, bars, jnp.zeros_like(bars))
    lanes = begin(base, sim, bars + 200)
    long = action_index(OrderKind.LONG)

    def script(obs: Any, mask: Any, t: int) -> np.ndarray:
        return np.where(
            mask[:, long] & (t % 2 == 0), long, np.where(mask[:, 1] & (t % 7 == 6), 1, 0)
        )

    def total(*weights: float) -> np.ndarray:
        params = base._replace(weights=RewardWeights(*(jnp.float32(w) for w in weights)))
        return np.stack([s.reward for s in drive(env_step, env_observe, params, lanes, script, 60)])

    single = [total(*row) for row in np.eye(5)]
    assert all((part != 0).any() for i, part in enumerate(single) if REWARD_TERMS[i] != "breach")
    weights = (0.5, 1.5, -2.0, 3.0, 4.0)
    mixed = total(*weights)
    expected = sum(w * part for w, part in zip(weights, single, strict=True))
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)
