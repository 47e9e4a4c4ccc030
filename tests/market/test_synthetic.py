"""The built-in market: repeatable, sane, on the calendar, and predictable only where planted."""

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from passline.errors import BarsError, ConfigError
from passline.market.bars import Bars
from passline.market.calendar import load_calendar, session_minute
from passline.market.synthetic import (
    MECHANISMS,
    SYN,
    Mechanism,
    SyntheticConfig,
    SyntheticMarket,
    oracle_signal,
    synthesize,
)

MONTH = SyntheticConfig(start_date=date(2020, 11, 16), end_date=date(2020, 12, 15))
YEARS = SyntheticConfig(start_date=date(2021, 1, 1), end_date=date(2023, 1, 1))
COLUMNS = ("ts", "open", "high", "low", "close", "volume")
WHISPER = 1e-12
"""A strength too small to move a price, rounding ties apart: the null, with the signal beside."""


@pytest.fixture(scope="module")
def month() -> SyntheticMarket:
    return synthesize(MONTH, seed=3)


@pytest.fixture(scope="module")
def null() -> SyntheticMarket:
    return synthesize(replace(YEARS, strength=0.0), seed=5)


def session_of(bars: Bars) -> NDArray[np.int32]:
    first, last = int(bars.ts[0]), int(bars.ts[-1])
    return load_calendar("equity").sessions(first, last).locate(bars.ts)


def true_range(bars: Bars) -> NDArray[np.float64]:
    previous = np.append(bars.open[:1], bars.close[:-1])
    return (np.maximum(bars.high, previous) - np.minimum(bars.low, previous)).astype(np.float64)


def moves(bars: Bars) -> NDArray[np.float64]:
    """Close-to-close moves in units of the usual move of their slot; nan between sessions."""
    move = np.diff(bars.close).astype(np.float64)
    move[np.diff(session_of(bars)) != 0] = np.nan
    slot = session_minute(bars.ts)[1:]
    for part in range(0, 1_380, 30):
        inside = slot // 30 == part // 30
        move[inside] /= np.nanstd(move[inside])
    return move


def t_statistic(sample: NDArray[np.float64]) -> float:
    return float(sample.mean() / (sample.std(ddof=1) / math.sqrt(len(sample))))


# ------------------------------------------------------------------ seeds and pairing


def test_a_seed_reproduces_bit_for_bit_and_another_differs(month: SyntheticMarket) -> None:
    again, other = synthesize(MONTH, seed=3), synthesize(MONTH, seed=4)
    assert again.bars.fingerprint() == month.bars.fingerprint()
    assert np.array_equal(again.drift, month.drift)
    assert other.bars.fingerprint() != month.bars.fingerprint()
    n = min(len(other.bars), len(month.bars))
    assert (other.bars.volume[:n] != month.bars.volume[:n]).mean() > 0.9


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_strength_changes_prices_only_and_pairs_the_noise(
    month: SyntheticMarket, mechanism: Mechanism
) -> None:
    null = synthesize(replace(MONTH, mechanism=mechanism, strength=0.0), seed=3)
    edge = synthesize(replace(MONTH, mechanism=mechanism), seed=3)
    assert np.array_equal(null.bars.ts, month.bars.ts)
    assert np.array_equal(null.bars.volume, month.bars.volume)
    assert not null.drift.any()
    assert edge.drift.any()
    paired = np.corrcoef(np.diff(null.bars.close), np.diff(edge.bars.close))[0, 1]
    assert paired > 0.98


def test_a_later_end_only_appends_bars(month: SyntheticMarket) -> None:
    longer = synthesize(replace(MONTH, end_date=date(2021, 4, 1)), seed=3)
    n = len(month.bars)
    assert len(longer.bars) > 2 * n
    for column in COLUMNS:
        assert np.array_equal(getattr(longer.bars, column)[:n], getattr(month.bars, column))
    assert np.array_equal(longer.drift[:n], month.drift)


def test_the_global_generator_is_not_used() -> None:
    np.random.seed(1)
    first = synthesize(MONTH, seed=9).bars.fingerprint()
    np.random.seed(2)
    assert synthesize(MONTH, seed=9).bars.fingerprint() == first


# ------------------------------------------------------------------ bars and calendar


def test_bars_are_sane_whole_ticks(null: SyntheticMarket) -> None:
    bars = null.bars
    assert bars.contract == SYN
    assert all(getattr(bars, c).dtype == np.int32 for c in ("open", "high", "low", "close"))
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert bars.low.min() > 0
    assert bars.volume.min() >= 1
    assert (np.diff(bars.ts) > 0).all()
    assert (bars.ts % bars.bar_ns == 0).all()
    assert len(bars) == len(null.drift)
    assert bars.provenance["seed"] == 5
    assert bars.provenance["start_date"] == "2021-01-01"


