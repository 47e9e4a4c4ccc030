"""Where episodes start: pools, lengths, and accounts already on their way."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.errors import ConfigError
from passline.evaluate.slices import Split
from passline.sim.jit import sim_jit
from passline.sim.layout import NEVER, NO_PRICE, BarFlag, Outcome, TrailKind
from passline.sim.rules import pick_tier
from passline.task.env import reset
from passline.task.episodes import (
    N_LEVELS,
    POOLS,
    Component,
    build_mix,
    draw_rank,
    is_short_day,
    start_pools,
)
from passline.task.prepare import Prepared

N = 2_048
UNIT = 2_000_000
KINDS = (
    Component(name="window", weight=0.3, minutes=(240, 1400)),
    Component(name="evaluation", weight=0.2, pool="day_start"),
    Component(name="before_flat", weight=0.1, pool="before_flat", minutes=(60, 120), position=0.8),
    Component(
        name="near_floor", weight=0.2, progress=(0.0, 0.6), giveback=(0.6, 0.96), position=0.5
    ),
    Component(name="daily_limit", weight=0.1, day_loss=(0.4, 0.95), position=0.5),
    Component(name="short_day", weight=0.05, pool="short_day", minutes=(240, 1400)),
    Component(name="roll_week", weight=0.05, pool="roll_week", minutes=(30, 30)),
)
NAMES = [kind.name for kind in KINDS]
RESET_MANY = sim_jit(reset, static_argnums=2)


class Drawn(NamedTuple):
    """Episodes with what stands at their bars."""

    params: Any
    env: Any
    equity: np.ndarray
    flags: np.ndarray
    left: np.ndarray

    def of(self, name: str) -> np.ndarray:
        return self.env.component == NAMES.index(name)


def draw(of: Prepared, phase: Any, params_of: Any) -> Drawn:
    params = params_of(of, replace(phase, mix=KINDS))
    env = jax.tree.map(np.asarray, RESET_MANY(params, jax.random.key(21), N))
    sim = env.sim
    close = np.asarray(params.tape.close)[sim.bar]
    equity = sim.balance + sim.qty * (close - sim.entry) * int(params.markets.tick_mills[0])
    flags = np.asarray(params.tape.flags)[sim.bar]
    return Drawn(params, env, equity, flags, np.asarray(params.minutes_to_flat)[sim.bar])


@pytest.fixture(scope="module")
def trailing(prepared, phases, params_of) -> Drawn:
    return draw(prepared, phases["account"], params_of)


@pytest.fixture(scope="module")
def soft(tiered, phases, params_of) -> Drawn:
    return draw(tiered, phases["account"], params_of)


def test_components_are_drawn_by_their_weights(trailing: Drawn) -> None:
    shares = np.bincount(trailing.env.component, minlength=7) / N
    wanted = np.array([kind.weight for kind in KINDS])
    assert np.abs(shares - wanted).max() < 4 * np.sqrt(0.25 / N)


def test_no_account_begins_breached_passed_or_locked_out(trailing: Drawn, soft: Drawn) -> None:
    for drawn in (trailing, soft):
        sim = drawn.env.sim
        assert (sim.outcome == Outcome.OPEN).all()
        assert (drawn.equity > sim.floor).all()
        assert (sim.balance > sim.floor).all()
        assert not sim.is_locked_out.any()
        in_force = sim.daily_limit != 2**31 - 1
        assert (drawn.equity > sim.day_balance - sim.daily_limit)[in_force].all()
    assert (trailing.equity < 53_000_000).all()


def test_episodes_stay_in_the_training_segment(trailing: Drawn, cut: Split) -> None:
    first, stop = cut.train[0]
    env = trailing.env
    assert (env.sim.bar >= first).all()
    assert (env.end_bar < stop).all()
    assert (env.end_bar > env.sim.bar).all()
    whole = env.end_bar[trailing.of("evaluation")]
    assert (whole == stop - 1).all()


def test_lengths_are_those_asked_for(trailing: Drawn, cut: Split) -> None:
    env = trailing.env
    length = env.end_bar - env.sim.bar
    is_cut = env.end_bar == cut.train[0][1] - 1
    for name, low, high in (("window", 240, 1400), ("before_flat", 60, 120), ("roll_week", 30, 30)):
        own = length[trailing.of(name) & ~is_cut]
        assert own.min() >= low
        assert own.max() <= high
        assert np.ptp(own) >= (high - low) * 0.8


def test_near_floor_is_as_near_as_it_says(trailing: Drawn) -> None:
    """The cushion is 0.04 to 0.4 of the allowance, unless the floor has locked."""
    own = trailing.of("near_floor") & ~trailing.env.sim.is_locked
    cushion = (trailing.equity - trailing.env.sim.floor)[own] / UNIT
    assert cushion.min() == pytest.approx(0.04, abs=0.01)
    assert cushion.max() == pytest.approx(0.40, abs=0.01)
    made = (trailing.env.sim.peak[own] - 50_000_000) / 3_000_000
    assert made.min() < 0.03
    assert made.max() == pytest.approx(0.6, abs=0.03)
    giveback = (trailing.env.sim.peak - trailing.equity)[own] / UNIT
    assert giveback.min() == pytest.approx(0.6, abs=0.01)


def test_the_day_has_lost_what_it_says(soft: Drawn, trailing: Drawn) -> None:
    """Shares of the tier's daily limit of 1,000 USD, of the allowance where there is none."""
    for drawn, limit in ((soft, 1_000_000), (trailing, UNIT)):
        own = drawn.of("daily_limit")
        lost = (drawn.env.sim.day_balance - drawn.equity)[own] / limit
        assert lost.min() == pytest.approx(0.4, abs=0.01)
        assert lost.max() == pytest.approx(0.95, abs=0.01)


