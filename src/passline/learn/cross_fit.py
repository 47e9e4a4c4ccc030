"""Whether what the first phase learned holds on training days that it was not learned from.

A network can always find a few bars of its training days on which entering would have paid. So the
phase is learned twice more, on either half of its weeks, and each is played on the other half: if
the two together do not earn, nothing was learned that can be relied on, and the policy is made to
stay flat. No held-out bar is touched; the gate, on bars never trained on, comes after.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from passline.evaluate.stats import Estimate, mean_interval
from passline.learn import network
from passline.learn.full_information import HOLD, Stretches, greedy_results, make_exact_update
from passline.learn.ppo import PPOConfig, make_hyper
from passline.learn.rollout import TrainState
from passline.task.env import TaskParams
from passline.task.mirror import Mirror

__all__ = ["CrossFit", "cross_fit", "stay_flat"]

LEAST_WEEKS = 8
"""Weeks below which there is nothing to divide, and nothing is concluded."""
MONDAY = 3
"""Days from a Monday to 1970-01-01."""
FLAT_BY = 5.0
"""How far the logit of holding is lifted above that of every entry of the training days, nats."""


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """What policies of the phase earn on training days that they have not seen.

    Attributes:
        estimate: reward a stretch (a session, or a part of a long one) with its 95 % interval,
            clustered by weeks; None if there are too few weeks to tell.
    """

    estimate: Estimate | None

    @property
    def is_shown(self) -> bool:
        """Whether the lower bound lies above 0, or nothing can be said."""
        return self.estimate is None or self.estimate.low > 0

    def scalars(self) -> dict[str, float]:
        """Returns the estimate under its names in the logs."""
        if self.estimate is None:
            return {}
        return {
            "cross_fit/reward": self.estimate.value,
            "cross_fit/reward_low": self.estimate.low,
            "cross_fit/is_shown": float(self.is_shown),
        }


def cross_fit(
    params: TaskParams,
    stretches: Stretches,
    config: PPOConfig,
    start: TrainState,
    begin: network.Params,
    *,
    n_updates: int,
    mirror: Mirror | None,
) -> CrossFit:
    """Learns the phase on either half of its weeks and plays each on the other half.

    Weeks are those of the calendar, alike on all markets, which share their luck.

    Args:
        params: constants of the phase.
        stretches: its training range.
        config: the learner's settings as the phase has them.
        start: any state of the learner; it is copied, its key is used.
        begin: weights that the phase began with; they may know nothing of either half.
        n_updates: updates of each half.
        mirror: what the policy is kept symmetric to, as the phase does it.
    """
    week = (np.asarray(params.tape.day)[stretches.first].astype(np.int64) + MONDAY) // 7
    if len(np.unique(week)) < LEAST_WEEKS:
        return CrossFit(estimate=None)
    results = np.zeros(len(week))
    for half in (0, 1):
        is_own = week % 2 == half
        state = _fresh(start, begin, half)
        own = _resampled(stretches, np.flatnonzero(is_own))
        update = make_exact_update(params, own, config, mirror)
        hyper = make_hyper(config, int(state.n_updates), n_updates)
        for _ in range(n_updates):
            state, _ = update(state, hyper)
        played, _ = greedy_results(params, stretches, config, state.params)
        results[~is_own] = played[~is_own]
    return CrossFit(estimate=mean_interval(results, week, is_serial=True))


def stay_flat(
    params: TaskParams, stretches: Stretches, config: PPOConfig, weights: network.Params
) -> network.Params:
    """Returns the policy with holding just likely enough that it enters on no training day."""
    _, lead = greedy_results(params, stretches, config, weights)
    actor = dict(weights["actor"])
    bias = f"b{len(actor) // 2 - 1}"
    actor[bias] = actor[bias].at[HOLD].add(max(lead, 0.0) + FLAT_BY)
    return {**weights, "actor": actor}


def _fresh(start: TrainState, begin: network.Params, half: int) -> TrainState:
    """Returns a learner that has learned nothing; the arrays are its own, for it donates them."""
    copied: TrainState = jax.tree.map(jnp.copy, start)
    blank = jax.tree.map(jnp.zeros_like, copied.opt_state)
    key = jax.random.fold_in(copied.key, half)
    return copied._replace(params=jax.tree.map(jnp.copy, begin), opt_state=blank, key=key)


def _resampled(stretches: Stretches, own: NDArray[np.int64]) -> Stretches:
    """Returns as many stretches as before, taken from some, so that nothing is compiled anew."""
    at = np.resize(own, len(stretches.first))
    return stretches._replace(first=stretches.first[at], n_bars=stretches.n_bars[at])
