"""Where episodes start and how long they last: the mix of a phase, drawn lane by lane.

A component of the mix is a row of data: a pool of start bars, a length, and how far along the
account already is. Training meets what an evaluation meets because whole evaluations and the
places where accounts die are components like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.sim.compile import CompiledTape
from passline.sim.division import floor_divide
from passline.sim.layout import (
    NEVER,
    NO_PRICE,
    AnyArray,
    BarFlag,
    LimitKind,
    Markets,
    Rules,
    State,
    Tape,
)
from passline.sim.layout import TrailKind as Trail
from passline.sim.rules import follow_floor, pick_tier, raise_peak
from passline.sim.step import start
from passline.task.actions import Bracket, distances, sizes

__all__ = ["POOLS", "Component", "Mix", "build_mix", "draw_episodes", "resampled", "start_pools"]

I32 = NDArray[np.int32]

POOLS = ("any", "day_start", "before_flat", "short_day", "roll_week")
"""Pools of start bars: any tradable bar; the last bar before a session; up to an hour before
flat-by; sessions that close early; the five sessions around a roll."""

N_DRAWS = 11
N_LEVELS = 2**23
"""Numbers that one draw may be."""
N_COMPONENTS = 8
"""Rows of every mix; unused ones are never drawn, so that all phases share one compilation."""
ALL_BARS = 2**30


@dataclass(frozen=True, kw_only=True)
class Component:
    """One kind of episode in a phase's mix.

    Attributes:
        name: for telemetry.
        weight: share of the episodes, relative to the other components.
        pool: where it starts, one of POOLS.
        minutes: shortest and longest length in minutes of bars; (0, 0): until the account ends.
        progress: lowest and highest share of the way to the target already made.
        giveback: lowest and highest share of the allowance that equity lay below its peak as the
            day began.
        position: probability of starting with an open position.
        day_loss: lowest and highest share of the daily limit, or of the room to the floor where
            that is less, already lost that day.
    """

    name: str
    weight: float
    pool: str = "any"
    minutes: tuple[int, int] = (0, 0)
    progress: tuple[float, float] = (0.0, 0.0)
    giveback: tuple[float, float] = (0.0, 0.0)
    position: float = 0.0
    day_loss: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuses values that no episode could have."""
        if self.pool not in POOLS:
            raise ConfigError(
                f"mix.{self.name}: pool was '{self.pool}'; allowed: {', '.join(POOLS)}."
            )
        if self.weight < 0:
            raise ConfigError(f"mix.{self.name}: weight was {self.weight}; it must be at least 0.")
        if not 0 <= self.position <= 1:
            raise ConfigError(
                f"mix.{self.name}: position was {self.position}; allowed: 0 to 1, a probability."
            )
        for field in ("minutes", "progress", "giveback", "day_loss"):
            bounds = getattr(self, field)
            if not isinstance(bounds, tuple) or len(bounds) != 2:
                raise ConfigError(
                    f"mix.{self.name}: {field} was {bounds}; it needs two numbers, lowest first."
                )
            top = ALL_BARS if field == "minutes" else 1
            is_ending = field != "minutes" or (bounds[0] == 0) == (bounds[1] == 0)
            if not 0 <= bounds[0] <= bounds[1] < top or not is_ending:
                allowed = "above 0, or 0 twice" if field == "minutes" else "0 to below 1"
                raise ConfigError(
                    f"mix.{self.name}: {field} was {list(bounds)}; allowed: {allowed}, lowest "
                    "first."
                )


class Mix(NamedTuple):
    """A phase's components as arrays; C components, P start bars in all pools, B bars.

    Attributes:
        cumulative: cumulative share of the components [C].
        starts: start bars of all pools, one pool after the other, filled up to a multiple of B so
            that every cut of the same bars shares one compilation, int32 [P].
        offset: where the component's pool begins in `starts` [C].
        n_starts: how many starts it has, at least 1 [C].
        bars: shortest and longest length, bars [C, 2].
        progress: see Component [C, 2].
        giveback: see Component [C, 2].
        position: probability [C].
        day_loss: see Component [C, 2].
        segment_end: last bar of the stretch that each bar belongs to, int32 [B].
    """

    cumulative: AnyArray
    starts: AnyArray
    offset: AnyArray
    n_starts: AnyArray
    bars: AnyArray
    progress: AnyArray
    giveback: AnyArray
    position: AnyArray
    day_loss: AnyArray
    segment_end: AnyArray


