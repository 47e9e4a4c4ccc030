"""What is asked of odds and what is answered: settings, figures, and their JSON.

Nothing is computed here; `estimate` does that.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.odds.costs import WayToPass
from passline.evaluate.odds.simulate import Plan
from passline.rulebook.model import usd

__all__ = ["Figure", "Odds", "OddsSettings", "PathOdds"]


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
