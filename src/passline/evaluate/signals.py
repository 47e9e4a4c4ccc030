"""Signal files: `time,action,qty,stop_ticks,target_ticks`, checked row by row.

A signal's time is the close of the bar on which it was decided. Which bar that is, and what becomes
of the order, is told by `passline.evaluate.placing`.
"""

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from passline.errors import ConfigError
from passline.market.clock import END_YEAR, FIRST_YEAR
from passline.sim.layout import OrderKind

__all__ = [
    "ACTIONS",
    "COLUMNS",
    "Signal",
    "SignalFile",
    "list_problems",
    "read_signals",
    "utc_text",
]

COLUMNS = ("time", "action", "qty", "stop_ticks", "target_ticks")
ACTIONS = {
    "long": OrderKind.LONG,
    "short": OrderKind.SHORT,
    "close": OrderKind.CLOSE,
    "breakeven": OrderKind.BREAKEVEN,
    "trail_on": OrderKind.TRAIL_ON,
    "trail_off": OrderKind.TRAIL_OFF,
}
MAX_BYTES = 200_000_000
MAX_QTY = 100_000
MAX_TICKS = 10_000_000
N_SHOWN = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHOLE = re.compile(r"[+-]?[0-9]{1,12}(\.0{0,12})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One row of a signal file.

    Attributes:
        line: number of its line in the file, the header being 1.
        time_ns: when it was decided, UTC ns.
        action: one of ACTIONS.
        qty: contracts of an entry; of a close those it names, 0 for all; 0 otherwise.
        stop_ticks: distance of an entry's stop; 0 for none.
        target_ticks: distance of an entry's target; 0 for none.
    """

    line: int
    time_ns: int
    action: str
    qty: int
    stop_ticks: int
    target_ticks: int

    @property
    def kind(self) -> OrderKind:
        """The order that the action asks for."""
        return ACTIONS[self.action]


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalFile:
    """A signal file that was read.

    Attributes:
        name: file name.
        signals: its rows, times rising.
        sha256: hash of the file.
    """

    name: str
    signals: tuple[Signal, ...]
    sha256: str


class RowError(Exception):
    """What is wrong with one row."""


def list_problems(name: str, noun: str, problems: Sequence[str], n_rows: int, remedy: str) -> str:
    """Returns a message with the first five problems, their count, and what to do."""
    shown = "; ".join(problems[:N_SHOWN])
    more = f"; and {len(problems) - N_SHOWN:,} more" if len(problems) > N_SHOWN else ""
    return f"{name}: {len(problems):,} of {n_rows:,} rows {noun}: {shown}{more}. {remedy}"


def read_signals(path: Path) -> SignalFile:
    """Reads and checks a signal file.

    Raises:
        ConfigError: it is no such file, or rows are wrong; the message lists up to five of them.
    """
    path = Path(path)
    data = _load(path)
    rows = _rows(data, path.name)
    signals: list[Signal] = []
    problems: list[str] = []
    for line, cells in rows:
        try:
            signals.append(_signal(line, cells))
        except RowError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        remedy = (
            "A row is time (ISO 8601 with its offset), action "
            f"({', '.join(ACTIONS)}), qty, stop_ticks, target_ticks"
        )
        raise ConfigError(list_problems(path.name, "are wrong", problems, len(rows), remedy))
    if not signals:
        raise ConfigError(f"{path.name}: has a header and no rows; at least one signal is needed")
    _check_order(signals, path.name)
    return SignalFile(
        name=path.name, signals=tuple(signals), sha256=hashlib.sha256(data).hexdigest()
    )


def _load(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                f"{path.name}: {size:,} bytes; a signal file has at most {MAX_BYTES:,}. "
                "Split it by account"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _rows(data: bytes, name: str) -> list[tuple[int, dict[str, str]]]:
    """Returns line number and cells of each row, after checking the header."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name}: not a UTF-8 text file (byte {error.start:,}). Save it as CSV in UTF-8"
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if header is None:
                header = _header(stripped, name)
                continue
            if len(stripped) != len(header):
                raise ConfigError(
                    f"{name}: line {reader.line_num} has {len(stripped)} fields; the header has "
                    f"{len(header)}. Empty values keep their commas, as in "
                    "2025-01-02T10:31:00-05:00,close,,,"
                )
            rows.append((reader.line_num, dict(zip(header, stripped, strict=True))))
    except csv.Error as error:
        raise ConfigError(f"{name}: line {reader.line_num} is not valid CSV: {error}") from None
    if header is None:
        raise ConfigError(f"{name}: the file is empty; the first line must be {','.join(COLUMNS)}")
    return rows


def _header(cells: list[str], name: str) -> list[str]:
    if sorted(cells) == sorted(COLUMNS):
        return cells
    found = ",".join(cells)
    found = found if len(found) <= 80 else found[:77] + "..."
    raise ConfigError(f"{name}: the header was '{found}'; it must be {','.join(COLUMNS)}")


def _signal(line: int, cells: dict[str, str]) -> Signal:
    time_ns = _time_ns(cells["time"])
    action = cells["action"].lower()
    if action not in ACTIONS:
        raise RowError(f"action was '{_short(cells['action'])}'")
    if action in ("long", "short"):
        qty = _whole(cells["qty"], "qty", MAX_QTY, "an entry needs its number of contracts")
        stop = _whole(cells["stop_ticks"], "stop_ticks", MAX_TICKS, None)
        target = _whole(cells["target_ticks"], "target_ticks", MAX_TICKS, None)
        return Signal(
            line=line, time_ns=time_ns, action=action, qty=qty, stop_ticks=stop, target_ticks=target
        )
    for name in ("stop_ticks", "target_ticks"):
        if not _is_blank(cells[name]):
            raise RowError(f"{name} was {_short(cells[name])}; only long and short have one")
    qty = 0 if _is_blank(cells["qty"]) else _whole(cells["qty"], "qty", MAX_QTY, None)
    return Signal(line=line, time_ns=time_ns, action=action, qty=qty, stop_ticks=0, target_ticks=0)


def _is_blank(text: str) -> bool:
    """Tells whether a field that does not apply is empty, or the 0 that some programs put there."""
    return not text or bool(re.fullmatch(r"0(\.0*)?", text))


def _whole(text: str, name: str, most: int, why: str | None) -> int:
    """Reads a whole number of at least 1; 0 for an empty field where `why` allows it (None)."""
    if not text:
        if why is not None:
            raise RowError(f"{name} was empty; {why}")
        return 0
    if not WHOLE.fullmatch(text):
        raise RowError(f"{name} was '{_short(text)}'; it must be a whole number")
    value = int(text.partition(".")[0])
    if not 1 <= value <= most:
        empty = "" if why is not None else ", or empty for none"
        raise RowError(f"{name} was {value}; it must be 1 to {most:,}{empty}")
    return value


def _time_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        offset = moment.utcoffset()
        since = None if offset is None else moment - EPOCH
    except (ValueError, OverflowError):
        raise RowError(
            f"time was '{_short(text)}'; it must be ISO 8601, such as 2025-01-02T10:31:00-05:00"
        ) from None
    if since is None:
        raise RowError(f"time {_short(text)} has no offset, such as -05:00 or Z")
    if not FIRST_YEAR <= moment.year < END_YEAR:
        raise RowError(f"time was {_short(text)}; years are {FIRST_YEAR} to {END_YEAR - 1}")
    return since // timedelta(microseconds=1) * 1_000


def _short(text: str) -> str:
    """Returns text as a message can show it."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= 40 else clean[:37] + "..."


def _check_order(signals: Sequence[Signal], name: str) -> None:
    problems = [
        f"line {later.line} ({utc_text(later.time_ns)}) after line {earlier.line} "
        f"({utc_text(earlier.time_ns)})"
        for earlier, later in pairwise(signals)
        if later.time_ns < earlier.time_ns
    ]
    if problems:
        remedy = "Sort the file by time"
        raise ConfigError(list_problems(name, "go back in time", problems, len(signals), remedy))


def utc_text(time_ns: int) -> str:
    """Returns UTC ns as ISO 8601 with the offset, to the second or finer where needed."""
    return (EPOCH + timedelta(microseconds=time_ns // 1_000)).isoformat()
