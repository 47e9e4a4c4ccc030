"""From several contract months to one tape: which month is the front one, and where it changes.

A roll is decided before the session that it opens, from what was known at the end of the one
before. Nothing is joined over a roll: the tape's `expiry` changes there, and the list of rolls is
kept in the provenance.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import BarsError
from passline.market.clock import trade_date
from passline.market.contract import Contract
from passline.market.load.months import month_order
from passline.market.load.tape import Tape
from passline.market.load.zones import day_text, eastern_text

__all__ = ["ROLL_RULES", "Roll", "back_adjust", "check_month_order", "find_rolls", "select_front"]

ROLL_RULES = ("none", "volume", "calendar")
_THIRD_FRIDAY = {"ES", "NQ", "YM", "RTY", "MES", "MNQ", "MYM", "M2K"}
_LOOKBACK_NS = 5 * 86_400 * 10**9
_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll:
    """A change of contract month.

    Attributes:
        ts: open time of the first bar of the new month, UTC ns.
        before: month left.
        after: month entered.
        difference_ticks: price of the new month less the old, ticks.
        basis: common bar (closes of both months at their last common bar) or gap (first open less
            last close, which holds the market's own move too).
    """

    ts: int
    before: str
    after: str
    difference_ticks: int
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the roll as plain data, with its trade date."""
        return {
            "ts": self.ts,
            "trade_date": day_text(int(trade_date(np.array([self.ts]))[0])),
            "first_bar": eastern_text(self.ts),
            "before": self.before,
            "after": self.after,
            "difference_ticks": self.difference_ticks,
            "basis": self.basis,
        }


def _orders(tape: Tape, contract: Contract) -> list[int]:
    year = 1970 + int(tape.ts[0] // (365.2425 * 86_400 * 10**9))
    return [month_order(month, contract, year) if month else 0 for month in tape.months]


def _by_volume(
    codes: NDArray[np.int64], days: NDArray[np.int64], tape: Tape, orders: list[int]
) -> NDArray[np.int64]:
    n_days, n_months = int(days[-1]) + 1, len(tape.months)
    if not (tape.volume > 0).any():
        raise BarsError(
            "--roll volume needs a volume, and the file has none. Use --roll calendar, or import "
            "one contract month a time"
        )
    weights = np.maximum(tape.volume, 0).astype(np.float64)
    total = np.bincount(days * n_months + codes, weights=weights, minlength=n_days * n_months)
    total = total.reshape(n_days, n_months)
    front = int(total[0].argmax())
    chosen = np.empty(n_days, dtype=np.int64)
    for day in range(n_days):
        best = int(total[max(day - 1, 0)].argmax())
        if orders[best] > orders[front] and total[max(day - 1, 0)][best] > 0:
            front = best
        chosen[day] = front
    return chosen


def _roll_day(order: int) -> date:
    """Returns the Monday of the third Friday's week, CME's roll of equity index futures."""
    year, month = divmod(order, 12)
    first = date(year, month + 1, 1)
    third_friday = first + timedelta(days=(4 - first.weekday()) % 7 + 14)
    return third_friday - timedelta(days=4)


def _by_calendar(
    unique_days: NDArray[np.int32], contract: Contract, tape: Tape, orders: list[int]
) -> NDArray[np.int64]:
    if contract.symbol not in _THIRD_FRIDAY:
        raise BarsError(
            f"--roll calendar was asked for {contract.symbol}; it is known for "
            f"{', '.join(sorted(_THIRD_FRIDAY))}, whose months end on a third Friday. "
            "Use --roll volume"
        )
    chosen = np.empty(len(unique_days), dtype=np.int64)
    by_order = sorted(range(len(orders)), key=orders.__getitem__)
    for index, day in enumerate(unique_days.tolist()):
        when = date(1970, 1, 1) + timedelta(days=day)
        alive = [code for code in by_order if orders[code] and when < _roll_day(orders[code])]
        chosen[index] = alive[0] if alive else by_order[-1]
    return chosen


def select_front(tape: Tape, contract: Contract, rule: str, name: str) -> Tape:
    """Keeps one row a time: the front month by the rule.

    Args:
        tape: rows of one or more months; times rise within each month.
        contract: their product.
        rule: none (the file must hold one month a time), volume (from the session after the one
            in which a later month traded more; the first session by its own volume) or calendar
            (from the Monday of expiry week).
        name: the file, for messages.

    Raises:
        BarsError: several months at one time and no rule, or a rule that cannot be applied.
    """
    if rule not in ROLL_RULES:
        raise BarsError(f"--roll was {rule!r}. Known rules: {', '.join(ROLL_RULES)}")
    if len(tape.months) == 1:
        return tape
    order = np.lexsort((tape.code, tape.ts))
    tape = tape.take(order) if not _is_sorted(order) else tape
    same = tape.ts[1:] == tape.ts[:-1]
    if rule == "none" and not same.any():
        return tape
    if rule == "none":
        first = int(np.argmax(same))
        shown = ", ".join(tape.months[:_SHOWN])
        more = f" and {len(tape.months) - _SHOWN} more" if len(tape.months) > _SHOWN else ""
        raise BarsError(
            f"{name}: {len(tape.months)} contract months ({shown}{more}), and "
            f"{int(same.sum()):,} times have a bar of more than one; first at "
            f"{eastern_text(tape.ts[first])}. Choose how the front month is found with "
            "--roll volume or --roll calendar, or keep one with --symbols"
        )
    if "" in tape.months:
        raise BarsError(
            f"{name}: --roll {rule} needs the contract month of every row, and some name none"
        )
    unique_days, days = np.unique(trade_date(tape.ts), return_inverse=True)
    codes = tape.code.astype(np.int64)
    orders = _orders(tape, contract)
    if rule == "volume":
        chosen = _by_volume(codes, days.astype(np.int64), tape, orders)
    else:
        chosen = _by_calendar(unique_days, contract, tape, orders)
    kept = tape.take(codes == chosen[days])
    if not len(kept):
        raise BarsError(f"{name}: --roll {rule} leaves no bar; the months do not reach their turn")
    return kept


def _is_sorted(order: NDArray[np.int64]) -> bool:
    return bool((order[1:] > order[:-1]).all())


def _last_common(full: Tape, old: int, new: int, before: int) -> int | None:
    """Returns close of `new` less close of `old` at their last common time before a time."""
    low = int(np.searchsorted(full.ts, before - _LOOKBACK_NS))
    high = int(np.searchsorted(full.ts, before))
    code, ts, close = full.code[low:high], full.ts[low:high], full.ticks[3][low:high]
    is_old, is_new = code == old, code == new
    _, at_old, at_new = np.intersect1d(ts[is_old], ts[is_new], return_indices=True)
    if not len(at_old):
        return None
    return int(close[is_new][at_new[-1]]) - int(close[is_old][at_old[-1]])


def find_rolls(front: Tape, full: Tape) -> tuple[Roll, ...]:
    """Lists the changes of month of a selected tape.

    Args:
        front: one row a time, from `select_front`.
        full: all months, from which closes at a common bar are read.
    """
    if len(full) > len(front):
        order = np.lexsort((full.code, full.ts))
        full = full if _is_sorted(order) else full.take(order)
    rolls = []
    for index in (np.flatnonzero(front.code[1:] != front.code[:-1]) + 1).tolist():
        old, new = int(front.code[index - 1]), int(front.code[index])
        ts = int(front.ts[index])
        common = _last_common(full, old, new, ts) if len(full) > len(front) else None
        gap = int(front.ticks[0][index]) - int(front.ticks[3][index - 1])
        rolls.append(
            Roll(
                ts=ts,
                before=front.months[old],
                after=front.months[new],
                difference_ticks=gap if common is None else common,
                basis="gap" if common is None else "common bar",
            )
        )
    return tuple(rolls)


def back_adjust(tape: Tape, rolls: tuple[Roll, ...]) -> Tape:
    """Adds to all bars before each roll its difference, so that no price jumps at a roll.

    The newest month keeps its prices; earlier ones move by whole ticks: p'[k] = p[k] + sum of
    `difference_ticks` over the rolls after k.
    """
    shift = np.zeros(len(tape) + 1, dtype=np.int64)
    for roll in rolls:
        shift[int(np.searchsorted(tape.ts, roll.ts))] += roll.difference_ticks
    later = int(shift.sum()) - np.cumsum(shift)[: len(tape)]
    ticks = [(column + later).astype(np.int32) for column in tape.ticks]
    return replace(tape, ticks=ticks)


def check_month_order(tape: Tape, rolls: tuple[Roll, ...], contract: Contract, name: str) -> None:
    """Raises BarsError when the front month goes back in time."""
    year = 1970 + int(tape.ts[0] // (365.2425 * 86_400 * 10**9))
    for roll in rolls:
        if not roll.before or not roll.after:
            continue
        old = month_order(roll.before, contract, year)
        new = month_order(roll.after, contract, year)
        is_long_year = roll.before[-2:].isdigit()
        if new < old and is_long_year:
            raise BarsError(
                f"{name}: the tape goes back from {roll.before} to {roll.after} at "
                f"{eastern_text(roll.ts)}. A front month never returns; two exports are mixed, or "
                "spread months stand among the front ones"
            )
