"""Measures the learner alone: steps/s on a trivial environment and its share of peak matmul rate.

Repetitions of the matrix product, the rollout and the whole update are interleaved, so that a
busy machine slows all of them alike; the share of peak divides the best update by the best
product. Counts as floating-point operations only the multiply-adds of the networks: one actor
pass a decision in the rollout, one critic pass for the advantages, and per epoch one forward
and backward pass of both.

    python benchmarks/update.py --json
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from passline.learn import ppo, rollout  # noqa: E402
from passline.sim.jit import sim_jit  # noqa: E402

N_FEATURES, N_ACTIONS, NOISE_ROWS, EPISODE_STEPS = 45, 12, 1024, 300
PEAK_SIZE = 1024


class WalkState(NamedTuple):
    """A random walk of features and a step counter."""

    obs: jax.Array
    step: jax.Array


class WalkEnv:
    """An environment that costs next to nothing: features drift, a third of actions is illegal."""

    def observe(self, params: Any, state: WalkState) -> tuple[jax.Array, jax.Array]:
        """Shows the walk; the legal actions rotate with the step."""
        mask = (jnp.arange(N_ACTIONS)[None, :] * 7 + state.step[:, None]) % 3 != 1
        return state.obs, mask.at[:, 0].set(True)

    def step(
        self, params: Any, state: WalkState, action: jax.Array, key: jax.Array
    ) -> tuple[WalkState, jax.Array, jax.Array, jax.Array, jax.Array, Any]:
        """Pays by the first feature and lets the walk drift on."""
        reward = state.obs[:, 0] * (action / N_ACTIONS - 0.5)
        obs = 0.9 * state.obs + params[state.step % NOISE_ROWS]
        step = state.step + 1
        truncated = step % EPISODE_STEPS == 0
        terminated = jnp.abs(obs[:, 1]) > 4.0
        return WalkState(obs, step), reward, terminated, truncated, obs, {"n_won": reward > 0.0}


def flops_per_step(config: ppo.PPOConfig) -> float:
    """Multiply-adds of the networks per decision, twice, over rollout and update."""
    widths = (N_FEATURES, *config.hidden)
    products = [a * b for a, b in itertools.pairwise(widths)]
    total = 0.0
    for n_out in (N_ACTIONS, 1):
        forward = sum(products) + widths[-1] * n_out
        backward = 2 * forward - products[0]
        total += 2.0 * (forward + config.n_epochs * (forward + backward))
    return total


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def measure(config: ppo.PPOConfig, n_repetitions: int) -> dict[str, Any]:
    env, keys = WalkEnv(), jax.random.split(jax.random.key(0), 4)
    env_params = 0.4 * jax.random.normal(keys[0], (NOISE_ROWS, N_FEATURES))
    env_state = WalkState(
        jax.random.normal(keys[1], (config.n_lanes, N_FEATURES)),
        jax.random.randint(keys[2], (config.n_lanes,), 0, EPISODE_STEPS),
    )
    state = ppo.init_train_state(config, env_state, N_FEATURES, N_ACTIONS, keys[3])
    update = ppo.make_update(env, config)
    play = sim_jit(
        lambda s, k: rollout.play(env, config, env_params, s.params, rollout.lanes_of(s), k),
        is_fused=True,
    )
    square = jax.random.normal(keys[0], (PEAK_SIZE, PEAK_SIZE))
    multiply = jax.jit(lambda a: a @ a.T)

    def one_update() -> Any:
        nonlocal state
        state, metrics = update(env_params, state)
        return state, metrics

    first_seconds = timed(one_update)
    jax.block_until_ready((play(state, keys[0]), multiply(square)))
    seconds: dict[str, list[float]] = {"update": [], "rollout": [], "peak": []}
    for _ in range(n_repetitions):
        seconds["update"].append(timed(one_update))
        rolling = state
        seconds["rollout"].append(timed(lambda s=rolling: play(s, keys[0])))
        seconds["peak"] += [timed(lambda: multiply(square)) for _ in range(8)]
    peak = 2.0 * PEAK_SIZE**3 / min(seconds["peak"]) / 1e9
    median = statistics.median(seconds["update"])
    best = min(seconds["update"])
    work = flops_per_step(config) * config.batch_size / 1e9
    return {
        "steps_per_s": round(config.batch_size / median),
        "steps_per_s_best": round(config.batch_size / best),
        "rollout_share": round(statistics.median(seconds["rollout"]) / median, 3),
        "gflops": round(work / best, 1),
        "peak_gflops": round(peak, 1),
        "share_of_peak": round(work / best / peak, 3),
        "first_update_s": round(first_seconds, 2),
        "n_repetitions": n_repetitions,
        "load_average": round(os.getloadavg()[0], 2),
        "device": jax.devices()[0].device_kind,
        "n_cpus": os.cpu_count(),
        "machine": platform.machine(),
        "jax": jax.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lanes", type=int, default=1024, help="accounts at once")
    parser.add_argument("--repetitions", type=int, default=7, help="timed updates")
    args = parser.parse_args()
    config = ppo.PPOConfig(n_lanes=args.lanes, target_kl=float("inf"))
    result = measure(config, args.repetitions)
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:18s} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
