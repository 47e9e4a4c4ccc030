"""Measures the table of entries' outcomes: entries a second, beside walking each bar by bar.

Both sides use the same simulator on a year of the built-in market. `table` is what the entry phase
learns from (task.outcomes.entry_outcomes, which searches for the bars that matter); `walked` plays
a part of the same entries through every bar until all are flat again, in one compiled loop. Both in
entries a second, medians of interleaved repetitions. That both come to the same is a test
(tests/task/test_outcomes.py).

    python benchmarks/entries.py --json
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from passline.envs.making import make_task  # noqa: E402
from passline.market.synthetic import SyntheticConfig, synthesize  # noqa: E402
from passline.sim.jit import sim_jit  # noqa: E402
from passline.sim.layout import BarFlag, OrderKind  # noqa: E402
from passline.sim.step import start  # noqa: E402
from passline.task import env  # noqa: E402
from passline.task.actions import action_index  # noqa: E402
from passline.task.env import TaskParams  # noqa: E402
from passline.task.outcomes import CHUNK, entry_outcomes  # noqa: E402

BOOK, SEED = "apex-intraday-50k", 0
LONG = action_index(OrderKind.LONG)
YEAR = SyntheticConfig(start_date=date(2023, 1, 1), end_date=date(2024, 1, 1))


def walk(params: TaskParams, bars: jax.Array) -> jax.Array:
    """Enters at each bar and holds until all are flat; returns the bars at which they are."""

    def act(state: Any, action: int) -> Any:
        mask = env.mask_at(params, state, env.facts_at(params, state.bar))
        return env.act_on(params, state, jnp.full_like(state.bar, action), mask)[0]

    def hold(state: Any) -> Any:
        moved = act(state, 0)
        return jax.tree.map(lambda a, b: jnp.where(state.qty != 0, a, b), moved, state)

    begun = start(params.tape, params.markets, params.rules, bars, params.market[bars])
    ended = jax.lax.while_loop(lambda s: jnp.any(s.qty != 0), hold, act(begun, LONG))
    return ended.bar


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def measure(n_repetitions: int) -> dict[str, Any]:
    params = make_task(synthesize(YEAR, seed=SEED).bars, BOOK, "entry", part="whole").params
    can_enter = (np.asarray(params.tape.flags) & BarFlag.CAN_ENTER) != 0
    bars = np.flatnonzero(can_enter).astype(np.int32)
    bars = bars[len(bars) // 4 :]
    some = jnp.asarray(bars[:CHUNK])
    walking = sim_jit(walk, is_fused=True)
    calls: dict[str, tuple[int, Callable[[], Any]]] = {
        "table": (len(bars), lambda: entry_outcomes(params, bars, np.array([LONG], np.int32))),
        "walked": (CHUNK, lambda: walking(params, some)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _, call in calls.values():
        timed(call)
    for _ in range(n_repetitions):
        for name, (_, call) in calls.items():
            seconds[name].append(timed(call))
    rate = {name: n / statistics.median(seconds[name]) for name, (n, _) in calls.items()}
    return {name: round(value) for name, value in rate.items()} | {
        "table_over_walked": round(rate["table"] / rate["walked"], 1),
        "entries": len(bars),
        "n_repetitions": n_repetitions,
        "load_1m": round(os.getloadavg()[0], 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=5, help="timed calls of each")
    words = parser.parse_args()
    result = measure(words.repetitions)
    if words.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:18s} {value:,}" if isinstance(value, int) else f"{name:18s} {value}")


if __name__ == "__main__":
    main()
