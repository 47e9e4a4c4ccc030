"""What all plugs drive: accounts side by side, one compiled call a step, NumPy arrays out.

Every number comes from passline.task.env; here it is only looked up, compiled and brought to the
host. A lane whose episode ended shows both its last state (`final`) and the next episode's first.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.envs.making import Task
from passline.errors import ConfigError, SimulationError
from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, DoneReason
from passline.sim.step import mark_to_close, start
from passline.task import env
from passline.task.actions import N_ACTIONS
from passline.task.env import EnvState, TaskParams
from passline.task.reward import RewardWeights

__all__ = ["DONE_WORDS", "Lanes", "Step", "View"]

DONE_WORDS = np.array([reason.name.lower() for reason in DoneReason])
"""What an episode ended for, in a word, by DoneReason; "none" while it goes on."""
N_SEEDS = 2**32


class View(NamedTuple):
    """What each lane shows at the close of its bar.

    Attributes:
        obs: float32 [L, F].
        action_mask: legal actions, bool [L, A].
        equity_mills: balance and open P&L, int32 [L].
        floor_mills: equity at or below it breaches, int32 [L].
        bar: index on the joint tape of the bar that has just closed, int32 [L].
        done_reason: DoneReason, int32 [L].
    """

    obs: AnyArray
    action_mask: AnyArray
    equity_mills: AnyArray
    floor_mills: AnyArray
    bar: AnyArray
    done_reason: AnyArray


class Step(NamedTuple):
    """What one decision led to in every lane.

    Attributes:
        now: the state to decide in next; a new episode's where one ended.
        final: the last state of the episode that ended; unread elsewhere.
        reward: float32 [L].
        is_terminated: the account passed, was breached or ran out of time [L].
        is_truncated: the window or the data ended [L].
        is_invalid: a masked action was sent and counted as HOLD [L].
        terms: weighted reward terms, float32 [L] each.
    """

    now: View
    final: View
    reward: AnyArray
    is_terminated: AnyArray
    is_truncated: AnyArray
    is_invalid: AnyArray
    terms: RewardWeights


class _Running(NamedTuple):
    state: EnvState
    key: Array


def _view(params: TaskParams, state: EnvState) -> View:
    obs, mask = env.observe(params, state)
    sim = state.sim
    equity = mark_to_close(params.tape, params.markets, sim)
    return View(obs, mask, equity, sim.floor, sim.bar, sim.done_reason)


def _draw(params: TaskParams, key: Array, n_lanes: int) -> tuple[_Running, View]:
    """Draws an episode for every lane."""
    draw_key, key = jax.random.split(key)
    state = env.reset(params, draw_key, n_lanes)
    return _Running(state, key), _view(params, state)


def _open(
    params: TaskParams, key: Array, bar: Array, market: Array, end_bar: Array
) -> tuple[_Running, View]:
    """Opens a fresh account at each given bar."""
    sim = start(params.tape, params.markets, params.rules, bar, market)
    state = env.begin(params, sim, end_bar)
    return _Running(state, key), _view(params, state)


def _step(params: TaskParams, running: _Running, action: Array) -> tuple[_Running, Step]:
    """Steps all lanes, and looks at the states that env.step leaves behind where episodes end.

    The ended states are those that env.step computes on its way; the compiler merges the two.
    """
    state = running.state
    step_key, key = jax.random.split(running.key)
    now, reward, is_terminated, is_truncated, _, info = env.step(params, state, action, step_key)
    mask = env.observe(params, state)[1]
    sim, _, is_invalid = env.act_on(params, state.sim, action, mask)
    ended = state._replace(sim=env.close_windows(state, sim))
    shown = _view(params, now)
    final = jax.lax.cond(
        jnp.any(is_terminated | is_truncated), lambda: _view(params, ended), lambda: shown
    )
    return _Running(now, key), Step(
        shown, final, reward, is_terminated, is_truncated, is_invalid, info.terms
    )


@cache
def _compiled() -> tuple[Callable[..., Any], ...]:
    """Compiles at first use, once for all plugs, so that importing a plug starts no device."""
    return (
        sim_jit(_draw, static_argnums=2, is_fused=True),
        sim_jit(_open),
        sim_jit(_step, is_fused=True),
    )


class Lanes:
    """Accounts of one task side by side.

    Args:
        task: what is played.
        n_lanes: L.
    """

    def __init__(self, task: Task, n_lanes: int) -> None:
        if n_lanes < 1:
            raise ConfigError(f"n_lanes was {n_lanes}; it must be at least 1.")
        self.task = task
        self.n_lanes = n_lanes
        self._draw, self._open, self._step = _compiled()
        self._running: _Running | None = None

    def reset(self, rng: np.random.Generator) -> View:
        """Draws an episode of the phase's mix for every lane; all later draws follow from rng."""
        self._running, view = self._draw(self.task.params, _new_key(rng), self.n_lanes)
        return cast(View, _to_host(view))

    def begin_at(
        self, rng: np.random.Generator, bars: AnyArray, end_bars: AnyArray | None = None
    ) -> View:
        """Opens a fresh account in every lane at the close of a bar.

        Args:
            rng: of the episodes drawn later, where these end.
            bars: indices on the joint tape [L] or one for all.
            end_bars: bars at whose close the episodes are truncated at the latest; at the end of
                the task's range of bars in any case.

        Raises:
            ConfigError: a bar lies outside the ranges that the task plays, or an end is not after
                its start.
        """
        prepared, ranges = self.task.prepared, np.asarray(self.task.playable(), np.int64)
        first = np.broadcast_to(np.asarray(bars, np.int64), (self.n_lanes,))
        place = np.maximum(np.searchsorted(ranges[:, 0], first, side="right") - 1, 0)
        is_off = (first < ranges[place, 0]) | (first >= ranges[place, 1])
        last = ranges[place, 1] - 1
        end = last if end_bars is None else np.minimum(np.asarray(end_bars, np.int64), last)
        end = np.broadcast_to(end, first.shape)
        bad = np.flatnonzero(is_off | (end <= first))
        if len(bad):
            lane = bad[0]
            raise ConfigError(
                f"start_bar was {first[lane]} with end_bar {end[lane]} in {len(bad)} of "
                f"{self.n_lanes} lanes (first: {lane}); starts lie in {_told(ranges)}, the bars "
                "of this task, and ends after their starts."
            )
        market = np.searchsorted(prepared.offsets, first, side="right") - 1
        arrays = (jnp.asarray(x, jnp.int32) for x in (first, market, end))
        self._running, view = self._open(self.task.params, _new_key(rng), *arrays)
        return cast(View, _to_host(view))

    def step(self, action: AnyArray) -> Step:
        """Sends one action a lane, int [L]; a masked one counts as HOLD.

        Raises:
            ConfigError: an action is no row of the action table, or there are not L of them.
            SimulationError: no episode was begun.
        """
        sent = np.asarray(action)
        is_row = (sent >= 0) & (sent < N_ACTIONS) & (sent == np.trunc(sent))
        if sent.shape != (self.n_lanes,) or not is_row.all():
            raise ConfigError(
                f"actions were {sent.ravel()[:5].tolist()} of shape {sent.shape}; allowed: "
                f"({self.n_lanes},) whole numbers from 0 to {N_ACTIONS - 1}."
            )
        if self._running is None:
            raise SimulationError("step was called before reset; call reset first.")
        self._running, step = self._step(
            self.task.params, self._running, jnp.asarray(sent, jnp.int32)
        )
        return cast(Step, _to_host(step))


def _new_key(rng: np.random.Generator) -> Array:
    return jax.random.key(int(rng.integers(N_SEEDS)))


def _to_host(tree: Any) -> Any:
    """Brings arrays to the host as copies of their own, which the caller may keep or change."""
    return jax.tree.map(np.array, tree)


def _told(ranges: NDArray[np.int64]) -> str:
    """Names where episodes may start in half-open ranges of bars, of the first few."""
    shown = ", ".join(f"{first} to {stop - 2}" for first, stop in ranges[:5])
    return shown + (", ..." if len(ranges) > 5 else "")
