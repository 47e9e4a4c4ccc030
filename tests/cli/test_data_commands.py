"""The data commands on a small file with known bars, on bad files, and on real ones."""

import io
import json
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passline.cli.data import import_file
from passline.market.clock import trade_date
from passline.market.load import read_bars

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"
FIRST = datetime(2024, 6, 10, 22, 0, tzinfo=UTC)  # Monday 18:00 ET, trade date 2024-06-11
N_DAYS, N_BARS = 3, 276  # a session of 23 hours has 276 bars of 5 minutes
OWN_ZONE = ("--tz", "UTC", "--stamp", "open")


def write_csv(
    path: Path, *, skip: tuple[int, ...] = (), odd_row: str = "", late_min: int = 0
) -> Path:
    """Writes three sessions of 5-minute NQ bars; `skip` leaves out bars by number."""
    text = io.StringIO()
    text.write("datetime,open,high,low,close,volume\n")
    for index in range(N_DAYS * N_BARS):
        if index in skip:
            continue
        day, bar = divmod(index, N_BARS)
        at = FIRST + timedelta(days=day, minutes=5 * bar + late_min)
        low = 19_000 + index % 7
        text.write(f"{at:%Y-%m-%d %H:%M:%S},{low + 1}.25,{low + 3}.5,{low},{low + 2},{index + 1}\n")
    text.write(odd_row)
    path.write_text(text.getvalue())
    return path


@pytest.fixture
def csv(tmp_path):
    return write_csv(tmp_path / "nq.csv")


@pytest.fixture
def bars(passline, csv, tmp_path):
    out = tmp_path / "nq.parquet"
    assert passline("data", "import", csv, "--contract", "NQ", *OWN_ZONE, "--out", out).code == 0
    return out


def test_import_writes_the_bars_of_the_file(passline, csv, tmp_path):
    out = tmp_path / "nq.parquet"
    done = passline("data", "import", csv, "--contract", "nq", *OWN_ZONE, "--out", out)
    assert done.code == 0
    assert done.err == ""
    facts = dict(line.split("  ", 1) for line in done.out.splitlines() if "  " in line)
    assert facts["bars"].strip() == "828 of 5m, NQ"
    assert facts["clock"].strip() == "UTC, times are the open of a bar"
    tape = read_bars(out)
    assert len(tape) == N_DAYS * N_BARS
    assert tape.ts[0] == FIRST.timestamp() * 10**9
    assert [int(c[0]) for c in (tape.open, tape.high, tape.low, tape.close)] == [
        76_005,
        76_014,
        76_000,
        76_008,
    ]
    assert tape.volume[-1] == N_DAYS * N_BARS


def test_import_tells_a_program_what_it_did(passline, csv, tmp_path):
    out = tmp_path / "nq.parquet"
    arguments = ("--contract", "NQ", *OWN_ZONE, "--drop-day", "2024-06-12", "--json")
    told = passline("data", "import", csv, "--out", out, *arguments).json()
    assert told["n_rows"] == 828
    assert told["n_bars"] == 552
    assert told["dropped_days"] == ["2024-06-12"]
    assert told["fingerprint"] == read_bars(out).fingerprint()


def test_close_stamps_become_open_times(passline, bars, tmp_path):
    late = write_csv(tmp_path / "late.csv", late_min=5)
    out = tmp_path / "late.parquet"
    arguments = ("--contract", "NQ", "--tz", "UTC", "--stamp", "close", "--out", out)
    assert passline("data", "import", late, *arguments).code == 0
    assert read_bars(out).fingerprint() == read_bars(bars).fingerprint()


def test_import_reads_columns_by_the_names_it_is_told(passline, refused, csv, tmp_path):
    csv.write_text(csv.read_text().replace("close", "settle_px", 1))
    out = tmp_path / "nq.parquet"
    arguments = ("data", "import", csv, "--contract", "NQ", *OWN_ZONE, "--out", out)
    refused(*arguments)
    assert "write ROLE=NAME" in refused(*arguments, "--column", "close")
    assert passline(*arguments, "--column", "close=settle_px").code == 0
    assert read_bars(out).close[0] == 76_008


def test_the_help_says_that_a_clock_which_nothing_fixes_is_refused(passline):
    told = " ".join(passline("data", "import", "--help").out.split())
    assert "the file is refused until --tz or --stamp says so" in told
    assert "asks" not in told


def test_import_asks_for_the_clock_and_writes_nothing(refused, csv, tmp_path):
    out = tmp_path / "nq.parquet"
    arguments = ("data", "import", csv, "--contract", "NQ", "--out", out)
    assert "--tz UTC" in refused(*arguments)
    assert "--stamp" in refused(*arguments, "--tz", "UTC")
    assert not out.exists()


