"""A symmetric policy does upside down what it does upright, and training keeps it so."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import same_bits
from passline.errors import ConfigError
from passline.learn import network
from passline.learn.symmetry import mirrored, symmetric_part, tied
from passline.task.actions import N_ACTIONS
from passline.task.mirror import MIRROR
from passline.task.prepare import OBSERVATION_NAMES
from small_training import CONFIG, PPO, Recorder, train

N_INPUTS = len(OBSERVATION_NAMES)
COLUMN, SIGN, ACTION = map(np.asarray, (MIRROR.column, MIRROR.sign, MIRROR.action))


def drawn(seed: int, hidden: tuple[int, ...]) -> network.Params:
    """Weights and biases that are all different."""
    params = network.init_params(jax.random.key(seed), N_INPUTS, N_ACTIONS, hidden)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + jnp.float32(rng.normal(0, 0.1, p.shape)), params)


@pytest.fixture
def obs() -> jax.Array:
    return jnp.float32(np.random.default_rng(1).normal(size=(40, N_INPUTS)))


@pytest.mark.parametrize("hidden", [(8,), (16, 12), (6, 4, 2)])
def test_the_mirrored_policy_does_upside_down_what_the_policy_does(hidden, obs) -> None:
    params = drawn(2, hidden)
    other, flipped = mirrored(params, MIRROR), obs[:, COLUMN] * jnp.float32(SIGN)
    logits = network.policy_logits(params, obs)
    assert float(jnp.abs(logits - network.policy_logits(params, flipped)[:, ACTION]).max()) > 0.1
    np.testing.assert_allclose(
        network.policy_logits(other, flipped)[:, ACTION], logits, rtol=1e-4, atol=1e-5
    )
    values = network.critic_values(params, obs)
    np.testing.assert_allclose(network.critic_values(other, flipped), values, rtol=1e-4, atol=1e-5)
    assert same_bits(mirrored(other, MIRROR), params)


def test_a_tied_policy_is_its_own_mirror_and_as_far_spread_as_it_was_drawn() -> None:
    params = network.init_params(jax.random.key(4), N_INPUTS, N_ACTIONS, (128, 128))
    found = tied(params, MIRROR)
    assert same_bits(mirrored(found, MIRROR), found)
    for net, layers in params.items():
        for name, weights in layers.items():
            if name[0] == "w":
                spread = np.std(found[net][name]) / np.std(weights)
                assert spread == pytest.approx(1.0, abs=0.15), (net, name)


def test_odd_widths_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"hidden was \(8, 7\); .*is_symmetric = false"):
        tied(drawn(0, (8, 7)), MIRROR)


def test_the_symmetric_part_is_the_gradient_over_both_ways_of_seeing(obs) -> None:
    params = tied(drawn(3, (16, 16)), MIRROR)
    weight = jnp.float32(np.random.default_rng(5).normal(size=(len(obs), N_ACTIONS)))

    def paid(params, obs, weight):
        chosen = jnp.sum(jax.nn.softmax(network.policy_logits(params, obs)) * weight)
        return chosen + jnp.sum(network.critic_values(params, obs) * weight[:, 0])

    flipped = obs[:, COLUMN] * jnp.float32(SIGN)
    both = [jax.grad(paid)(params, obs, weight)]
    both.append(jax.grad(paid)(params, flipped, weight[:, ACTION]))
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *both)
    for name in ("actor", "critic"):
        for layer, grads in symmetric_part(both[0], MIRROR)[name].items():
            np.testing.assert_allclose(grads, expected[name][layer], rtol=1e-3, atol=1e-4)
    difference = jnp.abs(both[0]["actor"]["w0"] - expected["actor"]["w0"]).max()
    assert float(difference) > 0.01


@pytest.mark.parametrize("is_symmetric", [True, False])
def test_a_training_stays_symmetric_to_the_bit_through_its_phases(
    is_symmetric, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Exact outcomes and rollouts, and the actions that a phase opens."""
    config = replace(CONFIG, is_symmetric=is_symmetric)
    trained = train(
        prepared, phases, cut, tmp_path, monkeypatch, Recorder(), forced=True, config=config
    )
    assert same_bits(mirrored(trained.network, MIRROR), trained.network) is is_symmetric
    begun = tied(network.init_params(jax.random.key(0), N_INPUTS, N_ACTIONS, PPO.hidden), MIRROR)
    assert not same_bits(trained.network, begun)
