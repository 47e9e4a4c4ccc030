"""Playing the environment with the current policy, and what the steps were worth.

The environment is a pair of pure batched functions (Env). T steps over L lanes fill a Batch;
a truncated episode is continued by the critic's value of its last state, a terminated one is not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import jax
import jax.numpy as jnp

from passline.learn import network
from passline.learn.mlp import Precision, packed
from passline.learn.settings import Hyper, PPOConfig

__all__ = [
    "Batch",
    "Env",
    "Lanes",
    "Metrics",
    "Rollout",
    "Steps",
    "Sums",
    "TrainState",
    "Tree",
    "collect",
    "estimate",
    "generalized_advantages",
    "join",
    "lanes_of",
    "play",
    "share_of",
]

Tree: TypeAlias = Any
"""A pytree of arrays."""

Metrics: TypeAlias = dict[str, Any]
"""Scalars by SB3's names, plus rollout/action_counts [A] and rollout/info, a tree of sums."""

_MAX_SPARSE_TRUNCATIONS = 32


class Env(Protocol):
    """What the learner needs of an environment: two pure functions over L lanes.

    Every constant (tape, features, rules, phase row) comes in through params, so that another
    phase or market of the same shapes compiles nothing anew.
    """

    def step(
        self, params: Tree, state: Tree, action: jax.Array, key: jax.Array
    ) -> tuple[Tree, jax.Array, jax.Array, jax.Array, jax.Array, Tree]:
        """Advances all lanes by one decision and restarts those that ended.

        Args:
            params: constants of the environment.
            state: its state, arrays [L, ...].
            action: int32 [L].
            key: PRNG key of this step.

        Returns:
            (state, reward float32 [L], terminated bool [L], truncated bool [L],
            final_obs float32 [L, F], info). The state is the new episode's where the lane
            ended; final_obs is the last observation of the old one where it was truncated
            (elsewhere unread). Arrays of info are [L, ...] and are summed over lanes and steps.
        """
        ...

    def observe(self, params: Tree, state: Tree) -> tuple[jax.Array, jax.Array]:
        """Returns (observation float32 [L, F], action_mask bool [L, A])."""
        ...


class TrainState(NamedTuple):
    """Everything that training continues from; a pytree of arrays, so a checkpoint as it is."""

    params: network.Params
    opt_state: Tree
    env_state: Tree
    key: jax.Array
    n_updates: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array


class Steps(NamedTuple):
    """What one rollout saw and did; arrays [T, L], obs [T, L, F] as mlp packs it.

    final_value is the critic's output for the last state of an episode that was truncated at
    this step, 0 elsewhere.
    """

    obs: jax.Array
    mask_bits: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_value: jax.Array


class Batch(NamedTuple):
    """What the gradient steps read of one rollout; arrays [T, L], obs [T, L, F] as mlp packs it."""

    obs: jax.Array
    mask_bits: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    value_target: jax.Array


