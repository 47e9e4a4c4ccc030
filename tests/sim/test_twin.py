"""The compiled simulator equals its plain-Python twin exactly, in every field of every step.

Worlds are of two kinds, drawn flags and real calendar weeks; their orders are blind scripts and
adversaries. What they meet is counted, so that the equality is not one of empty runs.
"""

import random
from collections import Counter
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import pytest
from adversaries import LIVE
from calendar_worlds import calendar_world, draw_book
from hypothesis import given, settings
from strategies import World, random_world, worlds
from twins import (
    Run,
    assert_equal_run,
    padded,
    play_live,
    play_reference,
    some_adversaries,
    tally,
    wanted,
)

from passline.rulebook import model
from passline.sim.layout import Markets, Rules
from proving import Figure, examples

SEEDS = range(100)
N_LANES = 12
N_STEPS = 50
N_BARS = 240
SIZES = (N_BARS, N_LANES, N_STEPS)
LONG_SIZES = (480, N_LANES, 120)
"""Of the long proof, as is the number of episodes."""
N_EPISODES = 12_000


class Met(NamedTuple):
    """A world with the orders that were sent, the twin's run of it, and what happened."""

    world: World
    run: Run
    counts: Counter[str]


def meet(seed: int, sizes: tuple[int, int, int] = SIZES) -> Met:
    """Plays a seeded world in the twin: odd seeds lie on the real calendar."""
    if seed % 2:
        world, scenery = calendar_world(seed, *sizes)
    else:
        world, scenery = random_world(seed, *sizes), None
    world, run = play_live(world, some_adversaries(seed, N_LANES), seed)
    return Met(world, run, tally(world, run, scenery))


met = cache(meet)


@pytest.mark.parametrize("seed", SEEDS)
def test_compiled_equals_reference_on_seeded_worlds(seed: int) -> None:
    assert_equal_run(met(seed).world, met(seed).run)


@settings(max_examples=examples(20), deadline=None, derandomize=True)
@given(world=worlds())
def test_compiled_equals_reference_on_small_worlds(world: World) -> None:
    world = padded(world, *SIZES)
    assert_equal_run(world, play_reference(world))


def test_the_seeded_worlds_reach_every_rule() -> None:
    counts = sum((met(seed).counts for seed in SEEDS), Counter[str]())
    assert not [name for name in wanted() if counts[name] == 0], counts


@pytest.mark.proof
def test_twin_equality_on_random_episodes(figure: Figure) -> None:
    """Other seeds than the short test's; every event has to be met many times."""
    counts: Counter[str] = Counter()
    seeds = range(10_000, 10_000 + N_EPISODES // N_LANES)
    for seed in seeds:
        world, run, found = meet(seed, LONG_SIZES)
        assert_equal_run(world, run)
        counts += found
    n_numbers = counts["episodes"] * LONG_SIZES[2] * (len(run.states) + len(run.events))
    figure("episodes", counts.pop("episodes"), "at least 10,000")
    figure("numbers compared", n_numbers, "all equal")
    figure("account-bars walked", counts.pop("account-bars"), "at least 100,000")
    for name in wanted():
        figure(name, counts[name], "at least 20")
    assert len(seeds) * N_LANES >= 10_000
    assert not {name: counts[name] for name in wanted() if counts[name] < 20}


# Nothing that the simulator knows stays at one value.

KNOWN = {
    "start_balance_mills",
    "tiers_latched",
    "time_limit_days",
    "drawdown.trail",
    "drawdown.allowance_mills",
    "drawdown.lock_trigger_mills",
    "drawdown.lock_level_mills",
    "target.balance_mills",
    "target.test",
    "daily_limit.kind",
    "daily_limit.amount_mills",
    "tiers.from_profit_mills",
    "tiers.size_units",
    "tiers.daily_limit_mills",
    "days.min_days",
    "days.day_profit_mills",
    "consistency.scope",
    "consistency.best_day_num",
    "consistency.best_day_den",
    "consistency.is_strict",
    "clock.flat_by",
    "clock.no_entry_minutes",
    "clock.late_flat",
    "orders.max_stop_per_target",
    "commissions.symbol",
    "commissions.side_mills",
}
"""Fields of a rulebook that reach the simulator."""
TOLD_ONLY = {"id", "firm", "plan", "size_mills", "stage", "platform", "as_of", "confidence"}
TOLD_ONLY |= {"source", "note", "funded"}
OTHERS = {
    "consistency.window": "of payouts",
    "consistency.consequence": "the two say the same of a pass",
    "consistency.from_payout": "of payouts",
    "consistency.to_payout": "of payouts",
    "daily_limit.reset": "between flat-by and the open every time is the same",
    "drawdown.payout_lock_level_mills": "of payouts",
}
OTHER_TABLES = ("automation.", "evidence.", "fees.", "inactivity.", "news.", "payout.", "products.")
OTHER_TABLES += ("orders.mae.",)


def paths_of(cls: type, prefix: str = "") -> list[str]:
    """All fields of a record and of the records inside it, "drawdown.trail"."""
    hints = get_type_hints(cls)
    found = []
    for item in fields(cls):
        inner = [c for c in (hints[item.name], *get_args(hints[item.name])) if is_dataclass(c)]
        path = prefix + item.name
        found += paths_of(inner[0], path + ".") if inner else [path]
    return found


def values_at(record: Any, path: str) -> list[str]:
    """The values of a field in a book, one for each row of an array."""
    head, _, rest = path.partition(".")
    rows = record if isinstance(record, tuple) else (record,)
    found = [getattr(row, head) for row in rows if row is not None]
    return [v for one in found for v in values_at(one, rest)] if rest else [repr(v) for v in found]


@cache
def drawn_books() -> list[model.Rulebook]:
    return [draw_book(random.Random(seed)) for seed in range(200)]


def test_every_field_of_a_rulebook_is_drawn_or_named_as_not_the_simulators() -> None:
    paths = set(paths_of(model.Rulebook))
    elsewhere = {p for p in paths if p in TOLD_ONLY | OTHERS.keys() or p.startswith(OTHER_TABLES)}
    assert paths == KNOWN | elsewhere
    assert not KNOWN & elsewhere


@pytest.mark.parametrize("path", sorted(KNOWN))
def test_every_field_that_the_simulator_knows_varies(path: str) -> None:
    assert len({value for book in drawn_books() for value in values_at(book, path)}) > 1


@pytest.mark.parametrize("parity", [0, 1], ids=["drawn", "calendar"])
def test_every_number_of_rules_and_markets_varies(parity: int) -> None:
    worlds = [met(seed).world for seed in SEEDS if seed % 2 == parity]
    for kind, records in (
        (Rules, [w.rules for w in worlds]),
        (Markets, [w.markets for w in worlds]),
    ):
        for name, column in zip(kind._fields, zip(*records, strict=True), strict=True):
            assert len({np.asarray(value).tobytes() for value in column}) > 1, name


def test_every_adversary_plays_and_enters() -> None:
    for name in LIVE:
        entries = 0
        for seed in range(0, 8, 2):
            _, run = play_live(random_world(seed, *SIZES), [name] * N_LANES, seed)
            entries += int((run.events.entry_qty != 0).sum())
        assert entries > 20, name
