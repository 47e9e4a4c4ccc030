"""The ways in which systems of this kind have been wrong, one test each, by number.

Each class was found in the issues, fixes or sources of a published trading environment, trainer or
backtester. What needs more than a few lines is tested at length where its code is; the test here is
the shortest one that fails when the bug is put in.
"""

import random
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from driving import LONG, N_LANES, differing, drive, follow, often_in, same_bits, score_of
from made_bars import INDEX, bars_of, clock_of
from passline.errors import BarsError, CheckpointError
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import day_starts
from passline.learn import network
from passline.learn.checkpoint import read_checkpoint_info
from passline.learn.curriculum import OPENED_BELOW, load_network, load_policy
from passline.learn.ppo import make_hyper
from passline.learn.rollout import Lanes, Rollout, Steps, Sums, estimate
from passline.market.contracts import find_contract
from passline.market.load import import_bars
from passline.rulebook.catalog import load_rulebook
from passline.sim.compile import compile_markets, compile_tape
from passline.sim.layout import (
    BarFlag,
    DoneReason,
    FillReason,
    LimitKind,
    OrderKind,
    Outcome,
    PathRule,
    Reject,
    TargetTest,
    TrailKind,
)
from passline.sim.step import start
from passline.task.actions import Bracket, stand_ins
from passline.task.env import begin
from passline.task.features import compute_features
from passline.task.phases import allowed_actions
from passline.task.reward import RewardWeights, reward_terms
from single_bars import ALLOWANCE, HOLD, SIDE, SLIP, START, TICK, USUAL, Step, order, rules_of, walk
from small_training import PPO, Recorder, train

LONG_1 = order(OrderKind.LONG, stop=20, target=30)
BOTH_COSTS = 2 * SIDE


def money(ticks: int, qty: int = 1) -> int:
    """Net result of a round trip that moved so many ticks between its fills, mills."""
    return qty * (ticks * TICK - BOTH_COSTS)


def quiet(price: int) -> tuple[int, int, int, int]:
    return (price, price, price, price)


# 1-10: fills and money.

RISING, FALLING = (1_000, 1_025, 999, 1_020), (1_000, 1_001, 985, 990)
EXITS = {
    FillReason.CLOSE: ([quiet(1_000), RISING, quiet(1_020)], [LONG_1, order(OrderKind.CLOSE)], {}),
    FillReason.STOP: ([quiet(1_000), FALLING, (990, 990, 970, 975)], [LONG_1], {}),
    FillReason.TARGET: ([quiet(1_000), RISING, (1_020, 1_040, 1_020, 1_035)], [LONG_1], {}),
    FillReason.LATE_FLAT: ([quiet(1_000), RISING, quiet(1_020)], [LONG_1], {2: "flat"}),
    FillReason.FLOOR: (
        [quiet(1_000), (1_000, 1_000, 700, 710), quiet(710)],
        [order(OrderKind.LONG, stop=400)],
        {},
    ),
    FillReason.DAILY_LIMIT: (
        [quiet(1_000), (1_000, 1_000, 930, 940), quiet(940)],
        [order(OrderKind.LONG, stop=400)],
        {"limit_kind": LimitKind.SOFT, "daily_limit": 500_000},
    ),
    FillReason.ACCOUNT_TARGET: (
        [quiet(1_000), (1_000, 1_080, 1_000, 1_070), quiet(1_070)],
        [order(OrderKind.LONG, stop=400)],
        {"target_test": TargetTest.TOUCH, "target_balance": START + 500_000},
    ),
}


def reward_of(before: Step | None, step: Step, weights: RewardWeights) -> float:
    """The weighted reward of one walked bar."""
    rules = rules_of()
    lanes = jax.tree.map(lambda x: jnp.asarray([x], jnp.int32), step)
    equity = START if before is None else before.events.equity
    state = (
        lanes.state if before is None else jax.tree.map(lambda x: jnp.asarray([x]), before.state)
    )
    state = state._replace(outcome=jnp.zeros(1, jnp.int32))
    bracket = Bracket(
        stop_atr=1.0, target_r=1.0, risk_permille=np.array([25, 50, 100], np.int32),
        unit_mills=jnp.int32(ALLOWANCE),
    )  # fmt: skip
    terms = reward_terms(
        rules, state, lanes.state, lanes.events,
        equity_before=jnp.asarray([equity]), bracket=bracket,
    )  # fmt: skip
    return float(sum(w * t[0] for w, t in zip(weights, terms, strict=True)))


