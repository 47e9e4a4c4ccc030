"""passline play as a user calls it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from passline.cli.play import play
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import write_bars

OPEN = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


def write_tape(path: Path, seconds: int, rows: dict[int, tuple[int, int, int, int]]) -> Path:
    """Bars of ES ticks; keys count bars from 09:30."""
    ticks = np.array(list(rows.values()), np.int32)
    start = int(OPEN.timestamp()) * 10**9
    bars = Bars(
        contract=find_contract("ES"),
        bar_ns=seconds * 10**9,
        ts=start + np.array(list(rows), np.int64) * seconds * 10**9,
        open=ticks[:, 0].copy(),
        high=ticks[:, 1].copy(),
        low=ticks[:, 2].copy(),
        close=ticks[:, 3].copy(),
        volume=np.ones(len(ticks), np.int64),
        expiry=np.zeros(len(ticks), np.int16),
    )
    write_bars(bars, path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Ten minutes, the third with both levels in it, and one long signal."""
    still = (20_000,) * 4
    rows = dict.fromkeys(range(10), still) | {2: (20_000, 20_050, 19_970, 20_000)}
    bars = write_tape(tmp_path / "es.parquet", 60, rows)
    inside = {120: still, 130: (20_050,) * 4, 150: (19_970,) * 4, 179: still}
    write_tape(tmp_path / "s1.parquet", 1, inside)
    signals = tmp_path / "S.csv"
    moment = (OPEN + timedelta(minutes=1)).isoformat()
    signals.write_text(f"time,action,qty,stop_ticks,target_ticks\n{moment},long,1,20,40\n")
    book = ["--rulebook", "topstep-combine-50k", "--signals", str(signals)]
    return ["--bars", str(bars), *book]


def test_json_and_options(passline: Callable[..., Any], files: list[str], tmp_path: Path) -> None:
    free = ["--slippage-ticks", "0", "--commission", "0"]
    worst = passline("play", *files, *free, "--json").json()
    assert worst["balance_usd"] == "49750.00"
    assert worst["path"] == "worst"
    best = passline("play", *files, *free, "--path", "best", "--json").json()
    assert best["balance_usd"] == "50500.00"
    told = passline("play", *files, *free, "--seconds", tmp_path / "s1.parquet", "--json").json()
    assert told["balance_usd"] == "50500.00"
    assert told["path"] == "seconds"
    costly = passline("play", *files, "--commission", "1.5", "--json").json()
    assert costly["round_trips"][0]["commission_usd"] == "3.00"
    assert costly["slippage_ticks"] == 1
    micro = passline("play", *files, *free, "--contract", "MES", "--json").json()
    assert micro["balance_usd"] == "49975.00"
    assert "was played as MES" in micro["notes"][0]
    touch = passline("play", *files, *free, "--target-fill", "touch", "--json").json()
    assert touch["target_fill"] == "touch"


def test_the_summary_reads(passline: Callable[..., Any], files: list[str]) -> None:
    done = passline("play", *files)
    assert done.code == 0
    for words in (
        "outcome      open",
        "because      data end at 2025-01-06 14:40 UTC",
        "round trips: 1",
        "2025-01-06 14:31  5000.25   +1  2025-01-06 14:33  4995.00  stop",
        "days: 1",
        "path         worst; ambiguous bars: 1",
    ):
        assert words in done.out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--path", "seconds"], "go together"),
        (["--path", "best", "--seconds", "x"], "go together"),
        (["--commission", "much"], "it must be 0 to 1,000 USD"),
        (["--commission", "nan"], "it must be 0 to 1,000 USD"),
        (["--commission", "1.2345"], "exact to 0.001 USD"),
        (["--slippage-ticks", "-1"], "--slippage-ticks"),
        (["--rulebook", "apexx"], "no rulebook 'apexx'"),
        (["--contract", "NQ"], "do not trade at the same prices"),
        (["--start", "2025-02-01"], "the last trading day"),
        (["--bars", "none.parquet"], "no such file"),
    ],
)
def test_mistakes_end_with_code_2(
    passline: Callable[..., Any], files: list[str], more: list[str], words: str
) -> None:
    done = passline("play", *files, *more)
    assert done.code == 2
    assert done.out == ""
    assert words in done.err


def test_help_names_every_option() -> None:
    text = CliRunner().invoke(play, ["--help"]).output
    for name in ("--bars", "--contract", "--rulebook", "--signals", "--path", "--seconds"):
        assert name in text
