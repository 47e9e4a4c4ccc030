"""One account over a few bars written by hand, walked by both simulators, which must agree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from passline.sim import reference
from passline.sim import step as compiled
from passline.sim.jit import sim_jit
from passline.sim.layout import (
    NEVER,
    BarFlag,
    Events,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    PathRule,
    Rules,
    State,
    Tape,
    TargetTest,
    TrailKind,
)

N_BARS = 8
N_TIERS = 4
SMALLEST = -(2**31)
TICK, SIDE, SLIP = 10_000, 2_000, 1
"""10 USD a tick, 2 USD a side, a tick of slippage."""
START, ALLOWANCE = 50_000_000, 2_000_000

USUAL = BarFlag.TRADABLE | BarFlag.CAN_ENTER
Bar = tuple[int, int, int, int]
MARKETS = Markets(*(np.array([x], np.int32) for x in (TICK, SIDE, SLIP, 10, 2)))


class Step(NamedTuple):
    """What one bar made of the account; plain numbers."""

    state: State
    events: Events


def order(kind: OrderKind, qty: int = 1, stop: int = 0, target: int = 0) -> Orders:
    """An order; distances in ticks."""
    return Orders(int(kind), qty, stop, target)


HOLD = order(OrderKind.HOLD)


def rules_of(**changes: int) -> Rules:
    """A wide static floor and no other rule, but for the changes."""
    fields: dict[str, Any] = {
        "start_balance": START,
        "allowance": ALLOWANCE,
        "trail_kind": TrailKind.STATIC,
        "lock_trigger": NEVER,
        "lock_level": 0,
        "target_balance": NEVER,
        "target_test": TargetTest.DAY_CLOSE,
        "limit_kind": LimitKind.NONE,
        "tier_profit": [SMALLEST, *[NEVER] * (N_TIERS - 1)],
        "tier_units": [100] * N_TIERS,
        "tier_daily_limit": [changes.pop("daily_limit", NEVER)] * N_TIERS,
        "tier_latched": 0,
        "min_days": 0,
        "day_profit": SMALLEST,
        "best_day_num": 0,
        "best_day_den": 0,
        "best_day_strict": 0,
        "time_limit_days": NEVER,
        "late_flat_fails": 0,
        "max_stop_per_target": 0,
        "path_rule": PathRule.WORST,
        "target_through": 1,
    }
    return Rules(*(np.array(value, np.int32) for value in (fields | changes).values()))


def tape_of(bars: Sequence[Bar], flags: dict[int, int] | None = None) -> Tape:
    """A tape of one day; the last bar is repeated up to N_BARS."""
    rows = [*bars, *[(bars[-1][3],) * 4] * (N_BARS - len(bars))]
    marks = [int((flags or {}).get(i, USUAL)) for i in range(N_BARS)]
    return Tape(
        *np.array(rows, np.int32).T,
        flags=np.array(marks, np.int32),
        day=np.full(N_BARS, 19_000, np.int32),
        next_day=np.array([19_000] * (N_BARS - 1) + [NEVER], np.int32),
    )


def _plain(record: Any) -> Any:
    return type(record)(*(np.asarray(x).tolist() for x in record))


START_ONE, STEP_ONE = sim_jit(compiled.start), sim_jit(compiled.step)


def walk(
    bars: Sequence[Bar],
    orders: Sequence[Orders],
    rules: Rules | None = None,
    *,
    flags: dict[int, int] | None = None,
) -> list[Step]:
    """Walks an account from the close of the first bar; orders[k] is decided at the close of k."""
    tape, rules = tape_of(bars, flags), rules if rules is not None else rules_of()
    constants = _plain(tape), _plain(MARKETS), _plain(rules)
    mine = START_ONE(tape, MARKETS, rules, jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32))
    twin = reference.start(*constants, bar=0)
    steps = []
    for k in range(len(bars) - 1):
        sent = orders[k] if k < len(orders) else HOLD
        lane = Orders(*(jnp.asarray([x], jnp.int32) for x in sent))
        mine, events = STEP_ONE(tape, MARKETS, rules, mine, lane)
        twin, told = reference.step(*constants, twin, sent)
        ours = Step(*(type(r)(*(int(np.asarray(x)[0]) for x in r)) for r in (mine, events)))
        theirs = Step(*(type(r)(*(int(x) for x in r)) for r in (twin, told)))
        assert ours == theirs
        steps.append(ours)
    return steps
