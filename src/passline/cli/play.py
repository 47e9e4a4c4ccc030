"""passline play: a signal file through a firm's rules."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.evaluate.market_files import open_bars
from passline.evaluate.play import PATHS, TARGET_FILLS, PlayConfig
from passline.evaluate.play import play as play_signals
from passline.evaluate.signals import read_signals
from passline.rulebook import load_rulebook
from passline.sim.compile import Costs

__all__ = ["play"]

MAX_COMMISSION_USD = 1_000
N_ROWS = 40
"""Rows of a table that are printed; JSON has all."""
STYLES = {"passed": "bold green", "breached": "bold red", "timed_out": "yellow"}

_FILE = click.Path(path_type=Path)


def _mills(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Reads an amount in USD as mills."""
    if value is None:
        return None
    try:
        mills = Decimal(value) * 1_000
    except InvalidOperation:
        mills = Decimal("NaN")
    if not mills.is_finite() or not 0 <= mills <= MAX_COMMISSION_USD * 1_000:
        message = f"was '{value}'; it must be 0 to {MAX_COMMISSION_USD:,} USD"
        raise click.BadParameter(message, ctx, param)
    if mills != mills.to_integral_value():
        raise click.BadParameter(f"was {value}; money is exact to 0.001 USD", ctx, param)
    return int(mills)


@click.command()
@click.option("--bars", type=_FILE, required=True, metavar="FILE", help="Bars of the market.")
@click.option("--contract", metavar="SYMBOL", help="Contract to trade [default: the file's].")
@click.option("--rulebook", required=True, metavar="ID|FILE", help="The firm's rules.")
@click.option("--signals", type=_FILE, required=True, metavar="CSV", help="What to trade, when.")
@click.option(
    "--path",
    type=click.Choice(list(PATHS)),
    help="What is supposed inside a bar [default: worst; seconds with --seconds].",
)
@click.option("--seconds", type=_FILE, metavar="FILE", help="One-second bars for --path seconds.")
@click.option(
    "--slippage-ticks",
    type=click.IntRange(0, 1_000),
    metavar="N",
    help="Slippage of market and stop fills [default: the contract's].",
)
@click.option(
    "--commission",
    callback=_mills,
    metavar="USD",
    help="Per contract and side [default: the rulebook's, or the contract's].",
)
@click.option(
    "--target-fill",
    type=click.Choice(list(TARGET_FILLS)),
    default="through",
    show_default=True,
    help="A target fills when the price trades through it, or on a touch.",
)
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Trading day on which the account starts [default: that of the first signal].",
)
@json_option
def play(
    bars: Path,
    contract: str | None,
    rulebook: str,
    signals: Path,
    path: str | None,
    seconds: Path | None,
    slippage_ticks: int | None,
    commission: int | None,
    target_fill: str,
    start: datetime | None,
    as_json: bool,
) -> None:
    """Play a signal file through a firm's rules.

    SIGNALS has the columns time, action, qty, stop_ticks, target_ticks. A time is the close of the
    bar on which the decision was made; the order fills at the open of the next bar.
    """
    path = path or ("worst" if seconds is None else "seconds")
    if (path == "seconds") != (seconds is not None):
        raise click.UsageError("--path seconds and --seconds FILE go together.")
    book = load_rulebook(rulebook)
    file = read_signals(signals)
    tape, notes = open_bars(bars, contract)
    short = None
    if seconds is not None:
        short, more = open_bars(seconds, tape.contract.symbol, bar="1s")
        notes = (*notes, *more)
    story = play_signals(
        tape,
        book,
        file,
        config=PlayConfig(
            path=path,
            target_fill=target_fill,
            costs=Costs(commission_mills=commission, slippage_ticks=slippage_ticks),
            start=None if start is None else start.date(),
        ),
        seconds=short,
    )
    story["notes"] = [*notes, *story["notes"]]
    if as_json:
        print_json(story)
    else:
        _print_story(story)


def _print_story(story: dict[str, Any]) -> None:
    """Prints the account's story for a reader."""
    print_facts(_facts(story))
    _print_rows(
        "round trips",
        ("entered", "price", "qty", "left", "price ", "reason", "net USD"),
        [
            (
                _minute(trip["entry_at"]),
                trip["entry_price"],
                f"{trip['qty']:+d}",
                _minute(trip["exit_at"]),
                trip["exit_price"],
                _words(trip["reason"]),
                _money(trip["pnl_usd"]),
            )
            for trip in story["round_trips"]
        ],
        right=("price", "qty", "price ", "net USD"),
    )
    _print_rows(
        "days",
        ("trade date", "net USD", "balance", "floor"),
        [
            (
                day["trade_date"],
                _money(day["pnl_usd"]),
                _money(day["close_balance_usd"]),
                _money(day["floor_usd"]),
            )
            for day in story["days"]
        ],
        right=("net USD", "balance", "floor"),
    )
    after = [row for row in story["rejected"] if row["reason"] == "account_ended"]
    _print_rows(
        "rejected",
        ("time", "line", "action", "why"),
        [
            (_minute(row["time"]), str(row["line"]), _words(row["action"]), row["why"])
            for row in story["rejected"]
            if row["reason"] != "account_ended"
        ],
        right=("line",),
    )
    if after:
        click.echo(f"\norders after the account, or the data, had ended: {len(after):,}")
    for note in story["notes"]:
        click.echo()
        print_facts([("note", note)])


def _facts(story: dict[str, Any]) -> list[tuple[str, str]]:
    costs = f"slippage {story['slippage_ticks']}, {_money(story['commission_side_usd'])} USD a side"
    facts = [
        ("outcome", _words(story["outcome"])),
        ("because", f"{_words(story['done_reason'])} at {_minute(story['done_at'])} UTC"),
        ("balance", f"{_money(story['balance_usd'])} USD"),
        ("equity", f"{_money(story['equity_usd'])} USD" if story["open_position"] else ""),
        ("peak", f"{_money(story['peak_usd'])} USD"),
        ("floor", f"{_money(story['floor_usd'])} USD"),
        ("path", f"{_words(story['path'])}; ambiguous bars: {story['ambiguous_bars']:,}"),
        ("undecided", _undecided(story)),
        ("rulebook", story["rulebook"]),
        ("contract", f"{story['contract']}, {costs}"),
        ("started", f"{_minute(story['started_at'])} UTC"),
        ("fingerprint", story["fingerprint"]),
    ]
    return facts


def _undecided(story: dict[str, Any]) -> str:
    if not story.get("undecided"):
        return ""
    best = story["if_best"]
    return (
        f"with the better path inside every bar: {_words(best['outcome'])} "
        f"({_words(best['done_reason'])}) at {_minute(best['done_at'])} UTC"
    )


def _print_rows(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]
) -> None:
    if not rows:
        return
    click.echo(f"\n{title}: {len(rows):,}")
    shown = rows if len(rows) <= N_ROWS else [*rows[: N_ROWS // 2], *rows[-N_ROWS // 2 :]]
    if len(rows) > N_ROWS:
        click.echo(f"the first and last {N_ROWS // 2}; all of them with --json")
    print_table(columns, shown, right=right, marks=STYLES)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _minute(text: str) -> str:
    """Returns an ISO time in UTC without its offset, and without seconds that are zero."""
    clock = text.removesuffix("+00:00").replace("T", " ")
    return clock.removesuffix(":00")


def _money(text: str) -> str:
    """Returns a decimal string with thousands commas."""
    return f"{Decimal(text):,}"
