"""The page of a replayed episode: one HTML file with every bar, to be stepped through offline.

The arrays travel as one compressed block; the script beside this module draws them on canvases.
"""

import base64
import json
import zlib
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from passline.evaluate.replay import KeptPath, Replay
from passline.evaluate.replay_bars import NONE, BarTable, Happening, bar_table, word
from passline.evaluate.replay_choice import Stored
from passline.market.clock import MINUTE_NS, eastern_offset_ns
from passline.report.palette import DARK, LIGHT
from passline.rulebook.model import usd
from passline.sim.layout import NO_PRICE, DoneReason, FillReason, OrderKind, Outcome, Reject
from passline.task.actions import ACTION_NAMES
from passline.task.prepare import OBSERVATION_NAMES
from passline.task.reward import REWARD_TERMS

__all__ = ["Death", "render_deaths", "render_replay"]

TONES = {Outcome.PASSED: "good", Outcome.BREACHED: "bad", Outcome.TIMED_OUT: "warn"}
DEATH_WORDS = {
    DoneReason.FLOOR: "The floor was touched",
    DoneReason.DAILY_LIMIT: "The daily loss limit was touched",
    DoneReason.LATE_FLAT: "A position was open at flat-by",
    DoneReason.TIME_LIMIT: "Time ran out",
}


class Death(NamedTuple):
    """An episode that died, and where its page lies relative to the list."""

    stored: Stored
    href: str


