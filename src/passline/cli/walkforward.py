"""The command that trains on several cuts of time and judges each on its next window."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from passline.cli.training import (
    json_option,
    overrides_of,
    refuse_settings,
    root_option,
    settings_options,
    warm_up,
)
from passline.config import field_help, read_config
from passline.errors import TrainingLostError
from passline.evaluate.folds import SCHEMES, FoldConfig
from passline.runs import open_run
from passline.walkforward import Walk, WalkOutcome, continue_walk, run_walk, start_walk

__all__ = ["walkforward"]

HELP = field_help(FoldConfig)


@click.command()
@click.option("--bars", multiple=True, help="Bar file made by `passline data import`; repeatable.")
@click.option("--rulebook", help="Rulebook id or TOML file.")
@click.option("--contract", "trade_as", help="Contract to trade, such as MES on ES bars.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML."
)
@click.option("--phases", help="Curriculum as TOML instead of the built-in one.")
@click.option("--folds", type=click.IntRange(min=1), default=5, show_default=True,
              help=HELP["folds"])  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True,
              help=HELP["seeds"])  # fmt: skip
@click.option("--scheme", type=click.Choice(SCHEMES), default="rolling", show_default=True,
              help=HELP["scheme"])  # fmt: skip
@click.option("--train-days", type=click.IntRange(min=0), default=0, show_default=True,
              help=HELP["train_days"])  # fmt: skip
@settings_options
@click.option("--set", "pairs", multiple=True, help="Any setting: section.key=value; repeatable.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes on this machine.")  # fmt: skip
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Ray cluster that trains instead.")
@click.option("--name", help="What to call the walk-forward.")
@click.option("--resume", help="Go on with one that was stopped: its id or directory.")
@click.option("--force", is_flag=True, help="Train on past gates that were not passed.")
@root_option
@json_option
def walkforward(
    bars: tuple[str, ...],
    rulebook: str | None,
    trade_as: str | None,
    file: Path | None,
    phases: str | None,
    folds: int,
    seeds: int,
    scheme: str,
    train_days: int,
    pairs: tuple[str, ...],
    jobs: int,
    ray_address: str | None,
    name: str | None,
    resume: str | None,
    force: bool,
    root: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train on several cuts of time, judge each on its next unseen window, and sum up.

    An agent that a gate stops is judged as one that does not trade. A walk-forward that was stopped
    goes on with --resume and does only what is missing.
    """
    warm_up()
    given = overrides_of(settings, pairs)
    given |= {
        "bars": [str(Path(b).resolve()) for b in bars] or None,
        "rulebook": rulebook,
        "trade_as": trade_as,
        "phases": phases,
    }
    if resume is not None:
        refuse_settings(
            "--resume goes on with the run's own settings",
            {"resume", "jobs", "ray_address", "root", "as_json"},
        )
        walk = continue_walk(open_run(resume, root))
    else:
        if not bars and file is None:
            raise click.UsageError("no bars: give --bars FILE, or a --config that names them")
        cuts = FoldConfig(folds=folds, seeds=seeds, scheme=scheme, train_days=train_days)
        walk = start_walk(read_config(file, given), cuts, forced=force, root=root, name=name)
    _play_out(walk, jobs=jobs, ray_address=ray_address, as_json=as_json)


def _play_out(walk: Walk, *, jobs: int, ray_address: str | None, as_json: bool) -> None:
    def say(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    say(f"run {walk.run.path}: {len(walk.missing)} of {len(walk.tasks)} trainings to do")
    try:
        outcome = run_walk(walk, say, jobs=jobs, ray_address=ray_address)
    except KeyboardInterrupt:
        say(f"stopped; go on with: passline walkforward --resume {walk.run.path}")
        sys.exit(130)
    _show(outcome, as_json=as_json)
    if outcome.failed:
        names = ", ".join(task.name for task, _ in outcome.failed[:5])
        raise TrainingLostError(
            f"{len(outcome.failed)} of {len(walk.tasks)} trainings failed ({names}); the first: "
            f"{outcome.failed[0][1]}. The others are kept. Go on with: passline walkforward "
            f"--resume {walk.run.path}"
        )


def _show(outcome: WalkOutcome, *, as_json: bool) -> None:
    """Prints the verdict and where the page is."""
    found = outcome.verdict
    if as_json:
        content = {
            "run": outcome.run.id,
            "verdict": found.word.value if found else None,
            "sentence": found.sentence if found else None,
            "reasons": list(found.reasons) if found else [],
            "failed": {task.name: error for task, error in outcome.failed},
            "page": str(outcome.page) if outcome.page else None,
        }
        click.echo(json.dumps(content, indent=2))
        return
    if found is None:
        return
    click.echo(found.sentence)
    for reason in found.reasons:
        click.echo(f"  {reason}")
    click.echo(f"page: {outcome.page}")
