"""Training that begins with another run's weights: what is taken over, kept and refused.

All runs share one observation and one action table, so weights move without surgery. The new run
keeps a copy of what it began with, and its lineage tells whence it came and what that was trained
on, so that no date of its gates and tests was trained on before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from passline.errors import ConfigError
from passline.kinds import is_forced, require_agent, require_training
from passline.learn import network
from passline.learn.checkpoint import list_checkpoints, read_checkpoint_info, save_checkpoint
from passline.learn.curriculum import load_policy
from passline.learn.settings import PPOConfig
from passline.learn.symmetry import is_symmetric
from passline.registry import data_fingerprints
from passline.runs import Run
from passline.task.actions import ACTION_NAMES
from passline.task.mirror import MIRROR
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["BasePolicy", "check_dates", "check_symmetry", "keep_base", "kept_base", "newest_policy"]

FOLDER = "base"
NAME = "policy"


@dataclass(frozen=True, kw_only=True)
class BasePolicy:
    """The weights that a training begins with.

    Attributes:
        network: the policy's parameters.
        sha256: of the checkpoint that they come from.
        lineage: what the new run's run.toml tells of it.
        data: SHA-256 of the data that it and its ancestors were trained on.
        is_made: it was trained on a built-in market alone, whose dates mean nothing elsewhere.
    """

    network: network.Params
    sha256: str
    lineage: Mapping[str, Any]
    data: frozenset[str]
    is_made: bool


def newest_policy(run: Run, ppo: PPOConfig) -> BasePolicy:
    """Reads the weights of a run's newest checkpoint, to begin another training with.

    Raises:
        RunError: it is a walk-forward or a null test of bars.
        ConfigError: the run has no checkpoint, or does not tell what it was trained on.
        CheckpointError: its observations, actions or network are others.
    """
    require_agent(run, "to begin with")
    require_training(run, "whose days are known, to go on from")
    known = list_checkpoints(run.path / "checkpoints")
    trained = run.manifest.get("slices", {}).get("train")
    if not known or trained is None:
        lacks = "has no checkpoint" if not known else "does not tell which days it was trained on"
        raise ConfigError(f"{run.id}: it {lacks}; begin with another run.")
    last = max(known, key=lambda info: int(info.meta["step"]))
    before = run.manifest.get("lineage", {})
    lineage: dict[str, Any] = {
        "base_run": run.id,
        "base_checkpoint": last.path.stem,
        "base_sha256": last.sha256,
        "base_forced": is_forced(run.manifest),
        "base_train_days": [*before.get("base_train_days", []), *trained],
        "base_data": sorted({*before.get("base_data", []), *data_fingerprints(run)}),
        "base_is_made": "market" in run.manifest["config"] and before.get("base_is_made", True),
    }
    return BasePolicy(
        network=load_policy(last, ppo),
        sha256=last.sha256,
        lineage=lineage,
        data=frozenset(lineage["base_data"]),
        is_made=bool(lineage["base_is_made"]),
    )


def check_dates(base: BasePolicy, slices: Mapping[str, Any], data: frozenset[str]) -> None:
    """Refuses a base that was trained on days which the new run holds out.

    Days count whatever the contract, as everywhere. A base from a built-in market is held to it
    only on the very same market: the dates of made bars mean nothing elsewhere.

    Args:
        base: the weights to begin with.
        slices: the new run's days by role, as in its run.toml.
        data: SHA-256 of the new run's data.

    Raises:
        ConfigError: naming the first days in common.
    """
    if base.is_made and not base.data & data:
        return
    held: list[tuple[str, list[date]]] = [
        *slices["gate"].items(),
        *slices["test"].items(),
        *([("final", slices["final"])] if "final" in slices else []),
    ]
    for first, last in base.lineage["base_train_days"]:
        for name, (begin, end) in held:
            if first <= end and begin <= last:
                raise ConfigError(
                    f"--from {base.lineage['base_run']}: its weights were trained on {first} to "
                    f"{last}, and slice {name} ({begin} to {end}) is to judge them. Choose a base "
                    "that was trained on earlier days, or other slices."
                )


def check_symmetry(base: BasePolicy, symmetric: str) -> None:
    """Refuses to keep a policy symmetric that is not: nothing would ever make it so.

    Args:
        base: the weights to begin with.
        symmetric: the setting `curriculum.symmetric`.

    Raises:
        ConfigError: it is "always", and the weights tell long and short apart.
    """
    if symmetric == "always" and not is_symmetric(base.network, MIRROR):
        raise ConfigError(
            f"--from {base.lineage['base_run']}: its policy tells long and short apart, and "
            "--symmetric always cannot undo that. Go on with it as it is (--symmetric auto), or "
            "choose another base."
        )


def keep_base(run: Run, base: BasePolicy) -> None:
    """Copies the weights into the new run, which needs its base no more."""
    folder = run.path / FOLDER
    folder.mkdir()
    meta = {"observation": list(OBSERVATION_NAMES), "actions": list(ACTION_NAMES)}
    save_checkpoint(folder, NAME, {"state": {"params": base.network}}, meta)


def kept_base(run: Run, ppo: PPOConfig) -> BasePolicy | None:
    """Reads the weights that a run began with; None if they were drawn."""
    lineage = run.manifest.get("lineage", {})
    if "base_sha256" not in lineage:
        return None
    info = read_checkpoint_info(run.path / FOLDER / f"{NAME}.toml")
    return BasePolicy(
        network=load_policy(info, ppo),
        sha256=lineage["base_sha256"],
        lineage={key: value for key, value in lineage.items() if key.startswith("base_")},
        data=frozenset(lineage["base_data"]),
        is_made=bool(lineage["base_is_made"]),
    )
