"""Reads contracts.toml, and a user's own file of the same form, into `Contract` records.

Every number is checked on the way: exact decimals, whole mills, tick times multiplier, a known
calendar. What a contract is stands in `passline.market.contract`.
"""

import difflib
import tomllib
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from passline.errors import BarsError
from passline.market.calendar import calendar_names
from passline.market.contract import Contract

__all__ = ["find_contract", "load_contracts"]

KEYS = {
    "name": str,
    "exchange": str,
    "tick_size": str,
    "tick_usd": str,
    "point_usd": str,
    "size_units": int,
    "calendar": str,
    "commission_usd": str,
    "slippage_ticks": int,
    "first_traded": date,
    "source": list,
}
OPTIONAL = frozenset({"first_traded", "source"})
TOP_KEYS = ("as_of", "contract", "source")


@lru_cache(maxsize=1)
def _built_in() -> dict[str, Contract]:
    own = resources.files("passline.market").joinpath("contracts.toml").read_text("utf-8")
    return _parse(own, "contracts.toml")


def load_contracts(extra: Path | None = None) -> dict[str, Contract]:
    """Loads the known contracts by symbol, in the order of the file.

    Args:
        extra: a user's TOML file of the same form; its contracts come last and replace those of
            the same symbol.

    Raises:
        BarsError: a file cannot be read, or a field is missing, unknown or impossible; the
            message carries the file and the field's path.
    """
    contracts = dict(_built_in())
    if extra is not None:
        try:
            text = extra.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BarsError(
                f"{extra}: cannot be read as a text file ({error}). Give the path of a TOML file "
                "with [contract.SYMBOL] tables."
            ) from error
        contracts |= _parse(text, str(extra))
    return contracts


def find_contract(symbol: str, extra: Path | None = None) -> Contract:
    """Returns the contract of a root symbol, in any case of letters.

    Raises:
        BarsError: no contract has that symbol; the message names near ones.
    """
    contracts = load_contracts(extra)
    wanted = symbol.strip().upper()
    if wanted in contracts:
        return contracts[wanted]
    near = difflib.get_close_matches(wanted, contracts, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise BarsError(
        f"no contract '{symbol}'.{hint} Known contracts: {', '.join(contracts)}. Add your own with "
        "a TOML file of the form of market/contracts.toml."
    )


def _parse(text: str, where: str) -> dict[str, Contract]:
    try:
        facts = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BarsError(f"{where}: not valid TOML: {error}. Mend the file there.") from error
    _refuse_unknown(facts, TOP_KEYS, where)
    for key in TOP_KEYS[1:]:
        if not isinstance(facts.get(key, {}), dict):
            raise BarsError(f"{where}: {key} was {facts[key]!r}; it must be a table.")
    rows = facts.get("contract", {})
    if not rows:
        raise BarsError(f"{where}: no [contract.SYMBOL] table was found; at least one is needed.")
    as_of = str(facts.get("as_of", ""))
    return {s: _contract(s, row, facts.get("source", {}), as_of, where) for s, row in rows.items()}


def _contract(symbol: str, row: Any, sources: dict[str, str], as_of: str, where: str) -> Contract:
    path = f"{where}: [contract.{symbol}]"
    _check_shape(symbol, row, path)
    tick_size = _decimal(row["tick_size"], f"{path} tick_size", is_positive=True)
    tick_mills = _mills(row["tick_usd"], f"{path} tick_usd", is_positive=True)
    point_usd = _decimal(row["point_usd"], f"{path} point_usd", is_positive=True)
    if tick_size * point_usd * 1000 != tick_mills:
        raise BarsError(
            f"{path}: tick_size {tick_size} times point_usd {point_usd} is "
            f"{tick_size * point_usd} USD, but tick_usd was {row['tick_usd']}. Mend one of them."
        )
    for key, least in (("size_units", 1), ("slippage_ticks", 0)):
        if row[key] < least:
            raise BarsError(f"{path} {key}: was {row[key]}; it must be at least {least}.")
    if row["calendar"] not in calendar_names():
        raise BarsError(
            f"{path} calendar: was '{row['calendar']}'. "
            f"Known calendars: {', '.join(calendar_names())}."
        )
    return Contract(
        symbol=symbol,
        name=row["name"],
        exchange=row["exchange"],
        tick_size=tick_size,
        tick_mills=tick_mills,
        size_units=row["size_units"],
        calendar=row["calendar"],
        commission_mills=_mills(row["commission_usd"], f"{path} commission_usd"),
        slippage_ticks=row["slippage_ticks"],
        first_traded=row.get("first_traded"),
        as_of=as_of,
        sources=tuple(str(sources.get(key, key)) for key in row.get("source", ())),
    )


def _check_shape(symbol: str, row: Any, path: str) -> None:
    """Refuses a contract table with wrong, missing or unknown fields."""
    if symbol != symbol.upper() or not symbol.isalnum():
        raise BarsError(f"{path}: the symbol must be capital letters and digits, such as MES.")
    if not isinstance(row, dict):
        raise BarsError(f"{path}: was {row!r}; it must be a table.")
    _refuse_unknown(row, tuple(KEYS), path)
    missing = [key for key in KEYS if key not in row and key not in OPTIONAL]
    if missing:
        raise BarsError(f"{path}: missing {', '.join(missing)}. Add them.")
    for key, value in row.items():
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            form = (
                'a decimal number as text, such as "0.25"'
                if key.endswith(("_usd", "_size"))
                else KEYS[key].__name__
            )
            raise BarsError(f"{path} {key}: was {value!r}; it must be {form}.")


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], path: str) -> None:
    unknown = [key for key in table if key not in known]
    if unknown:
        raise BarsError(f"{path}: unknown key {unknown[0]}. Known keys: {', '.join(known)}.")


def _decimal(text: str, path: str, *, is_positive: bool = False) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0 or (is_positive and value == 0):
        need = "above zero" if is_positive else "of zero or more"
        raise BarsError(f"{path}: was '{text}'; it must be a decimal number {need}.")
    return value


def _mills(text: str, path: str, *, is_positive: bool = False) -> int:
    """Reads USD as whole mills, exactly."""
    mills = _decimal(text, path, is_positive=is_positive) * 1000
    if mills != mills.to_integral_value():
        raise BarsError(f"{path}: was {text} USD; money must be whole mills (0.001 USD).")
    return int(mills)
