"""Reads the scalars of TensorBoard event files.

A file is a row of TFRecords: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of
the data, little-endian. A last record cut off by a crash is left out, and a damaged one is skipped
and counted; nothing is trusted but what parses.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import event_pb2

from passline.errors import RunError
from passline.report.diagnose.logs import Curve

__all__ = ["EventLog", "read_events"]

MAX_RECORD_BYTES = 256 * 2**20
"""Longest record that is believed; scalars take about a hundred bytes, images may take millions."""

_NAME = "tfevents"
"""In the name of every event file that TensorBoard finds."""

_TENSOR_FORMATS = {(1, 4): "<f", (2, 8): "<d"}
"""How the bytes of a tensor of one number are read, by its type (float, double) and size."""


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """Scalars of one directory of event files.

    Attributes:
        curves: by tag; of several values of one step the last written.
        n_restarts: times that the steps of a tag fall back without a word of resuming.
        n_damaged: records that were skipped.
        n_cut: files whose last record is not whole.
    """

    curves: dict[str, Curve]
    n_restarts: int
    n_damaged: int
    n_cut: int


class _Points:
    """Points of all tags while files are read."""

    def __init__(self) -> None:
        self.by_tag: dict[str, list[tuple[int, float]]] = {}
        self.n_damaged = 0
        self.n_cut = 0

    def add(self, event: event_pb2.Event) -> None:
        log = event.session_log
        if event.HasField("session_log") and log.status == event_pb2.SessionLog.START:
            # TensorBoard hides what a resumed training wrote before from this step on.
            for tag, points in self.by_tag.items():
                self.by_tag[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            number = _number(value)
            if number is not None:
                self.by_tag.setdefault(value.tag, []).append((int(event.step), number))


def read_events(paths: Sequence[Path]) -> EventLog:
    """Reads all scalars of event files that belong together, in the order given.

    Raises:
        RunError: a file cannot be opened, or is no event file.
    """
    points = _Points()
    for path in paths:
        _read_file(path, points)
    made = {tag: _curve(found) for tag, found in sorted(points.by_tag.items()) if found}
    restarts = [restart for _, restart in made.values()]
    return EventLog(
        curves={tag: curve for tag, (curve, _) in made.items()},
        n_restarts=max(restarts, default=0),
        n_damaged=points.n_damaged,
        n_cut=points.n_cut,
    )


def _read_file(path: Path, points: _Points) -> None:
    n_good = n_damaged = 0
    try:
        with path.open("rb") as file:
            for data in _records(file, path.stat().st_size):
                event = None if data is None else _parse(data)
                if data is None:
                    points.n_cut += 1
                elif event is None:
                    n_damaged += 1
                else:
                    n_good += 1
                    points.add(event)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}).") from error
    if not n_good and _NAME not in path.name:
        raise RunError(
            f"{path}: is no training log. diagnose reads a passline run, an event file of "
            "TensorBoard, an evaluations.npz, or a directory of these. Name one of them; bars are "
            "looked at with passline data check."
        )
    if not n_good and path.stat().st_size:
        raise RunError(
            f"{path}: no TensorBoard record in {path.stat().st_size:,} bytes. Event files begin "
            "with a TFRecord that names their version; remove the file or restore it from a copy."
        )
    points.n_damaged += n_damaged


def _records(file: BinaryIO, size: int) -> Iterator[bytes | None]:
    """Yields the data of each record, b"" for a damaged one, and None for a last one cut off."""
    while head := file.read(12):
        if len(head) < 12:
            yield None
            return
        (length,) = struct.unpack("<Q", head[:8])
        if not _fits(head[:8], head[8:]) and length > MAX_RECORD_BYTES:
            # Nothing says where the next record begins.
            yield b""
            return
        if length > size - file.tell() - 4:
            yield None
            return
        if length > MAX_RECORD_BYTES:
            file.seek(length + 4, 1)
            continue
        data, crc = file.read(length), file.read(4)
        yield data if _fits(data, crc) else b""


def _fits(data: bytes, stored: bytes) -> bool:
    """Says whether data has the masked CRC; writers that compute none store zeros."""
    crc = int(crc32c(data))
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return stored in (struct.pack("<I", masked), b"\0\0\0\0")


def _parse(data: bytes) -> event_pb2.Event | None:
    if not data:
        return None
    event = event_pb2.Event()
    try:
        event.ParseFromString(data)
    except DecodeError:
        return None
    return event


def _number(value: Any) -> float | None:
    """Returns a scalar summary's number, in the old form or as a tensor; None for anything else."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor":
        return None
    tensor = value.tensor
    numbers = [*tensor.float_val, *tensor.double_val]
    if len(numbers) == 1:
        return float(numbers[0])
    format_ = _TENSOR_FORMATS.get((tensor.dtype, len(tensor.tensor_content)))
    return None if format_ is None else float(struct.unpack(format_, tensor.tensor_content)[0])


def _curve(points: list[tuple[int, float]]) -> tuple[Curve, int]:
    """Returns the points in the order of their steps, and how often the steps fell back."""
    steps = np.array([step for step, _ in points], dtype=np.int64)
    values = np.array([value for _, value in points], dtype=np.float64)
    n_restarts = int((np.diff(steps) < 0).sum())
    last = {int(step): index for index, step in enumerate(steps)}
    order = np.array([last[step] for step in sorted(last)])
    return Curve(step=steps[order], value=values[order]), n_restarts
