"""Plays given episodes to their ends, with masks, through the very functions that training uses.

A fixed number of lanes takes the episodes off a list; a lane whose episode ended takes the next.
Everything a report needs of an episode is added up on the way.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.evaluate.policies import Greedy, Policy, choose
from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, Events, OrderKind, State
from passline.sim.step import is_active, mark_to_close
from passline.task.actions import N_ACTIONS, action_index
from passline.task.env import EnvState, TaskParams, act_on, close_windows, observe
from passline.task.reward import reward_terms, total_reward

__all__ = [
    "FIRST_ENTRY",
    "MAX_DAYS",
    "Episodes",
    "TripLog",
    "filled_up",
    "play_and_log",
    "play_episodes",
]

MAX_DAYS = 48
"""Trading days of an episode whose closes are kept."""
CHUNK_STEPS = 512
CAPACITY = 512
"""Lists of episodes are filled up to a multiple of this, so that few sizes are compiled."""
DEFAULT_LANES = 256
MAX_TRIPS = 2**17
"""Round trips that are kept of one call."""
FIRST_ENTRY = action_index(OrderKind.LONG)


class Episodes(NamedTuple):
    """What became of N episodes, in the order they were given; NumPy arrays.

    Attributes:
        sim: the account at its end; State of [N].
        start_bar: bar at whose close it began [N].
        equity: at the end, mills [N].
        reward: sum of rewards, float32 [N].
        length: bars walked [N].
        n_days: trading days begun, that of the first bar included [N].
        n_trips: finished round trips [N].
        sum_r: sum of their net results in units of risk, float32 [N].
        n_invalid: masked actions sent [N].
        max_equity: highest equity at a close, mills [N].
        min_cushion: lowest equity - floor at a close, mills [N].
        action_counts: [N, A].
        choice_counts: actions where more than one was legal [N, A].
        n_legal: sum over the bars of the number of legal actions [N].
        n_entry_chances: bars at which an entry was legal [N].
        day_equity: equity at the close of each trading day, mills [N, MAX_DAYS].
        day_floor: the floor at the same times [N, MAX_DAYS].
    """

    sim: State
    start_bar: AnyArray
    equity: AnyArray
    reward: AnyArray
    length: AnyArray
    n_days: AnyArray
    n_trips: AnyArray
    sum_r: AnyArray
    n_invalid: AnyArray
    max_equity: AnyArray
    min_cushion: AnyArray
    action_counts: AnyArray
    choice_counts: AnyArray
    n_legal: AnyArray
    n_entry_chances: AnyArray
    day_equity: AnyArray
    day_floor: AnyArray


class TripLog(NamedTuple):
    """Every finished round trip, in the order they ended; [T] each.

    Attributes:
        n: how many there were; rows beyond MAX_TRIPS are counted, not kept.
        episode: index of the episode.
        entry_bar: bar of the entry fill.
        exit_bar: bar of the exit fill.
        qty: signed contracts.
        net_mills: net result.
        low_mills: lowest open P&L.
        high_mills: highest open P&L.
    """

    n: AnyArray
    episode: AnyArray
    entry_bar: AnyArray
    exit_bar: AnyArray
    qty: AnyArray
    net_mills: AnyArray
    low_mills: AnyArray
    high_mills: AnyArray


class _Play(NamedTuple):
    env: EnvState
    slot: Array
    next_slot: Array
    running: Episodes
    done: Episodes
    trips: TripLog
    key: Array


def play_episodes(
    params: TaskParams,
    greedy: Greedy,
    policy: Policy,
    starts: EnvState,
    *,
    seed: int,
    n_lanes: int = DEFAULT_LANES,
) -> Episodes:
    """Plays episodes until each has ended; see `play_and_log`."""
    return play_and_log(params, greedy, policy, starts, seed=seed, n_lanes=n_lanes)[0]


def play_and_log(
    params: TaskParams,
    greedy: Greedy,
    policy: Policy,
    starts: EnvState,
    *,
    seed: int,
    n_lanes: int = DEFAULT_LANES,
) -> tuple[Episodes, TripLog]:
    """Plays episodes until each has ended, and keeps their round trips.

    Args:
        params: the environment's constants (of the phase whose rules hold).
        greedy: the agent's rule, jit-able; compiled once for each.
        policy: who acts.
        starts: accounts and last bars of N episodes.
        seed: of the policy's draws.
        n_lanes: episodes played at once.

    Returns:
        One row an episode, and one a round trip.
    """
    n = int(starts.end_bar.shape[0])
    begin, run = _compiled(greedy, n_lanes)
    listed = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[filled_up(n)]), starts)
    n_bars = params.tape.close.shape  # one shape for all policies: one compilation
    if policy.signal.shape != n_bars:
        policy = policy._replace(signal=jnp.broadcast_to(policy.signal, n_bars))
    if policy.exits.shape != n_bars:
        policy = policy._replace(exits=jnp.broadcast_to(policy.exits, n_bars))
    play = begin(params, listed, jax.random.key(seed))
    while bool(jnp.any(play.slot < n)):
        play = run(params, policy, listed, jnp.int32(n), play)
    done: Episodes = jax.tree.map(lambda x: np.asarray(x)[:n], play.done)
    kept = min(int(play.trips.n), MAX_TRIPS)
    rows = [np.asarray(column)[:kept] for column in play.trips[1:]]
    return done, TripLog(int(play.trips.n), *rows)


def filled_up(n: int) -> NDArray[np.intp]:
    """Returns the rows 0 to n - 1, the last repeated up to a multiple of CAPACITY."""
    return np.minimum(np.arange(-(-n // CAPACITY) * CAPACITY), n - 1)


@lru_cache(maxsize=8)
def _compiled(greedy: Greedy, lanes: int) -> tuple[Any, Any]:
    def begin(params: TaskParams, starts: EnvState, key: Array) -> _Play:
        size = starts.end_bar.shape[0]
        slot = jnp.arange(lanes, dtype=jnp.int32)
        env = _pick(starts, jnp.minimum(slot, size - 1))
        blank = _blank(params, _pick(starts, jnp.zeros(size + 1, jnp.int32)))
        column = jnp.zeros(MAX_TRIPS, jnp.int32)
        trips = TripLog(jnp.int32(0), *[column] * (len(TripLog._fields) - 1))
        return _Play(env, slot, jnp.int32(lanes), _blank(params, env), blank, trips, key)

    def run(params: TaskParams, policy: Policy, starts: EnvState, n: Array, play: _Play) -> _Play:
        def body(carry: _Play, _: None) -> tuple[_Play, None]:
            return _advance(params, greedy, policy, starts, n, carry), None

        return jax.lax.scan(body, play, None, length=CHUNK_STEPS)[0]

    return sim_jit(begin), sim_jit(run, donate_argnums=(4,))


def _pick(starts: EnvState, slot: Array) -> EnvState:
    picked: EnvState = jax.tree.map(lambda x: x[slot], starts)
    return picked


def _blank(params: TaskParams, env: EnvState) -> Episodes:
    """Returns the counters of episodes that have just begun, shaped like `env`."""
    zero = jnp.zeros_like(env.end_bar)
    none = jnp.zeros(zero.shape, jnp.float32)
    by_action = jnp.zeros((*zero.shape, N_ACTIONS), jnp.int32)
    by_day = jnp.zeros((*zero.shape, MAX_DAYS), jnp.int32)
    equity = mark_to_close(params.tape, params.markets, env.sim)
    return Episodes(
        sim=env.sim,
        start_bar=env.start_bar,
        equity=equity,
        reward=none,
        length=zero,
        n_days=(env.sim.day == env.sim.first_day).astype(jnp.int32),
        n_trips=zero,
        sum_r=none,
        n_invalid=zero,
        max_equity=equity,
        min_cushion=equity - env.sim.floor,
        action_counts=by_action,
        choice_counts=by_action,
        n_legal=zero,
        n_entry_chances=zero,
        day_equity=by_day,
        day_floor=by_day,
    )


def _advance(
    params: TaskParams, greedy: Greedy, policy: Policy, starts: EnvState, n: Array, play: _Play
) -> _Play:
    """Plays one bar in every lane, stores what ended and takes the next episodes off the list."""
    key, step_key = jax.random.split(play.key)
    before = play.env.sim
    obs, mask = observe(params, play.env)
    action = choose(policy, greedy, before.bar, before.qty, obs, mask, step_key)
    after, events, is_invalid = act_on(params, before, action, mask)
    after = close_windows(play.env, after)
    terms = reward_terms(
        params.rules,
        before,
        after,
        events,
        equity_before=mark_to_close(params.tape, params.markets, before),
        bracket=params.bracket,
    )
    reward = total_reward(params.weights, terms)
    running = _count(play.running, before, after, events, reward, action, mask, is_invalid)
    trips = _log_trips(play.trips, play.slot, n, after, events)
    ended = ~is_active(after) & (play.slot < n)
    env = play.env._replace(sim=after)

    def refill() -> tuple[EnvState, Array, Array, Episodes, Episodes]:
        where = jnp.where(ended, play.slot, starts.end_bar.shape[0])
        done = jax.tree.map(lambda all_, x: all_.at[where].set(x), play.done, running)
        order = jnp.cumsum(ended.astype(jnp.int32)) - 1
        slot = jnp.where(ended, jnp.minimum(play.next_slot + order, n), play.slot)
        fresh = _pick(starts, jnp.minimum(slot, n - 1))
        new_env = jax.tree.map(lambda a, b: _where(ended, a, b), fresh, env)
        blank = _blank(params, fresh)
        counters = jax.tree.map(lambda a, b: _where(ended, a, b), blank, running)
        return new_env, slot, play.next_slot + order[-1] + 1, counters, done

    def go_on() -> tuple[EnvState, Array, Array, Episodes, Episodes]:
        return env, play.slot, play.next_slot, running, play.done

    env, slot, next_slot, running, done = jax.lax.cond(jnp.any(ended), refill, go_on)
    return _Play(env, slot, next_slot, running, done, trips, key)


def _log_trips(log: TripLog, slot: Array, n: Array, after: State, events: Events) -> TripLog:
    """Appends the round trips that ended in this bar."""
    is_trip = (events.exit_qty != 0) & (slot < n)
    count = jnp.cumsum(is_trip.astype(jnp.int32))
    row = jnp.where(is_trip, log.n + count - 1, MAX_TRIPS)
    values = (
        slot,
        after.entry_bar,
        after.bar,
        events.exit_qty,
        events.trip_net,
        after.trip_low,
        after.trip_high,
    )
    columns = [c.at[row].set(v, mode="drop") for c, v in zip(log[1:], values, strict=True)]
    return TripLog(log.n + count[-1], *columns)


def _where(condition: Array, a: Array, b: Array) -> Array:
    shaped = condition.reshape(condition.shape + (1,) * (a.ndim - 1))
    return jnp.where(shaped, a, b)


def _count(
    running: Episodes,
    before: State,
    after: State,
    events: Events,
    reward: Array,
    action: Array,
    mask: Array,
    is_invalid: Array,
) -> Episodes:
    """Adds one bar to the counters of each lane that still moved."""
    moved = is_active(before).astype(jnp.int32)
    chosen = (action[:, None] == jnp.arange(N_ACTIONS, dtype=jnp.int32)) * moved[:, None]
    n_legal = jnp.sum(mask, axis=1, dtype=jnp.int32)
    has_choice = (n_legal > 1).astype(jnp.int32)
    risk = jnp.maximum(events.trip_risk, 1).astype(jnp.float32)
    trip_r = jnp.where(events.trip_risk > 0, events.trip_net.astype(jnp.float32) / risk, 0.0)
    n_days = running.n_days + events.is_new_day
    day = jnp.clip(n_days - 1, 0, MAX_DAYS - 1)
    lanes = jnp.arange(day.shape[0])
    return Episodes(
        sim=after,
        start_bar=running.start_bar,
        equity=events.equity,
        reward=running.reward + reward,
        length=running.length + moved,
        n_days=n_days,
        n_trips=running.n_trips + (events.exit_qty != 0),
        sum_r=running.sum_r + trip_r,
        n_invalid=running.n_invalid + is_invalid,
        max_equity=jnp.maximum(running.max_equity, events.equity),
        min_cushion=jnp.minimum(running.min_cushion, events.equity - after.floor),
        action_counts=running.action_counts + chosen,
        choice_counts=running.choice_counts + chosen * has_choice[:, None],
        n_legal=running.n_legal + n_legal * moved,
        n_entry_chances=running.n_entry_chances + (jnp.any(mask[:, FIRST_ENTRY:], axis=1) * moved),
        day_equity=running.day_equity.at[lanes, day].set(events.equity),
        day_floor=running.day_floor.at[lanes, day].set(after.floor),
    )
