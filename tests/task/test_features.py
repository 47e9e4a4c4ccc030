"""Market features: causal to the bit, free of scale and of rolls, equal to a plain calculation."""

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.clock import trade_date
from passline.market.contract import Contract
from passline.task import features as features_module
from passline.task.features import FEATURE_NAMES, Features, compute_features

ROOT = Path(__file__).parents[2]
EASTERN = ZoneInfo("America/New_York")
MINUTE_NS = 60_000_000_000


def contract(symbol="ES", tick="0.25", calendar="equity"):
    return Contract(
        symbol=symbol,
        name=symbol,
        exchange="CME",
        tick_size=Decimal(tick),
        tick_mills=12_500,
        size_units=10,
        calendar=calendar,
        commission_mills=2_000,
        slippage_ticks=1,
    )


def make_bars(*, seed=7, minutes=1, n_sessions=14, missing=0.15):
    """Random-walk bars from 2024-02-26 on (the clocks change on 03-10), one roll mid-session."""
    rng = np.random.default_rng(seed)
    opens = []
    day = datetime(2024, 2, 25, 18, tzinfo=EASTERN)
    while len(opens) < n_sessions:
        if day.weekday() in (6, 0, 1, 2, 3):
            opens.append(int(day.timestamp()) * 10**9)
        day += timedelta(days=1)
    steps = np.arange(0, 1380, minutes) * MINUTE_NS
    ts = (np.array(opens)[:, None] + steps).ravel()
    ts = ts[rng.random(len(ts)) > missing]
    n = len(ts)
    body = np.rint(rng.standard_t(4, n) * 4).astype(np.int64)
    gap = rng.integers(-1, 2, n)
    close = 20_000 + np.cumsum(body + gap)
    open_ = close - body
    high = np.maximum(open_, close) + rng.integers(0, 5, n)
    low = np.minimum(open_, close) - rng.integers(0, 5, n)
    roll = int(n * 0.8)
    i32 = [column.astype(np.int32) for column in (open_, high, low, close)]
    return Bars(
        contract=contract(),
        bar_ns=minutes * MINUTE_NS,
        ts=ts,
        open=i32[0],
        high=i32[1],
        low=i32[2],
        close=i32[3],
        volume=rng.integers(0, 500, n),
        expiry=(np.arange(n) >= roll).astype(np.int16),
        expiries=("ESH4", "ESM4"),
    )


def take(bars, index):
    names = ("ts", "open", "high", "low", "close", "volume", "expiry")
    return replace(bars, **{name: getattr(bars, name)[index] for name in names})


def minute_of(bars):
    """Minutes from 18:00 Eastern."""
    local = pl.Series(bars.ts).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone(str(EASTERN))
    return ((local.dt.hour().cast(int) * 60 + local.dt.minute() + 360) % 1440).to_numpy()


def shift(bars, ticks, rows):
    moved = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for column in moved.values():
        column[rows] += ticks
    return replace(bars, **moved)


def garbage_after(bars, k, rng):
    """Other prices, volumes and months after bar k, a third of the times removed."""
    bad = replace(bars, expiries=(*bars.expiries, "ESU4"))
    n_after = len(bars) - k - 1
    price = rng.integers(100, 2_000_000, n_after)
    moved = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    moved["open"][k + 1 :] = price
    moved["close"][k + 1 :] = price + rng.integers(-50, 50, n_after)
    moved["high"][k + 1 :] = price + 60
    moved["low"][k + 1 :] = price - 60
    volume, expiry = bars.volume.copy(), bars.expiry.copy()
    volume[k + 1 :] = rng.integers(-1, 10**6, n_after)
    expiry[k + 1 :] = 2
    keep = np.concatenate([np.ones(k + 1, bool), rng.random(n_after) > 1 / 3])
    return take(replace(bad, **moved, volume=volume, expiry=expiry), keep)


def assert_same_to_the_bit(part: Features, whole: Features, n: int) -> None:
    assert part.table[:n].tobytes() == whole.table[:n].tobytes()
    assert part.atr_ticks[:n].tobytes() == whole.atr_ticks[:n].tobytes()
    assert min(part.n_warmup, n) == min(whole.n_warmup, n)


