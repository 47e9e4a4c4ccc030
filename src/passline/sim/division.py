"""Exact division of whole numbers that the processor can do many at once.

Processors divide floats in vectors, and integers one after the other, which took half of the
simulator's time. The quotient is found in floats here and corrected in integers.
"""

import jax.numpy as jnp
from jax import Array

__all__ = ["floor_divide"]


def floor_divide(number: Array, divisor: Array) -> Array:
    """Returns floor(number / divisor), exact for every int32 and every divisor of at least 1.

    A float32 quotient is off by at most 2**-22 of itself, so that what remains is a few hundred
    divisors at most. Of more than one divisor only where they are small enough for floats to hold
    what remains exactly; and what is at least one divisor is so in floats too. So the second
    quotient may be one too large, where a little is missing to a whole one, and never too small.
    """
    scale = divisor.astype(jnp.float32)

    def estimate(rest: Array) -> Array:
        return jnp.floor(rest.astype(jnp.float32) / scale).astype(jnp.int32)

    quotient = estimate(number)
    rest = number - quotient * divisor
    step = estimate(rest)
    rest = rest - step * divisor
    return quotient + step - (rest < 0).astype(jnp.int32)
