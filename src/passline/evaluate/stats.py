"""Intervals for episodes that are not independent: those of one stretch of dates share its luck.

Episodes come with a cluster each, and every interval here follows the spread between clusters,
not between episodes. Nothing is read or drawn here except by `cluster_bootstrap`, from its seed.
How often these intervals cover the truth is counted in tests/evaluate/test_stats.py and, on whole
markets of the engine, in tests/evaluate/test_calibration.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from passline.errors import ConfigError

__all__ = [
    "Estimate",
    "cluster_bootstrap",
    "clusters_by_span",
    "date_bootstrap",
    "mean_interval",
    "paired_difference",
    "proportion_interval",
    "ratio_interval",
]

EXTREME = 0.1
"""A share this near 0 or 1 is bounded by Wilson's interval in a difference too."""
EVEN = 1e-12
"""Of a share's own variance: a spread between clusters below this is none."""
MOST_CORRELATED = 0.7
"""Few clusters overrate how far two shares move together; more than this is not counted on."""
MOST_SKEWED = 1.5
"""Hall's transformation is an expansion for small skewness; more than this is not put into it."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its interval and the sample it rests on.

    Attributes:
        value: the figure itself.
        low: lower end of the interval; -inf where the sample cannot bound it.
        high: upper end of the interval; inf where the sample cannot bound it.
        n: episodes (or pairs of episodes).
        n_clusters: clusters they fall into.
        n_effective: independent episodes that would pin the figure as firmly as these do.
        level: share of such intervals that cover the truth.
    """

    value: float
    low: float
    high: float
    n: int
    n_clusters: int
    n_effective: float
    level: float = 0.95


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Cluster-robust variance of a mean.

    Attributes:
        mean: the mean of all values.
        variance: its variance, following the spread between clusters.
        dof: degrees of freedom of that variance.
        n_clusters: clusters with at least one value.
        kish: n^2 / sum of squared cluster sizes, the clusters' number were they of equal size.
    """

    mean: float
    variance: float
    dof: float
    n_clusters: int
    kish: float


def proportion_interval(
    successes: ArrayLike, clusters: ArrayLike, *, level: float = 0.95, is_serial: bool = False
) -> Estimate:
    """Returns a share with Wilson's interval on the effective sample size.

    The effective size is p(1-p) over the cluster-robust variance of p, held between Kish's number
    of clusters and n (Korn and Graubard 1998 use it with Clopper and Pearson's interval). If all
    clusters have the same share it is Kish's number of them. A few clusters may by chance differ no
    more than independent episodes would; it is then n, whatever they share (docs/evaluation.md, few
    blocks).

    Args:
        successes: bool [n].
        clusters: cluster of each episode, int [n].
        level: coverage of the interval.
        is_serial: cluster g and g + 1 touch in time and may share luck (see `clusters_by_span`).
    """
    values, ids = _checked(successes, clusters, level)
    spread = _spread(values, ids, is_serial)
    n, p = len(values), spread.mean
    # Blocks that all have the same share leave a variance of rounding errors.
    is_known = spread.variance > EVEN * p * (1 - p)
    raw = p * (1 - p) / spread.variance if is_known else spread.kish
    n_effective = float(np.clip(raw, spread.kish, n))
    dof = n - 1 if raw >= n else spread.dof
    quantile = _t_quantile(level, dof)
    low, high = _wilson(p, n_effective, quantile)
    return Estimate(
        value=p,
        low=low,
        high=high,
        n=n,
        n_clusters=spread.n_clusters,
        n_effective=n_effective,
        level=level,
    )


def mean_interval(
    values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95, is_serial: bool = False
) -> Estimate:
    """Returns a mean with its cluster-robust t interval, corrected for skewness.

    The variance is CR2 (Bell and McCaffrey 2002) for a mean: squared residual sums of the clusters,
    each over one minus its share of the sample. Where most evaluations win about the same and few
    lose much more, a lucky sample has a small spread too, and the plain t interval misses on that
    side; Hall's (1992) transformation of t makes it reach further there. The skewness of the mean
    is that of the values over the root of the effective n, as a share's is under Wilson's interval:
    a dozen sums of clusters would show too little of it. With one cluster nothing bounds the mean.

    Args:
        values: one number an episode, float [n].
        clusters: cluster of each episode, int [n].
        level: coverage of the interval.
        is_serial: cluster g and g + 1 touch in time and may share luck.
    """
    checked, ids = _checked(values, clusters, level)
    return _interval_of(checked, _spread(checked, ids, is_serial), level)


def ratio_interval(
    totals: ArrayLike,
    counts: ArrayLike,
    clusters: ArrayLike,
    *,
    doubt: float,
    level: float = 0.95,
    is_serial: bool = False,
) -> Estimate:
    """Returns sum of totals / sum of counts with the interval of its linearization.

    Clusters without a count know nothing of the ratio, and a cluster's share is that of the counts:
    with all of them in one cluster nothing bounds it. What is counted may come in two sizes, as
    round trips that reach their target or their stop; a few that all had the same luck then have no
    spread at all. So either bound is that of the sample with one count more, a cluster of its own,
    which came to `doubt` below or above, as Agresti and Coull (1998) add outcomes to a share.

    Args:
        totals: of each episode, float [n].
        counts: of each episode, 0 or more, one of them more, [n].
        clusters: cluster of each episode, int [n].
        doubt: what one more count might have come to, lost or won.
        level: coverage of the interval.
        is_serial: cluster g and g + 1 touch in time and may share luck.
    """
    checked, ids = _checked(totals, clusters, level)
    numbers, _ = _checked(counts, clusters, level)
    is_known = numbers > 0
    known = checked[is_known], numbers[is_known], ids[is_known]
    found = _ratio(*known, level, is_serial)

    def with_one_more(total: float) -> Estimate:
        totals, counts, own = known
        more = np.append(totals, total), np.append(counts, 1.0), np.append(own, ids.max() + 2)
        return _ratio(*more, level, is_serial)

    if found.n_clusters < 2:
        return replace(found, n=len(checked))
    low = min(found.low, with_one_more(-doubt).low)
    high = max(found.high, with_one_more(doubt).high)
    return replace(found, low=low, high=high, n=len(checked))


def _ratio(totals: Floats, counts: Floats, ids: Ints, level: float, is_serial: bool) -> Estimate:
    """Returns the ratio of sums, of episodes that all have a count."""
    ratio = totals.sum() / counts.sum()
    linear = ratio + (totals - ratio * counts) / counts.mean()
    return _interval_of(linear, _spread(linear, ids, is_serial, counts), level)


def _interval_of(values: Floats, spread: _Spread, level: float) -> Estimate:
    """Returns the skewness-corrected t interval of a mean with this spread."""
    n_effective = _effective(values, spread.variance, spread.kish)
    skewness = _skewness(values, n_effective)
    below, above = _reach(spread.variance, spread.dof, skewness, level)
    return Estimate(
        value=spread.mean,
        low=spread.mean - below,
        high=spread.mean + above,
        n=len(values),
        n_clusters=spread.n_clusters,
        n_effective=n_effective,
        level=level,
    )


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    is_serial: bool = False,
) -> Estimate:
    """Returns the mean of first - second over the same episodes, with its interval.

    Of two series of bool it is the difference of two shares. Where one of them lies within 10
    points of 0 or 1, or no pair differs from another, the spread of the differences promises too
    much (a few clusters hold all passes): the interval is then Newcombe's (1998, his method 10),
    the distances of each share to its own Wilson bounds joined under the correlation that the two
    have between clusters.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape:
        raise ConfigError(f"paired_difference: {a.shape} and {b.shape} episodes cannot be paired")
    differences = a.astype(np.float64) - b.astype(np.float64)
    estimate = mean_interval(differences, clusters, level=level, is_serial=is_serial)
    is_extreme = any(not EXTREME < x.mean() < 1 - EXTREME for x in (a, b))
    is_uniform = bool(np.all(differences == differences[0]))
    if a.dtype != bool or b.dtype != bool or not (is_extreme or is_uniform):
        return estimate
    if estimate.n_clusters < 2:
        return estimate
    ids = np.asarray(clusters, dtype=np.int64)
    mine, theirs = (proportion_interval(x, ids, level=level, is_serial=is_serial) for x in (a, b))
    correlation = _correlation(a.astype(np.float64), b.astype(np.float64), ids, is_serial)
    below = _joined(mine.value - mine.low, theirs.high - theirs.value, correlation)
    above = _joined(mine.high - mine.value, theirs.value - theirs.low, correlation)
    return replace(
        estimate,
        low=max(estimate.value - below, -1.0),
        high=min(estimate.value + above, 1.0),
        n_effective=min(mine.n_effective, theirs.n_effective),
    )


def date_bootstrap(
    values: ArrayLike,
    start_day: ArrayLike,
    *,
    span_days: int,
    seed: int,
    n_draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Returns a mean with its interval from drawing stretches of dates anew.

    The moving-block bootstrap (Kuensch 1989), its blocks twice as long as an episode may last and
    wrapped around the end, so that what overlapping episodes share is drawn together. Episodes that
    begin k days apart are torn apart by a share k / length of the blocks, which no number of blocks
    mends; twice the variance of these draws less that of draws of blocks half as long has no such
    gap within the half (Politis and Romano 1995). Days on which nothing begins are no evidence: a
    run of them counts as `span_days` at most, so that windows far apart are drawn apart and give no
    more blocks than they hold. Pairs stay pairs if `values` are their differences. The interval is
    that of `mean_interval` with this variance and as many degrees of freedom as there are long
    blocks, less one; percentiles of so few blocks would cover 80-90 %.

    Args:
        values: one number an episode, float [n].
        start_day: first trading day of each episode, days since 1970-01-01 [n].
        span_days: longest an episode may last, calendar days.
        seed: of the draws.
        n_draws: number of draws.
        level: coverage of the interval.
    """
    numbers, days = _checked(values, start_day, level)
    n_clusters = len(np.unique(clusters_by_span(days, span_days)))
    mean, day = float(numbers.mean()), _without_gaps(days, span_days)
    residuals = np.bincount(day, weights=numbers - mean).astype(np.float64)
    length = min(2 * span_days, len(residuals))
    n_blocks = len(residuals) / length
    below = above = float("inf")
    if n_blocks > 1:
        generator = np.random.default_rng(seed)
        long, short = (
            _drawn_variance(residuals, days_drawn, n_draws, generator)
            for days_drawn in (length, span_days)
        )
        variance = max(2 * long - short, long) / len(numbers) ** 2
        skewness = _skewness(numbers, _effective(numbers, variance, n_blocks))
        below, above = _reach(variance, n_blocks - 1, skewness, level)
    return Estimate(
        value=mean,
        low=mean - below,
        high=mean + above,
        n=len(numbers),
        n_clusters=n_clusters,
        n_effective=n_blocks,
        level=level,
    )


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: ArrayLike,
    *,
    seed: int,
    n_draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Returns any figure with its interval from drawing whole clusters anew.

    Percentiles of the draws, taken further out as Hesterberg (2015) advises, so that few clusters
    give t's width and not the normal's.

    Args:
        statistic: computes the figure from the indices of the drawn episodes.
        clusters: cluster of each episode, int [n].
        seed: of the draws.
        n_draws: number of draws.
        level: coverage of the interval.
    """
    ids = np.asarray(clusters, dtype=np.int64)
    _, codes, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    n_clusters = len(members)
    if n_clusters < 2:
        raise ConfigError(f"cluster_bootstrap: {n_clusters} cluster; at least 2 are needed")
    generator = np.random.default_rng(seed)
    picks = generator.integers(n_clusters, size=(n_draws, n_clusters))
    draws = [statistic(np.concatenate([members[g] for g in pick])) for pick in picks]
    reach = np.sqrt(n_clusters / (n_clusters - 1)) * _t_quantile(level, n_clusters - 1)
    tail = float(ndtr(-reach))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(
        value=float(statistic(np.arange(len(ids)))),
        low=float(low),
        high=float(high),
        n=len(ids),
        n_clusters=n_clusters,
        n_effective=float(sizes.sum() ** 2 / (sizes**2).sum()),
        level=level,
    )


def clusters_by_span(start_day: ArrayLike, span_days: int) -> Ints:
    """Returns the cluster of each episode: blocks of `span_days` from the earliest start.

    Episodes that share a day lie in one block or in two that touch, whatever their market, so the
    intervals over these clusters take `is_serial=True`. Where episodes use their whole span and
    begin on every day, intervals without it cover 89-92 % instead of 95 %.

    Args:
        start_day: first trading day of each episode, days since 1970-01-01 [n].
        span_days: longest an episode may last, in the same days; at least 1.
    """
    days = np.asarray(start_day, dtype=np.int64)
    if span_days < 1:
        raise ConfigError(f"clusters_by_span: span_days is {span_days}; at least 1 is needed")
    return (days - days.min()) // span_days if days.size else days


def _without_gaps(days: Ints, most_days: int) -> Ints:
    """Returns days from 0, with runs of days on which nothing begins cut to `most_days`."""
    unique, codes = np.unique(days, return_inverse=True)
    steps = np.minimum(np.diff(unique), most_days + 1)
    return np.r_[0, np.cumsum(steps)].astype(np.int64)[codes]


def _checked(values: ArrayLike, clusters: ArrayLike, level: float) -> tuple[Floats, Ints]:
    numbers = np.asarray(values, dtype=np.float64)
    ids = np.asarray(clusters, dtype=np.int64)
    if numbers.ndim != 1 or numbers.shape != ids.shape or not len(numbers):
        raise ConfigError(
            f"interval: {numbers.shape} values and {ids.shape} clusters; both must be [n], n > 0"
        )
    if not np.isfinite(numbers).all():
        raise ConfigError(f"interval: {int((~np.isfinite(numbers)).sum())} values are not finite")
    if not 0 < level < 1:
        raise ConfigError(f"interval: level is {level}; it lies between 0 and 1")
    return numbers, ids


def _spread(values: Floats, ids: Ints, is_serial: bool, weights: Floats | None = None) -> _Spread:
    """Returns the spread of the values' mean; weights make up the clusters' sizes, else alike."""
    unique, codes = np.unique(ids, return_inverse=True)
    sizes = np.bincount(codes, weights=weights).astype(np.float64)
    whole = float(sizes.sum())
    n, n_clusters = len(values), len(unique)
    mean = float(values.mean())
    kish = float(whole**2 / (sizes**2).sum())
    if n_clusters < 2:
        return _Spread(mean=mean, variance=0.0, dof=0.0, n_clusters=n_clusters, kish=kish)
    residual_sums = np.bincount(codes, weights=values - mean, minlength=n_clusters)
    sums = residual_sums / np.sqrt(1 - sizes / whole)
    squares = sums**2
    total = float(squares.sum())
    # Few clusters that carry the whole spread know it badly, however many others there are.
    fourth = float((squares**2).sum())
    dof = min(kish - 1, 2 * total**2 / fourth) if fourth > 0 else kish - 1
    if is_serial:
        touching = np.diff(unique) == 1
        covariance = float((sums[1:] * sums[:-1])[touching].sum())
        total += 2 * max(covariance, 0.0)
        total *= 1 + 1 / n_clusters
        dof *= 0.75
    return _Spread(
        mean=mean,
        variance=total / n**2,
        dof=max(dof, 0.5),
        n_clusters=n_clusters,
        kish=kish,
    )


def _drawn_variance(
    residuals: Floats, length: int, n_draws: int, generator: np.random.Generator
) -> float:
    """Returns the variance of the residuals' sum over drawn blocks of days, wrapped at the end.

    As many whole blocks are drawn as cover all days; the variance is that of the days' own number,
    over one minus a block's share, since the residuals are those from the sample's own mean.
    """
    n_days = len(residuals)
    n_blocks = n_days / length
    n_drawn = int(np.ceil(n_blocks))
    sums = np.r_[0.0, np.cumsum(np.r_[residuals, residuals])]
    starts = generator.integers(n_days, size=(n_draws, n_drawn))
    draws = (sums[starts + length] - sums[starts]).sum(axis=1)
    return float(draws.var()) * n_blocks / n_drawn * n_blocks / (n_blocks - 1)


def _effective(values: Floats, variance: float, least: float) -> float:
    """Returns the number of independent values whose mean had the variance, `least` to n."""
    n = len(values)
    plain = float(values.var()) * n / max(n - 1, 1)
    return float(np.clip(plain / variance if variance > 0 else least, least, n))


def _skewness(values: Floats, n_effective: float) -> float:
    """Returns the skewness of a mean: that of its values over the root of their effective number.

    Exact where values are independent and where those of a cluster are all alike.
    """
    residuals = values - values.mean()
    scale = float(residuals.std())
    if scale <= 1e-12 * float(np.abs(values).max(initial=1.0)):
        return 0.0
    skewness = float(((residuals / scale) ** 3).mean()) / np.sqrt(n_effective)
    return float(np.clip(skewness, -MOST_SKEWED, MOST_SKEWED))


def _correlation(first: Floats, second: Floats, ids: Ints, is_serial: bool) -> float:
    """Returns the correlation of two shares between clusters, at most 0.7; 0 where one is fixed."""
    a, b, apart = (_spread(x, ids, is_serial).variance for x in (first, second, first - second))
    if a * b <= 0:
        return 0.0
    return float(np.clip((a + b - apart) / (2 * np.sqrt(a * b)), -1.0, MOST_CORRELATED))


def _joined(one: float, other: float, correlation: float) -> float:
    """Returns the distance of a difference to its bound from those of its two parts."""
    return float(np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0)))


