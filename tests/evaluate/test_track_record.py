"""Accounts of a track record follow each other by trading days, also where holidays merge two."""

import numpy as np
import pytest

from driving import follow, score_of
from made_bars import INDEX, bars_of, take
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.slices import by_month, day_starts
from passline.evaluate.track_record import keep_record
from passline.market.calendar import load_calendar
from passline.rulebook import load_rulebook
from passline.task.prepare import TaskConfig, phase_params, prepare


@pytest.fixture(scope="module")
def winter():
    """Half hours from September to January: Thanksgiving and two more half sessions."""
    bars = bars_of(("2023-09-04 18:00", "2024-02-01 17:00"), minutes=30)
    sessions = load_calendar(INDEX.calendar).all_sessions
    return prepare(
        [take(bars, sessions.locate(bars.ts) >= 0)],
        load_rulebook("apex-intraday-50k"),
        TaskConfig(),
    )


def test_an_account_begins_after_the_trading_day_that_the_last_one_ended_on(winter, phases) -> None:
    tape_day = winter.compiled.tape.day
    first = int(np.searchsorted(tape_day, 19_662))  # 2023-11-01
    parts = by_month(winter, "test", 0, first, len(tape_day))
    days = np.unique(day_starts(winter, parts).day)
    assert len(days) < len(day_starts(winter, parts).day), "two sessions of one trading day"
    flat = scripted(PolicyKind.FLAT, score_of())
    params = phase_params(winter, phases["account"], [(winter.first_bar[0], first)])
    record = keep_record(winter, params, follow, flat, parts, seed=0)
    np.testing.assert_array_equal(record.day, days)
    assert len(record.accounts) >= 3
    for account, following in zip(record.accounts, record.accounts[1:], strict=False):
        lived = days[days >= account.first_day]
        lived = lived[lived < account.first_day + winter.span_days]
        assert account.last_day == lived[-1], "a flat account lives its whole time limit"
        assert following.first_day == days[days > account.last_day][0]
