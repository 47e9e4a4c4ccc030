"""Evaluation plays what it was asked, once each, through the very step that trains."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import N_LANES, differing, drive, follow, score_of
from passline.evaluate.judge import Label, begin_at, entry_habits, judge
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import FIRST_ENTRY, Episodes, play_and_log, play_episodes
from passline.evaluate.slices import day_starts
from passline.sim import reference
from passline.sim.jit import sim_jit
from passline.sim.layout import DoneReason, Markets, Orders, Outcome, Rules, State, Tape
from passline.sim.step import is_active
from passline.task.actions import N_ACTIONS, order_of
from passline.task.env import act_on, close_windows, observe

FROM_BAR, N_BARS = 870, 400
REVERT = score_of(vwap_distance=-10.0)


class Scene(NamedTuple):
    """Episodes to play and what they are played under."""

    params: Any
    starts: Any
    begun: Any


@pytest.fixture(scope="module")
def scene(prepared, phases, params_of, cut) -> Scene:
    """The busy hours of gate sessions, under an account so small that some lives end early."""
    params = params_of(prepared, phases["account"])
    unit = jnp.int32(600_000)
    rules = params.rules._replace(
        allowance=unit, target_balance=params.rules.start_balance + 400_000
    )
    params = params._replace(rules=rules)
    starts = day_starts(prepared, cut.gate)
    starts = replace(starts, bar=starts.bar + FROM_BAR, end_bar=starts.bar + FROM_BAR + N_BARS)
    return Scene(params, starts, begin_at(params, starts))


def play(
    scene: Scene, kind: PolicyKind, *, seed: int = 0, n_lanes: int = 64, **more: Any
) -> Episodes:
    policy = scripted(kind, REVERT, **more)
    return play_episodes(scene.params, follow, policy, scene.begun, seed=seed, n_lanes=n_lanes)


@pytest.fixture(scope="module")
def agent(scene) -> Episodes:
    return play(scene, PolicyKind.AGENT)


def test_exactly_the_asked_episodes_are_played_once_each_to_their_ends(scene, agent) -> None:
    n = len(scene.starts.bar)
    assert len(agent.start_bar) == n == 24
    np.testing.assert_array_equal(agent.start_bar, scene.starts.bar)
    np.testing.assert_array_equal(agent.sim.bar, scene.starts.bar + agent.length)
    assert (agent.sim.done_reason != DoneReason.NONE).all()
    is_window = agent.sim.done_reason == DoneReason.WINDOW_END
    np.testing.assert_array_equal(agent.sim.bar[is_window], scene.starts.end_bar[is_window])
    assert (agent.sim.bar <= scene.starts.end_bar).all()
    reasons = set(agent.sim.done_reason.tolist())
    assert {DoneReason.WINDOW_END, DoneReason.FLOOR} <= reasons
    assert agent.n_trips.min() > 0


@pytest.mark.parametrize("kind", [PolicyKind.AGENT, PolicyKind.ALWAYS_LONG, PolicyKind.FLAT])
def test_the_number_of_lanes_changes_nothing(scene, kind) -> None:
    assert differing(play(scene, kind), play(scene, kind, n_lanes=4)) == []


def test_lanes_that_take_the_next_episode_off_the_list_leak_nothing(scene, agent) -> None:
    """In reverse order, every episode meets another lane and other predecessors."""
    back = Scene(scene.params, scene.starts, jax.tree.map(lambda x: x[::-1], scene.begun))
    found = play(back, PolicyKind.AGENT, n_lanes=4)
    assert differing(agent, jax.tree.map(lambda x: np.ascontiguousarray(x[::-1]), found)) == []


def test_random_policies_repeat_with_the_seed_and_differ_without(scene) -> None:
    for kind in (PolicyKind.RANDOM_LEGAL, PolicyKind.RANDOM_ENTRY):
        one, two, three = (play(scene, kind, seed=s, entry_rate=0.02) for s in (1, 1, 2))
        assert differing(one, two) == []
        assert "balance" in differing(one, three)


def test_counts_add_up(agent) -> None:
    np.testing.assert_array_equal(agent.action_counts.sum(axis=1), agent.length)
    assert (agent.choice_counts <= agent.action_counts).all()
    assert (agent.n_legal >= agent.length).all()
    assert not agent.n_invalid.any()
    np.testing.assert_array_equal(agent.n_trips, agent.sim.n_trips)
    entries = agent.action_counts[:, FIRST_ENTRY:].sum(axis=1)
    assert (entries >= agent.n_trips).all()
    assert (agent.min_cushion <= agent.equity - agent.sim.floor).all()
    assert (agent.max_equity >= agent.equity).all()


def test_days_are_counted_from_the_first_bar_on(prepared, scene) -> None:
    """Begun in the middle of a day, that day is the first; its close is kept."""
    bars = jnp.asarray(scene.starts.bar + 300, jnp.int32)
    end = jnp.asarray(
        np.minimum(scene.starts.bar + 3_000, len(prepared.compiled.ts) - 2), jnp.int32
    )
    sim = jax.jit(lambda s: s)(scene.begun.sim._replace(bar=bars))
    day = prepared.compiled.tape.day
    sim = sim._replace(day=jnp.asarray(day[bars]), first_day=jnp.asarray(day[bars]))
    begun = scene.begun._replace(sim=sim, end_bar=end, start_bar=bars)
    found = play(Scene(scene.params, scene.starts, begun), PolicyKind.FLAT)
    wanted = [len(np.unique(day[a : b + 1])) for a, b in zip(bars, found.sim.bar, strict=True)]
    assert found.n_days.tolist() == wanted
    for row, n in zip(found.day_equity, found.n_days, strict=True):
        assert (row[:n] == 50_000_000).all()
        assert (row[n:] == 0).all()


def test_every_round_trip_is_logged_once_with_its_episode(scene, agent) -> None:
    policy = scripted(PolicyKind.AGENT, REVERT)
    logs = [
        play_and_log(scene.params, follow, policy, scene.begun, seed=0, n_lanes=lanes)[1]
        for lanes in (64, 4)
    ]
    for log in logs:
        n = len(scene.starts.bar)
        assert len(log.episode) == agent.n_trips.sum()
        np.testing.assert_array_equal(np.bincount(log.episode, minlength=n), agent.n_trips)
        net = np.zeros(n, np.int64)
        np.add.at(net, log.episode, log.net_mills)
        is_flat = agent.sim.qty == 0
        earned = agent.equity.astype(np.int64) - 50_000_000
        np.testing.assert_array_equal(net[is_flat], earned[is_flat])
        assert (log.entry_bar <= log.exit_bar).all()
        assert (log.low_mills <= 0).all()
        assert (log.high_mills >= 0).all()
    order = [np.lexsort((log.exit_bar, log.episode)) for log in logs]
    for one, other in zip(logs[0][1:], logs[1][1:], strict=True):
        np.testing.assert_array_equal(one[order[0]], other[order[1]])


# The same episodes, one bar after the other.


def one_bar(params: Any, state: Any, network: Any) -> Any:
    obs, mask = observe(params, state)
    action = follow(network, obs, mask)
    after, events, is_invalid = act_on(params, state.sim, action, mask)
    orders = order_of(params.bracket, params.markets, state.sim, action, params.atr[state.sim.bar])
    return state._replace(sim=close_windows(state, after)), events, orders, is_invalid


ONE_BAR = sim_jit(one_bar)


class Told(NamedTuple):
    """A plain loop's account of the first lanes: states and orders by step, and its end."""

    state: State
    orders: list[Orders]
    length: np.ndarray
    trip_r: np.ndarray
    equity: np.ndarray


