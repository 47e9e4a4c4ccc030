"""What holds on the other half of the weeks is kept; what does not ends flat."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.learn import network
from passline.learn.cross_fit import FLAT_BY, CrossFit, cross_fit, stay_flat
from passline.learn.full_information import (
    UNSEEN,
    cut_stretches,
    greedy_results,
    make_exact_update,
)
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper
from passline.task.actions import N_ACTIONS
from passline.task.mirror import MIRROR
from passline.task.prepare import OBSERVATION_NAMES, phase_params

SHAPES = PPOConfig(
    n_lanes=64, rollout_steps=128, minibatch_size=1024, hidden=(16, 16), precision="float32"
)
N_UPDATES = 40


@pytest.fixture(scope="module")
def params(prepared, phases, cut):
    return phase_params(prepared, phases["entry"], cut.train)


@pytest.fixture(scope="module")
def stretches(params, cut):
    return cut_stretches(params, cut.train, SHAPES)


@pytest.fixture(scope="module")
def settings(phases):
    entry = phases["entry"]
    return replace(
        SHAPES, gamma=entry.gamma, learning_rate=3e-3, entropy_coef=0.01, entropy_coef_floor=0.001
    )


def fresh(settings):
    state = init_train_state(
        settings, jnp.zeros(1), len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(0)
    )
    return state._replace(params=network.without_inputs(state.params, UNSEEN))


def cross_fitted(params, stretches, settings) -> CrossFit | None:
    state = fresh(settings)
    return cross_fit(
        params, stretches, settings, state, state.params, n_updates=N_UPDATES, mirror=None
    )


def mixed_up(stretches):
    """Outcomes of each session in another order: what a bar showed tells nothing of them."""
    rng = np.random.default_rng(4)
    order = np.arange(stretches.outcomes.net_r.shape[1])
    for first, n in zip(stretches.first, stretches.n_bars, strict=True):
        order[first : first + n] = rng.permutation(order[first : first + n])
    outcomes = stretches.outcomes
    return stretches._replace(outcomes=outcomes._replace(net_r=outcomes.net_r[:, order]))


def test_a_planted_edge_holds_and_one_that_is_not_there_does_not(
    params, stretches, settings
) -> None:
    found = cross_fitted(params, stretches, settings)
    assert found is not None
    assert found.is_shown
    assert found.estimate.low > 1.0, found
    assert found.scalars()["cross_fit/is_shown"] == 1.0
    nothing = cross_fitted(params, mixed_up(stretches), settings)
    assert not nothing.is_shown, nothing
    again = cross_fitted(params, stretches, settings)
    np.testing.assert_array_equal(again.results, found.results)
    assert again.gain_over(nothing) == found.gain_over(nothing)
    assert found.gain_over(nothing).low > 0 > nothing.gain_over(found).high


def test_too_few_sessions_conclude_nothing(params, stretches, settings) -> None:
    few = stretches._replace(first=stretches.first[:30], n_bars=stretches.n_bars[:30])
    assert cross_fitted(params, few, settings) is None


def test_a_policy_made_flat_enters_on_no_training_day_and_is_else_the_same(
    params, stretches, settings
) -> None:
    state = fresh(settings)
    update = make_exact_update(params, stretches, settings, None)
    for _ in range(N_UPDATES):
        state, _ = update(state, make_hyper(settings))
    before, lead = greedy_results(params, stretches, settings, state.params)
    assert np.count_nonzero(before) > 10
    assert lead > 0
    flat = stay_flat(params, stretches, settings, state.params)
    after, lead = greedy_results(params, stretches, settings, flat)
    assert not after.any()
    assert lead == pytest.approx(-FLAT_BY, abs=1e-3)
    changed = np.flatnonzero(np.asarray(flat["actor"]["b2"] != state.params["actor"]["b2"]))
    assert changed.tolist() == [0]
    for name in ("w0", "b0", "w1", "b1", "w2"):
        np.testing.assert_array_equal(flat["actor"][name], state.params["actor"][name])


def test_halves_are_weeks_of_the_calendar_however_long_the_stretches(
    params, stretches, settings, monkeypatch
) -> None:
    """Stretches cut in two, as sessions of short bars are, keep both parts in one half."""
    half = stretches.n_bars // 2
    pieces = stretches._replace(
        first=np.stack([stretches.first, stretches.first + half], axis=1).reshape(-1),
        n_bars=np.stack([half, stretches.n_bars - half], axis=1).reshape(-1),
    )
    day = np.asarray(params.tape.day)
    known = set(((day[pieces.first] + 3) // 7).tolist())
    learned_from: list[set[int]] = []

    def seen(_, own, __, mirror):
        assert mirror is MIRROR
        learned_from.append(set((day[own.first] + 3).tolist()))
        return lambda state, hyper: (state, {})

    monkeypatch.setattr("passline.learn.cross_fit.make_exact_update", seen)
    state = fresh(settings)
    cross_fit(params, pieces, settings, state, state.params, n_updates=1, mirror=MIRROR)
    weeks = [{d // 7 for d in days} for days in learned_from]
    assert weeks[0].isdisjoint(weeks[1])
    assert weeks[0] | weeks[1] == known
    assert {w % 2 for w in weeks[0]} == {0}