def generalized_advantages(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    is_done: jax.Array,
    gamma: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Estimates advantages (Schulman et al. 2016, equation 16), cut where an episode ends.

    delta_t = reward_t + gamma * next_value_t - value_t, summed backwards with decay
    gamma * lambda within the episode.

    Args:
        reward: [T, L].
        value: value of the state before each step [T, L].
        next_value: value of the state after it [T, L]: 0 after termination, the old episode's
            last state after truncation.
        is_done: terminated or truncated, bool [T, L].
        gamma: discount per decision.
        gae_lambda: decay per decision.

    Returns:
        Advantages [T, L].
    """
    delta = reward + gamma * next_value - value
    decay = jnp.where(is_done, 0.0, gamma * gae_lambda)

    def back(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        advantage = now[0] + now[1] * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)[1]


class Lanes(NamedTuple):
    """Episodes under way and what they have earned; arrays [L, ...], as in TrainState."""

    env_state: Tree
    episode_return: jax.Array
    episode_length: jax.Array


class Sums(NamedTuple):
    """What one rollout adds up over steps, then lanes; scalars, and a tree of the environment's."""

    n_episodes: jax.Array
    return_sum: jax.Array
    length_sum: jax.Array
    info: Tree


class Rollout(NamedTuple):
    """T steps of L lanes.

    Attributes:
        lanes: where they stand after the last step.
        steps: what they saw and did.
        last_obs: observation after the last step, float32 [L, F].
        sums: over all lanes and steps.
    """

    lanes: Lanes
    steps: Steps
    last_obs: jax.Array
    sums: Sums


class _Carry(NamedTuple):
    """State of the loop over steps; sums of each lane alone, which cost no reduction a step."""

    lanes: Lanes
    sums: Sums


def lanes_of(state: TrainState) -> Lanes:
    """Returns the part of a training's state that a rollout moves on."""
    return Lanes(state.env_state, state.episode_return, state.episode_length)


def collect(
    env: Env, config: PPOConfig, env_params: Tree, state: TrainState, key: jax.Array, hyper: Hyper
) -> tuple[Lanes, Batch, Metrics]:
    """Plays T steps with the current weights and estimates what they were worth."""
    rolled = play(env, config, env_params, state.params, lanes_of(state), key)
    batch, metrics = estimate(config, state.params, rolled, hyper)
    return rolled.lanes, batch, metrics


def play(
    env: Env,
    config: PPOConfig,
    env_params: Tree,
    params: network.Params,
    lanes: Lanes,
    key: jax.Array,
) -> Rollout:
    """Plays T steps of the given lanes with the current weights."""
    env_key, action_key = jax.random.split(key)
    step_keys = jax.random.split(env_key, config.rollout_steps)
    n_lanes = lanes.episode_length.shape[0]
    uniforms = jax.random.uniform(action_key, (config.rollout_steps, n_lanes))

    advance = jax.jit(env.step, inline=True)  # traced once, for the sums and for the steps

    def one_step(carry: _Carry, now: tuple[jax.Array, jax.Array]) -> tuple[_Carry, Steps]:
        return _play_step(env, advance, config.precision, env_params, params, carry, *now)

    carry, steps = jax.lax.scan(
        one_step, _first_carry(advance, env_params, lanes, key), (step_keys, uniforms)
    )
    last_obs, _ = env.observe(env_params, carry.lanes.env_state)
    sums: Sums = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), carry.sums)
    return Rollout(carry.lanes, steps, last_obs, sums)


def share_of(lanes: Lanes, share: jax.Array, n_shares: int) -> Lanes:
    """Cuts one of n equal shares out of the lanes, neighbors together."""
    size = lanes.episode_length.shape[0] // n_shares
    cut: Lanes = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, share * size, size), lanes)
    return cut


def join(shares: Sequence[Rollout]) -> Rollout:
    """Lays rollouts of shares side by side again."""
    if len(shares) == 1:
        return shares[0]
    return Rollout(
        lanes=jax.tree.map(lambda *x: jnp.concatenate(x), *[s.lanes for s in shares]),
        steps=jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *[s.steps for s in shares]),
        last_obs=jnp.concatenate([s.last_obs for s in shares]),
        sums=jax.tree.map(lambda *x: sum(x[1:], x[0]), *[s.sums for s in shares]),
    )


def estimate(
    config: PPOConfig, params: network.Params, rolled: Rollout, hyper: Hyper
) -> tuple[Batch, Metrics]:
    """Values the states of a rollout and turns its rewards into advantages and value targets.

    Args:
        config: the learner's settings.
        params: the weights that played.
        rolled: what they played, all lanes.
        hyper: discount, decay and the critic's unit.

    Returns:
        (batch, metrics of the rollout and of the critic).
    """
    steps, last_obs = rolled.steps, rolled.last_obs
    value = jax.lax.map(
        lambda part: network.critic_values(params, part, config.precision),
        steps.obs.reshape(-1, config.minibatch_size, last_obs.shape[1]),
    ).reshape(steps.reward.shape)
    last_value = network.critic_values(params, packed(last_obs, config.precision), config.precision)
    value, last_value, final_value = (
        v * hyper.value_scale for v in (value, last_value, steps.final_value)
    )
    next_value = jnp.concatenate([value[1:], last_value[None]])
    next_value = jnp.where(steps.truncated, final_value, next_value)
    next_value = jnp.where(steps.terminated, 0.0, next_value)
    is_done = steps.terminated | steps.truncated
    advantage = generalized_advantages(
        steps.reward, value, next_value, is_done, hyper.gamma, hyper.gae_lambda
    )
    batch = Batch(
        obs=steps.obs,
        mask_bits=steps.mask_bits,
        action=steps.action,
        log_prob=steps.log_prob,
        value=value,
        advantage=advantage,
        value_target=advantage + value,
    )
    explained = 1.0 - jnp.var(advantage) / jnp.var(batch.value_target)
    n_actions = network.n_actions(params)
    return batch, {
        "train/explained_variance": explained,
        **_rollout_metrics(rolled.sums, steps, n_actions),
    }


