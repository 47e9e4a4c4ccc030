"""The planted drifts of the built-in market: rules on what a trader can see, and nothing else.

Each rule returns the expected move of the next bar from the bars of the session so far, for many
sessions at once. The market that follows them is walked in `passline.market.synthetic`.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["MECHANISMS", "Mechanism", "Observed", "planted_drift"]

Mechanism = Literal["vwap_reversion", "open_momentum", "volatility_drift"]
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)

_F64 = NDArray[np.float64]

FAST, SCALE, SLOW = 15.0, 60.0, 120.0
"""Lengths, in bars, of the three exponential means of the true range."""
WARM_UP = 30
"""Bars of a session before any drift sets in."""
VWAP_EDGE, VWAP_REACH = 0.065, 6.0
OPEN_EDGE, OPEN_REACH = 0.045, 3.0
OPEN_FROM, OPEN_START, OPEN_STOP = 930, 960, 1_200
"""Slots of 09:30, 10:00 and 14:00 ET."""
STATE_EDGE, STATE_REACH, STATE_WIDTH, STATE_LOOKBACK = 0.085, 4.0, 0.15, 60


class Observed:
    """What a trader has seen of each session up to a slot; ticks from the session's start, [D].

    Attributes:
        close: last close.
        n_bars: bars seen.
        fast, scale, slow: exponential means of the true range, plain means until full.
        vwap: mean of (high + low + close) / 3 weighted by volume.
        closes: last close at the end of each slot, before the first bar its open [n_slots, D].
    """

    def __init__(self, n_slots: int, n_days: int) -> None:
        self.close = np.zeros(n_days)
        self.n_bars = np.zeros(n_days)
        self.fast, self.scale, self.slow = (np.zeros(n_days) for _ in range(3))
        self.vwap = np.zeros(n_days)
        self.closes = np.zeros((n_slots, n_days))
        self._volume = np.zeros(n_days)

    def see(self, slot: int, ohlc: _F64, volume: _F64, is_bar: NDArray[np.bool_]) -> None:
        """Takes in the bars of one slot, ohlc [4, D], where there is one."""
        opened, high, low, close = ohlc
        is_first = self.n_bars == 0
        is_new = is_first & is_bar
        if is_new.any():
            self.closes[:slot, is_new] = opened[is_new]
        top = np.where(is_first, high, np.maximum(high, self.close))
        bottom = np.where(is_first, low, np.minimum(low, self.close))
        self.n_bars += is_bar
        true_range = top - bottom
        count = np.maximum(self.n_bars, 1)
        for mean, length in ((self.fast, FAST), (self.scale, SCALE), (self.slow, SLOW)):
            np.add(mean, is_bar * (true_range - mean) / np.minimum(count, length), out=mean)
        weight = volume * is_bar
        self._volume += weight
        self.vwap += weight * ((high + low + close) / 3 - self.vwap) / np.maximum(self._volume, 1)
        self.close = np.where(is_bar, close, self.close)
        self.closes[slot] = self.close


def _bounded(move: _F64, reach: _F64) -> _F64:
    """Returns move / reach kept within [-1, 1]."""
    return np.clip(move / np.maximum(reach, 1.0), -1.0, 1.0)


def _vwap_reversion(seen: Observed, slot: int) -> _F64:
    """-edge · scale · bounded((close - vwap) / (reach · scale)), ticks a bar."""
    away = _bounded(seen.close - seen.vwap, VWAP_REACH * seen.scale)
    return -VWAP_EDGE * seen.scale * away


def _open_momentum(seen: Observed, slot: int) -> _F64:
    """Edge · scale · bounded(move of 09:30-10:00 / (reach · scale)) from 10:00 to 14:00 ET."""
    if not OPEN_START - 1 <= slot < OPEN_STOP:
        return np.zeros_like(seen.close)
    move = seen.closes[OPEN_START - 1] - seen.closes[OPEN_FROM - 1]
    return OPEN_EDGE * seen.scale * _bounded(move, OPEN_REACH * seen.scale)


def _volatility_drift(seen: Observed, slot: int) -> _F64:
    """Edge · scale · bounded(log(fast / slow) / width) · bounded(hour's move / (reach · scale))."""
    if slot < STATE_LOOKBACK:
        return np.zeros_like(seen.close)
    ratio = np.maximum(seen.fast, 1.0) / np.maximum(seen.slow, 1.0)
    state = np.clip(np.log(ratio) / STATE_WIDTH, -1.0, 1.0)
    move = seen.close - seen.closes[slot - STATE_LOOKBACK]
    return STATE_EDGE * seen.scale * state * _bounded(move, STATE_REACH * seen.scale)


_RULES: dict[Mechanism, Callable[[Observed, int], _F64]] = {
    "vwap_reversion": _vwap_reversion,
    "open_momentum": _open_momentum,
    "volatility_drift": _volatility_drift,
}


def planted_drift(mechanism: Mechanism, seen: Observed, slot: int) -> _F64:
    """Returns the expected move of the next bar at strength 1, ticks [D].

    Args:
        mechanism: the rule.
        seen: the bars of each session up to `slot`, that included.
        slot: minutes since 18:00 ET of the last bar seen.
    """
    return np.where(seen.n_bars >= WARM_UP, _RULES[mechanism](seen, slot), 0.0)
