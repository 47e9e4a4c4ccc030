"""The command line: parse, call one function, print, exit code.

Commands live in modules of their own and are imported only when they run, so that `passline
--help` answers at once. Exit codes: 0 done, 1 our mistake, 2 the user's, 3 ran but a gate was not
passed, 130 interrupted.
"""

import importlib
import os
import sys
from typing import Any

import click

from passline import __version__
from passline.errors import PasslineError

__all__ = ["main"]

COMMANDS = {
    "demo": ("passline.cli.training", "Train, judge and report on the built-in market."),
    "train": ("passline.cli.training", "Train an agent through the curriculum."),
    "walkforward": ("passline.cli.walkforward", "Train and judge on several cuts of time."),
    "evaluate": (
        "passline.cli.evaluate",
        "Judge a run's agent, or an SB3 model, on held-out slices.",
    ),
    "nulltest": ("passline.cli.nulltest", "Ask whether a result is beyond luck."),
    "report": ("passline.cli.training", "Write a run's report again from its folder."),
    "diagnose": ("passline.cli.diagnose", "Say what is wrong with a training, from its logs."),
    "replay": ("passline.cli.replay", "Play a judged episode again, bar by bar."),
    "runs": ("passline.cli.registry", "List runs, their lineage and what was tried; verify one."),
    "compare": ("passline.cli.compare", "Set runs side by side, on the same episodes."),
    "reproduce": ("passline.cli.reproduce", "Train a run again and compare hashes."),
    "unseal": ("passline.cli.unseal", "Judge a run's agent on its sealed final window, on record."),
    "data": ("passline.cli.data", "Import, check and resample bars."),
    "play": ("passline.cli.play", "Play a signal file through a firm's rules."),
    "audit": ("passline.cli.audit", "Judge executed trades by a firm's rules."),
    "odds": ("passline.cli.odds", "Odds, time and cost to pass, from executed trades or a run."),
    "rulebooks": ("passline.cli.facts", "List the firms' rulebooks, or show one."),
    "contracts": ("passline.cli.facts", "List contracts with ticks, money and costs."),
    "calendar": ("passline.cli.facts", "Show the exchange's sessions of a month."),
}
"""Command name: module that defines it under the same name, and its line in the help."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns a command, None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = vars(module)[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command list from COMMANDS, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="passline")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Train trading agents to pass prop-firm evaluations, and learn honestly whether they will."""
    del debug


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits with its code.

    Args:
        argv: arguments without the program's name; None takes the process's own.
    """
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code: Any = cli.main(args=arguments, prog_name="passline", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        _say(_one_line(error))
        code = 2
    except PasslineError as error:
        if debug:
            raise
        _say(str(error))
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        _say(
            f"{type(error).__name__}: {error}. This is a defect of passline; run again with "
            "--debug for the traceback."
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return text
    stop = "" if text.endswith((".", "?", "!")) else "."
    return f"{text}{stop} Help: {context.command_path} --help"


def _say(text: str) -> None:
    """Writes one line; what a file's names would do to lines and terminals is written out."""
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    click.echo(f"passline: {''.join(plain)}", err=True)
