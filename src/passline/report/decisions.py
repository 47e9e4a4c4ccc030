"""What a training decided by its own days: what it kept, undid, or let the policy tell apart."""

import numpy as np

from passline.evaluate.pathology import KEPT_SCALAR, gain_words
from passline.report.tensorboard import Scalars

__all__ = ["decisions"]

FORCED = "the training was forced on with it"


def decisions(scalars: Scalars) -> list[tuple[str, str]]:
    """Returns each decision as label and text, in the order in which they were taken.

    Args:
        scalars: the curves of the training.
    """
    found: list[tuple[str, str]] = []
    for row in range(len(scalars.step)):
        now = {name: float(values[row]) for name, values in scalars.values.items()}
        phase = str(scalars.phase[row])
        if _is_known(now, "symmetry/is_symmetric"):
            found.append(("Long and short", _symmetry_words(now)))
        if _is_known(now, "cross_fit/is_shown"):
            found.append((f"Held on other days in {phase}", _holding_words(now)))
        if _is_known(now, KEPT_SCALAR):
            found.append((f"Gained by {phase}", _gain_words(now)))
    return found


def _symmetry_words(now: dict[str, float]) -> str:
    word = "alike" if now["symmetry/is_symmetric"] else "told apart"
    return (
        f"{word}; a policy that tells them apart earned {now['symmetry/free_gain']:+.3f} more a "
        "session on training days that it was not learned from (95 % from "
        f"{now['symmetry/free_gain_low']:+.3f})"
    )


def _holding_words(now: dict[str, float]) -> str:
    word = "kept"
    if not now["cross_fit/is_shown"]:
        is_flat = now.get("cross_fit/is_flat", 1.0)
        word = "not shown, so the agent stays flat" if is_flat else f"not shown, but {FORCED}"
    return (
        f"reward a session {now['cross_fit/reward']:+.3f} (95 % from "
        f"{now['cross_fit/reward_low']:+.3f}): {word}"
    )


def _gain_words(now: dict[str, float]) -> str:
    value, low, high = (now.get(f"phase_gain/{end}", np.nan) for end in ("value", "low", "high"))
    bounds = [x if np.isfinite(x) else None for x in (low, high)]
    word = "kept"
    if not now[KEPT_SCALAR] or value < 0:
        word = f"less than before, {f'but {FORCED}' if now[KEPT_SCALAR] else 'so it was undone'}"
    return f"{gain_words(value, *bounds)}, on training days: {word}"


def _is_known(now: dict[str, float], name: str) -> bool:
    return bool(np.isfinite(now.get(name, np.nan)))
