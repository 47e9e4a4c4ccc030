"""What holds for every tape, rulebook and order script, whatever the numbers.

Each example is a world of eight accounts over forty bars, drawn from a seed. `PLAY` walks them in
one scan; `ONE_STEP` takes every account at every moment of such a run one bar further, all side by
side, so that any stored state can be continued under other rules or on a mirrored tape.
"""

from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import World, random_world

from passline.sim import step as compiled
from passline.sim.jit import sim_jit
from passline.sim.layout import (
    NO_PRICE,
    BarFlag,
    Events,
    FillReason,
    Markets,
    OrderKind,
    Orders,
    Outcome,
    PathRule,
    State,
)
from proving import examples

N_BARS, N_LANES, N_STEPS = 100, 8, 40
MIRROR = 20_000
FROM_BALANCE = (FillReason.FLOOR, FillReason.DAILY_LIMIT, FillReason.ACCOUNT_TARGET)
"""Exits whose price is found from the balance itself."""

seeds = st.integers(0, 2**32 - 1)
usual = settings(max_examples=examples(40), deadline=None, derandomize=True)


def _play(world: World) -> Any:
    tape, markets, rules, bars, lane_markets, orders = world

    def one(state: State, order: Orders) -> Any:
        after, events = compiled.step(tape, markets, rules, state, order)
        return after, (after, events)

    first = compiled.start(tape, markets, rules, bars, lane_markets)
    return first, *jax.lax.scan(one, first, orders)[1]


PLAY = sim_jit(_play)
ONE_STEP = sim_jit(compiled.step)


class Run(NamedTuple):
    """Accounts before [T, L] and after [T, L] every step, and the events between."""

    before: State
    after: State
    events: Events


def world_of(seed: int) -> World:
    return random_world(seed, N_BARS, N_LANES, N_STEPS)


def wide(tree: Any) -> Any:
    """Brings a tree to the host as int64, so that sums cannot overflow."""
    return jax.tree.map(lambda x: np.asarray(x).astype(np.int64), tree)


def play(world: World) -> Run:
    first, after, events = PLAY(world)
    before = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:-1]]), first, after)
    return Run(*wide((before, after, events)))


def continue_all(world: World, before: State, path: PathRule | None = None) -> tuple[State, Events]:
    """Takes every account of a run one bar further with the order that it had."""
    rules = world.rules if path is None else world.rules._replace(path_rule=np.int32(path))
    orders = jax.tree.map(lambda x: x.reshape(-1), world.orders)
    state, events = ONE_STEP(world.tape, world.markets, rules, narrow(before), orders)
    return wide((state, events))


def narrow(before: State) -> State:
    """Returns int64 [T, L] states as the simulator holds them, [T * L]."""
    bools = {"is_locked", "is_trailing", "is_locked_out", "has_traded"}
    return State(
        *(
            value.reshape(-1).astype(bool if name in bools else np.int32)
            for name, value in zip(State._fields, before, strict=True)
        )
    )


def tick_mills(world: World) -> np.ndarray:
    return world.markets.tick_mills[world.lane_markets].astype(np.int64)


def sides_filled(events: Events) -> np.ndarray:
    return np.abs(events.entry_qty) + np.abs(events.exit_qty)


def commission(world: World) -> np.ndarray:
    return world.markets.commission_mills[world.lane_markets].astype(np.int64)


@usual
@given(seed=seeds)
def test_the_floor_never_falls_and_a_lock_is_for_good(seed: int) -> None:
    run = play(world_of(seed))
    assert (run.after.floor >= run.before.floor).all()
    assert (run.after.is_locked >= run.before.is_locked).all()


@usual
@given(seed=seeds)
def test_the_balance_moves_by_fills_less_commissions(seed: int) -> None:
    world = world_of(seed)
    before, after, events = play(world)
    gained = events.exit_qty * (events.exit_price - after.entry) * tick_mills(world)
    paid = commission(world) * sides_filled(events)
    np.testing.assert_array_equal(after.balance - before.balance, gained - paid)


@usual
@given(seed=seeds)
def test_commissions_are_the_sides_filled_each_once(seed: int) -> None:
    world = world_of(seed)
    _, after, events = play(world)
    paid = commission(world) * sides_filled(events).sum(axis=0)
    np.testing.assert_array_equal(after.commissions[-1], paid)
    n_exits = (events.exit_qty != 0).sum(axis=0)
    np.testing.assert_array_equal(after.n_trips[-1], n_exits)


@usual
@given(seed=seeds)
def test_contracts_opened_are_closed_or_still_open(seed: int) -> None:
    before, after, events = play(world_of(seed))
    np.testing.assert_array_equal(after.qty - before.qty, events.entry_qty - events.exit_qty)


@usual
@given(seed=seeds)
def test_equity_is_the_balance_of_a_flat_account(seed: int) -> None:
    world = world_of(seed)
    _, after, events = play(world)
    is_flat = after.qty == 0
    np.testing.assert_array_equal(events.equity[is_flat], after.balance[is_flat])
    close = world.tape.close[after.bar].astype(np.int64)
    marked = after.balance + after.qty * (close - after.entry) * tick_mills(world)
    np.testing.assert_array_equal(events.equity, marked)


