"""Verdicts on executed trades: both orders of prices between fills, compared; one book or many.

`audit` answers for one rulebook, `audit_books` for several. The numbers come from `account`;
docs/audit.md says what each means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np

from passline.evaluate.audit.account import walk_account
from passline.evaluate.audit.timeline import Timeline, build_timeline
from passline.evaluate.audit.trips import Trips
from passline.evaluate.audit.walk import Path, Violation, Walk
from passline.market.bars import Bars
from passline.market.calendar import load_calendar
from passline.rulebook.model import Rulebook, usd
from passline.sim.compile import flat_by_ns
from passline.sim.layout import DoneReason, Outcome

__all__ = ["Audit", "audit", "audit_books", "late_trips"]

Verdict = Literal["passed", "breached", "timed_out", "open", "undecided"]

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What one rulebook would have made of the trades.

    Attributes:
        book: the rulebook.
        verdict: the outcome, or undecided where it depends on unseen prices between fills.
        worst: the walk along the worst path.
        best: the walk along the best path.
        timeline: the events walked.
    """

    book: Rulebook
    verdict: Verdict
    worst: Walk
    best: Walk
    timeline: Timeline

    @property
    def is_intratrade_seen(self) -> bool:
        """Whether the prices inside every trade were known."""
        return self.timeline.sight != "fills"

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Rules broken without ending the account, on the worst path."""
        return tuple(self.worst.violations)

    def sentence(self) -> str:
        """Returns the verdict in words."""
        walk, book = self.worst, self.book
        if self.verdict == "undecided":
            texts = [_outcome_text(w, book) for w in (self.worst, self.best)]
            return (
                f"Undecided: {texts[0]} if the unseen prices fell badly, {texts[1]} if they fell "
                "well. Finer bars can decide it."
            )
        text = f"{_outcome_text(walk, book)}."
        text = text[0].upper() + text[1:]
        if not self.is_intratrade_seen:
            text += (
                " Judged on fills alone: a breach on open loss inside a trade cannot be seen, so "
                "this is the best that can be true."
            )
        if walk.violations:
            counts = {v.rule: 0 for v in walk.violations}
            for violation in walk.violations:
                counts[violation.rule] += 1
            listed = ", ".join(f"{name} {n}" for name, n in counts.items())
            text += f" Rules broken on the way: {listed}."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Returns the audit as JSON-ready data, money as decimal strings of USD."""
        walk = self.worst
        return {
            "rulebook": self.book.id,
            "fingerprint": self.book.fingerprint(),
            "outcome": self.verdict,
            "done_reason": walk.reason.name.lower(),
            "done_at": _iso(walk.done_ns),
            "sentence": self.sentence(),
            "sight": self.timeline.sight,
            "sight_counts": dict(self.timeline.sight_counts),
            "is_intratrade_seen": self.is_intratrade_seen,
            "n_trips": len(self.timeline.trips),
            "balance_usd": usd(walk.balance),
            "peak_usd": usd(walk.peak),
            "floor_usd": usd(walk.floor),
            "paths": {
                w.path.value: {
                    "outcome": w.outcome.name.lower(),
                    "done_reason": w.reason.name.lower(),
                    "done_at": _iso(w.done_ns),
                    "balance_usd": usd(w.balance),
                    "floor_usd": usd(w.floor),
                }
                for w in (self.worst, self.best)
            },
            "days": [_day_dict(self.book, walk, index) for index in range(len(walk.days))],
            "violations": [
                {
                    "rule": v.rule,
                    "at": _iso(v.ns),
                    "trip": v.trip,
                    **_amounts(v),
                }
                for v in walk.violations
            ],
            "notes": list(self.timeline.notes),
        }


def audit(trips: Trips, book: Rulebook, *, bars: Mapping[str, Bars] | None = None) -> Audit:
    """Judges trades by one rulebook.

    Args:
        trips: closed trades.
        book: an evaluation or a funded stage; payouts are not simulated here.
        bars: tapes by contract symbol.

    Raises:
        FillsError: the times or the bars do not fit the trades.
    """
    return audit_books(trips, [book], bars=bars)[0]


def audit_books(
    trips: Trips, books: Sequence[Rulebook], *, bars: Mapping[str, Bars] | None = None
) -> list[Audit]:
    """Judges trades by several rulebooks; the timeline is built once."""
    timeline = build_timeline(trips, bars)
    return [_judge(timeline, book) for book in books]


