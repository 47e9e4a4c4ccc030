"""The statistics of a null test: known values, uniform under the null, ties against the claim."""

import json

import numpy as np
import pytest
from scipy import stats

from passline.errors import ConfigError, RunError
from passline.evaluate.null_test import (
    WORDS,
    draws_needed,
    holm,
    judge_nulls,
    load_null_test,
    p_value,
    reality_check,
    sidak,
    smallest_p,
    write_null_test,
)


def test_p_value_by_hand():
    assert p_value(3.0, [1.0, 2.0, 4.0, 0.0]) == 2 / 5
    assert p_value(5.0, np.arange(5.0)) == 1 / 6
    assert p_value(-1.0, [0.0, 0.0]) == 1.0


def test_ties_count_against_the_claim():
    assert p_value(0.0, np.zeros(19)) == 1.0
    assert p_value(0.1 + 0.2, [0.3] * 9) == 1.0  # equal but for the last bit


@pytest.mark.parametrize(("actual", "nulls"), [(np.nan, [1.0]), (0.0, []), (0.0, [np.inf])])
def test_what_has_no_place_is_refused(actual, nulls):
    with pytest.raises(ConfigError, match="p_value"):
        p_value(actual, nulls)


def test_exchangeable_results_have_uniform_p_values():
    """All 20 values of N = 19 equally often, by chi-squared; at most 5 % reach 0.05."""
    rng = np.random.default_rng(0)
    draws = rng.standard_t(3, (20_000, 20))
    found = np.array([p_value(row[0], row[1:]) for row in draws])
    counts = np.bincount(np.rint(found * 20).astype(int), minlength=21)[1:]
    assert stats.chisquare(counts).pvalue > 0.001
    assert (found <= 0.05).mean() < 0.055


def test_ties_make_p_values_too_high_and_never_too_low():
    rng = np.random.default_rng(1)
    draws = np.maximum(rng.standard_normal((5_000, 20)) - 1, 0)
    found = np.array([p_value(row[0], row[1:]) for row in draws])
    for a in (0.05, 0.1, 0.25, 0.5):
        assert (found <= a).mean() <= a + 3 * np.sqrt(a * (1 - a) / 5_000)
    assert (found == 1).mean() > 0.5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.05]) == [0.05]


def test_sidak_by_hand():
    assert sidak(0.05, 1) == pytest.approx(0.05)
    assert sidak(0.05, 3) == pytest.approx(1 - 0.95**3)
    assert sidak(1.0, 4) == 1.0
    with pytest.raises(ConfigError):
        sidak(0.1, 0)


def test_how_many_null_markets_a_claim_needs():
    assert draws_needed(1, 1) == 19
    assert draws_needed(3, 1) == 59
    n = draws_needed(1, 4)
    assert smallest_p(n, 1, 4) <= 0.05 < smallest_p(n - 1, 1, 4)


def tries(rng: np.random.Generator, n_tries: int, edge: float, alike: float) -> np.ndarray:
    """Results of several tries on 24 blocks of 8 episodes that share their block's luck."""
    shared = np.repeat(rng.standard_normal(24), 8) + rng.standard_normal(192)
    own = np.repeat(rng.standard_normal((n_tries, 24)), 8, axis=1)
    own += rng.standard_normal((n_tries, 192))
    out = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
    out[0] += edge
    return out


BLOCKS = np.repeat(np.arange(24), 8)


SPAN = 30


def overlapping(rng: np.random.Generator, n_tries: int, n_blocks: int) -> np.ndarray:
    """Results of tries without an edge, an evaluation begun on every day of blocks of two spans."""
    days = np.cumsum(rng.standard_normal((n_tries, 2 * SPAN * n_blocks + SPAN)), axis=1)
    return days[:, SPAN:] - days[:, :-SPAN]


def share_called_real(draw, n_blocks: int, seed: int, n: int = 300) -> float:
    """Share of samples in which the reality check of the tested try is at most 0.05."""
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(n_blocks), 2 * SPAN)
    samples = (draw(rng) for _ in range(n))
    found = [reality_check(x, blocks, tested=t, seed=i) for i, (x, t) in enumerate(samples)]
    return float(np.mean(np.array(found) <= 0.05))


@pytest.mark.parametrize(
    ("n_blocks", "n_tries"), [(4, 2), (6, 1), (6, 2), (6, 5), (12, 5), (12, 10)]
)
def test_the_best_of_tries_without_an_edge_is_seldom_called_real(n_blocks, n_tries):
    def draw(rng):
        results = overlapping(rng, n_tries, n_blocks)
        return results, int(results.mean(axis=1).argmax())

    limit = 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 300)
    assert share_called_real(draw, n_blocks, seed=2) <= limit


def test_a_try_without_an_edge_is_seldom_called_real_beside_one_that_has_one():
    def draw(rng):
        results = overlapping(rng, 10, 6)
        results[0] += 0.5 * SPAN
        return results, 1 + int(results[1:].mean(axis=1).argmax())

    assert share_called_real(draw, 6, seed=3) <= 0.05


