"""The built-in market: seeded one-minute bars of a fictitious contract, with or without an edge.

The bars keep the real equity-index calendar, a tick grid, a daily shape of volatility and volume,
volatility that clusters within and across days, fat tails, small gaps between sessions and
minutes of the night without a trade. A planted drift, a function of what anyone can see on bars
at or before the present one, is the only predictable thing in them; at strength 0 the price is a
symmetric martingale. The drift never enters the bars' columns: it is the oracle's knowledge.
"""

from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.market.bars import Bars
from passline.market.clock import MINUTE_NS
from passline.market.contract import Contract
from passline.market.noise import MOMENTS, N_SLOTS, Grid, Noise, draw_noise, lay_out
from passline.market.planted import MECHANISMS, Mechanism, Observed, planted_drift

__all__ = [
    "MECHANISMS",
    "SYN",
    "Mechanism",
    "SyntheticConfig",
    "SyntheticMarket",
    "oracle_signal",
    "synthesize",
]

SYN = Contract(
    symbol="SYN",
    name="Synthetic index (fictitious)",
    exchange="none",
    tick_size=Decimal("0.25"),
    tick_mills=2_500,
    size_units=10,
    calendar="equity",
    commission_mills=1_990,
    slippage_ticks=1,
)
"""The contract that the built-in market trades; it exists nowhere else."""


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What the built-in market is to look like.

    Attributes:
        mechanism: rule of the planted drift: vwap_reversion pulls the price to the session's
            VWAP; open_momentum carries the first half hour of the day session on until 14:00 ET;
            volatility_drift continues the last hour's move when the range of the last minutes is
            above that of the last hours, and reverses it when it is below.
        strength: size of the drift; 1 is the default edge, 0 the null, negative its mirror.
        start_date: first trade date.
        end_date: trade date after the last one.
        daily_sigma_ticks: median standard deviation of a full session's move, ticks.
        day_vol: standard deviation of the logarithm of the daily volatility, which clusters.
        start_price_ticks: price before the first session, ticks.
    """

    mechanism: Mechanism = "vwap_reversion"
    strength: float = 1.0
    start_date: date = date(2020, 1, 1)
    end_date: date = date(2025, 1, 1)
    daily_sigma_ticks: float = 480.0
    day_vol: float = 0.25
    start_price_ticks: int = 80_000

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            ConfigError: naming the field, its value and what is allowed.
        """
        if self.mechanism not in MECHANISMS:
            raise ConfigError(
                f"synthetic.mechanism: unknown mechanism {self.mechanism!r}. "
                f"Known mechanisms: {', '.join(MECHANISMS)}."
            )
        for name, value, low, high in (
            ("strength", self.strength, -5.0, 5.0),
            ("daily_sigma_ticks", self.daily_sigma_ticks, 40.0, 5_000.0),
            ("day_vol", self.day_vol, 0.0, 1.0),
            ("start_price_ticks", self.start_price_ticks, 1_000, 10_000_000),
        ):
            if not low <= value <= high:
                raise ConfigError(
                    f"synthetic.{name}: was {value}; allowed is {low} to {high}. Change it."
                )
        if self.start_date >= self.end_date:
            raise ConfigError(
                f"synthetic.end_date: was {self.end_date}, not after start_date "
                f"{self.start_date}. Choose a later date; it is not included."
            )


@dataclass(frozen=True, kw_only=True)
class SyntheticMarket:
    """A built-in market and what only its maker knows.

    Attributes:
        bars: the tape, one-minute bars of SYN.
        drift: expected move from the close of bar k to the close of bar k + 1, ticks, a function
            of bars <= k; 0 where bar k + 1 opens another session; float32 [B].
        config: what was asked for.
        seed: of the noise, which is the same for every mechanism and strength.
    """

    bars: Bars
    drift: NDArray[np.float32]
    config: SyntheticConfig
    seed: int


def oracle_signal(
    market: SyntheticMarket,
    *,
    threshold_ticks: float,
    threshold_atr: float = 0.0,
    atr_ticks: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.int8]:
    """Returns the side that the best simple rule on the hidden drift wants at each close.

    A side is wanted where |drift| >= threshold_ticks + threshold_atr · atr_ticks. The first term
    asks for the costs, the second for an edge in units of the bracket's distances; both are to be
    chosen on training dates.

    Args:
        market: a market with its drift.
        threshold_ticks: least expected move a bar, ticks.
        threshold_atr: what it must exceed that by, in average true ranges.
        atr_ticks: average true range at each close, ticks [B]; needed with threshold_atr.

    Returns:
        1 long, -1 short, 0 no wish; int8 [B].

    Raises:
        ConfigError: threshold_atr without atr_ticks.
    """
    least: Any = threshold_ticks
    if threshold_atr:
        if atr_ticks is None:
            raise ConfigError(
                f"oracle: threshold_atr was {threshold_atr} without atr_ticks. Pass the average "
                "true range of each bar, or leave threshold_atr at 0."
            )
        least = threshold_ticks + threshold_atr * atr_ticks
    is_wanted = (market.drift != 0) & (np.abs(market.drift) >= least)
    return np.where(is_wanted, np.sign(market.drift), 0.0).astype(np.int8)


