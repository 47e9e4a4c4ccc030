"""Source days: every trading day of a trader's record with its ordered intraday equity path.

A spell is one stretch from flat to flat, with its result, its costs, and the highest and lowest
open profit on the way, both as they may have been and as they surely were. Days without a trade
are kept where the trader could have traded: how often one trades is part of the odds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError, RunError
from passline.evaluate.audit.timeline import Event, Kind, Sight, Timeline, build_timeline
from passline.evaluate.audit.trips import Trips
from passline.evaluate.table import AGENT, load_evaluations
from passline.evaluate.verdict import UNKNOWN_TRAINING, final_phase, last_evaluations
from passline.kinds import is_trained_here, require_agent
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.market.contracts import find_contract
from passline.rulebook.model import Rulebook
from passline.runs import open_run

__all__ = ["RUN_COLUMNS", "SourceDays", "days_from_run", "days_from_trips"]

I64 = NDArray[np.int64]

RUN_COLUMNS = ("entry_ns", "exit_ns", "pnl_mills", "mae_mills", "mfe_mills", "qty", "episode")
"""Columns that `trips.npz` of a run must have; docs/odds.md says what they mean."""


@dataclass(frozen=True, kw_only=True)
class SourceDays:
    """Trading days in order, and their spells; int64.

    Attributes:
        day: trading days, days since 1970-01-01 [S].
        first: index of each day's first spell, and at the end their number [S + 1].
        gross_mills: result before costs [n].
        cost_mills: commissions of both sides [n].
        high_mills: highest open profit, as it may have been and as it surely was [2, n].
        low_mills: lowest open profit, likewise [2, n].
        qty: largest number of contracts held, long or short, above 0 [n].
        units: size units of one of them [n].
        symbols: contract symbols that occur.
        sight: the poorest source of what happened inside a trade.
        note: what a reader has to know; "" if nothing.
        starts: places of the days that follow no other: the first, and each after days that are
            not of the record.
    """

    day: I64
    first: I64
    gross_mills: I64
    cost_mills: I64
    high_mills: I64
    low_mills: I64
    qty: I64
    units: I64
    symbols: tuple[str, ...]
    sight: Sight
    note: str = ""
    starts: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.day)

    @property
    def n_traded(self) -> int:
        """Days with at least one spell."""
        return int((np.diff(self.first) > 0).sum())

    @property
    def day_net_mills(self) -> I64:
        """Net result of each day; int64 [S]."""
        sums = np.r_[0, np.cumsum(self.gross_mills - self.cost_mills)]
        return sums[self.first[1:]] - sums[self.first[:-1]]


def days_from_trips(
    trips: Trips, book: Rulebook, bars: Mapping[str, Bars] | None = None
) -> SourceDays:
    """Builds source days from closed trades.

    Args:
        trips: closed trades.
        book: whose commissions are charged where the trades tell none.
        bars: tapes to look inside the trades, by contract symbol.
    """
    timeline = build_timeline(trips, bars)
    costs = _costs(trips, book)
    units = trips.column([c.size_units for c in trips.contracts])
    rows = [_spell(timeline, spell, costs, units) for spell in _spells(timeline)]
    table = np.asarray(rows, np.int64).reshape(len(rows), 9)
    whole = table[:1, 0], table[-1:, 0]
    known = _exchange_days(trips.contracts[0].calendar)
    symbols = tuple(c.symbol for c in trips.contracts)
    return _build(table, known, whole, symbols, timeline.sight, " ".join(timeline.notes))


def _costs(trips: Trips, book: Rulebook) -> I64:
    sides = []
    for contract in trips.contracts:
        own = book.commission_mills(contract.symbol)
        sides.append(contract.commission_mills if own is None else own)
    usual = 2 * trips.qty * trips.column(sides)
    return np.where(trips.commission_mills >= 0, trips.commission_mills, usual)


def _spells(timeline: Timeline) -> list[list[Event]]:
    """Returns the events of each stretch from flat to flat."""
    spells: list[list[Event]] = []
    current: list[Event] = []
    n_open = 0
    for event in timeline.events:
        if not current and event.kind is not Kind.ENTRY:
            continue
        current.append(event)
        n_open += {Kind.ENTRY: 1, Kind.EXIT: -1, Kind.MARK: 0}[event.kind]
        if not n_open:
            spells.append(current)
            current = []
    return spells


def _spell(timeline: Timeline, events: list[Event], costs: I64, units: I64) -> tuple[int, ...]:
    """Returns day, gross, cost, highs and lows (may, sure), contracts and units of a spell.

    Which trade of a contract an exit closes does not matter: from an exit that leaves others of it
    open until their next mark, the open profit is not known and no extreme is taken.
    """
    trips = timeline.trips
    realized, high, low = 0, [0, 0], [0, 0]
    ranges: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}
    is_open: set[int] = set()
    unmarked: set[int] = set()
    most = 0
    for event in events:
        if event.kind is Kind.ENTRY:
            is_open.add(event.trip)
            most = max(most, sum(int(trips.qty[t]) for t in is_open))
        elif event.kind is Kind.EXIT:
            is_open.remove(event.trip)
            realized += int(trips.gross_mills[event.trip])
            ranges.pop(event.lane, None)
            lanes = {int(trips.contract[t]) for t in is_open}
            unmarked = (unmarked | {event.lane}) & lanes
        else:
            ranges[event.lane] = event.worst, event.best
            unmarked.discard(event.lane)
        if unmarked:
            continue
        for path in (0, 1):
            tops = [span[path][0] for span in ranges.values()]
            bottoms = [span[path][1] for span in ranges.values()]
            if path == 1 and len(ranges) > 1:
                tops, bottoms = [max(sum(bottoms), 0)], [min(sum(tops), 0)]
            high[path] = max(high[path], realized + sum(tops))
            low[path] = min(low[path], realized + sum(bottoms))
    held = sorted({e.trip for e in events if e.kind is Kind.EXIT})
    cost = sum(int(costs[t]) for t in held)
    return (events[-1].day, realized, cost, *high, *low, most, int(units[held[0]]))


def days_from_run(folder: Path, book: Rulebook) -> SourceDays:
    """Builds source days from `trips.npz` of a run: the agent's trades on its test slices.

    Episodes overlap in time, so they are taken in order of their first day, each one only if it
    begins after the last one taken has ended: every date counts once. The days are those that the
    episodes taken lived through, as `evaluations.npz` tells them; without that file those from each
    one's first trade to its last. No day outside them was played.

    Args:
        folder: the run.
        book: the rulebook, named in messages only.

    Raises:
        RunError: a file is missing or does not hold what it should.
    """
    is_known = True
    if (folder / "run.toml").is_file():
        run = open_run(folder)
        require_agent(run, "whose trades could be counted")
        is_known = is_trained_here(run.manifest)
    columns = _load_run(folder / "trips.npz")
    order = np.lexsort((columns["exit_ns"], columns["entry_ns"]))
    columns = {name: values[order] for name, values in columns.items()}
    symbol = str(columns["symbol"][0])
    contract = find_contract(symbol)
    sessions = load_calendar(contract.calendar).all_sessions
    index = np.searchsorted(sessions.open_ns, columns["exit_ns"] - 1, side="right") - 1
    day = sessions.trading_day[index].astype(np.int64)
    known = _exchange_days(contract.calendar)
    episode = columns["episode"].astype(np.int64)
    stored = folder / "evaluations.npz"
    is_told = stored.is_file()
    names, first, last = _lived(stored, episode, day, known) if is_told else _traded(episode, day)
    taken = _disjoint(first, last)
    kept = np.isin(episode, names[taken])
    if not (columns["symbol"] == symbol).all():
        raise RunError(f"{folder}: trips.npz holds several contracts; odds of a run need one.")
    cost = columns["commission_mills"]
    gross = columns["pnl_mills"] + cost
    high = np.maximum(np.maximum(columns["mfe_mills"], gross), 0)
    low = np.minimum(np.minimum(-np.abs(columns["mae_mills"]), gross), 0)
    units = np.full(len(day), contract.size_units, np.int64)
    # The file's qty is signed; a size is not.
    parts = (day, gross, cost, high, high, low, low, np.abs(columns["qty"]), units)
    table = np.stack([np.asarray(part, np.int64)[kept] for part in parts], axis=1)
    notes = [
        f"{len(taken)} of {len(names)} episodes of the run are used, so that no date counts twice "
        f"({book.id})."
    ]
    if not is_told:
        notes.append(f"Without {stored.name}, days before and after an episode's trades are lost.")
    if not is_known:
        notes.append(UNKNOWN_TRAINING)
    spans = first[taken], last[taken]
    return _build(table, known, spans, (symbol,), "excursions", " ".join(notes))


def _load_run(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns: dict[str, NDArray[Any]] = {n: stored[n] for n in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError(
            f"{path}: cannot be read ({error}). Evaluate the run again, or give a file of fills"
        ) from error
    missing = [name for name in (*RUN_COLUMNS, "symbol") if name not in columns]
    sizes = {len(np.atleast_1d(values)) for values in columns.values()}
    if missing or len(sizes) != 1 or 0 in sizes:
        what = f"no column {missing[0]}" if missing else f"columns of {sorted(sizes)} trades"
        raise RunError(f"{path}: {what}; it must hold {', '.join(RUN_COLUMNS)} and symbol, alike")
    columns.setdefault("commission_mills", np.zeros(sizes.pop(), np.int64))
    return columns


def _lived(stored: Path, episode: I64, day: I64, known: I64) -> tuple[I64, I64, I64]:
    """Returns number, first and last day of every episode that the agent was judged on [E] each."""
    table = load_evaluations(stored)
    rows = last_evaluations(table, phase=final_phase(table)).where(policy=AGENT)
    n_trips = np.bincount(episode, minlength=len(rows))
    if not np.array_equal(n_trips, rows.n_trips):
        raise RunError(
            f"{stored}: the agent's last evaluation has {len(rows)} episodes with "
            f"{int(rows.n_trips.sum())} round trips, trips.npz {len(episode)} of others. Evaluate "
            "the run again"
        )
    start = np.searchsorted(known, rows.start_day)
    last = known[np.minimum(start + np.maximum(rows.n_days, 1), len(known)) - 1]
    # Bars may lack days that the exchange had.
    np.maximum.at(last, episode, day)
    return np.arange(len(rows)), rows.start_day, last


def _traded(episode: I64, day: I64) -> tuple[I64, I64, I64]:
    """Returns number, day of the first and of the last trade of each episode with one [E] each."""
    names, index = np.unique(episode, return_inverse=True)
    first, last = np.full(len(names), day.max()), np.full(len(names), day.min())
    np.minimum.at(first, index, day)
    np.maximum.at(last, index, day)
    return names, first, last


def _disjoint(first: I64, last: I64) -> I64:
    """Returns the episodes that do not share a day, earliest first."""
    taken: list[int] = []
    end = -1
    for at in np.argsort(first, kind="stable"):
        if first[at] > end:
            taken.append(int(at))
            end = int(last[at])
    return np.asarray(taken, np.int64)


def _exchange_days(calendar: str) -> I64:
    return np.unique(load_calendar(calendar).all_sessions.trading_day.astype(np.int64))


def _build(
    table: I64,
    known: I64,
    spans: tuple[I64, I64],
    symbols: tuple[str, ...],
    sight: Sight,
    note: str,
) -> SourceDays:
    """Lays spells into the exchange's days of each span, first and last day [E] in order."""
    if not len(table):
        raise BarsError("odds: no closed trade was found; at least one is needed.")
    table = table[np.argsort(table[:, 0], kind="stable")]
    span = np.searchsorted(spans[0], known, side="right") - 1
    days = known[(span >= 0) & (known <= spans[1][span])]
    days = np.union1d(days, table[:, 0])
    # Between days that follow each other the exchange has no third.
    gaps = np.diff(np.searchsorted(known, days)) > 1
    starts = (0, *(int(at) for at in np.flatnonzero(gaps) + 1))
    first: I64 = np.searchsorted(table[:, 0], np.append(days, days[-1] + 1)).astype(np.int64)
    return SourceDays(
        day=days,
        first=first,
        gross_mills=table[:, 1],
        cost_mills=table[:, 2],
        high_mills=np.ascontiguousarray(table[:, 3:5].T),
        low_mills=np.ascontiguousarray(table[:, 5:7].T),
        qty=table[:, 7],
        units=table[:, 8],
        symbols=symbols,
        sight=sight,
        note=note,
        starts=starts,
    )