def start_pools(
    compiled: CompiledTape, rolls: I32, segments: Sequence[tuple[int, int]]
) -> list[I32]:
    """Returns the start bars of each pool of POOLS inside the training segments.

    Args:
        compiled: tape of all markets.
        rolls: bars that begin another contract month.
        segments: half-open bar ranges that may be trained on.

    Raises:
        ConfigError: if the segments hold no tradable bar.
    """
    tape = compiled.tape
    inside = np.zeros(len(compiled.ts), bool)
    for first, stop in segments:
        inside[first : stop - 2] = True
    is_open = (tape.flags & BarFlag.CAN_ENTER) != 0
    before_session = np.r_[(tape.flags[1:] & BarFlag.SESSION_START) != 0, False]
    session_start = np.flatnonzero((tape.flags & BarFlag.SESSION_START) != 0)
    is_short = is_short_day(compiled)
    near_roll = np.zeros(len(inside), bool)
    for bar in rolls:
        at = np.searchsorted(session_start, bar)
        near_roll[
            session_start[max(at - 3, 0)] : session_start[min(at + 2, len(session_start) - 1)]
        ] = True
    tradable = (tape.flags & BarFlag.TRADABLE) != 0
    pools = [
        is_open,
        before_session,
        tradable & (compiled.minutes_to_flat > 0) & (compiled.minutes_to_flat <= 60),
        tradable & is_short,
        tradable & near_roll,
    ]
    bars = [np.flatnonzero(pool & inside).astype(np.int32) for pool in pools]
    if not len(bars[0]):
        raise ConfigError("the training range holds no bar in which an entry is allowed.")
    return [pool if len(pool) else bars[0] for pool in bars]


def resampled(pool: I32, weights: NDArray[np.float64]) -> I32:
    """Returns as many starts, each bar as often as its weight asks, in order (systematic sampling).

    Args:
        pool: start bars [P], ascending.
        weights: relative weight of every bar of the tape [B]; with a sum of 0 the pool stays.
    """
    edges = np.cumsum(weights[pool])
    if edges[-1] <= 0:
        return pool
    at = (np.arange(len(pool)) + 0.5) / len(pool) * edges[-1]
    return pool[np.searchsorted(edges, at)]


def is_short_day(compiled: CompiledTape) -> NDArray[np.bool_]:
    """Tells which bars lie in sessions that are flat two hours or more before the usual time."""
    edges = np.flatnonzero(np.r_[True, np.diff(compiled.session) != 0])
    usual = np.median(compiled.session_minutes[edges])
    return np.asarray(compiled.session_minutes < usual - 120)


def build_mix(
    components: Sequence[Component],
    pools: Sequence[I32],
    segments: Sequence[tuple[int, int]],
    n_bars: int,
    bar_minutes: float,
) -> Mix:
    """Lays a phase's components out as arrays (NumPy; the caller moves them to the device)."""
    if len(components) > N_COMPONENTS:
        raise ConfigError(f"the mix has {len(components)} components; at most {N_COMPONENTS} fit.")
    unused = Component(name="unused", weight=0.0)
    components = [*components, *[unused] * (N_COMPONENTS - len(components))]
    weights = np.array([c.weight for c in components], np.float64)
    if weights.sum() <= 0:
        raise ConfigError("a mix needs at least one component with a weight above 0.")
    offsets = np.cumsum([0, *[len(p) for p in pools]])
    which = [POOLS.index(c.pool) for c in components]
    starts = np.concatenate(list(pools)).astype(np.int32)
    segment_end = np.zeros(n_bars, np.int32)
    for first, stop in segments:
        segment_end[first:stop] = stop - 1

    def bars_of(minutes: int) -> int:
        return ALL_BARS if minutes == 0 else max(int(minutes / bar_minutes), 1)

    return Mix(
        cumulative=(np.cumsum(weights) / weights.sum()).astype(np.float32),
        starts=np.pad(starts, (0, -len(starts) % n_bars)),
        offset=offsets[which].astype(np.int32),
        n_starts=np.array([len(pools[i]) for i in which], np.int32),
        bars=np.array([[bars_of(m) for m in c.minutes] for c in components], np.int32),
        progress=np.array([c.progress for c in components], np.float32),
        giveback=np.array([c.giveback for c in components], np.float32),
        position=np.array([c.position for c in components], np.float32),
        day_loss=np.array([c.day_loss for c in components], np.float32),
        segment_end=segment_end,
    )


