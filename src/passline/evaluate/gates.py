"""The gate between phases: a statistical test on held-out slices, never on the training curve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.judge import Label, begin_at, judge
from passline.evaluate.policies import Greedy, PolicyKind, scripted
from passline.evaluate.rollout import Episodes, play_episodes
from passline.evaluate.slices import Split, Starts, day_starts, evaluation_starts
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    mean_interval,
    paired_difference,
)
from passline.evaluate.table import EvaluationTable
from passline.sim.layout import Outcome
from passline.task.env import TaskParams
from passline.task.phases import Phase
from passline.task.prepare import Prepared

__all__ = ["GateResult", "pass_gate", "trip_r_estimate"]


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate found.

    Attributes:
        phase: name of the phase.
        measure: what was tested.
        estimate: the measure with its 95 % interval; None if nothing is tested.
        above: the lower bound had to lie above this.
        is_passed: whether it did.
        advice: what to try if it did not.
    """

    phase: str
    measure: str
    estimate: Estimate | None
    above: float
    is_passed: bool
    advice: str

    def sentence(self) -> str:
        """Returns the result in words, with interval and n."""
        if self.estimate is None:
            return f"phase '{self.phase}': no gate."
        e = self.estimate
        word = "passed" if self.is_passed else "NOT passed"
        return (
            f"gate of phase '{self.phase}' {word}: {WORDS[self.measure]} {e.value:+.3f} "
            f"(95 % {e.low:+.3f} to {e.high:+.3f}, n {e.n}, {e.n_clusters} independent stretches); "
            f"the lower bound must be above {self.above:g}."
        )


WORDS = {
    "trip_r": "net result of a round trip, in units of its risk,",
    "breach_rate_below_previous": "breach rate saved against the policy it began with",
    "pass_rate_above_random": "pass rate above random entry at the same frequency",
    "none": "",
}
ADVICE = {
    "trip_r": "No entry edge shows on held-out days. Try more training steps or history, another "
    "bracket (--stop-atr, --target-r) or lower costs; or accept that these bars hold no edge.",
    "breach_rate_below_previous": "Managing positions did not keep more accounts alive. Try more "
    "steps in this phase, or more compliance episodes in its mix.",
    "pass_rate_above_random": "The account phase does no better than chance on held-out slices. "
    "Try more steps or more history; or accept that these bars hold no edge.",
    "none": "",
}


def trip_r_estimate(episodes: Episodes, clusters: NDArray[Any]) -> Estimate:
    """Returns the mean net result of a round trip in units of risk, clustered.

    The ratio (sum of R) / (number of round trips) with the interval of its linearization. Without a
    single round trip it is 0, and nothing is shown.
    """
    total, trips = episodes.sum_r.astype(np.float64), episodes.n_trips.astype(np.float64)
    if trips.sum() == 0:
        return mean_interval(np.zeros(len(trips)), clusters)
    ratio = total.sum() / trips.sum()
    return mean_interval(ratio + (total - ratio * trips) / trips.mean(), clusters)


def pass_gate(
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
) -> tuple[GateResult, EvaluationTable]:
    """Tests a phase on the gate slices.

    Args:
        prepared: the markets.
        params: constants of the phase.
        phase: row of the curriculum.
        split: the cut of time.
        greedy: the agent's rule.
        network: the agent's parameters now.
        previous: its parameters at the start of the phase.
        timesteps: training steps so far.
        seed: of starts and draws.
        n: episodes.

    Returns:
        The result and the agent's (and baseline's) rows on the gate slices.
    """
    measure = phase.gate.measure
    label = Label(timesteps=timesteps, phase=phase.name, seed=seed)
    starts = gate_starts(prepared, phase, split, n=n, seed=seed)
    names = ("random entry",) if measure in ("trip_r", "pass_rate_above_random") else ()
    table, episodes = judge(prepared, params, greedy, network, starts, label, baselines=names)
    estimate = None
    if measure == "trip_r":
        estimate = trip_r_estimate(episodes["agent"], starts.day)
    elif measure != "none":
        if measure == "breach_rate_below_previous":
            begun = begin_at(params, starts)
            old = scripted(PolicyKind.AGENT, previous)
            other = play_episodes(params, greedy, old, begun, seed=seed)
            wanted, sign = Outcome.BREACHED, -1
        else:
            other, wanted, sign = episodes["random entry"], Outcome.PASSED, 1
        mine = episodes["agent"].sim.outcome == wanted
        theirs = other.sim.outcome == wanted
        first, second = (mine, theirs) if sign > 0 else (theirs, mine)
        estimate = paired_difference(
            first, second, clusters_by_span(starts.day, prepared.span_days), is_serial=True
        )
    is_passed = estimate is None or estimate.low > phase.gate.above
    return GateResult(
        phase=phase.name,
        measure=measure,
        estimate=estimate,
        above=phase.gate.above,
        is_passed=is_passed,
        advice="" if is_passed else ADVICE[measure],
    ), table


def gate_starts(prepared: Prepared, phase: Phase, split: Split, *, n: int, seed: int) -> Starts:
    """Returns single sessions for a phase that tests entries, whole evaluations for the others."""
    if phase.gate.measure == "trip_r":
        return day_starts(prepared, split.gate)
    return evaluation_starts(prepared, split.gate, n=n, span_days=prepared.span_days, seed=seed)
