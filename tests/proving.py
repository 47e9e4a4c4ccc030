"""The long proofs of `make proof`: their budgets, their figures, and the table of both.

A long proof is a test with the marker `proof`; without `make proof` it is not collected. What it
counted goes through the fixture `figure`, and ends in build/proof.json and build/proof.md, where a
run of some of the proofs replaces the figures of those alone. Hypothesis tests are part of the
proof with `PROOF_FACTOR` times their examples.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

__all__ = ["Figure", "examples", "figure", "pytest_terminal_summary", "table"]

FACTOR = int(os.environ.get("PROOF_FACTOR", "1"))
"""How many times the usual number of random examples is drawn."""
if FACTOR > 1:
    settings.register_profile("proof", max_examples=100 * FACTOR, deadline=None)
    settings.load_profile("proof")

ROOT = Path(__file__).parents[1]
KEY = "proof_figure"

Figure = Callable[[str, Any, str], None]
"""Takes a figure's name, its value (a number or a short text) and what it had to be, in words."""


def examples(usual: int) -> int:
    """Returns how many random examples a test draws, `usual` of them outside `make proof`."""
    return usual * FACTOR


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Keeps a figure of a proof for its table: `figure("episodes", 10_080, "at least 10,000")`."""

    def keep(name: str, value: Any, demanded: str) -> None:
        is_plain = isinstance(value, int | float | str)
        row = {"figure": name, "value": value if is_plain else value.item(), "demanded": demanded}
        request.node.user_properties.append((KEY, row))

    return keep


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints the figures of this run and writes them beside those of earlier ones."""
    found = {
        report.nodeid.partition("tests/")[2]: {
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
            "figures": rows,
            **_circumstances(),
        }
        for reports in ("passed", "failed")
        for report in terminalreporter.stats.get(reports, [])
        if (rows := [row for key, row in report.user_properties if key == KEY])
        and report.when == "call"
    }
    if not found:
        return
    folder = config.rootpath / "build"
    folder.mkdir(exist_ok=True)
    stored = folder / "proof.json"
    known = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
    known |= found
    stored.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    lines = table(known)
    (folder / "proof.md").write_text("\n".join(lines) + "\n", "utf-8")
    terminalreporter.section("proof")
    for line in table(found):
        terminalreporter.write_line(line)


def table(proofs: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the figures as a Markdown table, one row a figure."""
    lines = [
        "| proof | figure | value | demanded | seconds | commit | day |",
        "| --- | --- | ---: | --- | ---: | --- | --- |",
    ]
    for nodeid, proof in sorted(proofs.items()):
        test = nodeid.partition("::")[2]
        name = test.removeprefix("test_").replace("_", " ")
        if proof["outcome"] != "passed":
            name += f" **{proof['outcome'].upper()}**"
        for row in proof["figures"]:
            cells = (name, row["figure"], _shown(row["value"]), row["demanded"])
            ends = (f"{proof['seconds']:.0f}", proof["commit"], proof["day"])
            lines.append(f"| {' | '.join(_escaped([*cells, *ends]))} |")
            name = ""
    return lines


def _shown(value: Any) -> str:
    """Whole numbers with thousands, others to four digits, texts as they are."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else value


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def _circumstances() -> dict[str, str]:
    """The commit (with a plus if files differ from it) and the day, UTC."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "no git"
    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {"commit": commit + changed, "day": datetime.now(UTC).date().isoformat()}
