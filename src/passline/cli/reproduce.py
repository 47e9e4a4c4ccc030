"""The command that trains a run again and compares."""

import sys
from pathlib import Path

import click

from passline.cli.output import json_option, print_facts, print_json
from passline.cli.training import RichScreen, root_option, warm_up
from passline.reproduce import reproduce as train_again
from passline.runs import open_run

__all__ = ["reproduce"]


@click.command()
@click.argument("run")
@root_option
@json_option
def reproduce(run: str, root: Path, as_json: bool) -> None:
    """Train a finished run again from its own run.toml and compare hashes; exit 3 if they differ.

    The same machine and versions give the same weights and episodes, bit for bit. If they differ,
    the versions and the hardware that differ are listed.
    """
    warm_up()
    with RichScreen(is_quiet=as_json) as screen:
        found = train_again(open_run(run, root), screen)
    if as_json:
        print_json(
            {
                "run": found.original.id,
                "again": found.again.id,
                "same": found.is_same,
                "weights": found.weights,
                "episodes": found.episodes,
                "differences": found.differences,
            }
        )
    else:
        facts = [("run", found.original.id), ("again", found.again.id)]
        for name, (a, b) in (("weights", found.weights), ("episodes", found.episodes)):
            text = f"the same, {a[:12]}" if a == b else f"DIFFER: {a[:12]} and {b[:12]}"
            facts.append((name, text))
        if not found.is_same:
            facts += [(name, f"{a or '–'}, now {b or '–'}") for name, a, b in found.differences]
            if not found.differences:
                facts.append(("surroundings", "the same versions, revision and hardware"))
        print_facts(facts)
    if not found.is_same:
        sys.exit(3)
