"""Highs and lows that nothing around them confirms: refused where absurd, else listed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_files import Made, generic, made_bars

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.load import check_bars
from passline.market.load.wicks import Wicks, find_wicks

Import = Callable[..., Bars]
UTC = {"tz": "UTC", "stamp": "open"}
ROW = 700


@pytest.fixture(scope="module")
def made() -> Made:
    return made_bars(2)


def on_tick(price: float) -> float:
    return round(4 * price) / 4


def wicked(made: Made, name: str, factor: float, row: int = ROW) -> Made:
    return made.changed(name, row, on_tick(factor * float(getattr(made, name)[row])))


def found(made: Made) -> Wicks:
    columns = (made.open, made.high, made.low, made.close)
    return find_wicks(*(np.rint(4 * column).astype(np.int32) for column in columns))


@pytest.mark.parametrize(
    ("name", "factor"), [("high", 1.5), ("high", 1.05), ("low", 0.95), ("low", 0.5)]
)
@pytest.mark.parametrize("row", [0, ROW, 2759])
def test_absurd_wicks_are_refused_with_place_and_remedy(
    tmp_path: Path, imported: Import, made: Made, name: str, factor: float, row: int
) -> None:
    path = generic(tmp_path / "a.csv", wicked(made, name, factor, row))
    with pytest.raises(BarsError, match=r"lies more than 4% of .* in 1 of 2,760 bars") as caught:
        imported(path, **UTC)
    assert f"row {row + 2:,} (" in str(caught.value)
    assert "drop the day with --drop-day 2024-03-0" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_two_absurd_wicks_side_by_side_are_refused(made: Made) -> None:
    both = wicked(wicked(made, "low", 0.5), "low", 0.5, ROW + 1)
    assert found(both).index.tolist() == [ROW, ROW + 1]
    assert found(both).is_absurd.all()


@pytest.mark.parametrize(("name", "factor"), [("high", 1.01), ("low", 0.99)])
def test_suspicious_wicks_are_imported_warned_of_and_listed(
    tmp_path: Path, imported: Import, made: Made, name: str, factor: float
) -> None:
    bars = imported(generic(tmp_path / "a.csv", wicked(made, name, factor)), **UTC)
    (warning,) = bars.provenance["warnings"]
    assert warning.startswith("the high or low stands out from every price around it in 1 of")
    coverage = check_bars(bars)
    (wick,) = coverage.wicks
    assert coverage.n_wicks == 1
    assert wick.at == "2024-03-04 05:40 ET"
    assert np.sign(wick.move_ticks) == (1 if name == "high" else -1)
    assert wick.share == pytest.approx(0.01, abs=1e-3)
    assert wick.ranges > 8


def test_a_crash_whose_bars_are_wide_too_is_no_bad_print(made: Made) -> None:
    """A fall of 8 %, of which the next bars take back most in wide ranges."""
    low, high = made.low.copy(), made.high.copy()
    low[ROW] *= 0.92
    for row, factor in ((ROW + 1, 0.97), (ROW + 2, 0.98), (ROW + 3, 0.985)):
        low[row] *= factor
        high[row] /= factor**0.5
    crash = Made(ts=made.ts, open=made.open, high=high, low=low, close=made.close,
                 volume=made.volume)  # fmt: skip
    assert ROW in found(crash).index
    assert not found(crash).is_absurd.any()


def test_a_move_that_the_next_bar_goes_on_from_is_no_wick(made: Made) -> None:
    prices = {n: getattr(made, n).copy() for n in ("open", "high", "low", "close")}
    for column in prices.values():
        column[ROW:] *= 0.9
    prices["high"][ROW] = made.high[ROW]
    assert not len(found(Made(ts=made.ts, volume=made.volume, **prices)).index)


def test_quiet_bars_near_zero_and_few_bars_have_none() -> None:
    flat = np.zeros(3, dtype=np.int32)
    for price in (flat, flat - 40):
        assert not len(find_wicks(price, price + 1, price - 1, price).index)
    assert not len(find_wicks(flat[:1], flat[:1] + 9, flat[:1] - 9, flat[:1]).index)
