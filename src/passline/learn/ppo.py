"""Proximal policy optimization with action masking, rollout and update in one compiled call.

This module puts the parts together: settings, rollout and objective. Nothing in learn knows what
an action means or what a reward is made of.
"""

from typing import Protocol, cast

import jax
import jax.numpy as jnp

from passline.learn import network
from passline.learn.objective import make_optimizer, optimize
from passline.learn.rollout import Env, Metrics, TrainState, Tree, collect
from passline.learn.settings import Hyper, PPOConfig, make_hyper, require

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
    config: PPOConfig, env_state: Tree, n_features: int, n_actions: int, key: jax.Array
) -> TrainState:
    """Draws a fresh network and sets all counters to zero.

    Args:
        config: the learner's settings.
        env_state: state of freshly started lanes, arrays [L, ...].
        n_features: F.
        n_actions: A, at most 32.
        key: PRNG key; all draws of the training derive from it.

    Raises:
        ConfigError: more than 32 actions.
    """
    require(1 <= n_actions <= 32, "n_actions", n_actions, "1 to 32")
    init_key, run_key = jax.random.split(key)
    params = network.init_params(init_key, n_features, n_actions, config.hidden)
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
    """
    return state._replace(
        opt_state=make_optimizer().init(state.params),
        env_state=_copied(env_state),
        episode_return=jnp.zeros_like(state.episode_return),
        episode_length=jnp.zeros_like(state.episode_length),
    )


def make_update(env: Env, config: PPOConfig) -> Update:
    """Builds the compiled update: rollout, advantages and gradient steps in one call.

    Args:
        env: the environment's functions.
        config: the learner's settings; only its shapes are compiled in.

    Returns:
        A function (env_params, state, hyper) -> (state, metrics). It donates state: the caller
        must not use it again. Without hyper the settings of config hold still.
    """

    def run(env_params: Tree, state: TrainState, hyper: Hyper) -> tuple[TrainState, Metrics]:
        key, rollout_key, shuffle_key = jax.random.split(state.key, 3)
        rolled, batch, metrics = collect(env, config, env_params, state, rollout_key, hyper)
        params, opt_state, train_metrics = optimize(
            config, state.params, state.opt_state, batch, shuffle_key, hyper, state.n_updates
        )
        new_state = rolled._replace(
            params=params, opt_state=opt_state, key=key, n_updates=state.n_updates + 1
        )
        return new_state, metrics | train_metrics

    compiled = jax.jit(run, donate_argnums=(1,))
    fixed = make_hyper(config)

    def update(
        env_params: Tree, state: TrainState, hyper: Hyper | None = None
    ) -> tuple[TrainState, Metrics]:
        result = compiled(env_params, state, fixed if hyper is None else hyper)
        return cast(tuple[TrainState, Metrics], result)

    return update


def _copied(tree: Tree) -> Tree:
    """Gives every array a buffer of its own, since the update reuses the buffers it is given."""
    return jax.tree.map(jnp.copy, tree)
