"""Several runs side by side: each on the slices all share, and every pair on the same episodes.

Computed from the runs' stored episodes and run.toml alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import Verdict, final_phase, last_evaluations, verdict
from passline.kinds import is_trained_here, require_agent
from passline.report.data import ReportData, load_report_data
from passline.runs import Run

__all__ = ["Comparison", "Contender", "Difference", "compare_runs", "setting_differences"]

MILLS_PER_USD = 1000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One run in a comparison.

    Attributes:
        letter: what it is called in tables and figures.
        run_id: its id.
        data: all that its report needs.
        verdict: on its own test slices.
        agent: the agent's last evaluation on the worst path.
        pass_rate: on the slices that all runs share; None if they share none.
        result_usd: mean net result on them, USD an episode.
        is_forced: it, or a run it descends from, went past a gate that was not passed.
    """

    letter: str
    run_id: str
    data: ReportData
    verdict: Verdict
    agent: EvaluationTable
    pass_rate: Estimate | None
    result_usd: Estimate | None
    is_forced: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run minus another on the episodes that both played.

    Attributes:
        first: letter of the run.
        second: letter of the run it is compared with.
        advantage: difference of pass rates, with a cluster-robust interval.
        advantage_redrawn: the same with its interval from drawing dates anew.
        result: difference of mean net results, USD an episode.
        result_redrawn: the same with its interval from drawing dates anew.
    """

    first: str
    second: str
    advantage: Estimate
    advantage_redrawn: Estimate
    result: Estimate
    result_redrawn: Estimate

    @property
    def word(self) -> str:
        """What can be said; a difference counts only if both of its intervals exclude zero."""
        both = (self.advantage, self.advantage_redrawn)
        if all(estimate.low > 0 for estimate in both):
            return f"{self.first} passes more often"
        if all(estimate.high < 0 for estimate in both):
            return f"{self.second} passes more often"
        return "cannot be told apart"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        contenders: the runs, in the order asked for.
        slices: names of the slices on the same bars that all runs were judged on.
        differences: every pair that played episodes in common.
        unpaired: letters of the pairs that have none.
        settings: settings that differ: dotted name to one text a run, "" where it has none.
        notes: what a reader must know before comparing.
    """

    contenders: tuple[Contender, ...]
    slices: tuple[str, ...]
    differences: tuple[Difference, ...]
    unpaired: tuple[tuple[str, str], ...]
    settings: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compares two runs or more.

    Raises:
        RunError: fewer than two, the same one twice, or one that was never judged or holds no
            agent.
    """
    if not 2 <= len(runs) <= len(LETTERS):
        raise RunError(f"compare: {len(runs)} runs given; 2 to {len(LETTERS)} can be compared")
    for run in runs:
        require_agent(run, "to compare")
    ids = [run.id for run in runs]
    if len(set(ids)) < len(ids):
        raise RunError("compare: the same run was given twice. Give each once")
    read = [load_report_data(run) for run in runs]
    tables = [_agent_rows(run, data) for run, data in zip(runs, read, strict=True)]
    places = [_places(table) for table in tables]
    slices = _common_slices(tables, read)
    span = max(data.span_days for data in read)
    contenders = tuple(
        _contender(letter, run, data, table, slices)
        for letter, run, data, table in zip(LETTERS, runs, read, tables, strict=False)
    )
    differences: list[Difference] = []
    unpaired: list[tuple[str, str]] = []
    for i, j in combinations(range(len(runs)), 2):
        both = sorted(places[i].keys() & places[j].keys())
        if not _same_bars(read[i], read[j]) or not both:
            unpaired.append((LETTERS[i], LETTERS[j]))
            continue
        rows = [[places[k][key] for key in both] for k in (i, j)]
        pair = [tables[k].select(np.array(own)) for k, own in zip((i, j), rows, strict=True)]
        differences.append(_difference(LETTERS[i], LETTERS[j], pair[0], pair[1], span))
    return Comparison(
        contenders=contenders,
        slices=slices,
        differences=tuple(differences),
        unpaired=tuple(unpaired),
        settings=setting_differences([data.manifest for data in read]),
        notes=_notes(contenders, slices, len(differences)),
    )


def setting_differences(manifests: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the settings in which runs differ, with each run's value."""
    flat = [_flatten(manifest.get("config", {})) for manifest in manifests]
    for told, manifest in zip(flat, manifests, strict=True):
        told["passline"] = str(manifest.get("passline", ""))
        told["git revision"] = str(manifest.get("git", {}).get("revision", ""))[:12]
        base = manifest.get("lineage", {}).get("base_run")
        told["weights from"] = str(base or "")
    names = sorted({name for told in flat for name in told})
    rows = {name: tuple(told.get(name, "") for told in flat) for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = ", ".join(str(item) for item in value)
        else:
            found[prefix + key] = str(value)
    return found


def _agent_rows(run: Run, data: ReportData) -> EvaluationTable:
    if data.evaluations is None or not len(data.evaluations.where(policy=AGENT, path="worst")):
        raise RunError(
            f"{run.id}: it was never judged. Finish it with passline train --resume, or judge it "
            "with passline evaluate"
        )
    phase = final_phase(data.evaluations)
    return last_evaluations(data.evaluations, phase=phase).where(policy=AGENT)


def _places(table: EvaluationTable) -> dict[tuple[Any, ...], int]:
    """Returns where each episode began, to its row; the k-th play of a start has k in its key."""
    seen: dict[tuple[Any, ...], int] = {}
    found: dict[tuple[Any, ...], int] = {}
    columns = (table.slice.tolist(), table.market.tolist(), table.start_ns.tolist())
    for row, start in enumerate(zip(*columns, strict=True)):
        play = seen.get(start, 0)
        seen[start] = play + 1
        found[(*start, play)] = row
    return found


def _same_bars(first: ReportData, second: ReportData) -> bool:
    """Says whether two runs were made on the same data, so that equal starts are one episode."""
    return bool(_hashes(first) & _hashes(second))


def _hashes(data: ReportData) -> set[str]:
    entries = data.manifest.get("data", {}).values()
    return {str(e["sha256"] if isinstance(e, Mapping) else e) for e in entries}


def _common_slices(
    tables: Sequence[EvaluationTable], read: Sequence[ReportData]
) -> tuple[str, ...]:
    if any(not _same_bars(read[0], other) for other in read[1:]):
        return ()
    names = [set(table.slice.tolist()) for table in tables]
    return tuple(sorted(set.intersection(*names)))


def _contender(
    letter: str, run: Run, data: ReportData, agent: EvaluationTable, slices: tuple[str, ...]
) -> Contender:
    assert data.evaluations is not None
    own = agent.select(np.isin(agent.slice, slices))
    rate = result = None
    if len(own):
        clusters = clusters_by_span(own.start_day, data.span_days)
        rate = proportion_interval(own.is_pass, clusters, is_serial=True)
        result = mean_interval(own.result_mills / MILLS_PER_USD, clusters, is_serial=True)
    manifest = data.manifest
    return Contender(
        letter=letter,
        run_id=run.id,
        data=data,
        verdict=verdict(
            data.evaluations,
            span_days=data.span_days,
            is_trained_here=is_trained_here(manifest),
        ),
        agent=agent,
        pass_rate=rate,
        result_usd=result,
        is_forced=bool(
            manifest.get("progress", {}).get("forced", False)
            or manifest.get("lineage", {}).get("base_forced", False)
        ),
    )


def _difference(
    first: str, second: str, one: EvaluationTable, other: EvaluationTable, span_days: int
) -> Difference:
    clusters = clusters_by_span(one.start_day, span_days)
    usd = [table.result_mills / MILLS_PER_USD for table in (one, other)]

    def redrawn(values: NDArray[np.float64]) -> Estimate:
        return date_bootstrap(values, one.start_day, span_days=span_days, seed=BOOTSTRAP_SEED)

    return Difference(
        first=first,
        second=second,
        advantage=paired_difference(one.is_pass, other.is_pass, clusters, is_serial=True),
        advantage_redrawn=redrawn(one.is_pass.astype(float) - other.is_pass.astype(float)),
        result=paired_difference(usd[0], usd[1], clusters, is_serial=True),
        result_redrawn=redrawn(usd[0] - usd[1]),
    )


def _notes(
    contenders: Sequence[Contender], slices: tuple[str, ...], n_pairs: int
) -> tuple[str, ...]:
    notes = []
    if not slices:
        notes.append(
            "The runs share no slice on the same bars, so their own pass rates are of different "
            "episodes and must not be ranked."
        )
    books = {str(c.data.manifest.get("rulebook", {}).get("id", "")) for c in contenders}
    if len(books) > 1:
        notes.append(
            f"The accounts follow different rules ({', '.join(sorted(books))}): a difference is "
            "one of agent and rulebook together."
        )
    forced = [c.letter for c in contenders if c.is_forced]
    if forced:
        notes.append(f"Forced past a gate that was not passed: {', '.join(forced)}.")
    elsewhere = [c.letter for c in contenders if not is_trained_here(c.data.manifest)]
    if elsewhere:
        notes.append(
            f"Trained outside passline, maybe on the very days it is judged on: "
            f"{', '.join(elsewhere)}."
        )
    if n_pairs > 1:
        notes.append(
            f"{n_pairs} pairs are compared; of 20 pairs without any difference about one looks "
            "different by luck."
        )
    if len(contenders) > 1 and slices:
        notes.append(
            "Choosing the best of several runs by these figures makes them too good for the one "
            "chosen; the sealed final window is for that."
        )
    return tuple(notes)
