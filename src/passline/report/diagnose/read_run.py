"""Reads a passline run's manifest, curves and evaluations into the form that the checks take."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from passline.errors import RunError
from passline.evaluate.table import AGENT, EvaluationTable, load_evaluations
from passline.kinds import require_agent
from passline.report.data import EVALUATIONS_FILE
from passline.report.diagnose.logs import Curve, Detail, Evaluation, GateLog, PhaseLog, TrainingLog
from passline.report.tensorboard import SCALARS_FILE, Scalars, read_scalars
from passline.runs import Run, open_run
from passline.sim.layout import DoneReason, Outcome

__all__ = ["is_passline_table", "read_passline_run", "read_table"]


def read_passline_run(path: Path) -> TrainingLog:
    """Reads a run directory.

    Raises:
        RunError: run.toml or a file beside it is damaged, or nothing was trained yet.
    """
    run = open_run(path)
    require_agent(run, "nor training curves")
    scalars = read_scalars(path / SCALARS_FILE)
    stored = path / EVALUATIONS_FILE
    evaluations = _evaluations(load_evaluations(stored)) if stored.exists() else {}
    names = list(dict.fromkeys([*scalars.phase.tolist(), *evaluations]))
    if not names:
        raise RunError(
            f"{path}: the run has neither {SCALARS_FILE} nor {EVALUATIONS_FILE} with anything in "
            "it. Diagnose it after its first update."
        )
    return TrainingLog(
        path=str(path),
        kind="passline",
        phases=tuple(
            PhaseLog(
                name=name,
                curves=_curves(scalars, name),
                evaluations=evaluations.get(name, ()),
                bars_per_lane=_bars_per_lane(scalars, name),
            )
            for name in names
        ),
        gates=_gates(run),
        status=run.status.value,
        has_config=True,
    )


def _bars_per_lane(scalars: Scalars, phase: str) -> float | None:
    """Returns the bars that each lane walked in a phase: its steps over the number of lanes."""
    is_own = scalars.phase == phase
    own = scalars.step[is_own]
    told = scalars.values.get("rollout/n_lanes")
    if told is None or not len(own) or not np.isfinite(told[is_own][-1]):
        return None
    lanes = float(told[is_own][-1])
    before = scalars.step[scalars.step < own[0]]
    return float(own[-1] - (before[-1] if len(before) else 0)) / lanes


def is_passline_table(path: Path) -> bool:
    """Says whether an .npz holds passline's evaluations by row; False for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "row_policy.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_table(path: Path) -> tuple[PhaseLog, ...]:
    """Reads a passline `evaluations.npz` alone, without curves or gates."""
    found = _evaluations(load_evaluations(path))
    if not found:
        raise RunError(f"{path}: holds no episode of the agent.")
    return tuple(PhaseLog(name=name, evaluations=rows) for name, rows in found.items())


def _curves(scalars: Scalars, phase: str) -> dict[str, Curve]:
    rows = scalars.phase == phase
    curves = {}
    for tag, values in scalars.values.items():
        own = values[rows]
        if np.isfinite(own).any():
            known = np.isfinite(own)
            curves[tag] = Curve(step=scalars.step[rows][known], value=own[known])
    return curves


def _evaluations(table: EvaluationTable) -> dict[str, tuple[Evaluation, ...]]:
    """Returns the agent's evaluations on the worst path by phase; all in the order of steps."""
    agent = table.where(policy=AGENT, path="worst")
    found: dict[str, list[Evaluation]] = {}
    for number in np.unique(agent.evaluation):
        rows = agent.select(agent.evaluation == number)
        found.setdefault(str(rows.phase[0]), []).append(_evaluation(rows))
    ordered = {
        phase: tuple(sorted(rows, key=lambda evaluation: evaluation.step))
        for phase, rows in found.items()
    }
    return dict(sorted(ordered.items(), key=lambda item: item[1][0].step))


def _evaluation(rows: EvaluationTable) -> Evaluation:
    codes, counts = np.unique(rows.done_reason, return_counts=True)
    choices = rows.choice_counts.sum(axis=0)
    hold = rows.action_names.index("hold") if "hold" in rows.action_names else None
    total = int(choices.sum())
    share = float("nan") if hold is None or not total else float(choices[hold]) / total
    return Evaluation(
        step=int(rows.timesteps[0]),
        rewards=rows.reward.astype(np.float64),
        lengths=rows.ep_length.astype(np.float64),
        n_passed=int(rows.is_pass.sum()),
        detail=Detail(
            done_reasons={
                DoneReason(int(code)).name.lower(): int(count)
                for code, count in zip(codes, counts, strict=True)
            },
            n_breached=int((rows.outcome == Outcome.BREACHED).sum()),
            n_trips=int(rows.n_trips.sum()),
            n_invalid=int(rows.n_invalid.sum()),
            n_actions=int(rows.action_counts.sum()),
            hold_share=share,
            slices=tuple(np.unique(rows.slice).tolist()),
        ),
    )


def _gates(run: Run) -> tuple[GateLog, ...]:
    told = run.manifest.get("progress", {}).get("gates", [])
    return tuple(_gate(run.path, gate) for gate in told)


def _gate(path: Path, told: Mapping[str, Any]) -> GateLog:
    try:
        return GateLog(
            phase=str(told["phase"]),
            measure=str(told["measure"]),
            value=float(told["value"]),
            low=float(told["low"]),
            high=float(told["high"]),
            n=int(told["n"]),
            above=float(told["above"]),
            is_passed=bool(told["is_passed"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: run.toml holds a gate that cannot be read ({error}). Restore it from a copy."
        ) from error
