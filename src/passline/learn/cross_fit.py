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

from passline.evaluate.stats import Estimate, mean_interval, paired_difference
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


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFit:
    """What policies of the phase earn on training days that they have not seen.

    Attributes:
        results: reward of each stretch (a session, or a part of a long one), float64 [W].
        week: its week, by which intervals are clustered, int64 [W].
    """

    results: NDArray[np.float64]
    week: NDArray[np.int64]

    @property
    def estimate(self) -> Estimate:
        """Reward a stretch with its 95 % interval."""
        return mean_interval(self.results, self.week, is_serial=True)

    @property
    def is_shown(self) -> bool:
        """Whether the lower bound lies above 0."""
        return self.estimate.low > 0

    def gain_over(self, other: "CrossFit") -> Estimate:
        """Returns reward a stretch less the other's, paired, with its 95 % interval."""
        return paired_difference(self.results, other.results, self.week, is_serial=True)

    def scalars(self) -> dict[str, float]:
        """Returns the estimate under its names in the logs."""
        estimate = self.estimate
        return {
            "cross_fit/reward": estimate.value,
            "cross_fit/reward_low": estimate.low,
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
) -> CrossFit | None:
    """Learns the phase on either half of its weeks and plays each on the other half.

    Weeks are those of the calendar, alike on all markets, which share their luck.

    Args:
        params: constants of the phase.
        stretches: its training range.
        config: the learner's settings as the phase has them.
        start: any state of the learner; it is copied, its key is used.
        begin: weights that the phase began with; they may know nothing of either half.
        n_updates: updates of each half.
        mirror: what the policy is kept symmetric to; None: nothing.

    Returns:
        What they earn; None if there are too few weeks to tell.
    """
    week = (np.asarray(params.tape.day)[stretches.first].astype(np.int64) + MONDAY) // 7
    if len(np.unique(week)) < LEAST_WEEKS:
        return None
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
    return CrossFit(results=results, week=week)


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
