"""Small null tests by the hundred: an actual market and its null markets trained side by side.

What is trained and played is the program's own (prepare, environment, update, greedy agent); only
the curriculum around it is cut down to one forced phase, and the 1 + N markets of a test are one
batch. The statistic is the mean net result of a test session, in allowances.

    python tests/null_trainings.py bar_flip 0.0 0 50 kept   # kind, strength, seeds [0, 50), folder

keeps what the folder does not hold yet, a file a null test, for running the proof in pieces.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from passline.evaluate.judge import begin_at
from passline.evaluate.slices import SliceConfig, Starts, day_starts, split
from passline.learn import network
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper, make_update
from passline.market.bars import Bars
from passline.market.load.resample import resample_bars
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.nulltest import NULL_KINDS, null_market
from passline.rulebook.catalog import load_rulebook
from passline.sim.jit import sim_jit
from passline.sim.step import mark_to_close
from passline.task import env
from passline.task.actions import N_ACTIONS
from passline.task.env import EnvState, TaskParams
from passline.task.episodes import Component
from passline.task.phases import load_phases
from passline.task.prepare import OBSERVATION_NAMES, Prepared, TaskConfig, phase_params, prepare

N_NULLS = 19
N_UPDATES = 8
PPO = PPOConfig(
    n_lanes=32,
    rollout_steps=64,
    minibatch_size=512,
    lane_block=4,
    hidden=(16,),
    learning_rate=3e-3,
    learning_rate_floor=5e-4,
    target_kl=10.0,
    gamma=0.97,
)
PHASE = dataclasses.replace(
    load_phases()[0],
    reward={"trip_r": 1.0},
    mix=(Component(name="window", weight=1.0, minutes=(240, 1_400)),),
)
"""The phase of entries, paid the plain result, its episodes windows of a day: no floor, no target,
one bracket."""
SLICES = SliceConfig(test_days=60, gate_days=1, embargo_days=3)
N_TEST_DAYS, N_TEST_BARS = 40, 96
TASK = TaskConfig(target_r=1.0)
"""Targets as near as stops: positions end by the bracket alone here, and a pull back to the VWAP
seldom reaches three times the stop, the less the stronger it is."""


def tape(seed: int, strength: float) -> Bars:
    """Six months of the built-in market in bars of 15 minutes."""
    config = SyntheticConfig(
        start_date=date(2021, 1, 4), end_date=date(2021, 7, 1), strength=strength
    )
    return resample_bars(synthesize(config, seed=seed).bars, 15)


@cache
def compiled() -> tuple[Any, Any, Any]:
    """Returns reset, update and play over a batch of markets."""
    reset = sim_jit(jax.vmap(lambda params, key: env.reset(params, key, PPO.n_lanes)))
    update = jax.vmap(make_update(env, PPO), in_axes=(0, 0, None))
    return reset, update, sim_jit(jax.vmap(play))


def play(params: TaskParams, policy: network.Params, begun: EnvState) -> jax.Array:
    """Plays test sessions to their ends; returns their net results, mills [n]."""

    def body(state: EnvState, _: None) -> tuple[EnvState, None]:
        obs, mask = env.observe(params, state)
        action = network.act_greedy(policy, obs, mask)
        sim, _, _ = env.act_on(params, state.sim, action, mask)
        return state._replace(sim=env.close_windows(state, sim)), None

    ended, _ = jax.lax.scan(body, begun, None, length=N_TEST_BARS)
    return mark_to_close(params.tape, params.markets, ended.sim) - begun.sim.balance


def results(markets: Sequence[Prepared], seed: int) -> np.ndarray:
    """Trains on each market and returns its test sessions' net results, in allowances [M, n]."""
    reset, update, play_all = compiled()
    cuts = [split(market, SLICES) for market in markets]
    params = [phase_params(m, PHASE, c.train) for m, c in zip(markets, cuts, strict=True)]
    # The pools' unused rest is never drawn; one length lets the markets lie side by side.
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *params)
    keys = jnp.stack([jax.random.key(seed)] * len(markets))
    lanes = reset(stacked, keys)
    one = jax.tree.map(lambda x: x[0], lanes)
    fresh = init_train_state(PPO, one, len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(seed + 1))
    state = jax.tree.map(lambda x: jnp.stack([x] * len(markets)), fresh)._replace(env_state=lanes)
    hyper = make_hyper(PPO, 0, N_UPDATES)
    for _ in range(N_UPDATES):
        state, _ = update(stacked, state, hyper)
    begun = [
        begin_at(p, first_days(day_starts(m, c.test)))
        for p, m, c in zip(params, markets, cuts, strict=True)
    ]
    played = play_all(stacked, state.params, jax.tree.map(lambda *x: jnp.stack(x), *begun))
    allowance = float(params[0].bracket.unit_mills)
    return np.asarray(played, np.float64) / allowance


def first_days(starts: Starts) -> Starts:
    """Returns the first N_TEST_DAYS sessions."""
    fields = (f.name for f in dataclasses.fields(starts))
    return Starts(**{name: getattr(starts, name)[:N_TEST_DAYS] for name in fields})


def null_tests(kind: str, strength: float, seeds: range) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (seed of the market, its 1 + N markets' session results [1 + N, n]), one a seed."""
    book = load_rulebook("apex-intraday-50k")
    for seed in seeds:
        actual = prepare([tape(seed, strength)], book, TASK)
        nulls = [null_market(kind, actual, seed=seed, draw=draw) for draw in range(N_NULLS)]
        yield seed, results([actual, *nulls], seed=0)


def kept(folder: Path, seed: int) -> Path:
    """Returns where the null test of a seed is kept; a folder is for one kind and strength."""
    return folder / f"{seed}.npy"


if __name__ == "__main__":
    asked, planted = sys.argv[1], float(sys.argv[2])
    assert asked in NULL_KINDS
    folder = Path(sys.argv[5])
    todo = [n for n in range(int(sys.argv[3]), int(sys.argv[4])) if not kept(folder, n).exists()]
    for number in todo:
        for _, found in null_tests(asked, planted, range(number, number + 1)):
            np.save(kept(folder, number), found)
