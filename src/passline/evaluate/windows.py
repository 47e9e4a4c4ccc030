"""Which dates are for what, as data: named windows, the sizes of the default cut, the sealed final.

A window is a row of dates with a role. Nothing here looks at a price; `slices` lays the windows
over bars.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.market.clock import EPOCH

__all__ = [
    "ROLES",
    "SliceConfig",
    "Window",
    "final_start",
    "hide_final",
    "read_windows",
    "trading_span",
    "window_of",
    "windows_of",
]

ROLES = ("train", "gate", "test", "final")
"""What a window is for: training, the gates between phases, the verdict, the sealed final test."""

MOST_TEST_DAYS, MOST_GATE_DAYS, MOST_FINAL_DAYS = 365, 240, 365
LEAST_FINAL_DAYS = 90
"""Calendar days below which a final window is too short to tell anything."""
TEST_PART, GATE_PART, FINAL_PART = 4, 6, 8
"""The default cut holds out one part in so many of the calendar days there are."""

_KEYS = ("name", "role", "contract", "from", "to")


@dataclass(frozen=True, kw_only=True)
class Window:
    """A named range of trading days with what it is for; half-open, as all ranges here.

    Attributes:
        name: unique among the windows of a run.
        role: one of ROLES.
        contract: symbol of the market it holds on; "" for all markets.
        start: first trading day.
        stop: trading day after the last.
    """

    name: str
    role: str
    contract: str = ""
    start: date
    stop: date

    def __post_init__(self) -> None:
        """Refuses a window that holds nothing or is for nothing."""
        if self.role not in ROLES:
            raise ConfigError(
                f"slice '{self.name}': role was '{self.role}'; allowed: {', '.join(ROLES)}."
            )
        if not self.name.strip():
            raise ConfigError(f"a {self.role} slice from {self.start} has no name; give it one.")
        if self.stop <= self.start:
            raise ConfigError(
                f"slice '{self.name}': to was {self.stop}, from {self.start}; to is the first day "
                "that is no longer in it and must come later."
            )

    def to_plain(self) -> dict[str, Any]:
        """Returns the row as a TOML file holds it."""
        told = {"name": self.name, "role": self.role, "from": self.start, "to": self.stop}
        return told | ({"contract": self.contract} if self.contract else {})

    def on(self, symbol: str) -> bool:
        """Says whether it holds on a market."""
        return self.contract in ("", symbol)


@dataclass(frozen=True, kw_only=True)
class SliceConfig:
    """How time is cut, and how many episodes judge a policy."""

    test_days: int | None = None
    """Calendar days held out for the verdict; without it a quarter of them, 365 at most."""
    gate_days: int | None = None
    """Calendar days before those for the gates; without it a sixth of them, 240 at most."""
    final_days: int | None = None
    """Calendar days at the end that stay sealed; without it an eighth, 365 at most; 0: none."""
    embargo_days: int = 5
    """Calendar days left out between training, gate, test and final."""
    n_episodes: int = 384
    """Evaluation episodes a policy, over all slices; half start at a session, half anywhere."""
    named: tuple[Window, ...] = ()
    """Windows by name, contract and dates, in place of the cut by days."""
    leave_out: str = ""
    """Contract that is neither trained on nor played at gates; the verdict is on it alone."""

    def __post_init__(self) -> None:
        """Refuses cuts that leave nothing."""
        for name in ("test_days", "gate_days", "n_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} was {value}; it must be at least 1.")
        for name in ("final_days", "embargo_days"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} was {value}; it must be at least 0.")
        if self.named:
            _check_named(self)


def window_of(plain: Any, where: str) -> Window:
    """Builds a window from a row of a TOML file.

    Raises:
        ConfigError: a key is missing, unknown, or its value is not of its kind.
    """
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{where} was {plain!r}; a slice is a table with {', '.join(_KEYS)}.")
    unknown = sorted(set(plain) - set(_KEYS))
    missing = [key for key in _KEYS if key not in plain and key != "contract"]
    if unknown or missing:
        problem = f"unknown key {unknown[0]}" if unknown else f"no key {missing[0]}"
        raise ConfigError(f"{where}: {problem}. Keys: {', '.join(_KEYS)} (contract may be left).")
    return Window(
        name=str(plain["name"]),
        role=str(plain["role"]),
        contract=str(plain.get("contract", "")).upper(),
        start=_day(plain["from"], f"{where}: from"),
        stop=_day(plain["to"], f"{where}: to"),
    )


def windows_of(rows: Any, where: str) -> tuple[Window, ...]:
    """Builds windows from the rows of a TOML file."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ConfigError(f"{where} was {rows!r}; it needs rows such as [[slice]].")
    return tuple(window_of(row, f"{where} {number}") for number, row in enumerate(rows, start=1))


