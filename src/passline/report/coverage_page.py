"""Draws the coverage of a tape: a PNG calendar of sessions and one self-contained HTML page."""

import base64
import io
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from passline.errors import BarsError, RunError
from passline.market.load import Coverage
from passline.runs import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_coverage"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Coverage of {{ c.contract }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } details { margin: .5rem 0; } .none { color: #57606a; }
</style>
</head>
<body>
<h1>Coverage of {{ c.contract }}: {{ c.first }} to {{ c.last }}</h1>
<table>
{% for name, value in summary %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
<p><img alt="Share of expected bars by trade date" src="data:image/png;base64,{{ image }}"></p>
{% for title, items in lists %}
<details{% if items and items|length <= 20 %} open{% endif %}>
<summary>{{ title }}: {{ items|length }}</summary>
{% if items %}<ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul>
{% else %}<p class="none">none</p>{% endif %}
</details>
{% endfor %}
<h2>Sessions</h2>
<details><summary>All {{ c.sessions|length }} sessions</summary>
<table><tr><th>trade date</th><th>expected</th><th>bars</th><th>missing</th>
<th>longest gap</th><th>note</th></tr>
{% for s in c.sessions %}<tr><td>{{ s.day }}</td><td>{{ s.n_expected }}</td><td>{{ s.n_bars }}</td>
<td>{{ s.n_missing }}</td><td>{{ s.longest_gap_bars }}</td><td>{{ s.note }}</td></tr>
{% endfor %}</table></details>
<script type="application/json" id="coverage">{{ data }}</script>
</body>
</html>
"""


def draw_coverage(coverage: Coverage, out_png: Path | None, out_html: Path | None) -> None:
    """Draws a coverage as a PNG and as a self-contained HTML page with the same picture.

    Args:
        coverage: what is drawn.
        out_png: the picture to write; None for none.
        out_html: the page to write; None for none.

    Raises:
        BarsError: one of the files exists already.
        RunError: one of them cannot be written; then neither is left.
    """
    for path in (out_png, out_html):
        if path is not None and path.exists():
            raise BarsError(f"{path.name}: the file exists already and is not overwritten")
    image = _png(coverage)
    written: list[Path] = []
    try:
        if out_png is not None:
            replace_file(out_png, image)
            written.append(out_png)
        if out_html is not None:
            replace_file(out_html, _page(coverage, image).encode())
    except RunError:
        for path in written:
            path.unlink()
        raise


def _png(coverage: Coverage) -> bytes:
    figure = _figure(coverage)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": "passline"})
    return buffer.getvalue()


def _weeks(coverage: Coverage) -> tuple[np.ndarray[Any, Any], list[date]]:
    """Returns the share of expected bars by week and weekday [W, 5], NaN without a session."""
    days = [date.fromisoformat(session.day) for session in coverage.sessions]
    first = days[0].toordinal() - days[0].weekday()
    n_weeks = (days[-1].toordinal() - first) // 7 + 1
    shares = np.full((n_weeks, 5), np.nan)
    for day, session in zip(days, coverage.sessions, strict=True):
        if day.weekday() < 5 and session.n_expected:
            week = (day.toordinal() - first) // 7
            shares[week, day.weekday()] = min(session.n_bars / session.n_expected, 1.0)
    return shares, [date.fromordinal(first + 7 * week) for week in range(n_weeks)]


def _figure(coverage: Coverage) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(1, 1.4))
    shares, weeks = _weeks(coverage)
    picture = upper.imshow(
        shares.T, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest"
    )
    upper.set_yticks(range(5), ["Mon", "Tue", "Wed", "Thu", "Fri"])
    step = max(len(weeks) // 10, 1)
    upper.set_xticks(range(0, len(weeks), step), [str(week) for week in weeks[::step]], fontsize=8)
    upper.set_title(
        f"{coverage.contract}: share of expected bars by trade date "
        f"({coverage.n_present} of {coverage.n_sessions} sessions have bars)",
        fontsize=10,
    )
    figure.colorbar(picture, ax=upper, label="bars held / expected")
    days = np.array([session.day for session in coverage.sessions], dtype="datetime64[D]")
    lower.plot(
        days, [session.longest_gap_bars for session in coverage.sessions], ".", markersize=3,
        color="#444444", label="longest gap",
    )  # fmt: skip
    early = [i for i, session in enumerate(coverage.sessions) if session.is_early]
    lower.plot(
        days[early], [coverage.sessions[i].longest_gap_bars for i in early], "o", markersize=5,
        fillstyle="none", color="#c2410c", label="half-day",
    )  # fmt: skip
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylabel("longest gap, bars")
    lower.set_xlabel("trade date")
    lower.legend(fontsize=8, frameon=False)
    return figure


def _page(coverage: Coverage, image: bytes) -> str:
    minutes = coverage.bar_ns / 60e9
    summary = [
        ("bars", f"{coverage.n_bars:,} of {minutes:g} min"),
        ("sessions with bars", f"{coverage.n_present:,} of {coverage.n_sessions:,}"),
        ("median share of expected bars", f"{coverage.median_share:.1%}"),
        ("bars missing in those sessions", f"{coverage.n_missing:,}"),
        ("bars outside sessions", f"{coverage.n_outside:,}"),
        (
            "bars with volume 0",
            f"{coverage.n_zero_volume:,}" if coverage.has_volume else "no volume",
        ),
        ("suspicious jumps", f"{coverage.n_jumps:,}"),
        ("suspicious wicks", f"{coverage.n_wicks:,}"),
    ]
    lists = [
        ("Trade dates without bars", coverage.absent_days),
        ("Thin trade dates", coverage.thin_days),
        ("Holidays", [f"{day} {name}" for day, name in coverage.holidays.items()]),
        ("Half-days", coverage.half_days),
        ("First trade dates after a clock change", coverage.dst_days),
        ("Bars outside sessions", coverage.outside),
        (
            "Runs of volume 0",
            [f"{run.first}: {run.n_bars} bars" for run in coverage.zero_volume_runs],
        ),
        (
            "Suspicious jumps",
            [
                f"{jump.at}: {jump.move:+g} ({jump.ranges:g} bar ranges"
                + (", roll)" if jump.is_roll else ", reopening)" if jump.is_reopen else ")")
                for jump in coverage.jumps
            ],
        ),
        (
            "Suspicious wicks",
            [
                f"{wick.at}: {wick.move:+g} ({wick.share:.1%} of the price, "
                f"{wick.ranges:g} bar ranges)"
                for wick in coverage.wicks
            ],
        ),
        ("Rolls", coverage.rolls),
        ("Days dropped at the import", coverage.dropped_days),
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    data = json.dumps(coverage.as_dict()).replace("<", "\\u003c")
    return environment.from_string(_PAGE).render(
        c=coverage,
        summary=summary,
        lists=lists,
        image=base64.b64encode(image).decode(),
        data=Markup(data),
    )
