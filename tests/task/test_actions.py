"""The mask says what the simulator will accept, and sizes say what they risk."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driving import CLOSE, N_LANES, drive, often_in, random_legal
from passline.sim.jit import sim_jit
from passline.sim.layout import OrderKind, Reject
from passline.sim.step import step as sim_step
from passline.task.actions import (
    ACTION_NAMES,
    KINDS,
    N_ACTIONS,
    N_SIZES,
    SIZES,
    Bracket,
    action_index,
    action_mask,
    distances,
    order_of,
    sizes,
    stand_ins,
)
from passline.task.env import facts_at
from passline.task.phases import allowed_actions

N_STATES = 30 * N_LANES


def all_orders(params: Any, state: Any) -> Any:
    """The orders and masks of every action in every state [S * A], and what the simulator said."""
    many = jax.tree.map(lambda x: jnp.repeat(x, N_ACTIONS), state)
    action = jnp.tile(jnp.arange(N_ACTIONS, dtype=jnp.int32), state.bar.shape[0])
    facts = facts_at(params, many.bar)
    orders = order_of(params.bracket, params.markets, many, action, facts.atr)
    mask = action_mask(
        params.bracket,
        params.markets,
        params.rules,
        many,
        params.allowed,
        close=facts.close,
        flags=facts.flags,
        atr=facts.atr,
        is_closing=facts.is_closing,
    )
    _, events = sim_step(params.tape, params.markets, params.rules, many, orders)
    must_close = facts.is_closing & (many.qty != 0) & params.allowed[CLOSE]
    return orders.qty, mask[jnp.arange(action.shape[0]), action], events.reject, must_close


ALL_ORDERS = sim_jit(all_orders)


@pytest.fixture(scope="module")
def states(tiered, phases, params_of, env_reset, env_step, env_observe):
    """Accounts as random play leaves them, every third step: [N_STATES]."""
    params = generous(params_of(tiered, phases["account"]))
    found = []
    for seed, choose in ((0, random_legal(1)), (1, often_in(2))):
        lanes = env_reset(params, jax.random.key(seed), N_LANES)
        found += drive(env_step, env_observe, params, lanes, choose, 45, seed)[::3]
    return jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)), *[s.before.sim for s in found])


def generous(params: Any) -> Any:
    """Sizes that run into the size limit."""
    risks = jnp.asarray([25, 120, 400], jnp.int32)
    return params._replace(bracket=params.bracket._replace(risk_permille=risks))


def compare(params: Any, state: Any) -> dict[str, int]:
    """Holds the mask against the simulator's refusals; returns how often each was refused."""
    found = ALL_ORDERS(params, state)
    qty, mask, reject, must_close = (np.asarray(x).reshape(-1, N_ACTIONS) for x in found)
    size, kind = np.array(SIZES), np.array(KINDS)
    below = np.roll(qty, 1, axis=1)
    is_twice = (size > 0) & (qty == below)
    accepted = np.isin(reject, (Reject.NONE, Reject.EXPIRED))
    allowed = np.asarray(params.allowed)
    is_closed = must_close & (kind != OrderKind.CLOSE)
    np.testing.assert_array_equal(mask, accepted & allowed & ~is_twice & ~is_closed)
    assert mask.any(axis=1).all()
    names, counts = np.unique(reject, return_counts=True)
    return {Reject(n).name: int(c) for n, c in zip(names, counts, strict=True)}


def test_an_action_is_legal_if_and_only_if_the_simulator_takes_it(
    tiered, phases, params_of, states
) -> None:
    """But EXPIRED, which nobody can know, a size that comes to no more than the one below, and
    shortly before flat-by, when an open position must be closed."""
    params = generous(params_of(tiered, phases["account"]))
    assert states.bar.shape == (N_STATES,)
    refused = compare(params, states)
    expected = {"NONE", "IN_POSITION", "NO_POSITION", "SIZE_LIMIT", "NO_ENTRY_TIME", "NOT_TIGHTER"}
    expected |= {"ALREADY_TRAILING", "NOT_TRAILING"}
    assert expected <= set(refused), refused