def test_before_flat_begins_within_the_last_hour(trailing: Drawn) -> None:
    own = trailing.of("before_flat")
    assert trailing.left[own].min() >= 1
    assert trailing.left[own].max() <= 60
    assert ((trailing.flags[own] & BarFlag.TRADABLE) != 0).all()


def test_evaluations_begin_at_the_last_bar_before_a_session(trailing: Drawn) -> None:
    flags = np.asarray(trailing.params.tape.flags)
    bars = trailing.env.sim.bar[trailing.of("evaluation")]
    assert ((flags[bars + 1] & BarFlag.SESSION_START) != 0).all()
    sim = trailing.env.sim
    fresh = trailing.of("evaluation")
    assert (sim.balance[fresh] == 50_000_000).all()
    assert (sim.qty[fresh] == 0).all()


def test_open_positions_have_a_bracket_that_the_close_has_not_touched(
    trailing: Drawn, soft: Drawn
) -> None:
    for drawn in (trailing, soft):
        sim = drawn.env.sim
        is_open = sim.qty != 0
        side = np.sign(sim.qty)
        close = np.asarray(drawn.params.tape.close)[sim.bar]
        assert (side * (close - sim.stop) > 0)[is_open].all()
        assert (side * (sim.target - close) > 0)[is_open].all()
        assert (side * (sim.entry - sim.stop) == sim.trail_ticks)[is_open].all()
        assert (sim.stop[~is_open] == NO_PRICE).all()
        assert (np.abs(sim.qty) * 10 <= sim.size_units).all()
        risk = np.abs(sim.qty) * sim.trail_ticks * 2_500
        assert (sim.trip_risk[is_open] == risk[is_open]).all()
        commission = np.abs(sim.qty) * int(drawn.params.markets.commission_mills[0])
        assert commission[is_open].min() > 0
        assert (sim.trip_balance == sim.balance + commission)[is_open].all()
        assert (sim.commissions == np.where(is_open, commission, 0)).all()
        assert {-1, 1} <= set(np.unique(side))
        for name, share in (("near_floor", 0.5), ("daily_limit", 0.5), ("before_flat", 0.8)):
            assert is_open[drawn.of(name)].mean() == pytest.approx(share, abs=0.15)
        assert not is_open[drawn.of("window")].any()


def test_an_account_on_its_way_could_have_come_there(
    trailing: Drawn, soft: Drawn, prepared, phases, params_of
) -> None:
    """Whatever was given back, lost today or is open, the past that it takes is a possible one."""
    few = replace(KINDS[4], giveback=(0.0, 0.9), progress=(0.0, 0.9), position=0.9)
    params = params_of(prepared, replace(phases["account"], mix=(few,)))
    worn = jax.tree.map(np.asarray, RESET_MANY(params, jax.random.key(3), N)).sim
    for sim, rules in (
        (trailing.env.sim, trailing.params.rules),
        (soft.env.sim, soft.params.rules),
        (worn, params.rules),
    ):
        start = int(rules.start_balance)
        assert (sim.day_balance <= sim.peak).all()
        if int(rules.trail_kind) == TrailKind.INTRADAY:
            assert (sim.balance <= sim.peak).all()
            own = ~sim.is_locked
            assert (sim.floor == np.minimum(sim.peak - UNIT, int(rules.lock_level)))[own].all()
        has_lost = sim.balance < sim.day_balance
        assert sim.has_traded[has_lost].all()
        limited = sim.daily_limit != NEVER
        assert (sim.balance > sim.day_balance - sim.daily_limit)[limited].all()
        profit = np.maximum(sim.day_balance - start, 0)
        assert (sim.best_day * np.maximum(sim.n_days, 1) >= profit).all()
        assert (sim.best_day <= profit).all()
        tier, units, limit = pick_tier(rules, sim.day_balance - start, np.zeros_like(sim.tier))
        np.testing.assert_array_equal(sim.tier, tier)
        np.testing.assert_array_equal(sim.size_units, units)
        np.testing.assert_array_equal(sim.daily_limit, limit)
    assert (worn.floor < worn.balance).all()
    assert np.ptp(worn.balance - worn.floor) > 0.5 * UNIT


