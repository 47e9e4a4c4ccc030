"""Checks of the learner: does it move, does it still explore, does it understand its rewards?"""

import numpy as np

from passline.evaluate.pathology import (
    EXACT_SCALAR,
    FROZEN_KL,
    KEPT_SCALAR,
    LOW_ENTROPY,
    LOW_EXPLAINED,
    MIN_UPDATES,
    frozen_below,
    gain_words,
)
from passline.report.diagnose.findings import Answer, Clear, Problem, Severity, Unknown
from passline.report.diagnose.logs import Curve, PhaseLog
from passline.report.diagnose.words import number, percent, steps_text

__all__ = [
    "diverged",
    "entropy_collapse",
    "frozen",
    "jumps",
    "reward_scale",
    "throughput",
    "undone",
    "value_collapse",
]

JUMP_KL, JUMP_CLIP = 0.05, 0.4
"""KL divergence and share of clipped ratios of an update above which PPO's step is too long."""
NO_ENTROPY = 0.001
"""Mean entropy (nats) below which a policy does not explore at all."""
LARGE_REWARD, LARGE_VALUE_LOSS, SMALL_REWARD = 1000.0, 100.0, 0.01
"""Returns and value losses beyond which learning rates and clipping do not fit."""
SLOW_FPS = 500.0
"""Steps per second below which ten million steps take more than five hours."""


def frozen(phase: PhaseLog) -> Answer:
    """Does the policy change with its updates? Takes `train/approx_kl`."""
    curve = phase.curve("train/approx_kl")
    if curve is None:
        return Unknown(missing="train/approx_kl was not logged")
    level, whole = float(np.median(curve.recent())), float(np.median(curve.finite()))
    told = f"approx_kl is {number(level)} in the last quarter, {number(whole)} over the phase"
    rate = phase.curve("train/learning_rate")
    below = FROZEN_KL if rate is None else frozen_below(rate.recent(), rate.finite())
    is_exact = phase.curve(EXACT_SCALAR) is not None
    if is_exact and np.max(np.abs(curve.finite())) >= FROZEN_KL:
        return Clear(evidence=told + "; advantages are exact here, and it stays where they end.")
    if level >= below:
        return Clear(evidence=told + ".")
    is_always = whole < FROZEN_KL
    return Problem(
        severity=Severity.CRITICAL if is_always else Severity.WARNING,
        evidence=told + (": the weights never moved." if is_always else ": it stopped moving."),
        remedies=(
            "Check that the loaded weights are those being trained, that gradients reach them "
            "(train/grad_norm above 0) and that no layer is frozen.",
            "Check that the learning rate has not run down to 0.",
        ),
    )


def undone(phase: PhaseLog) -> Answer:
    """Does the policy earn as much on training days as the one that the phase began with?

    Takes `phase_gain/...` of passline's own phases (see passline.learn.phase_gain).
    """
    kept = phase.curve(KEPT_SCALAR)
    if kept is None:
        return Unknown(missing="the policy was not set against the one that the phase began with")
    gain = [phase.level(f"phase_gain/{end}") for end in ("value", "low", "high")]
    told = (
        "in whole evaluations on training days the policy gained over the one that the phase began "
        f"with: {gain_words(*gain)}"
    )
    is_kept = bool(kept.finite()[-1])
    if is_kept and not (gain[0] is not None and gain[0] < 0):
        return Clear(evidence=told + ".")
    done = "the training was forced on with it all the same" if is_kept else "it was undone"
    return Problem(
        severity=Severity.NOTE,
        evidence=f"{told}: less than before; {done}.",
        remedies=(
            "Give the phase more steps, or another mix or reward; or leave it out of the "
            "curriculum (--phases): the phase after it goes on from the same policy.",
        ),
    )


def jumps(phase: PhaseLog) -> Answer:
    """Are the policy's steps short enough? Takes `train/approx_kl` and `train/clip_fraction`."""
    kl, clipped = phase.level("train/approx_kl"), phase.level("train/clip_fraction")
    if kl is None and clipped is None:
        return Unknown(missing="neither train/approx_kl nor train/clip_fraction was logged")
    told = " and ".join(
        f"{name} is {number(value)}"
        for name, value in (("approx_kl", kl), ("clip_fraction", clipped))
        if value is not None
    )
    if (kl or 0.0) <= JUMP_KL and (clipped or 0.0) <= JUMP_CLIP:
        return Clear(evidence=told + " in the last quarter.")
    return Problem(
        severity=Severity.WARNING,
        evidence=f"{told} in the last quarter; PPO holds its promise below {JUMP_KL} and "
        f"{JUMP_CLIP}.",
        remedies=("Lower the learning rate or the number of epochs, or set target_kl.",),
    )


