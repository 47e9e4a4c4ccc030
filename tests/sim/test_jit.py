import jax
import pytest

from passline.sim.jit import SIM_FLAG, cpu_compiler_options

PLAIN = {"xla_disable_hlo_passes": "fusion"}


@pytest.mark.parametrize(
    ("backend", "flags", "options"),
    [
        ("cpu", "", PLAIN),
        ("cpu", f"{SIM_FLAG}x", PLAIN),
        ("cpu", f"--a {SIM_FLAG}", None),
        ("gpu", "", None),
        ("gpu", SIM_FLAG, None),
    ],
)
def test_only_the_cpu_without_multi_output_fusion_leaves_the_pass_out(
    monkeypatch: pytest.MonkeyPatch, backend: str, flags: str, options: dict[str, str] | None
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert cpu_compiler_options() == options
