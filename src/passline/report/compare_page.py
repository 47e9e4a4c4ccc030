"""The page of several runs or walk-forwards side by side: one HTML file that needs nothing else."""

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
from passline.report.comparison import Comparison, Contender, Difference
from passline.report.definitions import DEFINITIONS
from passline.report.figures import curve_grid, pass_rate_rows
from passline.report.palette import DARK, LIGHT, PAGE, Palette
from passline.report.svg import figure_to_svg
from passline.report.tensorboard import Scalars
from passline.report.walk_figures import window_figure
from passline.runs import replace_file

__all__ = [
    "difference_cells",
    "points_cell",
    "rate_cell",
    "render_comparison",
    "usd_cell",
    "window_rows",
    "write_comparison",
]

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
        versus_first=_versus_first(comparison),
        windows=window_rows(comparison),
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


def points_cell(estimate: Estimate | None) -> tuple[str, str]:
    """Returns a difference of shares and its interval in words."""
    if estimate is None:
        return "–", ""
    return points(estimate.value), f"{points(estimate.low)} to {points(estimate.high)}"


def difference_cells(difference: Difference) -> dict[str, str]:
    """Returns a pair's line: difference with its intervals, n and effective n."""
    gap, redrawn = difference.advantage, difference.advantage_redrawn
    known = [w.value for w in difference.windows if w is not None]
    ahead, behind = sum(v > 0 for v in known), sum(v < 0 for v in known)
    return {
        "pair": _pair_name(difference),
        "word": difference.word,
        "tone": "idle" if "cannot" in difference.word else "good",
        "points": points(gap.value),
        "interval": f"{points(gap.low)} to {points(gap.high)}",
        "redrawn": f"{points(redrawn.low)} to {points(redrawn.high)}",
        "by_window": points_cell(difference.advantage_by_window)[1],
        "ahead": f"{ahead} above, {behind} below" if known else "",
        "result": usd(difference.result.value),
        "result_interval": f"{usd(difference.result.low)} to {usd(difference.result.high)}",
        "n": f"{gap.n:,}",
        "n_effective": f"{gap.n_effective:,.0f}",
    }


def window_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a line for each shared test window: rates, and differences to the first."""
    versus = _versus_first(comparison)
    return [
        {
            "name": window.name,
            "dates": (window.first, window.last),
            "rates": [rate_cell(rate) for rate in window.rates],
            "seeds": [
                "seeds " + ", ".join(f"{rate:.0%}" for rate in own.values()) for own in window.seeds
            ],
            "gaps": [points_cell(difference.windows[at]) for difference in versus],
        }
        for at, window in enumerate(comparison.windows)
    ]


def _versus_first(comparison: Comparison) -> list[Difference]:
    """Returns the pairs that the first is one of."""
    return [d for d in comparison.differences if d.first == comparison.contenders[0].letter]


def _pair_name(difference: Difference) -> str:
    return f"{difference.first} − {difference.second}"


def _row(contender: Contender) -> dict[str, Any]:
    manifest = contender.manifest
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
        "coverage": contender.coverage,
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
        where = "test windows" if comparison.windows else "slices"
        figures["rates"] = (f"Pass rates on the shared {where}", pass_rate_rows(rates, palette))
    if comparison.windows:
        letters = [c.letter for c in comparison.contenders]
        drawn = window_figure(comparison.windows, letters, palette)
        figures["windows"] = ("Pass rate by test window", drawn)
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
            scalars = contender.scalars
            if scalars is None:
                continue
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
