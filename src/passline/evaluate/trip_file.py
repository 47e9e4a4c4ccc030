"""The agent's round trips on the test slices, kept in the run for `passline odds`."""

import io
from pathlib import Path

import numpy as np

from passline.evaluate.rollout import TripLog
from passline.runs import replace_file
from passline.task.prepare import Prepared

__all__ = ["TRIPS_FILE", "write_trips"]

TRIPS_FILE = "trips.npz"


def write_trips(path: Path, prepared: Prepared, trips: TripLog) -> None:
    """Writes one row a round trip; no pickle.

    Columns [T]: `entry_ns`, `exit_ns` (open of the entry bar, close of the exit bar, UTC ns),
    `pnl_mills` (net), `mae_mills`, `mfe_mills` (gross, at least 0), `qty` (signed contracts),
    `commission_mills` (both sides), `episode`, `symbol`.
    """
    compiled = prepared.compiled
    market = compiled.market[trips.exit_bar]
    symbols = np.array([b.contract.symbol for b in prepared.bars])
    lengths = np.array([b.bar_ns for b in prepared.bars], np.int64)
    side_cost = np.asarray(prepared.markets.commission_mills, np.int64)[market]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        entry_ns=compiled.ts[trips.entry_bar],
        exit_ns=compiled.ts[trips.exit_bar] + lengths[market],
        pnl_mills=trips.net_mills.astype(np.int64),
        mae_mills=-trips.low_mills.astype(np.int64),
        mfe_mills=trips.high_mills.astype(np.int64),
        qty=trips.qty.astype(np.int64),
        commission_mills=2 * np.abs(trips.qty.astype(np.int64)) * side_cost,
        episode=trips.episode.astype(np.int64),
        symbol=symbols[market],
    )
    replace_file(path, buffer.getvalue())
