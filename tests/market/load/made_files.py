"""Made-up bars of ES and the ways in which vendors would write them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MINUTE_NS = 60 * 10**9
SUNDAY_NS = 1_709_506_800_000_000_000
"""2024-03-03 23:00 UTC: 18:00 ET on a Sunday in winter."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Bars as floats on the tick: open times UTC ns [n], open, high, low, close, volume [n]."""

    ts: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts)

    def only(self, index: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Made":
        return Made(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def changed(self, name: str, row: int, value: float) -> "Made":
        column = getattr(self, name).copy()
        column[row] = value
        return replace(self, **{name: column})


def made_bars(
    n_days: int = 1, *, seed: int = 0, start: int = SUNDAY_NS, base: float = 5000.0
) -> Made:
    """Returns `n_days` whole sessions of one-minute bars, from a Sunday evening on."""
    rng = np.random.default_rng(seed)
    ts = np.concatenate(
        [start + day * 1440 * MINUTE_NS + np.arange(1380) * MINUTE_NS for day in range(n_days)]
    )
    n = len(ts)
    close = base + 0.25 * np.cumsum(rng.integers(-3, 4, n))
    opened = np.concatenate([[base], close[:-1]]) + 0.25 * rng.integers(-1, 2, n)
    high = np.maximum(opened, close) + 0.25 * rng.integers(0, 3, n)
    low = np.minimum(opened, close) - 0.25 * rng.integers(0, 3, n)
    return Made(ts=ts, open=opened, high=high, low=low, close=close, volume=rng.integers(1, 500, n))


def stamps(ts: NDArray[np.int64], pattern: str, *, shift_s: int = 0) -> list[str]:
    """Writes times by a strftime pattern, after moving them by `shift_s`."""
    return [
        datetime.fromtimestamp(t // 10**9 + shift_s, UTC).strftime(pattern) for t in ts.tolist()
    ]


def write_rows(
    path: Path,
    made: Made,
    times: list[str],
    *,
    header: str = "timestamp,open,high,low,close,volume",
    separator: str = ",",
    more: str = "",
) -> Path:
    """Writes one line a bar: time, open, high, low, close, volume and what `more` says."""
    lines = [header] if header else []
    for i, time in enumerate(times):
        cells = [time, *(f"{getattr(made, n)[i]:.2f}" for n in ("open", "high", "low", "close"))]
        lines.append(separator.join([*cells, str(made.volume[i])]) + more)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def generic(path: Path, made: Made) -> Path:
    """Writes the plainest CSV: UTC, open-stamped."""
    return write_rows(path, made, stamps(made.ts, "%Y-%m-%d %H:%M:%S"))
