"""passline's own bar file: Parquet columns plus provenance in the file's metadata.

Columns: ts (UTC open time), open, high, low, close (prices, exact multiples of the tick), volume
(null where the source has none), contract_month (empty where unknown).
"""

import json
import os
import tempfile
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contract import Contract
from passline.market.load.damage import TABLE_ERRORS, system_words
from passline.market.load.unpack import require_table_size

__all__ = ["METADATA_KEY", "check_out", "is_passline_file", "read_bars", "write_bars"]

METADATA_KEY = "passline"
_VERSION = 1
_PRICES = ("open", "high", "low", "close")
_COLUMNS = ("ts", *_PRICES, "volume", "contract_month")
_OTHER_KINDS = {
    ".csv", ".dbn", ".feather", ".gz", ".json", ".jsonl", ".npz", ".toml", ".txt", ".xlsx", ".zip",
    ".zst",
}  # fmt: skip
"""Endings that say a file is something else than Parquet."""


def _prices_to_ticks(prices: NDArray[np.float64], tick_size: Decimal) -> NDArray[np.int32]:
    tick = Fraction(tick_size)
    exact = prices * tick.denominator / tick.numerator
    ticks = np.rint(exact)
    if not np.all(np.abs(exact - ticks) < 1e-6) or np.any(np.abs(ticks) > 2**31 - 1):
        raise ValueError("prices are not whole ticks")
    return ticks.astype(np.int32)


def _metadata(bars: Bars, fingerprint: str) -> str:
    return json.dumps(
        {
            "version": _VERSION,
            "bar_ns": bars.bar_ns,
            "contract": _contract_facts(bars.contract),
            "expiries": list(bars.expiries),
            "fingerprint": fingerprint,
            "provenance": bars.provenance,
        },
        sort_keys=True,
    )


def _frame(bars: Bars) -> pl.LazyFrame:
    """Returns the file's columns, computed as they are written: the table never stands whole.

    Prices are divided by numpy: each is the double nearest to ticks * tick_size, which polars'
    division by a constant (a product with its reciprocal) is not.
    """
    tick = Fraction(bars.contract.tick_size)
    names = list(bars.expiries)
    months = pl.Series(names, dtype=pl.Enum(names))
    raw = pl.DataFrame(
        {
            "ts": bars.ts,
            "open": bars.open,
            "high": bars.high,
            "low": bars.low,
            "close": bars.close,
            "volume": bars.volume,
            "contract_month": months.gather(bars.expiry.astype(np.uint32)),
        }
    )

    def to_prices(ticks: pl.Series) -> pl.Series:
        whole = ticks.to_numpy().astype(np.float64)
        return pl.Series(whole * tick.numerator / tick.denominator)

    volume = pl.col("volume")
    return raw.lazy().with_columns(
        pl.col("ts").cast(pl.Datetime("ns", "UTC")),
        pl.col(*_PRICES).map_batches(to_prices, return_dtype=pl.Float64, is_elementwise=True),
        pl.when(volume >= 0).then(volume) if (bars.volume < 0).any() else volume,
    )


def check_out(path: Path, *, overwrite: bool) -> None:
    """Checks that bars may be written to a file.

    Raises:
        BarsError: its name is that of another kind of file, it exists and `overwrite` is false, or
            its folder is missing.
    """
    if path.suffix.lower() in _OTHER_KINDS:
        raise BarsError(
            f"{path.name}: bars are written as Parquet, and the name ends in {path.suffix}. Give "
            f"a name such as --out {path.stem}.parquet"
        )
    if path.exists() and not overwrite:
        raise BarsError(
            f"{path.name}: the file exists already and is not overwritten. "
            "Give another --out, or --overwrite"
        )
    if not path.parent.is_dir():
        raise BarsError(f"{path}: the folder {path.parent} was not found. Make it first")


def _cannot_write(path: Path, reason: str) -> BarsError:
    return BarsError(
        f"{path}: could not be written: {reason}. What stood there before is untouched. Free space "
        "or make the folder writable, and run the command again"
    )


