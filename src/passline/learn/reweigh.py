"""Lets episodes begin more often where the agent fails, on months that it is trained on.

The agent plays whole evaluations on every month of the training range, greedily and under the
phase's rules. Starts in a month are then drawn in proportion to how often it failed there. The gate
and test slices have no part in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import Episodes, play_episodes
from passline.evaluate.slices import Slice, by_month, evaluation_starts
from passline.learn import network
from passline.learn.checkpoint import list_checkpoints
from passline.sim.layout import NEVER, Outcome
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["FAILURE_RATES", "failure_rates", "rates_in", "start_weights", "stored_rates"]

FAILURE_RATES = "failure_rates"
"""Key of a checkpoint's meta data."""
N_EPISODES = 192
PRIOR = 4.0
"""Episodes at the mean failure rate that every month is credited with."""

F64 = NDArray[np.float64]


def failure_rates(
    prepared: Prepared,
    params: TaskParams,
    train: Sequence[tuple[int, int]],
    policy: network.Params,
    *,
    seed: int,
) -> dict[str, float]:
    """Plays the agent on the training months.

    Args:
        prepared: the markets.
        params: constants of the phase.
        train: half-open bar ranges that may be trained on.
        policy: the agent's parameters.
        seed: of random starts.

    Returns:
        Share of failed evaluations by month, shrunk towards the mean of all: not passed, or,
        where the phase has no target, breached or ended below the start.

    Raises:
        ConfigError: the training range has no room for one evaluation.
    """
    months = _months(prepared, train)
    starts = evaluation_starts(
        prepared, months, n=N_EPISODES, span_days=prepared.span_days, seed=seed
    )
    agent = scripted(PolicyKind.AGENT, policy)
    played = play_episodes(params, network.act_greedy, agent, begin_at(params, starts), seed=seed)
    failed = _failed(params, played)
    mean = float(failed.mean())
    rates: dict[str, float] = {}
    for month in months:
        own = failed[starts.slice == month.name]
        rates[month.name] = float((own.sum() + PRIOR * mean) / (len(own) + PRIOR))
    return rates


def _failed(params: TaskParams, played: Episodes) -> NDArray[np.bool_]:
    outcome = np.asarray(played.sim.outcome)
    if int(params.rules.target_balance) != NEVER:
        return np.asarray(outcome != Outcome.PASSED)
    below = np.asarray(played.equity) < int(params.rules.start_balance)
    return np.asarray((outcome == Outcome.BREACHED) | below)


def _months(prepared: Prepared, train: Sequence[tuple[int, int]]) -> list[Slice]:
    market = prepared.compiled.market
    return [
        month
        for first, stop in train
        for month in by_month(prepared, "train", int(market[first]), first, stop)
    ]


def start_weights(
    prepared: Prepared,
    train: Sequence[tuple[int, int]],
    rates: Mapping[str, float],
    strength: float,
) -> F64 | None:
    """Returns how likely each bar is as a start, relative to the others, float64 [B].

    1 - strength + strength · the month's failure rate over the mean of all; None if nothing is
    known or nothing fails.
    """
    mean = float(np.mean(list(rates.values()))) if rates else 0.0
    if mean == 0.0:
        return None
    weights = np.ones(len(prepared.compiled.ts))
    for month in _months(prepared, train):
        rate = rates.get(month.name, mean)
        weights[month.first_bar : month.stop_bar] = 1.0 - strength + strength * rate / mean
    return weights


def stored_rates(checkpoints: Path) -> dict[str, float]:
    """Returns the failure rates that the newest checkpoint was trained with; empty if none."""
    found = list_checkpoints(checkpoints)
    if not found:
        return {}
    return rates_in(max(found, key=lambda info: int(info.meta["step"])).meta)


def rates_in(meta: Mapping[str, Any]) -> dict[str, float]:
    """Returns the failure rates among a checkpoint's facts; empty if there are none."""
    return {str(name): float(rate) for name, rate in meta.get(FAILURE_RATES, {}).items()}
