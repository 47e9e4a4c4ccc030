"""Features turned against prices: what stays, what moves, and by how much."""

import numpy as np
import pytest

from passline.errors import ConfigError
from passline.market.clock import session_minute, trade_date
from passline.rulebook.catalog import load_rulebook
from passline.task.features import FEATURE_NAMES
from passline.task.nulls import CLOCK_FEATURES, MIN_OFFSET, rotate_features, rotated_rows
from passline.task.prepare import Prepared, TaskConfig, prepare

RTH = slice(930, 1_320)
MOVING = [i for i, name in enumerate(FEATURE_NAMES) if name not in CLOCK_FEATURES]
STILL = [i for i, name in enumerate(FEATURE_NAMES) if name in CLOCK_FEATURES]


@pytest.fixture(scope="module")
def rotated(prepared: Prepared) -> Prepared:
    return rotate_features(prepared, seed=7)


def tables(a: Prepared, b: Prepared) -> tuple[np.ndarray, np.ndarray]:
    first = a.first_bar[0]
    return np.asarray(a.base.features)[first:], np.asarray(b.base.features)[first:]


def test_prices_clock_and_warm_up_stay_to_the_bit(prepared, rotated):
    for name in ("tape", "atr", "minutes_to_flat"):
        for a, b in zip(
            np.atleast_2d(getattr(prepared.base, name)),
            np.atleast_2d(getattr(rotated.base, name)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    before, after = tables(prepared, rotated)
    np.testing.assert_array_equal(before[:, STILL], after[:, STILL])
    assert (before[:, MOVING] != after[:, MOVING]).mean() > 0.8
    first = prepared.first_bar[0]
    np.testing.assert_array_equal(prepared.base.features[:first], rotated.base.features[:first])
    again = rotate_features(prepared, seed=7)
    np.testing.assert_array_equal(again.base.features, rotated.base.features)


def test_each_minute_of_the_day_keeps_its_rows(prepared, rotated):
    """Where every session has the minute: the rows are the same ones, in another order."""
    before, after = tables(prepared, rotated)
    ts = prepared.compiled.ts[prepared.first_bar[0] :]
    minute, date = session_minute(ts), trade_date(ts)
    early = np.unique(date[minute == 1_000])  # of full days
    for at in (930, 1_000, 1_100):
        own = (minute == at) & np.isin(date, early)
        a, b = before[own][:, MOVING], after[own][:, MOVING]
        known = {row.tobytes() for row in a}
        share = np.mean([row.tobytes() in known for row in b])
        assert share > 0.97
        assert len({row.tobytes() for row in b}) > 0.97 * len(known)


def test_features_come_from_the_same_minute_of_a_session_far_away(prepared):
    ts = prepared.compiled.ts[prepared.first_bar[0] :]
    minute, date = session_minute(ts), trade_date(ts)
    number = np.searchsorted(np.unique(date), date)
    n = int(number[-1]) + 1
    for offset in (MIN_OFFSET, n // 2, n - MIN_OFFSET):
        rows = rotated_rows(ts, offset)
        assert (number[rows] == (number + offset) % n).all()
        late = minute - minute[rows]
        own_first = np.r_[True, date[1:] != date[:-1]][rows]
        assert (late[~own_first] >= 0).all()
        assert np.median(np.abs(late)) == 0
        apart = np.abs(number[rows] - number)
        assert np.minimum(apart, n - apart).min() >= MIN_OFFSET


def test_no_feature_is_known_to_the_prices_it_stands_beside(prepared, rotated):
    """The bar's own return is a feature: after the rotation it tells nothing of the bar."""
    before, after = tables(prepared, rotated)
    column = FEATURE_NAMES.index("return_15")
    assert abs(np.corrcoef(before[:, column], after[:, column])[0, 1]) < 0.03


def test_too_short_a_market_is_refused(market):
    short = market.bars.slice(0, 40_000)
    few = prepare([short], load_rulebook("apex-intraday-50k"), TaskConfig())
    with pytest.raises(ConfigError, match="more than 50"):
        rotate_features(few, seed=0)