@usual
@given(seed=seeds)
def test_an_open_account_stands_above_its_floor_at_every_close(seed: int) -> None:
    """A lock may lie above the equity, and a new day's floor is first tested in the next bar."""
    _, after, events = play(world_of(seed))
    is_settled = (after.outcome != Outcome.OPEN) | (events.is_day_close != 0)
    is_tested = (after.qty != 0) & ~is_settled & (after.is_locked == 0)
    assert (events.equity > after.floor)[is_tested].all()


def mirrored_price(price: Any) -> Any:
    return np.where(np.asarray(price) == NO_PRICE, NO_PRICE, MIRROR - np.asarray(price))


def mirror_world(world: World) -> World:
    """Turns prices upside down and swaps LONG with SHORT, high first with low first."""
    tape = world.tape
    swap = {OrderKind.LONG: OrderKind.SHORT, OrderKind.SHORT: OrderKind.LONG}
    swap_path = {PathRule.HIGH_FIRST: PathRule.LOW_FIRST, PathRule.LOW_FIRST: PathRule.HIGH_FIRST}
    kinds = np.vectorize(lambda kind: swap.get(kind, kind))(world.orders.kind).astype(np.int32)
    path = int(world.rules.path_rule)
    return world._replace(
        tape=tape._replace(
            open=(MIRROR - tape.open).astype(np.int32),
            high=(MIRROR - tape.low).astype(np.int32),
            low=(MIRROR - tape.high).astype(np.int32),
            close=(MIRROR - tape.close).astype(np.int32),
        ),
        orders=world.orders._replace(kind=kinds),
        rules=world.rules._replace(path_rule=np.int32(swap_path.get(path, path))),
    )


def mirror_state(state: State) -> State:
    return state._replace(
        qty=-state.qty,
        entry=np.where(state.entry == 0, 0, MIRROR - state.entry),
        stop=mirrored_price(state.stop),
        target=mirrored_price(state.target),
    )


PRICES = ("entry", "entry_price", "exit_price")
SIGNED = ("qty", "entry_qty", "exit_qty")


def assert_mirrored(ours: Any, theirs: Any) -> None:
    for name, mine, other in zip(ours._fields, ours, theirs, strict=True):
        if name in SIGNED:
            expected = -other
        elif name in PRICES:
            expected = np.where(other == 0, 0, MIRROR - other)
        elif name in ("stop", "target"):
            expected = mirrored_price(other)
        else:
            expected = other
        np.testing.assert_array_equal(mine, expected, err_msg=name)


@usual
@given(seed=seeds, path=st.sampled_from([PathRule.HIGH_FIRST, PathRule.LOW_FIRST]))
def test_a_mirrored_market_makes_the_same_money(seed: int, path: PathRule) -> None:
    """On a tie WORST and BEST keep the high-first path, so they are mirrored step by step below."""
    world = world_of(seed)
    world = world._replace(rules=world.rules._replace(path_rule=np.int32(path)))
    ours, theirs = play(world), play(mirror_world(world))
    assert_mirrored(ours.after, theirs.after)
    assert_mirrored(ours.events, theirs.events)


@usual
@given(seed=seeds, path=st.sampled_from([PathRule.WORST, PathRule.BEST]))
def test_worst_and_best_choose_alike_on_a_mirrored_bar(seed: int, path: PathRule) -> None:
    world = world_of(seed)
    before = play(world).before
    ours, our_events = continue_all(world, before, path)
    theirs, their_events = continue_all(mirror_world(world), mirror_state(before), path)
    chosen_by = (
        (our_events.equity, their_events.equity),
        (ours.outcome == Outcome.BREACHED, theirs.outcome == Outcome.BREACHED),
        (ours.is_locked_out, theirs.is_locked_out),
        (our_events.is_ambiguous, their_events.is_ambiguous),
    )
    is_held = (world.tape.flags[ours.bar] & BarFlag.FLAT) == 0
    for mine, other in chosen_by:
        np.testing.assert_array_equal(mine[is_held], other[is_held])


@usual
@given(seed=seeds)
def test_worst_is_never_better_than_best_nor_than_either_path(seed: int) -> None:
    """Bar by bar from the same account, before flat-by liquidates what a path left open."""
    world = world_of(seed)
    before = play(world).before
    states, events = zip(*(continue_all(world, before, path) for path in PathRule), strict=True)
    is_held = (world.tape.flags[states[0].bar] & BarFlag.FLAT) == 0
    breached = [state.outcome == Outcome.BREACHED for state in states]
    equity = [each.equity for each in events]
    for path in PathRule:
        assert not (breached[path] & ~breached[PathRule.WORST] & is_held).any()
        both = is_held & (breached[PathRule.WORST] == breached[path])
        assert (equity[PathRule.WORST] <= equity[path])[both].all()
        assert not (breached[PathRule.BEST] & ~breached[path] & is_held).any()
        both = is_held & (breached[PathRule.BEST] == breached[path])
        assert (equity[PathRule.BEST] >= equity[path])[both].all()
    is_sure = (events[0].is_ambiguous == 0) & is_held
    for each in equity[1:]:
        np.testing.assert_array_equal(each[is_sure], equity[0][is_sure])


