"""What a mask allows is what the simulator takes, for entries."""

import itertools
import random

import jax.numpy as jnp
import numpy as np
import pytest
from strategies import draw_rules

from passline.market.contracts import find_contract
from passline.rulebook import load_rulebook
from passline.sim.compile import Costs, compile_markets
from passline.sim.layout import BarFlag, OrderKind, Orders, Reject, Tape
from passline.sim.orders import can_enter, refusal
from passline.sim.step import start

CAN_ENTER = int(BarFlag.CAN_ENTER | BarFlag.TRADABLE)
LIMIT_UNITS = 40
"""Four contracts of ES, forty of MES."""
CASES = tuple(
    itertools.product(
        (0, 1, 2, 4, 5, 40, 41), (-1, 0, 2), (False, True), (0, int(BarFlag.TRADABLE), CAN_ENTER)
    )
)
"""Contracts asked for, contracts held, whether locked out, flags of the bar."""


@pytest.mark.parametrize(("symbol", "largest"), [("ES", 4), ("MES", 40)])
def test_an_entry_is_allowed_where_it_is_not_refused(symbol: str, largest: int) -> None:
    markets = compile_markets([find_contract(symbol)], load_rulebook("apex-intraday-50k"), Costs())
    prices = np.full(2, 20_000, np.int32)
    tape = Tape(*[prices] * 4, flags=prices * 0, day=prices * 0, next_day=prices * 0)
    rules = draw_rules(random.Random(0))._replace(max_stop_per_target=0)
    zeros = jnp.zeros(len(CASES), jnp.int32)
    qty, held, locked, flags = (jnp.asarray(column) for column in zip(*CASES, strict=True))
    state = start(tape, markets, rules, zeros, zeros)._replace(
        qty=held, is_locked_out=locked, size_units=zeros + LIMIT_UNITS
    )
    orders = Orders(kind=zeros + OrderKind.LONG, qty=qty, stop_ticks=zeros, target_ticks=zeros)
    closes, following = zeros + 20_000, zeros + CAN_ENTER
    refused = refusal(markets, rules, state, orders, closes, flags, following)
    allowed = np.asarray(can_enter(markets, state, flags, qty))
    expected = [
        1 <= n <= largest and position == 0 and not is_out and flag == CAN_ENTER
        for n, position, is_out, flag in CASES
    ]
    assert allowed.tolist() == expected
    assert (np.asarray(refused) == Reject.NONE).tolist() == expected