def read_windows(path: Path) -> tuple[Window, ...]:
    """Reads a file of [[slice]] rows.

    Raises:
        ConfigError: the file cannot be read, or a row is refused.
    """
    try:
        plain = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}.") from error
    if set(plain) != {"slice"}:
        raise ConfigError(
            f"{path}: holds {', '.join(sorted(plain)) or 'nothing'}; it needs rows [[slice]] with "
            f"{', '.join(_KEYS)}, and nothing else."
        )
    return windows_of(plain["slice"], f"{path.name}: slice")


def final_start(bars: Sequence[Bars], config: SliceConfig) -> date | None:
    """Returns the first trading day of the sealed final window; None if there is none.

    Counted back from the last trading day of all markets. Without `final_days` it is an eighth of
    the calendar days, 365 at most, and none where that is less than 90: so few say nothing, and
    the test slices need them more.
    """
    if config.named:
        return min((w.start for w in config.named if w.role == "final"), default=None)
    first, last = trading_span(bars)
    n_days = (last - first).days + 1
    size = config.final_days
    if size is None:
        size = min(n_days // FINAL_PART, MOST_FINAL_DAYS)
        size = size if size >= LEAST_FINAL_DAYS else 0
    if size >= n_days:
        raise ConfigError(
            f"final_days was {size}, and the bars span {n_days} calendar days. Lower --final-days."
        )
    return last - timedelta(days=size - 1) if size else None


def hide_final(bars: Bars, start: date | None, config: SliceConfig) -> Bars:
    """Returns the bars that a run may see: those before the final window and its embargo.

    Raises:
        ConfigError: none are left.
    """
    if start is None:
        return bars
    first_hidden = (start - EPOCH).days - config.embargo_days
    stop = int(np.searchsorted(_trading_days(bars, bars.ts), first_hidden))
    if stop == 0:
        raise ConfigError(
            f"{bars.contract.symbol}: no bar lies before the final window, which begins on {start}."
            " Lower --final-days, or give more bars."
        )
    return bars.slice(0, stop)


def trading_span(bars: Sequence[Bars]) -> tuple[date, date]:
    """Returns the first and the last trading day of all markets together."""
    edges = [_trading_days(b, b.ts[[0, -1]]) for b in bars]
    first, last = min(int(e[0]) for e in edges), max(int(e[1]) for e in edges)
    return EPOCH + timedelta(days=first), EPOCH + timedelta(days=last)


def _trading_days(bars: Bars, ts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the trading day of each time on the calendar of the bars, as slices are cut by it."""
    return load_calendar(bars.contract.calendar).trading_day(ts)


def _day(value: Any, where: str) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(f"{where} was '{value}'; a date looks like 2024-03-14.") from error
    if type(value) is not date:
        raise ConfigError(f"{where} was {value!r}; a date looks like 2024-03-14.")
    return value


def _check_named(config: SliceConfig) -> None:
    """Refuses named windows that contradict each other or the settings of the default cut."""
    for name in ("test_days", "gate_days", "final_days"):
        if getattr(config, name) is not None:
            raise ConfigError(f"{name} was given beside named slices, which say it by dates.")
    names = [window.name for window in config.named]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{names.count(name)} slices are called '{name}'; rename one.")
    roles = {window.role for window in config.named}
    for role in ("gate", "test"):
        if role not in roles:
            raise ConfigError(
                f"the named slices hold none with role {role}; give at least one, since nothing "
                "is held out by days beside them."
            )
    held = [window for window in config.named if window.role != "train"]
    for index, a in enumerate(held):
        for b in held[index + 1 :]:
            _check_apart(a, b, config.embargo_days)
    finals = [window for window in held if window.role == "final"]
    if finals:
        sealed = min(finals, key=lambda window: window.start)
        for window in config.named:
            if window.role != "final" and _gap(window, sealed) < config.embargo_days:
                raise ConfigError(
                    f"slice '{window.name}' ends {window.stop}, and the final slice "
                    f"'{sealed.name}' begins {sealed.start}; a final test lies after everything "
                    f"else, {config.embargo_days} embargo days apart."
                )


def _gap(a: Window, b: Window) -> int:
    """Returns the days from the end of a to the start of b; negative if b begins before."""
    return (b.start - a.stop).days


def _check_apart(a: Window, b: Window, embargo_days: int) -> None:
    """Refuses windows that share dates, and those of two roles that lie too close.

    A date counts whatever the contract: markets of one date share their luck.
    """
    if a.role == b.role and a.contract != b.contract and "" not in (a.contract, b.contract):
        return
    apart = max(_gap(a, b), _gap(b, a))
    needed = 0 if a.role == b.role else embargo_days
    if apart < needed:
        raise ConfigError(
            f"slices '{a.name}' ({a.role}, {a.start} to {a.stop}) and '{b.name}' ({b.role}, "
            f"{b.start} to {b.stop}) lie {apart} days apart; {needed} are needed. Move one of them"
            + (", or lower embargo_days." if needed else ".")
        )
