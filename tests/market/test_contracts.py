"""Contract facts against the published tables, and refusals of a user's own file."""

from decimal import Decimal
from pathlib import Path

import pytest

from passline.errors import BarsError
from passline.market.calendar import calendar_names
from passline.market.contracts import find_contract, load_contracts

# Symbol, exchange, tick, USD a tick, USD a point, size units, commission a side, slippage ticks.
# Ticks: contract tables of brokers. Commissions: Apex Rithmic lists of 2025-10 and 2026-03; ZN
# Take Profit Trader 2026-09. Typed apart from contracts.toml; as_of 2026-10-06.
TABLE = """
ES  CME   0.25     12.50  50     10 1.99 1 equity
NQ  CME   0.25     5.00   20     10 1.99 1 equity
YM  CBOT  1        5.00   5      10 1.99 1 equity
RTY CME   0.10     5.00   50     10 1.99 1 equity
MES CME   0.25     1.25   5      1  0.51 1 equity
MNQ CME   0.25     0.50   2      1  0.51 1 equity
MYM CBOT  1        0.50   0.5    1  0.51 1 equity
M2K CME   0.10     0.50   5      1  0.51 1 equity
CL  NYMEX 0.01     10.00  1000   10 1.98 1 energy
MCL NYMEX 0.01     1.00   100    1  0.51 1 energy
GC  COMEX 0.10     10.00  100    10 2.31 2 metals
MGC COMEX 0.10     1.00   10     1  0.76 2 metals
6E  CME   0.00005  6.25   125000 10 2.36 1 fx
ZN  CBOT  0.015625 15.625 1000   10 2.25 1 rates
"""
ROWS = [row.split() for row in TABLE.strip().splitlines()]

OWN = """
as_of = 2026-10-06
[source]
me = "my broker"
[contract.SI]
name = "Silver"
exchange = "COMEX"
tick_size = "0.005"
tick_usd = "25.00"
point_usd = "5000"
size_units = 10
calendar = "metals"
commission_usd = "2.31"
slippage_ticks = 1
source = ["me"]
"""


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_contract_equals_the_published_row(row: list[str]) -> None:
    symbol, exchange, tick, tick_usd, point_usd, units, commission, slippage, calendar = row
    contract = find_contract(symbol)
    assert contract.symbol == symbol
    assert contract.exchange == exchange
    assert contract.tick_size == Decimal(tick)
    assert contract.tick_mills == Decimal(tick_usd) * 1000
    assert contract.point_mills == Decimal(point_usd) * 1000
    assert contract.size_units == int(units)
    assert contract.is_micro == (units == "1")
    assert contract.commission_mills == Decimal(commission) * 1000
    assert contract.slippage_ticks == int(slippage)
    assert contract.calendar == calendar


def test_table_is_complete_and_every_contract_names_its_sources() -> None:
    contracts = load_contracts()
    assert list(contracts) == [row[0] for row in ROWS]
    for contract in contracts.values():
        assert contract.as_of == "2026-10-06"
        assert len(contract.sources) == 3
        assert all(len(text) > 20 for text in contract.sources)  # the text, not its key
        assert contract.calendar in calendar_names()


def test_money_of_awkward_ticks_is_exact() -> None:
    assert find_contract("ZN").tick_mills == 15_625
    assert find_contract("6E").tick_mills == 6_250
    assert find_contract("ZN").tick_size * 64 == 1


@pytest.mark.parametrize(("micro", "mini"), [("MES", "ES"), ("MGC", "GC"), ("MCL", "CL")])
def test_ten_micros_move_as_one_mini(micro: str, mini: str) -> None:
    small, large = find_contract(micro), find_contract(mini)
    assert 10 * small.point_mills == large.point_mills
    assert 10 * small.size_units == large.size_units


def test_symbol_is_found_in_any_case() -> None:
    assert find_contract(" mes ").symbol == "MES"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("EES", r"no contract 'EES'. Did you mean .*\bES\b"),
        ("mmes", "Did you mean MES"),
        ("BTCUSD", "no contract 'BTCUSD'. Known contracts: ES, NQ"),
    ],
)
def test_unknown_symbol_names_near_ones(asked: str, message: str) -> None:
    with pytest.raises(BarsError, match=message):
        find_contract(asked)


def test_answers_are_independent_of_each_other() -> None:
    load_contracts().clear()
    assert len(load_contracts()) == len(ROWS)


def own(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_own_file_adds_and_replaces(tmp_path: Path) -> None:
    extra = own(tmp_path, OWN + OWN.partition("[contract.SI]")[2].join(["[contract.ES]", ""]))
    contracts = load_contracts(extra)
    assert list(contracts)[-1] == "SI"
    assert contracts["SI"].tick_mills == 25_000
    assert contracts["SI"].sources == ("my broker",)
    assert contracts["ES"].name == "Silver"
    assert find_contract("si", extra).symbol == "SI"
    assert load_contracts()["ES"].name == "E-mini S&P 500"
    with pytest.raises(BarsError, match="no contract 'SI'"):
        find_contract("SI")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"25.00"', '"24.00"', r"\[contract.SI\]: tick_size 0.005 times point_usd 5000 is 25"),
        ('"25.00"', "25.00", r"tick_usd: was 25.0; it must be a decimal number as text"),
        ('"2.31"', '"2.3105"', r"commission_usd: was 2.3105 USD; money must be whole mills"),
        ('"2.31"', '"-1"', r"commission_usd: was '-1'; it must be a decimal number of zero or mo"),
        ('"0.005"', '"tick"', r"tick_size: was 'tick'"),
        ('"0.005"', '"NaN"', r"tick_size: was 'NaN'"),
        ('"0.005"', '"0"', r"tick_size: was '0'; it must be a decimal number above zero"),
        ("size_units = 10", "size_units = 0", "size_units: was 0; it must be at least 1"),
        ("size_units = 10", "size_units = true", "size_units: was True; it must be int"),
        ("slippage_ticks = 1", "slippage_ticks = -1", "slippage_ticks: was -1"),
        ('"metals"', '"metal"', "calendar: was 'metal'. Known calendars: energy, equity"),
        ('exchange = "COMEX"', "", "missing exchange"),
        ("slippage_ticks", "slippage_tick", "unknown key slippage_tick. Known keys: name"),
        ("contract.SI", "contract.si", "capital letters"),
        ("contract.SI", "contracts.SI", "unknown key contracts. Known keys: as_of, contract"),
        ("[contract.SI]", "[contract.SI", "not valid TOML"),
        (OWN, "as_of = 2026-10-06", r"no \[contract.SYMBOL\] table"),
        (OWN, "contract = 3", "contract was 3; it must be a table"),
        (OWN, "[contract]\nSI = 3", r"\[contract.SI\]: was 3; it must be a table"),
    ],
)
def test_own_file_is_refused_with_file_and_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in OWN
    with pytest.raises(BarsError, match=message) as caught:
        load_contracts(own(tmp_path, OWN.replace(old, new)))
    assert "mine.toml" in str(caught.value)


def test_missing_own_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="cannot be read as a text file"):
        load_contracts(tmp_path / "none.toml")
