"""The policy: two separate tanh networks, one for the action logits and one for the value.

Weights are stored [out, in] and hidden activations run feature-major, [H, L]: on a CPU the
weight gradients of that layout need no transposed copy, which makes one gradient step about a
quarter faster than the usual [L, H]. The public functions take and return lanes first.
Nothing here draws rewards or steps an environment.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from passline.learn.mlp import Precision, outputs_t

__all__ = [
    "MASKED_LOGIT",
    "Params",
    "act",
    "act_greedy",
    "actor_logits_t",
    "critic_values",
    "evaluate_actions",
    "init_params",
    "masked_log_softmax_t",
    "n_actions",
    "open_actions",
    "pack_mask",
    "policy_logits",
    "sample_t",
    "take_action_t",
    "unpack_mask_t",
    "without_inputs",
]

Params: TypeAlias = dict[str, dict[str, jax.Array]]
"""{"actor": {"w0": [H, F], "b0": [H], ...}, "critic": {...}}; the last critic weight is [H]."""

MASKED_LOGIT = -1e9
"""Logit of an illegal action: finite, so that no gradient is NaN, and exp of it is exactly 0."""


def init_params(
    key: jax.Array, n_features: int, n_actions: int, hidden: tuple[int, ...] = (128, 128)
) -> Params:
    """Draws orthogonal weights and zero biases for the actor and the critic.

    Gains are sqrt(2) in hidden layers, 0.01 at the logits and 1 at the value (Andrychowicz et
    al. 2021, "What matters in on-policy reinforcement learning": a near-uniform first policy).

    Args:
        key: PRNG key.
        n_features: F, inputs of both networks.
        n_actions: A, logits of the actor.
        hidden: widths of the hidden layers of each network.

    Returns:
        The parameters, float32.
    """
    params: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    widths_of = ((n_features, *hidden, n_actions), (n_features, *hidden, 1))
    drawn_of = _normal_matrices(key, widths_of)
    for name, widths, gain, matrices in zip(
        ("actor", "critic"), widths_of, (0.01, 1.0), drawn_of, strict=True
    ):
        net = {}
        for i, drawn in enumerate(matrices):
            columns = _orthonormal(np.asarray(drawn))
            weights = columns if widths[i + 1] >= widths[i] else columns.T
            scale = gain if i == len(hidden) else math.sqrt(2.0)
            net[f"w{i}"] = np.float32(scale) * weights
            net[f"b{i}"] = np.zeros(widths[i + 1], np.float32)
        params[name] = net
    last = len(hidden)
    for single in (f"w{last}", f"b{last}"):
        params["critic"][single] = params["critic"][single][0]
    placed: Params = jax.device_put(params, may_alias=False)
    return placed


@functools.partial(jax.jit, static_argnums=1)
def _normal_matrices(
    key: jax.Array, widths_of: tuple[tuple[int, ...], ...]
) -> list[list[jax.Array]]:
    """Draws a standard normal matrix a layer of each network, [out, in] or its transpose.

    Whichever is taller. Each is the beginning of as many draws as the largest takes, which are
    those of its own shape: one program for all, for each takes long to compile.
    """
    shapes = [
        [(max(pair), min(pair)) for pair in itertools.pairwise(widths)] for widths in widths_of
    ]
    nets = jax.random.split(key, len(widths_of))
    keys = [jax.random.split(k, len(of_net)) for k, of_net in zip(nets, shapes, strict=True)]
    most = max(math.prod(shape) for of_net in shapes for shape in of_net)
    drawn = iter(jax.vmap(lambda k: jax.random.normal(k, (most,)))(jnp.concatenate(keys)))
    return [
        [next(drawn)[: math.prod(shape)].reshape(shape) for shape in of_net] for of_net in shapes
    ]


def _orthonormal(drawn: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Turns a tall normal matrix into uniformly drawn orthonormal columns (Mezzadri 2007).

    NumPy's decomposition, because compiling XLA's for each shape takes seconds.
    """
    q, r = np.linalg.qr(drawn)
    return q * np.sign(np.diagonal(r))


def without_inputs(params: Params, inputs: Sequence[int]) -> Params:
    """Sets the actor's weights of some inputs to 0: its logits do not depend on them.

    Args:
        params: parameters, or gradients of their shape.
        inputs: columns of the observation.
    """
    actor = params["actor"]
    first = actor["w0"].at[:, jnp.asarray(inputs, jnp.int32)].set(0.0)
    return {**params, "actor": {**actor, "w0": first}}


def open_actions(params: Params, stand_ins: Mapping[int, int], below: float) -> Params:
    """Gives actions that become legal the logit of another one, less `below`, in every state.

    Until it learns otherwise, the greedy policy then acts as before, and a sampled one seldom
    tries what is new.

    Args:
        params: network parameters.
        stand_ins: of each action to open, the action whose logit it takes.
        below: distance of the two logits, nats.
    """
    actor = dict(params["actor"])
    last = len(actor) // 2 - 1
    weights, biases = actor[f"w{last}"], actor[f"b{last}"]
    for action, other in stand_ins.items():
        weights = weights.at[action].set(weights[other])
        biases = biases.at[action].set(biases[other] - below)
    return {**params, "actor": actor | {f"w{last}": weights, f"b{last}": biases}}


