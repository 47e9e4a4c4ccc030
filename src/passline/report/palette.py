"""Colors of pages and figures, one a role, in light, in dark and as stand-ins."""

from dataclasses import dataclass, fields

__all__ = ["DARK", "LIGHT", "PAGE", "Palette"]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """A color for each role, as #rrggbb."""

    ink: str
    muted: str
    grid: str
    surface: str
    agent: str
    rival: str
    other: str
    good: str
    bad: str
    warn: str
    amber: str
    idle: str
    faint: str


LIGHT = Palette(
    ink="#1c2430",
    muted="#5c6675",
    grid="#e3e7ed",
    surface="#ffffff",
    agent="#1f5fbf",
    rival="#8a94a3",
    other="#b9752b",
    good="#2a8a5c",
    bad="#b93a3a",
    warn="#d2762c",
    amber="#d9a932",
    idle="#9aa4b2",
    faint="#c9d0d9",
)

DARK = Palette(
    ink="#e6eaf0",
    muted="#98a3b3",
    grid="#2a323d",
    surface="#161b22",
    agent="#6ea8fe",
    rival="#8b96a6",
    other="#e0a35c",
    good="#4fb98a",
    bad="#e5706f",
    warn="#e8955a",
    amber="#e3bd5a",
    idle="#6f7a89",
    faint="#4a5462",
)

PAGE = Palette(**{f.name: f"#0102{index + 1:02x}" for index, f in enumerate(fields(Palette))})
"""Stand-ins that figure_to_svg turns into CSS variables."""
