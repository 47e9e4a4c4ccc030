"""Judges a model that stable-baselines3 trained on our environment, as a run of its own.

The model's weights become a checkpoint of the run, so that the player, the baselines, the verdict,
the report and the replay are those of our own policies, on the test slices that a training on these
bars and settings would be judged on. What the model was trained on is not known, and the run says
so.
"""

import dataclasses
from pathlib import Path
from typing import Any

from passline.config import TrainConfig
from passline.learn.checkpoint import save_checkpoint
from passline.learn.sb3_model import SB3Model
from passline.pipeline import (
    REPORT,
    TEST_SEED,
    Job,
    Outcome,
    Plan,
    create_job,
    evaluate_run,
    manifest_of,
    markets_of,
    plan_job,
)
from passline.recording import note_stop
from passline.runs import DEFAULT_ROOT, RunStatus, naming_refusals
from passline.task.actions import ACTION_NAMES
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["judge_model", "start_judging"]

UNASKED = ("base_sha256", "curriculum", "ppo")
"""Settings of a training; a judged model has none of them but the widths of its layers."""


def start_judging(
    model: SB3Model,
    config: TrainConfig,
    *,
    root: Path = DEFAULT_ROOT,
    name: str | None = None,
) -> Job:
    """Prepares the markets, makes the run's directory and lays the model's weights into it.

    Nothing is written before everything that can be refused has been looked at.

    Args:
        model: the model.
        config: bars, rulebook, task and slices; what it says of learner and curriculum is not
            asked.
        root: directory of the runs.
        name: what to call the run; the model's file without it.

    Raises:
        PasslineError: anything that the settings or the bars do not allow.
    """
    learner = dataclasses.replace(config.ppo, hidden=model.hidden)
    plan = plan_job(dataclasses.replace(config, ppo=learner, model_sha256=model.sha256))
    job = create_job(plan, _manifest(model, plan), root=root, name=name or Path(model.file).stem)
    meta = {
        "phase": job.phases[-1].name,
        "step": model.n_steps,
        "observation": list(OBSERVATION_NAMES),
        "actions": list(ACTION_NAMES),
        "model_sha256": model.sha256,
    }
    tree = {"state": {"params": model.params}}
    with naming_refusals(job.run.path):
        save_checkpoint(job.run.path / "checkpoints", f"model-{model.n_steps}", tree, meta)
        job.run.record_progress({"step": model.n_steps})
    return job


def _manifest(model: SB3Model, plan: Plan) -> dict[str, Any]:
    """Returns what the run.toml tells: of a training all that is known of this one."""
    told = manifest_of(plan)
    config = {key: value for key, value in told["config"].items() if key not in UNASKED}
    slices = {key: value for key, value in told["slices"].items() if key != "train"}
    return told | {
        "config": config | {"ppo": {"hidden": list(model.hidden)}},
        "seeds": {"test": TEST_SEED},
        "slices": slices,
        "lineage": {
            "test_slices": told["lineage"]["test_slices"],
            "model_file": model.file,
            "model_sha256": model.sha256,
            "model_policy": model.policy,
            "model_written_by": f"stable-baselines3 {model.written_by or 'of unknown version'}",
            "model_steps": model.n_steps,
            "trained_on": "unknown",
        },
    }


def judge_model(job: Job) -> Outcome:
    """Judges the model of a run on its test slices and writes the report; holds the lock.

    Args:
        job: as `start_judging` made it, or `pipeline.continue_job` of such a run.
    """
    with job.run.lock(), naming_refusals(job.run.path):
        try:
            found = evaluate_run(job)
        except KeyboardInterrupt:
            note_stop(job.run, RunStatus.INTERRUPTED, "stopped by the user")
            raise
        except Exception as error:
            note_stop(job.run, RunStatus.FAILED, str(error))
            raise
    return Outcome(
        run=job.run,
        verdict=found,
        report=job.run.path / REPORT,
        stopped_at=None,
        markets=markets_of(job.run),
    )
