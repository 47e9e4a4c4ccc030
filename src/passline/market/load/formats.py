"""The file formats that can be read: how each is recognized, and what its vendor fixes about time.

A format is a row of `FORMATS`. Where the vendor fixes no zone or no stamp convention the field is
None and the user must say; where the vendor's programs let the user choose but almost everyone
keeps the default, `is_usual` is set and the report says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from passline.errors import BarsError
from passline.market.load.columns import Roles, assign_roles, normal_name
from passline.market.load.parquet import is_passline_file
from passline.market.load.peek import LEAN_MEMBER, Layout, Peek

__all__ = ["FORMATS", "Format", "detect_format", "find_format"]

_OHLCV = ("open", "high", "low", "close", "volume")
_TIME_OHLCV = ("time", *_OHLCV)
_DATE_CLOCK_OHLCV = ("date", "time", *_OHLCV)
_EST = "-05:00"


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One way that market data is written.

    Attributes:
        name: what --format takes.
        title: the format in words.
        container: parquet, text, json, dbn or zip.
        why_not: says why a file is not of this format, or None where it is.
        zone: zone of the stamps where the vendor fixes one, else None.
        stamp: open or close of the bar where the vendor fixes one, else None.
        is_usual: whether zone and stamp are the vendor's default setting rather than a fixed rule.
        names: column names of files without a header.
        day_first: order of day and month where the vendor fixes one.
        price_scale: prices are whole multiples of 1/price_scale where they are integers.
    """

    name: str
    title: str
    container: str
    why_not: Callable[[Peek], str | None]
    zone: str | None = None
    stamp: str | None = None
    is_usual: bool = False
    names: tuple[str, ...] = ()
    day_first: bool | None = None
    price_scale: int = 1


def _of_container(kind: str) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        return None if peek.container == kind else f"not {kind}"

    return why_not


def _layout(peek: Peek) -> Layout | str:
    if peek.container != "text":
        return f"a {peek.container} file"
    return peek.layout or "not rows and columns"


def _with_header(*required: str, first: str | None = None) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        layout = _layout(peek)
        if isinstance(layout, str):
            return layout
        if not layout.names:
            return "no header"
        names = [normal_name(name) for name in layout.names]
        missing = [name for name in required if normal_name(name) not in names]
        if missing:
            return f"no column {missing[0]}"
        return None if first is None or layout.names[0] == first else f"first column not {first}"

    return why_not


def _headerless(*patterns: str, cells: tuple[int, ...]) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        layout = _layout(peek)
        if isinstance(layout, str):
            return layout
        if layout.names:
            return "has a header"
        if layout.n_columns not in cells:
            return f"{layout.n_columns} cells in a row"
        for pattern, cell in zip(patterns, layout.rows[0], strict=False):
            if not re.fullmatch(pattern, cell):
                return f"cell {cell!r}"
        return None

    return why_not


def _all(*checks: Callable[[Peek], str | None]) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        return next((reason for check in checks if (reason := check(peek))), None)

    return why_not


def _any(*checks: Callable[[Peek], str | None]) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        reasons = [check(peek) for check in checks]
        return None if None in reasons else reasons[0]

    return why_not


def _parquet_with(*required: str) -> Callable[[Peek], str | None]:
    def why_not(peek: Peek) -> str | None:
        if peek.container != "parquet":
            return "not parquet"
        names = {name for name, _ in peek.schema}
        missing = [name for name in required if name not in names]
        return f"no column {missing[0]}" if missing else None

    return why_not


def _is_histdata(peek: Peek) -> str | None:
    if re.search(r"DAT_(ASCII|MT|NT)_", peek.name):
        return None
    layout = peek.layout
    zeros = layout is not None and all(row[-1] in {"0", "0.0"} for row in layout.rows)
    return None if zeros else "the name has no DAT_ASCII_, DAT_MT_ or DAT_NT_ and it has volume"


def _has_schema_line(peek: Peek) -> str | None:
    layout = _layout(peek)
    if isinstance(layout, str):
        return layout
    found = any("#schema" in line.replace(" ", "") for line in layout.comments)
    return None if found else "no '# schema' line"


def _lean(peek: Peek) -> str | None:
    if peek.container != "zip":
        return "not zip"
    found = bool(peek.members) and all(LEAN_MEMBER.search(name) for name in peek.members)
    return None if found else "no members named ..._minute_trade_YYYYMM.csv"


def _passline(peek: Peek) -> str | None:
    if peek.container != "parquet":
        return "not parquet"
    return None if is_passline_file(peek.path) else "no passline metadata"


def _roles_fit(roles: Roles) -> str | None:
    if "time" not in roles:
        return "no column for the time"
    if not (roles.is_bars or roles.is_points or roles.lacking):
        return "no columns open, high, low, close and no column price"
    return None


def _generic_text(peek: Peek) -> str | None:
    layout = _layout(peek)
    if isinstance(layout, str):
        return layout
    if layout.names:
        return _roles_fit(assign_roles(layout.names))
    has_clock = ":" in layout.rows[0][1] and ":" not in layout.rows[0][0]
    n_needed = 6 if has_clock else 5
    if layout.n_columns in {n_needed, n_needed + 1}:
        return None
    return f"no header and {layout.n_columns} cells in a row"


def _generic_parquet(peek: Peek) -> str | None:
    if peek.container != "parquet":
        return "not parquet"
    return _roles_fit(assign_roles([name for name, _ in peek.schema]))


_PRICE = r"-?\d+([.,]\d+)?"

