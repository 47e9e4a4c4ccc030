"""What is not sane is refused with rows and a remedy, and leaves nothing behind."""

import gzip
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_files import MINUTE_NS, SUNDAY_NS, Made, generic, made_bars, stamps, write_rows

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import import_bars

Import = Callable[..., Bars]
ES = find_contract("ES")


@pytest.fixture
def made() -> Made:
    return made_bars(2)


def refusal(path: Path, **options: object) -> str:
    """Imports a file that must be refused; returns the message; nothing may be left behind."""
    before = sorted(path.parent.iterdir())
    words: dict[str, object] = {"tz": "UTC", "stamp": "open", "contract": ES, **options}
    with pytest.raises(BarsError) as caught:
        import_bars(path, out=path.parent / "out.parquet", **words)  # type: ignore[arg-type]
    assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert "Traceback" not in message
    assert len(message) < 3000
    return message


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("high", 1.0, "high below open or close in 1 of 2,760 bars"),
        ("low", 90_000.0, "low above open or close in 1 of 2,760 bars"),
        ("close", float("nan"), "a price that is missing, not finite or out of range in 1 of"),
        ("open", float("inf"), "a price that is missing, not finite or out of range in 1 of"),
        ("volume", -5, "negative volume in 1 of 2,760 bars"),
    ],
)
def test_one_bad_bar(tmp_path: Path, made: Made, column: str, value: float, words: str) -> None:
    path = generic(tmp_path / "a.csv", made.changed(column, 100, value))
    message = refusal(path)
    assert words in message
    assert "2024-03-03 19:40 ET, row 102" in message
    assert "drop the day with: passline data import ... --drop-day 2024-03-04" in message
    assert " in 0 bars" not in message


def test_a_dropped_day_is_left_out_and_recorded(
    tmp_path: Path, made: Made, imported: Import
) -> None:
    path = generic(tmp_path / "a.csv", made.changed("high", 100, 1.0))
    bars = imported(path, tz="UTC", stamp="open", drop_days=[date(2024, 3, 4)])
    assert len(bars) == 1380
    assert bars.ts[0] == SUNDAY_NS + 1440 * MINUTE_NS
    assert bars.provenance["dropped_days"] == ["2024-03-04"]
    assert bars.provenance["n_dropped"] == 1380


def test_off_tick_prices_show_five_places_and_a_count(tmp_path: Path, made: Made) -> None:
    for row in range(300, 310):
        made = made.changed("close", row, float(made.high[row]) - 0.1)
        made = made.changed("low", row, 1000.0)
    message = refusal(generic(tmp_path / "a.csv", made))
    assert "prices off the ES tick of 0.25 in 10 of 2,760 bars" in message
    assert message.count("ET, row") == 5
    assert "and 5 more" in message


def test_a_wrong_contract_is_not_a_matter_of_days(tmp_path: Path, made: Made) -> None:
    message = refusal(generic(tmp_path / "a.csv", made), contract=find_contract("YM"))
    assert "prices off the YM tick of 1" in message
    assert "--contract" in message
    assert "--drop-day" not in message


def test_order_and_duplicates(tmp_path: Path, made: Made) -> None:
    index = np.arange(len(made))
    index[[10, 11]] = [11, 10]
    message = refusal(generic(tmp_path / "a.csv", made.only(index)))
    assert "out of order in 1 of 2,760 bars" in message
    assert "2024-03-03 18:10 ET row 13 after 2024-03-03 18:11 ET" in message
    index = np.sort(np.append(np.arange(len(made)), 20))
    message = refusal(generic(tmp_path / "a.csv", made.only(index)))
    assert "duplicate times in 1 of 2,761 bars" in message


@pytest.mark.parametrize("factor", [10.0, 100.0, 0.01])
def test_a_jump_by_a_factor(tmp_path: Path, made: Made, factor: float) -> None:
    for row in range(1380, 1400):
        for name in ("open", "high", "low", "close"):
            price = np.rint(getattr(made, name)[row] * factor / 0.25) * 0.25
            made = made.changed(name, row, float(price))
    message = refusal(generic(tmp_path / "a.csv", made))
    assert "jumps by a factor of 8 or more in 2 bars" in message
    assert "2024-03-04 18:00 ET row 1,382" in message


def test_bars_while_the_exchange_is_closed(tmp_path: Path, made: Made) -> None:
    path = generic(tmp_path / "a.csv", made)
    message = refusal(path, tz="America/Chicago")
    assert "lie in the daily break (17:00-18:00 ET) or the weekend" in message
    message = refusal(path, stamp="close")
    assert "2 of 2,760 bars lie in the daily break" in message
    assert "read as close" in message


