"""What lives cost and bring: prices, months, resets, activation, and the way to the first pass.

Amounts are mills. A price that a book does not know counts as nothing and is named in `unknown`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.odds.lives import Results
from passline.evaluate.odds.simulate import Lives, Plan

__all__ = ["Costs", "WayToPass", "attempt_costs", "life_values", "way_to_pass"]

I64 = NDArray[np.int64]

_MONTH_DAYS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Prices of a plan, mills.

    Attributes:
        price: of the first attempt, or of each of its months.
        again: of a further attempt: a reset where it is cheaper, else the price.
        is_monthly: whether the price is paid every 30 days.
        is_reset: whether a further attempt is a reset, under which a monthly bill runs on.
        activation: paid once after a pass.
        unknown: prices that the book does not know.
    """

    price: int
    again: int
    is_monthly: bool
    is_reset: bool
    activation: int
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> "Costs":
        """Returns the prices of a plan's evaluation."""
        fees = plan.evaluation.fees
        price = fees.price_mills or 0
        reset = price if fees.reset_mills is None else fees.reset_mills
        return cls(
            price=price,
            again=min(reset, price),
            is_monthly=fees.billing == "monthly",
            is_reset=reset < price,
            activation=fees.activation_mills or 0,
            unknown=tuple(
                name
                for name, is_known in (
                    ("price", fees.price_mills is not None),
                    ("activation", fees.is_activation_known),
                )
                if not is_known
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WayToPass:
    """The way to a first pass, attempt after attempt.

    Attributes:
        attempts: mean number of attempts, the passed one included; inf if none passes.
        days: mean trading days.
        calendar_days: mean calendar days.
        cost_mills: mean cost, activation included; inf if none passes.
        cost_median_mills: median cost.
        cost_high_mills: cost that nine in ten ways stay below.
        n_ways: ways found among the lives.
    """

    attempts: float
    days: float
    calendar_days: float
    cost_mills: float
    cost_median_mills: float
    cost_high_mills: float
    n_ways: int


def attempt_costs(costs: Costs, evaluation: Results) -> I64:
    """Returns what each attempt costs if it is the first, without activation; int64 [L]."""
    return costs.price * (1 + _renewals(costs, evaluation.calendar_days))


def _renewals(costs: Costs, calendar_days: I64) -> I64:
    """Returns how often a monthly price is paid again within so many days [n]."""
    return (calendar_days - 1) // _MONTH_DAYS * int(costs.is_monthly)


def way_to_pass(costs: Costs, evaluation: Results) -> WayToPass:
    """Chains lives in the order of their numbers until one passes, again and again.

    Lives are drawn independently, so each chain is one way. Those after the last pass begin the
    first way, so that every life counts once and means are those of renewal theory, E[x of an
    attempt] / P(pass). A monthly bill runs on through resets: it is paid for the days of the whole
    way, and begins anew only with an account that is bought.
    """
    is_pass = evaluation.is_pass
    rate = float(is_pass.mean())
    if rate == 0:
        inf = float("inf")
        return WayToPass(
            attempts=inf,
            days=inf,
            calendar_days=inf,
            cost_mills=inf,
            cost_median_mills=inf,
            cost_high_mills=inf,
            n_ways=0,
        )
    n_after = len(is_pass) - 1 - int(np.flatnonzero(is_pass)[-1])
    passed = np.roll(is_pass, n_after)
    first = np.flatnonzero(np.r_[True, passed[:-1]])
    calendar_days = np.roll(evaluation.calendar_days, n_after)
    attempts = np.diff(np.append(first, len(passed)))
    if costs.is_reset:
        renewals = _renewals(costs, np.add.reduceat(calendar_days, first))
    else:
        renewals = np.add.reduceat(_renewals(costs, calendar_days), first)
    total = costs.price * (1 + renewals) + costs.again * (attempts - 1) + costs.activation
    return WayToPass(
        attempts=1 / rate,
        days=float(evaluation.n_days.mean()) / rate,
        calendar_days=float(evaluation.calendar_days.mean()) / rate,
        cost_mills=float(total.mean()),
        cost_median_mills=float(np.median(total)),
        cost_high_mills=float(np.quantile(total, 0.9)),
        n_ways=len(first),
    )


def life_values(costs: Costs, lives: Lives) -> I64:
    """Returns what one attempt brings: payouts to the trader less all it cost; int64 [L]."""
    value = -attempt_costs(costs, lives.evaluation)
    passed = np.flatnonzero(lives.evaluation.is_pass)
    value[passed] -= costs.activation
    if lives.funded is not None:
        value[passed] += lives.funded.net
    return value
