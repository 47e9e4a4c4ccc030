"""Samples of training and evaluation, and the distance between them."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from passline.errors import RunError
from passline.evaluate.samples import (
    EquityPaths,
    ks_distance,
    load_distributions,
    load_equity_paths,
    write_distributions,
    write_equity_paths,
)


def test_distance_is_kolmogorov_and_smirnovs():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 1, 300), generator.normal(0.4, 1, 171)
    assert ks_distance(first, second) == pytest.approx(ks_2samp(first, second).statistic)
    ties = generator.integers(0, 4, 300), generator.integers(1, 5, 90)
    assert ks_distance(*ties) == pytest.approx(ks_2samp(*ties).statistic)
    assert ks_distance([1, 2], [1, 2]) == 0
    assert ks_distance([25] * 9, [1846] * 5) == 1
    assert np.isnan(ks_distance([], [1]))


def test_phases_are_kept_apart_and_one_may_be_written_again(tmp_path):
    path = tmp_path / "distributions.npz"
    write_distributions(path, "entry", {"ep_length": [1, 2]}, {"ep_length": [3]})
    write_distributions(path, "account", {"ep_length": [4]}, {"ep_length": [5, 6]})
    write_distributions(path, "entry", {"start_hour": [7]}, {"start_hour": [8]})
    stored = load_distributions(path)
    assert {phase: set(pairs) for phase, pairs in stored.items()} == {
        "account": {"ep_length"},
        "entry": {"start_hour"},
    }
    assert stored["account"]["ep_length"].evaluation.tolist() == [5, 6]
    with pytest.raises(RunError, match="both sides must name the same"):
        write_distributions(path, "entry", {"a": [1]}, {"b": [1]})


def test_equity_paths_are_kept_exactly(tmp_path):
    path = tmp_path / "equity.npz"
    equity = np.arange(6, dtype=np.int64).reshape(2, 3) + 50_000_000
    paths = EquityPaths(
        equity_mills=equity,
        floor_mills=equity - 2_500_000,
        n_days=np.array([2, 1]),
        start_mills=50_000_000,
        target_mills=None,
    )
    write_equity_paths(path, paths)
    stored = load_equity_paths(path)
    np.testing.assert_array_equal(stored.equity_mills, equity)
    np.testing.assert_array_equal(stored.floor_mills, equity - 2_500_000)
    assert (stored.start_mills, stored.target_mills) == (50_000_000, None)
    bad = EquityPaths(**{**paths.__dict__, "n_days": np.array([1])})
    with pytest.raises(RunError, match="1 accounts"):
        write_equity_paths(path, bad)
    path.write_bytes(b"PK")
    with pytest.raises(RunError, match="cannot be read"):
        load_equity_paths(path)
