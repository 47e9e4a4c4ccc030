"""The gate between phases: a statistical test on held-out slices, never on the training curve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.judge import Label, judge
from passline.evaluate.policies import Greedy, PolicyKind, scripted
from passline.evaluate.rollout import Episodes
from passline.evaluate.slices import (
    Slice,
    Split,
    Starts,
    day_starts,
    evaluation_starts,
    shorten,
)
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    mean_interval,
    paired_difference,
    ratio_interval,
)
from passline.evaluate.table import AGENT, EvaluationTable, join_tables
from passline.sim.layout import Outcome
from passline.task.env import TaskParams
from passline.task.phases import Gate, Phase
from passline.task.prepare import Prepared

__all__ = [
    "GateResult",
    "agent_score",
    "gate_starts",
    "look_at_gate",
    "pass_gates",
    "trip_r_estimate",
]


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate found.

    Attributes:
        phase: name of the phase.
        measure: what was tested.
        estimate: the measure with its 95 % interval.
        above: the lower bound had to lie above this.
        agent_value: the agent's own part of the measure (see agent_score).
    """

    phase: str
    measure: str
    estimate: Estimate
    above: float
    agent_value: float

    @property
    def is_passed(self) -> bool:
        """Whether the lower bound lies above what was asked."""
        return self.estimate.low > self.above

    @property
    def advice(self) -> str:
        """What to try if it was not passed."""
        return ADVICE[self.measure]

    def sentence(self) -> str:
        """Returns the result in words, with interval and n."""
        e = self.estimate
        word = "passed" if self.is_passed else "NOT passed"
        return (
            f"gate of phase '{self.phase}' {word}: {WORDS[self.measure]} {e.value:+.3f} "
            f"(95 % {e.low:+.3f} to {e.high:+.3f}, n {e.n} worth {e.n_effective:.0f}, "
            f"{e.n_clusters} blocks of days); the lower bound must be above {self.above:g}."
        )


WORDS = {
    "trip_r": "net result of a round trip, in units of its risk,",
    "result": "net result of an episode, in allowances,",
    "breach_rate_below_previous": "breach rate saved against the policy it began with",
    "pass_rate_above_random": "pass rate above random entry at the same frequency",
}
ADVICE = {
    "trip_r": "No entry edge shows on held-out days. Try more training steps or history, another "
    "bracket (--stop-atr, --target-r) or lower costs; or accept that these bars hold no edge.",
    "result": "Under the real floor and clock the policy does not earn on held-out days. Try more "
    "steps or history; or accept that these bars hold no edge.",
    "breach_rate_below_previous": "Managing positions loses more accounts than leaving them alone. "
    "Try more steps in this phase, or more compliance episodes in its mix.",
    "pass_rate_above_random": "The account phase does no better than chance on held-out slices. "
    "Try more steps or more history; or accept that these bars hold no edge.",
}


def trip_r_estimate(
    episodes: Episodes, clusters: NDArray[Any], *, is_serial: bool = False
) -> Estimate:
    """Returns the mean net result of a round trip in units of risk, clustered.

    A few that all had luck are doubted: the lower bound is that with one more which lost its risk,
    the upper one that with one more which won as much. Without a single round trip it is 0, and
    nothing is shown.
    """
    total, trips = episodes.sum_r.astype(np.float64), episodes.n_trips.astype(np.float64)
    if trips.sum() == 0:
        return mean_interval(np.zeros(len(trips)), clusters)
    return ratio_interval(total, trips, clusters, doubt=1.0, is_serial=is_serial)


def pass_gates(
    prepared: Prepared,
    params: TaskParams,
    phase: Phase,
    split: Split,
    greedy: Greedy,
    network: Any,
    previous: Any,
    *,
    timesteps: int,
    seed: int,
    n: int,
    is_unchanged: bool = False,
) -> tuple[list[GateResult], EvaluationTable]:
    """Tests a phase on the gate slices.

    Args:
        prepared: the markets.
        params: constants of the phase.
        phase: row of the curriculum.
        split: the cut of time; only `gate` is touched.
        greedy: the agent's rule.
        network: the agent's parameters now.
        previous: its parameters at the start of the phase.
        timesteps: training steps so far.
        seed: of starts and draws.
        n: episodes of gates that are not single sessions.
        is_unchanged: the policy is the previous one, to the bit.

    Returns:
        The results, and the rows of all policies that were played.
    """
    label = Label(timesteps=timesteps, phase=phase.name, seed=seed)
    extra = {"previous": scripted(PolicyKind.AGENT, previous)}
    results: list[GateResult] = []
    tables: list[EvaluationTable] = []
    for days in dict.fromkeys(gate.days for gate in phase.gate):
        starts = gate_starts(prepared, split.gate, days, n=n, seed=seed)
        table, episodes, _ = judge(
            prepared,
            params,
            greedy,
            network,
            starts,
            label,
            baselines=("random entry",),
            extra=extra,
        )
        tables.append(table)
        for gate in phase.gate:
            if gate.days == days:
                unit = int(params.bracket.unit_mills)
                results.append(
                    GateResult(
                        phase=phase.name,
                        measure=gate.measure,
                        estimate=measure(
                            gate, prepared, episodes, starts, unit, is_unchanged=is_unchanged
                        ),
                        above=gate.above,
                        agent_value=agent_score(gate, table, unit),
                    )
                )
    return results, join_tables(tables)