def _judge(timeline: Timeline, book: Rulebook) -> Audit:
    late = late_trips(timeline.trips, book)
    worst, best = (
        walk_account(timeline, book, path, late_ns=late) for path in (Path.WORST, Path.BEST)
    )
    is_same = (worst.outcome, worst.reason) == (best.outcome, best.reason)
    return Audit(
        book=book,
        verdict=_WORDS[worst.outcome] if is_same else "undecided",
        worst=worst,
        best=best,
        timeline=timeline,
    )


_WORDS: dict[Outcome, Verdict] = {
    Outcome.OPEN: "open",
    Outcome.PASSED: "passed",
    Outcome.BREACHED: "breached",
    Outcome.TIMED_OUT: "timed_out",
}


def late_trips(trips: Trips, book: Rulebook) -> dict[int, int]:
    """Returns the trades held beyond the book's flat-by time, with the moment they broke it, ns."""
    late: dict[int, int] = {}
    for lane, contract in enumerate(trips.contracts):
        mine = np.flatnonzero(trips.contract == lane)
        sessions = load_calendar(contract.calendar).all_sessions
        limits = flat_by_ns(sessions, book.clock.flat_by_minute)
        entries = trips.entry_ns[mine]
        index = np.searchsorted(sessions.close_ns, entries, side="right")
        limit = limits[np.minimum(index, len(limits) - 1)]
        moment = np.maximum(limit, entries)
        for trip, at, is_late in zip(mine, moment, trips.exit_ns[mine] > limit, strict=True):
            if is_late:
                late[int(trip)] = int(at)
    return late


_REASONS = {
    DoneReason.TARGET: "reached the target",
    DoneReason.FLOOR: "fell to the floor",
    DoneReason.DAILY_LIMIT: "lost the daily limit",
    DoneReason.LATE_FLAT: "held a position beyond flat-by",
    DoneReason.TIME_LIMIT: "ran out of time",
    DoneReason.DATA_END: "was still open when the file ended",
}


def _outcome_text(walk: Walk, book: Rulebook) -> str:
    word = _WORDS[walk.outcome].replace("_", " ")
    what = _REASONS.get(walk.reason, walk.reason.name.lower())
    text = f"{word} under {book.id}: {what} on {_iso(walk.done_ns)[:16].replace('T', ' ')} UTC"
    if walk.reason is DoneReason.FLOOR:
        text += f", floor {usd(walk.floor)} USD"
    return f"{text}, balance {usd(walk.balance)} USD"


def _day_dict(book: Rulebook, walk: Walk, index: int) -> dict[str, Any]:
    """Returns one day's distance to every rule."""
    day = walk.days[index]
    target = None if book.target is None else book.target.balance_mills
    total = day.close_balance - book.start_balance_mills
    return {
        "trade_date": (_EPOCH + timedelta(days=day.day)).isoformat(),
        "pnl_usd": usd(day.close_balance - day.open_balance),
        "close_balance_usd": usd(day.close_balance),
        "floor_usd": usd(day.close_floor),
        "low_equity_usd": usd(day.low_equity),
        "high_equity_usd": usd(day.high_equity),
        "to_floor_usd": usd(day.cushion),
        "to_floor_at": _iso(day.cushion_ns),
        "to_daily_limit_usd": None if day.limit_room is None else usd(day.limit_room),
        "to_target_usd": None if target is None else usd(target - day.close_balance),
        "best_day_usd": usd(day.best_day),
        "best_day_share": round(day.best_day / total, 4) if total > 0 else None,
        "n_days": day.n_days,
        "min_days": book.days.min_days,
        "days_left": day.days_left,
        "max_size_minis": day.max_units / 10,
        "size_limit_minis": day.size_units / 10,
        "n_trips": day.n_trips,
        "is_locked_out": day.is_locked_out,
    }


def _amounts(violation: Violation) -> dict[str, Any]:
    found, limit = violation.found, violation.limit
    if violation.rule == "mae":
        return {"found_usd": usd(found), "limit_usd": usd(limit)}
    if violation.rule == "size_limit":
        return {"found_minis": found / 10, "limit_minis": limit / 10}
    if violation.rule == "late_flat":
        return {"found_at": _iso(found), "limit_at": _iso(limit)}
    if violation.rule == "stop_to_target":
        return {"found_ticks": found, "limit_ticks": limit}
    return {}


def _iso(ns: int) -> str:
    at = datetime.fromtimestamp(ns // 10**9, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
