"""Figures as SVG that takes its colors from the page, or as PNG.

Figures are drawn with stand-in colors, one a role. In the SVG each becomes a CSS variable, so that
one drawing serves light, dark and print.
"""

import io
import re
from dataclasses import fields

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from passline.report.palette import PAGE, Palette

__all__ = ["figure_to_png", "figure_to_svg"]

_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_META = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"\s*<style[^>]*>.*?</style>", re.DOTALL)
_FONT = re.compile(r"font-family: [^;\"]+|(?<=font: )((?:[a-z0-9]+ )*[\d.]+px) [^;\"]+")
_SIZE = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>')


def figure_to_svg(figure: Figure, name: str, label: str) -> str:
    """Returns an <svg> element for inlining, colored by the page's CSS variables.

    Args:
        figure: drawn with PAGE's colors.
        name: unique on the page; all ids in the element begin with it.
        label: what the figure shows, for readers that cannot see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = _STYLE.sub("", _META.sub("", _HEAD.sub("", buffer.getvalue())))
    text = _FONT.sub(_page_font, text)
    for role in fields(Palette):
        stand_in: str = getattr(PAGE, role.name)
        text = text.replace(stand_in, f"var(--{role.name})")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    label = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return _SIZE.sub(
        rf'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'viewBox="\1" role="img" aria-label="{label}">',
        text,
        count=1,
    ).strip()


def _page_font(found: re.Match[str]) -> str:
    """Puts the page's font in place of matplotlib's, in either way that it writes one."""
    return f"{found[1]} var(--font)" if found[1] else "font-family: var(--font)"


def figure_to_png(figure: Figure, dpi: int = 160) -> bytes:
    """Returns a figure drawn with LIGHT's or DARK's colors as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
