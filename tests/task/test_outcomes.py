"""The table of entries' outcomes equals what the simulator makes of them bar by bar."""

import jax.numpy as jnp
import numpy as np
import pytest

from passline.sim.jit import sim_jit
from passline.sim.layout import BarFlag, FillReason, OrderKind, PathRule
from passline.sim.step import start, step
from passline.task.actions import action_index, order_of
from passline.task.env import facts_at, mask_at
from passline.task.outcomes import entry_outcomes

ENTRIES = np.array([action_index(OrderKind.LONG), action_index(OrderKind.SHORT)], np.int32)
N = 600


def walked(params, bars, action):
    """Enters at every bar and walks each account bar by bar until it is flat again."""
    fresh = sim_jit(start)(params.tape, params.markets, params.rules, bars, params.market[bars])
    is_legal = mask_at(params, fresh, facts_at(params, bars))[:, action]
    action = jnp.where(is_legal, action, 0)
    orders = order_of(params.bracket, params.markets, fresh, action, params.atr[bars])
    one = sim_jit(step)
    state, events = one(params.tape, params.markets, params.rules, fresh, orders)
    held = orders._replace(kind=jnp.zeros_like(orders.kind))
    net, ends, reasons = (np.zeros(len(bars)) for _ in range(3))
    is_done = np.zeros(len(bars), bool)
    while not is_done.all():
        now = ~is_done & (np.asarray(state.qty) == 0)
        risk = np.maximum(np.asarray(events.trip_risk), 1)
        net[now] = (np.asarray(events.trip_net) / risk)[now]
        ends[now], reasons[now] = np.asarray(state.bar)[now], np.asarray(events.exit_reason)[now]
        is_done |= now
        state, events = one(params.tape, params.markets, params.rules, state, held)
    return net, ends, reasons


@pytest.mark.parametrize("path", [PathRule.WORST, PathRule.BEST])
def test_every_outcome_is_the_simulators_own(path, prepared, phases, params_of) -> None:
    params = params_of(prepared, phases["entry"])
    params = params._replace(rules=params.rules._replace(path_rule=jnp.int32(path)))
    flags, left = np.asarray(params.tape.flags), np.asarray(params.minutes_to_flat)
    can = np.flatnonzero(np.asarray(flags & BarFlag.CAN_ENTER))
    can = can[can > prepared.first_bar[0]]
    late = can[(left[can] < 40)]
    rng = np.random.default_rng(5)
    bars = np.unique(np.r_[rng.choice(can, N), rng.choice(late, 60)]).astype(np.int32)
    table = entry_outcomes(params, bars, ENTRIES)
    seen = set()
    for row, action in enumerate(ENTRIES):
        net, ends, reasons = walked(params, jnp.asarray(bars), int(action))
        np.testing.assert_allclose(table.net_r[row, bars], net, rtol=1e-6)
        np.testing.assert_array_equal(table.exit_bar[row, bars], ends)
        seen |= {int(r) for r in reasons}
    assert {FillReason.STOP, FillReason.TARGET, FillReason.LATE_FLAT} <= seen


def test_other_bars_hold_nothing_and_pass_at_once(prepared, phases, params_of) -> None:
    params = params_of(prepared, phases["entry"])
    closed = np.flatnonzero((np.asarray(params.tape.flags) & BarFlag.CAN_ENTER) == 0)[:50]
    table = entry_outcomes(params, closed.astype(np.int32), ENTRIES)
    assert not table.net_r.any()
    bars = np.arange(table.exit_bar.shape[1])
    assert (table.exit_bar == bars + 1).all()
