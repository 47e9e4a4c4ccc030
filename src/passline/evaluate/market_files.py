"""Opens a bar file for a contract: passline's own, or a vendor's that can be read as it is."""

import tempfile
from dataclasses import replace
from pathlib import Path

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.contract import Contract
from passline.market.contracts import find_contract, load_contracts
from passline.market.load import import_bars, read_bars
from passline.market.load.parquet import is_passline_file

__all__ = ["open_bars", "shares_prices"]


def shares_prices(first: Contract, second: Contract) -> bool:
    """Tells whether two contracts trade at the same prices: one product, or its mini and micro.

    That is so when they have one tick and calendar, and the tick's value goes with the size.
    """
    return (
        first.tick_size == second.tick_size
        and first.calendar == second.calendar
        and first.tick_mills * second.size_units == second.tick_mills * first.size_units
    )


def open_bars(
    path: Path, symbol: str | None, *, bar: str | None = None
) -> tuple[Bars, tuple[str, ...]]:
    """Reads bars and lays a contract over them.

    Args:
        path: a passline bar file, or a vendor's file whose form says all that an import must know.
        symbol: the contract to play; None for the file's own.
        bar: length of the bars to build where the file holds ticks, such as 1s.

    Returns:
        The bars, and notes on what was chosen.

    Raises:
        BarsError: the file cannot be read as it is, or the contract does not fit it.
    """
    path = Path(path)
    contract = None if symbol is None else find_contract(symbol)
    if not path.is_file():
        raise BarsError(f"{path}: no such file. Give the path of a bar file")
    if not is_passline_file(path):
        if contract is None:
            raise BarsError(
                f"{path.name}: not a passline bar file, so it does not say its contract. Give "
                f"--contract ({', '.join(load_contracts())}), or import it first: passline data "
                "import"
            )
        return _import(path, contract, bar)
    bars = read_bars(path)
    if contract is None or contract.symbol == bars.contract.symbol:
        return bars, ()
    if not shares_prices(bars.contract, contract):
        raise BarsError(
            f"{path.name}: holds {bars.contract.symbol} (tick {bars.contract.tick_size}), and "
            f"--contract was {contract.symbol} (tick {contract.tick_size}); they do not trade at "
            f"the same prices. Leave out --contract, or give bars of {contract.symbol}"
        )
    note = (
        f"{path.name} holds {bars.contract.symbol}; it was played as {contract.symbol}, which "
        "trades at the same prices"
    )
    return replace(bars, contract=contract), (note,)


def _import(path: Path, contract: Contract, bar: str | None) -> tuple[Bars, tuple[str, ...]]:
    """Imports a vendor's file into memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bars.parquet"
        try:
            report = import_bars(path, contract=contract, out=out, bar=bar)
        except BarsError as error:
            raise BarsError(
                f"{error}. Only files that need no such word are read as they are; make a bar "
                f"file of it first: passline data import {path} --contract {contract.symbol}"
            ) from None
        bars = read_bars(out)
    note = (
        f"{path.name} was read as {report.format}, times in {report.zone}, stamped at the "
        f"{report.stamp} of the bar"
    )
    return bars, (note, *(f"{path.name}: {warning}" for warning in report.warnings))
