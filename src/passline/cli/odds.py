"""`passline odds`: what a trading record is worth under a firm's rules."""

from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.errors import ConfigError
from passline.evaluate.audit.formats import FORMATS, read_trips
from passline.evaluate.odds.answer import Odds, OddsSettings, PathOdds
from passline.evaluate.odds.days import SourceDays, days_from_run, days_from_trips
from passline.evaluate.odds.estimate import estimate_odds
from passline.market.bars import Bars
from passline.market.load.parquet import read_bars
from passline.rulebook.catalog import load_rulebook
from passline.rulebook.model import Rulebook

__all__ = ["odds"]


@click.command("odds")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--rulebook", "rulebook_id", required=True, help="Id of an evaluation, or a path.")
@click.option("--funded", "funded_id", help="Funded stage instead of the book's own; or none.")
@click.option("--paths", type=int, default=100_000, show_default=True, help="Account lives.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all draws.")
@click.option("--block-days", type=float, help="Mean block length; the cube root of the days.")
@click.option("--cap-days", type=int, default=250, show_default=True, help="Days without a limit.")
@click.option("--horizon-days", type=int, default=250, show_default=True, help="Funded days.")
@click.option("--payout-keep", type=int, help="USD left above the floor; half the allowance.")
@click.option("--bars", type=click.Path(path_type=Path), multiple=True, help="Bars to look inside.")
@click.option("--contract", help="Contract of a file that names none, such as ES.")
@click.option("--tz", "zone", help="Zone of times that name none, such as America/New_York.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="Kind of the file.")
@click.option("--account", help="Account to keep of a file that holds several.")
@click.option("--date-order", type=click.Choice(["mdy", "dmy"]), help="Order of 05/06/2026.")
@json_option
def odds(
    source: Path,
    rulebook_id: str,
    funded_id: str | None,
    paths: int,
    seed: int,
    block_days: float | None,
    cap_days: int,
    horizon_days: int,
    payout_keep: int | None,
    bars: tuple[Path, ...],
    contract: str | None,
    zone: str | None,
    format_: str | None,
    account: str | None,
    date_order: str | None,
    as_json: bool,
) -> None:
    """Odds, time and cost to pass and be paid, from executed trades or a run's folder."""
    if payout_keep is not None and not 0 <= payout_keep <= 1_000_000:
        raise ConfigError(f"odds: --payout-keep was {payout_keep}; allowed are 0 to 1,000,000 USD.")
    settings = OddsSettings(
        n_lives=paths,
        seed=seed,
        block_days=block_days,
        cap_days=cap_days,
        horizon_days=horizon_days,
        keep_mills=None if payout_keep is None else payout_keep * 1000,
        n_side_lives=min(max(paths, 100), 10_000),
        n_record_lives=min(max(paths // 500, 20), 200),
    )
    book = load_rulebook(rulebook_id)
    if source.is_dir():
        days = days_from_run(source, book)
    else:
        trips, _ = read_trips(
            source,
            format=format_,
            contract=contract,
            zone=zone,
            account=account,
            date_order=date_order,
        )
        days = days_from_trips(trips, book, _tapes(bars))
    found = _estimate(days, book, _funded(book, funded_id), settings)
    if as_json:
        print_json({"source": source.name, **found.to_dict()})
    else:
        _print(found)


def _tapes(paths: tuple[Path, ...]) -> dict[str, Bars]:
    tapes = [read_bars(path) for path in paths]
    return {bars.contract.symbol: bars for bars in tapes}


def _funded(book: Rulebook, id: str | None) -> Rulebook | None:
    if id == "none":
        return None
    name = id or book.funded
    return None if name is None else load_rulebook(name)


def _estimate(
    days: SourceDays, book: Rulebook, funded: Rulebook | None, settings: OddsSettings
) -> Odds:
    if funded is not None and funded.stage != "funded":
        raise ConfigError(f"odds: --funded {funded.id} is no funded stage.")
    return estimate_odds(days, book, funded, settings)


def _print(found: Odds) -> None:
    told = found.to_dict()
    worst, best = found.worst, found.best
    print_facts(
        [
            ("rulebook", told["rulebook"]),
            ("then", told["funded"] or "no funded stage"),
            ("pass rate", f"{_rate(worst)} if unseen prices fell badly, {_rate(best)} if well"),
            (
                "source",
                f"{found.n_traded_days} traded days of {found.n_days}, {found.n_spells} trades; "
                f"blocks of {found.block_days:g} days; {found.settings.n_lives:,} lives",
            ),
            ("interval", f"{found.settings.level:.0%}, from the spread between source days"),
        ]
    )
    click.echo("")
    rows = [(name, value(told["worst"]), value(told["best"])) for name, value in _LINES]
    print_table(("of one attempt", "worst path", "best path"), rows, right=_PATHS)
    click.echo("")
    _print_endings(worst.endings, best.endings, "how attempts end")
    if worst.funded_endings:
        click.echo("")
        _print_endings(worst.funded_endings, best.funded_endings, "how funded accounts end")
    click.echo("")
    rows_size = [
        (f"{s['size']:g}", _pct(s["pass_rate_worst"]), _pct(s["pass_rate_best"]), s["value_usd"])
        for s in told["sizes"]
    ]
    columns = ("size", "pass, worst", "pass, best", "value of an attempt")
    print_table(columns, rows_size, right=columns[1:])
    click.echo("")
    rows_block = [(f"{b['block_days']:g}", _pct(b["pass_rate"])) for b in told["blocks"]]
    print_table(("block, days", "pass, worst"), rows_block, right=("pass, worst",))
    for note in found.notes:
        click.echo(note)


_PATHS = ("worst path", "best path")


def _print_endings(worst: dict[str, float], best: dict[str, float], title: str) -> None:
    names = [*worst, *(name for name in best if name not in worst)]
    rows = [
        (name.replace("_", " "), _pct(worst.get(name, 0.0)), _pct(best.get(name, 0.0)))
        for name in names
    ]
    print_table((title, *_PATHS), rows, right=_PATHS)


def _rate(path: PathOdds) -> str:
    rate = path.pass_rate
    return f"{_pct(rate.value)} ({_pct(rate.low)} to {_pct(rate.high)})"


def _pct(share: float) -> str:
    return f"{100 * share:.1f}%"


def _text(key: str) -> Any:
    def show(path: dict[str, Any]) -> str:
        value = path[key]
        if value is None:
            return "never"
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    return show


def _span(key: str) -> Any:
    def show(path: dict[str, Any]) -> str:
        low, high = path[f"{key}_low_usd"], path[f"{key}_high_usd"]
        told = "bounds not known" if low is None or high is None else f"{low} to {high}"
        return f"{path[f'{key}_usd']} ({told})"

    return show


def _days(path: dict[str, Any]) -> str:
    days = path["days_to_pass"]
    return f"{days['p50']:.0f} ({days['p10']:.0f} to {days['p90']:.0f})" if days else "never"


_LINES = (
    ("expected value, USD", _span("value")),
    ("trading days of a pass (10-90 %)", _days),
    ("attempts to a first pass", _text("attempts_to_pass")),
    ("calendar days to a first pass", _text("mean_calendar_days_to_first_pass")),
    ("cost to a first pass, USD", _text("cost_to_pass_usd")),
    ("cost that 9 in 10 stay below, USD", _text("cost_to_pass_p90_usd")),
    ("funded accounts paid at least once", lambda path: _pct(path["paid_share"])),
    ("paid to the trader of a funded account, USD", _text("funded_net_usd")),
)