def test_every_session_has_bars_inside_it_and_none_outside(null: SyntheticMarket) -> None:
    ts = null.bars.ts
    sessions = load_calendar("equity").sessions(int(ts[0]), int(ts[-1]))
    index = sessions.locate(ts)
    assert (index >= 0).all()
    assert not sessions.in_pause(ts).any()
    assert len(np.unique(index)) == len(sessions)
    assert (ts + null.bars.bar_ns <= sessions.close_ns[index]).all()
    minutes = (sessions.close_ns - sessions.open_ns - sessions.pause_end_ns) // null.bars.bar_ns
    minutes += sessions.pause_start_ns // null.bars.bar_ns
    share = np.bincount(index) / minutes
    assert share.min() > 0.8
    assert 0.9 < share.mean() < 0.995


def test_early_closes_and_holidays_are_kept(month: SyntheticMarket) -> None:
    stamps = month.bars.ts.astype("datetime64[ns]").astype("datetime64[m]")
    thanksgiving = stamps[stamps.astype("datetime64[D]") == np.datetime64("2020-11-26")]
    halt, resume = np.datetime64("2020-11-26T18:00"), np.datetime64("2020-11-26T23:00")
    assert len(thanksgiving) > 800
    assert not ((thanksgiving >= halt) & (thanksgiving < resume)).any()
    assert stamps[stamps < np.datetime64("2020-11-28")].max() == np.datetime64("2020-11-27T18:14")


def test_minutes_without_a_trade_are_of_the_night(null: SyntheticMarket) -> None:
    slot = session_minute(null.bars.ts)
    n_sessions = len(np.unique(session_of(null.bars)))
    present = np.bincount(slot, minlength=1_380)[:1_380] / n_sessions
    assert 0.90 < present[60:480].mean() < 0.99
    assert present[930:1_100].min() > 0.95


# ------------------------------------------------------------------ the shape of chance


def test_volatility_and_volume_have_the_daily_shape(null: SyntheticMarket) -> None:
    slot, span = session_minute(null.bars.ts), true_range(null.bars)

    def mean(values: NDArray[np.float64], start: int, stop: int) -> float:
        return float(values[(slot >= start) & (slot < stop)].mean())

    volume = null.bars.volume.astype(np.float64)
    for values in (span, volume):
        at_open, noon, late = (mean(values, a, a + 30) for a in (930, 1_110, 1_290))
        assert at_open > 1.5 * noon
        assert late > 1.2 * noon
        assert noon > 1.5 * mean(values, 120, 420)
    log_volume, log_span = np.log(volume), np.log(np.maximum(span, 1.0))
    noon_only = (slot >= 1_100) & (slot < 1_200)
    assert np.corrcoef(log_volume[noon_only], log_span[noon_only])[0, 1] > 0.4


def test_volatility_clusters_within_and_across_days(null: SyntheticMarket) -> None:
    move, index = np.abs(moves(null.bars)), session_of(null.bars)[1:]
    daily = np.array([np.nanmean(move[index == i]) for i in range(index[-1] + 1)])
    assert np.corrcoef(daily[:-1], daily[1:])[0, 1] > 0.7
    within = move / daily[index]
    for lag in (1, 30):
        a, b = within[:-lag], within[lag:]
        both = np.isfinite(a) & np.isfinite(b)
        assert np.corrcoef(a[both], b[both])[0, 1] > 0.04


def test_moves_have_fat_tails_and_plain_signs(null: SyntheticMarket) -> None:
    move = moves(null.bars)
    move = move[np.isfinite(move)]
    assert np.mean(move**4) / np.mean(move**2) ** 2 > 5.0
    for lag in (1, 2, 5):
        assert abs(t_statistic(np.sign(move[:-lag]) * move[lag:])) < 3.5


def test_bars_reach_as_far_as_a_walk_does(null: SyntheticMarket) -> None:
    """Range over standard deviation of the body is sqrt(8 / pi), less a tick for the grid."""
    bars = null.bars
    day = (session_minute(bars.ts) >= 930) & (session_minute(bars.ts) < 1_320)
    span = (bars.high - bars.low)[day] + 1.0
    body = (bars.close - bars.open)[day].astype(np.float64)
    ratio = np.mean(span) / (np.mean(np.abs(body)) * math.sqrt(math.pi / 2))
    assert ratio == pytest.approx(math.sqrt(8 / math.pi), rel=0.02)


