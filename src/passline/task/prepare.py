"""From bars and a rulebook to the environment's constants: the one place where they are assembled.

The large arrays (tape, features) are moved to the device once and shared by all phases and
evaluations; a phase replaces only its small rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.errors import ConfigError
from passline.market.bars import Bars
from passline.rulebook.model import Rulebook
from passline.sim.compile import (
    CompiledTape,
    Costs,
    check_range,
    compile_markets,
    compile_rules,
    compile_tape,
    join_tapes,
)
from passline.sim.layout import NEVER, Markets, PathRule, Rules
from passline.task.account import ACCOUNT_FEATURES
from passline.task.actions import N_SIZES, Bracket
from passline.task.env import TaskParams
from passline.task.episodes import Mix, build_mix, resampled, start_pools
from passline.task.features import FEATURE_NAMES, blank_table, compute_features
from passline.task.phases import Phase, allowed_actions, phase_rules, reward_weights
from passline.task.reward import RewardWeights

__all__ = ["OBSERVATION_NAMES", "Prepared", "TaskConfig", "phase_params", "prepare", "to_device"]

OBSERVATION_NAMES = (*FEATURE_NAMES, *ACCOUNT_FEATURES)
"""Names of the observation's columns, market first."""

Segments = Sequence[tuple[int, int]]
MOST_DISTANCE = 1000.0
"""Of a stop in true ranges, and of a target in stops."""
MOST_SLIPPAGE = 1000
"""Ticks."""
MOST_COST = 1_000_000
"""Mills a contract and side: 1,000 USD."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Bracket, sizes and costs; the same in every phase and in evaluation."""

    stop_atr: float = 1.5
    """Distance of an entry's stop, in average true ranges."""
    target_r: float = 3.0
    """Distance of an entry's target, in stop distances."""
    risk_permille: tuple[int, ...] = (25, 50, 100)
    """Thousandths of the allowance that each entry size may lose at its stop, smallest first."""
    slippage_ticks: int | None = None
    """Slippage of market and stop fills, ticks; without it, the contract's default."""
    commission_mills: int | None = None
    """Commission per contract and side, mills; without it, the rulebook's or the contract's."""
    time_limit_days: int = 30
    """Calendar days an evaluation may last under a rulebook that sets no limit."""
    path: str = "worst"
    """Order of high and low inside a bar: worst, best, high_first or low_first."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        for name in ("stop_atr", "target_r"):
            value = getattr(self, name)
            if not 0 < value <= MOST_DISTANCE:
                raise ConfigError(
                    f"{name} was {value}; it must be above 0 and at most {MOST_DISTANCE:g}."
                )
        for name, most in (("slippage_ticks", MOST_SLIPPAGE), ("commission_mills", MOST_COST)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ConfigError(f"{name} was {value}; it must be 0 to {most}.")
        rising = list(self.risk_permille) == sorted(set(self.risk_permille))
        if len(self.risk_permille) != N_SIZES or not rising or self.risk_permille[0] < 1:
            raise ConfigError(
                f"risk_permille was {self.risk_permille}; it needs {N_SIZES} rising whole numbers "
                "from 1 to 1000."
            )
        if self.time_limit_days < 1:
            raise ConfigError(f"time_limit_days was {self.time_limit_days}; it must be at least 1.")
        known = [rule.name.lower() for rule in PathRule]
        if self.path not in known:
            raise ConfigError(f"path was '{self.path}'; allowed: {', '.join(known)}.")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Markets under a rulebook, on the device, ready for any phase.

    Attributes:
        bars: the markets, in order.
        rulebook: the firm's demands.
        config: bracket, sizes, costs.
        compiled: tape and clock of all markets (NumPy).
        first_bar: index on the joint tape of each market's first bar with known features.
        offsets: index on the joint tape of each market's first bar, and the total at the end.
        rolls: bars on the joint tape that begin another contract month.
        rules: the rulebook's numbers (NumPy).
        base: constants with an empty phase; device arrays.
    """

    bars: tuple[Bars, ...]
    rulebook: Rulebook
    config: TaskConfig
    compiled: CompiledTape
    first_bar: tuple[int, ...]
    offsets: tuple[int, ...]
    rolls: NDArray[np.int32]
    rules: Rules
    markets: Markets
    base: TaskParams = field(repr=False)

    @property
    def span_days(self) -> int:
        """Calendar days that an evaluation may last."""
        return int(self.rules.time_limit_days)


