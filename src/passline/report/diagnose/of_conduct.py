"""Checks of how the agent behaves where it is judged: does it keep the rules, and does it trade?"""

from collections import Counter

import numpy as np

from passline.evaluate.pathology import HOLD_SHARE
from passline.report.diagnose.findings import Answer, Clear, Problem, Severity, Unknown
from passline.report.diagnose.logs import Evaluation, PhaseLog
from passline.report.diagnose.of_evaluation import COMPLIANCE_EPISODES, REPLAY_DEATHS, each_text
from passline.report.diagnose.words import number, percent, steps_text

__all__ = ["flat_collapse", "invalid_actions", "rule_breach"]

BREACHED_SHARE = 0.5
"""Share of accounts lost to a rule that is called a repeated breach."""
INVALID_SHARE = 0.001
"""Share of masked actions that is more than an accident."""


def rule_breach(phase: PhaseLog) -> Answer:
    """Do evaluation episodes end by a broken rule?

    passline counts it. In other logs it shows as episodes of constant length with losses far
    outside of anything in training, or of lengths that change from checkpoint to checkpoint,
    which the end of a fixed slice cannot.
    """
    if not phase.evaluations:
        return Unknown(missing="no evaluation was logged")
    last = phase.evaluations[-1]
    if last.detail is not None:
        return _counted_breaches(last)
    constant = [e for e in phase.evaluations if e.has_one_length and e.mean_reward < 0]
    if last not in constant:
        return Clear(evidence="episodes differ in length, or earn.")
    low, high = _reward_range(phase)
    is_outside = last.mean_reward < low - (high - low)
    is_moving = len({e.mean_length for e in constant}) > 1
    told = "all episodes alike, " + each_text(
        constant,
        lambda e: (
            f"{number(e.mean_reward)} over {number(e.mean_length)} bars at {steps_text(e.step)}"
        ),
    )
    if not is_outside and not is_moving:
        return Clear(evidence=f"{told}; no loss beyond those of training.")
    if is_outside and np.isfinite(low):
        told += f"; in training rewards lie between {number(low)} and {number(high)}"
    if is_moving:
        told += "; a slice played to its end would always be as long, so a rule ends them"
    return Problem(
        severity=Severity.CRITICAL if is_outside and np.isfinite(low) else Severity.WARNING,
        evidence=f"{told}. Likely the same breach each time (trailing drawdown or a late "
        "position), which training episodes never reach.",
        remedies=(REPLAY_DEATHS, COMPLIANCE_EPISODES),
    )


def _reward_range(phase: PhaseLog) -> tuple[float, float]:
    curve = phase.curve("rollout/ep_rew_mean")
    if curve is None:
        return float("-inf"), float("inf")
    values = curve.finite()
    return float(values.min()), float(values.max())


def _counted_breaches(last: Evaluation) -> Answer:
    detail = last.detail
    assert detail is not None
    n = len(last.rewards)
    share = detail.n_breached / n
    reasons = ", ".join(
        f"{name.replace('_', ' ')} {count}"
        for name, count in Counter(detail.done_reasons).most_common()
    )
    told = (
        f"{detail.n_breached} of {n} accounts broke a rule at {steps_text(last.step)} ({reasons})"
    )
    if share < BREACHED_SHARE:
        return Clear(evidence=told + ".")
    return Problem(
        severity=Severity.CRITICAL,
        evidence=told + ".",
        remedies=(REPLAY_DEATHS, COMPLIANCE_EPISODES),
    )


def invalid_actions(phase: PhaseLog) -> Answer:
    """Does the evaluation obey the action mask?

    Takes passline's count, or scalars whose tag says `invalid` or `illegal`.
    """
    details = [e for e in phase.evaluations if e.detail is not None]
    remedies = (
        "Play the policy with its mask in evaluation as in training (sb3-contrib: "
        "MaskableEvalCallback with use_masking=True, and ActionMasker around the evaluation "
        "environment).",
    )
    if details:
        detail = details[-1].detail
        assert detail is not None
        share = detail.n_invalid / max(detail.n_actions, 1)
        told = f"{detail.n_invalid:,} of {detail.n_actions:,} actions were masked ones"
        if share > INVALID_SHARE:
            return Problem(
                severity=Severity.CRITICAL,
                evidence=f"{told} ({percent(share)}).",
                remedies=remedies,
            )
        return Clear(evidence=told + ".")
    tags = [t for t in phase.curves if "invalid" in t.lower() or "illegal" in t.lower()]
    levels = {tag: phase.level(tag) or 0.0 for tag in tags}
    if not levels:
        return Unknown(missing="no count of invalid actions was logged")
    tag = max(levels, key=lambda name: levels[name])
    told = f"{tag} is {number(levels[tag])} in the last quarter"
    if levels[tag] > INVALID_SHARE:
        return Problem(severity=Severity.CRITICAL, evidence=told + ".", remedies=remedies)
    return Clear(evidence=told + ".")


def flat_collapse(phase: PhaseLog) -> Answer:
    """Does the agent still trade?

    Takes round trips and choices of the last evaluation, else rewards that are all 0, else the
    logged share of HOLD.
    """
    last = phase.evaluations[-1] if phase.evaluations else None
    held = phase.level("actions/hold")
    if last is not None and last.detail is not None:
        share, trips = last.detail.hold_share, last.detail.n_trips / len(last.rewards)
        told = f"{number(trips)} round trips per episode"
        if np.isfinite(share):
            told += f", HOLD in {percent(share)} of free choices"
        is_flat = trips < 0.1 or share > HOLD_SHARE
    elif last is not None and not np.any(last.rewards):
        told, is_flat = f"all rewards of the evaluation at {steps_text(last.step)} are 0", True
    elif held is not None:
        told = f"HOLD is {percent(held)} of all actions in the last quarter of training"
        is_flat = held > HOLD_SHARE
    else:
        return Unknown(missing="no distribution of actions was logged")
    if not is_flat:
        return Clear(evidence=told + ".")
    return Problem(
        severity=Severity.CRITICAL,
        evidence=told + ": standing aside is what it learned.",
        remedies=(
            "Compare with the baselines that stay flat and trade at random: if no trade pays after "
            "costs, flat is right and the data hold no edge for this agent.",
            "Else keep entropy up for longer, and look for a reward that punishes trading as such.",
        ),
    )
