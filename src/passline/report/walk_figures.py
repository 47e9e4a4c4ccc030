"""The figures of walk-forwards: pass rate by test window, of one or of several, and the record."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from passline.evaluate.walk_results import FoldScore, SeedRecord
from passline.report.comparison import SharedWindow
from passline.report.figures import run_color, wide_figure
from passline.report.palette import Palette

__all__ = ["fold_figure", "median_record", "record_figure", "window_figure"]

HEIGHT = 3.2
"""Of the figures, inches."""
SMALL = 8.0
LEAST_USD = 500.0
"""Shown on both sides of zero, so that accounts that never traded draw a line and no noise."""


def fold_figure(folds: Sequence[FoldScore], palette: Palette) -> Figure:
    """Draws each window's pass rate with its interval, its seeds, and its best baseline."""
    figure, axes = wide_figure(palette, HEIGHT)
    for fold in folds:
        rate = fold.scores[0].pass_rate
        x = float(fold.fold)
        axes.plot([x, x], [rate.low, rate.high], color=palette.agent, lw=2.4)
        axes.plot([x], [rate.value], "o", color=palette.agent, ms=7, label="agent, all seeds")
        rates = list(fold.seed_rates.values())
        axes.plot(
            [x - 0.12] * len(rates), rates, "o", ms=4, mfc="none", mec=palette.agent, label="a seed"
        )
        if len(fold.scores) > 1:
            rival = fold.scores[1].pass_rate
            axes.plot([x + 0.14] * 2, [rival.low, rival.high], color=palette.rival, lw=1.6)
            axes.plot([x + 0.14], [rival.value], "D", color=palette.rival, ms=5,
                      label="best baseline of the window")  # fmt: skip
    numbers = [fold.fold for fold in folds]
    axes.set_xticks(numbers, [f"fold {number}\n{_years(fold)}" for number, fold in
                              zip(numbers, folds, strict=True)])  # fmt: skip
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    highest = max(score.pass_rate.high for fold in folds for score in fold.scores[:2])
    _share_axis(axes, highest)
    _legend(figure, axes, palette)
    return figure


def window_figure(
    windows: Sequence[SharedWindow], letters: Sequence[str], palette: Palette
) -> Figure:
    """Draws each walk-forward's pass rate in each shared window, with its interval and seeds."""
    figure, axes = wide_figure(palette, HEIGHT)
    step = min(0.18, 0.7 / len(letters))
    for at, window in enumerate(windows):
        for place, (letter, rate, seeds) in enumerate(
            zip(letters, window.rates, window.seeds, strict=True)
        ):
            x, color = at + (place - (len(letters) - 1) / 2) * step, run_color(place, palette)
            axes.plot([x, x], [rate.low, rate.high], color=color, lw=2.4)
            axes.plot([x], [rate.value], "o", color=color, ms=7, label=letter)
            beside = [x - step / 3] * len(seeds)
            axes.plot(beside, list(seeds.values()), "o", ms=4, mfc="none", mec=color)
    numbers = range(len(windows))
    axes.set_xticks(numbers, [f"{w.first[:7]} to {w.last[:7]}" for w in windows])
    axes.set_xlim(-0.6, len(windows) - 0.4)
    highest = max(rate.high for window in windows for rate in window.rates)
    _share_axis(axes, highest)
    _legend(figure, axes, palette)
    return figure


def record_figure(records: Sequence[SeedRecord], starts: Sequence[int], palette: Palette) -> Figure:
    """Draws what the accounts made, added up over the windows' sessions, by seed and as median.

    Args:
        records: one a seed.
        starts: first days of the test windows, days since 1970-01-01.
        palette: colors.
    """
    figure, axes = wide_figure(palette, HEIGHT)
    for record in records:
        made = np.cumsum(record.result_usd)
        axes.plot(np.arange(len(made)), made, color=palette.agent, lw=1, alpha=0.4, label="a seed")
    day, middle = median_record(records)
    axes.plot(np.arange(len(day)), middle, color=palette.agent, lw=2.2, label="median of the seeds")
    places = np.searchsorted(day, list(starts))
    for place in places[1:]:
        axes.axvline(place, color=palette.faint, lw=1, ls=(0, (2, 3)))
    axes.axhline(0, color=palette.muted, lw=0.8)
    months = [str(np.datetime64(start, "D").astype("datetime64[M]")) for start in starts]
    axes.set_xticks(places, months)
    axes.set_xlim(0, max(len(day) - 1, 1))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -LEAST_USD), max(high, LEAST_USD))
    axes.yaxis.set_major_formatter(FuncFormatter(_usd))
    _legend(figure, axes, palette)
    return figure


def median_record(
    records: Sequence[SeedRecord],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the sessions and the median over the seeds of what was made up to each, USD."""
    sums = np.stack([np.cumsum(record.result_usd) for record in records])
    return records[0].day, np.median(sums, axis=0)


def _share_axis(axes: Axes, highest: float) -> None:
    axes.set_ylim(-0.01, max(min(highest * 1.08, 1.02), 0.1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
    axes.grid(axis="x", visible=False)


def _years(fold: FoldScore) -> str:
    first, stop = fold.trainings[0].told["test"]
    return " to ".join(str(np.datetime64(day, "D").astype("datetime64[M]")) for day in
                       (first, stop - 1))  # fmt: skip


def _usd(value: float, _: object) -> str:
    sign = "−" if value < 0 else ""
    return f"{sign}${abs(value) / 1e3:,.3g}k" if value else "$0"


def _legend(figure: Figure, axes: Axes, palette: Palette) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(
        list(once.values()),
        list(once),
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=SMALL,
        labelcolor=palette.ink,
        handlelength=1.4,
        borderpad=0,
    )