@pytest.mark.parametrize("reason", list(EXITS))
def test_01_every_kind_of_exit_is_paid_and_a_winning_trip_above_zero(reason: FillReason) -> None:
    bars, orders, more = EXITS[reason]
    is_late = more == {2: "flat"}
    flags = {2: BarFlag.TRADABLE | BarFlag.FLAT} if is_late else None
    steps = walk(bars, orders, rules_of(**({} if is_late else more)), flags=flags)
    at = next(i for i, s in enumerate(steps) if s.events.exit_qty)
    assert steps[at].events.exit_reason == reason
    paid = reward_of(steps[at - 1] if at else None, steps[at], RewardWeights(1.0, *[0.0] * 4))
    net = steps[at].state.balance - START
    assert paid == pytest.approx(net / steps[at].events.trip_risk)
    is_win = reason not in (FillReason.STOP, FillReason.FLOOR, FillReason.DAILY_LIMIT)
    assert (paid > 0) == is_win


def test_02_a_stop_holds_from_the_entry_bar_on_and_never_before_the_fill() -> None:
    """What the bar of the decision did was before the fill; what the entry bar does is after."""
    before = (1_000, 1_000, 960, 1_000)
    safe = walk([before, (1_000, 1_005, 990, 1_000), quiet(1_000)], [LONG_1])
    assert safe[0].events.exit_qty == 0
    stopped = walk([before, (1_000, 1_005, 980, 1_000), quiet(1_000)], [LONG_1])
    assert stopped[0].events.entry_price == 1_000 + SLIP
    assert stopped[0].events.exit_reason == FillReason.STOP
    assert stopped[0].events.exit_price == 1_001 - 20 - SLIP


def test_03_a_trailing_stop_moves_at_the_close_and_is_tested_from_the_next_bar() -> None:
    wide = order(OrderKind.LONG, stop=20)
    bars = [quiet(1_000), quiet(1_000), (1_000, 1_040, 1_005, 1_030), (1_030, 1_030, 1_010, 1_012)]
    rules = rules_of(path_rule=PathRule.HIGH_FIRST)
    steps = walk(bars, [wide, order(OrderKind.TRAIL_ON)], rules)
    assert steps[1].events.exit_qty == 0, "35 ticks off its high, but the stop was still at 981"
    assert steps[1].state.stop == 1_030 - 20
    assert steps[2].events.exit_price == 1_010 - SLIP


def test_04_a_gap_through_the_stop_fills_at_the_open_and_through_the_target_at_the_limit() -> None:
    entry = 1_001
    down = walk([quiet(1_000), quiet(1_000), (950, 955, 945, 950)], [LONG_1])[1].events
    assert (down.exit_reason, down.exit_price) == (FillReason.STOP, 950 - SLIP)
    up = walk([quiet(1_000), quiet(1_000), (1_090, 1_095, 1_085, 1_090)], [LONG_1])[1].events
    assert (up.exit_reason, up.exit_price) == (FillReason.TARGET, entry + 30)


def test_05_long_and_short_are_mirror_images() -> None:
    bars = [quiet(1_000), RISING, (1_020, 1_030, 985, 990), (985, 990, 960, 970)]
    mirrored = [(2_000 - o, 2_000 - lo, 2_000 - hi, 2_000 - c) for o, hi, lo, c in bars]
    short = LONG_1._replace(kind=int(OrderKind.SHORT))
    for down, up in ((PathRule.HIGH_FIRST, PathRule.LOW_FIRST), (PathRule.WORST, PathRule.WORST)):
        ours = walk(bars, [LONG_1], rules_of(path_rule=down))
        theirs = walk(mirrored, [short], rules_of(path_rule=up))
        assert [s.events.equity for s in ours] == [s.events.equity for s in theirs]
        assert [s.state.balance for s in ours] == [s.state.balance for s in theirs]
        assert ours[-1].state.balance != START


