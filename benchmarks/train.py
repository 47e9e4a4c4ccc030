"""Measures training on the real environment: passline, sb3-contrib and a compiled torch loop.

All three train the whole evaluation on a year of the built-in market with the same network
(separate actor and critic), batch, minibatch and epochs; the other two step passline's own
environment through its plugs. One repetition is one update, its rollout included; repetitions are
interleaved, so that a busy machine slows all alike, and medians are taken after a warm-up. Torch
uses one thread or as many as there are CPUs, whichever is faster in the warm-up: on a busy machine
its threads wait for each other.
passline is measured in both precisions of its products, and where the kernel multiplies
also with XLA's products instead; the others multiply in float32, so that passline_float32 is the
comparison of like with like.
update_share_of_peak is the rate of passline's gradient phase (value pass and all epochs, counting
the networks' multiply-adds alone) divided by that of a large product of float32 matrices, the best
of each, in float32. start_s runs from the start of the interpreter to the end of the first update,
market included, in a process of its own: cold with an empty compilation cache, then warm. Without
torch or sb3-contrib the figures that need them are null.

    python benchmarks/train.py --json
"""

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib.metadata import version
from importlib.util import find_spec
from threading import Thread
from typing import Any, get_args
from unittest import mock

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402

from passline.envs.lanes import Lanes  # noqa: E402
from passline.envs.making import Task, make_task  # noqa: E402
from passline.learn import kernel, objective, ppo, rollout  # noqa: E402
from passline.learn.mlp import Precision  # noqa: E402
from passline.market.synthetic import SyntheticConfig, synthesize  # noqa: E402
from passline.sim.jit import sim_jit  # noqa: E402
from passline.task import env  # noqa: E402
from passline.task.actions import N_ACTIONS  # noqa: E402
from passline.task.mirror import MIRROR  # noqa: E402
from passline.task.prepare import OBSERVATION_NAMES  # noqa: E402

N_FEATURES = len(OBSERVATION_NAMES)
BOOK, PHASE, SEED = "apex-intraday-50k", "account", 0
PEAK_SIZE = 1024
YEAR = SyntheticConfig(start_date=date(2023, 1, 1), end_date=date(2024, 1, 1))


def built_in_task() -> Task:
    """The whole evaluation on a year of the built-in market."""
    return make_task(synthesize(YEAR, seed=SEED).bars, BOOK, PHASE, part="whole")


class Passline:
    """passline's own training, and its gradient phase by itself."""

    def __init__(self, task: Task, config: ppo.PPOConfig) -> None:
        self.params, self.config = task.params, config
        key = jax.random.key(SEED)
        lanes = env.compiled_reset()(task.params, key, config.n_lanes)
        self.state = ppo.init_train_state(config, lanes, N_FEATURES, N_ACTIONS, key, MIRROR)
        self._update = ppo.make_update(env, config, MIRROR)
        play = sim_jit(
            lambda p, s: rollout.play(env, config, p, s.params, rollout.lanes_of(s), key)
        )
        rolled = play(task.params, self.state)
        hyper = ppo.make_hyper(config)

        def learn(state: Any, rolled: Any) -> Any:
            batch, _ = rollout.estimate(config, state.params, rolled, hyper)
            return objective.optimize(
                config, state.params, state.opt_state, batch, key, hyper, state.n_updates, MIRROR
            )

        learning = jax.jit(learn)
        self.learn = lambda: jax.block_until_ready(learning(self.state, rolled))

    def update(self) -> None:
        """One rollout and its gradient steps."""
        self.state, metrics = self._update(self.params, self.state)
        jax.block_until_ready(metrics)


class ByXla(Passline):
    """The same training with XLA's products; whether the kernel fits is asked at every update."""

    def __init__(self, task: Task, config: ppo.PPOConfig) -> None:
        super().__init__(task, config)
        with without_kernel():
            self.learn()

    def update(self) -> None:
        """One rollout and its gradient steps."""
        with without_kernel():
            super().update()


def without_kernel() -> Any:
    return mock.patch.object(kernel, "fits", return_value=False)


def learn_flops(config: ppo.PPOConfig) -> float:
    """Multiply-adds of one gradient phase, twice: a value pass, then all epochs of both nets."""
    widths = (N_FEATURES, *config.hidden)
    products = [a * b for a, b in itertools.pairwise(widths)]
    total = 2.0 * (sum(products) + widths[-1])
    for n_out in (N_ACTIONS, 1):
        forward = sum(products) + widths[-1] * n_out
        backward = 2 * forward - products[0]
        total += 2.0 * config.n_epochs * (forward + backward)
    return total * config.batch_size


def maskable_ppo(task: Task, config: ppo.PPOConfig) -> Callable[[], None]:
    """sb3-contrib's MaskablePPO on the SB3 plug."""
    from sb3_contrib import MaskablePPO  # noqa: PLC0415

    from passline.envs.sb3_vec import SB3VecEnv  # noqa: PLC0415

    layers = list(config.hidden)
    model = MaskablePPO(
        "MlpPolicy",
        SB3VecEnv(task, config.n_lanes, seed=SEED),
        n_steps=config.rollout_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy_coef,
        vf_coef=config.value_coef,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={"net_arch": {"pi": layers, "vf": layers}},
        seed=SEED,
    )
    return lambda: model.learn(config.batch_size, reset_num_timesteps=False) and None


def torch_loop(task: Task, config: ppo.PPOConfig) -> Callable[[], None]:
    """The compiled torch loop on the lanes that the plugs share."""
    from torch_loop import TorchLoop  # noqa: PLC0415

    return TorchLoop(Lanes(task, config.n_lanes), config, seed=SEED).update


