import os

import pytest

from passline.sim.xla import MULTI_OUTPUT_FUSION, tune_xla

WIDE = "--xla_cpu_prefer_vector_width=512"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", f"{WIDE} {MULTI_OUTPUT_FUSION}"),
        ("--a=1  --b", f"--a=1 --b {WIDE} {MULTI_OUTPUT_FUSION}"),
        (
            "--xla_cpu_prefer_vector_width=256",
            f"--xla_cpu_prefer_vector_width=256 {MULTI_OUTPUT_FUSION}",
        ),
        (
            "--xla_backend_extra_options=xla_cpu_flatten_after_fusion=true",
            f"--xla_backend_extra_options=xla_cpu_flatten_after_fusion=true {WIDE}",
        ),
    ],
)
def test_flags_are_added_once_and_never_override(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    tune_xla()
    tune_xla()
    assert os.environ["XLA_FLAGS"] == expected
