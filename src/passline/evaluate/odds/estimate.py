"""Odds of a plan from source days: pass rate, way to pass, value, and how sure each is.

The interval comes from a nested bootstrap: whole records are drawn anew from the record's own days
in blocks, lives are lived in each, and the spread between records is the interval. More lives make
the figures smoother, never the interval narrower; only more source days do.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from passline.errors import ConfigError
from passline.evaluate.odds.costs import Costs, WayToPass, life_values, way_to_pass
from passline.evaluate.odds.days import SourceDays
from passline.evaluate.odds.draws import Draws, resample_days, usual_block_days
from passline.evaluate.odds.lives import Ending
from passline.evaluate.odds.simulate import Lives, Plan, live
from passline.evaluate.odds.stage import PathOrder
from passline.rulebook.model import Rulebook, usd

__all__ = ["Figure", "Odds", "OddsSettings", "PathOdds", "estimate_odds", "make_plan"]

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]

_RECORD_LIVES = 2**32
"""Number of the first life lived in a pseudo-record; main lives count from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OddsSettings:
    """How odds are computed.

    Attributes:
        n_lives: account lives on each path.
        seed: of all draws.
        block_days: mean block length; None takes the cube root of the source days.
        n_records: pseudo-records of the interval.
        n_record_lives: lives in each of them.
        n_side_lives: lives at each block length and size beside the main one.
        level: coverage of the intervals.
        cap_days: trading days walked in an evaluation without a time limit.
        horizon_days: trading days walked in the funded stage.
        keep_mills: cushion that a payout leaves above the floor; None takes half the allowance.
        sizes: multiples of the traded size on the curve.
        blocks: block lengths compared, days.
    """

    n_lives: int = 100_000
    seed: int = 0
    block_days: float | None = None
    n_records: int = 200
    n_record_lives: int = 200
    n_side_lives: int = 10_000
    level: float = 0.95
    cap_days: int = 250
    horizon_days: int = 250
    keep_mills: int | None = None
    sizes: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
    blocks: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be lived.

        Raises:
            ConfigError: naming the number.
        """
        for name, least, most in (
            ("n_lives", 100, 10_000_000),
            ("n_records", 20, 10_000),
            ("n_record_lives", 20, 100_000),
            ("n_side_lives", 100, 1_000_000),
            ("cap_days", 1, 5_000),
            ("horizon_days", 1, 5_000),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"odds: {name} was {value:,}; allowed are {least:,} to {most:,}.")
        if self.seed < 0 or not 0 < self.level < 1:
            raise ConfigError(
                f"odds: seed was {self.seed} and level {self.level}; the seed must not be negative "
                "and the level lies between 0 and 1."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure with the interval that the source days allow.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PathOdds:
    """Odds on one order of extremes inside a trade.

    Attributes:
        pass_rate: share of attempts that pass.
        value_mills: payouts to the trader less all costs, of one attempt.
        way: the way to a first pass.
        days_to_pass: quantiles 10, 50, 90 % of trading days of a passed attempt; empty if none.
        endings: share of attempts by ending, most frequent first.
        best_profit_share: median of failed attempts' best closing profit over the target's; NaN if
            none fails or there is no target.
        funded_endings: the same of funded accounts; empty without a funded stage.
        paid_share: share of funded accounts that are paid at least once.
        payouts: mean number of payouts of a funded account.
        net_mills: mean of what its trader is paid.
        days_to_payout: median calendar days to the first payout of those paid; NaN if none.
    """

    pass_rate: Figure
    value_mills: Figure
    way: WayToPass
    days_to_pass: tuple[float, ...]
    endings: dict[str, float]
    best_profit_share: float
    funded_endings: dict[str, float] = field(default_factory=dict)
    paid_share: float = 0.0
    payouts: float = 0.0
    net_mills: float = 0.0
    days_to_payout: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Odds:
    """Everything that `passline odds` tells.

    Attributes:
        plan: the stages.
        settings: how it was computed.
        block_days: mean block length used.
        n_days: source days.
        n_traded_days: source days with a trade.
        n_spells: trades, those that overlap taken as one.
        worst: highest before lowest inside each trade.
        best: lowest before highest.
        blocks: (block length, pass rate on the worst path).
        sizes: (multiple, pass rate worst, pass rate best, value of an attempt worst in mills,
            share of trades cut to the size limit).
        notes: what a reader has to know.
    """

    plan: Plan
    settings: OddsSettings
    block_days: float
    n_days: int
    n_traded_days: int
    n_spells: int
    worst: PathOdds
    best: PathOdds
    blocks: tuple[tuple[float, float], ...]
    sizes: tuple[tuple[float, float, float, float, float], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the odds as JSON-ready data, money as decimal strings of USD."""
        plan, settings = self.plan, self.settings
        return {
            "rulebook": plan.evaluation.id,
            "fingerprint": plan.evaluation.fingerprint(),
            "funded": None if plan.funded is None else plan.funded.id,
            "funded_fingerprint": None if plan.funded is None else plan.funded.fingerprint(),
            "paths": settings.n_lives,
            "seed": settings.seed,
            "level": settings.level,
            "block_days": self.block_days,
            "cap_days": plan.cap_days,
            "horizon_days": plan.horizon_days,
            "payout_keep_usd": usd(plan.keep_mills),
            "source_days": self.n_days,
            "traded_days": self.n_traded_days,
            "trades": self.n_spells,
            "worst": _path_dict(self.worst),
            "best": _path_dict(self.best),
            "blocks": [{"block_days": b, "pass_rate": p} for b, p in self.blocks],
            "sizes": [
                {
                    "size": size,
                    "pass_rate_worst": worst,
                    "pass_rate_best": best,
                    "value_usd": _usd(value),
                    "cut_share": cut,
                }
                for size, worst, best, value, cut in self.sizes
            ],
            "notes": list(self.notes),
        }


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
    block = settings.block_days or float(usual_block_days(len(source)))
    record = np.arange(len(source))[None]
    draws = Draws(series=record, block_days=block, seed=settings.seed)
    records = resample_days(len(source), settings.n_records, block, settings.seed)
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
                Draws(series=record, block_days=length, seed=settings.seed),
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
    rate = _figure(float(lives.evaluation.is_pass.mean()), rates, n_blocks, settings.level)
    value = _figure(float(life_values(costs, lives).mean()), values, n_blocks, settings.level)
    is_pass = lives.evaluation.is_pass
    passed_days = lives.evaluation.n_days[is_pass]
    return PathOdds(
        pass_rate=Figure(value=rate.value, low=max(rate.low, 0.0), high=min(rate.high, 1.0)),
        value_mills=value,
        way=way_to_pass(costs, lives.evaluation),
        days_to_pass=tuple(float(q) for q in np.quantile(passed_days, [0.1, 0.5, 0.9]))
        if len(passed_days)
        else (),
        endings=_shares(lives.evaluation.ending),
        best_profit_share=_nearest(plan.evaluation, lives),
        **_funded(lives),
    )


