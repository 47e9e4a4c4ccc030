"""Gathers chunks into one tape of whole ticks, refusing rows that cannot be true.

Row checks happen here, chunk by chunk, while the rows' numbers are known: readable times, finite
prices on the tick, high and low around open and close, volume. What concerns the whole tape is in
`sanity`.
"""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.clock import trade_date
from passline.market.contract import Contract
from passline.market.load.chunks import Chunk
from passline.market.load.findings import Findings
from passline.market.load.months import parse_name
from passline.market.load.zones import local_to_utc

__all__ = ["Collector", "Tape"]

MAX_TICKS = 2**29
"""Largest price in ticks: int32 with room for sums of a bar's prices."""
_TICK_TOLERANCE = 2e-3
_FIRST_NS = 315_532_800_000_000_000
_LAST_NS = 4_102_444_800_000_000_000
_ORDER = ("open", "high", "low", "close")


@dataclass(slots=True)
class Tape:
    """Rows of one product in file order, before rolls.

    Attributes:
        ts: stamps, UTC ns; int64 [B].
        ticks: open, high, low, close, ticks; int32 [4, B].
        volume: contracts, -1 for none; int64 [B].
        code: index into `months` of each row; int16 [B].
        row: number of the row in the file; int64 [B].
        months: contract months as the file spells them, "" where it names none.
    """

    ts: NDArray[np.int64]
    ticks: list[NDArray[np.int32]]
    volume: NDArray[np.int64]
    code: NDArray[np.int16]
    row: NDArray[np.uint32]
    months: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Tape":
        """Returns the rows of an index or mask, in its order."""
        return Tape(
            ts=self.ts[index],
            ticks=[column[index] for column in self.ticks],
            volume=self.volume[index],
            code=self.code[index],
            row=self.row[index],
            months=self.months,
        )


