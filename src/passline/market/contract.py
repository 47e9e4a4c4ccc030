"""What a futures contract is: tick, money per tick, default costs. Facts come from contracts.toml."""

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Contract"]

MINI = 10
"""Size units of one mini; a micro is 1 unit, so size limits stay whole numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """One futures product, in whole ticks and mills (1/1000 USD).

    Attributes:
        symbol: root symbol, such as ES.
        name: the product's name in words.
        exchange: CME, CBOT, NYMEX or COMEX.
        tick_size: smallest price step, in price units, exact.
        tick_mills: value of one tick of one contract, mills.
        size_units: tenths of a mini that one contract counts against a size limit (mini 10, micro 1).
        calendar: name of the session calendar in calendar.toml.
        commission_mills: default commission per contract and side, mills.
        slippage_ticks: default slippage of a market or stop fill, ticks.
    """

    symbol: str
    name: str
    exchange: str
    tick_size: Decimal
    tick_mills: int
    size_units: int
    calendar: str
    commission_mills: int
    slippage_ticks: int
