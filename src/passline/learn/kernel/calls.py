"""Outputs and gradients of tanh networks, and of the clipped objective, as XLA's custom calls."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from passline.learn.kernel.library import is_ready

__all__ = ["BLOCK", "MOST_ACTIONS", "UNIT", "backward", "fits", "forward", "gradient"]

BLOCK = 256
"""Rows computed together (kBlock of the kernel); what is kept of a layer holds whole blocks."""

UNIT = 32
"""Widths of hidden layers are multiples of it."""

MOST_ACTIONS = 32
"""Outputs of an actor at most in `gradient` (kMostActions of the kernel)."""

_TOLD = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


def fits(net: Mapping[str, jax.Array], obs: jax.Array | np.ndarray[Any, Any]) -> bool:
    """Returns whether these layers and observations can be computed here.

    Args:
        net: layers w0, b0, w1, ... as in `mlp.Net`.
        obs: [..., F]; only the bits of bfloat16 numbers are taken, uint16.
    """
    last = len(net) // 2 - 1
    hidden = [net[f"b{i}"].shape[0] for i in range(last)]
    outputs = net[f"b{last}"].shape
    shapes = [(*pair[::-1],) for pair in itertools.pairwise((obs.shape[-1], *hidden))]
    return (
        obs.dtype == jnp.uint16
        and all(layer.dtype == jnp.float32 for layer in net.values())
        and obs.size > 0
        and len(hidden) > 0
        and all(width % UNIT == 0 for width in hidden)
        and [net[f"w{i}"].shape for i in range(last + 1)] == [*shapes, (*outputs, hidden[-1])]
        and is_ready()
    )


def forward(
    net: Mapping[str, jax.Array], obs: jax.Array, *, keep: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Computes a network's outputs and, if asked, keeps what `backward` needs.

    Args:
        net: the layers, float32.
        obs: bits of bfloat16 numbers, uint16 [L, F].
        keep: whether gradients will be asked for.

    Returns:
        (outputs float32 [n_out, L], or [L] of a single one; activations of each hidden layer, in an
        order of their own, uint16).
    """
    last = len(net) // 2 - 1
    weights = net[f"w{last}"]
    shape = obs.shape[:1] if weights.ndim == 1 else (weights.shape[0], obs.shape[0])
    n_rows = -(-obs.shape[0] // BLOCK) * BLOCK
    widths = [net[f"b{i}"].shape[0] for i in range(last)] if keep else []
    results = [_like(shape), *(_like((n_rows * width,), jnp.uint16) for width in widths)]
    outputs, *kept = jax.ffi.ffi_call("passline_forward", results)(obs, *_in_order(net))
    return outputs, tuple(kept)


def backward(
    net: Mapping[str, jax.Array], obs: jax.Array, kept: Sequence[jax.Array], grad: jax.Array
) -> dict[str, jax.Array]:
    """Computes the gradient of the layers, float32, from that of the outputs.

    Args:
        net: the layers that `forward` was given.
        obs: the observations that it was given.
        kept: what it kept.
        grad: of the outputs, float32 in their shape.
    """
    layers = _in_order(net)
    shapes = [_like(layer.shape) for layer in layers]
    found = jax.ffi.ffi_call("passline_backward", shapes)(obs, grad, *layers, *kept)
    return dict(zip(_names(net), found, strict=True))


def gradient(
    nets: Sequence[Mapping[str, jax.Array]],
    obs: jax.Array,
    recorded: Sequence[jax.Array],
    starts: jax.Array,
    settings: Sequence[jax.Array | float],
    *,
    lane_block: int,
    is_normalized: bool,
) -> tuple[list[dict[str, jax.Array]], dict[str, jax.Array]]:
    """Computes the clipped objective's gradient on a minibatch of whole lanes.

    Args:
        nets: actor and critic, float32, with hidden layers of the same widths.
        obs: bits of bfloat16 numbers, uint16 [T, L, F].
        recorded: legal actions as bits, uint32; actions taken, int32; their log-probabilities,
            values, advantages and value targets, float32; all [T, L].
        starts: which blocks of neighboring lanes the minibatch has, int32 [n].
        settings: clip_range, clip_range_value, value_coef, value_scale and entropy_coef.
        lane_block: lanes of a block.
        is_normalized: whether advantages are centered and scaled within the minibatch.

    Returns:
        (gradients of actor and critic; means over the minibatch: policy_loss, value_loss, entropy,
        approx_kl and clip_fraction).
    """
    layers = [_in_order(net) for net in nets]
    shapes = [_like((len(_TOLD),)), *(_like(x.shape) for x in itertools.chain(*layers))]
    values = jnp.stack([jnp.float32(x) for x in settings])
    call = jax.ffi.ffi_call("passline_gradient", shapes)
    told, *found = call(
        *(obs, *recorded, starts.astype(jnp.int32), values, *itertools.chain(*layers)),
        lane_block=np.int64(lane_block),
        is_normalized=np.int64(is_normalized),
    )
    middle = len(layers[0])
    grads = [
        dict(zip(_names(net), part, strict=True))
        for net, part in zip(nets, (found[:middle], found[middle:]), strict=True)
    ]
    return grads, dict(zip(_TOLD, told, strict=True))


def _like(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _names(net: Mapping[str, jax.Array]) -> list[str]:
    return [f"{kind}{i}" for i in range(len(net) // 2) for kind in "wb"]


def _in_order(net: Mapping[str, jax.Array]) -> list[jax.Array]:
    return [net[name] for name in _names(net)]
