"""Checks of what was evaluated: is it what was trained for, is it enough, and does it last?"""

from collections.abc import Callable

import numpy as np

from passline.evaluate.pathology import DROP_ERRORS
from passline.report.diagnose.findings import Answer, Clear, Problem, Severity, Unknown
from passline.report.diagnose.logs import Evaluation, PhaseLog
from passline.report.diagnose.words import number, percent, steps_text

__all__ = [
    "COMPLIANCE_EPISODES",
    "REPLAY_DEATHS",
    "each_text",
    "evaluation_spread",
    "few_checkpoints",
    "horizon_mismatch",
    "overfitting",
]

HORIZON_RATIO = 3.0
"""Episodes of evaluation and training whose lengths differ by more are different tasks."""
MIN_DISTINCT = 20
"""Distinct episodes of an evaluation below which its mean is mostly luck."""
MIN_CHECKPOINTS = 3
"""Evaluations below which no trend can be told from luck."""

LONG_ROLLOUTS = (
    "Train on long horizons: raise the least episode length (min_episode_bars) and let some "
    "training environments replay contiguous stretches without random offsets, as the evaluation "
    "does."
)
COMPLIANCE_EPISODES = (
    "Mix in compliance episodes that mimic the evaluation: same hours, same drawdown rules, begun "
    "close to the floor, the target and the flat-by time."
)
MORE_SLICES = (
    "Evaluate on several fixed slices (other dates, other markets) and from random start offsets, "
    "so that episodes differ and their spread can be seen."
)
REPLAY_DEATHS = (
    "Replay the evaluation episodes and log done_reason, action mask and compliance flags at each "
    "bar: trailing drawdown, late position or penalties for invalid actions? Then mask or penalize "
    "what the replay shows."
)


def horizon_mismatch(phase: PhaseLog) -> Answer:
    """Are episodes of training and evaluation of about the same length?

    Compares the mean length of the last evaluation with the median of the last quarter of
    `rollout/ep_len_mean`; where training mixes kinds of episodes, with the longest kind.
    """
    evaluated = [e for e in phase.evaluations if len(e.lengths)]
    trained = phase.level("rollout/ep_len_mean")
    if not evaluated or not trained:
        return Unknown(missing="lengths of training and evaluation episodes are not both logged")
    last = evaluated[-1]
    kind, longest = _longest_kind(phase, trained)
    ratio = last.mean_length / longest
    told = f"training episodes last {number(trained)} bars{kind}, evaluation episodes " + each_text(
        evaluated, lambda e: f"{number(e.mean_length)} bars at {steps_text(e.step)}"
    )
    if 1 / HORIZON_RATIO <= ratio <= HORIZON_RATIO:
        return Clear(evidence=told + ".")
    factor = f"{max(ratio, 1 / ratio):.{0 if max(ratio, 1 / ratio) >= 10 else 1}f}"
    reward, result = phase.level("rollout/ep_rew_mean"), last.mean_reward
    is_torn = reward is not None and reward > 0 > result
    if reward is not None:
        told += f"; the reward is {number(reward)} in training and {number(result)} in evaluation"
    is_censored = phase.bars_per_lane is not None and phase.bars_per_lane < last.mean_length
    if ratio > 1:
        told += f". The evaluation is {factor} times as long"
    else:
        told += f". The evaluation is {factor} times shorter: cut short, or the agent ends it"
    if is_censored and phase.bars_per_lane is not None:
        told += (
            f". Each lane walked {number(phase.bars_per_lane)} bars in this phase, so longer "
            "episodes were begun and never finished"
        )
    return Problem(
        severity=Severity.CRITICAL if is_torn else Severity.WARNING,
        evidence=told + ".",
        remedies=_horizon_remedies(ratio, is_censored),
    )


def _horizon_remedies(ratio: float, is_censored: bool) -> tuple[str, ...]:
    if is_censored:
        return (
            "Train the phase with more steps or fewer lanes, so that each lane lives through whole "
            "evaluations.",
        )
    return (LONG_ROLLOUTS, COMPLIANCE_EPISODES) if ratio > 1 else (REPLAY_DEATHS,)


def _longest_kind(phase: PhaseLog, trained: float) -> tuple[str, float]:
    """Returns (words, bars) of the longest kind of episode with a twentieth of all episodes."""
    kinds = {
        tag.removeprefix("mix/").removesuffix("_length"): curve
        for tag, curve in phase.curves.items()
        if tag.startswith("mix/") and tag.endswith("_length") and len(curve.finite())
    }
    counts = {
        kind: float(phase.curves[f"mix/{kind}_episodes"].recent().sum())
        for kind in kinds
        if f"mix/{kind}_episodes" in phase.curves
    }
    usual = {k: float(np.median(kinds[k].recent())) for k in counts
             if counts[k] >= 0.05 * sum(counts.values())}  # fmt: skip
    if not usual or max(usual.values()) <= trained:
        return "", trained
    kind = max(usual, key=lambda name: usual[name])
    share = counts[kind] / sum(counts.values())
    words = f" ({percent(share)} of them, '{kind}', {number(usual[kind])})"
    return words, usual[kind]


