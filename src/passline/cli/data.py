"""Commands on bar files: import, check, resample, drop, show."""

import dataclasses
import textwrap
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.clock import EASTERN, EPOCH, trade_date
from passline.market.contracts import find_contract
from passline.market.load import (
    FORMATS,
    ROLL_RULES,
    Coverage,
    ImportReport,
    check_bars,
    import_bars,
    read_bars,
    resample_bars,
    write_bars,
)
from passline.market.load.lengths import bar_text

__all__ = ["data"]

SHOWN = 10
"""Lines of a list that are shown before the rest is only counted."""

_ROLLS = {
    "file": "where the file changes its month",
    "volume": "by the volume of the session before",
    "calendar": "on the Monday of the expiry week",
    "one month": "",
}
_DAY = click.DateTime(["%Y-%m-%d"])
_FILE = click.Path(path_type=Path)
_FORMAT_LINES = textwrap.fill(
    ", ".join(known.name for known in FORMATS if known.name != "passline"),
    width=72,
    break_on_hyphens=False,
)
_out_option = click.option(
    "--out", type=_FILE, required=True, metavar="FILE", help="Bar file to write (Parquet)."
)
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")


@click.group()
def data() -> None:
    """Import, check and resample bars."""


def _read(file: Path) -> Bars:
    if file.is_dir():
        raise BarsError(f"{file}: is a folder. Give one bar file that passline data import wrote")
    return read_bars(file)


# --- import --------------------------------------------------------------------------------------