def test_a_real_edge_among_ten_tries_is_found_and_copies_of_it_cost_nothing():
    rng = np.random.default_rng(3)
    results = tries(rng, 10, 1.2, 0.3)
    assert reality_check(results, BLOCKS, tested=0, seed=0) < 0.01
    assert reality_check(results, BLOCKS, tested=1, seed=0) > 0.05, "not the tested try's edge"
    one = reality_check(results[1:2], BLOCKS, tested=0, seed=0)
    assert reality_check(np.repeat(results[1:2], 50, axis=0), BLOCKS, tested=7, seed=0) == one


def test_a_try_that_never_traded_costs_nothing_and_is_no_edge():
    results = tries(np.random.default_rng(4), 2, 0.6, 0.3)
    results[1] = 0.0
    with_flat = reality_check(results, BLOCKS, tested=0, seed=0)
    assert with_flat == reality_check(results[:1], BLOCKS, tested=0, seed=0)
    assert reality_check(results, BLOCKS, tested=1, seed=0) == 1.0


def test_reality_check_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"\[K, n\]"):
        reality_check(np.zeros((2, 5)), np.zeros(4), tested=0, seed=0)
    with pytest.raises(ConfigError, match="1 block"):
        reality_check(np.zeros((2, 5)), np.zeros(5), tested=0, seed=0)
    with pytest.raises(ConfigError, match=r"tested row was 2; it lies in 0\.\.1"):
        reality_check(np.zeros((2, 5)), np.arange(5), tested=2, seed=0)


def rows(values, rate=0.0):
    return [(float(v), rate) for v in values]


def judged(actual, nulls, n_configurations=1, p_reality_check=None):
    return judge_nulls(
        actual,
        0.5,
        nulls,
        n_configurations=n_configurations,
        p_reality_check=p_reality_check,
        settings={"seeds": [0]},
    )


def test_an_edge_is_claimed_at_nineteen_of_nineteen():
    found = judged(2.0, {"rotate": rows(np.linspace(-1, 1, 19))})
    assert found.is_edge
    assert found.p_corrected == 0.05
    assert found.correction == "none"
    assert found.sentence.startswith("Edge found: 0 of 19 markets in which features were turned")


def test_tries_and_kinds_take_a_claim_away():
    nulls = rows(np.linspace(-1, 1, 39))
    assert judged(2.0, {"rotate": nulls}).is_edge
    many = judged(2.0, {"rotate": nulls}, n_configurations=3)
    assert not many.is_edge
    assert many.correction == "sidak"
    assert many.p_corrected == pytest.approx(1 - (1 - 1 / 40) ** 3)
    assert "at least 58 are needed" in many.sentence
    kinds = judged(2.0, {"rotate": nulls, "sign_flip": nulls, "block_permute": nulls})
    assert kinds.p_corrected == pytest.approx(3 / 40)
    assert not kinds.is_edge


def test_both_the_nulls_and_the_reality_check_must_agree():
    nulls = {"rotate": rows(np.linspace(-1, 1, 39))}
    assert judged(2.0, nulls, 5, 0.01).is_edge
    refused = judged(2.0, nulls, 5, 0.20)
    assert not refused.is_edge
    assert refused.p_corrected == 0.20
    assert refused.correction == "reality check"


def test_a_loss_is_no_edge_however_bad_the_nulls():
    found = judged(-0.1, {"rotate": rows(np.linspace(-3, -1, 39))})
    assert not found.is_edge
    assert found.sentence.startswith("No edge found")
    assert "no gain all the same" in found.sentence
    assert not judged(0.0, {"rotate": rows(np.full(39, -1.0))}).is_edge


def test_an_edge_of_one_kind_is_named_by_it():
    found = judged(
        2.0, {"sign_flip": rows(np.linspace(1, 3, 59)), "rotate": rows(np.linspace(-1, 1, 59))}
    )
    assert found.is_edge
    assert WORDS["rotate"] in found.sentence
    assert [k.p <= 0.05 for k in found.kinds] == [False, True]


def test_the_file_gives_back_what_was_written(tmp_path):
    assert load_null_test(tmp_path) is None
    found = judged(2.0, {"rotate": rows(np.linspace(-1, 1, 19))})
    path = write_null_test(tmp_path, found)
    assert load_null_test(tmp_path) == found
    content = json.loads(path.read_text())
    assert {"statistic", "actual", "kinds", "n_configurations", "p_corrected"} <= set(content)
    assert {"kind", "nulls", "p", "p_corrected"} <= set(content["kinds"][0])
    path.write_text(json.dumps(content | {"format": 9}))
    with pytest.raises(RunError, match="passline nulltest"):
        load_null_test(tmp_path)
    path.write_text("{")
    with pytest.raises(RunError, match="is not a null test"):
        load_null_test(tmp_path)
