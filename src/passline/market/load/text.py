"""Streams delimited text as chunks: blocks of whole lines, parsed one ahead of the checks.

Never more than three blocks are in memory, whatever the size of the file.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from passline.errors import BarsError
from passline.market.load.chunks import Chunk, Source
from passline.market.load.columns import Roles, assign_roles
from passline.market.load.damage import TABLE_ERRORS
from passline.market.load.formats import Format
from passline.market.load.peek import CONFLICT_MARKS, Layout, Peek, conflict_message
from passline.market.load.tables import PRICES, require_roles, time_spec, to_chunk
from passline.market.load.times import TimeSpec

__all__ = ["open_text"]

_BLOCK_BYTES = 12 << 20
_HEADERLESS = ("time", "open", "high", "low", "close", "volume", "extra1", "extra2", "extra3")
_SHOWN = 5
_MIDNIGHT = re.compile(r"[ T]00:00(:00(\.0+)?)?($|[ Z+-])")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parser:
    """How a block of lines becomes a table of time, prices, volume, symbol and action."""

    layout: Layout
    schema: dict[str, pl.DataType]
    selected: dict[str, pl.Expr]

    def parse(self, block: bytes) -> pl.DataFrame:
        """Parses whole lines; raises polars' errors."""
        table = pl.read_csv(
            block,
            has_header=False,
            separator=self.layout.separator,
            schema=self.schema,
            decimal_comma=self.layout.is_decimal_comma and not self.layout.is_padded,
            quote_char='"' if self.layout.is_quoted else None,
        )
        return table.select(**self.selected)


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
    require_roles(roles, peek.name, names, columns)
    samples = [row[roles["time"]] for row in layout.rows]
    if "clock" in roles:
        samples = [f"{row[roles['time']]} {row[roles['clock']]}" for row in layout.rows]
    spec = time_spec(peek.name, samples, known)
    is_daily = spec.is_date or (len(samples) > 2 and all(map(_MIDNIGHT.search, samples)))
    parser = _parser(layout, roles, spec)
    scale = _scale(layout, roles, known)

    def chunks() -> Iterator[Chunk]:
        row = layout.n_skip + 1
        try:
            for table in _tables(peek.path, layout.n_skip, parser):
                chunk = to_chunk(table, roles, row, scale)
                if chunk.is_unread.any():
                    rows = (chunk.is_unread.nonzero()[0] + row).tolist()
                    raise BarsError(_unread(peek, layout, roles, rows))
                yield chunk
                row += len(table)
        except TABLE_ERRORS as error:
            raise BarsError(_diagnose(peek, layout, roles, str(error))) from None

    return Source(
        chunks=chunks,
        is_utc=spec.is_utc,
        zone=roles.zone,
        is_points=not roles.is_bars,
        is_daily=is_daily,
        has_volume="volume" in roles,
    )


def _blocks(path: Path, n_skip: int) -> Iterator[bytes]:
    """Yields stretches of whole lines after the first `n_skip`."""
    with path.open("rb") as file:
        for _ in range(n_skip):
            file.readline()
        while block := file.read(_BLOCK_BYTES):
            yield block + file.readline()


def _tables(path: Path, n_skip: int, parser: _Parser) -> Iterator[pl.DataFrame]:
    """Parses the next block while the caller works on this one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = None
        for block in _blocks(path, n_skip):
            following = pool.submit(parser.parse, block)
            if coming is not None and len(table := coming.result()):
                yield table
            coming = following
        if coming is not None and len(table := coming.result()):
            yield table


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


def _parser(layout: Layout, roles: Roles, spec: TimeSpec) -> _Parser:
    schema: dict[str, pl.DataType] = {f"c{i}": pl.String() for i in range(layout.n_columns)}
    numbers = [role for role in (*PRICES, "price", "volume") if role in roles]
    if not layout.is_padded:
        schema |= {f"c{roles[role]}": pl.Float64() for role in numbers}
        if spec.kind == "epoch":
            schema[f"c{roles['time']}"] = pl.Int64()
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
    return _Parser(layout=layout, schema=schema, selected=selected)


def _unread(peek: Peek, layout: Layout, roles: Roles, rows: list[int]) -> str:
    """Says what stands where the times of these lines should be."""
    wanted = set(rows[:_SHOWN])
    bad = []
    with peek.path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if number in wanted:
                if line.startswith(CONFLICT_MARKS):
                    return conflict_message(peek.name, number, line)
                cells = line.rstrip("\r\n").split(layout.separator)
                cell = cells[roles["time"]].strip() if roles["time"] < len(cells) else ""
                bad.append(f"line {number:,} has {cell[:40]!r}")
            if number > max(wanted):
                break
    more = f"; and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return (
        f"{peek.name}: a time that cannot be read in {len(rows):,} lines; first {'; '.join(bad)}"
        f"{more}. All times of a file must be written one way; lines are never repaired"
    )


def _diagnose(peek: Peek, layout: Layout, roles: Roles, error: str) -> str:
    """Says which lines polars stumbled over, walking the text once."""
    bad: list[str] = []
    numbers = [roles[r] for r in (*PRICES, "price", "volume") if r in roles]
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
