"""Logs of healthy phases, to be spoiled one thing at a time."""

from dataclasses import replace
from typing import Any

import numpy as np

from passline.report.diagnose.logs import (
    Curve,
    Detail,
    Evaluation,
    EvaluationFile,
    PhaseLog,
    TrainingLog,
)

STEPS = np.arange(1, 41) * 100_000


def curve(values: Any, steps: Any = None) -> Curve:
    array = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(STEPS),))
    return Curve(step=STEPS if steps is None else np.asarray(steps), value=array)


def evaluation(step: int, mean: float = 1.0, *, n: int = 64, **more: Any) -> Evaluation:
    generator = np.random.default_rng(step)
    noise = generator.standard_normal(n)
    return Evaluation(
        step=step,
        rewards=mean + (noise - noise.mean()) / noise.std(),
        lengths=1000 + generator.integers(-200, 200, n).astype(float),
        **more,
    )


def alike(step: int, reward: float, length: float, n: int = 5) -> Evaluation:
    return Evaluation(step=step, rewards=np.full(n, reward), lengths=np.full(n, length))


def detail(**changes: Any) -> Detail:
    made = Detail(
        done_reasons={"target": 40, "floor": 24},
        n_breached=24,
        n_trips=640,
        n_invalid=0,
        n_actions=64_000,
        hold_share=0.9,
        slices=("gate-ES-2021-01", "gate-ES-2021-02"),
    )
    return replace(made, **changes)


def healthy(name: str = "phase1", **changes: Any) -> PhaseLog:
    time = np.linspace(0, 1, len(STEPS))
    made = PhaseLog(
        name=name,
        curves={
            "rollout/ep_rew_mean": curve(-1 + 2 * time),
            "rollout/ep_len_mean": curve(900.0),
            "train/explained_variance": curve(0.8 * time**0.3),
            "train/approx_kl": curve(0.005),
            "train/clip_fraction": curve(0.06),
            "train/entropy_loss": curve(-0.9 + 0.4 * time),
            "train/value_loss": curve(0.3),
            "actions/hold": curve(0.8),
            "rollout/invalid_actions": curve(0.0),
            "done/target": curve(0.3),
            "phase_gain/value": curve(0.02),
            "phase_gain/low": curve(-0.03),
            "phase_gain/high": curve(0.07),
            "phase_gain/is_kept": curve(1.0),
            "time/fps": curve(90_000.0),
        },
        evaluations=tuple(evaluation(s, s / 4e6) for s in (1_000_000, 2_000_000, 4_000_000)),
        file=EvaluationFile(
            path="logs/PPO_1/evaluations.npz",
            is_named_by_run=True,
            steps=(1_000_000, 2_000_000, 3_000_000, 4_000_000),
        ),
    )
    return replace(made, **changes)


def with_curves(**values: Any) -> PhaseLog:
    """A healthy phase with other curves; ep_rew_mean stands for rollout/ep_rew_mean and so on."""
    made = healthy()
    names = {tag.split("/")[1]: tag for tag in made.curves}
    changed = {names[name]: curve(value) for name, value in values.items()}
    return replace(made, curves={**made.curves, **changed})


def training(*phases: PhaseLog, **changes: Any) -> TrainingLog:
    made = TrainingLog(path="run", kind="stable-baselines3", phases=phases, has_config=True)
    return replace(made, **changes)
