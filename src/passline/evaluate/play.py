"""Plays a scripted strategy through a firm's rules: signals in, the account's whole story out.

The arithmetic is the simulator's; this module lays signals on bars, chooses where the account
starts, and tells the result as plain data. docs/play.md says what each field means.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.placing import Placed, order_of, place_signals
from passline.evaluate.seconds import Seconds, fit_seconds
from passline.evaluate.signals import Signal, SignalFile, list_problems, utc_text
from passline.market.bars import Bars
from passline.market.clock import EPOCH
from passline.rulebook.model import Rulebook, usd
from passline.sim.compile import (
    CompiledTape,
    Costs,
    compile_markets,
    compile_rules,
    compile_tape,
)
from passline.sim.journal import Journal, RoundTrip, keep_journal
from passline.sim.layout import (
    DoneReason,
    FillReason,
    Markets,
    OrderKind,
    Outcome,
    PathRule,
    Reject,
)
from passline.sim.walk import walk

__all__ = ["PATHS", "TARGET_FILLS", "PlayConfig", "play"]

PATHS = {
    "worst": PathRule.WORST,
    "best": PathRule.BEST,
    "high_first": PathRule.HIGH_FIRST,
    "low_first": PathRule.LOW_FIRST,
    "seconds": PathRule.WORST,
}
"""Names of the path rules; seconds settles what they leave open by the worse path."""
TARGET_FILLS = {"through": 1, "touch": 0}
"""Ticks beyond the limit price that fill a target."""
REFUSALS = {
    Reject.IN_POSITION: "a position is open already; close it first",
    Reject.NO_POSITION: "no position is open",
    Reject.SIZE_LIMIT: "more contracts than the rulebook allows on that day",
    Reject.LOCKED_OUT: "the daily loss limit ended the day",
    Reject.NO_ENTRY_TIME: "no entry is allowed then: outside the session or too near flat-by",
    Reject.NO_STOP: "the position was entered without a stop, so it has no distance to trail",
    Reject.NOT_TIGHTER: "the stop would not be tighter, or the close does not lie beyond it",
    Reject.ALREADY_TRAILING: "the stop trails already",
    Reject.NOT_TRAILING: "the stop does not trail",
    Reject.STOP_TO_TARGET: "the stop is missing or too wide for the target under the rulebook",
    Reject.EXPIRED: "the next bar belongs to another session or ends after flat-by",
    Reject.ACCOUNT_ENDED: "the account, or the data, had ended",
}
"""What each refusal means."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """How signals are played.

    Attributes:
        path: worst, best, high_first, low_first or seconds.
        target_fill: through (the price trades a tick beyond the limit) or touch.
        costs: commission and slippage instead of the rulebook's and the contract's.
        start: trading day on which the account starts; None for that of the first signal.
    """

    path: str = "worst"
    target_fill: str = "through"
    costs: Costs = field(default_factory=Costs)
    start: date | None = None


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Everything that one account is played on."""

    bars: Bars
    rulebook: Rulebook
    compiled: CompiledTape
    markets: Markets
    placed: Placed
    start_bar: int
    seconds: Seconds | None
    target_through: int


