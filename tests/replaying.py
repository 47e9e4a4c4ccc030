"""Judged episodes to replay: a rule without a network, in an account small enough to die."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from driving import follow, score_of
from passline.evaluate.judge import Label, judge
from passline.evaluate.replay import Agent
from passline.evaluate.slices import Starts, day_starts
from passline.evaluate.table import EvaluationTable, append_evaluation
from passline.task.actions import N_ACTIONS

FROM_BAR, N_BARS = 870, 600
PHASE = "account"
REVERT = score_of(vwap_distance=-10.0)


def scores(network: Any, obs: Any) -> tuple[Any, Any]:
    """Stands in for a network's logits and value: the score, and its size."""
    score = obs @ network
    return score[:, None] * jnp.linspace(-1.0, 1.0, N_ACTIONS), jnp.abs(score)


AGENT = Agent(follow, scores, REVERT)


class Judged(NamedTuple):
    """Episodes on the gate sessions' busy hours, and where they are stored."""

    params: Any
    starts: Starts
    table: EvaluationTable


def judge_small(prepared: Any, params: Any, cut: Any, folder: Path) -> Judged:
    """Judges the rule with a narrow bracket, so that many bars are ambiguous."""
    rules = params.rules._replace(
        allowance=jnp.int32(600_000), target_balance=params.rules.start_balance + 400_000
    )
    narrow = params.bracket._replace(stop_atr=jnp.float32(0.4), target_r=jnp.float32(1.5))
    params = params._replace(rules=rules, bracket=narrow)
    starts = day_starts(prepared, cut.gate)
    starts = replace(starts, bar=starts.bar + FROM_BAR, end_bar=starts.bar + FROM_BAR + N_BARS)
    tables = []
    for path in ("worst", "best"):
        label = Label(timesteps=7, phase=PHASE, seed=3, path=path)
        rows, _, _ = judge(prepared, params, follow, REVERT, starts, label, baselines=("flat",))
        tables.append(rows)
    return Judged(params, starts, append_evaluation(folder / "evaluations.npz", tables))
