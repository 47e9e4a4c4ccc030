import os
import subprocess
import sys

import jax
import pytest
from jax._src import xla_bridge

from passline.sim import jit
from passline.sim.jit import XLA_FLAGS, cpu_compiler_options, tune_xla

WIDTH, FUSION = XLA_FLAGS
OTHER = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=false"


@pytest.mark.parametrize(
    ("given", "expected", "is_fused"),
    [
        ("", f"{WIDTH} {FUSION}", True),
        ("--a=1  --b", f"--a=1 --b {WIDTH} {FUSION}", True),
        ("--xla_cpu_prefer_vector_width=256", f"--xla_cpu_prefer_vector_width=256 {FUSION}", True),
        (OTHER, f"{OTHER} {WIDTH}", False),
    ],
)
def test_flags_are_added_once_and_never_override(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: str, is_fused: bool
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(xla_bridge, "backends_are_initialized", lambda: False)
    assert [tune_xla(), tune_xla()] == [is_fused, is_fused]
    assert os.environ["XLA_FLAGS"] == expected


def test_flags_that_come_too_late_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.numpy.zeros(1).block_until_ready()
    monkeypatch.setenv("XLA_FLAGS", "")
    assert not tune_xla()
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize(
    ("is_fused", "backend", "options"),
    [
        (True, "cpu", None),
        (False, "cpu", {"xla_disable_hlo_passes": "fusion"}),
        (False, "gpu", None),
    ],
)
def test_simulator_code_is_never_compiled_with_plain_fusion(
    monkeypatch: pytest.MonkeyPatch, is_fused: bool, backend: str, options: dict[str, str] | None
) -> None:
    monkeypatch.setattr(jit, "_IS_FUSED", is_fused)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert cpu_compiler_options() == options


def test_commands_and_plugs_make_no_array_before_the_flags_are_set() -> None:
    code = (
        "import passline.cli.training, passline.envs.making; from jax._src import xla_bridge; "
        "from passline.sim.jit import cpu_compiler_options; "
        "assert not xla_bridge.backends_are_initialized(); assert cpu_compiler_options() is None"
    )
    bare = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=bare, check=True)
