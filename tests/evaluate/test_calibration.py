"""Stated 95 % intervals cover the truth, on simulated accounts and on whole markets of the engine.

The accounts walk day by day under a trailing floor, begin on random days of one stretch and share
its market; two policies share it in part. Markets of the engine are those of engine_markets; with
ENGINE_MARKETS=FOLDER, what that kept as 0.npz and 1.npz is not played again. The truth is the mean
over all markets. A market gives one interval of each kind; how many cover the truth is counted.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine_markets import SPAN, load, played
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
)

N_MARKETS = 520
FIRST_MARKET = 10_000
"""Seeds of the markets of the engine; none below it is counted, on those the method was chosen."""


def estimates(found: Mapping[str, np.ndarray], span: int) -> dict[str, Estimate]:
    """The intervals that a verdict states."""
    day = found["day"]
    clusters = clusters_by_span(day, span)
    gain = found["strategy usd"] - found["random usd"]
    return {
        "pass rate": proportion_interval(found["strategy passed"], clusters, is_serial=True),
        "mean net": mean_interval(found["strategy usd"], clusters, is_serial=True),
        "paired pass rate": paired_difference(
            found["strategy passed"], found["random passed"], clusters, is_serial=True
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
        daily: standard deviation of a day's result, USD.
        n: accounts begun.
    """

    drift: tuple[float, float]
    window: int = 365
    span: int = 30
    shared: float = 0.7
    daily: int = 320
    n: int = 384


WORLDS = {
    "few pass, the baseline hardly ever": Accounts((40, -40)),
    "half pass": Accounts((120, 0)),
    "both alike": Accounts((120, 110)),
    "no drift, two years": Accounts((0, 0), window=700),
    "most pass, little shared": Accounts((160, 40), window=700, shared=0.3),
    "nearly all shared": Accounts((80, 40), window=700, shared=0.9),
    "most pass, nearly all shared": Accounts((160, 40), shared=0.85, daily=300, n=96),
}


def accounts_of(world: Accounts, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Passes and results of both policies on the same starts, under a floor that trails."""
    n, days = world.n, world.window + world.span
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
        equity = np.cumsum(world.daily * noise + drift * is_weekday[walked], axis=1)
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


def test_means_of_a_skewed_result_are_covered_with_a_dozen_blocks() -> None:
    """Where most pass, a lucky year holds few of the rare losses, and its spread is small too.

    With the skewness that the sums of a dozen blocks show, the mean's interval covers 92.7 % here;
    t alone, on drawn blocks of two spans, covers 88.4 %.
    """
    generator = np.random.default_rng(2)
    world = WORLDS["most pass, nearly all shared"]
    markets = [accounts_of(world, generator) for _ in range(2000)]
    truth = np.mean([own["strategy usd"].mean() for own in markets])
    stated: dict[str, list[Estimate]] = {"mean": [], "dates redrawn": []}
    for own in markets:
        net, day = own["strategy usd"], own["day"]
        clusters = clusters_by_span(day, world.span)
        stated["mean"].append(mean_interval(net, clusters, is_serial=True))
        stated["dates redrawn"].append(
            date_bootstrap(net, day, span_days=world.span, seed=1, n_draws=500)
        )
    for name, intervals in stated.items():
        low, high = (np.array([e.low for e in intervals]), np.array([e.high for e in intervals]))
        covered = np.mean((low <= truth) & (truth <= high))
        assert 0.93 <= covered <= 0.97, f"{name}: {covered:.4f}"
        assert np.mean(truth < low) <= 0.06, name


@pytest.mark.proof
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_on_accounts_that_overlap_at_length(name: str, figure: Any) -> None:
    check_world(name, 1000, figure)


@pytest.mark.proof
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_intervals_cover_the_truth_on_whole_markets(strength: float, figure: Any) -> None:
    stored = load(Path(os.environ.get("ENGINE_MARKETS", "/nowhere")) / f"{strength:g}.npz")
    seeds = range(FIRST_MARKET, FIRST_MARKET + N_MARKETS)
    stated = [estimates(own, SPAN) for _, own in played(strength, seeds, stored)]
    slack = 2.5 * np.sqrt(0.95 * 0.05 / N_MARKETS)
    demanded = f"0.93 to 0.97, ± {slack:.3f} of counting"
    for name in stated[0]:
        covered, truth = count_covered(stated, name)
        text = f"coverage of 95 % intervals, {name} (truth {truth:.3g}), strength {strength:g}"
        figure(text, covered, demanded)
        assert 0.93 - slack <= covered <= 0.97 + slack, f"{name}: {covered:.3f}"
