"""The null test of a run: its whole pipeline again on markets in which nothing can be found.

Every training is a trial in memory; each result is appended to the run's `nulltest.jsonl` as soon
as it is known, so that a test that was stopped goes on where it was. The statistics are
`passline.evaluate.null_test`, the markets `passline.market.nulls` and `passline.task.nulls`.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from passline.errors import ConfigError, RunError
from passline.evaluate.null_test import (
    WORDS,
    NullTest,
    judge_nulls,
    reality_check,
    write_null_test,
)
from passline.evaluate.slices import split
from passline.evaluate.stats import clusters_by_span
from passline.evaluate.table import AGENT, EvaluationTable, load_evaluations
from passline.evaluate.verdict import final_phase, last_evaluations
from passline.kinds import NULL_RESULTS_FILE, RunKind, kind_of
from passline.market.bars import Bars
from passline.market.nulls import bar_flip, block_permute, sign_flip
from passline.pipeline import EVALUATIONS, TEST_SEED, Job, curriculum_entry
from passline.registry import configurations_tried, data_fingerprints
from passline.report.null_figure import null_figure
from passline.report.palette import LIGHT
from passline.report.svg import figure_to_png
from passline.runs import (
    Run,
    RunStatus,
    config_fingerprint,
    list_runs,
    mend_last_line,
    naming_refusals,
    note_status,
    replace_file,
    sweep_temporaries,
)
from passline.task.nulls import rotate_features
from passline.task.prepare import Prepared, prepare
from passline.trials import earn

__all__ = [
    "ALL_KINDS",
    "NULL_KINDS",
    "NullPlan",
    "NullResult",
    "Tries",
    "count_tries",
    "measure_trial",
    "null_market",
    "run_null_test",
    "tried_results",
]

NULL_KINDS: dict[str, Callable[..., Bars] | None] = {
    "sign_flip": sign_flip,
    "block_permute": block_permute,
    "rotate": None,
    "bar_flip": bar_flip,
}
"""Kinds of null market and what makes them of bars; None: of the task."""
ALL_KINDS = ("sign_flip", "block_permute", "rotate")
"""The kinds that are asked together, each of which destroys another thing."""
ACTUAL = "actual"

Measure = Callable[[Prepared], tuple[float, float]]
"""Trains on a market and returns (mean net result in allowances, pass rate) on its test slices."""


@dataclass(frozen=True, kw_only=True)
class NullPlan:
    """What a null test is to do.

    Attributes:
        kinds: kinds of null market.
        n: null markets a kind.
        seeds: of the trainings on each market; the statistic is their mean.
        seed: of the null markets.
        forced: train on past gates that were not passed.
        n_configurations: configurations tried on these data; None asks the run registry.
    """

    kinds: tuple[str, ...] = ("rotate",)
    n: int = 39
    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    forced: bool = False
    n_configurations: int | None = None

    def __post_init__(self) -> None:
        """Refuses values that make no test."""
        unknown = sorted(set(self.kinds) - set(NULL_KINDS))
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ConfigError(
                f"nulltest: kinds was {', '.join(self.kinds) or 'empty'}; each of "
                f"{', '.join(NULL_KINDS)} may be asked once."
            )
        if self.n < 1 or not self.seeds:
            raise ConfigError(
                f"nulltest: n was {self.n} with {len(self.seeds)} seeds; at least 1 of both."
            )
        if self.n_configurations is not None and self.n_configurations < 1:
            raise ConfigError(
                f"nulltest: configurations was {self.n_configurations}; the one that is tested "
                "counts, so it is at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class NullResult:
    """One market's result.

    Attributes:
        kind: of null; ACTUAL for the market as it is.
        draw: number of the null market, from 0.
        result: mean net result of an evaluation, in allowances.
        pass_rate: share of the evaluations that passed.
        seconds: what it took.
    """

    kind: str
    draw: int
    result: float
    pass_rate: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Tries:
    """What was tried on a run's data.

    Attributes:
        n_configurations: configurations, the run's own among them.
        p_reality_check: the run's own in the reality check of all of them; None if their results
            are not all stored on the same episodes.
    """

    n_configurations: int
    p_reality_check: float | None

    @property
    def n_independent(self) -> int:
        """Tries that enter by Šidák's formula: 1 where the reality check charges for them."""
        return self.n_configurations if self.p_reality_check is None else 1


