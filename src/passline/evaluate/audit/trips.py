"""Closed trades as columns, and fills matched first in, first out into closed trades.

Money is gross of commissions unless it says otherwise, in mills. Reading files lives in `formats`,
judging in `judge`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from passline.market.contract import Contract

__all__ = ["UNKNOWN", "Fill", "Trips", "match_fills"]

I64 = NDArray[np.int64]

UNKNOWN = -1
"""Stands in excursion, commission and distance columns for what the source does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fill:
    """One execution.

    Attributes:
        ns: time, UTC ns.
        symbol: contract symbol, such as ES.
        month: name of the contract as the file spells it; fills match only within it.
        signed_qty: contracts bought (above 0) or sold (below).
        price_ticks: price.
        commission_mills: paid for this fill; UNKNOWN if the file does not tell.
    """

    ns: int
    symbol: str
    month: str
    signed_qty: int
    price_ticks: int
    commission_mills: int


@dataclass(frozen=True, kw_only=True)
class Trips:
    """Closed trades in order of entry, one element each; int64 [n] unless said otherwise.

    Attributes:
        contracts: the contracts traded.
        contract: index into `contracts`.
        entry_ns: time of the entry, UTC ns.
        exit_ns: time of the exit, UTC ns, not before the entry.
        side: 1 long, -1 short.
        qty: contracts, above 0.
        entry_ticks: entry price.
        exit_ticks: exit price.
        gross_mills: profit before commissions.
        commission_mills: both sides together; UNKNOWN where the source does not tell.
        mae_mills: largest open loss, 0 or more; UNKNOWN where the source does not tell.
        mfe_mills: largest open profit, 0 or more; UNKNOWN where the source does not tell.
        stop_ticks: distance of the stop; UNKNOWN where the source does not tell.
        target_ticks: distance of the target; UNKNOWN where the source does not tell.
        n_open: contracts of fills that no later fill closes, left out of the table.
    """

    contracts: tuple[Contract, ...]
    contract: I64
    entry_ns: I64
    exit_ns: I64
    side: I64
    qty: I64
    entry_ticks: I64
    exit_ticks: I64
    gross_mills: I64
    commission_mills: I64
    mae_mills: I64
    mfe_mills: I64
    stop_ticks: I64
    target_ticks: I64
    n_open: int = 0

    def __len__(self) -> int:
        return len(self.entry_ns)

    def select(self, index: I64 | NDArray[np.bool_]) -> "Trips":
        """Returns the trades of an index or mask, in its order."""
        columns = {
            f.name: getattr(self, f.name)[index]
            for f in fields(self)
            if f.name not in ("contracts", "n_open")
        }
        return replace(self, **columns)

    @property
    def has_excursions(self) -> bool:
        """Whether the source tells the largest open loss and profit of every trade."""
        return len(self) > 0 and bool(((self.mae_mills >= 0) & (self.mfe_mills >= 0)).all())

    def column(self, per_contract: Sequence[int]) -> I64:
        """Returns a number of each trade's contract; int64 [n]."""
        return np.asarray(per_contract, np.int64)[self.contract]


def match_fills(fills: Sequence[Fill], contracts: dict[str, Contract]) -> Trips:
    """Matches fills into closed trades, first in, first out, within each contract month.

    A fill's commission is shared out by contracts; a mill that does not divide goes to the part
    matched first.

    Args:
        fills: executions; sorted here by time, those of one instant keep their order.
        contracts: the contracts by symbol.
    """
    names = tuple(dict.fromkeys(fill.symbol for fill in fills))
    rows: list[tuple[int, ...]] = []
    queues: dict[tuple[str, str], deque[list[int]]] = {}
    for fill in sorted(fills, key=lambda f: f.ns):
        queue = queues.setdefault((fill.symbol, fill.month), deque())
        tick_mills = contracts[fill.symbol].tick_mills
        rows += _close(fill, queue, names.index(fill.symbol), tick_mills)
    n_open = sum(abs(lot[1]) for queue in queues.values() for lot in queue)
    table = np.asarray(sorted(rows), np.int64).reshape(len(rows), 9)
    unknown = np.full(len(rows), UNKNOWN, np.int64)
    return Trips(
        contracts=tuple(contracts[name] for name in names),
        entry_ns=table[:, 0],
        exit_ns=table[:, 1],
        contract=table[:, 2],
        side=table[:, 3],
        qty=table[:, 4],
        entry_ticks=table[:, 5],
        exit_ticks=table[:, 6],
        gross_mills=table[:, 7],
        commission_mills=table[:, 8],
        mae_mills=unknown,
        mfe_mills=unknown,
        stop_ticks=unknown,
        target_ticks=unknown,
        n_open=n_open,
    )


def _close(
    fill: Fill, queue: "deque[list[int]]", contract: int, tick_mills: int
) -> list[tuple[int, ...]]:
    """Closes lots [ns, signed_qty, price, commission] with a fill; what is left opens a lot."""
    rows: list[tuple[int, ...]] = []
    left, commission = fill.signed_qty, fill.commission_mills
    while left and queue and (queue[0][1] > 0) != (left > 0):
        lot = queue[0]
        qty = min(abs(lot[1]), abs(left))
        side = 1 if lot[1] > 0 else -1
        entry_cost, lot[3] = _share(lot[3], qty, abs(lot[1]))
        exit_cost, commission = _share(commission, qty, abs(left))
        cost = UNKNOWN if UNKNOWN in (entry_cost, exit_cost) else entry_cost + exit_cost
        gross = side * qty * (fill.price_ticks - lot[2]) * tick_mills
        rows.append((lot[0], fill.ns, contract, side, qty, lot[2], fill.price_ticks, gross, cost))
        lot[1] -= side * qty
        left += side * qty
        if not lot[1]:
            queue.popleft()
    if left:
        queue.append([fill.ns, left, fill.price_ticks, commission])
    return rows


def _share(commission: int, part: int, whole: int) -> tuple[int, int]:
    """Returns the commission of `part` of `whole` contracts and what is left."""
    if commission == UNKNOWN:
        return UNKNOWN, UNKNOWN
    taken = -(-commission * part // whole)
    return taken, commission - taken
