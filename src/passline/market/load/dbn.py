"""Databento DBN, versions 1 to 3, plain or zstd, through the databento extra.

The extra decodes the stream; records of bars and of trades are fixed-size structs (Databento's DBN
encoding specification), read here as arrays; live recordings have the time of sending behind them
(ts_out), which is left out. Prices are billionths, times ns of UTC.
"""

from collections.abc import Iterator
from datetime import date
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.load.chunks import Chunk, Source
from passline.market.load.damage import ARCHIVE_ERRORS
from passline.market.load.peek import Peek
from passline.market.load.unpack import require_sound_zstd
from passline.market.load.zones import SECOND_NS

__all__ = ["open_dbn"]

_PIECE = 1 << 10
"""Bytes given to the decoder at once: a kibibyte of zstd can hold 256 blocks of 128 KiB each."""
_STRETCH = 20_000
"""Records of a chunk, at least."""
_PRICE_SCALE = 1e9
_PANIC = "PanicException"
"""What the extra raises on a record shorter than its kind; no Exception, and of no public name."""
_DAY_NS = 86_400 * SECOND_NS
_HEADER = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
_BAR = np.dtype(
    [
        *_HEADER,
        ("open", "<i8"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("close", "<i8"),
        ("volume", "<u8"),
    ]
)
_TRADE = np.dtype(
    [
        *_HEADER,
        ("price", "<i8"),
        ("size", "<u4"),
        ("action", "S1"),
        ("side", "S1"),
        ("flags", "u1"),
        ("depth", "u1"),
        ("ts_recv", "<u8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)
_TS_OUT_BYTES = 8
_BAR_NS = {"ohlcv-1s": SECOND_NS, "ohlcv-1m": 60 * SECOND_NS}
_RECORDS = {
    "ohlcv-1s": ("OHLCVMsg", _BAR),
    "ohlcv-1m": ("OHLCVMsg", _BAR),
    "trades": ("TradeMsg", _TRADE),
}
_SYSTEM = {"SystemMsg", "SystemMsgV1", "SymbolMappingMsg", "SymbolMappingMsgV1"}


def _library() -> Any:
    try:
        return import_module("databento_dbn")
    except ImportError:
        raise BarsError(
            "DBN files need the databento extra, which is not installed. Install it with: "
            'pip install "passline[databento]"'
        ) from None


def _is_packed(peek: Peek) -> bool:
    with peek.path.open("rb") as file:
        return file.read(4) == b"(\xb5/\xfd"


def _damaged(peek: Peek, found: object) -> BarsError:
    first = (str(found) or type(found).__name__).splitlines()[0]
    return BarsError(f"{peek.name}: not a sound DBN file ({first}). Download it again")


def _decode(peek: Peek) -> Iterator[list[Any]]:
    """Yields the decoded records, many at a time; the first record is the metadata."""
    dbn = _library()
    packing = dbn.Compression.ZSTD if _is_packed(peek) else dbn.Compression.NONE
    decoder = dbn.DBNDecoder(compression=packing)
    with peek.path.open("rb") as file:
        records: list[Any] = []
        try:
            while piece := file.read(_PIECE):
                records += decoder.write_and_decode(piece)
                if len(records) >= _STRETCH:
                    yield records
                    records = []
        except (dbn.DBNError, ValueError, RuntimeError, OSError) as error:
            raise _damaged(peek, error) from None
        except BaseException as error:
            if type(error).__name__ != _PANIC:
                raise
            raise _damaged(peek, error) from None
        if decoder.buffer():
            raise BarsError(f"{peek.name}: the DBN file ends inside a record. Download it again")
        yield records


class _Names:
    """Contract names of instrument ids, from the metadata's mappings."""

    def __init__(self, metadata: Any) -> None:
        self._spans: dict[int, list[tuple[int, int, str]]] = {}
        for key, intervals in metadata.mappings.items():
            for interval in intervals:
                symbol = str(interval["symbol"])
                number, name = (symbol, key) if symbol.isdigit() else (key, symbol)
                if str(number).isdigit():
                    start, end = (
                        (day - date(1970, 1, 1)).days
                        for day in (interval["start_date"], interval["end_date"])
                    )
                    self._spans.setdefault(int(number), []).append((start, end, str(name)))

    def of(
        self, ids: NDArray[np.uint32], ts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Returns an index into names for each row, and the names; the number where unmapped."""
        code = np.zeros(len(ids), dtype=np.int32)
        names: list[str] = []
        for number in np.unique(ids).tolist():
            mine = ids == number
            spans = self._spans.get(number, [])
            for start, end, name in spans or [(0, 1 << 30, str(number))]:
                held = mine & (ts >= start * _DAY_NS) & (ts < end * _DAY_NS)
                if len({span[2] for span in spans}) <= 1:
                    held = mine
                if name not in names:
                    names.append(name)
                code[held] = names.index(name)
        return code, tuple(names)


def open_dbn(peek: Peek) -> Source:
    """Opens DBN of the schemas ohlcv-1s, ohlcv-1m and trades.

    Raises:
        BarsError: the extra is missing, the file is damaged, holds another schema or unpacks to
            more than market data does.
    """
    if _is_packed(peek):
        try:
            require_sound_zstd(peek.path, peek.name)
        except ARCHIVE_ERRORS as error:
            raise _damaged(peek, error) from None
    first = next((records for records in _decode(peek) if records), [])
    if not first or type(first[0]).__name__ != "Metadata":
        raise BarsError(f"{peek.name}: the DBN file ends before its metadata. Download it again")
    metadata = first[0]
    schema = str(metadata.schema)
    if schema not in _RECORDS:
        raise BarsError(
            f"{peek.name}: its schema is {schema}, which has neither bars of 1 second to 15 "
            "minutes nor trades alone. Download ohlcv-1m, ohlcv-1s or trades"
        )
    names = _Names(metadata)
    return Source(
        chunks=lambda: _chunks(peek, *_RECORDS[schema], names),
        is_utc=True,
        zone="UTC",
        is_points=schema == "trades",
        bar_ns=_BAR_NS.get(schema),
    )


def _chunks(peek: Peek, wanted: str, dtype: np.dtype[Any], names: _Names) -> Iterator[Chunk]:
    row, is_first = 1, True
    for records in _decode(peek):
        body = records[1:] if is_first and records else records
        is_first = is_first and not records
        kinds = {type(record).__name__ for record in body}
        if kinds - {wanted} - _SYSTEM:
            odd = ", ".join(sorted(kinds - {wanted} - _SYSTEM))
            raise BarsError(f"{peek.name}: {odd} among {wanted} records; download one schema")
        mine = [record for record in body if type(record).__name__ == wanted]
        raw = _raw_bytes(mine, dtype.itemsize, peek)
        if raw:
            yield _to_chunk(np.frombuffer(b"".join(raw), dtype=dtype), row, names)
            row += len(raw)


def _raw_bytes(records: list[Any], n_bytes: int, peek: Peek) -> list[bytes]:
    """Returns the first n bytes of each record.

    A record's own word for its length is checked first: the extra reads that many bytes of its
    memory, where only the struct and the time of sending lie.
    """
    odd = {record.record_size() for record in records} - {n_bytes, n_bytes + _TS_OUT_BYTES}
    if odd:
        raise _damaged(peek, f"a record of {min(odd)} bytes, where {n_bytes} are right")
    return [bytes(record)[:n_bytes] for record in records]


def _to_chunk(table: NDArray[Any], first_row: int, names: _Names) -> Chunk:
    is_bar = table.dtype == _BAR
    time = table["ts_event"].astype(np.int64)
    code, symbols = names.of(table["instrument_id"], time)
    fields = ("open", "high", "low", "close") if is_bar else ("price",) * 4
    return Chunk(
        first_row=first_row,
        time=time,
        is_unread=np.zeros(len(table), dtype=np.bool_),
        prices=np.stack([table[name] for name in fields]) / _PRICE_SCALE,
        volume=table["volume" if is_bar else "size"].astype(np.float64),
        symbol=code,
        symbols=symbols,
    )