FORMATS: tuple[Format, ...] = (
    Format(name="passline", title="passline's own bar file", container="parquet", why_not=_passline,
           zone="UTC", stamp="open"),
    Format(name="databento-dbn", title="Databento DBN", container="dbn",
           why_not=_of_container("dbn"), zone="UTC", stamp="open", price_scale=10**9),
    Format(name="databento-parquet", title="Databento Parquet", container="parquet",
           why_not=_parquet_with("ts_event", "rtype", "publisher_id"), zone="UTC", stamp="open",
           price_scale=10**9),
    Format(name="databento-csv", title="Databento CSV", container="text",
           why_not=_with_header("ts_event", "rtype", "publisher_id"), zone="UTC", stamp="open",
           price_scale=10**9),
    Format(name="databento-csv-2022", title="Databento CSV of 2022", container="text",
           why_not=_with_header("ts_event", "pub_id", "product_id"), zone="UTC", stamp="open",
           price_scale=10**9),
    Format(name="databento-json", title="Databento JSON lines", container="json",
           why_not=_of_container("json"), zone="UTC", stamp="open", price_scale=10**9),
    Format(name="lean", title="QuantConnect LEAN zip of a futures day", container="zip",
           why_not=_lean, zone="UTC", stamp="open"),
    Format(name="ninjadataexport", title="NinjaTrader export with a # schema line",
           container="text", why_not=_has_schema_line, zone="America/New_York", stamp="close",
           is_usual=True),
    Format(name="sierrachart", title="Sierra Chart bar data text", container="text",
           why_not=_with_header("Date", "Time", "Open", "High", "Low", "Last", "NumberOfTrades"),
           zone="America/Chicago", stamp="open", is_usual=True),
    Format(name="sierrachart-ticks", title="Sierra Chart tick export with depth", container="text",
           why_not=_with_header("Date", "Time", "Sequence", "Price", "TradeType"), stamp="open"),
    Format(name="yfinance", title="yfinance CSV", container="text",
           why_not=_all(_with_header("Open", "High", "Low", "Close", "Volume"),
                        _any(_with_header("Adj Close"), _with_header("Dividends"))),
           stamp="open"),
    Format(name="ibkr", title="Interactive Brokers API bars", container="text",
           why_not=_with_header("open", "high", "low", "close", "average", "barCount"),
           stamp="open"),
    Format(name="backtrader", title="backtrader sample with OpenInterest", container="text",
           why_not=_with_header("Date", "Open", "High", "Low", "Close", "OpenInterest",
                                first="Date")),
    Format(name="tradingview", title="TradingView chart export", container="text",
           why_not=_with_header("open", "high", "low", "close", first="time"), zone="UTC",
           stamp="open"),
    Format(name="histdata", title="HistData ASCII or MetaTrader file", container="text",
           why_not=_all(_is_histdata,
                        _any(_headerless(r"\d{8} \d{6}", _PRICE, cells=(6,)),
                             _headerless(r"\d{4}\.\d{2}\.\d{2}", r"\d{1,2}:\d{2}.*",
                                         cells=(7,)))),
           zone=_EST, stamp="open"),
    Format(name="ninjatrader", title="NinjaTrader historical data export", container="text",
           why_not=_headerless(r"\d{8} \d{6}", _PRICE, cells=(6,)), zone="UTC", stamp="close",
           names=_TIME_OHLCV),
    Format(name="metatrader", title="MetaTrader history export", container="text",
           why_not=_headerless(r"\d{4}\.\d{1,2}\.\d{1,2}", r"\d{1,2}:\d{2}.*", cells=(6, 7, 8, 9)),
           stamp="open"),
    Format(name="kibot", title="Kibot CSV", container="text",
           why_not=_headerless(r"\d{1,2}/\d{1,2}/\d{4}", r"\d{1,2}:\d{2}.*", cells=(6, 7)),
           zone="America/New_York", stamp="open", day_first=False),
    Format(name="firstrate", title="FirstRate Data CSV", container="text",
           why_not=_headerless(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", _PRICE, cells=(5, 6, 7)),
           zone="America/New_York", stamp="open"),
    Format(name="csv", title="CSV with any of the usual column names", container="text",
           why_not=_generic_text),
    Format(name="parquet", title="Parquet with any of the usual column names",
           container="parquet", why_not=_generic_parquet),
)  # fmt: skip
"""Every known format, the most specific first."""


def find_format(name: str) -> Format:
    """Returns the format of a name; raises BarsError naming all."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = ", ".join(known.name for known in FORMATS)
    raise BarsError(f"--format was {name!r}. Known formats: {names}")


def detect_format(peek: Peek, *, has_columns: bool = False) -> Format:
    """Returns the first format that fits; the plain one of the container where columns are named.

    Raises:
        BarsError: none fits; the message says which were tried and why each failed.
    """
    plain = {"text": "csv", "parquet": "parquet"}.get(peek.container)
    if has_columns and plain is not None:
        return find_format(plain)
    reasons: dict[str, list[str]] = {}
    for known in FORMATS:
        reason = known.why_not(peek)
        if reason is None:
            return known
        reasons.setdefault(reason, []).append(known.name)
    if peek.container == "dbz":
        raise BarsError(
            f"{peek.name}: this is DBZ, Databento's file of 2022, which no current library reads. "
            "Convert it once with Databento's dbn command line (dbn --dbz FILE -o FILE.dbn), or "
            "download the data again as DBN or CSV"
        )
    tried = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    raise BarsError(
        f"{peek.name}: no known format fits. Tried {tried}. Name the columns with --column "
        "ROLE=NAME, or name the format with --format"
    )
