"""Rows on their way from a file to a tape: plain arrays of one stretch of the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk", "Source"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A stretch of rows as the file holds them, times in ns of the file's clock.

    Attributes:
        first_row: number of the first row, as the user would count it in the file.
        time: nanoseconds since 1970-01-01 of UTC or of the file's clock; int64 [n].
        is_unread: rows whose time could not be read [n].
        prices: open, high, low, close of bars; or the price of trades four times [4, n].
        volume: contracts, NaN where the source has none [n].
        symbol: index into `symbols` of each row; int32 [n].
        symbols: contract names of this chunk.
        where: name of the part of the file, where it has parts.
        rows: number of each row in the file, once rows were left out; empty before [n].
    """

    first_row: int
    time: NDArray[np.int64]
    is_unread: NDArray[np.bool_]
    prices: NDArray[np.float64]
    volume: NDArray[np.float64]
    symbol: NDArray[np.int32]
    symbols: tuple[str, ...]
    where: str = ""
    rows: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, dtype=np.uint32))


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An opened file, ready to be streamed.

    Attributes:
        chunks: starts a fresh pass over the rows.
        is_utc: whether the times are UTC already.
        zone: zone that the file itself names, if it does.
        is_points: whether rows are trades or single prices rather than bars.
        is_daily: whether the stamps carry no clock.
        has_volume: whether there is a volume column.
        bar_ns: length of a bar where the file states it, ns.
    """

    chunks: Callable[[], Iterator[Chunk]]
    is_utc: bool
    zone: str | None
    is_points: bool
    is_daily: bool = False
    has_volume: bool = True
    bar_ns: int | None = None