@pytest.mark.parametrize("path", list(PathRule))
def test_06_on_a_bar_that_touches_both_price_label_and_money_agree(path: PathRule) -> None:
    both = [quiet(1_000), quiet(1_000), (1_000, 1_040, 970, 1_000)]
    step = walk(both, [LONG_1], rules_of(path_rule=path))[1]
    is_target = path in (PathRule.BEST, PathRule.HIGH_FIRST)
    assert step.events.exit_reason == (FillReason.TARGET if is_target else FillReason.STOP)
    assert step.events.exit_price == (1_031 if is_target else 981 - SLIP)
    moved = step.events.exit_price - 1_001
    assert step.events.trip_net == step.state.balance - START == money(moved)
    assert step.events.is_ambiguous == 1


def test_07_commission_is_paid_once_a_side_and_contract() -> None:
    three = order(OrderKind.LONG, qty=3, stop=20, target=30)
    steps = walk([quiet(1_000), quiet(1_000), quiet(1_000)], [three, order(OrderKind.CLOSE)])
    assert [s.state.commissions for s in steps] == [3 * SIDE, 6 * SIDE]
    assert steps[0].state.balance == START - 3 * SIDE
    assert steps[1].state.balance - START == money(-2 * SLIP, qty=3)


def test_08_the_floor_follows_a_peak_and_is_met_by_the_trough_of_the_same_bar() -> None:
    """Up 150 ticks and back 210 in one bar that closes 90 up: breached if the high was first."""
    bare = order(OrderKind.LONG)
    bars = [quiet(1_000), quiet(1_000), (1_000, 1_151, 941, 1_091)]
    for path, is_breached in ((PathRule.HIGH_FIRST, True), (PathRule.LOW_FIRST, False)):
        rules = rules_of(trail_kind=TrailKind.INTRADAY, path_rule=path)
        end = walk(bars, [bare], rules)[1]
        assert (end.state.outcome == Outcome.BREACHED) == is_breached
    breached = walk(bars, [bare], rules_of(trail_kind=TrailKind.INTRADAY))[1].state
    peak = START - SIDE + 150 * TICK
    assert (breached.peak, breached.floor) == (peak, peak - ALLOWANCE)
    assert breached.done_reason == DoneReason.FLOOR


def test_09_the_floor_is_tested_in_every_bar_and_gaps_are_not_capped_at_the_stop() -> None:
    bars = [quiet(1_000)] * 5 + [quiet(600)]
    guarded = order(OrderKind.LONG, stop=50)
    steps = walk(bars, [guarded])
    assert [s.state.outcome for s in steps] == [Outcome.OPEN] * 4 + [Outcome.BREACHED]
    last = steps[-1]
    assert last.events.exit_price == 600 - SLIP
    assert last.state.balance == START + money(599 - 1_001)
    assert last.state.balance < last.state.floor


def test_10_a_refused_order_skips_no_bar() -> None:
    """LONG in a position, in the very bar in which its stop is met."""
    bars = [quiet(1_000), quiet(1_000), (1_000, 1_000, 970, 975)]
    steps = walk(bars, [LONG_1, LONG_1])
    assert steps[1].events.reject == Reject.IN_POSITION
    assert steps[1].events.exit_reason == FillReason.STOP
    assert steps[1].state.bar == 2
    held = walk(bars, [LONG_1, HOLD])[1].state
    assert held._replace(n_rejected=1) == steps[1].state


# 11-19: environment and evaluation.


@pytest.fixture(scope="module")
def params(prepared, phases, params_of):
    return params_of(prepared, phases["account"])


def begun(params, bars, length):
    sim = start(params.tape, params.markets, params.rules, bars, jnp.zeros_like(bars))
    return begin(params, sim, bars + length)


