"""How shares, points and dollars are written on every page, with their intervals."""

from collections.abc import Callable

import numpy as np

from passline.evaluate.stats import Estimate

__all__ = ["interval", "percent", "points", "usd"]


def percent(share: float) -> str:
    """Writes a share as percent, such as 41.3%."""
    return f"{100 * share:.1f}%"


def points(share: float) -> str:
    """Writes a difference of shares as signed percentage points, such as −2.1."""
    if not np.isfinite(share):
        return "unbounded"
    return f"{100 * share:+.1f}".replace("-", "−")


def usd(value: float) -> str:
    """Writes whole dollars, such as −$1,250; a bound that the sample cannot give in words."""
    if not np.isfinite(value):
        return "unbounded"
    return f"{'−' if value < -0.5 else ''}${abs(value):,.0f}"


def interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Writes both ends of an estimate's interval."""
    return f"{write(estimate.low)} to {write(estimate.high)}"
