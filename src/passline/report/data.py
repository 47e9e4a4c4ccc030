"""Everything a report shows, as plain data read from the run's own files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.null_test import NullTest, load_null_test
from passline.evaluate.samples import (
    EquityPaths,
    SamplePair,
    load_distributions,
    load_equity_paths,
)
from passline.evaluate.table import AGENT, EvaluationTable, load_evaluations
from passline.evaluate.trip_file import TRIPS_FILE, load_trips
from passline.evaluate.verdict import (
    PolicyScore,
    final_phase,
    last_evaluations,
    score_policies,
)
from passline.openings import Opening, read_openings
from passline.report.tensorboard import SCALARS_FILE, Scalars, read_scalars
from passline.runs import Run

__all__ = [
    "DISTRIBUTIONS_FILE",
    "EQUITY_FILE",
    "EVALUATIONS_FILE",
    "FINAL_FILE",
    "REPLAYS",
    "ReportData",
    "final_rows",
    "load_report_data",
    "policy_scores",
]

EVALUATIONS_FILE = "evaluations.npz"
DISTRIBUTIONS_FILE = "distributions.npz"
EQUITY_FILE = "equity.npz"
REPLAYS = "replays"
"""Folder of a run that holds the pages of replayed episodes."""
FINAL_FILE = "final.npz"
"""Episodes on the sealed final window, once it was opened; never mixed with the others."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a run's files hold; a missing file is an empty field, and the page says so.

    Attributes:
        manifest: run.toml.
        status: status of the run when it was read.
        evaluations: all stored episodes; None before the first evaluation.
        scalars: training curves.
        distributions: training and evaluation samples by phase and quantity.
        equity: the agent's last evaluation, day by day; None if it was not kept.
        span_days: longest an episode may last, calendar days.
        trips: the agent's round trips of its last evaluation by column; None if not kept.
        replays: names of the replay pages in the run.
        null_test: what a null test of the run found; None if there was none.
        openings: of the sealed final window by this run, in their order.
        final: episodes on the final window, of every opening; None before the first.
    """

    manifest: Mapping[str, Any]
    status: str
    evaluations: EvaluationTable | None
    scalars: Scalars
    distributions: Mapping[str, Mapping[str, SamplePair]]
    equity: EquityPaths | None
    span_days: int
    trips: Mapping[str, NDArray[Any]] | None = None
    replays: tuple[str, ...] = ()
    null_test: NullTest | None = None
    openings: tuple[Opening, ...] = ()
    final: EvaluationTable | None = None


def load_report_data(run: Run) -> ReportData:
    """Reads all that the report needs from the run's directory and nowhere else.

    Raises:
        RunError: a file is there but cannot be read.
    """
    evaluations = run.path / EVALUATIONS_FILE
    distributions = run.path / DISTRIBUTIONS_FILE
    equity = run.path / EQUITY_FILE
    trips = run.path / TRIPS_FILE
    table = load_evaluations(evaluations) if evaluations.exists() else None
    final = run.path / FINAL_FILE
    return ReportData(
        manifest=run.manifest,
        status=run.status.value,
        evaluations=table,
        scalars=read_scalars(run.path / SCALARS_FILE),
        distributions=load_distributions(distributions) if distributions.exists() else {},
        equity=load_equity_paths(equity) if equity.exists() else None,
        span_days=_span_days(run.manifest, table),
        trips=load_trips(trips) if trips.exists() else None,
        replays=tuple(sorted(page.name for page in (run.path / REPLAYS).glob("*.html"))),
        null_test=load_null_test(run.path),
        openings=tuple(read_openings(run)),
        final=load_evaluations(final) if final.exists() else None,
    )


def _span_days(manifest: Mapping[str, Any], table: EvaluationTable | None) -> int:
    """Returns the rulebook's time limit, or the longest that an agent's episode lasted."""
    limit = manifest.get("rulebook", {}).get("time_limit_days")
    if limit is not None:
        return int(limit)
    agent = table.where(policy=AGENT) if table is not None else None
    if agent is None or not len(agent):
        return 1
    trading_days = int(agent.n_days.max())
    return int(np.ceil(trading_days * 7 / 5)) + 1


def final_rows(data: ReportData) -> EvaluationTable | None:
    """Returns every policy's last evaluation in the agent's final phase; None if there is none."""
    table = data.evaluations
    if table is None or not len(table.where(policy=AGENT, path="worst")):
        return None
    rows = last_evaluations(table, phase=final_phase(table))
    return rows if len(rows.where(policy=AGENT)) else None


def policy_scores(data: ReportData) -> list[PolicyScore]:
    """Returns every policy's scores, the agent's first; none before the first evaluation."""
    if data.evaluations is None or final_rows(data) is None:
        return []
    return score_policies(data.evaluations, span_days=data.span_days)