def test_locked_out_accounts_may_not_enter(tiered, phases, params_of, states) -> None:
    params = generous(params_of(tiered, phases["account"]))
    locked = states._replace(is_locked_out=jnp.ones_like(states.is_locked_out))
    assert compare(params, locked)["LOCKED_OUT"] > 100


def test_a_book_that_limits_stops_masks_brackets_that_break_it(
    tiered, phases, params_of, states
) -> None:
    """A stop of 1.5 ranges against a target of a tenth of it breaks 5 : 1; one of 0.3 does not."""
    params = generous(params_of(tiered, phases["account"]))
    params = params._replace(rules=params.rules._replace(max_stop_per_target=jnp.int32(5)))
    for target_r, is_broken in ((0.1, True), (0.3, False)):
        bracket = params.bracket._replace(target_r=jnp.float32(target_r))
        refused = compare(params._replace(bracket=bracket), states)
        assert ("STOP_TO_TARGET" in refused) == is_broken


def test_a_phase_only_forbids_more(tiered, phases, params_of, states) -> None:
    for name in ("entry", "manage"):
        compare(generous(params_of(tiered, phases[name])), states)


def test_the_table_has_one_row_an_action() -> None:
    assert ACTION_NAMES[:5] == ("hold", "close", "breakeven", "trail_on", "trail_off")
    assert ACTION_NAMES[5:] == tuple(f"{s}_{n}" for s in ("long", "short") for n in (1, 2, 3))
    assert [action_index(OrderKind.SHORT, n) for n in range(N_SIZES)] == [8, 9, 10]
    assert len(ACTION_NAMES) == N_ACTIONS == 11


def bracket_of(**changes: Any) -> Bracket:
    values = {
        "stop_atr": 1.5,
        "target_r": 3.0,
        "risk_permille": [25, 50, 100],
        "unit_mills": 2_000_000,
    }
    values |= changes
    return Bracket(
        jnp.float32(values["stop_atr"]),
        jnp.float32(values["target_r"]),
        jnp.asarray(values["risk_permille"], jnp.int32),
        jnp.int32(values["unit_mills"]),
    )


@pytest.mark.parametrize(
    ("atr", "stop", "target"), [(10, 15, 45), (1, 2, 6), (0, 1, 3), (7, 10, 30)]
)
def test_distances_are_rounded_ranges_of_at_least_a_tick(atr: int, stop: int, target: int) -> None:
    """1.5 · 7 = 10.5 is rounded to the even 10; no range leaves one tick."""
    found = distances(bracket_of(), jnp.asarray([atr]))
    assert [int(x[0]) for x in found] == [stop, target]


def test_sizes_are_what_their_share_of_the_allowance_may_lose() -> None:
    """50, 100 and 200 USD over 10 ticks of 2.50 are 2, 4 and 8 contracts; at least one always."""
    contracts = sizes(bracket_of(), jnp.asarray([10, 100]), jnp.asarray([2_500, 2_500]))
    assert contracts.T.tolist() == [[2, 4, 8], [1, 1, 1]]


def test_newly_allowed_actions_stand_next_to_the_nearest_known_one(phases) -> None:
    entry, manage, account = (allowed_actions(phases[n]) for n in ("entry", "manage", "account"))

    def named(before, after) -> dict[str, str]:
        found = stand_ins(before, after)
        return {ACTION_NAMES[new]: ACTION_NAMES[old] for new, old in found.items()}

    managing = ("close", "breakeven", "trail_on", "trail_off")
    assert named(entry, manage) == dict.fromkeys(managing, "hold")
    assert named(manage, account) == {
        f"{side}_{size}": f"{side}_1" for side in ("long", "short") for size in (2, 3)
    }
    assert named(account, entry) == {}
