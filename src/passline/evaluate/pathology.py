"""What goes wrong in a training while it runs, told from its scalars and its looks at the gate.

Pure functions of the history of one phase; `report.diagnose` judges finished logs by the same
thresholds. A warning is no verdict: it stops nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DROP_ERRORS",
    "EXACT_SCALAR",
    "FROZEN_KL",
    "HOLD_SHARE",
    "KEPT_SCALAR",
    "LOW_ENTROPY",
    "LOW_EXPLAINED",
    "MIN_UPDATES",
    "Course",
    "Look",
    "Warned",
    "diverging",
    "entropy_collapse",
    "flat_collapse",
    "frozen",
    "frozen_below",
    "gain_words",
    "undone",
    "value_not_learning",
]

EXACT_SCALAR = "train/advantage_rms"
"""Logged where a phase learns from exact outcomes: none of its advantages is the critic's."""
KEPT_SCALAR = "phase_gain/is_kept"
"""Logged by the last update of a phase whose policy was set against the one that it began with."""
FROZEN_KL = 1e-5
"""KL divergence of an update below which the policy does not change."""
LEAST_RATE = 0.1
"""Share of a phase's highest step size down to which smaller steps are expected to move less."""
LOW_ENTROPY = 0.01
"""Mean entropy (nats) below which a policy hardly explores."""
LOW_EXPLAINED = 0.1
"""Share of the returns' variance explained below which the critic is no help."""
HOLD_SHARE = 0.995
"""Share of HOLD among choices from which on nothing is traded."""
DROP_ERRORS = 3.0
"""Standard errors of a difference that are more than the usual luck of a best checkpoint."""
MIN_UPDATES = 10
"""Updates of a phase before which nothing is said, and over which scalars are smoothed."""
PATIENCE = 2 * MIN_UPDATES
"""Updates that a critic is given to begin to learn."""