def bracket_r(bars: Bars, start: NDArray[np.int64], side: int) -> NDArray[np.float64]:
    """Results, in units of risk, of brackets of 1 : 3 held 240 bars at most, without any cost.

    Entered at the close of `start` with a stop of 40 ticks, filled where touched, stop first.
    """
    entry, result = bars.close[start], np.full(len(start), np.nan)
    for ahead in range(1, 241):
        k = start + ahead
        against, favor = (bars.low, bars.high) if side > 0 else (bars.high, bars.low)
        is_stopped = side * (against[k] - entry) <= -40
        is_paid = (side * (favor[k] - entry) >= 120) & ~is_stopped
        result = np.where(np.isnan(result) & is_stopped, -1.0, result)
        result = np.where(np.isnan(result) & is_paid, 3.0, result)
    left = side * (bars.close[start + 240] - entry) / 40
    return np.where(np.isnan(result), left, result)


def test_stops_inside_bars_are_no_free_lunch_in_the_null(null: SyntheticMarket) -> None:
    """Long and short brackets from random bars earn nothing on average: 0 within 0.035."""
    slot = session_minute(null.bars.ts)
    start = np.flatnonzero((slot >= 930) & (slot < 1_100))[::12]
    both = (bracket_r(null.bars, start, 1) + bracket_r(null.bars, start, -1)) / 2
    assert len(both) > 7_000
    assert both.std() > 0.5
    assert abs(both.mean()) < 0.035


def test_gaps_between_sessions_are_small_and_wider_after_weekends(null: SyntheticMarket) -> None:
    bars = null.bars
    first = np.flatnonzero(np.diff(session_of(bars))) + 1
    gap = np.abs(bars.open[first] - bars.close[first - 1]).astype(np.float64)
    is_weekend = np.diff(bars.ts)[first - 1] > 24 * 3_600 * 10**9
    ends = bars.close[np.append(first - 1, len(bars) - 1)].astype(np.float64)
    session_move = np.diff(ends).std()
    assert 0.02 < np.median(gap[~is_weekend]) / session_move < 0.1
    assert np.median(gap[is_weekend]) > 1.5 * np.median(gap[~is_weekend])


def test_one_contract_at_the_default_bracket_fits_a_small_allowance(null: SyntheticMarket) -> None:
    """1.5 average true ranges cost 50 to 120 USD by day, costs are about a tenth of that."""
    span = true_range(null.bars)
    atr = np.convolve(span, np.full(14, 1 / 14))[: len(span)]
    slot = session_minute(null.bars.ts)
    risk_usd = 1.5 * atr[(slot >= 930) & (slot < 1_320)] * SYN.tick_mills / 1_000
    low, median, high = np.percentile(risk_usd, [10, 50, 90])
    cost_usd = (2 * SYN.commission_mills + 1.75 * SYN.slippage_ticks * SYN.tick_mills) / 1_000
    assert 70 < median < 110
    assert low > 35
    assert high < 220
    assert cost_usd / median < 0.11


# ------------------------------------------------------------------ the planted drift


def known(closes: list[tuple[int, int]], slot: int, first: int) -> int:
    """The last close at the end of a slot; the session's first price if there is none."""
    return next((close for at, close in reversed(closes) if at <= slot), first)