def play(
    bars: Bars,
    rulebook: Rulebook,
    file: SignalFile,
    *,
    config: PlayConfig | None = None,
    seconds: Bars | None = None,
) -> dict[str, Any]:
    """Plays signals through a rulebook.

    Args:
        bars: the tape; its contract is the one that is traded.
        rulebook: the firm's demands.
        file: the signals.
        config: how to play them.
        seconds: one-second bars of the same market, for the path `seconds`.

    Returns:
        The story of the account as JSON-ready data, fields as in docs/play.md.

    Raises:
        BarsError: the seconds do not fit the bars.
        ConfigError: signals fit no bar, a close names other than the open contracts, the contract
            may not be traded, or a setting is unknown.
        SimulationError: the bars cannot be simulated.
    """
    config = config or PlayConfig()
    _check(bars, rulebook, config, seconds)
    compiled = compile_tape(bars, rulebook)
    every = place_signals(file, bars, compiled, rulebook)
    start_bar = _start_bar(compiled, every, file, config.start)
    placed = _from_start(every, start_bar)
    table = _Table(
        bars=bars,
        rulebook=rulebook,
        compiled=compiled,
        markets=compile_markets([bars.contract], rulebook, config.costs),
        placed=placed,
        start_bar=start_bar,
        seconds=None if seconds is None else fit_seconds(bars, seconds),
        target_through=TARGET_FILLS[config.target_fill],
    )
    journal, used = _play_once(table, PATHS[config.path])
    _refuse_partial(table, journal, file)
    story = _story(table, journal)
    story["rulebook"] = rulebook.id
    story["fingerprint"] = _fingerprint(table, file, config)
    story |= _extras(table, journal, config)
    if config.path == "worst":
        story |= _other_path(table, journal)
    story["notes"] = [
        *_book_notes(rulebook),
        *_early_notes(len(every.by_bar) - len(placed.by_bar), file),
        *_moved_notes(placed, file),
        *_seconds_notes(used),
        *_end_notes(table, journal),
    ]
    return story


def _check(bars: Bars, rulebook: Rulebook, config: PlayConfig, seconds: Bars | None) -> None:
    for name, value, known in (
        ("path", config.path, PATHS),
        ("target_fill", config.target_fill, TARGET_FILLS),
    ):
        if value not in known:
            raise ConfigError(f"{name} was '{value}'; it must be one of {', '.join(known)}")
    if (config.path == "seconds") != (seconds is not None):
        raise ConfigError(
            f"path was {config.path} and {'no ' if seconds is None else ''}one-second bars were "
            "given; the path seconds needs them and no other uses them"
        )
    if not rulebook.products.allows(bars.contract.symbol):
        raise ConfigError(
            f"{rulebook.id}: {bars.contract.symbol} may not be traded under this book. Choose "
            "another contract or another book: passline rulebooks"
        )


def _start_bar(compiled: CompiledTape, placed: Placed, file: SignalFile, start: date | None) -> int:
    """Returns the bar at whose close the account starts: the last before its first trading day."""
    days = compiled.tape.day
    first = min(placed.by_bar)
    if start is None:
        return max(int(np.searchsorted(days, days[first])) - 1, 0)
    begin = int(np.searchsorted(days, (start - EPOCH).days))
    if begin >= len(days):
        raise ConfigError(
            f"start was {start}; the last trading day of the bars is {_day_text(int(days[-1]))}. "
            "Choose an earlier day"
        )
    last = max(placed.by_bar)
    if last < begin - 1:
        raise ConfigError(
            f"{file.name}: the last signal, line {placed.by_bar[last].line}, lies before the "
            f"start, {start}. Choose an earlier day"
        )
    return max(begin - 1, 0)


def _from_start(placed: Placed, start_bar: int) -> Placed:
    """Leaves out the signals decided before the bar at whose close the account starts."""
    kept = {bar: signal for bar, signal in placed.by_bar.items() if bar >= start_bar}
    lines = {signal.line for signal in kept.values()}
    return Placed(
        by_bar=kept,
        moved=tuple(item for item in placed.moved if item[0] in lines),
        late=placed.late & kept.keys(),
    )


# The account.


def _play_once(table: _Table, path_rule: PathRule) -> tuple[Journal, Counter[str]]:
    """Plays the account by one path rule; also counts the bars that seconds resolved."""
    rules = compile_rules(table.rulebook, path_rule=path_rule, target_through=table.target_through)
    orders = {
        bar: order_of(signal)
        for bar, signal in table.placed.by_bar.items()
        if bar not in table.placed.late or signal.kind not in (OrderKind.LONG, OrderKind.SHORT)
    }
    used: Counter[str] = Counter()

    def inside(bar: int) -> Any:
        assert table.seconds is not None
        prices = table.seconds.inside(bar)
        used["by seconds" if prices else "as a whole"] += 1
        return prices

    steps = walk(
        table.compiled.tape,
        table.markets,
        rules,
        orders,
        bar=table.start_bar,
        inside=None if table.seconds is None else inside,
    )
    return keep_journal(steps, table.markets), used


