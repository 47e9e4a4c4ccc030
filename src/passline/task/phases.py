"""The curriculum's rows, read from phases.toml and turned into the environment's numbers."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.sim.layout import NEVER, LimitKind, OrderKind, Rules
from passline.task.actions import KINDS, N_SIZES, SIZES
from passline.task.episodes import Component
from passline.task.reward import REWARD_TERMS, RewardWeights

__all__ = [
    "FAR_BELOW",
    "GATE_MEASURES",
    "Gate",
    "Phase",
    "allowed_actions",
    "budget_steps",
    "load_phases",
    "phase_rules",
    "reward_weights",
]

PHASES_FILE = Path(__file__).parent / "phases.toml"
GATE_MEASURES = ("trip_r", "result", "breach_rate_below_previous", "pass_rate_above_random")
"""trip_r: mean net result of round trips in units of risk. result: mean net result of an episode in
allowances. breach_rate_below_previous: breach rate of the policy the phase began with minus this
one's, under the phase's rules, same starts. pass_rate_above_random: pass rate minus that of random
entry at the same frequency, same starts."""
RELAXABLE = {
    "floor": ("off",),
    "target": ("off",),
    "daily_limit": ("off",),
    "time_limit": ("off",),
    "late_flat": ("record", "fail"),
}
LEARNERS = ("ppo", "full_information")
"""ppo: from rollouts. full_information: from the exact outcome of every entry at every bar, or,
where the phase allows `close`, of closing at every bar of a position; for phases in which nothing
but that, the bracket and flat-by closes one."""
FAR_BELOW = 2**30
"""An allowance that no account uses up, mills."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What must be shown on the gate slices before the next phase.

    Attributes:
        measure: one of GATE_MEASURES.
        above: the lower 95 % bound of the measure must lie above this.
        days: length of its episodes, calendar days; 0: one session; None: whole evaluations.
    """

    measure: str
    above: float
    days: int | None = None

    def __post_init__(self) -> None:
        """Refuses a measure that nobody computes."""
        if self.measure not in GATE_MEASURES:
            raise ConfigError(
                f"gate: measure was '{self.measure}'; allowed: {', '.join(GATE_MEASURES)}."
            )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One row of the curriculum.

    Attributes:
        name: such as "entry".
        about: what is learned, in a sentence.
        actions: order kinds that are allowed, lower case.
        sizes: entry sizes that are allowed, 1 is the smallest.
        budget_share: share of the training steps, relative to the other phases.
        entropy: weight of the entropy bonus at the start and at the end.
        gamma: discount per decision.
        learner: one of LEARNERS.
        learning_rate: Adam's step size at the start and at the end; None: the learner's settings.
        lane_share: share of the learner's lanes that play; fewer live through longer stretches in
            as many steps.
        reward: weights of reward terms by name; terms not named weigh 0.
        rules: rules taken away or relaxed, by name.
        gate: everything that must be shown before the next phase.
        mix: kinds of episodes.
    """

    name: str
    about: str
    actions: tuple[str, ...]
    sizes: tuple[int, ...]
    budget_share: float
    entropy: tuple[float, float]
    gamma: float
    reward: Mapping[str, float]
    rules: Mapping[str, str]
    gate: tuple[Gate, ...]
    mix: tuple[Component, ...]
    learner: str = "ppo"
    learning_rate: tuple[float, float] | None = None
    lane_share: float = 1.0

    @property
    def learns_entries(self) -> bool:
        """Whether it is learned from the exact outcome of every entry."""
        return self.learner == "full_information" and "close" not in self.actions

    @property
    def learns_exits(self) -> bool:
        """Whether it is learned from the exact outcome of closing at every bar of a position."""
        return self.learner == "full_information" and "close" in self.actions

    def __post_init__(self) -> None:
        """Refuses names that do not exist, each with what is allowed."""
        kinds = {kind.name.lower() for kind in OrderKind}
        _require_known("actions", self.actions, kinds)
        _require_known("reward", self.reward, set(REWARD_TERMS))
        _require_known("rules", self.rules, set(RELAXABLE))
        for key, value in self.rules.items():
            _require_known(f"rules.{key}", [value], set(RELAXABLE[key]))
        if "hold" not in self.actions:
            raise ConfigError("actions: 'hold' must always be allowed.")
        if not self.gate:
            raise ConfigError(f"phase '{self.name}': it needs at least one gate ([[phase.gate]]).")
        if not self.sizes or not set(self.sizes) <= set(range(1, N_SIZES + 1)):
            raise ConfigError(f"sizes was {list(self.sizes)}; allowed: 1 to {N_SIZES}.")
        if not self.budget_share > 0:
            raise ConfigError(f"budget_share was {self.budget_share}; it must be above 0.")
        if not 0 < self.lane_share <= 1:
            raise ConfigError(f"lane_share was {self.lane_share}; allowed: above 0 to 1.")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma was {self.gamma}; allowed: above 0 to 1.")
        if len(self.entropy) != 2 or min(self.entropy) < 0:
            raise ConfigError(
                f"entropy was {list(self.entropy)}; it needs two numbers of at "
                "least 0, at the start and at the end."
            )
        rates = self.learning_rate
        if rates is not None and (len(rates) != 2 or rates[0] <= 0 or rates[1] < 0):
            raise ConfigError(
                f"learning_rate was {list(rates)}; it needs two numbers, the first above 0 and the "
                "second at least 0."
            )
        _require_known("learner", [self.learner], set(LEARNERS))
        if self.learner == "full_information":
            _require_known_outcomes(self)


