"""The compiler settings of the process that passline runs in, in one place. Imports no JAX."""

import os

__all__ = ["MULTI_OUTPUT_FUSION", "XLA_FLAGS", "tune_xla"]

MULTI_OUTPUT_FUSION = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"
"""Lets XLA's CPU backend compute a value that several outputs need once, in one loop with them.
On its own it does nothing to the simulator: `passline.sim.jit` says which programs it is for."""

XLA_FLAGS = ("--xla_cpu_prefer_vector_width=512", MULTI_OUTPUT_FUSION)
"""Full-width vectors for elementwise code: 5 % more steps/s where the CPU has AVX-512, no effect
elsewhere. Fast-math stays off: it gained nothing measurable and would loosen what results mean."""


def tune_xla() -> None:
    """Adds XLA_FLAGS to the environment variable of that name, where it does not set them.

    XLA reads the variable when the first array is made, so that commands call this first.
    Results are reproducible to the bit only under the same flags.
    """
    given = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in XLA_FLAGS if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *missing])
