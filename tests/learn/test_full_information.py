"""Exact values against enumeration and against playing; what is refused; what is learned."""

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.errors import ConfigError
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Starts
from passline.learn import network
from passline.learn.full_information import (
    UNSEEN,
    backward_values,
    cut_stretches,
    greedy_results,
    make_exact_update,
)
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper
from passline.sim.layout import BarFlag
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES, phase_params

CONFIG = PPOConfig(
    n_lanes=64, rollout_steps=128, minibatch_size=1024, hidden=(16, 16), learning_rate=3e-3
)


def enumerated(probs, reward, ahead, gamma, t):
    """Value of being flat at t by summing over every sequence of choices."""
    if t >= len(probs):
        return 0.0
    total = probs[t, 0] * gamma * enumerated(probs, reward, ahead, gamma, t + 1)
    for e in range(reward.shape[1]):
        n = int(ahead[t, e])
        later = enumerated(probs, reward, ahead, gamma, t + n)
        total += probs[t, 1 + e] * (gamma ** (n - 1) * reward[t, e] + gamma**n * later)
    return total


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_values_equal_the_sum_over_all_sequences(gamma: float) -> None:
    rng = np.random.default_rng(2)
    probs = rng.dirichlet(np.ones(3), (7, 2)).astype(np.float32)
    reward = rng.normal(size=(7, 2, 2)).astype(np.float32)
    ahead = rng.integers(1, 6, (7, 2, 2)).astype(np.int32)
    values, q = backward_values(*map(jnp.asarray, (probs, reward, ahead)), gamma)
    for t, lane in product(range(7), range(2)):
        right = enumerated(probs[:, lane], reward[:, lane], ahead[:, lane], gamma, t)
        assert float(values[t, lane]) == pytest.approx(right, abs=1e-5)
    np.testing.assert_allclose(np.sum(probs * q, axis=2), values, atol=1e-6)


def test_a_position_costs_the_time_it_takes() -> None:
    """Waiting a bar for 1.0 beats 0.9 now that blocks it, and not 0.9 that ends in time."""
    probs = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    reward = jnp.array([[[0.9]], [[1.0]], [[0.0]]])
    for ahead, better in ((2, "hold"), (1, "entry")):
        n = jnp.array([[[ahead]], [[1]], [[1]]], jnp.int32)
        q = backward_values(probs, reward, n, 1.0)[1][0, 0]
        assert (q[0] > q[1]) == (better == "hold"), q


@pytest.fixture(scope="module")
def stretches(prepared, phases, cut):
    return cut_stretches(phase_params(prepared, phases["entry"], cut.train), cut.train, CONFIG)


def test_stretches_are_the_sessions_of_the_training_range(prepared, cut, stretches) -> None:
    inside = np.concatenate(
        [f + np.arange(n) for f, n in zip(stretches.first, stretches.n_bars, strict=True)]
    )
    expected = np.concatenate([np.arange(a, b) for a, b in cut.train])
    np.testing.assert_array_equal(inside, expected)
    flags = prepared.compiled.tape.flags
    assert ((flags[stretches.first[1:]] & BarFlag.SESSION_START) != 0).all()
    last = max(stop for _, stop in cut.train)
    assert not stretches.outcomes.net_r[:, last:].any()


def learned(prepared, phase, cut, stretches, n: int):
    params = phase_params(prepared, phase, cut.train)
    update = make_exact_update(params, stretches, CONFIG, None)
    state = init_train_state(
        CONFIG, jnp.zeros(1), len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(0)
    )
    rewards = []
    for _ in range(n):
        state, metrics = update(state, make_hyper(replace_gamma(phase)))
        rewards.append(float(metrics["rollout/ep_rew_mean"]))
    return state.params, rewards, metrics


def replace_gamma(phase) -> PPOConfig:
    return replace(CONFIG, gamma=phase.gamma, entropy_coef=0.01)


