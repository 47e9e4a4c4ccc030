"""Streams typed tables, Parquet or JSON lines, as chunks of plain arrays.

polars parses in the background, in batches; nothing here holds more than a batch.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from passline.errors import BarsError
from passline.market.load.chunks import Chunk, Source
from passline.market.load.columns import Roles, assign_roles, normal_name
from passline.market.load.damage import TABLE_ERRORS
from passline.market.load.formats import Format
from passline.market.load.peek import Peek
from passline.market.load.times import TimeSpec, detect_time, time_of_dtype

__all__ = ["PRICES", "open_frame", "open_parquet", "require_roles", "time_spec", "to_chunk"]

_BATCH = 200_000
PRICES = ("open", "high", "low", "close")


def require_roles(
    roles: Roles, name: str, names: tuple[str, ...], columns: Mapping[str, str] | None
) -> None:
    """Raises BarsError unless there are a time and prices, each in one column."""
    _require_single(roles, name, names, columns or {})
    if "time" in roles and (roles.is_bars or roles.is_points):
        return
    if "time" in roles and roles.lacking:
        lacking = " and ".join(roles.lacking)
        raise BarsError(
            f"{name}: no column for {lacking} among {', '.join(names)}; a bar has open, high, low "
            f"and close. Export it too, or name it with --column {roles.lacking[0]}=NAME"
        )
    missing = "time" if "time" not in roles else "open, high, low, close (or price)"
    raise BarsError(
        f"{name}: no column for {missing} among {', '.join(names)}. "
        "Name it with --column ROLE=NAME, such as --column close=Last"
    )


def _require_single(
    roles: Roles, name: str, names: tuple[str, ...], columns: Mapping[str, str]
) -> None:
    """Raises BarsError where two columns have the name of one role; --column may choose one."""
    for role, position in roles.positions.items():
        own = names[position]
        alike = [other for other in names if normal_name(other) == normal_name(own)]
        if len(alike) == 1 or (role in columns and names.count(own) == 1):
            continue
        is_same = len(set(alike)) == 1
        remedy = "Remove or rename all but one" if is_same else f"Name one with --column {role}="
        raise BarsError(
            f"{name}: {len(alike)} columns are named {', '.join(dict.fromkeys(alike))}, and one "
            f"{role} is read. {remedy}" + ("" if is_same else alike[0])
        )


def time_spec(name: str, cells: list[str], known: Format) -> TimeSpec:
    """Returns how cells write time; raises BarsError where they write it in no known way."""
    spec = detect_time(cells, day_first=known.day_first)
    if isinstance(spec, str):
        raise BarsError(f"{name}: {spec}")
    return spec


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
    require_roles(roles, peek.name, names, columns)
    schema = frame.collect_schema()
    time_name = names[roles["time"]]
    dtype = schema[time_name]
    try:
        ends = pl.concat([frame.select(time_name).head(50), frame.select(time_name).tail(50)])
        sample = ends.collect()[time_name]
        if dtype == pl.String:
            spec: TimeSpec | str = time_spec(peek.name, sample.drop_nulls().to_list(), known)
        else:
            largest = sample.max() if dtype.is_integer() else 0
            spec = time_of_dtype(dtype, largest if isinstance(largest, int) else 0)
    except TABLE_ERRORS:
        raise BarsError(f"{peek.name}: the file is damaged. Fetch it again") from None
    if isinstance(spec, str):
        raise BarsError(f"{peek.name}: {spec}")
    selected = {"time": spec.expression(pl.col(time_name))}
    prices = [role for role in (*PRICES, "price") if role in roles]
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
        except TABLE_ERRORS as error:
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
    prices = batch[list(PRICES if roles.is_bars else (points,))].to_numpy(order="fortran").T
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