def reconstruct(bars: Bars, mechanism: Mechanism) -> NDArray[np.float64]:
    """The drift in plain Python, one bar after the other, from the bars alone."""
    index, slots = session_of(bars), session_minute(bars.ts)
    out = np.zeros(len(bars))
    for session in np.unique(index):
        n, fast, scale, slow, worth, traded = 0, 0.0, 0.0, 0.0, 0.0, 0.0
        before: list[tuple[int, int]] = []
        rows = np.flatnonzero(index == session)
        first = int(bars.open[rows[0]])
        for k in rows:
            slot = int(slots[k])
            high, low, close = int(bars.high[k]), int(bars.low[k]), int(bars.close[k])
            previous = before[-1][1] if n else (high + low) / 2
            span = max(high, previous) - min(low, previous)
            n += 1
            fast += (span - fast) / min(n, 15)
            scale += (span - scale) / min(n, 60)
            slow += (span - slow) / min(n, 120)
            worth += (high + low + close) / 3 * int(bars.volume[k])
            traded += int(bars.volume[k])
            before.append((slot, close))
            if n < 30 or k == rows[-1]:
                continue
            if mechanism == "vwap_reversion":
                away = (close - worth / traded) / (6 * scale)
                out[k] = -0.065 * scale * min(max(away, -1), 1)
            elif mechanism == "open_momentum" and 959 <= slot < 1_200:
                move = (known(before, 959, first) - known(before, 929, first)) / (3 * scale)
                out[k] = 0.045 * scale * min(max(move, -1), 1)
            elif mechanism == "volatility_drift" and slot >= 60:
                state = min(max(math.log(fast / slow) / 0.15, -1), 1)
                move = (close - known(before, slot - 60, first)) / (4 * scale)
                out[k] = 0.085 * scale * state * min(max(move, -1), 1)
    return out


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_drift_is_a_function_of_bars_already_seen(mechanism: Mechanism) -> None:
    config = replace(MONTH, mechanism=mechanism, end_date=date(2020, 12, 1), strength=0.8)
    market = synthesize(config, seed=2)
    rebuilt = 0.8 * reconstruct(market.bars, mechanism)
    assert np.abs(market.drift).max() > 0.5
    np.testing.assert_allclose(market.drift, rebuilt, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_edge_is_there_at_strength_one_and_absent_in_the_null(
    null: SyntheticMarket, mechanism: Mechanism
) -> None:
    """Moves along the signal: t above 12 with the edge, within 3.5 without, two years each."""
    config = replace(YEARS, mechanism=mechanism)
    for strength, low, high in ((1.0, 12.0, 60.0), (WHISPER, -3.5, 3.5)):
        market = synthesize(replace(config, strength=strength), seed=5)
        side = np.sign(market.drift[:-1])
        used = side != 0
        along = np.diff(market.bars.close)[used] * side[used]
        assert low < t_statistic(along.astype(np.float64)) < high
        if strength == WHISPER:
            start = np.flatnonzero(used)[::60]
            start = start[start + 60 < len(side)]
            hour = (market.bars.close[start + 60] - market.bars.close[start]) * side[start]
            assert abs(t_statistic(hour.astype(np.float64))) < 3.5
            same = np.diff(market.bars.close) == np.diff(null.bars.close)
            assert same.mean() > 0.9999


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_next_move_is_the_drift_on_average(mechanism: Mechanism) -> None:
    """The slope of moves on drift is 1 within four standard errors; it is not 0."""
    market = synthesize(replace(YEARS, mechanism=mechanism), seed=6)
    x = market.drift[:-1].astype(np.float64)
    y = np.diff(market.bars.close).astype(np.float64)
    used = x != 0
    x, y = x[used], y[used]
    slope = (x @ y) / (x @ x)
    error = math.sqrt(((y - slope * x) ** 2 * x**2).sum()) / (x @ x)
    assert abs(slope - 1) < 4 * error
    assert slope > 10 * error


def test_a_stronger_edge_pays_more_and_a_negative_one_is_its_mirror() -> None:
    pay = {}
    for strength in (-1.0, 0.5, 1.0, 2.0):
        market = synthesize(replace(YEARS, strength=strength), seed=7)
        side = np.sign(market.drift[:-1])
        scale = np.convolve(true_range(market.bars), np.full(14, 1 / 14))[: len(side)]
        pay[strength] = float(np.mean(np.diff(market.bars.close) * side / scale))
    assert 0 < pay[0.5] < pay[1.0] < pay[2.0]
    assert pay[-1.0] > 0


def test_oracle_takes_sides_only_above_its_threshold(month: SyntheticMarket) -> None:
    side = oracle_signal(month, threshold_ticks=0.7)
    assert side.dtype == np.int8
    assert set(np.unique(side)) == {-1, 0, 1}
    assert np.array_equal(side != 0, np.abs(month.drift) >= 0.7)
    assert np.array_equal(side[side != 0], np.sign(month.drift[side != 0]))
    atr = np.full(len(side), 10.0)
    netted = oracle_signal(month, threshold_ticks=0.2, threshold_atr=0.05, atr_ticks=atr)
    assert np.array_equal(netted, side)
    everything = oracle_signal(month, threshold_ticks=0.0)
    assert np.array_equal(everything != 0, month.drift != 0)
    with pytest.raises(ConfigError, match="without atr_ticks"):
        oracle_signal(month, threshold_ticks=0.2, threshold_atr=0.05)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanism": "magic"}, r"unknown mechanism 'magic'. Known mechanisms: vwap_reversion"),
        ({"strength": float("nan")}, r"synthetic.strength: was nan"),
        ({"daily_sigma_ticks": 1.0}, r"daily_sigma_ticks: was 1.0; allowed is 40.0 to 5000.0"),
        ({"end_date": date(2020, 11, 16)}, r"end_date: was 2020-11-16, not after"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(MONTH, **change)  # type: ignore[arg-type]


def test_dates_without_a_session_or_a_calendar_are_refused() -> None:
    weekend = replace(MONTH, start_date=date(2020, 11, 21), end_date=date(2020, 11, 23))
    with pytest.raises(ConfigError, match="no session from 2020-11-21"):
        synthesize(weekend, seed=1)
    with pytest.raises(BarsError, match="2040-01-02 was asked for"):
        synthesize(replace(MONTH, start_date=date(2040, 1, 2), end_date=date(2040, 2, 1)), seed=1)


def test_a_price_that_falls_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="must stay above 0"):
        synthesize(replace(YEARS, start_price_ticks=1_000, daily_sigma_ticks=4_000.0), seed=1)
