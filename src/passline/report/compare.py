"""Several runs side by side: each on the slices all share, and every pair on the same episodes.

Computed from the runs' stored episodes and run.toml alone. Trainings are compared here,
walk-forwards in `compare_walks`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from passline.errors import RunError
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import final_phase, last_evaluations, verdict
from passline.kinds import RunKind, is_forced, is_trained_here, kind_of, origin_of
from passline.report.compare_walks import compare_walks
from passline.report.comparison import (
    LETTERS,
    Comparison,
    Contender,
    Difference,
    difference_of,
    notes_on,
    scores_on,
    setting_differences,
)
from passline.report.data import ReportData, load_report_data
from passline.runs import Run

__all__ = ["compare_runs"]


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compares two trainings or more, or two walk-forwards or more.

    Raises:
        RunError: fewer than two, the same one twice, both kinds at once, a null test, one that was
            never judged, or walk-forwards that share no episode.
    """
    if not 2 <= len(runs) <= len(LETTERS):
        raise RunError(f"compare: {len(runs)} runs given; 2 to {len(LETTERS)} can be compared")
    kind = _kind_of_all(runs)
    ids = [run.id for run in runs]
    if len(set(ids)) < len(ids):
        raise RunError("compare: the same run was given twice. Give each once")
    return compare_walks(runs) if kind is RunKind.WALK_FORWARD else _compare_trainings(runs)


def _kind_of_all(runs: Sequence[Run]) -> RunKind:
    """Returns what all of them are; a judged model holds an agent, as a training does.

    Raises:
        RunError: they are of several kinds, or one is of a kind that is not compared.
    """
    held = [kind_of(run) for run in runs]
    kinds = [RunKind.TRAINING if kind is RunKind.MODEL else kind for kind in held]
    for run, kind in zip(runs, kinds, strict=True):
        if kind is RunKind.NULL_TEST:
            raise RunError(
                f"{run.id}: is a null test, and null tests are not compared: each asks whether one "
                "result is beyond luck, on markets of its own. Look at its p-value and its null "
                f"markets: passline report {run.id}"
            )
    if len(set(kinds)) > 1:
        walk, training = (
            next(run.id for run, own in zip(runs, kinds, strict=True) if own is kind)
            for kind in (RunKind.WALK_FORWARD, RunKind.TRAINING)
        )
        raise RunError(
            f"compare: {walk} is a walk-forward and {training} a training, judged on other "
            "episodes. Compare trainings with trainings (passline train) or walk-forwards with "
            "walk-forwards (passline walkforward)"
        )
    return kinds[0]


def _compare_trainings(runs: Sequence[Run]) -> Comparison:
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
        differences.append(difference_of(LETTERS[i], LETTERS[j], pair[0], pair[1], span))
    settings = setting_differences([data.manifest for data in read])
    return Comparison(
        kind=RunKind.TRAINING,
        contenders=contenders,
        slices=slices,
        differences=tuple(differences),
        unpaired=tuple(unpaired),
        settings=settings,
        notes=_notes(contenders, slices, settings, len(differences)),
    )


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
    rate, result = scores_on(own, data.span_days) if len(own) else (None, None)
    manifest = data.manifest
    return Contender(
        letter=letter,
        run_id=run.id,
        manifest=manifest,
        scalars=data.scalars,
        verdict=verdict(
            data.evaluations,
            span_days=data.span_days,
            origin=origin_of(manifest),
        ),
        agent=agent,
        pass_rate=rate,
        result_usd=result,
        is_forced=is_forced(manifest),
    )


def _notes(
    contenders: Sequence[Contender],
    slices: tuple[str, ...],
    settings: Mapping[str, tuple[str, ...]],
    n_pairs: int,
) -> tuple[str, ...]:
    notes = []
    if not slices:
        notes.append(
            "The runs share no slice on the same bars, so their own pass rates are of different "
            "episodes and must not be ranked."
        )
    books = {str(c.manifest.get("rulebook", {}).get("id", "")) for c in contenders}
    if len(books) > 1:
        notes.append(
            f"The accounts follow different rules ({', '.join(sorted(books))}): a difference is "
            "one of agent and rulebook together."
        )
    elsewhere = [c.letter for c in contenders if not is_trained_here(c.manifest)]
    if elsewhere:
        notes.append(
            f"Trained outside passline, maybe on the very days it is judged on: "
            f"{', '.join(elsewhere)}."
        )
    notes += notes_on(contenders, settings, n_pairs)
    if slices:
        notes.append(
            "Choosing the best of several runs by these figures makes them too good for the one "
            "chosen; the sealed final window is for that."
        )
    return tuple(notes)
