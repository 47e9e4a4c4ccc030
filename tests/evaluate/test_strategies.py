"""The strategies as people trade them, and the control that shows the agent another day."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from driving import follow, score_of
from passline.evaluate.judge import (
    BASELINES,
    MATCH_TOLERANCE,
    SHUFFLED,
    Label,
    begin_at,
    entries_per_day,
    entry_habits,
    judge,
    match_random_entry,
)
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.shuffle import shuffle_features, shuffled_rows
from passline.evaluate.slices import day_starts
from passline.evaluate.strategies import (
    STRATEGIES,
    LeaveSide,
    Table,
    moving_averages,
    opening_range,
    strategy_signals,
    vwap_reversion,
)
from passline.market.clock import session_ns
from passline.task.prepare import OBSERVATION_NAMES, TaskConfig, prepare

REVERT = score_of(vwap_distance=-10.0)


def table_of(starts: list[int], n: int, **columns: Any) -> Table:
    """A table of n bars in sessions that begin at `starts`, in mid-session of the day."""
    is_start = np.isin(np.arange(n), starts)
    told = {
        "is_rth": np.ones(n),
        "since_rth_open": np.full(n, 0.5),
        **{name: np.asarray(values, float) for name, values in columns.items()},
    }
    is_market = np.arange(n) == 0
    return Table({k: v.astype(np.float32) for k, v in told.items()}, is_start, is_market)


def test_an_opening_range_is_broken_once_a_day_on_each_side() -> None:
    high = [-1, 0, 1, -1, 2, -1, -1, 3, 3]
    low = [1, 1, 1, -1, 1, -1, 1, 1, 1]
    found = opening_range(table_of([0, 6], 9, from_opening_high=high, from_opening_low=low))
    assert found.entries.tolist() == [0, 0, 1, -1, 0, 0, 0, 1, 0]
    assert not found.exits.any()


def test_an_opening_range_is_broken_between_ten_and_half_past_three_only() -> None:
    minutes = np.array([-5, 25, 30, 360, 361]) / 390
    is_rth = [0, 1, 1, 1, 1]
    for at in range(5):
        above = np.where(np.arange(5) == at, 1.0, -1.0)
        table = table_of(
            [0], 5, from_opening_high=above, from_opening_low=np.ones(5), is_rth=is_rth
        )
        table = table._replace(
            columns={**table.columns, "since_rth_open": minutes.astype(np.float32)}
        )
        assert bool(opening_range(table).entries.any()) == (at in (2, 3))


def test_reversion_enters_where_the_price_comes_to_be_stretched_and_leaves_at_the_vwap() -> None:
    found = vwap_reversion(table_of([0], 7, vwap_z=[1.9, 2.1, 2.5, 0.5, -0.1, -2.0, 0.0]))
    assert found.entries.tolist() == [0, -1, 0, 0, 0, 1, 0]
    assert found.exits.tolist() == [1, 1, 1, 1, 2, 2, 3]


def test_a_cross_of_means_lasts_two_bars_and_closes_the_other_side() -> None:
    found = moving_averages(table_of([0], 7, trend_240=[0, 1, 1, 1, -1, 1, 1]))
    assert found.entries.tolist() == [0, 1, 1, 0, -1, 1, 1]
    assert found.exits.tolist() == [0, *[LeaveSide.SHORT] * 3, LeaveSide.LONG, 2, 2]


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_signal_depends_on_a_later_bar(prepared, name) -> None:
    whole = strategy_signals(prepared, name)
    assert 20 < np.abs(whole.entries).sum() < 0.05 * len(whole.entries)
    bars = prepared.bars[0]
    columns = ("ts", "open", "high", "low", "close", "volume", "expiry")
    for k in (60_000, 71_234):
        short = replace(bars, **{c: getattr(bars, c)[:k] for c in columns})
        part = strategy_signals(prepare([short], prepared.rulebook, TaskConfig()), name)
        np.testing.assert_array_equal(part.entries, whole.entries[:k])
        np.testing.assert_array_equal(part.exits, whole.exits[:k])


def test_markets_are_read_one_by_one(prepared) -> None:
    twice = prepare([prepared.bars[0]] * 2, prepared.rulebook, TaskConfig())
    for name in STRATEGIES:
        once, both = (strategy_signals(p, name) for p in (prepared, twice))
        np.testing.assert_array_equal(both.entries, np.r_[once.entries, once.entries])


def test_every_session_is_shown_another_one_at_the_same_time_of_day(prepared, cut) -> None:
    first, stop = cut.gate[0].first_bar, cut.gate[-1].stop_bar
    rows = shuffled_rows(prepared, first, stop, np.random.default_rng(1))
    own, shown = (prepared.compiled.session[r] for r in (np.arange(first, stop), rows))
    assert (own != shown).all()
    assert set(shown) == set(own)
    assert len(set(zip(own.tolist(), shown.tolist(), strict=True))) == len(set(own.tolist()))
    late = session_ns(prepared.compiled.ts[first:stop]) - session_ns(prepared.compiled.ts[rows])
    assert np.median(late) == 0
    assert np.mean((late >= 0) & (late <= 5 * 60 * 10**9)) > 0.98


def test_shuffling_touches_only_the_market_features_of_the_stretch(
    prepared, phases, params_of, cut
) -> None:
    params, starts = params_of(prepared, phases["account"]), day_starts(prepared, cut.gate)
    found = shuffle_features(prepared, params, starts, seed=4)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), found, params)
    assert not same.features
    assert all(jax.tree.leaves(same._replace(features=True)))
    changed = np.flatnonzero((np.asarray(found.features) != params.features).any(axis=1))
    assert changed[0] >= starts.bar.min()
    assert changed[-1] <= starts.end_bar.max()
    assert OBSERVATION_NAMES[: found.features.shape[1]][-1] == "weekday_cos"


@pytest.fixture(scope="module")
def judged(prepared, phases, params_of, cut) -> Any:
    """The agent that follows the planted edge, and all baselines, on the gate's sessions."""
    starts = day_starts(prepared, cut.gate)
    label = Label(timesteps=0, phase="account", seed=3)
    return judge(
        prepared,
        params_of(prepared, phases["account"]),
        follow,
        REVERT,
        starts,
        label,
        baselines=tuple(BASELINES),
    )


