"""Which bars are for training, which for the gates, and which are held out for the verdict.

Time is cut, never shuffled: training first, then the gate slices, then the test slices, with an
embargo between them, so that no training episode touches a bar that a verdict is spoken on. Named
windows (see `windows`) may lie in another order; training is then purged around them.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.evaluate.windows import (
    GATE_PART,
    MOST_GATE_DAYS,
    MOST_TEST_DAYS,
    TEST_PART,
    SliceConfig,
)
from passline.market.clock import EPOCH, trade_date
from passline.sim.layout import BarFlag
from passline.task.features import WARMUP_SESSIONS
from passline.task.prepare import Prepared

__all__ = [
    "Ranges",
    "Slice",
    "SliceConfig",
    "Split",
    "Starts",
    "by_month",
    "day_starts",
    "evaluation_starts",
    "final_slices",
    "require_features",
    "shorten",
    "split",
    "train_slices",
]

I64 = NDArray[np.int64]
Ranges = list[tuple[int, int]]

LEAST_TRAIN_DAYS = 40
"""Trading days that must be left for training."""
PURGE_SESSIONS = 30
"""Sessions after a held-out window that are not trained on, though the embargo is over: features
look back over twenty days of session time at most, and sessions may be short."""


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
    """Cuts every market by time: by named windows if there are any, by days otherwise.

    Dates count alike on all markets, since markets of one date share their luck: what is held out
    of one is trained on in none. The final window is not cut here; its bars are not in `prepared`
    (see `windows.hide_final`).

    Raises:
        ConfigError: a market is too short for its gate and test days or has no bar with known
            features, a named slice holds no bars, or the market left out is not there or has no
            test slice.
    """
    require_features(prepared)
    cut = _split_named(prepared, config) if config.named else _split_by_days(prepared, config)
    return _leave_out(prepared, cut, config.leave_out) if config.leave_out else cut


def _leave_out(prepared: Prepared, cut: Split, symbol: str) -> Split:
    """Keeps a market for the verdict alone: its test slices, and all else of the others."""
    others = _markets_but(prepared, symbol)
    test = tuple(part for part in cut.test if part.market not in others)
    if not test:
        raise ConfigError(
            f"no test slice lies on {symbol}, which is left out: the bars are those of "
            f"{_reach_text(prepared)}. Name its test slice with --slices."
        )
    gate = tuple(part for part in cut.gate if part.market in others)
    train = [part for part in cut.train if int(prepared.compiled.market[part[0]]) in others]
    if not gate or not train:
        raise ConfigError(
            f"without {symbol} there is no {'gate slice' if train else 'training bar'}: the bars "
            f"are those of {_reach_text(prepared)}. Give other bars, or name slices with --slices."
        )
    return Split(train=train, gate=gate, test=test)


def _markets_but(prepared: Prepared, symbol: str) -> set[int]:
    """Returns the numbers of the markets that trade another contract.

    Raises:
        ConfigError: none does, or none trades the contract.
    """
    symbols = [b.contract.symbol for b in prepared.bars]
    others = {market for market, own in enumerate(symbols) if own != symbol}
    if len(others) in (0, len(symbols)):
        raise ConfigError(
            f"leave_out was '{symbol}', the markets {', '.join(symbols)}; it must be one of at "
            "least two contracts."
        )
    return others


def final_slices(prepared: Prepared, config: SliceConfig, start: date) -> tuple[Slice, ...]:
    """Returns the slices of the final window, which only its opening may ask for.

    Args:
        prepared: markets with all their bars.
        config: how time is cut.
        start: first trading day of the window (see `windows.final_start`).

    Raises:
        ConfigError: a named final slice holds no bars.
    """
    if config.named:
        return _on_left_out(prepared, _named_slices(prepared, config, "final"), config)
    found: list[Slice] = []
    for market, days in _days_by_market(prepared):
        at = int(np.searchsorted(days, (start - EPOCH).days))
        first = prepared.first_bar[market]
        if at < len(days):
            found += by_month(prepared, "final", market, first + at, first + len(days))
    return _on_left_out(prepared, tuple(found), config)


def _on_left_out(
    prepared: Prepared, slices: tuple[Slice, ...], config: SliceConfig
) -> tuple[Slice, ...]:
    """Returns the slices of the market that is left out; all if none is."""
    if not config.leave_out:
        return slices
    others = _markets_but(prepared, config.leave_out)
    return tuple(part for part in slices if part.market not in others)


def require_features(prepared: Prepared) -> None:
    """Refuses markets that end before their first bar with known features.

    Raises:
        ConfigError: one does; it says how many trading days it has and how many are needed.
    """
    for market, first in enumerate(prepared.first_bar):
        if first < prepared.offsets[market + 1]:
            continue
        bars = prepared.bars[market]
        raise ConfigError(
            f"{bars.contract.symbol}: the bars hold {len(np.unique(trade_date(bars.ts)))} trading "
            f"days, and features are known only after {WARMUP_SESSIONS} whole ones. Give more "
            f"bars: {WARMUP_SESSIONS + 1} trading days at least to be played, and "
            f"{WARMUP_SESSIONS + LEAST_TRAIN_DAYS} beside those held out to be trained on."
        )


def _days_by_market(prepared: Prepared) -> list[tuple[int, NDArray[np.int32]]]:
    """Returns each market's number and the trading day of its bars with known features."""
    day = np.asarray(prepared.compiled.tape.day)
    return [
        (market, day[first : prepared.offsets[market + 1]])
        for market, first in enumerate(prepared.first_bar)
    ]


