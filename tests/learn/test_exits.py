"""Closing: exact values against enumeration and against playing; what is learned and what stays."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import same_bits
from passline.errors import ConfigError
from passline.learn import exits, network
from passline.learn.exits import HOLD, Along, backward_positions, find_positions, make_exit_update
from passline.learn.full_information import cut_stretches, make_exact_update
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper
from passline.learn.symmetry import is_symmetric
from passline.task import env
from passline.task.actions import CLOSE, N_ACTIONS, stand_ins
from passline.task.mirror import MIRROR
from passline.task.phases import allowed_actions
from passline.task.prepare import OBSERVATION_NAMES, phase_params
from small_training import Recorder, train

CONFIG = PPOConfig(
    n_lanes=64, rollout_steps=128, minibatch_size=1024, hidden=(16, 16), learning_rate=3e-3
)
GAMMA = 0.9


def made(n_bars: int, n: int) -> tuple[Along, Any, Any, Any]:
    """Draws positions that end at random bars, or not at all, and what surrounds them."""
    rng = np.random.default_rng(3)
    last = rng.integers(0, n_bars + 2, n)
    bar = np.arange(n_bars)[:, None]
    along = Along(
        obs=np.zeros((n_bars, n, 1), np.float32),
        mask_bits=np.full((n_bars, n), 3, np.uint32),
        bar=np.broadcast_to(bar, (n_bars, n)),
        is_open=bar <= last,
        is_closed=(bar <= last) & (rng.random((n_bars, n)) < 0.8),
        close_reward=rng.normal(size=(n_bars, n)).astype(np.float32),
        is_ended=bar == last,
        hold_reward=np.where(bar == last, rng.normal(size=(n_bars, n)), 0).astype(np.float32),
    )
    probs = rng.dirichlet(np.ones(2), (n_bars, n)).astype(np.float32)
    flat = rng.normal(size=(n_bars, n)).astype(np.float32)
    tail = np.where(last >= n_bars, rng.normal(size=n), 0).astype(np.float32)
    return along, probs, flat, tail


def enumerated(along: Along, probs: Any, flat: Any, tail: Any, lane: int, choices: Any) -> float:
    """Returns what one sequence of choices earns, times its probability."""
    chance, earned = 1.0, 0.0
    for t, choice in enumerate(choices):
        discount = GAMMA**t
        if not along.is_open[t, lane]:
            break
        chance *= probs[t, lane, choice]
        if choice == 1 and along.is_closed[t, lane]:
            return chance * (
                earned + discount * (along.close_reward[t, lane] + GAMMA * flat[t, lane])
            )
        if along.is_ended[t, lane]:
            return chance * (
                earned + discount * (along.hold_reward[t, lane] + GAMMA * flat[t, lane])
            )
    return chance * (earned + GAMMA ** len(choices) * tail[lane])


def test_values_equal_the_sum_over_all_sequences_of_choices() -> None:
    along, probs, flat, tail = made(6, 12)
    values, q = backward_positions(probs, jax.tree.map(jnp.asarray, along), tail, flat, GAMMA)
    for lane in range(12):
        n_open = int(along.is_open[:, lane].sum())
        # Sequences that agree up to the position's end are one; those beyond it are not told apart.
        known = set()
        for choices in product((0, 1), repeat=n_open):
            stop = next(
                (t for t, c in enumerate(choices) if c == 1 and along.is_closed[t, lane]), n_open
            )
            known.add(choices[: stop + 1] if stop < n_open else choices)
        total = sum(enumerated(along, probs, flat, tail, lane, c) for c in known)
        if n_open == 6 and along.is_ended[:, lane].sum() == 0:
            assert tail[lane] != 0
        assert float(values[0, lane]) == pytest.approx(total, abs=1e-5), lane
    np.testing.assert_allclose(
        np.where(along.is_open, np.sum(probs * q, axis=2), 0), values, atol=1e-6
    )
    barred = along.is_open & ~along.is_closed
    np.testing.assert_array_equal(q[..., 0][barred], q[..., 1][barred])


@pytest.fixture(scope="module")
def ground(prepared, phases, cut) -> Any:
    """An entry policy learned on the shared market, and all that an exit phase begins with."""
    entry = phase_params(prepared, phases["entry"], cut.train)
    params = phase_params(prepared, phases["exit"], cut.train)
    state = init_train_state(
        CONFIG, jnp.zeros(1), len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(0), MIRROR
    )
    learn = make_exact_update(entry, cut_stretches(entry, cut.train, CONFIG), CONFIG, MIRROR)
    for _ in range(30):
        state, _ = learn(state, make_hyper(CONFIG))
    allowed = (allowed_actions(phases[name]) for name in ("entry", "exit"))
    begun = network.open_actions(state.params, stand_ins(*allowed), 5.0)
    stretches = cut_stretches(params, cut.train, CONFIG)
    known = find_positions(params, stretches, CONFIG, begun)
    return SimpleNamespace(params=params, begun=begun, stretches=stretches, known=known)


def test_positions_are_the_greedy_entries_and_what_their_brackets_come_to(ground) -> None:
    positions, stretches = ground.known.positions, ground.stretches
    assert 256 <= len(positions.bar) < len(ground.known.open_bar)
    some = jnp.asarray(positions.bar[::7])
    accounts = exits._fresh(ground.params, some)
    obs, mask = exits._see(ground.params, accounts)
    np.testing.assert_array_equal(
        network.act_greedy(ground.begun, obs, mask), positions.action[::7]
    )
    row = [list(stretches.entries).index(a) for a in positions.action]
    np.testing.assert_array_equal(
        positions.end_bar, stretches.outcomes.exit_bar[row, positions.bar]
    )


def test_an_agent_that_never_enters_learns_from_its_likeliest_entries(ground) -> None:
    actor = dict(ground.begun["actor"])
    actor["b2"] = actor["b2"].at[0].add(50.0)
    never = {**ground.begun, "actor": actor}
    known = find_positions(ground.params, ground.stretches, CONFIG, never)
    np.testing.assert_array_equal(known.positions.bar, known.open_bar)


def test_bars_without_a_legal_entry_are_refused(ground) -> None:
    """As where a book demands targets that no bracket of these settings has."""
    rules = ground.params.rules._replace(max_stop_per_target=jnp.float32(1e-6))
    barred = ground.params._replace(rules=rules)
    with pytest.raises(ConfigError, match="no bar of the training range allows an entry"):
        find_positions(barred, ground.stretches, CONFIG, ground.begun)


@pytest.mark.parametrize("n_held", [0, 1, 5, 20])
def test_what_closing_comes_to_is_what_playing_it_pays(n_held: int, ground) -> None:
    """Each position is entered, held and closed in the environment, and the reward compared."""
    n = 96
    chosen = np.linspace(0, len(ground.known.positions.bar) - 1, n).astype(int)
    drawn = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[chosen]), ground.known.positions)
    walked = exits._compiled(n, 1, None).walk(ground.params, drawn, drawn.bar)
    along = jax.tree.map(np.asarray, walked.along)
    far = jnp.full((n,), len(ground.params.tape.close) - 1, jnp.int32)
    lanes = env.begin(ground.params, exits._fresh(ground.params, drawn.bar), far)
    step, held = jax.jit(env.step), jnp.zeros_like(drawn.action)
    earned = np.zeros(n)
    orders = [drawn.action, *[held] * n_held, jnp.full_like(held, CLOSE)]
    for number, action in enumerate(orders):
        lanes, reward, *_ = step(ground.params, lanes, action, jax.random.key(0))
        if number == n_held:
            np.testing.assert_array_equal(lanes.sim.qty != 0, along.is_open[n_held])
            earned = np.asarray(reward)
    is_closed = along.is_closed[n_held]
    assert is_closed.sum() > n / 5
    paid = np.asarray(reward)
    np.testing.assert_allclose(paid[is_closed], along.close_reward[n_held][is_closed], rtol=1e-6)
    just_ended = along.is_ended[n_held - 1] if n_held else np.zeros(n, bool)
    np.testing.assert_allclose(
        earned[just_ended], along.hold_reward[n_held - 1][just_ended], rtol=1e-6
    )


def learned(ground, known: Any, n_updates: int, mirror: Any = MIRROR) -> Any:
    begun = jax.tree.map(jnp.copy, ground.begun)
    state = init_train_state(
        CONFIG, jnp.zeros(1), len(OBSERVATION_NAMES), N_ACTIONS, jax.random.key(1), mirror
    )._replace(params=begun)
    update = make_exit_update(ground.params, known, CONFIG, ground.begun, mirror)
    found = []
    for _ in range(n_updates):
        state, metrics = update(state, make_hyper(CONFIG))
        found.append({name: np.asarray(value) for name, value in metrics.items()})
    return state.params, found


def test_it_closes_where_being_flat_is_worth_more_and_holds_where_it_is_not(ground) -> None:
    """A constant value of being flat is interest on closing early, and a negative one a fee."""
    before = None
    for worth in (60.0, -60.0):
        known = ground.known._replace(value=np.full_like(ground.known.value, worth))
        params, found = learned(ground, known, 40)
        lengths = [float(x["rollout/position_length"]) for x in found]
        if worth > 0:
            assert lengths[-1] < lengths[0] / 3, lengths
            before = lengths[0]
        else:
            assert lengths[-1] > before, lengths
        assert is_symmetric(params, MIRROR)
        accounts = exits._fresh(ground.params, jnp.asarray(ground.known.open_bar[::11]))
        obs, mask = exits._see(ground.params, accounts)
        acts = [network.act_greedy(p, obs, mask) for p in (ground.begun, params)]
        assert float(jnp.mean(acts[0] == acts[1])) > 0.9
        counts = found[-1]["rollout/action_counts"]
        assert counts.sum() == pytest.approx(float(found[-1]["rollout/n_decisions"]), abs=1.5)
        taken = [HOLD, CLOSE, *ground.stretches.entries]
        assert (counts[taken] > 0).all()
        assert counts.sum() == pytest.approx(counts[taken].sum())


def test_a_killed_exit_phase_goes_on_to_the_same_bits(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Killed in the middle of the phase, whose first checkpoint is after two updates."""
    rows = {**phases, "manage": replace(phases["exit"], name="exit")}
    whole = train(prepared, rows, cut, tmp_path / "a", monkeypatch, Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(prepared, rows, cut, tmp_path / "b", monkeypatch, Recorder(stop_after=6))
    again = Recorder()
    resumed = train(prepared, rows, cut, tmp_path / "b", monkeypatch, again)
    assert same_bits(resumed.network, whole.network)
    assert {phase for phase, _, _ in again.scalars} == {"exit"}
    last = again.scalars[-1][2]
    assert "phase_gain/is_kept" in last
    assert "cross_fit/reward" not in last
