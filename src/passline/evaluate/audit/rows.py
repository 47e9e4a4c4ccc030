"""What all readers of vendors' files share: contracts, sides, times, rows, fills, checks of profit.

Nothing here knows a vendor; `vendors` does.
"""

from dataclasses import dataclass, field

import numpy as np

from passline.errors import FillsError
from passline.evaluate.audit.cells import Sheet, find_root
from passline.evaluate.audit.trips import UNKNOWN, Fill, Trips, match_fills
from passline.market.contract import Contract
from passline.market.contracts import load_contracts

__all__ = [
    "DATE_ORDERS",
    "Rows",
    "Source",
    "check_profit",
    "contract_of",
    "implied_cost",
    "read_fills",
    "side_of",
    "times_of",
]

_ROUNDING_MILLS = 11
"""What a profit printed in cents may differ from the exact one."""
_LARGEST_SIDE_MILLS = 100_000
"""A cost per contract and side that no broker charges: then the contract is another."""
DATE_ORDERS = {"mdy": True, "dmy": False, None: None}
"""Whether the month comes first, by the name of the order; None if the file has to tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """How the user reads a file.

    Attributes:
        contract: contract of a file that names none; None if it does.
        zone: zone of times that name none.
        account: account of a file that holds several.
        date_order: "mdy" or "dmy" for dates such as 05/06/2026; None lets the file tell.
        contracts: all known contracts.
    """

    contract: Contract | None = None
    zone: str | None = None
    account: str | None = None
    date_order: str | None = None
    contracts: dict[str, Contract] = field(default_factory=load_contracts)


def contract_of(sheet: Sheet, row: int, column: int | None, source: Source) -> Contract:
    """Returns the contract that a row names, or the user's where the file names none.

    Raises:
        FillsError: no contract is known, or the row names another than the user.
    """
    if column is None:
        if source.contract is None:
            raise FillsError(
                f"{sheet.name}: the file names no contract. Say which with --contract, such as "
                "--contract ES."
            )
        return source.contract
    found = find_root(sheet.rows[row][column], source.contracts)
    if found is None:
        known = ", ".join(source.contracts)
        raise sheet.fail(row, column, f"the name of a known contract: {known}")
    if source.contract is not None and source.contract.symbol != found.symbol:
        raise sheet.fail(row, column, f"a month of {source.contract.symbol}, as --contract says")
    return found


@dataclass(kw_only=True, slots=True)
class Rows:
    """Closed trades gathered row by row."""

    contracts: list[Contract] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(
        self,
        contract: Contract,
        line: int,
        times: tuple[int, int],
        deal: tuple[int, int, int, int],
        known: tuple[int, ...] = (UNKNOWN,) * 5,
    ) -> int:
        """Adds one trade: (entry, exit) ns, (side, qty, entry, exit ticks), known columns.

        Returns:
            The gross profit, mills.
        """
        if contract not in self.contracts:
            self.contracts.append(contract)
        side, qty, entry, exit_ticks = deal
        gross = side * qty * (exit_ticks - entry) * contract.tick_mills
        self.rows.append((*times, self.contracts.index(contract), *deal, gross, *known))
        self.lines.append(line)
        return gross

    def trips(self, name: str) -> Trips:
        """Returns the table in order of entry.

        Raises:
            FillsError: a trade ends before it begins.
        """
        for row, line in zip(self.rows, self.lines, strict=True):
            if row[1] < row[0]:
                raise FillsError(
                    f"{name}: line {line}: the trade ends before it begins. Mend the times."
                )
        table = np.asarray(self.rows, np.int64).reshape(len(self.rows), 13)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        return Trips(
            contracts=tuple(self.contracts),
            entry_ns=table[:, 0],
            exit_ns=table[:, 1],
            contract=table[:, 2],
            side=table[:, 3],
            qty=table[:, 4],
            entry_ticks=table[:, 5],
            exit_ticks=table[:, 6],
            gross_mills=table[:, 7],
            commission_mills=table[:, 8],
            mae_mills=table[:, 9],
            mfe_mills=table[:, 10],
            stop_ticks=table[:, 11],
            target_ticks=table[:, 12],
        )


def check_profit(
    sheet: Sheet, row: int, column: int, gross: int, cost: int, contract: Contract
) -> None:
    """Refuses a profit that is neither the prices' nor that less the costs."""
    told = sheet.mills(row, column)
    if min(abs(told - gross), abs(told - gross + max(cost, 0))) > _ROUNDING_MILLS:
        raise FillsError(
            f"{sheet.name}: line {sheet.lines[row]}, column '{sheet.header[column]}': was "
            f"{told / 1000:,.2f} USD, but the prices make {gross / 1000:,.2f} before and "
            f"{(gross - max(cost, 0)) / 1000:,.2f} after costs with {contract.symbol} at "
            f"{contract.tick_mills / 1000} USD a tick of {contract.tick_size}. Check the contract, "
            "and export with display units of currency."
        )


