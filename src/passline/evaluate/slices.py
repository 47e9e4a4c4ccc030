"""Which bars are for training, which for the gates, and which are held out for the verdict.

Time is cut, never shuffled: training first, then the gate slices, then the test slices, with an
embargo between them, so that no training episode touches a bar that a verdict is spoken on.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.sim.layout import BarFlag
from passline.task.prepare import Prepared

__all__ = [
    "Slice",
    "SliceConfig",
    "Split",
    "Starts",
    "day_starts",
    "evaluation_starts",
    "shorten",
    "split",
]

I64 = NDArray[np.int64]
Ranges = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class SliceConfig:
    """How time is cut, and how many episodes judge a policy."""

    test_days: int = 365
    """Calendar days at the end of each market that are held out for the verdict."""
    gate_days: int = 240
    """Calendar days before those that are held out for the gates between phases."""
    embargo_days: int = 5
    """Calendar days left out between training, gate and test."""
    n_episodes: int = 384
    """Evaluation episodes a policy, over all slices; half start at a session, half anywhere."""

    def __post_init__(self) -> None:
        """Refuses cuts that leave nothing."""
        for name in ("test_days", "gate_days", "n_episodes"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} was {value}; it must be at least 1.")
        if self.embargo_days < 0:
            raise ConfigError(f"embargo_days was {self.embargo_days}; it must be at least 0.")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A named stretch of one market in which evaluation episodes start.

    Attributes:
        name: such as "test-ES-2021-03".
        market: index of the market.
        first_bar: first bar on the joint tape.
        stop_bar: bar after the last one.
        end_bar: last bar that an episode that began here may walk.
    """

    name: str
    market: int
    first_bar: int
    stop_bar: int
    end_bar: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """The cut of all markets.

    Attributes:
        train: half-open bar ranges on the joint tape.
        gate: slices of the gates.
        test: slices of the verdict.
    """

    train: Ranges
    gate: tuple[Slice, ...]
    test: tuple[Slice, ...]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Where evaluation episodes begin; n of them.

    Attributes:
        bar: bar at whose close each begins, int64 [n].
        end_bar: last bar it may walk, int64 [n].
        slice: name of its slice, str [n].
        market: index of its market, int64 [n].
        day: trading day of its first bar, days since 1970-01-01, int64 [n].
    """

    bar: I64
    end_bar: I64
    slice: NDArray[np.str_]
    market: I64
    day: I64


def split(prepared: Prepared, config: SliceConfig) -> Split:
    """Cuts every market by time.

    Raises:
        ConfigError: a market is too short for its gate and test days.
    """
    train: Ranges = []
    gate: list[Slice] = []
    test: list[Slice] = []
    day = prepared.compiled.tape.day
    for market, first in enumerate(prepared.first_bar):
        stop = prepared.offsets[market + 1]
        symbol = prepared.bars[market].contract.symbol
        days = day[first:stop]
        last_day = int(days[-1])
        test_from = last_day - config.test_days + 1
        gate_to = test_from - config.embargo_days
        gate_from = gate_to - config.gate_days
        train_to = gate_from - config.embargo_days
        cuts = [
            first + int(np.searchsorted(days, d)) for d in (train_to, gate_from, gate_to, test_from)
        ]
        n_train_days = len(np.unique(day[first : cuts[0]]))
        if n_train_days < 40:
            held = config.test_days + config.gate_days + 2 * config.embargo_days
            raise ConfigError(
                f"{symbol}: {n_train_days} trading days are left for training after {held} "
                f"calendar days were held out of {last_day - int(days[0]) + 1}; at least 40 are "
                "needed. Give more bars, or lower --test-days and --gate-days."
            )
        train.append((first, cuts[0]))
        gate += _by_month(prepared, "gate", market, cuts[1], cuts[2])
        test += _by_month(prepared, "test", market, cuts[3], stop)
    return Split(train=train, gate=tuple(gate), test=tuple(test))


def _by_month(prepared: Prepared, kind: str, market: int, first: int, stop: int) -> list[Slice]:
    """Names a stretch's months; an episode may run on to the end of the stretch."""
    days = prepared.compiled.tape.day[first:stop].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    edges = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    symbol = prepared.bars[market].contract.symbol
    ends = [*edges[1:], len(months)]
    return [
        Slice(
            name=f"{kind}-{symbol}-{months[a]}",
            market=market,
            first_bar=first + int(a),
            stop_bar=first + int(b),
            end_bar=stop - 1,
        )
        for a, b in zip(edges, ends, strict=True)
    ]


