"""Order scripts that see the account and the next bar, and aim at the edges of the rules.

An adversary is called at the close of a bar with plain Python numbers and may look at the bar that
follows, which no agent may: so it hits levels on the tick. Each one is a plain function; `LIVE`
names them all.
"""

import random
from collections.abc import Callable
from typing import Any

from passline.sim.layout import (
    NEVER,
    BarFlag,
    LimitKind,
    Markets,
    OrderKind,
    Orders,
    Rules,
    State,
    Tape,
)

__all__ = ["LIVE", "Adversary", "Scene", "decide"]


class Scene:
    """What an adversary sees: the account, its market and the next bar."""

    def __init__(
        self, tape: Tape, markets: Markets, rules: Rules, state: State, rng: random.Random
    ) -> None:
        self.rules, self.state, self.rng = rules, state, rng
        self.following = min(state.bar + 1, len(tape.close) - 1)
        self.flags, self.next_flags = tape.flags[state.bar], tape.flags[self.following]
        self.open, self.close = tape.open[self.following], tape.close[self.following]
        self.tick = markets.tick_mills[state.market]
        self.commission = markets.commission_mills[state.market]
        self.slip = markets.slippage_ticks[state.market]
        self.units = markets.size_units[state.market]
        self.largest = max(1, state.size_units // self.units)

    def ticks_to(self, level: int, qty: int) -> int:
        """Ticks against a position, entered now, at which its equity first touches a level."""
        room = self.state.balance - qty * self.commission - level
        return max(0, -(-room // (qty * self.tick)))


Adversary = Callable[[Scene], Orders]
HOLD = Orders(int(OrderKind.HOLD), 1, 0, 0)


def _entry(scene: Scene, qty: int = 1, stop: int = 0, target: int = 0) -> Orders:
    kind = scene.rng.choice((OrderKind.LONG, OrderKind.SHORT))
    return Orders(int(kind), qty, stop, target)


def _order(kind: OrderKind) -> Orders:
    return Orders(int(kind), 1, 0, 0)


def last_allowed_bar(scene: Scene) -> Orders:
    """Enters where the clock allows it for the last time, and never closes."""
    if scene.flags & BarFlag.CAN_ENTER and not scene.next_flags & BarFlag.CAN_ENTER:
        return _entry(scene, scene.rng.choice((1, scene.largest)))
    return HOLD


def into_flat_by(scene: Scene) -> Orders:
    """Enters at once, without a stop, and holds into flat-by day after day."""
    return _entry(scene) if scene.state.qty == 0 else HOLD


def flip(scene: Scene) -> Orders:
    """Asks for the other side while in a position (refused), closes, and enters again."""
    state = scene.state
    if state.qty == 0:
        return _entry(scene, stop=5, target=5)
    against = OrderKind.SHORT if state.qty > 0 else OrderKind.LONG
    return _order(scene.rng.choice((against, OrderKind.CLOSE)))


def stop_at_floor(scene: Scene) -> Orders:
    """Puts the stop on the floor, or a tick to either side, at the largest size."""
    if scene.state.qty != 0:
        return HOLD
    ticks = scene.ticks_to(scene.state.floor, scene.largest)
    return _entry(scene, scene.largest, max(0, ticks + scene.rng.choice((-1, 0, 1))))


def stop_at_limit(scene: Scene) -> Orders:
    """Puts the stop on the daily loss limit, or a tick to either side."""
    state, rules = scene.state, scene.rules
    if state.qty != 0:
        return HOLD
    if rules.limit_kind == LimitKind.NONE or state.daily_limit == NEVER:
        return _entry(scene, scene.largest, 3, 3)
    ticks = scene.ticks_to(state.day_balance - state.daily_limit, scene.largest)
    return _entry(scene, scene.largest, max(0, ticks + scene.rng.choice((-1, 0, 1))))


def target_at_target(scene: Scene) -> Orders:
    """Puts the order's target where the account's target would be met, or a tick beside it."""
    state, rules = scene.state, scene.rules
    if state.qty != 0:
        return HOLD
    qty = scene.rng.choice((1, scene.largest))
    if rules.target_balance == NEVER:
        return _entry(scene, qty, 0, 2)
    missing = rules.target_balance - state.balance + 2 * qty * scene.commission
    ticks = -(-missing // (qty * scene.tick)) + scene.rng.choice((-1, 0, 1, scene.slip))
    return _entry(scene, qty, 0, max(0, ticks))


def tight_bracket(scene: Scene) -> Orders:
    """Lives between a stop and a target of a tick or two, so that one bar meets both."""
    near = scene.rng.choice((1, 2))
    return _entry(scene, 1, near, near) if scene.state.qty == 0 else HOLD


def manager(scene: Scene) -> Orders:
    """Never leaves a position alone: trails, stops trailing, goes to breakeven."""
    if scene.state.qty == 0:
        return _entry(scene, stop=scene.rng.choice((0, 2, 8)))
    kinds = (OrderKind.TRAIL_ON, OrderKind.TRAIL_OFF, OrderKind.BREAKEVEN)
    return _order(scene.rng.choice(kinds))


def masked(scene: Scene) -> Orders:
    """Sends what a mask would forbid: in every state the orders that do not fit it."""
    state, rng = scene.state, scene.rng
    if state.qty != 0 and rng.random() < 0.9:
        return rng.choice((_entry(scene), _entry(scene, 0), _order(OrderKind.TRAIL_OFF)))
    no_position = [_order(kind) for kind in (OrderKind.CLOSE, OrderKind.BREAKEVEN)]
    no_position += [_order(kind) for kind in (OrderKind.TRAIL_ON, OrderKind.TRAIL_OFF)]
    wrong = (_entry(scene, 0), _entry(scene, -1), _entry(scene, scene.largest + 1), *no_position)
    if scene.flags & BarFlag.CAN_ENTER and rng.random() < 0.2:
        return _entry(scene, stop=4)
    return rng.choice(wrong)


def at_the_edge(scene: Scene) -> Orders:
    """Enters at exactly the size and the stop-to-target ratio allowed, or one beyond."""
    if scene.state.qty != 0:
        return _order(scene.rng.choice((OrderKind.HOLD, OrderKind.CLOSE)))
    target = scene.rng.randint(1, 4)
    ratio = scene.rules.max_stop_per_target or 3
    beyond = scene.rng.choice(((0, 0), (0, 1), (1, 0)))
    return _entry(scene, scene.largest + beyond[0], ratio * target + beyond[1], target)


def hindsight(scene: Scene) -> Orders:
    """Trades the next bar in its own direction, so that targets, tiers and locks are reached."""
    if scene.state.qty != 0:
        return _order(scene.rng.choice((OrderKind.HOLD, OrderKind.CLOSE)))
    if scene.close == scene.open:
        return HOLD
    kind = OrderKind.LONG if scene.close > scene.open else OrderKind.SHORT
    return Orders(int(kind), scene.largest, 0, scene.rng.choice((0, abs(scene.close - scene.open))))


LIVE: dict[str, Adversary] = {
    adversary.__name__: adversary
    for adversary in (
        last_allowed_bar,
        into_flat_by,
        flip,
        stop_at_floor,
        stop_at_limit,
        target_at_target,
        tight_bracket,
        manager,
        masked,
        at_the_edge,
        hindsight,
    )
}


def decide(name: str, *scene: Any) -> Orders:
    """Returns the order of a named adversary."""
    return LIVE[name](Scene(*scene))
