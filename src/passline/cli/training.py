"""Commands that train and report: demo, train, report; and what commands of settings share."""

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402

from passline.base_policy import newest_policy  # noqa: E402
from passline.cli.markets import EACH, leave_each_out, market_summaries, show_markets  # noqa: E402
from passline.config import field_help, read_config  # noqa: E402
from passline.errors import GateNotPassedError  # noqa: E402
from passline.evaluate.windows import SliceConfig, read_windows  # noqa: E402
from passline.kinds import RunKind, kind_of, require_training  # noqa: E402
from passline.learn import kernel  # noqa: E402
from passline.learn.curriculum import CurriculumConfig  # noqa: E402
from passline.learn.curriculum import Progress as Steps  # noqa: E402
from passline.learn.settings import PPOConfig  # noqa: E402
from passline.pipeline import (  # noqa: E402
    Job,
    Outcome,
    continue_job,
    publish,
    run_job,
    start_job,
)
from passline.runs import DEFAULT_ROOT, open_run  # noqa: E402
from passline.task.prepare import TaskConfig  # noqa: E402
from passline.walkforward import publish_walk  # noqa: E402

__all__ = [
    "RichScreen",
    "demo",
    "given_settings",
    "json_option",
    "market_options",
    "opening_lines",
    "overrides_of",
    "refuse_settings",
    "report",
    "root_option",
    "settings_options",
    "show",
    "train",
    "use_cache",
    "warm_up",
]

F = TypeVar("F", bound=Callable[..., Any])

DEMO = {
    "market.start_date": "2018-01-01",
    "market.end_date": "2024-01-01",
    "slices.test_days": 700,
    "slices.gate_days": 460,
    "slices.n_episodes": 256,
    "curriculum.n_gate_episodes": 256,
    "curriculum.evaluations_per_phase": 3,
    "curriculum.total_steps": 11_000_000,
    "rulebook": "apex-intraday-50k",
}
"""The demo's settings: six years of the built-in market, the last two held out."""

OPTIONS: tuple[tuple[str, str, type, Any], ...] = (
    ("--steps", "curriculum.total_steps", CurriculumConfig, click.IntRange(min=1)),
    ("--reweigh", "curriculum.reweigh", CurriculumConfig, click.FloatRange(0, 1)),
    ("--symmetric", "curriculum.symmetric", CurriculumConfig, str),
    ("--seed", "curriculum.seed", CurriculumConfig, click.IntRange(min=0)),
    ("--stop-atr", "task.stop_atr", TaskConfig, float),
    ("--target-r", "task.target_r", TaskConfig, float),
    ("--slippage-ticks", "task.slippage_ticks", TaskConfig, click.IntRange(min=0)),
    ("--path", "task.path", TaskConfig, str),
    ("--test-days", "slices.test_days", SliceConfig, click.IntRange(min=1)),
    ("--gate-days", "slices.gate_days", SliceConfig, click.IntRange(min=1)),
    ("--final-days", "slices.final_days", SliceConfig, click.IntRange(min=0)),
    ("--episodes", "slices.n_episodes", SliceConfig, click.IntRange(min=1)),
    ("--lanes", "ppo.n_lanes", PPOConfig, click.IntRange(min=1)),
    ("--learning-rate", "ppo.learning_rate", PPOConfig, float),
)
"""Options of `train` that set one field each: flag, setting, owner, kind."""


def market_options(function: F) -> F:
    """Adds the options that say on which bars, under which rules and in which cut of time."""
    path = click.Path(path_type=Path, dir_okay=False)
    slices_help = "Slices by name, contract and dates as TOML, in place of the cut by days."
    for option in (
        click.option("--slices", "slices_file", type=path, help=slices_help),
        click.option("--phases", help="Curriculum as TOML instead of the built-in one."),
        click.option("--config", "file", type=path, help="Settings as TOML."),
        click.option("--contract", "trade_as", help="Contract to trade, such as MES on ES bars."),
        click.option("--rulebook", help="Rulebook id or TOML file."),
        click.option(
            "--bars",
            multiple=True,
            type=str,
            help="Bar file made by `passline data import`; repeatable.",
        ),
    ):
        function = option(function)
    return function


def settings_options(function: F, owners: tuple[type, ...] | None = None) -> F:
    """Adds an option for rows of OPTIONS, its help being the field's docstring.

    Args:
        function: the command.
        owners: of the settings that it takes; all without them.
    """
    for flag, setting, owner, kind in reversed(OPTIONS):
        if owners is not None and owner not in owners:
            continue
        name = setting.rpartition(".")[2]
        text = field_help(owner)[name]
        function = click.option(flag, setting.replace(".", "__"), type=kind, help=text)(function)
    return function


