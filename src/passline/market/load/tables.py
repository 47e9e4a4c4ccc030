"""Streams a table, delimited text or Parquet, as chunks of plain arrays.

polars parses in the background, in batches; nothing here holds more than a batch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from passline.errors import BarsError
from passline.market.load.chunks import Chunk, Source
from passline.market.load.columns import Roles, assign_roles
from passline.market.load.formats import Format
from passline.market.load.peek import CONFLICT_MARKS, Layout, Peek, conflict_message
from passline.market.load.times import TimeSpec, detect_time, time_of_dtype

__all__ = ["open_frame", "open_parquet", "open_text"]

_BATCH = 200_000
_PRICES = ("open", "high", "low", "close")
_HEADERLESS = ("time", "open", "high", "low", "close", "volume", "extra1", "extra2", "extra3")


def _text_names(layout: Layout, known: Format) -> tuple[str, ...]:
    if layout.names:
        return layout.names
    if known.names:
        return known.names[: layout.n_columns]
    first, second = layout.rows[0][0], layout.rows[0][1]
    names: tuple[str, ...] = _HEADERLESS
    if ":" in second and ":" not in first:
        names = ("date", *_HEADERLESS)
    return names[: layout.n_columns]


def _require(roles: Roles, name: str, names: tuple[str, ...]) -> None:
    if "time" in roles and (roles.is_bars or roles.is_points):
        return
    missing = "time" if "time" not in roles else "open, high, low, close (or price)"
    raise BarsError(
        f"{name}: no column for {missing} among {', '.join(names)}. "
        "Name it with --column ROLE=NAME, such as --column close=Last"
    )


def _time_spec(name: str, cells: list[str], known: Format) -> TimeSpec:
    spec = detect_time(cells, day_first=known.day_first)
    if isinstance(spec, str):
        raise BarsError(f"{name}: {spec}")
    return spec


def open_text(peek: Peek, known: Format, columns: Mapping[str, str] | None) -> Source:
    """Opens delimited text.

    Raises:
        BarsError: a needed column is missing, or the way of writing time is not known.
    """
    layout = peek.layout
    if layout is None:
        raise BarsError(f"{peek.name}: not rows and columns, so not {known.title}")
    names = _text_names(layout, known)
    roles = assign_roles(names, columns)
    _require(roles, peek.name, names)
    samples = [row[roles["time"]] for row in layout.rows]
    if "clock" in roles:
        samples = [f"{row[roles['time']]} {row[roles['clock']]}" for row in layout.rows]
    spec = _time_spec(peek.name, samples, known)
    frame = _scan(peek.path, layout, roles, spec)
    scale = _scale(layout, roles, known)
    first_row = layout.n_skip + 1

    def chunks() -> Iterator[Chunk]:
        try:
            yield from _stream(frame, roles, first_row, scale)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BarsError(_diagnose(peek, layout, roles, str(error))) from None

    return Source(
        chunks=chunks,
        is_utc=spec.is_utc,
        zone=roles.zone,
        is_points=not roles.is_bars,
        is_daily=spec.is_date,
        has_volume="volume" in roles,
    )


def _scale(layout: Layout, roles: Roles, known: Format) -> int:
    """Returns what whole-number prices are divided by: Databento writes billionths."""
    cell = layout.rows[0][roles["close" if "close" in roles else "price"]]
    return known.price_scale if cell.lstrip("-").isdigit() else 1


def _price(column: pl.Expr, layout: Layout) -> pl.Expr:
    if not layout.is_padded:
        return column
    column = column.str.strip_chars()
    if layout.is_decimal_comma:
        column = column.str.replace(",", ".", literal=True)
    return column.cast(pl.Float64)


def _scan(path: Path, layout: Layout, roles: Roles, spec: TimeSpec) -> pl.LazyFrame:
    schema: dict[str, pl.DataType] = {f"c{i}": pl.String() for i in range(layout.n_columns)}
    numbers = [role for role in (*_PRICES, "price", "volume") if role in roles]
    if not layout.is_padded:
        schema |= {f"c{roles[role]}": pl.Float64() for role in numbers}
        if spec.kind == "epoch":
            schema[f"c{roles['time']}"] = pl.Int64()
    frame = pl.scan_csv(
        path,
        has_header=False,
        skip_lines=layout.n_skip,
        separator=layout.separator,
        schema=schema,
        decimal_comma=layout.is_decimal_comma and not layout.is_padded,
        quote_char='"' if layout.is_quoted else None,
    )
    time = pl.col(f"c{roles['time']}")
    if layout.is_padded:
        time = time.str.strip_chars()
    if "clock" in roles:
        clock = pl.col(f"c{roles['clock']}")
        clock = clock.str.strip_chars() if layout.is_padded else clock
        time = time + " " + clock
    if spec.is_date:
        time = time + " 00:00"
    selected = {"time": spec.expression(time)}
    for role in numbers:
        selected[role] = _price(pl.col(f"c{roles[role]}"), layout)
    for role in ("symbol", "action"):
        if role in roles:
            column = pl.col(f"c{roles[role]}")
            selected[role] = column.str.strip_chars() if layout.is_padded else column
    return frame.select(**selected)


def open_parquet(peek: Peek, known: Format, columns: Mapping[str, str] | None) -> Source:
    """Opens a Parquet table; raises BarsError as `open_text` does."""
    names = tuple(name for name, _ in peek.schema)
    return open_frame(pl.scan_parquet(peek.path), names, peek, known, columns)


def open_frame(
    frame: pl.LazyFrame,
    names: tuple[str, ...],
    peek: Peek,
    known: Format,
    columns: Mapping[str, str] | None,
) -> Source:
    """Opens a lazy table whose columns have types."""
    roles = assign_roles(names, columns)
    _require(roles, peek.name, names)
    schema = frame.collect_schema()
    time_name = names[roles["time"]]
    dtype = schema[time_name]
    try:
        ends = pl.concat([frame.select(time_name).head(50), frame.select(time_name).tail(50)])
        sample = ends.collect()[time_name]
        if dtype == pl.String:
            spec: TimeSpec | str = _time_spec(peek.name, sample.drop_nulls().to_list(), known)
        else:
            largest = sample.max() if dtype.is_integer() else 0
            spec = time_of_dtype(dtype, largest if isinstance(largest, int) else 0)
    except (pl.exceptions.PolarsError, OSError):
        raise BarsError(f"{peek.name}: the file is damaged. Fetch it again") from None
    if isinstance(spec, str):
        raise BarsError(f"{peek.name}: {spec}")
    selected = {"time": spec.expression(pl.col(time_name))}
    prices = [role for role in (*_PRICES, "price") if role in roles]
    for role in (*prices, *(["volume"] if "volume" in roles else [])):
        selected[role] = pl.col(names[roles[role]]).cast(pl.Float64)
    for role in ("symbol", "action"):
        if role in roles:
            selected[role] = pl.col(names[roles[role]]).cast(pl.String)
    is_whole = schema[names[roles[prices[0]]]].is_integer()
    table = frame.select(**selected)

    def chunks() -> Iterator[Chunk]:
        try:
            yield from _stream(table, roles, 1, known.price_scale if is_whole else 1)
        except (pl.exceptions.PolarsError, OSError) as error:
            first = str(error).splitlines()[0]
            raise BarsError(f"{peek.name}: the table could not be read: {first}") from None

    return Source(
        chunks=chunks,
        is_utc=spec.is_utc,
        zone=roles.zone,
        is_points=not roles.is_bars,
        is_daily=spec.is_date,
        has_volume="volume" in roles,
    )


def _stream(frame: pl.LazyFrame, roles: Roles, first_row: int, scale: int) -> Iterator[Chunk]:
    row = first_row
    for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
        if len(batch):
            yield to_chunk(batch, roles, row, scale)
            row += len(batch)


def to_chunk(batch: pl.DataFrame, roles: Roles, first_row: int, scale: int) -> Chunk:
    """Turns a batch with the columns time, prices, volume and symbol into a chunk."""
    n_rows = len(batch)
    time = batch["time"]
    if "action" in roles:
        _require_trades(batch["action"])
    points = "price" if "price" in roles else "close"
    prices = batch[list(_PRICES if roles.is_bars else (points,))].to_numpy(order="fortran").T
    if not roles.is_bars:
        prices = np.repeat(prices, 4, axis=0)
    if scale != 1:
        prices = prices / scale
    has_volume = "volume" in roles
    volume = batch["volume"].to_numpy() if has_volume else np.full(n_rows, np.nan)
    symbol, symbols = np.zeros(n_rows, dtype=np.int32), ("",)
    if "symbol" in roles:
        column = batch["symbol"].fill_null("")
        names = column.unique(maintain_order=True)
        symbols = tuple(names.to_list())
        if len(symbols) > 1:
            position = {name: index for index, name in enumerate(symbols)}
            symbol = column.replace_strict(position, return_dtype=pl.Int32).to_numpy()
    is_unread = np.zeros(n_rows, dtype=np.bool_)
    if time.null_count():
        is_unread = time.is_null().to_numpy()
        time = time.fill_null(0)
    return Chunk(
        first_row=first_row,
        time=time.to_numpy(),
        is_unread=is_unread,
        prices=prices,
        volume=volume,
        symbol=symbol,
        symbols=symbols,
    )


def _require_trades(actions: pl.Series) -> None:
    others = [name for name in actions.unique().to_list() if name != "T"]
    if others:
        raise BarsError(
            f"rows are order-book events (actions {', '.join(sorted(map(str, others)))}), not "
            "bars or trades. Download the schema ohlcv-1m, ohlcv-1s or trades"
        )


def _diagnose(peek: Peek, layout: Layout, roles: Roles, error: str) -> str:
    """Says which lines polars stumbled over, walking the text once."""
    bad: list[str] = []
    numbers = [roles[r] for r in (*_PRICES, "price", "volume") if r in roles]
    with peek.path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if number <= layout.n_skip or not line.strip():
                continue
            if line.startswith(CONFLICT_MARKS):
                return conflict_message(peek.name, number, line)
            cells = line.rstrip("\r\n").split(layout.separator)
            if len(cells) != layout.n_columns:
                bad.append(f"line {number:,} has {len(cells)} cells, others {layout.n_columns}")
            elif worst := next((cells[i] for i in numbers if not _is_number(cells[i])), None):
                bad.append(f"line {number:,} has {worst.strip()[:40]!r} where a number belongs")
    shown = "; ".join(bad[:5]) or error.splitlines()[0]
    more = f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""
    return f"{peek.name}: {shown}{more}. Lines are never repaired; correct or export the file again"


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", ".") or "0")
    except ValueError:
        return False
    return True
