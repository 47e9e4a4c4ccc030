"""The null test tested: uniform p-values where there is nothing, power where something is planted.

Long; `make proof` runs it (docs/nulltest.md has the figures). What is exact about p-values in
general is tested quickly in tests/evaluate/test_null_test.py.
"""

import numpy as np
import pytest
from scipy import stats

from null_trainings import N_NULLS, null_tests
from passline.evaluate.null_test import judge_nulls

pytestmark = pytest.mark.proof

N_MARKETS = 200
N_PLANTED = 45


def claims(kind: str, results: np.ndarray) -> bool:
    """Says whether a null test with these results [1 + N] claims an edge."""
    rows = {kind: [(float(x), 0.0) for x in results[1:]]}
    return judge_nulls(
        float(results[0]), 0.0, rows, n_configurations=1, p_reality_check=None, settings={}
    ).is_edge


def randomized(results: np.ndarray, u: float) -> float:
    """Returns the place of the actual result, drawn anywhere among its ties: uniform if exact."""
    above = int(np.sum(results[1:] > results[0] + 1e-9))
    ties = int(np.sum(np.abs(results[1:] - results[0]) <= 1e-9))
    return (above + u * (1 + ties)) / len(results)


def test_p_values_are_uniform_where_there_is_nothing_to_find(figure):
    kind = "bar_flip"
    tested = list(null_tests(kind, 0.0, range(N_MARKETS)))
    u = np.random.default_rng(0).random(N_MARKETS)
    places = [randomized(found, v) for (_, _, found), v in zip(tested, u, strict=True)]
    ks = stats.kstest(places, "uniform")
    p = np.array([value for _, value, _ in tested])
    n_claims = sum(claims(kind, found) for _, _, found in tested)
    figure("null markets tested, 19 nulls each", N_MARKETS, "at least 200")
    figure("Kolmogorov-Smirnov distance from uniform", ks.statistic, "p above 0.01")
    figure("its p-value", ks.pvalue, "above 0.01")
    figure("share with p at most 0.05", (p <= 0.05 + 1e-9).mean(), "0.05 within chance")
    figure("share that claims an edge", n_claims / N_MARKETS, "at most 0.05, chance to 0.08")
    assert ks.pvalue > 0.01
    for level in (0.05, 0.1, 0.25, 0.5):
        chance = 2.5 * np.sqrt(level * (1 - level) / N_MARKETS)
        assert (p <= level + 1e-9).mean() <= level + chance
    assert n_claims / N_MARKETS <= 0.08


@pytest.mark.parametrize(("strength", "level"), [(2.5, 0.05), (5.0, 0.25)])
def test_planted_edges_lie_low_more_often_than_luck_would(strength, level, figure):
    """At strength 5 the pull holds the price near the VWAP, where a target of 3 R is seldom met:
    the quarter of the lowest p-values shows it, the claims at 0.05 hardly do."""
    tested = list(null_tests("bar_flip", strength, range(300, 300 + N_PLANTED)))
    n_claims = sum(claims("bar_flip", found) for _, _, found in tested)
    n_low = sum(p <= level + 1e-9 for _, p, _ in tested)
    figure(f"power at strength {strength:g}, {N_NULLS} nulls", n_claims / N_PLANTED, "quoted")
    figure(f"share with p at most {level:g}", n_low / N_PLANTED, f"above {level:g} beyond chance")
    assert stats.binomtest(n_low, N_PLANTED, level, alternative="greater").pvalue < 0.001
