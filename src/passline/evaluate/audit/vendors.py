"""Readers of vendors' exports, each turning a sheet into closed trades.

Columns are those of the vendors' own files; docs/audit.md lists them.
"""

from dataclasses import replace

from passline.errors import FillsError
from passline.evaluate.audit.cells import Sheet
from passline.evaluate.audit.rows import (
    Rows,
    Source,
    check_profit,
    contract_of,
    implied_cost,
    read_fills,
    side_of,
    times_of,
)
from passline.evaluate.audit.trips import UNKNOWN, Trips

__all__ = [
    "read_generic_fills",
    "read_generic_trades",
    "read_ninja_executions",
    "read_ninja_trades",
    "read_tradingview",
    "read_tradovate_fills",
    "read_tradovate_performance",
]

_NINJA_FEES = ("commission", "clearing fee", "exchange fee", "ip fee", "nfa fee")


# --- NinjaTrader ----------------------------------------------------------------------------------


def read_ninja_trades(sheet: Sheet, source: Source) -> Trips:
    """Reads NinjaTrader 8's Trade Performance, display Trades: one closed trade a row."""
    name = sheet.need("instrument")
    side, qty = sheet.need("market pos.", "market pos"), sheet.need("qty", "quantity")
    prices = sheet.need("entry price"), sheet.need("exit price")
    stamps = [times_of(sheet, sheet.need(f"{end} time"), source) for end in ("entry", "exit")]
    fees = [column for fee in _NINJA_FEES if (column := sheet.find(fee)) is not None]
    extremes = [sheet.find("mae"), sheet.find("mfe")]
    profit = sheet.find("profit")
    found = Rows()
    for row in range(len(sheet)):
        contract = contract_of(sheet, row, name, source)
        deal = (
            side_of(sheet, row, side),
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
            check_profit(sheet, row, profit, gross, cost, contract)
    return found.trips(sheet.name)


def read_ninja_executions(sheet: Sheet, source: Source) -> Trips:
    """Reads NinjaTrader 8's executions: one fill a row."""
    return read_fills(
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


def read_tradovate_fills(sheet: Sheet, source: Source) -> Trips:
    """Reads Tradovate's Fills report: one fill a row, `_timestamp` in UTC."""
    return read_fills(
        sheet,
        source,
        name=sheet.need("contract"),
        side=sheet.need("b/s"),
        qty=sheet.need("quantity", "_qty"),
        price=sheet.need("price", "_price"),
        time=sheet.need("_timestamp", "timestamp"),
        commission=sheet.find("commission"),
    )


def read_tradovate_performance(sheet: Sheet, source: Source) -> Trips:
    """Reads Tradovate's Performance report: one matched pair of fills a row, no costs."""
    name, qty = sheet.need("symbol"), sheet.need("qty")
    prices = {1: sheet.need("buyprice"), -1: sheet.need("sellprice")}
    stamps = {
        1: times_of(sheet, sheet.need("boughttimestamp"), source),
        -1: times_of(sheet, sheet.need("soldtimestamp"), source),
    }
    profit = sheet.find("pnl")
    found = Rows()
    for row in range(len(sheet)):
        contract = contract_of(sheet, row, name, source)
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
            check_profit(sheet, row, profit, gross, 0, contract)
    return found.trips(sheet.name)


# --- TradingView ----------------------------------------------------------------------------------


def read_tradingview(sheet: Sheet, source: Source) -> Trips:
    """Reads a TradingView strategy's List of trades: an entry and an exit row a trade.

    Costs are what the net profit lacks of the prices' profit; excursions are the trade's own.
    """
    number, kind = sheet.need("trade #", "trade number"), sheet.need("type")
    stamps = times_of(sheet, sheet.need("date and time", "date/time"), source)
    price = sheet.starting("price")
    qty = sheet.need("size (qty)", "position size (qty)", "contracts", "qty", "quantity")
    if price is None:
        raise FillsError(f"{sheet.name}: no column of prices. Export the List of trades again.")
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
    found, n_open = Rows(), 0
    for pair in pairs.values():
        entry, exit_row = pair.get("entry"), pair.get("exit")
        if entry is None:
            raise sheet.fail(pair["exit"], number, "a number with an entry row too")
        if exit_row is None or sheet.rows[exit_row][price] == "":
            n_open += 1
            continue
        contract = contract_of(sheet, exit_row, sheet.find("symbol"), source)
        side = -1 if "short" in sheet.rows[entry][kind].lower() else 1
        size = sheet.quantity(exit_row, qty)
        ends = sheet.ticks(entry, price, contract), sheet.ticks(exit_row, price, contract)
        gross = side * size * (ends[1] - ends[0]) * contract.tick_mills
        cost = UNKNOWN
        if profit is not None:
            cost = implied_cost(sheet, exit_row, profit, gross, size, contract)
        extremes = [
            UNKNOWN if c is None or not sheet.rows[exit_row][c] else abs(sheet.mills(exit_row, c))
            for c in (adverse, favorable)
        ]
        times = stamps[entry], stamps[exit_row]
        known = (cost, *extremes, UNKNOWN, UNKNOWN)
        found.add(contract, sheet.lines[exit_row], times, (side, size, *ends), known)
    trips = found.trips(sheet.name)
    return replace(trips, n_open=n_open)


# --- generic --------------------------------------------------------------------------------------


def read_generic_trades(sheet: Sheet, source: Source) -> Trips:
    """Reads closed trades in passline's own columns (docs/audit.md)."""
    stamps = [times_of(sheet, sheet.need(f"{end}_time"), source) for end in ("entry", "exit")]
    name, side, qty = sheet.find("symbol"), sheet.need("side"), sheet.need("qty")
    prices = sheet.need("entry_price"), sheet.need("exit_price")
    money = [sheet.find(column) for column in ("commission_usd", "mae_usd", "mfe_usd")]
    distances = [sheet.find(column) for column in ("stop_ticks", "target_ticks")]
    profit = sheet.find("pnl_usd")
    found = Rows()
    for row in range(len(sheet)):
        contract = contract_of(sheet, row, name, source)
        deal = (
            side_of(sheet, row, side),
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
            check_profit(sheet, row, profit, gross, known[0], contract)
    return found.trips(sheet.name)


def read_generic_fills(sheet: Sheet, source: Source) -> Trips:
    """Reads fills in passline's own columns (docs/audit.md)."""
    return read_fills(
        sheet,
        source,
        name=sheet.find("symbol"),
        side=sheet.need("side"),
        qty=sheet.need("qty"),
        price=sheet.need("price"),
        time=sheet.need("time"),
        commission=sheet.find("commission_usd"),
    )
