"""Unpacking compressed and UTF-16 text, up to a size that market data does not reach.

A file that unpacks to far more than its own size is a bomb or not market data; it is refused before
the disk or the memory is full.
"""

import gzip
import shutil
import zipfile
from pathlib import Path
from typing import IO

import polars as pl

from passline.errors import BarsError

__all__ = ["unpack"]

ALWAYS_BYTES = 1 << 30
LARGEST_RATIO = 200
"""Text of bars and trades shrinks to a tenth or a thirtieth; gzip can at most to a thousandth."""
_PIECE = 1 << 20
_ZSTD_MAGIC, _ZSTD_SKIPPABLE = 0xFD2FB528, 0x184D2A5
_ZSTD_BLOCK = 1 << 17


def unpack(path: Path, kind: str, target: Path) -> None:
    """Writes the plain text of a gzip, zstd, single-member zip or UTF-16 file to a target.

    Raises:
        BarsError: it unpacks to more than 1 GiB and more than 200 times its own size.
    """
    if kind == "gzip":
        with gzip.open(path, "rb") as source:
            _copy(source, target, path)
    elif kind == "utf16":
        with (
            path.open(encoding="utf-16", newline="") as text,
            target.open("w", encoding="utf-8", newline="") as sink,
        ):
            shutil.copyfileobj(text, sink, _PIECE)
    elif kind == "zip":
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(archive.namelist()[0]) as source,
        ):
            _copy(source, target, path)
    else:
        if _zstd_bound(path) > _allowed(path):
            raise _too_large(path)
        pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"l": pl.String}
        ).sink_csv(target, include_header=False, quote_style="never")


def _allowed(path: Path) -> int:
    return max(ALWAYS_BYTES, LARGEST_RATIO * path.stat().st_size)


def _too_large(path: Path) -> BarsError:
    return BarsError(
        f"{path.name}: {path.stat().st_size:,} bytes that unpack to more than {_allowed(path):,}, "
        f"which is no market data (at most {LARGEST_RATIO} times its size, or "
        f"{ALWAYS_BYTES / 2**30:g} GiB). If it is, unpack it and import the plain file"
    )


def _copy(source: IO[bytes] | gzip.GzipFile, target: Path, path: Path) -> None:
    left = _allowed(path)
    with target.open("wb") as sink:
        while piece := source.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise _too_large(path)
            sink.write(piece)


def _zstd_bound(path: Path) -> int:
    """Returns the most that a zstd file can unpack to, from its blocks' headers (RFC 8878, 3.1)."""
    total = 0
    with path.open("rb") as file:
        while len(start := file.read(4)) == 4:
            magic = int.from_bytes(start, "little")
            if magic >> 4 == _ZSTD_SKIPPABLE:
                file.seek(int.from_bytes(file.read(4), "little"), 1)
            elif magic == _ZSTD_MAGIC:
                total += _frame_bound(file)
            else:
                break
    return total


def _frame_bound(file: IO[bytes]) -> int:
    descriptor = int.from_bytes(file.read(1), "little")
    is_single = bool(descriptor & 0x20)
    size_bytes = (int(is_single), 2, 4, 8)[descriptor >> 6]
    file.seek((not is_single) + (0, 1, 2, 4)[descriptor & 3] + size_bytes, 1)
    total, is_last = 0, False
    while not is_last and len(head := file.read(3)) == 3:
        header = int.from_bytes(head, "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        total += size if kind < 2 else _ZSTD_BLOCK
        file.seek(1 if kind == 1 else size, 1)
    if descriptor & 4:
        file.seek(4, 1)
    return total
