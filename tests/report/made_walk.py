"""Makes a walk-forward's directory of made-up figures: folds, seeds, and how good each is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_run import FIRST_DAY, START, table_of, walk

from passline.evaluate.table import encode_table, join_tables
from passline.evaluate.walk_results import RESULTS
from passline.runs import Run, RunStatus, create_run

WINDOW_DAYS, SPAN_DAYS = 180, 30
BOOK = {
    "id": "apex-intraday-50k",
    "firm": "Apex Trader Funding",
    "plan": "Intraday trailing 50K",
    "as_of": "2026-01-15",
    "source": "https://example.com/rules",
    "sha256": "ab12" * 16,
    "time_limit_days": SPAN_DAYS,
    "start_balance_mills": START,
    "automation": {"policy": "allowed", "note": ""},
}
DATA = {"contract": "ES", "bar_seconds": 300, "bars": 552_000, "sha256": "5d1f" * 16}


def window_of(number: int) -> tuple[int, int]:
    """Returns the days of a test window, the first being 0, half-open."""
    first = FIRST_DAY + number * WINDOW_DAYS
    return first, first + WINDOW_DAYS


def training(
    number: int, seed: int, drift: float, *, n: int, is_flat: bool, forced: bool
) -> dict[str, Any]:
    """Returns rows and words of one training: an agent of some drift, USD a day, and baselines."""
    luck = np.random.default_rng(number).standard_normal((WINDOW_DAYS, 21))
    starts = np.linspace(0, WINDOW_DAYS - SPAN_DAYS - 1, n).astype(int)
    generator = np.random.default_rng([number, seed, n])
    first, stop = window_of(number)
    where = {
        "slice": f"test-ES-{number}",
        "start_bar": (number * WINDOW_DAYS + starts) * 276,
        "start_ns": (first + starts) * 86_400 * 10**9,
        "start_day": first + starts,
    }
    tables = [
        table_of(walk(own, luck[starts], generator), policy, 1_000, generator, **where, path=path)
        for path in ("worst", "best")
        for policy, own in (("agent", -1e4 if is_flat else drift), ("long", 15.0), ("flat", -1e4))
    ]
    told = {
        "fold": number + 1,
        "seed": seed,
        "train": [first - 400, first - 60],
        "gate": [first - 55, first - 5],
        "test": [first, stop],
        "gates": [{"phase": "entry", "is_passed": not (is_flat or forced)}],
        "is_flat": is_flat,
        "record": {"day": [first], "result_mills": [0], "accounts": []},
    }
    return {"table": join_tables(tables), "told": told}


def make_walk(
    root: Path,
    drift: Callable[[int, int], float],
    *,
    windows: Sequence[int] = (0, 1, 2),
    seeds: int = 2,
    n: int = 60,
    flat: Sequence[tuple[int, int]] = (),
    missing: Sequence[tuple[int, int]] = (),
    forced: bool = False,
    changes: dict[str, Any] | None = None,
) -> Run:
    """Makes a walk-forward.

    Args:
        root: directory of the runs.
        drift: the agent's edge, USD a day, by window and seed.
        windows: numbers of its test windows.
        seeds: trainings a window.
        n: episodes a training.
        flat: trainings, as window and seed, that a gate stopped.
        missing: trainings that left no result.
        forced: all trainings went past a gate.
        changes: tables of run.toml that are otherwise.
    """
    told = [
        {"fold": at + 1, "test": " to ".join(str(np.datetime64(d, "D")) for d in (a, b - 1))}
        for at, (a, b) in enumerate(window_of(number) for number in windows)
    ]
    config = {"walkforward": {"folds": len(windows), "seeds": seeds, "forced": forced}}
    manifest: dict[str, Any] = {
        "config": config | {"slices": {"n_episodes": n}},
        "markets": ["ES"],
        "data": {"0-ES": DATA},
        "rulebook": BOOK,
        "slices": {"folds": told},
    }
    run = create_run(root, "walk", manifest | (changes or {}))
    (run.path / RESULTS).mkdir()
    for at, number in enumerate(windows):
        for seed in range(seeds):
            if (number, seed) in missing:
                continue
            is_flat = (number, seed) in flat
            made = training(number, seed, drift(number, seed), n=n, is_flat=is_flat, forced=forced)
            text = json.dumps(made["told"] | {"fold": at + 1})
            file = run.path / RESULTS / f"fold-{at + 1}-seed-{seed}.npz"
            file.write_bytes(encode_table(made["table"], {"walk": text}))
    run.update_status(RunStatus.FINISHED)
    return run
