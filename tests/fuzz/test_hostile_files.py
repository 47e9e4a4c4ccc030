"""Hostile files are read or refused: no traceback, no hang, no partial output.

Hypothesis mangles sound files: it cuts, doubles, moves and replaces stretches, and puts in what
readers trip over. `python -m fuzzing` beside this file does the same with coverage, by atheris.
"""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import TARGETS, check

from proving import Figure, examples

JUNK = [
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b",", b";", b'"', b"'", b"[", b"]" * 40,
    b"[" * 3_000, b"9" * 5_000, b"-1", b"0", b"1e308", b"1e999999", b"nan", b"inf", b"-inf",
    b"2147483648", b"-9223372036854775809", b"1979-05-27T07:32:60Z", b"0001-01-01", b"9999-12-31",
    b"1970-02-30", b"\xed\xa0\x80", "٣".encode(), "ﬁ".encode(), b"\x1b[31m", b"none", b"true",
    b"{}", b"=", b"#", b"\t", b".", b"..", b"%s", b"=cmd()", b"../../x", b"99:99", b"24:00",
]  # fmt: skip
CUTS = st.tuples(
    st.floats(0, 1), st.integers(0, 60), st.sampled_from(JUNK) | st.binary(max_size=12)
)


def mangled(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Sound files with up to four stretches replaced; now and then something else altogether."""

    def mangle(seed: bytes, cuts: list[tuple[float, int, bytes]], is_doubled: bool) -> bytes:
        data = seed * 2 if is_doubled else seed
        for where, length, junk in cuts:
            at = int(where * len(data))
            data = data[:at] + junk + data[at + length :]
        return data

    made = st.builds(
        mangle, st.sampled_from(seeds), st.lists(CUTS, min_size=1, max_size=4), st.booleans()
    )
    return st.one_of(made, made, made, st.binary(max_size=80), st.sampled_from(JUNK))


@pytest.mark.parametrize("name", list(TARGETS))
def test_sound_files_are_read(name: str) -> None:
    assert [check(TARGETS[name], seed) for seed in TARGETS[name].seeds] == ["read"] * len(
        TARGETS[name].seeds
    )


TOML = [name for name, target in TARGETS.items() if target.name.endswith(".toml")]
BOMBS = {
    "an array in an array": b"x = " + b"[" * 3_000 + b"]" * 3_000,
    "a table in a table": b".".join([b"a"] * 3_000) + b" = 1",
    "a number of many digits": b"x = " + b"9" * 5_000,
    "not UTF-8": b'x = "\xff"',
    "a bare surrogate": b'x = "\\ud800"',
}


@pytest.mark.parametrize("name", TOML)
@pytest.mark.parametrize("bomb", list(BOMBS))
def test_hostile_toml_is_refused(name: str, bomb: str) -> None:
    """Put in front of a sound file, where it is a key that nobody knows."""
    for seed in TARGETS[name].seeds:
        check(TARGETS[name], BOMBS[bomb] + b"\n" + seed)


def encrypted_zip() -> bytes:
    """The zip among the sound bar files, marked as encrypted."""
    data = bytearray(TARGETS["bars"].seeds[-1])
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    return bytes(data)


def zip_of_the_future() -> bytes:
    """The same zip, marked as needing a reader of version 23.6."""
    data = bytearray(TARGETS["bars"].seeds[-1])
    data[data.index(b"PK\x01\x02") + 6] = 236
    return bytes(data)


def damaged_gzip() -> bytes:
    data = bytearray(TARGETS["bars"].seeds[-2])
    data[40:60] = bytes(20)
    return bytes(data)


@pytest.mark.parametrize("made", [encrypted_zip, zip_of_the_future, damaged_gzip])
def test_damaged_archives_are_told(made: Callable[[], bytes]) -> None:
    assert "is damaged" in check(TARGETS["bars"], made())


@pytest.mark.parametrize("at", range(4, 200, 7))
def test_damaged_pages_of_a_bar_file_are_refused(at: int) -> None:
    """Some of them make polars panic, which is no Exception."""
    data = TARGETS["bar file"].seeds[0]
    told = check(TARGETS["bar file"], data[:at] + b"\xff" * 9 + data[at + 9 :])
    assert told == "read" or told.startswith("es.parquet: ")


def test_a_page_on_which_polars_ends_the_process_is_refused() -> None:
    """It states a negative number of values, for which polars 2.1.0 asks for 2 EiB."""
    data = TARGETS["foreign parquet"].seeds[1]
    header = re.search(rb"\x15\x00\x15.\x15.[\x2c\x4c]\x15", data, re.DOTALL)
    assert header is not None
    told = check(
        TARGETS["foreign parquet"], data[: header.end()] + b"\x01" + data[header.end() + 1 :]
    )
    assert told == "es.parquet: the Parquet file is damaged. Fetch it again"


@pytest.mark.parametrize("name", list(TARGETS))
def test_hostile_files_are_read_or_refused(name: str) -> None:
    target, said = TARGETS[name], set()

    @settings(max_examples=examples(25), deadline=None, derandomize=True, database=None)
    @given(data=mangled(target.seeds))
    def try_one(data: bytes) -> None:
        said.add(check(target, data))

    try_one()
    if " " not in name:
        assert len(said) > 3, said


@pytest.mark.proof
@pytest.mark.parametrize("name", list(TARGETS))
def test_many_hostile_files_are_read_or_refused(name: str, figure: Figure) -> None:
    target, said, count = TARGETS[name], set(), 0

    @settings(
        max_examples=2_000 if " " not in name else 400,
        deadline=None,
        derandomize=True,
        database=None,
    )
    @given(data=mangled(target.seeds))
    def try_one(data: bytes) -> None:
        nonlocal count
        count += 1
        said.add(check(target, data))

    try_one()
    figure("files tried", count, "each read or refused in one of our words, none left behind")
    assert " " in name or len(said) > 3
