"""Bars from trades: the first, highest, lowest and last price and the sum of sizes of each stretch.

A bar covers [k * bar, (k + 1) * bar) of UTC; a stretch without a trade has no bar.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from passline.market.load.chunks import Chunk
from passline.market.load.tape import Collector, Tape

__all__ = ["BarBuilder", "group_bars"]

_SLACK_NS = 10**9
"""How far a time may lie before that of the trade above: vendors count unevenly in a second."""


def group_bars(
    starts: NDArray[np.int64], prices: NDArray[np.float64], volume: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns open, high, low, close [4, G] and volume [G] of groups that begin at `starts` [G].

    Args:
        starts: index of each group's first row, rising, beginning with 0.
        prices: open, high, low, close of rows [4, n].
        volume: contracts of rows, NaN for none [n].
    """
    ends = np.append(starts[1:], prices.shape[1]) - 1
    grouped = np.stack(
        [
            prices[0, starts],
            np.maximum.reduceat(prices[1], starts),
            np.minimum.reduceat(prices[2], starts),
            prices[3, ends],
        ]
    )
    return grouped, np.add.reduceat(volume, starts)


@dataclass(slots=True)
class _Open:
    """The bar that is still being built of one month."""

    ts: int
    prices: NDArray[np.float64]
    volume: float
    row: int


@dataclass(slots=True)
class BarBuilder:
    """Builds bars of `bar_ns` from chunks of trades, month by month; call `finish` once.

    Attributes:
        bar_ns: length of the bars, ns.
        last: time of each month's last trade, ns.
        n_trades: trades used.
    """

    bar_ns: int
    last: dict[int, int] = field(default_factory=dict)
    open_bars: dict[int, _Open] = field(default_factory=dict)
    n_trades: int = 0

    def add(self, collector: Collector, chunk: Chunk) -> None:
        """Adds the trades of a chunk; the collector keeps the bars that are complete."""
        trades = collector.prepare(chunk)
        if trades is None:
            return
        collector.check(trades)
        self.n_trades += len(trades.time)
        for code in np.unique(trades.symbol).tolist():
            mine = trades.symbol == code
            self._add_month(collector, trades, mine, code)

    def _add_month(
        self, collector: Collector, trades: Chunk, mine: NDArray[np.bool_], code: int
    ) -> None:
        ts, prices, volume = trades.time[mine], trades.prices[:, mine], trades.volume[mine]
        rows = trades.rows[mine]
        bucket = ts - ts % self.bar_ns
        before = np.concatenate([[self.last.get(code, ts[0])], ts[:-1]])
        backward = (ts < before - _SLACK_NS) | (bucket < before - before % self.bar_ns)
        collector.note_backward(trades, backward, mine)
        self.last[code] = int(ts[-1])
        starts = np.append(0, np.flatnonzero(np.diff(bucket)) + 1)
        grouped, volumes = group_bars(starts, prices, volume)
        times, first_rows = bucket[starts], rows[starts]
        held = self.open_bars.get(code)
        if held is not None and held.ts == times[0]:
            grouped[0, 0] = held.prices[0]
            grouped[1, 0] = max(held.prices[1], grouped[1, 0])
            grouped[2, 0] = min(held.prices[2], grouped[2, 0])
            volumes[0] += held.volume
            first_rows[0] = held.row
        elif held is not None:
            self._keep_held(collector, held, code)
        self.open_bars[code] = _Open(
            ts=int(times[-1]),
            prices=grouped[:, -1].copy(),
            volume=float(volumes[-1]),
            row=int(first_rows[-1]),
        )
        if len(times) > 1:
            collector.keep_bars(times[:-1], grouped[:, :-1], volumes[:-1], code, first_rows[:-1])

    def _keep_held(self, collector: Collector, held: _Open, code: int) -> None:
        collector.keep_bars(
            np.array([held.ts]),
            held.prices.reshape(4, 1),
            np.array([held.volume]),
            code,
            np.array([held.row], dtype=np.uint32),
        )

    def finish(self, collector: Collector, warnings: list[str]) -> Tape:
        """Closes the last bars and returns the tape, in time order within each month."""
        for code, held in self.open_bars.items():
            self._keep_held(collector, held, code)
        self.open_bars.clear()
        tape = collector.finish()
        if len(tape.months) > 1:
            tape = tape.take(np.lexsort((tape.ts, tape.code)))
        if 2 * self.n_trades < 3 * len(tape):
            warnings.append(
                f"{self.n_trades:,} prices made {len(tape):,} bars: most bars come from a single "
                "price, so their highs and lows say little about what traded inside"
            )
        return tape
