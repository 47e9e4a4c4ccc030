"""The directory of a walk-forward: made, filled, gone on with, and summed up on a page.

Each training leaves one file, put in place whole, so that a walk-forward that was stopped does only
what is missing when it goes on.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from passline.config import TrainConfig, from_plain, to_plain
from passline.errors import ConfigError, RunError
from passline.evaluate.folds import Fold, FoldConfig, cut_folds
from passline.evaluate.slices import evaluation_starts
from passline.evaluate.verdict import Verdict
from passline.evaluate.walk_results import RESULTS, load_walk
from passline.kinds import WALK_SECTION, RunKind, kind_of
from passline.pipeline import (
    TEST_SEED,
    Markets,
    book_entry,
    check_curriculum,
    check_run,
    curriculum_entry,
    data_entry,
    open_markets,
    summary_of,
)
from passline.registry import record_files
from passline.rulebook import load_rulebook
from passline.runs import (
    DEFAULT_ROOT,
    Run,
    RunStatus,
    create_run,
    naming_refusals,
    note_status,
    replace_file,
    sweep_temporaries,
)
from passline.task.phases import load_phases
from passline.task.prepare import Prepared, prepare
from passline.walkforward.pool import Done, work_here, work_in_processes
from passline.walkforward.ray_pool import work_on_ray
from passline.walkforward.work import Order, Task

__all__ = ["Walk", "WalkOutcome", "continue_walk", "publish_walk", "run_walk", "start_walk"]

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A walk-forward about to run.

    Attributes:
        run: its directory.
        order: what all its trainings share.
        folds: the cuts of time.
    """

    run: Run
    order: Order
    folds: tuple[Fold, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All trainings, the earliest fold first."""
        first = self.order.config.curriculum.seed
        seeds = range(first, first + self.order.folds.seeds)
        return tuple(Task(fold=fold.number, seed=seed) for fold in self.folds for seed in seeds)

    @property
    def missing(self) -> tuple[Task, ...]:
        """Trainings without a result."""
        return tuple(task for task in self.tasks if not self.result_of(task).exists())

    def result_of(self, task: Task) -> Path:
        """Returns the file of a training's result."""
        return self.run.path / RESULTS / f"{task.name}.npz"


@dataclass(frozen=True, kw_only=True)
class WalkOutcome:
    """What a walk-forward came to.

    Attributes:
        run: its directory.
        verdict: on all test windows together; None if no training ended well.
        page: the page; None without a result.
        failed: trainings that failed, with what went wrong.
    """

    run: Run
    verdict: Verdict | None
    page: Path | None
    failed: tuple[tuple[Task, str], ...]


def start_walk(
    config: TrainConfig,
    folds: FoldConfig,
    *,
    forced: bool = False,
    root: Path = DEFAULT_ROOT,
    name: str | None = None,
) -> Walk:
    """Prepares the markets, cuts the folds and makes the directory.

    Nothing is written before everything that can be refused has been looked at.
    """
    if config.base_sha256:
        raise ConfigError(
            f"base_sha256 was {config.base_sha256[:12]}…; a walk-forward trains every fold from "
            "fresh weights, since a base may have seen its test window. Leave it out."
        )
    markets = open_markets(config)
    order, prepared = _order(markets, config, folds, forced=forced)
    cuts = cut_folds(prepared, config.slices, folds)
    for fold in cuts:
        for slices in (fold.split.gate, fold.split.test):
            evaluation_starts(prepared, slices, n=2, span_days=prepared.span_days, seed=0)
    label = name or f"walkforward-{prepared.rulebook.id}"
    run = create_run(root, label, _manifest(order, markets, prepared, cuts))
    return Walk(run=run, order=order, folds=cuts)


def continue_walk(run: Run) -> Walk:
    """Prepares a walk-forward that was stopped to go on.

    Raises:
        RunError: the run is no walk-forward, its settings were altered, or bars, rulebook or
            curriculum are not those it began with.
    """
    kind = kind_of(run)
    if kind is not RunKind.WALK_FORWARD:
        others = {RunKind.NULL_TEST: "nulltest", RunKind.MODEL: "evaluate"}
        command = others.get(kind, "train --resume")
        raise RunError(
            f"{run.id}: is a {kind.value} and no walk-forward. Go on with it: passline {command} "
            f"{run.id}"
        )
    plain = dict(run.manifest["config"])
    own = dict(plain.pop(WALK_SECTION))
    forced = bool(own.pop("forced"))
    config = from_plain(plain, f"{run.id}/run.toml")
    markets = open_markets(config)
    check_run(run, config, markets.whole)
    order, prepared = _order(markets, config, FoldConfig(**own), forced=forced)
    check_curriculum(run, order.phases)
    return Walk(run=run, order=order, folds=cut_folds(prepared, config.slices, order.folds))


def _order(
    markets: Markets, config: TrainConfig, folds: FoldConfig, *, forced: bool
) -> tuple[Order, Prepared]:
    order = Order(
        bars=markets.bars,
        rulebook=load_rulebook(config.rulebook),
        phases=load_phases(Path(config.phases) if config.phases else None),
        config=config,
        folds=folds,
        forced=forced,
    )
    return order, prepare(markets.bars, order.rulebook, config.task)


def _manifest(
    order: Order, markets: Markets, prepared: Prepared, cuts: Sequence[Fold]
) -> dict[str, Any]:
    pairs = enumerate(zip(markets.whole, markets.bars, strict=True))
    first = order.config.curriculum.seed
    return {
        "config": to_plain(order.config)
        | {WALK_SECTION: to_plain(order.folds) | {"forced": order.forced}},
        "seeds": {"training": list(range(first, first + order.folds.seeds)), "test": TEST_SEED},
        "markets": [b.contract.symbol for b in order.bars],
        "data": {f"{i}-{a.contract.symbol}": data_entry(a, b) for i, (a, b) in pairs},
        "rulebook": book_entry(order.rulebook, prepared),
        "curriculum": curriculum_entry(order.phases),
        "hardware": {"jax_backend": jax.default_backend()},
        "slices": {"folds": [_window(fold) for fold in cuts], "final": markets.final_start},
    }


def _window(fold: Fold) -> dict[str, Any]:
    """Returns a fold's windows as dates, the last day included."""

    def dates(window: tuple[int, int]) -> str:
        first, last = (str(np.datetime64(day, "D")) for day in (window[0], window[1] - 1))
        return f"{first} to {last}"

    return {
        "fold": fold.number,
        "train": dates(fold.train),
        "gate": dates(fold.gate),
        "test": dates(fold.test),
    }


def run_walk(walk: Walk, say: Say, *, jobs: int = 1, ray_address: str | None = None) -> WalkOutcome:
    """Does the trainings that are missing, and writes the page of what is there.

    Args:
        walk: the walk-forward.
        say: takes a line a training.
        jobs: processes on this machine.
        ray_address: a Ray cluster that does the trainings instead.

    Raises:
        ConfigError: `jobs` below 1, or no cluster answers.
    """
    if jobs < 1:
        raise ConfigError(f"jobs was {jobs}; it must be at least 1.")
    with walk.run.lock(), naming_refusals(walk.run.path):
        sweep_temporaries(walk.run.path)
        (walk.run.path / RESULTS).mkdir(exist_ok=True)
        missing = walk.missing
        if len(missing) < len(walk.tasks):
            walk.run.record_resume(len(walk.tasks) - len(missing), "trainings")
        try:
            with contextlib.closing(_dispatch(walk.order, missing, jobs, ray_address)) as results:
                failed = _store(walk, results, say)
            return _conclude(walk, failed)
        except KeyboardInterrupt:
            note_status(walk.run, RunStatus.INTERRUPTED, "stopped by the user")
            raise
        except Exception as error:
            note_status(walk.run, RunStatus.FAILED, str(error))
            raise


def _store(walk: Walk, results: Iterable[Done], say: Say) -> list[tuple[Task, str]]:
    """Puts each result in its place as it comes; returns the trainings that failed."""
    failed: list[tuple[Task, str]] = []
    n_done = len(walk.tasks) - len(walk.missing)
    for done in results:
        if done.error:
            failed.append((done.task, done.error))
            say(f"{done.task.name} FAILED: {done.error}")
            continue
        n_done += 1
        replace_file(walk.result_of(done.task), done.content)
        walk.run.update_status(RunStatus.RUNNING, progress={"trained": n_done})
        say(f"{done.task.name} done ({n_done} of {len(walk.tasks)})")
    return failed


def _dispatch(
    order: Order, tasks: Sequence[Task], jobs: int, ray_address: str | None
) -> Generator[Done, None, None]:
    """Does the trainings in the way asked for; closing it ends the processes it hired."""
    if not tasks:
        return
    if ray_address is not None:
        yield from work_on_ray(order, tasks, ray_address)
    elif jobs == 1:
        yield from work_here(order, tasks)
    else:
        yield from work_in_processes(order, tasks, jobs)


def _conclude(walk: Walk, failed: list[tuple[Task, str]]) -> WalkOutcome:
    n_done = len(walk.tasks) - len(walk.missing)
    progress: dict[str, Any] = {"trained": n_done, "planned": len(walk.tasks)}
    results = load_walk(walk.run) if n_done else None
    found = results.verdict if results is not None else None
    if results is not None:
        progress["test"] = summary_of(results.verdict)
        if any(training.is_forced for training in results.trainings):
            progress["forced"] = True
    message = "; ".join(f"{task.name}: {error}" for task, error in failed[:5])
    status = RunStatus.FAILED if failed else RunStatus.FINISHED
    walk.run.update_status(status, message=message, progress=progress)
    record_files(walk.run)
    page = publish_walk(walk.run)[1] if n_done else None
    return WalkOutcome(run=walk.run, verdict=found, page=page, failed=tuple(failed))


def publish_walk(run: Run) -> tuple[Verdict, Path]:
    """Writes a walk-forward's page again, from its directory alone."""
    # It loads matplotlib, which no training waits for.
    from passline.report.walk_page import WALK_PAGE, write_walk_page  # noqa: PLC0415

    results = load_walk(run)
    return results.verdict, write_walk_page(run, results, run.path / WALK_PAGE)