def _refuse_partial(table: _Table, journal: Journal, file: SignalFile) -> None:
    """Refuses closes that name fewer or more contracts than were open."""
    problems = []
    for trip in journal.round_trips:
        if trip.reason != FillReason.CLOSE:
            continue
        signal, held = table.placed.by_bar[trip.exit_bar - 1], abs(trip.signed_qty)
        if signal.qty not in (0, held):
            problems.append(f"line {signal.line}: {signal.qty} of {held}")
    if problems:
        remedy = "A position closes whole; leave the qty of a close empty"
        what = "close another number of contracts than were open"
        raise ConfigError(list_problems(file.name, what, problems, len(file.signals), remedy))


def _other_path(table: _Table, journal: Journal) -> dict[str, Any]:
    """Returns whether the best path ends otherwise than the worst, and how."""
    best, _ = _play_once(table, PathRule.BEST)
    ends = [(item.state.outcome, item.state.done_reason) for item in (journal, best)]
    return {"undecided": ends[0] != ends[1], "if_best": _end(table, best)}


# The story.


def _story(table: _Table, journal: Journal) -> dict[str, Any]:
    """Returns the fields that every play has."""
    state = journal.state
    return _end(table, journal) | {
        "peak_usd": usd(state.peak),
        "floor_usd": usd(state.floor),
        "ambiguous_bars": state.n_ambiguous,
        "days": [
            {
                "trade_date": _day_text(day.day),
                "close_balance_usd": usd(day.balance_mills),
                "floor_usd": usd(day.floor_mills),
                "pnl_usd": usd(day.net_mills),
            }
            for day in journal.days
        ],
        "round_trips": [_trip(table, trip) for trip in journal.round_trips],
        "rejected": _rejected(table, journal),
    }


def _end(table: _Table, journal: Journal) -> dict[str, Any]:
    state = journal.state
    return {
        "outcome": Outcome(state.outcome).name.lower(),
        "done_reason": DoneReason(state.done_reason).name.lower(),
        "done_at": _close_text(table, state.bar),
        "balance_usd": usd(state.balance),
    }


def _trip(table: _Table, trip: RoundTrip) -> dict[str, Any]:
    is_at_open = trip.reason == FillReason.CLOSE
    return {
        "entry_at": _open_text(table, trip.entry_bar),
        "entry_price": _price(table, trip.entry_ticks),
        "exit_at": (_open_text if is_at_open else _close_text)(table, trip.exit_bar),
        "exit_price": _price(table, trip.exit_ticks),
        "qty": trip.signed_qty,
        "reason": trip.reason.name.lower(),
        "pnl_usd": usd(trip.net_mills),
        "commission_usd": usd(trip.commission_mills),
    }


def _rejected(table: _Table, journal: Journal) -> list[dict[str, Any]]:
    """Returns every order that was not carried out, in time order."""
    placed, end = table.placed, journal.state.bar
    reasons = {refusal.bar: refusal.reason for refusal in journal.refusals}
    for bar, signal in placed.by_bar.items():
        if bar >= end:
            reasons[bar] = Reject.ACCOUNT_ENDED
        elif bar in placed.late and signal.kind in (OrderKind.LONG, OrderKind.SHORT):
            reasons[bar] = Reject.NO_ENTRY_TIME
    return [_refusal(placed.by_bar[bar], reasons[bar]) for bar in sorted(reasons)]


def _refusal(signal: Signal, reason: Reject) -> dict[str, Any]:
    return {
        "time": utc_text(signal.time_ns),
        "line": signal.line,
        "action": signal.action,
        "qty": signal.qty,
        "reason": reason.name.lower(),
        "why": REFUSALS[reason],
    }


