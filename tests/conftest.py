"""What several rooms' tests share: the CPU as the device, and one small market, compiled once.

Compiled code is kept in .pytest_cache, for every worker, for the processes that tests begin and for
the next time; the user's own cache is not touched.
"""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "user")

import jax
import pytest

from passline.cli.training import use_cache
from passline.evaluate.slices import SliceConfig, Split, split
from passline.market.synthetic import SyntheticConfig, SyntheticMarket, synthesize
from passline.rulebook.catalog import load_rulebook
from passline.sim.jit import sim_jit
from passline.sim.xla import tune_xla
from passline.task import env
from passline.task.env import TaskParams
from passline.task.phases import Phase, load_phases
from passline.task.prepare import Prepared, TaskConfig, phase_params, prepare
from proving import figure, pytest_terminal_summary  # noqa: F401  (a fixture and a hook)

tune_xla()
use_cache()

ParamsOf = Callable[[Prepared, Phase], TaskParams]
FIRST_DATE, END_DATE = date(2024, 1, 2), date(2024, 6, 1)


def market_of(strength: float) -> SyntheticMarket:
    """Five months of the built-in market; every strength has the same minutes."""
    config = SyntheticConfig(strength=strength, start_date=FIRST_DATE, end_date=END_DATE)
    return synthesize(config, seed=3)


@pytest.fixture(scope="session")
def market() -> SyntheticMarket:
    """With a planted edge three times the usual one."""
    return market_of(3.0)


@pytest.fixture(scope="session")
def null_market() -> SyntheticMarket:
    """The same noise without the edge."""
    return market_of(0.0)


@pytest.fixture(scope="session")
def prepared(market: SyntheticMarket) -> Prepared:
    """Under a book whose floor trails open profit, with a target and thirty days."""
    return prepare([market.bars], load_rulebook("apex-intraday-50k"), TaskConfig())


@pytest.fixture(scope="session")
def tiered(market: SyntheticMarket) -> Prepared:
    """Under a book with tiers, a soft daily limit and an end-of-day floor that locks."""
    return prepare([market.bars], load_rulebook("apex-eod-50k-pa"), TaskConfig())


@pytest.fixture(scope="session")
def cut(prepared: Prepared) -> Split:
    """Training, gate and test stretches; 24 sessions begin in the gate's."""
    return split(prepared, SliceConfig(test_days=40, gate_days=36, embargo_days=5))


@pytest.fixture(scope="session")
def params_of(cut: Split) -> ParamsOf:
    """Returns the constants of a phase over the training stretch."""
    return lambda of, phase: phase_params(of, phase, cut.train)


@pytest.fixture(scope="session")
def phases() -> dict[str, Phase]:
    """The built-in curriculum by name."""
    return {phase.name: phase for phase in load_phases()}


@pytest.fixture(scope="session")
def env_reset():
    """env.reset(params, key, n_lanes), compiled."""
    return sim_jit(env.reset, static_argnums=2)


@pytest.fixture(scope="session")
def env_step():
    """env.step(params, state, action, key), compiled."""
    return sim_jit(env.step)


@pytest.fixture(scope="session")
def env_observe():
    """env.observe(params, state), compiled."""
    return jax.jit(env.observe)
