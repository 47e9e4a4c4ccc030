"""The built-in market's oracle: the best simple rule on the hidden drift, chosen on training dates.

It follows the side of the drift with the same bracket and rules as the agent, and ignores the
state of its account; only the threshold and the size are fitted.
"""

from typing import Any

import numpy as np

from passline.evaluate.judge import begin_at
from passline.evaluate.policies import Greedy, Policy, PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Split, evaluation_starts, train_slices
from passline.market.synthetic import SyntheticMarket, oracle_signal
from passline.sim.layout import Outcome
from passline.task.actions import N_SIZES
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["fit_oracle"]

THRESHOLDS = ((0.7, 0.0), (1.0, 0.0), (0.2, 0.04))
"""Drift that must be exceeded, in ticks and in average true ranges, summed."""
N_FIT = 48


def fit_oracle(
    prepared: Prepared,
    params: TaskParams,
    market: SyntheticMarket,
    split: Split,
    greedy: Greedy,
    network: Any,
) -> Policy:
    """Returns the rule with the highest pass rate on training dates.

    Args:
        prepared: the market.
        params: constants of the account phase.
        market: the built-in market with its hidden drift.
        split: the cut of time; only `train` is touched.
        greedy: the agent's rule; only gives the compiled player its shape.
        network: the agent's parameters; likewise.
    """
    longest = max(split.train, key=lambda part: part[1] - part[0])
    part = train_slices(prepared, [longest])
    starts = evaluation_starts(prepared, part, n=N_FIT, span_days=prepared.span_days, seed=1)
    begun = begin_at(params, starts)
    atr = np.asarray(params.atr)
    best, best_rate = None, -1.0

    def consider(signal: Any, size: int) -> None:
        nonlocal best, best_rate
        shares = (np.arange(N_SIZES) >= size).astype(float)
        policy = scripted(PolicyKind.SIGNAL, network, signal=signal, size_shares=shares)
        played = play_episodes(params, greedy, policy, begun, seed=1)
        rate = float((played.sim.outcome == Outcome.PASSED).mean())
        if rate > best_rate:
            best, best_rate = policy, rate

    for ticks, in_atr in THRESHOLDS:
        consider(
            oracle_signal(market, threshold_ticks=ticks, threshold_atr=in_atr, atr_ticks=atr), 0
        )
    assert best is not None
    consider(best.signal, 1)
    return best
