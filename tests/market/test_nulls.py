"""Null markets: what each keeps to the bit, and what it destroys."""

from collections import Counter
from dataclasses import replace
from datetime import date
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_bars import bars_of
from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.clock import session_minute, trade_date
from passline.market.load.resample import resample_bars
from passline.market.nulls import bar_flip, block_permute, mirror, sign_flip
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.task.features import compute_features

COLUMNS = ("open", "high", "low", "close")
KINDS = (sign_flip, bar_flip, block_permute)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8, deadline=None, derandomize=True)


@cache
def tape() -> Bars:
    """Four months with holidays and a clock change, 15-minute bars, three contract months.

    One roll lies between two sessions, one inside a session.
    """
    config = SyntheticConfig(start_date=date(2023, 1, 3), end_date=date(2023, 5, 2), strength=2.0)
    bars = resample_bars(synthesize(config, seed=5).bars, 15)
    day = trade_date(bars.ts)
    starts = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    expiry = np.zeros(len(bars), np.int16)
    expiry[starts[30] :] = 1
    expiry[starts[60] + 20 :] = 2
    lifted = {name: getattr(bars, name) + 40 * expiry.astype(np.int32) for name in COLUMNS}
    return replace(bars, expiry=expiry, expiries=("H", "M", "U"), **lifted)


def rolls(bars: Bars) -> np.ndarray:
    return np.flatnonzero(np.r_[False, bars.expiry[1:] != bars.expiry[:-1]])


def moves(bars: Bars) -> np.ndarray:
    """Close to close, without the gaps of rolls; [B]."""
    prices = {name: getattr(bars, name).astype(np.int64) for name in COLUMNS}
    out = np.diff(prices["close"], prepend=prices["open"][0])
    at = rolls(bars)
    out[at] = prices["close"][at] - prices["open"][at]
    return out


def assert_valid(bars: Bars) -> None:
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert bars.low.min() >= 1
    assert (np.diff(bars.ts) > 0).all()
    assert {getattr(bars, name).dtype for name in COLUMNS} == {np.dtype(np.int32)}


@pytest.mark.parametrize("null", KINDS)
def test_a_null_market_is_a_valid_tape_and_depends_on_its_seed_alone(null):
    bars = tape()
    first, again, other = null(bars, seed=1), null(bars, seed=1), null(bars, seed=2)
    assert_valid(first)
    assert len(first) == len(bars)
    assert first.contract is bars.contract
    assert first.fingerprint() == again.fingerprint()
    assert len({bars.fingerprint(), first.fingerprint(), other.fingerprint()}) == 3


@few
@given(seed=seeds, null=st.sampled_from([sign_flip, bar_flip]))
def test_flips_keep_sizes_ranges_volume_times_and_rolls(seed, null):
    bars = tape()
    flipped = null(bars, seed=seed)
    assert_valid(flipped)
    np.testing.assert_array_equal(np.abs(moves(flipped)), np.abs(moves(bars)))
    np.testing.assert_array_equal(flipped.high - flipped.low, bars.high - bars.low)
    np.testing.assert_array_equal(
        np.abs(flipped.close - flipped.open), np.abs(bars.close - bars.open)
    )
    for name in ("ts", "volume", "expiry"):
        np.testing.assert_array_equal(getattr(flipped, name), getattr(bars, name))
    at = rolls(bars)
    np.testing.assert_array_equal(
        flipped.open[at] - flipped.close[at - 1], bars.open[at] - bars.close[at - 1]
    )


def test_a_flipped_session_is_its_mirror_image_with_the_gap_before_it():
    bars = tape()
    flipped = sign_flip(bars, seed=4)
    day = trade_date(bars.ts)
    signs = set()
    for value in np.unique(day):
        own = np.flatnonzero(day == value)
        if np.isin(own, rolls(bars)).any():
            continue
        before = own[0] - 1 if own[0] else own[0]
        was = {name: getattr(bars, name)[own] - bars.close[before] for name in COLUMNS}
        now = {name: getattr(flipped, name)[own] - flipped.close[before] for name in COLUMNS}
        if own[0] == 0:
            continue
        kept = all((was[name] == now[name]).all() for name in COLUMNS)
        turned = all(
            (was[a] == -now[b]).all()
            for a, b in (("open", "open"), ("close", "close"), ("high", "low"), ("low", "high"))
        )
        assert kept or turned
        signs.add(kept)
    assert signs == {True, False}