def entropy_collapse(phase: PhaseLog) -> Answer:
    """Does the policy still explore? Takes `train/entropy_loss`, the negative mean entropy."""
    curve = phase.curve("train/entropy_loss")
    if curve is None:
        return Unknown(missing="train/entropy_loss was not logged")
    entropy = np.abs(curve.finite())
    first, level = float(entropy[0]), float(np.median(np.abs(curve.recent())))
    told = f"mean entropy goes from {number(first)} to {number(level)} nats"
    if phase.curve(EXACT_SCALAR) is not None:
        return Clear(evidence=told + "; outcomes are exact here, and none has to be tried.")
    if level >= LOW_ENTROPY:
        return Clear(evidence=told + ".")
    at = int(curve.step[np.isfinite(curve.value)][np.argmax(entropy < LOW_ENTROPY)])
    return Problem(
        severity=Severity.CRITICAL if level < NO_ENTROPY else Severity.WARNING,
        evidence=f"{told}, below {LOW_ENTROPY} since {steps_text(at)}: what it does not do yet it "
        "will never try.",
        remedies=(
            "Raise ent_coef or let it fall more slowly; start the phase from an earlier "
            "checkpoint of the one before.",
        ),
    )


def value_collapse(phase: PhaseLog) -> Answer:
    """Does the critic predict returns? Takes `train/explained_variance`."""
    curve = phase.curve("train/explained_variance")
    if curve is None or len(curve.finite()) < MIN_UPDATES:
        return Unknown(missing=f"train/explained_variance of {MIN_UPDATES} updates was not logged")
    first, level = float(curve.finite()[0]), float(np.median(curve.recent()))
    best = float(curve.finite().max())
    told = f"explained variance goes from {number(first)} to {number(level)}"
    if phase.curve(EXACT_SCALAR) is not None:
        return Clear(evidence=f"{told}; advantages are exact here, and none rests on the critic.")
    if level >= LOW_EXPLAINED and level >= best - 0.5:
        return Clear(evidence=told + ".")
    if level >= LOW_EXPLAINED:
        told += f" after {number(best)}"
    return Problem(
        severity=Severity.CRITICAL if level < 0 else Severity.WARNING,
        evidence=f"{told}: the critic is {'worse than' if level < 0 else 'hardly better than'} a "
        "constant."
        if level < LOW_EXPLAINED
        else f"{told}: the critic lost what it knew.",
        remedies=(
            "Scale rewards so that returns are of the order of 1, and see that gamma fits the "
            "episode's length.",
            "Give the critic a network of its own, more epochs or a higher vf_coef.",
        ),
    )


def diverged(phase: PhaseLog) -> Answer:
    """Are all losses numbers?"""
    losses = {tag: curve for tag, curve in phase.curves.items() if tag.startswith("train/")}
    if not losses:
        return Unknown(missing="no scalar under train/ was logged")
    broken = {tag: curve for tag, curve in losses.items() if not np.isfinite(curve.value).all()}
    if not broken:
        return Clear(evidence=f"all {len(losses)} scalars under train/ are finite.")
    tag = min(broken, key=lambda name: _first_break(broken[name]))
    return Problem(
        severity=Severity.CRITICAL,
        evidence=f"{tag} is not a number from step {_first_break(broken[tag]):,} on "
        f"({len(broken)} scalar(s)): what was trained later is void.",
        remedies=(
            "Go back to a checkpoint before that step; look for NaN in observations and for rows "
            "whose every action is masked; lower the learning rate.",
        ),
    )


def _first_break(curve: Curve) -> int:
    return int(curve.step[np.argmin(np.isfinite(curve.value))])


def reward_scale(phase: PhaseLog) -> Answer:
    """Are returns of a size that the learner's settings fit?

    Takes the largest mean return and the value loss of the last quarter.
    """
    rewards, loss = phase.curve("rollout/ep_rew_mean"), phase.level("train/value_loss")
    if rewards is None:
        return Unknown(missing="rollout/ep_rew_mean was not logged")
    size = float(np.abs(rewards.finite()).max())
    told = f"mean returns reach {number(size)}"
    if loss is not None:
        told += f", value loss is {number(loss)} in the last quarter"
    if SMALL_REWARD <= size <= LARGE_REWARD and (loss or 0.0) <= LARGE_VALUE_LOSS:
        return Clear(evidence=told + ".")
    verdict = "too small to outweigh the entropy bonus" if size < SMALL_REWARD else "too large"
    return Problem(
        severity=Severity.WARNING,
        evidence=f"{told}: {verdict}; returns between 1 and 100 fit the usual settings.",
        remedies=(
            "Divide rewards by a constant of the account, such as its drawdown allowance, rather "
            "than by a running figure that changes with the policy.",
            "If rewards are normalized (VecNormalize), compare training and evaluation unscaled.",
        ),
    )


def throughput(phase: PhaseLog) -> Answer:
    """How fast is the training, and does it stay so? Takes `time/fps`."""
    curve = phase.curve("time/fps")
    if curve is None:
        return Unknown(missing="time/fps was not logged")
    values = curve.finite()
    level, best = float(np.median(curve.recent())), float(np.median(values))
    told = f"{number(level)} steps/s in the last quarter"
    if len(values) >= MIN_UPDATES and level < best / 2:
        return Problem(
            severity=Severity.WARNING,
            evidence=f"{told}, {number(best)} over the phase: down by {percent(1 - level / best)}.",
            remedies=(
                "Look for what grows: logs, replay lists, memory; or another program on the "
                "machine.",
            ),
        )
    if level < SLOW_FPS:
        return Problem(
            severity=Severity.NOTE,
            evidence=f"{told}: ten million steps take {number(1e7 / level / 3600)} hours.",
            remedies=(
                "Play more environments at once, compute features ahead of the training, and keep "
                "tables out of step().",
            ),
        )
    return Clear(evidence=told + ".")
