"""Vendors' exports, fabricated row by row in the columns that the vendors write."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passline.errors import BarsError, FillsError, PasslineError
from passline.evaluate.audit.cells import find_root
from passline.evaluate.audit.formats import FORMATS, read_trips
from passline.evaluate.audit.judge import audit
from passline.evaluate.audit.trips import UNKNOWN
from passline.market.contracts import load_contracts
from passline.rulebook.catalog import load_rulebook
from proving import examples

COMBINE = load_rulebook("topstep-combine-50k")

NINJA = (
    "Trade number,Instrument,Account,Strategy,Market pos.,Qty,Entry price,Exit price,Entry time,"
    "Exit time,Entry name,Exit name,Profit,Cum. net profit,Commission,Clearing Fee,Exchange Fee,"
    "IP Fee,NFA Fee,MAE,MFE,ETD,Bars,\n"
    "1,MNQ 06-25,Sim101,,Long,2,20000.25,20010.25,3/12/2025 9:31:00 AM,3/12/2025 9:45:30 AM,Entry,"
    "Target,$37.92,$37.92,$2.08,$0.00,$0.00,$0.00,$0.00,$15.00,$44.00,$4.00,15,\n"
    "2,MNQ 06-25,Sim101,,Short,1,20000.00,20010.00,3/12/2025 10:00:00 AM,3/12/2025 10:05:00 AM,"
    "Entry,Stop,($21.04),$16.88,$1.04,$0.00,$0.00,$0.00,$0.00,$20.00,$3.00,$23.00,5,\n"
)
TRADOVATE_PERFORMANCE = (
    "symbol,_priceFormat,_priceFormatType,_tickSize,buyFillId,sellFillId,qty,buyPrice,sellPrice,"
    "pnl,boughtTimestamp,soldTimestamp,duration\n"
    "ESM5,-2,0,0.25,1,2,2,5600.25,5601.50,$125.00,05/06/2025 09:40:00,05/06/2025 09:45:10,5min\n"
    "ESM5,-2,0,0.25,3,4,1,5603.00,5601.00,$(100.00),05/06/2025 10:05:00,05/06/2025 10:00:00,5min\n"
)
TRADOVATE_FILLS = (
    "_id,_orderId,_contractId,_timestamp,_tradeDate,_action,_qty,_price,_active,_accountId,"
    "Fill ID,Order ID,Timestamp,Date,Account,B/S,Quantity,Price,_priceFormat,_priceFormatType,"
    "_tickSize,Contract,Product,Product Description,commission\n"
    "1,2,9,2025-05-06 13:40:00.500Z,2025-05-06,0,2,5600.25,true,7,1,2,05/06/2025 15:40:00,5/6/25,"
    "A1, Buy,2,5600.25,-2,0,0.25,ESM5,ES,E-Mini S&P 500,2.80\n"
    "3,4,9,2025-05-06 13:45:10.000Z,2025-05-06,1,1,5601.50,true,7,3,4,05/06/2025 15:45:10,5/6/25,"
    "A1, Sell,1,5601.50,-2,0,0.25,ESM5,ES,E-Mini S&P 500,1.40\n"
    "5,6,9,2025-05-06 13:50:00.000Z,2025-05-06,1,3,5599.25,true,7,5,6,05/06/2025 15:50:00,5/6/25,"
    "A1, Sell,3,5599.25,-2,0,0.25,ESM5,ES,E-Mini S&P 500,4.20\n"
    "7,8,9,2025-05-06 13:55:00.000Z,2025-05-06,0,1,5598.00,true,7,7,8,05/06/2025 15:55:00,5/6/25,"
    "A1, Buy,1,5598.00,-2,0,0.25,ESM5,ES,E-Mini S&P 500,1.40\n"
)
TRADINGVIEW = (
    "Trade #,Type,Date and time,Signal,Price USD,Size (qty),Size (value),Net P&L USD,Net P&L %,"
    "Favorable excursion USD,Favorable excursion %,Adverse excursion USD,Adverse excursion %,"
    "Cumulative P&L USD,Cumulative P&L %\n"
    "2,Exit short,2025-05-06 10:20,Stop,5604.00,1,280200,-52.80,-0.02,25,0.01,-62.5,-0.02,44.4,0.\n"
    "2,Entry short,2025-05-06 10:10,S,5603.00,1,280150,-52.80,-0.02,25,0.01,-62.5,-0.02,44.4,0.\n"
    "1,Exit long,2025-05-06 09:45,Target,5602.25,1,280012,97.20,0.03,110,0.04,-25,-0.01,97.2,0.\n"
    "1,Entry long,2025-05-06 09:40,L,5600.25,1,280012,97.20,0.03,110,0.04,-25,-0.01,97.2,0.\n"
)


def write(folder: Path, text: str, name: str = "fills.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_ninjatrader_trades(tmp_path: Path) -> None:
    trips, kind = read_trips(write(tmp_path, NINJA), zone="America/New_York")
    assert kind == "ninjatrader-trades"
    assert [c.symbol for c in trips.contracts] == ["MNQ"]
    assert trips.gross_mills.tolist() == [40_000, -20_000]
    assert trips.commission_mills.tolist() == [2_080, 1_040]
    assert trips.mae_mills.tolist() == [15_000, 20_000]
    assert trips.mfe_mills.tolist() == [44_000, 3_000]
    assert trips.side.tolist() == [1, -1]
    # 2025-03-12 09:31 EDT
    assert str(np.datetime64(int(trips.entry_ns[0]), "ns"))[:16] == "2025-03-12T13:31"


def test_ninjatrader_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    text = (
        "Trade number;Instrument;Account;Strategy;Market pos.;Qty;Entry price;Exit price;"
        "Entry time;Exit time;Profit;Commission;MAE;MFE\n"
        "1;MNQ 06-25;Sim101;;Long;1;20000,25;20010,25;13.03.2025 15:31:00;13.03.2025 15:45:30;"
        "18,96;1,04;15,00;22,00\n"
        "2;MNQ 06-25;Sim101;;Long;1;1.000,25;20.010,25;13.03.2025 16:31:00;13.03.2025 16:45:30;"
        "38.018,96;1,04;15,00;40.000,00\n"
    )
    trips, _ = read_trips(write(tmp_path, text), zone="Europe/Berlin")
    assert trips.gross_mills.tolist() == [20_000, 38_020_000]
    assert trips.mfe_mills.tolist() == [22_000, 40_000_000]


def test_tradovate_performance_tells_the_side_by_the_times(tmp_path: Path) -> None:
    trips, kind = read_trips(write(tmp_path, TRADOVATE_PERFORMANCE), zone="America/New_York")
    assert kind == "tradovate-performance"
    assert trips.side.tolist() == [1, -1]
    assert trips.gross_mills.tolist() == [125_000, -100_000]
    assert trips.commission_mills.tolist() == [UNKNOWN, UNKNOWN]
    assert not trips.has_excursions


def test_tradovate_fills_match_first_in_first_out(tmp_path: Path) -> None:
    trips, kind = read_trips(write(tmp_path, TRADOVATE_FILLS))
    assert kind == "tradovate-fills"
    # buy 2 at 5600.25; sell 1 at 5601.50 (+62.50); sell 3 at 5599.25: 1 closes (-50), 2 open short;
    # buy 1 at 5598.00 closes one of them (+62.50); one stays open.
    assert trips.gross_mills.tolist() == [62_500, -50_000, 62_500]
    assert trips.side.tolist() == [1, 1, -1]
    assert trips.commission_mills.tolist() == [2_800, 2_800, 2_800]
    assert trips.n_open == 1


def test_tradingview_pairs_rows_and_derives_costs(tmp_path: Path) -> None:
    trips, kind = read_trips(write(tmp_path, TRADINGVIEW), contract="ES", zone="America/New_York")
    assert kind == "tradingview"
    assert trips.gross_mills.tolist() == [100_000, -50_000]
    assert trips.commission_mills.tolist() == [2_800, 2_800]
    assert trips.mae_mills.tolist() == [25_000, 62_500]
    assert trips.mfe_mills.tolist() == [110_000, 25_000]


def test_tradingview_with_another_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FillsError, match=r"line 4.*97\.20 USD.*Check the contract"):
        read_trips(write(tmp_path, TRADINGVIEW), contract="MES", zone="UTC")


def test_generic_fills_and_trades(tmp_path: Path) -> None:
    fills = (
        "time,symbol,side,qty,price\n"
        "2025-05-06T09:40:00-04:00,ES,buy,1,5600.25\n"
        "2025-05-06T09:45:00-04:00,ES,sell,1,5601.25\n"
    )
    assert read_trips(write(tmp_path, fills))[0].gross_mills.tolist() == [50_000]
    trades = (
        "entry_time,exit_time,symbol,side,qty,entry_price,exit_price,mae_usd,mfe_usd,stop_ticks,"
        "target_ticks\n"
        "2025-05-06T09:40:00Z,2025-05-06T09:45:00Z,6EM5,short,1,1.08505,1.08500,0,10,50,9\n"
    )
    trips, kind = read_trips(write(tmp_path, trades))
    assert kind == "generic-trades"
    assert trips.gross_mills.tolist() == [6_250]
    assert (trips.stop_ticks[0], trips.target_ticks[0]) == (50, 9)


def test_fills_newest_first_keep_ties_in_their_order(tmp_path: Path) -> None:
    fills = (
        "time,symbol,side,qty,price\n"
        "2025-05-06T09:45:00Z,ES,sell,1,5601.25\n"
        "2025-05-06T09:45:00Z,ES,buy,1,5600.25\n"
        "2025-05-06T09:40:00Z,ES,sell,1,5600.00\n"
        "2025-05-06T09:39:00Z,ES,buy,1,5600.00\n"
    )
    trips, _ = read_trips(write(tmp_path, fills))
    assert trips.gross_mills.tolist() == [0, 50_000]
    assert trips.side.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ESH4", "ES"),
        ("ES 03-24", "ES"),
        ("NQ DEC25", "NQ"),
        ("CME_MINI:ES1!", "ES"),
        ("MESM2026", "MES"),
        ("/GCZ6", "GC"),
        ("6EU6", "6E"),
        ("@ES", "ES"),
        ("EURUSD", None),
        ("ESX", None),
        ("", None),
    ],
)
def test_contract_names(name: str, root: str | None) -> None:
    found = find_root(name, load_contracts())
    assert (found.symbol if found else None) == root


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no rows of trades"),
        ("a,b\n1,2\n", {}, "are those of no known export"),
        (NINJA, {}, "name no zone.*--tz"),
        (NINJA, {"zone": "Mars/Olympus"}, "time zone was 'Mars/Olympus'"),
        (NINJA.replace("20010.25", "20010.30"), {"zone": "UTC"}, "line 2.*multiple of the MNQ"),
        (NINJA.replace("$37.92", "$80.00"), {"zone": "UTC"}, "line 2, column 'profit'.*80.00"),
        (NINJA.replace("Long,2", "Long,1.5"), {"zone": "UTC"}, "whole number of contracts"),
        (NINJA.replace("Long", "Flat"), {"zone": "UTC"}, "long, short, buy or sell"),
        (NINJA.replace("MNQ 06-25", "XYZ 06-25"), {"zone": "UTC"}, "name of a known contract"),
        (NINJA.replace("2,MNQ 06-25,Sim101", "2,MNQ 06-25,Sim102"), {"zone": "UTC"}, "--account"),
        (NINJA, {"zone": "UTC", "account": "X"}, "no account 'X'"),
        (NINJA.replace("9:45:30 AM", "9:05:30 AM"), {"zone": "UTC"}, "ends before it begins"),
        (NINJA.replace("$15.00", "nan"), {"zone": "UTC"}, "column 'mae': was 'nan'"),
        (NINJA.replace("9:31:00 AM", "soon"), {"zone": "UTC"}, "a time"),
        (NINJA, {"zone": "UTC", "format": "tradingview"}, "no column 'type'"),
        (TRADINGVIEW, {"zone": "UTC"}, "names no contract.*--contract"),
        (TRADOVATE_PERFORMANCE, {"zone": "UTC", "contract": "NQ"}, "as --contract says"),
    ],
)
def test_refusals_name_the_place(
    tmp_path: Path, text: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises((BarsError, FillsError), match=message):
        read_trips(write(tmp_path, text), **options)


def test_ambiguous_dates_are_refused_until_told(tmp_path: Path) -> None:
    text = (
        "time,symbol,side,qty,price\n05/06/2025 13:00,ES,buy,1,5600\n05/06/2025 13:05,ES,sell,1,"
        "5601\n"
    )
    path = write(tmp_path, text)
    with pytest.raises(FillsError, match="--date-order"):
        read_trips(path, zone="UTC")
    months = {
        order: str(
            np.datetime64(int(read_trips(path, zone="UTC", date_order=order)[0].entry_ns[0]), "ns")
        )[:10]
        for order in ("mdy", "dmy")
    }
    assert months == {"mdy": "2025-05-06", "dmy": "2025-06-05"}


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FillsError, match="cannot be read"):
        read_trips(tmp_path / "none.csv")
    with pytest.raises(FillsError, match="not a text file"):
        read_trips(write(tmp_path, "\x00\x01\x02"))
    with pytest.raises(FillsError, match="line 2 has 3 cells and the header 2"):
        read_trips(write(tmp_path, "time,price\n1,2,3\n"))


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    base=st.sampled_from([NINJA, TRADOVATE_PERFORMANCE, TRADOVATE_FILLS, TRADINGVIEW]),
    at=st.integers(0, 900),
    junk=st.text(max_size=6) | st.binary(max_size=6).map(lambda b: b.decode("latin-1")),
    cut=st.integers(0, 40),
)
def test_mangled_files_are_read_or_refused(
    tmp_path: Path, base: str, at: int, junk: str, cut: int
) -> None:
    text = base[:at] + junk + base[at + cut :]
    path = tmp_path / "mangled.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        trips, kind = read_trips(path, contract="ES" if base is TRADINGVIEW else None, zone="UTC")
    except PasslineError:
        return
    assert kind in FORMATS
    assert (trips.qty > 0).all()
    try:
        told = audit(trips, COMBINE).to_dict()
    except PasslineError:
        return
    assert json.dumps(told, allow_nan=False)
    assert (trips.exit_ns >= trips.entry_ns).all()