def test_a_zone_that_shifts_inside_the_file(tmp_path: Path) -> None:
    made = made_bars(3)
    times = stamps(made.ts[:1380], "%Y-%m-%d %H:%M:%S", shift_s=-3600)
    times += stamps(made.ts[1380:], "%Y-%m-%d %H:%M:%S")
    message = refusal(write_rows(tmp_path / "a.csv", made, times))
    assert "60 of 4,140 bars lie in the daily break" in message
    assert "its zone shifts inside the file" in message
    assert "--drop-day 2024-03-03" in message


def test_hours_of_a_wrong_day(tmp_path: Path, made: Made) -> None:
    index = np.arange(len(made))
    index[1800:1860] = np.arange(300, 360)
    pasted = made.only(index)
    message = refusal(generic(tmp_path / "a.csv", Made(**{**vars(pasted), "ts": made.ts})))
    assert "repeat, bar for bar" in message
    assert "--drop-day 2024-03-05" in message


def test_filler_of_a_back_month(tmp_path: Path, made: Made) -> None:
    flat = np.arange(len(made)) % 4 != 0
    close = np.repeat(made.close[::4], 4)
    held = Made(
        ts=made.ts,
        open=np.where(flat, close, made.open),
        high=np.where(flat, close, np.maximum(made.high, made.open)),
        low=np.where(flat, close, made.low),
        close=np.where(flat, close, made.close),
        volume=np.where(flat, 0, made.volume),
    )
    message = refusal(generic(tmp_path / "a.csv", held))
    assert "2,070 of 2,760 bars (75%) have volume 0 and one price" in message


def with_symbols(path: Path, made: Made, symbols: list[str]) -> Path:
    """Writes the bars with a column of contract names."""
    times = stamps(made.ts, "%Y-%m-%d %H:%M:%S")
    write_rows(path, made, times)
    lines = path.read_text().splitlines()
    named = [lines[0] + ",symbol"]
    named += [f"{line},{name}" for line, name in zip(lines[1:], symbols, strict=True)]
    path.write_text("\n".join(named) + "\n")
    return path


@pytest.mark.parametrize("other", ["NQH4", "MESH4", "ESH4-ESM4", "ES:BF H4-M4-U4", "ESH4 ESM4"])
def test_other_instruments_and_spreads(
    tmp_path: Path, made: Made, imported: Import, other: str
) -> None:
    symbols = ["ESH4"] * 2000 + [other] * 760
    path = with_symbols(tmp_path / "a.csv", made, symbols)
    message = refusal(path)
    assert "several instruments or calendar spreads in one file" in message
    assert f"{other} (760 rows)" in message
    assert "--symbols ESH4" in message
    bars = imported(path, tz="UTC", stamp="open", symbols=["ESH4"])
    assert len(bars) == 2000
    assert bars.expiries == ("ESH4",)


def test_rolls_of_a_file_without_months_are_refused(
    tmp_path: Path, made: Made, imported: Import
) -> None:
    path = generic(tmp_path / "a.csv", made)
    assert "--roll volume and --adjust would do nothing" in refusal(
        path, roll="volume", adjust=True
    )
    assert "--column symbol=NAME" in refusal(path, adjust=True)
    named = with_symbols(tmp_path / "b.csv", made, ["ESH4"] * len(made))
    bars = imported(named, tz="UTC", stamp="open", roll="calendar", adjust=True)
    assert bars.provenance["warnings"] == [
        "--roll calendar had nothing to choose: every bar is of ESH4",
        "--adjust moved no price: the bars do not change their contract month",
    ]


def test_instruments_known_only_by_number(tmp_path: Path, made: Made, imported: Import) -> None:
    path = with_symbols(tmp_path / "a.csv", made, ["118"] * 1380 + ["4358"] * 1380)
    assert "told apart only by number: 118, 4358" in refusal(path)
    assert len(imported(path, tz="UTC", stamp="open", symbols=["118"])) == 1380


@pytest.mark.parametrize("price", ["open", "high", "low", "close"])
def test_a_missing_price_column_is_named(tmp_path: Path, made: Made, price: str) -> None:
    path = generic(tmp_path / "a.csv", made)
    path.write_text(path.read_text().replace(price, "other", 1))
    message = refusal(path)
    assert f"no column for {price} among timestamp, " in message
    assert f"--column {price}=NAME" in message
    assert "one price" not in message


def test_closes_alone_still_need_a_bar_length(tmp_path: Path, made: Made, imported: Import) -> None:
    path = generic(tmp_path / "a.csv", made)
    path.write_text(path.read_text().replace("open,high,low", "bid,ask,other", 1))
    assert "rows have one price each" in refusal(path)
    path.write_text(path.read_text().replace("bid,ask,other", "bid,high,low", 1))
    bars = imported(path, tz="UTC", bar="5m", columns={"price": "close"})
    assert len(bars) == len(made) / 5


