"""Whether a phase learned from rollouts left the agent better off, on days that it was trained on.

The gate slices are too short to tell a phase that helps a little from one that harms a little, and
the gate must stay a test. Training days are many, and both policies have met them: the policy that
the phase began with and the one that it ended with play the same whole evaluations there, and if
the new one comes less far, what the phase did to the policy is undone. What a phase pays may only
be a means (a managing phase saves accounts, and one that never trades loses none), so all phases
are compared by the rules and the reward of the last.
"""

import math

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Ranges, evaluation_starts, train_slices
from passline.evaluate.stats import Estimate, clusters_by_span, paired_difference
from passline.learn import network
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["gain_scalars", "is_gain", "phase_gain"]


def is_gain(estimate: Estimate) -> bool:
    """Returns whether the new policy does at least as well."""
    return estimate.value >= 0


def gain_scalars(estimate: Estimate) -> dict[str, float]:
    """Returns what a phase gained under its names in the logs; no bounds where none are known."""
    bounds = {"phase_gain/low": estimate.low, "phase_gain/high": estimate.high}
    return {
        "phase_gain/value": estimate.value,
        **{name: bound for name, bound in bounds.items() if math.isfinite(bound)},
    }


def phase_gain(
    prepared: Prepared,
    params: TaskParams,
    train: Ranges,
    before: network.Params,
    after: network.Params,
    *,
    n: int,
    seed: int,
) -> Estimate | None:
    """Plays the policies that a phase began and ended with on its training days, greedily.

    Args:
        prepared: the markets.
        params: constants of the last phase.
        train: half-open bar ranges that were trained on.
        before: the policy that the phase began with, as it would enter the last phase.
        after: the one that it ended with, likewise.
        n: evaluations of each.
        seed: of starts and draws.

    Returns:
        Reward an evaluation of the new policy less the old one's, paired by start, with its 95 %
        interval; None if the training days have no room for whole evaluations.
    """
    span, days = prepared.span_days, train_slices(prepared, train)
    try:
        starts = evaluation_starts(prepared, days, n=n, span_days=span, seed=seed)
    except ConfigError:
        return None
    begun = begin_at(params, starts)
    old, new = (
        play_episodes(
            params, network.act_greedy, scripted(PolicyKind.AGENT, weights), begun, seed=seed
        ).reward.astype(np.float64)
        for weights in (before, after)
    )
    return paired_difference(new, old, clusters_by_span(starts.day, span), is_serial=True)