@pytest.fixture(scope="module")
def bars():
    return make_bars()


@pytest.fixture(scope="module")
def features(bars):
    return compute_features(bars)


def column(features, name):
    return features.table[:, features.names.index(name)]


def test_table_has_its_shape_and_every_value_is_bounded(bars, features):
    assert features.names == FEATURE_NAMES
    assert features.table.shape == (len(bars), len(FEATURE_NAMES))
    assert features.table.dtype == np.float32
    assert features.table.flags.c_contiguous
    assert features.atr_ticks.dtype == np.int32
    assert features.atr_ticks.min() >= 1
    assert np.isfinite(features.table).all()
    assert np.abs(features.table).max() <= 5
    assert not features.table[: features.n_warmup].any()
    spread = features.table[features.n_warmup :].std(axis=0)
    assert dict(zip(features.names, spread > 0.02, strict=True)) == dict.fromkeys(
        features.names, True
    )


def test_warmup_ends_with_the_fifth_session_on_a_full_tape(features, bars):
    date = (bars.ts[features.n_warmup] - bars.ts[0]) // (24 * 60 * MINUTE_NS)
    assert date == 7  # five sessions and a weekend later


@pytest.mark.parametrize("minutes", [1, 5])
def test_rows_up_to_k_do_not_depend_on_later_bars(minutes):
    bars = make_bars(minutes=minutes, seed=minutes)
    bars = replace(bars, volume=np.where(bars.ts % 997 == 0, -1, bars.volume))
    whole = compute_features(bars)
    rng = np.random.default_rng(minutes)
    cuts = [*rng.integers(whole.n_warmup, len(bars) - 1, 5), 3, int(0.8 * len(bars))]
    last_days = np.flatnonzero(bars.ts > bars.ts[-1] - 3 * 24 * 60 * MINUTE_NS)
    for minute in (1, 20, 925, 931, 945, 970, 1325):  # from 18:00: the seams of a session
        cuts.append(last_days[np.argmin(np.abs(minute_of(bars)[last_days] - minute))])
    for k in map(int, cuts):
        assert_same_to_the_bit(compute_features(bars.slice(0, k + 1)), whole, k + 1)
        assert_same_to_the_bit(compute_features(garbage_after(bars, k, rng)), whole, k + 1)


def test_garbage_after_k_changes_later_rows(bars, features):
    k = len(bars) // 2
    other = compute_features(garbage_after(bars, k, np.random.default_rng(0)))
    assert not np.array_equal(other.table[k + 1 : k + 50], features.table[k + 1 : k + 50])


def test_blocks_leave_no_seam(bars, features, monkeypatch):
    monkeypatch.setattr(features_module, "BLOCK_ROWS", 777)
    assert_same_to_the_bit(compute_features(bars), features, len(bars))


