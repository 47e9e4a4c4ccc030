"""The figures of a report, each drawn from plain data; nothing is computed here but for drawing.

Figures are matplotlib Figure objects made without pyplot, so that no state is shared. Each takes a
Palette; `svg` turns them into text or pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from passline.evaluate.samples import EquityPaths, SamplePair
from passline.evaluate.stats import Estimate
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import PolicyScore
from passline.report.breakdown import Dimension
from passline.report.palette import Palette
from passline.report.tensorboard import Scalars
from passline.sim.layout import DoneReason

__all__ = [
    "QUANTITIES",
    "action_figure",
    "action_shares",
    "advantage_figure",
    "breakdown_figure",
    "checkpoint_figure",
    "curve_grid",
    "curve_names",
    "distribution_figure",
    "equity_figure",
    "half_figure",
    "pass_rate_figure",
    "pass_rate_rows",
    "reason_colors",
    "reason_figure",
    "result_figure",
    "title_of",
    "training_figure",
    "wide_figure",
]

HALF = (5.2, 3.1)
"""Size of a figure that takes half of the page's width, inches."""
FULL_WIDTH = 10.6
ALONE = 8
"""Groups: a dimension of more has a row of panels for itself."""
TEXT = 9.0
SMALL = 8.0

QUANTITIES = {
    "ep_length": "Episode length, bars",
    "start_hour": "Start, hour of the day (ET)",
    "hours_to_flat": "Hours to flat-by at the start",
    "volatility": "Volatility at the start",
    "n_legal": "Legal actions per state",
}
"""Titles of the quantities whose distributions in training and evaluation are compared."""

_CURVES = (
    ("rollout/ep_rew_mean", "Reward per episode"),
    ("rollout/ep_len_mean", "Episode length, bars"),
    ("train/explained_variance", "Explained variance"),
    ("train/approx_kl", "Approximate KL"),
    ("train/entropy_loss", "Entropy loss"),
    ("time/fps", "Steps per second"),
)


def title_of(name: str) -> str:
    """Returns a stored name as words."""
    return name.replace("_", " ")


def pass_rate_figure(scores: Sequence[PolicyScore], palette: Palette) -> Figure:
    """Draws each policy's pass rate with its interval, the agent on top."""
    figure, axes = half_figure(palette, height=_policy_height(len(scores)))
    rows = np.arange(len(scores))[::-1]
    for row, score in zip(rows, scores, strict=True):
        rate = score.pass_rate
        color = palette.agent if score.policy == AGENT else palette.rival
        axes.plot([rate.low, rate.high], [row, row], color=color, lw=2.2, solid_capstyle="round")
        axes.plot([rate.value], [row], "o", color=color, ms=6.5)
        _write(axes, rate.high, row, f"{100 * rate.value:.1f}%", palette.ink)
    axes.set_yticks(rows, [title_of(score.policy) for score in scores])
    axes.set_ylim(-0.6, len(scores) - 0.4)
    top = max((score.pass_rate.high for score in scores), default=0.5)
    axes.set_xlim(0, min(top * 1.22 + 0.02, 1.15))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)
    return figure


def advantage_figure(scores: Sequence[PolicyScore], palette: Palette) -> Figure:
    """Draws the agent's pass rate minus each policy's, with its interval; proven ones in color."""
    others = [score for score in scores if score.advantage is not None]
    figure, axes = half_figure(palette, height=_policy_height(len(others) + 1))
    rows = np.arange(len(others))[::-1]
    for row, score in zip(rows, others, strict=True):
        gap = score.advantage
        assert gap is not None
        color = palette.good if gap.low > 0 else palette.bad if gap.high < 0 else palette.rival
        low, high = 100 * max(gap.low, -1.0), 100 * min(gap.high, 1.0)
        axes.plot([low, high], [row, row], color=color, lw=2.2, solid_capstyle="round")
        axes.plot([100 * gap.value], [row], "o", color=color, ms=6.5)
    axes.axvline(0, color=palette.muted, lw=1)
    axes.set_yticks(rows, [title_of(score.policy) for score in others])
    axes.set_ylim(-0.6, len(others) - 0.4)
    axes.set_xlabel("points of pass rate; right of zero the agent is ahead")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(_signed_points))
    axes.grid(axis="y", visible=False)
    return figure


