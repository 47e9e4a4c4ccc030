"""Compressed files that unpack to more than market data does are refused, and nothing is left."""

import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest

from passline.errors import BarsError
from passline.market.contracts import find_contract
from passline.market.load import import_bars
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
