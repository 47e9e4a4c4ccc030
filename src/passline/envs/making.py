"""From bars, a rulebook and a phase to what every plug plays: the constants of one environment.

Time is cut as `passline train` cuts it, so that a plug trains by default on what the trainer would
train on, and the same days stay unseen. Nothing here knows of any plug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.slices import Slice, SliceConfig, require_features, split
from passline.evaluate.windows import final_start, hide_final
from passline.market.bars import Bars
from passline.market.clock import EPOCH
from passline.market.load import read_bars
from passline.rulebook import Rulebook, load_rulebook
from passline.task.env import TaskParams
from passline.task.phases import Phase, load_phases
from passline.task.prepare import Prepared, TaskConfig, phase_params, prepare

__all__ = ["PARTS", "Task", "find_phase", "make_task"]

BarSource = Bars | Path | str
"""Bars in memory, or a file made by `passline data import`."""

PARTS = ("train", "gate", "test", "whole")
"""Parts of the bars that a task may be made of; `whole` alone reads the sealed final window."""
LEAST_BARS = 3
"""Of a stretch that episodes are drawn from."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment, ready for any plug.

    Attributes:
        prepared: markets and rulebook on the device.
        phase: row of the curriculum: actions, reward, rules and mix of episodes.
        params: constants of the environment, with episodes inside the chosen dates.
        ranges: half-open ranges of the bars that episodes may play, in the order of the tape;
            empty: all bars with known features.
    """

    prepared: Prepared
    phase: Phase
    params: TaskParams
    ranges: tuple[tuple[int, int], ...] = ()

    def playable(self) -> list[tuple[int, int]]:
        """Returns the half-open ranges of the bars that episodes may play."""
        everything = zip(self.prepared.first_bar, self.prepared.offsets[1:], strict=True)
        return list(self.ranges) or [(int(a), int(b)) for a, b in everything]


def make_task(
    bars: BarSource | Sequence[BarSource],
    rulebook: Rulebook | Path | str,
    phase: Phase | str = "account",
    *,
    config: TaskConfig | None = None,
    part: str = "train",
    slices: SliceConfig | None = None,
    first_date: date | None = None,
    end_date: date | None = None,
) -> Task:
    """Prepares markets under a rulebook for the episodes of a phase.

    Args:
        bars: one market or several of the same bar length.
        rulebook: a book, its id or its file.
        phase: a row of the curriculum, or the name of a built-in one.
        config: bracket, sizes and costs; the defaults without it.
        part: which days are played, one of PARTS. All but `whole` leave the sealed final window out
            before anything is computed; `train` leaves out the days of gates and test, too.
        slices: how the parts are cut; as `passline train` does by default without it.
        first_date: first trading day of the episodes; the first of the part without it.
        end_date: trading day after the last one; the end of the part without it.

    Raises:
        BarsError: a file of bars cannot be read.
        ConfigError: there is no such phase or part, the bars are too short to be cut, or the dates
            leave nothing to play.
        RulebookError: there is no such book.
        SimulationError: money could overflow, or no bar lies in a session.
    """
    many = [bars] if isinstance(bars, Bars | Path | str) else bars
    book = rulebook if isinstance(rulebook, Rulebook) else load_rulebook(rulebook)
    row = phase if isinstance(phase, Phase) else find_phase(phase)
    markets = [item if isinstance(item, Bars) else read_bars(Path(item)) for item in many]
    if part not in PARTS:
        raise ConfigError(f"make_task: part was '{part}'; allowed: {', '.join(PARTS)}.")
    cut = slices or SliceConfig()
    if part != "whole":
        start = final_start(markets, cut)
        markets = [hide_final(item, start, cut) for item in markets]
    prepared = prepare(markets, book, config or TaskConfig())
    stretches = _between(prepared, _ranges(prepared, part, cut), first_date, end_date)
    params = phase_params(prepared, row, stretches)
    ranges = tuple((int(first), int(stop)) for first, stop in stretches)
    return Task(prepared=prepared, phase=row, params=params, ranges=ranges)


def find_phase(name: str) -> Phase:
    """Returns the built-in phase of a name.

    Raises:
        ConfigError: naming the phases there are.
    """
    phases = {phase.name: phase for phase in load_phases()}
    if name not in phases:
        raise ConfigError(f"no phase '{name}'. Phases: {', '.join(phases)}.")
    return phases[name]


def _ranges(prepared: Prepared, part: str, config: SliceConfig) -> list[tuple[int, int]]:
    """Returns the half-open bar ranges of a part, in the order of the tape."""
    require_features(prepared)
    if part == "whole":
        return list(zip(prepared.first_bar, prepared.offsets[1:], strict=True))
    try:
        cut = split(prepared, config)
    except ConfigError as error:
        raise ConfigError(
            f'make_task: part "{part}": {error} Or play all bars: part="whole".'
        ) from error
    if part == "train":
        return sorted(cut.train)
    slices = cut.gate if part == "gate" else cut.test
    return sorted((piece.first_bar, piece.end_bar + 1) for piece in _longest(slices))


def _longest(slices: Sequence[Slice]) -> list[Slice]:
    """Returns of the slices of each stretch the first, from which an episode may walk it all."""
    first: dict[tuple[int, int], Slice] = {}
    for piece in slices:
        key = (piece.market, piece.end_bar)
        if key not in first or piece.first_bar < first[key].first_bar:
            first[key] = piece
    return list(first.values())


def _between(
    prepared: Prepared,
    ranges: Sequence[tuple[int, int]],
    first_date: date | None,
    end_date: date | None,
) -> list[tuple[int, int]]:
    """Returns what the trading days [first_date, end_date) leave of the ranges.

    Raises:
        ConfigError: a market is left with fewer bars than an episode needs.
    """
    found = []
    left = dict.fromkeys((int(prepared.compiled.market[first]) for first, _ in ranges), 0)
    for first, stop in ranges:
        days = prepared.compiled.tape.day[first:stop]
        low = 0 if first_date is None else int(np.searchsorted(days, (first_date - EPOCH).days))
        high = (
            len(days) if end_date is None else int(np.searchsorted(days, (end_date - EPOCH).days))
        )
        if high - low >= LEAST_BARS:
            found.append((first + low, first + high))
            left[int(prepared.compiled.market[first])] += high - low
    for market, n_bars in left.items():
        if not n_bars:
            raise ConfigError(
                f"{prepared.bars[market].contract.symbol}: fewer than {LEAST_BARS} bars with known "
                f"features from {first_date or 'the start'} to before {end_date or 'the end'} of "
                "the part. Give more bars, or dates further apart."
            )
    return found
