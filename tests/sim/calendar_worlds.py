"""Random worlds on the real clock: weeks of the exchange's calendar under random rulebooks.

Bars lie around the opens, flat-by times and closes of real sessions (clock changes, early closes,
merged holidays, the exchange's failure), with holes, halts, rolls and strays; the rulebook is drawn
over every field of `passline.rulebook.model` that the simulator knows, and both are compiled as a
user's would be.
"""

import random
from datetime import UTC, date, datetime, time
from typing import NamedTuple

import numpy as np
from strategies import N_MARKETS, World, draw_mills, draw_orders, draw_prices, market_lengths

from passline.market.bars import Bars
from passline.market.calendar import Sessions, load_calendar
from passline.market.clock import DAY_NS, MINUTE_NS
from passline.market.contract import Contract
from passline.market.contracts import find_contract
from passline.rulebook.model import (
    Automation,
    Clock,
    Commission,
    Consistency,
    DailyLimit,
    Days,
    Drawdown,
    Orders,
    Rulebook,
    Target,
    Tier,
)
from passline.sim.compile import (
    Costs,
    compile_markets,
    compile_rules,
    compile_tape,
    flat_by_ns,
    join_tapes,
)
from passline.sim.layout import PathRule

__all__ = ["Scenery", "calendar_world", "draw_book"]

SYMBOLS = ("ES", "MES", "NQ", "YM", "RTY", "GC", "MGC", "CL", "6E", "ZN")
PLACES = {
    "ordinary": (date(2024, 1, 22), date(2024, 5, 13), date(2023, 8, 7)),
    "clock change": (date(2024, 3, 7), date(2023, 3, 9), date(2024, 10, 31), date(2025, 10, 30)),
    "early close": (date(2024, 11, 26), date(2024, 7, 2), date(2024, 12, 23), date(2021, 3, 31)),
    "merged holiday": (date(2024, 1, 11), date(2023, 5, 25), date(2024, 6, 17)),
    "mourning": (date(2025, 1, 7), date(2018, 12, 3)),
    "disrupted": (date(2025, 11, 25),),
    "pause": (date(2021, 6, 22),),
}
"""Trade dates from which a market of a world may be taken, by what they are there for."""
FLAT_BY = (time(16, 59), time(16, 10), time(17, 0), time(12, 0), time(18, 30))
SPAN_NS = 120 * DAY_NS


class Scenery(NamedTuple):
    """What stands beside the bars of a world, for counting; bool [B].

    Attributes:
        is_early: in a session that closes early.
        is_clock_change: in the session before or after a clock change.
        is_roll: first bar of a new contract month.
        is_after_gap: minutes of its session are missing before it.
        is_stray: outside every session.
    """

    is_early: np.ndarray
    is_clock_change: np.ndarray
    is_roll: np.ndarray
    is_after_gap: np.ndarray
    is_stray: np.ndarray


