"""What the stored evaluation says of the agent, in words that do not flatter.

Everything here is computed from an EvaluationTable alone, so that the verdict on an old run can be
given again. The rule of the verdict is written in docs/evaluation.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from passline.evaluate.strategies import STRATEGIES
from passline.evaluate.table import AGENT, EvaluationTable, join_tables
from passline.kinds import Origin

__all__ = [
    "GATE_SAID_NO",
    "ORACLES",
    "UNKNOWN_TRAINING",
    "PolicyScore",
    "Verdict",
    "VerdictWord",
    "final_phase",
    "last_evaluations",
    "odds_in_words",
    "score_policies",
    "verdict",
]

ORACLES = ("oracle",)
"""Policies that know the hidden truth of a built-in market: shown, never competed against."""

MILLS_PER_USD = 1000
UNKNOWN_TRAINING = (
    "It was trained outside passline, which cannot know on what: if its training saw these days, "
    "figures on them are too good."
)
"""Said of an agent that another library trained."""
GATE_SAID_NO = (
    "A gate of its training was not passed: one held-out test said no, this one says yes, and more"
    " dates must decide."
)
"""Said of an agent that does well here and did not where it was to prove itself first."""
BOOTSTRAP_SEED = 0
"""Of the dates drawn anew: the same stored table gives the same interval."""


class VerdictWord(StrEnum):
    """The three things that can be said."""

    EDGE = "edge found"
    NO_EDGE = "no edge found"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class PolicyScore:
    """One policy on the episodes of the last evaluation.

    Attributes:
        policy: its name.
        pass_rate: share of episodes that passed.
        result_usd: mean net result of an episode, USD.
        n_trips: mean round trips an episode.
        trips_per_day: round trips over the trading days that its accounts lived.
        advantage: agent's pass rate minus this policy's on the same episodes; None for the agent.
        result_advantage: the same of the net result, USD; None for the agent.
        advantage_redrawn: `advantage` with its interval from drawing dates anew.
        result_advantage_redrawn: `result_advantage` likewise.
    """

    policy: str
    pass_rate: Estimate
    result_usd: Estimate
    n_trips: float
    trips_per_day: float
    advantage: Estimate | None
    result_advantage: Estimate | None
    advantage_redrawn: Estimate | None = None
    result_advantage_redrawn: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict, what it rests on and why it is what it is.

    Attributes:
        word: the verdict in a word.
        sentence: the verdict with odds, interval, n and effective n.
        reasons: a sentence for each thing that decided it or limits it.
        agent: the agent's scores.
        rival: the baseline with the highest pass rate; None if none was evaluated.
        scores: those of all policies, the agent's first.
    """

    word: VerdictWord
    sentence: str
    reasons: tuple[str, ...]
    agent: PolicyScore
    rival: PolicyScore | None
    scores: tuple[PolicyScore, ...] = ()


def final_phase(table: EvaluationTable) -> str:
    """Returns the phase of the agent's latest evaluation.

    Raises:
        RunError: the agent was never evaluated.
    """
    agent = table.where(policy=AGENT)
    if not len(agent):
        raise RunError(
            "verdict: the table has no episode of policy 'agent'. Evaluate the run first"
        )
    return str(agent.phase[np.argmax(agent.evaluation)])


def last_evaluations(table: EvaluationTable, *, phase: str, path: str = "worst") -> EvaluationTable:
    """Returns each policy's latest evaluation in a phase, under one path rule.

    Only the slices of the agent's latest evaluation count, so that what was played for a gate is
    never set against what was played for the verdict.
    """
    rows = table.where(phase=phase, path=path)
    agent = rows.where(policy=AGENT)
    if not len(agent):
        return agent
    latest = agent.select(agent.evaluation == agent.evaluation.max())
    rows = rows.select(np.isin(rows.slice, latest.slice))
    parts = []
    for policy in sorted(set(rows.policy.tolist())):
        own = rows.where(policy=policy)
        parts.append(own.select(own.evaluation == own.evaluation.max()))
    return join_tables(parts)


def score_policies(
    table: EvaluationTable, *, span_days: int, path: str = "worst", level: float = 0.95
) -> list[PolicyScore]:
    """Scores all policies of the final phase; the agent first, then by falling pass rate.

    Args:
        table: all stored episodes.
        span_days: longest an episode may last, calendar days: the width of a cluster.
        path: path rule inside a bar.
        level: coverage of the intervals.
    """
    rows = last_evaluations(table, phase=final_phase(table), path=path)
    agent = rows.where(policy=AGENT)
    if not len(agent):
        return []
    others = sorted(set(rows.policy.tolist()) - {AGENT})
    scores = [_score(rows.where(policy=name), agent, span_days, level) for name in others]
    scores.sort(key=lambda score: -score.pass_rate.value)
    return [_score(agent, None, span_days, level), *scores]


