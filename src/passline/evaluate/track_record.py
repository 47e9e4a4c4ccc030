"""A track record: one account after another through a test window, as a trader would live it.

The account that ended is followed by a fresh one on the next trading day, so that every trading
day counts once. Pass rates come from many overlapping episodes; this is the one path through them
that a person could have walked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.judge import begin_at, with_path
from passline.evaluate.policies import Greedy, Policy
from passline.evaluate.rollout import MAX_DAYS, play_episodes
from passline.evaluate.slices import Slice, Starts, day_starts
from passline.sim.layout import DoneReason
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["Account", "TrackRecord", "chain_accounts", "keep_record"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Account:
    """One account of the chain.

    Attributes:
        market: its contract.
        first_day: its first trading day, days since 1970-01-01.
        last_day: its last.
        done_reason: how it ended, a DoneReason in lower case.
        result_mills: net result.
    """

    market: str
    first_day: int
    last_day: int
    done_reason: str
    result_mills: int


@dataclass(frozen=True, kw_only=True)
class TrackRecord:
    """What the accounts made, trading day by trading day.

    Attributes:
        day: trading days, days since 1970-01-01 [D].
        result_mills: net result of each, all markets together [D].
        accounts: in the order they began.
    """

    day: I64
    result_mills: I64
    accounts: tuple[Account, ...]


def keep_record(
    prepared: Prepared,
    params: TaskParams,
    greedy: Greedy,
    policy: Policy,
    slices: Sequence[Slice],
    *,
    seed: int,
) -> TrackRecord:
    """Plays one account after another through the slices, in each market by itself.

    Args:
        prepared: the markets.
        params: constants of the phase whose rules hold; the worst path is played.
        greedy: the agent's rule.
        policy: who acts.
        slices: the test window.
        seed: of the policy's draws.
    """
    worst = with_path(params, "worst")
    start_balance = int(prepared.rules.start_balance)
    results: dict[int, int] = {}
    accounts: list[Account] = []
    for market in sorted({part.market for part in slices}):
        own = [part for part in slices if part.market == market]
        starts = _account_starts(prepared, own)
        played = play_episodes(worst, greedy, policy, begin_at(worst, starts), seed=seed)
        by_day, chain = chain_accounts(played.n_days, played.day_equity, start_balance)
        for day, result in zip(starts.day.tolist(), by_day.tolist(), strict=True):
            results[day] = results.get(day, 0) + result
        accounts += [
            Account(
                market=prepared.bars[market].contract.symbol,
                first_day=int(starts.day[first]),
                last_day=int(starts.day[last]),
                done_reason=DoneReason(int(played.sim.done_reason[first])).name.lower(),
                result_mills=int(played.equity[first]) - start_balance,
            )
            for first, last in chain
        ]
    days = np.array(sorted(results), np.int64)
    return TrackRecord(
        day=days,
        result_mills=np.array([results[int(day)] for day in days], np.int64),
        accounts=tuple(sorted(accounts, key=lambda a: (a.first_day, a.market))),
    )


def _account_starts(prepared: Prepared, slices: Sequence[Slice]) -> Starts:
    """Returns one start a trading day, in its first session, to the end of the window.

    A holiday's half session counts for the next full day, so that a day may have two sessions.
    """
    every = day_starts(prepared, slices)
    _, first = np.unique(every.day, return_index=True)
    return Starts(
        bar=every.bar[first],
        end_bar=np.full(len(first), slices[0].end_bar, np.int64),
        slice=every.slice[first],
        market=every.market[first],
        day=every.day[first],
    )


def chain_accounts(
    n_days: Any, day_equity: Any, start_balance: int
) -> tuple[I64, list[tuple[int, int]]]:
    """Walks from account to account; one could begin on every one of D trading days.

    Args:
        n_days: trading days that each lived [D].
        day_equity: equity at the close of each of them, mills [D, MAX_DAYS]; of an account that
            lived longer the last column holds its end.
        start_balance: mills.

    Returns:
        (net result of each trading day, mills [D]; first and last of each account).
    """
    n_total = len(n_days)
    results = np.zeros(n_total, np.int64)
    chain: list[tuple[int, int]] = []
    at = 0
    while at < n_total:
        lived = max(int(n_days[at]), 1)
        kept = min(lived, MAX_DAYS, n_total - at)
        equity = np.r_[start_balance, np.asarray(day_equity[at][:kept], np.int64)]
        results[at : at + kept] = np.diff(equity)
        last = min(at + lived, n_total) - 1
        chain.append((at, last))
        at = last + 1
    return results, chain
