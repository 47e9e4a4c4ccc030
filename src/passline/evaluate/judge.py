"""Judges policies on held-out episodes and lays the outcome down as rows of a table."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from passline.evaluate.policies import Greedy, Policy, PolicyKind, scripted
from passline.evaluate.rollout import FIRST_ENTRY, Episodes, TripLog, play_and_log, play_episodes
from passline.evaluate.slices import Starts
from passline.evaluate.table import AGENT, EvaluationTable, join_tables
from passline.sim.jit import sim_jit
from passline.sim.layout import PathRule
from passline.sim.step import start
from passline.task.actions import ACTION_NAMES, N_SIZES
from passline.task.env import EnvState, TaskParams, begin
from passline.task.prepare import Prepared

N_THREADS = 2
"""Policies played at once: a player's many small operations keep about one core busy."""

__all__ = ["BASELINES", "Label", "begin_at", "entry_habits", "judge", "rows_of", "with_path"]

BASELINES = {
    "flat": PolicyKind.FLAT,
    "random legal": PolicyKind.RANDOM_LEGAL,
    "random entry": PolicyKind.RANDOM_ENTRY,
    "always long": PolicyKind.ALWAYS_LONG,
}
"""Names under which baselines are stored and shown."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What all rows of an evaluation share.

    Attributes:
        timesteps: training steps of the checkpoint.
        phase: phase whose rules hold.
        seed: of the policies' draws.
        path: path rule inside a bar, lower case.
    """

    timesteps: int
    phase: str
    seed: int
    path: str = "worst"


def with_path(params: TaskParams, path: str) -> TaskParams:
    """Returns the constants with another path rule inside a bar."""
    return params._replace(rules=params.rules._replace(path_rule=jnp.int32(PathRule[path.upper()])))


def begin_at(params: TaskParams, starts: Starts) -> EnvState:
    """Opens a fresh account at every start."""
    bars = jnp.asarray(starts.bar, jnp.int32)
    market = jnp.asarray(starts.market, jnp.int32)
    sim = sim_jit(start)(params.tape, params.markets, params.rules, bars, market)
    return begin(params, sim, jnp.asarray(starts.end_bar, jnp.int32))


def entry_habits(episodes: Episodes) -> tuple[float, NDArray[np.float64]]:
    """Returns how often a policy enters where it may, and its cumulative size shares [S]."""
    entries = np.asarray(episodes.choice_counts)[:, FIRST_ENTRY:].sum(axis=0)
    by_size = entries[:N_SIZES] + entries[N_SIZES:]
    total = int(by_size.sum())
    rate = total / max(int(np.asarray(episodes.n_entry_chances).sum()), 1)
    shares = np.cumsum(by_size) / total if total else np.ones(N_SIZES)
    return rate, shares


def judge(
    prepared: Prepared,
    params: TaskParams,
    greedy: Greedy,
    network: Any,
    starts: Starts,
    label: Label,
    *,
    baselines: Sequence[str] = (),
    extra: dict[str, Policy] | None = None,
    known: dict[str, Episodes] | None = None,
) -> tuple[EvaluationTable, dict[str, Episodes], TripLog]:
    """Plays the agent and baselines on the same starts.

    Args:
        prepared: the markets.
        params: constants of the phase whose rules hold.
        greedy: the agent's rule.
        network: its parameters.
        starts: where episodes begin.
        label: what the rows share.
        baselines: names from BASELINES.
        extra: further policies by name, such as the oracle.
        known: episodes that were played already and hold here too, by policy name.

    Returns:
        The rows of all policies, their episodes by policy name, and the agent's round trips.
    """
    params = with_path(params, label.path)
    episodes: dict[str, Episodes] = {}
    begun = begin_at(params, starts)
    policies: dict[str, Policy] = {AGENT: scripted(PolicyKind.AGENT, network)}
    episodes[AGENT], trips = play_and_log(params, greedy, policies[AGENT], begun, seed=label.seed)
    rate, shares = entry_habits(episodes[AGENT])
    for name in baselines:
        policies[name] = scripted(BASELINES[name], network, entry_rate=rate, size_shares=shares)
    policies |= extra or {}
    episodes |= {name: known[name] for name in policies if known is not None and name in known}
    left = [name for name in policies if name not in episodes]

    def play(name: str) -> Episodes:
        return play_episodes(params, greedy, policies[name], begun, seed=label.seed)

    with ThreadPoolExecutor(N_THREADS) as pool:
        episodes |= dict(zip(left, pool.map(play, left), strict=True))
    rows = [rows_of(prepared, found, starts, name, label) for name, found in episodes.items()]
    return join_tables(rows), episodes, trips


def rows_of(
    prepared: Prepared, episodes: Episodes, starts: Starts, policy: str, label: Label
) -> EvaluationTable:
    """Returns one policy's episodes as rows."""
    sim = episodes.sim
    symbols = np.array([b.contract.symbol for b in prepared.bars])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_r = episodes.sum_r / episodes.n_trips
    return EvaluationTable.build(
        {
            "timesteps": label.timesteps,
            "phase": label.phase,
            "policy": policy,
            "slice": starts.slice,
            "path": label.path,
            "market": symbols[starts.market],
            "start_bar": starts.bar,
            "start_ns": prepared.compiled.ts[starts.bar],
            "start_day": starts.day,
            "seed": label.seed,
            "result_mills": episodes.equity.astype(np.int64) - int(prepared.rules.start_balance),
            "reward": episodes.reward.astype(np.float64),
            "ep_length": episodes.length,
            "n_days": episodes.n_days,
            "outcome": sim.outcome,
            "done_reason": sim.done_reason,
            "n_trips": episodes.n_trips,
            "mean_r": mean_r.astype(np.float64),
            "n_invalid": episodes.n_invalid,
            "n_late_flat": sim.n_late_flat,
            "n_ambiguous": sim.n_ambiguous,
            "commissions_mills": sim.commissions,
            "max_equity_mills": episodes.max_equity,
            "min_cushion_mills": episodes.min_cushion,
            "action_counts": episodes.action_counts,
            "choice_counts": episodes.choice_counts,
        },
        ACTION_NAMES,
    )
