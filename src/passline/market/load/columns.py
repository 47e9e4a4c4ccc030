"""What the columns of a table mean: vendors' names for time, prices, volume and the contract."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passline.errors import BarsError

__all__ = ["ROLES", "Roles", "assign_roles", "normal_name"]

ROLES = ("time", "clock", "open", "high", "low", "close", "price", "volume", "symbol", "action")
"""Roles a user may give a column; clock is the time of day where it stands apart from the date."""

_NAMES: dict[str, tuple[str, ...]] = {
    "time": (
        "tsevent", "datetimeutc", "timestamputc", "timeutc", "ts", "timestamp", "datetime",
        "datetimeet", "caldt", "time", "date", "gmttime", "opentime", "bartime", "barstart",
        "tstart", "index", "localtime", "day", "closetime",
    ),
    "clock": ("time", "timeofday", "clock"),
    "open": ("open", "o", "openprice", "apertura", "first"),
    "high": ("high", "h", "highprice", "max", "maximo"),
    "low": ("low", "l", "lowprice", "min", "minimo"),
    "close": ("close", "c", "closeprice", "last", "cierre"),
    "price": ("price", "precio", "lastprice", "tradeprice", "px"),
    "volume": (
        "volume", "vol", "v", "size", "volumen", "quantity", "qty", "totalvolume", "tickvolume",
        "tickvol", "tradesize",
    ),
    "symbol": (
        "contract", "symbol", "originalsymbol", "rawsymbol", "contractmonth", "instrument",
        "ticker", "instrumentid", "productid",
    ),
    "action": ("action",),
}  # fmt: skip
_BAR = ("open", "high", "low", "close")
_UTC_NAMES = {"tsevent", "datetimeutc", "timestamputc", "timeutc", "gmttime"}
_EASTERN_NAMES = {"datetimeet", "timestampet", "timeet"}


def normal_name(name: str) -> str:
    """Returns a column's name in lower case without marks: 'Date Time' and <DATE_TIME> agree."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Which column plays which role, by position, and the zone that a column's name states."""

    positions: Mapping[str, int]
    zone: str | None = None

    def __contains__(self, role: str) -> bool:
        return role in self.positions

    def __getitem__(self, role: str) -> int:
        return self.positions[role]

    @property
    def is_bars(self) -> bool:
        """Whether open, high, low and close are all there."""
        return all(role in self.positions for role in _BAR)

    @property
    def is_points(self) -> bool:
        """Whether there is one price a row: trades, or closes alone."""
        if self.is_bars or self.lacking:
            return False
        return "price" in self.positions or "close" in self.positions

    @property
    def lacking(self) -> tuple[str, ...]:
        """Prices that bars of which two or three are there lack; none where rows have a price."""
        absent = tuple(role for role in _BAR if role not in self.positions)
        return absent if len(absent) in {1, 2} and "price" not in self.positions else ()


def _given(columns: Mapping[str, str], names: Sequence[str]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for role, name in columns.items():
        if role not in ROLES:
            raise BarsError(
                f"column role was {role!r}; known roles: {', '.join(ROLES)}. "
                "Write --column ROLE=NAME"
            )
        if name not in names:
            raise BarsError(
                f"--column {role}={name}: the file has no such column. Its columns: "
                + ", ".join(names)
            )
        positions[role] = list(names).index(name)
    return positions


def _pair_date_and_clock(
    positions: dict[str, int], normal: Sequence[str], columns: Mapping[str, str]
) -> None:
    """Reads columns date and time as one stamp; drops a clock that has no date beside it."""
    if "time" in columns or "clock" in columns:
        if "clock" not in columns:
            positions.pop("clock", None)
        return
    time = positions.get("time")
    if {"date", "time"} <= set(normal) and time is not None and normal[time] in {"time", "date"}:
        positions["time"], positions["clock"] = normal.index("date"), normal.index("time")
        return
    positions.pop("clock", None)


def assign_roles(names: Sequence[str], columns: Mapping[str, str] | None = None) -> Roles:
    """Assigns roles to columns by their names; what the user gives comes first.

    Args:
        names: column names as the file writes them.
        columns: role to column name, as the user gave it.

    Raises:
        BarsError: a role or column that does not exist.
    """
    normal = [normal_name(name) for name in names]
    positions = _given(columns or {}, names)
    for role, known in _NAMES.items():
        if role in positions:
            continue
        for name in known:
            if name in normal and normal.index(name) not in positions.values():
                positions[role] = normal.index(name)
                break
    _pair_date_and_clock(positions, normal, columns or {})
    time = positions.get("time")
    zone = None
    if time is not None and normal[time] in _UTC_NAMES:
        zone = "UTC"
    if time is not None and normal[time] in _EASTERN_NAMES:
        zone = "America/New_York"
    return Roles(positions=positions, zone=zone)
