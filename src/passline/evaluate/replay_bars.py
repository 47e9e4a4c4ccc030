"""The bars of a replayed episode as named columns: the account, its distances, events; and as JSON.

Column t tells of bar t of the episode: the decision taken at the close of the bar before, what it
became in this bar, and where the account stands at this bar's close.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.replay import KeptPath, Replay
from passline.market.bars import Bars
from passline.rulebook.model import usd
from passline.sim.layout import NEVER, NO_PRICE, FillReason, LimitKind, OrderKind, Reject
from passline.task.actions import ACTION_NAMES
from passline.task.phases import FAR_BELOW
from passline.task.prepare import OBSERVATION_NAMES
from passline.task.reward import REWARD_TERMS

__all__ = ["NONE", "BarTable", "Happening", "bar_table", "replay_to_dict", "word"]

I64 = NDArray[np.int64]

NONE = np.iinfo(np.int64).min
"""Stands in an int64 column where there is no such number."""


class Happening(IntFlag):
    """What can happen in a bar; a bar may have several."""

    ENTRY = 1
    """A position was opened."""
    EXIT = 2
    """A position was closed."""
    MANAGED = 4
    """The stop was moved to break even, or trailing was switched."""
    REFUSED = 8
    """The order was refused."""
    AMBIGUOUS = 16
    """The two paths inside the bar ended differently."""
    LOCKED_OUT = 32
    """The soft daily limit ended the day."""
    NEW_DAY = 64
    """First bar of a trading day."""
    END = 128
    """The last bar of the episode."""


EVENTS = (
    Happening.ENTRY
    | Happening.EXIT
    | Happening.MANAGED
    | Happening.REFUSED
    | Happening.LOCKED_OUT
    | Happening.END
)
"""What makes a bar worth a line in a table."""


@dataclass(frozen=True, kw_only=True)
class BarTable:
    """Columns [T] of the account; int64, NONE where there is no such number.

    Attributes:
        ts: open of the bar, UTC ns.
        open: ticks, like high, low and close.
        high: ticks.
        low: ticks.
        close: ticks.
        position: signed contracts at the close.
        stop: ticks.
        target: ticks.
        is_trailing: the stop trails.
        entry_qty: signed contracts filled at the open, 0 if none.
        entry_price: ticks.
        exit_qty: contracts closed, signed as the position was, 0 if none.
        exit_price: ticks.
        exit_reason: FillReason.
        trip_net: net result of the round trip that ended, mills.
        reject: Reject of the order.
        balance: mills.
        equity: mills, at the close.
        peak: what the floor follows, mills.
        floor: mills.
        cushion: equity - floor, mills.
        target_balance: mills to be reached.
        to_target: target_balance - equity, mills.
        limit_level: equity at which the daily limit is touched, mills.
        to_daily_limit: equity - limit_level, mills.
        minutes_to_flat: from the close to flat-by.
        days_left: calendar days before the time limit.
        days_missing: trading days that must still count.
        to_consistency: profit still missing for the best-day rule, mills.
        size_left: contracts that the day's limit leaves.
        happening: Happening bits.
    """

    ts: I64
    open: I64
    high: I64
    low: I64
    close: I64
    position: I64
    stop: I64
    target: I64
    is_trailing: I64
    entry_qty: I64
    entry_price: I64
    exit_qty: I64
    exit_price: I64
    exit_reason: I64
    trip_net: I64
    reject: I64
    balance: I64
    equity: I64
    peak: I64
    floor: I64
    cushion: I64
    target_balance: I64
    to_target: I64
    limit_level: I64
    to_daily_limit: I64
    minutes_to_flat: I64
    days_left: I64
    days_missing: I64
    to_consistency: I64
    size_left: I64
    happening: I64

    def has_event(self) -> NDArray[np.bool_]:
        """Tells which bars are worth a line [T]."""
        return (self.happening & EVENTS) != 0


def bar_table(replay: Replay) -> BarTable:
    """Returns the columns of an episode."""
    after, events, at = replay.steps.after, replay.steps.events, replay.bar
    tape, compiled = replay.prepared.compiled.tape, replay.prepared.compiled
    has_entry, has_exit = events.entry_qty != 0, events.exit_qty != 0
    return BarTable(
        ts=_whole(compiled.ts[at]),
        open=_whole(tape.open[at]),
        high=_whole(tape.high[at]),
        low=_whole(tape.low[at]),
        close=_whole(tape.close[at]),
        position=_whole(after.qty),
        stop=_only(after.stop != NO_PRICE, after.stop),
        target=_only(after.target != NO_PRICE, after.target),
        is_trailing=_whole(after.is_trailing),
        entry_qty=_whole(events.entry_qty),
        entry_price=_only(has_entry, events.entry_price),
        exit_qty=_whole(events.exit_qty),
        exit_price=_only(has_exit, events.exit_price),
        exit_reason=_whole(events.exit_reason),
        trip_net=_only(has_exit, events.trip_net),
        reject=_whole(events.reject),
        balance=_whole(after.balance),
        equity=_whole(events.equity),
        peak=_whole(after.peak),
        **_distances(replay),
        happening=_happenings(replay),
    )


def _whole(column: Any) -> I64:
    return np.asarray(column).astype(np.int64)


def _only(where: Any, column: Any) -> I64:
    return np.where(where, _whole(column), NONE)


def _distances(replay: Replay) -> dict[str, I64]:
    """Returns how far the account is from everything that can end or settle it."""
    after, rules = replay.steps.after, replay.rules
    everywhere = np.ones(len(replay), bool)
    equity, floor = _whole(replay.steps.events.equity), _whole(after.floor)
    has_floor = everywhere & (int(rules.allowance) < FAR_BELOW)
    has_target = everywhere & (int(rules.target_balance) != NEVER)
    has_limit = (int(rules.limit_kind) != LimitKind.NONE) & (after.daily_limit != NEVER)
    limit_level = _whole(after.day_balance) - _whole(after.daily_limit)
    has_end = everywhere & (int(rules.time_limit_days) != NEVER)
    left = int(rules.time_limit_days) - (_whole(after.day) - _whole(after.first_day))
    num, den = int(rules.best_day_num), int(rules.best_day_den)
    needed = -((-_whole(after.best_day) * den) // max(num, 1))
    missing = needed - (_whole(after.balance) - int(rules.start_balance))
    units = int(replay.prepared.markets.size_units[replay.market])
    return {
        "floor": np.where(has_floor, floor, NONE),
        "cushion": np.where(has_floor, equity - floor, NONE),
        "target_balance": _only(has_target, everywhere * int(rules.target_balance)),
        "to_target": np.where(has_target, int(rules.target_balance) - equity, NONE),
        "limit_level": np.where(has_limit, limit_level, NONE),
        "to_daily_limit": np.where(has_limit, equity - limit_level, NONE),
        "minutes_to_flat": _whole(replay.prepared.compiled.minutes_to_flat[replay.bar]),
        "days_left": np.where(has_end, np.minimum(left, int(rules.time_limit_days)), NONE),
        "days_missing": np.maximum(int(rules.min_days) - _whole(after.n_days), 0),
        "to_consistency": np.where(everywhere & (den > 0), np.maximum(missing, 0), NONE),
        "size_left": (_whole(after.size_units) - np.abs(_whole(after.qty)) * units) // units,
    }


def _happenings(replay: Replay) -> I64:
    steps = replay.steps
    events, after = steps.events, steps.after
    is_accepted = events.reject == Reject.NONE
    is_managing = (steps.order.kind >= OrderKind.BREAKEVEN) & (
        steps.order.kind <= OrderKind.TRAIL_OFF
    )
    locked = after.is_locked_out & ~np.r_[False, after.is_locked_out[:-1]]
    is_last = np.arange(len(replay)) == len(replay) - 1
    flags = (
        (events.entry_qty != 0, Happening.ENTRY),
        (events.exit_qty != 0, Happening.EXIT),
        (is_managing & is_accepted, Happening.MANAGED),
        (~is_accepted, Happening.REFUSED),
        (events.is_ambiguous, Happening.AMBIGUOUS),
        (locked, Happening.LOCKED_OUT),
        (events.is_new_day, Happening.NEW_DAY),
        (is_last, Happening.END),
    )
    found = np.zeros(len(replay), np.int64)
    for where, bit in flags:
        found |= np.where(where, int(bit), 0)
    return found


def word(code: Any) -> str:
    """Returns an enum's name as it is written for people: "daily limit"."""
    return str(code.name).lower().replace("_", " ")


