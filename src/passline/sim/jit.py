"""Compiling code that contains the simulator.

XLA's CPU backend fuses long elementwise graphs by computing shared values again in every consumer,
which makes the simulator about fifty times slower and its compilation several times longer. With
multi-output fusion it computes every value once and is fastest; that is a setting of the process
(SIM_FLAG in XLA_FLAGS, read when the first array is made). Without it the pass is left out, which
is what passline does: with it jaxlib 0.10.2 aborts on some programs, among them the player of
episodes in evaluate.rollout ("symbolic_map.cc: Check failed: GetNumDims()").
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

__all__ = ["SIM_FLAG", "cpu_compiler_options", "sim_jit"]

F = TypeVar("F", bound=Callable[..., Any])

SIM_FLAG = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"
"""In XLA_FLAGS: about 2.5 times the simulator's steps a second, integers the same to the bit."""


def cpu_compiler_options() -> dict[str, str] | None:
    """Returns the compiler options for simulator code on this backend; None if it needs none."""
    if jax.default_backend() != "cpu" or SIM_FLAG in os.environ.get("XLA_FLAGS", "").split():
        return None
    return {"xla_disable_hlo_passes": "fusion"}


def sim_jit(function: F, **options: Any) -> F:
    """Returns jax.jit(function, **options) with the compiler options that simulator code needs."""
    return cast(F, jax.jit(function, compiler_options=cpu_compiler_options(), **options))
