"""Every refusal names file, field, value and what is allowed; no other error escapes."""

import contextlib
import tomllib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passline.errors import RulebookError
from passline.rulebook import describe
from passline.rulebook.model import Rulebook
from passline.rulebook.read import TOP_KEYS, read_rulebook
from proving import examples

BASE = """
firm = "Mine"
plan = "Test"
size = 50_000
stage = "evaluation"
platform = "desk"
start_balance = 50_000
as_of = 2026-11-01
confidence = "low"
source = "a letter"

[automation]
policy = "allowed"

[drawdown]
trail = "intraday"
allowance = 2000
lock_trigger = 52_000
lock_level = 50_000

[target]
profit = 3000

[daily_limit]
kind = "soft"
amount = 1000

[[tiers]]
from_profit = 0
minis = 5

[[tiers]]
from_profit = 1000
minis = 10

[[consistency]]
scope = "pass"
best_day = 0.5

[clock]
flat_by = "16:59"
"""
FUNDED = """
[payout]
split = 0.9
"""


def read(text: str) -> Rulebook:
    return read_rulebook(tomllib.loads(text, parse_float=Decimal), id="mine", file="mine.toml")


def changed(*edits: tuple[str, str]) -> str:
    text = BASE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def refusal(text: str) -> str:
    with pytest.raises(RulebookError) as caught:
        read(text)
    return str(caught.value)


def test_base_is_read() -> None:
    book = read(BASE)
    assert [tier.daily_limit_mills for tier in book.tiers] == [1_000_000, 1_000_000]
    assert book.consistency[0].window == "since_start"


