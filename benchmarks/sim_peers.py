"""The simulators that benchmarks/sim.py stands beside, each driven as its own documentation says.

A peer is a call that plays a block of steps with random actions, every decision drawn anew and
every ended episode restarted, and the number of account-steps in that block. Their settings are
their own defaults but for the bars, the number of accounts and, where there is one, the short side.
"""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from passline.market.bars import Bars

__all__ = ["PEERS", "Peer", "installed"]

BLOCK = 32
"""Steps of all accounts in one block of TorchTrade."""
ENV_BLOCK = 2000
"""Steps of one account in one block of gym-trading-env."""


class Peer(NamedTuple):
    """A simulator ready to be timed.

    Attributes:
        play: plays one block.
        n_steps: account-steps in it.
        note: how it is driven, for the report.
    """

    play: Callable[[], None]
    n_steps: int
    note: dict[str, Any]


def frame(bars: Bars) -> Any:
    """The bars as the peers read them: a pandas table, prices in points."""
    import pandas as pd  # noqa: PLC0415

    columns = {name: getattr(bars, name).astype(np.float64) for name in ("open", "high", "low")}
    columns |= {"close": bars.close.astype(np.float64), "volume": np.ones(len(bars))}
    return pd.DataFrame({"timestamp": pd.to_datetime(bars.ts), **columns})


def torchtrade(bars: Bars, n_lanes: int, seed: int) -> Peer:
    """TorchTrade's vectorized bracket environment under TorchRL's stepping with auto-reset."""
    import torch  # noqa: PLC0415
    from torchtrade.envs.offline.vectorized_sequential_sltp import (  # noqa: PLC0415
        VectorizedSequentialTradingEnvSLTP,
        VectorizedSequentialTradingEnvSLTPConfig,
    )

    settings = VectorizedSequentialTradingEnvSLTPConfig(
        num_envs=n_lanes, time_frames="1min", execute_on="1min", seed=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env = VectorizedSequentialTradingEnvSLTP(frame(bars), settings)
    n_actions = len(env.action_map)
    draws = torch.Generator().manual_seed(seed)
    state = {"now": env.reset()}

    def play() -> None:
        now = state["now"]
        with torch.no_grad():
            for _ in range(BLOCK):
                now["action"] = torch.randint(n_actions, (n_lanes,), generator=draws)
                _, now = env.step_and_maybe_reset(now)
        state["now"] = now

    n_threads = fastest_threads(play)
    return Peer(play, BLOCK * n_lanes, {"lanes": n_lanes, "threads": n_threads})


def fastest_threads(play: Callable[[], None]) -> int:
    """Sets torch to one thread or to one a CPU, whichever plays a block sooner."""
    import torch  # noqa: PLC0415

    seconds = {}
    for n_threads in (os.cpu_count() or 1, 1):
        torch.set_num_threads(n_threads)
        play()
        start = time.perf_counter()
        play()
        seconds[n_threads] = time.perf_counter() - start
    best = min(seconds, key=lambda n: seconds[n])
    torch.set_num_threads(best)
    return best


def gym_trading_env(bars: Bars, n_lanes: int, seed: int) -> Peer:
    """gym-trading-env: one account a process and one process a CPU.

    Its vector mode waits for every account after every step and plays fewer steps a second than
    one account alone does; processes of their own are the fastest it can be driven.
    """
    del n_lanes
    n_processes = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    pipes = []
    for rank in range(n_processes):
        here, there = context.Pipe()
        words = (there, frame(bars), seed + rank)
        context.Process(target=serve_account, args=words, daemon=True).start()
        pipes.append(here)

    def play() -> None:
        for pipe in pipes:
            pipe.send(None)
        for pipe in pipes:
            pipe.recv()

    play()
    return Peer(play, ENV_BLOCK * n_processes, {"accounts": n_processes, "processes": n_processes})


def serve_account(pipe: Any, table: Any, seed: int) -> None:
    """Plays a block with one account whenever asked; runs in a process of its own."""
    with warnings.catch_warnings():
        import gym_trading_env  # noqa: F401, PLC0415
        import gymnasium  # noqa: PLC0415

    table = table.set_index("timestamp")
    table["feature_close"] = table["close"].pct_change().fillna(0.0)
    env = gymnasium.make(
        "TradingEnv", df=table, positions=[-1, 0, 1], verbose=0, disable_env_checker=True
    )
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        for action in rng.integers(3, size=ENV_BLOCK):
            _, _, is_terminated, is_truncated, _ = env.step(int(action))
            if is_terminated or is_truncated:
                env.reset()
        pipe.send(None)


PEERS: dict[str, tuple[Callable[[Bars, int, int], Peer], tuple[str, ...], str]] = {
    "torchtrade": (torchtrade, ("torch", "torchtrade"), "pip install torchtrade==0.1.0"),
    "gym_trading_env": (
        gym_trading_env,
        ("gymnasium", "pandas", "gym_trading_env"),
        "pip install --no-deps gym-trading-env==0.3.5 && pip install gymnasium pandas",
    ),
}
"""How to make each peer, the packages it needs, and how they are installed."""


def installed() -> dict[str, Callable[[Bars, int, int], Peer]]:
    """The peers whose packages are there; says on stderr which are not."""
    found = {}
    for name, (make, needs, command) in PEERS.items():
        absent = [package for package in needs if find_spec(package) is None]
        if absent:
            print(f"{name}: null, for {' and '.join(absent)} is absent: {command}", file=sys.stderr)
        else:
            found[name] = make
    return found