def breakdown_figure(dimensions: Sequence[Dimension], palette: Palette) -> Figure:
    """Draws the mean net result of a round trip in each group, small multiples.

    Groups of too few dates are pale, and their intervals end at the edge.
    """
    long = [d for d in dimensions if len(d.groups) > ALONE]
    short = [d for d in dimensions if 1 < len(d.groups) <= ALONE]
    n_rows = len(long) + bool(short)
    figure = Figure(figsize=(FULL_WIDTH, 2.1 * max(n_rows, 1)), layout="constrained")
    grid = figure.add_gridspec(max(n_rows, 1), 1)
    cells = [(grid[row], d) for row, d in enumerate(long)]
    if short:
        widths = [len(d.groups) + 1.5 for d in short]
        inner = grid[len(long)].subgridspec(1, len(short), width_ratios=widths)
        cells += [(inner[column], d) for column, d in enumerate(short)]
    for cell, dimension in cells:
        axes = figure.add_subplot(cell)
        _style(axes, palette)
        _groups(axes, dimension, palette)
    return figure


def _groups(axes: Axes, dimension: Dimension, palette: Palette) -> None:
    reach = _reach(dimension)
    columns = np.arange(len(dimension.groups))
    for column, group in zip(columns, dimension.groups, strict=True):
        net = group.net_usd
        if net is None:
            continue
        color = palette.good if net.low > 0 else palette.bad if net.high < 0 else palette.agent
        color = palette.faint if group.is_thin else color
        low, high = np.clip([net.low, net.high], -reach, reach)
        axes.plot([column, column], [low, high], color=color, lw=2.2, solid_capstyle="butt")
        axes.plot([column], [np.clip(net.value, -reach, reach)], "o", color=color, ms=5)
    axes.axhline(0, color=palette.muted, lw=1)
    axes.set_ylim(-reach * 1.04, reach * 1.04)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    short = {"weekday": 3, "hour": 2}.get(dimension.key)
    axes.set_xticks(columns, [group.label[:short] for group in dimension.groups])
    if dimension.key == "month":
        # Beside other panels there is room for half of the labels.
        stride = -(-len(columns) // 14) if len(columns) > ALONE else 2
        axes.set_xticks(columns[::stride], [g.label for g in dimension.groups][::stride])
    axes.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_usd_short))
    axes.grid(axis="x", visible=False)
    _panel_title(axes, dimension.title, palette)


def _reach(dimension: Dimension) -> float:
    """Returns how far from zero a panel shows: all means; intervals wider than four are cut."""
    told = [group for group in dimension.groups if group.net_usd is not None]
    nets = [group.net_usd for group in told if group.net_usd is not None]
    ends = [
        max(abs(group.net_usd.low), abs(group.net_usd.high))
        for group in told
        if group.net_usd is not None and not group.is_thin
    ]
    mean = max((abs(net.value) for net in nets), default=0.0)
    return max(min(max(ends, default=0.0), 4 * mean), 1.1 * mean, 1.0)


def _signed_points(value: float, _: object) -> str:
    return f"{value:+.0f}".replace("-", "−") if value else "0"


def _usd_short(value: float, _: object) -> str:
    return f"{'−' if value < 0 else ''}${abs(value):,.0f}"


