"""What an entry at every bar comes to when its bracket is left alone, known once and for all.

The market does not react to the agent, so that the simulator can tell the outcome of each entry at
each close of a stretch before anyone has learned anything. Bars in which an open bracket cannot be
met are passed by a search; the bars of entry and exit are walked by the simulator itself.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, BarFlag, State
from passline.sim.step import start
from passline.sim.step import step as sim_step
from passline.task.actions import order_of
from passline.task.env import TaskParams, facts_at, mask_at

__all__ = ["Outcomes", "entry_outcomes"]

CHUNK = 1 << 14
"""Entries walked in one compiled call."""
N_THREADS = 2
I32 = NDArray[np.int32]


class Outcomes(NamedTuple):
    """What each entry at the close of each bar comes to; E entries, B bars of the tape.

    Attributes:
        net_r: net result in units of initial risk, costs included; 0 where none fills [E, B].
        exit_bar: bar at whose close the account is flat again; the next bar where no entry fills
            [E, B].
    """

    net_r: AnyArray
    exit_bar: AnyArray


class _Extremes(NamedTuple):
    """Lowest low and highest high of the 2**i bars from each bar on, int32 [levels, B]."""

    low: AnyArray
    high: AnyArray
    flat: AnyArray


def entry_outcomes(params: TaskParams, bars: I32, actions: I32) -> Outcomes:
    """Simulates every entry at the close of every given bar, each in a fresh account.

    The constants must leave a position alone until its bracket, or flat-by, closes it: no floor,
    daily limit or target may be in force.

    Args:
        params: constants of the phase.
        bars: bars at whose close an entry is decided; others are taken as without a fill.
        actions: rows of the action table that enter.

    Returns:
        NumPy arrays, net_r float32 and exit_bar int32.
    """
    n_bars = int(params.tape.close.shape[0])
    net_r = np.zeros((len(actions), n_bars), np.float32)
    exit_bar = np.broadcast_to(np.arange(1, n_bars + 1, dtype=np.int32), net_r.shape).copy()
    extremes, simulate = _extremes(params), _compiled()

    def walk(job: tuple[int, I32]) -> None:
        row, chunk = job
        padded = np.resize(chunk, CHUNK)
        r, ends = simulate(params, extremes, jnp.asarray(padded), jnp.int32(actions[row]))
        net_r[row, chunk] = np.asarray(r)[: len(chunk)]
        exit_bar[row, chunk] = np.asarray(ends)[: len(chunk)]

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(walk, _jobs(bars, len(actions))))
    return Outcomes(net_r, exit_bar)


def _jobs(bars: I32, n_entries: int) -> Iterator[tuple[int, I32]]:
    for row in range(n_entries):
        for first in range(0, len(bars), CHUNK):
            yield row, bars[first : first + CHUNK]


def _extremes(params: TaskParams) -> _Extremes:
    """Builds the tables of the search: as many levels as the longest session needs."""
    low, high = np.asarray(params.tape.low), np.asarray(params.tape.high)
    flags = np.asarray(params.tape.flags)
    starts = np.flatnonzero((flags & BarFlag.SESSION_START) != 0)
    longest = int(np.diff(np.r_[starts, len(flags)]).max())
    lows, highs = [low], [high]
    for level in range(max(longest - 1, 1).bit_length() - 1):
        reach = np.minimum(np.arange(len(low)) + (1 << level), len(low) - 1)
        lows.append(np.minimum(lows[-1], lows[-1][reach]))
        highs.append(np.maximum(highs[-1], highs[-1][reach]))
    last = np.where((flags & BarFlag.FLAT) != 0, np.arange(len(flags)), len(flags) - 1)
    flat = np.minimum.accumulate(last[::-1])[::-1].astype(np.int32)
    return _Extremes(jnp.asarray(np.stack(lows)), jnp.asarray(np.stack(highs)), jnp.asarray(flat))


def _walk_entries(
    params: TaskParams, extremes: _Extremes, bars: Array, action: Array
) -> tuple[Array, Array]:
    """Enters at the close of each bar and returns (net_r, exit_bar), [N] each."""
    rules, tape, markets = params.rules, params.tape, params.markets
    flat = start(tape, markets, rules, bars, params.market[bars])
    mask = mask_at(params, flat, facts_at(params, bars))
    kinds = jnp.where(mask[:, action], action, 0)
    orders = order_of(params.bracket, markets, flat, kinds, params.atr[bars])
    held, first = sim_step(tape, markets, rules, flat, orders)
    hold = jax.tree.map(jnp.zeros_like, orders)
    eventful = _first_eventful(params, extremes, held)
    before = held._replace(bar=jnp.where(held.qty != 0, eventful - 1, held.bar))
    after, second = sim_step(tape, markets, rules, before, hold)
    is_open = held.qty != 0
    net = jnp.where(is_open, second.trip_net, first.trip_net).astype(jnp.float32)
    risk = jnp.where(is_open, second.trip_risk, first.trip_risk)
    net_r = jnp.where(risk > 0, net / jnp.maximum(risk, 1).astype(jnp.float32), 0.0)
    return net_r, jnp.where(is_open, after.bar, held.bar)


@cache
def _compiled() -> Callable[..., tuple[Array, Array]]:
    """Compiles at first use, so that importing this module starts no device.

    Unfused: the search is a chain of lookups, each at the place that the one before it found, and
    fusion works the whole chain out anew at every level (40 times as slow on a year of minutes).
    """
    return sim_jit(_walk_entries)


def _first_eventful(params: TaskParams, extremes: _Extremes, held: State) -> Array:
    """Returns the first bar in which each open position's stop or target can be met [N].

    At the latest that is the last bar in which a position may be open. The search descends
    through the levels and steps over every stretch whose range meets neither price.
    """
    is_long = held.qty > 0
    through = params.rules.target_through
    below = jnp.where(is_long, held.stop, held.target - through)
    above = jnp.where(is_long, held.target + through, held.stop)
    at = jnp.minimum(held.bar + 1, params.tape.close.shape[0] - 1)
    latest = extremes.flat[at]
    for level in reversed(range(extremes.low.shape[0])):
        is_met = (extremes.low[level, at] <= below) | (extremes.high[level, at] >= above)
        at = jnp.minimum(jnp.where(is_met, at, at + (1 << level)), latest)
    return at
