"""Which bar each signal belongs to: the one that closes at its time.

A minute without a trade has no bar. A signal at such a minute's end belongs to the last bar that
closed before it in the same session, which shows the same prices; nothing that opened before the
signal is filled by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.signals import Signal, SignalFile, list_problems, utc_text
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.market.clock import DAY_NS, MINUTE_NS
from passline.rulebook.model import Rulebook
from passline.sim.compile import CompiledTape
from passline.sim.layout import Orders

__all__ = ["Placed", "order_of", "place_signals"]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Signals on bars.

    Attributes:
        by_bar: the signal decided at the close of each bar that has one.
        moved: lines of signals at whose time no bar closes, and the close of the bar they got.
        late: bars whose signal came in the minutes before flat-by, though the bar did not.
    """

    by_bar: Mapping[int, Signal]
    moved: tuple[tuple[int, int], ...]
    late: frozenset[int]


def order_of(signal: Signal) -> Orders:
    """Returns the order that a signal sends."""
    return Orders(int(signal.kind), signal.qty, signal.stop_ticks, signal.target_ticks)


def place_signals(
    file: SignalFile, bars: Bars, compiled: CompiledTape, rulebook: Rulebook
) -> Placed:
    """Finds the bar of every signal.

    Raises:
        ConfigError: signals lie outside the bars or the sessions or between two closes, or two
            belong to one bar; the message lists up to five.
    """
    ends = bars.ts + bars.bar_ns
    times = np.array([signal.time_ns for signal in file.signals], np.int64)
    _refuse_strangers(file, bars, times)
    found = np.searchsorted(ends, times, side="right") - 1
    sessions = load_calendar(bars.contract.calendar).sessions(
        int(bars.ts[0]), int(bars.ts[-1]) + DAY_NS * 7
    )
    is_exact = (found >= 0) & (ends[np.maximum(found, 0)] == times)
    is_near = (found >= 0) & (sessions.locate(times - 1) == compiled.session[np.maximum(found, 0)])
    _refuse_lost(file, ends, times, is_exact | is_near)
    _refuse_shared(file, found)
    moved, late = [], []
    for index in np.flatnonzero(~is_exact).tolist():
        bar = int(found[index])
        moved.append((file.signals[index].line, int(ends[bar])))
        left_ns = int(compiled.minutes_to_flat[bar]) * MINUTE_NS - int(times[index] - ends[bar])
        if left_ns - bars.bar_ns < rulebook.clock.no_entry_minutes * MINUTE_NS:
            late.append(bar)
    by_bar = dict(zip(found.tolist(), file.signals, strict=True))
    return Placed(by_bar=by_bar, moved=tuple(moved), late=frozenset(late))


def _refuse_strangers(file: SignalFile, bars: Bars, times: np.ndarray) -> None:
    """Refuses times outside the tape."""
    first, last = int(bars.ts[0]) + bars.bar_ns, int(bars.ts[-1]) + bars.bar_ns
    wrong = np.flatnonzero((times < first) | (times > last)).tolist()
    if wrong:
        problems = [_row_text(file.signals[index]) for index in wrong]
        remedy = (
            f"The first bar closes at {utc_text(first)}, the last at {utc_text(last)}. Check the "
            "offset of the times and that the bars are those of the signals"
        )
        raise ConfigError(
            list_problems(file.name, "lie outside the bars", problems, len(times), remedy)
        )


def _refuse_lost(
    file: SignalFile, ends: np.ndarray, times: np.ndarray, is_known: np.ndarray
) -> None:
    """Refuses times at which no bar closes, unless a bar of that minute is merely missing."""
    step = int(np.diff(ends).min())
    wrong = np.flatnonzero(~is_known | ((times - ends[0]) % step != 0)).tolist()
    if wrong:
        problems = [
            f"{_row_text(file.signals[index])}, nearest {_near_text(ends, int(times[index]))}"
            for index in wrong
        ]
        remedy = (
            "A signal's time is the close of the bar on which it was decided, inside a session; "
            "check the offset, and that the time is not the bar's open"
        )
        raise ConfigError(
            list_problems(file.name, "fit no bar's close", problems, len(times), remedy)
        )


def _refuse_shared(file: SignalFile, found: np.ndarray) -> None:
    """Refuses more than one signal a bar."""
    wrong = np.flatnonzero(found[1:] == found[:-1]).tolist()
    if wrong:
        problems = [
            f"lines {file.signals[index].line} and {file.signals[index + 1].line} "
            f"({file.signals[index].action}, {file.signals[index + 1].action}) at "
            f"{utc_text(file.signals[index + 1].time_ns)}"
            for index in wrong
        ]
        remedy = "An account takes one order a bar; send the second at the close of the next bar"
        raise ConfigError(
            list_problems(
                file.name, "share a bar with the one before", problems, len(found), remedy
            )
        )


def _row_text(signal: Signal) -> str:
    return f"line {signal.line} ({utc_text(signal.time_ns)})"


def _near_text(ends: np.ndarray, time_ns: int) -> str:
    after = int(np.searchsorted(ends, time_ns))
    near: Sequence[int] = ends[max(after - 1, 0) : after + 1].tolist()
    return " and ".join(utc_text(end) for end in near)
