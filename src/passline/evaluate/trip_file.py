"""The agent's round trips on the test slices, kept in the run for `passline odds`."""

import io
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.rollout import TripLog
from passline.runs import replace_file
from passline.task.prepare import OBSERVATION_NAMES, Prepared

__all__ = ["TRIPS_FILE", "load_trips", "write_trips"]

TRIPS_FILE = "trips.npz"


def write_trips(path: Path, prepared: Prepared, trips: TripLog) -> None:
    """Writes one row a round trip; no pickle.

    Columns [T]: `entry_ns`, `exit_ns` (open of the entry bar, close of the exit bar, UTC ns),
    `pnl_mills` (net), `mae_mills`, `mfe_mills` (gross, at least 0), `qty` (signed contracts),
    `commission_mills` (both sides), `episode`, `symbol`, `volatility` (of the last day over that
    of the last twenty, at the decision to enter; float32).
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
        volatility=_volatility(prepared, trips.entry_bar),
    )
    replace_file(path, buffer.getvalue())


def load_trips(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the round trips by column.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}). Judge the run again") from error


def _volatility(prepared: Prepared, entry_bar: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the state of volatility that the agent saw when it decided to enter [T]."""
    column = OBSERVATION_NAMES.index("volatility_1d_20d")
    decided = np.maximum(np.asarray(entry_bar, np.int64) - 1, 0)
    seen = np.asarray(prepared.base.features[:, column])[decided]
    # The feature is ln((ratio of variances + 0.01) / 1.01) / 2.
    ratio = np.maximum(1.01 * np.exp(2.0 * seen) - 0.01, 0.0)
    return np.sqrt(ratio).astype(np.float32)
