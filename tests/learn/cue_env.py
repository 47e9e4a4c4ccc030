"""A masked cue task with a delayed reward, small enough to learn within seconds.

Each decision shows a cue in {0, 1, 2, 3} and pays 1 for having chosen the cue's action one
decision earlier, so that credit has to travel back one step. Action 4 is never right but always
legal; one wrong action of the other four is illegal at a time. Episodes end after six decisions,
terminated in even lanes and truncated in odd ones.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from passline.learn.ppo import PPOConfig, TrainState, init_train_state, make_update

N_CUES, N_ACTIONS, N_FEATURES, EPISODE_STEPS = 4, 5, 6, 6


class CueState(NamedTuple):
    cue: jax.Array
    is_owed: jax.Array
    step: jax.Array
    lane: jax.Array


class CueEnv:
    """params: {"is_signal": whether the paid action depends on the cue shown}."""

    def observe(self, params: Any, state: CueState) -> tuple[jax.Array, jax.Array]:
        shown = jax.nn.one_hot(state.cue, N_CUES)
        clock = state.step[:, None] / EPISODE_STEPS
        obs = jnp.concatenate([shown, clock, state.is_owed[:, None]], axis=1).astype(jnp.float32)
        banned = (state.cue + 1 + state.step % 3) % N_CUES
        return obs, jnp.arange(N_ACTIONS)[None, :] != banned[:, None]

    def step(
        self, params: Any, state: CueState, action: jax.Array, key: jax.Array
    ) -> tuple[CueState, jax.Array, jax.Array, jax.Array, jax.Array, Any]:
        _, mask = self.observe(params, state)
        is_legal = jnp.take_along_axis(mask, action[:, None], axis=1)[:, 0]
        cue_key, hidden_key = jax.random.split(key)
        hidden = jax.random.randint(hidden_key, action.shape, 0, N_CUES)
        paid = jnp.where(params["is_signal"], state.cue, hidden)
        after = state._replace(
            cue=jax.random.randint(cue_key, action.shape, 0, N_CUES),
            is_owed=(action == paid).astype(jnp.float32),
            step=state.step + 1,
        )
        is_over = after.step >= EPISODE_STEPS
        started = after._replace(
            is_owed=jnp.where(is_over, 0.0, after.is_owed), step=jnp.where(is_over, 0, after.step)
        )
        info = {"n_illegal": ~is_legal, "n_by_action": jax.nn.one_hot(action, N_ACTIONS)}
        is_odd = state.lane % 2 == 1
        final_obs = self.observe(params, after)[0]
        return started, state.is_owed, is_over & ~is_odd, is_over & is_odd, final_obs, info


def start(n_lanes: int, seed: int = 0) -> CueState:
    return CueState(
        cue=jax.random.randint(jax.random.key(seed), (n_lanes,), 0, N_CUES),
        is_owed=jnp.zeros((n_lanes,), jnp.float32),
        step=jnp.arange(n_lanes, dtype=jnp.int32) % EPISODE_STEPS,
        lane=jnp.arange(n_lanes, dtype=jnp.int32),
    )


def env_params(is_signal: bool = True) -> dict[str, jax.Array]:
    return {"is_signal": jnp.bool_(is_signal)}


def small_config(**changes: Any) -> PPOConfig:
    settings: dict[str, Any] = {
        "n_lanes": 64,
        "rollout_steps": 16,
        "minibatch_size": 256,
        "lane_block": 8,
        "hidden": (16, 16),
        "learning_rate": 3e-3,
        "gamma": 0.9,
        "target_kl": 0.05,
    }
    return PPOConfig(**(settings | changes))


def fresh(config: PPOConfig, seed: int = 0, env_state: CueState | None = None) -> TrainState:
    state = start(config.n_lanes, seed) if env_state is None else env_state
    return init_train_state(config, state, N_FEATURES, N_ACTIONS, jax.random.key(seed))


ENV = CueEnv()

# Compiled once for all tests: settings that are no shapes enter through the hyper argument.
UPDATE = make_update(ENV, small_config())
