"""What a futures contract is: tick, money per tick, default costs; facts in contracts.toml."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

__all__ = ["MINI", "Contract"]

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
        size_units: tenths of a mini that one contract counts against a size limit; mini 10,
            micro 1.
        calendar: name of the session calendar in calendar.toml.
        commission_mills: default commission per contract and side, mills.
        slippage_ticks: default slippage of a market or stop fill, ticks.
        first_traded: first trade date, None for long before any data.
        as_of: date of the facts, ISO; "" unknown.
        sources: where the facts come from.
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
    first_traded: date | None = None
    as_of: str = ""
    sources: tuple[str, ...] = ()

    @property
    def point_mills(self) -> Decimal:
        """Value of a price change of 1.0 of one contract, mills, exact."""
        return self.tick_mills / self.tick_size

    @property
    def is_micro(self) -> bool:
        """Whether the contract counts less than a mini against a size limit."""
        return self.size_units < MINI
