"""Proximal policy optimization with action masking: a compiled rollout and a compiled update.

This module puts the parts together: settings, rollout and objective. Nothing in learn knows what
an action means or what a reward is made of.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

import jax
import jax.numpy as jnp

from passline.learn import network
from passline.learn.objective import is_by_kernel, make_optimizer, optimize
from passline.learn.rollout import (
    Env,
    Metrics,
    Rollout,
    TrainState,
    Tree,
    estimate,
    join,
    lanes_of,
    play,
    share_of,
)
from passline.learn.settings import Hyper, PPOConfig, make_hyper, require
from passline.learn.symmetry import tied
from passline.sim.jit import sim_jit
from passline.task.mirror import Mirror

__all__ = [
    "Env",
    "Hyper",
    "Metrics",
    "PPOConfig",
    "TrainState",
    "Update",
    "init_train_state",
    "make_hyper",
    "make_update",
    "next_phase_state",
]


class Update(Protocol):
    """One rollout and its update; the state given in is consumed (its buffers are reused)."""

    def __call__(
        self, env_params: Tree, state: TrainState, hyper: Hyper | None = None
    ) -> tuple[TrainState, Metrics]:
        """Returns the next state and the metrics of this update."""
        ...


def init_train_state(
    config: PPOConfig,
    env_state: Tree,
    n_features: int,
    n_actions: int,
    key: jax.Array,
    mirror: Mirror | None = None,
) -> TrainState:
    """Draws a fresh network and sets all counters to zero.

    Args:
        config: the learner's settings.
        env_state: state of freshly started lanes, arrays [L, ...].
        n_features: F.
        n_actions: A, at most 32.
        key: PRNG key; all draws of the training derive from it.
        mirror: of the environment; the policy is drawn symmetric to it.

    Raises:
        ConfigError: more than 32 actions, or hidden units that cannot be paired.
    """
    require(1 <= n_actions <= 32, "n_actions", n_actions, "1 to 32")
    init_key, run_key = jax.random.split(key)
    params = network.init_params(init_key, n_features, n_actions, config.hidden)
    if mirror is not None:
        params = tied(params, mirror)
    return TrainState(
        params=params,
        opt_state=make_optimizer().init(params),
        env_state=_copied(env_state),
        key=run_key,
        n_updates=jnp.int32(0),
        episode_return=jnp.zeros((config.n_lanes,), jnp.float32),
        episode_length=jnp.zeros((config.n_lanes,), jnp.int32),
    )


def next_phase_state(state: TrainState, env_state: Tree) -> TrainState:
    """Carries the weights into another phase unchanged; optimizer and episodes start afresh.

    Adam's moments belong to the old phase's reward and would move the weights before the new
    one has spoken; they are zeroed.

    Args:
        state: at the end of the old phase.
        env_state: freshly started lanes of the new one, as many as it has.
    """
    n_lanes = jax.tree.leaves(env_state)[0].shape[0]
    return state._replace(
        opt_state=make_optimizer().init(state.params),
        env_state=_copied(env_state),
        episode_return=jnp.zeros((n_lanes,), jnp.float32),
        episode_length=jnp.zeros((n_lanes,), jnp.int32),
    )


def make_update(env: Env, config: PPOConfig, mirror: Mirror | None = None) -> Update:
    """Builds the compiled update: a rollout, then advantages and gradient steps.

    Two compiled programs, because what contains the simulator must not be compiled with XLA's plain
    fusion (see sim.jit), and what trains the networks takes twice as long without it. The rollout
    is played in shares of the lanes, a thread each: the simulator's operations are too small for
    XLA to spread over processors, and fewer lanes stay in their caches.

    Args:
        env: the environment's functions.
        config: the learner's settings; only its shapes are compiled in.
        mirror: of the environment; a policy that is symmetric to it stays so.

    Returns:
        A function (env_params, state, hyper) -> (state, metrics). It donates state: the caller
        must not use it again. Without hyper the settings of config hold still.
    """
    n_shares = config.n_shares

    def draw_keys(state: TrainState) -> jax.Array:
        return jax.random.split(state.key, 2 + n_shares)

    def roll(env_params: Tree, state: TrainState, share: jax.Array) -> Rollout:
        lanes = share_of(lanes_of(state), share, n_shares)
        return play(env, config, env_params, state.params, lanes, draw_keys(state)[2 + share])

    def learn(state: TrainState, shares: list[Rollout], hyper: Hyper) -> tuple[TrainState, Metrics]:
        key, shuffle_key = draw_keys(state)[:2]
        rolled = join(shares)
        batch, metrics = estimate(config, state.params, rolled, hyper)
        params, opt_state, train_metrics = optimize(
            config,
            state.params,
            state.opt_state,
            batch,
            shuffle_key,
            hyper,
            state.n_updates,
            mirror,
        )
        new_state = TrainState(
            params=params,
            opt_state=opt_state,
            key=key,
            n_updates=state.n_updates + 1,
            **rolled.lanes._asdict(),
        )
        return new_state, metrics | train_metrics

    rolling = sim_jit(roll, is_fused=True)

    @cache
    def learning(*, is_by_kernel: bool) -> Callable[..., tuple[TrainState, Metrics]]:
        # What is left beside the kernel is small: XLA's older emitters compile it in half the time,
        # to the same bits and the same speed. What XLA multiplies itself they make slower.
        options = {"xla_cpu_use_fusion_emitters": False} if is_by_kernel else None
        return jax.jit(learn, donate_argnums=(0,), compiler_options=options)

    fixed = make_hyper(config)
    threads = ThreadPoolExecutor(min(n_shares, os.cpu_count() or 1))

    def update(
        env_params: Tree, state: TrainState, hyper: Hyper | None = None
    ) -> tuple[TrainState, Metrics]:
        def play_share(share: int) -> Rollout:
            rolled: Rollout = rolling(env_params, state, jnp.int32(share))
            rolled.last_obs.block_until_ready()
            return rolled

        if n_shares == 1:
            shares = [rolling(env_params, state, jnp.int32(0))]
        else:
            shares = list(threads.map(play_share, range(n_shares)))
        learn_from = learning(is_by_kernel=is_by_kernel(state.params, config.precision))
        return learn_from(state, shares, fixed if hyper is None else hyper)

    return update


def _copied(tree: Tree) -> Tree:
    """Gives every array a buffer of its own, since the update reuses the buffers it is given."""
    return jax.tree.map(jnp.copy, tree)
