"""The page that shows several runs side by side: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from passline.evaluate.stats import Estimate
from passline.evaluate.verdict import VerdictWord
from passline.report.amounts import points, usd
from passline.report.compare import Comparison, Contender, Difference
from passline.report.definitions import DEFINITIONS
from passline.report.figures import curve_grid, pass_rate_rows
from passline.report.svg import DARK, LIGHT, PAGE, Palette, figure_to_svg
from passline.report.tensorboard import Scalars
from passline.runs import replace_file

__all__ = ["difference_cells", "rate_cell", "render_comparison", "usd_cell", "write_comparison"]

_TONES = {VerdictWord.EDGE: "good", VerdictWord.NO_EDGE: "bad", VerdictWord.UNDECIDED: "warn"}
CURVES = (
    ("account/pass_rate", "Pass rate of training accounts"),
    ("rollout/ep_rew_mean", "Reward per episode"),
    ("train/entropy_loss", "Entropy loss"),
)


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Writes the page, in place of an earlier one."""
    replace_file(out, render_comparison(comparison).encode())
    return out


def render_comparison(comparison: Comparison) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("compare.html.j2").render(
        style=files("passline.report").joinpath("style.css").read_text(),
        variables={"light": vars(LIGHT), "dark": vars(DARK)},
        definitions=DEFINITIONS,
        comparison=comparison,
        rows=[_row(contender) for contender in comparison.contenders],
        pairs=[difference_cells(difference) for difference in comparison.differences],
        drawings=_drawings(comparison, PAGE),
    )


def rate_cell(estimate: Estimate | None) -> tuple[str, str]:
    """Returns a share and its interval in words."""
    if estimate is None:
        return "–", ""
    return f"{estimate.value:.1%}", f"{estimate.low:.1%} to {estimate.high:.1%}"


def usd_cell(estimate: Estimate | None) -> tuple[str, str]:
    """Returns an amount and its interval in words."""
    if estimate is None:
        return "–", ""
    return usd(estimate.value), f"{usd(estimate.low)} to {usd(estimate.high)}"


def difference_cells(difference: Difference) -> dict[str, str]:
    """Returns a pair's line: difference with both intervals, n and effective n."""
    gap, redrawn = difference.advantage, difference.advantage_redrawn
    return {
        "pair": f"{difference.first} − {difference.second}",
        "word": difference.word,
        "tone": "idle" if "cannot" in difference.word else "good",
        "points": points(gap.value),
        "interval": f"{points(gap.low)} to {points(gap.high)}",
        "redrawn": f"{points(redrawn.low)} to {points(redrawn.high)}",
        "result": usd(difference.result.value),
        "result_interval": f"{usd(difference.result.low)} to {usd(difference.result.high)}",
        "n": f"{gap.n:,}",
        "n_effective": f"{gap.n_effective:,.0f}",
    }


def _row(contender: Contender) -> dict[str, Any]:
    manifest = contender.data.manifest
    own = contender.verdict.agent.pass_rate
    rate, result = rate_cell(contender.pass_rate), usd_cell(contender.result_usd)
    data = manifest.get("data", {}).values()
    symbols = [str(e.get("contract", "")) for e in data if isinstance(e, Mapping)]
    shared = contender.pass_rate
    return {
        "letter": contender.letter,
        "run_id": contender.run_id,
        "name": str(manifest.get("name", "")),
        "rulebook": str(manifest.get("rulebook", {}).get("id", "")),
        "markets": ", ".join(dict.fromkeys(filter(None, symbols))),
        "word": contender.verdict.word.value,
        "tone": _TONES[contender.verdict.word],
        "is_forced": contender.is_forced,
        "own": rate_cell(own),
        "own_n": f"n = {own.n:,}, worth {own.n_effective:,.0f}",
        "rate": rate,
        "result": result,
        "n": "" if shared is None else f"{shared.n:,}",
        "n_effective": "" if shared is None else f"{shared.n_effective:,.0f}",
    }


def _drawings(comparison: Comparison, palette: Palette) -> dict[str, dict[str, str]]:
    figures: dict[str, tuple[str, Figure]] = {}
    rates = {c.letter: c.pass_rate for c in comparison.contenders if c.pass_rate is not None}
    if rates:
        figures["rates"] = ("Pass rates on the shared slices", pass_rate_rows(rates, palette))
    curves = _curves(comparison.contenders)
    if curves:
        figures["curves"] = ("Training curves", curve_grid(curves, palette))
    return {
        name: {"title": title, "svg": figure_to_svg(figure, name, title)}
        for name, (title, figure) in figures.items()
    }


def _curves(contenders: Sequence[Contender]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Returns by title of the panel each run's steps and values, where it has any."""
    panels: dict[str, dict[str, tuple[Any, Any]]] = {}
    for name, title in CURVES:
        lines = {}
        for contender in contenders:
            scalars = contender.data.scalars
            values = scalars.values.get(name)
            if values is not None and np.isfinite(values).any():
                lines[contender.letter] = _with_breaks(scalars, values)
        if lines:
            panels[title] = lines
    return panels


def _with_breaks(scalars: Scalars, values: NDArray[np.float64]) -> tuple[Any, Any]:
    """Returns steps and known values, with a gap where a phase ends: units differ beyond it."""
    known = np.isfinite(values)
    steps, phase, kept = scalars.step[known], scalars.phase[known], values[known]
    edges = np.flatnonzero(phase[1:] != phase[:-1]) + 1
    return np.insert(steps, edges, steps[edges]), np.insert(kept, edges, np.nan)
