"""Markets in which what could be predicted is destroyed and everything else is kept.

Each function takes a tape and a seed and gives a tape of as many bars of the same contract. They
differ in what they destroy; docs/nulltest.md says which kind of edge survives which of them. All
of them work on moves: a bar's four prices less the close before it. The gap before a session is a
move of that session, the gap of a contract roll is no move and stays as it was.

A tape built from other moves may wander below one tick. It is then raised as a whole, which
changes nothing beyond rounding: features, fills and money know differences of prices only.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.market.clock import DAY_NS, MINUTE_NS, session_ns, trade_date

__all__ = ["BLOCK_MINUTES", "GROUP_SESSIONS", "bar_flip", "block_permute", "mirror", "sign_flip"]

I64 = NDArray[np.int64]

BLOCK_MINUTES = 60
"""Length of the stretches of a session that block_permute keeps whole, minutes."""
GROUP_SESSIONS = 20
"""Sessions, about a month, among which block_permute moves them."""


@dataclass(frozen=True, kw_only=True)
class _Moves:
    """A tape as moves, ticks; int64 [B].

    Attributes:
        open: open less the close before; 0 on the first bar of a session or of a contract month.
        high: high less the same.
        low: low less the same.
        close: close less the same.
        gap: what lies between the close before and that reference, 0 on all other bars.
    """

    open: I64
    high: I64
    low: I64
    close: I64
    gap: I64


def sign_flip(bars: Bars, *, seed: int) -> Bars:
    """Mirrors each session, and the gap before it, with probability 1/2.

    Destroys direction: drift, of the whole market or of an hour or weekday, and the relation of a
    session's direction to that of others. Keeps what is the same upside down, such as reversion
    inside a session.

    Args:
        bars: a tape.
        seed: of the coins, one a session.
    """
    session = _sessions(bars)
    coins = np.random.default_rng(seed).integers(0, 2, int(session[-1]) + 1)
    return mirror(bars, (2 * coins - 1)[session])


def bar_flip(bars: Bars, *, seed: int) -> Bars:
    """Mirrors each bar, and the gap before it, with probability 1/2.

    Destroys every relation of anything to the direction of what follows, inside the session and
    beyond it. Keeps the size of every move, with the clustering of volatility and its daily shape,
    and volume. If the market's moves are symmetric given all that, the result is a draw from the
    very distribution that the market itself was drawn from.

    Args:
        bars: a tape.
        seed: of the coins, one a bar.
    """
    coins = np.random.default_rng(seed).integers(0, 2, len(bars))
    return mirror(bars, 2 * coins - 1)


def mirror(bars: Bars, sign: NDArray[np.integer]) -> Bars:
    """Turns the moves of chosen bars upside down: a rise becomes a fall, the high the low.

    Args:
        bars: a tape.
        sign: 1 keeps a bar's move, -1 mirrors it; [B].

    Raises:
        BarsError: a sign is missing, or is neither 1 nor -1.
    """
    if sign.shape != (len(bars),) or not np.isin(sign, (-1, 1)).all():
        raise BarsError(
            f"{bars.contract.symbol}: mirror was given signs of shape {sign.shape} for "
            f"{len(bars):,} bars; it needs one sign a bar, each 1 or -1."
        )
    moves = _moves(bars)
    is_kept = sign > 0
    is_roll = np.r_[False, bars.expiry[1:] != bars.expiry[:-1]]
    turned = _Moves(
        open=sign * moves.open,
        high=np.where(is_kept, moves.high, -moves.low),
        low=np.where(is_kept, moves.low, -moves.high),
        close=sign * moves.close,
        gap=np.where(is_roll, moves.gap, sign * moves.gap),
    )
    return _rebuild(bars, turned)


def block_permute(
    bars: Bars,
    *,
    seed: int,
    block_minutes: int = BLOCK_MINUTES,
    group_sessions: int = GROUP_SESSIONS,
) -> Bars:
    """Deals each hour of the session out anew among the sessions of about a month.

    Sessions are cut at fixed times of the Eastern clock; the blocks of one time change places at
    random among neighboring sessions of equal hours, each time of day for itself, with their bars,
    volume and empty minutes. Destroys every relation between one block and another, so between
    morning and afternoon and between days. Keeps the paths inside a block, what a time of day has
    of its own (volatility, volume, drift) and the month. Gaps between sessions stay in their
    places. A session with a roll inside it, or with bars outside the calendar, stays as it is.

    Args:
        bars: a tape.
        seed: of the permutations.
        block_minutes: length of a block, minutes from 18:00 Eastern; 1440 moves whole sessions.
        group_sessions: sessions among which blocks change places.

    Raises:
        BarsError: a length below 1.
    """
    if block_minutes < 1 or group_sessions < 1:
        raise BarsError(
            f"block_permute: block_minutes was {block_minutes}, group_sessions {group_sessions}; "
            "both must be at least 1."
        )
    session, minute_ns = _sessions(bars), session_ns(bars.ts)
    first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    block = minute_ns // (block_minutes * MINUTE_NS)
    goes_to, is_fixed = _deal(bars, session, first, int(block.max()) + 1, group_sessions, seed)
    target = goes_to[session, block]
    base = bars.ts[first] - minute_ns[first]
    ts = np.where(is_fixed[session], bars.ts, base[target] + minute_ns)
    order = np.argsort(ts, kind="stable")
    moves = _moves(bars)
    is_roll = np.r_[False, bars.expiry[1:] != bars.expiry[:-1]]
    gap = np.where(is_fixed[session] & is_roll, moves.gap, 0)[order]
    now = target[order]
    gap[np.r_[True, now[1:] != now[:-1]]] = moves.gap[first][np.unique(now)]
    expiry = np.where(is_fixed[session], bars.expiry, bars.expiry[first][target])
    dealt = _Moves(
        open=moves.open[order],
        high=moves.high[order],
        low=moves.low[order],
        close=moves.close[order],
        gap=gap,
    )
    moved = replace(bars, ts=ts[order], volume=bars.volume[order], expiry=expiry[order])
    return _rebuild(moved, dealt)


def _deal(
    bars: Bars, session: I64, first: I64, n_blocks: int, group_sessions: int, seed: int
) -> tuple[I64, NDArray[np.bool_]]:
    """Returns the session that each block goes to [S, blocks], and which sessions stay [S]."""
    kind = _kinds(bars, session, first)
    rng = np.random.default_rng(seed)
    goes_to = np.repeat(np.arange(len(first))[:, None], n_blocks, axis=1)
    for value in np.unique(kind[kind >= 0]):
        alike = np.flatnonzero(kind == value)
        for group in np.array_split(alike, max(len(alike) // group_sessions, 1)):
            for block in range(n_blocks):
                goes_to[group, block] = rng.permutation(group)
    return goes_to, kind < 0


def _kinds(bars: Bars, session: I64, first: I64) -> I64:
    """Returns a number for the hours that each session trades, -1 where it must stay; int64 [S]."""
    calendar = load_calendar(bars.contract.calendar)
    known = calendar.sessions(int(bars.ts[0]), int(bars.ts[-1]) + 7 * DAY_NS)
    located = known.locate(bars.ts).astype(np.int64)
    base = bars.ts - session_ns(bars.ts)
    odd = (located < 0) | (located != located[first][session]) | (base != base[first][session])
    odd |= bars.expiry != bars.expiry[first][session]
    is_odd = np.bincount(session, weights=odd, minlength=len(first)) > 0
    at = np.maximum(located[first], 0)
    pause = np.where(known.pause_start_ns > 0, known.pause_start_ns - known.open_ns, 0)
    hours = np.stack(
        [session_ns(known.open_ns)[at], (known.close_ns - known.open_ns)[at], pause[at]], axis=1
    )
    _, kind = np.unique(hours, axis=0, return_inverse=True)
    return np.where(is_odd, -1, kind.reshape(-1)).astype(np.int64)


def _sessions(bars: Bars) -> I64:
    """Returns the index of each bar's session, counted in trade dates that have bars; int64 [B].

    Raises:
        BarsError: the tape has no bars.
    """
    if len(bars) == 0:
        raise BarsError(
            f"{bars.contract.symbol}: the tape has 0 bars; a null market is made of at least 1. "
            "Widen the range of dates that was asked for."
        )
    date = trade_date(bars.ts)
    return np.cumsum(np.r_[False, date[1:] != date[:-1]])


def _moves(bars: Bars) -> _Moves:
    """Takes a tape apart into moves."""
    opened, high, low, close = (
        column.astype(np.int64) for column in (bars.open, bars.high, bars.low, bars.close)
    )
    session = _sessions(bars)
    alone = np.r_[True, (session[1:] != session[:-1]) | (bars.expiry[1:] != bars.expiry[:-1])]
    before = np.r_[opened[:1], close[:-1]]
    reference = np.where(alone, opened, before)
    return _Moves(
        open=opened - reference,
        high=high - reference,
        low=low - reference,
        close=close - reference,
        gap=reference - before,
    )


def _rebuild(bars: Bars, moves: _Moves) -> Bars:
    """Returns the tape that begins where `bars` does and makes these moves, at least 1 tick high.

    Raises:
        BarsError: the price would leave int32.
    """
    closes = int(bars.open[0]) + np.cumsum(moves.close + moves.gap)
    reference = closes - moves.close
    lowest = int((reference + moves.low).min())
    reference += max(int(bars.low.min()) - lowest, 0) if lowest < 1 else 0
    highest = int((reference + moves.high).max())
    if highest > np.iinfo(np.int32).max:
        raise BarsError(
            f"{bars.contract.symbol}: a null market of these {len(bars):,} bars reached a price of "
            f"{highest:,} ticks; at most 2,147,483,647 can be held. Use fewer bars."
        )

    def ticks(values: I64) -> NDArray[np.int32]:
        return (reference + values).astype(np.int32)

    return replace(
        bars,
        open=ticks(moves.open),
        high=ticks(moves.high),
        low=ticks(moves.low),
        close=ticks(moves.close),
    )
