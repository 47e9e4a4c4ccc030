"""Vendors' files of fills and closed trades, each read into `Trips`.

A format is a row of `FORMATS`: what its header must hold and the function that reads it. Columns
are those of the vendors' own exports (docs/audit.md lists them); a file whose profit column
contradicts its prices is refused, since then the contract or the units are not what they seem.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.evaluate.audit.cells import Sheet, find_root, read_sheet
from passline.evaluate.audit.trips import UNKNOWN, Fill, Trips, match_fills
from passline.market.contract import Contract
from passline.market.contracts import find_contract, load_contracts

__all__ = ["FORMATS", "Format", "Source", "read_trips"]

I64 = NDArray[np.int64]

_NINJA_FEES = ("commission", "clearing fee", "exchange fee", "ip fee", "nfa fee")
_ROUNDING_MILLS = 11
"""What a profit printed in cents may differ from the exact one."""
_LARGEST_SIDE_MILLS = 100_000
"""A cost per contract and side that no broker charges: then the contract is another."""
_DATE_ORDERS = {"mdy": True, "dmy": False, None: None}


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
        BarsError: naming the file, the line and what to do.
    """
    sheet = read_sheet(path)
    chosen = _choose(sheet, format)
    if date_order not in _DATE_ORDERS:
        raise BarsError(f"date order was '{date_order}'; it must be mdy or dmy.")
    source = Source(
        contract=find_contract(contract) if contract else None,
        zone=zone,
        account=account,
        date_order=date_order,
    )
    trips = chosen.read(_one_account(sheet, source), source)
    if not len(trips):
        raise BarsError(f"{sheet.name}: no closed trade was found in {len(sheet):,} rows.")
    return trips, chosen.name


