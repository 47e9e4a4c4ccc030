"""From bars, a rulebook and a phase to what every plug plays: the constants of one environment.

The one thing that the plugs share with each other and not with the trainer, which cuts its own
stretch of time. Nothing here knows of any plug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from passline.errors import ConfigError
from passline.market.bars import Bars
from passline.market.clock import EPOCH
from passline.market.load import read_bars
from passline.rulebook import Rulebook, load_rulebook
from passline.task.env import TaskParams
from passline.task.phases import Phase, load_phases
from passline.task.prepare import Prepared, TaskConfig, phase_params, prepare

__all__ = ["Task", "find_phase", "make_task"]

BarSource = Bars | Path | str
"""Bars in memory, or a file made by `passline data import`."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment, ready for any plug.

    Attributes:
        prepared: markets and rulebook on the device.
        phase: row of the curriculum: actions, reward, rules and mix of episodes.
        params: constants of the environment, with episodes inside the chosen dates.
    """

    prepared: Prepared
    phase: Phase
    params: TaskParams


def make_task(
    bars: BarSource | Sequence[BarSource],
    rulebook: Rulebook | Path | str,
    phase: Phase | str = "account",
    *,
    config: TaskConfig | None = None,
    first_date: date | None = None,
    end_date: date | None = None,
) -> Task:
    """Prepares markets under a rulebook for the episodes of a phase.

    Args:
        bars: one market or several of the same bar length.
        rulebook: a book, its id or its file.
        phase: a row of the curriculum, or the name of a built-in one.
        config: bracket, sizes and costs; the defaults without it.
        first_date: first trading day of the episodes; the first with known features without it.
        end_date: trading day after the last one; the end of the bars without it.

    Raises:
        BarsError: a file of bars cannot be read.
        ConfigError: there is no such phase, or the dates leave nothing to play.
        RulebookError: there is no such book.
        SimulationError: money could overflow, or no bar lies in a session.
    """
    many = [bars] if isinstance(bars, Bars | Path | str) else bars
    book = rulebook if isinstance(rulebook, Rulebook) else load_rulebook(rulebook)
    row = phase if isinstance(phase, Phase) else find_phase(phase)
    markets = [item if isinstance(item, Bars) else read_bars(Path(item)) for item in many]
    prepared = prepare(markets, book, config or TaskConfig())
    stretches = _stretches(prepared, first_date, end_date)
    return Task(prepared=prepared, phase=row, params=phase_params(prepared, row, stretches))


def find_phase(name: str) -> Phase:
    """Returns the built-in phase of a name.

    Raises:
        ConfigError: naming the phases there are.
    """
    phases = {phase.name: phase for phase in load_phases()}
    if name not in phases:
        raise ConfigError(f"no phase '{name}'. Phases: {', '.join(phases)}.")
    return phases[name]


def _stretches(
    prepared: Prepared, first_date: date | None, end_date: date | None
) -> list[tuple[int, int]]:
    """Returns each market's bars of the trading days [first_date, end_date), half-open."""
    found = []
    for market, first in enumerate(prepared.first_bar):
        stop = prepared.offsets[market + 1]
        days = prepared.compiled.tape.day[first:stop]
        low = 0 if first_date is None else np.searchsorted(days, (first_date - EPOCH).days)
        high = len(days) if end_date is None else np.searchsorted(days, (end_date - EPOCH).days)
        if high - low < 3:
            raise ConfigError(
                f"{prepared.bars[market].contract.symbol}: {max(high - low, 0)} bars with known "
                f"features from {first_date or 'the start'} to before {end_date or 'the end'}; at "
                "least 3 are needed. Give more bars, or dates further apart."
            )
        found.append((first + int(low), first + int(high)))
    return found
