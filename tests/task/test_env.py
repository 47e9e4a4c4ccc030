"""The environment's step: masked actions, ends of episodes, and nothing seen before its time."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import N_LANES, drive, often_in, random_legal, same_bits
from made_bars import garbage_after
from passline.errors import ConfigError
from passline.learn import network
from passline.learn.ppo import PPOConfig, init_train_state, next_phase_state
from passline.sim.layout import NO_PRICE, DoneReason, OrderKind, Outcome
from passline.sim.step import start
from passline.task.actions import N_ACTIONS, action_index
from passline.task.env import N_RESTARTS, begin, reset, restart
from passline.task.prepare import OBSERVATION_NAMES, TaskConfig, prepare

LONG = action_index(OrderKind.LONG)


@pytest.fixture(scope="module")
def managed(prepared, phases, params_of):
    return params_of(prepared, phases["manage"])


@pytest.fixture(scope="module")
def lanes(managed, env_reset):
    return env_reset(managed, jax.random.key(11), N_LANES)


def begun(params: Any, first_bar: int, gap: int = 30, length: int = 300) -> Any:
    bars = jnp.arange(N_LANES, dtype=jnp.int32) * gap + first_bar
    sim = start(params.tape, params.markets, params.rules, bars, jnp.zeros_like(bars))
    return begin(params, sim, bars + length)


def test_a_masked_action_counts_as_hold_and_the_bar_is_played(
    managed, lanes, env_step, env_observe
) -> None:
    """The next state, the reward and all else are those of HOLD; only `n_invalid` tells."""
    n_moved = 0
    for s in drive(env_step, env_observe, managed, lanes, often_in(4), 60):
        wrong = np.argmax(~s.mask, axis=1).astype(np.int32)
        key = jax.random.key(99)
        sent = env_step(managed, s.before, jnp.asarray(wrong), key)
        held = env_step(managed, s.before, jnp.zeros(N_LANES, jnp.int32), key)
        assert sent[5].n_invalid.tolist() == [1] * N_LANES
        assert held[5].n_invalid.tolist() == (~s.mask[:, 0]).tolist()
        blank = sent[5]._replace(n_invalid=held[5].n_invalid)
        assert same_bits((*sent[:5], blank), held)
        goes_on = ~np.asarray(sent[2] | sent[3])
        is_next = np.asarray(sent[0].sim.bar) == s.before.sim.bar + 1
        assert is_next[goes_on].all()
        n_moved += int(goes_on.sum())
    assert n_moved >= 60 * (N_LANES - 1)


def test_the_mask_never_allows_nothing(managed, lanes, env_step, env_observe) -> None:
    for s in drive(env_step, env_observe, managed, lanes, random_legal(4), 60):
        assert s.mask.any(axis=1).all()
        assert s.mask[s.before.sim.qty == 0, 0].all()
        assert not s.info.n_invalid.any()


def test_positions_are_closed_in_time_by_whoever_keeps_to_the_mask(
    managed, env_step, env_observe
) -> None:
    """Entered with twelve minutes left; at six, CLOSE is all that is legal, and nothing is late."""
    left = np.asarray(managed.minutes_to_flat)
    bars = jnp.asarray(np.flatnonzero(left == 12)[10 : 10 + N_LANES], jnp.int32)
    wide = managed._replace(bracket=managed.bracket._replace(stop_atr=jnp.float32(40.0)))
    sim = start(wide.tape, wide.markets, wide.rules, bars, jnp.zeros_like(bars))

    def enter_and_hold(obs: Any, mask: Any, t: int) -> np.ndarray:
        return np.where(mask[:, LONG] & (t == 0), LONG, mask.argmax(axis=1))

    state = begin(wide, sim, bars + 200)
    steps = drive(env_step, env_observe, wide, state, enter_and_hold, 14)
    held = np.stack([s.before.sim.qty != 0 for s in steps])
    minutes = np.stack([left[s.before.sim.bar] for s in steps])
    only_close = np.stack([s.mask[:, 1] & (s.mask.sum(axis=1) == 1) for s in steps])
    np.testing.assert_array_equal(only_close, held & (minutes <= 6))
    assert only_close.sum() == N_LANES
    assert not np.stack([s.info.n_late_flat for s in steps]).any()
    assert np.stack([s.info.n_trips for s in steps]).sum() == N_LANES


def test_observations_are_finite_bounded_and_named(managed, lanes, env_step, env_observe) -> None:
    for s in drive(env_step, env_observe, managed, lanes, random_legal(8), 60):
        assert s.obs.shape == (N_LANES, len(OBSERVATION_NAMES))
        assert s.obs.dtype == np.float32
        assert np.isfinite(s.obs).all()
        assert np.abs(s.obs).max() <= 5.0


def test_terminated_and_truncated_are_told_apart(managed, env_step, env_observe) -> None:
    """Windows end truncated, with the old episode's last observation; breaches terminated."""
    unit = jnp.int32(200_000)
    params = managed._replace(
        rules=managed.rules._replace(allowance=unit),
        bracket=managed.bracket._replace(unit_mills=unit),
    )
    n_ended = {True: 0, False: 0}
    for s in drive(env_step, env_observe, params, begun(params, 9_000, length=25), often_in(1), 80):
        assert not (s.is_terminated & s.is_truncated).any()
        reasons = s.info.done_reasons.argmax(axis=1)
        is_done = s.is_terminated | s.is_truncated
        assert (s.info.done_reasons.sum(axis=1) == is_done).all()
        assert (reasons[s.is_truncated] == DoneReason.WINDOW_END).all()
        assert np.isin(reasons[s.is_terminated], (DoneReason.FLOOR,)).all()
        for lane in np.flatnonzero(s.is_truncated):
            n_ended[False] += 1
            last = jax.tree.map(lambda x, lane=lane: x[lane], s.before.sim)
            assert last.bar + 1 == s.before.end_bar[lane]
            market = np.asarray(params.features)[last.bar + 1]
            assert s.final_obs[lane, : len(market)].tobytes() == market.tobytes()
            assert s.after.sim.bar[lane] == s.after.start_bar[lane]
        n_ended[True] += int(s.is_terminated.sum())
        assert (s.after.sim.outcome == Outcome.OPEN).all()
        assert (s.after.sim.done_reason == DoneReason.NONE).all()
    assert min(n_ended.values()) >= 5, n_ended