def _choose(sheet: Sheet, name: str | None) -> Format:
    known = ", ".join(FORMATS)
    if name is not None:
        if name not in FORMATS:
            raise BarsError(f"format was '{name}'; known formats: {known}.")
        chosen = FORMATS[name]
        for names in chosen.needs:
            sheet.need(*names)
        return chosen
    fitting = [item for item in FORMATS.values() if item.fits(sheet)]
    if not fitting:
        raise BarsError(
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
            raise BarsError(
                f"{sheet.name}: no account '{source.account}'. Its accounts: {_few(accounts)}."
            )
        return sheet.keep([cell == source.account for cell in sheet.column(column)])
    if len(accounts) > 1:
        raise BarsError(
            f"{sheet.name}: trades of {len(accounts)} accounts ({_few(accounts)}). A verdict is on "
            "one account; choose it with --account."
        )
    return sheet


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more


def _contract_of(sheet: Sheet, row: int, column: int | None, source: Source) -> Contract:
    if column is None:
        if source.contract is None:
            raise BarsError(
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
class _Rows:
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
            BarsError: a trade ends before it begins.
        """
        for row, line in zip(self.rows, self.lines, strict=True):
            if row[1] < row[0]:
                raise BarsError(
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


def _check_profit(
    sheet: Sheet, row: int, column: int, gross: int, cost: int, contract: Contract
) -> None:
    """Refuses a profit that is neither the prices' nor that less the costs."""
    told = sheet.mills(row, column)
    if min(abs(told - gross), abs(told - gross + max(cost, 0))) > _ROUNDING_MILLS:
        raise BarsError(
            f"{sheet.name}: line {sheet.lines[row]}, column '{sheet.header[column]}': was "
            f"{told / 1000:,.2f} USD, but the prices make {gross / 1000:,.2f} before and "
            f"{(gross - max(cost, 0)) / 1000:,.2f} after costs with {contract.symbol} at "
            f"{contract.tick_mills / 1000} USD a tick of {contract.tick_size}. Check the contract, "
            "and export with display units of currency."
        )


# --- NinjaTrader ----------------------------------------------------------------------------------


def _read_ninja_trades(sheet: Sheet, source: Source) -> Trips:
    """Reads NinjaTrader 8's Trade Performance, display Trades: one closed trade a row."""
    name = sheet.need("instrument")
    side, qty = sheet.need("market pos.", "market pos"), sheet.need("qty", "quantity")
    prices = sheet.need("entry price"), sheet.need("exit price")
    stamps = [_times(sheet, sheet.need(f"{end} time"), source) for end in ("entry", "exit")]
    fees = [column for fee in _NINJA_FEES if (column := sheet.find(fee)) is not None]
    extremes = [sheet.find("mae"), sheet.find("mfe")]
    profit = sheet.find("profit")
    found = _Rows()
    for row in range(len(sheet)):
        contract = _contract_of(sheet, row, name, source)
        deal = (
            _side(sheet, row, side),
            sheet.quantity(row, qty),
            sheet.ticks(row, prices[0], contract),
            sheet.ticks(row, prices[1], contract),
        )
        cost = sum(abs(sheet.mills(row, column)) for column in fees) if fees else UNKNOWN
        known = [UNKNOWN if c is None else abs(sheet.mills(row, c)) for c in extremes]
        gross = found.add(
            contract,
            sheet.lines[row],
            (stamps[0][row], stamps[1][row]),
            deal,
            (cost, *known, UNKNOWN, UNKNOWN),
        )
        if profit is not None:
            _check_profit(sheet, row, profit, gross, cost, contract)
    return found.trips(sheet.name)


def _read_ninja_executions(sheet: Sheet, source: Source) -> Trips:
    """Reads NinjaTrader 8's executions: one fill a row."""
    return _read_fills(
        sheet,
        source,
        name=sheet.need("instrument"),
        side=sheet.need("action"),
        qty=sheet.need("quantity", "qty"),
        price=sheet.need("price"),
        time=sheet.need("time"),
        commission=sheet.find("commission"),
    )


# --- Tradovate ------------------------------------------------------------------------------------


def _read_tradovate_fills(sheet: Sheet, source: Source) -> Trips:
    """Reads Tradovate's Fills report: one fill a row, `_timestamp` in UTC."""
    return _read_fills(
        sheet,
        source,
        name=sheet.need("contract"),
        side=sheet.need("b/s"),
        qty=sheet.need("quantity", "_qty"),
        price=sheet.need("price", "_price"),
        time=sheet.need("_timestamp", "timestamp"),
        commission=sheet.find("commission"),
    )


def _read_tradovate_performance(sheet: Sheet, source: Source) -> Trips:
    """Reads Tradovate's Performance report: one matched pair of fills a row, no costs."""
    name, qty = sheet.need("symbol"), sheet.need("qty")
    prices = {1: sheet.need("buyprice"), -1: sheet.need("sellprice")}
    stamps = {
        1: _times(sheet, sheet.need("boughttimestamp"), source),
        -1: _times(sheet, sheet.need("soldtimestamp"), source),
    }
    profit = sheet.find("pnl")
    found = _Rows()
    for row in range(len(sheet)):
        contract = _contract_of(sheet, row, name, source)
        side = 1 if stamps[1][row] <= stamps[-1][row] else -1
        deal = (
            side,
            sheet.quantity(row, qty),
            sheet.ticks(row, prices[side], contract),
            sheet.ticks(row, prices[-side], contract),
        )
        times = stamps[side][row], stamps[-side][row]
        gross = found.add(contract, sheet.lines[row], times, deal)
        if profit is not None:
            _check_profit(sheet, row, profit, gross, 0, contract)
    return found.trips(sheet.name)


# --- TradingView ----------------------------------------------------------------------------------


def _read_tradingview(sheet: Sheet, source: Source) -> Trips:
    """Reads a TradingView strategy's List of trades: an entry and an exit row a trade.

    Costs are what the net profit lacks of the prices' profit; excursions are the trade's own.
    """
    number, kind = sheet.need("trade #", "trade number"), sheet.need("type")
    stamps = _times(sheet, sheet.need("date and time", "date/time"), source)
    price = sheet.starting("price")
    qty = sheet.need("size (qty)", "position size (qty)", "contracts", "qty", "quantity")
    if price is None:
        raise BarsError(f"{sheet.name}: no column of prices. Export the List of trades again.")
    profit = sheet.starting("net p&l", "net pnl", "net profit", "profit")
    adverse = sheet.starting("adverse excursion", "drawdown")
    favorable = sheet.starting("favorable excursion", "run-up")
    pairs: dict[str, dict[str, int]] = {}
    for row in range(len(sheet)):
        word = sheet.rows[row][kind].lower()
        end = next((end for end in ("entry", "exit") if word.startswith(end)), None)
        if end is None:
            raise sheet.fail(row, kind, "Entry long, Entry short, Exit long or Exit short")
        pair = pairs.setdefault(sheet.rows[row][number], {})
        if end in pair:
            raise sheet.fail(row, number, "a number with one entry and one exit row")
        pair[end] = row
    found, n_open = _Rows(), 0
    for pair in pairs.values():
        entry, exit_row = pair.get("entry"), pair.get("exit")
        if entry is None:
            raise sheet.fail(pair["exit"], number, "a number with an entry row too")
        if exit_row is None or sheet.rows[exit_row][price] == "":
            n_open += 1
            continue
        contract = _contract_of(sheet, exit_row, sheet.find("symbol"), source)
        side = -1 if "short" in sheet.rows[entry][kind].lower() else 1
        size = sheet.quantity(exit_row, qty)
        ends = sheet.ticks(entry, price, contract), sheet.ticks(exit_row, price, contract)
        gross = side * size * (ends[1] - ends[0]) * contract.tick_mills
        cost = UNKNOWN
        if profit is not None:
            cost = _implied_cost(sheet, exit_row, profit, gross, size, contract)
        extremes = [
            UNKNOWN if c is None or not sheet.rows[exit_row][c] else abs(sheet.mills(exit_row, c))
            for c in (adverse, favorable)
        ]
        times = stamps[entry], stamps[exit_row]
        known = (cost, *extremes, UNKNOWN, UNKNOWN)
        found.add(contract, sheet.lines[exit_row], times, (side, size, *ends), known)
    trips = found.trips(sheet.name)
    return trips if not n_open else _with_open(trips, n_open)


def _with_open(trips: Trips, n_open: int) -> Trips:
    from dataclasses import replace  # noqa: PLC0415

    return replace(trips, n_open=n_open)


def _implied_cost(
    sheet: Sheet, row: int, column: int, gross: int, qty: int, contract: Contract
) -> int:
    """Returns what the net profit lacks of the gross one; refuses what no cost explains."""
    cost = gross - sheet.mills(row, column)
    if cost < -_ROUNDING_MILLS or cost > 2 * qty * _LARGEST_SIDE_MILLS:
        _check_profit(sheet, row, column, gross, 0, contract)
    return max(cost, 0)


# --- generic --------------------------------------------------------------------------------------


def _read_generic_trades(sheet: Sheet, source: Source) -> Trips:
    """Reads closed trades in passline's own columns (docs/audit.md)."""
    stamps = [_times(sheet, sheet.need(f"{end}_time"), source) for end in ("entry", "exit")]
    name, side, qty = sheet.find("symbol"), sheet.need("side"), sheet.need("qty")
    prices = sheet.need("entry_price"), sheet.need("exit_price")
    money = [sheet.find(column) for column in ("commission_usd", "mae_usd", "mfe_usd")]
    distances = [sheet.find(column) for column in ("stop_ticks", "target_ticks")]
    profit = sheet.find("pnl_usd")
    found = _Rows()
    for row in range(len(sheet)):
        contract = _contract_of(sheet, row, name, source)
        deal = (
            _side(sheet, row, side),
            sheet.quantity(row, qty),
            sheet.ticks(row, prices[0], contract),
            sheet.ticks(row, prices[1], contract),
        )
        known = [
            UNKNOWN if c is None or not sheet.rows[row][c] else abs(sheet.mills(row, c))
            for c in money
        ]
        known += [
            UNKNOWN if c is None or not sheet.rows[row][c] else sheet.quantity(row, c)
            for c in distances
        ]
        times = stamps[0][row], stamps[1][row]
        gross = found.add(contract, sheet.lines[row], times, deal, tuple(known))
        if profit is not None:
            _check_profit(sheet, row, profit, gross, known[0], contract)
    return found.trips(sheet.name)


def _read_generic_fills(sheet: Sheet, source: Source) -> Trips:
    """Reads fills in passline's own columns (docs/audit.md)."""
    return _read_fills(
        sheet,
        source,
        name=sheet.find("symbol"),
        side=sheet.need("side"),
        qty=sheet.need("qty"),
        price=sheet.need("price"),
        time=sheet.need("time"),
        commission=sheet.find("commission_usd"),
    )


def _read_fills(
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
    stamps = _times(sheet, time, source)
    fills = []
    for row in range(len(sheet)):
        contract = _contract_of(sheet, row, name, source)
        fills.append(
            Fill(
                ns=stamps[row],
                symbol=contract.symbol,
                month="" if name is None else sheet.rows[row][name],
                signed_qty=_side(sheet, row, side) * sheet.quantity(row, qty),
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


def _side(sheet: Sheet, row: int, column: int) -> int:
    word = sheet.rows[row][column].lower()
    if word in _LONG:
        return 1
    if word in _SHORT:
        return -1
    raise sheet.fail(row, column, "long, short, buy or sell")


def _times(sheet: Sheet, column: int, source: Source) -> list[int]:
    is_month_first = _DATE_ORDERS[source.date_order]
    if is_month_first is None and (_is_tradovate(sheet) or _has_half_days(sheet, column)):
        is_month_first = True
    return sheet.times(column, zone=source.zone, is_month_first=is_month_first)


def _is_tradovate(sheet: Sheet) -> bool:
    return sheet.find("boughttimestamp", "_timestamp") is not None


def _has_half_days(sheet: Sheet, column: int) -> bool:
    """Tells whether the clock reads AM and PM, as only month-first locales write it."""
    return any(cell[-2:].upper() in ("AM", "PM") for cell in sheet.column(column))


FORMATS = {
    item.name: item
    for item in (
        Format(
            name="ninjatrader-trades",
            title="NinjaTrader 8, Trade Performance, Trades",
            needs=(("market pos.", "market pos"), ("entry price",), ("exit time",)),
            read=_read_ninja_trades,
        ),
        Format(
            name="ninjatrader-executions",
            title="NinjaTrader 8, executions",
            needs=(("instrument",), ("action",), ("price",), ("time",), ("e/x",)),
            read=_read_ninja_executions,
        ),
        Format(
            name="tradovate-performance",
            title="Tradovate, Performance report",
            needs=(("buyprice",), ("sellprice",), ("boughttimestamp",), ("soldtimestamp",)),
            read=_read_tradovate_performance,
        ),
        Format(
            name="tradovate-fills",
            title="Tradovate, Fills report",
            needs=(("b/s",), ("fill id", "_id"), ("contract",), ("price", "_price")),
            read=_read_tradovate_fills,
        ),
        Format(
            name="tradingview",
            title="TradingView, strategy's List of trades",
            needs=(("trade #", "trade number"), ("type",), ("date and time", "date/time")),
            read=_read_tradingview,
        ),
        Format(
            name="generic-trades",
            title="closed trades in passline's columns",
            needs=(("entry_time",), ("exit_time",), ("side",), ("entry_price",), ("exit_price",)),
            read=_read_generic_trades,
        ),
        Format(
            name="generic-fills",
            title="fills in passline's columns",
            needs=(("time",), ("side",), ("qty",), ("price",)),
            read=_read_generic_fills,
        ),
    )
}
"""The exports that can be read, by name; the first that fits a header is taken."""
