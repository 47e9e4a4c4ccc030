"""A replay is the judged episode again, to the last number, or an error that names the first."""

import json
from dataclasses import replace
from decimal import Decimal

import jax
import numpy as np
import pytest

from driving import score_of
from passline.errors import RunError
from passline.evaluate.gates import gate_starts
from passline.evaluate.replay import CHUNK_STEPS, Agent, KeptPath, Replay, first_difference
from passline.evaluate.replay import replay as play_again
from passline.evaluate.replay_bars import NONE, Happening, bar_table, replay_to_dict
from passline.evaluate.replay_choice import (
    Stored,
    choose_evaluation,
    end_bar_of,
    find_episode,
    find_row,
    list_stored,
)
from passline.evaluate.slices import evaluation_starts
from passline.evaluate.table import EvaluationTable
from passline.sim.layout import DoneReason, FillReason, OrderKind, Outcome
from passline.task.actions import ACTION_NAMES
from passline.task.prepare import OBSERVATION_NAMES
from passline.task.reward import REWARD_TERMS
from replaying import AGENT, N_BARS, PHASE, Judged, judge_small

START = 50_000_000


@pytest.fixture(scope="module")
def judged(prepared, phases, params_of, cut, tmp_path_factory) -> Judged:
    params = params_of(prepared, phases[PHASE])
    return judge_small(prepared, params, cut, tmp_path_factory.mktemp("judged"))


def again(prepared, judged, stored: Stored, agent: Agent = AGENT) -> Replay:
    place = int(np.flatnonzero(judged.starts.bar == stored.table.start_bar[0])[0])
    return play_again(prepared, judged.params, agent, stored, int(judged.starts.end_bar[place]))


@pytest.fixture(scope="module")
def replays(prepared, judged) -> list[Replay]:
    """Every episode of the agent with the worse path."""
    stored = list_stored(judged.table, choose_evaluation(judged.table))
    return [again(prepared, judged, item) for item in stored]


def changed(stored: Stored, **columns) -> Stored:
    return replace(stored, table=replace(stored.table, **columns))


# --- identical, or an error ----------------------------------------------------------------------


def test_every_episode_comes_out_again(replays, judged) -> None:
    assert len(replays) == 24
    reasons = {r.stored.done_reason for r in replays}
    assert {DoneReason.FLOOR, DoneReason.WINDOW_END} <= reasons
    assert max(len(r) for r in replays) > CHUNK_STEPS
    for r in replays:
        row = r.stored.table
        assert len(r) == row.ep_length[0] <= N_BARS
        assert r.steps.events.equity[-1] - START == row.result_mills[0]
        assert (r.steps.events.exit_qty != 0).sum() == row.n_trips[0]
        assert r.steps.after.done_reason[-1] == row.done_reason[0]
        assert (r.steps.after.done_reason[:-1] == DoneReason.NONE).all()


def test_the_better_path_is_replayed_as_it_was_judged(prepared, judged, replays) -> None:
    number = choose_evaluation(judged.table, path="best")
    stored = list_stored(judged.table, number)
    best = [again(prepared, judged, item) for item in stored[:4]]
    gains = [
        int(a.stored.table.result_mills[0] != b.stored.table.result_mills[0])
        for a, b in zip(best, replays, strict=False)
    ]
    assert sum(gains) > 0


@pytest.mark.parametrize(
    "name",
    [
        "result_mills", "reward", "ep_length", "n_days", "n_trips", "mean_r", "n_invalid",
        "n_late_flat", "n_ambiguous", "commissions_mills", "max_equity_mills",
        "min_cushion_mills", "action_counts", "choice_counts", "start_ns", "start_day",
    ],
)  # fmt: skip
def test_any_stored_number_that_is_not_met_is_named(replays, prepared, judged, name) -> None:
    stored = replays[0].stored
    found = stored.table
    altered = found.column(name).copy()
    altered.flat[-1] = np.nextafter(altered.flat[-1], 9) if altered.dtype.kind == "f" else 77
    difference = first_difference(replace(found, **{name: altered}), found)
    assert difference is not None
    assert difference.startswith(f"{name} was stored as ")
    assert first_difference(found, found) is None


def test_an_altered_record_is_refused_with_the_first_difference(prepared, judged, replays) -> None:
    stored = replays[1].stored
    trips = stored.table.n_trips + 1
    balance = stored.table.commissions_mills + 10
    with pytest.raises(RunError, match=r"n_trips was stored as (\d+), .*2 of the stored"):
        again(prepared, judged, changed(stored, n_trips=trips, commissions_mills=balance))


def test_another_policy_is_refused(prepared, judged, replays) -> None:
    other = AGENT._replace(network=score_of(vwap_distance=10.0))
    with pytest.raises(RunError, match="the replay found"):
        again(prepared, judged, replays[0].stored, other)