def test_a_restarted_lane_keeps_nothing_of_the_episode_before(
    managed, env_reset, env_step, env_observe
) -> None:
    """Lanes that restart take the accounts that env.reset draws with the same key, in turn."""
    n_restarts = 0
    state = begun(managed, 9_000, length=40)
    for t, s in enumerate(drive(env_step, env_observe, managed, state, often_in(3), 60, seed=7)):
        is_done = s.is_terminated | s.is_truncated
        if not is_done.any():
            continue
        fresh = jax.tree.map(np.asarray, env_reset(managed, jax.random.key(70_000 + t), N_RESTARTS))
        for ours, drawn in zip(jax.tree.leaves(s.after), jax.tree.leaves(fresh), strict=True):
            np.testing.assert_array_equal(ours[is_done], drawn[: is_done.sum()])
        n_restarts += int(is_done.sum())
    assert n_restarts >= N_LANES


@pytest.mark.parametrize("n_done", [0, 1, N_RESTARTS, N_RESTARTS + 1, 3 * N_RESTARTS - 4])
def test_however_many_end_at_once_each_gets_an_episode_of_its_own(
    managed, env_reset, n_done
) -> None:
    n_lanes, key = 3 * N_RESTARTS, jax.random.key(5)
    state = env_reset(managed, jax.random.key(4), n_lanes)
    is_done = np.zeros(n_lanes, bool)
    is_done[np.random.default_rng(n_done).permutation(n_lanes)[:n_done]] = True
    after = jax.jit(restart)(managed, state, jnp.asarray(is_done), key)
    rounds = [reset(managed, key, N_RESTARTS, at=t) for t in range(3)]
    for old, new, *drawn in zip(*map(jax.tree.leaves, (state, after, *rounds)), strict=True):
        np.testing.assert_array_equal(new[~is_done], old[~is_done])
        np.testing.assert_array_equal(new[is_done], np.concatenate(drawn)[:n_done])


