"""Plays given episodes to their ends, with masks, through the very functions that training uses.

The episodes are dealt out to shares, each played in a thread of its own. Within a share, a fixed
number of lanes takes the episodes off a list; a lane whose episode ended takes the next. Everything
a report needs of an episode is added up on the way.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    "play_alone",
    "play_and_log",
    "play_episodes",
]

MAX_DAYS = 48
"""Trading days of an episode whose closes are kept."""
CHUNK_STEPS = 512
CAPACITY = 512
"""Accounts are opened in multiples of this, so that few sizes are compiled."""
LANES = 64
"""Of a share; fewer are hardly faster."""
MAX_SHARES = 4
"""A constant, so that no draw depends on the machine."""
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
    """Every finished round trip, share by share in the order they ended; int32 [T] each.

    Attributes:
        episode: index of the episode.
        entry_bar: bar of the entry fill.
        exit_bar: bar of the exit fill.
        qty: signed contracts.
        net_mills: net result.
        low_mills: lowest open P&L.
        high_mills: highest open P&L.
    """

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
    key: Array
    n_steps: Array


class _Bar(NamedTuple):
    """What one bar adds to the logs; [L] each."""

    action: Array
    trips: TripLog


def play_episodes(
    params: TaskParams,
    greedy: Greedy,
    policy: Policy,
    starts: EnvState,
    *,
    seed: int,
    n_lanes: int = LANES,
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
    n_lanes: int = LANES,
) -> tuple[Episodes, TripLog]:
    """Plays episodes until each has ended, and keeps their round trips.

    Args:
        params: the environment's constants (of the phase whose rules hold).
        greedy: the agent's rule, jit-able; compiled once for each.
        policy: who acts.
        starts: accounts and last bars of N episodes.
        seed: of the policy's draws.
        n_lanes: episodes of a share that are played at once.

    Returns:
        One row an episode, and one a round trip.
    """
    policy = _laid_out(params, policy)
    n = int(starts.end_bar.shape[0])
    shares = np.array_split(np.arange(n), min(MAX_SHARES, -(-n // n_lanes)))
    size = 1 << max(n_lanes - 1, len(shares[0]) - 1).bit_length()  # few sizes to compile for
    key = jax.random.key(seed)

    def play_share(number: int) -> tuple[Episodes, TripLog]:
        rows = shares[number]
        listed = _listed(starts, rows, size)
        trips: list[TripLog] = []
        done = None
        own = jax.random.fold_in(key, number)
        for play, bars in _chunks(params, greedy, policy, listed, len(rows), own, n_lanes):
            trips.append(_finished(bars.trips, len(rows)))
            done = play.done
        return jax.tree.map(lambda x: np.asarray(x)[: len(rows)], done), TripLog(
            rows[np.concatenate([part.episode for part in trips])].astype(np.int32),
            *map(np.concatenate, list(zip(*trips, strict=True))[1:]),
        )

    with ThreadPoolExecutor(min(len(shares), os.cpu_count() or 1)) as threads:
        played = list(threads.map(play_share, range(len(shares))))
    episodes: Episodes = jax.tree.map(lambda *x: np.concatenate(x), *[part[0] for part in played])
    return episodes, TripLog(*map(np.concatenate, zip(*[part[1] for part in played], strict=True)))


def play_alone(
    params: TaskParams, greedy: Greedy, policy: Policy, start: EnvState
) -> tuple[Episodes, NDArray[np.int8]]:
    """Plays one episode by the very program that `play_and_log` plays many by.

    Args:
        params: the environment's constants.
        greedy: the agent's rule.
        policy: who acts; one that draws nothing.
        start: account and last bar, [1] each.

    Returns:
        (its row, its actions [T]).
    """
    listed = _listed(start, np.zeros(1, np.intp), LANES)
    policy = _laid_out(params, policy)
    actions: list[NDArray[np.int8]] = []
    done = None
    for play, bars in _chunks(params, greedy, policy, listed, 1, jax.random.key(0), LANES):
        actions.append(np.asarray(bars.action)[:, 0])
        done = play.done
    played: Episodes = jax.tree.map(lambda x: np.asarray(x)[:1], done)
    return played, np.concatenate(actions)[: int(played.length[0])]


def filled_up(n: int) -> NDArray[np.intp]:
    """Returns the rows 0 to n - 1, the last repeated up to a multiple of CAPACITY."""
    return np.minimum(np.arange(-(-n // CAPACITY) * CAPACITY), n - 1)


def _laid_out(params: TaskParams, policy: Policy) -> Policy:
    """Gives the signals of all policies one shape: one compilation."""
    n_bars = params.tape.close.shape
    return policy._replace(
        signal=jnp.broadcast_to(policy.signal, n_bars),
        exits=jnp.broadcast_to(policy.exits, n_bars),
    )


def _listed(starts: EnvState, rows: NDArray[np.intp], size: int) -> EnvState:
    """Returns the starts of these rows, the last repeated up to a size."""
    filled = rows[np.minimum(np.arange(size), len(rows) - 1)]
    listed: EnvState = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[filled]), starts)
    return listed


def _chunks(
    params: TaskParams,
    greedy: Greedy,
    policy: Policy,
    listed: EnvState,
    n: int,
    key: Array,
    n_lanes: int,
) -> Iterator[tuple[_Play, _Bar]]:
    """Plays the first n of the list; yields where it stands after each CHUNK_STEPS bars and those.

    What is yielded is overwritten by the next chunk, except for the bars.
    """
    begin, run = _compiled(greedy, n_lanes)
    play = begin(params, listed, key)
    is_running = True
    while is_running:
        play, bars = run(params, policy, listed, jnp.int32(n), play)
        is_running = bool(np.any(np.asarray(play.slot) < n))
        yield play, bars


def _finished(bars: TripLog, n: int) -> TripLog:
    """Returns the round trips that ended in these bars, [T, L] each, but for spare lanes'."""
    columns = [np.asarray(column) for column in bars]
    found = TripLog(*columns)
    rows = np.nonzero((found.qty != 0) & (found.episode < n))
    return TripLog(*(column[rows] for column in columns))


