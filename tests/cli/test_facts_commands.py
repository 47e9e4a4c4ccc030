from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from passline.market.contracts import load_contracts
from passline.rulebook import describe, list_rulebooks, load_rulebook
from passline.runs import RunStatus, create_run

OWN_CONTRACT = """
as_of = 2026-10-06
[contract.SI]
name = "Silver"
exchange = "COMEX"
tick_size = "0.005"
tick_usd = "25.00"
point_usd = "5000"
size_units = 10
calendar = "metals"
commission_usd = "2.315"
slippage_ticks = 1
"""


def floats_under(value: Any, key: str = "") -> list[str]:
    """Names of money that is not a decimal string."""
    if isinstance(value, dict):
        return [bad for name, item in value.items() for bad in floats_under(item, name)]
    if isinstance(value, list):
        return [bad for item in value for bad in floats_under(item, key)]
    is_money = key.endswith("_usd") and value is not None
    return [key] if is_money and not isinstance(value, str) else []


def test_contracts_are_listed_with_exact_money(passline):
    listed = passline("contracts", "--json").json()
    assert [item["symbol"] for item in listed] == list(load_contracts())
    note = next(item for item in listed if item["symbol"] == "ZN")
    assert (note["tick_size"], note["tick_usd"], note["point_usd"]) == (
        "0.015625",
        "15.625",
        "1000",
    )
    for item, contract in zip(listed, load_contracts().values(), strict=True):
        assert Decimal(item["tick_usd"]) * 1000 == contract.tick_mills
        assert Decimal(item["commission_usd"]) * 1000 == contract.commission_mills
        assert Decimal(item["point_usd"]) * Decimal(item["tick_size"]) == Decimal(item["tick_usd"])
    assert floats_under(listed) == []
    done = passline("contracts")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["CL", "NYMEX", "0.01", "10", "1,000", "1.98", "1", "mini", "Crude", "oil"] in rows
    assert max(map(len, done.out.splitlines())) <= 100


def test_a_users_own_contracts_are_listed_too(passline, refused, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(OWN_CONTRACT)
    listed = passline("contracts", "--contracts", own, "--json").json()
    assert listed[-1]["symbol"] == "SI"
    assert listed[-1]["commission_usd"] == "2.315"
    own.write_text(OWN_CONTRACT.replace("slippage_ticks = 1", ""))
    assert "missing slippage_ticks" in refused("contracts", "--contracts", own)


def test_calendar_tells_early_closes_and_what_they_count_for(passline):
    done = passline("calendar", "2024-11")
    lines = done.out.splitlines()
    assert "21 sessions, 2 early, 0 closed" in lines[0]
    day = next(line for line in lines if line.startswith("2024-11-28"))
    assert day.split()[:4] == ["2024-11-28", "Thu", "Wed", "18:00"]
    assert "13:00" in day
    assert "Thanksgiving; counts for 2024-11-29" in day
    told = passline("calendar", "2024-11", "--json").json()
    assert told["calendar"] == "equity"
    assert len(told["days"]) == 21
    thanksgiving = next(item for item in told["days"] if item["trade_date"] == "2024-11-28")
    assert thanksgiving["close_et"] == "2024-11-28T13:00-05:00"
    assert thanksgiving["open_et"] == "2024-11-27T18:00-05:00"
    assert thanksgiving["trading_day"] == "2024-11-29"
    assert thanksgiving["is_early"]


def test_calendar_of_a_contract_and_its_halt(passline):
    gold = passline("calendar", "2024-12", "--contract", "gc").out
    assert "COMEX metals futures (metals)" in gold
    assert "closed: Christmas" in gold
    assert "16:15-16:30" in passline("calendar", "2020-07", "--contract", "ES").out
    assert "16:15-16:30" not in passline("calendar", "2020-07", "--calendar", "energy").out
    assert passline("calendar", "--json").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("2024-13",), "months 01–12"),
        (("november",), "write it as YYYY-MM, such as 2024-11"),
        (("2024-11-05",), "write it as YYYY-MM"),
        (("1985-01",), "such as 2024-11"),
        (("2024-11", "--calendar", "eqity"), "Known calendars: energy, equity, fx"),
        (("2024-11", "--contract", "EZ"), "Did you mean"),
        (("2024-11", "--contract", "ES", "--calendar", "fx"), "give one of them"),
    ],
)
def test_calendar_refuses_what_it_cannot_show(refused, arguments, says):
    assert says in refused("calendar", *arguments)


def test_every_book_is_listed_once(passline):
    everything = passline("rulebooks", "--platforms").out
    ids = [line.split()[0] for line in everything.splitlines() if line.strip()]
    for book in list_rulebooks():
        assert ids.count(book.id) == 1
    own = passline("rulebooks")
    assert max(map(len, own.out.splitlines())) <= 100
    ids = [line.split()[0] for line in own.out.splitlines() if line.strip()]
    assert "apex-intraday-50k" in ids
    assert "apex-intraday-50k-tradovate" not in ids
    row = next(line for line in own.out.splitlines() if line.startswith("apex-intraday-50k "))
    assert row.split() == ["apex-intraday-50k", "intraday", "2,000", "3,000", "6", "forbidden"]


