"""The features themselves, in groups; docs/features.md is the table of them.

Each group takes a block of rows and yields names with values, unclipped; [N]. All are free of
scale: a price difference is divided by a volatility, a volume by a usual volume.
"""

from collections.abc import Iterator

import numpy as np

from passline.task.features.frame import (
    FAR,
    MINUTE_NS,
    RTH_END_NS,
    RTH_START_NS,
    Ints,
)
from passline.task.features.rows import DAY_MINUTES, WEEK_MINUTES, Floats, Rows, log_ratio, ratio

__all__ = ["GROUPS"]

Named = Iterator[tuple[str, Floats]]

DAYS_20_MINUTES = 20 * DAY_MINUTES
RTH_MINUTES = (RTH_END_NS - RTH_START_NS) / MINUTE_NS


def returns(rows: Rows) -> Named:
    """Price changes without session gaps, over the volatility of their horizon."""
    sums = rows.frame.sums
    bar = sums.move[rows.end] - sums.move[rows.end - 1]
    yield "return_bar", ratio(bar, rows.sigma * np.sqrt(rows.bar_minutes))
    for minutes in (5, 15, 30, 60, 240):
        sigma = rows.sigma_week if minutes > 60 else rows.sigma
        change = rows.total(sums.move, rows.begin(minutes))
        yield f"return_{minutes}", ratio(change, sigma * np.sqrt(max(minutes, rows.bar_minutes)))


def trends(rows: Rows) -> Named:
    """A fast moving average above a slow one, and how straight the price went.

    For a random walk of volatility s a minute the difference of means over f and w minutes has the
    standard deviation s (1 - f/w) sqrt(w/3), by which it is divided.
    """
    sums = rows.frame.sums
    for name, fast, slow, level, sigma in (
        ("trend_60", 15, 60, sums.move_level, rows.sigma),
        ("trend_240", 60, 240, sums.move_level, rows.sigma_week),
        ("trend_1d", 240, DAY_MINUTES, sums.close, rows.sigma_week),
        ("trend_5d", DAY_MINUTES, WEEK_MINUTES, sums.close, rows.sigma_week),
    ):
        apart = rows.mean(level, rows.begin(fast)) - rows.mean(level, rows.begin(slow))
        yield name, ratio(apart, sigma * ((1 - fast / slow) * np.sqrt(slow / 3)))
    begin = rows.begin(60)
    yield "efficiency_60", ratio(rows.total(sums.move, begin), rows.total(sums.move_abs, begin))


