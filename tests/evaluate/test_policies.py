"""Policies as rows: what each chooses, always something legal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import CLOSE, LONG, SHORT, follow, score_of
from passline.evaluate.policies import Policy, PolicyKind, choose, scripted
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES

N = 4_000
WEIGHTS = score_of(vwap_distance=-10.0)

CHOOSE = jax.jit(choose, static_argnums=1)


def act(
    policy: Policy, mask: Any, *, seed: int = 0, bar: int = 0, qty: int = 0, obs: Any = None
) -> np.ndarray:
    n = len(mask)
    seen = jnp.zeros((n, len(OBSERVATION_NAMES))) if obs is None else obs
    bars, held = jnp.full(n, bar, jnp.int32), jnp.full(n, qty, jnp.int32)
    return np.asarray(
        CHOOSE(policy, follow, bars, held, seen, jnp.asarray(mask), jax.random.key(seed))
    )


def masks(seed: int = 0) -> np.ndarray:
    """Random masks; HOLD is always legal and sizes are legal from the smallest on."""
    rng = np.random.default_rng(seed)
    mask = rng.random((N, N_ACTIONS)) < 0.5
    mask[:, 0] = True
    n_sizes = rng.integers(0, 4, N)
    for first in (LONG, SHORT):
        mask[:, first : first + 3] = np.arange(3) < n_sizes[:, None]
    return mask


def free() -> np.ndarray:
    return np.ones((N, N_ACTIONS), bool)


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_every_policy_chooses_legally(kind: PolicyKind) -> None:
    rng = np.random.default_rng(1)
    obs = jnp.asarray(rng.standard_normal((N, len(OBSERVATION_NAMES))), jnp.float32)
    mask = masks()
    policy = scripted(
        kind, WEIGHTS, entry_rate=0.5, size_shares=[0.3, 0.6, 1.0], signal=np.ones(1, np.int8)
    )
    action = act(policy, mask, obs=obs)
    assert action.dtype == np.int32
    assert mask[np.arange(N), action].all()
    if kind != PolicyKind.FLAT:
        assert (action != 0).mean() > 0.1


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_where_closing_is_all_that_is_legal_every_policy_closes(kind: PolicyKind) -> None:
    mask = np.zeros((N, N_ACTIONS), bool)
    mask[:, CLOSE] = True
    policy = scripted(kind, WEIGHTS, entry_rate=0.5, signal=np.ones(1, np.int8))
    assert (act(policy, mask) == CLOSE).all()


def test_flat_never_trades_and_always_long_takes_the_smallest_size() -> None:
    assert not act(scripted(PolicyKind.FLAT, WEIGHTS), free()).any()
    assert (act(scripted(PolicyKind.ALWAYS_LONG, WEIGHTS), free()) == LONG).all()


def test_random_legal_likes_all_legal_actions_alike() -> None:
    mask = free()
    mask[:, 3] = False
    action = act(scripted(PolicyKind.RANDOM_LEGAL, WEIGHTS), mask)
    share = np.bincount(action, minlength=N_ACTIONS) / N
    assert share[3] == 0
    assert np.abs(np.delete(share, 3) - 0.1).max() < 4 * np.sqrt(0.09 / N)


def test_random_entry_enters_at_its_rate_on_either_side_in_its_sizes() -> None:
    policy = scripted(PolicyKind.RANDOM_ENTRY, WEIGHTS, entry_rate=0.3, size_shares=[0.5, 0.5, 1.0])
    action = act(policy, free())
    share = np.bincount(action, minlength=N_ACTIONS) / N
    assert share[0] == pytest.approx(0.7, abs=0.03)
    assert share[1:5].sum() == 0
    for first in (LONG, SHORT):
        assert share[first] == pytest.approx(0.075, abs=0.02)
        assert share[first + 1] == 0
        assert share[first + 2] == pytest.approx(0.075, abs=0.02)


def test_a_size_that_is_not_legal_falls_to_the_largest_that_is() -> None:
    policy = scripted(PolicyKind.RANDOM_ENTRY, WEIGHTS, entry_rate=1.0, size_shares=[0.0, 0.0, 1.0])
    mask = free()
    mask[:, [LONG + 2, SHORT + 2]] = False
    assert set(act(policy, mask)) == {LONG + 1, SHORT + 1}


def test_draws_repeat_with_the_seed_and_differ_without() -> None:
    policy = scripted(PolicyKind.RANDOM_ENTRY, WEIGHTS, entry_rate=0.3)
    one, two, three = (act(policy, free(), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()


def test_a_signal_is_read_at_the_bar_of_the_decision() -> None:
    policy = scripted(PolicyKind.SIGNAL, WEIGHTS, signal=np.array([0, 1, -1], np.int8))
    found = [set(act(policy, free(), bar=bar)) for bar in range(4)]
    assert found == [{0}, {LONG}, {SHORT}, {SHORT}]


def test_the_agent_is_its_rule() -> None:
    rng = np.random.default_rng(2)
    obs = jnp.asarray(rng.standard_normal((N, len(OBSERVATION_NAMES))), jnp.float32)
    mask = jnp.asarray(masks(3))
    action = act(scripted(PolicyKind.AGENT, WEIGHTS), mask, obs=obs)
    np.testing.assert_array_equal(action, np.asarray(follow(WEIGHTS, obs, mask)))


@pytest.mark.parametrize(("sides", "longs", "shorts"), [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)])
def test_a_signal_leaves_the_sides_that_it_names(sides: int, longs: int, shorts: int) -> None:
    policy = scripted(PolicyKind.SIGNAL, WEIGHTS, exits=np.array([sides], np.int8))
    assert (act(policy, free(), qty=2) == CLOSE).mean() == longs
    assert (act(policy, free(), qty=-2) == CLOSE).mean() == shorts
    flat = free()
    flat[:, CLOSE] = False
    assert not act(policy, flat).any()
