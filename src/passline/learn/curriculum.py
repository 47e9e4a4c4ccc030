"""Trains one policy through the phases, gate by gate, and leaves a checkpoint at every step of it.

The caller says what to do with progress and results (Watcher); nothing here prints or knows of a
report. A killed training goes on from its last checkpoint to bit-identical weights.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from passline.errors import CheckpointError, ConfigError
from passline.evaluate.gates import GateResult, look_at_gate, pass_gates
from passline.evaluate.pathology import KEPT_SCALAR
from passline.evaluate.slices import Split
from passline.evaluate.table import EvaluationTable
from passline.learn import network
from passline.learn.checkpoint import (
    CheckpointInfo,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from passline.learn.cross_fit import CrossFit, cross_fit, stay_flat
from passline.learn.exits import find_positions, make_exit_update
from passline.learn.full_information import (
    UNSEEN,
    Learner,
    Stretches,
    cut_stretches,
    make_exact_update,
)
from passline.learn.phase_gain import gain_scalars, is_gain, phase_gain
from passline.learn.ppo import (
    Hyper,
    Metrics,
    PPOConfig,
    TrainState,
    Update,
    init_train_state,
    make_hyper,
    make_update,
    next_phase_state,
)
from passline.learn.reweigh import FAILURE_RATES, failure_rates, rates_in, start_weights
from passline.learn.symmetry import is_symmetric
from passline.sim.layout import DoneReason
from passline.task import env
from passline.task.actions import ACTION_NAMES, N_ACTIONS, stand_ins
from passline.task.env import TaskParams
from passline.task.mirror import MIRROR, Mirror
from passline.task.phases import Phase, allowed_actions, budget_steps
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params
from passline.task.reward import REWARD_TERMS

__all__ = [
    "BestCheckpoint",
    "CurriculumConfig",
    "Progress",
    "Trained",
    "Watcher",
    "best_checkpoints",
    "is_forced_at",
    "kept_beside_last",
    "load_network",
    "load_policy",
    "phase_settings",
    "train_curriculum",
    "updates_by_phase",
]


OPENED_BELOW = 5.0
"""How far the logit of a newly allowed action begins below that of its stand-in, nats."""
SET_ASIDE = "learned_set_aside"
"""Key of the meta data of a checkpoint that holds what was learned beside the policy."""


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Budget, seed and bookkeeping of a training."""

    total_steps: int = 30_000_000
    """Training steps over all phases."""
    seed: int = 0
    """Of weights, episodes and draws."""
    checkpoint_every: int = 20
    """Updates between two checkpoints; each look at the gate slices leaves one besides."""
    keep_every: int = 10
    """Of the checkpoints, every n-th is kept beside the last and the best of each phase; 0 keeps
    these two alone."""
    n_gate_episodes: int = 256
    """Episodes of a gate whose episodes are longer than a session."""
    evaluations_per_phase: int = 3
    """Times a phase is played on the gate slices, its gate included."""
    reweigh: float = 0.0
    """How strongly episodes begin where the agent fails on training months, 0 (not) to 1."""
    symmetric: Literal["auto", "always", "never"] = "auto"
    """Whether the policy does upside down what it does upright, long and short exchanged; auto:
    unless telling the sides apart is shown to earn more on training days not learned from."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        for name in (
            "total_steps",
            "checkpoint_every",
            "n_gate_episodes",
            "evaluations_per_phase",
        ):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} was {value}; it must be at least 1.")
        if self.keep_every < 0:
            raise ConfigError(f"keep_every was {self.keep_every}; it must be at least 0.")
        known = get_args(get_type_hints(CurriculumConfig)["symmetric"])
        if self.symmetric not in known:
            raise ConfigError(f"symmetric was '{self.symmetric}'; allowed: {', '.join(known)}.")
        if not 0 <= self.reweigh <= 1:
            raise ConfigError(f"reweigh was {self.reweigh}; allowed: 0 to 1.")


class Watcher(Protocol):
    """What the caller does with the course of a training."""

    def on_update(self, phase: Phase, progress: "Progress", scalars: Mapping[str, float]) -> None:
        """Takes the scalars of one update."""
        ...

    def on_look(self, table: EvaluationTable) -> None:
        """Takes the agent's episodes on the gate slices in the middle of a phase."""
        ...

    def on_gates(self, results: list[GateResult], table: EvaluationTable) -> None:
        """Takes the results of a phase's gates and the episodes they rest on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: training steps so far, all phases.
        total_steps: training steps planned.
        phase_step: steps of this phase so far.
        phase_steps: steps planned for this phase.
    """

    step: int
    total_steps: int
    phase_step: int
    phase_steps: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to.

    Attributes:
        network: the policy's parameters.
        step: training steps.
        phase: the last phase that was trained.
        gates: results in order.
        stopped_at: the gate that ended it; None if all phases were trained.
    """

    network: network.Params
    step: int
    phase: Phase
    gates: tuple[GateResult, ...]
    stopped_at: GateResult | None


class _Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        state: the learner.
        previous: the policy its phase began with.
        learned: what the phase had learned where it was made flat or undone; a training that is
            forced on goes on with it.
    """

    state: TrainState
    previous: network.Params
    learned: network.Params | None = None


