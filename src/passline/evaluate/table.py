"""The stored evaluation: one row an episode, and the file that every evaluation is appended to.

`evaluations.npz` opens with stable-baselines3's own reader code (`timesteps`, `results`,
`ep_lengths`, there of the agent's evaluations) and holds the rows of all policies beside them.
Every figure of a report can be computed again from it. No pickle is written or read.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.runs import replace_file
from passline.sim.layout import DoneReason, Outcome

__all__ = [
    "AGENT",
    "EvaluationTable",
    "append_evaluation",
    "drop_evaluations",
    "encode_table",
    "join_tables",
    "load_evaluations",
]

AGENT = "agent"
"""Name of the policy that was trained; all others are baselines or oracles."""

_DTYPES: dict[str, type[np.generic]] = {
    "timesteps": np.int64,
    "evaluation": np.int64,
    "phase": np.str_,
    "policy": np.str_,
    "slice": np.str_,
    "path": np.str_,
    "market": np.str_,
    "start_bar": np.int64,
    "start_ns": np.int64,
    "start_day": np.int64,
    "seed": np.int64,
    "result_mills": np.int64,
    "reward": np.float64,
    "ep_length": np.int64,
    "n_days": np.int64,
    "outcome": np.int8,
    "done_reason": np.int8,
    "n_trips": np.int64,
    "mean_r": np.float64,
    "n_invalid": np.int64,
    "n_late_flat": np.int64,
    "n_ambiguous": np.int64,
    "commissions_mills": np.int64,
    "max_equity_mills": np.int64,
    "min_cushion_mills": np.int64,
    "action_counts": np.int64,
    "choice_counts": np.int64,
}
_PER_ACTION = ("action_counts", "choice_counts")
_ROW = "row_"
_SB3 = ("timesteps", "results", "ep_lengths", "successes", "phases", "evaluations")


@dataclass(frozen=True, kw_only=True)
class EvaluationTable:
    """Evaluation episodes, one a row; all columns [n] unless said otherwise.

    Attributes:
        timesteps: training steps of the checkpoint over all phases.
        phase: name of the phase the episodes were played in.
        policy: AGENT, or the name of a baseline or oracle.
        slice: name of the evaluation slice.
        path: path rule inside a bar ("worst" unless the answer's dependence on it is measured).
        market: contract symbol, or the name of a synthetic market.
        start_bar: bar of the tape at whose close the episode begins.
        start_ns: open time of that bar, UTC ns.
        start_day: trading day of that bar, days since 1970-01-01.
        seed: of the policy's draws and the episode's.
        result_mills: final equity minus starting balance, mills, costs included.
        reward: sum of the phase's rewards.
        ep_length: bars walked.
        n_days: trading days begun.
        outcome: Outcome code.
        done_reason: DoneReason code.
        n_trips: finished round trips.
        mean_r: mean net result of a round trip in units of its initial risk; NaN without any.
        n_invalid: masked actions that were sent and counted as HOLD.
        n_late_flat: liquidations at flat-by.
        n_ambiguous: bars whose two paths ended differently.
        commissions_mills: paid.
        max_equity_mills: highest equity at a bar's close.
        min_cushion_mills: lowest equity minus floor.
        action_counts: times each action was chosen, over all states [n, A].
        choice_counts: the same over states in which more than one action was legal [n, A].
        evaluation: running number in the file; given by `append_evaluation`, -1 before.
        action_names: names of the A actions.
    """

    timesteps: NDArray[np.int64]
    phase: NDArray[np.str_]
    policy: NDArray[np.str_]
    slice: NDArray[np.str_]
    path: NDArray[np.str_]
    market: NDArray[np.str_]
    start_bar: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    start_day: NDArray[np.int64]
    seed: NDArray[np.int64]
    result_mills: NDArray[np.int64]
    reward: NDArray[np.float64]
    ep_length: NDArray[np.int64]
    n_days: NDArray[np.int64]
    outcome: NDArray[np.int8]
    done_reason: NDArray[np.int8]
    n_trips: NDArray[np.int64]
    mean_r: NDArray[np.float64]
    n_invalid: NDArray[np.int64]
    n_late_flat: NDArray[np.int64]
    n_ambiguous: NDArray[np.int64]
    commissions_mills: NDArray[np.int64]
    max_equity_mills: NDArray[np.int64]
    min_cushion_mills: NDArray[np.int64]
    action_counts: NDArray[np.int64]
    choice_counts: NDArray[np.int64]
    evaluation: NDArray[np.int64]
    action_names: tuple[str, ...]

    @classmethod
    def build(cls, given: Mapping[str, Any], action_names: Sequence[str]) -> "EvaluationTable":
        """Makes a table from columns by name; a scalar stands for the same value in all rows.

        Raises:
            RunError: a column is missing, unknown or of the wrong shape, or a code is unknown.
        """
        columns = {"evaluation": -1, **given}
        unknown, missing = set(columns) - set(_DTYPES), set(_DTYPES) - set(columns)
        if unknown or missing:
            raise RunError(
                f"EvaluationTable: unknown columns {sorted(unknown)}, missing {sorted(missing)}"
            )
        n = len(np.atleast_1d(columns["result_mills"]))
        made: dict[str, NDArray[Any]] = {}
        for name, dtype in _DTYPES.items():
            shape = (n, len(action_names)) if name in _PER_ACTION else (n,)
            made[name] = _column(name, columns[name], dtype, shape)
        for name, codes in (("outcome", Outcome), ("done_reason", DoneReason)):
            bad = ~np.isin(made[name], [code.value for code in codes])
            if bad.any():
                raise RunError(
                    f"EvaluationTable: {name} {made[name][bad][0]} in {bad.sum()} of {n} rows is"
                    f" not a {codes.__name__} (0 to {len(codes) - 1})"
                )
        return cls(action_names=tuple(action_names), **made)

    def __len__(self) -> int:
        return len(self.result_mills)

    @property
    def is_pass(self) -> NDArray[np.bool_]:
        """Episodes that ended with the account passed [n]."""
        return np.equal(self.outcome, Outcome.PASSED)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "EvaluationTable":
        """Returns the rows that a mask or indices name, in their order."""
        return EvaluationTable(
            action_names=self.action_names, **{name: self.column(name)[rows] for name in _DTYPES}
        )

    def where(
        self, *, policy: str | None = None, phase: str | None = None, path: str | None = None
    ) -> "EvaluationTable":
        """Returns the rows of a policy, phase and path rule; None leaves it open."""
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in ((self.policy, policy), (self.phase, phase), (self.path, path)):
            if wanted is not None:
                keep &= column == wanted
        return self.select(keep)

    def column(self, name: str) -> NDArray[Any]:
        """Returns a column by its name."""
        values: NDArray[Any] = self.__dict__[name]
        return values


def join_tables(tables: Sequence[EvaluationTable]) -> EvaluationTable:
    """Returns the rows of several tables, one after the other.

    Raises:
        RunError: there are none, or their actions differ.
    """
    if not tables:
        raise RunError("join_tables: no evaluation table was given; at least one is needed")
    names = tables[0].action_names
    for table in tables:
        if table.action_names != names:
            raise RunError(
                f"join_tables: actions {', '.join(table.action_names)} differ from"
                f" {', '.join(names)}; one file holds one action table. Write to another run"
            )
    joined = {name: np.concatenate([table.column(name) for table in tables]) for name in _DTYPES}
    return EvaluationTable(action_names=names, **joined)


def append_evaluation(path: Path, tables: Sequence[EvaluationTable]) -> EvaluationTable:
    """Appends evaluations to the file, made if missing; all that was in it stays.

    Each (timesteps, phase, policy, path) of the new rows becomes one evaluation with a number of
    its own. A crash leaves the old file or the new one.

    Returns:
        All rows now in the file.

    Raises:
        RunError: the file holds other actions or cannot be read.
    """
    new = join_tables(tables)
    old = load_evaluations(path) if path.exists() else None
    first = int(old.evaluation.max()) + 1 if old is not None and len(old) else 0
    keys = [np.unique(column, return_inverse=True)[1] for column in _evaluation_keys(new)]
    _, where, codes = np.unique(
        np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True
    )
    rank = np.argsort(np.argsort(where))
    columns = {name: new.column(name) for name in _DTYPES}
    columns["evaluation"] = first + rank[codes.reshape(-1)]
    numbered = EvaluationTable(action_names=new.action_names, **columns)
    whole = numbered if old is None else join_tables([old, numbered])
    replace_file(path, encode_table(whole))
    return whole


def drop_evaluations(
    path: Path, is_dropped: Callable[[EvaluationTable], NDArray[np.bool_]]
) -> None:
    """Takes out of the file, if there is one, the rows that are about to be played again.

    Args:
        path: an `evaluations.npz`.
        is_dropped: tells which rows of the table go [n].

    Raises:
        RunError: the file cannot be read or written.
    """
    if not path.exists():
        return
    table = load_evaluations(path)
    gone = is_dropped(table)
    if gone.all():
        path.unlink()
    elif gone.any():
        replace_file(path, encode_table(table.select(~gone)))


def load_evaluations(path: Path) -> EvaluationTable:
    """Reads all rows of an `evaluations.npz`.

    Raises:
        RunError: the file is missing, damaged, or not written by passline.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = {name: stored[_ROW + name] for name in _DTYPES}
            names = [str(name) for name in stored["action_names"]]
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file. Evaluate the run first") from error
    except KeyError as error:
        raise RunError(
            f"{path}: {error.args[0]} Only files written by passline hold episodes by row"
        ) from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}). Restore it from a copy") from error
    return EvaluationTable.build(columns, names)


