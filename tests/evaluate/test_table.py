"""The stored evaluation: appended, never lost, read by SB3 users' code, free of pickle."""

import numpy as np
import pytest

from passline.errors import RunError
from passline.evaluate.table import (
    EvaluationTable,
    append_evaluation,
    join_tables,
    load_evaluations,
)
from passline.sim.layout import DoneReason, Outcome

ACTIONS = ("hold", "long", "short")


def table(steps: int, n: int, policy: str = "agent", **more: object) -> EvaluationTable:
    generator = np.random.default_rng([steps, n])
    columns = {
        "timesteps": steps,
        "phase": "account",
        "policy": policy,
        "slice": np.where(np.arange(n) % 2, "2022-h2", "h1"),
        "path": "worst",
        "market": "ES",
        "start_bar": np.arange(n) * 100,
        "start_ns": np.arange(n) * 10**11,
        "start_day": np.arange(n) + 19000,
        "seed": np.arange(n),
        "result_mills": generator.integers(-2_500_000, 3_000_000, n),
        "reward": generator.random(n),
        "ep_length": generator.integers(10, 5000, n),
        "n_days": generator.integers(1, 30, n),
        "outcome": np.where(np.arange(n) % 3, Outcome.BREACHED, Outcome.PASSED),
        "done_reason": np.where(np.arange(n) % 3, DoneReason.FLOOR, DoneReason.TARGET),
        "n_trips": 4,
        "mean_r": np.nan,
        "n_invalid": 0,
        "n_late_flat": 0,
        "n_ambiguous": 1,
        "commissions_mills": 9_920,
        "max_equity_mills": 51_000_000,
        "min_cushion_mills": 12_500,
        "action_counts": generator.integers(0, 9, (n, 3)),
        "choice_counts": np.zeros((n, 3), dtype=int),
        **more,
    }
    return EvaluationTable.build(columns, ACTIONS)


def assert_same_rows(one: EvaluationTable, other: EvaluationTable) -> None:
    assert one.action_names == other.action_names
    for name in one.__dict__.keys() - {"evaluation", "action_names"}:
        np.testing.assert_array_equal(one.column(name), other.column(name), err_msg=name)


def test_every_evaluation_is_kept_in_order(tmp_path):
    path = tmp_path / "evaluations.npz"
    parts = [table(1000, 4), table(1000, 4, "random"), table(2000, 4), table(1000, 4)]
    append_evaluation(path, parts[:2])
    append_evaluation(path, parts[2:3])
    whole = append_evaluation(path, parts[3:])
    stored = load_evaluations(path)
    assert_same_rows(stored, join_tables(parts))
    assert_same_rows(stored, whole)
    assert stored.evaluation.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert [file.name for file in tmp_path.iterdir()] == ["evaluations.npz"]


def test_stable_baselines_arrays_are_the_agents_own(tmp_path):
    path = tmp_path / "evaluations.npz"
    first, second = table(1000, 4), table(2000, 4)
    best = table(2000, 4, path="best")
    append_evaluation(path, [first, table(1000, 4, "random")])
    append_evaluation(path, [second, best])
    with np.load(path, allow_pickle=False) as stored:
        assert stored["timesteps"].tolist() == [1000, 2000]
        assert stored["results"].shape == stored["ep_lengths"].shape == (2, 4)
        np.testing.assert_array_equal(stored["results"][1], second.reward)
        np.testing.assert_array_equal(stored["ep_lengths"][0], first.ep_length)
        assert stored["ep_lengths"].dtype == np.int64
        np.testing.assert_array_equal(stored["successes"][0], first.is_pass)
        assert stored["done_reason_names"][DoneReason.FLOOR] == "floor"
        assert not any(stored[name].dtype.hasobject for name in stored.files)


def test_ragged_evaluations_are_filled_with_nan(tmp_path):
    path = tmp_path / "evaluations.npz"
    append_evaluation(path, [table(1000, 4)])
    append_evaluation(path, [table(2000, 6)])
    with np.load(path, allow_pickle=False) as stored:
        assert stored["results"].shape == (2, 6)
        assert np.isnan(stored["results"][0, 4:]).all()
        assert np.isfinite(stored["results"][1]).all()
        assert np.nanmean(stored["ep_lengths"], axis=1).tolist() == [
            table(1000, 4).ep_length.mean(),
            table(2000, 6).ep_length.mean(),
        ]


def test_selection_by_policy_phase_and_path():
    joined = join_tables([table(1, 4), table(1, 4, "flat"), table(1, 4, phase="entry")])
    assert len(joined.where(policy="agent")) == 8
    assert len(joined.where(policy="agent", phase="account")) == 4
    assert len(joined.where(path="best")) == 0
    assert joined.is_pass.tolist() == [True, False, False, True] * 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"colour": 1}, r"unknown columns \['colour'\]"),
        ({"outcome": 9}, "outcome 9 in 2 of 2 rows is not a Outcome"),
        ({"n_trips": [1, 2, 3]}, r"n_trips has shape \(3,\)"),
        ({"n_trips": 1.5}, "n_trips holds float64"),
        ({"market": np.array(["ES", None], dtype=object)}, "market holds object"),
    ],
)
def test_rows_that_do_not_fit_are_refused(bad, says):
    with pytest.raises(RunError, match=says):
        table(1, 2, **bad)


def test_another_action_table_or_file_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "evaluations.npz"
    append_evaluation(path, [table(1, 2)])
    before = path.read_bytes()
    other = table(1, 2)
    renamed = EvaluationTable(**{**other.__dict__, "action_names": ("hold", "buy", "sell")})
    with pytest.raises(RunError, match="actions hold, buy, sell differ from"):
        append_evaluation(path, [renamed])
    assert path.read_bytes() == before
    with pytest.raises(RunError, match="no such file"):
        load_evaluations(tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes(before[: len(before) // 2])
    with pytest.raises(RunError, match="cannot be read"):
        load_evaluations(tmp_path / "cut.npz")
    np.savez(tmp_path / "sb3.npz", timesteps=[1], results=[[1.0]], ep_lengths=[[1]])
    with pytest.raises(RunError, match="Only files written by passline"):
        load_evaluations(tmp_path / "sb3.npz")
    with pytest.raises(RunError, match="at least one"):
        join_tables([])