@pytest.fixture(scope="module")
def told(scene) -> Told:
    state = jax.tree.map(lambda x: x[:N_LANES], scene.begun)
    orders, length, trip_r = [], np.zeros(N_LANES, int), np.zeros(N_LANES)
    equity = np.zeros(N_LANES, np.int64)
    while bool(is_active(state.sim).any()):
        moves = np.asarray(is_active(state.sim))
        state, events, order, _ = ONE_BAR(scene.params, state, REVERT)
        orders.append(jax.tree.map(np.asarray, order))
        length += moves
        risk = np.asarray(events.trip_risk)
        ended = moves & (np.asarray(events.exit_qty) != 0)
        trip_r[ended] += np.asarray(events.trip_net)[ended] / risk[ended]
        equity = np.asarray(events.equity)
    return Told(jax.tree.map(np.asarray, state.sim), orders, length, trip_r, equity)


def test_a_plain_loop_over_the_environment_finds_the_same(agent, told) -> None:
    for name, mine, other in zip(State._fields, told.state, agent.sim, strict=True):
        np.testing.assert_array_equal(mine, other[:N_LANES], err_msg=name)
    np.testing.assert_array_equal(told.length, agent.length[:N_LANES])
    np.testing.assert_array_equal(told.equity, agent.equity[:N_LANES])
    np.testing.assert_allclose(told.trip_r, agent.sum_r[:N_LANES], rtol=1e-4, atol=1e-4)


def plain(record: Any) -> Any:
    return type(record)(*(np.asarray(x).tolist() for x in record))


