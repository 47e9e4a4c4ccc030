import dataclasses
import functools
import math
from typing import Any

import cue_env as toy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.errors import ConfigError
from passline.learn import network, ppo, rollout

# In float32, so that a plain loop over the same values agrees to the last digits.
COLLECT = jax.jit(
    functools.partial(rollout.collect, toy.ENV, toy.small_config(n_lanes=128, precision="float32"))
)


def play(
    config: ppo.PPOConfig, n: int, *, seed: int = 0, is_signal: bool = True, env_state: Any = None
) -> Any:
    """Trains for n updates from a fresh network; returns (state, metrics of the last update)."""
    state, metrics = toy.fresh(config, seed, env_state), None
    for _ in range(n):
        state, metrics = toy.UPDATE(toy.env_params(is_signal), state, ppo.make_hyper(config))
    return state, metrics


@jax.jit
def greedy_share_right(params: network.Params) -> jax.Array:
    """Mean reward per decision of the greedy policy over 128 steps of 256 lanes."""
    env, constants = toy.ENV, toy.env_params()

    def one(state: toy.CueState, key: jax.Array) -> tuple[toy.CueState, jax.Array]:
        obs, mask = env.observe(constants, state)
        state, reward, *_ = env.step(constants, state, network.act_greedy(params, obs, mask), key)
        return state, reward

    keys = jax.random.split(jax.random.key(77), 128)
    rewards = jax.lax.scan(one, toy.start(256, 77), keys)[1]
    return jnp.mean(rewards)


def equal_bits(a: Any, b: Any) -> bool:
    def raw(x: jax.Array) -> np.ndarray[Any, Any]:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(raw(x).tobytes() == raw(y).tobytes() for x, y in pairs)


def test_learns_the_cue_and_only_from_the_signal() -> None:
    """Threshold 0.80; the best possible is 5/6: the last of six choices is never paid."""
    config = toy.small_config()
    untrained = [greedy_share_right(toy.fresh(config, seed).params) for seed in range(3)]
    learned = [greedy_share_right(play(config, 25, seed=seed)[0].params) for seed in range(3)]
    blind_state, _ = play(config, 25, is_signal=False)
    shuffled = greedy_share_right(blind_state.params)
    assert min(learned) > 0.80, (learned, untrained, shuffled)
    assert np.mean(untrained) < 0.45, (learned, untrained, shuffled)
    assert shuffled < 0.45, (learned, untrained, shuffled)


def test_same_seed_same_bits_other_seed_other_weights() -> None:
    config = toy.small_config()
    one, two, three = (play(config, 3, seed=seed)[0] for seed in (5, 5, 6))
    assert equal_bits(one, two)
    assert not equal_bits(one.params, three.params)


def test_every_update_draws_anew() -> None:
    config = toy.small_config()
    keys = [raw_key(toy.fresh(config).key)]
    keys += [raw_key(play(config, n)[0].key) for n in (1, 2)]
    assert len(set(keys)) == 3


def raw_key(key: jax.Array) -> bytes:
    return np.asarray(jax.random.key_data(key)).tobytes()


def test_rollout_counts_add_up() -> None:
    config = toy.small_config()
    _, metrics = play(config, 3)
    info = metrics["rollout/info"]
    assert int(info["n_illegal"]) == 0
    assert int(metrics["rollout/n_decisions"]) == config.batch_size
    np.testing.assert_array_equal(metrics["rollout/action_counts"], info["n_by_action"])
    assert int(metrics["rollout/action_counts"].sum()) == config.batch_size
    assert float(metrics["rollout/ep_len_mean"]) == toy.EPISODE_STEPS
    n_episodes = int(metrics["rollout/n_episodes"])
    assert abs(n_episodes - config.batch_size / toy.EPISODE_STEPS) < config.n_lanes
    assert int(metrics["rollout/length_sum"]) == n_episodes * toy.EPISODE_STEPS


