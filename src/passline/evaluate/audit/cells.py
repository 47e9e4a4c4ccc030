"""Cells of vendors' CSV files: rows and header, exact money, prices, sizes, times, symbols.

Every refusal names the file, the row as an editor counts it, what was found and what to do.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from passline.errors import FillsError
from passline.market.contract import Contract
from passline.market.load.times import detect_time
from passline.market.load.zones import check_zone, local_to_utc

__all__ = ["Sheet", "find_root", "read_sheet"]

MAX_BYTES = 200_000_000
MAX_ROWS = 500_000
_LARGEST = 10**12
_FIRST_NS = 631_152_000 * 10**9
_END_NS = 4_070_908_800 * 10**9
"""1990-01-01 and 2099-01-01, between which the calendar answers."""
_ROOT = re.compile(r"[FGHJKMNQUVXZ]\d{1,4}|[A-Z]{3}[- ]?\d{2,4}|\d{2}-\d{2}|\d{6}|\d?!|")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_MONEY = re.compile(
    r"(?P<bracket>\()?(?P<signs>[-−+$€£\s]{0,4})(?P<inner>\()?"
    r"(?P<number>[\d.,\s]*(?:[eE][+-]?\d{1,2})?)\)?\s*(?:USD)?",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A CSV file as text cells.

    Attributes:
        name: the file's name, for messages.
        header: column names, small letters, single spaces.
        rows: cells, stripped, each as long as the header.
        lines: number of each row in the file, from 1.
        is_comma_decimal: whether "1.234,5" is written for 1234.5.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    is_comma_decimal: bool

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, *names: str) -> int | None:
        """Returns the first column that has one of these names, None if there is none."""
        for name in names:
            if name in self.header:
                return self.header.index(name)
        return None

    def starting(self, *starts: str) -> int | None:
        """Returns the first column whose name starts so and is no percentage."""
        for start in starts:
            for index, name in enumerate(self.header):
                if name.startswith(start) and not name.endswith("%"):
                    return index
        return None

    def need(self, *names: str) -> int:
        """Returns the first column that has one of these names, or refuses the file."""
        found = self.find(*names)
        if found is None:
            raise FillsError(
                f"{self.name}: no column '{names[0]}'. Its columns: {', '.join(self.header)}."
            )
        return found

    def column(self, index: int) -> list[str]:
        """Returns the cells of a column."""
        return [row[index] for row in self.rows]

    def keep(self, is_kept: Sequence[bool]) -> "Sheet":
        """Returns the rows for which the mask holds."""
        pairs = [(r, n) for r, n, k in zip(self.rows, self.lines, is_kept, strict=True) if k]
        return Sheet(
            name=self.name,
            header=self.header,
            rows=tuple(row for row, _ in pairs),
            lines=tuple(line for _, line in pairs),
            is_comma_decimal=self.is_comma_decimal,
        )

    def fail(self, row: int, column: int, allowed: str) -> FillsError:
        """Returns the refusal of one cell."""
        found = self.rows[row][column]
        shown = found if len(found) <= 60 else f"{found[:57]}..."
        return FillsError(
            f"{self.name}: line {self.lines[row]}, column '{self.header[column]}': was '{shown}'; "
            f"it must be {allowed}."
        )

    def decimal(self, row: int, column: int) -> Decimal:
        """Returns a number: $1,234.50, ($2.00), $(2.00), -$2 and 1.234,50 are read exactly."""
        match = _MONEY.fullmatch(self.rows[row][column])
        bare = match["number"] if match else ""
        if self.is_comma_decimal:
            bare = re.sub(r"[.\s](?=\d{3}(\D|$))", "", bare).replace(",", ".")
        else:
            bare = re.sub(r"[,\s](?=\d{3}(\D|$))", "", bare)
        if match is None or not _NUMBER.fullmatch(bare):
            raise self.fail(row, column, "a number")
        value = Decimal(bare)
        is_negative = bool(match["bracket"] or match["inner"]) or any(
            s in match["signs"] for s in "-−"
        )
        if not value.is_finite() or abs(value) > _LARGEST:
            raise self.fail(row, column, "a number that fits an account")
        return -value if is_negative else value

    def mills(self, row: int, column: int) -> int:
        """Returns an amount of USD as mills, rounded where the file prints more digits."""
        return int((self.decimal(row, column) * 1000).to_integral_value())

    def money(self, column: int) -> NDArray[np.int64]:
        """Returns a column of USD as mills; int64 [n]."""
        return np.asarray([self.mills(row, column) for row in range(len(self))], np.int64)

    def quantity(self, row: int, column: int) -> int:
        """Returns a whole number of contracts above zero."""
        value = abs(self.decimal(row, column))
        if value != value.to_integral_value() or not 1 <= value <= 100_000:
            raise self.fail(row, column, "a whole number of contracts from 1 to 100,000")
        return int(value)

    def ticks(self, row: int, column: int, contract: Contract) -> int:
        """Returns a price in whole ticks of a contract."""
        exact = self.decimal(row, column) / contract.tick_size
        ticks = exact.to_integral_value()
        if abs(exact - ticks) > Decimal("0.002") or abs(ticks) > 2**29:
            raise self.fail(row, column, f"a multiple of the {contract.symbol} tick")
        return int(ticks)

    def times(self, column: int, *, zone: str | None, is_month_first: bool | None) -> list[int]:
        """Returns a column of times as UTC ns.

        Args:
            column: its index.
            zone: zone of stamps that name none.
            is_month_first: order of 05/06/2026 where nothing in the file tells; None to refuse it.
        """
        cells = [_plain_time(cell) for cell in self.column(column)]
        day_first = None if is_month_first is None else not is_month_first
        spec = detect_time(cells, day_first=day_first)
        name = self.header[column]
        if isinstance(spec, str):
            raise FillsError(
                f"{self.name}: column '{name}': {spec}; or say the order with --date-order mdy or "
                "--date-order dmy."
            )
        wall = pl.DataFrame({"t": cells}).select(spec.expression(pl.col("t"))).to_series()
        unread = np.flatnonzero(wall.is_null().to_numpy())
        if len(unread):
            raise self.fail(int(unread[0]), column, f"a time written like '{cells[0]}'")
        stamps = wall.to_numpy().astype(np.int64)
        if not spec.is_utc:
            if zone is None:
                raise FillsError(
                    f"{self.name}: the times of column '{name}' name no zone. Say whose clock "
                    "they are with --tz, such as --tz America/New_York or --tz UTC."
                )
            stamps, is_unreal = local_to_utc(stamps, check_zone(zone))
            if is_unreal.any():
                where = int(np.flatnonzero(is_unreal)[0])
                raise self.fail(where, column, f"a time that {zone} has, and has once")
        is_far = (stamps < _FIRST_NS) | (stamps >= _END_NS)
        if is_far.any():
            raise self.fail(int(np.flatnonzero(is_far)[0]), column, "a time of 1990 to 2098")
        return [int(value) for value in stamps]


def _plain_time(cell: str) -> str:
    """Returns a stamp with plain spaces, capital AM or PM, and two digits of month and day."""
    text = re.sub(r"[\u00a0\u202f]", " ", cell).strip()
    text = re.sub(r"(?i)\b([ap])\.?m\.?$", lambda m: f"{m[1].upper()}M", text)
    text = re.sub(r"\.(\d{3})\d*(?=Z|$|[+-])", r".\1", text)
    return re.sub(r"^(\d{1,2}/\d{1,2}/\d{4}),", r"\1", text)


def read_sheet(path: Path) -> Sheet:
    """Reads a CSV file: comma, semicolon or tab, with a header in its first filled line.

    Raises:
        FillsError: it cannot be read, holds no rows, or a row has more cells than the header.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FillsError(f"{path.name}: larger than {MAX_BYTES // 10**6} MB; split the file.")
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "not readable").lower()
        raise FillsError(
            f"{path}: cannot be read ({reason}). Give a CSV file of trades."
        ) from error
    text = _decode(data, path.name)
    first = next((line for line in text.splitlines() if line.strip()), "")
    mark = max((",", ";", "\t"), key=first.count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    except csv.Error as error:
        raise FillsError(f"{path.name}: not a CSV file ({error}). Export it again.") from error
    numbered = [(n, [c.strip() for c in row]) for n, row in enumerate(table, 1)]
    numbered = [(n, row) for n, row in numbered if any(row)]
    if len(numbered) < 2:
        raise FillsError(f"{path.name}: no rows of trades below a header. Export it again.")
    if len(numbered) > MAX_ROWS:
        raise FillsError(f"{path.name}: {len(numbered):,} rows; at most {MAX_ROWS:,} are read.")
    header = tuple(re.sub(r"\s+", " ", cell).lower() for cell in numbered[0][1])
    rows = []
    for line, row in numbered[1:]:
        if any(row[len(header) :]):
            raise FillsError(
                f"{path.name}: line {line} has {len(row)} cells and the header {len(header)}. "
                "Quote cells that hold the separator, or export the file again."
            )
        rows.append(tuple((row + [""] * len(header))[: len(header)]))
    return Sheet(
        name=path.name,
        header=header,
        rows=tuple(rows),
        lines=tuple(line for line, _ in numbered[1:]),
        is_comma_decimal=mark == ";" and _has_comma_decimals(rows),
    )


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise FillsError(f"{name}: not a text file. Export the trades as CSV.")


def _has_comma_decimals(rows: Sequence[tuple[str, ...]]) -> bool:
    cells = [cell for row in rows[:200] for cell in row]
    commas = sum(bool(re.search(r"\d,\d{1,2}\)?$|\d,\d{4,}$", cell)) for cell in cells)
    points = sum(bool(re.search(r"^[-$(]*[\d,]*\.\d+\)?$", cell)) for cell in cells)
    return commas > points


def find_root(text: str, contracts: dict[str, Contract]) -> Contract | None:
    """Returns the contract that a vendor's name means, None if none fits.

    ES, ESH4, ES 03-24, ES MAR24, CME_MINI:ES1!, /ESH24 and @ES are read.
    """
    clean = re.sub(r"^[A-Z_]+:|^[/@]", "", text.strip().upper())
    clean = re.sub(r"\.(XCME|XCBT|XNYM|XCEC|CME|CBT|NYM|CMX|FUT)$", "", clean)
    for size in range(min(len(clean), 6), 0, -1):
        rest = clean[size:].strip()
        if clean[:size] in contracts and _ROOT.fullmatch(rest):
            return contracts[clean[:size]]
    return None