def _extras(table: _Table, journal: Journal, config: PlayConfig) -> dict[str, Any]:
    """Returns what is useful besides."""
    state, bars = journal.state, table.bars
    position = None
    if state.qty:
        position = {
            "entry_at": _open_text(table, state.entry_bar),
            "entry_price": _price(table, state.entry),
            "qty": state.qty,
        }
    return {
        "equity_usd": usd(journal.equity_mills),
        "open_position": position,
        "started_at": _close_text(table, table.start_bar),
        "start_balance_usd": usd(table.rulebook.start_balance_mills),
        "commissions_usd": usd(state.commissions),
        "late_flats": state.n_late_flat,
        "ambiguous_at": [_open_text(table, bar) for bar in journal.ambiguous_bars],
        "contract": bars.contract.symbol,
        "path": config.path,
        "target_fill": config.target_fill,
        "slippage_ticks": int(table.markets.slippage_ticks[0]),
        "commission_side_usd": usd(int(table.markets.commission_mills[0])),
        "automation": table.rulebook.automation.policy,
    }


def _fingerprint(table: _Table, file: SignalFile, config: PlayConfig) -> str:
    """Returns the SHA-256 of everything that the result depends on, in hex."""
    seconds = table.seconds
    facts: Mapping[str, Any] = {
        "bars": table.bars.fingerprint(),
        "rulebook": table.rulebook.fingerprint(),
        "signals": file.sha256,
        "path": config.path,
        "target_fill": config.target_fill,
        "start_bar": table.start_bar,
        "markets": [np.asarray(column).tolist() for column in table.markets],
        "seconds": None if seconds is None else seconds.bars.fingerprint(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# Notes.


def _book_notes(rulebook: Rulebook) -> list[str]:
    """Returns what the rulebook demands besides what was simulated."""
    notes = []
    automation, mae, news = rulebook.automation, rulebook.orders.mae, rulebook.news
    if automation.policy != "allowed":
        more = f": {automation.note}" if automation.note else ""
        notes.append(f"programs that place orders: {automation.policy}{more}")
    if mae is not None:
        notes.append("the book's limit on the open loss of one round trip was not looked at")
    if news.policy == "restricted":
        notes.append(
            f"the book restricts trading around releases, which was not looked at: {news.note}"
        )
    return notes


def _early_notes(n: int, file: SignalFile) -> list[str]:
    """Returns how many signals the start leaves out."""
    return [f"{file.name}: {n:,} signals before the start were left out"] if n else []


def _moved_notes(placed: Placed, file: SignalFile) -> list[str]:
    """Returns which signals stand at the end of a minute without a trade."""
    if not placed.moved:
        return []
    shown = ", ".join(f"line {line} to {utc_text(end)}" for line, end in placed.moved[:5])
    more = f" and {len(placed.moved) - 5:,} more" if len(placed.moved) > 5 else ""
    return [
        f"{file.name}: at the time of {len(placed.moved):,} signals no bar closes (nothing was "
        f"traded); they were decided on the last bar before, the prices being the same: "
        f"{shown}{more}"
    ]


def _seconds_notes(used: Counter[str]) -> list[str]:
    """Returns how many bars the seconds resolved."""
    if not used["as a whole"]:
        return []
    return [
        f"{used['as a whole']:,} of {used.total():,} bars in which prices mattered were walked as "
        "a whole, the worse path kept: their seconds are missing or do not make up the bar exactly"
    ]


def _end_notes(table: _Table, journal: Journal) -> list[str]:
    """Returns whether a position was closed only because the bars end."""
    last = len(table.bars) - 1
    trips = journal.round_trips
    is_cut = bool(trips) and trips[-1].exit_bar == last and trips[-1].reason == FillReason.LATE_FLAT
    if not is_cut or not table.compiled.minutes_to_flat[last]:
        return []
    return [
        f"the bars end at {_close_text(table, last)}, before flat-by; the open position was closed "
        "there as a late flat"
    ]


# Text.


def _price(table: _Table, ticks: int) -> str:
    price: Decimal = ticks * table.bars.contract.tick_size
    return f"{price:f}"


def _open_text(table: _Table, bar: int) -> str:
    return utc_text(int(table.bars.ts[bar]))


def _close_text(table: _Table, bar: int) -> str:
    return utc_text(int(table.bars.ts[bar]) + table.bars.bar_ns)


def _day_text(day: int) -> str:
    return np.datetime64(day, "D").item().isoformat()
