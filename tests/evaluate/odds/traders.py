"""Made-up traders whose odds are known, as source days."""

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.odds.days import SourceDays


def record(
    gross_usd: NDArray[np.float64],
    *,
    per_day: int = 1,
    high_usd: NDArray[np.float64] | None = None,
    low_usd: NDArray[np.float64] | None = None,
    cost_usd: float = 0.0,
    qty: int = 1,
    units: int = 10,
) -> SourceDays:
    """Source days of `per_day` trades each; without extremes the path is the straight line."""
    gross = np.rint(gross_usd * 1000).astype(np.int64)
    n = len(gross)
    high = np.maximum(gross, 0) if high_usd is None else np.rint(high_usd * 1000).astype(np.int64)
    low = np.minimum(gross, 0) if low_usd is None else np.rint(low_usd * 1000).astype(np.int64)
    n_days = n // per_day
    return SourceDays(
        day=np.arange(n_days) + 20_000,
        first=np.arange(n_days + 1) * per_day,
        gross_mills=gross,
        cost_mills=np.full(n, round(cost_usd * 1000)),
        high_mills=np.stack([high, high]),
        low_mills=np.stack([low, low]),
        qty=np.full(n, qty),
        units=np.full(n, units),
        symbols=("ES",),
        sight="excursions",
    )


def coin(share_of_wins: float, step_usd: float, n: int = 1000, per_day: int = 1) -> SourceDays:
    """A trader who wins or loses one step, in exactly this share of n trades, shuffled."""
    wins = round(share_of_wins * n)
    steps = np.where(np.arange(n) < wins, step_usd, -step_usd)
    return record(np.random.default_rng(3).permutation(steps), per_day=per_day)
