"""The command that lists runs: filters, lineage, what was tried on the same data, verification."""

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.errors import PasslineError
from passline.evaluate.null_test import load_null_test
from passline.kinds import RunKind, is_forced, kind_of
from passline.openings import read_openings
from passline.registry import (
    RunFilter,
    ancestors_of,
    configurations_tried,
    contracts_of,
    rulebook_of,
    select_runs,
    verify_run,
)
from passline.report.origin import resumed_words
from passline.runs import DEFAULT_ROOT, Run, RunStatus, open_run

__all__ = ["runs"]

_STATUS_STYLES = {
    "running": "cyan",
    "finished": "green",
    "interrupted": "yellow",
    "failed": "red",
    "killed": "red",
    "unreadable": "red",
}
_COLUMNS = (
    "run",
    "kind",
    "status",
    "rulebook",
    "market",
    "trained",
    "pass rate (95 %)",
    "n (worth)",
    "verdict",
)
_MARKS = {True: "sound", False: "NOT SOUND", None: "–"}


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Folder of the runs.",
)
@click.option("--contract", metavar="SYMBOL", help="Only runs that trade it.")
@click.option("--rulebook", metavar="ID", help="Only runs whose rulebook's id begins so.")
@click.option(
    "--status", type=click.Choice([status.value for status in RunStatus]), help="Only this status."
)
@click.option("--data", metavar="HASH", help="Only runs on data whose SHA-256 begins so.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only runs begun on this UTC day or later."
)
@click.option(
    "--verify", metavar="RUN", help="Compare a run with what it recorded of itself; exit 3 if not."
)
@json_option
def runs(
    root: Path,
    contract: str | None,
    rulebook: str | None,
    status: str | None,
    data: str | None,
    since: datetime | None,
    verify: str | None,
    as_json: bool,
) -> None:
    """List runs, oldest first: data, outcome, lineage, and how often the same data were tried."""
    if verify is not None:
        _verify(open_run(verify, root), root, as_json=as_json)
        return
    wanted = RunFilter(
        contract=contract,
        rulebook=rulebook,
        status=status,
        data=data,
        since=None if since is None else since.date(),
    )
    found = select_runs(root, wanted)
    if as_json:
        print_json([_run_record(run, root) for run in found])
        return
    if not found:
        if wanted == RunFilter():
            click.echo(f"No runs in {root}. Start one with: passline demo, or passline train")
        else:
            click.echo(f"No run in {root} fits. All: passline runs --root {root}")
        return
    rows = [_run_row(run) for run in found]
    print_table(_COLUMNS, rows, right=("trained", "n (worth)"), marks=_STATUS_STYLES)
    _print_notes(found, root)


def _verify(run: Run, root: Path, *, as_json: bool) -> None:
    checks = verify_run(run, root)
    if as_json:
        print_json({"run": run.id, "checks": checks})
    else:
        click.echo(run.id)
        rows = [(check.name, _MARKS[check.is_sound], check.text) for check in checks]
        print_table(("what", "is", "found"), rows, marks={"sound": "green", "NOT SOUND": "red"})
    if any(check.is_sound is False for check in checks):
        sys.exit(3)


def _print_notes(found: Sequence[Run], root: Path) -> None:
    """Prints below the table what it has no room for: data, lineage, messages."""
    facts = [*_data_facts(found, root)]
    for run in found:
        facts += [(run.id, text) for text in (*_lineage(run, root), *_best(run))]
        if message := str(run.manifest.get("message", "")):
            facts.append((run.id, message))
    if facts:
        click.echo("")
        print_facts(facts)


def _data_facts(found: Sequence[Run], root: Path) -> list[tuple[str, str]]:
    """Returns one line a data set: how many configurations were tried on it, and who opened it."""
    facts = []
    for digest, symbol in _data_sets(found).items():
        n_tried = configurations_tried(root, digest)
        n_opened = sum(
            digest in opening.window.data
            for run in select_runs(root, RunFilter(data=digest))
            for opening in read_openings(run)
        )
        text = f"{symbol}: {_count(n_tried, 'configuration')} tried"
        if n_opened:
            text += f", final window opened {_count(n_opened, 'time')}"
        facts.append((f"data {digest[:12]}", text))
    return facts


