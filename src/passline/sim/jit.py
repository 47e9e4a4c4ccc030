"""Compiling code that contains the simulator.

XLA's CPU backend fuses long elementwise graphs by computing shared values again in every consumer,
which makes the simulator about fifty times slower and its compilation several times longer. With
multi-output fusion it computes every value once and is fastest; that is a setting of the process
(see `passline.sim.xla`). Its fault: jaxlib 0.10.2 aborts ("symbolic_map.cc: Check failed:
GetNumDims()") on a program in which two scatters take the same indices, as `x.at[rows].set(...)` on
two arrays does; one scatter, or none, is sound. So a program is compiled without fusion unless it
asks for it, as the rollout of training and the player of episodes do; a proof compiles those at
many sizes.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jaxlib import xla_client

__all__ = ["cpu_compiler_options", "has_multi_output_fusion", "sim_jit"]

F = TypeVar("F", bound=Callable[..., Any])


def has_multi_output_fusion() -> bool:
    """Tells whether this process compiles with multi-output fusion; settles its flags."""
    options = xla_client.CompileOptions()
    options.executable_build_options.debug_options  # noqa: B018  (reads the process's flags)
    return b"xla_cpu_use_multi_output_fusion" in options.SerializeAsString()


def cpu_compiler_options(*, is_fused: bool) -> dict[str, str] | None:
    """Returns the compiler options for simulator code on this backend; None if it needs none.

    Args:
        is_fused: compile with multi-output fusion where the process has it.
    """
    if jax.default_backend() != "cpu":
        return None
    if not has_multi_output_fusion():
        return {"xla_disable_hlo_passes": "fusion"}
    if is_fused:
        return None
    return {"xla_disable_hlo_passes": "fusion,cpu_multi_output_fusion"}


def sim_jit(function: F, *, is_fused: bool = False, **options: Any) -> F:
    """Returns jax.jit(function, **options) with the compiler options that simulator code needs.

    Args:
        function: pure function of arrays.
        is_fused: compile with multi-output fusion where the process has it: about 2.5 times as fast
            inside the simulator, integers the same to the bit; floats may differ in the last one.
        options: of jax.jit.
    """
    compiler_options = cpu_compiler_options(is_fused=is_fused)
    return cast(F, jax.jit(function, compiler_options=compiler_options, **options))
