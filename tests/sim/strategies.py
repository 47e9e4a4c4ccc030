"""Random worlds for the simulators: tapes, contracts, rulebooks and order scripts.

A world is drawn with a `random.Random`, so that the same code serves seeded worlds
(`random_world`) and Hypothesis (`worlds`, which hands in Hypothesis's own Random). Amounts are
small against int32 and rules are tight, so that accounts pass, breach and time out often.
"""

import random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from passline.sim.compile import N_TIERS
from passline.sim.layout import (
    NEVER,
    BarFlag,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    PathRule,
    Rules,
    Tape,
    TargetTest,
    TrailKind,
)

SMALLEST = -(2**31)
N_MARKETS = 3
_FLIPS = (BarFlag.SESSION_START, BarFlag.TRADABLE, BarFlag.FLAT, BarFlag.CAN_ENTER)
TICK_MILLS = (500, 1_000, 1_250, 5_000, 6_250, 10_000, 12_500, 15_625)


class World(NamedTuple):
    """Everything a batch of accounts needs, as int32 arrays of fixed shapes.

    Attributes:
        tape: bars of all markets, one market after the other [B].
        markets: constants [M].
        rules: the rulebook, scalars and [K].
        bars: where each lane starts [L].
        lane_markets: the market of each lane [L].
        orders: an order script [T, L].
    """

    tape: Tape
    markets: Markets
    rules: Rules
    bars: np.ndarray
    lane_markets: np.ndarray
    orders: Orders


class _Slot(NamedTuple):
    """One bar before it has prices."""

    day: int
    flags: int


def random_world(seed: int, n_bars: int = 240, n_lanes: int = 64, n_steps: int = 80) -> World:
    """Draws a world from a seed; equal shapes for equal sizes."""
    return draw_world(random.Random(seed), n_bars, n_lanes, n_steps)


@st.composite
def worlds(draw: Any, n_bars: int = 20, n_lanes: int = 1, n_steps: int = 6) -> World:
    """Small worlds that Hypothesis can shrink."""
    rng = draw(st.randoms(use_true_random=False))
    return draw_world(rng, n_bars, n_lanes, n_steps)


