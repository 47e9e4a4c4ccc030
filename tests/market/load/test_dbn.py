"""Databento DBN made by hand: what is read of it, and damaged files, which are refused whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from made_dbn import BAR_BYTES, bars, metadata, trades, with_ts_out, zstd_frame
from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.load import dbn as dbn_module
from passline.market.load.peek import look

Import = Callable[..., Bars]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("es.dbn", metadata() + bars(30)),
        ("es.dbn.zst", zstd_frame(metadata() + bars(30))),
        ("es.dbn.zst", zstd_frame(metadata() + bars(7)) + zstd_frame(bars(30)[7 * BAR_BYTES :])),
        ("es.dbn", metadata(has_ts_out=True) + with_ts_out(bars(30))),
    ],
    ids=["plain", "zstd", "two frames", "ts_out"],
)
def test_bars_are_read(name: str, made: bytes, tmp_path: Path, imported: Import) -> None:
    path = tmp_path / name
    path.write_bytes(made)
    read = imported(path)
    assert (len(read), read.expiries) == (30, ("ESH5",))
    prices = [set((column * 0.25).tolist()) for column in (read.open, read.high, read.low)]
    assert (prices, set(read.volume.tolist())) == ([{5000.0}, {5001.0}, {4999.0}], {7})


def test_trades_are_read(tmp_path: Path, imported: Import) -> None:
    path = tmp_path / "es.dbn"
    path.write_bytes(metadata("trades") + trades(60))
    read = imported(path, bar="1m")
    assert (len(read), int(read.volume.sum())) == (7, 180)


SPLIT = zstd_frame(metadata() + bars(20)), zstd_frame(bars(30)[20 * BAR_BYTES :])


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("plain.dbn", (metadata() + bars(30))[:-1]),
        ("frame.dbn.zst", SPLIT[0] + SPLIT[1][:-1]),
        ("head.dbn.zst", SPLIT[0] + SPLIT[1][:7]),
        ("record.dbn.zst", zstd_frame((metadata() + bars(30))[:-1])),
        ("old.dbn.zst", SPLIT[0] + b"\x25" + SPLIT[1][1:]),
    ],
)
def test_a_file_that_ends_early_is_refused_whole(
    name: str, made: bytes, tmp_path: Path, imported: Import
) -> None:
    path = tmp_path / name
    path.write_bytes(made)
    with pytest.raises(BarsError, match=rf"^{name}: .*Download it again$"):
        imported(path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_few_packed_bytes_become_few_records_at_a_time(tmp_path: Path) -> None:
    """Blocks of one letter, each 128 KiB in 4 bytes: the letter makes bars of 132 bytes."""
    path = tmp_path / "es.dbn.zst"
    path.write_bytes(zstd_frame(metadata(), b"!", 660))
    sizes = [len(records) for records in dbn_module._decode(look(path, path.name, "dbn"))]
    assert sum(sizes) == 1 + 660 * (1 << 17) // 132
    assert max(sizes) <= dbn_module._STRETCH + dbn_module._PIECE // 4 * (1 << 17) // 132


@pytest.mark.parametrize("n_words", [13, 15, 17, 33, 255])
def test_records_that_misstate_their_length_are_refused(
    n_words: int, tmp_path: Path, imported: Import
) -> None:
    """The extra panics on the short ones, and reads beyond its memory behind the long ones."""
    path = tmp_path / "es.dbn"
    bar = bytes([n_words]) + bars(1)[1:] + bytes(1020)
    path.write_bytes(metadata() + bar[: n_words * 4] * 30)
    with pytest.raises(BarsError, match=r"^es\.dbn: not a sound DBN file .*bytes.*again$"):
        imported(path)
