"""Opens a file of a known format as a stream of chunks."""

from collections.abc import Mapping

import polars as pl

from passline.errors import BarsError
from passline.market.load.chunks import Source
from passline.market.load.damage import TABLE_ERRORS
from passline.market.load.dbn import open_dbn
from passline.market.load.formats import Format
from passline.market.load.lean import open_lean
from passline.market.load.peek import Peek
from passline.market.load.tables import open_frame, open_parquet
from passline.market.load.text import open_text

__all__ = ["open_source"]


def open_source(peek: Peek, known: Format, columns: Mapping[str, str] | None) -> Source:
    """Opens a file.

    Raises:
        BarsError: columns are missing, times cannot be read, or an extra is not installed.
    """
    if known.container == "parquet":
        return open_parquet(peek, known, columns)
    if known.container == "text":
        return open_text(peek, known, columns)
    if known.container == "json":
        return _open_json(peek, known, columns)
    if known.container == "dbn":
        return open_dbn(peek)
    return open_lean(peek)


def _open_json(peek: Peek, known: Format, columns: Mapping[str, str] | None) -> Source:
    try:
        frame = pl.scan_ndjson(peek.path)
        schema = frame.collect_schema()
    except TABLE_ERRORS:
        raise BarsError(
            f"{peek.name}: not JSON lines (one object a line), the form in which Databento writes "
            "JSON"
        ) from None
    if isinstance(schema.get("hd"), pl.Struct):
        frame = frame.unnest("hd")
        schema = frame.collect_schema()
    prices = ("open", "high", "low", "close", "price")
    frame = frame.with_columns(
        pl.col(name).cast(pl.Float64) for name in prices if schema.get(name) == pl.String
    )
    return open_frame(frame, tuple(frame.collect_schema()), peek, known, columns)