def _data_sets(found: Sequence[Run]) -> dict[str, str]:
    """Returns the data sets of the runs: SHA-256 of all bars, and the contract."""
    sets: dict[str, str] = {}
    for run in found:
        for name, entry in run.manifest.get("data", {}).items():
            told = entry if isinstance(entry, Mapping) else {"sha256": entry}
            sets[str(told.get("sha256", ""))] = str(told.get("contract", name))
    return {digest: symbol for digest, symbol in sets.items() if digest}


def _lineage(run: Run, root: Path) -> list[str]:
    lines = []
    ancestors = ancestors_of(run, root)
    if ancestors:
        chain = " ← ".join(
            name + ("" if base is not None else " (lost)") for name, base in ancestors
        )
        lines.append(f"weights from {chain}")
    if kind_of(run) is RunKind.MODEL:
        file = run.manifest.get("lineage", {}).get("model_file", "a model")
        lines.append(f"{file} of stable-baselines3; what it was trained on is not known")
    if resumed := resumed_words(run.manifest):
        lines.append(f"resumed {resumed}")
    if is_forced(run.manifest):
        own = run.manifest.get("progress", {}).get("forced", False)
        lines.append(
            "forced past a gate that was not passed" if own else "descends from a forced run"
        )
    opened = read_openings(run)
    if opened:
        lines.append(opened[-1].sentence())
    return [*lines, *_null_test(run)]


def _best(run: Run) -> list[str]:
    """Returns which checkpoint of the last phase did best on the gate slices, in a line."""
    known = run.manifest.get("progress", {}).get("best", [])
    return [
        f"best of phase '{best['phase']}' on the gate slices: checkpoint {best['checkpoint']}, the"
        f" agent's part of {best['measure']} {best['value']:+.3f}"
        for best in known[-1:]
    ]


def _run_row(run: Run) -> tuple[str, ...]:
    progress = run.manifest.get("progress", {})
    test = progress.get("test", {})
    return (
        run.id,
        kind_of(run).value,
        run.status.value,
        rulebook_of(run),
        ", ".join(contracts_of(run)),
        _trained(progress),
        _rate(test),
        f"{test['n']:,} ({test['n_effective']:,.0f})" if "n" in test else "",
        str(test.get("verdict", "")) + (", forced" if is_forced(run.manifest) and test else ""),
    )


def _trained(progress: Mapping[str, Any]) -> str:
    """Returns the steps of a training, or how many trainings of a walk-forward there are."""
    if "planned" in progress:
        return f"{progress['trained']} of {progress['planned']} trainings"
    steps = progress.get("step")
    return f"{steps:,} steps" if isinstance(steps, int) else ""


def _null_test(run: Run) -> list[str]:
    """Returns what a null test of the run found, in a line."""
    try:
        found = load_null_test(run.path)
    except PasslineError as error:
        return [str(error)]
    if found is None:
        return []
    n = sum(len(kind.nulls) for kind in found.kinds)
    word = "edge found" if found.is_edge else "no edge found"
    return [f"null test: {word}, p {found.p_corrected:.3f} after corrections, {n} null markets"]


def _rate(test: Mapping[str, Any]) -> str:
    if not {"value", "low", "high"} <= test.keys():
        return ""
    return f"{test['value']:.1%} ({test['low']:.1%} to {test['high']:.1%})"


def _run_record(run: Run, root: Path) -> dict[str, Any]:
    is_readable = run.status is not RunStatus.UNREADABLE
    return {
        **(_finite(run.manifest) if is_readable else {}),
        "id": run.id,
        "kind": kind_of(run).value,
        "path": run.path,
        "status": run.status.value,
        "message": str(run.manifest.get("message", "")),
        "forced": is_forced(run.manifest),
        "weights_from": [name for name, _ in ancestors_of(run, root)],
        "openings": len(read_openings(run)),
        "tried_on_data": {
            digest: configurations_tried(root, digest) for digest in _data_sets([run])
        },
    }


def _finite(value: Any) -> Any:
    """Returns plain data with bounds that a sample could not give as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"
