"""Drives the environment with scripts, so that tests can look at every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from passline.evaluate.rollout import Episodes
from passline.sim.layout import OrderKind
from passline.task.actions import action_index
from passline.task.env import EnvState, TaskParams
from passline.task.prepare import OBSERVATION_NAMES

LONG, SHORT, CLOSE = action_index(OrderKind.LONG), action_index(OrderKind.SHORT), 1
N_LANES = 16
"""Lanes of every driven batch, so that one compiled step serves all tests."""

Chooser = Callable[[np.ndarray, np.ndarray, int], Any]
"""(observation [L, F], action_mask [L, A], step) -> actions [L]."""


class Step(NamedTuple):
    """One step of all lanes; NumPy arrays.

    Attributes:
        before: what the decision was made in.
        obs: observation [L, F].
        mask: legal actions [L, A].
        action: what was sent [L].
        after: the next state, restarted where the episode ended.
        reward: [L].
        is_terminated: [L].
        is_truncated: [L].
        final_obs: [L, F].
        info: telemetry [L, ...].
    """

    before: EnvState
    obs: np.ndarray
    mask: np.ndarray
    action: np.ndarray
    after: EnvState
    reward: np.ndarray
    is_terminated: np.ndarray
    is_truncated: np.ndarray
    final_obs: np.ndarray
    info: Any


def random_legal(seed: int) -> Chooser:
    """Any legal action, all alike."""
    rng = np.random.default_rng(seed)
    return lambda obs, mask, t: np.argmax(np.where(mask, rng.random(mask.shape), -1.0), axis=1)


def often_in(seed: int) -> Chooser:
    """Enters half of the time where it may; else mostly holds."""
    rng = np.random.default_rng(seed)

    def choose(obs: np.ndarray, mask: np.ndarray, t: int) -> np.ndarray:
        pick = np.argmax(np.where(mask, rng.random(mask.shape), -1.0), axis=1)
        can_enter = mask[:, 5:].any(axis=1)
        return np.where(rng.random(len(mask)) < np.where(can_enter, 0.5, 0.08), pick, 0)

    return choose


def follow(network: Any, obs: Any, mask: Any) -> Any:
    """An agent's rule without a network: enter with the score's sign, leave where it is small."""
    score = obs @ network
    action = jnp.where(score > 1.0, LONG, jnp.where(score < -1.0, SHORT, 0))
    action = jnp.where((jnp.abs(score) < 0.1) & mask[:, CLOSE], CLOSE, action)
    is_legal = jnp.take_along_axis(mask, action[:, None], axis=1)[:, 0]
    return jnp.where(is_legal, action, jnp.argmax(mask, axis=1)).astype(jnp.int32)


def score_of(**weights: float) -> Any:
    """Weights of the observation's columns by name, for `follow`."""
    vector = np.zeros(len(OBSERVATION_NAMES), np.float32)
    for name, weight in weights.items():
        vector[OBSERVATION_NAMES.index(name)] = weight
    return jnp.asarray(vector)


def drive(
    step: Any,
    observe: Any,
    params: TaskParams,
    state: EnvState,
    choose: Chooser,
    n: int,
    seed: int = 0,
) -> list[Step]:
    """Plays n steps from a state."""
    steps = []
    for t in range(n):
        obs, mask = map(np.asarray, observe(params, state))
        action = np.asarray(choose(obs, mask, t), np.int32)
        out = step(params, state, jnp.asarray(action), jax.random.key(seed * 10_000 + t))
        after, *rest = jax.tree.map(np.asarray, out)
        before = jax.tree.map(np.asarray, state)
        steps.append(Step(before, obs, mask, action, after, *rest))
        state = out[0]
    return steps


def same_bits(a: Any, b: Any) -> bool:
    """Tells whether two trees of arrays are equal bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def differing(a: Episodes, b: Episodes) -> list[str]:
    """Names the fields in which two tables of episodes differ by a bit."""
    fields = zip((*a.sim._fields, *a._fields[1:]), (*a.sim, *a[1:]), (*b.sim, *b[1:]), strict=True)
    return [name for name, x, y in fields if np.asarray(x).tobytes() != np.asarray(y).tobytes()]
