"""A symmetric policy does upside down what it does upright, and training keeps it so."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import same_bits
from passline.errors import ConfigError
from passline.learn import curriculum, network
from passline.learn.checkpoint import list_checkpoints
from passline.learn.cross_fit import CrossFit
from passline.learn.symmetry import is_symmetric, mirrored, symmetric_part, tied
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
    with pytest.raises(ConfigError, match=r"hidden was \(8, 7\); .*--symmetric never"):
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


def trained(prepared, phases, cut, folder, monkeypatch, symmetric: str, **more):
    config = replace(CONFIG, symmetric=symmetric)
    recorder = Recorder()
    found = train(
        prepared, phases, cut, folder, monkeypatch, recorder, forced=True, config=config, **more
    )
    return found.network, [s for _, _, s in recorder.scalars if "symmetry/free_gain" in s]


@pytest.mark.parametrize("symmetric", ["always", "never"])
def test_a_training_stays_symmetric_to_the_bit_through_its_phases(
    symmetric, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Exact outcomes and rollouts, and the actions that a phase opens."""
    weights, told = trained(prepared, phases, cut, tmp_path, monkeypatch, symmetric)
    assert is_symmetric(weights, MIRROR) is (symmetric == "always")
    assert told == []
    begun = tied(network.init_params(jax.random.key(0), N_INPUTS, N_ACTIONS, PPO.hidden), MIRROR)
    assert not same_bits(weights, begun)


@pytest.mark.parametrize("is_better", [True, False])
def test_the_sides_are_told_apart_only_where_it_is_shown_to_earn_more(
    is_better, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """The weights are then those of a training that never was symmetric; the logs tell it."""
    weeks = np.arange(12)

    def fit(*_, mirror, **__):
        more = is_better and mirror is None
        return CrossFit(results=1.0 + 0.5 * more + 0.01 * np.sin(weeks * (2 - more)), week=weeks)

    monkeypatch.setattr(curriculum, "cross_fit", fit)
    weights, [told] = trained(prepared, phases, cut, tmp_path / "a", monkeypatch, "auto")
    assert told["symmetry/is_symmetric"] == float(not is_better)
    assert (told["symmetry/free_gain_low"] > 0) is is_better
    wanted = "never" if is_better else "always"
    expected, _ = trained(prepared, phases, cut, tmp_path / "b", monkeypatch, wanted)
    assert same_bits(weights, expected)
    for info in list_checkpoints(tmp_path / "a"):
        assert info.meta["is_symmetric"] is not is_better


def test_a_training_that_was_stopped_goes_on_with_the_choice_that_was_made(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Made for the free policy by the data, which the second half is not asked again."""
    weeks = np.arange(12)

    def fit(*_, mirror, **__):
        return CrossFit(results=np.full(12, 1.0 + (mirror is None)), week=weeks)

    monkeypatch.setattr(curriculum, "cross_fit", fit)
    whole, _ = trained(prepared, phases, cut, tmp_path / "whole", monkeypatch, "auto")
    config = replace(CONFIG, symmetric="auto")
    with pytest.raises(KeyboardInterrupt):
        train(
            prepared,
            phases,
            cut,
            tmp_path / "a",
            monkeypatch,
            Recorder(stop_after=3),
            forced=True,
            config=config,
        )
    rest, told = trained(prepared, phases, cut, tmp_path / "a", monkeypatch, "auto")
    assert told == []
    assert same_bits(rest, whole)
    assert not is_symmetric(rest, MIRROR)


def test_weights_taken_over_stay_symmetric_if_they_were(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    free = network.init_params(jax.random.key(5), N_INPUTS, N_ACTIONS, PPO.hidden)
    for name, base in (("free", free), ("tied", tied(free, MIRROR))):
        weights, told = trained(
            prepared, phases, cut, tmp_path / name, monkeypatch, "auto", base=base
        )
        assert told == []
        assert is_symmetric(weights, MIRROR) is (name == "tied")


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ConfigError, match="symmetric was 'no'; allowed: auto, always, never"):
        replace(CONFIG, symmetric="no")