def look_at_gate(
    prepared: Prepared,
    params: TaskParams,
    phase: Phase,
    split: Split,
    greedy: Greedy,
    network: Any,
    *,
    timesteps: int,
    seed: int,
    n: int,
) -> tuple[EvaluationTable, float]:
    """Plays the agent alone on the episodes of a phase's first gate; arguments as pass_gates.

    Returns:
        The agent's rows, and its own part of that gate's measure (see agent_score).
    """
    starts = gate_starts(prepared, split.gate, phase.gate[0].days, n=n, seed=seed)
    label = Label(timesteps=timesteps, phase=phase.name, seed=seed)
    table = judge(prepared, params, greedy, network, starts, label)[0]
    return table, agent_score(phase.gate[0], table, int(params.bracket.unit_mills))


def agent_score(gate: Gate, table: EvaluationTable, unit_mills: int) -> float:
    """Returns the agent's own part of a gate's measure; the higher, the better.

    Of `trip_r` and `result` it is the measure itself; of those that set the agent against another
    policy it is the agent's rate alone: minus the breach rate, or the pass rate. It orders the
    checkpoints of one phase, which all play the same episodes, and is no test.

    Args:
        gate: whose measure.
        table: episodes of that gate; other policies' rows do not count.
        unit_mills: the allowance.
    """
    agent = table.where(policy=AGENT, path="worst")
    if gate.measure == "trip_r":
        total = float(np.nansum(agent.mean_r * agent.n_trips))
        return total / max(int(agent.n_trips.sum()), 1)
    if gate.measure == "result":
        return float(agent.result_mills.mean()) / unit_mills
    if gate.measure == "breach_rate_below_previous":
        return -float(np.mean(agent.outcome == Outcome.BREACHED))
    return float(np.mean(agent.is_pass))


def measure(
    gate: Gate,
    prepared: Prepared,
    episodes: dict[str, Episodes],
    starts: Starts,
    unit_mills: int,
    *,
    is_unchanged: bool = False,
) -> Estimate:
    """Computes one gate's measure with its interval.

    Where the phase left its policy as it was (`is_unchanged`), it saves no account and loses none,
    and no sample need say so.
    """
    agent = episodes[AGENT]
    clusters = gate_clusters(gate, prepared, starts)
    is_serial = gate.days != 0
    if gate.measure == "trip_r":
        return trip_r_estimate(agent, clusters, is_serial=is_serial)
    if gate.measure == "result":
        net = results_in_units(prepared, agent, unit_mills)
        return mean_interval(net, clusters, is_serial=is_serial)
    a: NDArray[Any]
    b: NDArray[Any]
    if gate.measure == "breach_rate_below_previous":
        if is_unchanged:
            nothing = mean_interval(np.zeros(len(agent.length)), clusters)
            return replace(nothing, low=0.0, high=0.0)
        b, a = (e.sim.outcome == Outcome.BREACHED for e in (agent, episodes["previous"]))
    else:
        a, b = (e.sim.outcome == Outcome.PASSED for e in (agent, episodes["random entry"]))
    return paired_difference(a, b, clusters, is_serial=is_serial)


def gate_clusters(gate: Gate, prepared: Prepared, starts: Starts) -> NDArray[Any]:
    """Returns the block of days of each of a gate's episodes."""
    span = prepared.span_days if gate.days is None else max(gate.days, 1)
    return clusters_by_span(starts.day, span)


def results_in_units(
    prepared: Prepared, episodes: Episodes, unit_mills: int
) -> NDArray[np.float64]:
    """Returns each episode's net result in allowances."""
    net = episodes.equity.astype(np.int64) - int(prepared.rules.start_balance)
    return np.asarray(net / unit_mills)


def gate_starts(
    prepared: Prepared, slices: Sequence[Slice], days: int | None, *, n: int, seed: int
) -> Starts:
    """Returns where a gate's episodes of so many days begin and end on some slices.

    Raises:
        ConfigError: the slices are shorter than an episode.
    """
    if days == 0:
        return day_starts(prepared, slices)
    span = prepared.span_days if days is None else days
    starts = evaluation_starts(prepared, slices, n=n, span_days=span, seed=seed)
    return starts if days is None else shorten(prepared, starts, days)
