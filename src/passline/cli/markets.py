"""How several markets are told: the verdict by market, and one market left out after the other."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from passline.cli.output import print_json, print_table
from passline.config import TrainConfig
from passline.errors import ConfigError, GateNotPassedError
from passline.evaluate.by_market import luck_sentence
from passline.evaluate.stats import Estimate
from passline.evaluate.verdict import Verdict
from passline.pipeline import Job, Outcome, load_markets, start_job, summary_of

__all__ = ["EACH", "leave_each_out", "market_summaries", "show_markets"]

EACH = "each"
"""Given to --leave-out: one market after the other is left out."""

COLUMNS = ("market", "verdict", "n", "pass rate", "minus the best baseline", "net, USD")


def show_markets(markets: Mapping[str, Verdict]) -> None:
    """Prints the verdict of each market as a table; nothing where there are not several."""
    if not markets:
        return
    print_table(COLUMNS, [_row(symbol, found) for symbol, found in markets.items()])
    click.echo(luck_sentence(markets))


def market_summaries(markets: Mapping[str, Verdict]) -> dict[str, Any]:
    """Returns the few figures of each market's verdict as plain data."""
    return {symbol: summary_of(found) for symbol, found in markets.items()}


def leave_each_out(
    config: TrainConfig,
    play: Callable[[Job], Outcome],
    *,
    root: Path,
    name: str | None,
    as_json: bool,
) -> None:
    """Trains once for each market, on the others, and judges on it: a run each, then a table.

    A gate that was not passed ends its own run and no other: the weights so far are judged.

    Args:
        config: the settings; all markets.
        play: runs a job to its outcome.
        root: directory of the runs.
        name: what to call the runs; the market is added.
        as_json: print one JSON object instead of a table.

    Raises:
        ConfigError: the markets are not of at least two contracts.
        GateNotPassedError: some run's gate was not passed; told after the table.
    """
    symbols = list(dict.fromkeys(b.contract.symbol for b in load_markets(config)[0]))
    if len(symbols) < 2:
        raise ConfigError(
            f"--leave-out {EACH} needs bars of at least two contracts; given: {', '.join(symbols)}."
        )
    outcomes: dict[str, Outcome] = {}
    for symbol in symbols:
        slices = dataclasses.replace(config.slices, leave_out=symbol)
        job = start_job(
            dataclasses.replace(config, slices=slices),
            root=root,
            name=f"{name or 'without'}-{symbol}",
        )
        outcomes[symbol] = play(job)
    if as_json:
        print_json({symbol: _told(outcome) for symbol, outcome in outcomes.items()})
    else:
        _print_left_out(outcomes)
    stopped = [symbol for symbol, outcome in outcomes.items() if outcome.stopped_at]
    if stopped:
        raise GateNotPassedError(
            f"trained without {', '.join(stopped)}, a gate was not passed; the agent as it was "
            "then is what was judged. --force goes on past gates."
        )


def _print_left_out(outcomes: Mapping[str, Outcome]) -> None:
    rows = [
        (*_row(symbol, outcome.verdict), outcome.run.id) for symbol, outcome in outcomes.items()
    ]
    print_table(("left out", *COLUMNS[1:], "run"), rows)
    click.echo(luck_sentence({symbol: outcome.verdict for symbol, outcome in outcomes.items()}))


def _told(outcome: Outcome) -> dict[str, Any]:
    stopped = outcome.stopped_at.phase if outcome.stopped_at else None
    return {"run": outcome.run.id, "stopped_at": stopped, **summary_of(outcome.verdict)}


def _row(symbol: str, found: Verdict) -> tuple[str, ...]:
    rate, net = found.agent.pass_rate, found.agent.result_usd
    gap = found.rival.advantage if found.rival is not None else None
    return (
        symbol,
        found.word.value,
        f"{rate.n:,}",
        _range(rate, 100, "{:.1f}%"),
        "" if gap is None else _range(gap, 100, "{:+.1f}"),
        _range(net, 1, "{:+,.0f}"),
    )


def _range(estimate: Estimate, factor: float, form: str) -> str:
    value, low, high = (
        form.format(factor * x) for x in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
