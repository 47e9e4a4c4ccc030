"""Atheris, where it is installed, finds nothing in its time; longer in `make proof`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inputs import TARGETS

from proving import Figure

HERE = Path(__file__).parent
PLAIN = [name for name in TARGETS if " " not in name]
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install atheris (Linux alone)",
)


def fuzz(name: str, seconds: int, crashes: Path) -> int:
    """Fuzzes a target; returns how many inputs were run."""
    command = [sys.executable, HERE / "fuzzing.py", name, "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, "--crashes", crashes],
        capture_output=True,
        text=True,
        timeout=seconds * 3 + 60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4_000:]
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    assert runs is not None, said[-2_000:]
    return int(runs[1])


@needs_atheris
@pytest.mark.parametrize("name", ["rulebook", "signals"])
def test_a_few_seconds_find_nothing(name: str, tmp_path: Path) -> None:
    assert fuzz(name, 2, tmp_path) > 50


@pytest.mark.proof
@needs_atheris
@pytest.mark.parametrize("name", PLAIN)
def test_a_minute_finds_nothing(name: str, tmp_path: Path, figure: Figure) -> None:
    runs = fuzz(name, 60, tmp_path)
    figure("inputs", runs, "at least 500, no finding")
    assert runs >= 500