def test_a_bad_bar_is_refused_with_its_place_and_remedy(refused, tmp_path):
    row = "2024-06-14 00:00:00,19001,19000,19002,19001,5\n"
    csv = write_csv(tmp_path / "nq.csv", odd_row=row)
    out = tmp_path / "nq.parquet"
    line = refused("data", "import", csv, "--contract", "NQ", *OWN_ZONE, "--out", out)
    assert "2024-06-13 20:00 ET" in line
    assert "--drop-day 2024-06-14" in line
    assert not out.exists()


def test_a_file_that_exists_stays_as_it_is_unless_told(passline, refused, csv, bars):
    before = bars.read_bytes()
    arguments = ("data", "import", csv, "--contract", "NQ", *OWN_ZONE, "--out", bars)
    assert "--overwrite" in refused(*arguments)
    assert "--overwrite" in refused("data", "resample", bars, "--minutes", 15, "--out", bars)
    assert "--overwrite" in refused("data", "drop", bars, "2024-06-12", "--out", bars)
    assert bars.read_bytes() == before
    assert passline(*arguments, "--overwrite", "--drop-day", "2024-06-12").code == 0
    assert len(read_bars(bars)) == 552


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("missing.csv", "folder", "empty.csv", "noise.csv",
             "noise.parquet", "cut.parquet", "words.csv")}  # fmt: skip
    files["folder"].mkdir()
    files["empty.csv"].touch()
    noise = np.random.default_rng(1).bytes(4000)
    files["noise.csv"].write_bytes(noise)
    files["noise.parquet"].write_bytes(noise)
    files["cut.parquet"].write_bytes(b"PAR1" + noise)
    files["words.csv"].write_text("what a day\nand no bars\n")
    return files


BAD = ("missing.csv", "folder", "empty.csv", "noise.csv", "noise.parquet", "cut.parquet",
       "words.csv")  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_bars_are_refused_by_every_command(refused, tmp_path, name):
    file = bad_files(tmp_path)[name]
    out = tmp_path / "out.parquet"
    lines = [
        refused("data", "import", file, "--contract", "NQ", *OWN_ZONE, "--out", out),
        refused("data", "check", file),
        refused("data", "show", file),
        refused("data", "resample", file, "--minutes", 15, "--out", out),
        refused("data", "drop", file, "2024-06-12", "--out", out),
    ]
    assert all(name in line for line in lines)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--contract", "NP", "--out", "x"), "Did you mean"),
        (("--contract", "NQ", "--out", "none/x.parquet"), "Make it first"),
        (("--contract", "NQ", "--out", "x", "--tz", "Mars"), "Give an IANA name"),
        (("--contract", "NQ", "--out", "x", "--bar", "7x"), "Allowed are lengths"),
        (("--contract", "NQ", "--out", "x", "--format", "cvs"), "Known formats"),
    ],
)
def test_import_names_what_is_allowed(refused, csv, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused("data", "import", csv, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nq.csv"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("import", "x.csv", "--contract", "NQ"), "--out"),
        (("import", "x.csv", "--out", "y"), "--contract"),
        (("import", "x.csv", "--contract", "NQ", "--out", "y", "--roll", "never"), "--roll"),
        (("drop", "x.parquet", "--out", "y"), "DATE"),
        (("drop", "x.parquet", "12.6.2024", "--out", "y"), "12.6.2024"),
        (("resample", "x.parquet", "--minutes", "many", "--out", "y"), "--minutes"),
        (("frob",), "frob"),
    ],
)
def test_a_misused_command_ends_with_2_and_names_the_word(passline, arguments, names):
    done = passline("data", *arguments)
    assert done.code == 2
    assert names in done.err.splitlines()[-1]


def test_names_in_a_file_cannot_break_the_line_or_reach_the_terminal(refused, tmp_path):
    path = tmp_path / "es.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a_minute_trade_\x1b[31m\nb.csv", "")
        archive.writestr("b_minute_trade_202503.csv", "")
    said = refused("data", "import", path, "--contract", "ES", "--out", tmp_path / "o.parquet")
    assert r"a_minute_trade_\x1b[31m\nb.csv" in said


def test_resample_joins_bars_from_the_sessions_opening(passline, refused, bars, tmp_path):
    out = tmp_path / "nq15.parquet"
    told = passline("data", "resample", bars, "--minutes", 15, "--out", out, "--json").json()
    longer, shorter = read_bars(out), read_bars(bars)
    assert told["n_read"] == 828
    assert told["n_bars"] == len(longer) == 276
    assert longer.high[0] == shorter.high[:3].max()
    assert longer.volume[0] == 1 + 2 + 3
    shown = passline("data", "resample", bars, "--minutes", 30, "--out", tmp_path / "30.parquet")
    assert "138 bars of 30 minutes from 828" in shown.out
    line = refused("data", "resample", bars, "--minutes", 7, "--out", tmp_path / "7.parquet")
    assert "Allowed are multiples" in line


