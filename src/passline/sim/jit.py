"""Compiling code that contains the simulator.

XLA's CPU backend fuses long elementwise graphs by computing shared values again in every consumer,
which makes the simulator about fifty times slower and its compilation ten times longer. Without
that pass every value is computed once.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

__all__ = ["cpu_compiler_options", "sim_jit"]

F = TypeVar("F", bound=Callable[..., Any])


def cpu_compiler_options() -> dict[str, str] | None:
    """Returns the compiler options for simulator code on this backend; None if it needs none."""
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "fusion"}


def sim_jit(function: F, **options: Any) -> F:
    """Returns jax.jit(function, **options) with the compiler options that simulator code needs."""
    return cast(F, jax.jit(function, compiler_options=cpu_compiler_options(), **options))