def reason_figure(shares: Mapping[str, Mapping[DoneReason, float]], palette: Palette) -> Figure:
    """Draws how each policy's episodes ended, as stacked shares."""
    figure = Figure(figsize=(FULL_WIDTH, 0.9 + 0.25 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    _style(axes, palette)
    rows = np.arange(len(shares))[::-1]
    colors = reason_colors(palette)
    left = np.zeros(len(shares))
    for reason, color in colors.items():
        width = np.array([share.get(reason, 0.0) for share in shares.values()])
        if width.any():
            label = title_of(reason.name.lower())
            axes.barh(rows, width, left=left, height=0.62, color=color, label=label)
            left += width
    axes.set_yticks(rows, [title_of(policy) for policy in shares])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
    axes.grid(visible=False)
    _legend_above(figure, axes, palette)
    return figure


def reason_colors(palette: Palette) -> dict[DoneReason, str]:
    """Returns the color of each way an episode ends, in the order they are stacked."""
    return {
        DoneReason.TARGET: palette.good,
        DoneReason.FLOOR: palette.bad,
        DoneReason.DAILY_LIMIT: palette.warn,
        DoneReason.LATE_FLAT: palette.amber,
        DoneReason.TIME_LIMIT: palette.idle,
        DoneReason.DATA_END: palette.faint,
        DoneReason.WINDOW_END: palette.grid,
    }


def equity_figure(paths: EquityPaths, palette: Palette) -> Figure:
    """Draws percentiles of the accounts' equity by day, with the median floor and the target."""
    figure, axes = half_figure(palette)
    longest = int(paths.n_days.max(initial=0))
    days = np.arange(longest + 1)
    equity = paths.equity_mills[:, : longest + 1] / 1e6
    for low, high, alpha in ((5, 95, 0.16), (25, 75, 0.26)):
        lower, upper = np.percentile(equity, [low, high], axis=0)
        label = f"{low}–{high}% of accounts"
        axes.fill_between(days, lower, upper, color=palette.agent, alpha=alpha, lw=0, label=label)
    axes.plot(days, np.median(equity, axis=0), color=palette.agent, lw=2, label="median equity")
    floor = np.median(paths.floor_mills[:, : longest + 1], axis=0) / 1e6
    axes.plot(days, floor, color=palette.bad, lw=1.5, label="median floor")
    if paths.target_mills is not None:
        target = paths.target_mills / 1e6
        axes.axhline(target, color=palette.good, lw=1.5, ls=(0, (5, 3)), label="profit target")
    axes.set_xlim(0, max(longest, 1))
    axes.set_xlabel("trading days since the start")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.1f}k"))
    _legend_above(figure, axes, palette)
    return figure


def result_figure(results_usd: Mapping[str, NDArray[np.float64]], palette: Palette) -> Figure:
    """Draws the distribution of the episodes' net results, the agent filled, another in outline."""
    figure, axes = half_figure(palette)
    everything = np.concatenate(list(results_usd.values()))
    edges = np.histogram_bin_edges(everything, bins=36)
    if edges[0] == edges[-1]:
        edges = np.array([edges[0] - 1, edges[0] + 1])
    for index, (policy, results) in enumerate(results_usd.items()):
        share = np.histogram(results, edges)[0] / max(len(results), 1)
        if index == 0:
            axes.stairs(share, edges, fill=True, color=palette.agent, alpha=0.75, label=policy)
        else:
            axes.stairs(share, edges, color=palette.other, lw=1.6, label=title_of(policy))
    axes.axvline(0, color=palette.muted, lw=1)
    axes.xaxis.set_major_formatter(FuncFormatter(_usd_thousands))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
    axes.set_xlabel("net result of an episode")
    axes.set_ylabel("share of episodes")
    _legend_above(figure, axes, palette)
    return figure


def action_figure(
    shares: Mapping[str, NDArray[np.float64]], names: Sequence[str], palette: Palette
) -> Figure:
    """Draws how often each action was chosen where more than one was legal."""
    figure = Figure(figsize=(FULL_WIDTH, 2.5), layout="constrained")
    axes = figure.add_subplot()
    _style(axes, palette)
    columns = np.arange(len(names)).astype(float)
    width = 0.76 / max(len(shares), 1)
    for index, (policy, share) in enumerate(shares.items()):
        offset = width * (index + 0.5) - 0.38
        color = palette.agent if policy == AGENT else palette.faint
        axes.bar(columns + offset, share, width=width, color=color, label=title_of(policy))
    axes.set_xticks(columns, [title_of(name) for name in names])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
    axes.grid(axis="x", visible=False)
    _legend_above(figure, axes, palette)
    return figure


def checkpoint_figure(
    points: Sequence[tuple[str, NDArray[np.int64], NDArray[np.float64]]], palette: Palette
) -> Figure:
    """Draws the agent's held-out mean reward at every evaluated checkpoint, one panel a phase.

    Args:
        points: phase, steps [E], and value, low, high of the mean reward [E, 3].
        palette: colors.
    """
    figure = Figure(figsize=(FULL_WIDTH, 2.5), layout="constrained")
    panels = figure.subplots(1, max(len(points), 1), squeeze=False)[0]
    for axes, (phase, steps, values) in zip(panels, points, strict=False):
        _style(axes, palette)
        finite = np.nan_to_num(values, posinf=np.nan, neginf=np.nan)
        axes.vlines(steps, finite[:, 1], finite[:, 2], color=palette.agent, alpha=0.35, lw=3)
        axes.plot(steps, values[:, 0], "o-", color=palette.agent, ms=4, lw=1.4)
        axes.axhline(0, color=palette.muted, lw=0.8)
        _panel_title(axes, title_of(phase), palette)
        _steps_axis(axes)
    return figure


def curve_names(scalars: Scalars) -> list[tuple[str, str]]:
    """Returns the curves that the training figure shows of those stored, with their titles."""
    return [(name, title) for name, title in _CURVES if name in scalars.values]


def training_figure(scalars: Scalars, palette: Palette) -> Figure:
    """Draws the training curves over all phases, each phase in its own tone."""
    curves = curve_names(scalars)
    n_rows = max((len(curves) + 2) // 3, 1)
    figure = Figure(figsize=(FULL_WIDTH, 2.15 * n_rows + 0.35), layout="constrained")
    panels = figure.subplots(n_rows, 3, squeeze=False).ravel()
    phases = list(dict.fromkeys(scalars.phase.tolist()))
    tones = (palette.other, palette.good, palette.amber, palette.agent)
    for axes, (name, title) in zip(panels, curves, strict=False):
        _style(axes, palette)
        for index, phase in enumerate(phases):
            own = scalars.phase == phase
            axes.plot(
                scalars.step[own],
                scalars.values[name][own],
                color=tones[index % len(tones)],
                lw=1.5,
                label=title_of(phase),
            )
        _panel_title(axes, title, palette)
        _steps_axis(axes)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    if curves:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=len(phases),
            frameon=False,
            fontsize=TEXT,
            labelcolor=palette.ink,
            handlelength=1.4,
        )
    return figure


def distribution_figure(pairs: Mapping[str, SamplePair], palette: Palette) -> Figure:
    """Draws each quantity as training and as evaluation met it."""
    figure = Figure(figsize=(FULL_WIDTH, 2.7), layout="constrained")
    panels = figure.subplots(1, max(len(pairs), 1), squeeze=False)[0]
    for axes, (name, pair) in zip(panels, pairs.items(), strict=False):
        _style(axes, palette)
        edges = _edges(pair)
        for sample, is_train in ((pair.train, True), (pair.evaluation, False)):
            share = np.histogram(sample, edges)[0] / max(len(sample), 1)
            if is_train:
                axes.stairs(share, edges, fill=True, color=palette.faint, label="training")
            else:
                axes.stairs(share, edges, color=palette.agent, lw=1.8, label="evaluation")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        _panel_title(axes, QUANTITIES.get(name, title_of(name)), palette)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=TEXT,
        labelcolor=palette.ink,
        handlelength=1.4,
    )
    return figure


