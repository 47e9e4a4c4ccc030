"""Odds of a plan from source days: pass rate, way to pass, value, and how sure each is.

The interval comes from a nested bootstrap: whole records are drawn anew from the record's own days
in blocks, lives are lived in each, and the spread between records is the interval. More lives make
the figures smoother, never the interval narrower; only more source days do.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from passline.errors import ConfigError
from passline.evaluate.odds.answer import Figure, Odds, OddsSettings, PathOdds
from passline.evaluate.odds.costs import Costs, life_values, way_to_pass
from passline.evaluate.odds.days import SourceDays
from passline.evaluate.odds.draws import Draws, resample_days, usual_block_days
from passline.evaluate.odds.lives import Ending
from passline.evaluate.odds.simulate import Lives, Plan, live
from passline.evaluate.odds.stage import PathOrder
from passline.evaluate.stats import proportion_interval
from passline.rulebook.model import Rulebook

__all__ = ["estimate_odds", "make_plan"]

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]

_RECORD_LIVES = 2**32
"""Number of the first life lived in a pseudo-record; main lives count from 0."""
_ALIKE = 1e-12
"""Of a figure: pseudo-records that differ by less than this share differ by rounding alone."""


def make_plan(book: Rulebook, funded: Rulebook | None, settings: OddsSettings) -> Plan:
    """Returns what an account of a book goes through."""
    keep = settings.keep_mills
    if keep is None:
        keep = 0 if funded is None else funded.drawdown.allowance_mills // 2
    return Plan(
        evaluation=book,
        funded=funded,
        cap_days=settings.cap_days,
        horizon_days=settings.horizon_days,
        keep_mills=keep,
    )


def estimate_odds(
    source: SourceDays,
    book: Rulebook,
    funded: Rulebook | None = None,
    settings: OddsSettings | None = None,
) -> Odds:
    """Estimates the odds of a book from source days.

    Args:
        source: the days.
        book: the evaluation.
        funded: the stage that follows a pass; None values the evaluation alone.
        settings: how.

    Raises:
        ConfigError: the book has nothing to pass, or forbids every contract that was traded.
    """
    settings = settings or OddsSettings()
    if book.target is None:
        raise ConfigError(
            f"odds: {book.id} is a {book.stage} stage without a target. Give the evaluation that "
            "leads to it."
        )
    plan = make_plan(book, funded, settings)
    block = settings.block_days
    if block is None:
        block = float(usual_block_days(len(source)))
    record = np.arange(len(source))[None]
    draws = Draws(series=record, block_days=block, seed=settings.seed, starts=source.starts)
    records = resample_days(
        len(source), settings.n_records, block, settings.seed, starts=source.starts
    )
    nested = Draws(series=records, block_days=block, seed=settings.seed)
    costs = Costs.of(plan)
    worst, best = (
        _path_odds(plan, source, draws, nested, settings, costs, order) for order in PathOrder
    )
    sizes = tuple(_at_size(plan, source, draws, settings, costs, size) for size in settings.sizes)
    blocks = tuple(
        (
            length,
            _side(
                plan,
                source,
                replace(draws, block_days=length),
                settings,
                PathOrder.WORST,
            ),
        )
        for length in settings.blocks
    )
    return Odds(
        plan=plan,
        settings=settings,
        block_days=block,
        n_days=len(source),
        n_traded_days=source.n_traded,
        n_spells=len(source.gross_mills),
        worst=worst,
        best=best,
        blocks=blocks,
        sizes=sizes,
        notes=_notes(plan, source, costs, sizes),
    )


def _path_odds(
    plan: Plan,
    source: SourceDays,
    draws: Draws,
    nested: Draws,
    settings: OddsSettings,
    costs: Costs,
    order: PathOrder,
) -> PathOdds:
    n = settings.n_lives
    lives = live(plan, source, draws, life=np.arange(n), record=np.zeros(n, np.int64), order=order)
    n_nested = settings.n_records * settings.n_record_lives
    spread = live(
        plan,
        source,
        nested,
        life=np.arange(n_nested) + _RECORD_LIVES,
        record=np.arange(n_nested) // settings.n_record_lives,
        order=order,
    )
    shape = settings.n_records, settings.n_record_lives
    n_blocks = len(source) / nested.block_days
    rates = spread.evaluation.is_pass.reshape(shape).astype(np.float64)
    values = life_values(costs, spread).reshape(shape).astype(np.float64)
    rate = _rate(float(lives.evaluation.is_pass.mean()), rates, n_blocks, settings.level)
    value = _figure(float(life_values(costs, lives).mean()), values, n_blocks, settings.level)
    is_pass = lives.evaluation.is_pass
    passed_days = lives.evaluation.n_days[is_pass]
    return PathOdds(
        pass_rate=rate,
        value_mills=value,
        way=way_to_pass(costs, lives.evaluation),
        days_to_pass=tuple(float(q) for q in np.quantile(passed_days, [0.1, 0.5, 0.9]))
        if len(passed_days)
        else (),
        endings=_shares(lives.evaluation.ending),
        best_profit_share=_nearest(plan.evaluation, lives),
        **_funded(lives),
    )


def _rate(value: float, draws: Floats, n_blocks: float, level: float) -> Figure:
    """Returns a share with its interval; Wilson's over the blocks where these all agree."""
    found = _figure(value, draws, n_blocks, level)
    if np.isfinite(found.low) or n_blocks < 2:
        return Figure(value=value, low=max(found.low, 0.0), high=min(found.high, 1.0))
    blocks = np.arange(int(n_blocks))
    alike = proportion_interval(np.full(len(blocks), value), blocks, level=level)
    return Figure(value=value, low=alike.low, high=alike.high)