@pytest.mark.parametrize(("name", "remedy"), [("close", "Remove or rename"), ("Close", "--column")])
def test_a_column_that_stands_twice_is_refused(
    tmp_path: Path, made: Made, imported: Import, name: str, remedy: str
) -> None:
    times = stamps(made.ts, "%Y-%m-%d %H:%M:%S")
    header = f"timestamp,open,high,low,close,volume,{name}"
    path = write_rows(tmp_path / "a.csv", made, times, header=header, more=",4000")
    message = refusal(path)
    assert "2 columns are named close" in message
    assert remedy in message
    if name != "close":
        bars = imported(path, tz="UTC", stamp="open", columns={"close": "close"})
        assert bars.close[0] == 4 * made.close[0]


def test_columns_that_play_no_role_may_stand_twice(
    tmp_path: Path, made: Made, imported: Import
) -> None:
    times = stamps(made.ts, "%Y-%m-%d %H:%M:%S")
    header = "timestamp,open,high,low,close,volume,Plot,Plot"
    path = write_rows(tmp_path / "a.csv", made, times, header=header, more=",1,2")
    assert len(imported(path, tz="UTC", stamp="open")) == len(made)


def test_a_roll_adjustment_gone_wrong(tmp_path: Path) -> None:
    made = made_bars(4)
    late = made.ts >= made.ts[2 * 1380]
    moved = Made(
        ts=made.ts,
        volume=made.volume,
        **{
            n: getattr(made, n) + np.where(late, 300.0, 0.0)
            for n in ("open", "high", "low", "close")
        },
    )
    path = with_symbols(tmp_path / "a.csv", moved, ["ESH4"] * 2760 + ["ESM4"] * 2760)
    message = refusal(path)
    assert "leaps at 1 of 1 rolls" in message
    assert "ESH4 to ESM4 at 2024-03-05 18:00 ET" in message


@pytest.mark.parametrize("row", [0, 40, 2000])
def test_conflict_markers_of_git(tmp_path: Path, made: Made, row: int) -> None:
    path = generic(tmp_path / "a.csv", made)
    lines = path.read_text().splitlines()
    lines.insert(row + 1, "<<<<<<< HEAD")
    path.write_text("\n".join(lines))
    message = refusal(path)
    assert f"line {row + 2:,} was '<<<<<<< HEAD', a conflict marker of git" in message


def test_daily_bars(tmp_path: Path, made: Made) -> None:
    days = made.only(slice(0, 30))
    for shape in ("2024-01-{:02d}", "2024-01-{:02d} 00:00:00-05:00"):
        times = [shape.format(day + 1) for day in range(30)]
        assert "daily bars" in refusal(write_rows(tmp_path / "a.csv", days, times))


def test_a_length_that_the_file_does_not_have(tmp_path: Path, made: Made) -> None:
    path = generic(tmp_path / "a.csv", made.only(slice(0, 1000, 5)))
    assert "--bar said 1m" in refusal(path, bar="1m")
    path = generic(tmp_path / "a.csv", made)
    assert "do not begin on the grid of 5m" in refusal(path, bar="5m")
    assert "--bar was '7m'" in refusal(path, bar="7m")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"tz": "Mars/Base"}, "time zone was 'Mars/Base'"),
        ({"stamp": "middle"}, "--stamp was 'middle'"),
        ({"roll": "sometimes", "symbols": ["ESH4", "ESM4"]}, "--roll was 'sometimes'"),
    ],
)
def test_words_that_mean_nothing(
    tmp_path: Path, made: Made, words: dict[str, object], found: str
) -> None:
    path = with_symbols(tmp_path / "a.csv", made, ["ESH4"] * 1380 + ["ESM4"] * 1380)
    assert found in refusal(path, **words)