def with_best_threads(update: Callable[[], None]) -> tuple[Callable[[], None], int]:
    """Tries a torch contender with one thread and with all; returns it with the faster count."""
    import torch  # noqa: PLC0415

    seconds = {}
    for n_threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(n_threads)
        update()
        seconds[n_threads] = timed(update)
    best = min(seconds, key=lambda n: seconds[n])

    def run() -> None:
        torch.set_num_threads(best)
        update()

    return run, best


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def others() -> dict[str, Callable[[Task, ppo.PPOConfig], Callable[[], None]]]:
    """The contenders whose libraries are installed; says on stderr which are not."""
    found = {}
    for name, make, needs in (
        ("sb3_contrib", maskable_ppo, ("torch", "sb3_contrib")),
        ("torch_compiled", torch_loop, ("torch",)),
    ):
        absent = [package for package in needs if find_spec(package) is None]
        if absent:
            print(f"{name}: null, for {' and '.join(absent)} is not installed", file=sys.stderr)
        else:
            found[name] = make
    return found


def measure(config: ppo.PPOConfig, n_repetitions: int) -> dict[str, Any]:
    task = built_in_task()
    own = {
        f"passline_{precision}": Passline(task, dataclasses.replace(config, precision=precision))
        for precision in get_args(Precision)
    }
    if kernel.is_ready():
        own["passline_xla"] = ByXla(task, dataclasses.replace(config, precision="bfloat16"))
    square = jax.random.normal(jax.random.key(0), (PEAK_SIZE, PEAK_SIZE))
    multiply = jax.jit(lambda a: a @ a.T)
    calls: dict[str, Callable[[], None]] = {name: one.update for name, one in own.items()}
    threads = {}
    for name, make in others().items():
        calls[name], threads[name] = with_best_threads(make(task, config))
    calls |= {f"learn_{name}": one.learn for name, one in own.items()}
    seconds: dict[str, list[float]] = {name: [] for name in (*calls, "peak")}
    for call in (*calls.values(), lambda: jax.block_until_ready(multiply(square))):
        call()
    loads = []
    for _ in range(n_repetitions):
        for name, call in calls.items():
            seconds[name].append(timed(call))
        for _ in range(8):
            seconds["peak"].append(timed(lambda: jax.block_until_ready(multiply(square))))
        loads.append(os.getloadavg()[0])
    return summary(config, seconds) | {
        "torch_threads": threads,
        "n_repetitions": n_repetitions,
        "lanes": config.n_lanes,
        "load_1m": round(statistics.mean(loads), 2),
    }


def summary(config: ppo.PPOConfig, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Rates and shares of the interleaved repetitions; `passline` is the default precision."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    rate = {name: config.batch_size / median[name] for name in median if "learn" not in name}
    rate["passline"] = rate[f"passline_{config.precision}"]
    peak = 2.0 * PEAK_SIZE**3 / min(seconds["peak"]) / 1e9
    precisions = ("passline_float32", "passline_bfloat16")
    peers = ("sb3_contrib", "torch_compiled")
    names = ("passline", *precisions, "passline_xla", *peers)
    found: dict[str, Any] = {name: rounded(rate.get(name)) for name in names}
    found["precision"] = config.precision
    found["peak_gflops"] = round(peak, 1)
    own = f"passline_{config.precision}"
    learn = learn_flops(config) / 1e9
    share = {name: learn / min(seconds[f"learn_{name}"]) / peak for name in precisions}
    found["update_share_of_peak"] = round(share[own], 3)
    found["update_share_of_peak_float32"] = round(share["passline_float32"], 3)
    found["gradient_phase_share"] = round(median[f"learn_{own}"] / median[own], 3)
    found["passline_over"] = {
        name: round(rate["passline"] / rate[name], 2) for name in peers if name in rate
    }
    found["passline_float32_over"] = {
        name: round(rate["passline_float32"] / rate[name], 2) for name in peers if name in rate
    }
    return found


def first_update(cache: str, n_lanes: int) -> None:
    """What a training does up to the end of its first update; compiled code lies in `cache`."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    Thread(target=kernel.compile_ahead, daemon=True).start()  # as the commands do
    task, config, key = built_in_task(), ppo.PPOConfig(n_lanes=n_lanes), jax.random.key(SEED)
    lanes = env.compiled_reset()(task.params, key, config.n_lanes)
    state = ppo.init_train_state(config, lanes, N_FEATURES, N_ACTIONS, key, MIRROR)
    jax.block_until_ready(ppo.make_update(env, config, MIRROR)(task.params, state))


def start_seconds(n_lanes: int) -> dict[str, float]:
    """Seconds from the start of the interpreter to the end of the first update, cold and warm."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--start", cache, "--lanes", str(n_lanes)]

        def run() -> None:
            subprocess.run(command, check=True)

        return {name: round(timed(run), 1) for name in ("cold", "warm")}


def rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def surroundings() -> dict[str, Any]:
    """Machine, commit, date and versions, to stand beside the figures."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    packages = [name for name in ("jax", "torch", "sb3_contrib") if find_spec(name)]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "device": jax.devices()[0].device_kind,
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lanes", type=int, default=1024, help="accounts at once")
    parser.add_argument("--repetitions", type=int, default=5, help="timed updates of each")
    parser.add_argument("--start", metavar="CACHE", help="stop after the first update")
    words = parser.parse_args()
    if words.start:
        first_update(words.start, words.lanes)
        return
    config = ppo.PPOConfig(n_lanes=words.lanes, target_kl=float("inf"))
    starting = {"start_s": start_seconds(words.lanes)}
    result = measure(config, words.repetitions) | starting | surroundings()
    if words.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22s} {value:,}" if isinstance(value, int) else f"{name:22s} {value}")


if __name__ == "__main__":
    main()