def verdict(
    table: EvaluationTable, *, span_days: int, level: float = 0.95, origin: Origin | None = None
) -> Verdict:
    """Returns the verdict on the agent's latest evaluation in its final phase.

    An edge is found if the interval of (agent's pass rate - baseline's) lies above 0 for every
    baseline and that of the mean net result lies above 0. The simple strategies are no such
    baselines: they may have an edge of their own, and it is told where the agent does not beat
    one. Where the two path rules inside a bar answer differently, a gate of the training said no
    where this says yes, or nothing can be compared, the verdict is undecided.

    Args:
        table: all stored episodes.
        span_days: longest an episode may last, calendar days.
        level: coverage of the intervals.
        origin: how the agent came to be; by default trained here, with every gate passed.

    Raises:
        RunError: the agent was never evaluated with the worst path.
    """
    scores = score_policies(table, span_days=span_days, level=level)
    if not scores:
        raise RunError("verdict: the agent has no episodes with path 'worst'. Evaluate it so first")
    agent, rivals = scores[0], [s for s in scores[1:] if s.policy not in ORACLES]
    rival = rivals[0] if rivals else None
    word, reasons = _decide(agent, rivals)
    other = _best_path_word(table, span_days, level, {rival.policy for rival in rivals})
    if other is None:
        reasons.append(
            "How far it depends on the order of high and low inside a bar was not measured: agent"
            " and baselines were not all evaluated on the best path."
        )
    elif other is not word and VerdictWord.UNDECIDED not in (other, word):
        reasons.append(
            f"The answer depends on the order of high and low inside a bar: {word.value} on the"
            f" worst path, {other.value} on the best. Finer bars can decide it."
        )
        word = VerdictWord.UNDECIDED
    origin = origin or Origin()
    if word is VerdictWord.EDGE and not origin.passed_gates:
        reasons.insert(0, GATE_SAID_NO)
        word = VerdictWord.UNDECIDED
    if not origin.is_trained_here:
        reasons.insert(0, UNKNOWN_TRAINING)
    return Verdict(
        word=word,
        sentence=_sentence(word, agent, rival, is_trained_here=origin.is_trained_here),
        reasons=tuple(reasons),
        agent=agent,
        rival=rival,
        scores=tuple(scores),
    )


def _best_path_word(
    table: EvaluationTable, span_days: int, level: float, wanted: set[str]
) -> VerdictWord | None:
    """Returns the verdict on the best path; None if a policy was not evaluated on it."""
    scores = score_policies(table, span_days=span_days, path="best", level=level)
    rivals = [score for score in scores[1:] if score.policy in wanted]
    if not scores or len(rivals) < len(wanted):
        return None
    return _decide(scores[0], rivals)[0]


def odds_in_words(rate: float) -> str:
    """Returns a pass rate as odds that a reader can picture, such as "about 3 in 10"."""
    if rate <= 0:
        return "none of its"
    if rate < 0.095:
        return f"about 1 in {round(1 / rate)}"
    if rate >= 0.95:
        return "all of its" if rate >= 1 else "more than 9 in 10"
    return f"about {round(10 * rate)} in 10"


def _decide(agent: PolicyScore, rivals: Sequence[PolicyScore]) -> tuple[VerdictWord, list[str]]:
    simple = [rival for rival in rivals if rival.policy in STRATEGIES]
    rivals = [rival for rival in rivals if rival.policy not in STRATEGIES]
    if not rivals:
        return VerdictWord.UNDECIDED, ["No baseline was evaluated on these episodes."]
    if agent.pass_rate.n_clusters < 2:
        return VerdictWord.UNDECIDED, [
            "All episodes lie in one block of dates, which cannot tell skill from luck."
        ]
    reasons = ["It never traded."] if agent.n_trips == 0 else []
    for rival in rivals:
        advantage = rival.advantage
        if advantage is not None and advantage.low <= 0:
            verb = "is below" if advantage.high < 0 else "cannot be told from"
            reasons.append(
                f"Its pass rate {verb} that of {_title(rival.policy)}:"
                f" {_points(advantage.value)} points ({_points(advantage.low)} to"
                f" {_points(advantage.high)})."
            )
    result = agent.result_usd
    if result.low <= 0:
        verb = "is below zero" if result.high < 0 else "cannot be told from zero"
        reasons.append(f"Its mean net result {verb}: {_usd_range(result)}.")
    matched = [text for score in simple if (text := _told_of_simple(score))]
    if reasons:
        return VerdictWord.NO_EDGE, [*reasons, *matched]
    return VerdictWord.EDGE, [
        *matched,
        f"Its mean net result lies above zero: {_usd_range(result)}.",
        "It holds for these dates and these costs; it does not promise the next ones.",
    ]


