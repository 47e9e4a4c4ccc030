"""The chance in the built-in market: when it trades, how much it moves and how much is traded.

Everything here is drawn before any drift and does not depend on one. What is planted in the market
is in `passline.market.planted`, the price itself in `passline.market.synthetic`.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.market.calendar import Sessions, load_calendar, session_minute
from passline.market.clock import DAY_NS, EPOCH, MINUTE_NS

__all__ = ["MOMENTS", "N_SLOTS", "Grid", "Noise", "draw_noise", "lay_out"]

N_SLOTS = 1_380
"""Minutes of a full session, 18:00 to 17:00 ET; slot 0 starts at 18:00 ET."""

_F32 = NDArray[np.float32]
_RTH = slice(930, 1_320)
"""Slots of 09:30 to 16:00 ET."""

_VOLATILITY_SHAPE = (
    (0, 0.50), (30, 0.36), (240, 0.34), (480, 0.36), (545, 0.55), (660, 0.50), (810, 0.55),
    (870, 0.75), (925, 0.70), (930, 1.75), (960, 1.40), (1020, 1.05), (1110, 0.80), (1200, 0.85),
    (1290, 1.10), (1315, 1.40), (1321, 0.60), (1379, 0.45),
)  # fmt: skip
"""Standard deviation of a minute's move by slot, relative; straight lines between the points."""

_KNOTS = np.array([1 / 24, 1 / 3, 2 / 3, 1.0], np.float32)
"""Fractions of a minute at which the price is drawn; the first is the open, the last the close."""
_MIDDLES = (_KNOTS[1:] + _KNOTS[:-1]) / 2
MOMENTS = np.concatenate((_KNOTS[:1], _MIDDLES, _MIDDLES, _KNOTS[1:]))
"""Moments of a minute's points: open, highs between the knots, lows, later knots to the close."""

_DAY_PERSISTENCE = 0.97
_INTRADAY_VOL = 0.30
_INTRADAY_PERSISTENCE = 0.985
_TAIL_DOF = 5.0
_OVERNIGHT_GAP = 0.06
"""Standard deviation of the gap over the daily break, in daily standard deviations."""
_WEEKEND_GAP = 0.15
"""The same over any longer closure."""
_BASE_VOLUME = 2_000.0
_VOLUME_NOISE = 0.35
_QUIET_VOLUME = 75.0
"""A minute of expected volume v has no trade with probability exp(-v / this)."""
_LONG_BREAK_NS = 360 * MINUTE_NS
_BLOCK = 64
"""Sessions whose noise is drawn at a time, which bounds memory."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Sessions [D] on the slots of a full session [N_SLOTS].

    Attributes:
        first_ns: UTC time of slot 0, whether or not the session is open then; int64 [D].
        is_open: the exchange trades in the slot [N_SLOTS, D].
        is_long_break: more than the daily break lies before the session [D].
    """

    first_ns: NDArray[np.int64]
    is_open: NDArray[np.bool_]
    is_long_break: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Everything that chance decides, before any drift.

    Attributes:
        steps: price relative to the previous close at each of a minute's MOMENTS, ticks
            [N_SLOTS, points, D].
        volume: contracts a minute; int64 [N_SLOTS, D].
        has_bar: the session is open and the minute saw a trade [N_SLOTS, D].
        gap_ticks: open of each session less the close of the one before; int64 [D].
    """

    steps: _F32
    volume: NDArray[np.int64]
    has_bar: NDArray[np.bool_]
    gap_ticks: NDArray[np.int64]


def lay_out(calendar_name: str, start_date: date, end_date: date) -> Grid:
    """Finds the sessions whose trade date lies in [start_date, end_date).

    Raises:
        BarsError: the calendar does not reach the dates.
        ConfigError: no session lies between them.
    """
    start, end = ((d - EPOCH).days for d in (start_date, end_date))
    calendar = load_calendar(calendar_name)
    calendar.require_covered(start_date, end_date - timedelta(days=1))
    sessions = calendar.sessions((start - 4) * DAY_NS, (end + 4) * DAY_NS)
    inside = np.flatnonzero((sessions.trade_date >= start) & (sessions.trade_date < end))
    if len(inside) == 0:
        raise ConfigError(
            f"synthetic: no session from {start_date} to before {end_date}. "
            "Choose dates further apart."
        )
    sessions = sessions.slice(int(inside[0]), int(inside[-1]) + 1)
    first_ns = sessions.open_ns - session_minute(sessions.open_ns) * MINUTE_NS
    closed_ns = sessions.open_ns[1:] - sessions.close_ns[:-1]
    return Grid(
        first_ns=first_ns,
        is_open=_open_slots(sessions, first_ns),
        is_long_break=np.append(False, closed_ns > _LONG_BREAK_NS),
    )


def _open_slots(sessions: Sessions, first_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks the slots that lie in their session and outside its halt [N_SLOTS, D]."""
    ts = first_ns + np.arange(N_SLOTS, dtype=np.int64)[:, None] * MINUTE_NS
    is_open = (ts >= sessions.open_ns) & (ts + MINUTE_NS <= sessions.close_ns)
    is_paused = (ts >= sessions.pause_start_ns) & (ts < sessions.pause_end_ns)
    return is_open & ~is_paused