def implied_cost(
    sheet: Sheet, row: int, column: int, gross: int, qty: int, contract: Contract
) -> int:
    """Returns what the net profit lacks of the gross one; refuses what no cost explains."""
    cost = gross - sheet.mills(row, column)
    if cost < -_ROUNDING_MILLS or cost > 2 * qty * _LARGEST_SIDE_MILLS:
        check_profit(sheet, row, column, gross, 0, contract)
    return max(cost, 0)


def read_fills(
    sheet: Sheet,
    source: Source,
    *,
    name: int | None,
    side: int,
    qty: int,
    price: int,
    time: int,
    commission: int | None,
) -> Trips:
    """Reads one fill a row and matches them; the arguments are the indices of the columns."""
    stamps = times_of(sheet, time, source)
    fills = []
    for row in range(len(sheet)):
        contract = contract_of(sheet, row, name, source)
        fills.append(
            Fill(
                ns=stamps[row],
                symbol=contract.symbol,
                month="" if name is None else sheet.rows[row][name],
                signed_qty=side_of(sheet, row, side) * sheet.quantity(row, qty),
                price_ticks=sheet.ticks(row, price, contract),
                commission_mills=UNKNOWN
                if commission is None or not sheet.rows[row][commission]
                else abs(sheet.mills(row, commission)),
            )
        )
    return match_fills(_in_order(fills), source.contracts)


def _in_order(fills: list[Fill]) -> list[Fill]:
    """Returns fills oldest first; a file that runs newest first is turned round, ties included."""
    is_newest_first = len(fills) > 1 and fills[0].ns > fills[-1].ns
    return fills[::-1] if is_newest_first else fills


_LONG = ("long", "buy", "b", "bot", "buy to cover", "buytocover")
_SHORT = ("short", "sell", "s", "sld", "sell short", "sellshort")


def side_of(sheet: Sheet, row: int, column: int) -> int:
    """Returns 1 for a purchase or a long position, -1 for a sale or a short one."""
    word = sheet.rows[row][column].lower()
    if word in _LONG:
        return 1
    if word in _SHORT:
        return -1
    raise sheet.fail(row, column, "long, short, buy or sell")


def times_of(sheet: Sheet, column: int, source: Source) -> list[int]:
    """Returns a column of times as UTC ns, by the user's zone and date order."""
    is_month_first = DATE_ORDERS[source.date_order]
    if is_month_first is None and (_is_tradovate(sheet) or _has_half_days(sheet, column)):
        is_month_first = True
    return sheet.times(column, zone=source.zone, is_month_first=is_month_first)


def _is_tradovate(sheet: Sheet) -> bool:
    return sheet.find("boughttimestamp", "_timestamp") is not None


def _has_half_days(sheet: Sheet, column: int) -> bool:
    """Tells whether the clock reads AM and PM, as only month-first locales write it."""
    return any(cell[-2:].upper() in ("AM", "PM") for cell in sheet.column(column))
