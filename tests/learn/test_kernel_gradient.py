"""The gradient of a minibatch in one pass, against the objective that XLA differentiates."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.learn import kernel, mlp, network, objective
from passline.learn.ppo import PPOConfig, make_hyper
from passline.learn.rollout import Batch

pytestmark = pytest.mark.skipif(
    not kernel.is_ready(), reason="the processor has no products of bfloat16, or no compiler"
)

Found = tuple[network.Params, dict[str, jax.Array]]


def config(**given: Any) -> PPOConfig:
    usual = {"n_lanes": 96, "rollout_steps": 20, "lane_block": 8, "minibatch_size": 640}
    return PPOConfig(precision="bfloat16", **(usual | {"hidden": (64, 32)} | given))


def drawn(cfg: PPOConfig, n_features: int = 21, n_actions: int = 11) -> network.Params:
    params = network.init_params(jax.random.key(0), n_features, n_actions, cfg.hidden)
    key = jax.random.key(5)
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), params)


def played(cfg: PPOConfig, n_features: int = 21, n_actions: int = 11) -> Batch:
    """A rollout drawn at random, with legal actions only; some steps have a single one."""
    shape = (cfg.rollout_steps, cfg.n_lanes)
    rng = np.random.default_rng(n_actions)
    action = rng.integers(0, n_actions, shape)
    legal = rng.random((*shape, n_actions)) < rng.random((*shape, 1))
    legal |= np.arange(n_actions) == action[..., None]
    obs = jnp.asarray(1.5 * rng.standard_normal((*shape, n_features)), jnp.float32)
    floats = (0.5 * rng.standard_normal((4, *shape))).astype(np.float32)
    return Batch(
        obs=mlp.packed(obs, "bfloat16"),
        mask_bits=network.pack_mask(jnp.asarray(legal)),
        action=jnp.asarray(action, jnp.int32),
        log_prob=jnp.asarray(floats[0] - 1.5),
        value=jnp.asarray(floats[1]),
        advantage=jnp.asarray(0.3 + 2.0 * floats[2]),
        value_target=jnp.asarray(floats[3]),
    )


def blocks_of(cfg: PPOConfig) -> jax.Array:
    n = cfg.minibatch_size // (cfg.rollout_steps * cfg.lane_block)
    return jax.random.permutation(jax.random.key(9), cfg.n_lanes // cfg.lane_block)[:n]


def in_one_pass(cfg: PPOConfig, params: network.Params, batch: Batch) -> Found:
    assert objective.is_by_kernel(params, "bfloat16")
    entropy_coef = jnp.float32(cfg.entropy_coef)
    found: Found = jax.jit(
        lambda p, b: objective._gradient(p, b, blocks_of(cfg), cfg, make_hyper(cfg), entropy_coef)
    )(params, batch)
    return found


def by_xla(cfg: PPOConfig, params: network.Params, batch: Batch, precision: str) -> Found:
    """The same minibatch, differentiated; observations widened, so that the kernel is not used."""
    given = PPOConfig(**{**vars(cfg), "precision": precision})
    wide = mlp.widen(jax.lax.bitcast_convert_type(batch.obs, jnp.bfloat16))
    part = objective._take_lanes(batch._replace(obs=wide), blocks_of(cfg), cfg.lane_block)
    found: Found = jax.jit(
        jax.grad(
            lambda p: objective._loss(p, part, given, make_hyper(given), cfg.entropy_coef),
            has_aux=True,
        )
    )(params)
    return found


def stray(found: jax.Array, exact: jax.Array) -> float:
    return float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))


CASES: list[tuple[dict[str, Any], int, int]] = [
    ({}, 21, 11),
    ({"hidden": (128, 128), "minibatch_size": 1920}, 68, 11),
    ({"n_lanes": 6, "lane_block": 3, "rollout_steps": 7, "minibatch_size": 21}, 33, 17),
    ({"n_lanes": 1, "lane_block": 1, "rollout_steps": 3, "minibatch_size": 3}, 1, 2),
    ({"normalize_advantage": "none", "clip_range_value": 0.2, "entropy_coef": 0.3}, 40, 32),
    ({"value_scale": 3.0, "value_coef": 2.0, "clip_range": 0.05, "hidden": (32,)}, 9, 3),
]


@pytest.mark.parametrize(("given", "n_features", "n_actions"), CASES)
def test_it_is_the_gradient_of_the_objective(
    given: dict[str, Any], n_features: int, n_actions: int
) -> None:
    cfg = config(**given)
    params, batch = drawn(cfg, n_features, n_actions), played(cfg, n_features, n_actions)
    grads, terms = in_one_pass(cfg, params, batch)
    exact, exact_terms = by_xla(cfg, params, batch, "float32")
    rounded, _ = by_xla(cfg, params, batch, "bfloat16")
    assert terms.keys() == exact_terms.keys()
    for name, expected in exact_terms.items():
        np.testing.assert_allclose(terms[name], expected, rtol=0.02, atol=0.01, err_msg=name)
    for net, layers in exact.items():
        for name, expected in layers.items():
            assert grads[net][name].shape == expected.shape
            limit = 2.0 * stray(rounded[net][name], expected) + 2.0**-8  # bfloat16's last place
            assert stray(grads[net][name], expected) < limit, (net, name)


def test_where_nothing_is_rounded_it_is_exact() -> None:
    """With no weights in the last layers the outputs are the biases, in float32."""
    cfg = config(clip_range_value=0.3)
    params, batch = drawn(cfg), played(cfg)
    for net in params.values():
        net["w2"] = jnp.zeros_like(net["w2"])
    grads, terms = in_one_pass(cfg, params, batch)
    exact, exact_terms = by_xla(cfg, params, batch, "float32")
    for net in params:
        np.testing.assert_allclose(grads[net]["b2"], exact[net]["b2"], rtol=1e-5, atol=1e-8)
    for name, expected in exact_terms.items():
        np.testing.assert_allclose(terms[name], expected, rtol=2e-6, err_msg=name)


def test_far_ratios_and_sure_choices_stay_finite() -> None:
    cfg = config()
    params, batch = drawn(cfg), played(cfg)
    actor = params["actor"]
    steep = {"actor": actor | {"b2": jnp.linspace(-60.0, 60.0, 11)}, "critic": params["critic"]}
    grads, terms = in_one_pass(cfg, steep, batch._replace(log_prob=batch.log_prob - 20.0))
    exact, exact_terms = by_xla(
        cfg, steep, batch._replace(log_prob=batch.log_prob - 20.0), "float32"
    )
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((grads, terms)))
    for name, expected in exact_terms.items():
        np.testing.assert_allclose(terms[name], expected, rtol=0.05, atol=0.01, err_msg=name)
    np.testing.assert_allclose(grads["actor"]["b2"], exact["actor"]["b2"], rtol=0.2, atol=1e-3)


def test_an_action_that_is_never_legal_has_no_gradient() -> None:
    cfg = config()
    batch = played(cfg)
    without_three = batch.mask_bits & ~jnp.uint32(1 << 3) | jnp.uint32(1)
    action = jnp.where(batch.action == 3, 0, batch.action)
    grads, _ = in_one_pass(cfg, drawn(cfg), batch._replace(mask_bits=without_three, action=action))
    assert not grads["actor"]["w2"][3].any()
    assert grads["actor"]["b2"][3] == 0.0
    assert grads["actor"]["w2"][4].any()


@pytest.mark.parametrize("where", ["log_prob", "advantage", "obs", "value", "value_target"])
def test_what_is_no_number_stays_visible(where: str) -> None:
    cfg = config(minibatch_size=1920)
    batch = played(cfg)
    broken = getattr(batch, where).at[3, 5]
    batch = batch._replace(**{where: broken.set(0x7FC0 if where == "obs" else jnp.nan)})
    grads, terms = in_one_pass(cfg, drawn(cfg), batch)
    is_of_actor = where in ("log_prob", "advantage", "obs")
    net = "actor" if is_of_actor else "critic"
    assert jnp.isnan(grads[net]["w0"]).any()
    assert jnp.isnan(terms["train/loss"])
    assert jnp.isnan(terms["train/approx_kl"]) == (where in ("log_prob", "obs"))


def test_a_target_that_is_no_number_stays_visible_where_the_value_is_held() -> None:
    cfg = config(clip_range_value=1e-6, minibatch_size=1920)
    batch = played(cfg)
    batch = batch._replace(value_target=batch.value_target.at[3, 5].set(jnp.nan))
    grads, _ = in_one_pass(cfg, drawn(cfg), batch)
    assert jnp.isnan(grads["critic"]["w0"]).any()


@pytest.mark.parametrize("name", ["w0", "b0", "w1", "w2", "b2"])
def test_weights_that_are_no_numbers_stay_visible(name: str) -> None:
    cfg = config()
    params = drawn(cfg)
    for net in params.values():
        net[name] = net[name] + jnp.nan if net[name].ndim == 0 else net[name].at[0].set(jnp.nan)
    grads, terms = in_one_pass(cfg, params, played(cfg))
    assert jnp.isnan(terms["train/approx_kl"])
    assert jnp.isnan(terms["train/value_loss"])
    assert jnp.isnan(grads["actor"]["b2"]).any()
    assert jnp.isnan(grads["critic"]["b2"])


def test_calls_from_many_threads_at_once_end_and_agree() -> None:
    cfg = config(hidden=(128, 128), minibatch_size=1920)
    params, batch = drawn(cfg), played(cfg)
    blocks, hyper = blocks_of(cfg), make_hyper(cfg)
    compute = jax.jit(lambda p, b: objective._gradient(p, b, blocks, cfg, hyper, jnp.float32(0.01)))
    alone = jax.device_get(compute(params, batch))
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda _: jax.device_get(compute(params, batch)), range(64)))
    for found in together:
        jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_an_infinite_kl_ends_the_update_even_where_none_is_too_much() -> None:
    cfg = config(target_kl=math.inf, normalize_advantage="none", minibatch_size=1920, n_lanes=96)
    params, batch = drawn(cfg), played(cfg)
    batch = batch._replace(log_prob=batch.log_prob.at[3, 5].set(-120.0))
    after, _, metrics = objective.optimize(
        cfg,
        params,
        objective.make_optimizer().init(params),
        batch,
        jax.random.key(1),
        make_hyper(cfg),
        jnp.int32(0),
        None,
    )
    assert float(metrics["train/n_epochs_done"]) == 0.0
    assert float(metrics["train/approx_kl"]) == math.inf
    jax.tree.map(np.testing.assert_array_equal, after, params)


def test_networks_of_unequal_widths_are_differentiated_by_xla() -> None:
    params = drawn(config())
    assert objective.is_by_kernel(params, "bfloat16")
    assert not objective.is_by_kernel(params, "float32")
    assert not objective.is_by_kernel(drawn(config(), n_actions=33), "bfloat16")
    params["critic"] = drawn(config(hidden=(32, 32)))["critic"]
    assert not objective.is_by_kernel(params, "bfloat16")
    params["critic"] = drawn(config(hidden=(32,)))["critic"]
    assert not objective.is_by_kernel(params, "bfloat16")
