"""One trial: a policy trained on one stretch of bars and judged on another, in memory alone.

A walk-forward and a null test repeat the whole job some hundred times in one process. A trial does
what a run does (the curriculum with its gates, then agent and baselines on the same unseen
episodes) without a directory, and compiles nothing that an earlier trial on as many bars compiled.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from passline.errors import ConfigError
from passline.evaluate.gates import GateResult
from passline.evaluate.judge import BASELINES, Label, judge
from passline.evaluate.policies import Policy, PolicyKind
from passline.evaluate.slices import Split, evaluation_starts
from passline.evaluate.table import EvaluationTable, join_tables
from passline.evaluate.verdict import Verdict, verdict
from passline.kinds import Origin
from passline.learn import network
from passline.learn.curriculum import CurriculumConfig, Progress, Trained, train_curriculum
from passline.learn.ppo import PPOConfig
from passline.runs import config_fingerprint
from passline.task.phases import Phase
from passline.task.prepare import Prepared, phase_params

__all__ = ["Earned", "TrialResult", "earn", "run_trial"]

MILLS_PER_USD = 1000


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What one trial came to.

    Attributes:
        seed: of the training.
        table: one row an episode on the unseen slices, of the agent and of every baseline.
        verdict: the verdict on these rows alone.
        gates: results of the phases' gates, in order.
        stopped_at: the gate that ended the training; None if all phases were trained.
        is_flat: the agent was judged as an account that never trades, its training having been
            stopped by a gate.
        n_steps: training steps.
        phase: last phase that was trained.
        unit_usd: the rulebook's allowance, in which results are compared between firms.
        fingerprint: SHA-256 of everything the trial depends on: bars, rulebook, task, cut, phases,
            learner, budget, seed, episodes.
        weights_sha256: SHA-256 of the trained weights.
        policy: the trained weights, on the device.
    """

    seed: int
    table: EvaluationTable
    verdict: Verdict
    gates: tuple[GateResult, ...]
    stopped_at: GateResult | None
    is_flat: bool
    n_steps: int
    phase: str
    unit_usd: float
    fingerprint: str
    weights_sha256: str
    policy: network.Params = field(repr=False)

    @property
    def pass_rate(self) -> float:
        """Share of the agent's episodes that passed."""
        return self.verdict.agent.pass_rate.value

    @property
    def advantage(self) -> float:
        """Agent's pass rate minus that of the baseline with the highest; nan without a baseline."""
        rival = self.verdict.rival
        if rival is None or rival.advantage is None:
            return float("nan")
        return rival.advantage.value

    @property
    def result(self) -> float:
        """Agent's mean net result of an episode, in allowances."""
        return self.verdict.agent.result_usd.value / self.unit_usd


class Earned(NamedTuple):
    """What one trial's agent earned on the unseen slices.

    Attributes:
        result: mean net result of an episode, in allowances.
        pass_rate: share of episodes that passed.
        is_flat: a gate told it not to trade.
    """

    result: float
    pass_rate: float
    is_flat: bool


class _Quiet:
    """Watches nothing."""

    def on_update(self, phase: Phase, progress: Progress, scalars: Mapping[str, float]) -> None:
        """Takes no scalars."""

    def on_look(self, table: EvaluationTable) -> None:
        """Takes no episodes."""

    def on_gates(self, results: list[GateResult], table: EvaluationTable) -> None:
        """Takes no results; they come back with the training."""


