"""The import: one file in, one checked Parquet tape with its provenance out, or nothing at all."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.clock import EPOCH
from passline.market.contract import Contract
from passline.market.load.chunks import Source
from passline.market.load.findings import Findings
from passline.market.load.formats import Format, detect_format, find_format
from passline.market.load.lengths import bar_text, find_bar_ns, parse_bar
from passline.market.load.parquet import check_out, write_bars
from passline.market.load.peek import look, plain_text
from passline.market.load.rolls import (
    Roll,
    back_adjust,
    check_month_order,
    find_rolls,
    select_front,
)
from passline.market.load.sanity import check_rows_order, check_tape, stamp_hint
from passline.market.load.sources import open_source
from passline.market.load.tape import Collector, Tape
from passline.market.load.ticks import BarBuilder
from passline.market.load.zones import check_zone, day_text, eastern_text

__all__ = ["ImportReport", "import_bars"]


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import read, decided and wrote.

    Attributes:
        source: name of the file read.
        out: the file written.
        format: name of the format.
        contract: symbol of the product.
        zone: zone in which the stamps were read.
        stamp: open or close: which end of a bar its stamp names.
        is_usual: whether zone or stamp are the format's usual setting rather than the user's word
            or the vendor's rule.
        bar: length of a bar, such as 1m.
        n_rows: rows read.
        n_bars: bars written.
        first: open of the first bar, Eastern clock.
        last: open of the last bar, Eastern clock.
        expiries: contract months in order of first use.
        roll_rule: how the front month was found; file where the file has one month a time.
        rolls: changes of contract month.
        is_adjusted: whether prices before rolls were moved.
        dropped_days: trade dates left out, ISO.
        n_dropped: rows of those days.
        warnings: what is odd and was left as it is.
        sha256: hash of the source file.
        fingerprint: hash of the bars.
        seconds: wall time, s.
    """

    source: str
    out: Path
    format: str
    contract: str
    zone: str
    stamp: str
    is_usual: bool
    bar: str
    n_rows: int
    n_bars: int
    first: str
    last: str
    expiries: tuple[str, ...]
    roll_rule: str
    rolls: tuple[Roll, ...]
    is_adjusted: bool
    dropped_days: tuple[str, ...]
    n_dropped: int
    warnings: tuple[str, ...]
    sha256: str
    fingerprint: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain data for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["out"] = str(self.out)
        plain["rolls"] = [roll.as_dict() for roll in self.rolls]
        return plain


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the user asked for, checked."""

    path: Path
    contract: Contract
    format: str | None
    zone: str | None
    stamp: str | None
    bar_ns: int | None
    columns: Mapping[str, str] | None
    roll: str
    is_adjusted: bool
    dropped: frozenset[int]
    symbols: frozenset[str]


def import_bars(
    path: Path,
    *,
    contract: Contract,
    out: Path,
    format: str | None = None,
    tz: str | None = None,
    stamp: str | None = None,
    bar: str | None = None,
    columns: Mapping[str, str] | None = None,
    roll: str = "none",
    adjust: bool = False,
    drop_days: Sequence[date] = (),
    symbols: Sequence[str] = (),
    overwrite: bool = False,
) -> ImportReport:
    """Imports a vendor's file as a checked tape of one product.

    Args:
        path: the file.
        contract: product that the file should hold.
        out: Parquet file to write.
        format: name of the format; found from the file where None.
        tz: zone of the stamps, where neither file nor vendor fixes it.
        stamp: open or close, where the vendor fixes none: which end of a bar its stamp names.
        bar: length of a bar, such as 1m; found from the file where None. Needed to build bars
            from trades.
        columns: role to column name, for columns with unusual names.
        roll: none, volume or calendar; see `rolls.select_front`.
        adjust: move prices before each roll so that none jumps there.
        drop_days: trade dates to leave out; recorded in the provenance.
        symbols: contract names to keep where the file holds several.
        overwrite: replace `out` where it exists.

    Raises:
        BarsError: the file cannot be read, is not sane, or needs a word from the user. Nothing is
            written then.
    """
    begun = time.perf_counter()
    request = _Request(
        path=Path(path),
        contract=contract,
        format=format,
        zone=None if tz is None else check_zone(tz),
        stamp=_check_stamp(stamp),
        bar_ns=None if bar is None else parse_bar(bar),
        columns=columns,
        roll=roll,
        is_adjusted=adjust,
        dropped=frozenset((day - EPOCH).days for day in drop_days),
        symbols=frozenset(symbols),
    )
    _check_paths(request.path, Path(out), overwrite)
    with ThreadPoolExecutor(max_workers=1) as pool:
        hashing = pool.submit(_sha256, request.path)
        bars, facts = _read(request, hashing)
    fingerprint = write_bars(bars, Path(out), overwrite=overwrite)
    return ImportReport(
        out=Path(out),
        contract=contract.symbol,
        n_bars=len(bars),
        first=eastern_text(int(bars.ts[0])),
        last=eastern_text(int(bars.ts[-1])),
        bar=bar_text(bars.bar_ns),
        expiries=bars.expiries,
        fingerprint=fingerprint,
        seconds=time.perf_counter() - begun,
        **facts,
    )


def _check_stamp(stamp: str | None) -> str | None:
    if stamp not in {None, "open", "close"}:
        raise BarsError(
            f"--stamp was {stamp!r}. It is open (a bar's time is when it begins) or close"
        )
    return stamp


def _check_paths(path: Path, out: Path, overwrite: bool) -> None:
    if not path.exists():
        raise BarsError(f"{path}: no such file")
    if not path.is_file():
        raise BarsError(f"{path}: is a folder. Import one file at a time")
    if out.resolve() == path.resolve():
        raise BarsError(f"{out.name}: --out is the file to read. Give another --out")
    check_out(out, overwrite=overwrite)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(request: _Request) -> Iterator[tuple[Format, Source]]:
    with plain_text(request.path) as (plain, kind):
        peek = look(plain, request.path.name, kind)
        if request.format is not None:
            known = find_format(request.format)
        else:
            known = detect_format(peek, has_columns=bool(request.columns))
        if known.container != peek.container:
            raise BarsError(
                f"{peek.name}: --format {known.name} reads {known.container}, and this is "
                f"{peek.container}"
            )
        yield known, open_source(peek, known, request.columns)


def _read(request: _Request, hashing: "Future[str]") -> tuple[Bars, dict[str, Any]]:
    name = request.path.name
    with _opened(request) as (known, source):
        if known.name == "passline":
            raise BarsError(f"{name}: is a passline bar file already; it needs no import")
        if source.is_daily:
            raise BarsError(
                f"{name}: daily bars (the stamps are dates or midnights). passline plays bars of "
                "1 second to 15 minutes; export intraday bars"
            )
        warnings: list[str] = []
        zone = _zone(request, known, source, name, warnings)
        stamp = _stamp(request, known, source, name, zone)
        collector = Collector(
            contract=request.contract,
            findings=Findings(name=name, noun="trades" if source.is_points else "bars"),
            zone=None if source.is_utc or zone == "UTC" else zone,
            symbols=request.symbols,
            dropped=request.dropped,
        )
        tape, bar_ns = _collect(collector, source, request, name, warnings)
    if stamp == "close":
        tape.ts = tape.ts - bar_ns
    _check_rolling(tape, request, name, warnings)
    front, rolls, rule = _front(tape, request, name)
    del tape
    check_tape(front, rolls, request.contract, bar_ns, name, stamp, warnings)
    if request.dropped and not collector.n_dropped:
        warnings.append("none of the days to drop has a row in the file")
    is_adjusted = request.is_adjusted and bool(rolls)
    if is_adjusted:
        front = back_adjust(front, rolls)
    elif request.is_adjusted:
        warnings.append("--adjust moved no price: the bars do not change their contract month")
    facts = {
        "source": name,
        "format": known.name,
        "zone": zone,
        "stamp": stamp,
        "is_usual": known.is_usual and (request.zone is None or request.stamp is None),
        "n_rows": collector.n_read,
        "roll_rule": rule,
        "rolls": rolls,
        "is_adjusted": is_adjusted,
        "dropped_days": tuple(day_text(day) for day in sorted(request.dropped)),
        "n_dropped": collector.n_dropped,
        "warnings": tuple(warnings),
        "sha256": hashing.result(),
    }
    return _to_bars(front, request.contract, bar_ns, facts), facts


def _zone(request: _Request, known: Format, source: Source, name: str, warnings: list[str]) -> str:
    stated = "UTC" if source.is_utc else source.zone
    if stated is not None:
        if request.zone is not None and request.zone != stated:
            warnings.append(
                f"--tz {request.zone} was not used: the times state their own zone ({stated})"
            )
        return stated
    if request.zone is not None:
        return request.zone
    if known.zone is None:
        raise BarsError(
            f"{name}: the times name no zone, and {known.title} fixes none. Say which clock they "
            "follow with --tz, such as --tz UTC or --tz America/New_York"
            + ("" if known.stamp or request.stamp else ", and --stamp open or --stamp close")
        )
    if known.is_usual:
        warnings.append(
            f"zone {known.zone} is the usual setting of {known.title}; if yours differs, say so "
            "with --tz"
        )
    return known.zone


def _stamp(request: _Request, known: Format, source: Source, name: str, zone: str) -> str:
    if source.is_points:
        return "open"
    if request.stamp is not None:
        return request.stamp
    if known.stamp is not None:
        return known.stamp
    hint = stamp_hint(source, None if source.is_utc or zone == "UTC" else zone)
    raise BarsError(
        f"{name}: {known.title} does not say whether a bar's time is when it begins or when it "
        f"ends.{hint} Say which with --stamp open or --stamp close"
    )


def _collect(
    collector: Collector, source: Source, request: _Request, name: str, warnings: list[str]
) -> tuple[Tape, int]:
    if source.is_points:
        if request.bar_ns is None:
            raise BarsError(
                f"{name}: rows have one price each (trades or closes), not open, high, low and "
                "close. Say which bars to build from them with --bar, such as --bar 1s or --bar 1m"
            )
        builder = BarBuilder(request.bar_ns)
        for chunk in source.chunks():
            builder.add(collector, chunk)
        return builder.finish(collector, warnings), request.bar_ns
    for chunk in source.chunks():
        collector.add(chunk)
    tape = collector.finish()
    check_rows_order(tape, name)
    busiest = np.bincount(tape.code).argmax()
    times = tape.ts if len(tape.months) == 1 else tape.ts[tape.code == busiest]
    bar_ns = find_bar_ns(times, name, request.bar_ns or source.bar_ns)
    return tape, bar_ns


def _check_rolling(tape: Tape, request: _Request, name: str, warnings: list[str]) -> None:
    """Refuses --roll and --adjust of a file without contract months; warns of --roll with one."""
    rule = "" if request.roll == "none" else f"--roll {request.roll}"
    asked = [option for option in (rule, "--adjust" * request.is_adjusted) if option]
    if asked and not any(tape.months):
        raise BarsError(
            f"{name}: {' and '.join(asked)} would do nothing: the file names no contract months. "
            "Name the column that does with --column symbol=NAME, or leave the option out"
        )
    if rule and len(tape.months) == 1:
        warnings.append(f"{rule} had nothing to choose: every bar is of {tape.months[0]}")


def _front(tape: Tape, request: _Request, name: str) -> tuple[Tape, tuple[Roll, ...], str]:
    front = select_front(tape, request.contract, request.roll, name)
    rolls = find_rolls(front, tape) if len(tape.months) > 1 else ()
    check_month_order(front, rolls, request.contract, name)
    if len(tape.months) == 1:
        return front, rolls, "one month"
    return front, rolls, "file" if request.roll == "none" else request.roll


def _to_bars(tape: Tape, contract: Contract, bar_ns: int, facts: dict[str, Any]) -> Bars:
    used = list(dict.fromkeys(tape.code[_changes(tape.code)].tolist()))
    place = np.zeros(len(tape.months), dtype=np.int16)
    for index, code in enumerate(used):
        place[code] = index
    provenance = dict(facts)
    provenance["rolls"] = [roll.as_dict() for roll in facts["rolls"]]
    for key in ("dropped_days", "warnings"):
        provenance[key] = list(facts[key])
    return Bars(
        contract=contract,
        bar_ns=bar_ns,
        ts=tape.ts,
        open=tape.ticks[0],
        high=tape.ticks[1],
        low=tape.ticks[2],
        close=tape.ticks[3],
        volume=tape.volume,
        expiry=place[tape.code],
        expiries=tuple(tape.months[code] for code in used),
        provenance=provenance,
    )


def _changes(code: NDArray[np.int16]) -> NDArray[np.int64]:
    return np.append(0, np.flatnonzero(code[1:] != code[:-1]) + 1)
