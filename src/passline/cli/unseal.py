"""The command that opens a run's sealed final window."""

from pathlib import Path

import click

from passline.cli.training import json_option, root_option, show, use_cache
from passline.final import unseal as open_final
from passline.pipeline import Outcome
from passline.runs import open_run

__all__ = ["unseal"]


@click.command()
@click.argument("run")
@root_option
@json_option
def unseal(run: str, root: Path, as_json: bool) -> None:
    """Judge a finished run's agent on its sealed final window, and put the opening on record.

    The last part of the bars is seen by no other command. Its figures are out of sample once: each
    opening is written into the run before anything is shown, and counted over all runs beside it.
    """
    use_cache()
    done = open_final(open_run(run, root))
    if not as_json:
        window = done.opening.window
        click.echo(
            f"final window {window.first} to {window.last}, "
            f"{', '.join(window.contracts)}, checkpoint {done.opening.checkpoint}"
        )
    outcome = Outcome(run=done.run, verdict=done.verdict, report=done.report, stopped_at=None)
    show(outcome, as_json=as_json)