def render_replay(replay: Replay, *, run: str, checkpoint: str) -> str:
    """Returns the page of an episode as HTML.

    Args:
        replay: the episode.
        run: id of its run.
        checkpoint: name of the checkpoint that was played.
    """
    table = bar_table(replay)
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(replay, table).items()}
    spans: dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        spans[name] = [array.dtype.str[1:], at, array.size]
        at += -(-array.nbytes // 8) * 8
    block = b"".join(a.tobytes() + bytes(-a.nbytes % 8) for a in arrays.values())
    head = _head(replay, table, run=run, checkpoint=checkpoint) | {"arrays": spans}
    return _template("replay.html.j2").render(
        title=f"{replay.stored.slice} · episode {replay.stored.episode}",
        outcome=word(replay.stored.outcome),
        reason=word(replay.stored.done_reason),
        tone=TONES.get(replay.stored.outcome, "idle"),
        facts=_facts(replay, run=run, checkpoint=checkpoint),
        style=_file("replay.css"),
        script=_file("replay.js"),
        palettes={"light": vars(LIGHT), "dark": vars(DARK)},
        head=Markup(json.dumps(head).replace("<", "\\u003c")),
        block=base64.b64encode(zlib.compress(block, 6)).decode(),
    )


def render_deaths(deaths: list[Death], *, run: str, n_episodes: int) -> str:
    """Returns a page that lists the episodes that died, by what ended them, linking to theirs.

    Args:
        deaths: in the order of the file.
        run: id of their run.
        n_episodes: episodes that were judged.
    """
    reasons = [r for r in DEATH_WORDS if any(d.stored.done_reason == r for d in deaths)]
    groups = [
        {
            "title": DEATH_WORDS[reason],
            "rows": [_death_row(d) for d in deaths if d.stored.done_reason == reason],
        }
        for reason in reasons
    ]
    return _template("replay_deaths.html.j2").render(
        run=run,
        groups=groups,
        n_deaths=len(deaths),
        n_episodes=n_episodes,
        style=_file("replay.css"),
        palettes={"light": vars(LIGHT), "dark": vars(DARK)},
    )


def _death_row(death: Death) -> dict[str, str]:
    row = death.stored.table
    start = np.datetime64(int(row.start_day[0]), "D")
    return {
        "href": death.href,
        "name": f"{death.stored.slice} · {death.stored.episode}",
        "start": str(start),
        "bars": f"{int(row.ep_length[0]):,}",
        "days": str(int(row.n_days[0])),
        "trips": str(int(row.n_trips[0])),
        "best": f"{(int(row.max_equity_mills[0])) / 1000:,.2f}",
        "result": f"{int(row.result_mills[0]) / 1000:+,.2f}",
    }


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _file(name: str) -> Markup:
    return Markup(files("passline.report").joinpath(name).read_text("utf-8"))


def _head(replay: Replay, table: BarTable, *, run: str, checkpoint: str) -> dict[str, Any]:
    """Returns names and constants that the script needs beside the arrays."""
    bars = replay.prepared.bars[replay.market]
    tick = bars.contract.tick_size
    target = int(table.target_balance[0])
    places = -int(tick.normalize().as_tuple().exponent)
    return {
        "run": run,
        "slice": replay.stored.slice,
        "episode": replay.stored.episode,
        "checkpoint": checkpoint,
        "n": len(replay),
        "tick": float(tick),
        "places": max(places, 0),
        "tickMills": bars.contract.tick_mills,
        "barMinutes": bars.bar_ns / 60e9,
        "startBalance": int(replay.rules.start_balance),
        "targetBalance": None if target == NONE else target,
        "allowance": int(replay.rules.allowance),
        "outcome": word(replay.stored.outcome),
        "doneReason": word(replay.stored.done_reason),
        "observation": OBSERVATION_NAMES,
        "actions": ACTION_NAMES,
        "terms": REWARD_TERMS,
        "weights": [float(w) for w in replay.params.weights],
        "fillReasons": [word(r) for r in FillReason],
        "rejects": [word(r) for r in Reject],
        "orders": [word(r) for r in OrderKind],
        "paths": KeptPath.NAMES,
        "events": {kind.name: int(kind) for kind in Happening},
        "none": NO_PRICE,
    }


def _arrays(replay: Replay, table: BarTable) -> dict[str, NDArray[Any]]:
    """Returns every column by name, of the narrowest kind that holds it; tables names first."""
    steps, order = replay.steps, replay.steps.order
    stop, target = _levels_in_force(replay, table)
    weights = [np.float32(w) for w in replay.params.weights]
    bits = (steps.mask << np.arange(steps.mask.shape[1])).sum(axis=1)
    money = ("balance", "equity", "peak", "floor", "limit_level", "trip_net", "to_consistency")
    prices = ("open", "high", "low", "close", "stop", "target", "entry_price", "exit_price")
    counts = ("position", "entry_qty", "exit_qty", "minutes_to_flat", "days_left", "days_missing")
    codes = ("exit_reason", "reject", "is_trailing")
    return {
        "time": table.ts / 1e9,
        "eastern": (eastern_offset_ns(table.ts) // MINUTE_NS).astype(np.int32),
        **{name: _int32(getattr(table, name)) for name in (*money, *prices, *counts)},
        "size_left": _int32(table.size_left),
        "entry": _int32(steps.after.entry),
        "stop_in_force": _int32(stop),
        "target_in_force": _int32(target),
        **{name: getattr(table, name).astype(np.uint8) for name in codes},
        "happening": table.happening.astype(np.uint16),
        "kept_path": replay.kept_path.astype(np.uint8),
        "action": steps.action.astype(np.uint8),
        "mask": bits.astype(np.uint32),
        "order": order.kind.astype(np.uint8),
        "order_qty": _int32(order.qty),
        "order_stop": _int32(order.stop_ticks),
        "order_target": _int32(order.target_ticks),
        "value": steps.value.astype(np.float32),
        "reward": steps.reward.astype(np.float32),
        "reward_terms": np.stack([w * t for w, t in zip(weights, steps.terms, strict=True)]).astype(
            np.float32
        ),
        "logits": steps.logits.T.astype(np.float32),
        "obs": steps.obs.T.astype(np.float32),
    }


def _int32(column: NDArray[Any]) -> NDArray[np.int32]:
    """Returns a column as int32, an absent number as the smallest."""
    whole = np.asarray(column, np.int64)
    return np.where(whole == NONE, NO_PRICE, whole).astype(np.int32)


def _levels_in_force(replay: Replay, table: BarTable) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the stop and target that the position met inside each bar (docs/fills.md, 3)."""
    steps, order = replay.steps, replay.steps.order
    stop, target = np.r_[NONE, table.stop[:-1]], np.r_[NONE, table.target[:-1]]
    is_entry = table.entry_qty != 0
    side = np.sign(table.entry_qty)
    entry = table.entry_price
    stop = np.where(is_entry, entry - side * order.stop_ticks, stop)
    target = np.where(is_entry, entry + side * order.target_ticks, target)
    held = np.sign(np.r_[0, table.position[:-1]])
    cost = int(replay.prepared.markets.breakeven_ticks[replay.market])
    is_even = (order.kind == OrderKind.BREAKEVEN) & (steps.events.reject == Reject.NONE)
    stop = np.where(is_even, steps.after.entry + held * cost, stop)
    is_open = is_entry | (held != 0)
    is_closed_at_open = table.exit_reason == FillReason.CLOSE
    is_met = is_open & ~is_closed_at_open
    return np.where(is_met, stop, NONE), np.where(is_met, target, NONE)


def _facts(replay: Replay, *, run: str, checkpoint: str) -> list[tuple[str, str]]:
    row = replay.stored.table
    book = replay.prepared.rulebook
    return [
        ("result", f"{_signed(int(row.result_mills[0]))} USD"),
        ("round trips", f"{int(row.n_trips[0]):,}"),
        ("bars", f"{len(replay):,} on {int(row.n_days[0])} trading days"),
        ("market", replay.prepared.bars[replay.market].contract.symbol),
        ("rulebook", book.id),
        ("phase", f"{row.phase[0]}, path {row.path[0]}"),
        ("run", run),
        ("checkpoint", checkpoint),
        ("row", f"{replay.stored.row} of evaluation {replay.stored.evaluation}"),
    ]


def _signed(mills: int) -> str:
    text = f"{usd(abs(mills))}"
    whole, _, rest = text.partition(".")
    return f"{'−' if mills < 0 else '+'}{int(whole):,}.{rest}"
