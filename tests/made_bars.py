"""Bars made by hand on the Eastern clock, for tests that look at times and single bars."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from passline.market.bars import Bars
from passline.market.clock import MINUTE_NS
from passline.market.contract import Contract

EASTERN = ZoneInfo("America/New_York")

INDEX = Contract(
    symbol="ES",
    name="An equity index",
    exchange="CME",
    tick_size=Decimal("0.25"),
    tick_mills=12_500,
    size_units=10,
    calendar="equity",
    commission_mills=2_000,
    slippage_ticks=1,
)


def eastern_ns(text: str) -> int:
    """Reads "2024-01-09 16:58" on the Eastern clock as UTC ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=EASTERN).timestamp()) * 10**9


def bars_of(
    *spans: tuple[str, str], minutes: int = 1, price: int = 20_000, contract: Contract = INDEX
) -> Bars:
    """Makes quiet bars that open in each span [first, stop) of the Eastern clock."""
    size = minutes * MINUTE_NS
    ts = np.concatenate([np.arange(eastern_ns(a), eastern_ns(b), size) for a, b in spans])
    flat = np.full(len(ts), price, np.int32)
    return Bars(
        contract=contract,
        bar_ns=size,
        ts=ts.astype(np.int64),
        open=flat,
        high=flat + 1,
        low=flat - 1,
        close=flat,
        volume=np.full(len(ts), 10, np.int64),
        expiry=np.zeros(len(ts), np.int16),
    )


def take(bars: Bars, index: np.ndarray) -> Bars:
    """Returns the chosen bars."""
    names = ("ts", "open", "high", "low", "close", "volume", "expiry")
    return replace(bars, **{name: getattr(bars, name)[index] for name in names})


def without(bars: Bars, *spans: tuple[str, str]) -> Bars:
    """Drops the bars that open in the spans."""
    keep = np.ones(len(bars), bool)
    for first, stop in spans:
        keep &= (bars.ts < eastern_ns(first)) | (bars.ts >= eastern_ns(stop))
    return take(bars, keep)


def clock_of(bars: Bars, where: np.ndarray) -> list[str]:
    """Tells when the chosen bars open, as "01-09 16:58" on the Eastern clock."""
    chosen: Sequence[int] = bars.ts[where].tolist()
    return [datetime.fromtimestamp(t // 10**9, EASTERN).strftime("%m-%d %H:%M") for t in chosen]


def garbage_after(bars: Bars, k: int, rng: np.random.Generator, *, drops: bool) -> Bars:
    """Puts other prices, volumes and months after bar k, and drops a third of them if asked."""
    n = len(bars) - k - 1
    price = rng.integers(60_000, 90_000, n).astype(np.int32)
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    columns["open"][k + 1 :] = price
    columns["close"][k + 1 :] = price + rng.integers(-50, 50, n)
    columns["high"][k + 1 :] = price + 60
    columns["low"][k + 1 :] = price - 60
    volume, expiry = bars.volume.copy(), bars.expiry.copy()
    volume[k + 1 :] = rng.integers(0, 10**6, n)
    expiry[k + 1 :] = len(bars.expiries)
    bad = replace(bars, **columns, volume=volume, expiry=expiry, expiries=(*bars.expiries, "other"))
    keep = np.ones(len(bars), bool)
    if drops:
        keep[k + 1 :] = rng.random(n) > 1 / 3
    return take(bad, keep)