# --- what is told of a bar -----------------------------------------------------------------------


def test_the_account_adds_up_in_every_bar(replays, prepared, judged) -> None:
    tick = prepared.bars[0].contract.tick_mills
    slip = int(prepared.markets.slippage_ticks[0])
    n_stops = 0
    for r in replays:
        t, after, events = bar_table(r), r.steps.after, r.steps.events
        np.testing.assert_array_equal(r.bar, r.stored.table.start_bar[0] + 1 + np.arange(len(r)))
        open_pnl = t.position * (t.close - after.entry) * tick
        np.testing.assert_array_equal(t.equity, t.balance + open_pnl)
        np.testing.assert_array_equal(t.cushion, t.equity - t.floor)
        np.testing.assert_array_equal(t.to_target, START + 400_000 - t.equity)
        assert (np.diff(t.floor) >= 0).all()
        assert (t.peak[t.position == 0] >= t.equity[t.position == 0]).all()
        entered = t.entry_qty != 0
        side = np.sign(t.entry_qty[entered])
        np.testing.assert_array_equal(t.entry_price[entered], t.open[entered] + side * slip)
        assert ((t.stop == NONE) == (t.position == 0)).all()
        assert t.trip_net[t.exit_qty != 0].sum() == t.balance[-1] - START or t.position[-1]
        n_stops += int((events.exit_reason == FillReason.STOP).sum())
    assert n_stops > 20


def test_the_decision_is_the_masked_choice_and_its_order(replays) -> None:
    for r in replays:
        s = r.steps
        rows = np.arange(len(r))
        assert s.mask[rows, s.action].all()
        assert not s.is_invalid.any()
        is_entry = s.order.kind >= OrderKind.LONG
        filled = (s.events.entry_qty != 0) | (s.events.reject != 0)
        np.testing.assert_array_equal(is_entry, filled)
        np.testing.assert_allclose(s.logits[:, -1], -s.logits[:, 0], atol=1e-6)
        np.testing.assert_allclose(np.abs(s.logits[:, -1]), s.value, atol=1e-6)


def test_the_observation_is_that_of_the_close_before(replays, prepared) -> None:
    table = np.asarray(prepared.base.features)
    r = replays[2]
    np.testing.assert_array_equal(r.steps.obs[:, : table.shape[1]], table[r.bar - 1])
    side = OBSERVATION_NAMES.index("side")
    held = np.sign(np.r_[0, bar_table(r).position[:-1]])
    np.testing.assert_array_equal(r.steps.obs[:, side], held)


def test_reward_terms_add_up_to_the_reward(replays) -> None:
    for r in replays:
        parts = [np.float32(w) * t for w, t in zip(r.params.weights, r.steps.terms, strict=True)]
        np.testing.assert_allclose(np.sum(parts, axis=0), r.steps.reward, atol=1e-5)
        assert float(np.cumsum(r.steps.reward)[-1]) == r.stored.table.reward[0]


def test_ambiguous_bars_say_which_path_was_kept(replays) -> None:
    """The worse path of a long position with stop and target in the bar goes low first."""
    seen = {KeptPath.HIGH_FIRST: 0, KeptPath.LOW_FIRST: 0}
    for r in replays:
        is_ambiguous = r.steps.events.is_ambiguous
        np.testing.assert_array_equal(r.kept_path != KeptPath.SAME, is_ambiguous)
        stopped = is_ambiguous & (r.steps.events.exit_reason == FillReason.STOP)
        for t in np.flatnonzero(stopped):
            is_long = r.steps.events.exit_qty[t] > 0
            assert r.kept_path[t] == (KeptPath.LOW_FIRST if is_long else KeptPath.HIGH_FIRST)
            seen[int(r.kept_path[t])] += 1
    assert min(seen.values()) > 0


def test_what_happened_is_marked(replays) -> None:
    for r in replays:
        t = bar_table(r)
        for kind, where in (
            (Happening.ENTRY, t.entry_qty != 0),
            (Happening.EXIT, t.exit_qty != 0),
            (Happening.REFUSED, t.reject != 0),
            (Happening.AMBIGUOUS, r.steps.events.is_ambiguous),
            (Happening.END, np.arange(len(r)) == len(r) - 1),
        ):
            np.testing.assert_array_equal((t.happening & kind) != 0, where)
        assert t.has_event()[-1]


def test_a_rule_that_the_phase_lacks_has_no_distance(prepared, judged, replays) -> None:
    rules = judged.params.rules._replace(
        target_balance=np.int32(2**31 - 1), time_limit_days=np.int32(2**31 - 1)
    )
    bare = replace(replays[0], params=judged.params._replace(rules=rules))
    t = bar_table(bare)
    for column in (t.target_balance, t.to_target, t.days_left, t.limit_level, t.to_daily_limit):
        assert (column == NONE).all()


