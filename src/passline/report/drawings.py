"""All figures of a report with what stands around them, drawn from ReportData."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from passline.evaluate.stats import clusters_by_span, mean_interval
from passline.evaluate.table import AGENT, EvaluationTable
from passline.report import figures
from passline.report.breakdown import MIN_DATES, dimensions_of
from passline.report.data import ReportData, final_rows, policy_scores
from passline.report.null_figure import null_figure
from passline.report.palette import Palette
from passline.sim.layout import DoneReason

__all__ = ["Drawing", "report_figures"]

MILLS_PER_USD = 1000


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with what stands around it.

    Attributes:
        name: unique on the page.
        title: above the figure.
        key: definition of what it shows.
        caption: sample in words.
        figure: the figure, drawn.
        is_wide: it takes the page's whole width.
    """

    name: str
    title: str
    key: str
    caption: str
    figure: Figure
    is_wide: bool = False


def report_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    """Draws all figures for which the run holds data."""
    return [
        *_policy_figures(data, palette),
        *_null_figures(data, palette),
        *_account_figures(data, palette),
        *_training_figures(data, palette),
    ]


def _policy_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    rows = final_rows(data)
    if rows is None:
        return []
    agent = rows.where(policy=AGENT)
    scores = policy_scores(data)
    names = [score.policy for score in scores]
    n = f"n = {len(agent):,} episodes"
    shares = {name: _reason_shares(rows.where(policy=name)) for name in names}
    shown = names[:1] + [name for name in names[1:] if name not in ("flat", "oracle")][:1]
    results = {name: rows.where(policy=name).result_mills / MILLS_PER_USD for name in shown}
    actions = {name: figures.action_shares(rows.where(policy=name)) for name in shown}
    versus = " and the best baseline that trades" if len(shown) > 1 else ""
    return [
        Drawing(
            name="pass-rates",
            title="Pass rate by policy",
            key="pass_rate",
            caption=f"{n} each on the same starts; bars are 95% intervals",
            figure=figures.pass_rate_figure(scores, palette),
        ),
        Drawing(
            name="advantages",
            title="Agent minus each baseline",
            key="advantage",
            caption=f"{n}, paired by start; bars are 95% intervals, green ones lie above zero",
            figure=figures.advantage_figure(scores, palette),
        ),
        Drawing(
            name="reasons",
            title="How episodes ended",
            key="reason_share",
            caption=f"{n} each",
            figure=figures.reason_figure(shares, palette),
            is_wide=True,
        ),
        Drawing(
            name="results",
            title="Net results",
            key="result_distribution",
            caption=f"{n} each; agent{versus}",
            figure=figures.result_figure(results, palette),
        ),
        Drawing(
            name="actions",
            title="What it chose where it had a choice",
            key="choice_share",
            caption=f"{int(agent.choice_counts.sum()):,} choices of the agent",
            figure=figures.action_figure(actions, rows.action_names, palette),
            is_wide=True,
        ),
    ]


def _null_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    """Draws the null test; a run may hold one without any evaluation of its own."""
    if data.null_test is None:
        return []
    n_nulls = sum(len(kind.nulls) for kind in data.null_test.kinds)
    return [
        Drawing(
            name="null",
            title="The result among those of null markets",
            key="null_p",
            caption=f"{n_nulls:,} trainings on markets with nothing to find; the line is the"
            " market as it is",
            figure=null_figure(data.null_test, palette),
        )
    ]


def _account_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    """Draws what the agent's accounts went through in its last evaluation."""
    if final_rows(data) is None:
        return []
    drawings = []
    dimensions = dimensions_of(data)
    if dimensions:
        n_trips = len(data.trips["entry_ns"]) if data.trips is not None else 0
        drawings.append(
            Drawing(
                name="breakdown",
                title="Mean net result of a round trip",
                key="group_result",
                caption=f"{n_trips:,} round trips of the agent; bars are 95% intervals, those of"
                f" fewer than {MIN_DATES} trade dates are pale",
                figure=figures.breakdown_figure(dimensions, palette),
                is_wide=True,
            )
        )
    if data.equity is not None and len(data.equity.n_days):
        drawings.append(
            Drawing(
                name="equity",
                title="Equity and floor by day",
                key="equity",
                caption=f"{len(data.equity.n_days):,} accounts; the floor is the median account's",
                figure=figures.equity_figure(data.equity, palette),
            )
        )
    return drawings


def _training_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    drawings = []
    points = _checkpoints(data)
    if points:
        counts = sum(len(steps) for _, steps, _ in points)
        drawings.append(
            Drawing(
                name="checkpoints",
                title="Held-out reward by checkpoint",
                key="checkpoint_reward",
                caption=f"{counts} evaluations by training step; bars are 95% intervals",
                figure=figures.checkpoint_figure(points, palette),
                is_wide=True,
            )
        )
    if figures.curve_names(data.scalars):
        drawings.append(
            Drawing(
                name="curves",
                title="Training curves",
                key="curves",
                caption=f"{len(data.scalars.step):,} updates; rewards of phases differ in unit",
                figure=figures.training_figure(data.scalars, palette),
                is_wide=True,
            )
        )
    for phase, pairs in list(data.distributions.items())[-1:]:
        drawings.append(
            Drawing(
                name="distributions",
                title=f"Training and evaluation, phase {figures.title_of(phase)}",
                key="ks",
                caption="Shares of episodes (of states for legal actions)",
                figure=figures.distribution_figure(pairs, palette),
                is_wide=True,
            )
        )
    return drawings


def _checkpoints(
    data: ReportData,
) -> list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    if data.evaluations is None:
        return []
    agent = data.evaluations.where(policy=AGENT, path="worst")
    points = []
    first_seen = {phase: index for index, phase in reversed(list(enumerate(agent.phase.tolist())))}
    for phase in sorted(first_seen, key=lambda name: agent.timesteps[agent.phase == name].min()):
        rows = agent.where(phase=phase)
        numbers = np.unique(rows.evaluation)
        steps, values = [], []
        for number in numbers:
            own = rows.select(rows.evaluation == number)
            clusters = clusters_by_span(own.start_day, data.span_days)
            estimate = mean_interval(own.reward, clusters, is_serial=True)
            steps.append(int(own.timesteps[0]))
            values.append((estimate.value, estimate.low, estimate.high))
        order = np.argsort(steps, kind="stable")
        points.append((str(phase), np.array(steps)[order], np.array(values)[order]))
    return points


def _reason_shares(rows: EvaluationTable) -> dict[DoneReason, float]:
    return {
        reason: float(share)
        for reason in DoneReason
        if (share := (rows.done_reason == reason).mean()) > 0
    }