def action_shares(table: EvaluationTable) -> NDArray[np.float64]:
    """Returns the share of each action over states in which several were legal [A]."""
    counts = table.choice_counts.sum(axis=0)
    shares: NDArray[np.float64] = counts / max(int(counts.sum()), 1)
    return shares


def _policy_height(n_policies: int) -> float:
    return 1.1 + 0.29 * max(n_policies, 4)


def _edges(pair: SamplePair) -> NDArray[np.float64]:
    both = np.concatenate([pair.train, pair.evaluation])
    low, high = float(both.min(initial=0)), float(both.max(initial=1))
    values = np.unique(both)
    if len(values) <= 24 and np.array_equal(values, np.round(values)):
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.0)
    return np.linspace(low, high if high > low else low + 1, 31)


def half_figure(palette: Palette, height: float = HALF[1]) -> tuple[Figure, Axes]:
    """Returns an empty figure of half the page's width, inches high, and its axes."""
    return _empty((HALF[0], height), palette)


def wide_figure(palette: Palette, height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure of the page's whole width, inches high, and its axes."""
    return _empty((FULL_WIDTH, height), palette)


def _empty(size: tuple[float, float], palette: Palette) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    _style(axes, palette)
    return figure, axes


def _style(axes: Axes, palette: Palette) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.muted)
    axes.tick_params(colors=palette.muted, labelsize=SMALL, length=0, pad=4)
    axes.grid(color=palette.grid, lw=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=palette.muted, fontsize=SMALL)
    axes.yaxis.label.set(color=palette.muted, fontsize=SMALL)