def levels(rows: Rows) -> Named:
    """Distances to prices that traders watch, over the volatility of a day or of its rth."""
    prices = rows.frame.prices
    is_later = rows.session > 0
    last_before = np.maximum(rows.session_begin - 1, 0)
    for name, level in (
        ("from_previous_close", prices.close[last_before]),
        ("from_previous_high", prices.session_high[last_before]),
        ("from_previous_low", prices.session_low[last_before]),
    ):
        yield name, ratio(np.where(is_later, rows.close - level, 0), rows.daily)
    yield "from_session_open", ratio(rows.close - prices.open[rows.session_begin], rows.daily)
    high, low = prices.session_high[rows.cut], prices.session_low[rows.cut]
    yield "range_position", ratio(2 * rows.close - high - low, high - low)
    yield "session_range", ratio(high - low, rows.daily)
    for name, extreme, minutes in (
        ("from_overnight_high", prices.overnight_high, DAY_MINUTES),
        ("from_overnight_low", prices.overnight_low, DAY_MINUTES),
        ("from_opening_high", prices.opening_high, RTH_MINUTES),
        ("from_opening_low", prices.opening_low, RTH_MINUTES),
    ):
        level = extreme[rows.cut]
        apart = np.where(np.abs(level) < FAR // 2, rows.close - level, 0)
        yield name, ratio(apart, rows.sigma_week * np.sqrt(minutes))


def opening(rows: Rows) -> Named:
    """The move since 09:30 Eastern and the move of the first half hour from there."""
    prices, here = rows.frame.prices, rows.end - 1
    start = rows.frame.rth_first[rows.session]
    end = rows.frame.opening_end[rows.session]
    first = prices.open[np.minimum(start, here)]
    move = np.where(here >= start, rows.close - first, 0)
    yield "from_rth_open", ratio(move, rows.sigma_week * np.sqrt(RTH_MINUTES))
    until = prices.close[np.minimum(here, np.maximum(end - 1, 0))]
    move = np.where((here >= start) & (end > start), until - first, 0)
    yield "opening_move", ratio(move, rows.sigma_week * np.sqrt(30))


def vwap(rows: Rows) -> Named:
    """Distance to the session's VWAP, in daily volatilities and in its own standard deviations."""
    sums, begin = rows.frame.sums, rows.session_begin
    volume = rows.total(sums.volume, begin)
    is_weighted = (volume > 0) & (rows.total(sums.unknown, begin) == 0)

    def choose(weighted: Ints, plain: Ints) -> Ints:
        return np.where(is_weighted, rows.total(weighted, begin), rows.total(plain, begin))

    weight = np.where(is_weighted, volume, rows.end - begin)
    mean = choose(sums.volume_typical, sums.typical) / weight
    square = choose(sums.volume_typical_sq, sums.typical_sq) / weight
    apart = (rows.close - rows.frame.prices.open[begin]) - mean / 3
    variance = np.maximum(square - mean**2, 0) / 9 + rows.sigma**2 * rows.bar_minutes
    yield "vwap_distance", ratio(apart, rows.daily)
    yield "vwap_z", ratio(apart, np.sqrt(variance))


def volatility(rows: Rows) -> Named:
    """The state of volatility: logs of ratios of volatilities."""
    square = rows.frame.sums.move_sq
    minute, session, usual = rows.close_minute_ns, rows.session, rows.usual_sq
    yield "volatility_30_240", log_ratio(rows.variance(30), rows.variance(240)) / 2
    slow = rows.variance(DAYS_20_MINUTES)
    yield "volatility_1d_20d", log_ratio(rows.variance(DAY_MINUTES), slow) / 2
    expected = usual.up_to(session, minute)
    recent = expected - usual.up_to(session, np.maximum(minute - 30 * MINUTE_NS, 0))
    seen = rows.total(square, rows.begin_in_session(30))
    yield "volatility_30_usual", log_ratio(seen, recent) / 2
    yield "volatility_day_usual", log_ratio(rows.total(square, rows.session_begin), expected) / 2


def volume(rows: Rows) -> Named:
    """Volume against what is usual at the time of day; 0 where the source has no volume."""
    sums = rows.frame.sums
    minute, session, usual = rows.close_minute_ns, rows.session, rows.usual_volume
    expected = usual.up_to(session, minute)
    for name, begin, since in (
        ("volume_bar_usual", rows.end - 1, rows.open_minute_ns),
        ("volume_30_usual", rows.begin_in_session(30), np.maximum(minute - 30 * MINUTE_NS, 0)),
    ):
        usually = expected - usual.up_to(session, since)
        is_known = rows.total(sums.unknown, begin) == 0
        yield name, log_ratio(rows.total(sums.volume, begin), np.where(is_known, usually, 0.0))


def bar_shape(rows: Rows) -> Named:
    """The last bar's body, wicks and range, and the balance of up and down bars."""
    prices, sums = rows.frame.prices, rows.frame.sums
    open_, high, low = prices.open[rows.cut], prices.high[rows.cut], prices.low[rows.cut]
    yield "bar_body", ratio(rows.close - open_, high - low)
    wicks = (high - np.maximum(open_, rows.close)) - (np.minimum(open_, rows.close) - low)
    yield "bar_wicks", ratio(wicks, high - low)
    unit = rows.sigma * np.sqrt(rows.bar_minutes)
    yield "bar_range", ratio(prices.true_range[rows.cut], unit)
    yield "up_balance_30", rows.mean(sums.direction, rows.begin(30))


def calendar(rows: Rows) -> Named:
    """Where in the day and the week the bar closes."""
    minute = rows.close_minute_ns / MINUTE_NS
    angle = minute * (2 * np.pi / 1440)
    yield "time_sin", np.sin(angle)
    yield "time_cos", np.cos(angle)
    open_ns = rows.open_minute_ns
    yield "is_rth", ((open_ns >= RTH_START_NS) & (open_ns < RTH_END_NS)).astype(np.float64)
    yield "since_rth_open", (minute - RTH_START_NS / MINUTE_NS) / RTH_MINUTES
    yield "to_close", rows.frame.to_close_ns[rows.cut] / (DAY_MINUTES * MINUTE_NS)
    day = rows.frame.weekday[rows.cut] * (2 * np.pi / 5)
    yield "weekday_sin", np.sin(day)
    yield "weekday_cos", np.cos(day)


GROUPS = (returns, trends, levels, opening, vwap, volatility, volume, bar_shape, calendar)
