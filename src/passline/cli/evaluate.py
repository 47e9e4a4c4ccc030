"""The command that judges an agent on held-out slices: a run's, or a model of stable-baselines3."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from passline.cli.training import (
    RichScreen,
    given_settings,
    json_option,
    market_options,
    opening_lines,
    refuse_settings,
    root_option,
    settings_options,
    show,
    use_cache,
)
from passline.config import TrainConfig, read_config
from passline.evaluate.windows import SliceConfig
from passline.foreign import judge_model, start_judging
from passline.kinds import require_agent
from passline.learn.sb3_model import read_sb3_model
from passline.pipeline import REPORT, Outcome, continue_job, evaluate_run, markets_of
from passline.runs import Run, open_run
from passline.task.prepare import TaskConfig

__all__ = ["evaluate"]


@click.command()
@click.argument("run", metavar="RUN|MODEL.zip")
@market_options
@partial(settings_options, owners=(TaskConfig, SliceConfig))
@click.option("--set", "pairs", multiple=True, help="Any setting: section.key=value; repeatable.")
@click.option("--name", help="What to call the run of a model.")
@root_option
@json_option
def evaluate(
    run: str,
    bars: tuple[str, ...],
    rulebook: str | None,
    trade_as: str | None,
    file: Path | None,
    phases: str | None,
    slices_file: Path | None,
    pairs: tuple[str, ...],
    name: str | None,
    root: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Judge an agent on held-out slices: a run's again, or a model of stable-baselines3.

    Of a RUN the newest checkpoint is judged on the run's own slices, and its report renewed.

    MODEL.zip is what model.save of stable-baselines3's PPO or sb3-contrib's MaskablePPO wrote after
    training on passline's environment (docs/plugs.md). It is judged in a run of its own on the
    slices that `passline train` with these options would hold out; give the bars, the rulebook and
    the bracket that it was trained on. Masks are on either way. Nothing in the file is executed,
    and neither torch nor stable-baselines3 is needed.
    """
    given = given_settings(bars, rulebook, trade_as, phases, slices_file, pairs, settings)
    path = Path(run)
    if path.suffix.lower() == ".zip" or path.is_file():
        if not bars and file is None:
            raise click.UsageError(
                "nothing to judge the model on: give --bars FILE, or a --config that names them"
            )
        config = read_config(file, given)
        outcome = judge_zip(path, config, root=root, name=name, is_quiet=as_json)
    else:
        refuse_settings("a run is judged with its own settings", {"run", "root", "as_json"})
        outcome = judge_again(open_run(run, root))
    show(outcome, as_json=as_json)


def judge_zip(
    path: Path, config: TrainConfig, *, root: Path, name: str | None, is_quiet: bool
) -> Outcome:
    """Judges a model of stable-baselines3 in a new run."""
    model = read_sb3_model(path)
    use_cache()
    job = start_judging(model, config, root=root, name=name)
    screen = RichScreen(is_quiet=is_quiet)
    for line in opening_lines(job):
        screen.say(line)
    try:
        return judge_model(job)
    except KeyboardInterrupt:
        screen.say(f"stopped; judge it again with: passline evaluate {job.run.path}")
        sys.exit(130)


def judge_again(run: Run) -> Outcome:
    """Judges the newest checkpoint of a run on its own slices."""
    require_agent(run, "to judge again")
    use_cache()
    job = continue_job(run)
    if not job.is_trained_here:
        return judge_model(job)
    return Outcome(
        run=run,
        verdict=evaluate_run(job),
        report=run.path / REPORT,
        stopped_at=None,
        markets=markets_of(run),
    )
