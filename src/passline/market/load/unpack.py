"""Unpacking compressed files, up to a size that market data does not reach.

A file that unpacks to far more than its own size is a bomb or not market data; it is refused before
the disk or the memory is full. Text is unpacked here; what its own reader unpacks (DBN, Parquet,
the members of a LEAN zip) is measured here first.
"""

import gzip
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

import polars as pl

from passline.errors import BarsError

__all__ = [
    "read_member",
    "require_readable",
    "require_sound_zstd",
    "require_table_size",
    "require_zip_size",
    "unpack",
]

ALWAYS_BYTES = 1 << 30
LARGEST_RATIO = 200
"""Text of bars and trades shrinks to a tenth or a thirtieth; gzip can at most to a thousandth."""
_ROW_BYTES = 48
"""Of a bar in memory: time, four prices and volume."""
_PIECE = 1 << 20
_ZSTD_MAGIC, _ZSTD_SKIPPABLE = 0xFD2FB528, 0x184D2A5
_ZSTD_BLOCK = 1 << 17
_TRIAL = "import sys, polars; polars.read_parquet(sys.argv[1])"


def unpack(path: Path, kind: str, target: Path) -> None:
    """Writes the plain text of a gzip, zstd, single-member zip or UTF-16 file to a target.

    Raises:
        BarsError: it unpacks to more than 1 GiB and more than 200 times its own size, or is a zip
            packed by bzip2 or LZMA.
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
        with zipfile.ZipFile(path) as archive:
            require_zip_size(archive, path, path.name)
            with archive.open(archive.namelist()[0]) as source:
                _copy(source, target, path)
    else:
        require_sound_zstd(path, path.name)
        pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"l": pl.String}
        ).sink_csv(target, include_header=False, quote_style="never")


def require_sound_zstd(path: Path, name: str) -> None:
    """Refuses a zstd file by its headers, before anything is unpacked.

    Args:
        path: the file.
        name: what the user calls it.

    Raises:
        BarsError: it may unpack to more than is allowed.
        EOFError: it is cut off, or holds something else than zstd frames.
    """
    if _zstd_bound(path) > _allowed(path):
        raise _too_large(path, name, "unpack it and import the plain file")


def require_zip_size(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """Refuses a zip whose members together unpack to more than is allowed.

    The directory's sizes are taken at their word: no member is read beyond its own. That holds
    piece by piece for deflate; bzip2 and LZMA unpack all they are given (400 MiB of 337 bytes).

    Raises:
        BarsError: they do, or one is packed by bzip2 or LZMA.
    """
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BarsError(
                f"{name}: {member.filename} is packed by method {member.compress_type}; stored (0) "
                "and deflate (8) are read. Unpack it and import the plain file, or zip it anew"
            )
    if sum(member.file_size for member in archive.infolist()) > _allowed(path):
        raise _too_large(
            path, name, "unpack it and import the plain file, or a zip a month of LEAN"
        )


def require_table_size(path: Path, name: str) -> None:
    """Refuses a Parquet file whose bars would fill more than is allowed, by the rows it states.

    Raises:
        BarsError: it would.
        PolarsError: the footer is damaged.
    """
    if pl.scan_parquet(path).select(pl.len()).collect().item() * _ROW_BYTES > _allowed(path):
        raise _too_large(path, name, "make several files of its rows and import each")


def require_readable(path: Path, name: str) -> None:
    """Refuses a Parquet file on which polars ends the whole process, by reading it in another.

    A damaged page may state any size, and what asks for more memory than there is cannot be caught.
    What polars raises is left to whoever reads the file next.

    Raises:
        BarsError: the other process was ended by a signal.
    """
    words = [sys.executable, "-c", _TRIAL, str(path)]
    if subprocess.run(words, capture_output=True, check=False).returncode < 0:
        raise BarsError(f"{name}: the Parquet file is damaged. Fetch it again")


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Returns a member of a zip, unpacked piece by piece and to no more than its stated size."""
    with archive.open(member) as source:
        return b"".join(iter(lambda: source.read(_PIECE), b""))


def _allowed(path: Path) -> int:
    return max(ALWAYS_BYTES, LARGEST_RATIO * path.stat().st_size)


def _too_large(path: Path, name: str, remedy: str) -> BarsError:
    return BarsError(
        f"{name}: {path.stat().st_size:,} bytes that unpack to more than {_allowed(path):,}, "
        f"which is no market data (at most {LARGEST_RATIO} times its size, or "
        f"{ALWAYS_BYTES / 2**30:g} GiB). If it is, {remedy}"
    )


def _copy(source: IO[bytes] | gzip.GzipFile, target: Path, path: Path) -> None:
    left = _allowed(path)
    with target.open("wb") as sink:
        while piece := source.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise _too_large(path, path.name, "unpack it and import the plain file")
            sink.write(piece)


def _zstd_bound(path: Path) -> int:
    """Returns the most that a zstd file can unpack to, from its blocks' headers (RFC 8878, 3.1).

    Raises:
        EOFError: it ends inside a frame, or something else follows a frame.
    """
    total = 0
    with path.open("rb") as file:
        while start := file.read(4):
            magic = int.from_bytes(start, "little")
            if magic >> 4 == _ZSTD_SKIPPABLE:
                file.seek(int.from_bytes(file.read(4), "little"), 1)
            elif magic == _ZSTD_MAGIC:
                total += _frame_bound(file)
            else:
                raise EOFError("bytes that are no zstd frame")
        if file.tell() != path.stat().st_size:
            raise EOFError("the last zstd frame is cut off")
    return total


def _frame_bound(file: IO[bytes]) -> int:
    descriptor = int.from_bytes(file.read(1), "little")
    is_single = bool(descriptor & 0x20)
    size_bytes = (int(is_single), 2, 4, 8)[descriptor >> 6]
    file.seek((not is_single) + (0, 1, 2, 4)[descriptor & 3] + size_bytes, 1)
    total, is_last = 0, False
    while not is_last:
        if len(head := file.read(3)) < 3:
            raise EOFError("a zstd frame is cut off")
        header = int.from_bytes(head, "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        total += size if kind < 2 else _ZSTD_BLOCK
        file.seek(1 if kind == 1 else size, 1)
    if descriptor & 4:
        file.seek(4, 1)
    return total
