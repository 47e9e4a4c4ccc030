"""Uniform draws inside compiled code: Threefry-2x32 with 20 rounds, written out.

It is the generator of `jax.random`, whose CPU version runs as a loop of small programs: a few
numbers cost it as much as a bar of the whole simulator. Written out, XLA fuses it with what uses
the numbers. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(2011).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["threefry_2x32", "uniforms"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def uniforms(key: Array, shape: tuple[int, ...], *, at: Array | int = 0) -> Array:
    """Draws numbers from [0, 1), float32 of a shape.

    Args:
        key: a Threefry key of `jax.random` that nothing else draws from or splits.
        shape: of the result.
        at: place in the key's stream, int32; every place gives other numbers.
    """
    first, second = jax.random.key_data(key)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    bits, _ = threefry_2x32(first, second, count, jnp.full_like(count, jnp.uint32(at)))
    ones = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return (ones - 1.0).reshape(shape)


def threefry_2x32(key_0: Array, key_1: Array, x_0: Array, x_1: Array) -> tuple[Array, Array]:
    """Encrypts pairs of words under a pair of words; all uint32, of shapes that broadcast."""
    keys = (key_0, key_1, key_0 ^ key_1 ^ jnp.uint32(PARITY))
    x_0, x_1 = x_0 + keys[0], x_1 + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x_0 = x_0 + x_1
            x_1 = ((x_1 << rotation) | (x_1 >> (32 - rotation))) ^ x_0
        x_0 = x_0 + keys[(group + 1) % 3]
        x_1 = x_1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x_0, x_1