USD = (
    "USD from 0 to 2,147,483 with at most 3 decimals, a number or text such as 2000, 1.99 "
    'or "1.99".'
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "trail =",
            "trailling =",
            "mine.toml: unknown key [drawdown] trailling. Known keys: trail, allowance, "
            "lock_trigger, lock_level, payout_lock_level, as_of, source, confidence, note.",
        ),
        ("minis = 5", "mini = 5", "mine.toml: unknown key [tiers 1] mini. Known keys: from_profit"),
        ("minis = 10", "a = 1\nb = 2", "mine.toml: unknown keys [tiers 2] a, b. Known keys:"),
        ('firm = "Mine"', 'firma = "Mine"', "mine.toml: unknown key firma. Known keys: firm, plan"),
        ('firm = "Mine"', "", "mine.toml: firm is missing; it must be a text that is not empty."),
        ('firm = "Mine"', "firm = 3", "mine.toml: firm was 3; it must be a text"),
        ('firm = "Mine"', 'firm = " "', "mine.toml: firm was ' '; it must be a text"),
        (
            "allowance = 2000",
            "allowance = 2000.0005",
            "mine.toml: [drawdown] allowance was 2000.0005; it must be USD from 1 to",
        ),
        (
            "profit = 3000",
            'profit = "3,000"',
            f"mine.toml: [target] profit was '3,000'; it must be {USD}",
        ),
        ("profit = 3000", "profit = -1", f"[target] profit was -1; it must be {USD}"),
        ("profit = 3000", "profit = true", f"[target] profit was True; it must be {USD}"),
        ("profit = 3000", "profit = nan", f"[target] profit was NaN; it must be {USD}"),
        ("profit = 3000", "profit = inf", f"[target] profit was Infinity; it must be {USD}"),
        ("profit = 3000", "profit = 1e300", f"[target] profit was 1E+300; it must be {USD}"),
        ("profit = 3000", "profit = 2147484", f"[target] profit was 2147484; it must be {USD}"),
        ("profit = 3000", "profit = [1]", f"[target] profit was [1]; it must be {USD}"),
        (
            "profit = 3000",
            "balance = 50_000",
            "[target] balance gives the balance 50000.00; it must",
        ),
        ("profit = 3000", "profit = 3\nbalance = 4", "[target] balance or profit must be given"),
        ('trail = "intraday"', 'trail = "eod"', "it must be one of intraday, end_of_day, static."),
        ("lock_level = 50_000", "", "[drawdown] lock_level is missing; lock_trigger and"),
        ("lock_trigger = 52_000", "", "[drawdown] lock_trigger is missing; lock_trigger and"),
        ('"intraday"', '"static"', "[drawdown] lock_trigger was given, but a static floor never"),
        ("lock_trigger = 52_000", "lock_trigger = 50_000", "it is a balance above start_balance"),
        (
            "lock_level = 50_000",
            "lock_level = 52_000",
            "[drawdown] lock_level was 52000.00; it must",
        ),
        ("lock_level = 50_000", "lock_level = 47_999", "from the first floor 48000.00 to below"),
        ('kind = "soft"', 'kind = "firm"', "[daily_limit] kind was 'firm'; it must be one of none"),
        ('kind = "soft"', "", "[daily_limit] kind is missing, but amount is given"),
        ("amount = 1000", "", "[tiers 1] daily_limit is missing; give it here or as [daily_limit]"),
        ("amount = 1000", "amount = 0", "[daily_limit] amount was 0; it must be USD from 1"),
        (
            "amount = 1000",
            'amount = 1\nreset = "6 pm"',
            "[daily_limit] reset was '6 pm'; it must be",
        ),
        (
            "amount = 1000",
            'amount = 1000\nreset = "12:00"',
            "[daily_limit] reset was 12:00; it lies from flat_by",
        ),
        ("from_profit = 0", "from_profit = 1", "[tiers 1] from_profit was 1.00; the first tier"),
        (
            "from_profit = 1000",
            "from_profit = 0",
            "[tiers 2] from_profit was 0.00; tiers must rise",
        ),
        (
            "minis = 5",
            "minis = 0.25",
            "[tiers 1] minis was 0.25; it must be minis from 0.1 to 1000",
        ),
        ("minis = 5", "minis = 0", "[tiers 1] minis was 0; it must be minis from 0.1 to 1000"),
        (
            "best_day = 0.5",
            "best_day = 1.5",
            "[consistency 1] best_day was 1.5; it must be a share",
        ),
        ("best_day = 0.5", "best_day = 0", "[consistency 1] best_day was 0; it must be a share"),
        ("best_day = 0.5", 'best_day = "1/0"', "[consistency 1] best_day was '1/0'; it must be"),
        ("best_day = 0.5", 'best_day = "half"', "[consistency 1] best_day was 'half'; it must be"),
        ("best_day = 0.5", "best_day = 0.33333", "with a denominator of at most 1000"),
        ('scope = "pass"', 'scope = "payout"', "scope was payout; in the evaluation stage it must"),
        (
            'flat_by = "16:59"',
            'flat_by = "4:59 pm"',
            "[clock] flat_by was '4:59 pm'; it must be an",
        ),
        ('flat_by = "16:59"', 'flat_by = "17:30"', "[clock] flat_by was 17:30; it lies from 18:01"),
        ('flat_by = "16:59"', 'flat_by = "18:00"', "[clock] flat_by was 18:00; it lies from 18:01"),
        (
            'flat_by = "16:59"',
            'flat_by = "18:04"\nno_entry_minutes = 4',
            "[clock] no_entry_minutes was 4; the day has 4 minutes to flat_by.",
        ),
        ("as_of = 2026-11-01", 'as_of = "2026-11-01"', "as_of was '2026-11-01'; it must be a date"),
        ("as_of = 2026-11-01", "as_of = 2026-11-01T00:00:00", "as_of was datetime.datetime("),
        (
            'confidence = "low"',
            'confidence = "sure"',
            "confidence was 'sure'; it must be one of high",
        ),
        (
            'policy = "allowed"',
            'policy = "yes"',
            "[automation] policy was 'yes'; it must be one of",
        ),
        ('policy = "allowed"', "", "[automation] policy is missing; it must be one of forbidden"),
        (
            "size = 50_000",
            "size = 50_000\ntiers_latched = 1",
            "tiers_latched was 1; it must be true",
        ),
        (
            "size = 50_000",
            "size = 50_000\ntime_limit_days = 0",
            "time_limit_days was 0; it must be a",
        ),
        ("size = 50_000", "size = 50_000\ndays = 3", "days was 3; it must be a table, written as"),
        ("[clock]", "[[clock]]", "clock was [{'flat_by': '16:59'}]; it must be a table"),
        ("[target]\nprofit = 3000", "", "target is missing; an evaluation has a [target]"),
    ],
)
def test_field_errors(old: str, new: str, message: str) -> None:
    found = refusal(changed((old, new)))
    assert found.startswith("mine.toml: ")
    assert message in found


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("[payout]\nsplit = 0.9", "mine.toml: payout was given, but an evaluation pays nothing"),
        ("[commissions]\nes = 1", "[commissions] es is not a contract symbol"),
        ("[commissions]\nES = -1", "[commissions] ES was -1; it must be USD from 0"),
        (
            '[products]\nallowed = "ES"',
            "[products] allowed was 'ES'; it must be a list of contract",
        ),
        ('[products]\nallowed = ["ES"]\nexcluded = ["NQ"]', "[products] allowed and excluded are"),
        ("[orders]\nmax_stop_per_target = 0", "[orders] max_stop_per_target was 0; it must be"),
        ("[orders.mae]\nbase = 5", "[orders.mae] share is missing; it must be a share"),
        (
            "[orders.mae]\nshare = 0.3\nbase = 5\nraised_share = 0.5",
            "[orders.mae] raised_share and",
        ),
        (
            "[orders.mae]\nshare = 0.3\nbase = 5\nx = 1",
            "unknown key [orders.mae] x. Known keys: share",
        ),
        ("[days]\nmin_days = 1.5", "[days] min_days was 1.5; it must be a whole number from 0"),
        (
            "[inactivity]\nactive_days = 1",
            "[inactivity] window_days is missing; it must be a whole",
        ),
        ('[fees]\nbilling = "weekly"', "[fees] billing was 'weekly'; it must be one of monthly"),
        ("[about.drawdwn]\nnote = 'x'", "[about] drawdwn names no field; write table.field, such"),
        ("[about.'drawdown.lock']\nnote = 'x'", "such as drawdown.trail, drawdown.allowance"),
        ("[about.tiers]\nvalue = 3", "unknown key [about.tiers] value. Known keys: as_of, source"),
        (
            "[[consistency]]\nscope = 'pass'\nbest_day = 0.4",
            "consistency has 2 rules; a pass has at most one.",
        ),
    ],
)
def test_errors_in_further_tables(extra: str, message: str) -> None:
    assert message in refusal(BASE + extra)