def test_json_holds_every_bar_by_name_and_exact_money(replays, prepared) -> None:
    r = next(r for r in replays if r.stored.done_reason == DoneReason.FLOOR)
    text = json.dumps(replay_to_dict(r, run="a-run", checkpoint="the-one"), allow_nan=False)
    told = json.loads(text)
    t = bar_table(r)
    assert told["observation"].keys() == set(OBSERVATION_NAMES)
    assert told["action_mask"].keys() == told["logits"].keys() == set(ACTION_NAMES)
    assert told["reward_terms"].keys() == set(REWARD_TERMS)
    columns = [*told["bars"].values(), *told["observation"].values(), *told["logits"].values()]
    assert {len(column) for column in columns} == {len(r)}
    assert [Decimal(x) * 1000 for x in told["bars"]["equity_usd"]] == t.equity.tolist()
    size = prepared.bars[0].contract.tick_size
    assert [Decimal(x) / size for x in told["bars"]["close_price"]] == t.close.tolist()
    assert told["bars"]["done_reason"][-2:] == [None, "floor"]
    assert told["bars"]["events"][-1][-1] == "end"
    assert told["stored"]["ep_length"] == len(r)
    assert (
        np.float32(told["observation"]["side"]).tolist()
        == r.steps.obs[:, OBSERVATION_NAMES.index("side")].tolist()
    )
    assert np.array_equal(np.float32(told["bars"]["reward"]), r.steps.reward)


# --- finding an episode --------------------------------------------------------------------------


def test_an_episode_is_found_by_slice_and_index(judged) -> None:
    number = choose_evaluation(judged.table)
    for item in list_stored(judged.table, number):
        found = find_episode(judged.table, number, item.slice, item.episode)
        assert found.row == item.row
        assert judged.table.start_bar[item.row] == item.table.start_bar[0]
    ours = [item.episode for item in list_stored(judged.table, number, slice_name=item.slice)]
    assert ours == list(range(len(ours)))
    deaths = [item for item in list_stored(judged.table, number) if item.is_death]
    assert 0 < len(deaths) < 24
    assert all(item.outcome == Outcome.BREACHED for item in deaths)


def test_what_is_not_there_is_refused_in_words(judged) -> None:
    table = judged.table
    number = choose_evaluation(table)
    name = str(table.slice[0])
    with pytest.raises(RunError, match=r"no slice 'x' with path 'worst'\. Stored: gate-"):
        choose_evaluation(table, slice_name="x")
    with pytest.raises(RunError, match="no evaluation of the agent with path 'seconds'"):
        choose_evaluation(table, path="seconds")
    with pytest.raises(RunError, match="evaluation 99 is none of the agent's"):
        choose_evaluation(table, number=99)
    with pytest.raises(RunError, match=r"episode 99: slice .* numbered 0 to \d+"):
        find_episode(table, number, name, 99)
    flat = int(np.flatnonzero(table.policy == "flat")[0])
    with pytest.raises(RunError, match="is an episode of 'flat'"):
        find_row(table, flat)
    with pytest.raises(RunError, match=f"rows 0 to {len(table) - 1}"):
        find_row(table, len(table))


def rows_at(judged, starts, seed: int) -> EvaluationTable:
    """A table that only says where its episodes began."""
    n = len(starts.bar)
    some = judged.table.select(np.zeros(n, int))
    return replace(
        some, slice=starts.slice, start_bar=starts.bar, seed=np.full(n, seed),
        evaluation=np.zeros(n, int),
    )  # fmt: skip


def test_where_an_episode_ends_is_known_again(prepared, judged, phases, cut) -> None:
    test = evaluation_starts(prepared, cut.test, n=6, span_days=20, seed=1)
    several = replace(phases["manage"], gate=(*phases["manage"].gate, *phases["entry"].gate))
    parts = [gate_starts(prepared, cut.gate, days, n=8, seed=5) for days in (7, 0)]
    both = jax.tree.map(lambda *x: np.concatenate(x), *[vars(part) for part in parts])
    gates = replace(parts[0], **both)
    for phase, starts, seed in ((phases["account"], test, 1), (several, gates, 5)):
        table = rows_at(judged, starts, seed)
        for row in range(len(table)):
            stored = find_row(table, row)
            end = end_bar_of(stored, table, prepared, cut, phase, n_gate_episodes=8)
            assert end == starts.end_bar[row]
    moved = replace(table, start_bar=table.start_bar + 1)
    with pytest.raises(RunError, match="cuts time otherwise"):
        end_bar_of(find_row(moved, 3), moved, prepared, cut, several, n_gate_episodes=8)
    unknown = replace(table, slice=np.full(len(table), "test-ZZ-1999-01"))
    with pytest.raises(RunError, match="cuts time otherwise"):
        end_bar_of(find_row(unknown, 3), unknown, prepared, cut, several, n_gate_episodes=8)
