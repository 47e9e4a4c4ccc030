"""The cut of time: nothing overlaps, embargoes hold, and every episode has room to end."""

from itertools import pairwise

import numpy as np
import pytest

from passline.errors import ConfigError
from passline.evaluate.slices import (
    SliceConfig,
    Split,
    day_starts,
    evaluation_starts,
    shorten,
    split,
)
from passline.sim.layout import BarFlag
from passline.task.prepare import Prepared, prepare

EMBARGO = 5


def days_of(prepared: Prepared, first: int, stop: int) -> np.ndarray:
    return prepared.compiled.tape.day[first:stop]


def test_training_gate_and_test_never_overlap_and_keep_their_embargo(
    prepared: Prepared, cut: Split
) -> None:
    (first, stop), gate, test = cut.train[0], cut.gate, cut.test
    assert first == prepared.first_bar[0]
    assert stop <= gate[0].first_bar
    assert gate[-1].stop_bar <= test[0].first_bar
    assert test[-1].stop_bar == len(prepared.compiled.ts)
    train_days, gate_days, test_days = (
        days_of(prepared, a, b)
        for a, b in (
            (first, stop),
            (gate[0].first_bar, gate[-1].stop_bar),
            (test[0].first_bar, test[-1].stop_bar),
        )
    )
    assert gate_days.min() - train_days.max() > EMBARGO
    assert test_days.min() - gate_days.max() > EMBARGO
    assert np.ptp(test_days) < 40
    assert np.ptp(gate_days) < 36
    assert np.ptp(gate_days) > 30


def test_no_episode_of_a_stretch_can_reach_the_next(prepared: Prepared, cut: Split) -> None:
    for slices in (cut.gate, cut.test):
        end = slices[-1].stop_bar - 1
        assert {part.end_bar for part in slices} == {end}
    day = prepared.compiled.tape.day
    assert day[cut.gate[0].end_bar] + EMBARGO < day[cut.test[0].first_bar]


def test_months_are_slices_one_after_the_other(prepared: Prepared, cut: Split) -> None:
    assert [part.name for part in cut.test] == ["test-SYN-2024-04", "test-SYN-2024-05"]
    for slices in (cut.gate, cut.test):
        for a, b in pairwise(slices):
            assert a.stop_bar == b.first_bar
    for part in (*cut.gate, *cut.test):
        months = days_of(prepared, part.first_bar, part.stop_bar).astype("datetime64[D]")
        assert set(np.unique(months.astype("datetime64[M]")).astype(str)) == {part.name[-7:]}


def test_too_little_history_is_refused_with_what_is_left(prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match="17 trading days are left for training after 120"):
        split(prepared, SliceConfig(test_days=60, gate_days=50, embargo_days=5))


@pytest.mark.parametrize(
    ("field", "value"),
    [("test_days", 0), ("gate_days", -1), ("n_episodes", 0), ("embargo_days", -1)],
)
def test_cuts_that_leave_nothing_are_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{field} was {value}"):
        SliceConfig(**{field: value})


def test_two_markets_are_cut_alike(market, prepared: Prepared) -> None:
    both = prepare([market.bars, market.bars], prepared.rulebook, prepared.config)
    cut = split(both, SliceConfig(test_days=40, gate_days=36, embargo_days=5))
    n = len(market.bars)
    (a, b), (c, d) = cut.train
    assert (c - a, d - b) == (n, n)
    assert [part.market for part in cut.test] == [0, 0, 1, 1]
    ends = {part.market: part.end_bar for part in cut.test}
    assert ends == {0: n - 1, 1: 2 * n - 1}


@pytest.mark.parametrize("span", [3, 10, 20])
def test_evaluation_starts_leave_room_for_the_whole_span(
    prepared: Prepared, cut: Split, span: int
) -> None:
    """The last day on which an episode can time out is over before its stretch is."""
    day = prepared.compiled.tape.day
    starts = evaluation_starts(prepared, cut.test, n=60, span_days=span, seed=1)
    assert len(starts.bar) == 60
    assert (day[starts.end_bar] >= starts.day + span).all()
    assert (starts.end_bar == cut.test[-1].end_bar).all()
    assert len(np.unique(starts.bar)) == 60
    firsts = {part.name: (part.first_bar, part.stop_bar) for part in cut.test}
    for bar, name in zip(starts.bar, starts.slice, strict=True):
        assert firsts[str(name)][0] <= bar < firsts[str(name)][1]


def test_half_begin_at_a_session_and_half_where_an_entry_is_allowed(
    prepared: Prepared, cut: Split
) -> None:
    flags = prepared.compiled.tape.flags
    starts = evaluation_starts(prepared, cut.test, n=20, span_days=10, seed=1)
    opens = (flags[starts.bar + 1] & BarFlag.SESSION_START) != 0
    assert opens[:10].all()
    assert ((flags[starts.bar[10:]] & BarFlag.CAN_ENTER) != 0).all()


def test_the_seed_moves_the_random_half_alone(prepared: Prepared, cut: Split) -> None:
    one, two, three = (
        evaluation_starts(prepared, cut.test, n=20, span_days=10, seed=seed).bar
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:10], three[:10])
    assert (one[10:] != three[10:]).any()


def test_a_stretch_shorter_than_an_episode_is_refused(prepared: Prepared, cut: Split) -> None:
    with pytest.raises(ConfigError, match="no room for one episode of 60 calendar days"):
        evaluation_starts(prepared, cut.test, n=20, span_days=60, seed=0)


def test_day_starts_are_single_sessions_side_by_side(prepared: Prepared, cut: Split) -> None:
    starts = day_starts(prepared, cut.gate)
    session = prepared.compiled.session
    assert len(starts.bar) == 24
    np.testing.assert_array_equal(session[starts.bar + 1], session[starts.end_bar])
    np.testing.assert_array_equal(starts.end_bar[:-1], starts.bar[1:])
    assert (starts.end_bar - starts.bar > 900).all()
    assert starts.end_bar[-1] == cut.gate[-1].end_bar
    np.testing.assert_array_equal(starts.day, prepared.compiled.tape.day[starts.bar + 1])


@pytest.mark.parametrize("days", [1, 7])
def test_shortened_episodes_end_with_their_last_day(
    prepared: Prepared, cut: Split, days: int
) -> None:
    day = prepared.compiled.tape.day
    starts = evaluation_starts(prepared, cut.test, n=20, span_days=10, seed=1)
    short = shorten(prepared, starts, days)
    np.testing.assert_array_equal(short.bar, starts.bar)
    assert (day[short.end_bar] < starts.day + days).all()
    assert (day[short.end_bar + 1] >= starts.day + days).all()
    assert (short.end_bar > short.bar).all()
