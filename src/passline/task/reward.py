"""Reward terms: each is an event or a difference, never a level; a phase weighs them."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from passline.sim.layout import NEVER, AnyArray, Events, Outcome, Rules, State
from passline.task.actions import Bracket

__all__ = [
    "REWARD_TERMS",
    "RUIN",
    "RewardWeights",
    "potential",
    "reward_terms",
    "total_reward",
    "trip_utility",
]

REWARD_TERMS = ("trip_r", "trip_utility", "equity", "breach", "potential")
"""Names of the reward terms, in order."""
RUIN = 0.05
"""Chance of losing an allowance that bets of no utility may have at most; see trip_utility."""
MAX_LOSS = 100.0
"""Loss of a round trip, in units of risk, beyond which its utility falls no further."""


class RewardWeights(NamedTuple):
    """Weights of the terms.

    Attributes:
        trip_r: net result of a round trip in units of its initial risk, paid when it ends.
        trip_utility: utility of that result, paid when it ends.
        equity: change of equity, costs included, in allowances.
        breach: -1 when the account is breached.
        potential: change of the potential; pass ends at 1, breach at 0, and a time-out where it
            stands, so that an account without an edge loses nothing by staying flat.
    """

    trip_r: AnyArray
    trip_utility: AnyArray
    equity: AnyArray
    breach: AnyArray
    potential: AnyArray


def trip_utility(bracket: Bracket, net_r: Array) -> Array:
    """Returns the exponential utility of round trips' results, in units of risk; any shape.

    (1 - exp(-a r)) / a, with a = -ln(RUIN) · the share of the allowance that the smallest entry
    risks. Whoever takes only bets whose expected utility is not negative loses an allowance with
    a chance of at most RUIN (Lundberg's inequality; Asmussen and Albrecher 2010, "Ruin
    Probabilities", chapter IV), so that the little edge of many risky entries counts less than
    the same edge of few.

    Args:
        bracket: sizes; of risk_permille the first is read.
        net_r: net results in units of initial risk.
    """
    share = jnp.asarray(bracket.risk_permille)[0].astype(jnp.float32) / 1000
    aversion = -math.log(RUIN) * share
    return -jnp.expm1(-aversion * jnp.maximum(net_r, -MAX_LOSS)) / aversion


def potential(rules: Rules, state: State, equity: Array, unit_mills: Array) -> Array:
    """Returns the potential of an account in [0, 1]; float32 [L].

    Open and timed-out accounts: (equity - floor) / (target - floor), the pass probability of a
    driftless walk between two fixed barriers (gambler's ruin); passed 1, breached 0. A stage
    without a target uses one allowance above the start.
    """
    goal = jnp.where(
        rules.target_balance == NEVER, rules.start_balance + unit_mills, rules.target_balance
    )
    above = (equity - state.floor).astype(jnp.float32)
    span = jnp.maximum(goal - state.floor, 1).astype(jnp.float32)
    is_settled = (state.outcome == Outcome.PASSED) | (state.outcome == Outcome.BREACHED)
    is_passed = (state.outcome == Outcome.PASSED).astype(jnp.float32)
    return jnp.where(is_settled, is_passed, jnp.clip(above / span, 0.0, 1.0))


def reward_terms(
    rules: Rules,
    before: State,
    after: State,
    events: Events,
    *,
    equity_before: Array,
    bracket: Bracket,
) -> RewardWeights:
    """Computes every term of one step, unweighted; float32 [L] each.

    Args:
        rules: the rulebook.
        before: accounts at the close of bar k.
        after: accounts at the close of bar k + 1.
        events: what happened between.
        equity_before: equity at the close of bar k, mills [L].
        bracket: sizes and the allowance.
    """
    unit_mills = bracket.unit_mills
    unit = unit_mills.astype(jnp.float32)
    risk = jnp.maximum(events.trip_risk, 1).astype(jnp.float32)
    has_risk = events.trip_risk > 0
    breaks = (after.outcome == Outcome.BREACHED) & (before.outcome == Outcome.OPEN)
    net_r = jnp.where(has_risk, events.trip_net.astype(jnp.float32) / risk, 0.0)
    return RewardWeights(
        trip_r=net_r,
        trip_utility=trip_utility(bracket, net_r),
        equity=(events.equity - equity_before).astype(jnp.float32) / unit,
        breach=-breaks.astype(jnp.float32),
        potential=potential(rules, after, events.equity, unit_mills)
        - potential(rules, before, equity_before, unit_mills),
    )


def total_reward(weights: RewardWeights, terms: RewardWeights) -> Array:
    """Returns the weighted sum of the terms, float32 [L]."""
    weighted = [w * t for w, t in zip(weights, terms, strict=True)]
    total: Array = weighted[0] + weighted[1] + weighted[2] + weighted[3] + weighted[4]
    return total