def evaluation_spread(phase: PhaseLog) -> Answer:
    """Does an evaluation play enough different episodes?

    Counts episodes of the last evaluation that differ in reward or length, and its slices.
    """
    known = [e for e in phase.evaluations if not e.is_mean_only]
    if not known:
        return Unknown(missing="no evaluation by episode was logged")
    last = known[-1]
    n = len(last.rewards)
    told = each_text(
        known,
        lambda e: (
            f"{e.n_distinct} distinct of {len(e.rewards)} at {steps_text(e.step)} "
            f"(std {number(float(e.rewards.std()))})"
        ),
    )
    if last.n_distinct == 1:
        same = "one episode" if n == 1 else f"the same episode {n} times"
        return Problem(
            severity=Severity.CRITICAL,
            evidence=f"each evaluation is {same}, a single deterministic slice: {told}.",
            remedies=(MORE_SLICES,),
        )
    slices = () if last.detail is None else last.detail.slices
    if len(slices) == 1:
        return Problem(
            severity=Severity.WARNING,
            evidence=f"all {n} episodes come from one slice, {slices[0]}.",
            remedies=(MORE_SLICES,),
        )
    if last.n_distinct < MIN_DISTINCT:
        return Problem(
            severity=Severity.WARNING,
            evidence=f"few different episodes: {told}; at least {MIN_DISTINCT} are needed.",
            remedies=(MORE_SLICES,),
        )
    over = f" over {len(slices)} slices" if slices else ""
    return Clear(evidence=f"{last.n_distinct} distinct episodes of {n}{over}.")


def few_checkpoints(phase: PhaseLog) -> Answer:
    """Was the phase evaluated often enough to show a course?"""
    steps = sorted({evaluation.step for evaluation in phase.evaluations})
    shown = ", ".join(steps_text(step) for step in steps[:5]) + ", ..." * (len(steps) > 5)
    if len(steps) >= MIN_CHECKPOINTS:
        return Clear(evidence=f"{len(steps)} evaluated checkpoints ({shown}).")
    if not steps:
        found = "no evaluation was logged"
    else:
        plural = "s" if len(steps) > 1 else ""
        found = f"only {len(steps)} evaluated checkpoint{plural}, at {shown}"
    return Problem(
        severity=Severity.WARNING if steps else Severity.CRITICAL,
        evidence=f"{found}; a trend needs at least {MIN_CHECKPOINTS}.",
        remedies=(
            "Evaluate more often and keep every evaluation (stable-baselines3: eval_freq counts "
            "steps of one environment, so divide by their number; passline: "
            "curriculum.evaluations_per_phase).",
        ),
    )


def overfitting(phase: PhaseLog) -> Answer:
    """Does the evaluation fall after a best checkpoint, while training goes on?

    Only evaluations on the same slices are compared. With 3 standard errors of the difference,
    the usual luck of a best checkpoint is not called a fall.
    """
    groups: dict[tuple[str, ...], list[Evaluation]] = {}
    for evaluation in phase.evaluations:
        key = () if evaluation.detail is None else evaluation.detail.slices
        groups.setdefault(key, []).append(evaluation)
    same = max(groups.values(), key=len, default=[])
    if len({e.step for e in same}) < MIN_CHECKPOINTS:
        return Unknown(missing=f"fewer than {MIN_CHECKPOINTS} evaluations on the same slices")
    last, best = same[-1], max(same, key=lambda e: e.mean_reward)
    fall = best.mean_reward - last.mean_reward
    errors = [float(e.rewards.std(ddof=1)) / len(e.rewards) ** 0.5
              for e in (best, last) if len(e.rewards) > 1]  # fmt: skip
    least = DROP_ERRORS * float(np.hypot.reduce(errors)) if len(errors) == 2 else 0.0
    if not any(errors):
        # Nothing tells of luck within an evaluation; that between them has to do.
        least = 2 * float(np.std(np.diff([e.mean_reward for e in same])))
    told = (
        f"held-out reward is best at {steps_text(best.step)} ({number(best.mean_reward)}) and "
        f"{number(last.mean_reward)} at {steps_text(last.step)}"
    )
    if fall <= max(least, 1e-12):
        return Clear(evidence=told + "; no fall beyond luck.")
    curve = phase.curve("rollout/ep_rew_mean")
    later = None if curve is None else curve.value[curve.step >= best.step]
    if later is not None and len(later) >= 2:
        told += (
            f", while training goes from {number(float(later[0]))} to {number(float(later[-1]))}"
        )
    return Problem(
        severity=Severity.WARNING,
        evidence=f"{told}: overfitting after step {best.step:,}.",
        remedies=(
            f"Stop near step {best.step:,}, or take that checkpoint, and judge it on slices that "
            "did not choose it.",
            "Give it more history, fewer features or a smaller network.",
        ),
    )


def each_text(evaluations: list[Evaluation], say: Callable[[Evaluation], str]) -> str:
    """Returns a sentence part for each of up to four evaluations, the last always among them."""
    shown = evaluations if len(evaluations) <= 4 else [*evaluations[:3], evaluations[-1]]
    return ", ".join(say(evaluation) for evaluation in shown)