def test_11_nothing_acts_without_its_mask(params, env_step, env_observe) -> None:
    """No function chooses without one, and an agent that ignores its mask is told on."""
    net = network.init_params(jax.random.key(0), 4, 11, (8,))
    with pytest.raises(TypeError, match="action_mask"):
        network.act_greedy(net, jnp.zeros((1, 4)))
    with pytest.raises(TypeError, match="mask"):
        network.act(net, jnp.zeros((1, 4)), key=jax.random.key(0))
    state = begun(params, jnp.arange(N_LANES, dtype=jnp.int32) * 30 + 9_000, 50)
    (step,) = drive(env_step, env_observe, params, state, lambda o, m, t: np.ones(N_LANES), 1)
    assert not step.mask[:, 1].any()
    assert step.info.n_invalid.tolist() == [1] * N_LANES
    assert (step.after.sim.qty == 0).all()


def test_12_a_forced_close_is_a_round_trip_in_every_count(params, env_step, env_observe) -> None:
    left = np.asarray(params.minutes_to_flat)
    bars = np.flatnonzero(left == 12)[10 : 10 + N_LANES]
    wide = params._replace(bracket=params.bracket._replace(stop_atr=jnp.float32(40.0)))
    state = begun(wide, jnp.asarray(bars, jnp.int32), 200)
    steps = drive(
        env_step,
        env_observe,
        wide,
        state,
        lambda o, m, t: np.full(N_LANES, LONG if t == 0 else 0),
        14,
    )
    late = np.stack([s.info.n_late_flat for s in steps])
    trips = np.stack([s.info.n_trips for s in steps])
    trip_r = np.stack([s.info.trip_r for s in steps])
    last = steps[-1].after.sim
    assert late.sum(axis=0).tolist() == [1] * N_LANES
    np.testing.assert_array_equal(trips, late)
    assert (trip_r[late == 1] != 0).all()
    assert last.n_trips.tolist() == last.n_late_flat.tolist() == [1] * N_LANES
    assert (last.commissions == 2 * 1_990 * np.abs(steps[1].before.sim.qty)).all()
    assert (last.qty == 0).all()


@pytest.fixture(scope="module")
def played(params, prepared, cut):
    """All of the gate's sessions under an account that often dies, at once and four at a time."""
    unit = jnp.int32(1_000_000)
    small = params._replace(rules=params.rules._replace(allowance=unit))
    starts = day_starts(prepared, cut.gate)
    policy = scripted(PolicyKind.AGENT, score_of(vwap_distance=4.0))
    first = begin_at(small, starts)
    return starts, [
        play_episodes(small, follow, policy, first, seed=0, n_lanes=lanes) for lanes in (64, 4)
    ]


def test_13_evaluation_completes_every_episode_it_was_asked_for(played) -> None:
    starts, (found, _) = played
    np.testing.assert_array_equal(found.start_bar, starts.bar)
    assert (found.sim.done_reason != DoneReason.NONE).all()
    assert (found.length > 0).all()


def test_14_truncation_is_bootstrapped_and_termination_is_not() -> None:
    """One step of reward 1 with discount 0.5 before a state worth 8: worth 1 or 5."""
    config = replace(
        PPO, n_lanes=2, rollout_steps=1, minibatch_size=2, lane_block=2, hidden=(8,), gamma=0.5
    )
    net = network.init_params(jax.random.key(0), 3, 2, (8,))
    flags = jnp.array([[True, False]])
    steps = Steps(
        obs=jnp.ones((1, 2, 3)),
        mask_bits=jnp.full((1, 2), 3, jnp.uint32),
        action=jnp.zeros((1, 2), jnp.int32),
        log_prob=jnp.zeros((1, 2)),
        reward=jnp.ones((1, 2)),
        terminated=flags,
        truncated=~flags,
        final_value=jnp.full((1, 2), 8.0) * ~flags,
    )
    none = Sums(jnp.int32(2), jnp.float32(2.0), jnp.int32(2), {})
    ended = Rollout(Lanes({}, jnp.zeros(2), jnp.zeros(2)), steps, jnp.ones((2, 3)), none)
    batch, _ = estimate(config, net, ended, make_hyper(config))
    np.testing.assert_allclose(batch.value_target, [[1.0, 5.0]], rtol=1e-5)


