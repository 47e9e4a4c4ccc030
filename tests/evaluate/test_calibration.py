"""Stated 95 % intervals cover the truth, on simulated accounts and on whole markets of the engine.

The accounts walk day by day under a trailing floor, begin on random days of one stretch and share
its market; two policies share it in part. Each market of the engine is one seed of the built-in
market, a year of quarter-hour bars, on which a strategy and random entry play overlapping
evaluations of thirty days, as a held-out year is played. The truth is the mean over all markets. A
market gives one interval of each kind; how many cover the truth is counted.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pytest

from driving import follow, score_of
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Slice, Starts, evaluation_starts
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from passline.evaluate.strategies import strategy_signals
from passline.market.bars import Bars
from passline.market.load.resample import resample_bars
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.rulebook.catalog import load_rulebook
from passline.sim.layout import Outcome
from passline.task.phases import load_phases
from passline.task.prepare import Prepared, TaskConfig, phase_params, prepare

N_MARKETS, BATCH, N_EPISODES, N_BARS = 250, 10, 96, 22_900
TASK = TaskConfig(risk_permille=(50, 100, 200))
BOOK = load_rulebook("apex-intraday-50k")
SPAN = BOOK.time_limit_days or TASK.time_limit_days
"""Calendar days that an evaluation may last: the firm's own limit counts before the task's."""
UNUSED = score_of()
LARGEST = [0.0, 0.0, 1.0]


def market(strength: float, seed: int) -> Bars:
    """A year of quarter hours; all markets have the same number of bars."""
    config = SyntheticConfig(
        strength=strength, start_date=date(2022, 1, 3), end_date=date(2023, 1, 3)
    )
    bars = resample_bars(synthesize(config, seed=seed).bars, 15)
    columns = ("ts", "open", "high", "low", "close", "volume", "expiry")
    return replace(bars, **{name: getattr(bars, name)[:N_BARS] for name in columns})


def starts_of(prepared: Prepared, seed: int) -> Starts:
    """N_EPISODES starts on each market of the tape."""
    parts = []
    for index, first in enumerate(prepared.first_bar):
        stop = prepared.offsets[index + 1]
        part = Slice(
            name=str(index), market=index, first_bar=first, stop_bar=stop, end_bar=stop - 1
        )
        parts.append(
            evaluation_starts(prepared, [part], n=N_EPISODES, span_days=SPAN, seed=seed + index)
        )
    names = [field.name for field in fields(Starts)]
    return Starts(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def play(strength: float, first_seed: int) -> list[dict[str, np.ndarray]]:
    """Passes and results of both policies on the same starts of BATCH markets, one entry each."""
    bars = [market(strength, first_seed + k) for k in range(BATCH)]
    prepared = prepare(bars, BOOK, TASK)
    assert prepared.span_days == SPAN
    starts = starts_of(prepared, first_seed)
    params = phase_params(prepared, load_phases()[-1], [(prepared.first_bar[0], N_BARS)])
    begun = begin_at(params, starts)
    signals = strategy_signals(prepared, "VWAP reversion")
    policies = {
        "strategy": scripted(
            PolicyKind.SIGNAL,
            UNUSED,
            signal=signals.entries,
            exits=signals.exits,
            size_shares=LARGEST,
        ),
        "random": scripted(PolicyKind.RANDOM_ENTRY, UNUSED, entry_rate=0.05, size_shares=LARGEST),
    }
    found: dict[str, np.ndarray] = {"day": starts.day}
    for name, policy in policies.items():
        done = play_episodes(params, follow, policy, begun, seed=first_seed)
        found[f"{name} passed"] = done.sim.outcome == Outcome.PASSED
        found[f"{name} usd"] = (done.equity.astype(np.int64) - 50_000_000) / 1000
    rows = [starts.market == index for index in range(BATCH)]
    return [{name: column[own] for name, column in found.items()} for own in rows]


def estimates(played: Mapping[str, np.ndarray], span: int) -> dict[str, Estimate]:
    """The intervals that a verdict states."""
    day = played["day"]
    clusters = clusters_by_span(day, span)
    gain = played["strategy usd"] - played["random usd"]
    return {
        "pass rate": proportion_interval(played["strategy passed"], clusters, is_serial=True),
        "mean net": mean_interval(played["strategy usd"], clusters, is_serial=True),
        "paired pass rate": paired_difference(
            played["strategy passed"], played["random passed"], clusters, is_serial=True
        ),
        "paired net": mean_interval(gain, clusters, is_serial=True),
        "paired net, dates redrawn": date_bootstrap(gain, day, span_days=span, seed=1),
    }


class Accounts(NamedTuple):
    """A stretch of dates on which accounts begin.

    Attributes:
        drift: mean daily result of each of two policies, USD.
        window: calendar days of the stretch.
        span: days an account may last.
        shared: share of an account's daily variance that is the market's.
    """

    drift: tuple[float, float]
    window: int = 365
    span: int = 30
    shared: float = 0.7


WORLDS = {
    "few pass, the baseline hardly ever": Accounts((40, -40)),
    "half pass": Accounts((120, 0)),
    "both alike": Accounts((120, 110)),
    "no drift, two years": Accounts((0, 0), window=700),
    "most pass, little shared": Accounts((160, 40), window=700, shared=0.3),
    "nearly all shared": Accounts((80, 40), window=700, shared=0.9),
}


def accounts_of(world: Accounts, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Passes and results of both policies on the same 384 starts, under a floor that trails."""
    n, days = 384, world.window + world.span
    is_weekday = np.arange(days) % 7 < 5
    volatility = np.exp(0.25 * generator.standard_normal((days, 1)))
    factors = generator.standard_normal((days, 2)) * volatility * is_weekday[:, None]
    starts = np.sort(generator.integers(0, world.window - world.span, n))
    walked = starts[:, None] + np.arange(world.span)
    found = {"day": starts}
    for index, (name, drift) in enumerate(zip(("strategy", "random"), world.drift, strict=True)):
        common = np.cos(0.8 * index) * factors[:, 0] + np.sin(0.8 * index) * factors[:, 1]
        own = generator.standard_normal(walked.shape) * is_weekday[walked]
        noise = np.sqrt(world.shared) * common[walked] + np.sqrt(1 - world.shared) * own
        equity = np.cumsum(320 * noise + drift * is_weekday[walked], axis=1)
        peak = np.maximum(np.maximum.accumulate(equity, axis=1), 0)
        is_dead, is_won = equity <= np.minimum(peak - 2500, 100), equity >= 3000
        never = world.span - 1
        dead, won = (np.where(x.any(axis=1), x.argmax(axis=1), 999) for x in (is_dead, is_won))
        end = np.minimum(np.minimum(dead, won), never)
        found[f"{name} passed"] = won < dead
        found[f"{name} usd"] = equity[np.arange(n), end]
    return found


