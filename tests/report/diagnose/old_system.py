"""The logs of a stable-baselines3 training in two phases, made from its published figures.

Phase 1: rollout reward -2.22 to -1.47, episodes of 230 to 2,700 bars, explained variance -0.35 to
0.95; one checkpoint at 4M steps: -1.65 over 163 bars, standard deviation 0. Phase 2: reward +3 to
+115 over episodes of 20 to 30 bars, KL 0.005, entropy 0.36, explained variance 0.93, 1,600 steps/s;
evaluations of -1,191 over 1,846 bars at 4M and -282 over 327 bars at 8M, all episodes alike.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

N_EPISODES = 5


def write_events(folder: Path, curves: Mapping[str, np.ndarray], last_step: int) -> Path:
    """Writes curves at even steps up to the last; returns the event file."""
    with SummaryWriter(str(folder)) as writer:
        for tag, values in curves.items():
            steps = np.linspace(0, last_step, len(values) + 1)[1:].astype(int)
            for step, value in zip(steps, values, strict=True):
                writer.add_scalar(tag, float(value), global_step=int(step))
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def write_evaluations(folder: Path, rows: list[tuple[int, float, int]]) -> Path:
    """Writes evaluations whose episodes are all alike, as EvalCallback stores them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluations.npz"
    np.savez(
        path,
        timesteps=np.array([step for step, _, _ in rows]),
        results=np.array([[reward] * N_EPISODES for _, reward, _ in rows]),
        ep_lengths=np.array([[length] * N_EPISODES for _, _, length in rows]),
    )
    return path


def write_old_system(root: Path, updates: int = 40) -> Path:
    """Writes tensorboard_logs/phaseN/PPO_1 and logs/phaseN/evaluations.npz below the root."""
    time = np.linspace(0, 1, updates)
    flat = np.ones(updates)
    rest = {"train/clip_fraction": 0.06 * flat, "time/fps": 1600 * flat}
    write_events(
        root / "tensorboard_logs" / "phase1" / "PPO_1",
        {
            "rollout/ep_rew_mean": -2.22 + 0.75 * time,
            "rollout/ep_len_mean": 230 + 2470 * time,
            "train/explained_variance": -0.35 + 1.30 * time**0.3,
            "train/approx_kl": 0.006 * flat,
            "train/entropy_loss": -0.9 + 0.4 * time,
            "train/value_loss": 0.8 - 0.5 * time,
            **rest,
        },
        4_000_000,
    )
    write_evaluations(root / "logs" / "phase1", [(4_000_000, -1.65, 163)])
    write_events(
        root / "tensorboard_logs" / "phase2" / "PPO_1",
        {
            "rollout/ep_rew_mean": 59 + 56 * np.sin(9 * time - np.pi / 2),
            "rollout/ep_len_mean": 25 + 5 * np.sin(17 * time),
            "train/explained_variance": 0.93 * flat,
            "train/approx_kl": 0.005 * flat,
            "train/entropy_loss": -0.36 * flat,
            "train/value_loss": 40 - 20 * time,
            **rest,
        },
        8_000_000,
    )
    write_evaluations(
        root / "logs" / "phase2", [(4_000_000, -1191.0, 1846), (8_000_000, -282.0, 327)]
    )
    return root