def test_15_the_seed_reaches_every_draw_and_no_global_generator_is_touched(
    params, env_reset, env_step, env_observe
) -> None:
    before = repr(np.random.get_state()), random.getstate()
    state = env_reset(params, jax.random.key(5), N_LANES)
    one, two = (drive(env_step, env_observe, params, state, often_in(1), 40) for _ in range(2))
    assert same_bits(one, two)
    other = env_reset(params, jax.random.key(6), N_LANES)
    assert not same_bits(state.sim.bar, other.sim.bar)
    assert (repr(np.random.get_state()), random.getstate()) == before


def test_16_money_is_whole_numbers_and_both_engines_end_at_the_same_bar(params, env_reset) -> None:
    """`walk` compares every number of both engines in every bar; here on the mill of the floor."""
    sim = env_reset(params, jax.random.key(5), N_LANES).sim
    for name in ("balance", "peak", "floor", "day_balance", "best_day", "commissions", "entry"):
        assert getattr(sim, name).dtype == jnp.int32
    bars = [quiet(1_000), quiet(1_000), (1_000, 1_000, 950, 960), quiet(960)]
    at_floor = SIDE + 51 * TICK
    for allowance, is_breached in ((at_floor, True), (at_floor + 1, False)):
        end = walk(bars, [order(OrderKind.LONG)], rules_of(allowance=allowance))[1].state
        assert (end.outcome == Outcome.BREACHED) == is_breached


def test_17_a_lane_carries_nothing_from_one_episode_to_the_next(played) -> None:
    """In four lanes each plays six episodes in a row; in 24 none follows another."""
    _, (each_alone, one_after_another) = played
    assert differing(each_alone, one_after_another) == []
    assert (each_alone.sim.outcome == Outcome.BREACHED).sum() >= 3


def test_18_losses_of_different_episodes_are_never_added_up(played) -> None:
    _, (_, found) = played
    lost = START - found.equity.astype(np.int64)
    assert lost.sum() > 3 * 1_000_000
    assert (found.sim.outcome != Outcome.BREACHED).any()
    assert (found.max_equity >= START).all()
    assert (found.sim.peak >= START).all()
    np.testing.assert_array_equal(found.sim.floor, found.sim.peak - 1_000_000)


@pytest.mark.parametrize("k", [8_000, 20_001, 33_333])
def test_19_features_of_a_cut_tape_are_those_of_the_whole(market, k: int) -> None:
    whole, cut = compute_features(market.bars), compute_features(market.bars.slice(0, k))
    assert cut.table.tobytes() == whole.table[:k].tobytes()
    assert cut.atr_ticks.tobytes() == whole.atr_ticks[:k].tobytes()


# 20-26: data and training.


def csv(path: Path, *rows: str, head: str = "time,open,high,low,close,volume") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return path


def imported(path: Path, symbol: str = "ES") -> None:
    import_bars(path, contract=find_contract(symbol), out=path.with_suffix(".parquet"), tz="UTC")


def minute_rows(n: int, *, hour: int = 15, more: str = "") -> list[str]:
    return [f"2024-03-04 {hour}:{m:02d}:00,5000,5001,4999,5000,10{more}" for m in range(n)]


@pytest.mark.parametrize("other", ["NQH4", "ESH4-ESM4"])
def test_20_a_tape_of_several_instruments_or_spreads_is_refused(tmp_path: Path, other: str) -> None:
    mixed = minute_rows(20, more=",ESH4") + minute_rows(20, hour=16, more=f",{other}")
    path = csv(tmp_path / "mixed.csv", *mixed, head="time,open,high,low,close,volume,symbol")
    with pytest.raises(BarsError, match=f"several instruments or calendar spreads.*{other}"):
        imported(path)
    assert not (tmp_path / "mixed.parquet").exists()


def test_21_tick_and_money_are_those_of_the_bars_contract(prepared) -> None:
    book = load_rulebook("apex-intraday-50k")
    values = compile_markets([find_contract(s) for s in ("ES", "NQ", "MNQ", "CL")], book).tick_mills
    assert values.tolist() == [12_500, 5_000, 500, 10_000]
    assert prepared.markets.tick_mills.tolist() == [prepared.bars[0].contract.tick_mills]