HOSTILE = {
    "empty.csv": b"",
    "blank.csv": b"\n\n\n",
    "header.csv": b"timestamp,open,high,low,close,volume\n",
    "one.csv": b"timestamp,open,high,low,close,volume\n2024-03-03 23:00:00,1,1,1,1,1\n",
    "zeros.csv": b"\0" * 5000,
    "late_zeros.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1\n" * 3
    + b"\0\0",
    "noise.csv": bytes(range(256)) * 40,
    "words.csv": b"once upon a time\nthere was a bar\nand it was bad\n",
    "text_price.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1\n" * 3
    + b"2024-03-04 00:03:00,cheap,5000,5000,5000,1\n",
    "ragged.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1\n" * 3
    + b"2024-03-04 00:03:00,5000,5000,5000,5000,1,2,3\n",
    "short.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1\n" * 3
    + b"2024-03-04 00:03:00,5000\n",
    "huge.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,1e300,1e300,1e300,1e300,1\n" * 3,
    "far.csv": b"timestamp,open,high,low,close,volume\n"
    + b"1024-03-04 00:00:00,5000,5000,5000,5000,1\n" * 3,
    "epoch.csv": b"timestamp,open,high,low,close,volume\n"
    + b"9223372036854775807,5000,5000,5000,5000,1\n" * 3,
    "volume.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1e30\n" * 3,
    "part.csv": b"timestamp,open,high,low,close,volume\n"
    + b"2024-03-04 00:00:00,5000,5000,5000,5000,1.5\n" * 3,
    "cut.parquet": b"PAR1" + b"\0" * 100,
    "cut.dbn": b"DBN\x02\x10",
    "cut.dbn.zst": b"\x28\xb5\x2f\xfd\x04X\x94\x04",
    "new.dbn": b"DBN\x09" + b"a" * 100,
    "old.dbz": b"P*M\x18" + b"\0" * 100,
    "empty.gz": gzip.compress(b"\n"),
    "cut.gz": b"\x1f\x8b\x08\0\0\0\0\0",
    "cut.zst": b"\x28\xb5\x2f\xfd\x04X",
    "cut.zip": b"PK\x03\x04" + b"\0" * 50,
    "bad.json": b'{"a": \n',
    "list.json": b"[1, 2, 3]\n",
    "wide.txt": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_files_end_in_one_clean_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    message = refusal(path)
    assert name in message
    assert "\n" not in message


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_get_through_as_an_error_of_ours(
    tmp_path: Path, made: Made, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.csv"
    data = bytearray(generic(path, made.only(slice(0, 300))).read_bytes())
    for place in rng.integers(0, len(data), rng.integers(1, 6)).tolist():
        data[place] = int(rng.choice([0, 10, 34, 44, 45, 46, 48, 57, 59, 69, 101, 200, 255]))
    path.write_bytes(bytes(data))
    try:
        report = import_bars(path, contract=ES, out=tmp_path / "o.parquet", tz="UTC", stamp="open")
    except BarsError:
        assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    else:
        assert report.n_bars <= 300


def test_hostile_zips(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for member, text in {
        "20240304_es_minute_trade_202499.csv": "0,1,1,1,1,1",
        "20240304_es_minute_trade_202403.csv": "a,b,c",
        "20249999_es_minute_trade_202403.csv": "0,1,1,1,1,1",
        "../../evil.csv": "x",
    }.items():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, text)
        assert "a.zip" in refusal(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "a.zip" in refusal(path)


def test_odd_parquet_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for columns in (
        {"ts": [True, False], "close": [1.0, 2.0]},
        {"ts": [1.5, 2.5], "open": [1], "high": [1], "low": [1], "close": [1]},
        {"ts": ["x", "y"], "open": ["a", "b"], "high": [1, 2], "low": [1, 2], "close": [1, 2]},
        {"ts": [1, 2], "open": [[1], [2]], "high": [1, 2], "low": [1, 2], "close": [1, 2]},
        {"ts": [1, 2], "open": ["a", "b"], "high": [1, 2], "low": [1, 2], "close": [1, 2]},
        {"x": [1, 2]},
    ):
        length = min(len(values) for values in columns.values())
        pl.DataFrame({name: values[:length] for name, values in columns.items()}).write_parquet(
            path
        )
        assert "a.parquet" in refusal(path, bar="1m")


def test_paths(tmp_path: Path, made: Made) -> None:
    path = generic(tmp_path / "a.csv", made)
    out = tmp_path / "o.parquet"
    out.write_text("mine")
    words = {"contract": ES, "tz": "UTC", "stamp": "open"}
    with pytest.raises(BarsError, match="exists already"):
        import_bars(path, out=out, **words)  # type: ignore[arg-type]
    assert out.read_text() == "mine"
    with pytest.raises(BarsError, match="no such file"):
        import_bars(tmp_path / "none.csv", out=tmp_path / "x.parquet", **words)  # type: ignore[arg-type]
    with pytest.raises(BarsError, match="is a folder"):
        import_bars(tmp_path, out=tmp_path / "x.parquet", **words)  # type: ignore[arg-type]
    with pytest.raises(BarsError, match="was not found"):
        import_bars(path, out=tmp_path / "no" / "x.parquet", **words)  # type: ignore[arg-type]
    with pytest.raises(BarsError, match="is the file to read"):
        import_bars(path, out=path, overwrite=True, **words)  # type: ignore[arg-type]
