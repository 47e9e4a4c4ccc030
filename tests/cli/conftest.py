"""Runs the program as a user does and hands back what it printed and how it ended."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from passline.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Passline = Callable[..., Done]


@pytest.fixture
def passline(capsys: pytest.CaptureFixture[str]) -> Passline:
    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, out, err)

    return run


@pytest.fixture
def refused(passline: Passline) -> Callable[..., str]:
    """Runs a command that has to fail by the user's mistake; returns its one line."""

    def run(*arguments: object) -> str:
        done = passline(*arguments)
        assert done.code == 2, done
        assert done.out == ""
        assert done.err.startswith("passline: "), done.err
        assert done.err.count("\n") == 1, done.err
        return done.err

    return run
