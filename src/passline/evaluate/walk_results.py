"""What a walk-forward's directory holds, put together: one verdict, one record, every fold.

Everything is computed from the stored rows alone. Episodes of several seeds that began on the same
dates share these dates' luck: they lie in one cluster, and more seeds make the answer firmer only
as far as seeds differ.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.table import EvaluationTable, join_tables, load_evaluations
from passline.evaluate.verdict import PolicyScore, Verdict, score_policies, verdict
from passline.kinds import Origin
from passline.runs import Run

__all__ = ["RESULTS", "FoldScore", "SeedRecord", "Training", "WalkResults", "load_walk"]

RESULTS = "results"
"""Folder of a walk-forward that holds one file a training."""
MILLS_PER_USD = 1000


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stored training.

    Attributes:
        fold: 1 is the earliest.
        seed: of the training.
        told: what its file says beside the rows: windows, gates, hashes, record.
        table: its evaluation rows.
    """

    fold: int
    seed: int
    told: Mapping[str, Any]
    table: EvaluationTable

    @property
    def is_forced(self) -> bool:
        """Whether it went past a gate that was not passed."""
        is_stopped = any(not gate["is_passed"] for gate in self.told["gates"])
        return is_stopped and not self.told["is_flat"]


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """One test window, all its seeds together.

    Attributes:
        fold: 1 is the earliest.
        trainings: one a seed.
        scores: of all policies, the agent's first.
        seed_rates: the agent's pass rate by seed.
    """

    fold: int
    trainings: tuple[Training, ...]
    scores: tuple[PolicyScore, ...]
    seed_rates: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class SeedRecord:
    """One seed's track record through all test windows.

    Attributes:
        seed: of the trainings.
        day: trading days, days since 1970-01-01 [D].
        result_usd: net result of each, one account of each market after the other [D].
        n_accounts: accounts that were used.
        n_passed: of them passed.
    """

    seed: int
    day: NDArray[np.int64]
    result_usd: NDArray[np.float64]
    n_accounts: int
    n_passed: int


@dataclass(frozen=True, kw_only=True)
class WalkResults:
    """A walk-forward as far as it has come.

    Attributes:
        verdict: on all windows and seeds together.
        folds: windows with at least one result, earliest first.
        records: one a seed that has every window of `folds`.
        n_planned: trainings that were planned.
        trainings: those that are stored.
    """

    verdict: Verdict
    folds: tuple[FoldScore, ...]
    records: tuple[SeedRecord, ...]
    n_planned: int
    trainings: tuple[Training, ...]


def load_walk(run: Run) -> WalkResults:
    """Reads a walk-forward's directory.

    Raises:
        RunError: it holds no result, or one that cannot be read or is of another version.
    """
    files = sorted((run.path / RESULTS).glob("fold-*-seed-*.npz"))
    if not files:
        raise RunError(
            f"{run.id}: no training has ended yet. Go on: passline walkforward --resume {run.id}"
        )
    trainings = sorted((_read(path) for path in files), key=lambda t: (t.fold, t.seed))
    span = int(run.manifest["rulebook"]["time_limit_days"])
    own = run.manifest["config"]["walkforward"]
    folds = tuple(
        _score_fold([t for t in trainings if t.fold == number], span)
        for number in sorted({t.fold for t in trainings})
    )
    origin = Origin(passed_gates=not any(t.is_forced for t in trainings))
    return WalkResults(
        verdict=verdict(join_tables([t.table for t in trainings]), span_days=span, origin=origin),
        folds=folds,
        records=_records(trainings, {fold.fold for fold in folds}),
        n_planned=int(own["folds"]) * int(own["seeds"]),
        trainings=tuple(trainings),
    )


def _read(path: Path) -> Training:
    table = load_evaluations(path)
    with np.load(path, allow_pickle=False) as stored:
        if "walk" not in stored:
            raise RunError(f"{path}: is not a walk-forward's result. Remove it and go on")
        told = json.loads(str(stored["walk"]))
    return Training(fold=int(told["fold"]), seed=int(told["seed"]), told=told, table=table)


def _score_fold(trainings: Sequence[Training], span_days: int) -> FoldScore:
    joined = join_tables([t.table for t in trainings])
    rates = {
        t.seed: float(t.table.where(policy="agent", path="worst").is_pass.mean()) for t in trainings
    }
    return FoldScore(
        fold=trainings[0].fold,
        trainings=tuple(trainings),
        scores=tuple(score_policies(joined, span_days=span_days)),
        seed_rates=rates,
    )


def _records(trainings: Sequence[Training], folds: set[int]) -> tuple[SeedRecord, ...]:
    records = []
    for seed in sorted({t.seed for t in trainings}):
        own = [t for t in trainings if t.seed == seed]
        if {t.fold for t in own} != folds:
            continue
        parts = [t.told["record"] for t in own]
        accounts = [account for part in parts for account in part["accounts"]]
        results = np.concatenate([part["result_mills"] for part in parts])
        records.append(
            SeedRecord(
                seed=seed,
                day=np.concatenate([part["day"] for part in parts]).astype(np.int64),
                result_usd=results.astype(np.float64) / MILLS_PER_USD,
                n_accounts=len(accounts),
                n_passed=sum(account["done_reason"] == "target" for account in accounts),
            )
        )
    return tuple(records)