def draw_noise(grid: Grid, *, daily_sigma_ticks: float, day_vol: float, seed: int) -> Noise:
    """Draws the noise, day by day in time order, one stream of random numbers a purpose.

    A minute's standard deviation is the product of the daily shape, the day's volatility (its
    logarithm an AR(1) over days), a factor within the day (its logarithm an AR(1) over minutes)
    and a burst that makes the moves Student-t. Volume follows the same factors.

    Args:
        grid: sessions and their open minutes.
        daily_sigma_ticks: median standard deviation of a full session's move, ticks.
        day_vol: standard deviation of the logarithm of the day's volatility.
        seed: of every stream.
    """
    n_days = len(grid.first_ns)
    days, path, reach, vol, tail, amount, silence = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)
    )
    shape = np.interp(np.arange(N_SLOTS), *np.transpose(_VOLATILITY_SHAPE))
    shape /= np.sqrt(np.sum(shape**2))
    typical_volume = _BASE_VOLUME * (shape / shape[_RTH].mean())[:, None] ** 2
    day_draws = days.standard_normal((n_days, 2))
    day_factor = np.exp(day_vol * _autoregression(day_draws[:, :1], _DAY_PERSISTENCE)[:, 0])
    gap = np.where(grid.is_long_break, _WEEKEND_GAP, _OVERNIGHT_GAP) * day_factor * day_draws[:, 1]
    steps = np.empty((N_SLOTS, len(MOMENTS), n_days), np.float32)
    volume = np.empty((N_SLOTS, n_days), np.int64)
    has_bar = np.empty((N_SLOTS, n_days), np.bool_)
    for start in range(0, n_days, _BLOCK):
        cut = slice(start, min(start + _BLOCK, n_days))
        size = (cut.stop - start, N_SLOTS)
        clustered = np.exp(
            _INTRADAY_VOL * _autoregression(_normals(vol, size), _INTRADAY_PERSISTENCE)
        )
        burst = np.sqrt((_TAIL_DOF / 2 - 1) / tail.standard_gamma(_TAIL_DOF / 2, size).T)
        sigma = daily_sigma_ticks * shape[:, None] * day_factor[cut] * clustered * burst
        steps[:, :, cut] = _paths(path, reach, size) * sigma[:, None, :]
        expected = typical_volume * day_factor[cut] * clustered
        traded = expected * np.sqrt(burst) * np.exp(_VOLUME_NOISE * _normals(amount, size))
        volume[:, cut] = np.maximum(np.rint(traded), 1)
        chance = silence.random(size).T
        has_bar[:, cut] = grid.is_open[:, cut] & (chance >= np.exp(-expected / _QUIET_VOLUME))
    return Noise(
        steps=steps,
        volume=volume,
        has_bar=has_bar,
        gap_ticks=np.rint(daily_sigma_ticks * gap).astype(np.int64),
    )


def _normals(rng: np.random.Generator, size: tuple[int, int]) -> _F32:
    """Draws standard normals day after day, returned as [N_SLOTS, days]."""
    return rng.standard_normal(size, dtype=np.float32).T


def _paths(path: np.random.Generator, reach: np.random.Generator, size: tuple[int, int]) -> _F32:
    """Draws Brownian motion over a minute of unit variance [N_SLOTS, points, days].

    Between two knots a and b that lie a variance s apart, the highest point of the continuous path
    is (a + b + √((b − a)² + 2 s E)) / 2 with E exponential (the maximum of a Brownian bridge), the
    lowest likewise. A stop that a bar meets was therefore met on the way, not jumped over.
    """
    spread = np.diff(_KNOTS, prepend=np.float32(0))
    draws = path.standard_normal((*size, len(_KNOTS)), dtype=np.float32)
    knots = np.cumsum(draws * np.sqrt(spread), axis=2).transpose(1, 2, 0)
    chance = reach.standard_exponential((*size, 2 * len(_MIDDLES)), dtype=np.float32)
    extent = 2 * chance.transpose(1, 2, 0) * np.tile(spread[1:], 2)[:, None]
    extent += np.tile(np.diff(knots, axis=1) ** 2, (1, 2, 1))
    np.sqrt(extent, out=extent)
    both_ends = knots[:, 1:] + knots[:, :-1]
    highs = (both_ends + extent[:, : len(_MIDDLES)]) / 2
    lows = (both_ends - extent[:, len(_MIDDLES) :]) / 2
    return np.concatenate((knots[:, :1], highs, lows, knots[:, 1:]), axis=1)


def _autoregression(draws: NDArray[Any], persistence: float) -> NDArray[Any]:
    """Returns the stationary AR(1) of unit variance along axis 0, driven by standard normals."""
    out = np.empty_like(draws)
    out[0] = draws[0]
    fresh = np.sqrt(1 - persistence**2)
    for i in range(1, len(draws)):
        out[i] = persistence * out[i - 1] + fresh * draws[i]
    return out
