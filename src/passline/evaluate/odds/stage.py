"""A rulebook and a trader's spells as the arrays that the path engine walks.

Sizes above a tier's limit are cut to the limit: nobody may hold more, so a trader who traded more
would have traded that.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.evaluate.odds.days import SourceDays
from passline.rulebook.model import Rulebook

__all__ = ["NEVER", "PathOrder", "Stage", "make_stage"]

I64 = NDArray[np.int64]

NEVER = 2**60
"""Stands for an amount or a day that is never reached."""


class PathOrder(IntEnum):
    """Which order of a spell's extremes is assumed; indexes the tables of `SourceDays`."""

    WORST = 0
    """The highest that may have been, then the lowest."""
    BEST = 1
    """The lowest that surely was, then the highest."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of an account, and the spells at the size that each of its tiers lets through.

    Attributes:
        book: the rulebook.
        order: order of extremes inside a spell.
        tier_profit: profit from which each tier holds [T].
        tier_limit: daily loss limit of each tier; NEVER for none [T].
        lock_trigger: peak at which the floor stops; NEVER if it does not.
        lock_level: where it then stays.
        n_spells: spells of each source day [S].
        gross: results, at each tier's size, source day and place in the day, flat [T * S * K].
        open_cost: costs at the entry, likewise.
        close_cost: costs at the exit, likewise.
        high: highest open profit, likewise.
        low: lowest open profit, likewise.
        n_places: K, most spells of a day.
        cut_share: share of spells that the first tier cuts.
    """

    book: Rulebook
    order: PathOrder
    tier_profit: I64
    tier_limit: I64
    lock_trigger: int
    lock_level: int
    n_spells: I64
    gross: I64
    open_cost: I64
    close_cost: I64
    high: I64
    low: I64
    n_places: int
    cut_share: float


def make_stage(book: Rulebook, source: SourceDays, order: PathOrder, *, size: float = 1.0) -> Stage:
    """Lays out a stage.

    Args:
        book: an evaluation or a funded stage.
        source: the source days.
        order: order of extremes.
        size: multiple of the size that was traded; money scales with it, rounded to mills.

    Raises:
        ConfigError: the size is not above 0, or money would leave int64.
    """
    largest = max(int(np.abs(part).max()) for part in (source.high_mills, source.low_mills))
    if not 0 < size <= 1000 or largest * size > 2**50:
        raise ConfigError(f"size was {size}; it must lie above 0 and at most 1000.")
    scales = np.stack([_scale(source, tier.size_units, size) for tier in book.tiers])
    counts = np.diff(source.first)
    n_places = max(int(counts.max()), 1)
    owner = np.repeat(np.arange(len(source)), counts)
    slot = owner * n_places + np.arange(len(owner)) - source.first[owner]
    shape = (len(book.tiers), len(source) * n_places)

    def laid(column: I64) -> I64:
        table = np.zeros(shape, np.int64)
        table[:, slot] = np.rint(column * scales).astype(np.int64)
        return table.ravel()

    cost = laid(source.cost_mills)
    kind, flat = book.daily_limit.kind, book.daily_limit.amount_mills
    limits = [
        NEVER if kind == "none" else _first(tier.daily_limit_mills, flat) for tier in book.tiers
    ]
    drawdown = book.drawdown
    return Stage(
        book=book,
        order=order,
        tier_profit=np.asarray(
            [-NEVER, *(tier.from_profit_mills for tier in book.tiers[1:])], np.int64
        ),
        tier_limit=np.asarray(limits, np.int64),
        lock_trigger=_first(drawdown.lock_trigger_mills, None),
        lock_level=_first(drawdown.lock_level_mills, None),
        n_spells=counts.astype(np.int64),
        gross=laid(source.gross_mills),
        open_cost=cost // 2,
        close_cost=cost - cost // 2,
        high=laid(source.high_mills[order]),
        low=laid(source.low_mills[order]),
        n_places=n_places,
        cut_share=float((scales[0] < size).mean()) if scales.size else 0.0,
    )


def _scale(source: SourceDays, limit_units: int, size: float) -> NDArray[np.float64]:
    """Returns the multiple of each spell's size that a tier lets through [n]."""
    allowed = limit_units // source.units
    return np.minimum(size, allowed / source.qty)


def _first(value: int | None, other: int | None) -> int:
    """Returns the first of the two that is known, else NEVER."""
    if value is not None:
        return value
    return NEVER if other is None else other