History = Mapping[str, Sequence[float]]
"""Scalars of a phase by name, an entry an update; an update may lack one."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The agent on the gate slices beside the training at the same time.

    Attributes:
        step: training steps over all phases.
        trained: mean reward of recent training episodes; NaN if none ended.
        judged: mean reward of the episodes on the gate slices.
        error: standard error of `judged`.
    """

    step: int
    trained: float
    judged: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A pathology that was seen.

    Attributes:
        kind: one of the names in CHECKS, or "diverging".
        phase: name of the phase.
        step: training steps over all phases when it was seen.
        text: what was seen and what to do, in a sentence.
    """

    kind: str
    phase: str
    step: int
    text: str

    def line(self) -> str:
        """Returns the one line that is shown."""
        return f"warning, phase '{self.phase}': {self.text}"


def entropy_collapse(history: History) -> str | None:
    """Tells that the policy no longer explores; None if it does.

    Takes `train/entropy_loss`, the negative mean entropy over the legal actions. Where outcomes are
    exact, what is not done is learned from like what is.
    """
    if len(_finite(history, EXACT_SCALAR)):
        return None
    entropy = -_recent(history, "train/entropy_loss")
    if len(entropy) < MIN_UPDATES or not np.median(entropy) < LOW_ENTROPY:
        return None
    return (
        f"entropy collapsed to {np.median(entropy):.2g} nats (below {LOW_ENTROPY}): what it does "
        "not do yet it will hardly try. Raise the phase's entropy or let it fall more slowly."
    )


def value_not_learning(history: History) -> str | None:
    """Tells that the critic explains nothing after its first updates; None if it does.

    Takes `train/explained_variance`. A policy that stands aside leaves nothing to explain, and
    where advantages are exact none of them rests on the critic.
    """
    if len(_finite(history, EXACT_SCALAR)):
        return None
    explained = _recent(history, "train/explained_variance")
    whole = _finite(history, "train/explained_variance")
    if len(whole) < PATIENCE or _holds(history) or not np.median(explained) < LOW_EXPLAINED:
        return None
    return (
        f"the critic explains {np.median(explained):.2g} of the returns' variance after "
        f"{len(whole)} updates (below {LOW_EXPLAINED}): advantages are mostly noise. Scale the "
        "rewards, or see that gamma fits the episodes' length."
    )


def frozen(history: History) -> str | None:
    """Tells that updates no longer change the policy; None if they do.

    Takes `train/approx_kl`. An update whose learning rate is 0 is meant to change nothing, and
    where advantages are exact, a policy that moved once stays where they leave it.
    """
    moved = np.max(np.abs(_finite(history, "train/approx_kl")), initial=0.0) >= FROZEN_KL
    if moved and len(_finite(history, EXACT_SCALAR)):
        return None
    kl = _recent(history, "train/approx_kl")
    rate = _recent(history, "train/learning_rate")
    below = frozen_below(rate, _finite(history, "train/learning_rate"))
    if len(kl) < MIN_UPDATES or not np.median(np.abs(kl)) < below:
        return None
    if len(rate) and not np.median(rate) > 0:
        return None
    norm = _recent(history, "train/grad_norm")
    told = f", gradient norm {np.median(norm):.2g}" if len(norm) else ""
    return (
        f"the policy is frozen: KL of an update is {np.median(np.abs(kl)):.1g} (below "
        f"{below:.1g}){told}. More steps will not change it."
    )


def frozen_below(recent: NDArray[np.floating], all_rates: NDArray[np.floating]) -> float:
    """Returns the KL of an update below which a policy is frozen.

    It falls with the square of the step size, as the KL of a step does, so that a schedule which
    runs down as planned is no pathology; not below a tenth of the highest step size.

    Args:
        recent: step sizes of the updates that are judged; none: not known.
        all_rates: those of the whole phase.
    """
    if not len(recent) or not np.max(all_rates) > 0:
        return FROZEN_KL
    return FROZEN_KL * max(float(np.median(recent) / np.max(all_rates)), LEAST_RATE) ** 2


def flat_collapse(history: History) -> str | None:
    """Tells that the agent stopped trading, and the likely cause; None if it trades.

    Takes the share of `actions/hold`, and from the updates before that share was reached what its
    round trips brought (`account/trip_r`) and how its accounts ended (`done/...`).
    """
    if not _holds(history):
        return None
    held = _recent(history, "actions/hold")
    return f"it stands aside: HOLD is {np.median(held):.1%} of its choices. {_why_flat(history)}"


def undone(history: History) -> str | None:
    """Tells that the policy earns less on its training days than the one the phase began with.

    Takes `phase_gain/...`, which the last update of a phase logs (see learn.phase_gain).
    """
    kept = _finite(history, KEPT_SCALAR)
    found = [_finite(history, f"phase_gain/{name}")[-1:] for name in ("value", "low", "high")]
    if not len(kept) or (kept[-1] and not (len(found[0]) and found[0][0] < 0)):
        return None
    word = (
        "being forced, the agent goes on with it all the same"
        if kept[-1]
        else ("the agent goes on with the old one")
    )
    return (
        "in whole evaluations on its training days the policy earns less than the one this phase "
        f"began with ({gain_words(*(float(x[0]) if len(x) else None for x in found))}); {word}. "
        "Give the phase more steps, or leave it out."
    )


def gain_words(value: float | None, low: float | None, high: float | None) -> str:
    """Returns what a phase gained, in reward an evaluation, with its interval if there is one."""
    told = f"{value or 0.0:+.3f} reward an evaluation"
    if low is None or high is None:
        return told + ", on too few days for an interval"
    return told + f", 95 % {low:+.3f} to {high:+.3f}"


def _why_flat(history: History) -> str:
    if not len(_finite(history, "account/trips")):
        return _why_flat_unplayed(history)
    trip_r, trips = _paired(history, "account/trip_r", "account/trips")
    if not len(trips) or not trips.sum():
        return "It has not traded in this phase; the phase before may have left it so."
    mean_r = float((trip_r * trips).sum() / trips.sum())
    if mean_r < 0:
        return (
            f"Likely cause: costs are above the edge; its {trips.sum():,.0f} round trips brought "
            f"{mean_r:+.3f} R each after costs, so standing aside pays more. If random entry does "
            "no better, flat is right."
        )
    floor = _finite(history, "done/floor")
    if len(floor) and np.mean(floor[: max(len(floor) // 4, 1)]) > 0.5:
        return (
            f"Its round trips brought {mean_r:+.3f} R each, but most accounts died at the floor: "
            "it learned that trading ends them. Try smaller sizes or an easier start."
        )
    return (
        f"Its round trips brought {mean_r:+.3f} R each, so costs do not explain it: keep the "
        "entropy up for longer, and look for a reward that punishes trading as such."
    )


def _why_flat_unplayed(history: History) -> str:
    """Tells the cause where the phase learns from exact outcomes and counts no round trips."""
    reward, held = _paired(history, "rollout/ep_rew_mean", "actions/hold")
    while_trading = reward[held <= HOLD_SHARE]
    if len(while_trading) and while_trading.mean() < 0:
        return (
            f"Likely cause: costs are above the edge; while it traded its episodes brought "
            f"{while_trading.mean():+.2f} on average, so standing aside pays more."
        )
    return "What its entries brought is not in these scalars; the gate will tell."


def diverging(looks: Sequence[Look]) -> str | None:
    """Tells that training and gate slices part; None if they do not.

    Either training earns where the gate slices lose, or the gate slices fell from their best look
    while training rose; both by more than `DROP_ERRORS` standard errors of the gate's mean.
    """
    if not looks or not np.isfinite([looks[-1].trained, looks[-1].judged, looks[-1].error]).all():
        return None
    last = looks[-1]
    if last.trained > 0 > last.judged + DROP_ERRORS * last.error:
        return (
            f"training and gate slices part: the mean reward is {last.trained:+.2f} in training "
            f"and {last.judged:+.2f} (±{last.error:.2f}) on the gate slices. Give it more history "
            "or a smaller network; what it learned does not hold elsewhere."
        )
    best = max(looks, key=lambda look: look.judged)
    fall = best.judged - last.judged
    if fall > DROP_ERRORS * float(np.hypot(best.error, last.error)) and last.trained > best.trained:
        return (
            f"training and gate slices part: since step {best.step:,} the mean reward rose from "
            f"{best.trained:+.2f} to {last.trained:+.2f} in training and fell from "
            f"{best.judged:+.2f} to {last.judged:+.2f} on the gate slices: overfitting."
        )
    return None


CHECKS: dict[str, Callable[[History], str | None]] = {
    "entropy_collapse": entropy_collapse,
    "value_not_learning": value_not_learning,
    "frozen": frozen,
    "flat_collapse": flat_collapse,
    "undone": undone,
}


@dataclass
class Course:
    """The course of a training, phase by phase; each pathology is told once a phase."""

    warned: list[Warned] = field(default_factory=list)
    _phase: str = ""
    _history: dict[str, list[float]] = field(default_factory=dict)
    _looks: list[Look] = field(default_factory=list)

    def on_update(self, phase: str, step: int, scalars: Mapping[str, float]) -> list[Warned]:
        """Takes one update's scalars; returns what is seen for the first time in the phase."""
        self._enter(phase)
        n_before = max((len(values) for values in self._history.values()), default=0)
        for name in {*self._history, *scalars}:
            values = self._history.setdefault(name, [np.nan] * n_before)
            values.append(scalars.get(name, np.nan))
        found = [(kind, check(self._history)) for kind, check in CHECKS.items()]
        return self._tell(step, found)

    def on_look(
        self, phase: str, step: int, rewards: NDArray[np.floating], clusters: NDArray[np.integer]
    ) -> list[Warned]:
        """Takes the rewards of the agent's episodes on the gate slices, and their days."""
        self._enter(phase)
        trained = _recent(self._history, "rollout/ep_rew_mean")
        look = Look(
            step=step,
            trained=float(np.mean(trained)) if len(trained) else float("nan"),
            judged=float(np.mean(rewards)) if len(rewards) else float("nan"),
            error=_error_by_day(np.asarray(rewards, np.float64), np.asarray(clusters)),
        )
        self._looks.append(look)
        return self._tell(step, [("diverging", diverging(self._looks))])

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase, self._history, self._looks = phase, {}, []

    def _tell(self, step: int, found: Sequence[tuple[str, str | None]]) -> list[Warned]:
        told = {(warned.kind, warned.phase) for warned in self.warned}
        new = [
            Warned(kind=kind, phase=self._phase, step=step, text=text)
            for kind, text in found
            if text is not None and (kind, self._phase) not in told
        ]
        self.warned += new
        return new


