"""Measures how often the path supposed inside a bar decides what becomes of a bracket trade.

From a file of trades (ticks) bars and one-second bars are built by the importer. At every third
bar that allows an entry one contract is bought and one sold, each in an account of its own, with
stop and target at the same distance, a multiple of the mean range of the bars. The trade is played
by `worst`, by `best` and through the seconds, which are taken as the truth; what one second leaves
open is counted. Trading is free and unslipped, so that only the path shows.

Two trades end otherwise when one leaves at its stop and the other at its target or at flat-by, and
at another price when they leave alike but not at the same price: a price that jumps over the stop
from one second to the next fills it beyond the stop.

    python benchmarks/path_rule.py TICKS [TICKS ...] --contract GC --bar 1m
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from passline.evaluate.seconds import fit_seconds
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import import_bars, read_bars
from passline.rulebook import load_rulebook
from passline.sim.compile import Costs, compile_markets, compile_rules, compile_tape
from passline.sim.layout import BarFlag, Markets, OrderKind, Orders, PathRule, Rules
from passline.sim.walk import walk

BOOK = "topstep-combine-50k"
EVERY = 3
FREE = Costs(commission_mills=0, slippage_ticks=0)
MULTIPLES = (0.5, 1.0, 2.0, 4.0)
NAMES = ("worst", "best", "seconds")


class Trade(NamedTuple):
    """Net result, FillReason, and whether a bar or second on the way had two outcomes."""

    net_mills: int
    reason: int
    is_ambiguous: bool


class Desk(NamedTuple):
    """What all trades of one file share."""

    bars: Bars
    tape: Any
    markets: Markets
    rules: dict[str, Rules]
    seconds: Any


def build(path: Path, symbol: str, bar: str) -> tuple[Bars, Bars]:
    """Builds bars and seconds from ticks."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (bar, "1s"):
            out = Path(folder) / f"{length}.parquet"
            import_bars(path, contract=find_contract(symbol), out=out, bar=length)
            made.append(read_bars(out))
    return made[0], made[1]


def set_up(path: Path, symbol: str, bar: str) -> Desk:
    """Lays a clock over the bars; the account is too large to end."""
    bars, short = build(path, symbol, bar)
    book = load_rulebook(BOOK)
    rules = {
        name: compile_rules(book, path_rule=rule)._replace(
            allowance=np.int32(2**30), limit_kind=np.int32(0)
        )
        for name, rule in zip(NAMES, (PathRule.WORST, PathRule.BEST, PathRule.WORST), strict=True)
    }
    return Desk(
        bars=bars,
        tape=compile_tape(bars, book).tape,
        markets=compile_markets([bars.contract], book, FREE),
        rules=rules,
        seconds=fit_seconds(bars, short),
    )


def play(desk: Desk, name: str, bar: int, order: Orders) -> Trade | None:
    """Plays one trade until it is closed; None if it never is."""
    inside = desk.seconds.inside if name == "seconds" else None
    is_ambiguous = False
    orders = {bar: order}
    for step in walk(desk.tape, desk.markets, desk.rules[name], orders, bar=bar, inside=inside):
        is_ambiguous |= bool(step.events.is_ambiguous)
        if step.events.exit_qty:
            return Trade(step.events.trip_net, step.events.exit_reason, is_ambiguous)
    return None


def measure(desks: list[Desk], multiple: float) -> dict[str, Any]:
    """Plays every trade of one bracket by every rule."""
    trades = []
    distances = []
    for desk in desks:
        spans = np.asarray(desk.bars.high, np.int64) - desk.bars.low
        distance = max(round(multiple * spans.mean()), 1)
        distances.append(distance)
        entries = np.flatnonzero((desk.tape.flags & BarFlag.CAN_ENTER) != 0)[::EVERY]
        for bar in entries[entries < len(desk.bars) - 1].tolist():
            for kind in (OrderKind.LONG, OrderKind.SHORT):
                order = Orders(int(kind), 1, distance, distance)
                played = [play(desk, name, bar, order) for name in NAMES]
                if None not in played:
                    trades.append(played)
    net, reason, is_open = (
        np.array([[trade[field] for trade in row] for row in trades]) for field in range(3)
    )
    worst, best, true = range(3)
    tick = int(desks[0].markets.tick_mills[0])
    ends = {
        "worst_or_best": reason[:, worst] != reason[:, best],
        "worst": reason[:, worst] != reason[:, true],
        "best": reason[:, best] != reason[:, true],
    }
    other_price = (reason[:, worst] == reason[:, true]) & (net[:, worst] != net[:, true])
    return {
        "bracket_ranges": multiple,
        "stop_ticks": distances,
        "trades": len(trades),
        "ends_otherwise": {name: float(where.mean()) for name, where in ends.items()},
        "other_price_than_worst": float(other_price.mean()),
        "open_in_seconds": float(is_open[:, true].mean()),
        "mean_ticks": {name: float(net[:, at].mean() / tick) for at, name in enumerate(NAMES)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ticks", type=Path, nargs="+")
    parser.add_argument("--contract", required=True)
    parser.add_argument("--bar", default="1m")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    desks = [set_up(path, options.contract, options.bar) for path in options.ticks]
    rows = [measure(desks, multiple) for multiple in MULTIPLES]
    n_bars = sum(len(desk.bars) for desk in desks)
    n_exact = sum(int(desk.seconds.is_exact.sum()) for desk in desks)
    if options.json:
        print(json.dumps({"bars": n_bars, "bars_by_seconds": n_exact, "rows": rows}, indent=2))
        return
    print(f"{options.contract} {options.bar}: {n_bars:,} bars, {n_exact:,} of them by seconds")
    for row in rows:
        mean, ends = row["mean_ticks"], row["ends_otherwise"]
        print(
            f"| {options.contract} {options.bar} | {row['bracket_ranges']:g} "
            f"({', '.join(map(str, row['stop_ticks']))}) | {row['trades']:,} "
            f"| {ends['worst_or_best']:.1%} | {ends['worst']:.1%} | {ends['best']:.1%} "
            f"| {row['other_price_than_worst']:.1%} | {row['open_in_seconds']:.2%} "
            f"| {mean['worst']:+.2f} / {mean['seconds']:+.2f} / {mean['best']:+.2f} |"
        )


if __name__ == "__main__":
    main()