def funded(extra: str = "") -> str:
    edits = (
        ('stage = "evaluation"', 'stage = "funded"'),
        ("[target]\nprofit = 3000\n", ""),
        ('scope = "pass"', 'scope = "payout"'),
    )
    return changed(*edits) + FUNDED + extra


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("caps = 1500", "[payout] caps was 1500; it must be a list of USD amounts"),
        ("caps = [1500, -2]", "[payout] caps 2 was -2; it must be USD from 0"),
        ("after_last = 'ends'", "[payout] after_last was 'ends'; it must be one of continues"),
        ("max_payouts = 0", "[payout] max_payouts was 0; it must be a whole number from 1"),
        ("[target]\nprofit = 1", "target was given, but a funded stage has no target"),
        (
            "[[consistency]]\nscope = 'payout'\nbest_day = 0.4\nfrom_payout = 3\nto_payout = 2",
            "[consistency 2] to_payout was 2; it must be at least from_payout 3.",
        ),
    ],
)
def test_errors_in_funded_books(extra: str, message: str) -> None:
    assert message in refusal(funded(extra))


def test_funded_stage_has_no_next_one() -> None:
    text = funded().replace('plan = "Test"', 'plan = "Test"\nfunded = "x"')
    assert "funded was given, but this book is the funded stage itself" in refusal(text)


def test_payout_defaults_and_window() -> None:
    book = read(funded())
    assert book.consistency[0].window == "since_payout"
    assert book.payout is not None
    assert (book.payout.split_num, book.payout.split_den, book.payout.cap_mills(1)) == (9, 10, None)
    assert book.payout.profit_goal_mills(3) == 0


def test_limit_without_kind_in_a_tier() -> None:
    text = changed(
        ('[daily_limit]\nkind = "soft"\namount = 1000\n', ""),
        ("minis = 10", "minis = 10\ndaily_limit = 500"),
    )
    assert "[tiers 2] daily_limit was given, but [daily_limit] kind is not soft" in refusal(text)


def test_many_unknown_keys_are_counted() -> None:
    extra = "\n".join(f"k{i} = 1" for i in range(8))
    assert "unknown keys [days] k0, k1, k2, k3, k4 and 3 more." in refusal(f"{BASE}[days]\n{extra}")


@pytest.mark.parametrize(
    ("text", "num", "den"), [("0.55", 11, 20), ("1", 1, 1), ('"1/3"', 1, 3), ("0.125", 1, 8)]
)
def test_shares_are_exact(text: str, num: int, den: int) -> None:
    rule = read(changed(("best_day = 0.5", f"best_day = {text}"))).consistency[0]
    assert (rule.best_day_num, rule.best_day_den) == (num, den)


@given(cents=st.integers(0, 200_000_000), as_text=st.booleans())
@settings(max_examples=examples(50), deadline=None)
def test_money_is_exact(cents: int, as_text: bool) -> None:
    written = f"{cents // 1000}.{cents % 1000:03d}"
    text = f'"{written}"' if as_text else written
    book = read(BASE + f"[fees]\nprice = {text}")
    assert book.fees.price_mills == cents


def test_evidence_is_inherited_from_table_and_book() -> None:
    book = read(
        BASE.replace("allowance = 2000", 'allowance = 2000\nsource = "page 2"\nas_of = 2026-10-01')
        + "[about.'drawdown.lock_level']\nconfidence = 'high'\nnote = 'sure'"
    )
    level = book.evidence_for("drawdown.lock_level")
    assert (level.source, level.confidence, level.note) == ("page 2", "high", "sure")
    assert (level.as_of.month, book.as_of.month) == (10, 11)
    table = book.evidence_for("drawdown.allowance")
    assert (table.path, table.source, table.confidence) == ("drawdown", "page 2", "low")
    assert book.evidence_for("clock").source == "a letter"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=True, allow_infinity=True)
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.times(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ["trail", "allowance", "lock_level", "profit", "kind", "minis", "caps", "share", "flat_by"]


@given(key=st.sampled_from(TOP_KEYS), field=st.none() | st.sampled_from(FIELDS), value=VALUES)
@settings(max_examples=examples(300), deadline=None)
def test_hostile_values_are_refused_or_read(key: str, field: str | None, value: object) -> None:
    raw: dict[str, Any] = tomllib.loads(BASE, parse_float=Decimal)
    if field is not None and isinstance(raw.get(key), dict):
        raw[key][field] = value
    else:
        raw[key] = value
    with contextlib.suppress(RulebookError):
        book = read_rulebook(raw, id="mine", file="mine.toml")
        assert len(book.fingerprint()) == 64
        assert describe(book)
