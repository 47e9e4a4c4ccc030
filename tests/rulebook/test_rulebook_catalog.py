"""Every built-in book as a set, ids and near ids, inheritance, platforms and users' books."""

import dataclasses
import json
from pathlib import Path

import pytest

from passline.errors import RulebookError
from passline.rulebook import describe, list_rulebooks, load_rulebook
from passline.rulebook.model import Rulebook, usd

BOOKS = list_rulebooks()
MINE = """
firm = "Mine"
plan = "Test"
size = 10_000
stage = "evaluation"
platform = "desk"
start_balance = 10_000
as_of = 2026-11-01
confidence = "low"
source = "a letter"

[automation]
policy = "allowed"

[drawdown]
trail = "intraday"
allowance = 500.5
lock_trigger = "11000"
lock_level = "10499.500"

[target]
profit = "1000.125"
test = "touch"

[[tiers]]
from_profit = 0
minis = 0.3

[clock]
flat_by = "15:30"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_ids_are_unique_and_load_the_same_book() -> None:
    ids = [book.id for book in BOOKS]
    assert len(set(ids)) == len(ids) > 200
    for book in BOOKS[::7]:
        assert load_rulebook(book.id) == book


def test_order_is_natural() -> None:
    ids = [book.id for book in BOOKS]
    assert ids.index("apex-eod-25k") < ids.index("apex-eod-50k") < ids.index("apex-eod-100k")


@pytest.mark.parametrize(
    "id",
    [
        *(f"apex-{p}-{s}k{x}" for p in ("intraday", "eod") for s in (25, 50, 100, 150)
          for x in ("", "-pa", "-tradovate", "-wealthcharts", "-pa-tradovate")),
        *(f"apex-legacy-{s}k" for s in (25, 50, 75, 100, 150, 250, 300)),
        "apex-legacy-100k-static",
        "apex-legacy-50k-pa",
        *(f"topstep-{p}-{s}k{x}" for p in ("combine", "xfa") for s in (50, 100, 150)
          for x in ("", "-dll")),
    ],
)  # fmt: skip
def test_promised_ids_exist(id: str) -> None:
    assert id in {book.id for book in BOOKS}


def test_every_firm_has_both_stages() -> None:
    stages = {(book.firm, book.stage) for book in BOOKS}
    firms = {book.firm for book in BOOKS}
    assert len(firms) == 9
    assert len(stages) == 2 * len(firms)


def test_what_follows_a_pass_exists_on_the_same_platform() -> None:
    known = {book.id: book for book in BOOKS}
    pairs = [(book, known[book.funded]) for book in BOOKS if book.funded is not None]
    assert len(pairs) > 90
    for book, funded in pairs:
        assert (funded.stage, funded.platform) == ("funded", book.platform)
        assert (funded.firm, funded.size_mills) == (book.firm, book.size_mills)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.id)
def test_every_book_says_where_it_comes_from(book: Rulebook) -> None:
    assert book.as_of.year in (2025, 2026)
    assert book.source
    assert book.automation.policy in ("forbidden", "allowed", "conditions", "unknown")
    assert book.automation.note or book.automation.policy == "allowed"
    rows = describe(book)
    assert len(rows) > 12
    for row in rows:
        assert row.value
        assert row.source
        assert row.as_of.year in (2025, 2026)
        assert row.confidence in ("high", "medium", "low")


def test_low_confidence_is_explained() -> None:
    found = [item for book in BOOKS for item in book.evidence if item.confidence == "low"]
    assert found
    assert all(item.note for item in found if item.path not in ("", "commissions", "drawdown"))


def test_locks_lie_on_the_trail() -> None:
    """In every book known the level is the trigger less the allowance."""
    for book in BOOKS:
        drawdown = book.drawdown
        if drawdown.lock_trigger_mills is not None and drawdown.lock_level_mills is not None:
            assert drawdown.lock_trigger_mills - drawdown.allowance_mills == (
                drawdown.lock_level_mills
            ), book.id


def test_fingerprint_follows_the_content() -> None:
    prints = {book.fingerprint() for book in BOOKS}
    assert len(prints) == len(BOOKS)
    book = load_rulebook("apex-intraday-50k")
    assert book.fingerprint() == load_rulebook("apex-intraday-50k").fingerprint()
    changed = dataclasses.replace(
        book, drawdown=dataclasses.replace(book.drawdown, allowance_mills=2_000_001)
    )
    assert changed.fingerprint() != book.fingerprint()
    assert len(book.fingerprint()) == 64


def test_to_dict_is_json_with_exact_money() -> None:
    found = json.loads(json.dumps(load_rulebook("apex-legacy-50k-pa").to_dict()))
    assert found["drawdown"]["lock_trigger_usd"] == "52600.00"
    assert found["tiers"][1] == {
        "from_profit_usd": "2600.001",
        "size_units": 100,
        "daily_limit_usd": None,
    }
    assert found["payout"]["caps_usd"] == ["2000.00"]
    assert found["clock"]["flat_by"] == "16:59"
    assert found["as_of"] == "2026-09-19"
    assert not [key for key in found if key.endswith("_mills")]


@pytest.mark.parametrize(
    ("mills", "text"),
    [(0, "0.00"), (15_625, "15.625"), (-2_000_000, "-2000.00"), (1_990, "1.99"), (-5, "-0.005")],
)
def test_usd(mills: int, text: str) -> None:
    assert usd(mills) == text


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("apex50", "Did you mean apex-eod-50k or apex-intraday-50k or apex-legacy-50k?"),
        ("topstp-combine-50k", "Did you mean topstep-combine-50k?"),
        ("apex-intraday-50k-rithmic", "apex-intraday-50k"),
        ("mffu-rapd-50k", "Did you mean mffu-rapid-50k?"),
    ],
)
def test_near_ids_are_suggested(asked: str, near: str) -> None:
    with pytest.raises(RulebookError) as caught:
        load_rulebook(asked)
    message = str(caught.value)
    assert message.startswith(f"no rulebook '{asked}'.")
    assert near in message
    assert message.endswith("All: passline rulebooks")


def test_nothing_is_suggested_for_nothing_near() -> None:
    with pytest.raises(RulebookError) as caught:
        load_rulebook("")
    assert "Did you mean" not in str(caught.value)


def test_parts_are_no_books() -> None:
    with pytest.raises(RulebookError):
        load_rulebook("_apex")


def test_a_users_book(tmp_path: Path) -> None:
    path = write(tmp_path, "mine-10k.toml", MINE)
    for given in (path, str(path)):
        book = load_rulebook(given)
        assert book.id == "mine-10k"
        assert book.target is not None
        assert (book.target.balance_mills, book.target.test) == (11_000_125, "touch")
        assert book.drawdown.allowance_mills == 500_500
        assert book.drawdown.lock_level_mills == 10_499_500
        assert [tier.size_units for tier in book.tiers] == [3]
        assert book.clock.flat_by_minute == 21 * 60 + 30
        assert (book.clock.no_entry_minutes, book.clock.late_flat) == (5, "record")
        assert book.commission_mills("ES") is None
        assert book.products.allows("ES")


def test_a_users_book_extends_a_built_in_one(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "house.toml",
        """
