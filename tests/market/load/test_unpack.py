"""Compressed files that unpack to more than market data does are refused, and nothing is left."""

import errno
import gzip
import io
import tracemalloc
import zipfile
from pathlib import Path

import polars as pl
import pytest

from made_bars import bars_of
from made_dbn import bars, metadata, zstd_frame
from passline.errors import BarsError
from passline.market.contracts import find_contract
from passline.market.load import import_bars, peek, read_bars, write_bars
from passline.market.load import unpack as unpack_module
from passline.market.load.unpack import _zstd_bound, unpack

TEXT = b"time,open,high,low,close,volume\n" + b"\n" * (1 << 20)


def gzipped() -> bytes:
    return gzip.compress(TEXT)


def zipped() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("es.csv", TEXT)
    return archive.getvalue()


def zstd_of_one_letter(n_blocks: int = 16) -> bytes:
    """A frame of blocks of 128 KiB, each a letter and how often it stands."""
    blocks = [
        ((1 << 17) << 3 | 1 << 1 | (i == n_blocks - 1)).to_bytes(3, "little") + b"x"
        for i in range(n_blocks)
    ]
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(blocks)


@pytest.mark.parametrize("made", [gzipped, zipped, zstd_of_one_letter])
def test_bombs_are_refused_with_the_remedy(made, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(unpack_module, "ALWAYS_BYTES", 1 << 19)
    path, out = tmp_path / "es.csv", tmp_path / "es.parquet"
    path.write_bytes(made())
    with pytest.raises(BarsError, match=r"es\.csv: [\d,]+ bytes that unpack to more than.*unpack"):
        import_bars(path, contract=find_contract("ES"), out=out, tz="UTC", stamp="open")
    assert [file.name for file in tmp_path.iterdir()] == ["es.csv"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("No space left on device (os error 28)"),
        pl.exceptions.ComputeError("underlying IO error (os error 28)"),
    ],
)
def test_a_full_disk_for_temporary_files_is_no_damage(tmp_path: Path, monkeypatch, error) -> None:
    path = tmp_path / "es.csv.gz"
    path.write_bytes(gzipped())

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(peek, "unpack", refuse)
    with pytest.raises(BarsError, match=r"es\.csv\.gz: could not be .* No space left .*in TMPDIR"):
        import_bars(path, contract=find_contract("ES"), out=tmp_path / "out.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["es.csv.gz"]


def lean_zip(n_members: int = 2) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for month in range(1, n_members + 1):
            members.writestr(f"20240304_es_minute_trade_2024{month:02d}.csv", b"\n" * (1 << 18))
    return archive.getvalue()


def packed_dbn() -> bytes:
    return zstd_frame(metadata() + bars(2), b"!", 8)


def table(n_rows: int = 1 << 14) -> bytes:
    sink = io.BytesIO()
    prices = dict.fromkeys(("open", "high", "low", "close"), [5000.0] * n_rows)
    pl.DataFrame({"time": [1_736_175_600] * n_rows, **prices}).write_parquet(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("20240304_trade.zip", lean_zip),
        ("es.dbn.zst", packed_dbn),
        ("es.parquet", table),
    ],
)
def test_bombs_that_their_readers_unpack_are_refused_with_the_remedy(
    name: str, made, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(unpack_module, "ALWAYS_BYTES", (1 << 19) - 1)
    monkeypatch.setattr(unpack_module, "LARGEST_RATIO", 20)
    path, out = tmp_path / name, tmp_path / "out.parquet"
    path.write_bytes(made())
    with pytest.raises(BarsError, match=rf"^{name}: [\d,]+ bytes that unpack to .*If it is, "):
        import_bars(path, contract=find_contract("ES"), out=out, tz="UTC", stamp="open")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_bar_file_of_too_many_rows_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "es.parquet"
    write_bars(bars_of(("2024-01-08 18:00", "2024-01-09 10:00")), path)
    read_bars(path)
    monkeypatch.setattr(unpack_module, "ALWAYS_BYTES", 0)
    monkeypatch.setattr(unpack_module, "LARGEST_RATIO", 1)
    with pytest.raises(BarsError, match=r"^es\.parquet: [\d,]+ bytes that unpack to more than"):
        read_bars(path)


def test_a_zip_inside_another_container_is_refused(tmp_path: Path) -> None:
    """The allowance of the inner one would be a multiple of what the outer one was allowed."""
    path = tmp_path / "20240304_trade.zip.gz"
    path.write_bytes(gzip.compress(lean_zip()))
    with pytest.raises(BarsError, match=r"a zip inside gzip\. Unpack it and import the zip"):
        import_bars(path, contract=find_contract("ES"), out=tmp_path / "out.parquet")


@pytest.mark.parametrize("member", ["es.csv", "20240304_es_minute_trade_202403.csv"])
def test_members_that_understate_their_size_are_not_unpacked_beyond_it(
    member: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "es.zip", tmp_path / "out.parquet"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr(member, bytes(64 << 20))
    data = bytearray(archive.getvalue())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(mark) + at
        data[start : start + 4] = (1_000).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(BarsError):
        import_bars(path, contract=find_contract("ES"), out=out, tz="UTC", stamp="open")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("member", ["es.csv", "20240304_es_minute_trade_202403.csv"])
def test_zips_that_unpack_at_once_are_refused(method: int, member: str, tmp_path: Path) -> None:
    path = tmp_path / "es.zip"
    with zipfile.ZipFile(path, "w", method) as members:
        members.writestr(member, TEXT)
    with pytest.raises(
        BarsError, match=rf"^es\.zip: {member} is packed by method {method}; .*anew"
    ):
        import_bars(path, contract=find_contract("ES"), out=tmp_path / "out.parquet")


@pytest.mark.parametrize(("made", "kind"), [(gzipped, "gzip"), (zipped, "zip")])
def test_small_files_may_shrink_by_any_ratio(made, kind, tmp_path: Path) -> None:
    path, target = tmp_path / "packed", tmp_path / "plain"
    path.write_bytes(made())
    unpack(path, kind, target)
    assert target.read_bytes() == TEXT


@pytest.mark.parametrize("n_rows", [1, 5_000, 200_000])
def test_the_bound_of_a_zstd_file_is_at_least_its_size_and_not_far_above(
    n_rows: int, tmp_path: Path
) -> None:
    path, target = tmp_path / "es.csv.zst", tmp_path / "plain"
    table = pl.DataFrame({"a": range(n_rows), "b": [str(7 * i) for i in range(n_rows)]})
    table.write_csv(path, compression="zstd", check_extension=False)
    unpack(path, "zstd", target)
    size = target.stat().st_size
    assert size <= _zstd_bound(path) + 1 <= size + (1 << 17) + 1


def test_skipped_frames_and_several_frames_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "two.zst"
    skipped = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"
    path.write_bytes(zstd_of_one_letter(3) + skipped + zstd_of_one_letter(2))
    assert _zstd_bound(path) == 5 << 17
