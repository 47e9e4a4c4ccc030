"""Whether a phase learned from rollouts left the agent better off, on days that it was trained on.

The gate slices are too short to tell a phase that helps a little from one that harms a little, and
the gate must stay a test. Training days are many, and both policies have met them: the policy that
the phase began with and the one that it ended with play the same episodes there, and if the new one
does worse by what the phase's gate looks at, what the phase did to the policy is undone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from passline.errors import ConfigError
from passline.evaluate.gates import gain, gate_starts
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import Slice
from passline.evaluate.stats import Estimate
from passline.learn import network
from passline.task.env import TaskParams
from passline.task.phases import Gate, Phase
from passline.task.prepare import Prepared

__all__ = ["PhaseGain", "compared_gate", "phase_gain"]

AGAINST_OTHERS = ("breach_rate_below_previous", "pass_rate_above_random")
"""Measures by which a gate sets the agent against another policy."""


@dataclass(frozen=True, kw_only=True)
class PhaseGain:
    """What a phase gained on training days.

    Attributes:
        measure: of the gate whose measure was compared.
        estimate: the new policy's less the old one's, paired by start, with its 95 % interval.
    """

    measure: str
    estimate: Estimate

    @property
    def is_kept(self) -> bool:
        """Whether the new policy does at least as well."""
        return self.estimate.value >= 0

    def scalars(self) -> dict[str, float]:
        """Returns the gain under its names in the logs."""
        return {
            "phase_gain/value": self.estimate.value,
            "phase_gain/low": self.estimate.low,
            "phase_gain/high": self.estimate.high,
            "phase_gain/is_kept": float(self.is_kept),
        }


def compared_gate(phase: Phase) -> Gate:
    """Returns the gate by whose measure the policies are compared.

    The first that sets the agent against another policy, or else the first.
    """
    paired = [gate for gate in phase.gate if gate.measure in AGAINST_OTHERS]
    return [*paired, *phase.gate][0]


def phase_gain(
    prepared: Prepared,
    params: TaskParams,
    phase: Phase,
    train: Sequence[tuple[int, int]],
    before: network.Params,
    after: network.Params,
    *,
    n: int,
    seed: int,
) -> PhaseGain | None:
    """Plays the policies that a phase began and ended with on its training days, greedily.

    Args:
        prepared: the markets.
        params: constants of the phase.
        phase: row of the curriculum.
        train: half-open bar ranges that were trained on.
        before: the policy that the phase began with.
        after: the one that it ended with.
        n: episodes of each.
        seed: of starts and draws.

    Returns:
        The gain; None if the training days have no room for the gate's episodes.
    """
    gate = compared_gate(phase)
    market = prepared.compiled.market
    days = [
        Slice(
            name="train",
            market=int(market[first]),
            first_bar=first,
            stop_bar=stop,
            end_bar=stop - 1,
        )
        for first, stop in train
    ]
    try:
        starts = gate_starts(prepared, days, gate.days, n=n, seed=seed)
    except ConfigError:
        return None
    begun = begin_at(params, starts)
    theirs, mine = (
        play_episodes(
            params, network.act_greedy, scripted(PolicyKind.AGENT, weights), begun, seed=seed
        )
        for weights in (before, after)
    )
    unit = int(params.bracket.unit_mills)
    return PhaseGain(
        measure=gate.measure, estimate=gain(gate, prepared, mine, theirs, starts, unit)
    )
