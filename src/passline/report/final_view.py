"""What a report says of the sealed final window: before it is opened, and of every opening."""

from collections.abc import Mapping
from typing import Any

from passline.evaluate.verdict import verdict
from passline.kinds import is_trained_here, origin_of
from passline.openings import Opening
from passline.report import views
from passline.report.amounts import percent
from passline.report.data import ReportData

__all__ = ["final_line", "final_window"]


def final_line(data: ReportData) -> str:
    """Returns a line for the banner; "" for a run that holds no final window back."""
    span, n = _span(data), len(data.openings)
    if not span:
        return ""
    if not is_trained_here(data.manifest):
        return (
            f"Final window, {span}: not played. Whether the model's training saw it is not known."
        )
    if not n:
        return f"Final window, {span}: sealed, never opened by this run."
    others = data.openings[-1].n_by_others
    before = f" and {_times(others)} by other runs before" if others else ""
    warning = "" if n == 1 and not others else " Only the first opening was a test."
    return f"Final window, {span}: opened {_times(n)} by this run{before}.{warning}"


def final_window(data: ReportData) -> dict[str, Any] | None:
    """Returns the section on the final window; None for a run that holds none back.

    A model that was trained elsewhere has none either: no window is known to be sealed to it.

    The verdict is that of the last opening, computed from its stored episodes like every other.
    """
    span = _span(data)
    if not span or not is_trained_here(data.manifest):
        return None
    has_agent = data.evaluations is not None
    section: dict[str, Any] = {
        "span": span,
        "command": f"passline unseal {data.manifest.get('id', 'RUN')}" if has_agent else "",
        "openings": [_opening_row(opening) for opening in data.openings],
        "count": data.openings[-1].sentence() if data.openings else "",
        "ruling": None,
        "policies": [],
    }
    if data.openings and data.openings[-1].result is not None and data.final is not None:
        found = verdict(data.final, span_days=data.span_days, origin=origin_of(data.manifest))
        section["ruling"] = views.ruling_view(found)
        section["policies"] = [views.policy_row(score) for score in found.scores]
    return section


def _span(data: ReportData) -> str:
    """Returns first and last day of the window; "" if there is none."""
    days = data.manifest.get("slices", {}).get("final")
    if days:
        return " to ".join(str(day) for day in days)
    if data.openings:
        window = data.openings[-1].window
        return f"{window.first} to {window.last}"
    return ""


def _opening_row(opening: Opening) -> dict[str, str]:
    """Returns a line of the record of openings; empty figures where its judging was cut off."""
    told: Mapping[str, Any] = opening.result or {}
    has_rate = {"value", "low", "high"} <= told.keys()
    return {
        "number": str(opening.number),
        "time": opening.time.replace("T", " ").replace("Z", " UTC"),
        "before": f"{opening.n_before:,}",
        "checkpoint": opening.checkpoint,
        "rate": percent(told["value"]) if has_rate else "",
        "rate_interval": f"{percent(told['low'])} to {percent(told['high'])}" if has_rate else "",
        "n": f"{told['n']:,}" if "n" in told else "",
        "n_effective": f"{told['n_effective']:,.0f}" if "n_effective" in told else "",
        "word": str(told.get("verdict", "not finished, and counts all the same")),
    }


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"
