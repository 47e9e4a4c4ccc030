"""One training of a walk-forward: a fold and a seed in, the bytes of its result file out.

Nothing is written here, so that any process on any machine can do it; whoever asked stores it.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from passline.config import TrainConfig
from passline.evaluate.folds import Fold, FoldConfig, cut_folds
from passline.evaluate.gates import GateResult
from passline.evaluate.judge import BASELINES
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.table import encode_table
from passline.evaluate.track_record import keep_record
from passline.learn import network
from passline.market.bars import Bars
from passline.pipeline import TEST_SEED, untrained_network
from passline.rulebook import Rulebook
from passline.task.phases import Phase
from passline.task.prepare import phase_params, prepare
from passline.trials import TrialResult, run_trial

__all__ = ["FORMAT", "Order", "Task", "Worker"]

FORMAT = 1
"""Of the JSON in a result file."""
PATHS = ("worst", "best")
"""Path rules inside a bar that every training is judged on."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What all trainings of a walk-forward share; it can be sent to another machine.

    Attributes:
        bars: the markets.
        rulebook: the firm's demands.
        phases: the curriculum.
        config: settings of every training; its seed is the first of a fold's.
        folds: number, seeds and scheme of the folds.
        forced: train on past gates that were not passed.
    """

    bars: tuple[Bars, ...]
    rulebook: Rulebook
    phases: tuple[Phase, ...]
    config: TrainConfig
    folds: FoldConfig
    forced: bool

    @property
    def key(self) -> str:
        """Names the order to a process that may be sent several."""
        bars = " ".join(bars.fingerprint() for bars in self.bars)
        return f"{bars} {self.config!r} {self.folds!r} {self.phases!r} {self.forced}"


@dataclass(frozen=True, kw_only=True, order=True)
class Task:
    """One training: fold 1 is the earliest; the seed is the training's own."""

    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Names the result file."""
        return f"fold-{self.fold}-seed-{self.seed}"


class Worker:
    """Holds the prepared markets and does one training after another on them."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._prepared = prepare(order.bars, order.rulebook, order.config.task)
        self._folds = cut_folds(self._prepared, order.config.slices, order.folds)

    def work(self, task: Task) -> bytes:
        """Trains and judges one fold with one seed.

        Returns:
            The result file: evaluation rows as `load_evaluations` reads them, and beside them, as
            JSON under `walk`, the fold, its gates, hashes and track record.
        """
        order, fold = self._order, self._folds[task.fold - 1]
        untrained = scripted(PolicyKind.AGENT, untrained_network(order.config.ppo))
        trial = run_trial(
            self._prepared,
            fold.split,
            order.phases,
            order.config.ppo,
            order.config.curriculum,
            seed=task.seed,
            n_episodes=order.config.slices.n_episodes,
            test_seed=TEST_SEED,
            baselines=tuple(BASELINES),
            extra={"untrained": untrained},
            paths=PATHS,
            forced=order.forced,
        )
        told = _told(task, fold, trial) | {"record": self._record(fold, trial)}
        return encode_table(trial.table, {"walk": json.dumps(told, allow_nan=False)})

    def _record(self, fold: Fold, trial: TrialResult) -> dict[str, Any]:
        kind = PolicyKind.FLAT if trial.is_flat else PolicyKind.AGENT
        record = keep_record(
            self._prepared,
            phase_params(self._prepared, self._order.phases[-1], fold.split.train),
            network.act_greedy,
            scripted(kind, trial.policy),
            fold.split.test,
            seed=TEST_SEED,
        )
        return {
            "day": record.day.tolist(),
            "result_mills": record.result_mills.tolist(),
            "accounts": [dataclasses.asdict(account) for account in record.accounts],
        }


def _told(task: Task, fold: Fold, trial: TrialResult) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fold": task.fold,
        "seed": task.seed,
        "train": list(fold.train),
        "gate": list(fold.gate),
        "test": list(fold.test),
        "gates": [_gate(result) for result in trial.gates],
        "is_flat": trial.is_flat,
        "phase": trial.phase,
        "n_steps": trial.n_steps,
        "fingerprint": trial.fingerprint,
        "weights_sha256": trial.weights_sha256,
    }


def _gate(result: GateResult) -> dict[str, Any]:
    e = result.estimate
    return {
        "phase": result.phase,
        "measure": result.measure,
        "is_passed": result.is_passed,
        "sentence": result.sentence(),
        "value": e.value,
        "n": e.n,
    }
