"""How a file writes time: epoch counts, ISO and vendors' date orders, as polars expressions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["TimeSpec", "detect_time", "time_of_dtype"]

_EPOCH_UNITS = {10: 1_000_000_000, 13: 1_000_000, 16: 1_000, 19: 1}
_DATE = r"(?P<a>\d{1,4})(?P<sep>[-/.])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{1,4})|(?P<packed>\d{8})"
_CLOCK = (
    r"(?P<hour>\d{1,2}):\d{2}(?P<second>:\d{2})?(?P<fraction>[.,]\d+)?(?P<half> ?[AaPp][Mm])?"
    r"|(?P<packed_clock>\d{6}|\d{4})(?P<packed_fraction>\.\d+)?"
)
_STAMP = re.compile(
    rf"^(?:{_DATE})(?:(?P<join>[T ]| +)(?:{_CLOCK}))?(?P<offset>\s?Z|\s?[+-]\d{{2}}:?\d{{2}})?$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSpec:
    """One way of writing time.

    Attributes:
        kind: epoch, text or datetime (already a temporal column).
        pattern: strptime pattern of a text stamp.
        unit_ns: nanoseconds of one count of an epoch.
        is_utc: whether the stamp itself fixes UTC (an epoch, an offset, an aware column).
        is_date: whether the stamp is a date without a clock: daily bars.
    """

    kind: str
    pattern: str = ""
    unit_ns: int = 1
    is_utc: bool = False
    is_date: bool = False

    def expression(self, column: pl.Expr) -> pl.Expr:
        """Returns ns since 1970-01-01, of UTC or of the file's clock; null if unreadable."""
        if self.kind == "epoch":
            return column.cast(pl.Int64, strict=False) * self.unit_ns
        if self.kind == "datetime":
            return column.cast(pl.Datetime("ns")).to_physical()
        stamp = column.str.to_datetime(self.pattern, time_unit="ns", strict=False, cache=False)
        return stamp.to_physical()


def _date_pattern(match: re.Match[str], day_first: bool | None) -> str | None:
    if match["packed"]:
        return "%Y%m%d"
    mark = match["sep"]
    if len(match["a"]) == 4:
        return f"%Y{mark}%m{mark}%d"
    if len(match["c"]) != 4 or day_first is None:
        return None
    return f"%d{mark}%m{mark}%Y" if day_first else f"%m{mark}%d{mark}%Y"


def _clock_pattern(match: re.Match[str]) -> str:
    if match["packed_clock"]:
        clock = "%H%M%S" if len(match["packed_clock"]) == 6 else "%H%M"
        return clock + ("%.f" if match["packed_fraction"] else "")
    if not match["hour"]:
        return ""
    clock = "%I:%M" if match["half"] else "%H:%M"
    clock += ":%S" if match["second"] else ""
    clock += "%.f" if match["fraction"] else ""
    return clock + (
        " %p" if match["half"] and " " in match["half"] else "%p" if match["half"] else ""
    )


def _offset_pattern(offset: str, clock: str) -> str:
    """Returns the pattern of an offset; polars reads a fraction only before Z or under %+."""
    if offset.strip() == "Z":
        return offset
    return " %z" if offset.startswith(" ") else "%z"


def _day_first(matches: Sequence[re.Match[str]]) -> bool | None:
    """Says whether day comes before month, from values over 12; None when nothing tells."""
    first = [int(m["a"]) for m in matches if m["a"] and len(m["a"]) < 4]
    second = [int(m["b"]) for m in matches if m["a"] and len(m["a"]) < 4]
    if any(value > 12 for value in first):
        return True
    if any(value > 12 for value in second):
        return False
    marks = {m["sep"] for m in matches if m["sep"]}
    return True if marks == {"."} else None


def detect_time(samples: Sequence[str], *, day_first: bool | None = None) -> TimeSpec | str:
    """Finds how a column of text writes time.

    Args:
        samples: stripped cells, from the beginning and the end of the file.
        day_first: date order where the vendor fixes it.

    Returns:
        The specification, or a sentence on why there is none.
    """
    cells = [cell for cell in samples if cell]
    if not cells:
        return "the time column is empty"
    if all(re.fullmatch(r"\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19}", cell) for cell in cells):
        digits = {9: 10, 12: 13, 15: 16, 18: 19}.get(len(cells[0]), len(cells[0]))
        return TimeSpec(kind="epoch", unit_ns=_EPOCH_UNITS[digits], is_utc=True)
    if all(re.fullmatch(r"\d{14}", cell) for cell in cells):
        return TimeSpec(kind="text", pattern="%Y%m%d%H%M%S")
    matches = [m for m in map(_STAMP.match, cells) if m]
    if len(matches) < max(len(cells) // 2, 1):
        return f"time was {cells[0]!r}, which is not a known way to write a time"
    order = _day_first(matches)
    order = day_first if order is None else order
    longest = max(matches, key=lambda m: len(m[0]))
    written = _date_pattern(longest, order)
    if written is None:
        return (
            f"dates such as {longest[0]!r} do not tell day from month; write them as YYYY-MM-DD, "
            "or name the vendor with --format"
        )
    clock = _clock_pattern(longest)
    join = longest["join"] or ""
    pattern = written + (join if join != "  " else " ") + clock
    if longest["offset"]:
        pattern += _offset_pattern(longest["offset"], clock)
    if not clock:
        pattern = written + " %H:%M"
    return TimeSpec(
        kind="text", pattern=pattern, is_utc=longest["offset"] is not None, is_date=not clock
    )


def time_of_dtype(dtype: pl.DataType, largest: int) -> TimeSpec | str:
    """Finds how a typed column holds time; `largest` decides the unit of whole numbers."""
    if isinstance(dtype, pl.Datetime):
        return TimeSpec(kind="datetime", is_utc=dtype.time_zone is not None)
    if dtype == pl.Date:
        return TimeSpec(kind="datetime", is_date=True)
    if dtype.is_integer():
        for digits, unit in _EPOCH_UNITS.items():
            if largest < 10 ** (digits + 1):
                return TimeSpec(kind="epoch", unit_ns=unit, is_utc=True)
    return f"the time column has type {dtype}; a timestamp, a text or an epoch count is needed"
