"""Commands that tell facts: contracts, the exchange's calendar, firms' rulebooks."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from passline.cli.output import (
    as_plain,
    json_option,
    money_text,
    print_facts,
    print_json,
    print_table,
)
from passline.errors import BarsError, RulebookError
from passline.market.calendar import CalendarDay, calendar_names, load_calendar
from passline.market.contract import MINI, Contract
from passline.market.contracts import find_contract, load_contracts
from passline.rulebook import Row, Rulebook, describe, list_rulebooks, load_rulebook

__all__ = ["calendar", "contracts", "rulebooks"]

_POLICY_STYLES = {"forbidden": "red", "allowed": "green", "conditions": "yellow"}
_TRAILS = {"intraday": "intraday", "end_of_day": "end of day", "static": "static"}


# --- contracts -----------------------------------------------------------------------------------


@click.command()
@click.option(
    "--contracts",
    "extra",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your own contracts, a TOML file with [contract.SYMBOL] tables.",
)
@json_option
def contracts(extra: Path | None, as_json: bool) -> None:
    """List contracts with their ticks, money and default costs."""
    known = tuple(load_contracts(extra).values())
    if as_json:
        print_json([_contract_record(contract) for contract in known])
        return
    rows = [_contract_row(contract) for contract in known]
    columns = ("symbol", "venue", "tick", "$/tick", "$/point", "$/side", "slip", "size", "name")
    print_table(columns, rows, right=columns[2:7])
    click.echo(
        "\n$/side is commission per contract and side, slip is ticks per market or stop fill; "
        "both\nare defaults. Calendars, dates and sources: passline contracts --json"
    )


def _contract_row(contract: Contract) -> tuple[str, ...]:
    size = "mini" if contract.size_units == MINI else "micro" if contract.is_micro else ""
    return (
        contract.symbol,
        contract.exchange,
        str(contract.tick_size),
        money_text(contract.tick_mills),
        _point_usd(contract),
        money_text(contract.commission_mills),
        str(contract.slippage_ticks),
        size or f"{contract.size_units}/10",
        contract.name,
    )


def _contract_record(contract: Contract) -> dict[str, Any]:
    return {**as_plain(contract), "point_usd": _point_usd(contract).replace(",", "")}


def _point_usd(contract: Contract) -> str:
    """Returns the value of a price change of 1.0 in USD, exact."""
    return f"{contract.point_mills / 1000:,f}"


# --- calendar ------------------------------------------------------------------------------------


@click.command()
@click.argument("month", metavar="[YYYY-MM]", default="")
@click.option("--contract", "symbol", metavar="SYMBOL", help="Show the calendar of a contract.")
@click.option("--calendar", "name", metavar="NAME", help="equity (default), energy, fx, metals …")
@json_option
def calendar(month: str, symbol: str | None, name: str | None, as_json: bool) -> None:
    """Show the exchange's sessions of a month: closed days, early closes, halts. Times are ET."""
    if symbol is not None and name is not None:
        raise BarsError(
            f"--contract {symbol} and --calendar {name} were both given; give one of them"
        )
    chosen = name or (find_contract(symbol).calendar if symbol else "equity")
    if chosen not in calendar_names():
        raise BarsError(f"no calendar '{chosen}'. Known calendars: {', '.join(calendar_names())}")
    known = load_calendar(chosen)
    year, number = _parse_month(month)
    days = known.month(year, number)
    if as_json:
        print_json(
            {
                "calendar": known.key,
                "name": known.name,
                "month": f"{year}-{number:02d}",
                "zone": "America/New_York",
                "days": days,
            }
        )
        return
    n_early = sum(day.is_early for day in days)
    n_closed = sum(day.open_et is None for day in days)
    click.echo(
        f"{known.name} ({known.key}), {year}-{number:02d}, Eastern time: "
        f"{len(days) - n_closed} sessions, {n_early} early, {n_closed} closed\n"
    )
    columns = ("trade date", "day", "opens", "closes", "halt", "note")
    print_table(columns, [_day_row(day) for day in days])


def _parse_month(text: str) -> tuple[int, int]:
    if not text:
        today = date.today()
        return today.year, today.month
    match = re.fullmatch(r"(\d{4})-(\d{1,2})", text)
    if match is None:
        raise BarsError(f"month was '{text}'; write it as YYYY-MM, such as 2024-11")
    return int(match[1]), int(match[2])


def _day_row(day: CalendarDay) -> tuple[str, ...]:
    weekday = f"{day.trade_date:%a}"
    if day.open_et is None or day.close_et is None:
        return day.trade_date.isoformat(), weekday, "", "", "", day.note
    notes = [day.note] if day.note else []
    if day.is_early:
        notes.insert(0, "early close")
    if day.trading_day is not None and day.trading_day != day.trade_date:
        notes.append(f"counts for {day.trading_day}")
    halt = "" if day.pause_et is None else "-".join(f"{at:%H:%M}" for at in day.pause_et)
    return (
        day.trade_date.isoformat(),
        weekday,
        f"{day.open_et:%a %H:%M}",
        f"{day.close_et:%H:%M}",
        halt,
        "; ".join(notes),
    )


