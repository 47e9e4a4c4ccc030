"""Judges policies on held-out episodes and lays the outcome down as rows of a table."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from passline.evaluate.policies import Greedy, Policy, PolicyKind, scripted
from passline.evaluate.rollout import (
    FIRST_ENTRY,
    Episodes,
    TripLog,
    filled_up,
    play_and_log,
    play_episodes,
)
from passline.evaluate.shuffle import shuffle_features
from passline.evaluate.slices import Starts
from passline.evaluate.strategies import STRATEGIES, strategy_signals
from passline.evaluate.table import AGENT, EvaluationTable, join_tables
from passline.sim.jit import sim_jit
from passline.sim.layout import PathRule
from passline.sim.step import start
from passline.task.actions import ACTION_NAMES, N_SIZES
from passline.task.env import EnvState, TaskParams, begin
from passline.task.prepare import Prepared

N_THREADS = 2
"""Policies played at once: a player's many small operations keep about one core busy."""

MATCH_TOLERANCE = 0.05
"""Random entry's entries a trading day may differ from the agent's by this share."""
MATCH_PLAYS = 4
MATCH_EPISODES = 128

__all__ = [
    "BASELINES",
    "SHUFFLED",
    "Habits",
    "Label",
    "begin_at",
    "entries_per_day",
    "entry_habits",
    "judge",
    "match_random_entry",
    "rows_of",
    "with_path",
]

SHUFFLED = "shuffled features"
BASELINES = {
    "flat": PolicyKind.FLAT,
    "random legal": PolicyKind.RANDOM_LEGAL,
    "random entry": PolicyKind.RANDOM_ENTRY,
    "always long": PolicyKind.ALWAYS_LONG,
    **dict.fromkeys(STRATEGIES, PolicyKind.SIGNAL),
    SHUFFLED: PolicyKind.AGENT,
}
"""Names under which baselines are stored and shown."""


class Habits(NamedTuple):
    """How often and how large a policy enters.

    Attributes:
        rate: entries over the bars at which one was legal.
        size_shares: cumulative shares of the entry sizes, float64 [S].
    """

    rate: float
    size_shares: NDArray[np.float64]


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


@cache
def _opening() -> Any:
    """Returns the compiled opening of accounts; not at import, when JAX may not be set up yet."""
    return sim_jit(start)


def with_path(params: TaskParams, path: str) -> TaskParams:
    """Returns the constants with another path rule inside a bar."""
    return params._replace(rules=params.rules._replace(path_rule=jnp.int32(PathRule[path.upper()])))


def begin_at(params: TaskParams, starts: Starts) -> EnvState:
    """Opens a fresh account at every start; NumPy arrays."""
    n = len(starts.bar)
    rows = filled_up(n)  # few sizes to compile for
    bars, market, end = (
        jnp.asarray(column[rows], jnp.int32)
        for column in (starts.bar, starts.market, starts.end_bar)
    )
    sim = _opening()(params.tape, params.markets, params.rules, bars, market)
    begun: EnvState = jax.tree.map(lambda x: np.asarray(x)[:n], begin(params, sim, end))
    return begun


def entry_habits(episodes: Episodes) -> Habits:
    """Returns how often a policy enters where it may, and how large."""
    entries = np.asarray(episodes.choice_counts)[:, FIRST_ENTRY:].sum(axis=0)
    by_size = entries[:N_SIZES] + entries[N_SIZES:]
    total = int(by_size.sum())
    rate = total / max(int(np.asarray(episodes.n_entry_chances).sum()), 1)
    shares = np.cumsum(by_size) / total if total else np.ones(N_SIZES)
    return Habits(rate, shares)


def entries_per_day(episodes: Episodes) -> float:
    """Returns the entries of a policy over the trading days its accounts lived."""
    entries = int(np.asarray(episodes.choice_counts)[:, FIRST_ENTRY:].sum())
    return entries / max(int(np.asarray(episodes.n_days).sum()), 1)