def _split_by_days(prepared: Prepared, config: SliceConfig) -> Split:
    """Cuts by days, counted back from the last trading day of all markets."""
    train: Ranges = []
    gate: list[Slice] = []
    test: list[Slice] = []
    by_market = _days_by_market(prepared)
    last_day = max(int(days[-1]) for _, days in by_market)
    n_days = last_day - min(int(days[0]) for _, days in by_market) + 1
    test_days = config.test_days or max(min(n_days // TEST_PART, MOST_TEST_DAYS), 1)
    gate_days = config.gate_days or max(min(n_days // GATE_PART, MOST_GATE_DAYS), 1)
    test_from = last_day - test_days + 1
    gate_to = test_from - config.embargo_days
    gate_from = gate_to - gate_days
    train_to = gate_from - config.embargo_days
    for market, days in by_market:
        first, stop = prepared.first_bar[market], prepared.offsets[market + 1]
        symbol = prepared.bars[market].contract.symbol
        cuts = [
            first + int(np.searchsorted(days, d)) for d in (train_to, gate_from, gate_to, test_from)
        ]
        n_train_days = len(np.unique(days[: cuts[0] - first]))
        if n_train_days < LEAST_TRAIN_DAYS and symbol != config.leave_out:
            held = test_days + gate_days + 2 * config.embargo_days
            raise ConfigError(
                f"{symbol}: {n_train_days} trading days are left for training after {held} "
                f"calendar days were held out of {last_day - int(days[0]) + 1}; at least "
                f"{LEAST_TRAIN_DAYS} are needed. Give more bars, or lower --test-days and "
                "--gate-days."
            )
        train.append((first, cuts[0]))
        gate += by_month(prepared, "gate", market, cuts[1], cuts[2])
        test += by_month(prepared, "test", market, cuts[3], stop)
    return Split(train=train, gate=tuple(gate), test=tuple(test))


def _split_named(prepared: Prepared, config: SliceConfig) -> Split:
    """Cuts by named windows; training is what they leave of its own windows, or of everything."""
    gate, test = (_named_slices(prepared, config, role) for role in ("gate", "test"))
    train: Ranges = []
    n_days = 0
    for market, days in _days_by_market(prepared):
        symbol, first = prepared.bars[market].contract.symbol, prepared.first_bar[market]
        may_train = _may_train(days, symbol, config)
        edges = np.flatnonzero(np.diff(np.r_[False, may_train, False].astype(np.int8)))
        train += [(first + int(a), first + int(b)) for a, b in edges.reshape(-1, 2)]
        n_days += len(np.unique(days[may_train]))
    if n_days < LEAST_TRAIN_DAYS:
        raise ConfigError(
            f"{n_days} trading days are left for training beside the named slices, their embargo "
            f"of {config.embargo_days} days and {PURGE_SESSIONS} sessions after each; at least "
            f"{LEAST_TRAIN_DAYS} are needed. Give more bars, or shorter slices."
        )
    return Split(train=train, gate=gate, test=test)


def _may_train(days: NDArray[np.int32], symbol: str, config: SliceConfig) -> NDArray[np.bool_]:
    """Tells which bars may be trained on: in a training window, and purged of what is held out.

    Before a held-out window the embargo is left out; training episodes end where their range ends,
    so none reaches in. After one, the embargo and as many sessions as features look back.
    """
    own = [w for w in config.named if w.role == "train" and w.on(symbol)]
    allowed = np.zeros(len(days), bool)
    for window in own:
        allowed |= (days >= _number(window.start)) & (days < _number(window.stop))
    if not any(w.role == "train" for w in config.named):
        allowed[:] = True
    sessions = np.unique(days)
    for window in config.named:
        if window.role == "train":
            continue
        begin = _number(window.start) - config.embargo_days
        after = int(np.searchsorted(sessions, _number(window.stop) + config.embargo_days))
        until = after + PURGE_SESSIONS
        allowed &= (days < begin) | (
            days >= sessions[until] if until < len(sessions) else np.zeros(len(days), bool)
        )
    return allowed


def _named_slices(prepared: Prepared, config: SliceConfig, role: str) -> tuple[Slice, ...]:
    """Lays the windows of a role over the markets; an episode must end inside its slice."""
    found: list[Slice] = []
    for window in (w for w in config.named if w.role == role):
        before = len(found)
        for market, days in _days_by_market(prepared):
            symbol, first = prepared.bars[market].contract.symbol, prepared.first_bar[market]
            a, b = (int(np.searchsorted(days, _number(d))) for d in (window.start, window.stop))
            if window.on(symbol) and a < b:
                found.append(
                    Slice(
                        name=window.name if window.contract else f"{window.name}-{symbol}",
                        market=market,
                        first_bar=first + a,
                        stop_bar=first + b,
                        end_bar=first + b - 1,
                    )
                )
        if len(found) == before:
            raise ConfigError(
                f"slice '{window.name}' ({window.start} to {window.stop}, "
                f"{window.contract or 'all markets'}) holds no bar with known features. The bars "
                f"are those of {_reach_text(prepared)}; correct its dates or contract."
            )
    return tuple(found)


def _reach_text(prepared: Prepared) -> str:
    return ", ".join(
        f"{prepared.bars[market].contract.symbol} from {days[[0]].astype('datetime64[D]')[0]} to "
        f"{days[[-1]].astype('datetime64[D]')[0]}"
        for market, days in _days_by_market(prepared)
    )


def _number(day: date) -> int:
    return (day - EPOCH).days


def train_slices(prepared: Prepared, train: Ranges) -> list[Slice]:
    """Returns the training ranges as slices, so that episodes can be played on them like others."""
    market = prepared.compiled.market
    return [
        Slice(
            name="train",
            market=int(market[first]),
            first_bar=first,
            stop_bar=stop,
            end_bar=stop - 1,
        )
        for first, stop in train
    ]


def by_month(prepared: Prepared, kind: str, market: int, first: int, stop: int) -> list[Slice]:
    """Names a stretch's months; an episode may run on to the end of the stretch.

    There are none of a market whose bars end before it.
    """
    if stop <= first:
        return []
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
            f"{slices[0].name if slices else 'the stretch'} and what follows it have no room for "
            f"one episode of {span_days} calendar days. Give more bars, or move the cut with "
            "--test-days and --gate-days."
        )
    rng = np.random.default_rng(seed)
    half = min((n + 1) // 2, len(fixed))
    chosen = [fixed[i] for i in np.unique(np.linspace(0, len(fixed) - 1, half).round().astype(int))]
    rest = min(n - len(chosen), len(anywhere))
    chosen += [anywhere[i] for i in np.sort(rng.choice(len(anywhere), rest, replace=False))]
    return _make_starts(prepared, slices, chosen)


def day_starts(prepared: Prepared, slices: Sequence[Slice]) -> Starts:
    """Returns one episode a session, from the bar before it to its last.

    A trading day has two of them where a holiday's half session counts for it; they have the same
    `day`.
    """
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
