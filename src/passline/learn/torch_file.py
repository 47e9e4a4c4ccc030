"""Reads the arrays of a file that torch.save wrote, without torch and without unpickling anything.

Such a file is a zip: `data.pkl` names the arrays and tells their shapes, `data/0`, `data/1`, ...
hold their numbers. An unpickler imports and calls whatever a pickle names. Here its opcodes are
only listed (pickletools, which executes nothing), and the few that a dict of arrays is written in
are followed with names left as names; every other opcode and every other name is refused.
"""

import math
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from passline.errors import CheckpointError

__all__ = ["DAMAGED", "Array", "read_member", "read_state_dict", "shortened"]

DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged, encrypted or foreign zip raises."""

LARGEST_PICKLE = 1 << 16
"""Bytes of `data.pkl`; a network of two hidden layers needs 2,000."""
LARGEST_BYTES = 1 << 26
"""Of all arrays together: 16 million weights."""
LONGEST_WORD = 90

Array = NDArray[np.float32]


class _Name(NamedTuple):
    """Something that a pickle asks to import; nothing does."""

    name: str


class _Tensor(NamedTuple):
    """An array as the pickle describes it."""

    key: str
    shape: tuple[int, ...]


def read_state_dict(data: bytes, where: str) -> dict[str, Array]:
    """Reads the arrays of a state dict by name, float32.

    Args:
        data: the file that torch.save wrote.
        where: names it in errors.

    Raises:
        CheckpointError: it is no such file, holds anything but whole float32 arrays, or is larger
            than any network that is meant here.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            root = _root_of(archive)
            tensors = _tensors(_follow(read_member(archive, f"{root}/data.pkl", LARGEST_PICKLE)))
            if sum(math.prod(t.shape) for t in tensors.values()) * 4 > LARGEST_BYTES:
                raise ValueError(f"arrays of more than {LARGEST_BYTES >> 20} MiB")
            _require_little_endian(archive, root)
            return {name: _array(archive, root, t) for name, t in tensors.items()}
    except (*DAMAGED, AttributeError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{where}: not a dict of float32 arrays as torch.save writes it (torch 1.6 or newer): "
            f"{shortened(error)}. Save the model again."
        ) from error


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Returns a member of a zip, unpacked to no more than a limit whatever its sizes say.

    Raises:
        ValueError: it is larger, or packed by another method than deflate.
        KeyError: there is none; and whatever else of DAMAGED a damaged zip causes.
    """
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed by method {member.compress_type}, not 0 or 8")
    with archive.open(member) as source:
        content = source.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{name} holds more than {limit:,} bytes")
    return content


def shortened(text: object) -> str:
    """Returns a text of a stranger's file for an error: its beginning, in one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST_WORD else f"{line[:LONGEST_WORD]}…"


def _root_of(archive: zipfile.ZipFile) -> str:
    """Returns the folder that all members lie in."""
    found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError(f"{len(found)} members are named data.pkl")
    return found[0].removesuffix("/data.pkl")


def _require_little_endian(archive: zipfile.ZipFile, root: str) -> None:
    """Refuses numbers in another order of bytes; files of older versions do not tell theirs."""
    name = f"{root}/byteorder"
    if name in archive.namelist() and read_member(archive, name, 16) != b"little":
        raise ValueError("byteorder is not little")


def _array(archive: zipfile.ZipFile, root: str, tensor: _Tensor) -> Array:
    n_bytes = 4 * math.prod(tensor.shape)
    content = read_member(archive, f"{root}/data/{tensor.key}", n_bytes)
    return np.frombuffer(content, "<f4").reshape(tensor.shape).astype(np.float32)


def _tensors(value: Any) -> Mapping[str, _Tensor]:
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} in place of a dict")
    for name, item in value.items():
        if not isinstance(item, _Tensor):
            raise ValueError(f"{shortened(name)} is no array")
    return value


# The pickle. Each step takes what it needs from the stack and leaves what it made there.

_MARK = object()

_LITERALS = frozenset({"BINUNICODE", "BININT", "BININT1", "BININT2"})
_NEW: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
    "NEWFALSE": lambda: False,
    "NEWTRUE": lambda: True,
}
_DICT = _Name("collections OrderedDict")
_REBUILD = _Name("torch._utils _rebuild_tensor_v2")
_FLOAT32 = _Name("torch FloatStorage")


def _follow(pickled: bytes) -> Any:
    """Returns what a pickle describes, in dicts, tuples, strings, numbers, names and tensors.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: it is anything but a dict of
            float32 arrays.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _STEPS:
            _STEPS[name](stack)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"it asks for {name}")
    return stack.pop()


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _make_tuple(stack: list[Any]) -> None:
    stack.append(tuple(_since_mark(stack)))


def _make_tuple_of(n: int) -> Callable[[list[Any]], None]:
    def step(stack: list[Any]) -> None:
        stack[-n:] = [tuple(stack[-n:])]

    return step


def _name_storage(stack: list[Any]) -> None:
    """Takes ("storage", kind, key, device, n); leaves (key, n)."""
    word, kind, key, _, n = stack.pop()
    if word != "storage" or kind != _FLOAT32 or not isinstance(key, str):
        raise ValueError(f"an array of {_words(kind)}, not of float32")
    stack.append((key, n))


def _call(stack: list[Any]) -> None:
    """Stands in for a call: of an empty dict or of an array's making, and of nothing else."""
    arguments, function = stack.pop(), stack.pop()
    if function == _DICT and arguments == ():
        stack.append({})
    elif function == _REBUILD:
        stack.append(_tensor(*arguments))
    else:
        raise ValueError(f"it asks to call {_words(function)}")


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    """Takes an array that has its storage alone and lies in it row by row."""
    key, n = storage
    is_shape = all(type(size) is int and size > 0 for size in shape)
    if not is_shape or len(shape) > 2 or (offset, n) != (0, math.prod(shape)):
        raise ValueError("an array that is empty, a part of another, or of more than two axes")
    if stride != ((shape[1], 1) if len(shape) == 2 else (1,) * len(shape)):
        raise ValueError("an array that does not lie row by row")
    return _Tensor(key, tuple(shape))


def _set_items(stack: list[Any]) -> None:
    items = _since_mark(stack)
    for key, value in zip(items[::2], items[1::2], strict=True):
        _set(stack[-1], key, value)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set(stack[-1], key, value)


def _set(target: Any, key: Any, value: Any) -> None:
    if not isinstance(target, dict) or not isinstance(key, str):
        raise ValueError("a dict whose keys are no strings")
    target[key] = value


def _drop_state(stack: list[Any]) -> None:
    """Leaves out what is set on an object: a state dict's versions."""
    stack.pop()


def _words(named: Any) -> str:
    return shortened(named.name.replace(" ", ".") if isinstance(named, _Name) else "no name")


_STEPS: Mapping[str, Callable[[list[Any]], None]] = {
    "BINPERSID": _name_storage,
    "BUILD": _drop_state,
    "REDUCE": _call,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "TUPLE": _make_tuple,
    "TUPLE1": _make_tuple_of(1),
    "TUPLE2": _make_tuple_of(2),
    "TUPLE3": _make_tuple_of(3),
}
