"""Compiling code that contains the simulator, and the settings of XLA that all of passline needs.

XLA's CPU backend fuses long elementwise graphs by computing shared values again in every consumer,
which makes the simulator about fifty times slower and its compilation several times longer. With
multi-output fusion it computes every value once and is fastest; that is a setting of the process,
read with the other XLA_FLAGS when the first array is made, so that importing this module adds it.
Where it comes too late, or is set otherwise, simulator code is compiled without the fusion pass.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jax._src import xla_bridge  # nothing public tells whether the flags were read already

__all__ = ["XLA_FLAGS", "cpu_compiler_options", "sim_jit", "tune_xla"]

F = TypeVar("F", bound=Callable[..., Any])

_FUSION_FLAG = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"

XLA_FLAGS = ("--xla_cpu_prefer_vector_width=512", _FUSION_FLAG)
"""Full-width vectors for elementwise code (5 % more steps/s where the CPU has AVX-512, no effect
elsewhere) and multi-output fusion (about 2.5 times the simulator's steps a second). Integers are
the same to the bit under any flags; floats only under the same ones. Fast-math stays off: it gained
nothing measurable and would loosen what results mean."""


def tune_xla() -> bool:
    """Adds XLA_FLAGS to the environment variable of that name, where it does not set them.

    Returns:
        Whether multi-output fusion holds in this process: not if arrays were made before, or if
        the variable sets that option otherwise.
    """
    given = os.environ.get("XLA_FLAGS", "").split()
    if _FUSION_FLAG in given:
        return True
    if xla_bridge.backends_are_initialized():
        return False
    names = [flag.partition("=")[0] for flag in given]
    missing = [flag for flag in XLA_FLAGS if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join([*given, *missing])
    return _FUSION_FLAG in missing


_IS_FUSED = tune_xla()


def cpu_compiler_options() -> dict[str, str] | None:
    """Returns the compiler options for simulator code on this backend; None if it needs none."""
    if _IS_FUSED or jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "fusion"}


def sim_jit(function: F, **options: Any) -> F:
    """Returns jax.jit(function, **options) with the compiler options that simulator code needs."""
    return cast(F, jax.jit(function, compiler_options=cpu_compiler_options(), **options))
