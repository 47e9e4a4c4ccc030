"""Signal files are read exactly or refused with their rows."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passline.errors import ConfigError
from passline.evaluate.signals import COLUMNS, Signal, read_signals, utc_text
from passline.sim.layout import OrderKind
from proving import examples

HEADER = ",".join(COLUMNS)


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "S.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_signals(path)
    return str(caught.value)


def test_rows_become_signals(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "2025-03-07T10:31:00-05:00,long,2,20,40",
        "2025-03-10 10:31:00-04:00,Close,,,",
        "2025-03-10T14:32:00Z,short,1,,8.0",
        "2025-03-10T14:33:00+00:00,trail_on,0,0,0",
    )
    file = read_signals(path)
    assert file.name == "S.csv"
    assert len(file.sha256) == 64
    assert [utc_text(signal.time_ns) for signal in file.signals] == [
        "2025-03-07T15:31:00+00:00",
        "2025-03-10T14:31:00+00:00",
        "2025-03-10T14:32:00+00:00",
        "2025-03-10T14:33:00+00:00",
    ]
    assert file.signals[0] == Signal(
        line=2,
        time_ns=1_741_361_460_000_000_000,
        action="long",
        qty=2,
        stop_ticks=20,
        target_ticks=40,
    )
    assert file.signals[2].stop_ticks == 0
    assert file.signals[2].target_ticks == 8
    kinds = [signal.kind for signal in file.signals]
    assert kinds == [OrderKind.LONG, OrderKind.CLOSE, OrderKind.SHORT, OrderKind.TRAIL_ON]


def test_columns_may_come_in_any_order_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "long,1,,4,2025-03-07T10:31:00-05:00",
        header="\ufeffaction,qty,stop_ticks,target_ticks,time",
    )
    (signal,) = read_signals(path).signals
    assert (signal.action, signal.qty, signal.target_ticks) == ("long", 1, 4)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2025-03-07T10:31:00,long,1,,", "has no offset"),
        ("2025-03-07,long,1,,", "has no offset"),
        ("yesterday,long,1,,", "time was 'yesterday'; it must be ISO 8601"),
        (",long,1,,", "time was ''"),
        ("0001-01-01T00:00:00+23:59,long,1,,", "years are 1990 to 2099"),
        ("9999-12-31T23:59:59-23:59,long,1,,", "years are 1990 to 2099"),
        ("2025-03-07T10:31:00Z,buy,1,,", "action was 'buy'"),
        ("2025-03-07T10:31:00Z,long,,,", "qty was empty"),
        ("2025-03-07T10:31:00Z,long,0,,", "qty was 0; it must be 1 to 100,000"),
        ("2025-03-07T10:31:00Z,short,-1,,", "qty was -1"),
        ("2025-03-07T10:31:00Z,short,1.5,,", "qty was '1.5'; it must be a whole number"),
        ("2025-03-07T10:31:00Z,short,two,,", "qty was 'two'"),
        (
            "2025-03-07T10:31:00Z,long,1,0,",
            "stop_ticks was 0; it must be 1 to 10,000,000, or empty",
        ),
        ("2025-03-07T10:31:00Z,long,1,-4,", "stop_ticks was -4"),
        ("2025-03-07T10:31:00Z,long,1,,-4", "target_ticks was -4"),
        ("2025-03-07T10:31:00Z,long,1,,nan", "target_ticks was 'nan'"),
        ("2025-03-07T10:31:00Z,close,1,4,", "stop_ticks was 4; only long and short have one"),
        ("2025-03-07T10:31:00Z,trail_on,,,9", "target_ticks was 9"),
        ("2025-03-07T10:31:00Z,long," + "9" * 500 + ",,", "qty was '9999"),
    ],
)
def test_wrong_rows_are_told_by_line(tmp_path: Path, row: str, words: str) -> None:
    path = write(tmp_path, "2020-03-07T10:31:00Z,long,1,,", row)
    message = refusal(path)
    assert message.startswith("S.csv: 1 of 2 rows are wrong: line 3: ")
    assert words in message
    assert len(message) < 400


def test_five_wrong_rows_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, *["2025-03-07T10:31:00Z,sell,1,,"] * 1_200))
    assert message.startswith("S.csv: 1,200 of 1,200 rows are wrong: line 2: action was 'sell'; ")
    assert message.count("action was") == 5
    assert "and 1,195 more. A row is time" in message


def test_times_must_not_go_back(tmp_path: Path) -> None:
    rows = ("2025-03-07T10:31:00-05:00,long,1,,", "2025-03-07T15:30:00Z,close,,,")
    message = refusal(write(tmp_path, *rows))
    assert "1 of 2 rows go back in time: line 3 (2025-03-07T15:30:00+00:00) after line 2" in message
    assert message.endswith("Sort the file by time")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; the first line must be time,action,qty"),
        (b"\n\n", "the file is empty"),
        (HEADER.encode() + b"\n", "has a header and no rows"),
        (b"time,action,qty,stop_tick,target_ticks\n", "the header was 'time,action,qty,stop_tick,"),
        (b"time,action\n", "it must be time,action,qty,stop_ticks,target_ticks"),
        (HEADER.encode() + b"\n2025-03-07T10:31:00Z,long,1\n", "line 2 has 3 fields"),
        (b"\xff\xfe\x00t", "not a UTF-8 text file (byte 0)"),
        (HEADER.encode() + b'\n"2025', "line 2 is not valid CSV"),
        (HEADER.encode() + b'\n"a"b,c,d,e,f\n', "line 2 is not valid CSV"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "S.csv"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith("S.csv: ")
    assert words in message


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "S.csv"
    path.write_bytes(HEADER.encode() + b"\n2025-03-07T10:31:00Z,\x1b[31mlong,1,,\n")
    assert "\x1b" not in refusal(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.csv")
    assert "cannot be read" in refusal(tmp_path)


CELLS = st.sampled_from(
    ["2025-03-07T10:31:00Z", "long", "close", "1", "", "0", "-1", "1e9", '"', "\x00", "9" * 5_000]
)


@settings(
    max_examples=examples(60),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(st.lists(CELLS, max_size=6)), tail=st.binary(max_size=20))
def test_hostile_files_are_read_or_refused(
    tmp_path: Path, rows: list[list[str]], tail: bytes
) -> None:
    path = tmp_path / "S.csv"
    text = "\n".join([HEADER, *(",".join(row) for row in rows)])
    path.write_bytes(text.encode() + tail)
    try:
        read = read_signals(path)
    except ConfigError as error:
        message = str(error)
    else:
        message = f"{read.name}: " * bool(read.signals)
    assert message.startswith("S.csv: ")