def with_rolls_and_holes(bars, rng):
    """Months of other prices, lost days and sessions of a few bars, unknown volumes."""
    date = np.asarray(trade_date(bars.ts))
    days = np.unique(date)
    lost, sparse = rng.permutation(days)[: len(days) // 3 * 2].reshape(2, -1)
    keep = ~np.isin(date, lost) & ~(np.isin(date, sparse) & (rng.random(len(bars)) < 0.998))
    expiry = (np.arange(len(bars)) // 9_000).astype(bars.expiry.dtype)
    rolled = shift(replace(bars, expiry=expiry), 333, expiry % 2 == 1)
    volume = np.where(rng.random(len(bars)) < 1e-4, -1, bars.volume)
    return take(replace(rolled, volume=volume), keep)


def with_a_jump(bars, rng):
    """A bar far up on the second day and the old price after it: sums of moves stay huge."""
    jump = np.flatnonzero(np.diff(np.asarray(trade_date(bars.ts))))[1]
    moved = {name: getattr(bars, name).copy() for name in ("high", "close")}
    for column in moved.values():
        column[jump] = 1_999_999_999 - rng.integers(9)
    return replace(bars, **moved)


@pytest.mark.parametrize(
    ("n_rows", "change"),
    [(1_013, None), (5_000, None), (641, with_rolls_and_holes), (5_000, with_a_jump)],
)
def test_stretches_leave_no_seam(n_rows, change, monkeypatch):
    bars = make_bars(minutes=5, n_sessions=130, seed=3)
    bars = bars if change is None else change(bars, np.random.default_rng(4))
    whole = compute_features(bars)
    assert 5 * n_rows < len(bars) - whole.n_warmup
    monkeypatch.setattr(features_module, "_stretch_rows", lambda bar_ns: n_rows)
    assert_same_to_the_bit(compute_features(bars), whole, len(bars))


def test_prices_times_an_integer_give_the_same_features(bars, features):
    fields = ("open", "high", "low", "close")
    scaled = replace(bars, **{name: getattr(bars, name) * 7 for name in fields})
    other = compute_features(scaled)
    np.testing.assert_allclose(other.table, features.table, atol=2e-6)
    np.testing.assert_allclose(other.atr_ticks / 7, features.atr_ticks, atol=0.6)


def test_volume_times_an_integer_gives_the_same_features(bars, features):
    other = compute_features(replace(bars, volume=bars.volume * 9))
    np.testing.assert_allclose(other.table, features.table, atol=2e-6)


def test_a_roll_gap_is_no_move(bars, features):
    rolled = shift(bars, 900, bars.expiry == 1)
    other = compute_features(rolled)
    np.testing.assert_array_equal(other.table, features.table)
    np.testing.assert_array_equal(other.atr_ticks, features.atr_ticks)
    jump = compute_features(replace(rolled, expiry=np.zeros_like(rolled.expiry)))
    roll = int(np.argmax(bars.expiry))
    assert column(jump, "return_15")[roll] > column(features, "return_15")[roll] + 2
    assert jump.atr_ticks[roll] > 2 * features.atr_ticks[roll]


def test_a_session_gap_is_a_level_but_neither_a_return_nor_a_range(bars, features):
    break_ns = 60 * MINUTE_NS
    last = np.flatnonzero(np.diff(bars.ts) > break_ns)[-1] + 1
    after = np.arange(len(bars)) >= last
    gapped = compute_features(shift(bars, 400, after))
    for name in ("return_bar", "return_60", "return_240", "trend_60", "range_position", "vwap_z"):
        np.testing.assert_allclose(column(gapped, name), column(features, name), atol=1e-6)
    np.testing.assert_array_equal(gapped.atr_ticks, features.atr_ticks)
    moved = column(gapped, "from_previous_close") - column(features, "from_previous_close")
    assert (moved[last:] > 0.3).all()
    assert not moved[:last].any()


def test_windows_are_minutes_not_bars(bars, features):
    """Bars in which nothing happened can be left out without changing sums over minutes."""
    quiet = shift(bars, 0, slice(None))
    rng = np.random.default_rng(3)
    flat = np.flatnonzero(rng.random(len(bars)) < 0.3)
    flat = flat[(flat > 0) & (flat < len(bars) - 1)]
    is_new = np.concatenate([[True], np.diff(bars.ts) > 30 * MINUTE_NS])
    flat = flat[~is_new[flat] & (bars.expiry[flat] == bars.expiry[flat - 1])]
    prices = {name: getattr(quiet, name) for name in ("open", "high", "low", "close")}
    volume = bars.volume.copy()
    volume[flat] = 0
    for k in flat:
        for prices_column in prices.values():
            prices_column[k] = prices["close"][k - 1]
    quiet = replace(quiet, volume=volume)
    keep = np.setdiff1d(np.arange(len(bars)), flat)
    full, sparse = compute_features(quiet), compute_features(take(quiet, keep))
    start = full.n_warmup + 100
    rows = keep >= start
    names = ("return_30", "return_240", "efficiency_60", "volatility_30_240", "session_range")
    for name in (*names, "vwap_distance", "volume_30_usual", "volatility_day_usual"):
        got, want = column(sparse, name)[rows], column(full, name)[keep[rows]]
        np.testing.assert_allclose(got, want, atol=1e-5, err_msg=name)


def test_a_hole_of_days_costs_one_hour_of_the_windows(bars):
    days = (bars.ts - bars.ts[0]) // (24 * 60 * MINUTE_NS)
    is_lost = np.isin(days, (9, 10))
    got = compute_features(take(bars, ~is_lost))
    first = int(np.argmax(is_lost))
    assert np.abs(column(got, "volatility_1d_20d")[first : first + 60]).max() < 0.5


def test_without_volume_vwap_weighs_bars_alike_and_volume_features_are_zero(bars):
    none = compute_features(replace(bars, volume=np.full(len(bars), -1)))
    even = compute_features(replace(bars, volume=np.full(len(bars), 5)))
    assert not column(none, "volume_bar_usual").any()
    assert not column(none, "volume_30_usual").any()
    for name in ("vwap_distance", "vwap_z"):
        np.testing.assert_allclose(column(none, name), column(even, name), atol=1e-6)
        assert column(none, name).any()


def test_one_bar_of_unknown_volume_makes_the_rest_of_its_session_weigh_alike(bars):
    starts = np.flatnonzero(np.diff(bars.ts) > 60 * MINUTE_NS) + 1
    start, stop = starts[-2:]
    at = start + 400
    volume = bars.volume.copy()
    volume[at] = -1
    got = column(compute_features(replace(bars, volume=volume)), "vwap_distance")
    even = replace(bars, volume=np.full(len(bars), 5))
    plain = column(compute_features(even), "vwap_distance")
    weighted = column(compute_features(bars), "vwap_distance")
    np.testing.assert_array_equal(got[:at], weighted[:at])
    np.testing.assert_allclose(got[at:stop], plain[at:stop], atol=1e-6)
    np.testing.assert_array_equal(got[stop:], weighted[stop:])
    assert np.abs(plain[at:stop] - weighted[at:stop]).max() > 1e-3


def test_a_market_that_stands_still_gives_finite_rows(bars):
    flat = {name: np.full(len(bars), 8_000, np.int32) for name in ("open", "high", "low", "close")}
    got = compute_features(replace(bars, **flat, volume=np.zeros(len(bars), np.int64)))
    assert np.isfinite(got.table).all()
    assert (got.atr_ticks == 1).all()


def test_an_empty_tape_is_refused(bars):
    with pytest.raises(BarsError, match="0 bars"):
        compute_features(bars.slice(0, 0))
    one = compute_features(bars.slice(0, 1))
    assert one.n_warmup == 1
    assert one.atr_ticks[0] == max(bars.high[0] - bars.low[0], 1)


def test_early_close_is_known_from_the_calendar():
    """2024-11-29 closes at 13:15 Eastern; the day after is a plain one."""
    tape = make_bars(n_sessions=10, missing=0.0)
    opens = [
        datetime(2024, 11, day, 18, tzinfo=EASTERN) for day in (17, 18, 19, 20, 21, 24, 25, 26, 28)
    ]
    ts = np.concatenate(
        [int(o.timestamp()) * 10**9 + np.arange(900) * MINUTE_NS for o in opens]
    ).astype(np.int64)
    short = take(tape, slice(0, len(ts)))
    got = compute_features(replace(short, ts=ts))
    at_close = column(got, "to_close")[-1] * 1380
    assert at_close == pytest.approx((19 * 60 + 15) - 900, abs=0.01)
    before = column(got, "to_close")[len(ts) - 901] * 1380  # 2024-11-27, a full session
    assert before == pytest.approx(1380 - 900, abs=0.01)


def test_every_feature_stands_in_the_documents_table_in_order():
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == FEATURE_NAMES


# --- a plain calculation, bar by bar, from docs/features.md --------------------------------------


class Plain:
    """The tape as lists, with the session and the clock worked out by datetime."""

    def __init__(self, bars):
        self.bar = bars.bar_ns // MINUTE_NS
        self.o, self.h, self.l, self.c = (
            [int(x) for x in column] for column in (bars.open, bars.high, bars.low, bars.close)
        )
        self.v = [int(x) for x in bars.volume]
        self.new_month = [False, *(bars.expiry[1:] != bars.expiry[:-1])]
        self.session, self.minute = [], []
        for ns in bars.ts:
            local = datetime.fromtimestamp(int(ns) // 10**9, EASTERN).replace(tzinfo=None)
            local += timedelta(hours=6)
            self.session.append(local.date())
            self.minute.append(local.hour * 60 + local.minute)
        days = sorted(set(self.session))
        self.dates = days
        shift = 0
        for k in range(len(self.c)):
            if self.new_month[k]:
                shift = self.o[k] - self.c[k - 1]
            for prices in (self.o, self.h, self.l, self.c):
                prices[k] -= shift
        self.move, self.tr, self.clock = [], [], []
        for k, close in enumerate(self.c):
            is_first = k == 0 or self.session[k] != self.session[k - 1]
            alone = is_first or self.new_month[k]
            before = self.o[k] if alone else self.c[k - 1]
            self.move.append(close - before)
            self.tr.append(max(self.h[k], before) - min(self.l[k], before))
            at = days.index(self.session[k]) * 1380 + self.minute[k] + self.bar
            if k == 0:
                self.clock.append(self.bar)
                last = at
            else:
                self.clock.append(self.clock[-1] + min(at - last, 60))
                last = at
        self.g = list(np.cumsum(self.move))

    def window(self, k, minutes):
        j = k
        while j > 0 and self.clock[j - 1] > self.clock[k] - minutes:
            j -= 1
        return range(j, k + 1)

    def today(self, k):
        j = k
        while j > 0 and self.session[j - 1] == self.session[k]:
            j -= 1
        return range(j, k + 1)

    def variance(self, k, minutes):
        return sum(self.move[j] ** 2 for j in self.window(k, minutes)) / min(minutes, self.clock[k])

    def usual(self, k, quantity):
        """Returns the 48 usual half-hour sums for the session of bar k."""
        here = self.dates.index(self.session[k])
        days = self.dates[max(0, here - 10) : here]
        sums = {(d, b): [] for d in days for b in range(48)}
        for j in range(k):
            if self.session[j] in days:
                sums[self.session[j], self.minute[j] // 30].append(quantity[j])
        out = []
        for b in range(48):
            filled = [sum(sums[d, b]) for d in days if sums[d, b]]
            out.append(sum(filled) / len(filled) if filled else 0.0)
        return out

    def expected(self, usual, start, end):
        return sum(usual[m // 30] / 30 for m in range(start, end))

    def row(self, k):
        """Returns features of bar k by name."""
        squares = [m * m for m in self.move]
        usual_rate = self.usual(k, squares)[self.minute[k] // 30] / 30
        sigma = math.sqrt((self.variance(k, 120) + usual_rate) / 2)
        week = math.sqrt(self.variance(k, 6900))
        return (
            self.moves(k, sigma, week)
            | self.levels(k, week)
            | self.vwap(k, sigma, week)
            | self.activity(k, squares)
            | self.shape_and_time(k, sigma)
        )

    def moves(self, k, sigma, week):
        bar = self.bar
        out = {"return_bar": self.move[k] / (sigma * math.sqrt(bar))}
        for minutes in (5, 15, 30, 60):
            change = sum(self.move[j] for j in self.window(k, minutes))
            out[f"return_{minutes}"] = change / (sigma * math.sqrt(max(minutes, bar)))
        out["return_240"] = sum(self.move[j] for j in self.window(k, 240)) / (week * math.sqrt(240))
        for name, series, fast, slow, unit in (
            ("trend_60", self.g, 15, 60, sigma),
            ("trend_240", self.g, 60, 240, week),
            ("trend_1d", self.c, 240, 1380, week),
            ("trend_5d", self.c, 1380, 6900, week),
        ):
            means = [np.mean([series[j] for j in self.window(k, w)]) for w in (fast, slow)]
            out[name] = (means[0] - means[1]) / (unit * (1 - fast / slow) * math.sqrt(slow / 3))
        hour = [self.move[j] for j in self.window(k, 60)]
        out["efficiency_60"] = sum(hour) / sum(map(abs, hour))
        return out

    def levels(self, k, week):
        c, out, day = self.c[k], {}, week * math.sqrt(1380)
        today = self.today(k)
        yesterday = self.today(today[0] - 1)
        out["from_previous_close"] = (c - self.c[yesterday[-1]]) / day
        out["from_previous_high"] = (c - max(self.h[j] for j in yesterday)) / day
        out["from_previous_low"] = (c - min(self.l[j] for j in yesterday)) / day
        out["from_session_open"] = (c - self.o[today[0]]) / day
        high, low = max(self.h[j] for j in today), min(self.l[j] for j in today)
        out["range_position"] = (2 * c - high - low) / (high - low)
        out["session_range"] = (high - low) / day
        night = [j for j in today if self.minute[j] < 930]
        out["from_overnight_high"] = (c - max(self.h[j] for j in night)) / day
        out["from_overnight_low"] = (c - min(self.l[j] for j in night)) / day
        first = [j for j in today if 930 <= self.minute[j] < 960]
        rth = week * math.sqrt(390)
        out["from_opening_high"] = (c - max(self.h[j] for j in first)) / rth if first else 0
        out["from_opening_low"] = (c - min(self.l[j] for j in first)) / rth if first else 0
        later = [j for j in today if self.minute[j] >= 930]
        out["from_rth_open"] = (c - self.o[later[0]]) / rth if later else 0
        half = week * math.sqrt(30)
        out["opening_move"] = (self.c[first[-1]] - self.o[first[0]]) / half if first else 0
        return out

    def vwap(self, k, sigma, week):
        c, out, today = self.c[k], {}, self.today(k)
        typical = [(self.h[j] + self.l[j] + self.c[j]) / 3 for j in today]
        weights = [self.v[j] for j in today]
        mean = np.average(typical, weights=weights)
        spread = np.average((np.array(typical) - mean) ** 2, weights=weights)
        out["vwap_distance"] = (c - mean) / (week * math.sqrt(1380))
        out["vwap_z"] = (c - mean) / math.sqrt(spread + sigma**2 * self.bar)
        return out

    def activity(self, k, squares):
        out, bar, today = {}, self.bar, self.today(k)
        usual_sq, usual_v = self.usual(k, squares), self.usual(k, self.v)
        end = self.minute[k] + bar
        recent = [j for j in self.window(k, 30) if j >= today[0]]
        log = lambda a, b: math.log((a / b + 0.01) / 1.01)  # noqa: E731
        out["volatility_30_240"] = log(self.variance(k, 30), self.variance(k, 240)) / 2
        out["volatility_1d_20d"] = log(self.variance(k, 1380), self.variance(k, 27600)) / 2
        start = max(end - 30, 0)
        out["volatility_30_usual"] = (
            log(sum(squares[j] for j in recent), self.expected(usual_sq, start, end)) / 2
        )
        out["volatility_day_usual"] = (
            log(sum(squares[j] for j in today), self.expected(usual_sq, 0, end)) / 2
        )
        out["volume_bar_usual"] = log(self.v[k], self.expected(usual_v, end - bar, end))
        out["volume_30_usual"] = log(
            sum(self.v[j] for j in recent), self.expected(usual_v, start, end)
        )
        return out

    def shape_and_time(self, k, sigma):
        out, bar, end = {}, self.bar, self.minute[k] + self.bar
        o, h, low_, c = self.o[k], self.h[k], self.l[k], self.c[k]
        out["bar_body"] = (c - o) / (h - low_) if h > low_ else 0
        out["bar_wicks"] = (h - max(o, c) - min(o, c) + low_) / (h - low_) if h > low_ else 0
        out["bar_range"] = self.tr[k] / (sigma * math.sqrt(bar))
        half_hour = self.window(k, 30)
        signs = [(self.c[j] > self.o[j]) - (self.c[j] < self.o[j]) for j in half_hour]
        out["up_balance_30"] = sum(signs) / len(signs)
        out["time_sin"] = math.sin(2 * math.pi * end / 1440)
        out["time_cos"] = math.cos(2 * math.pi * end / 1440)
        out["is_rth"] = float(930 <= self.minute[k] < 1320)
        out["since_rth_open"] = (end - 930) / 390
        out["to_close"] = (1380 - end) / 1380
        out["weekday_sin"] = math.sin(2 * math.pi * self.session[k].weekday() / 5)
        out["weekday_cos"] = math.cos(2 * math.pi * self.session[k].weekday() / 5)
        return out

    def atr(self, k):
        n = max(len(self.window(k, 30)), min(14, k + 1))
        mean = sum(self.tr[k - n + 1 : k + 1]) / n
        return max(math.floor(mean + 0.5), 1)


@pytest.mark.parametrize("minutes", [1, 5])
def test_rows_equal_a_plain_calculation(minutes):
    bars = make_bars(minutes=minutes, seed=20 + minutes)
    is_lost = (bars.ts - bars.ts[0]) // (60 * MINUTE_NS) // 5 == 46  # five hours of one session
    assert 0 < is_lost.sum() < 301
    bars = take(bars, ~is_lost)
    got = compute_features(bars)
    plain = Plain(bars)
    rng = np.random.default_rng(minutes)
    start = int(np.flatnonzero(np.diff(bars.ts) > 60 * MINUTE_NS)[-3])
    rows = [start, start + 1, start + 2, int(np.argmax(bars.expiry)), len(bars) - 1]
    for k in [*rows, *rng.integers(got.n_warmup, len(bars), 12)]:
        want = plain.row(int(k))
        assert tuple(want) == FEATURE_NAMES
        np.testing.assert_allclose(
            got.table[k],
            np.clip(list(want.values()), -5, 5),
            atol=1e-5,
            err_msg=f"row {k} of {minutes}-minute bars: {FEATURE_NAMES}",
        )
    for k in [0, 1, 5, 13, 14, *rows, *rng.integers(0, len(bars), 50)]:
        assert got.atr_ticks[k] == plain.atr(int(k)), k


# --- real bars ------------------------------------------------------------------------------------


def real_gold(start, stop):
    path = ROOT / ".." / "shared" / "data" / "series" / "gc_1m_2015_2022.parquet"
    if not path.exists():
        pytest.skip("the real gold bars are not beside the repository: ../shared/data/series")
    frame = pl.scan_parquet(path).slice(start, stop - start).collect()
    months = frame["contract"].cast(pl.String)
    expiries = tuple(months.unique(maintain_order=True))
    ticks = [
        np.rint(frame[name].to_numpy() * 10).astype(np.int32)
        for name in ("open", "high", "low", "close")
    ]
    return Bars(
        contract=contract("GC", "0.1", "metals"),
        bar_ns=MINUTE_NS,
        ts=frame["ts"].cast(pl.Datetime("ns", "UTC")).cast(pl.Int64).to_numpy(),
        open=ticks[0],
        high=ticks[1],
        low=ticks[2],
        close=ticks[3],
        volume=frame["volume"].cast(pl.Int64).to_numpy(),
        expiry=np.array([expiries.index(month) for month in months], np.int16),
        expiries=expiries,
    )


@pytest.mark.real
def test_real_gold_is_causal_bounded_and_of_unit_size():
    bars = real_gold(1_150_000, 1_230_000)
    assert len(bars.expiries) > 1
    got = compute_features(bars)
    table = got.table[got.n_warmup :]
    assert np.isfinite(table).all()
    spread = dict(zip(got.names, table.std(axis=0), strict=True))
    for name in ("return_bar", "return_5", "return_60", "return_240", "trend_60", "vwap_z"):
        assert 0.5 < spread[name] < 1.5, name
    assert (np.abs(table) >= 5).mean() < 0.005
    k = 55_555
    assert_same_to_the_bit(compute_features(bars.slice(0, k + 1)), got, k + 1)
    bad = garbage_after(bars, k, np.random.default_rng(5))
    assert_same_to_the_bit(compute_features(bad), got, k + 1)
