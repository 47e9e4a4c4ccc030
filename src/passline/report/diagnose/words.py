"""Numbers as the diagnosis writes them."""

import math

__all__ = ["number", "percent", "steps_text"]


def number(value: float) -> str:
    """Returns a number with about three significant digits and thousands commas."""
    if not math.isfinite(value):
        return "not a number"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 0.1:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.2g}"


def percent(share: float) -> str:
    """Returns a share as a percentage; one digit after the point below ten."""
    return f"{100 * share:.0f}%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}%"


def steps_text(step: int) -> str:
    """Returns training steps, in millions where that is exact enough to tell them apart."""
    return f"{step / 1e6:g}M" if step and step % 10_000 == 0 else f"{step:,}"