def numpy_gae(
    steps: dict[str, np.ndarray[Any, Any]], gamma: float, lam: float
) -> np.ndarray[Any, Any]:
    """The estimator as a plain loop: one lane and one step at a time."""
    n_steps, n_lanes = steps["reward"].shape
    advantage = np.zeros((n_steps, n_lanes))
    for lane in range(n_lanes):
        later = 0.0
        for t in reversed(range(n_steps)):
            if steps["terminated"][t, lane]:
                after, later = 0.0, 0.0
            elif steps["truncated"][t, lane]:
                after, later = steps["final_value"][t, lane], 0.0
            else:
                after = steps["value"][t + 1, lane]
            delta = steps["reward"][t, lane] + gamma * after - steps["value"][t, lane]
            later = delta + gamma * lam * later
            advantage[t, lane] = later
    return advantage


@jax.jit
def replay(state: ppo.TrainState, actions: Any, key: jax.Array) -> Any:
    """Steps the environment through known actions with the keys that the rollout used."""
    env, constants = toy.ENV, toy.env_params()
    keys = jax.random.split(jax.random.split(key)[0], actions.shape[0])

    def one(env_state: Any, now: Any) -> Any:
        obs, _ = env.observe(constants, env_state)
        env_state, reward, terminated, truncated, final_obs, _ = env.step(
            constants, env_state, *now
        )
        return env_state, {
            "value": network.critic_values(state.params, obs),
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "final_value": network.critic_values(state.params, final_obs),
        }

    env_state, steps = jax.lax.scan(one, state.env_state, (actions, keys))
    last = network.critic_values(state.params, env.observe(constants, env_state)[0])
    steps["value"] = jnp.concatenate([steps["value"], last[None]])
    return steps


# 128 lanes stop alone or in small groups (sparse bootstrap); with all lanes in step, 64 are
# truncated at once (dense bootstrap).
@pytest.mark.parametrize("is_in_step", [False, True])
@pytest.mark.parametrize("value_scale", [1.0, 3.0])
def test_truncation_is_bootstrapped_and_termination_is_not(
    is_in_step: bool, value_scale: float
) -> None:
    config = toy.small_config(n_lanes=128, minibatch_size=256, value_scale=value_scale)
    state = toy.fresh(config, 3)
    if is_in_step:
        env_state = state.env_state._replace(step=jnp.zeros_like(state.env_state.step))
        state = state._replace(env_state=env_state)
    key = jax.random.key(8)
    _, batch, _ = COLLECT(toy.env_params(), state, key, ppo.make_hyper(config))
    steps = jax.tree.map(np.array, replay(state, batch.action, key))
    assert steps["terminated"].any()
    assert steps["truncated"].any()
    assert np.abs(steps["final_value"]).max() > 0.1
    for name in ("value", "final_value"):
        steps[name] = steps[name] * value_scale
    expected = numpy_gae(steps, config.gamma, config.gae_lambda)
    np.testing.assert_allclose(batch.advantage, expected, atol=2e-5)
    np.testing.assert_allclose(batch.value_target, expected + steps["value"][:-1], atol=2e-5)


def test_advantages_of_a_case_worked_by_hand() -> None:
    """gamma 0.5, lambda 0.5: lane 0 terminated and lane 1 truncated (value 8) after step 1."""
    reward = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    value = jnp.array([[4.0, 4.0], [6.0, 6.0], [2.0, 2.0]])
    next_value = jnp.array([[6.0, 6.0], [0.0, 8.0], [10.0, 10.0]])
    is_done = jnp.array([[False, False], [True, True], [False, False]])
    got = rollout.generalized_advantages(reward, value, next_value, is_done, 0.5, 0.5)
    # delta: step 0: 1 + 3 - 4 = 0; step 1: 2 - 6 = -4 and 2 + 4 - 6 = 0; step 2: 3 + 5 - 2 = 6.
    np.testing.assert_array_equal(got, [[-1.0, 0.0], [-4.0, 0.0], [6.0, 6.0]])


