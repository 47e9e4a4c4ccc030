import os
import subprocess
import sys

import jax
import pytest

from passline.sim import jit
from passline.sim.jit import cpu_compiler_options, has_multi_output_fusion
from passline.sim.xla import MULTI_OUTPUT_FUSION

PLAIN = {"xla_disable_hlo_passes": "fusion"}
UNFUSED = {"xla_disable_hlo_passes": "fusion,cpu_multi_output_fusion"}


@pytest.mark.parametrize(
    ("backend", "has_fusion", "is_fused", "options"),
    [
        ("cpu", False, False, PLAIN),
        ("cpu", False, True, PLAIN),
        ("cpu", True, False, UNFUSED),
        ("cpu", True, True, None),
        ("gpu", False, True, None),
        ("gpu", True, False, None),
    ],
)
def test_the_cpu_fuses_only_what_asks_for_it_where_the_process_can(
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    has_fusion: bool,
    is_fused: bool,
    options: dict[str, str] | None,
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jit, "has_multi_output_fusion", lambda: has_fusion)
    assert cpu_compiler_options(is_fused=is_fused) == options


def test_these_tests_compile_as_the_commands_do() -> None:
    assert has_multi_output_fusion()


ASK = """
import os
import jax.numpy as jnp
from passline.sim.jit import has_multi_output_fusion
from passline.sim.xla import tune_xla
first, second = {order}
first()
second()
print(has_multi_output_fusion())
"""


@pytest.mark.parametrize(("order", "answer"), [("tune, array", "True"), ("array, tune", "False")])
def test_flags_that_came_too_late_are_known_not_to_hold(order: str, answer: str) -> None:
    words = order.replace("tune", "tune_xla").replace("array", "lambda: jnp.ones(1)")
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", ASK.format(order=words)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [answer]
    assert MULTI_OUTPUT_FUSION not in env
