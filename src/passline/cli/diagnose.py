"""`passline diagnose`: what a training's logs say about it, and what to do."""

import textwrap
from itertools import groupby
from pathlib import Path

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.report.diagnose.diagnosis import Diagnosis, Finding, dynamics
from passline.report.diagnose.diagnosis import diagnose as ask
from passline.report.diagnose.logs import Evaluation, PhaseLog
from passline.report.diagnose.read import read_logs
from passline.report.diagnose.words import number, steps_text
from passline.runs import DEFAULT_ROOT, open_run

__all__ = ["diagnose"]

WIDTH = 100
"""Characters of a line of running text."""

_TRAINING = ("training", "first", "last", "least", "most", "trend")
_EVALUATIONS = ("evaluated at", "episodes", "distinct", "reward", "std", "bars", "passed")


@click.command()
@click.argument("path")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Where runs are kept, for a run named by its id.",
)
@json_option
def diagnose(path: str, root: Path, as_json: bool) -> None:
    """Read a training's logs and say what is wrong with it, and what to do.

    PATH is a passline run, or what stable-baselines3 left: an event file, an evaluations.npz, or a
    directory of both, with a directory for each phase or without.
    """
    given = Path(path)
    found = ask(read_logs(given if given.exists() or _is_path(path) else open_run(path, root).path))
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)


def _is_path(text: str) -> bool:
    return len(Path(text).parts) > 1 or Path(text).suffix != ""


def _print(found: Diagnosis) -> None:
    click.echo(f"{found.log.path} ({found.log.kind})")
    click.echo(textwrap.fill(found.sentence(), WIDTH))
    for phase in found.log.phases:
        click.echo("")
        _print_phase(phase)
    for _, group in groupby(found.findings, key=lambda item: item.check):
        click.echo("")
        _print_findings(list(group))
    _print_rest(found)
    for note in found.log.notes:
        click.echo(textwrap.fill(note, WIDTH))


def _print_phase(phase: PhaseLog) -> None:
    curve = phase.main_curve()
    told = "no curves" if curve is None else (
        f"{len(curve.step)} updates, to step {steps_text(int(curve.step[-1]))}"
    )  # fmt: skip
    click.echo(f"{phase.name}: {told}")
    rows = [
        (d.measure, number(d.first), number(d.last), number(d.least), number(d.most), d.trend)
        for d in dynamics(phase)
    ]
    if rows:
        print_table(_TRAINING, rows, right=_TRAINING[1:5])
    if phase.evaluations:
        if rows:
            click.echo("")
        print_table(_EVALUATIONS, [_row(item) for item in phase.evaluations], right=_EVALUATIONS)


def _row(item: Evaluation) -> tuple[str, ...]:
    is_mean = item.is_mean_only
    low, high = (item.lengths.min(), item.lengths.max()) if len(item.lengths) else (0, 0)
    bars = number(item.mean_length) if low == high else (
        f"{number(item.mean_length)} ({number(low)} to {number(high)})"
    )  # fmt: skip
    return (
        steps_text(item.step),
        "-" if is_mean else str(len(item.rewards)),
        "-" if is_mean else str(item.n_distinct),
        number(item.mean_reward),
        "-" if is_mean else number(float(item.rewards.std())),
        bars if len(item.lengths) else "-",
        "-" if item.n_passed is None else str(item.n_passed),
    )


def _print_findings(group: list[Finding]) -> None:
    """Prints the problems of one check: heading, evidence by phase, remedies once."""
    worst = min((item.problem.severity for item in group), key=lambda severity: severity.rank)
    click.echo(click.style(f"{worst.value.upper()}: {group[0].title}", bold=True))
    remedies = dict.fromkeys(remedy for item in group for remedy in item.problem.remedies)
    print_facts(
        [
            *((f"  {item.phase or 'training'}", item.problem.evidence) for item in group),
            *(("  do", remedy) for remedy in remedies),
        ]
    )


def _print_rest(found: Diagnosis) -> None:
    """Prints what was found right, and what the logs do not tell."""
    facts = [
        (f"  {check.asks}", (phase, answer.evidence)) for check, phase, answer in found.clear()
    ]
    if facts:
        click.echo("\nlooked at, and right")
        print_facts(_joined(facts))
    gaps = [
        (f"  {check.asks}", (phase, answer.missing)) for check, phase, answer in found.unknown()
    ]
    if gaps:
        click.echo("\nnot told by these logs")
        print_facts(_joined(gaps))


def _joined(facts: list[tuple[str, tuple[str, str]]]) -> list[tuple[str, str]]:
    """Returns the facts of a name as one, a line each; phases that say the same share it."""
    joined = []
    for name, group in groupby(facts, key=lambda fact: fact[0]):
        by_text: dict[str, list[str]] = {}
        for _, (phase, text) in group:
            by_text.setdefault(text, []).append(phase)
        lines = [f"{', '.join(phases)}: {text}" if any(phases) else text
                 for text, phases in by_text.items()]  # fmt: skip
        joined.append((name, "\n".join(lines)))
    return joined