def evaluation_starts(
    prepared: Prepared, slices: Sequence[Slice], *, n: int, span_days: int, seed: int
) -> Starts:
    """Chooses where evaluation episodes begin: half at fixed sessions, half at random bars.

    Only starts that leave the whole span before the end of their stretch are used, so that no
    episode is cut short by the end of the data.

    Args:
        prepared: markets.
        slices: where to start.
        n: episodes; fewer if there are not as many different starts.
        span_days: longest an episode may last, calendar days.
        seed: of the random offsets.

    Raises:
        ConfigError: the stretch is shorter than an episode.
    """
    tape = prepared.compiled.tape
    opens = np.r_[(tape.flags[1:] & BarFlag.SESSION_START) != 0, False]
    enters = (tape.flags & BarFlag.CAN_ENTER) != 0
    fixed: list[tuple[int, int]] = []
    anywhere: list[tuple[int, int]] = []
    for number, part in enumerate(slices):
        latest = int(tape.day[part.end_bar]) - span_days
        window = np.arange(part.first_bar, part.stop_bar)
        window = window[tape.next_day[window] <= latest]
        fixed += [(int(bar), number) for bar in window[opens[window]]]
        anywhere += [(int(bar), number) for bar in window[enters[window]]]
    if not fixed:
        raise ConfigError(
            f"the held-out stretch has no room for one episode of {span_days} calendar days. Raise "
            "--test-days or --gate-days, or give more bars."
        )
    rng = np.random.default_rng(seed)
    half = min((n + 1) // 2, len(fixed))
    chosen = [fixed[i] for i in np.unique(np.linspace(0, len(fixed) - 1, half).round().astype(int))]
    rest = min(n - len(chosen), len(anywhere))
    chosen += [anywhere[i] for i in np.sort(rng.choice(len(anywhere), rest, replace=False))]
    return _make_starts(prepared, slices, chosen)


def day_starts(prepared: Prepared, slices: Sequence[Slice]) -> Starts:
    """Returns one episode a session, from the bar before it to its last: independent days."""
    tape = prepared.compiled.tape
    opens = np.r_[(tape.flags[1:] & BarFlag.SESSION_START) != 0, False]
    chosen: list[tuple[int, int]] = []
    for number, part in enumerate(slices):
        window = np.arange(part.first_bar, min(part.stop_bar, part.end_bar))
        chosen += [(int(bar), number) for bar in window[opens[window]]]
    starts = _make_starts(prepared, slices, chosen)
    following = np.r_[starts.bar[1:], starts.end_bar[-1:]]
    is_next = following > starts.bar
    end = np.where(is_next, np.minimum(following, starts.end_bar), starts.end_bar)
    return dataclasses.replace(starts, end_bar=end)


def shorten(prepared: Prepared, starts: Starts, days: int) -> Starts:
    """Returns the starts with episodes of at most `days` calendar days from their first day."""
    tape_day = prepared.compiled.tape.day
    ends = []
    for bar, end, day in zip(starts.bar, starts.end_bar, starts.day, strict=True):
        stop = bar + 1 + np.searchsorted(tape_day[bar + 1 : end + 1], day + days)
        ends.append(max(int(stop) - 1, int(bar) + 1))
    return dataclasses.replace(starts, end_bar=np.array(ends, np.int64))


def _make_starts(
    prepared: Prepared, slices: Sequence[Slice], chosen: Sequence[tuple[int, int]]
) -> Starts:
    bars = np.array([bar for bar, _ in chosen], np.int64)
    parts = [slices[number] for _, number in chosen]
    return Starts(
        bar=bars,
        end_bar=np.array([p.end_bar for p in parts], np.int64),
        slice=np.array([p.name for p in parts]),
        market=np.array([p.market for p in parts], np.int64),
        day=prepared.compiled.tape.next_day[bars].astype(np.int64),
    )