@dataclass(slots=True)
class Collector:
    """Takes chunks and checks them; `finish` returns the tape.

    Attributes:
        contract: product that the rows must belong to.
        findings: where bad rows are counted.
        zone: zone of the stamps; None where they are UTC already.
        symbols: contract names to keep; empty for all.
        dropped: trade dates to leave out, days since 1970-01-01.
    """

    contract: Contract
    findings: Findings
    zone: str | None
    symbols: frozenset[str]
    dropped: frozenset[int]
    n_read: int = 0
    n_dropped: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    months: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    parts: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        """Checks a chunk of bars and keeps its rows."""
        kept = self.prepare(chunk)
        if kept is not None:
            ticks, volume = self.check(kept)
            self._keep(kept.time, ticks, volume, kept.symbol, kept.rows)

    def check(self, kept: Chunk) -> tuple[list[NDArray[np.int32]], NDArray[np.int64]]:
        """Checks prices and volumes of prepared rows; returns ticks [4][n] and contracts [n]."""
        return self._check_prices(kept), self._check_volume(kept)

    def keep_bars(
        self,
        ts: NDArray[np.int64],
        prices: NDArray[np.float64],
        volume: NDArray[np.float64],
        code: int,
        rows: NDArray[np.uint32],
    ) -> None:
        """Keeps bars built from checked trades of one month.

        Args:
            ts: open times, UTC ns [n].
            prices: open, high, low, close on the tick [4, n].
            volume: contracts, NaN for none [n].
            code: index of the month.
            rows: row of each bar's first trade [n].
        """
        tick = Fraction(self.contract.tick_size)
        ticks = np.rint(prices * tick.denominator / tick.numerator).astype(np.int32)
        whole = np.where(np.isnan(volume), -1.0, volume).astype(np.int64)
        self._keep(ts, list(ticks), whole, np.full(len(ts), code, dtype=np.int32), rows)

    def note_backward(self, trades: Chunk, bad: NDArray[np.bool_], mine: NDArray[np.bool_]) -> None:
        """Counts trades of one month that are earlier than the one before them."""
        if bad.any():
            full = np.zeros(len(trades.time), dtype=np.bool_)
            full[np.flatnonzero(mine)[bad]] = True
            self._note("a time earlier than the row before", trades, full)

    def prepare(self, chunk: Chunk) -> Chunk | None:
        """Returns the rows of our product in UTC, symbols replaced by months; None if none are."""
        self.n_read += len(chunk.time)
        code = self._codes(chunk)
        keep = code >= 0
        self.findings.n_rows += int(keep.sum())
        ts, is_unreal = chunk.time, np.zeros(len(chunk.time), dtype=np.bool_)
        if self.zone is not None:
            ts, is_unreal = local_to_utc(chunk.time, self.zone)
        is_far = (ts < _FIRST_NS) | (ts >= _LAST_NS)
        for what, mask in (
            ("a time that cannot be read", chunk.is_unread),
            ("a time outside 1980-2099", is_far & ~chunk.is_unread),
            (f"a time that {self.zone} does not have or has twice", is_unreal & ~chunk.is_unread),
        ):
            bad = mask & keep
            if bad.any():
                self._note_times(what, chunk, bad)
                keep &= ~mask
        if self.dropped and keep.any():
            days = np.zeros(len(ts), dtype=np.int32)
            days[keep] = trade_date(ts[keep])
            is_dropped = np.isin(days, list(self.dropped)) & keep
            self.n_dropped += int(is_dropped.sum())
            keep &= ~is_dropped
        if not keep.any():
            return None
        rows = np.arange(chunk.first_row, chunk.first_row + len(ts), dtype=np.uint32)
        if keep.all():
            return _replace(chunk, ts, chunk.prices, chunk.volume, code, rows)
        return _replace(
            chunk, ts[keep], chunk.prices[:, keep], chunk.volume[keep], code[keep], rows[keep]
        )

    def _codes(self, chunk: Chunk) -> NDArray[np.int32]:
        table = np.zeros(len(chunk.symbols), dtype=np.int32)
        counts = np.bincount(chunk.symbol, minlength=len(chunk.symbols))
        for index, symbol in enumerate(chunk.symbols):
            table[index] = self._code(symbol, int(counts[index]))
        return table[chunk.symbol]

    def _code(self, symbol: str, count: int) -> int:
        if self.symbols and symbol not in self.symbols:
            return -1
        name = parse_name(symbol, self.contract)
        if name.kind in {"spread", "other"}:
            self.refused[symbol] += count
            return -1
        if name.kind == "id":
            self.ids.add(symbol)
        if name.month not in self.months:
            self.months.append(name.month)
        return self.months.index(name.month)

    def _note_times(self, what: str, chunk: Chunk, bad: NDArray[np.bool_]) -> None:
        if self.findings.add(what, int(bad.sum()), set()):
            for index in np.flatnonzero(bad)[:5]:
                shown = np.datetime64(int(chunk.time[index]), "ns").astype("datetime64[s]")
                detail = "empty or unreadable" if chunk.is_unread[index] else str(shown)
                self.findings.place(
                    what,
                    row=chunk.first_row + int(index),
                    where=chunk.where,
                    ts=None,
                    detail=detail,
                )

    def _note(self, what: str, kept: Chunk, bad: NDArray[np.bool_], fields: str = "ohlc") -> None:
        ts = kept.time[bad]
        days = set(trade_date(ts[:2000]).tolist())
        if not self.findings.add(what, int(bad.sum()), days):
            return
        rows = kept.rows
        for index in np.flatnonzero(bad)[:5]:
            values = [f"{n} {kept.prices[i, index]:g}" for i, n in enumerate(_ORDER)]
            if fields == "v":
                values = [f"volume {kept.volume[index]:g}"]
            self.findings.place(
                what,
                row=int(rows[index]),
                where=kept.where,
                ts=int(kept.time[index]),
                detail=", ".join(dict.fromkeys(values)),
            )

    def _check_prices(self, kept: Chunk) -> list[NDArray[np.int32]]:
        tick = Fraction(self.contract.tick_size)
        with np.errstate(invalid="ignore", over="ignore"):
            exact = kept.prices * (tick.denominator / tick.numerator)
            whole = np.rint(exact)
            exact -= whole
        is_sound = exact.min() >= -_TICK_TOLERANCE and exact.max() <= _TICK_TOLERANCE
        is_sound = is_sound and whole.min() >= -MAX_TICKS and whole.max() <= MAX_TICKS
        wild: NDArray[np.bool_] = np.zeros(len(kept.time), dtype=np.bool_)
        off = wild
        if not is_sound:
            finite = np.abs(whole) <= MAX_TICKS
            wild = np.logical_not(finite.all(axis=0))
            off = np.any(finite & ~(np.abs(exact) <= _TICK_TOLERANCE), axis=0)
            whole[~finite] = 0.0
        ticks = list(whole.astype(np.int32))
        if wild.any():
            self._note("a price that is missing, not finite or out of range", kept, wild)
        if off.any():
            what = f"prices off the {self.contract.symbol} tick of {self.contract.tick_size}"
            self._note(what, kept, off)
        bad = (np.maximum(ticks[0], ticks[3]) > ticks[1]) & ~wild
        if bad.any():
            self._note("high below open or close", kept, bad)
        bad = (np.minimum(ticks[0], ticks[3]) < ticks[2]) & ~wild
        if bad.any():
            self._note("low above open or close", kept, bad)
        return ticks

    def _check_volume(self, kept: Chunk) -> NDArray[np.int64]:
        lowest = kept.volume.min()
        volume = kept.volume
        if not lowest >= 0:
            missing = np.isnan(kept.volume)
            bad = (volume < 0) & ~missing
            if bad.any():
                self._note("negative volume", kept, bad, "v")
            volume = np.where(missing, -1.0, kept.volume)
        if not volume.max() < 2**53:
            huge = ~(volume < 2**53)
            self._note("a volume that is not finite", kept, huge, "v")
            volume = np.where(huge, 0.0, volume)
        whole = volume.astype(np.int64)
        part = whole != volume
        if part.any():
            self._note("a volume that is not a whole number of contracts", kept, part, "v")
        return whole

    def _keep(
        self,
        ts: NDArray[np.int64],
        ticks: list[NDArray[np.int32]],
        volume: NDArray[np.int64],
        code: NDArray[np.int32],
        rows: NDArray[np.uint32],
    ) -> None:
        columns: dict[str, NDArray[Any]] = dict(zip(_ORDER, ticks, strict=True))
        columns |= {"ts": ts, "volume": volume, "code": code.astype(np.int16), "row": rows}
        for name, column in columns.items():
            self.parts.setdefault(name, []).append(column)

    def check_names(self, wanted: str) -> None:
        """Raises BarsError if rows belong to other products, spreads or several instruments."""
        if self.refused:
            known = ", ".join(f"{name} ({n:,} rows)" for name, n in self.refused.most_common(5))
            more = f" and {len(self.refused) - 5} more" if len(self.refused) > 5 else ""
            ours = [month for month in self.months if month]
            also = f"; of {wanted} it holds {', '.join(ours[:8])}" if ours else ""
            keep = ",".join(ours[:4]) or "NAME"
            raise BarsError(
                f"{self.findings.name}: several instruments or calendar spreads in one file, or "
                f"not {wanted}: {known}{more}{also}. A tape is one product's outright months; "
                f"keep those with --symbols {keep}, or give the --contract that the file holds"
            )
        if len(self.ids) > 1:
            raise BarsError(
                f"{self.findings.name}: several instruments in one file, told apart only by "
                f"number: {', '.join(sorted(self.ids)[:8])}. Keep one with --symbols "
                f"{min(self.ids)}, or export with the symbols' names"
            )

    def finish(self) -> Tape:
        """Joins the kept rows, freeing the parts as it goes.

        Raises:
            BarsError: rows were bad, or none is left.
        """
        self.check_names(self.contract.symbol)
        self.findings.raise_if_any()
        if not self.parts:
            raise BarsError(
                f"{self.findings.name}: no row is left of {self.n_read:,} read "
                f"({self.n_dropped:,} on dropped days). Check --symbols and --drop-day"
            )
        joined = {name: _join(self.parts, name) for name in list(self.parts)}
        return Tape(
            ts=joined["ts"].astype(np.int64, copy=False),
            ticks=[joined[name].astype(np.int32, copy=False) for name in _ORDER],
            volume=joined["volume"].astype(np.int64, copy=False),
            code=joined["code"].astype(np.int16, copy=False),
            row=joined["row"].astype(np.uint32, copy=False),
            months=tuple(self.months),
        )


def _join(parts: dict[str, list[NDArray[Any]]], name: str) -> NDArray[np.generic]:
    return np.concatenate(parts.pop(name))


def _replace(
    chunk: Chunk,
    ts: NDArray[np.int64],
    prices: NDArray[np.float64],
    volume: NDArray[np.float64],
    code: NDArray[np.int32],
    rows: NDArray[np.uint32],
) -> Chunk:
    return Chunk(
        first_row=chunk.first_row,
        time=ts,
        is_unread=np.zeros(len(ts), dtype=np.bool_),
        prices=prices,
        volume=volume,
        symbol=code,
        symbols=(),
        where=chunk.where,
        rows=rows,
    )
