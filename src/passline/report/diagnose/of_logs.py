"""Checks of the whole training: are its logs complete, and was each phase fit for the next?"""

import re
from collections.abc import Iterator

import numpy as np

from passline.report.diagnose.findings import Answer, Clear, Problem, Severity, Unknown
from passline.report.diagnose.logs import PhaseLog, TrainingLog
from passline.report.diagnose.words import number, steps_text

__all__ = ["blind_spots", "gates", "lost_logs", "unfinished", "weak_base"]

GAP = 1.5
"""Times the usual distance between evaluations that counts as one missing."""
CURVE_GAP = 5.0
"""Times the usual distance between updates that counts as a gap in the curves."""

_ACTIONS = re.compile(r"(^|[/_])actions?([/_]|$)")
_ENDINGS = re.compile(r"(^|[/_])(done|terminat|ending)")
"""Tags of scalars that tell which actions are chosen, and why episodes end."""

VERSION_LOGS = (
    "Give every run its own evaluation file: put a timestamp or the run's id into the log_path of "
    "EvalCallback, and never write to a path that exists."
)
ONE_DIRECTORY = (
    "Let every start write to a directory of its own, and resume with steps that go on counting "
    "(reset_num_timesteps=False)."
)


def lost_logs(phase: PhaseLog) -> Answer:
    """Is every evaluation and update that was made still there?"""
    if phase.file is None and phase.main_curve() is None:
        return Unknown(missing="neither curves nor a file of evaluations")
    found = [*_overwritten(phase), *_gapped(phase)]
    if found:
        told = "; ".join(sentence for _, sentence, _ in found)
        return Problem(
            severity=min((severity for severity, _, _ in found), key=lambda s: s.rank),
            evidence=told + ".",
            remedies=tuple(dict.fromkeys(remedy for _, _, remedy in found)),
        )
    curve = phase.main_curve()
    n_points = 0 if curve is None else len(curve.step)
    return Clear(evidence=f"{n_points} updates and {len(phase.evaluations)} evaluations, no gap.")


_Loss = tuple[Severity, str, str]


def _overwritten(phase: PhaseLog) -> Iterator[_Loss]:
    """Yields signs that a later run wrote over an earlier one, or may."""
    file, logged = phase.file, phase.curve("eval/mean_reward")
    if phase.n_restarts:
        yield (
            Severity.WARNING,
            f"steps fall back {phase.n_restarts} time(s): several runs share one event directory",
            ONE_DIRECTORY,
        )
    if file is None:
        return
    if logged is not None:
        missing = sorted(set(logged.step.tolist()) - set(file.steps))
        if missing:
            yield (
                Severity.CRITICAL,
                f"{len(missing)} of {len(logged.step)} evaluations that TensorBoard saw, the first "
                f"at {steps_text(missing[0])}, are not in {file.path}: it was overwritten",
                VERSION_LOGS,
            )
    if any(later < earlier for earlier, later in zip(file.steps, file.steps[1:], strict=False)):
        yield (
            Severity.CRITICAL,
            f"steps in {file.path} fall back: it mixes several runs",
            VERSION_LOGS,
        )
    if file.is_named_by_run:
        return
    if phase.n_attempts > 1:
        yield (
            Severity.CRITICAL,
            f"{phase.n_attempts} runs left curves and one {file.path} is left: each run wrote over "
            "the one before",
            VERSION_LOGS,
        )
    else:
        yield (
            Severity.WARNING,
            f"{file.path} carries no name of its run: a rerun overwrites it, and whether one did "
            "already it cannot tell",
            VERSION_LOGS,
        )


def _gapped(phase: PhaseLog) -> Iterator[_Loss]:
    """Yields evaluations that are missing from a regular row, and holes in the curves."""
    curve = phase.main_curve()
    remedy = "Find out what stopped the logging, and run the phase again if its course matters."
    if phase.file is not None:
        steps = np.unique(phase.file.steps)
        usual = float(np.median(np.diff(steps))) if len(steps) > 1 else float("nan")
        ends = [] if curve is None else [int(curve.step[-1])]
        row = np.concatenate([[0], steps, ends])
        wide = np.flatnonzero(np.diff(row) > GAP * usual)
        if len(wide):
            start, end = row[wide[0]], row[wide[0] + 1]
            yield (
                Severity.WARNING,
                f"evaluations come every {steps_text(round(usual))} steps, but none lies between "
                f"{steps_text(int(start))} and {steps_text(int(end))}",
                remedy,
            )
    if curve is not None and len(curve.step) >= 10:
        jumps = np.diff(curve.step)
        wide = np.flatnonzero(jumps > CURVE_GAP * np.median(jumps))
        if len(wide):
            at = int(curve.step[wide[0]])
            yield (
                Severity.WARNING,
                f"curves have {len(wide)} gap(s), the first of {steps_text(int(jumps[wide[0]]))} "
                f"steps after {steps_text(at)}",
                remedy,
            )


