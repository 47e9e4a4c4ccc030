"""Small print: defaults, words and bounds that no other test of a book would miss."""

import hashlib
import importlib
import json
import pkgutil
import tomllib
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import passline.rulebook
import passline.sim
from passline.errors import RulebookError
from passline.rulebook import describe, load_rulebook
from passline.rulebook.catalog import MAX_FILE_BYTES
from passline.rulebook.model import Clock, DailyLimit, Days, Mae, Orders, Payout, Rulebook, Tier
from passline.rulebook.read import read_rulebook

SHORTEST = """
firm = "Mine"
plan = "Test"
size = 50_000
stage = "funded"
platform = "desk"
start_balance = 50_000
as_of = 2026-11-01
confidence = "low"
source = "a letter"
automation = { policy = "allowed" }
drawdown = { trail = "static", allowance = 2000 }
tiers = [{ from_profit = 0, minis = 5 }]
clock = { flat_by = "16:59" }
payout = { split = 1 }
"""
MAE = '[orders.mae]\nshare = "3/10"\nbase = 750\n'


def read(*more: str, instead: tuple[str, str] = ("", "")) -> Rulebook:
    text = SHORTEST.replace(*instead) + "\n".join(more)
    return read_rulebook(tomllib.loads(text, parse_float=Decimal), id="mine", file="mine.toml")


def words(book: Rulebook) -> dict[str, str]:
    return {row.field: row.value for row in describe(book)}


# Objects.


def classes(package: Any) -> Iterator[type]:
    for found in pkgutil.iter_modules(package.__path__):
        if found.name != "books":
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            own = [item for item in vars(module).values() if isinstance(item, type)]
            yield from (item for item in own if item.__module__ == module.__name__)


@pytest.mark.parametrize(
    "kind", [k for p in (passline.rulebook, passline.sim) for k in classes(p) if is_dataclass(k)]
)
def test_facts_cannot_be_changed_nor_given_by_place(kind: type) -> None:
    params = kind.__dataclass_params__  # type: ignore[attr-defined]
    assert params.frozen
    names = [f for f in fields(kind) if f.init]
    if kind.__module__.endswith((".model", ".describe", ".layout", ".journal")):
        assert all(f.kw_only for f in names)


def test_a_book_is_frozen_through_and_through() -> None:
    book = load_rulebook("apex-intraday-50k")
    for part in (book, book.drawdown, book.clock, book.tiers[0]):
        name = fields(part)[0].name
        with pytest.raises(FrozenInstanceError):
            setattr(part, name, getattr(part, name))


def test_what_a_file_leaves_out_is_what_the_model_leaves_out() -> None:
    book = read()
    assert book.payout == Payout()
    assert book.daily_limit == DailyLimit() == DailyLimit(reset=time(18, 0))
    assert book.clock == Clock(flat_by=time(16, 59))
    assert book.clock.no_entry_minutes == 5
    assert book.days == Days()
    assert book.orders == Orders()
    assert book.tiers == (Tier(from_profit_mills=0, size_units=50),)
    assert (book.payout.balance_share_num, book.payout.balance_share_den) == (1, 1)
    assert (book.payout.split_num, book.payout.split_den) == (1, 1)
    assert (book.payout.trading_days, book.payout.qualifying_days) == (0, 0)
    mae = Mae(share_num=3, share_den=10, base_mills=750_000)
    assert read(MAE).orders.mae == mae
    assert (mae.raised_num, mae.raised_den, mae.raised_from_profit_mills) == (0, 1, None)


def test_profit_goals_go_by_the_payouts_number_and_the_last_stays() -> None:
    payout = Payout(profit_goals_mills=(10, 20, 30), caps_mills=(1, 2), uncapped_from=4)
    assert [payout.profit_goal_mills(n) for n in (1, 2, 3, 4, 9)] == [10, 20, 30, 30, 30]
    assert [payout.cap_mills(n) for n in (1, 2, 3, 4)] == [1, 2, 2, None]
    assert Payout().profit_goal_mills(1) == 0
    assert Payout().cap_mills(1) is None


def test_the_open_loss_allowed_goes_by_the_days_first_profit() -> None:
    low = Mae(share_num=3, share_den=10, base_mills=500, base_below_profit_mills=1_000)
    assert [low.limit_mills(p) for p in (-5, 0, 999, 1_000, 5_000)] == [500, 500, 500, 300, 1_500]
    larger = Mae(share_num=3, share_den=10, base_mills=500)
    assert [larger.limit_mills(p) for p in (0, 1_000, 2_000)] == [500, 500, 600]
    raised = Mae(
        share_num=3,
        share_den=10,
        base_mills=500,
        raised_from_profit_mills=4_000,
        raised_num=1,
        raised_den=2,
    )
    assert [raised.limit_mills(p) for p in (3_999, 4_000, 4_002)] == [1_199, 2_000, 2_001]


def test_a_fingerprint_is_plain_ascii_and_goes_by_content() -> None:
    accent = read(instead=('"Mine"', '"Größe"'))
    assert accent.fingerprint() == read(instead=('"Mine"', '"Größe"')).fingerprint()
    assert accent.fingerprint() != read().fingerprint()
    text = json.dumps(accent.to_dict(), sort_keys=True, separators=(",", ":"))
    assert text.isascii()
    assert accent.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


# Words.


