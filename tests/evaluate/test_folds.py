"""Folds in time order, and a record in which every session counts once."""

import numpy as np
import pytest

from passline.errors import ConfigError
from passline.evaluate.folds import FoldConfig, cut_folds
from passline.evaluate.rollout import MAX_DAYS
from passline.evaluate.slices import SliceConfig
from passline.evaluate.track_record import chain_accounts

SLICES = SliceConfig(test_days=14, gate_days=14, embargo_days=3)
TWO = FoldConfig(folds=2, seeds=1)


@pytest.mark.parametrize("scheme", ["rolling", "anchored"])
def test_training_ends_before_the_gate_and_the_gate_before_the_window(prepared, scheme) -> None:
    folds = cut_folds(prepared, SLICES, FoldConfig(folds=2, seeds=1, scheme=scheme))
    day = prepared.compiled.tape.day
    for fold in folds:
        ((first, stop),) = fold.split.train
        gate = (fold.split.gate[0].first_bar, fold.split.gate[-1].stop_bar)
        test = (fold.split.test[0].first_bar, fold.split.test[-1].stop_bar)
        assert first < stop < gate[0] < gate[1] < test[0] < test[1]
        assert day[gate[0]] - day[stop - 1] > 3
        assert day[test[0]] - day[gate[1] - 1] > 3
        assert {s.end_bar for s in fold.split.test} == {test[1] - 1}
        assert {s.end_bar for s in fold.split.gate} == {gate[1] - 1}
    early, late = folds
    assert early.split.test[-1].stop_bar == late.split.test[0].first_bar
    assert late.split.test[-1].stop_bar == len(day)
    lengths = [fold.train[1] - fold.train[0] for fold in folds]
    assert early.train[0] == int(day[prepared.first_bar[0]])
    assert lengths[1] - lengths[0] == (0 if scheme == "rolling" else 14)


def test_a_given_training_length_is_kept_and_the_usual_lengths_fit_the_bars(prepared) -> None:
    fold, _ = cut_folds(prepared, SLICES, FoldConfig(folds=2, train_days=60))
    assert fold.train[1] - fold.train[0] == 60
    day = prepared.compiled.tape.day
    span = int(day[-1]) + 1 - int(day[prepared.first_bar[0]])
    (usual,) = cut_folds(prepared, SliceConfig(gate_days=7, embargo_days=0), FoldConfig(folds=1))
    assert usual.test[1] - usual.test[0] == span // 2
    (usual,) = cut_folds(prepared, SliceConfig(test_days=40), FoldConfig(folds=1))
    assert usual.gate[1] - usual.gate[0] == span // 8


def test_bars_too_short_for_the_folds_are_refused(prepared) -> None:
    with pytest.raises(ConfigError, match="9 test windows of 14 days after 20 days of gate"):
        cut_folds(prepared, SLICES, FoldConfig(folds=9))
    with pytest.raises(ConfigError, match="leave 96 for training"):
        cut_folds(prepared, SLICES, FoldConfig(folds=2, train_days=300))
    with pytest.raises(ConfigError, match="leave_out was 'SYN'; a walk-forward judges every"):
        cut_folds(prepared, SliceConfig(leave_out="SYN"), FoldConfig(folds=2))
    with pytest.raises(ConfigError, match="trading days of SYN are left for training; at least 40"):
        cut_folds(prepared, SLICES, FoldConfig(folds=2, train_days=30))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 0}, "folds was 0"),
        ({"seeds": 0}, "seeds was 0"),
        ({"scheme": "random"}, "allowed: rolling, anchored"),
        ({"scheme": "anchored", "train_days": 100}, "anchored folds train on all days"),
    ],
)
def test_settings_out_of_range_are_refused(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        FoldConfig(**given)


def test_one_account_follows_another_and_every_day_counts_once() -> None:
    """Five days: the first account lives two, the next one, the last is cut by the end."""
    equity = np.zeros((5, MAX_DAYS), np.int64)
    equity[0, :2] = 1_100, 900
    equity[1, :1] = 77_777  # never begun: day 1 belongs to the first account
    equity[2, :1] = 1_050
    equity[3, :3] = 1_010, 1_030, 99_999  # the window ends before its third day
    results, chain = chain_accounts(np.array([2, 1, 1, 3, 1]), equity, 1_000)
    assert results.tolist() == [100, -200, 50, 10, 20]
    assert chain == [(0, 1), (2, 2), (3, 4)]