def weak_base(log: TrainingLog) -> Answer:
    """Did every phase that was handed on earn on held-out data?"""
    if len(log.phases) < 2:
        return Unknown(missing="one phase only, nothing was handed on")
    handed = log.phases[:-1]
    weak = [p for p in handed if p.evaluations and p.evaluations[-1].mean_reward <= 0]
    unseen = [phase.name for phase in handed if not phase.evaluations]
    if weak:
        told = "; ".join(
            f"{phase.name} was handed on with {number(phase.evaluations[-1].mean_reward)} held out "
            f"at {steps_text(phase.evaluations[-1].step)}" + _best_of(phase)
            for phase in weak
        )
        return Problem(
            severity=Severity.CRITICAL,
            evidence=told + ": what follows starts from a policy that never earned on unseen data.",
            remedies=(
                f"Revisit reward scaling and curriculum of {weak[0].name} until its held-out mean "
                "reward reaches zero or more, and only then export its checkpoint.",
                "Put a gate between the phases: a test on held-out slices that stops the training.",
            ),
        )
    if unseen:
        return Unknown(missing=f"no evaluation of {', '.join(unseen)}")
    told = ", ".join(f"{p.name} {number(p.evaluations[-1].mean_reward)}" for p in handed)
    return Clear(evidence=f"held-out mean reward when handed on: {told}.")


def _best_of(phase: PhaseLog) -> str:
    curve = phase.curve("rollout/ep_rew_mean")
    if curve is None:
        return ""
    return f" (in training at best {number(float(curve.finite().max()))})"


def gates(log: TrainingLog) -> Answer:
    """Was every gate passed, and none forced?"""
    if not log.gates:
        return Unknown(missing="no gate between phases was logged")
    failed = [gate for gate in log.gates if not gate.is_passed]
    if not failed:
        return Clear(evidence=f"all {len(log.gates)} gates passed.")
    trained = [phase.name for phase in log.phases if phase.main_curve() is not None]
    told = "; ".join(
        f"{gate.phase}: {gate.measure.replace('_', ' ')} {number(gate.value)} (95% "
        f"{number(gate.low)} to {number(gate.high)}, n {gate.n}), lower bound had to be above "
        f"{number(gate.above)}"
        + (", forced" if gate.phase in trained and gate.phase != trained[-1] else "")
        for gate in failed
    )
    is_forced = ", forced" in told
    last = "The training went on all the same." if is_forced else "The training stopped there."
    return Problem(
        severity=Severity.CRITICAL,
        evidence=f"{told}. {last}",
        remedies=(
            "Train the phase longer, on more history or with another bracket; or accept that these "
            "bars hold no edge.",
            *(["Do not force a gate for a result that is to be believed."] if is_forced else []),
        ),
    )


def unfinished(log: TrainingLog) -> Answer:
    """Did the run come to its end?"""
    if not log.status:
        return Unknown(missing="these logs do not tell whether the training ended by itself")
    if log.status == "finished":
        return Clear(evidence="the run finished.")
    return Problem(
        severity=Severity.NOTE,
        evidence=f"the run is {log.status}; its last figures are not its final ones.",
        remedies=("Wait for it, or go on with `passline train --resume`.",),
    )


def blind_spots(log: TrainingLog) -> Answer:
    """Do the logs tell what a failure would have to be traced with?"""
    lacking, remedies = [], []
    tags = {tag.lower() for phase in log.phases for tag in phase.curves}
    has_detail = any(e.detail is not None for phase in log.phases for e in phase.evaluations)
    if not has_detail and not any(_ACTIONS.search(tag) for tag in tags):
        lacking.append("how often each action is chosen")
        remedies.append(
            "Log the distribution of actions, to see an agent that repeats one action which pays "
            "in short rollouts and fails over long horizons."
        )
    if not has_detail and not any(_ENDINGS.search(tag) for tag in tags):
        lacking.append("why episodes end")
        remedies.append("Log done_reason of every episode, in training and in evaluation.")
    if not log.has_config:
        lacking.append("the configuration")
        remedies.append(
            "Store the run's configuration (steps, markets, seeds, versions) beside its logs, so "
            "that checkpoints can be compared and runs repeated."
        )
    if not lacking:
        return Clear(evidence="actions, endings and configuration are on record.")
    return Problem(
        severity=Severity.NOTE,
        evidence="not on record: " + ", ".join(lacking) + ".",
        remedies=tuple(remedies),
    )
