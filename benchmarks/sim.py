"""Measures the simulator alone, beside TorchTrade's bracket environment and gym-trading-env.

passline plays whole evaluations (phase `account`) of apex-intraday-50k on half a year of the
built-in market: at every step each account's legal actions are computed, one of them is drawn at
random, the bar is walked under all rules, and ended episodes are restarted, all inside one compiled
loop. Half of the accounts are played by each of two threads. `env` adds the observation, the reward
and the telemetry that training reads. Repetitions are interleaved; rates are medians.

    python benchmarks/sim.py --json
    python benchmarks/sim.py --curve

Compiled as training compiles its rollouts, and under the flags that every command sets.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import Array  # noqa: E402

from passline.envs.making import make_task  # noqa: E402
from passline.market.bars import Bars  # noqa: E402
from passline.market.synthetic import SyntheticConfig, synthesize  # noqa: E402
from passline.sim.draws import uniforms  # noqa: E402
from passline.sim.jit import sim_jit  # noqa: E402
from passline.sim.step import is_active  # noqa: E402
from passline.task import env  # noqa: E402
from passline.task.env import EnvState, TaskParams  # noqa: E402
from sim_peers import installed  # noqa: E402

BOOK, PHASE, SEED = "apex-intraday-50k", "account", 0
N_STEPS = 64
"""Steps of all lanes in one block."""
HALF_YEAR = SyntheticConfig(start_date=date(2023, 1, 1), end_date=date(2023, 7, 1))
CURVE_LANES = (256, 1024, 4096, 16384)
CURVE_YEARS = (0.1, 1, 3, 10)
MIB = 2**20


def draw_legal(mask: Array, u: Array) -> Array:
    """Returns one legal action a lane, each as likely as the others; int32 [L]."""
    rank = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    wanted = (u * rank[:, -1]).astype(jnp.int32)
    return jnp.sum(rank <= wanted[:, None], axis=1, dtype=jnp.int32)


def sim_step(params: TaskParams, state: EnvState, key: Array) -> tuple[EnvState, Array]:
    """Mask, random legal action, simulator and restart; nothing else."""
    n_lanes = state.end_bar.shape[0]
    draw_key, reset_key = key
    mask = env.observe(params, state)[1]
    action = draw_legal(mask, uniforms(draw_key, (n_lanes,)))
    sim, _, _ = env.act_on(params, state.sim, action, mask)
    ended = state._replace(sim=env.close_windows(state, sim))
    is_done = ~is_active(ended.sim)
    return env.restart(params, ended, is_done, reset_key), is_done.sum()


def env_step(params: TaskParams, state: EnvState, key: Array) -> tuple[EnvState, Array]:
    """The environment as training steps it, observation, reward and telemetry included."""
    draw_key, step_key = key
    observation, mask = env.observe(params, state)
    action = draw_legal(mask, uniforms(draw_key, (mask.shape[0],)))
    after, reward, *_, info = env.step(params, state, action, step_key)
    read = observation.sum() + reward.sum() + sum(x.sum() for x in jax.tree.leaves(info))
    return after, read


class Play:
    """One kind of step, played in blocks by threads that share the lanes between them.

    Args:
        params: constants of the task.
        one_step: sim_step or env_step.
        n_lanes: accounts at once, over all threads.
        n_threads: threads; each plays its share of the lanes.
    """

    def __init__(
        self, params: TaskParams, one_step: Callable[..., Any], n_lanes: int, n_threads: int
    ) -> None:
        def block(params: TaskParams, state: EnvState, key: Array) -> Any:
            keys = jax.random.split(key, (N_STEPS, 2))
            return jax.lax.scan(lambda s, k: one_step(params, s, k), state, keys)

        self.n_steps = N_STEPS * (n_lanes // n_threads) * n_threads
        self._block = sim_jit(block, is_fused=True, donate_argnums=(1,))
        self._params = params
        self._keys = list(jax.random.split(jax.random.key(SEED), n_threads))
        begin = env.compiled_reset()
        self._states = [begin(params, key, n_lanes // n_threads) for key in self._keys]
        self._pool = ThreadPoolExecutor(n_threads)

    def _play_share(self, rank: int) -> None:
        self._keys[rank] = jax.random.split(self._keys[rank], 1)[0]
        self._states[rank], out = self._block(self._params, self._states[rank], self._keys[rank])
        jax.block_until_ready(out)

    def __call__(self) -> None:
        """Plays one block of every share."""
        list(self._pool.map(self._play_share, range(len(self._keys))))


def timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bars_of(config: SyntheticConfig) -> Bars:
    return synthesize(config, seed=SEED).bars


def measure(n_lanes: int, n_threads: int, n_repetitions: int) -> dict[str, Any]:
    """Times passline and the installed peers on the same bars, in turn."""
    bars = bars_of(HALF_YEAR)
    params = make_task(bars, BOOK, PHASE, part="whole").params
    own = {
        "passline": Play(params, sim_step, n_lanes, n_threads),
        "passline_env": Play(params, env_step, n_lanes, n_threads),
        "passline_one_thread": Play(params, sim_step, n_lanes, 1),
    }
    peers = {name: make(bars, n_lanes, SEED) for name, make in installed().items()}
    calls: dict[str, Callable[[], None]] = {**own, **{n: p.play for n, p in peers.items()}}
    steps = {n: p.n_steps for n, p in {**own, **peers}.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    loads = []
    for call in calls.values():
        call()
    for _ in range(n_repetitions):
        for name, call in calls.items():
            seconds[name].append(timed(call))
        loads.append(os.getloadavg()[0])
    rate = {name: round(steps[name] / statistics.median(seconds[name])) for name in calls}
    best = {name: round(steps[name] / min(seconds[name])) for name in calls}
    return {
        **{name: rate.get(name) for name in ("passline", "torchtrade", "gym_trading_env")},
        "passline_env": rate["passline_env"],
        "passline_one_thread": rate["passline_one_thread"],
        "best": best,
        "passline_over": {n: round(rate["passline"] / rate[n], 2) for n in peers},
        "driven": {name: peer.note for name, peer in peers.items()},
        "lanes": n_lanes,
        "threads": n_threads,
        "bars": len(bars),
        "n_repetitions": n_repetitions,
        "load_1m": round(statistics.mean(loads), 2),
    }


def measure_point(n_lanes: int, years: float) -> dict[str, Any]:
    """Times the environment at one size; peak memory is that of this process from its start."""
    first = date(2015, 1, 1)
    last = date.fromordinal(first.toordinal() + round(years * 365.25))
    bars = bars_of(SyntheticConfig(start_date=first, end_date=last))
    start = time.perf_counter()
    params = make_task(bars, BOOK, PHASE, part="whole").params
    prepare_s = time.perf_counter() - start
    play = Play(params, env_step, n_lanes, 1)
    play()
    cpu, wall = [], []
    for _ in range(4):
        before = time.process_time()
        wall.append(timed(play))
        cpu.append(time.process_time() - before)
    return {
        "lanes": n_lanes,
        "bars": len(bars),
        "steps_per_s": round(play.n_steps / statistics.median(wall)),
        "steps_per_cpu_s": round(play.n_steps / min(cpu)),
        "prepare_s": round(prepare_s, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB,
    }


def measure_curve() -> list[dict[str, Any]]:
    """One process a point: lanes on a month or so of minutes, then years at 4,096 lanes."""
    points = [(n, CURVE_YEARS[0]) for n in CURVE_LANES] + [(4096, y) for y in CURVE_YEARS[1:]]
    rows = []
    for n_lanes, years in points:
        words = [sys.executable, __file__, "--point", str(n_lanes), str(years)]
        run = subprocess.run(words, capture_output=True, text=True, check=True)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
    return rows


def surroundings() -> dict[str, Any]:
    """Machine, commit, date and versions, to stand beside the figures."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    packages = [n for n in ("jax", "torch", "torchtrade", "gym_trading_env") if find_spec(n)]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lanes", type=int, default=4096, help="accounts at once")
    parser.add_argument("--threads", type=int, default=2, help="threads that share them")
    parser.add_argument("--repetitions", type=int, default=9, help="timed blocks of each")
    parser.add_argument("--curve", action="store_true", help="steps/s and memory by lanes and bars")
    parser.add_argument("--point", nargs=2, metavar=("LANES", "YEARS"), help="one of its points")
    words = parser.parse_args()
    if words.point:
        print(json.dumps(measure_point(int(words.point[0]), float(words.point[1]))))
        return
    if words.curve:
        for row in measure_curve():
            print(json.dumps(row))
        return
    result = measure(words.lanes, words.threads, words.repetitions) | surroundings()
    if words.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22s} {value:,}" if isinstance(value, int) else f"{name:22s} {value}")


if __name__ == "__main__":
    main()