def draw_episodes(
    tape: Tape,
    markets: Markets,
    rules: Rules,
    bracket: Bracket,
    mix: Mix,
    atr: Array,
    market: Array,
    u: Array,
) -> tuple[State, Array, Array]:
    """Starts one episode in every lane.

    Args:
        tape: bars [B].
        markets: constants [M].
        rules: the rulebook of the phase.
        bracket: of the phase.
        mix: the phase's components.
        atr: average true range at each close, ticks [B].
        market: index of the market of each bar [B].
        u: draws from [0, 1), float32 [N_DRAWS, L].

    Returns:
        (state [L], last bar of the episode [L], component [L]).
    """
    component = jnp.sum(u[0] >= mix.cumulative[:-1, None], axis=0, dtype=jnp.int32)
    rank = draw_rank(u[1], u[9], mix.n_starts[component])
    bar = mix.starts[mix.offset[component] + rank]
    shortest, longest = mix.bars[component, 0], mix.bars[component, 1]
    length = shortest + (u[2] * (longest - shortest).astype(jnp.float32)).astype(jnp.int32)
    end = jnp.minimum(bar + length, mix.segment_end[bar])
    state = start(tape, markets, rules, bar, market[bar])
    state = advance_account(state, rules, bracket, mix, component, u)
    state = open_position(state, tape, markets, rules, bracket, mix, component, atr[bar], u)
    return state, end, component


def draw_rank(u: Array, finer: Array, n: Array) -> Array:
    """Returns one of 0..n-1, int32 [L]; `finer` tells those apart that one draw does not."""
    rank = (u * n).astype(jnp.int32) + (finer * (n / N_LEVELS)).astype(jnp.int32)
    return jnp.minimum(rank, n - 1)


def between(bounds: Array, component: Array, u: Array) -> Array:
    """Returns low + u * (high - low) of each lane's component [L]."""
    low, high = bounds[component, 0], bounds[component, 1]
    return low + u * (high - low)


def mills_of(fraction: Array, unit: Array) -> Array:
    """Returns a share of an amount in whole mills, exact enough for any amount below 2**31."""
    permille = jnp.round(fraction * 1000.0).astype(jnp.int32)
    return unit // 1000 * permille


def advance_account(
    state: State, rules: Rules, bracket: Bracket, mix: Mix, component: Array, u: Array
) -> State:
    """Moves fresh accounts along as the component says: progress, giveback, loss of the day.

    What is lost today comes on top of what was given back before, and leaves part of the room to
    the floor; tier and daily limit are those of the balance that the day began with. The best day
    so far made between an even share of the profit and twice that.
    """
    unit = bracket.unit_mills
    way = jnp.where(rules.target_balance == NEVER, unit, rules.target_balance - rules.start_balance)
    made = mills_of(between(mix.progress, component, u[3]), way)
    given = mills_of(between(mix.giveback, component, u[4]), unit)
    has_moved = (made > 0) | (given > 0)
    peak = rules.start_balance + made
    begun = peak - given
    trails = rules.trail_kind != Trail.STATIC
    floor, is_locked = follow_floor(rules, peak, state.floor, state.is_locked)
    tier, size_units, daily_limit = pick_tier(rules, begun - rules.start_balance, state.tier)
    limit = jnp.where(has_limit(rules, daily_limit), daily_limit, unit)
    lost = mills_of(between(mix.day_loss, component, u[5]), jnp.minimum(limit, unit - given))
    n_days = jnp.where(has_moved, rules.min_days, state.n_days)
    profit = jnp.maximum(begun - rules.start_balance, 0)
    n_counted = jnp.maximum(n_days, 1)
    even = floor_divide(profit + n_counted - 1, n_counted)
    return state._replace(
        balance=begun - lost,
        peak=jnp.where(trails, peak, state.peak),
        floor=jnp.where(trails, floor, state.floor),
        is_locked=jnp.where(trails, is_locked, state.is_locked),
        tier=tier,
        size_units=size_units,
        daily_limit=daily_limit,
        day_balance=begun,
        n_days=n_days,
        best_day=jnp.minimum(even + mills_of(u[10], even), profit),
        has_traded=state.has_traded | has_moved | (lost > 0),
    )


