"""`passline audit`: executed trades judged by one rulebook, or by all evaluations."""

from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, money_text, print_json, print_table
from passline.errors import ConfigError
from passline.evaluate.audit.formats import FORMATS, read_trips
from passline.evaluate.audit.judge import Audit, audit_books
from passline.market.bars import Bars
from passline.market.load.parquet import read_bars
from passline.rulebook.catalog import list_rulebooks, load_rulebook

__all__ = ["audit"]


@click.command("audit")
@click.argument("fills", type=click.Path(path_type=Path))
@click.option("--rulebook", "rulebook_id", help="Id of a rulebook, or a path to one.")
@click.option("--all", "is_all", is_flag=True, help="Judge under every evaluation.")
@click.option("--bars", type=click.Path(path_type=Path), multiple=True, help="Bars to look inside.")
@click.option("--contract", help="Contract of a file that names none, such as ES.")
@click.option("--tz", "zone", help="Zone of times that name none, such as America/New_York.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="Kind of the file.")
@click.option("--account", help="Account to keep of a file that holds several.")
@click.option("--date-order", type=click.Choice(["mdy", "dmy"]), help="Order of 05/06/2026.")
@json_option
def audit(
    fills: Path,
    rulebook_id: str | None,
    is_all: bool,
    bars: tuple[Path, ...],
    contract: str | None,
    zone: str | None,
    format_: str | None,
    account: str | None,
    date_order: str | None,
    as_json: bool,
) -> None:
    """Judge executed trades by a firm's rules: which evaluation would they have passed?"""
    if (rulebook_id is None) != is_all:
        raise ConfigError("audit: give either --rulebook ID or --all. Ids: passline rulebooks")
    if is_all:
        books = [book for book in list_rulebooks() if book.stage == "evaluation"]
    else:
        books = [load_rulebook(str(rulebook_id))]
    trips, kind = read_trips(
        fills,
        format=format_,
        contract=contract,
        zone=zone,
        account=account,
        date_order=date_order,
    )
    tapes = _tapes(bars)
    audits = audit_books(trips, books, bars=tapes)
    if as_json:
        data = [_told(item, fills, kind) for item in audits]
        print_json({"audits": data} if is_all else data[0])
    elif is_all:
        _print_table(audits)
    else:
        _print_one(audits[0])


def _tapes(paths: tuple[Path, ...]) -> dict[str, Bars]:
    tapes: dict[str, Bars] = {}
    for path in paths:
        bars = read_bars(path)
        if bars.contract.symbol in tapes:
            raise ConfigError(f"audit: two files of bars for {bars.contract.symbol}; give one.")
        tapes[bars.contract.symbol] = bars
    return tapes


def _told(item: Audit, fills: Path, kind: str) -> dict[str, object]:
    return {"file": fills.name, "format": kind, **item.to_dict()}


def _print_one(item: Audit) -> None:
    click.echo(item.sentence())
    for note in item.timeline.notes:
        click.echo(note)
    click.echo("")
    rows = [_day_row(day) for day in item.to_dict()["days"]]
    print_table(_DAY_COLUMNS, rows, right=_DAY_COLUMNS[1:])
    for violation in item.violations[:20]:
        click.echo(f"broken: {violation.rule.replace('_', ' ')}, trade {violation.trip + 1}")
    if len(item.violations) > 20:
        click.echo(f"and {len(item.violations) - 20} more; all with --json")


_DAY_COLUMNS = (
    "day",
    "result",
    "balance",
    "floor",
    "to floor",
    "to day limit",
    "to target",
    "days",
)


def _day_row(day: dict[str, Any]) -> tuple[str, ...]:
    return (
        day["trade_date"],
        day["pnl_usd"],
        day["close_balance_usd"],
        day["floor_usd"],
        day["to_floor_usd"],
        day["to_daily_limit_usd"] or "-",
        day["to_target_usd"] or "-",
        f"{day['n_days']}/{day['min_days']}",
    )


_BOOK_COLUMNS = ("rulebook", "verdict", "why", "days", "balance", "room to floor", "broken")


def _print_table(audits: list[Audit]) -> None:
    order = {"passed": 0, "undecided": 1, "open": 2, "timed_out": 3, "breached": 4}
    ranked = sorted(audits, key=lambda a: (order[a.verdict], bool(a.violations)))
    rows = [
        (
            item.book.id,
            item.verdict.replace("_", " "),
            item.worst.reason.name.lower().replace("_", " "),
            str(len(item.worst.days)),
            money_text(item.worst.balance),
            money_text(min((day.cushion for day in item.worst.days), default=0)),
            str(len(item.violations)) if item.violations else "-",
        )
        for item in ranked
    ]
    print_table(_BOOK_COLUMNS, rows, right=_BOOK_COLUMNS[3:])
    for note in audits[0].timeline.notes:
        click.echo(note)
    n_passed = sum(item.verdict == "passed" for item in audits)
    n_clean = sum(item.verdict == "passed" and not item.violations for item in audits)
    click.echo(f"\n{n_passed} of {len(audits)} passed, {n_clean} of them without breaking a rule.")