def write_bars(bars: Bars, path: Path, *, overwrite: bool = False) -> str:
    """Writes bars with their provenance to one Parquet file, whole or not at all.

    Returns:
        The bars' fingerprint.

    Raises:
        BarsError: the file may not be written (see `check_out`), or the disk is full.
    """
    path = Path(path)
    check_out(path, overwrite=overwrite)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _cannot_write(path, str(error.strerror)) from error
    os.close(handle)
    fingerprint = bars.fingerprint()
    try:
        _frame(bars).sink_parquet(
            temporary,
            compression="zstd",
            compression_level=1,
            metadata={METADATA_KEY: _metadata(bars, fingerprint)},
        )
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except TABLE_ERRORS as error:
        reason = system_words(error)
        if reason is None:
            raise
        raise _cannot_write(path, reason) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return fingerprint


def is_passline_file(path: Path) -> bool:
    """Says whether a Parquet file carries passline's metadata."""
    try:
        return METADATA_KEY in pl.read_parquet_metadata(path)
    except TABLE_ERRORS:
        return False


def _read_metadata(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BarsError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        text = pl.read_parquet_metadata(path).get(METADATA_KEY) if is_parquet else None
    except TABLE_ERRORS:
        text = None
    if text is None:
        raise BarsError(
            f"{path.name}: not a passline bar file (it carries no passline metadata). Import it "
            f"first: passline data import {path} --contract SYMBOL --out {path.stem}.bars.parquet"
        )
    try:
        facts = json.loads(text)
        if facts["version"] != _VERSION:
            raise BarsError(
                f"{path.name}: version was {facts['version']}, this program reads {_VERSION}. "
                "Import the source file again: passline data import"
            )
        return dict(facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BarsError(
            f"{path.name}: the passline metadata is damaged. Import the source file again: "
            "passline data import"
        ) from None


def _contract_facts(contract: Contract) -> dict[str, Any]:
    first = contract.first_traded
    facts = {**asdict(contract), "tick_size": str(contract.tick_size)}
    return {**facts, "first_traded": None if first is None else first.isoformat()}


def _contract(facts: dict[str, Any]) -> Contract:
    first = facts["first_traded"]
    exact = {
        "tick_size": Decimal(facts["tick_size"]),
        "sources": tuple(facts["sources"]),
        "first_traded": None if first is None else date.fromisoformat(first),
    }
    return Contract(**{**facts, **exact})


def _arrays(table: pl.DataFrame, contract: Contract, expiries: tuple[str, ...]) -> dict[str, Any]:
    arrays: dict[str, Any] = {"ts": table["ts"].to_physical().to_numpy().astype(np.int64)}
    for name in _PRICES:
        arrays[name] = _prices_to_ticks(table[name].to_numpy(), contract.tick_size)
    arrays["volume"] = table["volume"].fill_null(-1).to_numpy().astype(np.int64)
    months = table["contract_month"].cast(pl.Enum(list(expiries)))
    arrays["expiry"] = months.to_physical().to_numpy().astype(np.int16)
    return arrays


def read_bars(path: Path) -> Bars:
    """Reads a bar file that `write_bars` or `import_bars` wrote.

    Raises:
        BarsError: the file is missing, was not written by passline, was changed since, or has more
            rows than market data of its size.
    """
    path = Path(path)
    facts = _read_metadata(path)
    try:
        contract = _contract(facts["contract"])
        expiries = tuple(facts["expiries"])
        require_table_size(path, path.name)
        table = pl.read_parquet(path, columns=list(_COLUMNS))
        bars = Bars(
            contract=contract,
            bar_ns=int(facts["bar_ns"]),
            expiries=expiries,
            provenance=facts["provenance"],
            **_arrays(table, contract, expiries),
        )
    except (*TABLE_ERRORS, ValueError, KeyError, TypeError, ArithmeticError):
        raise BarsError(
            f"{path.name}: the columns do not fit passline's bar file. Import the source file "
            "again: passline data import"
        ) from None
    if bars.fingerprint() != facts["fingerprint"]:
        raise BarsError(
            f"{path.name}: the bars differ from the fingerprint in the file's metadata; it was "
            "changed after the import. Import the source file again: passline data import"
        )
    return bars