def count_covered(stated: list[dict[str, Estimate]], name: str) -> tuple[float, float]:
    """Returns how often an interval covers the mean of all, and that mean."""
    truth = float(np.mean([found[name].value for found in stated]))
    return float(np.mean([f[name].low <= truth <= f[name].high for f in stated])), truth


def check_world(name: str, n: int, figure: Any = None) -> None:
    """Counts coverage over n markets of a world and compares it with 93 to 97 %."""
    generator = np.random.default_rng(1)
    world = WORLDS[name]
    stated = [estimates(accounts_of(world, generator), world.span) for _ in range(n)]
    slack = 2.5 * np.sqrt(0.95 * 0.05 / n)
    demanded = f"0.93 to 0.97, ± {slack:.3f} of counting"
    for measure in stated[0]:
        covered, truth = count_covered(stated, measure)
        if figure is not None:
            figure(f"coverage, {measure} (truth {truth:.3g}); {name}", covered, demanded)
        assert 0.93 - slack <= covered <= 0.97 + slack, f"{name}, {measure}: {covered:.3f}"


@pytest.mark.parametrize("name", ["few pass, the baseline hardly ever", "half pass"])
def test_intervals_cover_on_accounts_that_overlap(name: str) -> None:
    check_world(name, 200)


@pytest.mark.proof
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_on_accounts_that_overlap_at_length(name: str, figure: Any) -> None:
    check_world(name, 1000, figure)


@pytest.mark.proof
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_intervals_cover_the_truth_on_whole_markets(strength: float, figure: Any) -> None:
    seeds = range(0, N_MARKETS, BATCH)
    stated = [estimates(played, SPAN) for seed in seeds for played in play(strength, seed)]
    slack = 2.5 * np.sqrt(0.95 * 0.05 / N_MARKETS)
    demanded = f"0.93 to 0.97, ± {slack:.3f} of counting"
    for name in stated[0]:
        covered, truth = count_covered(stated, name)
        text = f"coverage of 95 % intervals, {name} (truth {truth:.3g}), strength {strength:g}"
        figure(text, covered, demanded)
        assert 0.93 - slack <= covered <= 0.97 + slack, f"{name}: {covered:.3f}"
