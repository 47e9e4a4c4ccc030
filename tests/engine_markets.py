"""Whole markets of the engine by the hundred, for counting how often an interval covers the truth.

Each is one seed of the built-in market, a year of quarter-hour bars, on which a strategy and random
entry play overlapping evaluations of thirty days, as a held-out year is played. BATCH of them are
one tape, so that all are played side by side and all batches by one compiled step.

    python tests/engine_markets.py 1 0 100 kept/1.npz    # strength, seeds [0, 100), where to keep

plays what the file does not hold yet, for running the proof in pieces.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import numpy as np

from driving import follow, score_of
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Slice, Starts, evaluation_starts
from passline.evaluate.strategies import strategy_signals
from passline.market.bars import Bars
from passline.market.load.resample import resample_bars
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.rulebook.catalog import load_rulebook
from passline.sim.layout import Outcome
from passline.task.phases import load_phases
from passline.task.prepare import Prepared, TaskConfig, phase_params, prepare

Played = dict[str, np.ndarray]
"""Of one market, a number an episode: first day, and each policy's passes and results in USD."""

BATCH, N_EPISODES, N_BARS = 10, 96, 22_900
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


def play(strength: float, first_seed: int) -> list[Played]:
    """Plays both policies on the same starts of BATCH markets, one entry each."""
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
    found: Played = {"day": starts.day}
    for name, policy in policies.items():
        done = play_episodes(params, follow, policy, begun, seed=first_seed)
        found[f"{name} passed"] = done.sim.outcome == Outcome.PASSED
        found[f"{name} usd"] = (done.equity.astype(np.int64) - 50_000_000) / 1000
    rows = [starts.market == index for index in range(BATCH)]
    return [{name: column[own] for name, column in found.items()} for own in rows]


def played(
    strength: float, seeds: range, known: dict[int, Played] | None = None
) -> Iterator[tuple[int, Played]]:
    """Yields (seed, what was played) of each market; seeds begin and end on a whole batch."""
    known = known or {}
    for first in range(seeds.start, seeds.stop, BATCH):
        batch = range(first, first + BATCH)
        if any(seed not in known for seed in batch):
            known = known | dict(zip(batch, play(strength, first), strict=True))
        yield from ((seed, known[seed]) for seed in batch)


def load(path: Path) -> dict[int, Played]:
    """Reads the markets of a file, none if there is no file."""
    markets: dict[int, Played] = {}
    if path.exists():
        with np.load(path) as stored:
            for key in stored.files:
                seed, _, name = key.partition(" ")
                markets.setdefault(int(seed), {})[name] = stored[key]
    return markets


def keep(path: Path, markets: dict[int, Played]) -> None:
    """Writes all markets, in place of what the file held."""
    flat = {f"{seed} {name}": x for seed, own in markets.items() for name, x in own.items()}
    np.savez_compressed(path, **flat)


if __name__ == "__main__":
    file = Path(sys.argv[4])
    stored = load(file)
    for number, found in played(
        float(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])), stored
    ):
        is_new = number not in stored
        stored[number] = found
        if is_new and number % BATCH == BATCH - 1:
            keep(file, stored)
    print(f"{len(stored)} markets in {file}")