@dataclass
class _Cursor:
    """Where in the curriculum the training stands."""

    phase: int = 0
    update: int = 0
    step: int = 0
    failure_rates: dict[str, float] = field(default_factory=dict)
    """By training month, where episodes are reweighed by them."""
    is_symmetric: bool = True
    """Whether gradients are taken of the symmetric part alone."""
    fit: CrossFit | None = None
    """What the first phase earns on days not learned from; worked out again where it is missing."""

    @property
    def mirror(self) -> Mirror | None:
        return MIRROR if self.is_symmetric else None


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What stays the same through a training."""

    prepared: Prepared
    phases: tuple[Phase, ...]
    split: Split
    ppo: PPOConfig
    config: CurriculumConfig
    watcher: Watcher
    checkpoints: Path | None
    budgets: list[int]
    base: network.Params | None
    forced_from: str | None

    def is_forced(self, phase: int) -> bool:
        """Returns whether nothing stops or undoes this phase."""
        return is_forced_at(self.phases, self.forced_from, self.phases[phase].name)

    def settings(self, phase: int) -> PPOConfig:
        return phase_settings(self.ppo, self.phases[phase])

    @property
    def total_steps(self) -> int:
        sizes = [self.settings(phase).batch_size for phase in range(len(self.phases))]
        return sum(n * size for n, size in zip(self.budgets, sizes, strict=True))


def train_curriculum(
    prepared: Prepared,
    phases: tuple[Phase, ...],
    split: Split,
    ppo: PPOConfig,
    config: CurriculumConfig,
    watcher: Watcher,
    checkpoints: Path | None,
    *,
    forced_from: str | None = None,
    base: network.Params | None = None,
) -> Trained:
    """Trains through the phases, going on from the last checkpoint if there is one.

    Args:
        prepared: markets on the device.
        phases: the curriculum.
        split: the cut of time; only `train` and `gate` are touched.
        ppo: the learner's settings.
        config: budget and seed.
        watcher: takes progress and results.
        checkpoints: existing directory of this run's checkpoints; None keeps none.
        forced_from: the phase from which on it goes past gates that are not passed, and on with
            what neither holds nor gains on training days; None: no phase.
        base: weights to begin with; None draws them from the seed.

    Raises:
        CheckpointError: the directory holds checkpoints that do not fit these settings.
    """
    work = _Work(
        prepared=prepared,
        phases=phases,
        split=split,
        ppo=ppo,
        config=config,
        watcher=watcher,
        checkpoints=checkpoints,
        budgets=updates_by_phase(phases, ppo, config),
        base=base,
        forced_from=forced_from,
    )
    saved, cursor = _start_or_resume(work)
    gates: list[GateResult] = []
    failed = None
    while cursor.phase < len(phases) and (failed is None or work.is_forced(cursor.phase - 1)):
        params = phase_params(prepared, phases[cursor.phase], split.train)
        saved = _enter_phase(work, params, saved, cursor)
        saved = _train_phase(work, params, saved, cursor)
        results = _test_phase(work, params, saved, cursor)
        gates += results
        failed = next((result for result in results if not result.is_passed), None)
        cursor.phase, cursor.update = cursor.phase + 1, 0
    return Trained(
        network=saved.state.params,
        step=cursor.step,
        phase=phases[cursor.phase - 1],
        gates=tuple(gates),
        stopped_at=failed if cursor.phase < len(phases) else None,
    )


def is_forced_at(phases: Sequence[Phase], forced_from: str | None, name: str) -> bool:
    """Returns whether a phase is the one from which a training is forced, or a later one."""
    names = [phase.name for phase in phases]
    return forced_from in names and name in names[names.index(forced_from) :]


def update_of(ppo: PPOConfig, mirror: Mirror | None) -> Update:
    """Returns the compiled update of the learner's shapes: the same one for equal shapes.

    A process that trains many times, as a walk-forward does, so compiles once.
    """
    fields = dataclasses.fields(PPOConfig)
    usual: dict[str, Any] = {f.name: f.default for f in fields if f.name in Hyper._fields}
    return _update_of_shapes(dataclasses.replace(ppo, **usual), mirror)


@lru_cache(maxsize=4)
def _update_of_shapes(shapes: PPOConfig, mirror: Mirror | None) -> Update:
    return make_update(env, shapes, mirror)


def updates_by_phase(
    phases: tuple[Phase, ...], ppo: PPOConfig, config: CurriculumConfig
) -> list[int]:
    """Returns the number of updates of each phase, at least one."""
    steps = budget_steps(phases, config.total_steps)
    return [
        max(round(n / phase_settings(ppo, phase).batch_size), 1)
        for n, phase in zip(steps, phases, strict=True)
    ]


def _copy(params: network.Params) -> network.Params:
    copied: network.Params = jax.tree.map(jnp.copy, params)
    return copied


def _start_or_resume(work: _Work) -> tuple[_Saved, _Cursor]:
    """Draws a fresh learner, or loads the newest checkpoint into one."""
    found = [] if work.checkpoints is None else list_checkpoints(work.checkpoints)
    if not found:
        cursor = _Cursor(is_symmetric=_begins_symmetric(work))
        return _first(work, cursor.mirror), cursor
    last = max(found, key=lambda info: int(info.meta["step"]))
    meta = last.meta
    like = _fresh(work, int(meta["phase_index"]), None)
    if meta.get(SET_ASIDE):
        like = like._replace(learned=like.previous)
    saved: _Saved = jax.tree.map(jnp.asarray, load_checkpoint(last.path, like))
    if work.is_forced(int(meta["phase_index"])) and saved.learned is not None:
        saved = _Saved(saved.state._replace(params=saved.learned), saved.previous)
    return saved, _Cursor(
        phase=int(meta["phase_index"]),
        update=int(meta["update"]),
        step=int(meta["step"]),
        failure_rates=rates_in(meta),
        is_symmetric=bool(meta.get("is_symmetric", False)),  # older ones had no such choice
    )


def _begins_symmetric(work: _Work) -> bool:
    """Returns whether the policy is to be symmetric, as far as that is known before training."""
    if work.config.symmetric == "auto" and work.base is not None:
        return is_symmetric(work.base, MIRROR)
    return work.config.symmetric != "never"


def _fresh(work: _Work, phase: int, mirror: Mirror | None) -> _Saved:
    """Draws a learner with the lanes of a phase."""
    params = phase_params(work.prepared, work.phases[phase], work.split.train)
    settings, key = work.settings(phase), jax.random.key(work.config.seed)
    lanes = env.compiled_reset()(params, jax.random.fold_in(key, 1), settings.n_lanes)
    draws = jax.random.fold_in(key, 2)
    state = init_train_state(settings, lanes, len(OBSERVATION_NAMES), N_ACTIONS, draws, mirror)
    if work.base is not None:
        state = state._replace(params=_copy(work.base))
    return _Saved(state, _copy(state.params))


def _first(work: _Work, mirror: Mirror | None) -> _Saved:
    """Draws the learner that the first phase begins with."""
    saved = _fresh(work, 0, mirror)
    if not work.phases[0].learns_entries or work.base is not None:
        return saved
    blind = network.without_inputs(saved.state.params, UNSEEN)
    return _Saved(saved.state._replace(params=blind), _copy(blind))


def _enter_phase(work: _Work, params: TaskParams, saved: _Saved, cursor: _Cursor) -> _Saved:
    """Carries the weights into a later phase that has not begun, with lanes of its own.

    The greedy policy acts in it as it did in the one before.
    """
    if cursor.update > 0 or cursor.phase == 0:
        return saved
    phase = work.phases[cursor.phase]
    carried = _carried(saved.state.params, work.phases[cursor.phase - 1], phase)
    key = jax.random.fold_in(jax.random.key(work.config.seed), 1000 + cursor.phase)
    lanes = env.compiled_reset()(params, key, work.settings(cursor.phase).n_lanes)
    return _Saved(next_phase_state(saved.state._replace(params=carried), lanes), _copy(carried))


def _carried(policy: network.Params, before: Phase, phase: Phase) -> network.Params:
    """Returns a phase's policy as it enters another: what is newly allowed begins unlikely."""
    opened = stand_ins(allowed_actions(before), allowed_actions(phase))
    return network.open_actions(policy, opened, OPENED_BELOW)