@lru_cache(maxsize=8)
def _compiled(greedy: Greedy, lanes: int) -> tuple[Any, Any]:
    def begin(params: TaskParams, starts: EnvState, key: Array) -> _Play:
        slot = jnp.arange(lanes, dtype=jnp.int32)
        env = _pick(starts, jnp.minimum(slot, starts.end_bar.shape[0] - 1))
        return _Play(
            env,
            slot,
            jnp.int32(lanes),
            _blank(params, env),
            _blank(params, starts),
            key,
            jnp.int32(0),
        )

    def run(
        params: TaskParams, policy: Policy, starts: EnvState, n: Array, play: _Play
    ) -> tuple[_Play, _Bar]:
        def body(carry: _Play, _: None) -> tuple[_Play, _Bar]:
            return _advance(params, greedy, policy, starts, n, carry)

        return jax.lax.scan(body, play, None, length=CHUNK_STEPS)

    return sim_jit(begin), sim_jit(run, is_fused=True, donate_argnums=(4,))


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
) -> tuple[_Play, _Bar]:
    """Plays one bar in every lane, stores what ended and takes the next episodes off the list."""
    before = play.env.sim
    obs, mask = observe(params, play.env)
    action = choose(policy, greedy, before.bar, before.qty, obs, mask, play.key, play.n_steps)
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
    ended = ~is_active(after) & (play.slot < n)
    env = play.env._replace(sim=after)

    def refill() -> tuple[EnvState, Array, Array, Episodes, Episodes]:
        size = starts.end_bar.shape[0]
        # One scatter, then gathers: scatters by the same rows are what XLA's fusion aborts on.
        where = jnp.where(ended, play.slot, size)
        lane = jnp.full(size, -1).at[where].set(jnp.arange(ended.shape[0]), mode="drop")
        done = jax.tree.map(lambda all_, x: _where(lane >= 0, x[lane], all_), play.done, running)
        order = jnp.cumsum(ended.astype(jnp.int32)) - 1
        slot = jnp.where(ended, jnp.minimum(play.next_slot + order, n), play.slot)
        fresh = _pick(starts, jnp.minimum(slot, n - 1))
        new_env = jax.tree.map(lambda a, b: _where(ended, a, b), fresh, env)
        blank = _blank(params, fresh)
        counters = jax.tree.map(lambda a, b: _where(ended, a, b), blank, running)
        return new_env, slot, play.next_slot + order[-1] + 1, counters, done

    def go_on() -> tuple[EnvState, Array, Array, Episodes, Episodes]:
        return env, play.slot, play.next_slot, running, play.done

    env, slot, next_slot, counters, done = jax.lax.cond(jnp.any(ended), refill, go_on)
    trips = TripLog(
        episode=play.slot,
        entry_bar=after.entry_bar,
        exit_bar=after.bar,
        qty=events.exit_qty,
        net_mills=events.trip_net,
        low_mills=after.trip_low,
        high_mills=after.trip_high,
    )
    bar = _Bar(action.astype(jnp.int8), trips)
    return _Play(env, slot, next_slot, counters, done, play.key, play.n_steps + 1), bar


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
    is_day = day[:, None] == jnp.arange(MAX_DAYS, dtype=jnp.int32)
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
        day_equity=jnp.where(is_day, events.equity[:, None], running.day_equity),
        day_floor=jnp.where(is_day, after.floor[:, None], running.day_floor),
    )