def draw_world(rng: random.Random, n_bars: int, n_lanes: int, n_steps: int) -> World:
    """Draws a world with any generator that has the methods of `random.Random`."""
    lengths = market_lengths(rng, n_bars)
    first_bars = np.cumsum([0, *lengths])
    parts = [draw_tape(rng, length) for length in lengths]
    tape = Tape(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    lane_markets = [rng.randrange(N_MARKETS) for _ in range(n_lanes)]
    bars = [
        first_bars[market]
        + rng.randrange(max(1, min(lengths[market] - 1, 1 + lengths[market] // 2)))
        for market in lane_markets
    ]
    return World(
        tape=tape,
        markets=draw_markets(rng),
        rules=draw_rules(rng),
        bars=np.array(bars, np.int32),
        lane_markets=np.array(lane_markets, np.int32),
        orders=draw_orders(rng, n_steps, n_lanes),
    )


def market_lengths(rng: random.Random, n_bars: int) -> list[int]:
    """Splits the bars among the markets, at least a fifth each."""
    first = rng.randint(n_bars // 5, 2 * n_bars // 5)
    second = rng.randint(n_bars // 5, 2 * n_bars // 5)
    return [first, second, n_bars - first - second]


# Bars.


def draw_tape(rng: random.Random, n_bars: int) -> Tape:
    """Draws the bars of one market."""
    slots = _draw_slots(rng, n_bars)
    if rng.random() < 0.15:
        slots = _spoil_flags(rng, slots)
    prices = draw_prices(rng, n_bars)
    days = [slot.day for slot in slots]
    return Tape(
        *np.array(prices, np.int32).T,
        flags=np.array([slot.flags for slot in slots], np.int32),
        day=np.array(days, np.int32),
        next_day=np.array([*days[1:], NEVER], np.int32),
    )


def _draw_slots(rng: random.Random, n_bars: int) -> list[_Slot]:
    """Lays out days and sessions until the bars are used up; the last session may be cut short."""
    slots: list[_Slot] = []
    day = 19_000
    is_cut_known = rng.random() < 0.5
    longest = rng.choice((6, 14, 30))
    while len(slots) < n_bars:
        sessions = [_draw_session(rng, longest) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if is_cut_known:
            sessions = _cut(sessions, n_bars - len(slots))
        slots += [_Slot(day, flags) for flags in _flag_day(sessions)]
        day += rng.choice((1, 1, 1, 3, 4))
    return slots[:n_bars]


def _draw_session(rng: random.Random, longest: int) -> list[int]:
    """Clock flags of the bars of one session; minutes without a trade have no bar."""
    n_minutes = rng.randint(2, longest)
    flat_by = 0 if rng.random() < 0.1 else max(1, n_minutes - rng.randint(0, 2))
    no_entry = rng.choice((0, 0, 1, 3))
    hole = rng.choice((0.0, 0.0, 0.2, 0.5))
    flags = []
    for minute in range(n_minutes):
        if rng.random() < hole:
            continue
        is_tradable = minute + 1 <= flat_by
        can_enter = minute + 2 <= min(flat_by - no_entry, n_minutes)
        flags.append(BarFlag.TRADABLE * is_tradable | BarFlag.CAN_ENTER * can_enter)
    return flags


def _cut(sessions: list[list[int]], n_bars: int) -> list[list[int]]:
    """Drops what lies behind the end of the tape, before FLAT and DAY_CLOSE are given out."""
    kept = []
    for session in sessions:
        kept.append(session[:n_bars])
        n_bars -= len(kept[-1])
    return kept


def _flag_day(sessions: list[list[int]]) -> list[int]:
    """Gives out SESSION_START, FLAT and DAY_CLOSE within a day."""
    flags: list[int] = []
    settled = -1
    for session in (session for session in sessions if session):
        begin = len(flags)
        flags += session
        flags[begin] |= BarFlag.SESSION_START
        tradable = [i for i in range(begin, len(flags)) if flags[i] & BarFlag.TRADABLE]
        settled = tradable[-1] if tradable else len(flags) - 1
        if tradable:
            flags[settled] |= BarFlag.FLAT
    if flags:
        flags[settled] |= BarFlag.DAY_CLOSE
    return flags


def _spoil_flags(rng: random.Random, slots: list[_Slot]) -> list[_Slot]:
    """Flips flags that no calendar would give, up to DAY_CLOSE, which stays where it is."""
    spoiled = []
    settled_day = -1
    for slot in slots:
        if slot.flags & BarFlag.DAY_CLOSE:
            settled_day = slot.day
        flip = rng.choice((0, 0, 0, *_FLIPS)) if slot.day != settled_day else 0
        spoiled.append(_Slot(slot.day, slot.flags ^ flip))
    return spoiled


def draw_prices(rng: random.Random, n_bars: int) -> list[tuple[int, int, int, int]]:
    """A random walk with gaps, wide bars, bars without range and locked limits."""
    close = rng.choice((40, 5_000))
    width = rng.choice((2, 5, 12, 25))
    bars = []
    locked = 0
    for _ in range(n_bars):
        if locked == 0 and rng.random() < 0.02:
            locked, close = rng.randint(1, 4), close + rng.choice((-1, 1)) * rng.randint(20, 60)
        if locked > 0:
            locked -= 1
            bars.append((close,) * 4)
            continue
        bars.append(_draw_bar(rng, close, width))
        close = bars[-1][3]
    return bars


def _draw_bar(rng: random.Random, close: int, width: int) -> tuple[int, int, int, int]:
    """One bar after a close."""
    gap = rng.choice((0, 0, 0, 1, -1, rng.randint(-3 * width, 3 * width)))
    size = rng.choice((0, 1, width, width, width, 3 * width))
    first = close + gap
    last = first + rng.randint(-size, size)
    high = max(first, last) + rng.choice((0, rng.randint(0, size)))
    low = min(first, last) - rng.choice((0, rng.randint(0, size)))
    return first, high, low, last


# Contracts, rulebooks and orders.


def draw_markets(rng: random.Random) -> Markets:
    """Draws the constants of the markets."""
    tick_mills = [rng.choice(TICK_MILLS) for _ in range(N_MARKETS)]
    commission = [rng.choice((0, 370, 1_990, rng.randint(0, 3_000))) for _ in range(N_MARKETS)]
    slippage = [rng.randint(0, 3) for _ in range(N_MARKETS)]
    breakeven = [
        -(-2 * paid // tick) + slipped
        for tick, paid, slipped in zip(tick_mills, commission, slippage, strict=True)
    ]
    units = [rng.choice((1, 10)) for _ in range(N_MARKETS)]
    columns = (tick_mills, commission, slippage, units, breakeven)
    return Markets(*(np.array(column, np.int32) for column in columns))


def draw_rules(rng: random.Random) -> Rules:
    """Draws a rulebook, tight enough that it decides something."""
    start_balance = rng.choice((0, 1_000_000, 50_000_000))
    allowance = draw_mills(rng, 50_000, 6_000_000)
    target = draw_mills(rng, 20_000, 1_000_000)
    trigger = rng.choice((NEVER, start_balance + draw_mills(rng, 1, 1_000_000)))
    shift = rng.choice(
        (0, 0, 0, rng.randint(-300_000, 300_000), allowance + rng.randint(0, 50_000))
    )
    n_tiers = rng.randint(1, 4)
    profits = sorted(rng.randint(-300_000, 600_000) for _ in range(n_tiers - 1))
    unused = [NEVER] * (N_TIERS - n_tiers)
    fields = Rules(
        start_balance=start_balance,
        allowance=allowance,
        trail_kind=rng.choice(list(TrailKind)),
        lock_trigger=trigger,
        lock_level=0 if trigger == NEVER else trigger - allowance + shift,
        target_balance=rng.choice((NEVER, start_balance + target, start_balance + target)),
        target_test=rng.choice(list(TargetTest)),
        limit_kind=rng.choice(list(LimitKind)),
        tier_profit=[SMALLEST, *profits, *unused],
        tier_units=[rng.randint(8, 60) for _ in range(N_TIERS)],
        tier_daily_limit=[_daily_limit(rng, allowance) for _ in range(N_TIERS)],
        tier_latched=rng.randint(0, 1),
        min_days=rng.choice((0, 0, 1, 3)),
        day_profit=rng.choice((SMALLEST, 0, draw_mills(rng, 1, 200_000))),
        best_day_num=rng.choice((30, 50, 55)),
        best_day_den=rng.choice((0, 0, 100)),
        best_day_strict=rng.randint(0, 1),
        time_limit_days=rng.choice((NEVER, NEVER, 1, 5, 12)),
        late_flat_fails=int(rng.random() < 0.3),
        max_stop_per_target=rng.choice((0, 0, 1, 5)),
        path_rule=rng.choice(list(PathRule)),
        target_through=rng.choice((1, 1, 0)),
    )
    return Rules(*(np.array(field, np.int32) for field in fields))


def draw_mills(rng: random.Random, low: int, high: int) -> int:
    """An amount whose order of magnitude is drawn first; sometimes round."""
    ceiling = rng.choice([bound for bound in (high // 100, high // 10, high) if bound > low])
    amount = rng.randint(low, ceiling)
    return max(low, amount - amount % rng.choice((1, 500, 12_500)))


def _daily_limit(rng: random.Random, allowance: int) -> int:
    """A daily loss limit, mostly smaller than the allowance."""
    return rng.choice((NEVER, rng.randint(1, 2 * allowance), draw_mills(rng, 1, allowance)))


def draw_orders(rng: random.Random, n_steps: int, n_lanes: int) -> Orders:
    """Draws an order script [T, L] that knows nothing of the accounts it is sent to."""
    kinds = list(OrderKind)
    weights = (30, 5, 5, 6, 3, 15, 15)
    shape = (n_steps, n_lanes)
    n_orders = n_steps * n_lanes
    columns = (
        rng.choices(kinds, weights, k=n_orders),
        rng.choices((1, 2, 3, 6, 0, -1, 50), (12, 6, 4, 3, 1, 1, 1), k=n_orders),
        [_distance(rng) for _ in range(n_orders)],
        [_distance(rng) for _ in range(n_orders)],
    )
    return Orders(*(np.array(column, np.int32).reshape(shape) for column in columns))


def _distance(rng: random.Random) -> int:
    """A distance of a stop or a target, ticks; 0 for none."""
    return rng.choice((0, 1, 2, rng.randint(1, 12), rng.randint(1, 12), rng.randint(1, 60)))
