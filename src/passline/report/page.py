"""The report of a run: one HTML file that needs nothing else, for a trader with a minute.

The page is built from ReportData alone. `views` writes its words and numbers, `drawings` its
figures; their definitions hang on them.
"""

from importlib.resources import files
from pathlib import Path

import jinja2

from passline.report import origin, views
from passline.report.data import ReportData
from passline.report.decisions import decisions
from passline.report.definitions import DEFINITIONS
from passline.report.drawings import report_figures
from passline.report.final_view import final_line, final_window
from passline.report.palette import DARK, LIGHT, PAGE
from passline.report.svg import figure_to_png, figure_to_svg
from passline.runs import Run, replace_file

__all__ = ["render_report", "write_figures", "write_report"]


def write_report(run: Run, context: ReportData, out: Path) -> Path:
    """Writes the report of a run as one HTML file, in place of an earlier one.

    Args:
        run: the run that the report is of.
        context: what its files hold (see `load_report_data`).
        out: file to write.
    """
    replace_file(out, render_report(run.id, context).encode())
    return out


def write_figures(context: ReportData, folder: Path, *, is_dark: bool = False) -> list[Path]:
    """Writes every figure of the report as PNG into a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    palette = DARK if is_dark else LIGHT
    written = []
    for drawing in report_figures(context, palette):
        drawing.figure.set_facecolor(palette.surface)
        path = folder / f"{drawing.name}.png"
        replace_file(path, figure_to_png(drawing.figure))
        written.append(path)
    return written


def render_report(run_id: str, data: ReportData) -> str:
    """Returns the report as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    ruling = views.ruling_of(data)
    drawings = {
        drawing.name: {
            "title": drawing.title,
            "key": drawing.key,
            "caption": drawing.caption,
            "is_wide": drawing.is_wide,
            "svg": figure_to_svg(drawing.figure, drawing.name, drawing.title),
        }
        for drawing in report_figures(data, PAGE)
    }
    template = environment.get_template("template.html.j2")
    return template.render(
        run_id=run_id,
        style=files("passline.report").joinpath("style.css").read_text(),
        variables={"light": vars(LIGHT), "dark": vars(DARK)},
        definitions=DEFINITIONS,
        manifest=data.manifest,
        status=origin.status_words(data.status, data.manifest),
        headline=views.headline(data),
        ruling=views.banner(data),
        automation=views.automation(data.manifest),
        tiles=views.tiles(ruling, data),
        endings=views.endings(data),
        deaths=views.deaths(data),
        conduct=views.conduct(data),
        breakdown=views.breakdown(data),
        null_test=views.null_test(data),
        final_line=final_line(data),
        final_window=final_window(data),
        policies=views.policy_rows(data),
        drawings=drawings,
        shifts=views.shifts(data),
        facts=[*origin.facts(data.manifest), *decisions(data.scalars)],
        settings=origin.flatten(data.manifest.get("config", {})),
    )