def overrides_of(values: Mapping[str, Any], pairs: tuple[str, ...]) -> dict[str, Any]:
    """Collects settings from options and from --set section.key=value."""
    found = {name.replace("__", "."): value for name, value in values.items()}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise click.UsageError(f"--set {pair}: it needs the form section.key=value")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


def refuse_settings(why: str, beside: Collection[str]) -> None:
    """Refuses options of the present command that would be ignored, by name.

    Args:
        why: they would be, such as "RUN is tested with its own settings".
        beside: names of the parameters that may be given.

    Raises:
        click.UsageError: another option was given.
    """
    context = click.get_current_context()
    given = [
        param.opts[0]
        for param in context.command.params
        if param.name is not None
        and param.name not in beside
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{why}; leave out {', '.join(given)}.")


def given_settings(
    bars: tuple[str, ...],
    rulebook: str | None,
    trade_as: str | None,
    phases: str | None,
    slices_file: Path | None,
    pairs: tuple[str, ...],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Collects what the options of `market_options`, `settings_options` and --set ask for."""
    given = overrides_of(settings, pairs)
    given |= {
        "bars": [str(Path(b).resolve()) for b in bars] or None,
        "rulebook": rulebook,
        "trade_as": trade_as,
        "phases": phases,
    }
    if slices_file is not None:
        given["slices.named"] = [window.to_plain() for window in read_windows(slices_file)]
    return given


class RichScreen:
    """Draws a job's progress: phase, steps/s, reward, pass rate, time left."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=is_quiet)
        self._bar = Progress(
            TextColumn("[bold]{task.fields[phase]:<8}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]:>8,.0f} steps/s"),
            TextColumn("reward {task.fields[reward]:>+7.2f}"),
            TextColumn("passed {task.fields[passed]:>4.0%}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=is_quiet,
        )
        fields: dict[str, Any] = {"phase": "start", "speed": 0.0, "reward": 0.0, "passed": 0.0}
        self._task = self._bar.add_task("train", total=None, **fields)

    def __enter__(self) -> "RichScreen":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, highlight=False)

    def update(self, phase: str, progress: Steps, scalars: Mapping[str, float]) -> None:
        """Moves the bar."""
        fields: dict[str, Any] = {
            "phase": phase,
            "speed": scalars["time/fps"],
            "passed": scalars.get("account/pass_rate", 0.0),
        }
        if "rollout/ep_rew_mean" in scalars:  # an update may end no episode
            fields["reward"] = scalars["rollout/ep_rew_mean"]
        self._bar.update(self._task, total=progress.total_steps, completed=progress.step, **fields)


def use_cache() -> None:
    """Keeps compiled code between processes, where the user's cache directory can be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "passline"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings = {
        "jax_compilation_cache_dir": str(base / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    update: Callable[[str, Any], None] = jax.config.update
    for name, value in settings.items():
        update(name, value)
        os.environ[name.upper()] = str(value)  # for processes that are begun from here


def warm_up() -> None:
    """Keeps compiled code, and compiles what training needs while the bars are being prepared."""
    use_cache()
    Thread(target=kernel.compile_ahead, daemon=True).start()


def play_out(job: Job, *, forced: bool, as_json: bool) -> None:
    """Runs a job with its progress on the screen, and prints what it came to."""
    outcome = play_job(job, forced=forced, is_quiet=as_json)
    show(outcome, as_json=as_json)
    if outcome.stopped_at is not None:
        raise GateNotPassedError(
            f"{outcome.stopped_at.sentence()} {outcome.stopped_at.advice} Go on all the same with: "
            f"passline train --resume {outcome.run.path} --force"
        )


def play_job(job: Job, *, forced: bool, is_quiet: bool) -> Outcome:
    """Runs a job with its progress on the screen."""
    with RichScreen(is_quiet=is_quiet) as screen:
        for line in opening_lines(job):
            screen.say(line)
        try:
            return run_job(job, screen, forced=forced)
        except KeyboardInterrupt:
            screen.say(f"stopped; go on with: passline train --resume {job.run.path}")
            sys.exit(130)


def opening_lines(job: Job) -> list[str]:
    """Returns what a trader must know before the first step: run, data, automation."""
    book = job.prepared.rulebook
    bars = ", ".join(f"{len(b):,} bars of {b.contract.symbol}" for b in job.prepared.bars)
    lines = [f"run {job.run.path}", f"{bars}; {book.firm} {book.plan} ({book.id})"]
    if left_out := job.config.slices.leave_out:
        lines.append(f"{left_out} is left out of training and judged on")
    policy = book.automation.policy
    if policy != "allowed":
        lines.append(
            f"[bold]Automation: {policy}[/bold] at {book.firm} (as of {book.as_of}). "
            f"{book.automation.note}"
        )
    return lines


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Prints the verdict and where the report is."""
    found = outcome.verdict
    if as_json:
        scores = [found.agent, *([found.rival] if found.rival else [])]
        content = {
            "run": outcome.run.id,
            "verdict": found.word.value,
            "sentence": found.sentence,
            "reasons": list(found.reasons),
            "scores": {
                s.policy: {
                    "pass_rate": s.pass_rate.value,
                    "low": s.pass_rate.low,
                    "high": s.pass_rate.high,
                    "n": s.pass_rate.n,
                    "n_effective": s.pass_rate.n_effective,
                }
                for s in scores
            },
            "markets": market_summaries(outcome.markets),
            "stopped_at": outcome.stopped_at.phase if outcome.stopped_at else None,
            "report": str(outcome.report),
        }
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(found.sentence)
    for reason in found.reasons:
        click.echo(f"  {reason}")
    show_markets(outcome.markets)
    click.echo(f"report: {outcome.report}")


json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Directory that holds the runs.",
)


@click.command()
@click.option(
    "--strength", type=float, default=1.0, show_default=True, help="Planted edge; 0: none."
)
@click.option("--mechanism", default="vwap_reversion", show_default=True, help="Kind of edge.")
@click.option("--market-seed", type=int, default=0, show_default=True, help="Seed of the market.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the training.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps over all phases.")
@root_option
@json_option
def demo(
    strength: float,
    mechanism: str,
    market_seed: int,
    seed: int,
    steps: int | None,
    root: Path,
    as_json: bool,
) -> None:
    """Train, judge and report on the built-in market: the whole job in three minutes.

    The market's edge is planted and known, so that you see what the program does when there is
    something to find; with --strength 0 you see what it says when there is nothing.
    """
    warm_up()
    settings = DEMO | {
        "market.strength": strength,
        "market.mechanism": mechanism,
        "market_seed": market_seed,
        "curriculum.seed": seed,
    }
    if steps is not None:
        settings["curriculum.total_steps"] = steps
    job = start_job(read_config(None, settings), root=root, name="demo")
    try:
        play_out(job, forced=False, as_json=as_json)
    except GateNotPassedError as stopped:
        click.echo(f"passline: {stopped}", err=True)


@click.command()
@market_options
@click.option(
    "--leave-out",
    help="Contract kept from training and judged on alone; 'each': one after the other.",
)
@settings_options
@click.option("--set", "pairs", multiple=True, help="Any setting: section.key=value; repeatable.")
@click.option("--name", help="What to call the run.")
@click.option("--from", "base", help="Begin with the weights of a run: its id or directory.")
@click.option("--resume", help="Go on with a stopped run: its id or directory.")
@click.option("--force", is_flag=True, help="Go on past a gate that was not passed.")
@root_option
@json_option
def train(
    bars: tuple[str, ...],
    rulebook: str | None,
    trade_as: str | None,
    file: Path | None,
    phases: str | None,
    slices_file: Path | None,
    leave_out: str | None,
    pairs: tuple[str, ...],
    name: str | None,
    base: str | None,
    resume: str | None,
    force: bool,
    root: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train an agent on bars through the curriculum, judge it on held-out slices, report.

    Exit code 3 says that a phase's gate was not passed: the training stopped there, and the report
    says what was found so far. Ctrl-C leaves a run that --resume goes on with.
    """
    warm_up()
    given = given_settings(bars, rulebook, trade_as, phases, slices_file, pairs, settings)
    is_each = leave_out == EACH
    given["slices.leave_out"] = leave_out.upper() if leave_out and not is_each else None
    if resume is not None:
        refuse_settings(
            "--resume goes on with the run's own settings", {"resume", "force", "root", "as_json"}
        )
        stopped = open_run(resume, root)
        require_training(stopped, "to go on with")
        job = continue_job(stopped)
    else:
        if not bars and file is None:
            raise click.UsageError("no bars: give --bars FILE, or a --config that names them")
        config = read_config(file, given)
        policy = None if base is None else newest_policy(open_run(base, root), config.ppo)
        if is_each:
            if policy is not None:
                raise click.UsageError(
                    "--leave-out each trains afresh on each set; leave out --from"
                )
            play = partial(play_job, forced=force, is_quiet=as_json)
            leave_each_out(config, play, root=root, name=name, as_json=as_json)
            return
        job = start_job(config, root=root, name=name, base=policy)
    play_out(job, forced=force, as_json=as_json)


@click.command()
@click.argument("run")
@root_option
@json_option
def report(run: str, root: Path, as_json: bool) -> None:
    """Write the report of a run, a walk-forward or a null test again, from its folder alone."""
    opened = open_run(run, root)
    is_walk = kind_of(opened) is RunKind.WALK_FORWARD
    path = publish_walk(opened)[1] if is_walk else publish(opened)
    click.echo(
        json.dumps({"run": opened.id, "report": str(path)}) if as_json else f"report: {path}"
    )
