"""The stationary bootstrap over days (Politis and Romano 1994), drawn by counter.

A life's day is a function of seed, life and day alone, so the same life meets the same days on
both paths, at every size and in any order of computation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError

__all__ = ["Draws", "resample_days", "usual_block_days"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_DAY_STEP = np.uint64(0xD1342543DE82EF95)


def usual_block_days(n_days: int) -> int:
    """Returns the mean block length used if none is given: the cube root of the days, rounded.

    The optimal length of the stationary bootstrap grows with that root (Politis and White 2004).
    """
    return max(1, round(n_days ** (1 / 3)))


def _mix(bits: U64) -> U64:
    """Scrambles 64-bit counters (finalizer of SplitMix64, Steele, Lea and Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Which source day each life meets on each of its days.

    Attributes:
        series: source days of each pseudo-record [P, S]; one row of 0..S-1 for the record itself.
        block_days: mean length of a block; 1 draws single days.
        seed: of all draws.
        starts: places at which a stretch of days begins that followed each other; from the end of
            one a life goes on at the start of one drawn at random, so that no block joins days
            that lie apart and every day stays equally likely.
    """

    series: I64
    block_days: float
    seed: int
    starts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Refuses blocks shorter than a day.

        Raises:
            ConfigError: block_days is below 1.
        """
        if not self.block_days >= 1:
            raise ConfigError(f"block length was {self.block_days} days; at least 1 is needed.")

    def keys(self, life: I64) -> U64:
        """Returns the counter of each life [L]."""
        start = np.uint64((self.seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        return _mix(_mix(life.astype(np.uint64) + start) + _GOLDEN)

    def next(self, keys: U64, day: int, place: I64, record: I64) -> tuple[I64, I64]:
        """Returns each life's place in its record and its source day on this day of its life.

        Args:
            keys: of the lives [L].
            day: running number of the day, from 0; the same for all.
            place: place on the day before; -1 to begin a block [L].
            record: row of `series` of each life [L].
        """
        n_days = self.series.shape[1]
        step = np.uint64((day + 1) * int(_DAY_STEP) % 2**64)
        bits = _mix(keys + step)
        high = (bits >> np.uint64(40)).astype(np.int64)
        low = (bits & np.uint64(2**32 - 1)).astype(np.int64)
        is_new = (high < round(2**24 / self.block_days)) | (place < 0)
        starts = np.asarray(self.starts, np.int64)
        is_start = np.zeros(n_days + 1, bool)
        is_start[[*self.starts, n_days]] = True
        onward = np.where(is_start[place + 1], starts[low * len(starts) >> 32], place + 1)
        place = np.where(is_new, low * n_days >> 32, onward)
        return place, self.series[record, place]

    def weekday(self, keys: U64) -> I64:
        """Returns the weekday on which each life begins, 0 to 4 [L]."""
        return (_mix(keys + _GOLDEN) % np.uint64(5)).astype(np.int64)


def resample_days(
    n_days: int, n_records: int, block_days: float, seed: int, starts: tuple[int, ...] = (0,)
) -> I64:
    """Returns pseudo-records: source days drawn in blocks of the record itself [n_records, S]."""
    draws = Draws(series=np.arange(n_days)[None], block_days=block_days, seed=seed, starts=starts)
    keys = draws.keys(np.arange(n_records) + 2**40)
    record = np.zeros(n_records, np.int64)
    place = np.full(n_records, -1, np.int64)
    columns = []
    for day in range(n_days):
        place, source = draws.next(keys, day, place, record)
        columns.append(source)
    return np.stack(columns, axis=1)
