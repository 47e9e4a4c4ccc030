import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

from passline.cli.output import as_plain, money_text, print_facts, print_json, print_table

COLUMNS = ("name", "amount", "what it says")
LONG = "a rule of many words that has to be broken over several lines " * 3
ROWS = (("Firm",), ("book-one", "1,000", "short"), ("book-two-longer", "20", LONG.strip()))


@dataclass(frozen=True)
class Fee:
    price_mills: int
    caps_mills: tuple[int, ...]
    reset_mills: int | None
    since: date


def test_money_becomes_exact_text_under_another_name():
    fee = Fee(price_mills=15_625, caps_mills=(1_000, 50), reset_mills=None, since=date(2026, 1, 2))
    assert as_plain(fee) == {
        "price_usd": "15.625",
        "caps_usd": ["1.00", "0.05"],
        "reset_usd": None,
        "since": "2026-01-02",
    }


def test_plain_data_keeps_what_json_knows():
    value = {
        "at": datetime(2024, 11, 1, 18, 0, tzinfo=UTC),
        "clock": time(16, 59),
        "tick": Decimal("0.00005"),
        "path": Path("a/b"),
        "items": (1, 2.5, True, None, "x"),
    }
    assert as_plain(value) == {
        "at": "2024-11-01T18:00+00:00",
        "clock": "16:59",
        "tick": "0.00005",
        "path": "a/b",
        "items": [1, 2.5, True, None, "x"],
    }


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError, match="no JSON form for a object"):
        as_plain(object())
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"rate": float("nan")})


@pytest.mark.parametrize(
    ("mills", "text"),
    [(2_000_000, "2,000"), (1_990, "1.99"), (15_625, "15.625"), (-500, "-0.50"), (None, "")],
)
def test_money_is_shown_as_people_write_it(mills, text):
    assert money_text(mills) == text


def test_into_a_pipe_columns_align_and_the_last_one_wraps(capsys):
    print_table(COLUMNS, ROWS, right=("amount",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "name             amount  what it says",
        "Firm",
        "book-one          1,000  short",
    ]
    assert lines[3].startswith("book-two-longer      20  a rule")
    assert len(lines) == 6
    assert all(line.startswith(" " * 25) for line in lines[4:])
    assert max(map(len, lines)) <= 100
    assert " ".join(line[25:] for line in lines[3:]) == LONG.strip()


@pytest.mark.parametrize("width", [40, 100, 300])
def test_on_a_terminal_nothing_is_lost(capsys, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS, right=("amount",), marks={"short": "red"})
    print_facts([("wrote", "a file"), ("nothing", "")])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    words = out.replace("\n", " ").split()
    for word in {*LONG.split(), "book-two-longer", "1,000", "Firm", "short", "wrote"}:
        assert word in words
    assert "nothing" not in words
    assert max(map(len, out.splitlines())) <= 120


def test_facts_without_a_value_are_left_out(capsys):
    print_facts([("wrote", "x.parquet"), ("dropped", ""), ("n", "3")])
    assert capsys.readouterr().out == "wrote  x.parquet\nn      3\n"


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("data", "import", "x.csv", "--out", "y"),
        ("play", "x.csv", "--commission", "0.0001"),
    ],
)
def test_one_full_stop_stands_before_the_help(refused, words):
    assert re.search(r"[^.]\. Help: passline [a-z ]+ --help$", refused(*words))