def synthesize(config: SyntheticConfig, *, seed: int) -> SyntheticMarket:
    """Draws a market; the same config and seed give the same bars, bit for bit.

    The noise depends on the seed, start_date, daily_sigma_ticks and day_vol alone, so that markets
    of different strength are paired, and a later end_date only appends bars.

    Raises:
        ConfigError: no session lies between the dates, or the price fell below one tick.
        BarsError: the calendar does not reach the dates.
    """
    grid = lay_out(SYN.calendar, config.start_date, config.end_date)
    noise = draw_noise(
        grid, daily_sigma_ticks=config.daily_sigma_ticks, day_vol=config.day_vol, seed=seed
    )
    walk = _walk(noise, config)
    return SyntheticMarket(
        bars=_collect(grid, noise, walk, config, seed),
        drift=np.ascontiguousarray(walk.drift.T[noise.has_bar.T]),
        config=config,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """Bars in ticks from each session's start, int32, and their drift, all [N_SLOTS, D]."""

    ohlc: NDArray[np.int32]
    drift: NDArray[np.float32]
    last: NDArray[np.int64]


def _walk(noise: Noise, config: SyntheticConfig) -> _Walk:
    """Walks all sessions side by side, minute by minute, each drift known before its minute.

    The price of a slot without a trade does not move, and the close that is seen is the price, so
    that with strength 0 the tape is a martingale on the tick grid.
    """
    n_slots, n_days = noise.has_bar.shape
    seen = Observed(n_slots, n_days)
    drift = np.zeros(n_days)
    ohlc = np.zeros((4, n_slots, n_days), np.int32)
    out = np.zeros((n_slots, n_days), np.float32)
    fraction = MOMENTS.astype(np.float64)[:, None]
    for slot in range(n_slots):
        is_bar = noise.has_bar[slot]
        bar = _bar(seen.close + noise.steps[slot] + drift * fraction)
        ohlc[:, slot] = bar
        seen.see(slot, bar, noise.volume[slot].astype(np.float64), is_bar)
        drift = config.strength * planted_drift(config.mechanism, seen, slot)
        out[slot] = drift
    last_slot = n_slots - 1 - np.argmax(noise.has_bar[::-1], axis=0)
    out[last_slot, np.arange(n_days)] = 0.0
    return _Walk(ohlc=ohlc, drift=out, last=np.rint(seen.close).astype(np.int64))


def _bar(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns open, high, low and close [4, D] on the tick grid of a minute's points.

    A price counts as reached when the path came up, or down, to it, not when it was nearest.
    """
    opened, close = np.rint(points[0]), np.rint(points[-1])
    high = np.maximum(np.floor(points.max(axis=0)), np.maximum(opened, close))
    low = np.minimum(np.ceil(points.min(axis=0)), np.minimum(opened, close))
    return np.stack([opened, high, low, close])


def _collect(grid: Grid, noise: Noise, walk: _Walk, config: SyntheticConfig, seed: int) -> Bars:
    """Joins the sessions into one tape."""
    ends = config.start_price_ticks + np.cumsum(noise.gap_ticks + walk.last)
    base = (ends - walk.last).astype(np.int32)
    has_bar = noise.has_bar.T
    columns = [np.ascontiguousarray((base + ticks).T[has_bar]) for ticks in walk.ohlc]
    if columns[2].min() < 1:
        raise ConfigError(
            f"synthetic.start_price_ticks: from {config.start_price_ticks} ticks the price fell "
            f"to {columns[2].min()}; it must stay above 0. Raise it or lower daily_sigma_ticks."
        )
    ts = (grid.first_ns[:, None] + np.arange(N_SLOTS, dtype=np.int64) * MINUTE_NS)[has_bar]
    settings = asdict(config) | {
        "start_date": config.start_date.isoformat(),
        "end_date": config.end_date.isoformat(),
    }
    return Bars(
        contract=SYN,
        bar_ns=MINUTE_NS,
        ts=ts,
        open=columns[0],
        high=columns[1],
        low=columns[2],
        close=columns[3],
        volume=np.ascontiguousarray(noise.volume.T[has_bar]),
        expiry=np.zeros(len(ts), np.int16),
        provenance={"source": "built-in market", "seed": seed} | settings,
    )