def has_limit(rules: Rules, daily_limit: Array) -> Array:
    """Tells whether a daily limit is in force [L]."""
    return (rules.limit_kind != LimitKind.NONE) & (daily_limit != NEVER)


def open_position(
    state: State,
    tape: Tape,
    markets: Markets,
    rules: Rules,
    bracket: Bracket,
    mix: Mix,
    component: Array,
    atr: Array,
    u: Array,
) -> State:
    """Gives some lanes a position with its bracket, entered between 0.9 R below and 1.5 R above.

    The equity stays what `advance_account` made it, so the open P&L is already in it, and so is the
    commission of the entry. The balance before it lay above the floor and within the daily limit,
    and an intraday peak has seen it.
    """
    close = tape.close[state.bar]
    stop, target = distances(bracket, atr)
    tick_mills = markets.tick_mills[state.market]
    limit = jnp.maximum(floor_divide(state.size_units, markets.size_units[state.market]), 1)
    contracts = jnp.minimum(sizes(bracket, stop, tick_mills)[0], limit)
    side = jnp.where(u[7] < 0.5, 1, -1)
    ahead = jnp.round((u[8] * 2.4 - 0.9) * stop.astype(jnp.float32)).astype(jnp.int32)
    ahead = jnp.clip(ahead, 1 - stop, target - 1)
    pnl = contracts * ahead * tick_mills
    realized = state.balance - pnl
    commission = contracts * markets.commission_mills[state.market]
    everywhere = jnp.ones_like(state.is_locked)
    peak, floor, is_locked = raise_peak(
        rules, state.peak, state.floor, state.is_locked, realized, everywhere
    )
    is_limited = has_limit(rules, state.daily_limit)
    lowest = jnp.where(
        is_limited, state.day_balance - jnp.where(is_limited, state.daily_limit, 0), floor
    )
    may_hold = (tape.flags[state.bar] & (BarFlag.TRADABLE | BarFlag.FLAT)) == BarFlag.TRADABLE
    opens = (u[6] < mix.position[component]) & may_hold
    opens &= state.balance - jnp.abs(pnl) > jnp.maximum(floor, lowest)
    entry = close - side * ahead

    def given(new: Array, old: Array) -> Array:
        return jnp.where(opens, new, old)

    return state._replace(
        balance=given(realized, state.balance),
        peak=given(peak, state.peak),
        floor=given(floor, state.floor),
        is_locked=given(is_locked, state.is_locked),
        commissions=given(state.commissions + commission, state.commissions),
        qty=given(side * contracts, state.qty),
        entry=given(entry, state.entry),
        stop=given(entry - side * stop, jnp.full_like(entry, NO_PRICE)),
        target=given(entry + side * target, jnp.full_like(entry, NO_PRICE)),
        trail_ticks=given(stop, state.trail_ticks),
        entry_bar=given(state.bar, state.entry_bar),
        trip_balance=given(realized + commission, state.trip_balance),
        trip_risk=given(contracts * stop * tick_mills, state.trip_risk),
        trip_low=given(jnp.minimum(pnl, 0), state.trip_low),
        trip_high=given(jnp.maximum(pnl, 0), state.trip_high),
        has_traded=state.has_traded | opens,
    )