def _told_of_simple(score: PolicyScore) -> str | None:
    """Says where a simple strategy is not beaten; None where it is."""
    gap = score.advantage
    if gap is None or gap.low > 0:
        return None
    verb = "passes more often" if gap.high < 0 else "may do as well"
    return (
        f"A simple strategy, {_title(score.policy)}, {verb}: agent minus it"
        f" {_points(gap.value)} points ({_points(gap.low)} to {_points(gap.high)})."
    )


def _sentence(
    word: VerdictWord, agent: PolicyScore, rival: PolicyScore | None, *, is_trained_here: bool
) -> str:
    rate = agent.pass_rate
    where = "data it never saw" if is_trained_here else "days that its training may have seen"
    n = f"n = {rate.n:,}, worth {rate.n_effective:,.0f} independent ones"
    text = (
        f"{word.value.capitalize()}. On {where} the agent passed"
        f" {odds_in_words(rate.value)} evaluations: {_percent(rate.value)}"
        f" ({rate.level:.0%} interval {_percent(rate.low)} to {_percent(rate.high)}; {n})"
    )
    if rival is None or rival.advantage is None:
        return f"{text}."
    gap = rival.advantage
    return (
        f"{text}. The best baseline, {_title(rival.policy)}, passed"
        f" {_percent(rival.pass_rate.value)}; the difference is {_points(gap.value)} points"
        f" ({_points(gap.low)} to {_points(gap.high)})."
    )


def _score(
    rows: EvaluationTable, agent: EvaluationTable | None, span_days: int, level: float
) -> PolicyScore:
    clusters = clusters_by_span(rows.start_day, span_days)
    usd = rows.result_mills / MILLS_PER_USD
    versus: dict[str, Estimate] = {}
    if agent is not None:
        own, theirs = _pair(agent, rows)
        versus = _advantages(agent.select(own), rows.select(theirs), span_days, level)
    return PolicyScore(
        policy=str(rows.policy[0]),
        pass_rate=proportion_interval(rows.is_pass, clusters, level=level, is_serial=True),
        result_usd=mean_interval(usd, clusters, level=level, is_serial=True),
        n_trips=float(rows.n_trips.mean()),
        trips_per_day=float(rows.n_trips.sum() / max(int(rows.n_days.sum()), 1)),
        advantage=versus.get("advantage"),
        result_advantage=versus.get("result_advantage"),
        advantage_redrawn=versus.get("advantage_redrawn"),
        result_advantage_redrawn=versus.get("result_advantage_redrawn"),
    )


def _advantages(
    agent: EvaluationTable, rows: EvaluationTable, span_days: int, level: float
) -> dict[str, Estimate]:
    """Returns agent minus policy over pairs of episodes, in passes and in USD, both ways."""
    clusters = clusters_by_span(agent.start_day, span_days)
    usd, other_usd = (t.result_mills / MILLS_PER_USD for t in (agent, rows))

    def redrawn(differences: NDArray[np.float64]) -> Estimate:
        return date_bootstrap(
            differences, agent.start_day, span_days=span_days, seed=BOOTSTRAP_SEED, level=level
        )

    return {
        "advantage": paired_difference(
            agent.is_pass, rows.is_pass, clusters, level=level, is_serial=True
        ),
        "result_advantage": paired_difference(
            usd, other_usd, clusters, level=level, is_serial=True
        ),
        "advantage_redrawn": redrawn(agent.is_pass.astype(float) - rows.is_pass.astype(float)),
        "result_advantage_redrawn": redrawn(usd - other_usd),
    }


def _pair(
    first: EvaluationTable, second: EvaluationTable
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the rows of both tables that began at the same bar of the same slice and market.

    Where a start was played several times, the k-th play of one is paired with the k-th of the
    other.
    """
    places = [_places(first), _places(second)]
    both = sorted(places[0].keys() & places[1].keys())
    if not both:
        raise RunError(
            f"verdict: no episode of {first.policy[0]!r} begins where one of {second.policy[0]!r}"
            f" does ({len(first)} and {len(second)} episodes). Evaluate both on the same slices"
        )
    return (
        np.array([places[0][key] for key in both], dtype=np.intp),
        np.array([places[1][key] for key in both], dtype=np.intp),
    )


def _places(table: EvaluationTable) -> dict[tuple[Any, ...], int]:
    keys: dict[tuple[Any, ...], int] = {}
    columns = (table.slice.tolist(), table.market.tolist(), table.start_bar.tolist())
    seen: dict[tuple[Any, ...], int] = {}
    for index, start in enumerate(zip(*columns, strict=True)):
        play = seen.get(start, 0)
        seen[start] = play + 1
        keys[(*start, play)] = index
    return keys


def _title(policy: str) -> str:
    return policy.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _usd(value: float) -> str:
    if not np.isfinite(value):
        return "unbounded"
    return f"{'−' if value < -0.5 else ''}${abs(value):,.0f}"


def _usd_range(estimate: Estimate) -> str:
    return f"{_usd(estimate.value)} ({_usd(estimate.low)} to {_usd(estimate.high)})"
