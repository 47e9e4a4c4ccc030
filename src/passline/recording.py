"""Takes the course of a training down into its run directory, once, however often it was stopped.

A training that goes on from a checkpoint plays again what lay between that and the moment it was
stopped. What the run holds of it is dropped first, and what warnings rest on is read back, so that
the files end as if nothing had happened.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.gates import GateResult
from passline.evaluate.pathology import Course, Warned
from passline.evaluate.slices import Slice, Split
from passline.evaluate.table import (
    AGENT,
    EvaluationTable,
    append_evaluation,
    drop_evaluations,
    load_evaluations,
)
from passline.learn.checkpoint import list_checkpoints
from passline.learn.curriculum import Progress, best_checkpoints
from passline.report.data import EVALUATIONS_FILE
from passline.report.tensorboard import SCALARS_FILE, ScalarWriter, read_scalars
from passline.runs import Run, RunStatus, note_status
from passline.task.phases import Phase

__all__ = ["Recorder", "ResumePoint", "Screen", "drop_last_test", "note_stop", "resume_point"]


class Screen(Protocol):
    """What shows a job's progress; the command line draws it, a program may ignore it."""

    def say(self, text: str) -> None:
        """Takes one line of what is being done."""
        ...

    def update(self, phase: str, progress: Progress, scalars: Mapping[str, float]) -> None:
        """Takes the scalars of one update."""
        ...


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where a stopped training goes on.

    Attributes:
        step: training steps of its newest checkpoint; 0 if it was stopped before the first.
        phase: the checkpoint's phase; "" without one.
        is_phase_end: the phase's updates are done, and its gates come next.
    """

    step: int
    phase: str
    is_phase_end: bool


def resume_point(run: Run, budgets: Mapping[str, int]) -> ResumePoint | None:
    """Returns where a run's training goes on; None if it has not begun.

    Args:
        run: its directory.
        budgets: number of updates of each phase by name.
    """
    known = list_checkpoints(run.path / "checkpoints")
    if not known:
        has_begun = (run.path / SCALARS_FILE).exists()
        return ResumePoint(step=0, phase="", is_phase_end=False) if has_begun else None
    meta = max(known, key=lambda info: int(info.meta["step"])).meta
    phase = str(meta["phase"])
    return ResumePoint(
        step=int(meta["step"]), phase=phase, is_phase_end=meta["update"] == budgets.get(phase)
    )


class Recorder:
    """Takes a training's progress into the run's directory and onto the screen.

    Args:
        run: its directory; the caller holds its lock.
        screen: what shows the progress.
        phases: the curriculum.
        split: the cut of time, by which rows of the gate slices are known.
        resumed: where the training goes on; None if it begins.

    Raises:
        RunError: a file of the run cannot be read or written, or a new training finds one there.
    """

    def __init__(
        self,
        run: Run,
        screen: Screen,
        phases: Sequence[Phase],
        split: Split,
        *,
        resumed: ResumePoint | None,
    ) -> None:
        self._run = run
        self._screen = screen
        self._evaluations = run.path / EVALUATIONS_FILE
        # Where gates are of different lengths, their episodes are not those of the looks.
        self._comparable = {p.name for p in phases if len({g.days for g in p.gate}) == 1}
        self.gates: list[dict[str, Any]] = run.manifest.get("progress", {}).get("gates", [])
        self._course = Course()
        if resumed is not None:
            drop_evaluations(self._evaluations, partial(_comes_again, split.gate, resumed))
            self._recall(split.gate, resumed)
        step = None if resumed is None else resumed.step
        self._writer = ScalarWriter(run.path, resume_step=step)

    def _recall(self, gate_slices: Sequence[Slice], resumed: ResumePoint) -> None:
        """Brings the warnings to where they stood at the checkpoint, saying none of them again."""
        scalars = read_scalars(self._run.path / SCALARS_FILE)
        table = load_evaluations(self._evaluations) if self._evaluations.exists() else None
        if table is not None:
            table = table.select(_is_on(gate_slices, table))
        for index in np.flatnonzero(scalars.step <= resumed.step):
            step, phase = int(scalars.step[index]), str(scalars.phase[index])
            values = {name: float(column[index]) for name, column in scalars.values.items()}
            known = {name: value for name, value in values.items() if np.isfinite(value)}
            self._course.on_update(phase, step, known)
            if table is not None:
                self._look_for_divergence(table.select(table.timesteps == step))
        told = [dataclasses.asdict(warned) for warned in self._course.warned]
        if self._run.manifest.get("progress", {}).get("warnings", []) != told:
            self._run.record_progress({"warnings": told})

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def on_update(self, phase: Phase, progress: Progress, scalars: Mapping[str, float]) -> None:
        """Stores and shows the scalars of one update, and looks for what goes wrong."""
        self._writer.write(progress.step, phase.name, scalars)
        self._screen.update(phase.name, progress, scalars)
        self._warn(self._course.on_update(phase.name, progress.step, scalars))

    def on_look(self, table: EvaluationTable) -> None:
        """Stores the agent's episodes in the middle of a phase."""
        append_evaluation(self._evaluations, [table])
        self._warn(self._look_for_divergence(table))

    def on_gates(self, results: list[GateResult], table: EvaluationTable) -> None:
        """Stores the episodes of a phase's gates, and what was found."""
        append_evaluation(self._evaluations, [table])
        self._warn(self._look_for_divergence(table))
        tested = {result.phase for result in results}
        self.gates = [gate for gate in self.gates if gate["phase"] not in tested]
        for result in results:
            self._screen.say(result.sentence())
            self.gates.append(_gate_entry(result))
        self._run.update_status(RunStatus.RUNNING, progress={"gates": self.gates})

    def _look_for_divergence(self, table: EvaluationTable) -> list[Warned]:
        """Sets the rows of one look, or of a phase's gates, against the training beside it."""
        agent = table.where(policy=AGENT, path="worst")
        if not len(agent):
            return []
        phase, step = str(agent.phase[0]), int(agent.timesteps[0])
        is_gate = len(agent) < len(table)  # others play at a gate alone
        if is_gate and phase not in self._comparable:
            return []
        return self._course.on_look(phase, step, agent.reward, agent.start_day)

    def _warn(self, found: Sequence[Warned]) -> None:
        """Shows each warning in a line and keeps all in the run's manifest."""
        for warned in found:
            self._screen.say(warned.line())
        if found:
            told = [dataclasses.asdict(warned) for warned in self._course.warned]
            self._run.record_progress({"warnings": told})


