"""Play on bars and seconds that the importer builds from real trades."""

from pathlib import Path

import numpy as np
import pytest

from passline.evaluate.play import PlayConfig, play
from passline.evaluate.seconds import fit_seconds
from passline.evaluate.signals import COLUMNS, read_signals, utc_text
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import import_bars, read_bars
from passline.rulebook.catalog import load_rulebook
from passline.sim.compile import Costs

TICKS = Path(__file__).parents[2] / ".." / "shared/data/series/nq_ticks_2025_12_09_asia.parquet"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not TICKS.exists(), reason="no market data beside the repository"),
]


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bars]:
    folder = tmp_path_factory.mktemp("bars")
    made = {}
    for length in ("1s", "1m"):
        out = folder / f"{length}.parquet"
        import_bars(TICKS, contract=find_contract("NQ"), out=out, bar=length)
        made[length] = read_bars(out)
    return made


def test_seconds_of_the_same_trades_make_up_every_minute(tapes: dict[str, Bars]) -> None:
    fitted = fit_seconds(tapes["1m"], tapes["1s"])
    assert fitted.is_exact.all()
    assert len(tapes["1m"]) > 300


def test_the_seconds_lie_between_the_paths(tapes: dict[str, Bars], tmp_path: Path) -> None:
    """Narrow brackets: what worst wins seconds win, and what seconds win best wins."""
    bars = tapes["1m"]
    rows = [
        f"{utc_text(int(bars.ts[bar]) + bars.bar_ns)},{('long', 'short')[bar // 10 % 2]},1,8,8"
        for bar in range(5, len(bars) - 20, 10)
    ]
    path = tmp_path / "S.csv"
    path.write_text("\n".join((",".join(COLUMNS), *rows)) + "\n")
    book, file = load_rulebook("topstep-combine-50k"), read_signals(path)
    free = Costs(commission_mills=0, slippage_ticks=0)
    reasons = {}
    for name in ("worst", "best", "seconds"):
        seconds = tapes["1s"] if name == "seconds" else None
        story = play(bars, book, file, config=PlayConfig(path=name, costs=free), seconds=seconds)
        assert not any("as a whole" in note for note in story["notes"])
        reasons[name] = {
            trip["entry_at"]: trip["reason"] == "target" for trip in story["round_trips"]
        }
    common = set.intersection(*(set(found) for found in reasons.values()))
    won = np.array([[reasons[name][entry] for entry in common] for name in reasons])
    assert len(common) > 20
    assert (won[0] <= won[2]).all()
    assert (won[2] <= won[1]).all()
    assert (won[0] != won[1]).any()
