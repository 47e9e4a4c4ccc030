"""Random round trips on real minute bars: bars and excursions must tell one story."""

from pathlib import Path

import numpy as np
import pytest

from passline.evaluate.audit.judge import audit_books
from passline.evaluate.audit.trips import Trips
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load.importer import import_bars
from passline.market.load.parquet import read_bars
from passline.rulebook.catalog import load_rulebook

DATA = Path(__file__).parents[3] / ".." / "shared" / "data" / "series" / "mes_1m_2025.parquet"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.exists(), reason=f"no real bars at {DATA}"),
]


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Bars:
    out = tmp_path_factory.mktemp("bars") / "mes.parquet"
    import_bars(
        DATA, contract=find_contract("MES"), out=out, symbols=("MESM5",), tz="UTC", stamp="open"
    )
    return read_bars(out)


def round_trips(tape: Bars, rng: np.random.Generator, *, qty: int) -> Trips:
    """Market orders at the opens of bars, held for a while, one at a time, 10:00 to 15:00 ET."""
    minute = (tape.ts // 60_000_000_000) % 1440
    starts = np.flatnonzero((minute >= 14 * 60) & (minute < 18 * 60))
    rows, last = [], -1
    for entry in np.sort(rng.choice(starts, 250, replace=False)):
        end = int(entry + rng.integers(1, 60))
        if entry <= last or end >= len(tape) or tape.ts[end] - tape.ts[entry] > 7200 * 10**9:
            continue
        last, side = end, int(rng.choice([-1, 1]))
        prices = int(tape.open[entry]), int(tape.open[end])
        value = tape.contract.tick_mills * qty
        high = max(int(tape.high[entry:end].max()), prices[1]) - prices[0]
        low = min(int(tape.low[entry:end].min()), prices[1]) - prices[0]
        mfe, mae = (high, -low) if side > 0 else (-low, high)
        gross = side * (prices[1] - prices[0]) * value
        times = int(tape.ts[entry]), int(tape.ts[end])
        rows.append((*times, 0, side, qty, *prices, gross, 1040 * qty, mae * value, mfe * value))
    table = np.asarray(rows, np.int64)
    names = (
        "entry_ns", "exit_ns", "contract", "side", "qty", "entry_ticks", "exit_ticks",
        "gross_mills", "commission_mills", "mae_mills", "mfe_mills",
    )  # fmt: skip
    unknown = np.full(len(rows), -1)
    columns = {name: table[:, i] for i, name in enumerate(names)}
    return Trips(contracts=(tape.contract,), stop_ticks=unknown, target_ticks=unknown, **columns)


def test_bars_and_excursions_agree(tape: Bars) -> None:
    books = [load_rulebook(id) for id in ("topstep-combine-50k", "apex-eod-50k", "tpt-test-25k")]
    trailing = load_rulebook("apex-intraday-50k")
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(6):
        trips = round_trips(tape, rng, qty=int(rng.integers(5, 30)))
        seen = audit_books(trips, [*books, trailing], bars={"MES": tape})
        told = audit_books(trips, [*books, trailing])
        assert {found.timeline.sight for found in seen} == {"bars"}
        for by_bars, by_file in zip(seen[:3], told[:3], strict=True):
            # Floors that follow closes need no order: both sources show the same lows.
            assert by_bars.verdict == by_file.verdict
            assert by_bars.worst.balance == by_file.worst.balance
            assert [d.cushion for d in by_bars.worst.days] == [
                d.cushion for d in by_file.worst.days
            ]
            verdicts.add(by_bars.verdict)
        # A trailing floor: bar by bar is between the two orders of the whole trade.
        assert told[3].worst.floor >= 0
        if told[3].verdict != "undecided":
            assert seen[3].verdict == told[3].verdict
    assert "breached" in verdicts
