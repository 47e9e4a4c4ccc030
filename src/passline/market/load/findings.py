"""Bad rows, counted by kind, with the first five places each, turned into one message."""

from dataclasses import dataclass, field

from passline.errors import BarsError
from passline.market.load.zones import day_text, eastern_text

__all__ = ["SHOWN", "Findings"]

SHOWN = 5
"""Places that a message shows before it only counts."""


@dataclass(slots=True)
class _Kind:
    count: int = 0
    places: list[str] = field(default_factory=list)
    days: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Findings:
    """Bad rows of one file; mutable, filled chunk by chunk.

    Attributes:
        name: the file.
        noun: what a row is: bars or trades.
        n_rows: rows looked at.
    """

    name: str
    noun: str = "bars"
    n_rows: int = 0
    kinds: dict[str, _Kind] = field(default_factory=dict)

    def add(self, what: str, count: int, days: set[int]) -> bool:
        """Counts bad rows of a kind; says whether places of it are still wanted."""
        kind = self.kinds.setdefault(what, _Kind())
        kind.count += count
        if len(kind.days) < 40:
            kind.days |= days
        return len(kind.places) < SHOWN

    def place(self, what: str, *, row: int, where: str, ts: int | None, detail: str) -> None:
        """Adds one place of a kind, unless five are known."""
        kind = self.kinds[what]
        if len(kind.places) >= SHOWN:
            return
        at = "" if ts is None else f"{eastern_text(ts)}, "
        part = f"{where} " if where else ""
        kind.places.append(f"{at}{part}row {row:,} ({detail})")

    def raise_if_any(self, remedy: str = "") -> None:
        """Raises BarsError with every kind found, the first in full."""
        if not self.kinds:
            return
        what, kind = next(iter(self.kinds.items()))
        shown = "; ".join(kind.places)
        more = f"; and {kind.count - len(kind.places):,} more" if kind.count > SHOWN else ""
        others = "".join(
            f" Also {other} in {found.count:,} {self.noun}."
            for other, found in list(self.kinds.items())[1:]
        )
        raise BarsError(
            f"{self.name}: {what} in {kind.count:,} of {self.n_rows:,} {self.noun}; first at "
            f"{shown}{more}.{others} {remedy or self._remedy()}"
        )

    def _remedy(self) -> str:
        days = sorted(set().union(*(kind.days for kind in self.kinds.values())))
        n_bad = max(kind.count for kind in self.kinds.values())
        if not days or len(days) > SHOWN or n_bad > self.n_rows // 10:
            return (
                "Bars are never repaired; check that the file, --contract, --tz and --stamp "
                "belong together, or take another source"
            )
        drops = " ".join(f"--drop-day {day_text(day)}" for day in days)
        return f"Bars are never repaired; drop the day with: passline data import ... {drops}"
