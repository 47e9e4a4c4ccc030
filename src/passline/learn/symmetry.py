"""Policies that do upside down what they do upright, and a learner that keeps them so.

A market says little about a weak edge, and half of what can be learned by heart from it is which
way it went: long in that week, short at that hour. A symmetric policy cannot. Turned upside down
(see task.mirror), whatever it saw, it does the same with long and short exchanged, and its value
does not change. Hidden units come in pairs, each the other's mirror, so that the network is as wide
and as fast as any and has half as many weights to choose freely. As gradients are taken of the
symmetric part alone, training shows it every bar both ways at the price of one.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from passline.learn.network import Params
from passline.learn.settings import require
from passline.task.mirror import Mirror

__all__ = ["is_symmetric", "mirrored", "symmetric_part", "tied"]


def mirrored(params: Params, mirror: Mirror) -> Params:
    """Returns the policy that does on a mirrored tape what `params` does on the tape itself.

    Args:
        params: parameters, or gradients of their shape; hidden widths even.
        mirror: how observations and actions are turned upside down.
    """
    action, column = np.asarray(mirror.action), np.asarray(mirror.column)
    sign = np.asarray(mirror.sign, np.float32)
    found: Params = {}
    for name, net in params.items():
        last = len(net) // 2 - 1
        turned: dict[str, jax.Array] = {}
        for i in range(last + 1):
            w, b = net[f"w{i}"], net[f"b{i}"]
            w = w[:, column] * sign if i == 0 else _halves(w)
            if i < last:
                w, b = _halves(w, axis=0), _halves(b)
            elif name == "actor":
                w, b = w[action], b[action]
            turned |= {f"w{i}": w, f"b{i}": b}
        found[name] = turned
    return found


def is_symmetric(params: Params, mirror: Mirror) -> bool:
    """Returns whether a policy is its own mirror, to the bit."""
    if any(len(b) % 2 for b in _hidden_biases(params)):
        return False
    same = jax.tree.map(lambda p, m: bool(jnp.all(p == m)), params, mirrored(params, mirror))
    return all(jax.tree.leaves(same))


def symmetric_part(grads: Params, mirror: Mirror) -> Params:
    """Returns the part of a gradient that keeps a symmetric policy symmetric.

    At a symmetric policy it is the gradient over what was seen and the same upside down.
    """
    return jax.tree.map(lambda g, m: 0.5 * (g + m), grads, mirrored(grads, mirror))


def tied(params: Params, mirror: Mirror) -> Params:
    """Returns a symmetric policy made of freshly drawn weights, as far spread as they are.

    Raises:
        ConfigError: an odd number of hidden units, which do not come in pairs.
    """
    widths = tuple(len(b) for b in _hidden_biases(params))
    require(
        not any(width % 2 for width in widths),
        "hidden",
        widths,
        "even widths, or --symmetric never",
    )
    found: Params = _tied(params, mirror)
    return found


@functools.partial(jax.jit, static_argnames="mirror")
def _tied(params: Params, mirror: Mirror) -> Params:
    scale = np.float32(math.sqrt(0.5))
    return jax.tree.map(lambda p, m: scale * (p + m), params, mirrored(params, mirror))


def _hidden_biases(params: Params) -> list[jax.Array]:
    """Returns the biases of the actor's hidden layers, in order."""
    actor = params["actor"]
    return [actor[f"b{i}"] for i in range(len(actor) // 2 - 1)]


def _halves(x: jax.Array, axis: int = -1) -> jax.Array:
    """Exchanges the two halves: each hidden unit with the one that is its mirror."""
    return jnp.roll(x, x.shape[axis] // 2, axis)