def run_trial(
    prepared: Prepared,
    cut: Split,
    phases: tuple[Phase, ...],
    ppo: PPOConfig,
    curriculum: CurriculumConfig,
    *,
    seed: int,
    n_episodes: int,
    test_seed: int,
    baselines: Sequence[str] = tuple(BASELINES),
    extra: Mapping[str, Policy] | None = None,
    paths: Sequence[str] = ("worst",),
    forced: bool = False,
) -> TrialResult:
    """Trains through the curriculum and judges on the test slices of the cut.

    A training that a gate stopped is judged as what it tells its user to do: not to trade. Its
    agent then never enters, whatever the weights would have done.

    Args:
        prepared: markets on the device.
        cut: training ranges, gate slices and the unseen test slices.
        phases: the curriculum; the rules of its last phase hold in the test.
        ppo: the learner's settings.
        curriculum: budget; its seed and its looks between the gates are not used.
        seed: of weights, episodes and draws of the training, and of the gates' episodes.
        n_episodes: test episodes a policy, at most.
        test_seed: of the test's random offsets and of the policies' draws.
        baselines: names from BASELINES.
        extra: further policies to judge against, by name.
        paths: path rules inside a bar, `worst` first; each is played and stored.
        forced: train on past gates that were not passed, and judge the agent as it is.

    Raises:
        ConfigError: `paths` does not begin with `worst`, or the slices have no room.
    """
    if not paths or paths[0] != "worst":
        raise ConfigError(f"trial: paths was {list(paths)}; the first must be worst.")
    settings = replace(curriculum, seed=seed, evaluations_per_phase=1)
    trained, is_flat = _train(prepared, cut, phases, ppo, settings, forced=forced)
    table = _play(
        prepared,
        cut,
        phases[-1],
        trained,
        n_episodes,
        test_seed,
        baselines,
        extra,
        paths,
        is_flat=is_flat,
    )
    origin = Origin(passed_gates=is_flat or all(gate.is_passed for gate in trained.gates))
    inputs = {
        "bars": [b.fingerprint() for b in prepared.bars],
        "rulebook": prepared.rulebook.fingerprint(),
        "task": prepared.config,
        "train": [list(part) for part in cut.train],
        "gate": [list(_bounds(part)) for part in cut.gate],
        "test": [list(_bounds(part)) for part in cut.test],
        "phases": list(phases),
        "ppo": ppo,
        "curriculum": settings,
        "judged": [n_episodes, test_seed, *baselines, *paths, forced],
    }
    return TrialResult(
        seed=seed,
        table=table,
        verdict=verdict(table, span_days=prepared.span_days, origin=origin),
        gates=trained.gates,
        stopped_at=trained.stopped_at,
        is_flat=is_flat,
        n_steps=trained.step,
        phase=trained.phase.name,
        unit_usd=prepared.rulebook.drawdown.allowance_mills / MILLS_PER_USD,
        fingerprint=config_fingerprint(inputs),
        weights_sha256=_sha256(trained.network),
        policy=trained.network,
    )


def earn(
    prepared: Prepared,
    cut: Split,
    phases: tuple[Phase, ...],
    ppo: PPOConfig,
    curriculum: CurriculumConfig,
    *,
    seed: int,
    n_episodes: int,
    test_seed: int,
    forced: bool = False,
) -> Earned:
    """Does what `run_trial` does for the agent's own result alone.

    An agent that is told not to trade earns 0 and passes nothing; it is not played, which on fine
    bars would take longer than its training. Arguments as in `run_trial`.
    """
    settings = replace(curriculum, seed=seed, evaluations_per_phase=1)
    trained, is_flat = _train(prepared, cut, phases, ppo, settings, forced=forced)
    if is_flat:
        return Earned(result=0.0, pass_rate=0.0, is_flat=True)
    table = _play(
        prepared,
        cut,
        phases[-1],
        trained,
        n_episodes,
        test_seed,
        (),
        None,
        ("worst",),
        is_flat=False,
    )
    allowance = prepared.rulebook.drawdown.allowance_mills
    return Earned(
        result=float(table.result_mills.mean()) / allowance,
        pass_rate=float(table.is_pass.mean()),
        is_flat=False,
    )


def _train(
    prepared: Prepared,
    cut: Split,
    phases: tuple[Phase, ...],
    ppo: PPOConfig,
    curriculum: CurriculumConfig,
    *,
    forced: bool,
) -> tuple[Trained, bool]:
    """Trains, and says whether a gate told the agent not to trade."""
    trained = train_curriculum(
        prepared,
        phases,
        cut,
        ppo,
        curriculum,
        _Quiet(),
        None,
        forced_from=phases[0].name if forced else None,
    )
    return trained, not forced and not all(gate.is_passed for gate in trained.gates)


def _bounds(part: Any) -> tuple[int, int, int]:
    return part.first_bar, part.stop_bar, part.end_bar


def _play(
    prepared: Prepared,
    cut: Split,
    phase: Phase,
    trained: Trained,
    n: int,
    seed: int,
    baselines: Sequence[str],
    extra: Mapping[str, Policy] | None,
    paths: Sequence[str],
    *,
    is_flat: bool,
) -> EvaluationTable:
    """Plays the agent and the baselines on the test slices, under each path rule."""
    params = phase_params(prepared, phase, cut.train)
    starts = evaluation_starts(prepared, cut.test, n=n, span_days=prepared.span_days, seed=seed)
    tables = []
    for path in paths:
        label = Label(timesteps=trained.step, phase=phase.name, seed=seed, path=path)
        table, _, _ = judge(
            prepared,
            params,
            network.act_greedy,
            trained.network,
            starts,
            label,
            baselines=tuple(baselines),
            extra=dict(extra or {}),
            agent=PolicyKind.FLAT if is_flat else PolicyKind.AGENT,
        )
        tables.append(table)
    return join_tables(tables)


def _sha256(params: network.Params) -> str:
    """Returns the SHA-256 of the weights, in the tree's fixed order, in hex."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