def match_random_entry(
    params: TaskParams, greedy: Greedy, network: Any, begun: EnvState, agent: Episodes, *, seed: int
) -> Policy:
    """Returns random entry that enters as often a trading day as the agent, and as large.

    Side and time are drawn; the stop and target of an entry are never touched, so that positions
    last otherwise than the agent's, who may close and trail. The rate at which it enters where it
    may is therefore not the agent's own: it is played on some of the agent's starts and corrected
    until its entries a day are the agent's within 5 %. Where the agent trades faster than the
    bracket lets go of a position, it enters at every chance and remains slower.

    Args:
        params: constants, of the path rule too.
        greedy: the agent's rule; only gives the compiled player its shape.
        network: the agent's parameters; likewise.
        begun: the accounts that the agent began with.
        agent: the agent's episodes.
        seed: of the draws.
    """
    habits, wanted = entry_habits(agent), entries_per_day(agent)
    n = int(begun.end_bar.shape[0])
    some = np.unique(np.linspace(0, n - 1, min(n, MATCH_EPISODES)).astype(int))
    part = jax.tree.map(lambda x: x[some], begun)

    def at(rate: float) -> Policy:
        return scripted(
            PolicyKind.RANDOM_ENTRY, network, entry_rate=rate, size_shares=habits.size_shares
        )

    rate = habits.rate
    seen: list[tuple[float, float]] = []
    for _ in range(MATCH_PLAYS if wanted > 0 else 0):
        found = entries_per_day(play_episodes(params, greedy, at(rate), part, seed=seed))
        if abs(found - wanted) <= MATCH_TOLERANCE * wanted:
            break
        seen.append((rate, found))
        rate = _next_rate(seen, wanted)
        if rate == seen[-1][0]:
            break
    return at(rate)


def _next_rate(seen: list[tuple[float, float]], wanted: float) -> float:
    """Returns the rate at which the wanted entries a day are expected, at most 1.

    An entry blocks the bars that its position lasts, so that with C chances a day and H of them
    blocked by each entry, e = r (C - e H): 1/e is a straight line in 1/r.
    """
    rate, found = seen[-1]
    guess = rate * wanted / max(found, wanted / 16)
    if len(seen) > 1:
        (r0, e0), (r1, e1) = seen[-2:]
        if e0 > 0 and e1 > 0 and r0 != r1:
            slope = (1 / e1 - 1 / e0) / (1 / r1 - 1 / r0)
            over = 1 / wanted - (1 / e1 - slope / r1)
            guess = slope / over if slope > 0 and over > 0 else guess
    return float(np.clip(guess, 1e-6, 1.0))


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
    agent: PolicyKind = PolicyKind.AGENT,
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
        agent: what plays under the agent's name; FLAT for an agent that is told not to trade.

    Returns:
        The rows of all policies, their episodes by policy name, and the agent's round trips.
    """
    params = with_path(params, label.path)
    episodes: dict[str, Episodes] = {}
    begun = begin_at(params, starts)
    policies: dict[str, Policy] = {AGENT: scripted(agent, network)}
    episodes[AGENT], trips = play_and_log(params, greedy, policies[AGENT], begun, seed=label.seed)
    for name in baselines:
        policies[name] = _baseline(name, prepared, params, greedy, network, begun, episodes, label)
    if SHUFFLED in policies:  # the same policy, be it one that stays flat
        policies[SHUFFLED] = policies[AGENT]
    policies |= extra or {}
    episodes |= {name: known[name] for name in policies if known is not None and name in known}
    left = [name for name in policies if name not in episodes]

    def play(name: str) -> Episodes:
        given = params
        if name == SHUFFLED:
            given = shuffle_features(prepared, params, starts, seed=label.seed)
        return play_episodes(given, greedy, policies[name], begun, seed=label.seed)

    with ThreadPoolExecutor(N_THREADS) as pool:
        episodes |= dict(zip(left, pool.map(play, left), strict=True))
    rows = [rows_of(prepared, found, starts, name, label) for name, found in episodes.items()]
    return join_tables(rows), episodes, trips


def _baseline(
    name: str,
    prepared: Prepared,
    params: TaskParams,
    greedy: Greedy,
    network: Any,
    begun: EnvState,
    episodes: dict[str, Episodes],
    label: Label,
) -> Policy:
    kind = BASELINES[name]
    if kind is PolicyKind.RANDOM_ENTRY:
        return match_random_entry(
            params, greedy, network, begun, episodes[AGENT], seed=label.seed + 1
        )
    if kind is PolicyKind.SIGNAL:
        signals = strategy_signals(prepared, name)
        shares = entry_habits(episodes[AGENT]).size_shares
        return scripted(
            kind, network, signal=signals.entries, exits=signals.exits, size_shares=shares
        )
    return scripted(kind, network)


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
