"""The record of the sealed final test: who opened which window, when, and what came of it.

A run keeps its openings in `openings.jsonl`, to which lines are only added: one before the window
is looked at, one with the result. An opening that was stopped half way counts like any other; a
last line that was torn while it was written says nothing yet, since the window is looked at after.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from passline.errors import RunError
from passline.runs import Run, list_runs, mend_last_line, naming_refusals, whole_lines

__all__ = [
    "OPENINGS_FILE",
    "Opening",
    "SealedWindow",
    "count_openings",
    "read_openings",
    "record_opening",
    "record_result",
]

OPENINGS_FILE = "openings.jsonl"


@dataclass(frozen=True, kw_only=True)
class SealedWindow:
    """Which bars a final test is made on.

    Attributes:
        contracts: symbols of the markets.
        data: SHA-256 of each market's bars.
        first: first trading day.
        last: last trading day.
    """

    contracts: tuple[str, ...]
    data: tuple[str, ...]
    first: date
    last: date

    def shares(self, other: "SealedWindow") -> bool:
        """Says whether two windows share dates of one contract or of one data set."""
        same = set(self.contracts) & set(other.contracts) or set(self.data) & set(other.data)
        return bool(same) and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One look at a final window.

    Attributes:
        number: of this run, from 1.
        time: when, ISO 8601 in UTC.
        checkpoint: name of the agent's checkpoint.
        checkpoint_sha256: of its tensors.
        step: training steps of it.
        slices: names of the slices it was judged on.
        window: the dates.
        n_by_run: openings of the window by this run before.
        n_by_others: openings of a window that shares its dates, by other runs before.
        result: what it came to; None if it was never told.
    """

    number: int
    time: str
    checkpoint: str
    checkpoint_sha256: str
    step: int
    slices: tuple[str, ...]
    window: SealedWindow
    n_by_run: int
    n_by_others: int
    result: dict[str, Any] | None = None

    @property
    def n_before(self) -> int:
        """Openings before this one, by any run."""
        return self.n_by_run + self.n_by_others

    def sentence(self) -> str:
        """Returns what the count means, for verdict and report."""
        if self.n_before == 0:
            return (
                "The final window was opened for the first time by any run of this folder: the "
                "figures on it are out of sample. Openings by runs in other folders are not known "
                "here."
            )
        return (
            f"The final window was opened {self.n_before + 1} times by runs of this folder "
            f"({self.n_by_run + 1} by this run, {self.n_by_others} by others): figures on it are "
            "no longer out of sample."
        )


def read_openings(run: Run) -> list[Opening]:
    """Reads a run's openings in their order.

    Raises:
        RunError: the file is damaged.
    """
    path = run.path / OPENINGS_FILE
    if not path.exists():
        return []
    found: list[Opening] = []
    for number, line in enumerate(whole_lines(path.read_bytes()).decode().splitlines(), start=1):
        try:
            entry = json.loads(line)
            if entry["event"] == "opened":
                found.append(_opening_of(entry))
            else:
                at = [opening.number for opening in found].index(entry["number"])
                found[at] = Opening(**{**vars(found[at]), "result": entry["result"]})
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: line {number} cannot be read ({error}). The record of openings is only "
                "ever added to; restore it from a copy."
            ) from error
    return found


def count_openings(run: Run, window: SealedWindow) -> tuple[int, int]:
    """Counts earlier openings of a window: by the run, and by the other runs beside it."""
    by_run = sum(opening.window.shares(window) for opening in read_openings(run))
    others = 0
    for other in list_runs(run.path.parent):
        if other.path.resolve() != run.path.resolve():
            others += sum(opening.window.shares(window) for opening in read_openings(other))
    return by_run, others


def record_opening(
    run: Run,
    window: SealedWindow,
    *,
    checkpoint: str,
    checkpoint_sha256: str,
    step: int,
    slices: Sequence[str],
) -> Opening:
    """Writes down that a window is about to be looked at; from here on it counts."""
    by_run, by_others = count_openings(run, window)
    opening = Opening(
        number=len(read_openings(run)) + 1,
        time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256,
        step=step,
        slices=tuple(slices),
        window=window,
        n_by_run=by_run,
        n_by_others=by_others,
    )
    told = {key: value for key, value in vars(opening).items() if key != "result"}
    told["window"] = vars(window) | {"first": str(window.first), "last": str(window.last)}
    _append(run, {"event": "opened", **told})
    return opening


def record_result(run: Run, opening: Opening, result: dict[str, Any]) -> Opening:
    """Writes down what an opening came to."""
    _append(run, {"event": "judged", "number": opening.number, "result": result})
    return Opening(**{**vars(opening), "result": result})


def _opening_of(entry: dict[str, Any]) -> Opening:
    told = {key: value for key, value in entry.items() if key != "event"}
    window = told["window"]
    told["slices"] = tuple(told["slices"])
    told["window"] = SealedWindow(
        contracts=tuple(window["contracts"]),
        data=tuple(window["data"]),
        first=date.fromisoformat(window["first"]),
        last=date.fromisoformat(window["last"]),
    )
    return Opening(**told)


def _append(run: Run, entry: dict[str, Any]) -> None:
    """Adds a line and forces it to disk, so that no result can be had without its record."""
    path: Path = run.path / OPENINGS_FILE
    mend_last_line(path)
    with naming_refusals(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
