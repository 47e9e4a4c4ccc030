"""The page of a walk-forward: one HTML file that needs nothing else.

Built from the stored results and the manifest alone; style and colors are the report's.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from passline.evaluate.walk_results import FoldScore, SeedRecord, WalkResults
from passline.report import origin, views
from passline.report.amounts import interval, percent, points, usd
from passline.report.definitions import DEFINITIONS
from passline.report.palette import DARK, LIGHT, PAGE
from passline.report.svg import figure_to_svg
from passline.report.walk_figures import fold_figure, record_figure
from passline.runs import Run, replace_file

__all__ = ["WALK_PAGE", "render_walk_page", "write_walk_page"]

WALK_PAGE = "walkforward.html"


def write_walk_page(run: Run, results: WalkResults, out: Path) -> Path:
    """Writes the page, in place of an earlier one."""
    replace_file(out, render_walk_page(run, results).encode())
    return out


def render_walk_page(run: Run, results: WalkResults) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    manifest = run.manifest
    book = manifest["rulebook"]
    return environment.get_template("walkforward.html.j2").render(
        run=run,
        title=run.name or "walk-forward",
        subject=" · ".join([f"{book['firm']} · {book['plan']}", *manifest["markets"]]),
        style=files("passline.report").joinpath("style.css").read_text(),
        variables={"light": vars(LIGHT), "dark": vars(DARK)},
        definitions=DEFINITIONS,
        ruling=views.ruling_view(results.verdict),
        tiles=_tiles(results),
        automation=views.automation(manifest),
        coverage=_coverage(results),
        sealed=_sealed(manifest),
        folds=[_fold_row(fold) for fold in results.folds],
        records=[_record_row(record) for record in results.records],
        policies=[_policy_row(score) for score in results.verdict.scores],
        figures=_figures(results),
        facts=origin.facts({**manifest, "lineage": {}, "progress": {}}),
        settings=origin.flatten(manifest["config"]),
    )


def _tiles(results: WalkResults) -> list[dict[str, str]]:
    """Returns the few figures under the banner."""
    rate, won = results.verdict.agent.pass_rate, results.verdict.agent.result_usd
    rival = results.verdict.rival
    tiles = [
        ("pass_rate", "Pass rate", percent(rate.value), interval(rate, percent)),
        ("result", "Mean net result", usd(won.value), interval(won, usd)),
    ]
    if rival is not None and (gap := rival.advantage) is not None:
        name = rival.policy.replace("_", " ")
        tiles.append(
            ("advantage", f"Against {name}", f"{points(gap.value)} pts", interval(gap, points))
        )
    note = f"{rate.n:,} episodes in {rate.n_clusters} blocks of dates"
    tiles.append(("n_effective", "Effective n", f"{rate.n_effective:,.0f}", note))
    return [dict(zip(("key", "label", "value", "note"), tile, strict=True)) for tile in tiles]


def _coverage(results: WalkResults) -> str:
    """Says how much of what was planned the page rests on."""
    n, planned = len(results.trainings), results.n_planned
    flat = sum(bool(t.told["is_flat"]) for t in results.trainings)
    text = f"{n} of {planned} trainings" if n < planned else f"all {planned} trainings"
    text = f"It rests on {text} in {len(results.folds)} test windows."
    if n < planned:
        text += " The others failed or are still to be done; nothing stands in for them."
    if flat:
        stopped = "every one" if flat == n else f"{flat}"
        text += (
            f" A gate stopped {stopped} of them: these agents were judged as accounts that never"
            " trade, which is what the gate advises."
        )
    return text


def _sealed(manifest: Mapping[str, Any]) -> str:
    """Says which bars the walk-forward never saw; "" if it saw all."""
    start = manifest.get("slices", {}).get("final")
    if not start:
        return ""
    return f"Bars from {start} on are a sealed final window; no walk-forward sees them."


def _figures(results: WalkResults) -> dict[str, str]:
    drawn = {
        "folds": figure_to_svg(
            fold_figure(results.folds, PAGE), "folds", "Pass rate by test window"
        )
    }
    if results.records:
        starts = [int(fold.trainings[0].told["test"][0]) for fold in results.folds]
        drawn["record"] = figure_to_svg(
            record_figure(results.records, starts, PAGE), "record", "Track record by seed"
        )
    return drawn


def _fold_row(fold: FoldScore) -> dict[str, Any]:
    agent = fold.scores[0]
    told = fold.trainings[0].told
    rival = fold.scores[1] if len(fold.scores) > 1 else None
    n_flat = sum(bool(t.told["is_flat"]) for t in fold.trainings)
    stops = [
        gate["phase"] for t in fold.trainings for gate in t.told["gates"] if not gate["is_passed"]
    ]
    phases = ", ".join(dict.fromkeys(stops))
    return {
        "fold": str(fold.fold),
        "train": _dates(told["train"]),
        "test": _dates(told["test"]),
        "seeds": [f"{seed}: {rate:.1%}" for seed, rate in fold.seed_rates.items()],
        "gates": f"{n_flat} of {len(fold.trainings)} stopped ({phases})" if n_flat else
        (f"forced past {phases}" if stops else "all passed"),
        "rate": percent(agent.pass_rate.value),
        "rate_interval": interval(agent.pass_rate, percent),
        "result": usd(agent.result_usd.value),
        "result_interval": interval(agent.result_usd, usd),
        "gap": "" if rival is None or rival.advantage is None else points(rival.advantage.value),
        "gap_interval": "" if rival is None or rival.advantage is None
        else interval(rival.advantage, points),
        "rival": "" if rival is None else rival.policy.replace("_", " "),
        "n": f"{agent.pass_rate.n:,}",
        "n_effective": f"{agent.pass_rate.n_effective:,.0f}",
    }  # fmt: skip


def _policy_row(score: Any) -> dict[str, str]:
    gap, won = score.advantage, score.result_advantage
    return {
        "policy": score.policy.replace("_", " "),
        "is_agent": "agent" if gap is None else "",
        "rate": percent(score.pass_rate.value),
        "rate_interval": interval(score.pass_rate, percent),
        "gap": "" if gap is None else points(gap.value),
        "gap_interval": "" if gap is None else interval(gap, points),
        "result": usd(score.result_usd.value),
        "result_interval": interval(score.result_usd, usd),
        "won": "" if won is None else usd(won.value),
        "won_interval": "" if won is None else interval(won, usd),
        "trips": f"{score.n_trips:.1f}",
    }


def _record_row(record: SeedRecord) -> dict[str, str]:
    sums = np.cumsum(record.result_usd)
    fall = float((np.maximum.accumulate(np.r_[0.0, sums])[1:] - sums).max(initial=0.0))
    return {
        "seed": str(record.seed),
        "sessions": f"{len(record.day):,}",
        "accounts": f"{record.n_accounts:,}",
        "passed": f"{record.n_passed:,}",
        "result": usd(float(record.result_usd.sum())),
        "session": usd(float(record.result_usd.mean())),
        "fall": usd(fall),
    }


def _dates(window: Sequence[int]) -> list[str]:
    """Returns the first and the last day of a half-open window."""
    return [str(np.datetime64(int(day), "D")) for day in (window[0], window[1] - 1)]
