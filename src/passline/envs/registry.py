"""Gymnasium's registered ids, one a phase of the built-in curriculum, and what they play."""

from collections.abc import Sequence
from datetime import date
from functools import cache

from passline.envs.extras import missing
from passline.envs.making import BarSource, Task, make_task
from passline.market.synthetic import SyntheticConfig, synthesize

try:
    from gymnasium.envs.registration import register, registry
except ModuleNotFoundError as error:
    raise missing(error, "gym") from error

__all__ = ["ENV_IDS", "register_ids", "task_for"]

ENV_IDS = {
    "passline/Entry-v0": "entry",
    "passline/Exit-v0": "exit",
    "passline/Manage-v0": "manage",
    "passline/Evaluation-v0": "account",
}
"""The phase that each id plays."""
RULEBOOK = "apex-intraday-50k"
MARKET = SyntheticConfig(start_date=date(2023, 1, 1), end_date=date(2024, 1, 1))
MARKET_SEED = 0


def register_ids() -> None:
    """Registers the ids with Gymnasium, where it does not know them yet."""
    for id, phase in ENV_IDS.items():
        if id not in registry:
            register(
                id,
                entry_point="passline.envs.gym_env:make_env",
                vector_entry_point="passline.envs.gym_vector:make_vector_env",
                kwargs={"phase": phase},
            )


def task_for(
    bars: BarSource | Sequence[BarSource] | None, rulebook: str | None, phase: str
) -> Task:
    """Returns what a registered id plays: by default a year of the built-in market.

    Args:
        bars: see make_task; their training part is played.
        rulebook: id of a book or path of its file; apex-intraday-50k without it.
        phase: name of a built-in phase.
    """
    if bars is None:
        return _built_in(rulebook or RULEBOOK, phase)
    return make_task(bars, rulebook or RULEBOOK, phase)


@cache
def _built_in(rulebook: str, phase: str) -> Task:
    # Nothing is kept unseen of a market of which another seed makes as much as anyone wants.
    return make_task(synthesize(MARKET, seed=MARKET_SEED).bars, rulebook, phase, part="whole")
