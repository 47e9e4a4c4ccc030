import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.learn import network

F, A, L = 5, 7, 4096


@pytest.fixture
def params() -> network.Params:
    return network.init_params(jax.random.key(0), F, A, (16, 8))


def lanes(seed: int) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 2)
    mask = jax.random.bernoulli(keys[1], 0.4, (L, A)).at[:, 3].set(True)
    return jax.random.normal(keys[0], (L, F)), mask


def plain_logits(params: network.Params, obs: np.ndarray, name: str) -> np.ndarray:
    net = {key: np.asarray(value, np.float64) for key, value in params[name].items()}
    hidden = np.tanh(np.tanh(obs @ net["w0"].T + net["b0"]) @ net["w1"].T + net["b1"])
    return np.asarray(hidden @ net["w2"].T + net["b2"])


def test_both_networks_equal_plain_numpy(params: network.Params) -> None:
    obs, _ = lanes(1)
    actor = plain_logits(params, np.asarray(obs, np.float64), "actor")
    critic = plain_logits(params, np.asarray(obs, np.float64), "critic")
    np.testing.assert_allclose(network.policy_logits(params, obs), actor, atol=1e-5)
    np.testing.assert_allclose(network.critic_values(params, obs), critic, atol=1e-5)


def test_spelled_out_gradients_equal_automatic_ones(params: network.Params) -> None:
    obs, mask = lanes(2)
    action = jnp.argmax(mask, axis=1).astype(jnp.int32)

    def score(params: network.Params) -> jax.Array:
        log_prob, entropy, value = network.evaluate_actions(params, obs, mask, action)
        return jnp.mean(log_prob + 0.3 * entropy + value**2)

    def plain_net(net: dict[str, jax.Array]) -> jax.Array:
        hidden = jnp.tanh(obs @ net["w0"].T + net["b0"])
        return jnp.tanh(hidden @ net["w1"].T + net["b1"]) @ net["w2"].T + net["b2"]

    def plain(params: network.Params) -> jax.Array:
        logits = jnp.where(mask, plain_net(params["actor"]), -jnp.inf)
        log_probs = jnp.where(mask, jax.nn.log_softmax(logits, axis=1), 0.0)
        entropy = -jnp.sum(jnp.where(mask, jnp.exp(log_probs) * log_probs, 0.0), axis=1)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], axis=1)[:, 0]
        return jnp.mean(log_prob + 0.3 * entropy + plain_net(params["critic"]) ** 2)

    ours, theirs = jax.jit(jax.grad(score))(params), jax.jit(jax.grad(plain))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, theirs)


def test_gradient_reaches_every_array(params: network.Params) -> None:
    obs, mask = lanes(3)
    action, _ = network.act(params, obs, mask, jax.random.key(0))

    def score(params: network.Params) -> jax.Array:
        log_prob, _, value = network.evaluate_actions(params, obs, mask, action)
        return jnp.mean(log_prob * obs[:, 0] + value * obs[:, 1])

    for grad in jax.tree.leaves(jax.jit(jax.grad(score))(params)):
        assert jnp.all(jnp.isfinite(grad))
        assert jnp.any(grad != 0.0)


def test_illegal_actions_are_never_drawn_nor_picked(params: network.Params) -> None:
    _, mask = lanes(4)
    # Logits that push hard toward illegal actions, and an input large enough to saturate.
    params["actor"]["b2"] = jnp.linspace(-60.0, 60.0, A)
    obs = 1e3 * lanes(4)[0]
    for seed in range(20):
        action, log_prob = network.act(params, obs, mask, jax.random.key(seed))
        assert jnp.all(jnp.take_along_axis(mask, action[:, None], axis=1))
        assert jnp.all(jnp.isfinite(log_prob))
    greedy = network.act_greedy(params, obs, mask)
    assert jnp.all(jnp.take_along_axis(mask, greedy[:, None], axis=1))


@pytest.mark.parametrize("uniform", [0.0, 2.0**-23, 0.5, 1.0 - 2.0**-23])
def test_extreme_draws_stay_legal(uniform: float) -> None:
    _, mask = lanes(5)
    logits = 30.0 * jax.random.normal(jax.random.key(5), (A, L))
    log_probs = network.masked_log_softmax_t(logits, mask.T)
    action, _ = network.sample_t(log_probs, jnp.full((L,), uniform))
    assert jnp.all((action >= 0) & (action < A))
    assert jnp.all(jnp.take_along_axis(mask, action[:, None], axis=1))


def test_only_one_legal_action_is_certain(params: network.Params) -> None:
    obs, _ = lanes(6)
    mask = jnp.arange(A)[None, :] == (jnp.arange(L) % A)[:, None]
    action, log_prob = network.act(params, obs, mask, jax.random.key(0))
    entropy = network.evaluate_actions(params, obs, mask, action)[1]
    assert jnp.all(action == jnp.arange(L) % A)
    assert jnp.all(log_prob == 0.0)
    assert jnp.all(entropy == 0.0)


def test_draws_follow_the_probabilities() -> None:
    probs = jnp.array([0.5, 0.0, 0.2, 0.3])
    n = 200_000
    logits = jnp.broadcast_to(jnp.log(jnp.maximum(probs, 1e-3))[:, None], (4, n))
    log_probs = network.masked_log_softmax_t(logits, (probs > 0)[:, None])
    action, _ = network.sample_t(log_probs, jax.random.uniform(jax.random.key(0), (n,)))
    shares = np.bincount(np.asarray(action), minlength=4) / n
    np.testing.assert_allclose(shares, probs, atol=5 * 0.5 / np.sqrt(n))
    assert shares[1] == 0.0


def test_packed_masks_come_back() -> None:
    mask = jax.random.bernoulli(jax.random.key(0), 0.5, (100, 32))
    assert jnp.all(network.unpack_mask_t(network.pack_mask(mask), 32) == mask.T)
