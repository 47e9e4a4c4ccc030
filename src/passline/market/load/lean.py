"""QuantConnect LEAN zips of a futures day: one CSV per expiry, milliseconds since midnight UTC."""

import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import polars as pl

from passline.errors import BarsError
from passline.market.load.chunks import Chunk, Source
from passline.market.load.damage import ARCHIVE_ERRORS, TABLE_ERRORS
from passline.market.load.months import MONTH_LETTERS
from passline.market.load.peek import Peek
from passline.market.load.unpack import read_member, require_zip_size

__all__ = ["open_lean"]

_MEMBER = re.compile(
    r"^(?P<day>\d{8})_(?P<root>[a-z0-9]+)_(?P<step>minute|second|tick)_trade_"
    r"(?P<year>\d{4})(?P<month>\d{2})\.csv$"
)


def open_lean(peek: Peek) -> Source:
    """Opens a zip of trade bars or trade ticks.

    Raises:
        BarsError: the zip holds quotes, open interest, daily or hourly bars, or odd names, or
            unpacks to more than market data does.
    """
    matches = [_MEMBER.match(member) for member in peek.members]
    if not all(matches) or not matches:
        odd = next(m for m, found in zip(peek.members, matches, strict=True) if not found)
        raise BarsError(
            f"{peek.name}: holds {odd}, which is not trades by minute, second or tick. Take the "
            "zip named ..._trade.zip of the folder minute, second or tick"
        )
    with zipfile.ZipFile(peek.path) as archive:
        require_zip_size(archive, peek.path, peek.name)
    steps = {match["step"] for match in matches if match}

    def chunks() -> Iterator[Chunk]:
        with zipfile.ZipFile(peek.path) as archive:
            for match in sorted((m for m in matches if m), key=lambda m: (m["year"], m["month"])):
                yield _read_member(archive, match, peek.name)

    return Source(chunks=chunks, is_utc=True, zone="UTC", is_points=steps == {"tick"})


def _read_member(archive: zipfile.ZipFile, match: re.Match[str], name: str) -> Chunk:
    member = match[0]
    is_tick = match["step"] == "tick"
    cells = ("price", "size") if is_tick else ("open", "high", "low", "close", "volume")
    try:
        table = pl.read_csv(
            read_member(archive, member),
            has_header=False,
            columns=list(range(1 + len(cells))),
            infer_schema=False,
        )
        table.columns = ["ms", *cells]
        table = table.with_columns(
            pl.col("ms").cast(pl.Int64), *(pl.col(cell).cast(pl.Float64) for cell in cells)
        )
    except (*ARCHIVE_ERRORS, *TABLE_ERRORS, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BarsError(f"{name}: {member} could not be read: {first}") from None
    try:
        midnight = datetime.strptime(match["day"], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        raise BarsError(f"{name}: {member} names the day {match['day']}, which is none") from None
    start = int(midnight.timestamp()) * 10**9
    prices = ["price"] * 4 if is_tick else ["open", "high", "low", "close"]
    month = int(match["month"])
    if not 1 <= month <= 12:
        raise BarsError(f"{name}: {member} names month {month}; months are 01 to 12")
    symbol = f"{match['root'].upper()}{MONTH_LETTERS[month - 1]}{match['year'][2:]}"
    return Chunk(
        first_row=1,
        time=table["ms"].fill_null(0).to_numpy() * 1_000_000 + start,
        is_unread=table["ms"].is_null().to_numpy(),
        prices=np.stack([table[column].to_numpy() for column in prices]),
        volume=table["size" if is_tick else "volume"].to_numpy().astype(np.float64),
        symbol=np.zeros(len(table), dtype=np.int32),
        symbols=(symbol,),
        where=member,
    )
