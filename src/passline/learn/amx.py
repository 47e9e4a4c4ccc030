"""Outputs and gradients of tanh networks in one pass over the rows, on processors with AMX.

XLA's CPU backend multiplies, rounds, squashes and sums up in programs of their own, each of which
reads and writes whole minibatches; the kernel, in the folder of that name, does all of it on a few
hundred rows at a time, while they lie in a core's cache. Like XLA's own programs it is compiled
where it runs, by the C++ compiler of the system, once for each version, and kept beside them. Where
the processor, the compiler or the shapes do not allow it, XLA computes the same to within the
rounding of bfloat16.
"""

import contextlib
import ctypes
import hashlib
import itertools
import os
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "BLOCK",
    "CPU_FLAGS",
    "MOST_ACTIONS",
    "UNIT",
    "backward",
    "fits",
    "forward",
    "gradient",
    "has_amx",
    "is_ready",
    "processor_has",
]

CPU_FLAGS = Path("/proc/cpuinfo")
"""Where Linux lists what the processor can do, on x86."""

BLOCK = 256
"""Rows computed together (kBlock of the kernel); what is kept of a layer holds whole blocks."""

UNIT = 32
"""Widths of hidden layers are multiples of it."""

MOST_ACTIONS = 32
"""Outputs of an actor at most in `gradient` (kMostActions of the kernel)."""

_SOURCES = Path(__file__).parent / "kernel"
_NEEDED = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512bw", "avx512dq", "avx512f", "avx512vl")
_OPTIONS = (
    *("-std=c++17", "-O1", "-shared", "-fPIC", "-pthread", "-mavx512f", "-mavx512bw"),
    *("-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
)
_SYMBOLS = ("passline_forward", "passline_backward", "passline_gradient")
_TOLD = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
_LONGEST_COMPILATION_S = 300

_lock = threading.Lock()
_loaded: list[ctypes.CDLL | None] = []


def has_amx(flags: Path = CPU_FLAGS) -> bool:
    """Returns whether the processor multiplies tiles of bfloat16, and all else that is needed."""
    return processor_has(*_NEEDED, flags=flags)


def processor_has(*words: str, flags: Path = CPU_FLAGS) -> bool:
    """Returns whether the processor says that it can do all of these.

    Args:
        words: as Linux names them.
        flags: where Linux lists what the processor can do.
    """
    try:
        told = flags.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return set(told).issuperset(words)


def is_ready() -> bool:
    """Compiles and loads the kernel at the first call; returns whether this process has it.

    Warns where only the compiler is missing, because training takes longer then.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_load() if jax.default_backend() == "cpu" and has_amx() else None)
        return _loaded[0] is not None


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


def _load() -> ctypes.CDLL | None:
    """Loads the compiled file, which it makes if there is none, and tells XLA of its functions."""
    source = b"".join(path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]*")))
    compiler = os.environ.get("CXX") or "c++"
    parts = (source, " ".join((compiler, *_OPTIONS)).encode(), jax.__version__.encode())
    name = f"passline-amx-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.so"
    try:
        library = _library(compiler, name)
    except subprocess.CalledProcessError as error:
        _warn(error.stderr or str(error.cmd[0]) + " failed")
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        _warn(str(error))
        return None
    if not library.passline_request_tiles():
        return None
    for symbol in _SYMBOLS:
        capsule = jax.ffi.pycapsule(getattr(library, symbol))  # type: ignore[no-untyped-call]
        jax.ffi.register_ffi_target(symbol, capsule, platform="cpu")
    return library


def _warn(problem: str) -> None:
    """Warns that training goes on with XLA's products."""
    first = problem.strip().partition("\n")[0]
    warnings.warn(
        f"the kernel for AMX does not compile or load ({first}): XLA multiplies instead, and "
        "training takes longer. Install a C++17 compiler that knows AMX, as g++ from 12 on does, "
        "and name it in CXX if it is not c++.",
        RuntimeWarning,
        stacklevel=2,
    )


def _library(compiler: str, name: str) -> ctypes.CDLL:
    """Loads it from JAX's folder of compiled programs, or compiles it for this process alone."""
    kept_in: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if kept_in is not None:
        path = Path(kept_in) / name
        with contextlib.suppress(OSError):
            if path.exists():
                with contextlib.suppress(OSError):
                    return ctypes.CDLL(str(path))
                path.unlink()  # cut off
            return ctypes.CDLL(str(_compiled(compiler, path)))
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(_compiled(compiler, Path(folder) / name)))


def _compiled(compiler: str, path: Path) -> Path:
    """Returns the compiled file at `path`, which appears there whole or not at all."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        headers = ("-isystem", jax.ffi.include_dir())
        command = [
            *compiler.split(),
            *_OPTIONS,
            *headers,
            str(_SOURCES / "calls.cc"),
            "-o",
            str(made),
        ]
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_LONGEST_COMPILATION_S
        )
        made.replace(path)
    return path