def test_the_twin_finds_the_same(scene, agent, told) -> None:
    """Three episodes walked in plain Python by the written rules, with the agent's orders."""
    tape, markets, rules = (plain(getattr(scene.params, n)) for n in ("tape", "markets", "rules"))
    constants = Tape(*tape), Markets(*markets), Rules(*rules)
    lanes = np.argsort(agent.length[:N_LANES])[[0, 1, -1]]
    for lane in lanes:
        state = reference.start(*constants, bar=int(scene.starts.bar[lane]))
        highest = lowest = None
        for order in told.orders:
            state, events = reference.step(
                *constants, state, Orders(*(int(column[lane]) for column in order))
            )
            cushion = events.equity - state.floor
            highest = events.equity if highest is None else max(highest, events.equity)
            lowest = cushion if lowest is None else min(lowest, cushion)
            if state.outcome != Outcome.OPEN or state.bar >= scene.starts.end_bar[lane]:
                break
        if state.outcome == Outcome.OPEN:
            state = state._replace(done_reason=DoneReason.WINDOW_END)
        ours = State(*(x[lane] for x in agent.sim))
        assert {
            name: (int(mine), int(other))
            for name, mine, other in zip(State._fields, ours, state, strict=True)
            if int(mine) != int(other)
        } == {}
        assert int(agent.equity[lane]) == events.equity
        assert int(agent.max_equity[lane]) == max(highest, 50_000_000)
        assert int(agent.min_cushion[lane]) == min(lowest, 600_000)


def test_a_training_step_is_an_evaluation_step(scene, agent, env_step, env_observe) -> None:
    """env.step over the same starts under the same rule: reward, trips, R and ends are equal."""
    state = jax.tree.map(lambda x: x[:N_LANES], scene.begun)
    rule = jax.jit(follow)
    steps = drive(
        env_step, env_observe, scene.params, state, lambda o, m, t: rule(REVERT, o, m),
        int(agent.length[:N_LANES].max()),
    )  # fmt: skip
    reward = np.stack([s.reward for s in steps])
    trips = np.stack([s.info.n_trips for s in steps])
    trip_r = np.stack([s.info.trip_r for s in steps])
    chosen = np.stack([s.action for s in steps])
    for lane in range(N_LANES):
        n = int(agent.length[lane])
        own = slice(0, n), lane
        done = [s.is_terminated[lane] or s.is_truncated[lane] for s in steps[:n]]
        assert done == [False] * (n - 1) + [True]
        reason = int(steps[n - 1].info.done_reasons[lane].argmax())
        assert reason == agent.sim.done_reason[lane]
        assert reward[own].sum() == pytest.approx(agent.reward[lane], abs=1e-4)
        assert trips[own].sum() == agent.n_trips[lane]
        assert trip_r[own].sum() == pytest.approx(agent.sum_r[lane], abs=1e-4)
        counts = np.bincount(chosen[own], minlength=N_ACTIONS)
        np.testing.assert_array_equal(counts, agent.action_counts[lane])


# Baselines and rows.


def test_random_entry_enters_as_often_and_as_large_as_the_agent(scene, agent) -> None:
    rate, shares = entry_habits(agent)
    found = play(scene, PolicyKind.RANDOM_ENTRY, entry_rate=rate, size_shares=shares)
    n = int(found.n_entry_chances.sum())
    again, other_shares = entry_habits(found)
    assert 0 < rate < 1
    assert abs(again - rate) < 4 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(other_shares, shares, atol=0.1)
    sides = found.action_counts.sum(axis=0)
    assert sides[1:FIRST_ENTRY].sum() == 0
    n_long, n_short = sides[FIRST_ENTRY : FIRST_ENTRY + 3].sum(), sides[FIRST_ENTRY + 3 :].sum()
    assert abs(int(n_long) - int(n_short)) < 4 * np.sqrt(n_long + n_short)


def test_an_agent_that_never_enters_has_no_habits(scene) -> None:
    rate, shares = entry_habits(play(scene, PolicyKind.FLAT))
    assert rate == 0
    assert shares.tolist() == [1.0, 1.0, 1.0]


def test_judging_lays_down_one_row_an_episode_and_policy(prepared, scene, agent) -> None:
    label = Label(timesteps=7, phase="account", seed=3)
    table, episodes, trips = judge(
        prepared, scene.params, follow, REVERT, scene.starts, label, baselines=("flat",)
    )
    assert differing(episodes["agent"], agent) == []
    assert len(table) == 48
    own = table.policy == "agent"
    np.testing.assert_array_equal(table.start_bar[own], scene.starts.bar)
    net = agent.equity.astype(np.int64) - 50_000_000
    np.testing.assert_array_equal(table.result_mills[own], net)
    assert (table.result_mills[~own] == 0).all()
    assert set(table.path) == {"worst"}
    assert len(trips.episode) == agent.n_trips.sum()


def test_another_path_rule_is_played_as_named(prepared, scene) -> None:
    """With a stop and a target inside most bars, the order of high and low decides."""
    narrow = scene.params.bracket._replace(stop_atr=jnp.float32(0.3), target_r=jnp.float32(1.0))
    params = scene.params._replace(bracket=narrow)
    found = {}
    for path in ("worst", "best"):
        label = Label(timesteps=0, phase="account", seed=3, path=path)
        table, episodes, _ = judge(prepared, params, follow, REVERT, scene.starts, label)
        assert set(table.path) == {path}
        found[path] = episodes["agent"]
    assert found["worst"].sim.n_ambiguous.sum() > 20
    worst, best = (found[path].sum_r.sum() / found[path].n_trips.sum() for path in found)
    assert worst < best - 0.1
