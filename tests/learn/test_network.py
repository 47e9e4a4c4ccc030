from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.learn import mlp, network

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


def test_first_weights_are_orthogonal_with_their_gains() -> None:
    params = network.init_params(jax.random.key(3), 20, 7, (32, 12))
    shapes = [(32, 20), (12, 32), (7, 12)]
    gains = [2**0.5, 2**0.5, 0.01]
    for i, (shape, gain) in enumerate(zip(shapes, gains, strict=True)):
        w = np.asarray(params["actor"][f"w{i}"])
        assert w.shape == shape
        tall = (w if shape[0] >= shape[1] else w.T) / gain
        np.testing.assert_allclose(tall.T @ tall, np.eye(min(shape)), atol=1e-5)
        drawn = jax.nn.initializers.orthogonal(gain)
        key = jax.random.split(jax.random.split(jax.random.key(3))[0], 3)[i]
        np.testing.assert_allclose(w, drawn(key, shape, jnp.float32), atol=2e-6)
    assert params["critic"]["w2"].shape == (12,)
    np.testing.assert_allclose(np.linalg.norm(params["critic"]["w2"]), 1.0, atol=1e-5)


def test_bfloat16_is_usual_only_where_the_processor_says_it_has_it(tmp_path: Path) -> None:
    flags = tmp_path / "cpuinfo"
    assert mlp.usual_precision(flags) == "float32"
    flags.write_text("flags : avx2 avx512f avx512bw")
    assert mlp.usual_precision(flags) == "float32"
    flags.write_text("flags : avx2 avx512f avx512_bf16 amx_tile")
    assert mlp.usual_precision(flags) == "bfloat16"


def wide_loss(net: mlp.Net, obs: jax.Array, precision: mlp.Precision) -> jax.Array:
    return jnp.mean(jnp.square(mlp.outputs_t(net, obs, precision) - jnp.cos(obs[:, 0])))


@pytest.mark.parametrize("name", ["actor", "critic"])
def test_bfloat16_products_take_rounded_operands_and_add_up_in_float32(
    params: network.Params, name: str
) -> None:
    obs, _ = lanes(7)
    net = params[name]

    def rounded(x: jax.Array) -> np.ndarray:
        return np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32), np.float64)

    hidden, n_rounded = rounded(obs).T, 3 if name == "actor" else 2
    for i in range(3):
        is_rounded = i < n_rounded
        w = rounded(net[f"w{i}"]) if is_rounded else np.asarray(net[f"w{i}"], np.float64)
        out = w @ hidden + np.asarray(net[f"b{i}"], np.float64)[..., None]
        hidden = np.tanh(out)
        if i + 1 < n_rounded:
            hidden = rounded(jnp.asarray(hidden, jnp.float32))
    got = jax.jit(mlp.outputs_t, static_argnums=2)(net, obs, "bfloat16")
    # An activation that lies next to a tie may round the other way: one part in 256 of it.
    np.testing.assert_allclose(got, out.squeeze(), atol=4e-3)
    assert np.mean(np.abs(got - out.squeeze()) > 1e-5) < 0.05
    exact = mlp.outputs_t(net, obs, "float32")
    assert np.mean(np.abs(got - exact) > 1e-5) > 0.5


@pytest.mark.parametrize("name", ["actor", "critic"])
def test_bfloat16_gradients_stray_less_than_a_hundredth(params: network.Params, name: str) -> None:
    obs, _ = lanes(8)
    grad = jax.jit(jax.grad(wide_loss), static_argnums=2)
    exact, ours = (grad(params[name], obs, p) for p in ("float32", "bfloat16"))
    for key in exact:
        assert ours[key].dtype == jnp.float32
        stray = jnp.linalg.norm(ours[key] - exact[key]) / jnp.linalg.norm(exact[key])
        assert 0.0 < stray < 0.01, (key, stray)


def test_packed_observations_give_the_same_bits(params: network.Params) -> None:
    obs, _ = lanes(9)
    stored = mlp.packed(obs, "bfloat16")
    assert stored.nbytes == obs.nbytes // 2
    assert mlp.packed(obs, "float32") is obs

    def score(net: mlp.Net, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(mlp.outputs_t(net, x, "bfloat16")))

    grad = jax.jit(jax.value_and_grad(score))
    whole, half = grad(params["actor"], obs), grad(params["actor"], stored)
    jax.tree.map(np.testing.assert_array_equal, whole, half)


def test_rounding_equals_the_conversion_of_jax() -> None:
    bits = jax.random.bits(jax.random.key(0), (1 << 16,), jnp.uint32)
    drawn = jax.lax.bitcast_convert_type(bits, jnp.float32)
    ties = jax.lax.bitcast_convert_type(
        (bits & jnp.uint32(0xFFFF0000)) | jnp.uint32(0x8000), jnp.float32
    )
    known = jnp.array([0.0, -0.0, 1.0, jnp.inf, -jnp.inf, 3.4028235e38, 1e-40])
    for x in (drawn[~jnp.isnan(drawn)], ties[~jnp.isnan(ties)], known):
        ours, theirs = mlp.round_bfloat16(x), x.astype(jnp.bfloat16)
        np.testing.assert_array_equal(ours.view(jnp.uint16), theirs.view(jnp.uint16))
        np.testing.assert_array_equal(mlp.widen(ours), ours.astype(jnp.float32))
    assert jnp.isnan(mlp.round_bfloat16(jnp.float32(jnp.nan)))


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


def test_opened_actions_begin_below_their_stand_ins_and_the_greedy_policy_stays(
    params: network.Params,
) -> None:
    obs, _ = lanes(8)
    opened = network.open_actions(params, {1: 0, 4: 3}, 5.0)
    before, after = (np.asarray(network.policy_logits(p, obs)) for p in (params, opened))
    np.testing.assert_array_equal(after[:, [0, 2, 3]], before[:, [0, 2, 3]])
    np.testing.assert_allclose(after[:, [1, 4]], before[:, [0, 3]] - 5.0, atol=1e-5)
    known = jnp.asarray(np.isin(np.arange(A), [0, 2, 3]))[None].repeat(L, 0)
    chosen = network.act_greedy(params, obs, known)
    is_new = jnp.asarray(np.isin(np.arange(A), [0, 1, 2, 3, 4]))[None].repeat(L, 0)
    np.testing.assert_array_equal(network.act_greedy(opened, obs, is_new), chosen)
    for name, value in params["critic"].items():
        assert value is opened["critic"][name]


def test_an_actor_without_an_input_does_not_see_it(params: network.Params) -> None:
    obs, _ = lanes(9)
    blind = network.without_inputs(params, (0, 2))
    other = obs.at[:, jnp.asarray([0, 2])].add(3.0)
    same = network.policy_logits(blind, obs)
    np.testing.assert_array_equal(network.policy_logits(blind, other), same)
    assert not np.array_equal(network.policy_logits(blind, obs.at[:, 1].add(3.0)), same)
