"""The command that sets runs or walk-forwards side by side, in the terminal and on a page."""

from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.evaluate.stats import Estimate
from passline.evaluate.verdict_file import score_to_dict
from passline.report.compare import compare_runs
from passline.report.compare_page import (
    difference_cells,
    rate_cell,
    usd_cell,
    window_rows,
    write_comparison,
)
from passline.report.comparison import Comparison, Difference, SharedWindow
from passline.runs import DEFAULT_ROOT, open_run

__all__ = ["compare"]


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Directory that holds the runs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("comparison.html"),
    show_default=True,
    help="The page.",
)
@json_option
def compare(run: tuple[str, ...], root: Path, out: Path, as_json: bool) -> None:
    """Compare runs: verdicts, pass rates on shared slices, and each pair on the same episodes.

    RUN is a training each, or a walk-forward each; walk-forwards are compared on the test windows
    that all of them share.
    """
    if not out.parent.is_dir():
        raise click.UsageError(f"--out {out}: there is no directory {out.parent}")
    found = compare_runs([open_run(name, root) for name in run])
    write_comparison(found, out)
    if as_json:
        print_json(_record(found, out))
        return
    _print(found)
    click.echo(f"\npage: {out}")


def _print(found: Comparison) -> None:
    _print_contenders(found)
    if found.windows:
        click.echo("")
        _print_windows(found)
    if found.differences:
        click.echo("")
        _print_pairs(found)
    facts = [(f"{a}, {b}", "no episode in common") for a, b in found.unpaired]
    facts += [(c.letter, c.coverage) for c in found.contenders]
    facts += [
        (name, " | ".join(v or "–" for v in values)) for name, values in found.settings.items()
    ]
    facts += [("note", note) for note in found.notes]
    if any(value for _, value in facts):
        click.echo("")
        print_facts(facts)


def _print_contenders(found: Comparison) -> None:
    rows = []
    for c in found.contenders:
        rate, n = rate_cell(c.pass_rate), c.pass_rate
        rows.append(
            (
                c.letter,
                f"{rate[0]} ({rate[1]})" if n else "–",
                f"{n.n:,} ({n.n_effective:,.0f})" if n else "",
                usd_cell(c.result_usd)[0],
                c.verdict.word.value + (", forced" if c.is_forced else ""),
                c.run_id,
            )
        )
    where = "windows" if found.windows else "slices"
    columns = ("", f"pass rate, shared {where}", "n (worth)", "$ each", "verdict", found.noun[:-1])
    print_table(columns, rows, right=columns[2:4])


def _print_windows(found: Comparison) -> None:
    """Prints pass rates, and differences to the first, by test window."""
    first, *others = (c.letter for c in found.contenders)
    columns = ("test window", first, *others, *(f"{first} − {letter}" for letter in others))
    rows = [
        (row["name"], *(f"{value} ({reach})" for value, reach in [*row["rates"], *row["gaps"]]))
        for row in window_rows(found)
    ]
    print_table(columns, rows)


def _print_pairs(found: Comparison) -> None:
    cells = [difference_cells(difference) for difference in found.differences]
    by_window = [("between windows", "by_window")] if found.windows else []
    more = [("windows", "ahead")] if found.windows else []
    titles = [("dates drawn anew", "redrawn"), *by_window, *more]
    print_table(
        ("pair", "points (95 %)", *(title for title, _ in titles), "n (worth)", "what can be said"),
        [
            (
                c["pair"],
                f"{c['points']} ({c['interval']})",
                *(c[key] for _, key in titles),
                f"{c['n']} ({c['n_effective']})",
                c["word"],
            )
            for c in cells
        ],
        right=("n (worth)",),
    )


def _record(found: Comparison, out: Path) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "runs": {
            c.letter: {
                "id": c.run_id,
                "verdict": c.verdict.word.value,
                "sentence": c.verdict.sentence,
                "forced": c.is_forced,
                "own": score_to_dict(c.verdict.agent),
                "shared_pass_rate": _estimate(c.pass_rate),
                "shared_result_usd": _estimate(c.result_usd),
            }
            for c in found.contenders
        },
        "shared_slices": list(found.slices),
        "windows": [_window(window, at, found) for at, window in enumerate(found.windows)],
        "pairs": [_pair(difference) for difference in found.differences],
        "unpaired": [list(pair) for pair in found.unpaired],
        "settings": {name: list(values) for name, values in found.settings.items()},
        "notes": list(found.notes),
        "page": out,
    }


def _window(window: SharedWindow, at: int, found: Comparison) -> dict[str, Any]:
    """Returns a shared test window: pass rates by letter, with those of the seeds, and pairs."""
    letters = [c.letter for c in found.contenders]
    return {
        "first": window.first,
        "last": window.last,
        "pass_rates": {
            letter: {**(_estimate(rate) or {}), "seeds": dict(seeds)}
            for letter, rate, seeds in zip(letters, window.rates, window.seeds, strict=True)
        },
        "advantages": {
            f"{d.first}-{d.second}": _estimate(d.windows[at]) for d in found.differences
        },
    }


def _pair(difference: Difference) -> dict[str, Any]:
    told = {
        "first": difference.first,
        "second": difference.second,
        "word": difference.word,
        "advantage": _estimate(difference.advantage),
        "advantage_redrawn": _estimate(difference.advantage_redrawn),
        "result_usd": _estimate(difference.result),
        "result_usd_redrawn": _estimate(difference.result_redrawn),
    }
    if difference.windows:
        told["advantage_by_window"] = _estimate(difference.advantage_by_window)
        told["result_usd_by_window"] = _estimate(difference.result_by_window)
    return told


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """Returns an estimate as plain data; a bound that the sample cannot give is null."""
    if estimate is None:
        return None
    told = {name: getattr(estimate, name) for name in ("value", "low", "high", "n", "n_effective")}
    return {name: None if abs(value) == float("inf") else value for name, value in told.items()}