def test_drop_leaves_out_days_and_remembers_them(passline, refused, bars, tmp_path):
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    done = passline("data", "drop", bars, "2024-06-12", "2024-06-12", "--out", first)
    assert "552 bars, 276 of 2024-06-12 left out" in done.out
    told = passline("data", "drop", first, "2024-06-11", "--out", second, "--json").json()
    kept = read_bars(second)
    assert told["n_bars"] == len(kept) == 276
    assert kept.provenance["dropped_days"] == ["2024-06-11", "2024-06-12"]
    assert kept.provenance["n_dropped"] == 552
    assert set(trade_date(kept.ts)) == {(date(2024, 6, 13) - date(1970, 1, 1)).days}
    whole = read_bars(bars)
    assert np.array_equal(kept.low, whole.low[-276:])
    out = tmp_path / "c.parquet"
    line = refused("data", "drop", second, "2024-06-12", "--out", out)
    assert "no bar on trade date 2024-06-12" in line
    assert "every bar would be left out" in refused(
        "data", "drop", second, "2024-06-13", "--out", out
    )
    assert not out.exists()


def test_check_counts_what_is_missing(passline, tmp_path):
    csv = write_csv(tmp_path / "nq.csv", skip=(*range(280, 500), 600))
    out = tmp_path / "nq.parquet"
    passline("data", "import", csv, "--contract", "NQ", *OWN_ZONE, "--out", out)
    told = passline("data", "check", out, "--json").json()
    assert told["n_missing"] == 221
    assert told["thin_days"] == ["2024-06-12"]
    assert [session["n_bars"] for session in told["sessions"]] == [276, 56, 275]
    shown = passline("data", "check", out)
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["2024-06-12", "276", "56", "220"] in rows
    assert max(map(len, shown.out.splitlines())) <= 100


def test_check_draws_only_what_was_asked_for(passline, refused, bars, tmp_path):
    png, html = tmp_path / "a.png", tmp_path / "a.html"
    assert f"wrote {png}" in passline("data", "check", bars, "--png", png).out
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".parquet", ".png"]
    assert "Give another name" in refused("data", "check", bars, "--html", html, "--png", png)
    assert not html.exists()
    passline("data", "check", bars, "--html", html)
    page = html.read_text()
    assert "Coverage of NQ" in page
    assert "data:image/png" in page
    assert "none" in refused("data", "check", bars, "--png", tmp_path / "none" / "a.png")


def test_show_tells_origin_and_exact_prices(passline, refused, bars):
    done = passline("data", "show", bars, "--rows", 2)
    rows = [line.split() for line in done.out.splitlines()]
    first = ["2024-06-10", "18:00:00", "19001.25", "19003.50", "19000.00", "19002.00", "1"]
    assert first in rows
    assert rows[-3] == ["…"]
    told = passline("data", "show", bars, "--day", "2024-06-12", "--rows", 1, "--json").json()
    assert [bar["ts"] for bar in told["bars"]] == [
        "2024-06-11T22:00:00+00:00",
        "2024-06-12T20:55:00+00:00",
    ]
    assert told["bars"][0]["open"] == "19004.25"
    assert told["provenance"]["source"] == "nq.csv"
    assert passline("data", "show", bars, "--rows", 0).code == 0
    assert "the file has 2024-06-11 to 2024-06-13" in refused(
        "data", "show", bars, "--day", "2024-06-16"
    )


def test_help_names_every_format(passline):
    from passline.market.load import FORMATS  # noqa: PLC0415

    assert import_file.epilog is not None
    done = passline("data", "import", "--help")
    for known in FORMATS:
        if known.name != "passline":
            assert known.name in done.out


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no market data beside the repository")
def test_a_real_file_from_import_to_check(passline, tmp_path):
    out = tmp_path / "nq.parquet"
    source = REAL / "series" / "nq_5m_2024_2025.parquet"
    arguments = ("--contract", "NQ", *OWN_ZONE, "--out", out, "--json")
    told = passline("data", "import", source, *arguments).json()
    assert told["n_bars"] == 91_827
    assert [roll["after"] for roll in told["rolls"]] == ["NQU4", "NQZ4", "NQH5", "NQM5", "NQU5"]
    found = passline("data", "check", out, "--json").json()
    assert found["n_present"] == found["n_sessions"]
    assert "2024-11-28" in found["half_days"]
    assert json.dumps(found, allow_nan=False)
