"""The command that sets several runs side by side, in the terminal and on a page."""

from pathlib import Path
from typing import Any

import click

from passline.cli.output import json_option, print_facts, print_json, print_table
from passline.evaluate.stats import Estimate
from passline.evaluate.verdict_file import score_to_dict
from passline.report.compare import Comparison, compare_runs
from passline.report.compare_page import difference_cells, rate_cell, usd_cell, write_comparison
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
    """Compare runs: verdicts, pass rates on shared slices, and each pair on the same episodes."""
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
    columns = ("", "pass rate, shared slices", "n (worth)", "$ each", "verdict", "run")
    print_table(columns, rows, right=columns[2:4])
    if found.differences:
        click.echo("")
        cells = [difference_cells(difference) for difference in found.differences]
        print_table(
            ("pair", "points (95 %)", "dates drawn anew", "n (worth)", "what can be said"),
            [
                (
                    c["pair"],
                    f"{c['points']} ({c['interval']})",
                    c["redrawn"],
                    f"{c['n']} ({c['n_effective']})",
                    c["word"],
                )
                for c in cells
            ],
            right=("n (worth)",),
        )
    facts = [(f"{a}, {b}", "no episode in common") for a, b in found.unpaired]
    facts += [
        (name, " | ".join(v or "–" for v in values)) for name, values in found.settings.items()
    ]
    facts += [("note", note) for note in found.notes]
    if facts:
        click.echo("")
        print_facts(facts)


def _record(found: Comparison, out: Path) -> dict[str, Any]:
    return {
        "runs": {
            c.letter: {
                "id": c.run_id,
                "verdict": c.verdict.word.value,
                "forced": c.is_forced,
                "own": score_to_dict(c.verdict.agent),
                "shared_pass_rate": _estimate(c.pass_rate),
                "shared_result_usd": _estimate(c.result_usd),
            }
            for c in found.contenders
        },
        "shared_slices": list(found.slices),
        "pairs": [
            {
                "first": d.first,
                "second": d.second,
                "word": d.word,
                "advantage": _estimate(d.advantage),
                "advantage_redrawn": _estimate(d.advantage_redrawn),
                "result_usd": _estimate(d.result),
                "result_usd_redrawn": _estimate(d.result_redrawn),
            }
            for d in found.differences
        ],
        "unpaired": [list(pair) for pair in found.unpaired],
        "settings": {name: list(values) for name, values in found.settings.items()},
        "notes": list(found.notes),
        "page": out,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """Returns an estimate as plain data; a bound that the sample cannot give is null."""
    if estimate is None:
        return None
    told = {name: getattr(estimate, name) for name in ("value", "low", "high", "n", "n_effective")}
    return {name: None if abs(value) == float("inf") else value for name, value in told.items()}
