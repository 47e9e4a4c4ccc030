"""Plays worlds in the compiled simulator and in its plain-Python twin, and compares them."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adversaries import LIVE, decide
from calendar_worlds import Scenery
from strategies import World

from passline.sim import reference
from passline.sim import step as compiled
from passline.sim.jit import sim_jit
from passline.sim.layout import (
    BarFlag,
    DoneReason,
    Events,
    FillReason,
    LimitKind,
    Markets,
    Orders,
    Outcome,
    PathRule,
    Reject,
    Rules,
    State,
    Tape,
    TargetTest,
    TrailKind,
)

__all__ = [
    "Run",
    "assert_equal_run",
    "padded",
    "play_live",
    "play_reference",
    "some_adversaries",
    "tally",
    "wanted",
]


class Run(NamedTuple):
    """A batch at its start [L], and its states and events after every step [T, L]; int64."""

    first: State
    states: State
    events: Events


def _play(world: World) -> Any:
    def one_step(state: State, order: Orders) -> Any:
        state, events = compiled.step(world.tape, world.markets, world.rules, state, order)
        return state, (state, events)

    first = compiled.start(world.tape, world.markets, world.rules, world.bars, world.lane_markets)
    return first, *jax.lax.scan(one_step, first, world.orders)[1]


PLAY = sim_jit(_play)


def play_compiled(world: World) -> Run:
    """Runs a world through the compiled simulator."""
    run = PLAY(jax.tree.map(jnp.asarray, world))
    return Run(*jax.tree.map(lambda field: np.asarray(field).astype(np.int64), run))


def play_reference(world: World) -> Run:
    """Runs a world's own order script through the twin."""
    return play_live(world, [None] * len(world.bars))[1]


def play_live(world: World, adversaries: Sequence[str | None], seed: int = 0) -> tuple[World, Run]:
    """Runs a world through the twin, each lane's orders decided by its adversary.

    Args:
        world: its orders hold where a lane has no adversary.
        adversaries: a name of `adversaries.LIVE`, or None [L].
        seed: of the adversaries' draws.

    Returns:
        The world with the orders that were sent, and the run.
    """
    plain = jax.tree.map(lambda field: field.tolist(), world)
    constants = (Tape(*plain.tape), Markets(*plain.markets), Rules(*plain.rules))
    script = np.array(world.orders)
    firsts, lanes = [], []
    for lane, (bar, market) in enumerate(zip(plain.bars, plain.lane_markets, strict=True)):
        rng, name = random.Random(f"{seed} {lane}"), adversaries[lane]
        state = reference.start(*constants, bar=bar, market=market)
        firsts.append(state)
        steps = []
        for t in range(script.shape[1]):
            if name is not None:
                script[:, t, lane] = decide(name, *constants, state, rng)
            order = Orders(*script[:, t, lane].tolist())
            state, events = reference.step(*constants, state, order)
            steps.append((*state, *events))
        lanes.append(steps)
    record = np.array(lanes, np.int64).transpose(2, 1, 0)
    n_fields = len(State._fields)
    first = State(*np.array(firsts, np.int64).T)
    run = Run(first, State(*record[:n_fields]), Events(*record[n_fields:]))
    return world._replace(orders=Orders(*script)), run


def assert_equal_run(world: World, expected: Run) -> None:
    """Plays the world in the compiled simulator; the earliest difference fails the test."""
    found = play_compiled(world)
    _assert_same(found.first, expected.first, world)
    names = [*State._fields, *[f"event_{name}" for name in Events._fields]]
    record: Any = NamedTuple("record", [(name, Any) for name in names])  # type: ignore[misc]
    ours = record(*found.states, *found.events)
    _assert_same(ours, record(*expected.states, *expected.events), world)


def _assert_same(ours: Any, theirs: Any, world: World) -> None:
    wrong = [
        tuple(np.argwhere(mine != other)[0].tolist())
        for mine, other in zip(ours, theirs, strict=True)
        if (mine != other).any()
    ]
    if not wrong:
        return
    first = min(wrong)
    report = [
        f"{name}: compiled {mine[first]}, reference {other[first]}"
        for name, mine, other in zip(ours._fields, ours, theirs, strict=True)
        if mine[first] != other[first]
    ]
    pytest.fail(f"step, lane {first}: " + "; ".join(report) + f"\n{world.rules}")


def padded(world: World, n_bars: int, n_lanes: int, n_steps: int) -> World:
    """Repeats the last bar, lane and step of a small world, so that it needs no compilation."""

    def longer(column: Any, axis: int, length: int) -> np.ndarray:
        pad = [(0, 0)] * np.ndim(column)
        pad[axis] = (0, length - np.shape(column)[axis])
        return np.pad(column, pad, mode="edge")

    orders = [longer(longer(column, 0, n_steps), 1, n_lanes) for column in world.orders]
    return world._replace(
        tape=Tape(*(longer(column, 0, n_bars) for column in world.tape)),
        bars=longer(world.bars, 0, n_lanes),
        lane_markets=longer(world.lane_markets, 0, n_lanes),
        orders=Orders(*orders),
    )


# What happened.

ENUMS = (Outcome, DoneReason, FillReason, Reject)
SETTINGS = (TrailKind, LimitKind, TargetTest, PathRule)