# --- rulebooks -----------------------------------------------------------------------------------


@click.group(invoke_without_command=True)
@click.option("--firm", metavar="NAME", help="Only firms whose name or book ids begin so.")
@click.option(
    "--stage", type=click.Choice(["evaluation", "funded"]), help="Only books of this stage."
)
@click.option("--platforms", is_flag=True, help="List the variants of other platforms too.")
@json_option
@click.pass_context
def rulebooks(
    ctx: click.Context, firm: str | None, stage: str | None, platforms: bool, as_json: bool
) -> None:
    """List the firms' rulebooks, or show one: passline rulebooks show apex-intraday-50k."""
    if ctx.invoked_subcommand is not None:
        return
    books = [book for book in list_rulebooks() if stage is None or book.stage == stage]
    if firm is not None:
        books = _of_firm(books, firm)
    if as_json:
        print_json([book.to_dict() for book in books])
        return
    shown = books if platforms else [book for book in books if not _is_variant(book)]
    shown.sort(key=lambda book: (book.firm, book.stage))
    rows: list[tuple[str, ...]] = []
    heading = ""
    for book in shown:
        if heading != f"{book.firm}, {book.stage}":
            heading = f"{book.firm}, {book.stage}"
            rows.append((heading,))
        rows.append(_book_row(book))
    columns = ("rulebook", "floor", "allowance", "target", "daily loss", "size", "programs")
    print_table(columns, rows, right=("allowance", "target", "size"), marks=_POLICY_STYLES)
    hidden = len(books) - len(shown)
    variants = f", and {hidden} variants for other platforms (--platforms)" if hidden else ""
    click.echo(
        f"\n{len(shown)} rulebooks{variants}. Money is USD, target is\nprofit, size is minis; "
        "programs says whether the firm lets one trade.\n"
        "One in full: passline rulebooks show ID"
    )


@rulebooks.command()
@click.argument("rulebook")
@click.option("--platform", metavar="NAME", help="The variant of another platform.")
@json_option
@click.pass_context
def show(ctx: click.Context, rulebook: str, platform: str | None, as_json: bool) -> None:
    """Show one rulebook, by its id or as a .toml file, with the source of every line."""
    book = load_rulebook(rulebook, platform=platform)
    rows = describe(book)
    if as_json or (ctx.parent is not None and ctx.parent.params["as_json"]):
        print_json({**book.to_dict(), "fingerprint": book.fingerprint(), "in_words": rows})
        return
    _print_book(book, rows)


def _of_firm(books: Sequence[Rulebook], wanted: str) -> list[Rulebook]:
    key = wanted.strip().lower()
    found = [b for b in books if b.firm.lower().startswith(key) or b.id.split("-")[0] == key]
    if not found or not key:
        names = sorted({f"{b.id.split('-')[0]} ({b.firm})" for b in list_rulebooks()})
        raise RulebookError(f"no rulebook of a firm '{wanted}'. Firms: {', '.join(names)}")
    return found


def _is_variant(book: Rulebook) -> bool:
    """Says whether the book is another platform's variant of a file's own book."""
    return book.id.endswith(f"-{book.platform}")


def _book_row(book: Rulebook) -> tuple[str, ...]:
    profit = None if book.target is None else book.target.balance_mills - book.start_balance_mills
    limit = book.daily_limit
    amount = money_text(limit.amount_mills) or ("by tier" if limit.kind != "none" else "")
    largest = max(tier.size_units for tier in book.tiers)
    return (
        book.id,
        _TRAILS[book.drawdown.trail],
        money_text(book.drawdown.allowance_mills),
        money_text(profit),
        f"{amount} {limit.kind}" if amount else "",
        f"{largest / MINI:g}",
        book.automation.policy,
    )


def _print_book(book: Rulebook, rows: Sequence[Row]) -> None:
    sources: dict[tuple[str, ...], int] = {}
    cells: list[tuple[str, ...]] = []
    section = ""
    for row in rows:
        key = (row.as_of.isoformat(), row.confidence, row.source, row.note)
        number = sources.setdefault(key, len(sources) + 1)
        if row.section != section:
            section = row.section
            cells.append((section.replace("_", " "),))
        cells.append((f"  {row.field}", f"[{number}]", row.value))
    click.echo(f"{book.id}: as of {book.as_of}, confidence {book.confidence}\n")
    print_table(("rule", "source", "what it says"), cells, marks=_POLICY_STYLES)
    click.echo("\nsources")
    print_facts(
        [
            (f"[{number}]", f"{source}\n{as_of}, {confidence} confidence. {note}".strip())
            for (as_of, confidence, source, note), number in sources.items()
        ]
    )
