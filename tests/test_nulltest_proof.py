"""The null test tested: uniform p-values where there is nothing, power where something is planted.

Long; `make proof` runs it (docs/nulltest.md has the figures). What is exact about p-values in
general is tested quickly in tests/evaluate/test_null_test.py. With NULL_TESTS=FOLDER, what
`python tests/null_trainings.py KIND STRENGTH FIRST STOP FOLDER/KIND_STRENGTH` kept is not trained
again.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from null_trainings import N_NULLS, kept, null_tests
from passline.evaluate.null_test import judge_nulls, p_value

pytestmark = pytest.mark.proof

N_MARKETS = {"bar_flip": 400, "rotate": 200}
FIRST_PLANTED, N_PLANTED = 1_000, 100


def statistics_of(kind: str, strength: float, seeds: range) -> np.ndarray:
    """Returns the statistics of null tests, a row a seed, the actual market's first [n, 1 + N]."""
    folder = Path(os.environ.get("NULL_TESTS", "/nowhere")) / f"{kind}_{strength}"
    rows = []
    for seed in seeds:
        if kept(folder, seed).exists():
            found = np.load(kept(folder, seed))
        else:
            _, found = next(null_tests(kind, strength, range(seed, seed + 1)))
        rows.append(found.mean(axis=1))
    return np.array(rows)


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


@pytest.mark.parametrize("kind", list(N_MARKETS))
def test_p_values_are_uniform_where_there_is_nothing_to_find(kind, figure):
    n = N_MARKETS[kind]
    rows = statistics_of(kind, 0.0, range(n))
    u = np.random.default_rng(0).random(n)
    ks = stats.kstest([randomized(row, v) for row, v in zip(rows, u, strict=True)], "uniform")
    p = np.array([p_value(float(row[0]), row[1:]) for row in rows])
    n_claims = sum(claims(kind, row) for row in rows)
    least = stats.binomtest(n_claims, n, 0.05, alternative="greater")
    figure(f"{kind}: null markets tested, {N_NULLS} nulls each", n, "at least 200")
    figure(f"{kind}: p of Kolmogorov-Smirnov's test of uniformity", ks.pvalue, "above 0.01")
    for level in (0.05, 0.1, 0.25, 0.5):
        share = float((p <= level + 1e-9).mean())
        figure(f"{kind}: share with p at most {level:g}", share, f"{level:g} within chance")
        assert share <= level + 2.5 * np.sqrt(level * (1 - level) / n)
    figure(f"{kind}: share that claims an edge", n_claims / n, "at most 0.05")
    figure(f"{kind}: chance of so many claims or more at a rate of 0.05", least.pvalue, "> 0.01")
    assert ks.pvalue > 0.01
    assert least.pvalue > 0.01


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_planted_edges_are_claimed_more_often_than_luck_would(strength, figure):
    rows = statistics_of("bar_flip", strength, range(FIRST_PLANTED, FIRST_PLANTED + N_PLANTED))
    n_claims = sum(claims("bar_flip", row) for row in rows)
    figure(f"power at strength {strength:g}, {N_NULLS} nulls", n_claims / N_PLANTED, "quoted")
    assert stats.binomtest(n_claims, N_PLANTED, 0.05, alternative="greater").pvalue < 0.001
