"""Mutation testing of the rooms whose figures must be exact: `python tests/mutants.py --help`.

A seeded sample of small faults (an operator, a number, a comparison, a decorator …) is put into a
copy of the tree, one at a time, and the room's own tests must fail. Faults are made by cosmic-ray;
one fault a place is drawn, because eleven wrong operators in one place say no more than one.
Survivors that change nothing that anyone can observe are listed with the reason in mutants.toml;
all others are gaps in the tests. Not collected by pytest; `make mutants` runs it.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import cosmic_ray.ast
import cosmic_ray.mutating
import cosmic_ray.plugins

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = Path(__file__).with_name("mutants.toml")
ROOMS = {
    "rulebook": ("tests/rulebook", "tests/sim/test_compile.py"),
    "sim": (
        "tests/sim/test_compile.py",
        "tests/sim/test_walk.py",
        "tests/sim/test_reference.py",
        "tests/sim/test_twin.py",
        "tests/evaluate/test_play.py",
        "tests/sim",
    ),
}
"""Tests that have to notice a fault in a room, the quickest first."""
MAX_SECONDS = 240.0
"""A run of the tests that takes longer is stopped and counts as noticed: the fault loops."""
KILLED, SURVIVED = "killed", "survived"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
        path: module, relative to the root.
        operator: cosmic-ray's name of the fault.
        occurrence: which of the places the operator fits in this module.
        line: line of the place, from 1.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    @property
    def id(self) -> str:
        """Name that stays while the module stays."""
        return f"{self.path}:{self.operator.removeprefix('core/')}:{self.occurrence}"


def annotations(source: str) -> set[tuple[int, int]]:
    """Returns (line, column) of everything inside annotations, which no run looks at."""
    inside: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        notes = [
            note
            for field in ("annotation", "returns")
            if (note := getattr(node, field, None)) is not None
        ]
        for note in notes:
            for part in ast.walk(note):
                if isinstance(part, ast.expr):
                    assert part.end_col_offset is not None
                    columns = range(part.col_offset, part.end_col_offset + 1)
                    inside |= {(part.lineno, column) for column in columns}
    return inside


def every_mutant(room: str) -> Iterator[tuple[Mutant, tuple[str, int, int]]]:
    """Yields the faults that fit a room's modules, each with its place."""
    operators = {
        name: cosmic_ray.plugins.get_operator(name)()
        for name in sorted(cosmic_ray.plugins.operator_names())
        if "ariable" not in name
    }
    for module in sorted((ROOT / "src" / "passline" / room).rglob("*.py")):
        source = module.read_text()
        skipped = annotations(source)
        nodes = list(cosmic_ray.ast.ast_nodes(cosmic_ray.ast.get_ast(source)))
        path = str(module.relative_to(ROOT))
        for name, operator in operators.items():
            places = [place for node in nodes for place in operator.mutation_positions(node)]
            for occurrence, (start, _) in enumerate(places):
                if start not in skipped:
                    mutant = Mutant(path=path, operator=name, occurrence=occurrence, line=start[0])
                    yield mutant, (path, *start)


def draw(room: str, n: int, seed: int) -> tuple[list[Mutant], int]:
    """Draws n places of a room and one fault at each; returns them and the number of places."""
    by_place: dict[tuple[str, int, int], list[Mutant]] = {}
    for mutant, place in every_mutant(room):
        by_place.setdefault(place, []).append(mutant)
    rng = random.Random(seed)
    places = rng.sample(sorted(by_place), min(n, len(by_place)))
    return [rng.choice(by_place[place]) for place in places], len(by_place)


def difference(before: str, after: str) -> str:
    """Returns the changed lines, before and after."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    changed = [(a, b) for a, b in pairs if a != b][:1]
    return "".join(f"- {a.strip()}\n+ {b.strip()}\n" for a, b in changed) or "(a line is gone)\n"


def explanations(room: str) -> dict[str, str]:
    """Returns why a survivor changes nothing that can be observed, by its changed lines."""
    rows = tomllib.loads(EXPLAINED.read_text()).get(room, [])
    return {f"- {row['before']}\n+ {row['after']}\n": row["why"] for row in rows}


def try_mutant(tree: Path, room: str, mutant: Mutant) -> dict[str, Any]:
    """Puts one fault into a copy of the tree and runs the room's tests."""
    module = tree / mutant.path
    before = module.read_text()
    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    after = cosmic_ray.mutating.mutate_code(before, operator, mutant.occurrence)
    module.write_text(after)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *ROOMS[room]]
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis"),
    }
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=MAX_SECONDS,
            check=False,
        )
        is_killed = done.returncode != 0
    except subprocess.TimeoutExpired:
        is_killed = True
    finally:
        module.write_text(before)
    return {
        "id": mutant.id,
        "line": mutant.line,
        "room": room,
        "result": KILLED if is_killed else SURVIVED,
        "change": difference(before, after),
    }


def main() -> int:
    """Runs a sample and prints what survived."""
    parser = argparse.ArgumentParser(description="Put faults into a room; its tests must notice.")
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), help="rulebook, sim")
    parser.add_argument("--n", type=int, default=200, help="places a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="ids of mutants to try again")
    parser.add_argument("--out", type=Path, help="JSON lines; a sample begun there goes on")
    args = parser.parse_args()
    known = {}
    if args.out and args.out.exists():
        rows = [json.loads(line) for line in args.out.read_text().splitlines()]
        known = {row["id"]: row for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        trees: Queue[Path] = Queue()
        for number in range(args.jobs):
            tree = Path(folder) / str(number)
            ignore = shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__", "runs")
            shutil.copytree(ROOT, tree, ignore=ignore)
            (tree / ".git").mkdir()
            trees.put(tree)
        worst = 0
        for room in args.rooms:
            worst = max(worst, run_room(room, args, known, trees))
    return worst


def run_room(room: str, args: Any, known: dict[str, Any], trees: "Queue[Path]") -> int:
    """Tries one room's sample; returns 1 if fewer than nine in ten were noticed."""
    drawn, n_places = draw(room, args.n, args.seed)
    if args.only:
        drawn = [mutant for mutant, _ in every_mutant(room) if mutant.id in args.only]

    def work(mutant: Mutant) -> dict[str, Any]:
        if mutant.id in known and not args.only:
            return known[mutant.id]
        tree = trees.get()
        try:
            row = try_mutant(tree, room, mutant)
        finally:
            trees.put(tree)
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return row

    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(work, drawn))
    reasons = explanations(room)
    survivors = [row for row in rows if row["result"] == SURVIVED]
    explained = [row for row in survivors if row["change"] in reasons]
    for row in survivors:
        why = reasons.get(row["change"], "NOT EXPLAINED")
        print(f"\n{row['id']}, line {row['line']}: {why}\n{row['change']}", end="")
    n_killed = len(rows) - len(survivors)
    share = n_killed / max(len(rows), 1)
    print(
        f"\n{room}: {n_killed} of {len(rows)} noticed ({share:.1%}), {len(explained)} survivors "
        f"explained, {len(survivors) - len(explained)} not; {n_places:,} places, seed {args.seed}"
    )
    return int(share < 0.9)


if __name__ == "__main__":
    sys.exit(main())