def _train_phase(work: _Work, params: TaskParams, saved: _Saved, cursor: _Cursor) -> _Saved:
    """Runs the updates of a phase that are still to be done, with checkpoints on the way."""
    phase, n_updates = work.phases[cursor.phase], work.budgets[cursor.phase]
    if cursor.update == n_updates:
        return saved
    settings = work.settings(cursor.phase)
    hyper = make_hyper(settings, int(saved.state.n_updates) - cursor.update, n_updates)
    if cursor.update == 0:
        cursor.failure_rates = _failure_rates(work, params, saved.state.params, cursor)
    stretches = _stretches(work, params, phase)
    chosen: dict[str, float] = {}
    is_first = cursor.phase == cursor.update == 0 and work.base is None
    if stretches is not None and phase.learns_entries and is_first:
        saved, chosen = _choose_symmetry(work, params, stretches, saved, cursor)
    update = _learner(work, params, stretches, saved.previous, cursor)
    looks = look_updates(n_updates, work.config.evaluations_per_phase)
    state = saved.state
    while cursor.update < n_updates:
        began = time.perf_counter()
        state, metrics = update(state, hyper)
        scalars = flatten_metrics(metrics, [c.name for c in phase.mix]) | chosen
        chosen = {}
        scalars["time/fps"] = settings.batch_size / (time.perf_counter() - began)
        scalars["rollout/n_lanes"] = settings.n_lanes
        cursor.update += 1
        cursor.step += settings.batch_size
        now = _Saved(state, saved.previous)
        if cursor.update == n_updates:
            if stretches is not None and phase.learns_entries:
                now, found = _keep_what_holds(work, params, stretches, now, cursor)
            else:
                now, found = _keep_what_gains(work, now, cursor)
            scalars |= found
        progress = Progress(
            step=cursor.step,
            total_steps=work.total_steps,
            phase_step=cursor.update * settings.batch_size,
            phase_steps=n_updates * settings.batch_size,
        )
        if cursor.failure_rates:
            rates = list(cursor.failure_rates.values())
            scalars |= {"mix/failure_rate": float(np.mean(rates)), "mix/worst_month": max(rates)}
        work.watcher.on_update(phase, progress, scalars)
        score = None
        if cursor.update in looks:
            score = _look(work, params, state.params, cursor)
            if phase.learner == "ppo":
                cursor.failure_rates = _failure_rates(work, params, state.params, cursor)
                update = _learner(work, params, None, saved.previous, cursor)
        is_due = cursor.update % work.config.checkpoint_every == 0 or cursor.update == n_updates
        if is_due or score is not None:
            _save(work, now, cursor, score)
    return now


