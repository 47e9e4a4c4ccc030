"""Walk-forward folds: the cut of time made several times, each test window later than the last.

Every fold trains on bars that end before its gate slices begin, and those end before its test
window begins; an embargo lies between them. The test windows follow one another without gap or
overlap up to the end of the bars.
"""

from dataclasses import dataclass

import numpy as np

from passline.errors import ConfigError
from passline.evaluate.slices import Slice, SliceConfig, Split, by_month, require_features
from passline.task.prepare import Prepared

__all__ = ["SCHEMES", "Fold", "FoldConfig", "cut_folds"]

SCHEMES = ("rolling", "anchored")
MIN_TRAIN_SESSIONS = 40
MAX_TEST_DAYS, MAX_GATE_DAYS = 365, 240
"""Calendar days of a test window and of the gate slices, where the settings say nothing: half of
the bars over all test windows, and an eighth for each fold's gates, but no more than these."""


@dataclass(frozen=True, kw_only=True)
class FoldConfig:
    """How often time is cut, and how often each cut is trained on."""

    folds: int = 5
    """Test windows, one after the other up to the end of the bars."""
    seeds: int = 3
    """Trainings a fold, seeds following one another."""
    scheme: str = "rolling"
    """rolling: every fold trains on equally many days; anchored: on all days before it."""
    train_days: int = 0
    """Calendar days a rolling fold trains on; 0: as many as the first fold has before it."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        for name in ("folds", "seeds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} was {getattr(self, name)}; it must be at least 1.")
        if self.scheme not in SCHEMES:
            raise ConfigError(f"scheme was '{self.scheme}'; allowed: {', '.join(SCHEMES)}.")
        if self.train_days < 0:
            raise ConfigError(f"train_days was {self.train_days}; it must be at least 0.")
        if self.scheme == "anchored" and self.train_days:
            raise ConfigError(
                f"train_days was {self.train_days}; anchored folds train on all days before them. "
                "Leave it out, or choose --scheme rolling."
            )


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One cut of time; days since 1970-01-01, half-open ranges.

    Attributes:
        number: 1 is the earliest.
        split: the cut as bars.
        train: trading days that are trained on.
        gate: trading days of the gate slices.
        test: trading days of the test window.
    """

    number: int
    split: Split
    train: tuple[int, int]
    gate: tuple[int, int]
    test: tuple[int, int]


def cut_folds(prepared: Prepared, slices: SliceConfig, config: FoldConfig) -> tuple[Fold, ...]:
    """Cuts time into folds, earliest first.

    Several markets are cut on the same days: from the day on which the last of them begins to the
    day on which the first of them ends.

    Args:
        prepared: the markets.
        slices: days of each test window, of the gate slices before it, and of the embargo.
        config: number and scheme of the folds.

    Raises:
        ConfigError: the bars are too short for as many folds, or have none with known features.
    """
    require_features(prepared)
    days = prepared.compiled.tape.day
    edges = list(zip(prepared.first_bar, prepared.offsets[1:], strict=True))
    begin = max(int(days[first]) for first, _ in edges)
    end = min(int(days[stop - 1]) for _, stop in edges) + 1
    if slices.named:
        raise ConfigError(
            "a walk-forward cuts its windows by days, and the settings name slices. Leave them out."
        )
    if slices.leave_out:
        raise ConfigError(
            f"leave_out was '{slices.leave_out}'; a walk-forward judges every market it trains on. "
            "Leave it out, or use passline train."
        )
    test_days = slices.test_days or min(MAX_TEST_DAYS, (end - begin) // (2 * config.folds))
    gate_days = slices.gate_days or min(MAX_GATE_DAYS, (end - begin) // 8)
    before_test = gate_days + 2 * slices.embargo_days
    room = end - begin - config.folds * test_days - before_test
    length = config.train_days or room
    if length > room or room < 1:
        raise ConfigError(
            f"the bars cover {end - begin} calendar days, and {config.folds} test windows of "
            f"{test_days} days after {before_test} days of gate and embargo leave "
            f"{room} for training the first fold, {max(length, 1)} being asked. Lower --folds, "
            "--test-days, --gate-days or --train-days, or give more bars."
        )
    found = []
    for index in range(config.folds):
        test_from = end - (config.folds - index) * test_days
        gate_to = test_from - slices.embargo_days
        gate_from = gate_to - gate_days
        train_to = gate_from - slices.embargo_days
        train_from = begin if config.scheme == "anchored" else train_to - length
        found.append(
            _cut(
                prepared,
                index + 1,
                (train_from, train_to),
                (gate_from, gate_to),
                (test_from, test_from + test_days),
            )
        )
    return tuple(found)


def _cut(
    prepared: Prepared,
    number: int,
    train: tuple[int, int],
    gate: tuple[int, int],
    test: tuple[int, int],
) -> Fold:
    """Turns days into bars of every market."""
    ranges: list[tuple[int, int]] = []
    gates: list[Slice] = []
    tests: list[Slice] = []
    for market, first in enumerate(prepared.first_bar):
        stop = prepared.offsets[market + 1]
        days = prepared.compiled.tape.day[first:stop]

        def bars(
            window: tuple[int, int], days: np.ndarray = days, first: int = first
        ) -> tuple[int, int]:
            low, high = np.searchsorted(days, window)
            return first + int(low), first + int(high)

        begin, end = bars(train)
        n_sessions = len(np.unique(prepared.compiled.tape.day[begin:end]))
        if n_sessions < MIN_TRAIN_SESSIONS:
            raise ConfigError(
                f"fold {number}: {n_sessions} trading days of "
                f"{prepared.bars[market].contract.symbol} are left for training; at least "
                f"{MIN_TRAIN_SESSIONS} are needed. Lower --folds or --test-days, or give more bars."
            )
        ranges.append((begin, end))
        gates += by_month(prepared, "gate", market, *bars(gate))
        tests += by_month(prepared, "test", market, *bars(test))
    split = Split(train=ranges, gate=tuple(gates), test=tuple(tests))
    return Fold(number=number, split=split, train=train, gate=gate, test=test)
