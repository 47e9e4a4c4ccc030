"""Scalars of a training, to TensorBoard and to a plain file of lines beside it.

Each update is one JSON line in `scalars.jsonl` (`step`, `phase`, `time`, `scalars`) for the report,
and the same numbers are a TensorBoard event under the names that stable-baselines3 users know.
Every number carries its step. A resumed run goes on with the same curves: its events are written
anew from the lines, so that none is lost with the process that was killed and none is there twice.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from passline.errors import RunError
from passline.runs import cannot_write, replace_file

__all__ = ["SCALARS_FILE", "ScalarWriter", "Scalars", "read_scalars"]

SCALARS_FILE = "scalars.jsonl"
BOARD_FOLDER = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class Scalars:
    """The curves of a training.

    Attributes:
        step: training steps over all phases, rising, int64 [U].
        phase: name of the phase of each update [U].
        values: scalars by name; NaN where an update has none, float64 [U] each.
    """

    step: NDArray[np.int64]
    phase: NDArray[np.str_]
    values: Mapping[str, NDArray[np.float64]]


class ScalarWriter:
    """Appends scalars to a run; use it as a context manager.

    Args:
        run_path: directory of the run.
        resume_step: step of the checkpoint the training goes on from. Later lines and events, which
            the resumed training writes again, are dropped. 0 for a new training.

    Raises:
        RunError: a new training, and the run has scalars already; or a file cannot be written.
    """

    def __init__(self, run_path: Path, *, resume_step: int | None = None) -> None:
        self._path = run_path / SCALARS_FILE
        if self._path.exists():
            _cut(self._path, resume_step)
        self._last_step = resume_step or 0
        folder = run_path / BOARD_FOLDER
        try:
            self._file = self._path.open("ab")
            folder.mkdir(exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            # Not SummaryWriter: its thread dies on a full disk, and the training waits for it.
            self._board = EventsWriter(str(folder / "events"))
            for record in _records(self._path):
                self._board.write_event(_event(record))
            self._board.flush()
        except OSError as error:
            raise cannot_write(folder, error) from error

    def __enter__(self) -> "ScalarWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except RunError:
            if error is None:  # else the error before it is the one to be told
                raise

    def write(self, step: int, phase: str, scalars: Mapping[str, float]) -> None:
        """Writes one update's scalars; they are on disk when this returns.

        Args:
            step: training steps so far over all phases; never falls.
            phase: name of the phase.
            scalars: numbers by name, such as "rollout/ep_rew_mean".

        Raises:
            RunError: the step falls behind the last one, or a file cannot be written.
        """
        if step < self._last_step:
            raise RunError(
                f"{self._path}: step {step:,} follows {self._last_step:,}; steps count over all"
                " phases and never fall"
            )
        self._last_step = step
        numbers = {name: float(value) for name, value in scalars.items()}
        stored = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        now = round(time.time(), 3)
        record = {"step": int(step), "phase": phase, "time": now, "scalars": stored}
        self._trying(lambda: self._append(record))

    def _append(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        self._board.write_event(_event(record))
        self._board.flush()

    def flush(self) -> None:
        """Forces everything written so far to the disk."""
        self._trying(self._force)

    def _force(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes both files."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._trying(self._file.close)
            self._trying(self._board.close)

    def _trying(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _event(record: Mapping[str, Any]) -> Event:
    """Returns the event of one line; what was no finite number has no point."""
    known = {name: value for name, value in record["scalars"].items() if value is not None}
    values = [Summary.Value(tag=name, simple_value=value) for name, value in known.items()]
    when = float(record.get("time", 0.0))
    return Event(wall_time=when, step=record["step"], summary=Summary(value=values))


def read_scalars(path: Path) -> Scalars:
    """Reads `scalars.jsonl`; a last line cut off by a crash is left out.

    Raises:
        RunError: another line is not what ScalarWriter writes.
    """
    records = _records(path)
    names = sorted({name for record in records for name in record["scalars"]})
    values = {name: np.full(len(records), np.nan) for name in names}
    for index, record in enumerate(records):
        for name, value in record["scalars"].items():
            if value is not None:
                values[name][index] = value
    return Scalars(
        step=np.array([record["step"] for record in records], dtype=np.int64),
        phase=np.array([record["phase"] for record in records], dtype=np.str_),
        values=values,
    )


def _records(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    # What follows the last line break was cut off while it was written.
    return [_parse(path, number, line) for number, line in enumerate(lines[:-1], start=1)]


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if isinstance(record["step"], int) and isinstance(record["scalars"], dict):
            record["phase"] = str(record["phase"])
            return dict(record)
    except (ValueError, KeyError, TypeError):
        pass
    raise RunError(
        f"{path}: line {number} is not a record of scalars ({line[:60]!r}). Each line holds step,"
        " phase and scalars; delete the damaged line"
    )


def _cut(path: Path, resume_step: int | None) -> None:
    """Drops what lies after the step that the training goes on from."""
    if resume_step is None:
        if path.stat().st_size:
            raise RunError(f"{path}: the run has scalars already. Resume it, or start another run")
        return
    kept = [record for record in _records(path) if record["step"] <= resume_step]
    replace_file(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
