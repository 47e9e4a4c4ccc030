"""Whole lives: an evaluation, and the funded stage of those that pass, over drawn days.

Lives are walked in portions on all processors, large enough for NumPy to leave the lock; draws
depend on the lives' numbers alone, so neither changes a result.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.odds.days import SourceDays
from passline.evaluate.odds.draws import Draws
from passline.evaluate.odds.lives import Limits, Results, join_results, walk_stage
from passline.evaluate.odds.stage import PathOrder, Stage, make_stage
from passline.rulebook.model import Rulebook

__all__ = ["Lives", "Plan", "live"]

I64 = NDArray[np.int64]

_PORTION = 50_000
_FUNDED_DAY = 2**20
"""Running number of the first day of the funded stage in the draws."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an account goes through.

    Attributes:
        evaluation: first stage.
        funded: stage after a pass; None if there is none.
        cap_days: trading days walked in an evaluation that has no time limit.
        horizon_days: trading days walked in the funded stage.
        keep_mills: cushion that payouts leave above the floor.
    """

    evaluation: Rulebook
    funded: Rulebook | None
    cap_days: int
    horizon_days: int
    keep_mills: int


@dataclass(frozen=True, kw_only=True)
class Lives:
    """What became of lives.

    Attributes:
        evaluation: the first stage, all lives [L].
        funded: the second, those that passed [n_pass]; None if the plan has none.
        cut_share: share of spells whose size the evaluation's first tier cuts.
    """

    evaluation: Results
    funded: Results | None
    cut_share: float


def live(
    plan: Plan,
    source: SourceDays,
    draws: Draws,
    *,
    life: I64,
    record: I64,
    order: PathOrder,
    size: float = 1.0,
    has_funded: bool = True,
) -> Lives:
    """Lives whole lives.

    Args:
        plan: the stages.
        source: the days.
        draws: which days each life meets.
        life: number of each life [L].
        record: pseudo-record of each life [L].
        order: order of extremes inside a spell.
        size: multiple of the size that was traded.
        has_funded: whether passers go on to the funded stage.
    """
    first = make_stage(plan.evaluation, source, order, size=size)
    book = plan.funded if has_funded else None
    second = None if book is None else make_stage(book, source, order, size=size)
    portions = [slice(at, at + _PORTION) for at in range(0, len(life), _PORTION)]

    def walk(portion: slice) -> tuple[Results, Results | None]:
        return _walk_portion(plan, first, second, draws, life[portion], record[portion])

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        parts: Sequence[tuple[Results, Results | None]] = list(pool.map(walk, portions))
    funded = [part for _, part in parts if part is not None]
    return Lives(
        evaluation=join_results(part for part, _ in parts),
        funded=join_results(funded) if second is not None else None,
        cut_share=first.cut_share,
    )


def _walk_portion(
    plan: Plan, first: Stage, second: Stage | None, draws: Draws, life: I64, record: I64
) -> tuple[Results, Results | None]:
    evaluation = walk_stage(first, draws, life, record, Limits(cap_days=plan.cap_days))
    if second is None:
        return evaluation, None
    passed = evaluation.is_pass
    funded = walk_stage(
        second,
        draws,
        life[passed],
        record[passed],
        Limits(cap_days=plan.horizon_days, keep_mills=plan.keep_mills),
        first_day=_FUNDED_DAY,
        place=evaluation.place[passed],
    )
    return evaluation, funded