def test_all_baselines_play_the_agents_starts_and_nothing_illegal(judged) -> None:
    table, episodes, _ = judged
    agent = table.where(policy="agent")
    for name in BASELINES:
        rows = table.where(policy=name)
        np.testing.assert_array_equal(rows.start_bar, agent.start_bar)
        assert rows.n_invalid.sum() == 0
        assert (rows.n_trips.sum() > 10) == (name != "flat")
        assert np.isin(rows.done_reason, [0]).sum() == 0
        assert len(episodes[name].length) == len(agent)


def test_an_agent_that_lives_on_a_feature_loses_it_with_the_features(judged) -> None:
    _, episodes, _ = judged
    agent, shuffled = (episodes[name].equity.mean() for name in ("agent", SHUFFLED))
    assert agent > 50_500_000
    assert shuffled < 50_000_000


def test_strategies_take_the_agents_sizes(judged) -> None:
    _, episodes, _ = judged
    wanted = entry_habits(episodes["agent"]).size_shares
    for name in STRATEGIES:
        np.testing.assert_allclose(entry_habits(episodes[name]).size_shares, wanted, atol=0.15)


def test_random_entry_enters_as_often_a_day_as_the_agent(
    prepared, phases, params_of, cut, judged
) -> None:
    _, episodes, _ = judged
    agent = entries_per_day(episodes["agent"])
    assert entries_per_day(episodes["random entry"]) == pytest.approx(agent, rel=0.12)
    params, starts = params_of(prepared, phases["account"]), day_starts(prepared, cut.gate)
    begun = begin_at(params, starts)
    policy = match_random_entry(params, follow, REVERT, begun, episodes["agent"], seed=9)
    found = entries_per_day(play_episodes(params, follow, policy, begun, seed=9))
    assert found == pytest.approx(agent, rel=MATCH_TOLERANCE)
    rate = entry_habits(episodes["agent"]).rate
    plain = scripted(PolicyKind.RANDOM_ENTRY, REVERT, entry_rate=rate)
    slower = [
        entries_per_day(play_episodes(params, follow, plain, begun, seed=seed)) for seed in range(8)
    ]
    assert np.mean(slower) < (1 - MATCH_TOLERANCE) * agent
