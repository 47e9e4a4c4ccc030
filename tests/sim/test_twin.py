"""The compiled simulator equals its plain-Python twin exactly, in every field of every step."""

from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from strategies import World, random_world, worlds

from passline.sim import reference
from passline.sim import step as compiled
from passline.sim.layout import (
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

SEEDS = range(80)
N_LANES = 12
N_STEPS = 50
N_BARS = 240


class Played(NamedTuple):
    """States and events of a batch after every step, one list of lanes a step, plain numbers."""

    states: State
    events: Events


@jax.jit
def _scan(
    tape: Tape, markets: Markets, rules: Rules, bars: Any, lane_markets: Any, orders: Orders
) -> Any:
    def one_step(state: State, order: Orders) -> Any:
        state, events = compiled.step(tape, markets, rules, state, order)
        return state, (state, events)

    first = compiled.start(tape, markets, rules, bars, lane_markets)
    return first, jax.lax.scan(one_step, first, orders)[1]


def play_compiled(world: World) -> tuple[State, Played]:
    """Runs a world through the compiled simulator."""
    first, (states, events) = _scan(*jax.tree.map(jnp.asarray, world))
    plain = jax.tree.map(lambda field: np.asarray(field).astype(np.int64), (first, states, events))
    return plain[0], Played(plain[1], plain[2])


def play_reference(world: World) -> tuple[State, Played]:
    """Runs a world through the twin, lane by lane."""
    world = jax.tree.map(lambda field: field.tolist(), world)
    constants = (Tape(*world.tape), Markets(*world.markets), Rules(*world.rules))
    firsts, lanes = [], []
    for lane, (bar, market) in enumerate(zip(world.bars, world.lane_markets, strict=True)):
        state = reference.start(*constants, bar=bar, market=market)
        firsts.append(state)
        steps = []
        for kind, qty, stop, target in zip(*world.orders, strict=True):
            order = Orders(kind[lane], qty[lane], stop[lane], target[lane])
            state, events = reference.step(*constants, state, order)
            steps.append((state, events))
        lanes.append(steps)
    first = State(*np.array(firsts, np.int64).T)
    states = np.array([[state for state, _ in steps] for steps in lanes], np.int64)
    events = np.array([[events for _, events in steps] for steps in lanes], np.int64)
    return first, Played(State(*states.transpose(2, 1, 0)), Events(*events.transpose(2, 1, 0)))


@cache
def reference_of(seed: int) -> tuple[State, Played]:
    """The twin's run of a seeded world, kept for the coverage test."""
    return play_reference(random_world(seed, N_BARS, N_LANES, N_STEPS))


def assert_same(ours: Any, theirs: Any, world: World) -> None:
    """Compares two records of [T, L] arrays and names the earliest difference."""
    wrong = [
        (*place, name)
        for name, mine, other in zip(ours._fields, ours, theirs, strict=True)
        for place in np.argwhere(mine != other)[:1].tolist()
    ]
    if not wrong:
        return
    first = min(place[:-1] for place in wrong)
    report = [
        f"{name}: compiled {mine[first]}, reference {other[first]}"
        for name, mine, other in zip(ours._fields, ours, theirs, strict=True)
        if mine[first] != other[first]
    ]
    pytest.fail(f"step, lane {first}: " + "; ".join(report) + f"\n{world.rules}")


def assert_equal_run(world: World, expected: tuple[State, Played]) -> None:
    """Plays the world in the compiled simulator and compares it with the twin's run."""
    first, played = play_compiled(world)
    assert_same(first, expected[0], world)
    merged = [*expected[1].states, *expected[1].events]
    fields = [*played.states, *played.events]
    names = [*State._fields, *[f"event_{name}" for name in Events._fields]]
    record: Any = NamedTuple("record", [(name, Any) for name in names])  # type: ignore[misc]
    assert_same(record(*fields), record(*merged), world)


@pytest.mark.parametrize("seed", SEEDS)
def test_compiled_equals_reference_on_seeded_worlds(seed: int) -> None:
    assert_equal_run(random_world(seed, N_BARS, N_LANES, N_STEPS), reference_of(seed))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(world=worlds())
def test_compiled_equals_reference_on_small_worlds(world: World) -> None:
    assert_equal_run(world, play_reference(world))


def test_the_seeded_worlds_reach_every_rule() -> None:
    """Counts what happened, so that the equality above is not one of empty runs."""
    counts: Counter[Any] = Counter()
    for seed in SEEDS:
        rules = random_world(seed, N_BARS, N_LANES, N_STEPS).rules
        _, played = reference_of(seed)
        states, events = played
        for kind, values in (
            (DoneReason, states.done_reason[-1]),
            (Outcome, states.outcome[-1]),
            (FillReason, events.exit_reason),
            (Reject, events.reject),
        ):
            for value, count in zip(*np.unique(values, return_counts=True), strict=True):
                counts[repr(kind(value))] += int(count)
        for name in ("is_trailing", "is_locked", "is_locked_out", "n_late_flat", "best_day"):
            counts[name] += int((getattr(states, name) != 0).sum())
        for name in ("is_ambiguous", "is_new_day", "is_day_close", "entry_qty"):
            counts[name] += int((getattr(events, name) != 0).sum())
        counts["tier"] += int((states.tier > 0).sum())
        counts["day counted"] += int((states.n_days > 0).sum())
        counts["entry and exit in one bar"] += int(
            ((events.entry_qty != 0) & (events.exit_qty != 0)).sum()
        )
        is_end = states.done_reason == DoneReason.DATA_END
        counts["open at the end of the data"] += int((is_end & (states.qty != 0)).sum())
        counts[repr(TrailKind(int(rules.trail_kind)))] += 1
        counts[repr(LimitKind(int(rules.limit_kind)))] += 1
        counts[repr(TargetTest(int(rules.target_test)))] += 1
        counts[repr(PathRule(int(rules.path_rule)))] += 1

    expected: set[Any] = {"is_trailing", "is_locked", "is_locked_out", "n_late_flat", "best_day"}
    expected |= {"is_ambiguous", "is_new_day", "is_day_close", "entry_qty", "tier", "day counted"}
    expected |= {"entry and exit in one bar", "open at the end of the data"}
    for kind in (
        Outcome,
        Reject,
        DoneReason,
        FillReason,
        TrailKind,
        LimitKind,
        TargetTest,
        PathRule,
    ):
        expected |= {repr(member) for member in kind}
    expected -= {repr(DoneReason.WINDOW_END), repr(FillReason.ENTRY)}
    assert not [name for name in expected if counts[name] == 0], dict(counts)
