"""The path engine against closed forms: the gambler's ruin, static and trailing, with drift."""

import math
from dataclasses import replace

import numpy as np
import pytest
from traders import coin

from passline.errors import ConfigError
from passline.evaluate.odds.closed import static_pass_probability, trailing_pass_probability
from passline.evaluate.odds.draws import Draws
from passline.evaluate.odds.lives import Limits, walk_stage
from passline.evaluate.odds.stage import PathOrder, make_stage
from passline.rulebook.catalog import load_rulebook
from passline.rulebook.model import Days, Drawdown, Rulebook, Target, Tier

LIVES = 6_000


def ruin_book(trail: str, allowance: int, target: int) -> Rulebook:
    """A book with nothing but a floor and a target, in USD."""
    base = load_rulebook("apex-intraday-50k")
    return replace(
        base,
        drawdown=Drawdown(trail=trail, allowance_mills=allowance * 1000),  # type: ignore[arg-type]
        target=Target(balance_mills=50_000_000 + target * 1000, test="touch"),
        tiers=(Tier(from_profit_mills=0, size_units=1000),),
        days=Days(),
        time_limit_days=None,
    )


def passed(trail: str, share: float, *, allowance: int, target: int, step: float) -> float:
    source = coin(share, step, n=40_000, per_day=20)
    stage = make_stage(ruin_book(trail, allowance, target), source, PathOrder.WORST)
    draws = Draws(series=np.arange(len(source))[None], block_days=1, seed=11)
    life = np.arange(LIVES)
    found = walk_stage(stage, draws, life, np.zeros(LIVES, np.int64), Limits(cap_days=4000))
    return float(found.is_pass.mean())


def tolerance(p: float) -> float:
    """Four standard errors of a share of LIVES."""
    return 4 * math.sqrt(p * (1 - p) / LIVES)


@pytest.mark.parametrize("share", [0.5, 0.52, 0.48])
def test_static_floor_is_the_gamblers_ruin(share: float) -> None:
    # On a lattice of steps the discrete ruin is exact: (1 - r^a) / (1 - r^(a + b)), r = q / p.
    a, b = 20, 30
    r = (1 - share) / share
    exact = a / (a + b) if share == 0.5 else (1 - r**a) / (1 - r ** (a + b))
    found = passed("static", share, allowance=2000, target=3000, step=100)
    assert abs(found - exact) < tolerance(exact)
    brownian = static_pass_probability(
        target=b, allowance=a, mu=2 * share - 1, sigma=math.sqrt(1 - (2 * share - 1) ** 2)
    )
    assert abs(brownian - exact) < 0.003


def test_trailing_floor_without_drift_is_exponential() -> None:
    # From each new peak the next one comes before a fall of A steps with A / (A + 1).
    a, b = 20, 30
    exact = (a / (a + 1)) ** b
    found = passed("intraday", 0.5, allowance=2000, target=3000, step=100)
    assert abs(found - exact) < tolerance(exact)
    limit = trailing_pass_probability(target=3000, allowance=2000)
    assert limit == pytest.approx(math.exp(-1.5))
    # The error of the step is that of (1 + 1/A)^(-B) against exp(-B/A): below B / (2 A^2).
    assert 0 < exact - limit < b / (2 * a * a)


def test_trailing_floor_with_drift() -> None:
    # Next peak before a fall of A: 1 - h, h = (1 - r) / (1 - r^(A + 1)) * r^A with r = q / p.
    share, a, b = 0.52, 20, 30
    r = (1 - share) / share
    up = (1 - r**a) / (1 - r ** (a + 1))
    found = passed("intraday", share, allowance=2000, target=3000, step=100)
    assert abs(found - up**b) < tolerance(up**b)
    mu = 2 * share - 1
    limit = trailing_pass_probability(target=b, allowance=a, mu=mu, sigma=math.sqrt(1 - mu**2))
    assert abs(limit - up**b) < 0.03


def test_finer_steps_come_nearer_to_the_closed_form() -> None:
    limit = trailing_pass_probability(target=3000, allowance=2000)
    coarse = passed("intraday", 0.5, allowance=2000, target=3000, step=500)
    assert coarse == pytest.approx((4 / 5) ** 6, abs=tolerance(0.262))
    fine = passed("intraday", 0.5, allowance=2000, target=3000, step=100)
    assert abs(fine - limit) < abs(coarse - limit)


def test_closed_forms_agree_with_each_other() -> None:
    assert static_pass_probability(target=3, allowance=2) == pytest.approx(0.4)
    small = static_pass_probability(target=3, allowance=2, mu=1e-7)
    assert small == pytest.approx(0.4, abs=1e-5)
    for mu in (-40.0, 40.0):
        p = static_pass_probability(target=30, allowance=20, mu=mu)
        assert p == pytest.approx(float(mu > 0), abs=1e-9)
        q = trailing_pass_probability(target=30, allowance=20, mu=mu)
        assert q == pytest.approx(float(mu > 0), abs=1e-9)
    up = static_pass_probability(target=5, allowance=9, mu=0.1)
    down = static_pass_probability(target=9, allowance=5, mu=-0.1)
    assert up + down == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="must be above 0"):
        static_pass_probability(target=0, allowance=1)