@pytest.mark.parametrize(
    "bad", ["5000,4990,4980,5000,1", "5000,5001,nan,5000,1", "5000,inf,4990,5000,1"]
)
def test_22_malformed_bars_are_refused_and_never_mended(tmp_path: Path, bad: str) -> None:
    path = csv(tmp_path / "bad.csv", *minute_rows(20), f"2024-03-04 15:20:00,{bad}")
    with pytest.raises(BarsError, match="in 1 of 21 bars"):
        imported(path)
    assert not (tmp_path / "bad.parquet").exists()


@pytest.fixture(scope="module")
def trained(prepared, phases, cut, tmp_path_factory):
    """Two phases trained through, and killed after the fifth update and resumed."""
    folders = [tmp_path_factory.mktemp(name) for name in ("whole", "killed")]
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        whole = train(prepared, phases, cut, folders[0], patch, recorder)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, phases, cut, folders[1], patch, Recorder(stop_after=5))
        resumed = train(prepared, phases, cut, folders[1], patch, Recorder())
    return whole, resumed, recorder, folders[0]


def test_23_a_policy_is_bound_to_the_inputs_it_was_trained_on(trained, monkeypatch) -> None:
    """Inputs are scaled by their definition, so their names are all that must agree."""
    whole, _, _, folder = trained
    assert same_bits(load_network(folder, PPO)[0], whole.network)
    monkeypatch.setattr("passline.learn.curriculum.OBSERVATION_NAMES", ("renamed",))
    with pytest.raises(CheckpointError, match="other observation"):
        load_network(folder, PPO)


def test_24_the_next_phase_takes_over_the_weights_and_learns_on(trained, phases) -> None:
    whole, _, recorder, folder = trained
    kl = [scalars["train/approx_kl"] for _, _, scalars in recorder.scalars]
    assert all(abs(value) > 0 for value in kl)
    first = sorted(folder.glob("1-entry-*.toml"))[-1]
    after_entry = load_policy(read_checkpoint_info(first), PPO)
    last = sorted(folder.glob("2-manage-*.toml"))[-1]
    stored = safetensors.numpy.load_file(read_checkpoint_info(last).tensors)
    entry, manage = (allowed_actions(phases[name]) for name in ("entry", "manage"))
    carried = network.open_actions(after_entry, stand_ins(entry, manage), OPENED_BELOW)
    for net, layers in carried.items():
        for name, value in layers.items():
            assert stored[f"previous/{net}/{name}"].tobytes() == np.asarray(value).tobytes()
    assert not same_bits(after_entry, whole.network)


def test_25_a_killed_and_resumed_training_is_the_uninterrupted_one(trained) -> None:
    whole, resumed, _, _ = trained
    assert same_bits(whole.network, resumed.network)
    assert whole.step == resumed.step


def test_26_clock_changes_and_early_closes_move_flat_by() -> None:
    """16:59 ET is 21:59 UTC in winter and 20:59 in summer; Thanksgiving is flat at 12:59 ET."""
    book = load_rulebook("apex-intraday-50k")
    bars = bars_of(
        ("2024-03-07 18:00", "2024-03-08 17:00"),
        ("2024-03-10 18:00", "2024-03-11 17:00"),
        ("2024-11-27 18:00", "2024-11-28 13:00"),
        contract=INDEX,
    )
    is_flat = (compile_tape(bars, book).tape.flags & BarFlag.FLAT) != 0
    assert clock_of(bars, is_flat) == ["03-08 16:58", "03-11 16:58", "11-28 12:58"]
    hours = (bars.ts[is_flat] // 3_600_000_000_000 % 24).tolist()
    assert hours == [21, 20, 17]
    assert USUAL & BarFlag.CAN_ENTER


def test_every_class_has_its_number() -> None:
    numbers = [name[5:7] for name in globals() if name.startswith("test_") and name[5:7].isdigit()]
    assert numbers == [f"{number:02d}" for number in range(1, 27)]