@few
@given(seed=seeds)
def test_mirroring_twice_gives_the_tape_back(seed):
    bars = tape()
    sign = 2 * np.random.default_rng(seed).integers(0, 2, len(bars)) - 1
    assert mirror(mirror(bars, sign), sign).fingerprint() == bars.fingerprint()
    assert mirror(bars, np.ones(len(bars), int)).fingerprint() == bars.fingerprint()


def test_a_tape_that_falls_below_one_tick_is_raised_as_a_whole():
    bars = tape()
    sunk = {name: getattr(bars, name) - bars.low.min() + 1 for name in COLUMNS}
    low = replace(bars, **sunk)
    flipped = mirror(low, -np.ones(len(bars), int))
    assert_valid(flipped)
    np.testing.assert_array_equal(np.abs(moves(flipped)), np.abs(moves(bars)))


def test_the_level_of_prices_changes_no_feature():
    bars = tape()
    lifted = replace(bars, **{name: getattr(bars, name) + 70_001 for name in COLUMNS})
    a, b = compute_features(bars), compute_features(lifted)
    np.testing.assert_allclose(a.table, b.table, atol=1e-6)
    np.testing.assert_array_equal(a.atr_ticks, b.atr_ticks)


def paths(bars: Bars, block_minutes: int) -> Counter:
    """Counts the blocks by time of day, minutes with a bar, moves inside and volume."""
    day, minute = trade_date(bars.ts), session_minute(bars.ts)
    cell = day.astype(np.int64) * 1440 + minute // block_minutes
    found: Counter = Counter()
    for own in np.split(np.arange(len(bars)), np.flatnonzero(np.diff(cell)) + 1):
        shape = tuple(
            tuple((getattr(bars, name)[own] - bars.open[own[0]]).tolist()) for name in COLUMNS
        )
        found[(tuple(minute[own].tolist()), shape, tuple(bars.volume[own].tolist()))] += 1
    return found


@few
@given(seed=seeds, minutes=st.sampled_from([60, 240, 1440]))
def test_a_permutation_keeps_the_multiset_of_block_paths(seed, minutes):
    bars = tape()
    mixed = block_permute(bars, seed=seed, block_minutes=minutes)
    assert_valid(mixed)
    assert paths(mixed, minutes) == paths(bars, minutes)


def test_a_session_with_a_roll_inside_stays_as_it_is():
    bars = tape()
    mixed = block_permute(bars, seed=6)
    own = trade_date(bars.ts) == trade_date(bars.ts)[rolls(bars)[1]]
    new = trade_date(mixed.ts) == trade_date(bars.ts)[rolls(bars)[1]]
    for name in COLUMNS:
        a, b = getattr(bars, name)[own], getattr(mixed, name)[new]
        np.testing.assert_array_equal(b - mixed.open[new][0], a - bars.open[own][0])


@few
@given(seed=seeds)
def test_a_permutation_keeps_the_calendar_the_months_and_the_gaps(seed):
    bars = tape()
    mixed = block_permute(bars, seed=seed)
    day, new_day = trade_date(bars.ts), trade_date(mixed.ts)
    assert set(day) == set(new_day)
    assert moves(mixed).sum() == moves(bars).sum()
    first, new_first = (np.r_[True, d[1:] != d[:-1]] for d in (day, new_day))
    for value, at, new_at in zip(
        np.unique(day), np.flatnonzero(first), np.flatnonzero(new_first), strict=True
    ):
        assert set(bars.expiry[day == value]) == set(mixed.expiry[new_day == value])
        if at:
            gap = bars.open[at] - bars.close[at - 1]
            inside = mixed.open[new_at] - mixed.close[new_at - 1] - gap
            # where a block without bars opens the session, a jump inside it comes on top
            assert inside == 0 or session_minute(mixed.ts[[new_at]])[0] >= 60