def test_the_rule_of_the_best_day_names_its_payouts() -> None:
    row = '[[consistency]]\nscope = "payout"\nbest_day = 0.5\nwindow = "since_payout"\n'
    name = "best day, for a payout"
    plain = words(read(row))[name]
    assert "payouts" not in plain
    assert words(read(row + "from_payout = 2\n"))[name] == plain.replace(";", ", payouts 2 on;")
    assert words(read(row + "to_payout = 3\n"))[name] == plain.replace(";", ", payouts 1 to 3;")


def test_a_pass_does_not_speak_of_payouts() -> None:
    found = words(load_rulebook("topstep-combine-50k"))
    assert "payouts" not in found["best day, for a pass"]


@pytest.mark.parametrize(
    ("fees", "expected"),
    [
        ("activation = 100\n", "$100"),
        ("activation = 100\nactivation_within_days = 7\n", "$100, within 7 days"),
        ("activation_within_days = 7\n", "not known, within 7 days"),
    ],
)
def test_the_activation_says_until_when(fees: str, expected: str) -> None:
    target = "[target]\nprofit = 3000\n[fees]\n"
    text = SHORTEST.replace('"funded"', '"evaluation"').replace("payout = { split = 1 }", "")
    raw = tomllib.loads(text + target + fees, parse_float=Decimal)
    found = words(read_rulebook(raw, id="mine", file="mine.toml"))
    assert found["activation after a pass"] == expected


def test_tiers_say_whether_they_fall_again() -> None:
    steps = ("minis = 5 }]", "minis = 5 }, { from_profit = 1000, minis = 9 }]")
    kept = ("drawdown =", "tiers_latched = true\ndrawdown =")
    falls = read(instead=steps)
    assert words(falls)["tiers"].endswith("falls again with the profit")
    text = SHORTEST.replace(*steps).replace(*kept)
    book = read_rulebook(tomllib.loads(text, parse_float=Decimal), id="mine", file="mine.toml")
    assert words(book)["tiers"].endswith("kept once reached")
    assert "tiers" not in words(read())


def test_a_list_of_products_and_a_lock_are_told_whole() -> None:
    assert words(read('[products]\nallowed = ["ES", "NQ"]\n'))["products"] == "only ES, NQ"
    locked = "lock_trigger = 52_000, lock_level = 50_000 }"
    book = read(
        instead=(
            'trail = "static", allowance = 2000 }',
            f'trail = "intraday", allowance = 2000, {locked}',
        )
    )
    assert words(book)["floor stops"] == "at $50,000 once the peak reaches $52,000"
    assert words(read())["floor stops"] == "never"


def test_the_open_loss_of_a_round_trip_is_told_whole() -> None:
    name = "open loss of a round trip"
    low = "30 % of the profit at the start of the day, $750 while that is low"
    assert words(read(MAE))[name] == low + "; recorded"
    raised = MAE + "raised_from_profit = 2600\nraised_share = 0.5\nenforced = true\n"
    assert words(read(raised))[name] == low + "; 50 % from $2,600 of profit; ends the position"


# Bounds of the reader.


def refusal(*more: str, instead: tuple[str, str] = ("", "")) -> str:
    with pytest.raises(RulebookError) as caught:
        read(*more, instead=instead)
    return str(caught.value)


def test_bounds_are_met_exactly() -> None:
    days = "[days]\nmin_days = {}\n"
    assert read(days.format(1_000_000)).days.min_days == 1_000_000
    assert "from 0 to 1,000,000" in refusal(days.format(1_000_001))
    assert read("[commissions]\nABCDEF = 1.25\n").commissions[0].side_mills == 1_250
    assert "ABCDEFG" in refusal("[commissions]\nABCDEFG = 1\n")
    assert "best_day" in refusal('[[consistency]]\nscope = "payout"\nbest_day = 0.1234567891\n')
    assert "best_day" in refusal('[[consistency]]\nscope = "payout"\nbest_day = 0.1234567896\n')


@pytest.mark.parametrize(("length", "is_cut"), [(58, False), (59, True)])
def test_a_long_value_is_shown_shortened(length: int, is_cut: bool) -> None:
    message = refusal(instead=('"funded"', f'"{"x" * length}"'))
    assert ("..." in message) == is_cut
    assert (f"'{'x' * length}'" in message) == (not is_cut)


def test_a_required_number_is_missed() -> None:
    assert "is missing" in refusal(instead=(", allowance = 2000", ""))
    assert "size is missing" in refusal(instead=("size = 50_000\n", ""))


def test_evidence_of_a_field_falls_back_to_the_tables_then_to_the_books() -> None:
    own = '[about."payout.split"]\nsource = "a page"\n'
    found = {item.path: item for item in read(own).evidence}
    assert found["payout.split"].source == "a page"
    assert found["payout.split"].as_of == date(2026, 11, 1)
    assert found["payout.split"].confidence == "low"
    assert "names no field" in refusal('[about."source.split"]\nsource = "a page"\n')
    assert "names no field" in refusal('[about."about.split"]\nsource = "a page"\n')


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHORTEST + "#" * (MAX_FILE_BYTES - len(SHORTEST)))
    assert MAX_FILE_BYTES == 1_000_000
    assert load_rulebook(path).firm == "Mine"
    path.write_text(SHORTEST + "#" * (MAX_FILE_BYTES - len(SHORTEST) + 1))
    with pytest.raises(RulebookError, match="bytes"):
        load_rulebook(path)


def test_the_nearest_ids_have_the_numbers_that_were_asked_for() -> None:
    with pytest.raises(RulebookError, match=r"Did you mean topstep-combine-100k"):
        load_rulebook("topstep-100k-combine")
    with pytest.raises(RulebookError, match=r"Did you mean apex-eod-50k"):
        load_rulebook("apexeod50k")
