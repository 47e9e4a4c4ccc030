"""A first look at a file: its container, separator, header and sample rows. Nothing is interpreted.

A compressed or UTF-16 text is unpacked once into a temporary file, so that the reader behind it
streams plain UTF-8 in every case.
"""

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from passline.errors import BarsError
from passline.market.load.damage import ARCHIVE_ERRORS, TABLE_ERRORS, system_words
from passline.market.load.unpack import require_readable, require_table_size, unpack

__all__ = ["Layout", "Peek", "container", "look", "plain_text", "sniff_layout"]

_HEAD_BYTES = 1 << 16
LEAN_MEMBER = re.compile(r"_(minute|second|tick|hour|daily)_(trade|quote|openinterest)")
_SEPARATORS = (";", "\t", "|", ",")
CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a text is laid out.

    Attributes:
        separator: between cells.
        n_skip: lines before the first row (comments and header).
        names: the header's cells, or empty where there is no header.
        n_columns: cells of a row.
        rows: sample rows from the beginning and the end, cells stripped.
        comments: leading comment lines.
        is_decimal_comma: whether prices are written 5612,25.
        is_padded: whether cells carry blanks around them.
        is_quoted: whether cells may stand in double quotes.
    """

    separator: str
    n_skip: int
    names: tuple[str, ...]
    n_columns: int
    rows: tuple[tuple[str, ...], ...]
    comments: tuple[str, ...]
    is_decimal_comma: bool
    is_padded: bool
    is_quoted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Peek:
    """What is seen at first sight: the container and, of text, the layout."""

    path: Path
    name: str
    container: str
    layout: Layout | None = None
    schema: tuple[tuple[str, pl.DataType], ...] = ()
    members: tuple[str, ...] = ()


def container(path: Path, name: str) -> str:
    """Returns parquet, dbn, dbz, zip, gzip, zstd, utf16, json, text or binary, by first bytes.

    Args:
        path: the file.
        name: what the user calls it.

    Raises:
        BarsError: it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise BarsError(f"{path}: cannot be read: {error.strerror}") from error
    if not head.strip():
        raise BarsError(f"{name}: the file is empty. A bar file has at least two rows")
    marks = (
        (b"PAR1", "parquet"),
        (b"DBN", "dbn"),
        (b"P*M\x18", "dbz"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x8b", "gzip"),
        (b"\xff\xfe", "utf16"),
        (b"\xfe\xff", "utf16"),
    )
    for mark, kind in marks:
        if head.startswith(mark):
            return kind
    if head.startswith(b"(\xb5/\xfd"):
        return "dbn" if ".dbn" in path.name else "zstd"
    if b"\0" in head:
        return "binary"
    return "json" if head.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"{", b"[")) else "text"


@contextmanager
def plain_text(path: Path) -> Iterator[tuple[Path, str]]:
    """Yields a path whose container is not compressed, and the container's kind.

    Raises:
        BarsError: the file is damaged, or unpacks to more than market data does.
    """
    kind = container(path, path.name)
    is_single = kind == "zip" and _is_single_text(path)
    if kind not in {"gzip", "zstd", "utf16"} and not is_single:
        yield path, kind
        return
    with TemporaryDirectory(prefix="passline-") as folder:
        target = Path(folder) / "plain"
        try:
            unpack(path, kind, target)
        except (*ARCHIVE_ERRORS, *TABLE_ERRORS) as error:
            reason = system_words(error)
            if reason is not None:
                raise BarsError(
                    f"{path.name}: could not be unpacked into {Path(folder).parent}: {reason}. "
                    "Free space there, or name another folder for temporary files in TMPDIR"
                ) from error
            raise BarsError(f"{path.name}: the {kind} file is damaged. Fetch it again") from None
        inside = container(target, path.name)
        if inside == "zip":
            raise BarsError(f"{path.name}: a zip inside {kind}. Unpack it and import the zip")
        yield target, inside


