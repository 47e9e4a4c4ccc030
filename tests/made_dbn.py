"""Databento DBN made by hand: metadata, bars and trades of ES, and zstd frames around them."""

from datetime import date
from typing import NamedTuple

import databento_dbn as dbn

__all__ = ["BAR_BYTES", "bars", "metadata", "trades", "with_ts_out", "zstd_frame"]

BAR_BYTES = 56
FIRST_NS = 1_736_175_600 * 10**9
"""2025-01-06 15:00 UTC."""
BLOCK = 1 << 17


class Interval(NamedTuple):
    start_date: date
    end_date: date
    symbol: str


class Mapping(NamedTuple):
    raw_symbol: str
    intervals: tuple[Interval, ...]


def metadata(schema: str = "ohlcv-1m", *, has_ts_out: bool = False) -> bytes:
    """Returns the head of a file in which ESH5 is instrument 1."""
    interval = Interval(date(2025, 1, 1), date(2025, 3, 1), "1")
    made = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=FIRST_NS,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema(schema),
        symbols=["ESH5"],
        mappings=[Mapping("ESH5", (interval,))],
        ts_out=has_ts_out,
    )
    return bytes(made.encode())


def bars(n_bars: int) -> bytes:
    """Returns minute bars one after the other, open 5000, high 5001, low 4999, close 5000.5."""
    prices = (5_000_000_000_000, 5_001_000_000_000, 4_999_000_000_000, 5_000_500_000_000)
    made = (
        dbn.OHLCVMsg(dbn.RType.OHLCV_1M, 1, 1, FIRST_NS + n * 60 * 10**9, *prices, 7)
        for n in range(n_bars)
    )
    return b"".join(bytes(bar) for bar in made)


def with_ts_out(records: bytes) -> bytes:
    """Puts a time of sending behind each bar, as live recordings do."""
    parts = [records[at : at + BAR_BYTES] for at in range(0, len(records), BAR_BYTES)]
    length = (BAR_BYTES + 8) // 4
    return b"".join(bytes([length]) + part[1:] + bytes(8) for part in parts)


def trades(n_trades: int) -> bytes:
    """Returns trades seven seconds apart, of 3 at 5000.25."""
    stamps = (FIRST_NS + n * 7 * 10**9 for n in range(n_trades))
    side = (dbn.Action.TRADE, dbn.Side.BID, 0)
    made = (dbn.TradeMsg(1, 1, ts, 5_000_250_000_000, 3, *side, ts) for ts in stamps)
    return b"".join(bytes(trade) for trade in made)


def zstd_frame(data: bytes, letter: bytes = b"", n_blocks: int = 0) -> bytes:
    """Returns data as it is in a zstd frame, then blocks of 128 KiB of one letter in 4 bytes each.

    The frame has no checksum and states no size (RFC 8878, 3.1).
    """
    parts = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    blocks = [(len(part) << 3, part) for part in parts]
    blocks += [(BLOCK << 3 | 1 << 1, letter)] * n_blocks
    headers = [head | (at == len(blocks) - 1) for at, (head, _) in enumerate(blocks)]
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(
        head.to_bytes(3, "little") + body for head, (_, body) in zip(headers, blocks, strict=True)
    )
