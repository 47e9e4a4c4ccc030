"""The market upside down: every rise a fall, every long a short.

Features, fills and costs know no direction, so that what an account sees and earns on a mirrored
tape follows from what it sees and earns on the tape itself: the features of a direction change
their sign, those of a high and a low change places, and each entry becomes the other side's.
"""

from dataclasses import dataclass

from passline.sim.layout import OrderKind
from passline.task.actions import KINDS, SIZES
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["MIRROR", "Mirror"]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """How observations and actions are turned upside down; done twice, it changes nothing.

    Attributes:
        column: of each input, where it stands on the tape itself; F.
        sign: of each input, 1 or -1; F.
        action: of each action, the one that does on the mirrored tape what it does here; A.
    """

    column: tuple[int, ...]
    sign: tuple[float, ...]
    action: tuple[int, ...]


DIRECTED = frozenset(
    name for name in OBSERVATION_NAMES if name.startswith(("return_", "trend_", "from_"))
) | {
    "efficiency_60",
    "range_position",
    "opening_move",
    "vwap_distance",
    "vwap_z",
    "bar_body",
    "bar_wicks",
    "up_balance_30",
    "side",
}
"""Inputs that change their sign."""


def _column(name: str) -> int:
    """Returns where an input stands on the mirrored tape: a high's where the low's stood."""
    stem, _, end = name.rpartition("_")
    other = {"high": "low", "low": "high"}.get(end)
    return OBSERVATION_NAMES.index(f"{stem}_{other}" if other else name)


OTHER_SIDE = {OrderKind.LONG: OrderKind.SHORT, OrderKind.SHORT: OrderKind.LONG}


def _action(kind: OrderKind, size: int) -> int:
    """Returns the row of the other side's action of the same size."""
    return list(zip(KINDS, SIZES, strict=True)).index((OTHER_SIDE.get(kind, kind), size))


MIRROR = Mirror(
    column=tuple(_column(name) for name in OBSERVATION_NAMES),
    sign=tuple(-1.0 if name in DIRECTED else 1.0 for name in OBSERVATION_NAMES),
    action=tuple(_action(kind, size) for kind, size in zip(KINDS, SIZES, strict=True)),
)
"""Of passline's own observations and actions."""
