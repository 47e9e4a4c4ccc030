"""Checkpoints: a pytree of arrays as safetensors beside a TOML file that vouches for it.

No pickle: loading a stranger's checkpoint runs no code. The TOML file is written last and
carries the SHA-256 of the tensors, so that a checkpoint without it was never finished and one
that does not match it is refused. Values are stored bit for bit; PRNG keys as their key data.
"""

import contextlib
import hashlib
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import safetensors
import safetensors.numpy
import tomli_w

from passline.errors import CheckpointError

__all__ = [
    "CheckpointInfo",
    "list_checkpoints",
    "load_checkpoint",
    "prune_checkpoints",
    "read_checkpoint_info",
    "save_checkpoint",
    "sweep_checkpoints",
]

Tree: TypeAlias = Any
"""A pytree of arrays."""

_FORMAT = 1
_KEY_SUFFIX = "#prng_key"


class CheckpointInfo(NamedTuple):
    """What a checkpoint's TOML file says."""

    path: Path
    tensors: Path
    sha256: str
    meta: dict[str, Any]


def save_checkpoint(
    directory: Path, name: str, tree: Tree, meta: Mapping[str, Any] | None = None
) -> Path:
    """Writes name.toml and the tensors it names; a reader sees the old pair or the new one.

    The tensor file's name carries its hash, so that replacing a checkpoint of the same name
    never touches the tensors that the old TOML file still vouches for.

    Args:
        directory: existing directory.
        name: file name without ending.
        tree: arrays and PRNG keys.
        meta: further facts, values as TOML knows them (no None).

    Returns:
        The path of the TOML file, which is the checkpoint's path.

    Raises:
        CheckpointError: the name is no plain file name, or the files cannot be written.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise CheckpointError(
            f"{directory}: checkpoint name was {name!r}; allowed: a plain file name without a "
            "leading dot. Choose another name."
        )
    data = safetensors.numpy.save(_flatten(tree))
    digest = hashlib.sha256(data).hexdigest()
    tensors = directory / f"{name}.{digest[:12]}.safetensors"
    path = directory / f"{name}.toml"
    head = {"format": _FORMAT, "tensors": tensors.name, "n_bytes": len(data), "sha256": digest}
    text = tomli_w.dumps({**head, "meta": dict(meta or {})})
    stale = _tensor_files(directory, name) - {tensors}
    stale |= set(directory.glob(f".{name}.*.tmp"))
    try:
        _write_atomically(tensors, data)
        _write_atomically(path, text.encode())
        for old in stale:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written: {error.strerror or error}. The checkpoint before it is "
            "untouched. Free space or make the directory writable, then resume."
        ) from error
    return path


def load_checkpoint(path: Path, like_tree: Tree) -> Tree:
    """Reads a checkpoint into the structure of like_tree.

    Args:
        path: the TOML file.
        like_tree: a tree of arrays (or of jax.ShapeDtypeStruct) of the shapes expected.

    Returns:
        A tree of like_tree's structure with the stored values.

    Raises:
        CheckpointError: files missing, truncated, altered, or not of these keys and shapes.
    """
    info = read_checkpoint_info(path)
    data = _read(info.tensors)
    digest = hashlib.sha256(data).hexdigest()
    if digest != info.sha256:
        raise CheckpointError(
            f"{info.tensors}: SHA-256 was {digest[:12]}… over {len(data)} bytes, but {path.name} "
            f"vouches for {info.sha256[:12]}…. The file was truncated or altered; use another "
            "checkpoint."
        )
    try:
        stored = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{info.tensors}: no safetensors file: {error}.") from error
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like_tree)
    named = {_leaf_name(key_path, leaf): leaf for key_path, leaf in leaves}
    _check_names(path, stored, named)
    values = [_restore(path, name, stored[name], leaf) for name, leaf in named.items()]
    return jax.tree_util.tree_unflatten(treedef, values)


def read_checkpoint_info(path: Path) -> CheckpointInfo:
    """Reads a checkpoint's TOML file alone.

    Raises:
        CheckpointError: the file is missing, no TOML, or not of a format that is known here.
    """
    try:
        content = tomllib.loads(_read(path).decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not readable as TOML: {error}. Use another checkpoint."
        ) from error
    if content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: format was {content.get('format')!r}; allowed: {_FORMAT}. "
            "Load it with the version of passline that wrote it."
        )
    tensors, digest, meta = (content.get(key) for key in ("tensors", "sha256", "meta"))
    is_sound = isinstance(tensors, str) and isinstance(digest, str) and isinstance(meta, dict)
    if not is_sound or Path(str(tensors)).name != tensors:
        raise CheckpointError(
            f"{path}: keys were {sorted(content)}, tensors {tensors!r}; allowed: tensors (a file "
            "name in the same directory), sha256 and [meta]. Use another checkpoint."
        )
    return CheckpointInfo(
        path=path, tensors=path.parent / str(tensors), sha256=str(digest), meta=dict(meta or {})
    )


def list_checkpoints(directory: Path) -> list[CheckpointInfo]:
    """Lists the finished checkpoints of a directory by name."""
    return [read_checkpoint_info(path) for path in sorted(directory.glob("*.toml"))]


def prune_checkpoints(directory: Path, names: Sequence[str], keep: Collection[str]) -> list[str]:
    """Deletes all of the named checkpoints but the last and those to keep.

    Args:
        directory: where they lie.
        names: checkpoint names, oldest first; others in the directory are not touched.
        keep: names to keep whatever their age.

    Returns:
        The names deleted. Each loses its TOML file first, so that none is left half valid.

    Raises:
        CheckpointError: a file cannot be deleted.
    """
    gone = [name for name in names[:-1] if name not in keep]
    try:
        for name in gone:
            (directory / f"{name}.toml").unlink(missing_ok=True)
            for tensors in _tensor_files(directory, name):
                tensors.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_delete(directory, error) from error
    return gone


def sweep_checkpoints(directory: Path) -> None:
    """Deletes what a killed process left of checkpoints it was writing or deleting.

    Nothing that a TOML file names is touched. Only who may write the directory alone may call it.

    Raises:
        CheckpointError: a file cannot be deleted.
    """
    named = {info.tensors for info in list_checkpoints(directory)}
    left = {*directory.glob(".*.tmp"), *directory.glob("*.safetensors")} - named
    try:
        for path in left:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_delete(directory, error) from error


def _cannot_delete(directory: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{directory}: old checkpoints could not be deleted: {error.strerror or error}. "
        "Make the directory writable."
    )


def _tensor_files(directory: Path, name: str) -> set[Path]:
    prefix, suffix = f"{name}.", ".safetensors"
    return {
        path
        for path in directory.glob("*.safetensors")
        if path.name.startswith(prefix) and len(path.name) == len(prefix) + 12 + len(suffix)
    }


def _flatten(tree: Tree) -> dict[str, np.ndarray[Any, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_leaf_name(key_path, leaf): _to_numpy(leaf) for key_path, leaf in leaves}


def _to_numpy(leaf: Any) -> np.ndarray[Any, Any]:
    # np.array, unlike np.ascontiguousarray, leaves a scalar without dimensions.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")


def _leaf_name(key_path: tuple[Any, ...], leaf: Any) -> str:
    name = jax.tree_util.keystr(key_path, simple=True, separator="/")
    return f"{name}{_KEY_SUFFIX}" if _is_key(leaf) else name


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jax.numpy.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _check_names(path: Path, stored: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    missing, unknown = sorted(named.keys() - stored.keys()), sorted(stored.keys() - named.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path}: does not fit: {_some(missing)} missing, {_some(unknown)} unknown. It was "
            "written for another network or another program; use a checkpoint of this one."
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} arrays" + (
        f" ({shown}{', …' if len(names) > 5 else ''})" if names else ""
    )


def _restore(path: Path, name: str, value: np.ndarray[Any, Any], like: Any) -> jax.Array:
    if _is_key(like):
        impl = jax.random.key_impl(like) if isinstance(like, jax.Array) else None
        expected_shape: tuple[int, ...] = (*like.shape, *value.shape[len(like.shape) :])
        expected_dtype: Any = np.dtype(np.uint32)
    else:
        expected_shape, expected_dtype = np.shape(like), np.dtype(like.dtype)
    if value.shape != expected_shape or value.dtype != expected_dtype:
        raise CheckpointError(
            f"{path}: {name} was {value.dtype}{list(value.shape)}; this program's is "
            f"{expected_dtype}{list(expected_shape)}. Use a checkpoint of the same network and "
            "lane count."
        )
    array = jax.numpy.array(value)
    return jax.random.wrap_key_data(array, impl=impl) if _is_key(like) else array


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be read: {error.strerror or error}. Use another checkpoint."
        ) from error


def _write_atomically(path: Path, data: bytes) -> None:
    """Writes beside the target, forces it to disk, then renames and forces the directory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