@data.command("import", epilog="\b\nFormats:\n" + _FORMAT_LINES)
@click.argument("file", type=_FILE)
@click.option("--contract", "symbol", required=True, metavar="SYMBOL", help="Product, such as NQ.")
@_out_option
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="Found from the file unless given; see below.",
)
@click.option("--tz", metavar="ZONE", help="Clock of the times, such as UTC or America/Chicago.")
@click.option(
    "--stamp",
    type=click.Choice(["open", "close"]),
    help="Whether a bar's time is when it opens or when it closes.",
)
@click.option("--bar", metavar="LENGTH", help="Bar length, such as 1s, 1m or 5m.")
@click.option(
    "--roll",
    type=click.Choice(ROLL_RULES),
    default="none",
    show_default=True,
    help="How the front month is found where a file has several at a time.",
)
@click.option("--adjust", is_flag=True, help="Shift prices before each roll, so that none jumps.")
@click.option(
    "--drop-day",
    "drop_days",
    type=_DAY,
    multiple=True,
    metavar="DATE",
    help="Leave out a trade date; may be repeated.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=NAME",
    help="Column of a role (time, open, high, low, close, volume …); may be repeated.",
)
@click.option(
    "--symbols",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Keep only these contract names of a file with several.",
)
@click.option(
    "--contracts", "extra", type=_FILE, metavar="FILE", help="Your own contracts, a TOML file."
)
@_overwrite_option
@json_option
def import_file(
    file: Path,
    symbol: str,
    out: Path,
    format_name: str | None,
    tz: str | None,
    stamp: str | None,
    bar: str | None,
    roll: str,
    adjust: bool,
    drop_days: Sequence[datetime],
    columns: Sequence[str],
    symbols: Sequence[str],
    extra: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Import a vendor's file as checked bars.

    The format is found from the file. Where neither file nor format fixes the clock of the times,
    or whether they open or close a bar, the file is refused until --tz or --stamp says so; where a
    format's usual setting is taken, a warning names it. Nothing is written unless every bar is
    sane.
    """
    report = import_bars(
        file,
        contract=find_contract(symbol, extra),
        out=out,
        format=format_name,
        tz=tz,
        stamp=stamp,
        bar=bar,
        columns=_roles(columns) or None,
        roll=roll,
        adjust=adjust,
        drop_days=[day.date() for day in drop_days],
        symbols=[name.strip() for text in symbols for name in text.split(",") if name.strip()],
        overwrite=overwrite,
    )
    if as_json:
        print_json(report.as_dict())
        return
    _print_import(report)


def _roles(columns: Sequence[str]) -> dict[str, str]:
    roles = {}
    for text in columns:
        role, equals, name = text.partition("=")
        if not (role and equals and name):
            raise BarsError(f"--column was '{text}'; write ROLE=NAME, such as close=Last")
        roles[role.strip()] = name.strip()
    return roles


def _print_import(report: ImportReport) -> None:
    stamp = f"{report.zone}, times are the {report.stamp} of a bar"
    usual = " (the format's usual setting)" if report.is_usual else ""
    dropped = f"{', '.join(report.dropped_days)}: {report.n_dropped:,} rows"
    print_facts(
        [
            ("wrote", str(report.out)),
            ("from", f"{report.source} ({report.format}), {report.n_rows:,} rows"),
            ("bars", f"{report.n_bars:,} of {report.bar}, {report.contract}"),
            ("first", report.first),
            ("last", report.last),
            ("clock", stamp + usual),
            ("months", _shortened(report.expiries) if any(report.expiries) else ""),
            ("rolls", f"{len(report.rolls)}, {_ROLLS[report.roll_rule]}" * bool(report.rolls)),
            ("prices", "back-adjusted by whole ticks" if report.is_adjusted else ""),
            ("dropped", dropped if report.dropped_days else ""),
            ("took", f"{report.seconds:.1f} s"),
            ("sha256", report.sha256),
        ]
    )
    if report.rolls:
        click.echo("")
        rolls = [roll.as_dict() for roll in report.rolls]
        rows = [
            (
                roll["trade_date"],
                roll["before"],
                roll["after"],
                f"{roll['difference_ticks']:+,}",
                roll["basis"],
            )
            for roll in rolls[:SHOWN]
        ]
        print_table(("roll day", "from", "to", "ticks", "by"), rows, right=("ticks",))
        _say_rest(len(rolls))
    for warning in report.warnings:
        click.echo(f"passline: warning: {warning}", err=True)


# --- check ---------------------------------------------------------------------------------------


@data.command()
@click.argument("file", type=_FILE)
@click.option("--png", type=_FILE, metavar="FILE", help="Draw the coverage as a picture.")
@click.option("--html", type=_FILE, metavar="FILE", help="Write the coverage as a page.")
@json_option
def check(file: Path, png: Path | None, html: Path | None, as_json: bool) -> None:
    """Compare a bar file with the exchange's calendar."""
    for path in (png, html):
        if path is not None and path.exists():
            raise BarsError(
                f"{path}: exists already and is not overwritten. Give another name, or remove it"
            )
    coverage = check_bars(_read(file))
    if png is not None or html is not None:
        from passline.report.coverage_page import draw_coverage  # noqa: PLC0415 - loads matplotlib

        draw_coverage(coverage, png, html)
    if as_json:
        print_json(coverage.as_dict())
        return
    _print_coverage(coverage)
    written = [str(path) for path in (png, html) if path is not None]
    if written:
        click.echo(f"\nwrote {' and '.join(written)}")


def _print_coverage(coverage: Coverage) -> None:
    n_early, n_closed = len(coverage.half_days), len(coverage.holidays)
    special = f"{n_early} early closes, {n_closed} holidays, {len(coverage.dst_days)} clock changes"
    held = f"{coverage.n_present:,} of {coverage.n_sessions:,} have bars"
    volume = f"{coverage.n_zero_volume:,} bars with volume 0" if coverage.has_volume else "none"
    jumps, wicks = (
        ", the largest below" if found else "" for found in (coverage.jumps, coverage.wicks)
    )
    uncovered = " to ".join(coverage.uncovered)
    print_facts(
        [
            ("contract", f"{coverage.contract}, calendar {coverage.calendar}"),
            ("bars", f"{coverage.n_bars:,} of {bar_text(coverage.bar_ns)}"),
            ("first", coverage.first),
            ("last", coverage.last),
            ("sessions", f"{held}; {special}"),
            ("usual share", f"{coverage.median_share:.1%} of the bars that fit (median session)"),
            ("missing bars", f"{coverage.n_missing:,} in the sessions with bars"),
            ("outside", f"{coverage.n_outside:,} bars outside of every session"),
            ("volume", volume),
            ("jumps", f"{coverage.n_jumps:,} suspicious{jumps}"),
            ("wicks", f"{coverage.n_wicks:,} suspicious{wicks}"),
            ("rolls", f"{len(coverage.rolls)}"),
            ("dropped", _shortened(coverage.dropped_days)),
            ("not covered", f"{uncovered}: holidays unknown, weekdays assumed" * bool(uncovered)),
        ]
    )
    odd = {*coverage.absent_days, *coverage.thin_days}
    rows = [
        (s.day, f"{s.n_expected:,}", f"{s.n_bars:,}", f"{s.longest_gap_bars:,}", s.note)
        for s in coverage.sessions
        if s.day in odd
    ]
    _print_list(
        "Sessions without bars, or with less than half of the usual share",
        ("trade date", "fit", "held", "longest gap", "note"),
        rows,
    )
    _print_list(
        "Suspicious jumps, the largest first",
        ("at", "move", "in bar ranges", "where"),
        [
            (j.at, f"{j.move:+g}", f"{j.ranges:g}", _place(j.is_roll, j.is_reopen))
            for j in coverage.jumps
        ],
    )
    _print_list(
        "Suspicious wicks, the largest first",
        ("at", "beyond", "of the price", "in bar ranges"),
        [(w.at, f"{w.move:+g}", f"{w.share:.1%}", f"{w.ranges:g}") for w in coverage.wicks],
    )
    _print_list(
        "Half an hour or more with volume 0, the longest first",
        ("from", "bars"),
        [(run.first, f"{run.n_bars:,}") for run in coverage.zero_volume_runs],
    )
    _print_list("Bars outside of every session", ("at",), [(at,) for at in coverage.outside])


def _place(is_roll: bool, is_reopen: bool) -> str:
    return "roll" if is_roll else "reopening" if is_reopen else "within a session"


def _print_list(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    click.echo(f"\n{title}\n")
    numbers = {"fit", "held", "longest gap", "bars", "move", "beyond", "of the price"}
    numbers |= {"in bar ranges"}
    right = [name for name in columns if name in numbers]
    print_table(columns, rows[:SHOWN], right=right)
    _say_rest(len(rows))


def _say_rest(n_rows: int) -> None:
    if n_rows > SHOWN:
        click.echo(f"and {n_rows - SHOWN:,} more; all of them: --json")


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# --- resample, drop, show ------------------------------------------------------------------------


@data.command()
@click.argument("file", type=_FILE)
@click.option("--minutes", type=int, required=True, help="New bar length, a multiple of the old.")
@_out_option
@_overwrite_option
@json_option
def resample(file: Path, minutes: int, out: Path, overwrite: bool, as_json: bool) -> None:
    """Join bars to longer ones.

    Lengths are counted from the session's opening at 18:00 ET.
    """
    bars = _read(file)
    longer = resample_bars(bars, minutes)
    write_bars(longer, out, overwrite=overwrite)
    if as_json:
        print_json({"out": out, "n_read": len(bars), **_bars_record(longer)})
        return
    click.echo(f"wrote {out}: {len(longer):,} bars of {minutes} minutes from {len(bars):,}")


@data.command()
@click.argument("file", type=_FILE)
@click.argument("dates", type=_DAY, nargs=-1, required=True, metavar="DATE...")
@_out_option
@_overwrite_option
@json_option
def drop(file: Path, dates: Sequence[datetime], out: Path, overwrite: bool, as_json: bool) -> None:
    """Leave out trade dates, and say so in the new file."""
    bars = _read(file)
    kept = _without_days(bars, [day.date() for day in dates], file.name)
    write_bars(kept, out, overwrite=overwrite)
    if as_json:
        print_json({"out": out, "n_read": len(bars), **_bars_record(kept)})
        return
    names = ", ".join(f"{day:%Y-%m-%d}" for day in sorted(set(dates)))
    click.echo(f"wrote {out}: {len(kept):,} bars, {len(bars) - len(kept):,} of {names} left out")


def _without_days(bars: Bars, days: Sequence[date], name: str) -> Bars:
    """Returns the tape without some trade dates, which join those in its provenance."""
    held = trade_date(bars.ts)
    wanted = np.array(sorted({(day - EPOCH).days for day in days}))
    absent = [_iso(day) for day in wanted[~np.isin(wanted, held)]]
    if absent:
        raise BarsError(
            f"{name}: no bar on trade date {', '.join(absent)}; the file has {_iso(held[0])} to "
            f"{_iso(held[-1])}. A trade date begins at 18:00 ET of the evening before"
        )
    is_kept = ~np.isin(held, wanted)
    if not is_kept.any():
        raise BarsError(f"{name}: every bar would be left out. Name fewer dates")
    before = bars.provenance.get("dropped_days", [])
    provenance = {
        **bars.provenance,
        "dropped_days": sorted({*before, *(_iso(day) for day in wanted)}),
        "n_dropped": int(bars.provenance.get("n_dropped", 0)) + int((~is_kept).sum()),
    }
    columns = ("ts", "open", "high", "low", "close", "volume", "expiry")
    return dataclasses.replace(
        bars,
        provenance=provenance,
        **{column: vars(bars)[column][is_kept] for column in columns},
    )


@data.command()
@click.argument("file", type=_FILE)
@click.option("--day", type=_DAY, metavar="DATE", help="Only bars of this trade date.")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Bars shown from the beginning and from the end.",
)
@json_option
def show(file: Path, day: datetime | None, rows: int, as_json: bool) -> None:
    """Show a bar file's origin, first and last bars."""
    bars = _read(file)
    first, last = 0, len(bars)
    if day is not None:
        number = (day.date() - EPOCH).days
        held = trade_date(bars.ts)
        first, last = (int(np.searchsorted(held, number, side)) for side in ("left", "right"))
        if first == last:
            raise BarsError(
                f"{file.name}: no bar on trade date {day:%Y-%m-%d}; the file has {_iso(held[0])} "
                f"to {_iso(held[-1])}"
            )
    places = [i for i in range(first, last) if i < first + rows or i >= last - rows]
    if as_json:
        cells = [_bar_record(bars, place) for place in places]
        print_json({**_bars_record(bars), "provenance": bars.provenance, "bars": cells})
        return
    _print_bars(bars, places)


def _print_bars(bars: Bars, places: Sequence[int]) -> None:
    told = bars.provenance
    record = _bars_record(bars)
    source = told.get("source", "")
    zone = f"; its times: {told['zone']}, {told.get('stamp')} of a bar" if "zone" in told else ""
    print_facts(
        [
            ("contract", f"{bars.contract.symbol}, tick {bars.contract.tick_size}"),
            ("bars", f"{len(bars):,} of {bar_text(bars.bar_ns)}"),
            ("trade dates", f"{record['first_day']} to {record['last_day']}"),
            ("months", _shortened(bars.expiries) if any(bars.expiries) else ""),
            ("source", f"{source} ({told.get('format')}){zone}" if source else ""),
            ("dropped", _shortened(told.get("dropped_days", []))),
            ("fingerprint", record["fingerprint"]),
        ]
    )
    if not places:
        return
    click.echo("")
    columns = ("open time (ET)", "month", "open", "high", "low", "close", "volume")
    cells: list[tuple[str, ...]] = []
    for index, place in enumerate(places):
        if index and place != places[index - 1] + 1:
            cells.append(("…", "", "", "", "", "", ""))
        item = _bar_record(bars, place)
        volume = "" if item["volume"] is None else f"{item['volume']:,}"
        at = datetime.fromisoformat(item["ts"]).astimezone(EASTERN)
        prices = [str(item[name]) for name in columns[2:6]]
        cells.append((f"{at:%Y-%m-%d %H:%M:%S}", item["month"], *prices, volume))
    print_table(columns, cells, right=columns[2:])


def _bar_record(bars: Bars, place: int) -> dict[str, Any]:
    """Returns one bar with its prices as exact decimal strings and its UTC open time."""
    tick = bars.contract.tick_size
    prices = {
        name: str(int(column[place]) * tick)
        for name, column in (
            ("open", bars.open),
            ("high", bars.high),
            ("low", bars.low),
            ("close", bars.close),
        )
    }
    volume = int(bars.volume[place])
    at = datetime.fromtimestamp(int(bars.ts[place]) / 1e9, UTC)
    return {
        "ts": at.isoformat(),
        "month": bars.expiries[int(bars.expiry[place])],
        **prices,
        "volume": None if volume < 0 else volume,
    }


def _bars_record(bars: Bars) -> dict[str, Any]:
    held = trade_date(bars.ts[[0, -1]])
    return {
        "contract": bars.contract.symbol,
        "bar_s": bars.bar_ns / 1e9,
        "n_bars": len(bars),
        "first_day": _iso(held[0]),
        "last_day": _iso(held[1]),
        "expiries": bars.expiries,
        "fingerprint": bars.fingerprint(),
    }


def _iso(day: int | np.integer[Any]) -> str:
    return (EPOCH + timedelta(days=int(day))).isoformat()