def _first_carry(
    advance: Callable[..., Any], env_params: Tree, lanes: Lanes, key: jax.Array
) -> _Carry:
    """Sets this rollout's sums to zero, shaped like what the environment will report."""
    action = jnp.zeros_like(lanes.episode_length)
    info = jax.eval_shape(advance, env_params, lanes.env_state, action, key)[5]
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.int32 if x.dtype == jnp.bool_ else x.dtype), info
    )
    no_lengths = jnp.zeros_like(lanes.episode_length)
    no_returns = jnp.zeros_like(lanes.episode_return)
    return _Carry(lanes, Sums(no_lengths, no_returns, no_lengths, zeros))


def _play_step(
    env: Env,
    advance: Callable[..., Any],
    precision: Precision,
    env_params: Tree,
    params: network.Params,
    carry: _Carry,
    key: jax.Array,
    uniform: jax.Array,
) -> tuple[_Carry, Steps]:
    """Observes, draws legal actions, steps all lanes and adds up what happened."""
    lanes, sums = carry
    seen, mask = env.observe(env_params, lanes.env_state)
    obs = packed(seen, precision)
    logits = network.actor_logits_t(params, obs, precision)
    log_probs = network.masked_log_softmax_t(logits, mask.T)
    action, log_prob = network.sample_t(log_probs, uniform)
    env_state, reward, terminated, truncated, final_obs, info = advance(
        env_params, lanes.env_state, action, key
    )
    is_done = terminated | truncated
    episode_return = lanes.episode_return + reward
    episode_length = lanes.episode_length + 1
    after = Lanes(
        env_state=env_state,
        episode_return=jnp.where(is_done, 0.0, episode_return),
        episode_length=jnp.where(is_done, 0, episode_length),
    )
    added = Sums(
        n_episodes=sums.n_episodes + is_done,
        return_sum=sums.return_sum + jnp.where(is_done, episode_return, 0.0),
        length_sum=sums.length_sum + jnp.where(is_done, episode_length, 0),
        info=jax.tree.map(lambda total, x: total + x.astype(total.dtype), sums.info, info),
    )
    step = Steps(
        obs=obs,
        mask_bits=network.pack_mask(mask),
        action=action,
        log_prob=log_prob,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        final_value=_values_where(
            params, packed(final_obs, precision), truncated & ~terminated, precision
        ),
    )
    return _Carry(after, added), step


def _values_where(
    params: network.Params, obs: jax.Array, is_wanted: jax.Array, precision: Precision
) -> jax.Array:
    """Computes the critic's values of the wanted lanes only, 0 elsewhere; [L, F], [L] give [L].

    Few lanes are truncated in one step, so that up to a fixed number of them are gathered
    first; more fall back to all lanes.
    """
    n_lanes = obs.shape[0]
    n_sparse = min(_MAX_SPARSE_TRUNCATIONS, n_lanes)

    def none() -> jax.Array:
        return jnp.zeros((n_lanes,), jnp.float32)

    def sparse() -> jax.Array:
        (lanes,) = jnp.nonzero(is_wanted, size=n_sparse, fill_value=n_lanes)
        values = network.critic_values(params, obs.at[lanes].get(mode="clip"), precision)
        return none().at[lanes].set(values, mode="drop")

    def dense() -> jax.Array:
        return jnp.where(is_wanted, network.critic_values(params, obs, precision), 0.0)

    n_wanted = jnp.sum(is_wanted, dtype=jnp.int32)
    branch = (n_wanted > 0).astype(jnp.int32) + (n_wanted > n_sparse)
    return cast(jax.Array, jax.lax.switch(branch, (none, sparse, dense)))


def _rollout_metrics(sums: Sums, steps: Steps, n_actions: int) -> Metrics:
    is_decision = jax.lax.population_count(steps.mask_bits) > 1
    counts = [jnp.sum(is_decision & (steps.action == a), dtype=jnp.int32) for a in range(n_actions)]
    n_episodes = sums.n_episodes.astype(jnp.float32)
    return {
        "rollout/n_episodes": sums.n_episodes,
        "rollout/return_sum": sums.return_sum,
        "rollout/length_sum": sums.length_sum,
        "rollout/ep_rew_mean": sums.return_sum / n_episodes,
        "rollout/ep_len_mean": sums.length_sum / n_episodes,
        "rollout/reward_mean": jnp.mean(steps.reward),
        "rollout/n_decisions": jnp.sum(is_decision, dtype=jnp.int32),
        "rollout/action_counts": jnp.stack(counts),
        "rollout/info": sums.info,
    }