def replay_to_dict(replay: Replay, *, run: str, checkpoint: str) -> dict[str, Any]:
    """Returns an episode as JSON-ready data, columns as lists; fields as in docs/replay.md.

    Args:
        replay: the episode.
        run: id of its run.
        checkpoint: name of the checkpoint that was played.
    """
    steps, stored = replay.steps, replay.stored
    bars = replay.prepared.bars[replay.market]
    columns = _plain_columns(bar_table(replay), bars)
    weights = [float(w) for w in replay.params.weights]
    return {
        "run": run,
        "checkpoint": checkpoint,
        "rulebook": replay.prepared.rulebook.id,
        "contract": bars.contract.symbol,
        "tick_size": str(bars.contract.tick_size),
        "row": stored.row,
        "evaluation": stored.evaluation,
        "slice": stored.slice,
        "episode": stored.episode,
        "stored": _stored_plain(replay),
        "is_identical": True,
        "bars": columns
        | {
            "action": [ACTION_NAMES[a] for a in steps.action],
            "is_invalid": steps.is_invalid.tolist(),
            "value": _floats(steps.value),
            "order": [word(OrderKind(k)) for k in steps.order.kind],
            "order_qty": _if_entry(steps.order, steps.order.qty),
            "order_stop_ticks": _if_entry(steps.order, steps.order.stop_ticks),
            "order_target_ticks": _if_entry(steps.order, steps.order.target_ticks),
            "kept_path": [KeptPath.NAMES[k] for k in replay.kept_path],
            "is_ambiguous": steps.events.is_ambiguous.tolist(),
            "reward": _floats(steps.reward),
            "done_reason": [
                None if r == 0 else word(type(stored.done_reason)(int(r)))
                for r in steps.after.done_reason
            ],
        },
        "observation": _by_name(OBSERVATION_NAMES, steps.obs, _floats),
        "action_mask": _by_name(ACTION_NAMES, steps.mask, lambda column: column.tolist()),
        "logits": _by_name(ACTION_NAMES, steps.logits, _floats),
        "reward_terms": {
            name: _floats(np.float32(w) * term)
            for name, w, term in zip(REWARD_TERMS, weights, steps.terms, strict=True)
        },
        "reward_weights": dict(zip(REWARD_TERMS, weights, strict=True)),
    }


