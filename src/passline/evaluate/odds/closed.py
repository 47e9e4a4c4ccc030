"""Closed forms of ruin for a Brownian account: what the path engine is checked against.

mu is the drift and sigma the standard deviation per step; allowance and target are distances from
the start, all in one unit. The floors are those of `Drawdown`: static, or trailing the highest
equity without a lock.
"""

import math

from passline.errors import ConfigError

__all__ = ["static_pass_probability", "trailing_pass_probability"]


def static_pass_probability(
    *, target: float, allowance: float, mu: float = 0.0, sigma: float = 1.0
) -> float:
    """Returns the chance to gain `target` before losing `allowance`, floor static.

    (1 - exp(-2 mu a / s^2)) / (1 - exp(-2 mu (a + b) / s^2)), and a / (a + b) without drift, the
    gambler's ruin (Feller 1968, XIV).
    """
    _check(target, allowance, sigma)
    theta = 2 * mu / sigma**2
    if abs(theta) * (allowance + target) < 1e-9:
        return allowance / (allowance + target)
    if theta < 0:
        # Both ends scaled by exp(theta (a + b)), which stays below 1.
        whole = math.exp(theta * (allowance + target))
        return (whole - math.exp(theta * target)) / (whole - 1)
    return math.expm1(-theta * allowance) / math.expm1(-theta * (allowance + target))


def trailing_pass_probability(
    *, target: float, allowance: float, mu: float = 0.0, sigma: float = 1.0
) -> float:
    """Returns the chance to gain `target` before falling `allowance` below the highest equity.

    The peak at the first drawdown of that size is exponential (Taylor 1975) with rate
    theta / (exp(theta a) - 1), theta = 2 mu / s^2: exp(-target / allowance) without drift.
    """
    _check(target, allowance, sigma)
    theta = 2 * mu / sigma**2
    if abs(theta) * allowance < 1e-9:
        return math.exp(-target / allowance)
    if theta * allowance > 700:
        return 1.0
    return math.exp(-target * theta / math.expm1(theta * allowance))


def _check(target: float, allowance: float, sigma: float) -> None:
    if not (target > 0 and allowance > 0 and sigma > 0):
        raise ConfigError(
            f"closed form: target {target}, allowance {allowance}, sigma {sigma}; all must be "
            "above 0."
        )
