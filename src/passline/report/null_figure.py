"""The figure of a null test: where the actual result lies among those of the null markets."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from passline.evaluate.null_test import NullTest
from passline.report.figures import half_figure, title_of
from passline.report.palette import Palette

__all__ = ["null_figure"]

N_BINS = 40
LEAST = 0.05
"""Allowances shown on both sides of zero, so that agents that never traded draw one line."""


def null_figure(found: NullTest, palette: Palette) -> Figure:
    """Draws a dot for each null market, a row a kind, and a line for the market as it is."""
    figure, axes = half_figure(palette, height=1.2 + 0.75 * len(found.kinds))
    values = np.concatenate([[found.actual, 0.0], *[kind.nulls for kind in found.kinds]])
    low, high = min(float(values.min()), -LEAST), max(float(values.max()), LEAST)
    reach = high - low
    rows = np.arange(len(found.kinds))[::-1]
    for row, kind in zip(rows, found.kinds, strict=True):
        nulls = np.asarray(kind.nulls)
        height = _stacked(nulls, low, reach)
        axes.plot(nulls, row + height, "o", color=palette.rival, ms=3.6, alpha=0.75, mew=0)
    axes.axvline(found.actual, color=palette.agent, lw=2)
    axes.axvline(0, color=palette.faint, lw=0.8)
    axes.set_yticks(rows, [f"{title_of(k.kind)}\np {k.p:.3f}" for k in found.kinds])
    axes.set_ylim(-0.5, len(found.kinds) - 0.35)
    axes.set_xlim(low - 0.06 * reach, high + 0.06 * reach)
    axes.set_xlabel(f"{found.statistic}, {found.unit}; line: actual {found.actual:+.3f}")
    axes.grid(axis="y", visible=False)
    return figure


def _stacked(values: NDArray[np.float64], low: float, reach: float) -> NDArray[np.float64]:
    """Returns heights in [-0.3, 0.3) at which dots of nearly equal values do not cover another."""
    bins = np.floor((values - low) / reach * N_BINS).astype(int)
    out = np.empty(len(values))
    for value in np.unique(bins):
        own = np.flatnonzero(bins == value)
        step = min(0.09, 0.6 / len(own))
        out[own] = (np.arange(len(own)) - (len(own) - 1) / 2) * step
    return out
