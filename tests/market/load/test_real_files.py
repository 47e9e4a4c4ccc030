"""Files as vendors wrote them, and long real series, where they lie beside the repository."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.load import check_bars

Import = Callable[..., Bars]
pytestmark = pytest.mark.real
OPEN, CLOSE = {"stamp": "open"}, {"stamp": "close"}
UTC, ET = {"tz": "UTC"}, {"tz": "America/New_York"}

GOOD: list[tuple[str, str, dict[str, Any], str, int]] = [
    ("backtrader/2006-01-02-volume-min-001.head3000.txt", "ES",
     {"tz": "Europe/Berlin", "stamp": "close"}, "backtrader", 3000),
    ("databento/dbn_test_data.ohlcv-1m.dbn", "ES", {}, "databento-dbn", 2),
    ("databento/dbn_test_data.ohlcv-1m.v1.dbn.zst", "ES", {}, "databento-dbn", 2),
    ("databento/dbn_test_data.ohlcv-1m.v2.dbn.zst", "ES", {}, "databento-dbn", 2),
    ("databento/dbn_test_data.ohlcv-1m.v3.dbn.zst", "ES", {}, "databento-dbn", 2),
    ("databento/dbn_test_data.ohlcv-1s.v3.dbn.zst", "ES", {}, "databento-dbn", 2),
    ("databento/dbn_test_data.trades.v3.dbn.zst", "ES", {"bar": "1s"}, "databento-dbn", 1),
    ("databento/es_futures_ohlcv-1m_2024-07-01T23-40_2024-07-02T00-10.dbn.zst", "ES",
     {"symbols": ["ESU4"]}, "databento-dbn", 30),
    ("databento/es_futures_ohlcv-1m_2024-07-01T23-40_2024-07-02T00-10.dbn.zst", "NQ",
     {"symbols": ["NQU4"]}, "databento-dbn", 30),
    ("databento/es_futures_ohlcv-1m_2026-01-09T20-55_2026-01-09T21-05.dbn.zst", "ES", {},
     "databento-dbn", 10),
    ("databento/es_futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst", "ES",
     {"bar": "1m"}, "databento-dbn", 4),
    ("databento/es_ohlcv-1m_20240701.json", "ES", {"symbols": ["ESU4"]}, "databento-json", 30),
    ("databento/es_ohlcv-1m_20240701.parquet", "ES", {"symbols": ["ESU4"]},
     "databento-parquet", 30),
    ("databento/es_ohlcv-1m_20240701.pretty.csv", "ES", {"symbols": ["ESU4"]},
     "databento-csv", 30),
    ("databento/es_ohlcv-1m_20240701.raw.csv", "ES", {"symbols": ["118"]}, "databento-csv", 30),
    ("databento/es_trades_20240702.json", "ES", {"bar": "1m"}, "databento-json", 4),
    ("databento/es_trades_20240702.parquet", "ES", {"bar": "1m"}, "databento-parquet", 4),
    ("databento/es_trades_20240702.pretty.csv", "ES", {"bar": "1m"}, "databento-csv", 4),
    ("databento/es_trades_20240702.raw.csv", "ES", {"bar": "1m"}, "databento-csv", 4),
    ("databento/glbx-mdp3-20250504.trades.head1500.csv", "NQ",
     {"bar": "1m", "symbols": ["NQM5"]}, "databento-csv", 11),
    ("databento/glbx_test_data.ohlcv-1m.dbn.zst", "ES", {}, "databento-dbn", 4),
    ("databento/legacy2022_test_data.ohlcv-1m.csv.zst", "ES", {"bar": "1m"},
     "databento-csv-2022", 2),
    ("databento/legacy2022_test_data.ohlcv-1m.json.zst", "ES", {"bar": "1m"},
     "databento-json", 2),
    ("databento/legacy2022_test_data.ohlcv-1s.csv.zst", "ES", {"bar": "1s"},
     "databento-csv-2022", 2),
    ("firstrate/NQ_1min_sample.head3300.csv", "NQ", {"format": "firstrate"}, "firstrate", 3300),
    ("generic/6EH4.XCME_1min_bars_202401.head8000.csv.gz", "6E", CLOSE, "csv", 8000),
    ("generic/es_1m_price_only.head3000.csv", "ES", {"bar": "1m"}, "csv", 3000),
    ("generic/gc_2020-02-24_madrid_offset.csv", "GC", CLOSE, "csv", 1380),
    ("generic/gc_2020-03-09_madrid_offset.csv", "GC", CLOSE, "csv", 1380),
    ("generic/mnq_1m_caldt_utc.head2700.csv", "MNQ", UTC | OPEN, "csv", 2700),
    ("generic/nq_time_and_sales_20251127_decimal_comma.head3500.csv", "NQ",
     UTC | {"bar": "1m"}, "csv", 119),
    ("generic/nq_time_and_sales_20251211_padded.head2500.csv", "NQ", UTC | {"bar": "1m"},
     "csv", 110),
    ("generic/smt_sample_ES_20251120.csv", "ES", OPEN, "csv", 1320),
    ("generic/smt_sample_NQ_20251120.csv", "NQ", OPEN, "csv", 1320),
    ("ibkr/market_data_MNQ_20250401.csv", "MNQ", OPEN, "csv", 898),
    ("ninjatrader/ES_Volumetric_1_NinjaDataExport_v2.3.head600.csv", "ES", {},
     "ninjadataexport", 600),
    ("ninjatrader/NQ_1min_Last_semicolon_utc.head3000.txt", "NQ", {}, "ninjatrader", 3000),
    ("ninjatrader/NQ_Minute_5_NinjaDataExport_v1.head700.csv", "NQ", {}, "ninjadataexport", 700),
    ("ninjatrader/NQ_Volumetric_1_NinjaDataExport_v2.3.head600.csv", "NQ", {},
     "ninjadataexport", 600),
    ("quantconnect_lean/cme_minute_es_20131007_trade.zip", "ES", {"roll": "volume"}, "lean", 1344),
    ("quantconnect_lean/cme_minute_es_20131218_trade.zip", "ES", {"roll": "volume"}, "lean", 1348),
    ("quantconnect_lean/cme_minute_es_20200106_trade.zip", "ES", {"roll": "volume"}, "lean", 1365),
    ("quantconnect_lean/comex_minute_gc_20131007_trade.zip", "GC", {"roll": "volume"}, "lean",
     1314),
    ("quantconnect_lean/comex_tick_gc_20131007_trade.zip", "GC",
     {"roll": "volume", "bar": "1m"}, "lean", 1314),
    ("sierrachart/ESH20-CME.scid_BarData__5m.head2500.txt", "ES", {}, "sierrachart", 2500),
    ("sierrachart/ESU18-CME.scid_BarData__5m.head2500.txt", "ES", {}, "sierrachart", 2500),
    ("sierrachart/ESZ24-CME.scid_BarData__5m.head2500.txt", "ES", {}, "sierrachart", 2500),
    ("sierrachart/ES_tick_by_tick_depth_export.head300.txt", "ES", UTC | {"bar": "1s"},
     "sierrachart-ticks", 6),
    ("tradingview/CME_MINI_NQ1!, 1.head1500.csv", "NQ", {}, "tradingview", 1500),
    ("tradingview/NQ_5m_epoch_indicators.csv", "NQ", {}, "tradingview", 1000),
    ("yfinance/NQ_5m.head2500.csv", "NQ", {}, "yfinance", 2500),
]  # fmt: skip

BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("databento/dbn_test_data.ohlcv-1m.dbz", "ES", {}, "this is DBZ"),
    ("databento/esh4-glbx-mdp3-20231224.mbo.dbn.zst", "ES", {}, "its schema is mbo"),
    ("databento/es_ohlcv-1m_20240701.pretty.csv", "ES", {}, "several instruments"),
    ("databento/es_ohlcv-1m_20240701.raw.csv", "ES", {}, "several instruments"),
    ("databento/glbx-mdp3-20250504.trades.head1500.csv", "NQ", {"bar": "1m"}, "NQM5-NQU5"),
    ("firstrate/NQ_1day_sample.csv", "NQ", ET | OPEN, "daily bars"),
    ("histdata/DAT_ASCII_AUDUSD_M1_202306.head3000.csv", "6E", {}, "daily break|off the 6E tick"),
    ("histdata/HISTDATA_SPXUSD_DAT_MT_SPXUSD_M1_202602.txt", "ES", {}, "no known format fits"),
    ("metatrader/DAT_MT_NSXUSD_M1_202602.head2500.csv", "NQ", {}, "off the NQ tick"),
    ("metatrader/US500_M15_export.head3000.csv", "ES", {"tz": "Europe/Athens", "stamp": "open"},
     "off the ES tick"),
    ("quantconnect_lean/cme_minute_es_20131007_openinterest.zip", "ES", {}, "not trades"),
    ("quantconnect_lean/cme_minute_es_20131007_quote.zip", "ES", {}, "not trades"),
    ("quantconnect_lean/map_files_es.csv", "ES", {}, "no known format fits"),
    ("tradingview/CME_MINI_NQ1!, 1D.head1500.csv", "NQ", {}, "daily bars"),
    ("yfinance/MES_daily.csv", "MES", {}, "daily bars"),
    ("quirks/SYNTHETIC_mes_1min_4500.csv", "MES", ET | OPEN, "off the MES tick of 0.25 in 2,100"),
    ("quirks/SYNTHETIC_mes_demo_5000.head1500.csv", "MES", OPEN, "off the MES tick of 0.25"),
    ("quirks/es_topstep_mixed_20251103_04.csv", "ES", UTC | OPEN, "bars .* repeat, bar for bar"),
    ("quirks/es_topstep_tzshift_20250905_08.csv", "ES", UTC | OPEN, "121 of 2,761 .*daily break"),
    ("quirks/es_topstep_tzshift_20250905_08.csv", "ES",
     {"tz": "Europe/London", "stamp": "open"}, "daily break"),
    ("quirks/ib_es_git_conflict_markers.head150.csv", "ES", ET, "conflict marker of git"),
    ("quirks/mes_1m_broken_roll_adjustment.parquet", "MES", OPEN, "leaps at 2 of 2 rolls"),
    ("quirks/nq_ib_backmonth_zero_volume_filler.parquet", "NQ", OPEN, "volume 0 and one price"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "symbol", "words", "name", "n_bars"), GOOD)
def test_samples_import(
    shared: Path, imported: Import, file: str, symbol: str, words: dict[str, Any], name: str,
    n_bars: int,
) -> None:  # fmt: skip
    bars = imported(shared / "raw" / file, symbol=symbol, **words)
    assert bars.provenance["format"] == name
    assert len(bars) == n_bars


@pytest.mark.parametrize(("file", "symbol", "words", "found"), BAD)
def test_samples_are_refused(
    shared: Path, imported: Import, file: str, symbol: str, words: dict[str, Any], found: str
) -> None:
    with pytest.raises(BarsError, match=found):
        imported(shared / "raw" / file, symbol=symbol, **words)


def test_every_sample_is_tried(shared: Path) -> None:
    tried = {row[0] for row in GOOD} | {row[0] for row in BAD}
    raw = shared / "raw"
    there = {str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file()}
    assert there <= tried


@pytest.mark.parametrize(
    ("file", "symbol", "n_bars"),
    [
        ("6e_1m_2024_01", "6E", 29_996),
        ("mes_1m_2025", "MES", 179_587),
        ("nq_5m_2024_2025", "NQ", 91_827),
        ("nq_5m_2019_novolume", "NQ", 70_002),
        ("cl_5m_2024_2025", "CL", 99_285),
        ("rty_5m_2024_2025", "RTY", 89_899),
        ("ym_5m_2024_2025", "YM", 94_361),
        ("es_1m_2013_2020_lean_days", "ES", 19_083),
        ("gc_1m_2013_lean_days", "GC", 6_687),
        ("mnq_1m_2025_09", "MNQ", 20_339),
        ("es_5m_2015_2022", "ES", 560_239),
    ],
)
def test_series_import_bar_for_bar(
    shared: Path, imported: Import, file: str, symbol: str, n_bars: int
) -> None:
    path = shared / "series" / f"{file}.parquet"
    bars = imported(path, symbol=symbol, stamp="open")
    table = pl.read_parquet(path)
    assert len(bars) == n_bars == len(table)
    tick = float(bars.contract.tick_size)
    assert (bars.ts == table["ts"].dt.timestamp("ns").to_numpy()).all()
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(bars, name) * tick, table[name].to_numpy(), rtol=1e-9)
    if "contract" in table.columns:
        months = table["contract"].cast(pl.String).unique(maintain_order=True).to_list()
        assert bars.expiries == tuple(months)


def test_known_prices_of_es(shared: Path, imported: Import) -> None:
    bars = imported(shared / "series" / "es_5m_2015_2022.parquet", stamp="open")
    at = np.datetime64("2020-03-23T19:55", "ns").astype(np.int64)
    assert bars.close[np.searchsorted(bars.ts, at)] == 2216.75 * 4
    coverage = check_bars(bars)
    assert coverage.n_present == coverage.n_sessions
    assert all(int(at[:4]) <= 2018 for at in coverage.outside)


@pytest.mark.parametrize(
    ("file", "symbol", "n_wicks"),
    [
        ("cl_5m_2024_2025", "CL", 1),
        ("es_1m_2013_2020_lean_days", "ES", 5),
        ("es_5m_2015_2022", "ES", 2),
        ("mes_1m_2025", "MES", 0),
        ("rty_5m_2024_2025", "RTY", 2),
        ("ym_5m_2024_2025", "YM", 1),
    ],
)
def test_wicks_of_real_crashes_and_news_are_listed_and_not_refused(
    shared: Path, imported: Import, file: str, symbol: str, n_wicks: int
) -> None:
    bars = imported(shared / "series" / f"{file}.parquet", symbol=symbol, stamp="open")
    assert check_bars(bars).n_wicks == n_wicks


def test_stray_weekend_prints_name_their_days(shared: Path, imported: Import) -> None:
    path = shared / "series" / "nq_1m_2025_spring.parquet"
    with pytest.raises(BarsError, match="32 of 74,306 bars lie in the daily break") as caught:
        imported(path, symbol="NQ", stamp="open")
    text = str(caught.value)
    days = [date.fromisoformat(part[:10]) for part in text.split("--drop-day ")[1:]]
    bars = imported(path, symbol="NQ", stamp="open", drop_days=days)
    assert len(bars) == 74_306 - 32


def test_ticks_agree_with_the_minutes_of_the_same_days(shared: Path, imported: Import) -> None:
    ticks = imported(shared / "series" / "gc_ticks_2013_10_07_09.parquet", symbol="GC", bar="1m")
    minutes = imported(
        shared / "series" / "gc_1m_2013_lean_days.parquet", symbol="GC", stamp="open"
    )
    _, ours, theirs = np.intersect1d(ticks.ts, minutes.ts, return_indices=True)
    assert len(ours) > 3000
    for name in ("open", "high", "low", "close"):
        same = getattr(ticks, name)[ours] == getattr(minutes, name)[theirs]
        assert same.mean() > 0.999