def test_equal_keys_equal_episodes_and_other_keys_others(managed, env_reset) -> None:
    one, two, three = (env_reset(managed, jax.random.key(k), N_LANES) for k in (1, 1, 2))
    assert same_bits(one, two)
    assert not same_bits(one.sim.bar, three.sim.bar)
    assert len(np.unique(np.asarray(one.sim.bar))) > N_LANES // 2


# Causality.


@pytest.mark.parametrize(("seed", "drops"), [(0, False), (1, False), (2, True), (3, True)])
def test_nothing_seen_up_to_a_bar_depends_on_a_later_one(
    seed, drops, market, prepared, managed, env_observe
) -> None:
    """Features, ranges, clock and masks of the whole tape, through the real preparation."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(20_000, 60_000))
    bad = prepare(
        [garbage_after(market.bars, k, rng, drops=drops)], prepared.rulebook, prepared.config
    )
    assert bad.first_bar == prepared.first_bar
    ours, theirs = prepared.base, bad.base
    for mine, other in (
        (ours.features, theirs.features),
        (ours.atr, theirs.atr),
        (ours.minutes_to_flat, theirs.minutes_to_flat),
        (ours.tape.close, theirs.tape.close),
        (ours.tape.day, theirs.tape.day),
    ):
        assert same_bits(mine[: k + 1], other[: k + 1])
    assert not same_bits(ours.tape.close[k + 1 : k + 99], theirs.tape.close[k + 1 : k + 99])
    spoiled = fitted(managed, bad)
    for first in (k - 15 * 30, k - 15 * 97):
        gap = (k - first) // (N_LANES - 1)
        state = in_position(begun(managed, first, gap), managed)
        assert int(state.sim.bar[-1]) == k
        assert same_bits(env_observe(managed, state), env_observe(spoiled, state))


def fitted(params: Any, other: Any) -> Any:
    """The constants with another tape, cut or repeated at its end to the same number of bars."""
    n = params.features.shape[0]
    index = jnp.minimum(jnp.arange(n), other.base.features.shape[0] - 1)
    big = {
        "tape": jax.tree.map(lambda x: x[index], other.base.tape),
        "features": other.base.features[index],
        "atr": other.base.atr[index],
        "minutes_to_flat": other.base.minutes_to_flat[index],
        "market": other.base.market[index],
    }
    return params._replace(**big)


def in_position(state: Any, params: Any) -> Any:
    """Gives every other lane a long position from five ticks below."""
    sim = state.sim
    is_odd = np.arange(N_LANES) % 2 == 1
    close = params.tape.close[sim.bar]
    return state._replace(
        sim=sim._replace(
            qty=jnp.where(is_odd, 1, 0),
            entry=jnp.where(is_odd, close - 5, 0),
            stop=jnp.where(is_odd, close - 25, NO_PRICE),
            target=jnp.where(is_odd, close + 35, NO_PRICE),
            trail_ticks=jnp.where(is_odd, 20, 0),
            trip_risk=jnp.where(is_odd, 50_000, 0),
        )
    )


def test_an_episode_plays_alike_up_to_the_first_garbage_bar(
    market, prepared, managed, env_step, env_observe
) -> None:
    """Observations, masks, rewards and accounts, with real decisions on the way."""
    rng = np.random.default_rng(5)
    first = 30_000
    k = first + 15 * 30 + 40
    bad = prepare(
        [garbage_after(market.bars, k, rng, drops=False)], prepared.rulebook, prepared.config
    )
    spoiled = fitted(managed, bad)
    ours, theirs = (
        drive(env_step, env_observe, p, begun(p, first), often_in(9), 60)
        for p in (managed, spoiled)
    )
    n_same, differs = 0, False
    for a, b in zip(ours, theirs, strict=True):
        is_before = (a.before.sim.bar < k) & (a.before.sim.bar >= first)
        if (a.before.sim.bar >= k).any():
            differs |= not same_bits(a.after.sim, b.after.sim)
            continue
        for mine, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert mine.tobytes() == other.tobytes()
        n_same += int(is_before.sum())
    assert n_same >= 40 * N_LANES
    assert differs


# Transfer.


def test_all_phases_share_one_observation_and_one_action_table(
    prepared, phases, params_of, lanes, env_observe
) -> None:
    for phase in phases.values():
        obs, mask = env_observe(params_of(prepared, phase), lanes)
        assert obs.shape == (N_LANES, len(OBSERVATION_NAMES))
        assert mask.shape == (N_LANES, N_ACTIONS)


def test_the_next_phase_begins_with_the_very_same_policy(
    prepared, phases, params_of, env_reset, env_observe
) -> None:
    """Logits over the same observations are equal bit for bit; what is newly allowed is not."""
    config = PPOConfig(n_lanes=N_LANES, rollout_steps=8, minibatch_size=64, hidden=(16, 16))
    before, after = (params_of(prepared, phases[name]) for name in ("entry", "manage"))
    old_lanes, new_lanes = (env_reset(p, jax.random.key(3), N_LANES) for p in (before, after))
    first = init_train_state(
        config, old_lanes, len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(0)
    )
    moved = jax.tree.map(lambda x: x + 0.01, first.params)
    second = next_phase_state(first._replace(params=moved), new_lanes)
    old_lanes = in_position(begun(before, 9_000), before)
    obs, old_mask = env_observe(before, old_lanes)
    same_obs, new_mask = env_observe(after._replace(rules=before.rules), old_lanes)
    assert same_bits(obs, same_obs)
    logits = [network.policy_logits(p, obs) for p in (moved, second.params)]
    assert same_bits(*logits)
    assert not same_bits(logits[0], network.policy_logits(first.params, obs))
    assert (np.asarray(new_mask) >= np.asarray(old_mask)).all()
    assert np.asarray(new_mask).sum() > np.asarray(old_mask).sum()


def test_markets_that_do_not_fit_together_are_refused(market, prepared) -> None:
    book = prepared.rulebook
    with pytest.raises(ConfigError, match="no bars given"):
        prepare([], book, TaskConfig())
    slow = replace(market.bars, bar_ns=5 * market.bars.bar_ns)
    with pytest.raises(ConfigError, match=r"different lengths \(1 min, 5 min\)"):
        prepare([market.bars, slow], book, TaskConfig())
    gold = replace(market.bars, contract=replace(market.bars.contract, symbol="GC"))
    with pytest.raises(ConfigError, match="does not let GC be traded"):
        prepare([gold], book, TaskConfig())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stop_atr", 0.0, "must be above 0"),
        ("target_r", -1.0, "must be above 0"),
        ("risk_permille", (25, 50), "needs 3 rising"),
        ("risk_permille", (50, 25, 100), "needs 3 rising"),
        ("risk_permille", (0, 25, 100), "needs 3 rising"),
        ("time_limit_days", 0, "time_limit_days was 0"),
        ("path", "middle", "path was 'middle'; allowed: worst"),
    ],
)
def test_task_settings_out_of_range_are_refused(field, value, message) -> None:
    with pytest.raises(ConfigError, match=message):
        TaskConfig(**{field: value})


def test_a_book_without_a_time_limit_gets_the_configured_one(tiered, prepared) -> None:
    assert int(prepared.rules.time_limit_days) == 30
    assert tiered.span_days == tiered.config.time_limit_days == 30
