"""Proximal policy optimization with action masking: a compiled rollout and a compiled update.

This module puts the parts together: settings, rollout and objective. Nothing in learn knows what
an action means or what a reward is made of.
"""

from typing import Protocol, cast

import jax
import jax.numpy as jnp

from passline.learn import network
from passline.learn.objective import make_optimizer, optimize
from passline.learn.rollout import Env, Metrics, Steps, TrainState, Tree, estimate, play
from passline.learn.settings import Hyper, PPOConfig, make_hyper, require
from passline.sim.jit import sim_jit

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
    """Builds the compiled update: a rollout, then advantages and gradient steps.

    Two compiled calls, because what contains the simulator must be compiled without XLA's fusion
    pass (see sim.jit), and what trains the networks takes twice as long without it.

    Args:
        env: the environment's functions.
        config: the learner's settings; only its shapes are compiled in.

    Returns:
        A function (env_params, state, hyper) -> (state, metrics). It donates state: the caller
        must not use it again. Without hyper the settings of config hold still.
    """

    def roll(env_params: Tree, state: TrainState) -> tuple[TrainState, Steps, jax.Array, Metrics]:
        key, rollout_key = jax.random.split(state.key)
        rolled, steps, last_obs, metrics = play(env, config, env_params, state, rollout_key)
        return rolled._replace(key=key), steps, last_obs, metrics

    def learn(
        state: TrainState, steps: Steps, last_obs: jax.Array, hyper: Hyper
    ) -> tuple[TrainState, Metrics]:
        key, shuffle_key = jax.random.split(state.key)
        batch, value_metrics = estimate(config, state.params, steps, last_obs, hyper)
        params, opt_state, train_metrics = optimize(
            config, state.params, state.opt_state, batch, shuffle_key, hyper, state.n_updates
        )
        new_state = state._replace(
            params=params, opt_state=opt_state, key=key, n_updates=state.n_updates + 1
        )
        return new_state, value_metrics | train_metrics

    rolling = sim_jit(roll, donate_argnums=(1,))
    learning = jax.jit(learn, donate_argnums=(0,))
    fixed = make_hyper(config)

    def update(
        env_params: Tree, state: TrainState, hyper: Hyper | None = None
    ) -> tuple[TrainState, Metrics]:
        rolled, steps, last_obs, metrics = rolling(env_params, state)
        learned = learning(rolled, steps, last_obs, fixed if hyper is None else hyper)
        new_state, train_metrics = cast(tuple[TrainState, Metrics], learned)
        return new_state, metrics | train_metrics

    return update


def _copied(tree: Tree) -> Tree:
    """Gives every array a buffer of its own, since the update reuses the buffers it is given."""
    return jax.tree.map(jnp.copy, tree)
