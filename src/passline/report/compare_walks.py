"""Several walk-forwards side by side: on the test windows all share, paired by their starts.

Computed from their stored results and run.toml alone. Walk-forwards on other bars, under another
rulebook or without a window in common share no episode and are refused.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.stats import Estimate, clusters_by_span, paired_difference
from passline.evaluate.table import AGENT, EvaluationTable, join_tables
from passline.evaluate.walk_results import FoldScore, WalkResults, load_walk
from passline.kinds import RunKind
from passline.report.comparison import (
    LETTERS,
    Comparison,
    Contender,
    Difference,
    SharedWindow,
    difference_of,
    notes_on,
    scores_on,
    setting_differences,
)
from passline.runs import Run

__all__ = ["compare_walks"]

Days = tuple[int, int]
"""A test window, half-open, days since 1970-01-01."""
Start = tuple[str, int]
"""Where an episode begins: market, and open time of the bar."""
Plays = dict[Start, list[int]]
"""Rows of a table by where their episodes began."""


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """One walk-forward on the windows that all share.

    Attributes:
        run: its directory.
        results: all that it holds.
        folds: its score in each of these windows, the earliest first.
        agent: the agent's episodes in them on the worst path, all seeds [n].
        window: number of each episode's window [n].
    """

    run: Run
    results: WalkResults
    folds: tuple[FoldScore, ...]
    agent: EvaluationTable
    window: NDArray[np.int64]


def compare_walks(runs: Sequence[Run]) -> Comparison:
    """Compares two walk-forwards or more.

    Raises:
        RunError: they share no episode, or one of them holds no result yet.
    """
    for other in runs[1:]:
        _refuse_other_episodes(runs[0], other)
    read = [load_walk(run) for run in runs]
    windows = _shared_windows(runs, read)
    walks = [_walk_on(run, results, windows) for run, results in zip(runs, read, strict=True)]
    span = int(runs[0].manifest["rulebook"]["time_limit_days"])
    contenders = tuple(
        _contender(letter, walk, span) for letter, walk in zip(LETTERS, walks, strict=False)
    )
    differences = tuple(
        _difference((LETTERS[i], LETTERS[j]), walks[i], walks[j], span)
        for i, j in combinations(range(len(walks)), 2)
    )
    settings = setting_differences([run.manifest for run in runs])
    shared = tuple(
        _shared_window(days, [walk.folds[at] for walk in walks]) for at, days in enumerate(windows)
    )
    return Comparison(
        kind=RunKind.WALK_FORWARD,
        contenders=contenders,
        slices=tuple(window.name for window in shared),
        windows=shared,
        differences=differences,
        unpaired=(),
        settings=settings,
        notes=_notes(contenders, walks, settings, differences),
    )


def _refuse_other_episodes(first: Run, other: Run) -> None:
    """Refuses a walk-forward that plays other episodes, whatever its windows, and says why."""
    told = [run.manifest for run in (first, other)]
    bars = [_bars(manifest) for manifest in told]
    books = [manifest["rulebook"] for manifest in told]
    limits = [int(book["time_limit_days"]) for book in books]
    differ = []
    if len(bars[0]) != len(bars[1]) or any(not a & b for a, b in zip(*bars, strict=True)):
        differ.append("bars ({})".format(" against ".join(_bars_told(m) for m in told)))
    if books[0]["sha256"] != books[1]["sha256"]:
        differ.append("rulebook ({})".format(" against ".join(_book_told(b) for b in books)))
    elif limits[0] != limits[1]:
        differ.append(f"time limit ({limits[0]} against {limits[1]} calendar days)")
    if differ:
        raise RunError(
            f"compare: {first.id} and {other.id} share no episode, differing in "
            f"{' and '.join(differ)}. Walk-forwards are compared on the same bars, rulebook and "
            "test windows alone"
        )


def _bars(manifest: Mapping[str, Any]) -> list[set[str]]:
    """Returns of each market the SHA-256 of all its bars and of those before a final window."""
    return [
        {str(entry[key]) for key in ("sha256", "visible_sha256") if key in entry}
        for entry in manifest["data"].values()
    ]


def _bars_told(manifest: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{entry['contract']} of {entry['bar_seconds']} s {entry['sha256'][:12]}"
        for entry in manifest["data"].values()
    )


def _book_told(book: Mapping[str, Any]) -> str:
    return f"{book['id']} {book['sha256'][:8]}"


def _shared_windows(runs: Sequence[Run], read: Sequence[WalkResults]) -> list[Days]:
    """Returns the windows in which all have a result, the earliest first.

    Raises:
        RunError: there is none.
    """
    found = [{_days(fold): fold for fold in results.folds} for results in read]
    shared = sorted(set.intersection(*(set(own) for own in found)))
    if shared:
        return shared
    planned = [{fold["test"] for fold in run.manifest["slices"]["folds"]} for run in runs]
    if set.intersection(*planned):
        missing = [
            run.id
            for run, own in zip(runs, read, strict=True)
            if len(own.trainings) < own.n_planned
        ]
        raise RunError(
            "compare: no test window that all share has a result of each yet. Go on: "
            f"passline walkforward --resume {missing[0]}"
        )
    told = " against ".join(_windows_told(run) for run in runs)
    raise RunError(
        f"compare: the walk-forwards share no test window ({told}). Windows follow from --folds, "
        "--test-days and --final-days; give those that were cut alike"
    )


def _windows_told(run: Run) -> str:
    folds = [fold["test"] for fold in run.manifest["slices"]["folds"]]
    first, last = folds[0].split(" to ")[0], folds[-1].split(" to ")[1]
    return f"{run.id}: {len(folds)} from {first} to {last}"


def _days(fold: FoldScore) -> Days:
    first, stop = fold.trainings[0].told["test"]
    return int(first), int(stop)


def _walk_on(run: Run, results: WalkResults, windows: Sequence[Days]) -> _Walk:
    by_days = {_days(fold): fold for fold in results.folds}
    folds = tuple(by_days[days] for days in windows)
    parts = [
        (number, training.table.where(policy=AGENT, path="worst"))
        for number, fold in enumerate(folds)
        for training in fold.trainings
    ]
    return _Walk(
        run=run,
        results=results,
        folds=folds,
        agent=join_tables([table for _, table in parts]),
        window=np.repeat([number for number, _ in parts], [len(table) for _, table in parts]),
    )


def _contender(letter: str, walk: _Walk, span_days: int) -> Contender:
    rate, result = scores_on(walk.agent, span_days)
    trainings = walk.results.trainings
    n_stopped = sum(bool(training.told["is_flat"]) for training in trainings)
    n_windows = len(walk.results.folds)
    coverage = (
        f"{len(trainings)} trainings in {n_windows} test window{'s' if n_windows > 1 else ''}"
    )
    if n_stopped:
        coverage += f"; a gate stopped {n_stopped}, judged as never trading"
    return Contender(
        letter=letter,
        run_id=walk.run.id,
        manifest=walk.run.manifest,
        scalars=None,
        verdict=walk.results.verdict,
        agent=walk.agent,
        pass_rate=rate,
        result_usd=result,
        is_forced=any(training.is_forced for training in trainings),
        coverage=coverage,
    )


def _shared_window(days: Days, folds: Sequence[FoldScore]) -> SharedWindow:
    first, last = (str(np.datetime64(day, "D")) for day in (days[0], days[1] - 1))
    return SharedWindow(
        first=first,
        last=last,
        rates=tuple(fold.scores[0].pass_rate for fold in folds),
        seeds=tuple(fold.seed_rates for fold in folds),
    )


def _difference(letters: tuple[str, str], one: _Walk, other: _Walk, span_days: int) -> Difference:
    """Sets two walk-forwards against each other on the starts that both played."""
    plays = [_by_start(walk.agent) for walk in (one, other)]
    both = sorted(plays[0].keys() & plays[1].keys())
    if not both:
        raise RunError(
            f"compare: {one.run.id} and {other.run.id} share test windows and no start in them. "
            "Give both the same slices.n_episodes"
        )
    rows = [_rows_alike(own, both, plays) for own in plays]
    a, b = (walk.agent.select(own) for walk, own in zip((one, other), rows, strict=True))
    window, n = one.window[rows[0]], min(len(np.unique(own)) for own in rows)
    found = difference_of(*letters, a, b, span_days, window)
    estimates = {k: e for k, e in vars(found).items() if isinstance(e, Estimate)}
    counted: dict[str, Any] = {name: _counted(estimate, n) for name, estimate in estimates.items()}
    return dataclasses.replace(
        found,
        **counted,
        windows=tuple(
            _advantage_in(a, b, [own[window == at] for own in rows], window == at, span_days)
            for at in range(len(one.folds))
        ),
    )


def _by_start(agent: EvaluationTable) -> Plays:
    """Returns the rows that began at each bar of each market: one a seed."""
    found: Plays = {}
    for row, start in enumerate(zip(agent.market.tolist(), agent.start_ns.tolist(), strict=True)):
        found.setdefault(start, []).append(row)
    return found


def _rows_alike(own: Plays, starts: Sequence[Start], plays: Sequence[Plays]) -> NDArray[np.intp]:
    """Returns one side's rows for pairs in which every start, and every play of one, counts alike.

    As many plays a start as both sides have divide evenly: with three seeds against two every play
    of the three stands twice and every one of the two three times. Copies change no interval, since
    all plays of a date lie in one cluster.
    """
    length = math.lcm(*(len(side[start]) for side in plays for start in starts))
    return np.concatenate(
        [np.tile(np.array(own[start], np.intp), length // len(own[start])) for start in starts]
    )


def _counted(estimate: Estimate, n: int) -> Estimate:
    """Returns an estimate that says how many episodes it rests on, copies not counted."""
    return dataclasses.replace(estimate, n=n, n_effective=min(estimate.n_effective, n))


def _advantage_in(
    one: EvaluationTable,
    other: EvaluationTable,
    rows: Sequence[NDArray[np.intp]],
    is_in: NDArray[np.bool_],
    span_days: int,
) -> Estimate | None:
    """Returns the difference of pass rates in one window; None if no start in it is shared."""
    if not is_in.any():
        return None
    a, b = (table.select(is_in) for table in (one, other))
    clusters = clusters_by_span(a.start_day, span_days)
    found = paired_difference(a.is_pass, b.is_pass, clusters, is_serial=True)
    return _counted(found, min(len(np.unique(own)) for own in rows))


def _notes(
    contenders: Sequence[Contender],
    walks: Sequence[_Walk],
    settings: Mapping[str, tuple[str, ...]],
    differences: Sequence[Difference],
) -> tuple[str, ...]:
    notes = []
    n_shared = len(walks[0].folds)
    for contender, walk in zip(contenders, walks, strict=True):
        n_missing = walk.results.n_planned - len(walk.results.trainings)
        if n_missing:
            notes.append(
                f"{contender.letter}: {n_missing} of {walk.results.n_planned} trainings failed or "
                "are still to be done; nothing stands in for them."
            )
        more = len(walk.results.folds) - n_shared
        if more:
            notes.append(
                f"{contender.letter} was judged on {more} further window{'s' if more > 1 else ''}; "
                "only what all share counts here."
            )
    if any(d.advantage.n < min(len(w.agent) for w in walks) for d in differences):
        notes.append(
            "Not every start was played by both of a pair (slices.n_episodes differs, or trainings "
            "are missing); pairs count those that were."
        )
    notes += notes_on(contenders, settings, len(differences))
    if n_shared == 1:
        notes.append(
            "They share one test window. Nothing says how otherwise another training would have "
            "come out, so that no difference can be named."
        )
    notes.append(
        "Choosing the best of several walk-forwards by these figures makes them too good for the "
        "one chosen; train its settings and open the sealed final window for that."
    )
    return tuple(notes)
