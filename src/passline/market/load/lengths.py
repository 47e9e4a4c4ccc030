"""How long a bar is: from the user's word, or from the times themselves."""

import re

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.load.zones import SECOND_NS, day_text, eastern_text

__all__ = ["bar_text", "find_bar_ns", "parse_bar"]

_ALLOWED_S = (
    1,
    2,
    3,
    4,
    5,
    6,
    10,
    12,
    15,
    20,
    30,
    *(60 * m for m in (1, 2, 3, 4, 5, 6, 10, 12, 15)),
)
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60}
_ADVICE = "Allowed are lengths from 1s to 15m that divide an hour, such as 1s, 30s, 1m, 5m, 15m"


def parse_bar(text: str) -> int:
    """Reads a bar length such as 1s, 30s, 1m or 15m; returns ns. Raises BarsError."""
    match = re.fullmatch(r"(\d{1,4})\s*([a-z]+)", text.strip().lower())
    seconds = int(match[1]) * _UNITS.get(match[2], 0) if match else 0
    if seconds not in _ALLOWED_S:
        raise BarsError(f"--bar was {text!r}. {_ADVICE}")
    return seconds * SECOND_NS


def bar_text(bar_ns: int) -> str:
    """Returns a bar length as a user writes it: 30s, 1m."""
    seconds = bar_ns // SECOND_NS
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def _long_text(seconds: float) -> str:
    if seconds >= 72_000:
        return "a day or more"
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} seconds"


def find_bar_ns(ts: NDArray[np.int64], name: str, given: int | None) -> int:
    """Finds the length of the bars.

    The length is the most common step between rows; where all steps are multiples of a shorter
    allowed length that occurs too, it is that one. Every stamp must lie on its grid.

    Args:
        ts: stamps of one month, UTC ns, rising [B].
        name: the file, for messages.
        given: length that the user stated, ns.

    Raises:
        BarsError: too few bars, a length that is not allowed, or stamps off the grid.
    """
    if given is None and len(ts) < 3:
        raise BarsError(
            f"{name}: {len(ts)} bars do not tell how long a bar is. Say so with --bar, such as "
            "--bar 1m"
        )
    bar_ns = given if given is not None else _step(ts, name)
    _check_given(ts, name, bar_ns)
    off = ts % bar_ns != 0
    if off.any():
        first = ", ".join(eastern_text(t) for t in ts[off][:5].tolist())
        raise BarsError(
            f"{name}: {int(off.sum()):,} of {len(ts):,} bars do not begin on the grid of "
            f"{bar_text(bar_ns)}; first {first}. A tape has one bar length; export one length a "
            "file, or state the right one with --bar"
        )
    return bar_ns


def _check_given(ts: NDArray[np.int64], name: str, bar_ns: int) -> None:
    steps = np.unique(np.diff(ts)[:2_000_000])
    if len(steps) and len(ts) > 10 and steps[0] > bar_ns and not np.any(steps % steps[0]):
        raise BarsError(
            f"{name}: no two bars are less than {_long_text(steps[0] / SECOND_NS)} apart, and "
            f"--bar said {bar_text(bar_ns)}. Leave --bar out, or state the length the file has"
        )


def _step(ts: NDArray[np.int64], name: str) -> int:
    steps = np.diff(ts)
    values, counts = np.unique(steps[:2_000_000], return_counts=True)
    common = int(values[counts.argmax()])
    shortest = int(values[0])
    if shortest < common and common % shortest == 0 and not np.any(values % shortest):
        common = shortest
    if common % SECOND_NS or common // SECOND_NS not in _ALLOWED_S:
        raise BarsError(
            f"{name}: a bar lasts {_long_text(common / SECOND_NS)} (the most common step, from "
            f"{day_text(int(ts[0]) // (86_400 * SECOND_NS))}). passline plays bars of 1 second to "
            f"15 minutes. {_ADVICE}"
        )
    return common
