"""Finds a stored evaluation episode: which row it is, and at which bar it ended at the latest.

An episode is named by its slice and its index among the rows of that slice in one evaluation; an
evaluation is one playing of the agent, numbered in `evaluations.npz`. Nothing is played here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.gates import gate_starts
from passline.evaluate.slices import Split
from passline.evaluate.table import AGENT, EvaluationTable
from passline.sim.layout import DoneReason, Outcome
from passline.task.phases import Phase
from passline.task.prepare import Prepared

__all__ = [
    "DEATHS",
    "Stored",
    "choose_evaluation",
    "end_bar_of",
    "find_episode",
    "find_row",
    "list_stored",
    "page_name",
]

I64 = NDArray[np.int64]

DEATHS = (
    DoneReason.FLOOR,
    DoneReason.DAILY_LIMIT,
    DoneReason.LATE_FLAT,
    DoneReason.TIME_LIMIT,
)
"""Reasons for which a rule ended the account without a pass."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One stored episode.

    Attributes:
        row: its row in the file.
        episode: its index among the rows of its slice in its evaluation.
        table: that row alone.
    """

    row: int
    episode: int
    table: EvaluationTable

    @property
    def slice(self) -> str:
        """Name of its slice."""
        return str(self.table.slice[0])

    @property
    def evaluation(self) -> int:
        """Number of its evaluation."""
        return int(self.table.evaluation[0])

    @property
    def outcome(self) -> Outcome:
        """Where the account stood at the end."""
        return Outcome(int(self.table.outcome[0]))

    @property
    def done_reason(self) -> DoneReason:
        """Why it ended."""
        return DoneReason(int(self.table.done_reason[0]))

    @property
    def is_death(self) -> bool:
        """Whether a rule ended the account without a pass."""
        return self.outcome != Outcome.PASSED and self.done_reason in DEATHS


def choose_evaluation(
    table: EvaluationTable,
    *,
    path: str = "worst",
    slice_name: str | None = None,
    number: int | None = None,
) -> int:
    """Returns the number of the agent's evaluation to look at: the given one, or the last.

    Args:
        table: all stored rows.
        path: path rule it was played with.
        slice_name: a slice it must hold; None for any.
        number: the evaluation asked for.

    Raises:
        RunError: there is none, or the one asked for is not the agent's.
    """
    of_agent = table.policy == AGENT
    if number is not None:
        known = np.unique(table.evaluation[of_agent])
        if number not in known:
            raise RunError(
                f"evaluation {number} is none of the agent's; those are "
                f"{', '.join(map(str, known))}"
            )
        return number
    fits = of_agent & (table.path == path)
    if slice_name is not None:
        fits &= table.slice == slice_name
    if not fits.any():
        raise RunError(_no_such_slice(table, slice_name, path))
    return int(table.evaluation[fits].max())


def list_stored(
    table: EvaluationTable, evaluation: int, *, slice_name: str | None = None
) -> list[Stored]:
    """Returns the episodes of an evaluation in the order of the file."""
    rows = np.flatnonzero(table.evaluation == evaluation)
    if slice_name is not None:
        rows = rows[table.slice[rows] == slice_name]
    return [find_row(table, int(row)) for row in rows]


def find_row(table: EvaluationTable, row: int) -> Stored:
    """Returns the episode of a row.

    Raises:
        RunError: there is no such row, or it is not the agent's.
    """
    if not 0 <= row < len(table):
        raise RunError(f"row {row}: the file holds rows 0 to {len(table) - 1}")
    if table.policy[row] != AGENT:
        raise RunError(
            f"row {row} is an episode of '{table.policy[row]}'; only the agent's are replayed. "
            "All of them: --list"
        )
    earlier = (table.evaluation[:row] == table.evaluation[row]) & (
        table.slice[:row] == table.slice[row]
    )
    return Stored(row=row, episode=int(earlier.sum()), table=table.select(np.array([row])))


def find_episode(table: EvaluationTable, evaluation: int, slice_name: str, episode: int) -> Stored:
    """Returns an episode by its slice and its index in it.

    Raises:
        RunError: there is no such slice or episode in the evaluation.
    """
    of_evaluation = table.evaluation == evaluation
    rows = np.flatnonzero(of_evaluation & (table.slice == slice_name))
    if not len(rows):
        raise RunError(
            _no_such_slice(
                table.select(of_evaluation), slice_name, str(table.path[of_evaluation][0])
            )
        )
    if not 0 <= episode < len(rows):
        raise RunError(
            f"episode {episode}: slice {slice_name} of evaluation {evaluation} holds "
            f"{len(rows)}, numbered 0 to {len(rows) - 1}"
        )
    return find_row(table, int(rows[episode]))


def end_bar_of(
    stored: Stored,
    table: EvaluationTable,
    prepared: Prepared,
    split: Split,
    phase: Phase,
    *,
    n_gate_episodes: int,
) -> int:
    """Returns the last bar that an episode was allowed to walk, on the joint tape.

    On a test slice that is the end of the stretch. Episodes of a gate may be shorter; where they
    began is drawn again and must be what is stored.

    Raises:
        RunError: the run's slices do not hold the stored start.
    """
    row = stored.table
    for part in split.test:
        if part.name == stored.slice:
            if not part.first_bar <= row.start_bar[0] < part.stop_bar:
                raise RunError(_moved(stored))
            return part.end_bar
    if all(part.name != stored.slice for part in split.gate):
        raise RunError(_moved(stored))
    bars, ends = _gate_bars(prepared, split, phase, seed=int(row.seed[0]), n=n_gate_episodes)
    rows = np.flatnonzero(table.evaluation == stored.evaluation)
    place = int(np.searchsorted(rows, stored.row))
    n = len(rows)
    if n > len(bars) or not np.array_equal(table.start_bar[rows], bars[:n]):
        raise RunError(_moved(stored))
    return int(ends[place])


def page_name(stored: Stored, table: EvaluationTable) -> str:
    """Returns slice-episode.html, with the path if not the worst and the evaluation if not last."""
    path = str(stored.table.path[0])
    last = choose_evaluation(table, path=path, slice_name=stored.slice)
    name = f"{stored.slice}-{stored.episode}" + ("" if path == "worst" else f"-{path}")
    return name + ("" if stored.evaluation == last else f"-of-{stored.evaluation}") + ".html"


def _gate_bars(
    prepared: Prepared, split: Split, phase: Phase, *, seed: int, n: int
) -> tuple[I64, I64]:
    """Returns where the episodes of a phase's gates begin and end, in the order of the rows."""
    lengths = dict.fromkeys(gate.days for gate in phase.gate)
    parts = [gate_starts(prepared, split.gate, days, n=n, seed=seed) for days in lengths]
    return (
        np.concatenate([part.bar for part in parts]),
        np.concatenate([part.end_bar for part in parts]),
    )


def _moved(stored: Stored) -> str:
    return (
        f"row {stored.row}: its slice {stored.slice} does not begin there any more (bar "
        f"{int(stored.table.start_bar[0])}): this version cuts time otherwise than the one that "
        "played it. Judge the run again: passline evaluate"
    )


def _no_such_slice(table: EvaluationTable, slice_name: str | None, path: str) -> str:
    known = list(dict.fromkeys(table.slice[(table.policy == AGENT) & (table.path == path)]))
    if slice_name is None or not known:
        return f"no evaluation of the agent with path '{path}' is stored. Run: passline evaluate"
    shown = ", ".join(map(str, known[:5])) + (
        f" and {len(known) - 5} more" if len(known) > 5 else ""
    )
    return f"no slice '{slice_name}' with path '{path}'. Stored: {shown}"