def _evaluation_keys(table: EvaluationTable) -> tuple[NDArray[Any], ...]:
    return table.timesteps, table.phase, table.policy, table.path


def _column(
    name: str, value: object, dtype: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind == "O" or (dtype is not np.float64 and array.dtype.kind == "f"):
        raise RunError(f"EvaluationTable: {name} holds {array.dtype}; {dtype.__name__} is needed")
    try:
        return np.array(np.broadcast_to(array.astype(dtype), shape))
    except ValueError as error:
        raise RunError(
            f"EvaluationTable: {name} has shape {array.shape}; {shape} is needed"
        ) from error


def encode_table(table: EvaluationTable, beside: Mapping[str, Any] | None = None) -> bytes:
    """Returns the bytes of a file that `load_evaluations` reads.

    Args:
        table: the rows.
        beside: further arrays to keep in the same file, by name.
    """
    arrays: dict[str, NDArray[Any]] = dict(_sb3_arrays(table))
    arrays |= {name: np.asarray(value) for name, value in (beside or {}).items()}
    arrays["action_names"] = np.array(table.action_names)
    arrays["outcome_names"] = np.array([code.name.lower() for code in Outcome])
    arrays["done_reason_names"] = np.array([code.name.lower() for code in DoneReason])
    for name in _DTYPES:
        arrays[_ROW + name] = table.column(name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _sb3_arrays(table: EvaluationTable) -> dict[str, NDArray[Any]]:
    """The agent's evaluations as stable-baselines3's EvalCallback stores them, [E] and [E, n].

    Where evaluations differ in their number of episodes, rows are filled with NaN at the end.
    """
    agent = table.where(policy=AGENT, path="worst")
    numbers, first = np.unique(agent.evaluation, return_index=True)
    rows = [np.flatnonzero(agent.evaluation == number) for number in numbers]
    width = max((len(row) for row in rows), default=0)
    is_ragged = any(len(row) != width for row in rows)

    def grid(column: NDArray[Any]) -> NDArray[Any]:
        if not is_ragged:
            return np.array([column[row] for row in rows], dtype=column.dtype).reshape(-1, width)
        filled = np.full((len(rows), width), np.nan)
        for line, row in zip(filled, rows, strict=True):
            line[: len(row)] = column[row]
        return filled

    values = (
        agent.timesteps[first],
        grid(agent.reward),
        grid(agent.ep_length),
        grid(agent.is_pass),
        agent.phase[first],
        numbers,
    )
    return dict(zip(_SB3, values, strict=True))


assert {field.name for field in fields(EvaluationTable)} == {*_DTYPES, "action_names"}