def _require_known_outcomes(phase: Phase) -> None:
    """Refuses a phase in which what an entry comes to depends on more than its bar."""
    has_other = set(phase.actions) - {"hold", "close", "long", "short"}
    paid = {name for name, weight in phase.reward.items() if weight}
    is_paid_otherwise = not paid or bool(paid - {"trip_r", "trip_utility"})
    kept = [rule for rule in ("floor", "target", "daily_limit") if phase.rules.get(rule) != "off"]
    if has_other or is_paid_otherwise or kept:
        raise ConfigError(
            "learner 'full_information' needs outcomes that the bars alone decide: actions hold, "
            "close, long and short, reward trip_r or trip_utility, floor, target and daily_limit "
            f"off. Found actions {list(phase.actions)}, reward {dict(phase.reward)}, in force "
            f'{kept}. Change them, or take learner = "ppo".'
        )


def _require_known(where: str, names: Any, known: set[str]) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        raise ConfigError(
            f"{where}: unknown {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
        )


def load_phases(path: Path | None = None) -> tuple[Phase, ...]:
    """Reads the curriculum, the built-in one without a path.

    Raises:
        ConfigError: naming the phase and field that cannot be used.
    """
    file = path or PHASES_FILE
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file.name}: not readable as TOML: {error}.") from error
    rows = raw.get("phase")
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{file.name}: no [[phase]] found; the curriculum needs at least one.")
    phases = tuple(_read_phase(row, file.name) for row in rows)
    names = [phase.name for phase in phases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{file.name}: phase names given twice: {', '.join(twice)}.")
    return phases


def _read_phase(row: Any, file: str) -> Phase:
    if not isinstance(row, dict):
        raise ConfigError(f"{file}: phase was {row!r}; each phase is a table, [[phase]].")
    fields = {f.name for f in dataclasses.fields(Phase)}
    where = f"{file}: phase '{row.get('name', '?')}'"
    optional = {f.name for f in dataclasses.fields(Phase) if f.default is not dataclasses.MISSING}
    if set(row) - fields or fields - optional - set(row):
        unknown, missing = sorted(set(row) - fields), sorted(fields - optional - set(row))
        raise ConfigError(f"{where}: unknown keys {unknown}, missing keys {missing}.")
    try:
        return Phase(
            **{
                **row,
                "actions": tuple(row["actions"]),
                "sizes": tuple(row["sizes"]),
                "entropy": tuple(row["entropy"]),
                "learning_rate": tuple(row["learning_rate"]) if "learning_rate" in row else None,
                "gate": tuple(Gate(**item) for item in row["gate"]),
                "mix": tuple(_read_component(item) for item in row["mix"]),
            }
        )
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read_component(item: Any) -> Component:
    if not isinstance(item, dict):
        raise TypeError(f"mix held {item!r}; each kind of episode is a table, [[phase.mix]]")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in item.items()}
    return Component(**values)


def allowed_actions(phase: Phase) -> NDArray[np.bool_]:
    """Returns the rows of the action table that a phase allows, bool [A]."""
    entries = (OrderKind.LONG, OrderKind.SHORT)
    return np.array(
        [
            kind.name.lower() in phase.actions and (kind not in entries or size + 1 in phase.sizes)
            for kind, size in zip(KINDS, SIZES, strict=True)
        ]
    )


def reward_weights(phase: Phase) -> RewardWeights:
    """Returns the weight of every reward term, float32 scalars."""
    return RewardWeights(*(np.float32(phase.reward.get(name, 0.0)) for name in REWARD_TERMS))


def phase_rules(rules: Rules, phase: Phase) -> Rules:
    """Returns the rulebook's numbers as a phase applies them."""
    off = np.asarray(NEVER, np.int32)
    changes: dict[str, Any] = {}
    if phase.rules.get("floor") == "off":
        changes |= {"allowance": np.asarray(FAR_BELOW, np.int32), "lock_trigger": off}
    if phase.rules.get("target") == "off":
        changes["target_balance"] = off
    if phase.rules.get("daily_limit") == "off":
        changes["limit_kind"] = np.asarray(LimitKind.NONE, np.int32)
    if phase.rules.get("time_limit") == "off":
        changes["time_limit_days"] = off
    if "late_flat" in phase.rules:
        fails = int(phase.rules["late_flat"] == "fail")
        changes["late_flat_fails"] = np.asarray(fails, np.int32)
    return rules._replace(**changes)


def budget_steps(phases: Sequence[Phase], total_steps: int) -> list[int]:
    """Splits a number of training steps over the phases by their shares."""
    shares = np.array([p.budget_share for p in phases], np.float64)
    return [round(s) for s in total_steps * shares / shares.sum()]