@usual
@given(seed=seeds)
def test_a_rollout_may_be_split_anywhere_and_lanes_regrouped(seed: int) -> None:
    """One step from each stored state, 320 lanes side by side, is what the scan of eight did."""
    world = world_of(seed)
    run = play(world)
    after, events = continue_all(world, run.before)
    for whole, part in zip((*run.after, *run.events), (*after, *events), strict=True):
        np.testing.assert_array_equal(whole.reshape(-1), part)


@usual
@given(seed=seeds, other=seeds, lane=st.integers(0, N_LANES - 1))
def test_what_other_lanes_do_changes_nothing(seed: int, other: int, lane: int) -> None:
    world, stranger = world_of(seed), world_of(other)
    others = np.arange(N_LANES) != lane
    mixed = world._replace(
        orders=Orders(
            *(np.where(others, b, a) for a, b in zip(world.orders, stranger.orders, strict=True))
        )
    )
    moved = jax.tree.map(lambda x: np.roll(x, 3, axis=-1), (mixed.bars, mixed.lane_markets))
    orders = jax.tree.map(lambda x: np.roll(x, 3, axis=-1), mixed.orders)
    alone = play(world)
    among = play(mixed._replace(bars=moved[0], lane_markets=moved[1], orders=orders))
    at = (lane + 3) % N_LANES
    for mine, theirs in zip(
        (*alone.after, *alone.events), (*among.after, *among.events), strict=True
    ):
        np.testing.assert_array_equal(mine[:, lane], theirs[:, at])


def fills_agree(cheap: Events, dear: Events) -> np.ndarray:
    """Tells until when [T, L] two runs had the same fills for the same reasons.

    Exits whose price follows from the balance (floor, daily limit, account target) end it: there
    a poorer account is closed earlier, which may leave it with more.
    """
    same = (cheap.entry_qty == dear.entry_qty) & (cheap.exit_qty == dear.exit_qty)
    same &= cheap.exit_reason == dear.exit_reason
    same &= ~np.isin(cheap.exit_reason, FROM_BALANCE)
    return np.logical_and.accumulate(same, axis=0)


def with_costs(world: World, extra_mills: int, extra_ticks: int) -> World:
    markets: Markets = world.markets
    return world._replace(
        markets=markets._replace(
            commission_mills=markets.commission_mills + np.int32(extra_mills),
            slippage_ticks=markets.slippage_ticks + np.int32(extra_ticks),
        )
    )


@usual
@given(seed=seeds, extra=st.integers(1, 5_000))
def test_more_commission_costs_exactly_what_it_adds_for_the_same_fills(
    seed: int, extra: int
) -> None:
    world = world_of(seed)
    cheap, dear = play(world), play(with_costs(world, extra, 0))
    same = fills_agree(cheap.events, dear.events)
    added = extra * np.cumsum(sides_filled(cheap.events), axis=0)
    np.testing.assert_array_equal((cheap.events.equity - dear.events.equity)[same], added[same])


@usual
@given(seed=seeds, extra=st.integers(1, 4))
def test_more_slippage_never_raises_equity_for_the_same_fills(seed: int, extra: int) -> None:
    world = world_of(seed)
    cheap, dear = play(world), play(with_costs(world, 0, extra))
    same = fills_agree(cheap.events, dear.events)
    assert (dear.events.equity <= cheap.events.equity)[same].all()


def test_the_worlds_above_are_not_empty() -> None:
    """Counts in forty worlds what the properties speak of."""
    counts: Counter[str] = Counter()
    for seed in range(40):
        world = world_of(seed)
        run = play(world)
        counts["trips"] += int((run.events.exit_qty != 0).sum())
        counts["ambiguous"] += int(run.events.is_ambiguous.sum())
        counts["breached"] += int((run.after.outcome[-1] == Outcome.BREACHED).sum())
        counts["locked"] += int(run.after.is_locked[-1].sum())
        counts["late"] += int(run.after.n_late_flat[-1].sum())
        for name, costs in (("dear", (900, 0)), ("slipped", (0, 2))):
            dear = play(with_costs(world, *costs))
            same = fills_agree(run.events, dear.events)
            counts[name] += int((same & (run.events.exit_qty != 0)).sum())
            counts[f"poorer when {name}"] += int(
                (dear.events.equity < run.events.equity)[same].sum()
            )
    least = {"trips": 400, "ambiguous": 20, "breached": 20, "locked": 5, "late": 5, "dear": 100}
    least |= {"slipped": 100, "poorer when dear": 500, "poorer when slipped": 500}
    assert not {name: counts[name] for name, n in least.items() if counts[name] < n}, counts
