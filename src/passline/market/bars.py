"""Bars in memory: whole ticks, UTC open times, one contract, with where they came from."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.market.contract import Contract

__all__ = ["Bars"]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A tape of bars of one contract, checked and in time order.

    Attributes:
        contract: the product whose ticks the prices are counted in.
        bar_ns: length of a bar, ns; a bar covers [ts, ts + bar_ns).
        ts: open time of each bar, UTC ns, strictly rising; int64 [B].
        open: first price, ticks; int32 [B].
        high: highest price, ticks; int32 [B].
        low: lowest price, ticks; int32 [B].
        close: last price, ticks; int32 [B].
        volume: contracts traded, -1 where the source has none; int64 [B].
        expiry: index into `expiries` of the contract month each bar belongs to; int16 [B].
        expiries: contract months in order of first use, such as ("ESZ5", "ESH6"); ("",) if unknown.
        provenance: what the importer wrote of the source (hash, zone, convention, roll rule).
    """

    contract: Contract
    bar_ns: int
    ts: NDArray[np.int64]
    open: NDArray[np.int32]
    high: NDArray[np.int32]
    low: NDArray[np.int32]
    close: NDArray[np.int32]
    volume: NDArray[np.int64]
    expiry: NDArray[np.int16]
    expiries: tuple[str, ...] = ("",)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ts)

    def slice(self, start: int, stop: int) -> "Bars":
        """Returns bars [start, stop) as views on the same memory."""
        cut = slice(start, stop)
        return Bars(
            contract=self.contract,
            bar_ns=self.bar_ns,
            ts=self.ts[cut],
            open=self.open[cut],
            high=self.high[cut],
            low=self.low[cut],
            close=self.close[cut],
            volume=self.volume[cut],
            expiry=self.expiry[cut],
            expiries=self.expiries,
            provenance=self.provenance,
        )

    def fingerprint(self) -> str:
        """Returns the SHA-256 of contract, bar length and all columns, in hex."""
        digest = hashlib.sha256(f"{self.contract.symbol} {self.bar_ns}".encode())
        for column in (self.ts, self.open, self.high, self.low, self.close, self.volume):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()
