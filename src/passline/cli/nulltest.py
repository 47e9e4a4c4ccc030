"""The command that asks whether a run's result is beyond luck: nulltest."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click

from passline.cli.training import (
    json_option,
    opening_lines,
    overrides_of,
    refuse_settings,
    root_option,
    settings_options,
    warm_up,
)
from passline.config import read_config
from passline.evaluate.null_test import ALPHA, NullTest, draws_needed
from passline.kinds import require_training
from passline.nulltest import ALL_KINDS, NULL_KINDS, NullPlan, count_tries, run_null_test
from passline.pipeline import REPORT, Job, continue_job, publish, start_job
from passline.runs import naming_refusals, open_run

__all__ = ["nulltest"]

BESIDE_RUN = {
    "run",
    "kinds",
    "n",
    "seeds",
    "null_seed",
    "configurations",
    "force",
    "root",
    "as_json",
}
"""Parameters that say how a run is tested, and not what it is."""


@click.command()
@click.argument("run", required=False)
@click.option(
    "--bars", multiple=True, type=str, help="Bar file made by `passline data import`; repeatable."
)
@click.option("--rulebook", help="Rulebook id or TOML file.")
@click.option("--contract", "trade_as", help="Contract to trade, such as MES on ES bars.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML."
)
@click.option("--phases", help="Curriculum as TOML instead of the built-in one.")
@settings_options
@click.option("--set", "pairs", multiple=True, help="Any setting: section.key=value; repeatable.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*NULL_KINDS, "all"]),
    default=("rotate",),
    show_default=True,
    help="What is destroyed (docs/nulltest.md); repeatable; all: the first three.",
)
@click.option(
    "--n", type=click.IntRange(min=1), default=39, show_default=True, help="Null markets a kind."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trainings on each market; the result is their mean.",
)
@click.option(
    "--null-seed", type=int, default=0, show_default=True, help="Seed of the null markets."
)
@click.option(
    "--configurations",
    type=click.IntRange(min=1),
    help="Configurations tried on these bars; without it, as many as the runs under --root had.",
)
@click.option("--force", is_flag=True, help="Train on past gates that were not passed.")
@root_option
@json_option
def nulltest(
    run: str | None,
    bars: tuple[str, ...],
    rulebook: str | None,
    trade_as: str | None,
    file: Path | None,
    phases: str | None,
    pairs: tuple[str, ...],
    kinds: tuple[str, ...],
    n: int,
    seeds: int,
    null_seed: int,
    configurations: int | None,
    force: bool,
    root: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train again on markets without an edge: is the actual result beyond luck?

    RUN is a run of `train` or `demo`, whose settings are used, or --bars and settings as `train`
    takes them. Each market costs a training. Ctrl-C loses only the market at work: the same command
    with RUN goes on, also with a larger --n. Exit code 3 says that no edge is claimed.
    """
    warm_up()
    given = overrides_of(settings, pairs) | {
        "bars": [str(Path(b).resolve()) for b in bars] or None,
        "rulebook": rulebook,
        "trade_as": trade_as,
        "phases": phases,
    }
    job = _job(run, given, file, root)
    first = job.config.curriculum.seed
    plan = NullPlan(
        kinds=ALL_KINDS if "all" in kinds else kinds,
        n=n,
        seeds=tuple(range(first, first + seeds)),
        seed=null_seed,
        forced=force,
        n_configurations=configurations,
    )

    def say(line: str) -> None:
        if not as_json:
            click.echo(line, err=True)

    for line in opening_lines(job):
        say(line.replace("[bold]", "").replace("[/bold]", ""))
    _warn(job, plan, say)
    try:
        found = run_null_test(job, plan, say)
    except KeyboardInterrupt:
        say(f"stopped; go on with: passline nulltest {job.run.path} and the same options")
        sys.exit(130)
    with job.run.lock(), naming_refusals(job.run.path):
        publish(job.run)
    _show(job, found, as_json=as_json)
    if not found.is_edge:
        sys.exit(3)


def _job(run: str | None, given: dict[str, Any], file: Path | None, root: Path) -> Job:
    if run is not None:
        refuse_settings("RUN is tested with its own settings", BESIDE_RUN)
        opened = open_run(run, root)
        require_training(opened, "to repeat on null markets")
        return continue_job(opened)
    if not given["bars"] and file is None:
        raise click.UsageError("nothing to test: give RUN, or --bars FILE, or a --config")
    return start_job(read_config(file, given), root=root, name="nulltest")


def _warn(job: Job, plan: NullPlan, say: Any) -> None:
    """Says before the first training if no result could be claimed."""
    tries = count_tries(job, plan)
    needed = draws_needed(len(plan.kinds), tries.n_independent)
    if plan.n < needed:
        n = tries.n_configurations
        tried = f" and {n} configurations tried" if n > 1 else ""
        say(f"with --n {plan.n}{tried} no result can reach p = {ALPHA}; --n {needed} is the least")


def _show(job: Job, found: NullTest, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"run": job.run.id, **asdict(found)}, indent=2))
        return
    for kind in found.kinds:
        nulls = sorted(kind.nulls)
        click.echo(
            f"{kind.kind}: p {kind.p:.3f} (corrected {kind.p_corrected:.3f}); actual "
            f"{found.actual:+.4f}, {len(nulls)} null markets {nulls[0]:+.4f} to {nulls[-1]:+.4f}, "
            f"median {median(nulls):+.4f} {found.unit}"
        )
    click.echo(found.sentence)
    click.echo(f"result: {job.run.path / 'nulltest.json'}")
    click.echo(f"report: {job.run.path / REPORT}")