def _figure(value: float, draws: Floats, n_blocks: float, level: float) -> Figure:
    """Returns a figure with the percentile interval of its means over pseudo-records.

    The spread that comes from finitely many lives in a record is taken out of the means, and the
    percentiles are taken further out as Hesterberg (2015) advises, so that few blocks give t's
    width. With fewer than two blocks nothing bounds the figure.

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
    low, high = np.quantile(true_means, [tail, 1 - tail])
    return Figure(value=value, low=min(float(low), value), high=max(float(high), value))


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
        notes.append(f"The {' and '.join(costs.unknown)} of {book.id} is not known; taken as 0.")
    if plan.funded is None:
        notes.append("No funded stage is known: the value is that of the evaluation alone.")
    if book.automation.policy == "forbidden":
        notes.append(f"{book.firm} forbids programs in this stage; odds for trades by hand.")
    return tuple(notes)


def _path_dict(path: PathOdds) -> dict[str, Any]:
    way = path.way
    return {
        "pass_rate": path.pass_rate.value,
        "pass_rate_low": path.pass_rate.low,
        "pass_rate_high": path.pass_rate.high,
        "value_usd": _usd(path.value_mills.value),
        "value_low_usd": _usd(path.value_mills.low),
        "value_high_usd": _usd(path.value_mills.high),
        "days_to_pass": dict(zip(("p10", "p50", "p90"), path.days_to_pass, strict=False)),
        "attempts_to_pass": _finite(way.attempts),
        "mean_days_to_first_pass": _finite(way.days),
        "mean_calendar_days_to_first_pass": _finite(way.calendar_days),
        "cost_to_pass_usd": _usd(way.cost_mills),
        "cost_to_pass_median_usd": _usd(way.cost_median_mills),
        "cost_to_pass_p90_usd": _usd(way.cost_high_mills),
        "endings": path.endings,
        "best_profit_share": _finite(path.best_profit_share),
        "funded_endings": path.funded_endings,
        "paid_share": path.paid_share,
        "payouts": path.payouts,
        "funded_net_usd": _usd(path.net_mills),
        "days_to_payout": _finite(path.days_to_payout),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _usd(mills: float) -> str | None:
    return usd(round(mills / 10) * 10) if np.isfinite(mills) else None