def calendar_world(seed: int, n_bars: int, n_lanes: int, n_steps: int) -> tuple[World, Scenery]:
    """Draws a world on the real clock from a seed; equal shapes for equal sizes."""
    rng = random.Random(seed)
    book = draw_book(rng)
    lengths = market_lengths(rng, n_bars)
    contracts = [find_contract(rng.choice(SYMBOLS)) for _ in range(N_MARKETS)]
    minutes = rng.choice((1, 1, 5, 15))
    markets = [
        _draw_bars(rng, contract, book, minutes, length)
        for contract, length in zip(contracts, lengths, strict=True)
    ]
    tape = join_tapes([compile_tape(bars, book) for bars in markets])
    scenery = Scenery(*(np.concatenate(c) for c in zip(*map(_scenery, markets), strict=True)))
    costs = Costs(
        commission_mills=rng.choice((None, 0, rng.randint(1, 3_000))),
        slippage_ticks=rng.choice((None, 0, rng.randint(1, 3))),
    )
    lane_markets = [rng.randrange(N_MARKETS) for _ in range(n_lanes)]
    first = np.cumsum([0, *lengths])
    bars = [first[m] + rng.randrange(1 + lengths[m] // 2) for m in lane_markets]
    rules = compile_rules(
        book, path_rule=rng.choice(list(PathRule)), target_through=rng.choice((1, 1, 0))
    )
    return World(
        tape=tape.tape,
        markets=compile_markets(contracts, book, costs),
        rules=rules,
        bars=np.array(bars, np.int32),
        lane_markets=np.array(lane_markets, np.int32),
        orders=draw_orders(rng, n_steps, n_lanes),
    ), scenery


# Bars.


def _draw_bars(
    rng: random.Random, contract: Contract, book: Rulebook, minutes: int, n_bars: int
) -> Bars:
    """Draws so many bars of a contract from one place of the calendar on."""
    size = minutes * MINUTE_NS
    day = rng.choice(PLACES[rng.choice(list(PLACES))])
    first = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**9
    sessions = load_calendar(contract.calendar).sessions(first, first + SPAN_NS)
    flat_by = flat_by_ns(sessions, book.clock.flat_by_minute)
    width = rng.choice((3, 5, 9)) * size
    hole = rng.choice((0.0, 0.0, 0.1, 0.4))
    ts: list[int] = []
    starts: list[int] = []
    for i in range(len(sessions)):
        starts.append(len(ts))
        ts += _draw_session(rng, sessions, i, int(flat_by[i]), (size, width, hole))
        if len(ts) >= n_bars:
            break
    assert len(ts) >= n_bars
    starts = [start for start in starts if 0 < start < n_bars]
    rolls = sorted(rng.sample(starts, min(len(starts), rng.choice((0, 0, 1)))))
    prices = np.array(draw_prices(rng, n_bars))
    expiry = np.zeros(n_bars, np.int16)
    for start in rolls:
        prices[start:] += rng.choice((-1, 1)) * rng.randint(20, 200)
        expiry[start:] += 1
    return Bars(
        contract=contract,
        bar_ns=size,
        ts=np.array(ts[:n_bars], np.int64),
        **dict(zip(("open", "high", "low", "close"), prices.astype(np.int32).T, strict=True)),
        volume=np.ones(n_bars, np.int64),
        expiry=expiry,
        expiries=tuple("abc"[: len(rolls) + 1]),
    )


def _draw_session(
    rng: random.Random, sessions: Sessions, i: int, flat_by: int, shape: tuple[int, int, float]
) -> list[int]:
    """Open times of a session's bars around its open, its flat-by time and its close."""
    size, width, hole = shape
    first, stop = int(sessions.open_ns[i]), int(sessions.close_ns[i])
    grid = np.arange(first, stop, size)
    is_near = (grid < first + width) | (grid >= stop - width) | (abs(grid - flat_by) <= width)
    is_paused = (grid >= sessions.pause_start_ns[i]) & (grid < sessions.pause_end_ns[i])
    times: list[int] = grid[is_near & ~is_paused].tolist()
    if rng.random() < 0.3:
        halt = rng.randrange(len(times))
        del times[halt : halt + rng.randint(2, 6)]
    times = [t for t in times if rng.random() >= hole]
    if rng.random() < 0.05:
        times.append(stop + size * rng.randint(0, 2))
    return times


def _scenery(bars: Bars) -> Scenery:
    """Tells what is special about each bar of one market."""
    sessions = load_calendar(bars.contract.calendar).sessions(
        int(bars.ts[0]), int(bars.ts[-1]) + DAY_NS
    )
    at = sessions.locate(bars.ts)
    same = np.r_[False, (at[1:] == at[:-1]) & (at[1:] >= 0)]
    offset = sessions.open_ns % DAY_NS
    changes = np.r_[False, offset[1:] != offset[:-1]]
    near = changes | np.r_[changes[1:], False]
    return Scenery(
        is_early=sessions.is_early[at] & (at >= 0),
        is_clock_change=near[at] & (at >= 0),
        is_roll=np.r_[False, bars.expiry[1:] != bars.expiry[:-1]],
        is_after_gap=same & np.r_[False, np.diff(bars.ts) > bars.bar_ns],
        is_stray=at < 0,
    )


# Rulebooks.


def draw_book(rng: random.Random) -> Rulebook:
    """Draws a rulebook that `rulebook.read` would accept, tight enough to decide something."""
    start = rng.choice((0, 1_000_000, 50_000_000))
    kind = rng.choice(("none", "soft", "hard"))
    target = rng.random() < 0.8
    floor = _draw_drawdown(rng, start)
    return Rulebook(
        id="drawn",
        firm="a firm",
        plan="a plan",
        size_mills=50_000_000,
        stage="evaluation" if target else "funded",
        platform="any",
        as_of=date(2026, 11, 1),
        confidence="low",
        source="drawn",
        start_balance_mills=start,
        automation=Automation(policy="unknown"),
        drawdown=floor,
        tiers=_draw_tiers(rng, kind != "none", floor.allowance_mills),
        tiers_latched=rng.random() < 0.5,
        clock=Clock(
            flat_by=rng.choice(
                (time(16, 59), time(16, 10), time(17, 0), time(12, 0), time(18, 30))
            ),
            no_entry_minutes=rng.choice((0, 1, 3)),
            late_flat=rng.choice(("record", "record", "fail")),
        ),
        time_limit_days=rng.choice((None, None, 1, 4, 20)),
        target=_draw_target(rng, start) if target else None,
        daily_limit=DailyLimit(
            kind=kind,
            amount_mills=None if kind == "none" else draw_mills(rng, 1, floor.allowance_mills),
        ),
        days=Days(
            min_days=rng.choice((0, 0, 1, 2)),
            day_profit_mills=rng.choice((None, 0, draw_mills(rng, 1, 200_000))),
        ),
        consistency=_draw_consistency(rng, "pass" if target else "payout"),
        orders=Orders(max_stop_per_target=rng.choice((None, 1, 5))),
        commissions=tuple(
            Commission(symbol=symbol, side_mills=rng.randint(0, 3_000))
            for symbol in sorted(rng.sample(SYMBOLS, rng.randint(0, 6)))
        ),
    )


def _draw_drawdown(rng: random.Random, start: int) -> Drawdown:
    trail = rng.choice(("static", "intraday", "end_of_day"))
    allowance = draw_mills(rng, 50_000, 6_000_000)
    if trail == "static" or rng.random() < 0.3:
        return Drawdown(trail=trail, allowance_mills=allowance)
    trigger = start + draw_mills(rng, 1, 1_000_000)
    near = max(start - allowance, trigger - allowance + rng.randint(-300_000, 300_000))
    level = rng.choice((near, trigger - 1, trigger - allowance))
    return Drawdown(
        trail=trail,
        allowance_mills=allowance,
        lock_trigger_mills=trigger,
        lock_level_mills=max(start - allowance, min(level, trigger - 1)),
    )


def _draw_tiers(rng: random.Random, has_limit: bool, allowance: int) -> tuple[Tier, ...]:
    profits = [0, *sorted(rng.sample(range(1, 600_000), rng.randint(0, 4)))]
    return tuple(
        Tier(
            from_profit_mills=profit,
            size_units=rng.randint(8, 60),
            daily_limit_mills=draw_mills(rng, 1, 2 * allowance)
            if has_limit and rng.random() < 0.5
            else None,
        )
        for profit in profits
    )


def _draw_target(rng: random.Random, start: int) -> Target:
    balance = start + draw_mills(rng, 20_000, 1_000_000)
    return Target(balance_mills=balance, test=rng.choice(("day_close", "touch")))


def _draw_consistency(rng: random.Random, scope: str) -> tuple[Consistency, ...]:
    if rng.random() < 0.5:
        return ()
    num, den = rng.choice(((1, 2), (11, 20), (3, 10), (1, 3), (999, 1_000)))
    return (
        Consistency(scope=scope, best_day_num=num, best_day_den=den, is_strict=rng.random() < 0.5),
    )
