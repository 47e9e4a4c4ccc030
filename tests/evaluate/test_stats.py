"""Intervals cover the truth as often as they say, on simulated markets whose truth is known."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtrit

from passline.errors import ConfigError
from passline.evaluate.stats import (
    Estimate,
    cluster_bootstrap,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
    ratio_interval,
)

N_MARKETS = 1000
# 95 % within 93-97 %, plus 2.5 standard errors of a share counted over N_MARKETS.
SLACK = 2.5 * np.sqrt(0.95 * 0.05 / N_MARKETS)


def assert_covers(estimates: list[Estimate], truth: float) -> None:
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert 0.93 - SLACK <= covered <= 0.97 + SLACK, f"covered {covered:.3f} of {len(estimates)}"


def cluster_ids(n_clusters: int, is_uneven: bool, generator: np.random.Generator) -> np.ndarray:
    sizes = np.full(n_clusters, 20)
    if is_uneven:
        sizes = generator.integers(8, 33, n_clusters)
    return np.repeat(np.arange(n_clusters), sizes)


@pytest.mark.parametrize("is_uneven", [False, True])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("n_clusters", "truth"), [(12, 0.35), (20, 0.15), (30, 0.1)])
def test_proportion_interval_covers(n_clusters, truth, correlation, is_uneven):
    generator = np.random.default_rng(20260101)
    ids = cluster_ids(n_clusters, is_uneven, generator)
    estimates = []
    for _ in range(N_MARKETS):
        rates = np.full(n_clusters, truth)
        if correlation:
            weight = 1 / correlation - 1
            rates = generator.beta(truth * weight, (1 - truth) * weight, n_clusters)
        estimates.append(proportion_interval(generator.random(len(ids)) < rates[ids], ids))
    assert_covers(estimates, truth)


def by_blocks(n_blocks: int, rate: float, correlation: float, n: int) -> np.ndarray:
    """Counts over n samples of blocks of 21 episodes: is the rate covered, is effective n all n?"""
    generator = np.random.default_rng([n_blocks, round(1000 * rate), round(1000 * correlation)])
    ids = np.repeat(np.arange(n_blocks), 21)
    rates = np.full((n, n_blocks), rate)
    if correlation:
        weight = 1 / correlation - 1
        rates = generator.beta(rate * weight, (1 - rate) * weight, (n, n_blocks))
    is_pass = generator.random((n, len(ids))) < rates[:, ids]
    found = [proportion_interval(own, ids, is_serial=True) for own in is_pass]
    return np.array([(e.low <= rate <= e.high, e.n_effective > e.n - 1e-6) for e in found])


@pytest.mark.parametrize("correlation", [0.1, 0.3])
@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_three_blocks_are_covered_overall_but_not_where_they_are_alike_by_chance(rate, correlation):
    """The limit that docs/evaluation.md tells: nothing in such a sample shows what blocks share."""
    is_covered, is_whole = by_blocks(3, rate, correlation, 3000).T
    assert 0.925 <= is_covered.mean() <= 0.98
    assert 0.03 < is_whole.mean() < 0.25
    assert is_covered[is_whole].mean() < 0.85


@pytest.mark.proof
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("n_blocks", [3, 5, 10, 20, 50])
def test_few_and_many_blocks_are_covered_overall(n_blocks, correlation, figure):
    for rate in (0.05, 0.3, 0.5):
        is_covered, is_whole = by_blocks(n_blocks, rate, correlation, 4000).T
        what = f"{n_blocks} blocks, correlation {correlation:g}, rate {rate:g}"
        figure(f"coverage; {what}", is_covered.mean(), "at least 0.925")
        figure(f"share with effective n = n; {what}", is_whole.mean(), "")
        if is_whole.any():
            figure(f"coverage of those; {what}", is_covered[is_whole].mean(), "")
        assert is_covered.mean() >= 0.925, what


@pytest.mark.parametrize("is_heavy", [False, True])
@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("n_clusters", [12, 30])
def test_mean_interval_covers(n_clusters, correlation, is_heavy):
    generator = np.random.default_rng(7)
    ids = cluster_ids(n_clusters, True, generator)
    estimates = []
    for _ in range(N_MARKETS):
        shared = generator.standard_normal(n_clusters)[ids] * np.sqrt(correlation)
        own = generator.standard_t(4, len(ids)) if is_heavy else generator.standard_normal(len(ids))
        estimates.append(mean_interval(5 + shared + own, ids))
    assert_covers(estimates, 5.0)


def test_intervals_that_ignore_clusters_would_not_cover():
    """The control: the same episodes taken as independent cover far less than they claim."""
    generator = np.random.default_rng(3)
    ids = cluster_ids(20, False, generator)
    covered = 0
    for _ in range(300):
        rates = generator.beta(0.3 * 4, 0.7 * 4, 20)
        estimate = proportion_interval(generator.random(len(ids)) < rates[ids], np.arange(len(ids)))
        covered += estimate.low <= 0.3 <= estimate.high
    assert covered / 300 < 0.7


@pytest.mark.parametrize("duration", [21, 10])
def test_overlapping_windows_are_covered_as_serial_clusters_and_only_so(duration):
    """Episodes begin every day of two years; the return of their window decides them alone."""
    generator = np.random.default_rng(11)
    days, span = 500, 21
    starts = np.arange(days)
    ids = clusters_by_span(starts, span)
    serial, serial_means, plain_means = [], [], []
    for _ in range(N_MARKETS):
        path = np.concatenate([[0.0], np.cumsum(generator.standard_normal(days + span))])
        returns = (path[starts + duration] - path[starts]) / np.sqrt(duration)
        serial.append(proportion_interval(returns > 0.5, ids, is_serial=True))
        serial_means.append(mean_interval(returns, ids, is_serial=True))
        plain_means.append(mean_interval(returns, ids))
    assert_covers(serial, 1 - float(ndtr(0.5)))
    assert_covers(serial_means, 0.0)
    if duration == span:
        assert np.mean([e.low <= 0 <= e.high for e in plain_means]) < 0.925


def test_redrawn_dates_keep_what_overlapping_episodes_share():
    """Blocks of two spans alone tear episodes apart and give 83 % of the variance here."""
    generator = np.random.default_rng(17)
    days, span = 2500, 21
    starts = np.arange(days)
    n_blocks = days / (2 * span)
    means, variances = [], []
    for seed in range(60):
        path = np.concatenate([[0.0], np.cumsum(generator.standard_normal(days + span))])
        returns = path[starts + span] - path[starts]
        estimate = date_bootstrap(returns, starts, span_days=span, seed=seed, n_draws=500)
        half = (estimate.high - estimate.low) / 2
        means.append(estimate.value)
        variances.append((half / stdtrit(n_blocks - 1, 0.975)) ** 2)
    # Each day of the path but those at the ends counts span times.
    truth = span**2 / days
    assert 0.92 < np.mean(variances) / truth < 1.08
    covered = np.abs(means) <= np.sqrt(variances) * stdtrit(n_blocks - 1, 0.975)
    assert covered.mean() > 0.88


@pytest.mark.parametrize(
    "windows", [((0, 90), (820, 910)), ((0, 90), (600, 690), (1300, 1390)), ((0, 60), (1100, 1160))]
)
def test_redrawn_dates_cover_the_truth_of_windows_far_apart(windows):
    """An evaluation of 30 days begins on each day of each window that leaves room for it."""
    generator, span, n = np.random.default_rng(7), 30, 200
    starts = np.concatenate([np.arange(first, stop - span) for first, stop in windows])
    n_covered = 0
    for seed in range(n):
        path = np.r_[0.0, np.cumsum(generator.standard_normal(windows[-1][1]))]
        returns = path[starts + span] - path[starts]
        found = date_bootstrap(returns, starts, span_days=span, seed=seed, n_draws=400)
        n_covered += found.low <= 0 <= found.high
    assert n_covered / n >= 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / n)


def test_redrawn_dates_count_a_gap_between_windows_once():
    days = np.r_[np.arange(60), np.arange(800, 860)]
    values = np.sin(days / 5.0)
    near = np.r_[np.arange(60), np.arange(90, 150)]  # 30 empty days between them
    far, close = (date_bootstrap(values, d, span_days=30, seed=0) for d in (days, near))
    assert (far.low, far.high) == (close.low, close.high)
    assert far.n_effective == close.n_effective == 150 / 60


def test_paired_difference_covers_and_is_narrower_than_unpaired():
    generator = np.random.default_rng(5)
    ids = cluster_ids(20, False, generator)
    estimates = []
    for _ in range(N_MARKETS):
        difficulty = generator.standard_normal(20)[ids] + 0.5 * generator.standard_normal(len(ids))
        first, second = difficulty < -0.4, difficulty + 0.5 * generator.random(len(ids)) < -0.4
        estimates.append(paired_difference(first, second, ids))
    scale = np.sqrt(1.25)
    grid = np.linspace(0, 0.5, 2001)
    truth = float(np.mean(ndtr(-0.4 / scale) - ndtr((-0.4 - grid) / scale)))
    assert_covers(estimates, truth)
    alone = proportion_interval(first, ids)
    assert estimates[-1].high - estimates[-1].low < 0.6 * (alone.high - alone.low)


def test_cluster_bootstrap_covers_for_a_median_and_repeats_from_its_seed():
    generator = np.random.default_rng(13)
    ids = cluster_ids(20, True, generator)
    estimates = []
    for draw in range(200):
        values = generator.standard_normal(20)[ids] * 0.5 + generator.standard_normal(len(ids))

        def median(rows: np.ndarray, values: np.ndarray = values) -> float:
            return float(np.median(values[rows]))

        estimates.append(cluster_bootstrap(median, ids, seed=draw, n_draws=200))
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    assert 0.90 <= covered <= 0.99
    first, again, other = (
        cluster_bootstrap(median, ids, seed=seed, n_draws=200) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_proportion_by_hand():
    """Two in four clusters of one: effective size 3, Wilson with t at 3 degrees of freedom."""
    estimate = proportion_interval([True, True, False, False], [0, 1, 2, 3])
    # CR2: residuals 1/2, each squared over 3/4, summed over n^2: 4 * (1/4) / (3/4) / 16 = 1/12;
    # 1/4 over 1/12 is 3, raised to Kish's 4 clusters, and 4 = n: quantile t at n - 1 = 3.
    assert estimate.n_effective == 4
    q = float(stdtrit(3, 0.975))
    middle = (0.5 + q * q / 8) / (1 + q * q / 4)
    half = q / (1 + q * q / 4) * np.sqrt(0.25 / 4 + q * q / 64)
    assert estimate.low == pytest.approx(middle - half)
    assert estimate.high == pytest.approx(middle + half)


@pytest.mark.parametrize("size", [1, 20])
def test_mean_by_hand(size):
    """Eight win 1 and two lose 3: Hall's transform of either end is the normal's quantile."""
    values = np.repeat([1.0] * 8 + [-3.0] * 2, size)
    estimate = mean_interval(values, np.repeat(np.arange(10), size))
    # Mean 0.2, deviations 0.8 and -3.2: variance 2.56, third moment (8 * 0.512 - 2 * 32.768) / 10 =
    # -6.144, skewness -1.5; of a mean of ten -1.5 / sqrt(10), however often each is repeated.
    skewness = -1.5 / np.sqrt(10)
    error = np.sqrt(25.6 / 9 / 10)
    # sum of squares 25.6 and of fourth powers 8 * 0.4096 + 2 * 104.8576 = 212.992.
    dof = min(9, 2 * 25.6**2 / 212.992)
    normal = float(ndtri(0.975))
    for end, quantile in ((estimate.low, normal), (estimate.high, -normal)):
        t = (0.2 - end) / error * normal / float(stdtrit(dof, 0.975))
        hall = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
        assert hall == pytest.approx(quantile)


def test_wholly_shared_luck_counts_clusters_not_episodes():
    ids = np.repeat(np.arange(10), 50)
    estimate = proportion_interval(np.repeat(np.arange(10) < 4, 50), ids)
    assert (estimate.n, estimate.n_clusters) == (500, 10)
    assert estimate.n_effective == pytest.approx(10)


@pytest.mark.parametrize("success", [False, True])
def test_unanimous_episodes_still_have_a_wide_interval(success):
    estimate = proportion_interval(np.full(200, success), np.repeat(np.arange(10), 20))
    assert estimate.n_effective == pytest.approx(10)
    width = estimate.high - estimate.low
    assert 0.2 < width < 0.5
    assert estimate.value in (estimate.low, estimate.high)


@pytest.mark.parametrize("n_passes", [3, 6, 10])
def test_clusters_of_exactly_one_share_count_as_one_each(n_passes):
    block = np.arange(20) < n_passes
    estimate = proportion_interval(np.tile(block, 3), np.repeat(np.arange(3), 20))
    assert estimate.n_effective == pytest.approx(3)


def test_one_cluster_bounds_nothing():
    share = proportion_interval([True, False, True], [4, 4, 4])
    assert (share.low, share.high) == (0.0, 1.0)
    mean = mean_interval([1.0, 2.0], [0, 0])
    assert (mean.low, mean.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(("one", "other", "value"), [(1, 0, 1.0), (0, 1, -1.0), (1, 1, 0.0)])
def test_pairs_that_all_agree_are_not_certain(one, other, value):
    ids = np.repeat(np.arange(12), 10)
    estimate = paired_difference(np.full(120, bool(one)), np.full(120, bool(other)), ids)
    assert estimate.value == value
    assert estimate.high - estimate.low > 0.15
    assert estimate.low <= value <= estimate.high
    assert (estimate.low > 0) == (value > 0)


def test_blocks_of_dates():
    assert clusters_by_span([100, 129, 130, 190], 30).tolist() == [0, 0, 1, 3]
    with pytest.raises(ConfigError, match="span_days is 0"):
        clusters_by_span([1], 0)


@pytest.mark.parametrize(
    ("values", "clusters", "level", "says"),
    [
        ([], [], 0.95, "n > 0"),
        ([1.0, 2.0], [0], 0.95, r"\(2,\) values and \(1,\) clusters"),
        ([1.0, np.nan], [0, 1], 0.95, "1 values are not finite"),
        ([1.0, 2.0], [0, 1], 95, "level is 95"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused(values, clusters, level, says):
    with pytest.raises(ConfigError, match=says):
        mean_interval(values, clusters, level=level)


@pytest.mark.parametrize(("n_trips", "n_days"), [(2, 100), (5, 100), (12, 100), (60, 100), (30, 3)])
def test_ratios_of_few_counts_are_seldom_missed(n_trips, n_days):
    """A bet won 3 to 1 a quarter of the time and 0.1 dear earns -0.1; 600 samples of it."""
    rng = np.random.default_rng(n_trips)
    missed = 0
    for _ in range(600):
        day = rng.integers(0, n_days, n_trips)
        result = np.where(rng.random(n_trips) < 0.25, 3.0, -1.0) - 0.1
        totals = np.bincount(day, weights=result, minlength=100)
        counts = np.bincount(day, minlength=100)
        estimate = ratio_interval(totals, counts, np.arange(100), doubt=1.0)
        missed += not estimate.low <= -0.1 <= estimate.high
    assert missed <= 0.06 * 600


def test_clusters_without_a_count_know_nothing_of_a_ratio():
    totals, counts = np.array([3.0, -1.0, 4.0, 0.5]), np.array([3.0, 1.0, 2.0, 1.0])
    alone = ratio_interval(totals, counts, np.arange(4), doubt=1.0)
    beside = ratio_interval(
        np.append(totals, np.zeros(50)), np.append(counts, np.zeros(50)), np.arange(54), doubt=1.0
    )
    assert alone.value == pytest.approx(6.5 / 7)
    assert (beside.low, beside.value, beside.high) == (alone.low, alone.value, alone.high)
    assert (beside.n, beside.n_clusters) == (54, 4)


def test_a_ratio_of_many_even_counts_is_a_mean():
    values = np.random.default_rng(1).standard_normal(3000)
    mean = mean_interval(values, np.arange(3000))
    ratio = ratio_interval(2 * values, np.full(3000, 2.0), np.arange(3000), doubt=1.0)
    assert ratio.value == pytest.approx(mean.value)
    assert ratio.low == pytest.approx(mean.low, abs=2e-3)
    assert ratio.high == pytest.approx(mean.high, abs=2e-3)
