"""Policies that evaluation can play: the agent's, and the baselines it must beat.

A policy is a row of data beside the agent's network, so that one compiled function plays them all
through the very step that training uses.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from passline.sim.draws import uniforms
from passline.sim.layout import AnyArray, OrderKind
from passline.task.actions import N_ACTIONS, N_SIZES, action_index, is_legal

__all__ = ["Policy", "PolicyKind", "choose", "scripted"]

LONG, SHORT = action_index(OrderKind.LONG), action_index(OrderKind.SHORT)
CLOSE = action_index(OrderKind.CLOSE)

Greedy = Callable[[Any, Array, Array], Array]
"""(network parameters, observation [L, F], action_mask [L, A]) -> action int32 [L]."""


class PolicyKind(IntEnum):
    """Who acts."""

    AGENT = 0
    """The network's likeliest legal action."""
    FLAT = 1
    """Never trades."""
    RANDOM_LEGAL = 2
    """Any legal action, all alike."""
    RANDOM_ENTRY = 3
    """Random side, entered as often and as large as the agent, bracket never touched."""
    ALWAYS_LONG = 4
    """Long in the smallest size whenever an entry is legal."""
    SIGNAL = 5
    """The sides to enter and to leave given for the bar; the oracle and the strategies."""


class Policy(NamedTuple):
    """One policy as data.

    Attributes:
        kind: PolicyKind.
        network: the agent's parameters; unread by the others.
        entry_rate: RANDOM_ENTRY: probability of entering where an entry is legal, float32.
        size_shares: RANDOM_ENTRY and SIGNAL: cumulative shares of the entry sizes, float32 [S].
        signal: SIGNAL: side to enter after each bar, int8 [B] or [1].
        exits: SIGNAL: sides to leave after each bar, 1 long, 2 short, 3 either, int8 [B] or [1].
    """

    kind: AnyArray
    network: Any
    entry_rate: AnyArray
    size_shares: AnyArray
    signal: AnyArray
    exits: AnyArray


def scripted(
    kind: PolicyKind,
    network: Any,
    *,
    entry_rate: float = 0.0,
    size_shares: AnyArray | None = None,
    signal: AnyArray | None = None,
    exits: AnyArray | None = None,
) -> Policy:
    """Makes a policy row; `network` only gives the shapes where the kind does not read it."""
    shares = np.ones(N_SIZES) if size_shares is None else np.asarray(size_shares)
    return Policy(
        kind=jnp.int32(kind),
        network=network,
        entry_rate=jnp.float32(entry_rate),
        size_shares=jnp.asarray(shares, jnp.float32),
        signal=jnp.zeros(1, jnp.int8) if signal is None else jnp.asarray(signal, jnp.int8),
        exits=jnp.zeros(1, jnp.int8) if exits is None else jnp.asarray(exits, jnp.int8),
    )


def choose(
    policy: Policy,
    greedy: Greedy,
    bar: Array,
    qty: Array,
    obs: Array,
    mask: Array,
    key: Array,
    at: Array | int = 0,
) -> Array:
    """Chooses one legal action a lane.

    Args:
        policy: who acts.
        greedy: the agent's rule.
        bar: bar at whose close each lane decides [L].
        qty: signed contracts that each account holds [L].
        obs: observations [L, F].
        mask: legal actions [L, A].
        key: PRNG key of all steps.
        at: place of this step in the key's stream, int32.

    Returns:
        Action, int32 [L]; what is not legal falls back to the first legal action: HOLD, or CLOSE
        where a position must be closed for flat-by.
    """
    n_lanes = mask.shape[0]

    def legal(action: Array) -> Array:
        first_legal = jnp.argmax(mask, axis=1)
        return jnp.where(is_legal(mask, action), action, first_legal).astype(jnp.int32)

    def sized(side: Array, u: Array) -> Array:
        size = jnp.sum(u >= policy.size_shares[:-1, None], axis=0, dtype=jnp.int32)
        largest = jnp.sum(mask[:, LONG : LONG + N_SIZES], axis=1, dtype=jnp.int32) - 1
        size = jnp.clip(size, 0, jnp.maximum(largest, 0))
        action = jnp.where(side > 0, LONG, SHORT) + size
        return legal(jnp.where(side == 0, 0, action))

    def flat() -> Array:
        return legal(jnp.zeros(n_lanes, jnp.int32))

    def random_legal() -> Array:
        u = uniforms(key, (n_lanes, N_ACTIONS), at=at)
        return jnp.argmax(jnp.where(mask, u, -1.0), axis=1).astype(jnp.int32)

    def random_entry() -> Array:
        u = uniforms(key, (3, n_lanes), at=at)
        side = jnp.where(u[0] < policy.entry_rate, jnp.where(u[1] < 0.5, 1, -1), 0)
        return sized(side, u[2])

    def always_long() -> Array:
        return legal(jnp.full(n_lanes, LONG, jnp.int32))

    def by_signal() -> Array:
        index = jnp.minimum(bar, policy.signal.shape[0] - 1)
        entry = sized(policy.signal[index].astype(jnp.int32), uniforms(key, (n_lanes,), at=at))
        sides = policy.exits[jnp.minimum(bar, policy.exits.shape[0] - 1)].astype(jnp.int32)
        is_left = (sides & jnp.where(qty > 0, 1, 2)) != 0
        return jnp.where(is_left & mask[:, CLOSE], CLOSE, entry).astype(jnp.int32)

    branches = (
        lambda: greedy(policy.network, obs, mask),
        flat,
        random_legal,
        random_entry,
        always_long,
        by_signal,
    )
    action: Array = jax.lax.switch(policy.kind, branches)
    return action