def test_short_sessions_change_places_with_short_sessions_alone():
    spans = [(f"2024-01-{d:02d} 18:00", f"2024-01-{d + 1:02d} 17:00") for d in (8, 9, 10)]
    early = [("2024-07-02 18:00", "2024-07-03 13:15"), ("2024-11-28 18:00", "2024-11-29 13:15")]
    whole = [("2024-11-25 18:00", "2024-11-26 17:00"), ("2024-11-26 18:00", "2024-11-27 17:00")]
    bars = bars_of(*spans, early[0], *whole, early[1], minutes=15)
    rng = np.random.default_rng(0)
    steps = rng.integers(-5, 6, len(bars)).astype(np.int32)
    close = 20_000 + np.cumsum(steps, dtype=np.int32)
    opened = (close - steps).astype(np.int32)
    bars = replace(
        bars,
        open=opened,
        close=close,
        high=np.maximum(opened, close) + 1,
        low=np.minimum(opened, close) - 1,
    )
    for seed in range(5):
        mixed = block_permute(bars, seed=seed)
        np.testing.assert_array_equal(mixed.ts, bars.ts)
        assert_valid(mixed)


def test_dealt_hours_come_from_their_own_month_and_seldom_from_their_own_day():
    bars = tape()
    day = trade_date(bars.ts)
    number = np.searchsorted(np.unique(day), day)
    mixed = block_permute(replace(bars, volume=number), seed=3)
    now = np.searchsorted(np.unique(day), trade_date(mixed.ts))
    away = np.abs(mixed.volume - now)
    assert away.max() < 2 * 20  # 80 sessions make four groups of at most 24
    assert 4 < away.mean() < 10
    assert (away == 0).mean() < 0.12


def predictability(bars: Bars, lag: int) -> float:
    """Correlation of the distance from the session's mean price with the next move after lag."""
    day = trade_date(bars.ts)
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    away, ahead = [], []
    for a, b in zip(first, np.r_[first[1:], len(bars)], strict=True):
        close = bars.close[a:b].astype(float)
        mean = np.cumsum(close) / np.arange(1, b - a + 1)
        away.append((close - mean)[8 : -lag or None])
        ahead.append((close[lag:] - close[:-lag])[8:])
    x, y = np.concatenate(away), np.concatenate(ahead)
    return float((x * np.sign(y)).sum() / np.sqrt((x**2).sum() * len(y)))


def test_what_is_planted_survives_days_flipped_and_dies_with_bars_flipped_or_hours_dealt():
    """Reversion to the mean of the session at four hours: mirrored days revert just the same."""
    config = SyntheticConfig(start_date=date(2021, 1, 4), end_date=date(2022, 1, 3), strength=4.0)
    bars = resample_bars(synthesize(config, seed=8).bars, 15)
    lag = 16
    actual = predictability(bars, lag)
    assert actual < -0.2
    flipped = np.mean([predictability(sign_flip(bars, seed=s), lag) for s in range(4)])
    assert flipped == pytest.approx(actual, abs=0.05)
    for null in (bar_flip, block_permute):
        left = np.mean([predictability(null(bars, seed=s), lag) for s in range(4)])
        assert abs(left) < 0.35 * abs(actual), null.__name__


def test_a_drift_survives_dealt_hours_and_dies_with_days_flipped():
    bars = tape()
    rising = replace(
        bars,
        **{n: getattr(bars, n) + np.arange(len(bars), dtype=np.int32) * 2 for n in COLUMNS},
    )
    total = moves(rising).sum()
    assert total > 0.8 * 2 * len(bars)
    assert moves(block_permute(rising, seed=0)).sum() == total
    left = [moves(sign_flip(rising, seed=s)).sum() for s in range(40)]
    assert abs(np.mean(left)) < 0.35 * total


def test_signs_that_fit_nothing_are_refused():
    bars = tape()
    for bad in (np.ones(3, int), np.zeros(len(bars), int)):
        with pytest.raises(BarsError, match="one sign a bar"):
            mirror(bars, bad)
    with pytest.raises(BarsError, match="at least 1"):
        block_permute(bars, seed=0, block_minutes=0)
    with pytest.raises(BarsError, match="0 bars"):
        sign_flip(bars.slice(0, 0), seed=0)