extends = "apex-intraday-50k"
plan = "House"

[drawdown]
allowance = 1500
lock_trigger = "none"
lock_level = "none"

[orders]
max_stop_per_target = 3
""",
    )
    book = load_rulebook(path)
    base = load_rulebook("apex-intraday-50k")
    assert (book.id, book.plan, book.firm) == ("house", "House", base.firm)
    assert (book.drawdown.trail, book.drawdown.allowance_mills) == ("intraday", 1_500_000)
    assert book.drawdown.lock_level_mills is None
    assert book.orders.max_stop_per_target == 3
    assert book.target == base.target
    other = load_rulebook(path, platform="tradovate")
    assert (other.id, other.commission_mills("ES")) == ("house-tradovate", 1550)
    assert load_rulebook(path, platform="rithmic") == book


def test_a_users_book_extends_a_platform_and_a_sibling(tmp_path: Path) -> None:
    write(tmp_path, "first.toml", 'extends = "apex-intraday-50k-tradovate"\nplan = "First"\n')
    book = load_rulebook(write(tmp_path, "second.toml", 'extends = "first"\nsize = 40_000\n'))
    assert (book.platform, book.plan, book.size_mills) == ("tradovate", "First", 40_000_000)
    assert book.drawdown.lock_level_mills is None


def test_platform_is_named_when_unknown() -> None:
    with pytest.raises(RulebookError, match="Its platforms: rithmic, tradovate, wealthcharts"):
        load_rulebook("apex-eod-50k", platform="mt5")
    assert load_rulebook("apex-eod-50k", platform="tradovate").id == "apex-eod-50k-tradovate"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.toml": 'extends = "b"', "b.toml": 'extends = "a"'}, "circle: a.toml -> b.toml -> a"),
        ({"a.toml": 'extends = "apex50"'}, "a.toml: extends: no rulebook 'apex50'. Did you mean"),
        ({"a.toml": 'extends = "../x"'}, "a.toml: extends was '../x'"),
        ({"a.toml": "extends = 3"}, "a.toml: extends was 3"),
        ({"a.toml": "firm = "}, "a.toml: is not a TOML file"),
        ({"a.toml": "x = " + "[" * 5000}, "a.toml: is not a TOML file"),
        ({"a.toml": "x = 1e99999999999999999999"}, "a.toml: is not a TOML file"),
        ({"a.toml": "x = " + "9" * 5000}, "a.toml: is not a TOML file"),
        ({"a.toml": "#" * 1_000_001}, "a.toml: has 1,000,001 bytes"),
        (
            {"a.toml": MINE + "[platforms.desk]\nsize = 1"},
            "a.toml: [platforms] desk is not a name for another platform",
        ),
        (
            {"a.toml": MINE + "[platforms.other.drawdown]\ntrial = 1"},
            "a.toml, platform other: unknown key [drawdown] trial",
        ),
        (
            {"a.toml": MINE + "[platforms.other]\ndrawdwn = 1"},
            "a.toml: unknown key [platforms.other] drawdwn",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        write(tmp_path, name, text)
    with pytest.raises(RulebookError) as caught:
        load_rulebook(tmp_path / "a.toml", platform="other")
    assert message in str(caught.value)


def test_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(RulebookError, match=r"cannot be read \(no such file"):
        load_rulebook(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RulebookError, match=r"bad.toml: is not a TOML file"):
        load_rulebook(tmp_path / "bad.toml")