def drop_last_test(
    run: Run, phases: Sequence[Phase], split: Split, resumed: ResumePoint, *, forced: bool
) -> None:
    """Drops the test of a training that had ended where it is resumed, and so ends there again.

    It ended there if its last phase was done, or a gate stopped it and stops it once more. Any
    other test of that step is none that this training will play again, and stays.

    Args:
        run: its directory.
        phases: the curriculum.
        split: the cut of time.
        resumed: where the training goes on.
        forced: it goes on past gates that were not passed.
    """
    gates = run.manifest.get("progress", {}).get("gates", [])
    is_stopped = any(g["phase"] == resumed.phase and not g["is_passed"] for g in gates)
    is_last = resumed.phase == phases[-1].name
    if resumed.is_phase_end and (is_last or (is_stopped and not forced)):
        drop_evaluations(
            run.path / EVALUATIONS_FILE,
            lambda table: _is_on(split.test, table) & (table.timesteps == resumed.step),
        )


def note_stop(run: Run, status: RunStatus, message: str) -> None:
    """Writes how a training stopped, and its best checkpoints so far, where that is possible."""
    note_status(run, status, message)
    with contextlib.suppress(RunError):
        run.record_progress({"best": best_checkpoints(run.path / "checkpoints")})


def _comes_again(
    gate_slices: Sequence[Slice], resumed: ResumePoint, table: EvaluationTable
) -> NDArray[np.bool_]:
    """Tells which rows the resumed training will store once more [n].

    A look comes before the checkpoint of its update, a gate after it: of the checkpoint's own step
    the rows of a gate come again, those of a look do not.
    """
    first = resumed.step if resumed.is_phase_end else resumed.step + 1
    return _is_on(gate_slices, table) & (table.timesteps >= first)


def _is_on(slices: Sequence[Slice], table: EvaluationTable) -> NDArray[np.bool_]:
    return np.isin(table.slice, [part.name for part in slices])


def _gate_entry(result: GateResult) -> dict[str, Any]:
    return {
        "phase": result.phase,
        "measure": result.measure,
        "value": result.estimate.value,
        "low": result.estimate.low,
        "high": result.estimate.high,
        "n": result.estimate.n,
        "n_effective": result.estimate.n_effective,
        "above": result.above,
        "is_passed": result.is_passed,
    }