def test_learns_the_planted_edge_and_not_from_shuffled_outcomes(
    prepared, phases, cut, stretches
) -> None:
    """Expected R a session: untrained below -10, learned above 15; shuffled ends near flat."""
    _, rewards, metrics = learned(prepared, phases["entry"], cut, stretches, 60)
    assert rewards[0] < -10
    assert np.mean(rewards[-5:]) > 15, rewards
    counts = np.asarray(metrics["rollout/action_counts"])
    assert counts.sum() == pytest.approx(float(metrics["rollout/n_decisions"]), rel=1e-3)
    rng = np.random.default_rng(0)
    order = np.arange(stretches.outcomes.net_r.shape[1])
    for first, n in zip(stretches.first, stretches.n_bars, strict=True):
        order[first : first + n] = rng.permutation(order[first : first + n])
    outcomes = stretches.outcomes
    shuffled = stretches._replace(outcomes=outcomes._replace(net_r=outcomes.net_r[:, order]))
    _, blind, _ = learned(prepared, phases["entry"], cut, shuffled, 60)
    assert abs(np.mean(blind[-5:])) < 2, blind


def test_a_phase_whose_outcomes_depend_on_the_account_is_refused(phases) -> None:
    entry = phases["entry"]
    with_floor = {rule: value for rule, value in entry.rules.items() if rule != "floor"}
    for change in (
        {"actions": ("hold", "long", "short", "breakeven")},
        {"reward": {"trip_r": 1.0, "breach": 1.0}},
        {"rules": with_floor},
    ):
        with pytest.raises(ConfigError, match="outcomes that the bars alone decide"):
            replace(entry, **change)
    with pytest.raises(ConfigError, match="learner"):
        replace(entry, learner="guess")
    with pytest.raises(ConfigError, match="learning_rate"):
        replace(entry, learning_rate=(0.0, 0.0))


def test_the_untouched_parts_of_the_network_stay(prepared, phases, cut, stretches) -> None:
    """Actions that the phase forbids keep their output weights: they had probability 0."""
    before = network.init_params(
        jax.random.split(jax.random.key(0), 2)[0], len(OBSERVATION_NAMES), N_ACTIONS, (16, 16)
    )
    after, _, _ = learned(prepared, phases["entry"], cut, stretches, 1)
    forbidden = np.flatnonzero(~np.isin(np.arange(N_ACTIONS), [0, *stretches.entries]))
    moved = np.asarray(after["actor"]["w2"]) != np.asarray(before["actor"]["w2"])
    assert not moved[forbidden].any()
    assert moved[0].any()


def test_nothing_is_learned_about_inputs_that_tell_accounts_apart(
    prepared, phases, cut, stretches
) -> None:
    before = network.init_params(
        jax.random.split(jax.random.key(0), 2)[0], len(OBSERVATION_NAMES), N_ACTIONS, (16, 16)
    )
    after, _, _ = learned(prepared, phases["entry"], cut, stretches, 2)
    moved = np.asarray(after["actor"]["w0"] != before["actor"]["w0"]).any(axis=0)
    assert not moved[list(UNSEEN)].any()
    assert moved[OBSERVATION_NAMES.index("cost_r")]
    assert {OBSERVATION_NAMES[i] for i in UNSEEN} >= {"cushion", "to_target", "is_flat"}


def test_the_greedy_game_equals_playing_it_bar_by_bar(prepared, phases, cut, stretches) -> None:
    """Rewards a stretch by the simulator, entry by entry, against the table's."""
    phase = phases["entry"]
    params = phase_params(prepared, phase, cut.train)
    weights = network.without_inputs(learned(prepared, phase, cut, stretches, 12)[0], UNSEEN)
    results, lead = greedy_results(params, stretches, CONFIG, weights)
    assert np.count_nonzero(results) > 5
    assert lead > 0
    bars = np.asarray(stretches.first, np.int64)
    starts = Starts(
        bar=bars,
        end_bar=bars + stretches.n_bars - 1,
        slice=np.full(len(bars), "train"),
        market=np.zeros(len(bars), np.int64),
        day=prepared.compiled.tape.day[bars].astype(np.int64),
    )
    played = play_episodes(
        params,
        network.act_greedy,
        scripted(PolicyKind.AGENT, weights),
        begin_at(params, starts),
        seed=1,
    )
    np.testing.assert_allclose(played.reward, results, atol=1e-3)
