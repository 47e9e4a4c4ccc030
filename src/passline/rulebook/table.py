"""Typed reading of one TOML table, with errors that name file, field, value and what is allowed.

Every getter raises RulebookError for a value of the wrong kind. What the fields mean is in `read`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NoReturn

from passline.errors import RulebookError

__all__ = ["MAX_USD", "Raw", "Table"]

Raw = dict[str, Any]
"""A TOML table as tomllib gives it, floats as Decimal."""

MAX_USD = 2_147_483
"""Largest amount that fits int32 mills, whole USD."""
MAX_DENOMINATOR = 1000
_MILL = Decimal("0.001")
_MONEY_TEXT = re.compile(r"-?\d{1,9}(\.\d{1,3})?")
_RATIO_TEXT = re.compile(r"\d{1,6}/\d{1,6}")
_TIME_TEXT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Table:
    """One table of a rulebook file.

    Attributes:
        file: name of the file, with the platform if it is an override's.
        path: the table's path, such as "drawdown" or "tiers 2"; "" at the top.
        raw: its keys.
    """

    file: str
    path: str
    raw: Raw

    def where(self, key: str) -> str:
        """Returns file and field as errors name them."""
        return f"{self.file}: [{self.path}] {key}" if self.path else f"{self.file}: {key}"

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises RulebookError for a field."""
        raise RulebookError(f"{self.where(key)} {problem}")

    def only(self, known: Sequence[str]) -> None:
        """Refuses keys that are not known.

        Raises:
            RulebookError: with up to five unknown keys and all known ones.
        """
        unknown = [key for key in self.raw if key not in known]
        if not unknown:
            return
        listed = ", ".join(unknown[:5]) + (
            f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        )
        section = f"[{self.path}] " if self.path else ""
        noun = "key" if len(unknown) == 1 else "keys"
        raise RulebookError(
            f"{self.file}: unknown {noun} {section}{listed}. Known keys: {', '.join(known)}."
        )

    def has(self, key: str) -> bool:
        """Returns whether the key is set."""
        return key in self.raw

    def _value(self, key: str, wanted: str) -> Any:
        if key not in self.raw:
            self.fail(key, f"is missing; it must be {wanted}.")
        return self.raw[key]

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        value = self.raw[key]
        shown = str(value) if isinstance(value, Decimal) else repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        self.fail(key, f"was {shown}; it must be {wanted}.")

    def text(self, key: str, default: str | None = None) -> str:
        """Returns a text; required unless a default is given."""
        if default is not None and key not in self.raw:
            return default
        wanted = "a text that is not empty"
        value = self._value(key, wanted)
        if not isinstance(value, str) or not value.strip():
            self._wrong(key, wanted)
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Returns one of the allowed words."""
        if default is not None and key not in self.raw:
            return default
        wanted = "one of " + ", ".join(allowed)
        if self._value(key, wanted) not in allowed:
            self._wrong(key, wanted)
        return str(self.raw[key])

    def flag(self, key: str, default: bool) -> bool:
        """Returns true or false."""
        if key not in self.raw:
            return default
        if not isinstance(self.raw[key], bool):
            self._wrong(key, "true or false")
        return bool(self.raw[key])

    def integer(self, key: str, default: int | None = None, *, low: int = 0) -> int:
        """Returns a whole number of at least `low`; required unless a default is given."""
        if default is not None and key not in self.raw:
            return default
        wanted = f"a whole number from {low} to 1,000,000"
        value = self._value(key, wanted)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 1_000_000:
            self._wrong(key, wanted)
        return value

    def maybe_integer(self, key: str, *, low: int = 1) -> int | None:
        """Returns a whole number, or None if the key is not set."""
        return self.integer(key, low=low) if key in self.raw else None

    def _number(self, key: str, wanted: str) -> Decimal:
        value = self._value(key, wanted)
        if isinstance(value, str) and _MONEY_TEXT.fullmatch(value):
            value = Decimal(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self._wrong(key, wanted)
        number = Decimal(value)
        if not number.is_finite() or abs(number) > MAX_USD:
            self._wrong(key, wanted)
        return number

    def money(self, key: str, *, low: int | None = 0) -> int:
        """Returns USD as whole mills; refuses a fourth decimal and amounts below `low` USD."""
        least = f" from {low}" if low is not None else ""
        wanted = (
            f"USD{least} to {MAX_USD:,} with at most 3 decimals, "
            'a number or text such as 2000, 1.99 or "1.99"'
        )
        number = self._number(key, wanted)
        if (low is not None and number < low) or number % _MILL != 0:
            self._wrong(key, wanted)
        return int(number.scaleb(3))

    def maybe_money(self, key: str, *, low: int | None = 0) -> int | None:
        """Returns USD as mills, or None if the key is not set."""
        return self.money(key, low=low) if key in self.raw else None

    def money_list(self, key: str) -> tuple[int, ...]:
        """Returns a list of USD amounts as mills; empty if the key is not set."""
        values = self.raw.get(key, [])
        if not isinstance(values, list):
            self._wrong(key, "a list of USD amounts such as [1500, 2000]")
        item = Table(self.file, self.path, {f"{key} {i + 1}": v for i, v in enumerate(values)})
        return tuple(item.money(name) for name in item.raw)

    def minis(self, key: str) -> int:
        """Returns a size in minis as tenths of a mini."""
        wanted = "minis from 0.1 to 1000 with at most 1 decimal (a micro is 0.1)"
        number = self._number(key, wanted)
        if not Decimal("0.1") <= number <= 1000 or number % Decimal("0.1") != 0:
            self._wrong(key, wanted)
        return int(number.scaleb(1))

    def ratio(self, key: str, default: Fraction | None = None) -> Fraction:
        """Returns a share above 0 and at most 1, exactly."""
        if default is not None and key not in self.raw:
            return default
        wanted = (
            "a share above 0 and at most 1 that is exact with a denominator of at most "
            f'{MAX_DENOMINATOR}, such as 0.55 or "1/3"'
        )
        value = self._value(key, wanted)
        try:
            if isinstance(value, str):
                share = Fraction(value) if _RATIO_TEXT.fullmatch(value) else Fraction(0)
            else:
                share = Fraction(self._number(key, wanted).quantize(Decimal("1e-9")))
                if share != self._number(key, wanted):
                    share = Fraction(0)
        except (ZeroDivisionError, InvalidOperation):
            share = Fraction(0)
        if not 0 < share <= 1 or share.denominator > MAX_DENOMINATOR:
            self._wrong(key, wanted)
        return share

    def day(self, key: str) -> date:
        """Returns a date."""
        wanted = "a date without quotes, such as 2026-10-02"
        value = self._value(key, wanted)
        if isinstance(value, datetime) or not isinstance(value, date):
            self._wrong(key, wanted)
        return value

    def clock(self, key: str, default: time | None = None) -> time:
        """Returns an Eastern time of day in whole minutes."""
        if default is not None and key not in self.raw:
            return default
        wanted = 'an Eastern time of day as text, such as "16:59"'
        value = self._value(key, wanted)
        found = _TIME_TEXT.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            self._wrong(key, wanted)
        return time(int(found[1]), int(found[2]))

    def symbols(self, key: str) -> tuple[str, ...] | None:
        """Returns a list of contract symbols, or None if the key is not set."""
        if key not in self.raw:
            return None
        values = self.raw[key]
        if not isinstance(values, list) or not all(
            isinstance(v, str) and re.fullmatch(r"[A-Z0-9]{1,6}", v) for v in values
        ):
            self._wrong(key, 'a list of contract symbols, such as ["ES", "MES"]')
        return tuple(values)

    def sub(self, key: str) -> "Table":
        """Returns the table under a key, empty if it is not set."""
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            self._wrong(key, f"a table, written as [{self._join(key)}]")
        return Table(self.file, self._join(key), value)

    def rows(self, key: str) -> tuple["Table", ...]:
        """Returns the tables of an array under a key, none if it is not set."""
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            self._wrong(key, f"an array of tables, each written as [[{self._join(key)}]]")
        path = self._join(key)
        return tuple(Table(self.file, f"{path} {i + 1}", row) for i, row in enumerate(value))

    def _join(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key