def _floats(column: Any) -> list[float]:
    """Returns float32 numbers in their shortest exact form."""
    return [float(str(x)) for x in np.asarray(column, np.float32)]


def _by_name(
    names: tuple[str, ...], table: Any, plain: Callable[[Any], list[Any]]
) -> dict[str, list[Any]]:
    return {name: plain(table[:, i]) for i, name in enumerate(names)}


def _if_entry(order: Any, column: Any) -> list[int | None]:
    is_entry = order.kind >= OrderKind.LONG
    return [int(x) if entry else None for x, entry in zip(column, is_entry, strict=True)]


PRICES = ("open", "high", "low", "close", "stop", "target", "entry_price", "exit_price")
MONEY = (
    "trip_net",
    "balance",
    "equity",
    "peak",
    "floor",
    "cushion",
    "target_balance",
    "to_target",
    "limit_level",
    "to_daily_limit",
    "to_consistency",
)


def _plain_columns(table: BarTable, bars: Bars) -> dict[str, list[Any]]:
    """Returns the account's columns with prices and money as exact decimal strings."""
    columns: dict[str, list[Any]] = {"time": _utc(table.ts)}
    for name, column in table.__dict__.items():
        if name in ("ts", "happening"):
            continue
        if name in PRICES:
            key = name if name.endswith("price") else f"{name}_price"
            columns[key] = _unless_none(column, lambda t: _price(t, bars.contract.tick_size))
        elif name in MONEY:
            columns[f"{name}_usd"] = _unless_none(column, usd)
        elif name == "exit_reason":
            columns[name] = [None if r == 0 else word(FillReason(r)) for r in column]
        elif name == "reject":
            columns["refused"] = [None if r == 0 else word(Reject(r)) for r in column]
        elif name == "is_trailing":
            columns[name] = [bool(x) for x in column]
        else:
            columns[name] = _unless_none(column, int)
    columns["events"] = [
        [word(kind) for kind in Happening if kind & bits] for bits in table.happening.tolist()
    ]
    return columns


def _utc(ts: I64) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(ts.astype("datetime64[ns]"), unit="s")]


def _unless_none(column: I64, show: Callable[[int], Any]) -> list[Any]:
    return [None if x == NONE else show(x) for x in column.tolist()]


def _price(ticks: int, tick_size: Decimal) -> str:
    return str(ticks * tick_size)


def _stored_plain(replay: Replay) -> dict[str, Any]:
    """Returns the stored row, every number of which came out again."""
    stored = replay.stored
    plain: dict[str, Any] = {}
    for name, column in stored.table.__dict__.items():
        if name == "action_names":
            continue
        value = column[0]
        if name.endswith("_mills"):
            plain[f"{name.removesuffix('_mills')}_usd"] = usd(int(value))
        elif np.ndim(value):
            plain[name] = dict(zip(stored.table.action_names, value.tolist(), strict=True))
        else:
            plain[name] = None if name == "mean_r" and np.isnan(value) else value.item()
    plain["outcome"], plain["done_reason"] = word(stored.outcome), word(stored.done_reason)
    return plain
