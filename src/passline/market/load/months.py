"""Contract names as vendors write them: months of a product, its root, spreads, others."""

import re
from dataclasses import dataclass

from passline.market.contract import Contract

__all__ = ["MONTH_LETTERS", "Name", "month_order", "parse_name"]

MONTH_LETTERS = "FGHJKMNQUVXZ"
_CLEAN = re.compile(r"^(?:[A-Z_]+:|[/@])|(?:\.(?:XCME|XCBT|XNYM|XCEC|CME|CBT|NYM|CMX|FUT|GLBX))$")
_MONTH = re.compile(rf"^[{MONTH_LETTERS}](\d{{1,2}}|\d{{4}})$")
_NINJA = re.compile(r"^([A-Z0-9]{1,4}) (\d{2})-(\d{2})$")
_CONTINUOUS = re.compile(r"^([A-Z0-9]{1,4}?)(?:\d?!|=F|\.[a-z]\.\d+|#C?)?$")
_SPREAD = re.compile(
    rf"[{MONTH_LETTERS}]\d{{1,4}}\s*[-:/ ]\s*[A-Z0-9]{{0,4}}[{MONTH_LETTERS}]\d|:[A-Z]{{2}} "
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """What a contract name says: kind is month, root, id, spread or other."""

    kind: str
    month: str = ""


def parse_name(text: str, contract: Contract) -> Name:
    """Reads a contract name against the product that the file should hold."""
    raw = text.strip()
    if not raw or raw.isdigit():
        return Name(kind="id" if raw else "root")
    if _SPREAD.search(raw.upper()):
        return Name(kind="spread")
    clean = _CLEAN.sub("", _CLEAN.sub("", raw))
    ninja = _NINJA.match(clean.upper())
    if ninja:
        letter = MONTH_LETTERS[int(ninja[2]) - 1] if 1 <= int(ninja[2]) <= 12 else ""
        if ninja[1] == contract.symbol and letter:
            return Name(kind="month", month=f"{ninja[1]}{letter}{ninja[3]}")
        return _OTHER
    has_root = clean.upper().startswith(contract.symbol)
    if has_root and _MONTH.match(clean.upper()[len(contract.symbol) :]):
        return Name(kind="month", month=clean.upper())
    continuous = _CONTINUOUS.match(clean)
    is_root = continuous and continuous[1].upper() == contract.symbol
    return Name(kind="root") if is_root else _OTHER


_OTHER = Name(kind="other")


def month_order(month: str, contract: Contract, near_year: int) -> int:
    """Returns year * 12 + month of a contract month; a short year is that nearest `near_year`."""
    tail = month[len(contract.symbol) :]
    letter, digits = tail[0], tail[1:]
    if len(digits) == 4:
        year = int(digits)
    else:
        step = 10 ** len(digits)
        year = near_year - near_year % step + int(digits)
        year = min((year - step, year, year + step), key=lambda y: abs(y - near_year - 0.4))
    return year * 12 + MONTH_LETTERS.index(letter)