def n_actions(params: Params) -> int:
    """Returns the number of actions A that the policy chooses from."""
    actor = params["actor"]
    return int(actor[f"b{len(actor) // 2 - 1}"].shape[0])


def policy_logits(params: Params, obs: jax.Array) -> jax.Array:
    """Computes unmasked action logits [L, A] from observations [L, F]."""
    return actor_logits_t(params, obs).T


def act(
    params: Params, obs: jax.Array, action_mask: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Samples one legal action a lane.

    Args:
        params: network parameters.
        obs: observations, float32 [L, F].
        action_mask: legal actions, bool [L, A]; every lane has at least one.
        key: PRNG key.

    Returns:
        (action int32 [L], its log-probability float32 [L]).
    """
    log_probs = masked_log_softmax_t(actor_logits_t(params, obs), action_mask.T)
    return sample_t(log_probs, jax.random.uniform(key, (obs.shape[0],)))


def act_greedy(params: Params, obs: jax.Array, action_mask: jax.Array) -> jax.Array:
    """Picks each lane's likeliest legal action, int32 [L]; ties go to the lower index."""
    logits = jnp.where(action_mask.T, actor_logits_t(params, obs), MASKED_LOGIT)
    return jnp.argmax(logits, axis=0).astype(jnp.int32)


def evaluate_actions(
    params: Params, obs: jax.Array, action_mask: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores given actions.

    Args:
        params: network parameters.
        obs: observations, float32 [L, F].
        action_mask: legal actions, bool [L, A].
        action: actions taken, int32 [L].

    Returns:
        (log-probability [L], entropy over legal actions in nats [L], value [L]).
    """
    log_probs = masked_log_softmax_t(actor_logits_t(params, obs), action_mask.T)
    entropy = -jnp.sum(jnp.where(action_mask.T, jnp.exp(log_probs) * log_probs, 0.0), axis=0)
    return take_action_t(log_probs, action), entropy, critic_values(params, obs)


def actor_logits_t(params: Params, obs: jax.Array, precision: Precision = "float32") -> jax.Array:
    """Computes unmasked logits, actions first [A, L], from observations [L, F] (see mlp)."""
    return outputs_t(params["actor"], obs, precision)


def critic_values(params: Params, obs: jax.Array, precision: Precision = "float32") -> jax.Array:
    """Computes the critic's output [L] from observations [L, F] (see mlp)."""
    return outputs_t(params["critic"], obs, precision)


def masked_log_softmax_t(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Normalizes logits over the legal actions; both arguments and the result are [A, L].

    Illegal actions come out near MASKED_LOGIT: probability exactly 0, gradient exactly 0.
    """
    return jax.nn.log_softmax(jnp.where(mask, logits, MASKED_LOGIT), axis=0)


def take_action_t(log_probs: jax.Array, action: jax.Array) -> jax.Array:
    """Picks log_probs[action[l], l] for every lane; [A, L] and [L] give [L]."""
    rows = jnp.arange(log_probs.shape[0], dtype=jnp.int32)[:, None]
    return jnp.sum(jnp.where(rows == action[None, :], log_probs, 0.0), axis=0)


def sample_t(log_probs: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws actions by inverting the cumulative distribution.

    The action is the number of cumulative sums at or below uniform times their total. An
    illegal action adds exactly 0 to the sum, so that it can never be the first above the
    draw; and float32 draws stay at or below 1 - 2**-23, whose product with the total rounds
    to less than the total, so that the last legal action is the furthest possible.

    Args:
        log_probs: masked log-probabilities [A, L].
        uniform: draws in [0, 1), float32 [L].

    Returns:
        (action int32 [L], its log-probability float32 [L]).
    """
    probs = jnp.exp(log_probs)
    sums = [probs[0]]
    for row in range(1, probs.shape[0]):
        sums.append(sums[-1] + probs[row])
    draw = uniform * sums[-1]
    action = jnp.zeros(uniform.shape, jnp.int32)
    for total in sums:
        action = action + (total <= draw).astype(jnp.int32)
    return action, take_action_t(log_probs, action)


def pack_mask(action_mask: jax.Array) -> jax.Array:
    """Packs legal actions, bool [..., A] with A at most 32, into bits, uint32 [...]."""
    places = jnp.arange(action_mask.shape[-1], dtype=jnp.uint32)
    bits: jax.Array = jnp.left_shift(action_mask.astype(jnp.uint32), places)
    return jnp.sum(bits, axis=-1, dtype=jnp.uint32)


def unpack_mask_t(bits: jax.Array, n_actions: int) -> jax.Array:
    """Unpacks the bits of pack_mask, uint32 [L], into a mask with actions first, bool [A, L]."""
    rows = jnp.arange(n_actions, dtype=jnp.uint32)[:, None]
    is_legal: jax.Array = (jnp.right_shift(bits[None, :], rows) & jnp.uint32(1)) == jnp.uint32(1)
    return is_legal