def _reach(variance: float, dof: float, skewness: float, level: float) -> tuple[float, float]:
    """Returns how far the interval reaches below and above the mean.

    With t = (mean - truth) / error of skewness g, Hall's t + g t^2 / 3 + g^2 t^3 / 27 + g / 6 is
    nearly free of it. Each reach is the error times the quantile of t, drawn out or in as the
    inverse of that moves the normal's, which keeps t's width where clusters are few.
    """
    if dof <= 0:
        return float("inf"), float("inf")
    half, normal = _t_quantile(level, dof) * np.sqrt(variance), float(ndtri((1 + level) / 2))
    return (
        float(half * _unskewed(normal, skewness) / normal),
        float(half * _unskewed(-normal, skewness) / -normal),
    )


def _unskewed(normal: float, skewness: float) -> float:
    """Returns the t that Hall's transform takes to a quantile of the normal."""
    if abs(skewness) < 1e-6:
        return normal
    return 3 / skewness * float(np.cbrt(1 + skewness * (normal - skewness / 6)) - 1)


def _t_quantile(level: float, dof: float) -> float:
    if dof <= 0:
        return float("inf")
    return float(stdtrit(dof, (1 + level) / 2))


def _wilson(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval (1927) with the quantile given."""
    if not np.isfinite(quantile):
        return 0.0, 1.0
    q2 = quantile**2
    middle = (p + q2 / (2 * n)) / (1 + q2 / n)
    half = quantile / (1 + q2 / n) * np.sqrt(p * (1 - p) / n + q2 / (4 * n**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)