def _error_by_day(rewards: NDArray[np.float64], days: NDArray[np.integer]) -> float:
    """Returns the standard error of the mean, episodes of one day being one draw."""
    _, code = np.unique(days, return_inverse=True)
    if not len(rewards) or code.max() < 1:
        return float("nan")
    sums = np.bincount(code, rewards - rewards.mean())
    n = len(sums)
    return float(np.sqrt((sums**2).sum() * n / (n - 1)) / len(rewards))


def _holds(history: History) -> bool:
    held = _recent(history, "actions/hold")
    return len(held) >= MIN_UPDATES and float(np.median(held)) > HOLD_SHARE


def _finite(history: History, name: str) -> NDArray[np.float64]:
    values = np.asarray(history.get(name, ()), np.float64)
    return values[np.isfinite(values)]


def _recent(history: History, name: str) -> NDArray[np.float64]:
    return _finite(history, name)[-MIN_UPDATES:]


def _paired(history: History, *names: str) -> tuple[NDArray[np.float64], ...]:
    """Returns the entries of updates that have all of the names."""
    columns = [np.asarray(history.get(name, ()), np.float64) for name in names]
    if len({len(column) for column in columns}) > 1:
        return tuple(np.zeros(0) for _ in names)
    keep = np.logical_and.reduce([np.isfinite(column) for column in columns])
    return tuple(column[keep] for column in columns)
