import os

import pytest

from passline.learn import tune_xla


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "--xla_cpu_prefer_vector_width=512"),
        ("--a=1  --b", "--a=1 --b --xla_cpu_prefer_vector_width=512"),
        ("--xla_cpu_prefer_vector_width=256", "--xla_cpu_prefer_vector_width=256"),
    ],
)
def test_flags_are_added_once_and_never_override(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    tune_xla()
    tune_xla()
    assert os.environ["XLA_FLAGS"] == expected
