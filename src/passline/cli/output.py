"""How commands print: tables, lists of facts and JSON.

On a terminal tables are drawn by rich and fit its width; into a pipe they are plain aligned text
for grep and awk, of which only a long last column wraps. JSON carries money as decimal strings
under names in `_usd`.
"""

import dataclasses
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from passline.rulebook.model import usd

__all__ = ["as_plain", "json_option", "money_text", "print_facts", "print_json", "print_table"]

MAX_WIDTH = 120
"""Characters that a line takes at most on a wide terminal."""

LAST_WIDTH = 24
"""Characters that the last column of a table keeps on a narrow terminal, where it wraps."""

PLAIN_WIDTH = 100
"""Characters after which text into a pipe wraps."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The option that every command has whose answer a program may read."""


def money_text(mills: int | None) -> str:
    """Returns mills as USD with thousands commas, cents only where there are some; "" for None."""
    if mills is None:
        return ""
    whole, _, cents = usd(abs(mills)).partition(".")
    text = f"{int(whole):,}" + ("" if cents == "00" else f".{cents}")
    return f"-{text}" if mills < 0 else text


def as_plain(value: Any) -> Any:
    """Returns a record as JSON-ready data.

    A field `x_mills` becomes `x_usd` with a decimal string; dates become ISO text, exact decimals
    become strings.

    Raises:
        TypeError: a value of a type that JSON output has no form for.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(_item(str(key), item) for key, item in value.items())
    if isinstance(value, (tuple, list, frozenset)):
        return [as_plain(item) for item in value]
    if isinstance(value, (datetime, time)):
        return value.isoformat(timespec="minutes")
    if isinstance(value, (date, Decimal, Path)):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"no JSON form for a {type(value).__name__}")


def _item(key: str, value: Any) -> tuple[str, Any]:
    """Returns a key and its value as JSON has them; money changes both."""
    if not key.endswith("_mills") or value is None:
        return key.removesuffix("_mills") + "_usd" * key.endswith("_mills"), as_plain(value)
    exact = [usd(item) for item in value] if isinstance(value, (tuple, list)) else usd(value)
    return f"{key.removesuffix('_mills')}_usd", exact


def print_json(value: Any) -> None:
    """Prints a record, or a list of them, as indented JSON."""
    click.echo(json.dumps(as_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    marks: Mapping[str, str] | None = None,
) -> None:
    """Prints a table.

    Args:
        columns: headings.
        rows: cells as text; a row of one cell is a heading over those that follow.
        right: headings of the columns of numbers.
        marks: cell text to rich style, for words that should stand out on a terminal.
    """
    if not sys.stdout.isatty():
        _print_plain(columns, rows, right)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    widths = _widths(columns, rows)
    for title, width in zip(columns, widths, strict=True):
        is_last = title == columns[-1]
        table.add_column(
            title,
            justify="right" if title in right else "left",
            min_width=min(width, LAST_WIDTH) if is_last else width,
            no_wrap=not is_last,
            overflow="fold",
        )
    for row in rows:
        if len(row) == 1 < len(columns):
            table.add_row(Text(row[0], style="bold cyan"))
        else:
            table.add_row(*(Text(cell, style=(marks or {}).get(cell, "")) for cell in row))
    least = sum(widths[:-1]) + 2 * len(columns) + min(widths[-1], LAST_WIDTH)
    _print_rich(table, least)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints names and values in two columns; empty values are left out."""
    shown = [(name, value) for name, value in facts if value]
    if not sys.stdout.isatty():
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            _print_hanging(f"{name.ljust(width)}  ", value)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in shown:
        grid.add_row(Text(name), Text(value))
    _print_rich(grid)


def _print_rich(table: Table, least: int = 0) -> None:
    """Prints a rich table; a terminal narrower than `least` characters wraps its lines itself."""
    console = Console(highlight=False)
    console.width = max(min(console.width, MAX_WIDTH), least)
    console.print(table)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Returns the characters of the longest cell of each column."""
    body = [row for row in rows if len(row) == len(columns)]
    return [
        max([len(title), *(len(row[index]) for row in body)]) for index, title in enumerate(columns)
    ]


def _print_plain(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]
) -> None:
    widths = _widths(columns, rows)
    for row in [columns, *rows]:
        if len(row) < len(columns):
            click.echo(row[0])
            continue
        cells = [
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, columns, strict=True)
        ]
        _print_hanging("".join(f"{cell}  " for cell in cells[:-1]), cells[-1])


def _print_hanging(start: str, text: str) -> None:
    """Prints text after a start, wrapped to the plain width under its own beginning."""
    room = max(PLAIN_WIDTH - len(start), PLAIN_WIDTH // 3)
    lines = [
        line
        for part in text.rstrip().split("\n")
        for line in textwrap.wrap(part, room, break_on_hyphens=False, break_long_words=False)
    ]
    for index, line in enumerate(lines or [""]):
        click.echo(f"{start if index == 0 else ' ' * len(start)}{line}".rstrip())