def _is_single_text(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ARCHIVE_ERRORS:
        raise BarsError(f"{path.name}: the zip file is damaged. Fetch it again") from None
    return len(names) == 1 and not LEAN_MEMBER.search(names[0])


def _sample_lines(path: Path, name: str) -> tuple[list[str], list[str]]:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, 2)
        file.seek(max(size - _HEAD_BYTES, 0))
        tail = file.read()
    if b"\0" in head or b"\0" in tail:
        raise BarsError(f"{name}: zero bytes in what looked like text; the file is damaged")
    first = head.decode("utf-8-sig", errors="replace").splitlines()
    last = tail.decode("utf-8", errors="replace").splitlines()
    if size > _HEAD_BYTES:
        first, last = first[:-1], last[1:]
    return first[:400], last[-200:]


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _separator(lines: list[str]) -> tuple[str, int] | None:
    best: tuple[float, str, int] | None = None
    for separator in _SEPARATORS:
        counts = Counter(len(_split(line, separator)) for line in lines)
        n_cells, n_lines = counts.most_common(1)[0]
        share = n_lines / len(lines)
        if n_cells >= 3 and share >= 0.5 and (best is None or share > best[0]):
            best = (share, separator, n_cells)
    return None if best is None else (best[1], best[2])


def _is_header(cells: list[str], row: list[str]) -> bool:
    """A header has no cell that begins like a number; the row below it has."""
    looks = [cell.strip().lstrip("-")[:1].isdigit() for cell in cells]
    return not any(looks) and any(cell.strip().lstrip("-")[:1].isdigit() for cell in row)


def sniff_layout(first: list[str], last: list[str]) -> Layout | str:
    """Finds separator, header and sample rows of a text, or says in a sentence why it cannot."""
    n_comments = 0
    while n_comments < len(first) and (
        not first[n_comments].strip() or first[n_comments].lstrip().startswith(("#", "//"))
    ):
        n_comments += 1
    body = [line for line in first[n_comments:] if line.strip()]
    if len(body) < 2:
        return "fewer than two lines of data"
    found = _separator(body[1:])
    if found is None:
        return "the lines do not split into three or more cells at ; tab | or comma"
    separator, n_columns = found
    header = [cell.strip() for cell in _split(body[0], separator)]
    has_header = _is_header(header, _split(body[1], separator))
    data = body[1:] if has_header else body
    rows = [_split(line, separator) for line in data[:200] + last]
    rows = [row for row in rows if len(row) == n_columns and row[0].strip()[:1].isdigit()]
    if not rows:
        return "no row begins with a time"
    if has_header and len(header) == n_columns - 1 and ":" in rows[0][1]:
        header.insert(1, "time")
    if has_header and len(header) < n_columns:
        header += [""] * (n_columns - len(header))
    cells = tuple(tuple(cell.strip() for cell in row) for row in rows)
    commas = sum(cell.count(",") == 1 and cell.replace(",", "").isdigit() for cell in cells[0])
    return Layout(
        separator=separator,
        n_skip=first.index(body[0]) + has_header,
        names=tuple(header[:n_columns]) if has_header else (),
        n_columns=n_columns,
        rows=cells,
        comments=tuple(first[:n_comments]),
        is_decimal_comma=separator != "," and commas > 0,
        is_padded=any(cell != cell.strip() for row in rows for cell in row),
        is_quoted=any('"' in line for line in data + last),
    )


def look(path: Path, name: str, kind: str) -> Peek:
    """Looks at an unpacked file.

    Args:
        path: the plain file.
        name: what the user calls it.
        kind: its container, from `plain_text`.

    Raises:
        BarsError: the text has conflict markers, or the Parquet file is damaged or has more rows
            than market data of its size.
    """
    peek = Peek(path=path, name=name, container=kind)
    if kind == "parquet":
        try:
            schema = tuple(pl.read_parquet_schema(path).items())
            require_table_size(path, name)
            require_readable(path, name)
        except TABLE_ERRORS:
            raise BarsError(f"{name}: the Parquet file is damaged. Fetch it again") from None
        return replace(peek, schema=schema)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            return replace(peek, members=tuple(archive.namelist()))
    if kind != "text":
        return peek
    first, last = _sample_lines(path, name)
    for number, line in enumerate(first, start=1):
        if line.startswith(CONFLICT_MARKS):
            raise BarsError(conflict_message(name, number, line))
    layout = sniff_layout(first, last)
    return peek if isinstance(layout, str) else replace(peek, layout=layout)


def conflict_message(name: str, number: int, line: str) -> str:
    """Returns the message for a git conflict marker at a line."""
    return (
        f"{name}: line {number:,} was {line.strip()[:40]!r}, a conflict marker of git; two "
        "versions of the data are mixed here. Resolve the merge, or take the file from one commit"
    )
