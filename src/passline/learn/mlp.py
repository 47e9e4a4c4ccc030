"""One tanh network from observations to outputs, its gradient spelled out, in either precision.

Hidden activations run feature-major, [H, L], so that no weight gradient needs a transposed copy.
With "bfloat16" every large product takes operands rounded to bfloat16 and adds up in float32;
weights, gradients, biases and activations in between stay float32 (Micikevicius et al. 2018,
"Mixed precision training"). Processors with AVX-512 BF16 run such products about twice as fast.
Rounding is spelled out on the bits because XLA's CPU backend neither fuses its own conversion nor
keeps such a product in bfloat16 once its result is converted again. Where the processor multiplies
bfloat16 and the kernel compiles, it (`passline.learn.kernel`) computes `packed` observations.
"""

import functools
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from passline.learn import kernel

__all__ = [
    "PACKED",
    "Net",
    "Precision",
    "outputs_t",
    "packed",
    "round_bfloat16",
    "usual_precision",
    "widen",
]

Net: TypeAlias = dict[str, jax.Array]
"""Layers w0, b0, w1, ...: weights [out, in]; a last weight [in] stands for a single output."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""Operands of the large products."""


PACKED: dict[Precision, Any] = {"float32": jnp.float32, "bfloat16": jnp.uint16}
"""Types of observations that were `packed`."""


def usual_precision(flags: Path = kernel.CPU_FLAGS) -> Precision:
    """Returns bfloat16 on processors that say they multiply it (AVX-512 BF16), else float32.

    Args:
        flags: where Linux lists what the processor can do, on x86.
    """
    return "bfloat16" if kernel.processor_has("avx512_bf16", flags=flags) else "float32"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def outputs_t(net: Net, obs: jax.Array, precision: Precision) -> jax.Array:
    """Computes a network's outputs, [n_out, L] or [L], from observations [L, F].

    Args:
        net: the layers.
        obs: float32, or as `packed` made them.
        precision: of the operands of every product, except the outputs of a single row of weights.
    """
    if kernel.fits(net, obs):
        return kernel.forward(net, obs, keep=False)[0]
    return _forward(net, obs, precision)[0]


def packed(obs: jax.Array, precision: Precision) -> jax.Array:
    """Stores observations in the precision of the products: half the memory in bfloat16.

    Returns:
        float32 unchanged, or the bits of the bfloat16 numbers, uint16: XLA's CPU backend widens
        bfloat16 arrays that pass through a loop.
    """
    if precision == "float32":
        return obs
    return jax.lax.bitcast_convert_type(round_bfloat16(obs), jnp.uint16)


def round_bfloat16(x: jax.Array) -> jax.Array:
    """Rounds float32 to bfloat16, to nearest and ties to even, like astype on all but odd NaNs."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    even = jnp.right_shift(bits, jnp.uint32(16)) & jnp.uint32(1)
    upper = jnp.right_shift(bits + jnp.uint32(0x7FFF) + even, jnp.uint32(16))
    return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)


def widen(x: jax.Array) -> jax.Array:
    """Returns float32 of bfloat16; float32 as it is."""
    if x.dtype == jnp.float32:
        return x
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(jnp.left_shift(bits, jnp.uint32(16)), jnp.float32)


def _operand(x: jax.Array, precision: Precision) -> jax.Array:
    if x.dtype == jnp.uint16:
        return jax.lax.bitcast_convert_type(x, jnp.bfloat16)
    return round_bfloat16(x) if precision == "bfloat16" else x


def _dot(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Multiplies matrices over one axis of each, adding up in float32."""
    dims = (((axes[0],), (axes[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


def _forward(
    net: Net, obs: jax.Array, precision: Precision
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Returns the outputs and the input of every layer as its product takes it."""
    last = len(net) // 2 - 1
    is_single = net[f"w{last}"].ndim == 1
    inputs = [_operand(obs, precision)]
    for i in range(last):
        w = _operand(net[f"w{i}"], precision)
        product = _dot(w, inputs[i], (1, 1 if i == 0 else 0))
        hidden = jnp.tanh(product + net[f"b{i}"][:, None])
        is_plain = is_single and i == last - 1
        inputs.append(hidden if is_plain else _operand(hidden, precision))
    if is_single:
        return net[f"w{last}"] @ inputs[last] + net[f"b{last}"], tuple(inputs)
    w = _operand(net[f"w{last}"], precision)
    return _dot(w, inputs[last], (1, 0)) + net[f"b{last}"][:, None], tuple(inputs)


def _outputs_fwd(
    net: Net, obs: jax.Array, precision: Precision
) -> tuple[jax.Array, tuple[Net, jax.Array, tuple[jax.Array, ...]]]:
    if kernel.fits(net, obs):
        outputs, kept = kernel.forward(net, obs, keep=True)
        return outputs, (net, obs, kept)
    outputs, inputs = _forward(net, obs, precision)
    return outputs, (net, obs, inputs)


def _outputs_bwd(
    precision: Precision,
    saved: tuple[Net, jax.Array, tuple[jax.Array, ...]],
    grad: jax.Array,
) -> tuple[Net, Any]:
    net, obs, inputs = saved
    if kernel.fits(net, obs):
        return kernel.backward(net, obs, inputs, grad), np.zeros(obs.shape, jax.dtypes.float0)
    grads: Net = {}
    for i in range(len(net) // 2 - 1, -1, -1):
        w = net[f"w{i}"]
        if w.ndim == 1:
            grads[f"w{i}"], grads[f"b{i}"] = inputs[i] @ grad, jnp.sum(grad)
            back = w[:, None] * grad[None, :]
        else:
            rounded = _operand(grad, precision)
            grads[f"w{i}"] = _dot(rounded, inputs[i], (1, 0 if i == 0 else 1))
            grads[f"b{i}"] = jnp.sum(grad, axis=1)
            if i == 0:
                break
            # Row-major, or XLA folds the transposition into the product, at half its rate.
            w_t = with_layout_constraint(w.T, Layout((0, 1)))  # type: ignore[no-untyped-call]
            back = _dot(_operand(w_t, precision), rounded, (1, 0))
        grad = back * (1.0 - jnp.square(widen(inputs[i])))
    if obs.dtype != jnp.float32:
        return grads, np.zeros(obs.shape, jax.dtypes.float0)
    return grads, _dot(grad, net["w0"], (0, 0))


outputs_t.defvjp(_outputs_fwd, _outputs_bwd)