def tally(world: World, run: Run, scenery: Scenery | None = None) -> Counter[str]:
    """Counts what happened in a run, under names that `wanted` demands."""
    first, after, events = run
    before = State(*(np.concatenate([a[None], b[:-1]]) for a, b in zip(first, after, strict=True)))
    moved = after.bar != before.bar
    counts = _tally_enums(world, after, events)
    counts["episodes"] = len(world.bars)
    counts["account-bars"] = int(moved.sum())

    def count(name: str, where: np.ndarray) -> None:
        counts[name] += int((where & moved).sum())

    flags, tape = np.asarray(world.tape.flags), world.tape
    side = np.sign(np.where(events.entry_qty != 0, events.entry_qty, before.qty))
    opened = np.asarray(tape.open)[after.bar]
    is_exit = events.exit_qty != 0
    slip = np.asarray(world.markets.slippage_ticks)[before.market]
    at_open = is_exit & (events.exit_price == opened - side * slip) & (before.qty != 0)
    held = before.qty != 0
    has_range = (np.asarray(tape.high) > np.asarray(tape.low))[after.bar]
    is_last_entry = (flags[before.bar] & BarFlag.CAN_ENTER != 0) & (
        flags[after.bar] & BarFlag.CAN_ENTER == 0
    )
    is_lock = after.is_locked > before.is_locked
    count("entries", events.entry_qty != 0)
    count("entry and exit in one bar", (events.entry_qty != 0) & is_exit)
    count("entries on the last allowed bar", (events.entry_qty != 0) & is_last_entry)
    count("ambiguous bars", events.is_ambiguous != 0)
    count("late flats", after.n_late_flat > before.n_late_flat)
    count("lockouts", after.is_locked_out > before.is_locked_out)
    count("days counted", after.n_days > before.n_days)
    count("tier rises", after.tier > before.tier)
    count("tier falls", after.tier < before.tier)
    count("locks, intraday", is_lock & (world.rules.trail_kind == TrailKind.INTRADAY))
    count("locks, end of day", is_lock & (world.rules.trail_kind == TrailKind.END_OF_DAY))
    count("floor rises", after.floor > before.floor)
    count("trailed stops", (after.stop != before.stop) & (after.is_trailing != 0) & held)
    count("stops filled by a gap", at_open & (events.exit_reason == FillReason.STOP))
    count("breaches by a gap", at_open & (events.exit_reason == FillReason.FLOOR))
    count("positions in bars without range", held & ~has_range)
    count("positions left open by the end of the data", (after.qty != 0) & _ends(after))
    if scenery is not None:
        _tally_scenery(count, scenery, after, events, held)
    return counts


def _ends(after: State) -> np.ndarray:
    return after.done_reason == DoneReason.DATA_END


def _tally_enums(world: World, after: State, events: Events) -> Counter[str]:
    counts: Counter[str] = Counter()
    for kind, values in zip(
        ENUMS,
        (after.outcome[-1], after.done_reason[-1], events.exit_reason, events.reject),
        strict=True,
    ):
        for value, number in zip(*np.unique(values, return_counts=True), strict=True):
            counts[f"{kind.__name__} {kind(value).name}"] += int(number)
    names = ("trail_kind", "limit_kind", "target_test", "path_rule")
    for kind, name in zip(SETTINGS, names, strict=True):
        counts[f"{kind.__name__} {kind(int(getattr(world.rules, name))).name}"] += 1
    return counts


def _tally_scenery(
    count: Any, scenery: Scenery, after: State, events: Events, held: np.ndarray
) -> None:
    def at(where: np.ndarray) -> np.ndarray:
        return where[after.bar]

    is_late = events.exit_reason == FillReason.LATE_FLAT
    count("late flats before an early close", is_late & at(scenery.is_early))
    count("positions in a session at a clock change", held & at(scenery.is_clock_change))
    count("positions over missing minutes", held & at(scenery.is_after_gap))
    count("first bars of a new contract month", at(scenery.is_roll))
    count("bars outside sessions", at(scenery.is_stray))


OF_EVERY_TAPE = (
    "entries",
    "entry and exit in one bar",
    "entries on the last allowed bar",
    "ambiguous bars",
    "late flats",
    "lockouts",
    "days counted",
    "tier rises",
    "tier falls",
    "locks, intraday",
    "locks, end of day",
    "floor rises",
    "trailed stops",
    "stops filled by a gap",
    "breaches by a gap",
    "positions in bars without range",
    "positions left open by the end of the data",
)
OF_THE_CALENDAR = (
    "late flats before an early close",
    "positions in a session at a clock change",
    "positions over missing minutes",
    "first bars of a new contract month",
    "bars outside sessions",
)


def wanted() -> list[str]:
    """Names of everything that seeded worlds and adversaries together have to meet."""
    members = [
        f"{kind.__name__} {member.name}"
        for kind in (*ENUMS, *SETTINGS)
        for member in kind
        if (kind, member.name) not in ((DoneReason, "WINDOW_END"), (FillReason, "ENTRY"))
    ]
    return [*OF_EVERY_TAPE, *OF_THE_CALENDAR, *members]


def some_adversaries(seed: int, n_lanes: int) -> list[str | None]:
    """Draws who decides in each lane; a third keep the world's blind script."""
    rng = random.Random(seed)
    return [rng.choice(list(LIVE)) if rng.random() < 2 / 3 else None for _ in range(n_lanes)]