def test_kl_stop_skips_the_rest_and_the_offending_step() -> None:
    wild = toy.small_config(learning_rate=0.3, target_kl=0.01)
    free = dataclasses.replace(wild, target_kl=math.inf)
    _, stopped = play(wild, 1)
    _, ran = play(free, 1)
    assert float(ran["train/n_epochs_done"]) == 4.0
    assert 0.0 < float(stopped["train/n_epochs_done"]) < 4.0
    assert float(stopped["train/approx_kl"]) < float(ran["train/approx_kl"])
    # The first minibatch has KL 0 and is always applied, so a stop after one step means that
    # exactly one step was taken: the same weights as a run allowed no second one.
    tight = dataclasses.replace(wild, target_kl=1e-9)
    state, once = play(tight, 1)
    assert float(once["train/n_epochs_done"]) == 1.0 / tight.n_minibatches
    assert int(state.opt_state.count) == 1


def test_a_gradient_that_is_not_finite_never_reaches_the_weights() -> None:
    config = toy.small_config()
    before = toy.fresh(config).params
    clean = toy.start(config.n_lanes)
    poisoned = clean._replace(is_owed=jnp.full_like(clean.is_owed, jnp.nan))
    state, metrics = play(config, 1, env_state=poisoned)
    assert float(metrics["train/n_epochs_done"]) == 0.0
    assert equal_bits(before, state.params)


def test_schedules_run_to_their_floors_without_compiling_anew() -> None:
    config = toy.small_config(entropy_coef=0.01, entropy_coef_floor=0.002)
    state, hyper = toy.fresh(config), ppo.make_hyper(config, first_update=1, n_updates=4)
    rates, coefs = [], []
    for _ in range(7):
        state, metrics = toy.UPDATE(toy.env_params(), state, hyper)
        rates.append(float(metrics["train/learning_rate"]))
        coefs.append(float(metrics["train/entropy_coef"]))
    shares = np.array([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_allclose(rates, 3e-3 + shares * (3e-5 - 3e-3), rtol=1e-5)
    np.testing.assert_allclose(coefs, 0.01 + shares * (0.002 - 0.01), rtol=1e-5)


def test_next_phase_keeps_the_logits_to_the_bit() -> None:
    config = toy.small_config()
    state, _ = play(config, 2)
    obs, mask = toy.CueEnv().observe(toy.env_params(), toy.start(32, 9))
    before = network.policy_logits(state.params, obs), network.critic_values(state.params, obs)
    moved = ppo.next_phase_state(state, toy.start(config.n_lanes, 4))
    after = network.policy_logits(moved.params, obs), network.critic_values(moved.params, obs)
    assert equal_bits(before, after)
    assert int(moved.n_updates) == 2
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(moved.opt_state))
    assert mask.any()


def test_start_states_stay_usable_and_may_share_arrays() -> None:
    config = toy.small_config()
    shared = jnp.zeros((config.n_lanes,), jnp.int32)
    start = toy.start(config.n_lanes)._replace(cue=shared, step=shared)
    once, again = (play(config, 1, env_state=start)[0] for _ in range(2))
    assert equal_bits(once, again)


def test_value_clip_limits_what_one_update_moves() -> None:
    free, tight = toy.small_config(), toy.small_config(clip_range_value=1e-3)
    losses = []
    for config in (free, tight):
        _, metrics = play(config, 1)
        losses.append(float(metrics["train/value_loss"]))
    assert losses[0] < losses[1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"minibatch_size": 100}, "rollout_steps"),
        ({"n_lanes": 60}, "divisor"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"gamma": 1.5}, "gamma"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"hidden": ()}, "hidden"),
        ({"precision": "float16"}, "precision"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        toy.small_config(**changes)


def test_more_actions_than_mask_bits_are_refused() -> None:
    config = toy.small_config()
    with pytest.raises(ConfigError, match="n_actions was 33"):
        ppo.init_train_state(config, toy.start(64), 6, 33, jax.random.key(0))
