"""The arrays of a torch.save file: read as they are, and nothing in it imported or called."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_sb3 import DICT, number, pickled, pth_of, sizes, state_of, tensor, word, zipped
from passline.errors import CheckpointError
from passline.learn.torch_file import read_state_dict

HEAD = b"\x80\x02"


def pth(data: bytes, **members: bytes) -> bytes:
    return zipped(
        {"archive/data.pkl": data, **{f"archive/data/{k[1:]}": members[k] for k in members}}
    )


def one(shape: tuple[int, ...] = (2, 3), *, swap: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """A state dict of one array, some of whose opcodes are others."""
    made = HEAD + DICT + b"(" + word("w") + tensor("0", shape) + b"u."
    assert swap[0] in made
    return made.replace(*swap, 1)


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as error:
        read_state_dict(data, "m.zip: policy.pth")
    told = str(error.value)
    assert told.startswith("m.zip: policy.pth: not a dict of float32 arrays")
    assert "\n" not in told
    assert len(told) < 250
    return told


def test_arrays_come_back_bit_for_bit() -> None:
    state = state_of((24, 40))
    read = read_state_dict(pth_of(state), "m.zip")
    assert list(read) == list(state)
    for name, array in state.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], array)


def test_what_torch_sets_beside_the_arrays_is_left_out() -> None:
    versions = b"}" + word("version") + number(1) + b"s"
    made = one()[:-1] + b"}" + word("_metadata") + DICT + b"(" + word("") + versions + b"usb."
    assert list(read_state_dict(pth(made, _0=bytes(24)), "m")) == ["w"]


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("unpickled").touch, ())


def calls(function: bytes, argument: str) -> bytes:
    """A state dict whose value is the result of a call."""
    return HEAD + DICT + b"(" + word("w") + b"c" + function + b"\n(" + word(argument) + b"tRu."


@pytest.mark.parametrize(
    "hostile",
    [
        pickle.dumps(Bomb(), protocol=2),
        pickle.dumps({"w": Bomb()}, protocol=4),
        calls(b"os\nsystem", "touch unpickled"),
        calls(b"builtins\nexec", "open('unpickled', 'w')"),
        HEAD + DICT + b"(" + word("w") + b"(" + word("touch unpickled") + b"ios\nsystem\nu.",
        calls(b"torch._utils\n_rebuild_tensor_v2", "x"),
        calls(b"collections\nOrderedDict", "x"),
    ],
)
def test_nothing_in_it_is_called(hostile: bytes, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(pth(hostile))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "File is not a zip file"),
        (b"PK\x03\x04 nothing", "File is not a zip file"),
        (pickle.dumps({"w": 1}), "File is not a zip file"),
        (zipped({"archive/other": b""}), "0 members are named data.pkl"),
        (zipped({"a/data.pkl": b"", "b/data.pkl": b""}), "2 members are named data.pkl"),
        (pth(b""), "pickle exhausted before seeing STOP"),
        (pth(one()[:-1], _0=bytes(24)), "pickle exhausted before seeing STOP"),
        (pth(one(), _0=bytes(20)), "cannot reshape"),
        (pth(one(), _0=bytes(28)), "data/0 holds more than 24 bytes"),
        (pth(one()), "There is no item named"),
        (pth(one(swap=(b"FloatStorage", b"HalfStorage")), _0=bytes(24)), "torch.HalfStorage"),
        (pth(one(swap=(b"tQ" + number(0), b"tQ" + number(1))), _0=bytes(24)), "a part of another"),
        (pth(one(swap=(number(6), number(9))), _0=bytes(36)), "a part of another"),
        (pth(one(swap=(sizes((3, 1)), sizes((1, 2)))), _0=bytes(24)), "does not lie row by row"),
        (pth(one((1, 2, 3)), _0=bytes(24)), "more than two axes"),
        (pth(one((2, -3)), _0=b""), "empty"),
        (pth(HEAD + number(7) + b"."), "a int in place of a dict"),
        (pth(HEAD + DICT + b"(" + word("w") + number(7) + b"u."), "w is no array"),
        (pth(HEAD + DICT + b"(" + number(7) + number(7) + b"u."), "whose keys are no strings"),
        (pth(HEAD + b"h\x05."), "5"),
        (pth(HEAD + b"u."), "pop from empty list"),
        (pth_of(state_of(), byteorder=b"big"), "byteorder is not little"),
    ],
)  # fmt: skip
def test_what_is_no_state_dict_is_told(data: bytes, told: str) -> None:
    assert told in refusal(data)


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = pth_of(state_of((4,)))
    for length in range(0, len(whole) - 1, 97):
        refusal(whole[:length])


def test_bombs_are_refused_before_they_unpack() -> None:
    """A 4 GiB array, a pickle of 2 MiB, nested tuples, a memo of 2**31 places, a packed member."""
    assert "more than 64 MiB" in refusal(pth(one((32_767, 32_767))))
    assert "more than 65,536 bytes" in refusal(
        zipped({"archive/data.pkl": bytes(2 << 20)}, zipfile.ZIP_DEFLATED)
    )
    nested = HEAD + DICT + b"(" + b")" + b"\x85" * 60_000 + number(1) + b"u."
    assert "whose keys are no strings" in refusal(pth(nested))
    read_state_dict(pth(HEAD + DICT + b"r\xff\xff\xff\x7f."), "m")
    packed = zipped(
        {"archive/data.pkl": one(), "archive/data/0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED
    )
    assert len(packed) < 100_000
    assert "data/0 holds more than 24 bytes" in refusal(packed)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_all_they_are_given_are_refused(method: int) -> None:
    assert "is packed by method" in refusal(
        zipped({"archive/data.pkl": pickled(state_of())}, method)
    )
