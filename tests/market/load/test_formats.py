"""Every format: what is written by its rules comes back as the same bars at the same UTC times."""

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from made_files import MINUTE_NS, SUNDAY_NS, Made, generic, made_bars, stamps, write_rows

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import FORMATS, import_bars

Import = Callable[..., Bars]
CHICAGO_S, EASTERN_S = -6 * 3600, -5 * 3600
HEADER = "timestamp,open,high,low,close,volume"


def same(bars: Bars, made: Made, *, has_volume: bool = True) -> None:
    """The tape holds exactly the made bars."""
    np.testing.assert_array_equal(bars.ts, made.ts)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(bars, name) * 0.25, getattr(made, name))
    if has_volume:
        np.testing.assert_array_equal(bars.volume, made.volume)
    else:
        assert (bars.volume == -1).all()
    assert bars.bar_ns == MINUTE_NS


@pytest.fixture
def made() -> Made:
    return made_bars().only(slice(0, 240))


@pytest.mark.parametrize(
    ("pattern", "zone", "shift_s"),
    [
        ("%Y-%m-%d %H:%M:%S", "UTC", 0),
        ("%Y-%m-%dT%H:%M:%S", "America/New_York", EASTERN_S),
        ("%Y-%m-%dT%H:%M:%S.000", "America/Chicago", CHICAGO_S),
        ("%Y/%m/%d %H:%M", "Europe/Berlin", 3600),
        ("%d.%m.%Y %H:%M", "+02:00", 7200),
        ("%m/%d/%Y %I:%M:%S %p", "UTC", 14 * 86_400),
        ("%Y%m%d %H%M%S", "UTC", 0),
        ("%Y%m%d%H%M%S", "UTC", 0),
        ("%Y-%m-%d %H:%M:%S+00:00", None, 0),
        ("%Y-%m-%dT%H:%M:%SZ", None, 0),
        ("%Y-%m-%dT%H:%M:%S.123456000Z", None, 0),
        ("%Y-%m-%dT%H:%M:%S-0600", None, CHICAGO_S),
    ],
)
def test_ways_of_writing_time(
    tmp_path: Path, imported: Import, made: Made, pattern: str, zone: str | None, shift_s: int
) -> None:
    path = write_rows(tmp_path / "a.csv", made, stamps(made.ts, pattern, shift_s=shift_s))
    if ".123456" in pattern:
        with pytest.raises(BarsError, match="do not begin on the grid"):
            imported(path, stamp="open")
        return
    moved = 14 * 86_400 * 10**9 if "%p" in pattern else 0
    bars = imported(path, stamp="open", tz=zone)
    np.testing.assert_array_equal(bars.ts, made.ts + moved)