def test_every_start_of_a_large_pool_can_be_drawn() -> None:
    """More starts than one draw has levels: neighbors are reached by a second one."""
    n = 20_000_000
    pick = jax.jit(lambda u, v: draw_rank(u, v, jnp.int32(n)))
    levels = jnp.arange(5_000, dtype=jnp.float32) / N_LEVELS
    seen = {int(x) for v in (0.0, 0.5, 0.999) for x in pick(levels, jnp.full(5_000, v))}
    assert len(seen & set(range(11_000))) > 10_900
    assert int(pick(jnp.float32([1 - 2**-23]), jnp.float32([0.999]))[0]) == n - 1
    small = jax.jit(lambda u: draw_rank(u, jnp.float32(0.999), jnp.int32(7)))
    assert [int(small(jnp.float32(x))) for x in (0.0, 0.5, 0.9999999)] == [0, 3, 6]


def test_no_position_is_given_where_none_could_be_held(prepared, phases, params_of) -> None:
    """A bar that turns out to be the last before flat-by liquidates; nothing is open after it."""
    params = params_of(prepared, replace(phases["account"], mix=KINDS))
    is_entry = (params.tape.flags & BarFlag.CAN_ENTER) != 0
    flags = jnp.where(
        is_entry & (jnp.arange(len(is_entry)) % 3 == 0),
        params.tape.flags | BarFlag.FLAT,
        params.tape.flags,
    )
    env = RESET_MANY(params._replace(tape=params.tape._replace(flags=flags)), jax.random.key(2), N)
    is_flat_bar = (flags[env.sim.bar] & BarFlag.FLAT) != 0
    assert int(is_flat_bar.sum()) > 200
    assert not (np.asarray(env.sim.qty) != 0)[np.asarray(is_flat_bar)].any()


def test_an_account_on_its_way_counts_the_days_it_needs(trailing: Drawn) -> None:
    sim = trailing.env.sim
    moved = sim.peak > 50_000_000
    assert moved.any()
    assert sim.has_traded[moved].all()


# Pools.


def test_pools_lie_inside_the_segments(prepared: Prepared, cut: Split) -> None:
    first, stop = cut.train[0]
    middle = (first + stop) // 2
    segments = [(first, middle - 5_000), (middle, stop)]
    pools = dict(zip(POOLS, start_pools(prepared.compiled, prepared.rolls, segments), strict=True))
    for bars in pools.values():
        inside = sum(((bars >= a) & (bars < b - 2)).astype(int) for a, b in segments)
        assert (inside == 1).all()
    flags, left = prepared.compiled.tape.flags, prepared.compiled.minutes_to_flat
    assert ((flags[pools["any"]] & BarFlag.CAN_ENTER) != 0).all()
    assert ((flags[pools["day_start"] + 1] & BarFlag.SESSION_START) != 0).all()
    assert left[pools["before_flat"]].max() <= 60


def test_short_days_are_the_early_closes(prepared: Prepared, cut: Split) -> None:
    """Martin Luther King Day and Presidents' Day close at 13:00 ET in the training stretch."""
    pools = start_pools(prepared.compiled, prepared.rolls, cut.train)
    bars = pools[POOLS.index("short_day")]
    sessions = np.unique(prepared.compiled.session[bars])
    ends = [prepared.compiled.ts[prepared.compiled.session == s][-1] for s in sessions]
    days = sorted({str(np.datetime64(int(t), "ns").astype("datetime64[D]")) for t in ends})
    assert days == ["2024-01-15", "2024-02-19"]


def test_a_day_whose_bars_begin_late_is_no_short_day(prepared: Prepared) -> None:
    """What counts is the calendar, not which bars a tape has."""
    compiled = prepared.compiled
    session = compiled.session
    first = np.searchsorted(session, session)
    kept = (session % 7 != 3) | (np.arange(len(session)) - first > 150)
    names = ("minutes_to_flat", "session_minutes", "session")
    late = replace(compiled, **{name: getattr(compiled, name)[kept] for name in names})
    np.testing.assert_array_equal(is_short_day(late), is_short_day(compiled)[kept])


def test_roll_weeks_lie_around_a_roll(prepared: Prepared, cut: Split) -> None:
    roll = (cut.train[0][0] + cut.train[0][1]) // 2
    pools = start_pools(prepared.compiled, np.array([roll], np.int32), cut.train)
    session = prepared.compiled.session
    near = np.unique(session[pools[POOLS.index("roll_week")]]) - session[roll]
    assert near.min() >= -3
    assert near.max() <= 2
    assert 0 in near
    assert len(near) == 5


def test_a_stretch_without_an_entry_is_refused(prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match="no bar in which an entry is allowed"):
        start_pools(prepared.compiled, prepared.rolls, [(10, 12)])


def test_a_length_without_an_end_is_refused_beside_one_with() -> None:
    with pytest.raises(ConfigError, match=r"minutes was \[0, 100\]; allowed: above 0, or 0 twice"):
        Component(name="open", weight=1.0, minutes=(0, 100))


def test_a_mix_without_weight_is_refused(prepared: Prepared, cut: Split) -> None:
    pools = start_pools(prepared.compiled, prepared.rolls, cut.train)
    with pytest.raises(ConfigError, match="at least one component with a weight above 0"):
        build_mix([Component(name="x", weight=0.0)], pools, cut.train, 10**6, 1.0)
