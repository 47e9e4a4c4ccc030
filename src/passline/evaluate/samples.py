"""Samples that a run keeps beside its evaluations: train and evaluation side by side, equity.

They answer two questions that a mean hides: does the agent train on the kind of episode that it is
judged on, and how does an account live between its first day and its last.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passline.errors import RunError
from passline.runs import replace_file

__all__ = [
    "EquityPaths",
    "SamplePair",
    "ks_distance",
    "load_distributions",
    "load_equity_paths",
    "write_distributions",
    "write_equity_paths",
]

_SIDES = ("train", "evaluation")


@dataclass(frozen=True, kw_only=True)
class SamplePair:
    """One quantity as training and as evaluation met it.

    Attributes:
        train: one number an episode (or state) of training, float [n].
        evaluation: the same of evaluation, float [m].
    """

    train: NDArray[np.float64]
    evaluation: NDArray[np.float64]

    @property
    def distance(self) -> float:
        """Kolmogorov-Smirnov distance of the two samples."""
        return ks_distance(self.train, self.evaluation)


@dataclass(frozen=True, kw_only=True)
class EquityPaths:
    """The agent's evaluation accounts, day by day.

    Attributes:
        equity_mills: equity at the start and at the close of each trading day, int64 [n, D + 1].
        floor_mills: the floor at the same times, int64 [n, D + 1].
        n_days: days each account lived; later columns repeat its last values, int64 [n].
        start_mills: balance at the start.
        target_mills: balance to reach; None if the stage has no target.
    """

    equity_mills: NDArray[np.int64]
    floor_mills: NDArray[np.int64]
    n_days: NDArray[np.int64]
    start_mills: int
    target_mills: int | None


def ks_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the largest gap between two empirical distribution functions, 0 to 1."""
    a, b = (np.sort(np.asarray(sample, dtype=np.float64)) for sample in (first, second))
    if not len(a) or not len(b):
        return float("nan")
    points = np.concatenate([a, b])
    shares = (np.searchsorted(sample, points, side="right") / len(sample) for sample in (a, b))
    return float(np.abs(next(shares) - next(shares)).max())


def write_distributions(
    path: Path, phase: str, train: Mapping[str, ArrayLike], evaluation: Mapping[str, ArrayLike]
) -> None:
    """Writes a phase's samples into the file; other phases in it stay.

    Args:
        path: `distributions.npz` of the run.
        phase: name of the phase.
        train: samples by quantity (such as ep_length, start_hour, volatility, n_legal).
        evaluation: samples of the same quantities.

    Raises:
        RunError: the two sides name different quantities.
    """
    if train.keys() != evaluation.keys():
        raise RunError(
            f"{path}: training samples {sorted(train)} and evaluation samples {sorted(evaluation)};"
            " both sides must name the same quantities"
        )
    arrays = _load_arrays(path) if path.exists() else {}
    arrays = {key: array for key, array in arrays.items() if key.split("|")[0] != phase}
    for side, samples in zip(_SIDES, (train, evaluation), strict=True):
        for name, sample in samples.items():
            arrays[f"{phase}|{name}|{side}"] = np.asarray(sample, dtype=np.float64).reshape(-1)
    _save_arrays(path, arrays)


def load_distributions(path: Path) -> dict[str, dict[str, SamplePair]]:
    """Returns the samples of a file by phase and quantity."""
    arrays = _load_arrays(path)
    found: dict[str, dict[str, SamplePair]] = {}
    for key in arrays:
        phase, name, side = key.split("|")
        if side == "train":
            pair = SamplePair(train=arrays[key], evaluation=arrays[f"{phase}|{name}|evaluation"])
            found.setdefault(phase, {})[name] = pair
    return found


def write_equity_paths(path: Path, paths: EquityPaths) -> None:
    """Writes `equity.npz`.

    Raises:
        RunError: the shapes do not fit each other.
    """
    n = len(paths.n_days)
    if paths.equity_mills.shape != paths.floor_mills.shape or len(paths.equity_mills) != n:
        raise RunError(
            f"{path}: equity {paths.equity_mills.shape}, floor {paths.floor_mills.shape} and"
            f" {n} accounts; the first two must be [n, D + 1]"
        )
    target = [] if paths.target_mills is None else [paths.target_mills]
    arrays: dict[str, NDArray[Any]] = {
        "equity_mills": paths.equity_mills.astype(np.int64),
        "floor_mills": paths.floor_mills.astype(np.int64),
        "n_days": paths.n_days.astype(np.int64),
        "start_mills": np.array(paths.start_mills, dtype=np.int64),
        "target_mills": np.array(target, dtype=np.int64),
    }
    _save_arrays(path, arrays)


def load_equity_paths(path: Path) -> EquityPaths:
    """Reads `equity.npz`."""
    arrays = _load_arrays(path)
    target = arrays["target_mills"]
    return EquityPaths(
        equity_mills=arrays["equity_mills"],
        floor_mills=arrays["floor_mills"],
        n_days=arrays["n_days"],
        start_mills=int(arrays["start_mills"]),
        target_mills=int(target[0]) if len(target) else None,
    )


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}). Evaluate the run again") from error


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    replace_file(path, buffer.getvalue())