def _figure(value: float, draws: Floats, n_blocks: float, level: float) -> Figure:
    """Returns a figure with the percentile interval of its means over pseudo-records.

    The spread that comes from finitely many lives in a record is taken out of the means, and the
    percentiles are taken further out as Hesterberg (2015) advises, so that few blocks give t's
    width. Nothing bounds the figure with fewer than two blocks, or where the records do not differ:
    what would have been in other days is then not known.

    Args:
        value: from the record itself.
        draws: one number a life [records, lives].
        n_blocks: blocks that the record holds.
        level: coverage.
    """
    means = draws.mean(axis=1)
    noise = float(draws.var(axis=1, ddof=1).mean()) / draws.shape[1]
    total = float(means.var(ddof=1))
    shrink = np.sqrt(max(total - noise, 0.0) / total) if total > 0 else 0.0
    true_means = means.mean() + (means - means.mean()) * shrink
    if n_blocks < 2:
        return Figure(value=value, low=-np.inf, high=np.inf)
    quantile = float(stdtrit(n_blocks - 1, (1 + level) / 2))
    tail = float(ndtr(-np.sqrt(n_blocks / (n_blocks - 1)) * quantile))
    low, high = (float(end) for end in np.quantile(true_means, [tail, 1 - tail]))
    if high - low <= _ALIKE * max(abs(low), abs(high)):
        return Figure(value=value, low=-np.inf, high=np.inf)
    return Figure(value=value, low=min(low, value), high=max(high, value))


def _nearest(book: Rulebook, lives: Lives) -> float:
    failed = lives.evaluation.best_profit[~lives.evaluation.is_pass]
    if book.target is None or not len(failed):
        return float("nan")
    return float(np.median(failed)) / (book.target.balance_mills - book.start_balance_mills)


def _funded(lives: Lives) -> dict[str, Any]:
    funded = lives.funded
    if funded is None or not len(funded.ending):
        return {}
    paid = funded.payout_day[funded.n_payouts > 0]
    return {
        "funded_endings": _shares(funded.ending),
        "paid_share": float((funded.n_payouts > 0).mean()),
        "payouts": float(funded.n_payouts.mean()),
        "net_mills": float(funded.net.mean()),
        "days_to_payout": float(np.median(paid)) if len(paid) else float("nan"),
    }


def _shares(ending: I64) -> dict[str, float]:
    counts = np.bincount(ending, minlength=len(Ending)) / len(ending)
    found = [(float(counts[code]), code.name.lower()) for code in Ending if counts[code]]
    return {name: share for share, name in sorted(found, reverse=True)}


def _side_lives(
    plan: Plan,
    source: SourceDays,
    draws: Draws,
    settings: OddsSettings,
    order: PathOrder,
    *,
    size: float = 1.0,
    has_funded: bool,
) -> Lives:
    n = settings.n_side_lives
    return live(
        plan,
        source,
        draws,
        life=np.arange(n),
        record=np.zeros(n, np.int64),
        order=order,
        size=size,
        has_funded=has_funded,
    )


def _side(
    plan: Plan, source: SourceDays, draws: Draws, settings: OddsSettings, order: PathOrder
) -> float:
    lives = _side_lives(plan, source, draws, settings, order, has_funded=False)
    return float(lives.evaluation.is_pass.mean())


def _at_size(
    plan: Plan,
    source: SourceDays,
    draws: Draws,
    settings: OddsSettings,
    costs: Costs,
    size: float,
) -> tuple[float, float, float, float, float]:
    worst, best = (
        _side_lives(plan, source, draws, settings, order, size=size, has_funded=order is _WORST)
        for order in PathOrder
    )
    return (
        size,
        float(worst.evaluation.is_pass.mean()),
        float(best.evaluation.is_pass.mean()),
        float(life_values(costs, worst).mean()),
        worst.cut_share,
    )


_WORST = PathOrder.WORST


def _notes(
    plan: Plan,
    source: SourceDays,
    costs: Costs,
    sizes: tuple[tuple[float, float, float, float, float], ...],
) -> tuple[str, ...]:
    book = plan.evaluation
    notes = [source.note] if source.note else []
    if source.sight == "fills":
        notes.append("The pass rate is the highest that can be true.")
    if source.n_traded < 60:
        notes.append(
            f"{source.n_traded} traded days are few: the interval says how little they tell, and "
            "covers less often than it claims."
        )
    barred = [symbol for symbol in source.symbols if not book.products.allows(symbol)]
    if barred:
        notes.append(f"{book.id} does not let {', '.join(barred)} be traded.")
    cut = next((row[4] for row in sizes if row[0] == 1.0), 0.0)
    if cut:
        notes.append(f"{cut:.0%} of the trades were larger than the book allows and are cut.")
    if costs.unknown:
        notes += [f"The {name} of {book.id} is not known; taken as 0." for name in costs.unknown]
    if plan.funded is None:
        notes.append("No funded stage is known: the value is that of the evaluation alone.")
    if book.automation.policy == "forbidden":
        notes.append(f"{book.firm} forbids programs in this stage; odds for trades by hand.")
    return tuple(notes)