def test_books_of_one_firm_and_stage(passline, refused):
    listed = passline("rulebooks", "--firm", "apex", "--stage", "funded", "--json").json()
    wanted = [
        book.id for book in list_rulebooks() if book.id[:4] == "apex" and book.stage == "funded"
    ]
    assert [book["id"] for book in listed] == wanted
    assert wanted
    assert floats_under(listed) == []
    assert (
        passline("rulebooks", "--firm", "Apex Trader").out
        == passline("rulebooks", "--firm", "apex").out
    )
    line = refused("rulebooks", "--firm", "apxe")
    assert "topstep (Topstep)" in line
    refused("rulebooks", "--firm", "")


def test_a_book_is_shown_with_every_rule_and_source(passline):
    book = load_rulebook("topstep-xfa-50k")
    done = passline("rulebooks", "show", "topstep-xfa-50k")
    flowing = " ".join(done.out.split())
    for row in describe(book):
        assert row.field in flowing
        assert " ".join(row.value.split()) in flowing
        assert row.source in flowing
        assert row.note in flowing
    told = passline("rulebooks", "show", "topstep-xfa-50k", "--json").json()
    assert told["fingerprint"] == book.fingerprint()
    assert told["drawdown"]["allowance_usd"] == "2000.00"
    assert len(told["in_words"]) == len(describe(book))
    assert floats_under(told) == []
    assert passline("rulebooks", "--json", "show", "topstep-xfa-50k").json() == told


def test_a_book_of_another_platform_or_of_the_users_own(passline, refused, tmp_path):
    told = passline(
        "rulebooks", "show", "apex-intraday-50k", "--platform", "tradovate", "--json"
    ).json()
    assert told["id"] == "apex-intraday-50k-tradovate"
    own = tmp_path / "mine.toml"
    own.write_text('extends = "topstep-combine-50k"\nplan = "My own"\n')
    assert passline("rulebooks", "show", own, "--json").json()["plan"] == "My own"
    assert "Did you mean apex-intraday-50k" in refused("rulebooks", "show", "apex-intaday-50k")
    assert "Its platforms: rithmic" in refused(
        "rulebooks", "show", "apex-intraday-50k", "--platform", "mars"
    )
    assert "cannot be read" in refused("rulebooks", "show", tmp_path / "none.toml")
    own.write_text("firm =")
    assert "mine.toml" in refused("rulebooks", "show", own)


def make_run(root: Path, name: str, **more: object) -> Any:
    return create_run(root, name, {"config": {"steps": 1}, **more})


def test_runs_are_listed_with_what_became_of_them(passline, tmp_path):
    done = make_run(
        tmp_path,
        "gold",
        rulebook={"id": "topstep-combine-50k"},
        markets=[{"contract": "GC", "bar_s": 60}],
    )
    best = [
        {"phase": "entry", "checkpoint": "1-entry-7", "measure": "trip_r", "value": 0.25},
        {"phase": "manage", "checkpoint": "2-manage-9", "measure": "result", "value": -0.5},
    ]
    done.update_status(RunStatus.FINISHED, progress={"step": 26_000_000})
    failed = make_run(tmp_path, "bad")
    failed.update_status(RunStatus.FAILED, message="the disk was full", progress={"best": best})
    killed = make_run(tmp_path, "killed")
    broken = make_run(tmp_path, "broken")
    (broken.path / "run.toml").write_text("no toml")
    shown = passline("runs", "--root", tmp_path)
    text = " ".join(shown.out.split())
    assert "best of phase 'manage' on the gate slices: checkpoint 2-manage-9, the agent's" in text
    rows = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines() if line.strip()}
    assert rows[done.id] == [
        *("training", "finished", "topstep-combine-50k", "GC", "26,000,000", "steps")
    ]
    assert rows[killed.id] == ["training", "killed"]
    assert ["the", "disk", "was", "full"] in [
        line.split()[1:] for line in shown.out.splitlines() if line.startswith(failed.id)
    ]
    listed = {item["id"]: item for item in passline("runs", "--root", tmp_path, "--json").json()}
    assert listed[done.id]["status"] == "finished"
    assert listed[done.id]["config"] == {"steps": 1}
    assert listed[broken.id]["status"] == "unreadable"
    assert "is not TOML" in listed[broken.id]["message"]
    assert listed[failed.id]["message"] == "the disk was full"


def test_no_runs_is_no_error(passline, tmp_path):
    done = passline("runs", "--root", tmp_path / "none")
    assert done.code == 0
    assert "passline demo" in done.out
    assert passline("runs", "--root", tmp_path / "none", "--json").json() == []