def count_tries(job: Job, plan: NullPlan) -> Tries:
    """Counts what was tried on a run's data, as the plan tells or the runs of its root do."""
    root = job.run.path.parent
    tried = plan.n_configurations
    if tried is None:
        tried = max([1, *(configurations_tried(root, s) for s in data_fingerprints(job.run))])
    results = tried_results(job.run, root, tried) if tried > 1 else None
    p_value = None if results is None else _reality_check(job, *results)
    return Tries(n_configurations=tried, p_reality_check=p_value)


def null_market(kind: str, prepared: Prepared, *, seed: int, draw: int) -> Prepared:
    """Makes one null market of the markets of a run.

    Args:
        kind: one of NULL_KINDS.
        prepared: the markets as they are.
        seed: of all null markets.
        draw: which of them.
    """
    entropy = [seed, draw, list(NULL_KINDS).index(kind)]
    seeds = np.random.SeedSequence(entropy).generate_state(len(prepared.bars), np.uint64)
    make = NULL_KINDS[kind]
    if make is None:
        return rotate_features(prepared, seed=int(seeds[0]))
    bars = [make(b, seed=int(s)) for b, s in zip(prepared.bars, seeds, strict=True)]
    return prepare(bars, prepared.rulebook, prepared.config)


def measure_trial(job: Job, plan: NullPlan) -> Measure:
    """Returns what trains the run's configuration on a market and judges it, mean over seeds.

    Time is cut by the run's own settings, so at the same days.
    """

    def measure(prepared: Prepared) -> tuple[float, float]:
        cut = split(prepared, job.config.slices)
        trials = [
            earn(
                prepared,
                cut,
                job.phases,
                job.config.ppo,
                job.config.curriculum,
                seed=seed,
                n_episodes=job.config.slices.n_episodes,
                test_seed=TEST_SEED,
                forced=plan.forced,
            )
            for seed in plan.seeds
        ]
        means = np.mean([[trial.result, trial.pass_rate] for trial in trials], axis=0)
        return float(means[0]), float(means[1])

    return measure


def run_null_test(
    job: Job,
    plan: NullPlan,
    say: Callable[[str], None],
    *,
    measure: Measure | None = None,
) -> NullTest:
    """Does what is left of a null test, and writes its result and figure into the run.

    The null markets of several kinds take turns, so that a test stopped early has of each.

    Args:
        job: the run, prepared.
        plan: what to do; a larger `n` goes on with what an earlier test of this run did.
        say: takes a line after each market.
        measure: trains and judges; the run's own pipeline without it.

    Raises:
        RunError: the run is being written by another process, or holds a damaged null test.
    """
    run = job.run
    with run.lock(), naming_refusals(run.path):
        sweep_temporaries(run.path)
        store = _Store(run.path / NULL_RESULTS_FILE, _fingerprint(job, plan))
        # The status of a run that holds an agent is that of its training.
        is_own = kind_of(run) is RunKind.NULL_TEST
        if is_own and store.known:
            run.record_resume(len(store.known), "markets")
        try:
            _play_markets(job, plan, store, measure or measure_trial(job, plan), say)
            found = _judge(job, plan, store)
            write_null_test(run.path, found)
            figures = run.path / "figures"
            figures.mkdir(exist_ok=True)
            replace_file(figures / "nulltest.png", figure_to_png(null_figure(found, LIGHT)))
        except KeyboardInterrupt:
            if is_own:
                note_status(run, RunStatus.INTERRUPTED, "stopped by the user")
            raise
        except Exception as error:
            if is_own:
                note_status(run, RunStatus.FAILED, str(error))
            raise
        if is_own:
            run.update_status(RunStatus.FINISHED)
    return found


def _play_markets(
    job: Job, plan: NullPlan, store: "_Store", measure: Measure, say: Callable[[str], None]
) -> None:
    """Trains on each market that has no result yet, the actual one first."""
    todo = [(ACTUAL, 0), *((kind, draw) for draw in range(plan.n) for kind in plan.kinds)]
    for number, (kind, draw) in enumerate(todo, start=1):
        if (kind, draw) in store.known:
            continue
        began = time.perf_counter()
        market = job.prepared
        if kind != ACTUAL:
            market = null_market(kind, job.prepared, seed=plan.seed, draw=draw)
        result, rate = measure(market)
        seconds = time.perf_counter() - began
        store.append(
            NullResult(kind=kind, draw=draw, result=result, pass_rate=rate, seconds=seconds)
        )
        say(
            f"{number} of {len(todo)}: {kind} {result:+.4f} allowances, passed {rate:.1%} "
            f"({seconds:.0f} s)"
        )


