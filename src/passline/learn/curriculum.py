"""Trains one policy through the phases, gate by gate, and leaves a checkpoint at every step of it.

The caller says what to do with progress and results (Watcher); nothing here prints or knows of a
report. A killed training goes on from its last checkpoint to bit-identical weights.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from passline.errors import CheckpointError, ConfigError
from passline.evaluate.gates import GateResult, pass_gates
from passline.evaluate.slices import Split
from passline.evaluate.table import EvaluationTable
from passline.learn import network
from passline.learn.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from passline.learn.ppo import (
    Metrics,
    PPOConfig,
    TrainState,
    Update,
    init_train_state,
    make_hyper,
    make_update,
    next_phase_state,
)
from passline.sim.jit import sim_jit
from passline.sim.layout import DoneReason
from passline.task import env
from passline.task.actions import ACTION_NAMES, N_ACTIONS
from passline.task.env import TaskParams
from passline.task.phases import Phase, budget_steps
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params
from passline.task.reward import REWARD_TERMS

__all__ = ["CurriculumConfig", "Progress", "Trained", "Watcher", "load_network", "train_curriculum"]


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Budget, seed and bookkeeping of a training."""

    total_steps: int = 30_000_000
    """Training steps over all phases."""
    seed: int = 0
    """Of weights, episodes and draws."""
    checkpoint_every: int = 20
    """Updates between two checkpoints."""
    keep_every: int = 10
    """Of the checkpoints, every n-th is kept beside the last; 0 keeps the last of each phase."""
    n_gate_episodes: int = 256
    """Episodes a gate that plays whole evaluations uses."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        for name in ("total_steps", "checkpoint_every", "n_gate_episodes"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} was {value}; it must be at least 1.")


class Watcher(Protocol):
    """What the caller does with the course of a training."""

    def on_update(self, phase: Phase, progress: "Progress", scalars: Mapping[str, float]) -> None:
        """Takes the scalars of one update."""
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
    """What a checkpoint holds: the learner, and the policy its phase began with."""

    state: TrainState
    previous: network.Params


@dataclass
class _Cursor:
    """Where in the curriculum the training stands."""

    phase: int = 0
    update: int = 0
    step: int = 0


def train_curriculum(
    prepared: Prepared,
    phases: tuple[Phase, ...],
    split: Split,
    ppo: PPOConfig,
    config: CurriculumConfig,
    watcher: Watcher,
    checkpoints: Path,
    *,
    forced: bool = False,
) -> Trained:
    """Trains through the phases, going on from the last checkpoint if there is one.

    Args:
        prepared: markets on the device.
        phases: the curriculum.
        split: the cut of time; only `train` and `gate` are touched.
        ppo: the learner's settings.
        config: budget and seed.
        watcher: takes progress and results.
        checkpoints: existing directory of this run's checkpoints.
        forced: go on past a gate that was not passed.

    Raises:
        CheckpointError: the directory holds checkpoints that do not fit these settings.
    """
    update = make_update(env, ppo)
    budgets = updates_by_phase(phases, ppo, config)
    total = sum(budgets) * ppo.batch_size
    params = phase_params(prepared, phases[0], split.train)
    saved, cursor = _start_or_resume(params, ppo, config, checkpoints)
    gates: list[GateResult] = []
    for index in range(cursor.phase, len(phases)):
        phase = phases[index]
        params = phase_params(prepared, phase, split.train)
        if cursor.update == 0 and index > 0:
            key = jax.random.fold_in(jax.random.key(config.seed), 1000 + index)
            lanes = sim_jit(env.reset, static_argnums=2)(params, key, ppo.n_lanes)
            saved = _Saved(next_phase_state(saved.state, lanes), _copy(saved.state.params))
        saved = _train_phase(
            update, params, phase, ppo, config, saved, cursor, budgets[index], total, watcher,
            checkpoints,
        )  # fmt: skip
        results, table = pass_gates(
            prepared,
            params,
            phase,
            split,
            network.act_greedy,
            saved.state.params,
            saved.previous,
            timesteps=cursor.step,
            seed=config.seed + 7919 * (index + 1),
            n=config.n_gate_episodes,
        )
        watcher.on_gates(results, table)
        gates += results
        failed = next((result for result in results if not result.is_passed), None)
        is_last = index == len(phases) - 1
        if failed is not None and not forced and not is_last:
            return Trained(
                network=saved.state.params,
                step=cursor.step,
                phase=phase,
                gates=tuple(gates),
                stopped_at=failed,
            )
        cursor.phase, cursor.update = index + 1, 0
    return Trained(
        network=saved.state.params,
        step=cursor.step,
        phase=phases[-1],
        gates=tuple(gates),
        stopped_at=None,
    )


def updates_by_phase(
    phases: tuple[Phase, ...], ppo: PPOConfig, config: CurriculumConfig
) -> list[int]:
    """Returns the number of updates of each phase, at least one."""
    return [max(round(s / ppo.batch_size), 1) for s in budget_steps(phases, config.total_steps)]


def _copy(params: network.Params) -> network.Params:
    copied: network.Params = jax.tree.map(jnp.copy, params)
    return copied


def _start_or_resume(
    params: TaskParams, ppo: PPOConfig, config: CurriculumConfig, checkpoints: Path
) -> tuple[_Saved, _Cursor]:
    """Draws a fresh learner, or loads the newest checkpoint into one."""
    key = jax.random.key(config.seed)
    lanes = sim_jit(env.reset, static_argnums=2)(params, jax.random.fold_in(key, 1), ppo.n_lanes)
    state = init_train_state(
        ppo, lanes, len(OBSERVATION_NAMES), N_ACTIONS, jax.random.fold_in(key, 2)
    )
    fresh = _Saved(state, _copy(state.params))
    found = list_checkpoints(checkpoints)
    if not found:
        return fresh, _Cursor()
    last = max(found, key=lambda info: int(info.meta["step"]))
    saved = load_checkpoint(last.path, fresh)
    meta = last.meta
    return jax.tree.map(jnp.asarray, saved), _Cursor(
        phase=int(meta["phase_index"]), update=int(meta["update"]), step=int(meta["step"])
    )


def _train_phase(
    update: Update,
    params: TaskParams,
    phase: Phase,
    ppo: PPOConfig,
    config: CurriculumConfig,
    saved: _Saved,
    cursor: _Cursor,
    n_updates: int,
    total_steps: int,
    watcher: Watcher,
    checkpoints: Path,
) -> _Saved:
    """Runs the updates of a phase that are still to be done, with checkpoints on the way."""
    settings = dataclasses.replace(
        ppo, gamma=phase.gamma, entropy_coef=phase.entropy[0], entropy_coef_floor=phase.entropy[1]
    )
    first = int(saved.state.n_updates) - cursor.update
    hyper = make_hyper(settings, first, n_updates)
    state = saved.state
    while cursor.update < n_updates:
        began = time.perf_counter()
        state, metrics = update(params, state, hyper)
        scalars = flatten_metrics(metrics, [c.name for c in phase.mix])
        seconds = time.perf_counter() - began
        cursor.update += 1
        cursor.step += ppo.batch_size
        scalars["time/fps"] = ppo.batch_size / seconds
        progress = Progress(
            step=cursor.step,
            total_steps=total_steps,
            phase_step=cursor.update * ppo.batch_size,
            phase_steps=n_updates * ppo.batch_size,
        )
        watcher.on_update(phase, progress, scalars)
        if cursor.update % config.checkpoint_every == 0 or cursor.update == n_updates:
            _save(checkpoints, phase, _Saved(state, saved.previous), cursor, config)
    return _Saved(state, saved.previous)


def _save(
    checkpoints: Path, phase: Phase, saved: _Saved, cursor: _Cursor, config: CurriculumConfig
) -> None:
    name = f"{cursor.phase + 1}-{phase.name}-{cursor.step:012d}"
    meta = {
        "phase": phase.name,
        "phase_index": cursor.phase,
        "update": cursor.update,
        "step": cursor.step,
        "observation": list(OBSERVATION_NAMES),
        "actions": list(ACTION_NAMES),
    }
    save_checkpoint(checkpoints, name, saved, meta)
    own = [i.path.stem for i in list_checkpoints(checkpoints) if i.meta["phase"] == phase.name]
    prune_checkpoints(checkpoints, own, keep_every=config.keep_every)


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
    for name, mine in (("observation", OBSERVATION_NAMES), ("actions", ACTION_NAMES)):
        if tuple(last.meta.get(name, ())) != tuple(mine):
            raise CheckpointError(
                f"{last.path.name}: trained on other {name} than this version has "
                f"({len(last.meta.get(name, ()))} against {len(mine)}). Train again."
            )
    return load_policy(last.tensors, ppo), last.meta


def load_policy(tensors: Path, ppo: PPOConfig) -> network.Params:
    """Reads the policy's parameters out of a checkpoint's tensors."""
    blank = network.init_params(jax.random.key(0), len(OBSERVATION_NAMES), N_ACTIONS, ppo.hidden)
    stored = safetensors.numpy.load_file(tensors)
    return fill_from(blank, stored, "state/params", tensors.name)


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
    info = host.pop("rollout/info")
    counts = np.asarray(host.pop("rollout/action_counts"), np.float64)
    scalars = {name: float(value) for name, value in host.items()}
    n_episodes = max(float(host["rollout/n_episodes"]), 1.0)
    n_trips = float(info.n_trips)
    scalars |= {
        f"actions/{name}": float(share)
        for name, share in zip(ACTION_NAMES, counts / max(counts.sum(), 1.0), strict=True)
    }
    scalars |= {
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
    return {name: value for name, value in scalars.items() if np.isfinite(value)}