@pytest.mark.parametrize(("unit", "digits"), [(10**9, 10), (10**6, 13), (10**3, 16), (1, 19)])
def test_epochs(tmp_path: Path, imported: Import, made: Made, unit: int, digits: int) -> None:
    times = [str(t // unit) for t in made.ts.tolist()]
    assert len(times[0]) == digits
    same(imported(write_rows(tmp_path / "a.csv", made, times), stamp="open"), made)


def test_ambiguous_date_order_is_refused(tmp_path: Path, imported: Import, made: Made) -> None:
    path = write_rows(tmp_path / "a.csv", made, stamps(made.ts, "%m/%d/%Y %H:%M"))
    with pytest.raises(BarsError, match="do not tell day from month"):
        imported(path, stamp="open", tz="UTC")


def test_close_stamps_move_back_by_one_bar(tmp_path: Path, imported: Import, made: Made) -> None:
    path = generic(tmp_path / "a.csv", made)
    with pytest.raises(BarsError, match="--stamp open or --stamp close"):
        imported(path, tz="UTC")
    with pytest.raises(BarsError, match="--tz UTC or --tz America/New_York, and --stamp"):
        imported(path)
    late = write_rows(tmp_path / "b.csv", made, stamps(made.ts, "%Y-%m-%d %H:%M", shift_s=60))
    same(imported(late, tz="UTC", stamp="close"), made)


def test_separators_decimal_commas_padding_and_quotes(
    tmp_path: Path, imported: Import, made: Made
) -> None:
    plain = generic(tmp_path / "a.csv", made)
    text = plain.read_text()
    variants = {
        "semicolon": text.replace(",", ";"),
        "tab": text.replace(",", "\t"),
        "pipe": text.replace(",", "|"),
        "comma for point": text.replace(",", ";").replace(".", ","),
        "padded": "\n".join(" ; ".join(line.split(",")) for line in text.splitlines()) + "\n",
        "padded comma for point": "\n".join(
            " ; ".join(line.split(",")).replace(".", ",") for line in text.splitlines()
        ),
        "crlf": text.replace("\n", "\r\n"),
        "comments": "# made\n\n" + text,
        "quoted": "\n".join(
            ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()
        ),
        "byte order mark": "\ufeff" + text,
        "no last newline": text.rstrip("\n"),
    }
    for name, variant in variants.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(variant.encode())
        same(imported(path, tz="UTC", stamp="open"), made)
    wide = tmp_path / "utf16.csv"
    wide.write_text(text, encoding="utf-16")
    same(imported(wide, tz="UTC", stamp="open"), made)
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    same(imported(packed, tz="UTC", stamp="open"), made)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", text)
    same(imported(tmp_path / "a.zip", tz="UTC", stamp="open"), made)


@pytest.mark.parametrize(
    "header",
    [
        "Date Time,O,H,L,C,V",
        "<DATETIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "caldt,Open,High,Low,Last,Total Volume",
        "ts,open price,high price,low price,close price,Volumen",
    ],
)
def test_column_names(tmp_path: Path, imported: Import, made: Made, header: str) -> None:
    path = write_rows(tmp_path / "a.csv", made, stamps(made.ts, "%Y-%m-%d %H:%M:%S"), header=header)
    same(imported(path, tz="UTC", stamp="open"), made)


def test_columns_that_the_user_names(tmp_path: Path, imported: Import, made: Made) -> None:
    path = write_rows(
        tmp_path / "a.csv",
        made,
        stamps(made.ts, "%Y-%m-%d %H:%M:%S"),
        header="wann,erster,hoch,tief,letzter,menge",
    )
    roles = {
        "time": "wann",
        "open": "erster",
        "high": "hoch",
        "low": "tief",
        "close": "letzter",
        "volume": "menge",
    }
    with pytest.raises(BarsError, match="no known format fits"):
        imported(path, tz="UTC", stamp="open")
    same(imported(path, tz="UTC", stamp="open", columns=roles), made)
    with pytest.raises(BarsError, match="no such column"):
        imported(path, tz="UTC", stamp="open", columns={"time": "wenn"}, format="csv")
    with pytest.raises(BarsError, match="column role was 'when'"):
        imported(path, tz="UTC", stamp="open", columns={"when": "wann"}, format="csv")


def vendor_files(folder: Path, made: Made) -> dict[str, tuple[Path, dict[str, str]]]:
    """Writes the made bars as each vendor does; returns the file and what the user must add."""
    dash, slash = "%Y-%m-%d %H:%M:%S", "%Y/%m/%d"
    date_clock = [
        f"{d}, {c}"
        for d, c in zip(
            stamps(made.ts, slash, shift_s=CHICAGO_S),
            stamps(made.ts, "%H:%M:%S", shift_s=CHICAGO_S),
            strict=True,
        )
    ]

    def rows(
        name: str, times: list[str], header: str, separator: str = ",", more: str = ""
    ) -> Path:
        return write_rows(folder / name, made, times, header=header, separator=separator, more=more)

    schema = (
        "#schema: NinjaDataExport/v2.3, volumetric=True\ntimestamp,open,high,low,close,volume,ema20"
    )
    return {
        "ninjatrader": (
            rows("nt.txt", stamps(made.ts, "%Y%m%d %H%M%S", shift_s=60), "", ";"),
            {},
        ),
        "ninjadataexport": (
            rows(
                "nde.csv",
                stamps(made.ts, "%Y-%m-%dT%H:%M:%S.000", shift_s=EASTERN_S + 60),
                schema,
                more=",5000.123",
            ),
            {},
        ),
        "tradingview": (
            rows(
                "CME_MINI_ES1!, 1.csv",
                [str(t // 10**9) for t in made.ts.tolist()],
                "time,open,high,low,close,Volume",
            ),
            {},
        ),
        "sierrachart": (
            rows(
                "sc.txt",
                date_clock,
                "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume",
                ", ",
                ", 1, 2, 3",
            ),
            {},
        ),
        "histdata": (
            rows(
                "DAT_ASCII_ES_M1.csv", stamps(made.ts, "%Y%m%d %H%M%S", shift_s=EASTERN_S), "", ";"
            ),
            {},
        ),
        "metatrader": (
            rows(
                "mt.csv",
                stamps(made.ts, "%Y.%m.%d,%H:%M", shift_s=7200),
                "",
            ),
            {"tz": "+02:00"},
        ),
        "kibot": (
            rows("kibot.txt", stamps(made.ts, "%m/%d/%Y,%H:%M", shift_s=EASTERN_S), ""),
            {},
        ),
        "firstrate": (rows("fr.txt", stamps(made.ts, dash, shift_s=EASTERN_S), ""), {}),
        "yfinance": (
            rows(
                "yf.csv",
                stamps(made.ts, dash + "-05:00", shift_s=EASTERN_S),
                "Datetime,Open,High,Low,Close,Volume,Adj Close",
                more=",1.0",
            ),
            {},
        ),
        "ibkr": (
            rows(
                "ib.csv",
                stamps(made.ts, dash, shift_s=EASTERN_S),
                "date,open,high,low,close,volume,average,barCount",
                more=".0,5000.1,7",
            ),
            {"tz": "America/New_York"},
        ),
        "backtrader": (
            rows(
                "bt.txt",
                stamps(made.ts, "%Y-%m-%d,%H:%M:%S", shift_s=60),
                "Date,Open,High,Low,Close,Volume,OpenInterest",
                more=",0",
            ),
            {"tz": "UTC", "stamp": "close"},
        ),
    }


def test_every_vendor_by_its_own_rules(tmp_path: Path, made: Made, imported: Import) -> None:
    for name, (path, extra) in vendor_files(tmp_path, made).items():
        bars = imported(path, **extra)
        assert bars.provenance["format"] == name, path.name
        same(bars, made)


def test_databento_text_and_parquet(tmp_path: Path, made: Made, imported: Import) -> None:
    n = len(made)
    prices = {name: getattr(made, name) for name in ("open", "high", "low", "close")}
    heads = {
        "rtype": np.full(n, 33, np.uint8),
        "publisher_id": np.full(n, 1, np.uint16),
        "instrument_id": np.full(n, 118, np.uint32),
    }
    tail = {"volume": made.volume.astype(np.uint64), "symbol": ["ESH4"] * n}
    raw = pl.DataFrame(
        {
            "ts_event": made.ts,
            **heads,
            **{name: np.rint(p * 1e9).astype(np.int64) for name, p in prices.items()},
            **tail,
        }
    )
    raw.write_csv(tmp_path / "raw.csv")
    pretty = pl.DataFrame(
        {
            "ts_event": stamps(made.ts, "%Y-%m-%dT%H:%M:%S.000000000Z"),
            **heads,
            **{name: [f"{x:.9f}" for x in p.tolist()] for name, p in prices.items()},
            **tail,
        }
    )
    pretty.write_csv(tmp_path / "pretty.csv")
    table = pl.DataFrame(
        {"ts_event": pl.Series(made.ts).cast(pl.Datetime("ns", "UTC")), **heads, **prices, **tail}
    )
    table.write_parquet(tmp_path / "a.parquet")
    lines = [
        json.dumps({"hd": {"ts_event": row[0], "rtype": 33, "instrument_id": 118}}
                   | dict(zip(("open", "high", "low", "close"), row[4:8], strict=True))
                   | {"volume": str(row[8]), "symbol": "ESH4"})
        for row in pretty.iter_rows()
    ]  # fmt: skip
    (tmp_path / "a.json").write_text("\n".join(lines))
    names = {
        "raw.csv": "databento-csv",
        "pretty.csv": "databento-csv",
        "a.parquet": "databento-parquet",
        "a.json": "databento-json",
    }
    for file, name in names.items():
        bars = imported(tmp_path / file)
        same(bars, made)
        assert bars.provenance["format"] == name
        assert bars.expiries == ("ESH4",)


def test_generic_parquet(tmp_path: Path, made: Made, imported: Import) -> None:
    path = tmp_path / "a.parquet"
    columns = {name: getattr(made, name) for name in ("open", "high", "low", "close", "volume")}
    ts = pl.Series(made.ts).cast(pl.Datetime("ns"))
    pl.DataFrame({"when": ts, **columns}).rename({"when": "ts"}).write_parquet(path)
    same(imported(path, tz="UTC", stamp="open"), made)
    chicago = (ts.dt.replace_time_zone("UTC").dt.convert_time_zone("America/Chicago")).rename("ts")
    pl.DataFrame([chicago]).with_columns(
        *(pl.Series(name, values) for name, values in columns.items())
    ).write_parquet(path)
    same(imported(path, stamp="open"), made)


def test_no_volume_is_recorded_as_none(tmp_path: Path, made: Made, imported: Import) -> None:
    times = stamps(made.ts, "%Y-%m-%dT%H:%M:%SZ")
    lines = ["time,open,high,low,close"]
    for i, time in enumerate(times):
        values = (getattr(made, n)[i] for n in ("open", "high", "low", "close"))
        lines.append(",".join([time, *(f"{v:.2f}" for v in values)]))
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    bars = imported(path)
    same(bars, made, has_volume=False)
    assert "no volume" in " ".join(bars.provenance["warnings"])


def test_lean_zip_of_one_month(tmp_path: Path, made: Made, imported: Import) -> None:
    later = made.only(made.ts >= SUNDAY_NS + 60 * MINUTE_NS)
    midnight = SUNDAY_NS + 60 * MINUTE_NS
    rows = [
        ",".join(
            [str((int(t) - midnight) // 10**6)]
            + [f"{getattr(later, n)[i]:g}" for n in ("open", "high", "low", "close", "volume")]
        )
        for i, t in enumerate(later.ts.tolist())
    ]
    path = tmp_path / "20240304_trade.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20240304_es_minute_trade_202403.csv", "\n".join(rows))
    bars = imported(path)
    same(bars, later)
    assert bars.expiries == ("ESH24",)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20240304_es_minute_quote_202403.csv", "\n".join(rows))
    with pytest.raises(BarsError, match="not trades by minute"):
        imported(path)


def test_trades_become_bars(tmp_path: Path, imported: Import) -> None:
    rng = np.random.default_rng(3)
    ts = SUNDAY_NS + np.sort(rng.integers(0, 600, 5000)) * 10**9
    price = 5000 + 0.25 * np.cumsum(rng.integers(-1, 2, 5000))
    size = rng.integers(1, 9, 5000)
    lines = ["Date;Time;Price;Volume"]
    for time, p, s in zip(stamps(ts, "%Y-%m-%d;%H:%M:%S"), price, size, strict=True):
        lines.append(f"{time};{p:g};{s}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(BarsError, match="--bar 1s or --bar 1m"):
        imported(path, tz="UTC")
    for text, length in (("1s", 10**9), ("1m", MINUTE_NS), ("5m", 5 * MINUTE_NS)):
        bars = imported(path, tz="UTC", bar=text)
        bucket = ts // length * length
        assert bars.ts.tolist() == np.unique(bucket).tolist()
        for i in range(0, len(bars), 7):
            mine = bucket == bars.ts[i]
            assert bars.open[i] * 0.25 == price[mine][0]
            assert bars.high[i] * 0.25 == price[mine].max()
            assert bars.low[i] * 0.25 == price[mine].min()
            assert bars.close[i] * 0.25 == price[mine][-1]
            assert bars.volume[i] == size[mine].sum()


def test_trades_over_chunk_edges(
    tmp_path: Path, imported: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    ts = SUNDAY_NS + np.sort(rng.integers(0, 900, 2000)) * 10**9
    rows = [
        f"{t},{5000 + 0.25 * int(p)},1" for t, p in zip(ts, rng.integers(0, 9, 2000), strict=True)
    ]
    path = tmp_path / "t.csv"
    path.write_text("ts,price,size\n" + "\n".join(rows) + "\n")
    whole = imported(path, bar="1m")
    monkeypatch.setattr("passline.market.load.text._BLOCK_BYTES", 700)
    split = imported(path, bar="1m")
    assert split.fingerprint() == whole.fingerprint()
    assert int(whole.volume.sum()) == 2000


def test_each_bar_length(tmp_path: Path, imported: Import) -> None:
    for seconds in (1, 30, 60, 300, 900):
        made = made_bars().only(slice(0, 50))
        ts = SUNDAY_NS + np.arange(50) * seconds * 10**9
        times = stamps(ts, "%Y-%m-%d %H:%M:%S")
        bars = imported(write_rows(tmp_path / "a.csv", made, times), tz="UTC", stamp="open")
        assert bars.bar_ns == seconds * 10**9
    for seconds, found in ((1800, "1800 seconds"), (3600, "1 hours")):
        ts = SUNDAY_NS + np.arange(20) * seconds * 10**9
        path = write_rows(tmp_path / "a.csv", made.only(slice(0, 20)), stamps(ts, "%Y-%m-%d %H:%M"))
        with pytest.raises(BarsError, match=found):
            imported(path, tz="UTC", stamp="open")


def test_a_clock_that_changes_is_read_right(tmp_path: Path, imported: Import) -> None:
    sunday = 1_710_106_200_000_000_000 - 18 * 3600 * 10**9
    friday = sunday - 42 * 3600 * 10**9
    ts = np.concatenate([friday + np.arange(30) * MINUTE_NS, friday + 72 * 3600 * 10**9
                         + np.arange(30) * MINUTE_NS])  # fmt: skip
    made = made_bars().only(slice(0, 60))
    zone = ZoneInfo("America/New_York")
    times = [
        datetime.fromtimestamp(t // 10**9, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")
        for t in ts.tolist()
    ]
    path = write_rows(tmp_path / "a.csv", made, times)
    assert imported(path, tz="America/New_York", stamp="open").ts.tolist() == ts.tolist()


def test_a_time_that_does_not_exist_is_refused(tmp_path: Path, imported: Import) -> None:
    made = made_bars().only(slice(0, 20))
    times = [f"2024-03-10 02:{m:02d}" for m in range(20)]
    path = write_rows(tmp_path / "a.csv", made, times)
    with pytest.raises(BarsError, match="does not have or has twice"):
        imported(path, tz="America/New_York", stamp="open")


def test_detection_says_what_it_tried(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n7,8,9\n")
    with pytest.raises(BarsError) as caught:
        import_bars(path, contract=find_contract("ES"), out=tmp_path / "o.parquet")
    for known in FORMATS:
        assert known.name in str(caught.value)
    with pytest.raises(BarsError, match="Known formats: passline"):
        import_bars(path, contract=find_contract("ES"), out=tmp_path / "o.parquet", format="excel")


def test_the_report_says_what_was_decided(tmp_path: Path, made: Made) -> None:
    path = generic(tmp_path / "a.csv", made)
    report = import_bars(
        path, contract=find_contract("ES"), out=tmp_path / "o.parquet", tz="UTC", stamp="open"
    )
    plain = report.as_dict()
    assert plain["format"] == "csv"
    assert plain["zone"] == "UTC"
    assert plain["stamp"] == "open"
    assert plain["bar"] == "1m"
    assert plain["n_rows"] == plain["n_bars"] == len(made)
    assert plain["first"] == "2024-03-03 18:00 ET"
    assert len(plain["sha256"]) == 64
    json.dumps(plain)
