"""Outputs and gradients of tanh networks in one pass over the rows, where bfloat16 multiplies.

XLA's CPU backend multiplies, rounds, squashes and sums up in programs of their own, each of which
reads and writes whole minibatches; the kernel does all of it on a few hundred rows at a time, while
they lie in a core's cache. It multiplies by AMX where the processor has that, else by AVX-512 BF16.
Like XLA's own programs it is compiled where it runs, by the C++ compiler of the system, once for
each version, and kept beside them. Where the processor, the compiler or the shapes do not allow it,
XLA computes the same to within the rounding of bfloat16.
"""

from passline.learn.kernel.calls import (
    BLOCK,
    MOST_ACTIONS,
    UNIT,
    backward,
    fits,
    forward,
    gradient,
)
from passline.learn.kernel.library import (
    CPU_FLAGS,
    compile_ahead,
    instructions,
    is_ready,
    processor_has,
)

__all__ = [
    "BLOCK",
    "CPU_FLAGS",
    "MOST_ACTIONS",
    "UNIT",
    "backward",
    "compile_ahead",
    "fits",
    "forward",
    "gradient",
    "instructions",
    "is_ready",
    "processor_has",
]