def _panel_title(axes: Axes, text: str, palette: Palette) -> None:
    axes.set_title(text, loc="left", fontsize=TEXT, color=palette.ink, pad=6)


def _steps_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_short_count))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(_short_count))


def _short_count(value: float, _: object) -> str:
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.4g}"


def _usd_thousands(value: float, _: object) -> str:
    return f"{'-' if value < 0 else ''}${abs(value) / 1e3:.3g}k" if value else "$0"


def _write(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=SMALL,
    )


def _legend_above(figure: Figure, axes: Axes, palette: Palette) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=SMALL,
        labelcolor=palette.ink,
        handlelength=1.2,
        columnspacing=1.2,
        borderpad=0,
    )


def pass_rate_rows(rates: Mapping[str, Estimate], palette: Palette) -> Figure:
    """Draws pass rates with their intervals, one line a run."""
    figure, axes = half_figure(palette, 0.9 + 0.36 * len(rates))
    figure.set_size_inches(FULL_WIDTH, 0.9 + 0.36 * len(rates))
    for row, rate in enumerate(rates.values()):
        color = run_color(row, palette)
        axes.plot([rate.low, rate.high], [row, row], color=color, lw=2.4, solid_capstyle="round")
        axes.plot([rate.value], [row], "o", color=color, ms=6.5)
        _write(axes, rate.high, row, f"{rate.value:.1%}", palette.ink)
    axes.set_ylim(len(rates) - 0.4, -0.6)
    axes.set_yticks(range(len(rates)), list(rates))
    axes.set_xlim(0, min(max(rate.high for rate in rates.values()) * 1.15 + 0.05, 1.12))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="y")
    return figure


def curve_grid(
    panels: Mapping[str, Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]],
    palette: Palette,
) -> Figure:
    """Draws the runs' curves together, one panel a quantity, one color a run.

    Args:
        panels: by title, by run: training steps and values.
        palette: colors.
    """
    figure = Figure(figsize=(FULL_WIDTH, 2.75), layout="constrained")
    axes_row = figure.subplots(1, len(panels), squeeze=False).ravel()
    letters = list(dict.fromkeys(letter for lines in panels.values() for letter in lines))
    for axes, (title, lines) in zip(axes_row, panels.items(), strict=True):
        _style(axes, palette)
        for letter, (steps, values) in lines.items():
            color = run_color(letters.index(letter), palette)
            axes.plot(steps, values, color=color, lw=1.4, label=letter)
        _panel_title(axes, title, palette)
        _steps_axis(axes)
    _legend_above(figure, axes_row[0], palette)
    return figure


def run_color(index: int, palette: Palette) -> str:
    """Returns the color of the index-th run of a comparison."""
    colors = (palette.agent, palette.other, palette.good, palette.bad, palette.amber, palette.idle)
    return colors[index % len(colors)]
