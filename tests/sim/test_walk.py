"""Passing quiet bars in one go leaves the account as walking each of them does."""

import random
from collections.abc import Callable
from functools import cache

import jax
import numpy as np
import pytest
from strategies import draw_markets, draw_orders, draw_rules

from passline.market.contracts import find_contract
from passline.rulebook import load_rulebook
from passline.sim.compile import Costs, compile_markets, compile_rules
from passline.sim.layout import (
    NEVER,
    BarFlag,
    DoneReason,
    Events,
    Markets,
    OrderKind,
    Orders,
    Rules,
    Tape,
)
from passline.sim.walk import Step, walk

N_BARS = 600


def long_tape(rng: random.Random) -> Tape:
    """A tape of few, long days that moves little from bar to bar."""
    width = rng.choice((1, 3, 8))
    close, rows, flags, days = 5_000, [], [], []
    length = rng.choice((60, 150, 300))
    for bar in range(N_BARS):
        first = close + rng.choice((0, 0, 0, 0, rng.randint(-4 * width, 4 * width)))
        close = first + rng.randint(-width, width)
        high = max(first, close) + rng.randint(0, width)
        low = min(first, close) - rng.randint(0, width)
        rows.append((first, high, low, close))
        minute = bar % length
        flag = BarFlag.TRADABLE * (minute < length - 3) | BarFlag.CAN_ENTER * (minute < length - 6)
        flag |= BarFlag.SESSION_START * (minute == 0)
        flag |= (BarFlag.FLAT | BarFlag.DAY_CLOSE) * (minute == length - 4)
        flags.append(int(flag))
        days.append(19_000 + bar // length)
    return Tape(
        *np.array(rows, np.int32).T,
        flags=np.array(flags, np.int32),
        day=np.array(days, np.int32),
        next_day=np.array([*days[1:], NEVER], np.int32),
    )


def few_orders(rng: random.Random) -> dict[int, Orders]:
    """Orders at some of the bars."""
    script = jax.tree.map(lambda column: column.ravel().tolist(), draw_orders(rng, N_BARS, 1))
    share = rng.choice((0.02, 0.1, 0.4))
    return {
        bar: Orders(kind, qty, stop * 3, target * 3)
        for bar, (kind, qty, stop, target) in enumerate(zip(*script, strict=True))
        if rng.random() < share
    }


def seconds_of(tape: Tape, seed: int) -> Callable[[int], list[tuple[int, ...]]]:
    """Seconds of every other bar, on a path from open to close by way of its high and low."""

    def inside(bar: int) -> list[tuple[int, ...]]:
        rng = random.Random(f"{seed} {bar}")
        if rng.random() < 0.5:
            return []
        first, high, low, last = (int(column[bar]) for column in tape[:4])
        turns = [(high, high, low, low), (low, high, low, high), (high,) * 4, (low,) * 4]
        middle = turns[2:] if rng.random() < 0.5 else [rng.choice(turns[:2])]
        rng.shuffle(middle)
        return [(first,) * 4, *middle, (last,) * 4]

    return inside


@cache
def both_walks(seed: int) -> tuple[list[Step], list[Step]]:
    """The same account with and without passing quiet bars."""
    rng = random.Random(seed)
    tape, orders = long_tape(rng), few_orders(rng)
    markets: Markets = draw_markets(rng)
    rules: Rules = draw_rules(rng)
    if seed % 2:
        rules = rules._replace(allowance=rules.allowance * 20, late_flat_fails=np.int32(0))
    bar = rng.randrange(20)
    inside = seconds_of(tape, seed) if seed % 3 == 0 else None
    every = list(walk(tape, markets, rules, orders, bar=bar, inside=inside, skips=False))
    return every, list(walk(tape, markets, rules, orders, bar=bar, inside=inside))


@pytest.mark.parametrize("seed", range(60))
def test_passing_quiet_bars_changes_nothing(seed: int) -> None:
    every, some = both_walks(seed)
    by_bar = {step.state.bar: step for step in every}
    for step in some:
        assert step == by_bar[step.state.bar]
    seen = {step.state.bar for step in some}
    passed = [step.events for bar, step in by_bar.items() if bar not in seen]
    quiet = [events._replace(equity=0) for events in passed]
    assert set(quiet) <= {tuple(0 for _ in Events._fields)}
    assert some[-1] == every[-1]


def test_the_walks_above_pass_bars_and_reach_ends() -> None:
    n_passed, n_steps, n_open, ends = 0, 0, 0, set()
    for seed in range(60):
        every, some = both_walks(seed)
        seen = {step.state.bar for step in some}
        n_steps += len(some)
        n_passed += len(every) - len(some)
        n_open += sum(step.state.qty != 0 for step in every if step.state.bar not in seen)
        ends.add(DoneReason(every[-1].state.done_reason))
    assert n_passed > n_steps
    assert n_open > 500
    assert ends >= {DoneReason.FLOOR, DoneReason.TARGET, DoneReason.DATA_END}


def test_the_floor_of_a_position_carried_past_the_lock_stays_locked() -> None:
    close = np.arange(5_000, 5_000 + N_BARS, dtype=np.int32)
    flags = np.full(N_BARS, BarFlag.TRADABLE | BarFlag.CAN_ENTER, np.int32)
    flags[0] |= BarFlag.SESSION_START
    day = np.full(N_BARS, 19_000, np.int32)
    next_day = np.r_[day[1:], np.int32(NEVER)]
    tape = Tape(close, close, close, close, flags=flags, day=day, next_day=next_day)
    book = load_rulebook("apex-intraday-50k")
    rules = compile_rules(book)._replace(target_balance=np.int32(NEVER))
    costs = Costs(commission_mills=0, slippage_ticks=0)
    markets = compile_markets([find_contract("ES")], book, costs)
    orders = {0: Orders(OrderKind.LONG, 1, 0, 0)}
    every, some = (
        [step.state for step in walk(tape, markets, rules, orders, bar=0, skips=skips)]
        for skips in (False, True)
    )
    assert len(some) < len(every)
    assert some[-1] == every[-1]
    assert some[-1].floor == rules.lock_level < some[-1].peak - rules.allowance
    on_the_way = {state.bar: state.floor for state in every}
    assert all(state.floor == on_the_way[state.bar] for state in some)
