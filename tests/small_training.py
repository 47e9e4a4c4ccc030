"""A training of a few updates over two phases, for tests of what a checkpoint must carry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from passline.evaluate.slices import Split
from passline.learn import curriculum, network
from passline.learn.curriculum import CurriculumConfig, Trained, train_curriculum
from passline.learn.ppo import PPOConfig, make_update
from passline.task.phases import Phase
from passline.task.prepare import Prepared

PPO = PPOConfig(n_lanes=16, rollout_steps=16, minibatch_size=128, hidden=(8, 8))
N_UPDATES = (4, 3)
CONFIG = CurriculumConfig(
    total_steps=256 * sum(N_UPDATES), seed=4, checkpoint_every=2, n_gate_episodes=64
)

MAKE_ONCE = cache(make_update)


@dataclass
class Recorder:
    """Keeps the scalars, and stops the training after some updates as Ctrl-C would."""

    stop_after: int = 10**9
    scalars: list[tuple[str, int, Mapping[str, float]]] = field(default_factory=list)
    n_looks: int = 0
    n_gates: int = 0

    def on_update(self, phase: Phase, progress: Any, scalars: Mapping[str, float]) -> None:
        """Counts, and stops."""
        self.scalars.append((phase.name, progress.step, scalars))
        if len(self.scalars) == self.stop_after:
            raise KeyboardInterrupt

    def on_look(self, table: Any) -> None:
        """Counts."""
        self.n_looks += 1

    def on_gates(self, results: Any, table: Any) -> None:
        """Counts."""
        self.n_gates += 1


def two_phases(phases: Mapping[str, Phase], lane_share: float = 1.0) -> tuple[Phase, ...]:
    """Entry and manage, four updates and three where manage has all lanes."""
    entry, manage = (
        replace(phases[n], budget_share=s) for n, s in (("entry", 4.0), ("manage", 3.0))
    )
    return entry, replace(manage, lane_share=lane_share)


def train(
    prepared: Prepared,
    phases: Mapping[str, Phase],
    cut: Split,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Recorder,
    config: CurriculumConfig = CONFIG,
    scores: Iterable[float] = (),
    *,
    forced: bool = False,
    n_phases: int = 2,
    lane_share: float = 1.0,
    base: network.Params | None = None,
    fails: str = "",
) -> Trained:
    """Trains in a folder, going on from what lies there; nothing is played on the gate slices.

    What would be found there comes from `scores`, looks and gates in order; then it is 0. The gate
    of the phase `fails` is not passed.
    """
    found = chain(scores, repeat(0.0))

    def gates(_: Any, __: Any, phase: Phase, *___: Any, **____: Any) -> Any:
        return [SimpleNamespace(agent_value=next(found), is_passed=phase.name != fails)], None

    monkeypatch.setattr(curriculum, "make_update", MAKE_ONCE)
    monkeypatch.setattr(curriculum, "pass_gates", gates)
    monkeypatch.setattr(curriculum, "look_at_gate", lambda *a, **k: (None, next(found)))
    folder.mkdir(exist_ok=True)
    rows = two_phases(phases, lane_share)[:n_phases]
    forced_from = rows[0].name if forced else None
    return train_curriculum(
        prepared, rows, cut, PPO, config, recorder, folder, forced_from=forced_from, base=base
    )
