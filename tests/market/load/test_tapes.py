"""passline's own file, longer bars, and the check against the calendar."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import MINUTE_NS, SUNDAY_NS, Made, generic, made_bars

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contracts import find_contract, load_contracts
from passline.market.load import check_bars, import_bars, read_bars, resample_bars, write_bars
from passline.market.load.parquet import _frame, _prices_to_ticks

Import = Callable[..., Bars]


def as_bars(made: Made, symbol: str = "ES") -> Bars:
    """Puts made bars into memory without a file."""
    ticks = {
        n: np.rint(getattr(made, n) * 4).astype(np.int32) for n in ("open", "high", "low", "close")
    }
    return Bars(
        contract=find_contract(symbol),
        bar_ns=MINUTE_NS,
        ts=made.ts,
        volume=made.volume,
        expiry=np.zeros(len(made), dtype=np.int16),
        expiries=("ESH4",),
        provenance={"source": "made"},
        **ticks,
    )


def test_bars_come_back_as_they_were(tmp_path: Path) -> None:
    made = made_bars(2)
    volume = made.volume.copy()
    volume[5] = -1
    expiry = (np.arange(len(made)) >= 1380).astype(np.int16)
    bars = replace(as_bars(made), volume=volume, expiry=expiry, expiries=("ESH4", "ESM4"))
    write_bars(bars, tmp_path / "a.parquet")
    back = read_bars(tmp_path / "a.parquet")
    assert back.fingerprint() == bars.fingerprint()
    assert back.expiries == bars.expiries
    assert back.contract == bars.contract
    assert back.provenance == bars.provenance
    np.testing.assert_array_equal(back.expiry, expiry)
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert table.columns == ["ts", "open", "high", "low", "close", "volume", "contract_month"]
    assert table["ts"].dtype == pl.Datetime("ns", "UTC")
    assert table["volume"][5] is None
    assert (table["close"].to_numpy() == made.close).all()
    assert table["contract_month"].cast(pl.String)[[0, 1380]].to_list() == ["ESH4", "ESM4"]


@given(st.lists(st.integers(-(2**28), 2**28), min_size=1, max_size=30), st.sampled_from(
    ["ES", "GC", "CL", "6E", "ZN", "YM", "RTY"]))  # fmt: skip
def test_every_tick_survives_the_float(ticks: list[int], symbol: str) -> None:
    contract = find_contract(symbol)
    whole = np.array(ticks, dtype=np.int32)
    exact = [float(int(t) * contract.tick_size) for t in whole]
    bars = Bars(
        contract=contract,
        bar_ns=MINUTE_NS,
        ts=np.arange(len(ticks)) * MINUTE_NS,
        open=whole,
        high=whole,
        low=whole,
        close=whole,
        volume=np.ones(len(ticks), dtype=np.int64),
        expiry=np.zeros(len(ticks), dtype=np.int16),
    )
    prices = _frame(bars).collect()["close"]
    assert prices.to_list() == exact
    assert (_prices_to_ticks(prices.to_numpy(), contract.tick_size) == whole).all()


def test_every_contract_comes_back(tmp_path: Path) -> None:
    for symbol in load_contracts():
        path = tmp_path / f"{symbol}.parquet"
        write_bars(as_bars(made_bars(1).only(slice(0, 5)), symbol), path)
        assert read_bars(path).contract == find_contract(symbol)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    bars = as_bars(made_bars(1))
    path = tmp_path / "a.parquet"
    write_bars(bars, path)
    first = path.read_bytes()
    with pytest.raises(BarsError, match="exists already and is not overwritten"):
        write_bars(bars.slice(0, 10), path)
    assert path.read_bytes() == first
    write_bars(bars.slice(0, 10), path, overwrite=True)
    assert len(read_bars(path)) == 10
    with pytest.raises(BarsError, match="was not found"):
        write_bars(bars, tmp_path / "no" / "a.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


FULL = "parquet: File out of specification: underlying IO error: No space left (os error 28)"


def test_a_full_disk_is_told_with_file_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = as_bars(made_bars(1))
    path = tmp_path / "a.parquet"
    write_bars(bars, path)
    before = path.read_bytes()

    def refuse(frame: pl.LazyFrame, target: str, **_: object) -> None:
        Path(target).write_bytes(b"PAR1")
        raise pl.exceptions.ComputeError(FULL)

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", refuse)
    with pytest.raises(
        BarsError, match=r"a\.parquet: could .* No space left on device.* Free space"
    ):
        write_bars(bars, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    assert path.read_bytes() == before


def test_an_error_of_polars_that_is_not_the_disk_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise pl.exceptions.ComputeError("no such column")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", fail)
    with pytest.raises(pl.exceptions.ComputeError, match="no such column"):
        write_bars(as_bars(made_bars(1)), tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_parquet_is_not_written_under_another_kinds_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BarsError, match=r"written as Parquet.* such as --out a.*\.parquet"):
        write_bars(as_bars(made_bars(1)), tmp_path / name, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(BarsError, match="no such file"):
        read_bars(path)
    pl.DataFrame({"ts": [1], "close": [1.0]}).write_parquet(path)
    with pytest.raises(BarsError, match=r"passline data import .*a\.parquet --contract"):
        read_bars(path)
    path.write_bytes(b"time,close\n1,2\n")
    with pytest.raises(BarsError, match="passline data import"):
        read_bars(path)
    path.write_bytes(b"PAR1" + b"\0" * 40)
    with pytest.raises(BarsError, match="passline data import"):
        read_bars(path)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_bars(as_bars(made_bars(1)), path)
    text = pl.read_parquet_metadata(path)["passline"]
    table = pl.read_parquet(path)
    raised = table.with_columns(pl.col("high") + 0.25)
    raised.write_parquet(path, metadata={"passline": text})
    with pytest.raises(BarsError, match="differ from the fingerprint"):
        read_bars(path)
    table.with_columns(pl.col("high") + 0.1).write_parquet(path, metadata={"passline": text})
    with pytest.raises(BarsError, match="do not fit"):
        read_bars(path)
    table.drop("volume").write_parquet(path, metadata={"passline": text})
    with pytest.raises(BarsError, match="do not fit"):
        read_bars(path)
    facts = json.loads(text)
    table.write_parquet(path, metadata={"passline": json.dumps({**facts, "version": 99})})
    with pytest.raises(BarsError, match="version was 99"):
        read_bars(path)
    table.write_parquet(path, metadata={"passline": "{"})
    with pytest.raises(BarsError, match="is damaged"):
        read_bars(path)


def test_an_imported_file_is_not_imported_again(tmp_path: Path, imported: Import) -> None:
    write_bars(as_bars(made_bars(1)), tmp_path / "a.parquet")
    with pytest.raises(BarsError, match="is a passline bar file already"):
        import_bars(
            tmp_path / "a.parquet", contract=find_contract("ES"), out=tmp_path / "b.parquet"
        )


@pytest.mark.parametrize("minutes", [5, 15, 30])
def test_longer_bars_are_made_of_their_parts(minutes: int) -> None:
    made = made_bars(3)
    keep = np.random.default_rng(1).random(len(made)) < 0.7
    bars = as_bars(made.only(keep))
    long = resample_bars(bars, minutes)
    length = minutes * MINUTE_NS
    assert long.bar_ns == length
    assert int(long.volume.sum()) == int(bars.volume.sum())
    bucket = bars.ts // length * length
    assert long.ts.tolist() == np.unique(bucket).tolist()
    for i in range(0, len(long), 11):
        mine = bucket == long.ts[i]
        assert long.open[i] == bars.open[mine][0]
        assert long.high[i] == bars.high[mine].max()
        assert long.low[i] == bars.low[mine].min()
        assert long.close[i] == bars.close[mine][-1]


def test_longer_bars_know_nothing_of_later_ones() -> None:
    bars = as_bars(made_bars(2))
    whole = resample_bars(bars, 5)
    cut = 1000
    part = resample_bars(bars.slice(0, cut), 5)
    assert part.slice(0, cut // 5).fingerprint() == whole.slice(0, cut // 5).fingerprint()


def test_longer_bars_do_not_cross_a_roll_and_refuse_odd_lengths() -> None:
    bars = as_bars(made_bars(1).only(slice(0, 10)))
    expiry = (np.arange(10) >= 3).astype(np.int16)
    long = resample_bars(replace(bars, expiry=expiry, expiries=("ESH4", "ESM4")), 5)
    assert len(long) == 3
    assert long.volume[0] == bars.volume[:3].sum()
    none = resample_bars(replace(bars, volume=np.full(10, -1)), 5)
    assert (none.volume == -1).all()
    assert resample_bars(bars, 1) is bars
    for minutes in (7, 0, -5, 120):
        with pytest.raises(BarsError, match="were asked for"):
            resample_bars(bars, minutes)


def test_coverage_of_whole_sessions() -> None:
    coverage = check_bars(as_bars(made_bars(5)))
    assert (coverage.n_sessions, coverage.n_present, coverage.n_missing) == (5, 5, 0)
    assert coverage.median_share == 1.0
    assert coverage.n_outside == 0
    assert coverage.absent_days == ()
    assert coverage.n_jumps == 0
    json.dumps(coverage.as_dict())


def test_coverage_finds_what_was_taken_out() -> None:
    made = made_bars(5)
    gone = np.zeros(len(made), dtype=np.bool_)
    gone[1380:2760] = True
    gone[3000:3100] = True
    gone[4140 : 4140 + 900] = True
    coverage = check_bars(as_bars(made.only(~gone)))
    assert coverage.absent_days == ("2024-03-05",)
    assert coverage.thin_days == ("2024-03-07",)
    by_day = {session.day: session for session in coverage.sessions}
    assert by_day["2024-03-06"].n_missing == 100
    assert by_day["2024-03-06"].longest_gap_bars == 100
    assert by_day["2024-03-05"].longest_gap_bars == 1380
    assert coverage.n_missing == 1000


def test_coverage_names_days_jumps_and_quiet_hours() -> None:
    made = made_bars(5, start=SUNDAY_NS - 7 * 1440 * MINUTE_NS + 0)
    volume = made.volume.copy()
    volume[100:140] = 0
    late = np.arange(len(made)) >= 600
    step = np.where(late, 60.0, 0.0)
    prices = {n: getattr(made, n) + step for n in ("open", "high", "low", "close")}
    coverage = check_bars(as_bars(Made(ts=made.ts, volume=volume, **prices)))
    (run,) = coverage.zero_volume_runs
    assert (run.first, run.n_bars) == ("2024-02-25 19:40 ET", 40)
    (jump,) = coverage.jumps
    assert jump.at == "2024-02-26 04:00 ET"
    assert 55 < jump.move < 65
    assert not jump.is_reopen


def test_coverage_knows_holidays_half_days_and_clock_changes() -> None:
    made = made_bars(1)
    weeks = [made.ts + day * 1440 * MINUTE_NS for day in (0, 8, 112, 276)]
    many = made_bars(4)
    bars = replace(as_bars(many), ts=np.concatenate(weeks))
    coverage = check_bars(bars)
    assert "2024-03-29" in coverage.holidays
    assert "2024-07-03" in coverage.half_days
    assert "2024-03-11" in coverage.dst_days
    assert "2024-11-04" in coverage.dst_days
    assert coverage.n_present == 4


def test_bars_outside_sessions_are_counted(tmp_path: Path) -> None:
    path = generic(tmp_path / "a.csv", made_bars(1))
    assert path.exists()
    made = made_bars(1)
    ts = made.ts.copy()
    ts[-1] += 30 * MINUTE_NS
    coverage = check_bars(as_bars(replace(made, ts=ts)))
    assert coverage.n_outside == 1
    assert coverage.outside == ("2024-03-04 17:29 ET",)