def _choose_symmetry(
    work: _Work, params: TaskParams, stretches: Stretches, saved: _Saved, cursor: _Cursor
) -> tuple[_Saved, dict[str, float]]:
    """Lets the policy tell the sides apart if that is shown to earn more on days not learned from.

    What an edge of one side is worth to a symmetric policy is half of it; what a free one learns by
    heart costs it more on most markets. So the data must show it.
    """
    cursor.fit = _cross_fit(work, params, stretches, cursor.mirror)
    if work.config.symmetric != "auto" or cursor.fit is None:
        return saved, {}
    free = _cross_fit(work, params, stretches, None)
    assert free is not None
    gain = free.gain_over(cursor.fit)
    if gain.low > 0:
        cursor.is_symmetric, cursor.fit = False, free
        saved = _first(work, cursor.mirror)
    return saved, {
        "symmetry/free_gain": gain.value,
        "symmetry/free_gain_low": gain.low,
        "symmetry/is_symmetric": float(cursor.is_symmetric),
    }


def _cross_fit(
    work: _Work, params: TaskParams, stretches: Stretches, mirror: Mirror | None
) -> CrossFit | None:
    """Learns the first phase on either half of its weeks, from the weights that it begins with."""
    begun = _first(work, mirror)
    return cross_fit(
        params,
        stretches,
        work.settings(0),
        begun.state,
        begun.previous,
        n_updates=max(work.budgets[0] // 2, 1),
        mirror=mirror,
    )


def _keep_what_holds(
    work: _Work, params: TaskParams, stretches: Stretches, saved: _Saved, cursor: _Cursor
) -> tuple[_Saved, dict[str, float]]:
    """Makes the policy stay flat if what it learned does not hold on other training days.

    A forced training goes on with what it learned, and tells all the same what was found. Weights
    that come from a phase before or from another run may have seen both halves of the days; then
    the halves tell nothing, and the gate alone decides.
    """
    if cursor.phase > 0 or work.base is not None:
        return saved, {}
    found = cursor.fit or _cross_fit(work, params, stretches, cursor.mirror)
    if found is None:
        return saved, {}
    is_flat = not found.is_shown and not work.is_forced(cursor.phase)
    if is_flat:
        learned = saved.state.params
        saved = _set_aside(
            saved, stay_flat(params, stretches, work.settings(cursor.phase), learned)
        )
    return saved, found.scalars() | {"cross_fit/is_flat": float(is_flat)}


def _keep_what_gains(
    work: _Work, saved: _Saved, cursor: _Cursor
) -> tuple[_Saved, dict[str, float]]:
    """Undoes what a phase did to the policy if it left it farther from passing on training days.

    The critic keeps what it learned. A policy that began as drawn has nothing to go back to, and a
    forced training goes on with what it learned and tells all the same what was found.
    """
    if cursor.phase == 0 and work.base is None:
        return saved, {}
    learned = saved.state.params
    phase, last = work.phases[cursor.phase], work.phases[-1]
    found = phase_gain(
        work.prepared,
        phase_params(work.prepared, last, work.split.train),
        work.split.train,
        _carried(saved.previous, phase, last),
        _carried(learned, phase, last),
        n=work.config.n_gate_episodes,
        seed=gate_seed(work.config, cursor.phase),
    )
    if found is None:
        return saved, {}
    is_kept = is_gain(found) or work.is_forced(cursor.phase)
    if not is_kept:
        actor = jax.tree.map(jnp.copy, saved.previous["actor"])
        saved = _set_aside(saved, {**learned, "actor": actor})
    return saved, gain_scalars(found) | {KEPT_SCALAR: float(is_kept)}


def _set_aside(saved: _Saved, policy: network.Params) -> _Saved:
    """Puts a policy in the place of what was learned, which is kept beside it."""
    learned = saved.state.params
    return saved._replace(state=saved.state._replace(params=policy), learned=learned)


def phase_settings(ppo: PPOConfig, phase: Phase) -> PPOConfig:
    """Returns the learner's settings with what a phase sets itself.

    Its lanes are the share of them that fills whole minibatches, one at least.
    """
    rates = phase.learning_rate or (ppo.learning_rate, ppo.learning_rate_floor)
    unit = -(-ppo.minibatch_size // ppo.rollout_steps)
    n_lanes = max(round(ppo.n_lanes * phase.lane_share / unit), 1) * unit
    return dataclasses.replace(
        ppo,
        n_lanes=ppo.n_lanes if phase.lane_share == 1 else n_lanes,
        gamma=phase.gamma,
        entropy_coef=phase.entropy[0],
        entropy_coef_floor=phase.entropy[1],
        learning_rate=rates[0],
        learning_rate_floor=rates[1],
    )


def _failure_rates(
    work: _Work, params: TaskParams, policy: network.Params, cursor: _Cursor
) -> dict[str, float]:
    """Plays the agent on the training months, if this phase's episodes are reweighed by them."""
    if work.config.reweigh == 0 or work.phases[cursor.phase].learner != "ppo":
        return {}
    seed = gate_seed(work.config, cursor.phase) + cursor.update
    return failure_rates(work.prepared, params, work.split.train, policy, seed=seed)


def _stretches(work: _Work, params: TaskParams, phase: Phase) -> Stretches | None:
    """Returns the outcomes that a phase learns from; None if it learns from rollouts."""
    if phase.learner != "full_information":
        return None
    return cut_stretches(params, work.split.train, phase_settings(work.ppo, phase))


def _learner(
    work: _Work,
    params: TaskParams,
    stretches: Stretches | None,
    begun: network.Params,
    cursor: _Cursor,
) -> Learner:
    """Returns the update that the phase, begun with these weights, learns by."""
    phase, settings = work.phases[cursor.phase], work.settings(cursor.phase)
    if stretches is not None and phase.learns_exits:
        known = find_positions(params, stretches, settings, begun)
        return make_exit_update(params, known, settings, begun, cursor.mirror)
    if stretches is not None:
        return make_exact_update(params, stretches, settings, cursor.mirror)
    update = update_of(settings, cursor.mirror)
    train = work.split.train
    weights = start_weights(work.prepared, train, cursor.failure_rates, work.config.reweigh)
    if weights is not None:
        params = phase_params(work.prepared, phase, train, weights)
    return lambda state, hyper: update(params, state, hyper)


def look_updates(n_updates: int, n_looks: int) -> set[int]:
    """Returns after which updates of a phase the agent is played on the gate slices.

    The gate at the end of the phase is the last of the `n_looks`; the others lie evenly before it.
    """
    return {round(n_updates * i / n_looks) for i in range(1, n_looks)} - {0, n_updates}


def _look(work: _Work, params: TaskParams, policy: network.Params, cursor: _Cursor) -> float:
    """Plays the agent on the gate slices in the middle of a phase; returns how well it did.

    Nothing is decided by it but which checkpoint is kept as the best.
    """
    phase = work.phases[cursor.phase]
    table, score = look_at_gate(
        work.prepared,
        params,
        phase,
        work.split,
        network.act_greedy,
        policy,
        timesteps=cursor.step,
        seed=gate_seed(work.config, cursor.phase),
        n=work.config.n_gate_episodes,
    )
    work.watcher.on_look(table)
    return score


def gate_seed(config: CurriculumConfig, phase: int) -> int:
    """Returns the seed of a phase's gate episodes: the same in the middle and at the end."""
    return config.seed + 7919 * (phase + 1)


def _test_phase(
    work: _Work, params: TaskParams, saved: _Saved, cursor: _Cursor
) -> list[GateResult]:
    """Puts a finished phase to its gates."""
    results, table = pass_gates(
        work.prepared,
        params,
        work.phases[cursor.phase],
        work.split,
        network.act_greedy,
        saved.state.params,
        saved.previous,
        timesteps=cursor.step,
        seed=gate_seed(work.config, cursor.phase),
        n=work.config.n_gate_episodes,
        is_unchanged=_acts_alike(saved.state.params, saved.previous),
    )
    work.watcher.on_gates(results, table)
    if results:
        _save(work, saved, cursor, results[0].agent_value)
    return results


def _acts_alike(policy: network.Params, previous: network.Params) -> bool:
    """Returns whether two policies have the same actor, to the bit."""
    mine, theirs = jax.device_get((policy["actor"], previous["actor"]))
    return all(np.array_equal(mine[name], theirs[name]) for name in theirs)


def _save(work: _Work, saved: _Saved, cursor: _Cursor, score: float | None) -> None:
    """Writes a checkpoint, and deletes those of its phase that need not be kept.

    It follows the look at the gate slices of the same update, so that a training which goes on from
    it has all looks up to there behind itself.
    """
    phase, checkpoints = work.phases[cursor.phase], work.checkpoints
    if checkpoints is None:
        return
    name = f"{cursor.phase + 1}-{phase.name}-{cursor.step:012d}"
    meta: dict[str, Any] = {
        "phase": phase.name,
        "phase_index": cursor.phase,
        "update": cursor.update,
        "step": cursor.step,
        "is_symmetric": cursor.is_symmetric,
        "observation": list(OBSERVATION_NAMES),
        "actions": list(ACTION_NAMES),
    }
    if cursor.failure_rates:
        meta[FAILURE_RATES] = cursor.failure_rates
    if saved.learned is not None:
        meta[SET_ASIDE] = True
    if score is not None:
        meta |= {"gate_measure": phase.gate[0].measure, "gate_value": score}
    save_checkpoint(checkpoints, name, saved, meta)
    own = [i for i in list_checkpoints(checkpoints) if i.meta["phase"] == phase.name]
    prune_checkpoints(checkpoints, [i.path.stem for i in own], kept_beside_last(own, work.config))


def kept_beside_last(known: Sequence[CheckpointInfo], config: CurriculumConfig) -> set[str]:
    """Returns which checkpoints of a phase outlive those that follow: the best, and every n-th."""
    # By update, not by position: those between are gone when the next one is due.
    each = config.checkpoint_every * config.keep_every
    kept = {i.path.stem for i in known if each and int(i.meta["update"]) % each == 0}
    return kept | {best.checkpoint for best in _best_by_phase(known)}


@dataclass(frozen=True, kw_only=True)
class BestCheckpoint:
    """The checkpoint of a phase whose policy did best on the gate slices.

    Chosen as the highest of several, its value is too good for the policy. The gate, the next phase
    and the verdict are given the last policy, not this one.

    Attributes:
        phase: name of the phase.
        checkpoint: its name.
        step: training steps over all phases.
        measure: measure of the phase's first gate.
        value: the agent's own part of it (see passline.evaluate.gates.agent_score).
    """

    phase: str
    checkpoint: str
    step: int
    measure: str
    value: float


def best_checkpoints(checkpoints: Path) -> list[BestCheckpoint]:
    """Returns the best kept checkpoint of each phase that was played on the gate slices, in order.

    Of equals the newest. Test slices have no part in it.
    """
    return _best_by_phase(list_checkpoints(checkpoints))


def _best_by_phase(known: Sequence[CheckpointInfo]) -> list[BestCheckpoint]:
    best: dict[str, BestCheckpoint] = {}
    for info in sorted(known, key=lambda info: int(info.meta["step"])):
        if "gate_value" not in info.meta:
            continue
        found = BestCheckpoint(
            phase=str(info.meta["phase"]),
            checkpoint=info.path.stem,
            step=int(info.meta["step"]),
            measure=str(info.meta["gate_measure"]),
            value=float(info.meta["gate_value"]),
        )
        if found.phase not in best or found.value >= best[found.phase].value:
            best[found.phase] = found
    return list(best.values())


def load_network(checkpoints: Path, ppo: PPOConfig) -> tuple[network.Params, dict[str, Any]]:
    """Reads the policy of the newest checkpoint.

    Returns:
        (parameters, what the checkpoint's TOML says: phase, step, observation, actions).

    Raises:
        CheckpointError: there is none, or it was trained on other observations or actions.
    """
    found = list_checkpoints(checkpoints)
    if not found:
        raise CheckpointError(f"{checkpoints}: no finished checkpoint. Train the run first.")
    last = max(found, key=lambda info: int(info.meta["step"]))
    return load_policy(last, ppo), last.meta


def load_policy(info: CheckpointInfo, ppo: PPOConfig) -> network.Params:
    """Reads the policy's parameters out of one checkpoint.

    Raises:
        CheckpointError: it was trained on other observations or actions, or with another network.
    """
    for name, mine in (("observation", OBSERVATION_NAMES), ("actions", ACTION_NAMES)):
        if tuple(info.meta.get(name, ())) != tuple(mine):
            raise CheckpointError(
                f"{info.path.name}: trained on other {name} than this version has "
                f"({len(info.meta.get(name, ()))} against {len(mine)}). Train again."
            )
    blank = network.init_params(jax.random.key(0), len(OBSERVATION_NAMES), N_ACTIONS, ppo.hidden)
    stored = safetensors.numpy.load_file(info.tensors)
    return fill_from(blank, stored, "state/params", info.tensors.name)


def fill_from(
    blank: network.Params, stored: Mapping[str, Any], prefix: str, file: str
) -> network.Params:
    """Returns `blank`'s structure with the stored arrays whose names begin with `prefix`."""
    params: network.Params = {}
    for net, layers in blank.items():
        params[net] = {}
        for name, like in layers.items():
            key = f"{prefix}/{net}/{name}"
            if key not in stored or stored[key].shape != like.shape:
                raise CheckpointError(
                    f"{file}: {key} is missing or not of shape {like.shape}. It was trained with "
                    "another network; give the same --hidden."
                )
            params[net][name] = jnp.asarray(stored[key])
    return params


def flatten_metrics(metrics: Metrics, components: list[str]) -> dict[str, float]:
    """Brings one update's metrics to the host as plain scalars with their TensorBoard names."""
    host = jax.device_get(metrics)
    info = host.pop("rollout/info", None)
    counts = np.asarray(host.pop("rollout/action_counts"), np.float64)
    scalars = {name: float(value) for name, value in host.items()}
    scalars |= {
        f"actions/{name}": float(share)
        for name, share in zip(ACTION_NAMES, counts / max(counts.sum(), 1.0), strict=True)
    }
    if info is not None:
        scalars |= account_scalars(info, components, max(float(host["rollout/n_episodes"]), 1.0))
    return {name: value for name, value in scalars.items() if np.isfinite(value)}


def account_scalars(info: Any, components: list[str], n_episodes: float) -> dict[str, float]:
    """Returns what the accounts of one rollout were paid, how they ended and what they traded."""
    n_trips = float(info.n_trips)
    scalars = {
        f"reward/{name}": float(value) for name, value in zip(REWARD_TERMS, info.terms, strict=True)
    }
    scalars |= {
        f"done/{reason.name.lower()}": float(info.done_reasons[reason]) / n_episodes
        for reason in DoneReason
        if reason is not DoneReason.NONE
    }
    by_component = zip(components, info.component_episodes, info.component_bars, strict=False)
    for name, n, bars in by_component:
        scalars[f"mix/{name}_episodes"] = float(n)
        if n:
            scalars[f"mix/{name}_length"] = float(bars) / float(n)
    scalars["account/pass_rate"] = float(info.done_reasons[DoneReason.TARGET]) / n_episodes
    scalars["account/trips"] = n_trips
    if n_trips:
        scalars["account/trip_r"] = float(info.trip_r) / n_trips
        scalars["account/win_rate"] = float(info.n_wins) / n_trips
    scalars["account/invalid"] = float(info.n_invalid)
    scalars["account/late_flat"] = float(info.n_late_flat)
    scalars["account/ambiguous"] = float(info.n_ambiguous)
    return scalars
