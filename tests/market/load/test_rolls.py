"""Front months, rolls and back-adjustment over made-up months."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from made_files import MINUTE_NS, SUNDAY_NS, Made, made_bars, stamps

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load.months import month_order, parse_name

Import = Callable[..., Bars]
N = 1380
SPREAD = 40.0


def two_months(*, first_share: tuple[float, ...] = (0.9, 0.8, 0.3, 0.1, 0.1)) -> tuple[Made, Made]:
    """Returns the same five sessions of two months 40 points apart, volume moving to the later."""
    early = made_bars(5, seed=7)
    late = replace(
        early, **{n: getattr(early, n) + SPREAD for n in ("open", "high", "low", "close")}
    )
    share = np.repeat(first_share, N)
    total = 1000
    early = replace(early, volume=np.rint(total * share).astype(np.int64))
    late = replace(late, volume=np.rint(total * (1 - share)).astype(np.int64))
    return early, late


def write_months(path: Path, months: dict[str, Made]) -> Path:
    """Writes months one after another, as exports with several symbols do."""
    lines = ["timestamp,open,high,low,close,volume,symbol"]
    for name, made in months.items():
        for i, time in enumerate(stamps(made.ts, "%Y-%m-%dT%H:%M:%SZ")):
            prices = ",".join(
                f"{getattr(made, n)[i]:.2f}" for n in ("open", "high", "low", "close")
            )
            lines.append(f"{time},{prices},{made.volume[i]},{name}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_several_months_need_a_rule(tmp_path: Path, imported: Import) -> None:
    early, late = two_months()
    path = write_months(tmp_path / "a.csv", {"ESH4": early, "ESM4": late})
    with pytest.raises(BarsError, match=r"2 contract months .* 6,900 times have a bar of more"):
        imported(path, stamp="open")


def test_volume_roll_uses_the_session_before(tmp_path: Path, imported: Import) -> None:
    early, late = two_months()
    path = write_months(tmp_path / "a.csv", {"ESM4": late, "ESH4": early})
    bars = imported(path, stamp="open", roll="volume")
    assert len(bars) == 5 * N
    assert bars.expiries == ("ESH4", "ESM4")
    change = np.flatnonzero(np.diff(bars.expiry)) + 1
    assert change.tolist() == [3 * N]
    (roll,) = bars.provenance["rolls"]
    assert roll["trade_date"] == "2024-03-07"
    assert roll["before"], roll["after"] == ("ESH4", "ESM4")
    assert roll["difference_ticks"] == SPREAD * 4
    assert roll["basis"] == "common bar"


@pytest.mark.parametrize(("turn", "is_told"), [(2 * N, False), (2 * N + 120, True)])
def test_a_month_that_changes_inside_a_session_is_told(
    turn: int, is_told: bool, tmp_path: Path, imported: Import
) -> None:
    """Nobody can trade the gap that a position would gain or lose there."""
    early, late = two_months()
    months = {"ESH4": early.only(slice(turn)), "ESM4": late.only(slice(turn, None))}
    bars = imported(write_months(tmp_path / "a.csv", months), stamp="open")
    told = [w for w in bars.provenance["warnings"] if "changes inside a session" in w]
    assert len(told) == is_told
    if is_told:
        assert "in 1 of 1 rolls: ESH4 to ESM4 at 2024-03-05 20:00 ET" in told[0]
        assert "--drop-day" in told[0]


def test_volume_roll_is_causal(tmp_path: Path, imported: Import) -> None:
    early, late = two_months()
    path = write_months(tmp_path / "a.csv", {"ESH4": early, "ESM4": late})
    whole = imported(path, stamp="open", roll="volume")
    for day in range(1, 5):
        garbage = replace(late, volume=np.where(np.arange(5 * N) >= day * N, 10**6, late.volume))
        path = write_months(tmp_path / "b.csv", {"ESH4": early, "ESM4": garbage})
        changed = imported(path, stamp="open", roll="volume")
        known = slice(0, (day + 1) * N)
        assert changed.expiry[known].tolist() == whole.expiry[known].tolist()


def test_the_front_month_never_returns(tmp_path: Path, imported: Import) -> None:
    early, late = two_months(first_share=(0.9, 0.3, 0.9, 0.9, 0.9))
    path = write_months(tmp_path / "a.csv", {"ESH4": early, "ESM4": late})
    bars = imported(path, stamp="open", roll="volume")
    assert (np.flatnonzero(np.diff(bars.expiry)) + 1).tolist() == [2 * N]


def test_calendar_roll_is_the_monday_of_expiry_week(tmp_path: Path, imported: Import) -> None:
    early = made_bars(5, start=SUNDAY_NS)
    start = SUNDAY_NS + 7 * 1440 * MINUTE_NS - 60 * MINUTE_NS
    later = made_bars(5, start=start, seed=2)
    both = {n: np.concatenate([getattr(early, n), getattr(later, n)]) for n in vars(early)}
    weeks = Made(**both)
    path = write_months(tmp_path / "a.csv", {"ESH4": weeks, "ESM4": weeks})
    bars = imported(path, stamp="open", roll="calendar")
    (roll,) = bars.provenance["rolls"]
    assert roll["trade_date"] == date(2024, 3, 11).isoformat()
    prices = {n: getattr(weeks, n) * 0.4 for n in ("open", "high", "low", "close")}
    path = write_months(
        tmp_path / "g.csv", dict.fromkeys(("GCG4", "GCJ4"), replace(weeks, **prices))
    )
    with pytest.raises(BarsError, match="Use --roll volume"):
        imported(path, symbol="GC", stamp="open", roll="calendar")


def test_back_adjustment_moves_whole_ticks(tmp_path: Path, imported: Import) -> None:
    early, late = two_months()
    path = write_months(tmp_path / "a.csv", {"ESH4": early, "ESM4": late})
    plain = imported(path, stamp="open", roll="volume")
    moved = imported(path, stamp="open", roll="volume", adjust=True)
    ticks = int(SPREAD * 4)
    before = np.arange(5 * N) < 3 * N
    for name in ("open", "high", "low", "close"):
        difference = getattr(moved, name) - getattr(plain, name)
        assert (difference == np.where(before, ticks, 0)).all()
    assert moved.provenance["is_adjusted"]
    assert not plain.provenance["is_adjusted"]
    gaps = moved.open[1:] - moved.close[:-1]
    assert abs(int(gaps[3 * N - 1])) < 8


def test_one_month_a_time_rolls_as_the_file_does(tmp_path: Path, imported: Import) -> None:
    made = made_bars(4)
    months = {"ESH4": made.only(slice(0, 2 * N)), "ESM4": made.only(slice(2 * N, None))}
    bars = imported(write_months(tmp_path / "a.csv", months), stamp="open")
    (roll,) = bars.provenance["rolls"]
    assert roll["basis"] == "gap"
    assert bars.provenance["roll_rule"] == "file"
    back = {"ESM24": months["ESH4"], "ESH24": months["ESM4"]}
    with pytest.raises(BarsError, match="goes back from ESM24 to ESH24"):
        imported(write_months(tmp_path / "b.csv", back), stamp="open")


def test_three_rolls_add_up(tmp_path: Path, imported: Import) -> None:
    made = made_bars(4)
    months = {
        name: made.only(slice(i * N, (i + 1) * N))
        for i, name in enumerate(("ESH24", "ESM24", "ESU24", "ESZ24"))
    }
    path = write_months(tmp_path / "a.csv", months)
    plain = imported(path, stamp="open")
    moved = imported(path, stamp="open", adjust=True)
    differences = [roll["difference_ticks"] for roll in plain.provenance["rolls"]]
    for i in range(4):
        shift = moved.close[i * N] - plain.close[i * N]
        assert shift == sum(differences[i:])
    for i in range(1, 4):
        assert moved.open[i * N] == moved.close[i * N - 1]


@pytest.mark.parametrize(
    ("text", "kind", "month"),
    [
        ("ESH4", "month", "ESH4"),
        ("ESZ25", "month", "ESZ25"),
        ("ESU2024", "month", "ESU2024"),
        ("CME_MINI:ESH2024", "month", "ESH2024"),
        ("ESH4.XCME", "month", "ESH4"),
        ("/ESH24", "month", "ESH24"),
        ("ES 03-24", "month", "ESH24"),
        ("ES", "root", ""),
        ("ES1!", "root", ""),
        ("ES=F", "root", ""),
        ("@ES#C", "root", ""),
        ("ES.c.0", "root", ""),
        ("", "root", ""),
        ("118", "id", ""),
        ("ESH4-ESM4", "spread", ""),
        ("ES:BF H4-M4-U4", "spread", ""),
        ("NQH4", "other", ""),
        ("MESH4", "other", ""),
        ("ESTX50", "other", ""),
    ],
)
def test_names(text: str, kind: str, month: str) -> None:
    name = parse_name(text, find_contract("ES"))
    assert (name.kind, name.month) == (kind, month)


def test_short_years_are_the_nearest() -> None:
    es = find_contract("ES")
    assert month_order("ESH4", es, 2024) == 2024 * 12 + 2
    assert month_order("ESH0", es, 2019) == 2020 * 12 + 2
    assert month_order("ESZ9", es, 2020) == 2019 * 12 + 11
    assert month_order("ESZ13", es, 2014) == 2013 * 12 + 11
    assert month_order("ESU2024", es, 2015) == 2024 * 12 + 8