def prepare(bars: Sequence[Bars], rulebook: Rulebook, config: TaskConfig) -> Prepared:
    """Computes features, lays the rulebook's clock over the bars and moves both to the device.

    Raises:
        ConfigError: if there are no bars, bar lengths differ, or the book forbids a contract.
        SimulationError: if money could overflow or no bar lies in a session.
    """
    check_markets(bars, rulebook)
    tapes = [compile_tape(b, rulebook) for b in bars]
    compiled = tapes[0] if len(tapes) == 1 else join_tapes(tapes)
    contracts = [b.contract for b in bars]
    costs = Costs(commission_mills=config.commission_mills, slippage_ticks=config.slippage_ticks)
    markets = compile_markets(contracts, rulebook, costs)
    rules = limit_time(compile_rules(rulebook, path_rule=PathRule[config.path.upper()]), config)
    check_range(compiled, markets, rulebook)
    offsets = np.cumsum([0, *[len(b) for b in bars]])
    table = blank_table(int(offsets[-1]))
    features = [
        compute_features(b, table=table[at : at + len(b)])
        for b, at in zip(bars, offsets, strict=False)
    ]
    rolls = [
        np.flatnonzero(np.diff(b.expiry) != 0) + 1 + at
        for b, at in zip(bars, offsets, strict=False)
    ]
    bracket = Bracket(
        stop_atr=np.float32(config.stop_atr),
        target_r=np.float32(config.target_r),
        risk_permille=np.asarray(config.risk_permille, np.int32),
        unit_mills=np.asarray(rulebook.drawdown.allowance_mills, np.int32),
    )
    base = TaskParams(
        tape=compiled.tape,
        features=to_device(table),
        atr=np.concatenate([f.atr_ticks for f in features]),
        minutes_to_flat=compiled.minutes_to_flat,
        market=compiled.market,
        bar_minutes=np.float32(bars[0].bar_ns / 60e9),
        markets=markets,
        rules=rules,
        bracket=bracket,
        allowed=None,
        weights=RewardWeights(*[None] * len(RewardWeights._fields)),
        mix=Mix(*[None] * len(Mix._fields)),
    )
    return Prepared(
        bars=tuple(bars),
        rulebook=rulebook,
        config=config,
        compiled=compiled,
        first_bar=tuple(int(at) + f.n_warmup for at, f in zip(offsets, features, strict=False)),
        offsets=tuple(int(o) for o in offsets),
        rolls=np.concatenate(rolls).astype(np.int32),
        rules=rules,
        markets=markets,
        base=jax.device_put(base),
    )


def to_device(table: NDArray[np.float32]) -> Array:
    """Hands a table of features that `blank_table` made to the device; a CPU reads it in place.

    Ten years of minutes take half a gigabyte, and only once. Nobody may write to the table any
    more; numpy refuses to.
    """
    table.flags.writeable = False
    return jax.device_put(table)


def limit_time(rules: Rules, config: TaskConfig) -> Rules:
    """Gives a rulebook without a time limit the configured one."""
    if int(rules.time_limit_days) != NEVER:
        return rules
    return rules._replace(time_limit_days=np.asarray(config.time_limit_days, np.int32))


def check_markets(bars: Sequence[Bars], rulebook: Rulebook) -> None:
    """Refuses markets that cannot be played together under the book."""
    if not bars:
        raise ConfigError("no bars given; name at least one file with --bars.")
    lengths = sorted({b.bar_ns for b in bars})
    if len(lengths) > 1:
        text = ", ".join(f"{ns / 60e9:g} min" for ns in lengths)
        raise ConfigError(
            f"bars of different lengths ({text}) in one run; bring them to one length with: "
            "passline data resample"
        )
    for b in bars:
        if not rulebook.products.allows(b.contract.symbol):
            raise ConfigError(
                f"{rulebook.id} does not let {b.contract.symbol} be traded "
                f"(as of {rulebook.as_of})."
            )


def phase_params(
    prepared: Prepared,
    phase: Phase,
    segments: Segments,
    start_weights: NDArray[np.float64] | None = None,
) -> TaskParams:
    """Returns the environment's constants for a phase, with episodes inside `segments` only.

    Args:
        prepared: markets on the device.
        phase: row of the curriculum.
        segments: half-open bar ranges on the joint tape.
        start_weights: how likely each bar is as a start, relative to the others [B]; None: alike.
    """
    pools = start_pools(prepared.compiled, prepared.rolls, segments)
    if start_weights is not None:
        pools = [resampled(pool, start_weights) for pool in pools]
    mix = build_mix(
        phase.mix,
        pools,
        segments,
        len(prepared.compiled.ts),
        prepared.bars[0].bar_ns / 60e9,
    )
    small = {
        "rules": phase_rules(prepared.rules, phase),
        "allowed": allowed_actions(phase),
        "weights": reward_weights(phase),
        "mix": mix,
    }
    return prepared.base._replace(**jax.device_put(small))
