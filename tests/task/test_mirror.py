"""What is seen and earned on a tape turned upside down follows from the tape itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.evaluate.slices import Split
from passline.learn.full_information import Stretches, cut_stretches
from passline.learn.ppo import PPOConfig
from passline.market.nulls import mirror
from passline.sim.jit import sim_jit
from passline.sim.step import start
from passline.task import env
from passline.task.actions import ACTION_NAMES
from passline.task.mirror import MIRROR
from passline.task.phases import Phase
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params, prepare

SHAPES = PPOConfig(n_lanes=64, rollout_steps=128, minibatch_size=1024)
COLUMN, SIGN, ACTION = map(np.asarray, (MIRROR.column, MIRROR.sign, MIRROR.action))
N_LANES, N_STEPS = 256, 400


@pytest.fixture(scope="module")
def upside_down(prepared: Prepared) -> Prepared:
    (bars,) = prepared.bars
    flipped = mirror(bars, np.full(len(bars), -1))
    return prepare([flipped], prepared.rulebook, prepared.config)


def begun(params: Any, bars: Any) -> Any:
    account = start(params.tape, params.markets, params.rules, bars, params.market[bars])
    return env.begin(params, account, bars)


def assert_mirrored(flipped: np.ndarray, tape: np.ndarray) -> None:
    expected = tape[..., COLUMN] * SIGN
    for column, name in enumerate(OBSERVATION_NAMES):
        np.testing.assert_allclose(
            flipped[..., column], expected[..., column], atol=2e-5, err_msg=name
        )


def test_a_mirrored_tape_shows_the_mirrored_observation(prepared, upside_down, phases, cut) -> None:
    def seen(of: Prepared) -> np.ndarray:
        params = phase_params(of, phases["entry"], cut.train)
        bars = jnp.arange(*cut.train[0], dtype=jnp.int32)
        look = sim_jit(lambda params, bars: env.observe(params, begun(params, bars))[0])
        return np.asarray(look(params, bars))

    tape, flipped = seen(prepared), seen(upside_down)
    assert_mirrored(flipped, tape)
    is_other = np.any(np.abs(flipped - tape) > 0.1, axis=0)
    assert is_other.sum() >= 25  # it could not pass by changing nothing


def outcomes(prepared: Prepared, phases: dict[str, Phase], cut: Split) -> Stretches:
    return cut_stretches(phase_params(prepared, phases["entry"], cut.train), cut.train, SHAPES)


def test_a_mirrored_entry_ends_at_the_same_bar_with_the_same_result(
    prepared, upside_down, phases, cut
) -> None:
    """Bar for bar, costs, stops, targets and flat-by included."""
    mine, other = (outcomes(p, phases, cut) for p in (prepared, upside_down))
    swapped = np.searchsorted(mine.entries, ACTION[mine.entries])
    inside = slice(*cut.train[0])
    net_r = np.asarray(mine.outcomes.net_r)[:, inside]
    assert np.mean(net_r[0] != net_r[1]) > 0.4
    for mirrored, tape in (
        (other.outcomes.net_r, mine.outcomes.net_r),
        (other.outcomes.exit_bar, mine.outcomes.exit_bar),
    ):
        np.testing.assert_array_equal(
            np.asarray(mirrored)[:, inside], np.asarray(tape)[swapped][:, inside]
        )


def test_accounts_played_upside_down_see_and_come_to_the_mirror_of_the_same(
    prepared, upside_down, phases, cut
) -> None:
    """Random legal actions of every kind and size under all rules; positions and stops included."""
    rng = np.random.default_rng(3)
    bars = rng.integers(*cut.train[0], N_LANES).astype(np.int32)
    draws = rng.random((N_STEPS, N_LANES), np.float32)

    worlds = [phase_params(p, phases["account"], cut.train) for p in (prepared, upside_down)]
    sims = [sim_jit(begun)(params, jnp.asarray(bars)).sim for params in worlds]
    look = sim_jit(lambda params, sim: env.observe(params, env.begin(params, sim, sim.bar)))
    act = sim_jit(lambda params, sim, action, legal: env.act_on(params, sim, action, legal)[0])
    n_open = 0
    for step in range(N_STEPS):
        (tape, legal), (flipped, other) = (
            jax.tree.map(np.asarray, look(p, s)) for p, s in zip(worlds, sims, strict=True)
        )
        assert_mirrored(flipped, tape)
        np.testing.assert_array_equal(other[:, ACTION], legal)
        place = np.floor(draws[step] * legal.sum(axis=1)).astype(int)
        action = np.argmax(np.cumsum(legal, axis=1) > place[:, None], axis=1).astype(np.int32)
        sims = [
            act(p, s, jnp.asarray(a), jnp.asarray(m))
            for p, s, a, m in zip(
                worlds, sims, (action, ACTION[action]), (legal, other), strict=True
            )
        ]
        n_open += int(np.sum(np.asarray(sims[0].qty) != 0))
    assert n_open > 0.2 * N_LANES * N_STEPS
    for name in ("balance", "floor", "outcome", "done_reason", "n_days"):
        mine, theirs = (np.asarray(getattr(s, name)) for s in sims)
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(np.asarray(sims[0].qty), -np.asarray(sims[1].qty))
    assert len(np.unique(np.asarray(sims[0].balance))) > N_LANES / 2


def test_an_action_becomes_the_other_sides_of_its_size_and_nothing_else() -> None:
    assert {ACTION_NAMES[a]: ACTION_NAMES[b] for a, b in enumerate(ACTION) if a != b} == {
        f"{a}_{size}": f"{b}_{size}"
        for a, b in (("long", "short"), ("short", "long"))
        for size in (1, 2, 3)
    }


def test_done_twice_it_changes_nothing() -> None:
    np.testing.assert_array_equal(COLUMN[COLUMN], np.arange(len(COLUMN)))
    np.testing.assert_array_equal(SIGN[COLUMN] * SIGN, 1.0)
    np.testing.assert_array_equal(ACTION[ACTION], np.arange(len(ACTION)))
