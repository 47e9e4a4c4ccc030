"""The kernel's compiled file: which one this processor runs, how it is made, kept and loaded."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax

__all__ = [
    "CPU_FLAGS",
    "Instructions",
    "compile_ahead",
    "instructions",
    "is_ready",
    "processor_has",
]

CPU_FLAGS = Path("/proc/cpuinfo")
"""Where Linux lists what the processor can do, on x86."""

Instructions: TypeAlias = Literal["amx", "avx512"]
"""What multiplies, the faster first: tiles of bfloat16 (AMX), or pairs of them (AVX-512 BF16)."""

_SOURCES = Path(__file__).parent
_SHARED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")
_NEEDED: dict[Instructions, tuple[str, ...]] = {
    "amx": (*_SHARED, "amx_tile", "amx_bf16"),
    "avx512": _SHARED,
}
_OPTIONS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-pthread")
_SYMBOLS = ("passline_forward", "passline_backward", "passline_gradient")
_UNFINISHED = "passline-unfinished-"
_LONGEST_COMPILATION_S = 300


class _Loaded(NamedTuple):
    library: ctypes.CDLL
    by: Instructions


_lock = threading.Lock()
_loaded: list[_Loaded | None] = []


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


def instructions() -> Instructions | None:
    """Compiles and loads the kernel at the first call; returns what multiplies in it.

    Returns None where this process has no kernel. Warns where only the compiler is missing, because
    training takes longer then.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_load(_known()) if jax.default_backend() == "cpu" else None)
        return None if _loaded[0] is None else _loaded[0].by


def is_ready() -> bool:
    """Compiles and loads the kernel at the first call; returns whether this process has it."""
    return instructions() is not None


def compile_ahead() -> None:
    """Compiles the kernel for this processor if none is kept, on a thread of its own.

    It asks nothing of XLA: a program that ends beside it may end at any moment. Whatever does not
    go well is told where the kernel is needed.
    """
    with _lock, contextlib.suppress(OSError, subprocess.SubprocessError):
        if (folder := _kept_in()) is not None and not _loaded and (known := _known()):
            name, command = _recipe(known[0])
            _compiled(command, folder / name)


def _known(flags: Path = CPU_FLAGS) -> list[Instructions]:
    """Lists what the processor multiplies bfloat16 by, the faster first."""
    return [by for by in get_args(Instructions) if processor_has(*_NEEDED[by], flags=flags)]


def _load(candidates: Sequence[Instructions]) -> _Loaded | None:
    """Loads the first file that compiles and that the system lets run, and tells XLA of it."""
    problems = []
    for by in candidates:
        try:
            library = _library(by)
        except subprocess.CalledProcessError as error:
            problems.append(error.stderr or f"{error.cmd[0]} failed")
            continue
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(str(error))
            continue
        if not library.passline_prepare():
            continue
        for symbol in _SYMBOLS:
            capsule = jax.ffi.pycapsule(getattr(library, symbol))  # type: ignore[no-untyped-call]
            jax.ffi.register_ffi_target(symbol, capsule, platform="cpu")
        return _Loaded(library, by)
    if problems:
        _warn(problems[-1])
    return None


def _warn(problem: str) -> None:
    """Warns that training goes on with XLA's products."""
    first = problem.strip().partition("\n")[0]
    warnings.warn(
        f"the training kernel does not compile or load ({first}): XLA computes instead, and "
        "training takes longer. Install a C++17 compiler that knows AVX-512 BF16, as g++ from 12 "
        "on does, and name it in CXX if it is not c++.",
        RuntimeWarning,
        stacklevel=2,
    )


def _library(by: Instructions) -> ctypes.CDLL:
    """Loads it from JAX's folder of compiled programs, or compiles it for this process alone."""
    name, command = _recipe(by)
    if (kept_in := _kept_in()) is not None:
        path = kept_in / name
        with contextlib.suppress(OSError):
            if path.exists():
                with contextlib.suppress(OSError):
                    return ctypes.CDLL(str(path))
                path.unlink()  # cut off
            return ctypes.CDLL(str(_compiled(command, path)))
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(_compiled(command, Path(folder) / name)))


def _kept_in() -> Path | None:
    folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return None if folder is None else Path(folder)


def _recipe(by: Instructions) -> tuple[str, list[str]]:
    """Returns what its file is called, and the command that makes it, without where it goes."""
    compiler = os.environ.get("CXX") or "c++"
    words = (word.replace("avx512_", "avx512").replace("_", "-") for word in _NEEDED[by])
    options = [*_OPTIONS, *(f"-m{word}" for word in words)]
    source = b"".join(path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]*")))
    parts = (source, " ".join((compiler, *options)).encode(), jax.__version__.encode())
    name = f"passline-{by}-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.so"
    headers = ("-isystem", jax.ffi.include_dir())
    return name, [*compiler.split(), *options, *headers, str(_SOURCES / "calls.cc")]


def _compiled(command: Sequence[str], path: Path) -> Path:
    """Returns the compiled file at `path`, which appears there whole or not at all."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_UNFINISHED) as folder:
        made = Path(folder) / path.name
        subprocess.run(
            [*command, "-o", str(made)],
            check=True,
            capture_output=True,
            text=True,
            timeout=_LONGEST_COMPILATION_S,
        )
        made.replace(path)
    return path


def _sweep(folder: Path) -> None:
    """Deletes what compilations have left behind that were killed."""
    for left in folder.glob(_UNFINISHED + "*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 2 * _LONGEST_COMPILATION_S:
                shutil.rmtree(left)
