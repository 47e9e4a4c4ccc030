"""Vendors' files of fills and closed trades, each read into `Trips`.

A format is a row of `FORMATS`: what its header must hold and the function that reads it. Columns
are those of the vendors' own exports (docs/audit.md lists them); a file whose profit column
contradicts its prices is refused, since then the contract or the units are not what they seem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from passline.errors import FillsError
from passline.evaluate.audit.cells import Sheet, read_sheet
from passline.evaluate.audit.rows import DATE_ORDERS, Source
from passline.evaluate.audit.trips import Trips
from passline.evaluate.audit.vendors import (
    read_generic_fills,
    read_generic_trades,
    read_ninja_executions,
    read_ninja_trades,
    read_tradingview,
    read_tradovate_fills,
    read_tradovate_performance,
)
from passline.market.contracts import find_contract

__all__ = ["FORMATS", "Format", "read_trips"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One vendor's export.

    Attributes:
        name: what --format takes.
        title: the export in words.
        needs: header names, each a tuple of spellings; all must be there.
        read: reads the sheet.
    """

    name: str
    title: str
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Sheet, Source], Trips]

    def fits(self, sheet: Sheet) -> bool:
        """Returns whether the header holds what this export always has."""
        return all(sheet.find(*names) is not None for names in self.needs)


def read_trips(
    path: Path,
    *,
    format: str | None = None,
    contract: str | None = None,
    zone: str | None = None,
    account: str | None = None,
    date_order: str | None = None,
) -> tuple[Trips, str]:
    """Reads a file of fills or closed trades.

    Args:
        path: a CSV file.
        format: name of a format; None detects it from the header.
        contract: symbol, for a file that names no contract.
        zone: IANA name or offset of times that name none.
        account: account to keep where the file holds several.
        date_order: "mdy" or "dmy".

    Returns:
        The closed trades and the name of the format.

    Raises:
        FillsError: naming the file, the line and what to do.
    """
    sheet = read_sheet(path)
    chosen = _choose(sheet, format)
    if date_order not in DATE_ORDERS:
        raise FillsError(f"date order was '{date_order}'; it must be mdy or dmy.")
    source = Source(
        contract=find_contract(contract) if contract else None,
        zone=zone,
        account=account,
        date_order=date_order,
    )
    trips = chosen.read(_one_account(sheet, source), source)
    if not len(trips):
        raise FillsError(f"{sheet.name}: no closed trade was found in {len(sheet):,} rows.")
    return trips, chosen.name


def _choose(sheet: Sheet, name: str | None) -> Format:
    known = ", ".join(FORMATS)
    if name is not None:
        if name not in FORMATS:
            raise FillsError(f"format was '{name}'; known formats: {known}.")
        chosen = FORMATS[name]
        for names in chosen.needs:
            sheet.need(*names)
        return chosen
    fitting = [item for item in FORMATS.values() if item.fits(sheet)]
    if not fitting:
        raise FillsError(
            f"{sheet.name}: the columns {', '.join(sheet.header[:12])} are those of no known "
            f"export. Known formats: {known}; docs/audit.md lists the columns of `generic`."
        )
    return fitting[0]


def _one_account(sheet: Sheet, source: Source) -> Sheet:
    column = sheet.find("account", "account name")
    if column is None:
        return sheet
    accounts = sorted(set(sheet.column(column)))
    if source.account is not None:
        if source.account not in accounts:
            raise FillsError(
                f"{sheet.name}: no account '{source.account}'. Its accounts: {_few(accounts)}."
            )
        return sheet.keep([cell == source.account for cell in sheet.column(column)])
    if len(accounts) > 1:
        raise FillsError(
            f"{sheet.name}: trades of {len(accounts)} accounts ({_few(accounts)}). A verdict is on "
            "one account; choose it with --account."
        )
    return sheet


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more


FORMATS = {
    item.name: item
    for item in (
        Format(
            name="ninjatrader-trades",
            title="NinjaTrader 8, Trade Performance, Trades",
            needs=(("market pos.", "market pos"), ("entry price",), ("exit time",)),
            read=read_ninja_trades,
        ),
        Format(
            name="ninjatrader-executions",
            title="NinjaTrader 8, executions",
            needs=(("instrument",), ("action",), ("price",), ("time",), ("e/x",)),
            read=read_ninja_executions,
        ),
        Format(
            name="tradovate-performance",
            title="Tradovate, Performance report",
            needs=(("buyprice",), ("sellprice",), ("boughttimestamp",), ("soldtimestamp",)),
            read=read_tradovate_performance,
        ),
        Format(
            name="tradovate-fills",
            title="Tradovate, Fills report",
            needs=(("b/s",), ("fill id", "_id"), ("contract",), ("price", "_price")),
            read=read_tradovate_fills,
        ),
        Format(
            name="tradingview",
            title="TradingView, strategy's List of trades",
            needs=(("trade #", "trade number"), ("type",), ("date and time", "date/time")),
            read=read_tradingview,
        ),
        Format(
            name="generic-trades",
            title="closed trades in passline's columns",
            needs=(("entry_time",), ("exit_time",), ("side",), ("entry_price",), ("exit_price",)),
            read=read_generic_trades,
        ),
        Format(
            name="generic-fills",
            title="fills in passline's columns",
            needs=(("time",), ("side",), ("qty",), ("price",)),
            read=read_generic_fills,
        ),
    )
}
"""The exports that can be read, by name; the first that fits a header is taken."""
