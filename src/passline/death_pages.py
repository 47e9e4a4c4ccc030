"""Replay pages of a few judged episodes that died, written beside the report that links them.

The first ones of each rule, in the order of the file; nobody chose the telling ones.
"""

from pathlib import Path
from typing import Any

from passline.errors import RunError
from passline.evaluate.replay import Agent, replay
from passline.evaluate.replay_choice import (
    DEATHS,
    Stored,
    choose_evaluation,
    list_stored,
    page_name,
)
from passline.evaluate.slices import Split
from passline.evaluate.table import EvaluationTable
from passline.learn import network
from passline.report.data import REPLAYS
from passline.report.replay_page import render_replay
from passline.runs import Run, replace_file
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["first_deaths", "scores", "write_death_pages"]

PER_REASON = 2


def scores(params: Any, obs: Any) -> tuple[Any, Any]:
    """Returns the network's logits [L, A] and value [L]."""
    return network.policy_logits(params, obs), network.critic_values(params, obs)


def first_deaths(table: EvaluationTable, *, per_reason: int = PER_REASON) -> list[Stored]:
    """Returns the first episodes of the last evaluation that each rule ended without a pass."""
    stored = list_stored(table, choose_evaluation(table))
    return [
        item
        for reason in DEATHS
        for item in [s for s in stored if s.is_death and s.done_reason == reason][:per_reason]
    ]


def write_death_pages(
    run: Run,
    prepared: Prepared,
    split: Split,
    params: TaskParams,
    trained: Any,
    table: EvaluationTable,
    *,
    checkpoint: str,
) -> list[Path]:
    """Replays the first deaths of the last evaluation and writes their pages into the run.

    An episode that does not come out identical gets no page: `passline replay` says why.

    Args:
        run: whose folder takes the pages.
        prepared: the markets.
        split: the cut of time; the episodes lie on its test slices.
        params: constants of the phase that was judged.
        trained: the network that was judged.
        table: all stored episodes, the judged ones last.
        checkpoint: its name.
    """
    agent = Agent(network.act_greedy, scores, trained)
    ends = {part.name: part.end_bar for part in split.test}
    written = []
    for item in first_deaths(table):
        try:
            found = replay(prepared, params, agent, item, ends[item.slice])
        except RunError:
            continue
        path = run.path / REPLAYS / page_name(item, table)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, render_replay(found, run=run.id, checkpoint=checkpoint).encode())
        written.append(path)
    return written