def _judge(job: Job, plan: NullPlan, store: "_Store") -> NullTest:
    actual = store.known[ACTUAL, 0]
    rows = {
        kind: [
            (store.known[kind, draw].result, store.known[kind, draw].pass_rate)
            for draw in range(plan.n)
        ]
        for kind in plan.kinds
    }
    tries = count_tries(job, plan)
    settings = {
        "seeds": list(plan.seeds),
        "market_seed": plan.seed,
        "n": plan.n,
        "forced": plan.forced,
        "n_steps": job.config.curriculum.total_steps,
        "fingerprint": store.fingerprint,
        "seconds": round(sum(found.seconds for found in store.known.values()), 1),
    }
    return judge_nulls(
        actual.result,
        actual.pass_rate,
        rows,
        n_configurations=tries.n_configurations,
        p_reality_check=tries.p_reality_check,
        settings=settings,
    )


def _reality_check(job: Job, results: Any, start_day: Any) -> float | None:
    """Returns the run's p-value over blocks two evaluations long; None if there are under 4."""
    clusters = clusters_by_span(start_day, 2 * job.prepared.span_days)
    if len(np.unique(clusters)) < 4:
        return None
    return reality_check(results, clusters, tested=0, seed=0)


def tried_results(run: Run, root: Path, n_tried: int) -> tuple[Any, Any] | None:
    """Returns what each configuration tried on a run's data earned on the same test episodes.

    Args:
        run: the run that is tested.
        root: directory of all runs.
        n_tried: configurations that are known to have been tried.

    Returns:
        (net results, mills [n_tried, n], the run's own first; first day of each episode [n]), of
        each configuration its latest run; None unless all of them stored results on exactly the
        run's own episodes.
    """
    own = _last_rows(run)
    if own is None:
        return None
    data = data_fingerprints(run)
    found = {run.manifest["config_fingerprint"]: own.result_mills}
    for other in list_runs(root):
        config = other.manifest.get("config_fingerprint")
        if config is None or other.id == run.id or not data & data_fingerprints(other):
            continue
        rows = _last_rows(other)
        is_same = rows is not None and np.array_equal(rows.start_ns, own.start_ns)
        if rows is not None and is_same and config != run.manifest["config_fingerprint"]:
            found[config] = rows.result_mills
    if len(found) < n_tried:
        return None
    return np.stack(list(found.values())), own.start_day


def _last_rows(run: Run) -> EvaluationTable | None:
    """Returns the agent's last held-out evaluation, worst path; None if there is none."""
    path = run.path / EVALUATIONS
    if not path.exists():
        return None
    table = load_evaluations(path)
    if not len(table.where(policy=AGENT, path="worst")):
        return None
    rows = last_evaluations(table, phase=final_phase(table)).where(policy=AGENT)
    return rows.select(np.lexsort((rows.market, rows.start_ns)))


def _fingerprint(job: Job, plan: NullPlan) -> str:
    """Returns what decides each result, whatever kinds and numbers of markets are asked for."""
    return config_fingerprint(
        {
            "config": job.run.manifest["config_fingerprint"],
            "data": sorted(data_fingerprints(job.run)),
            "curriculum": curriculum_entry(job.phases),
            "seeds": list(plan.seeds),
            "seed": plan.seed,
            "forced": plan.forced,
        }
    )


class _Store:
    """Results of one test, a line each, in a file that only grows.

    Lines of tests with other seeds stay in the file and are not read. A last line that was torn
    when its process was killed, or the disk was full, is cut off, and its market is done again.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self.fingerprint = fingerprint
        path.touch()
        mend_last_line(path)
        self.known = {(r.kind, r.draw): r for r in _read_results(path, fingerprint)}

    def append(self, found: NullResult) -> None:
        """Writes one result and waits until it is on the disk."""
        line = json.dumps({"fingerprint": self.fingerprint, **vars(found)}) + "\n"
        with naming_refusals(self._path), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.known[found.kind, found.draw] = found


def _read_results(path: Path, fingerprint: str) -> list[NullResult]:
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            if row.pop("fingerprint") == fingerprint:
                found.append(NullResult(**row))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path}: line {number} is no result of a null test. Remove the line, or the "
                "file to begin again."
            ) from error
    return found


assert set(NULL_KINDS) == set(WORDS)
