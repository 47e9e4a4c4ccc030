"""What is compiled with multi-output fusion, on which jaxlib aborts for some programs, compiles."""

import subprocess
import sys
from pathlib import Path

import pytest

SIZES = (
    (1, 128, "bfloat16", (128, 128)),
    (2, 128, "float32", (128, 128)),
    (3, 4, "bfloat16", (16,)),
    (7, 16, "float32", (64, 64, 64)),
    (11, 11, "float32", (128, 128)),
    (16, 128, "bfloat16", (32,)),
    (42, 8, "float32", (128,)),
    (68, 68, "bfloat16", (68,)),
    (100, 7, "float32", (11,)),
    (128, 128, "bfloat16", (128, 128)),
    (256, 64, "bfloat16", (256, 256)),
    (512, 128, "float32", (128, 128)),
    (768, 128, "bfloat16", (128, 128)),
    (1000, 128, "float32", (128, 128)),
    (4096, 32, "bfloat16", (128, 128)),
)
"""Lanes of a share, steps, precision, hidden layers: powers of two, odd ones, and counts that
coincide with inputs (68), features (42) and actions (11)."""

CHILD = """
import sys
from datetime import date

from passline.sim.xla import tune_xla

tune_xla()

import jax
import numpy as np

from passline.envs.making import make_task
from passline.learn import ppo, rollout
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.sim.jit import has_multi_output_fusion, sim_jit
from passline.task import env
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES

assert has_multi_output_fusion()
days = SyntheticConfig(start_date=date(2024, 1, 2), end_date=date(2024, 3, 1))
bars = synthesize(days, seed=0).bars
params = make_task(bars, "apex-intraday-50k", "account", part="whole").params
key = jax.random.key(0)
for n_lanes, n_steps, precision, hidden in {sizes}:
    config = ppo.PPOConfig(
        n_lanes=n_lanes, share_lanes=n_lanes, rollout_steps=n_steps, lane_block=1,
        minibatch_size=n_lanes * n_steps, hidden=hidden, precision=precision,
    )
    lanes = env.compiled_reset()(params, key, n_lanes)
    if n_lanes == 256:
        plain = sim_jit(env.reset, static_argnums=2)(params, key, n_lanes)
        jax.tree.map(np.testing.assert_array_equal, lanes, plain)
    state = ppo.init_train_state(config, lanes, len(OBSERVATION_NAMES), N_ACTIONS, key)

    def play(params, weights, lanes, key):
        return rollout.play(env, config, params, weights, lanes, key)

    played = sim_jit(play, is_fused=True)(params, state.params, rollout.lanes_of(state), key)
    assert bool((played.steps.log_prob <= 0).all())
    print("ok", n_lanes, flush=True)
"""


PLAYED = (
    (1, 64, "bfloat16", (128, 128)),
    (3, 1, "float32", (16,)),
    (11, 3, "float32", (11,)),
    (68, 7, "bfloat16", (68,)),
    (256, 64, "bfloat16", (128, 128)),
    (300, 42, "float32", (64, 64, 64)),
    (2_000, 64, "float32", (128, 128)),
    (1_000, 256, "float32", (256, 256)),
)
"""Episodes, lanes, precision that no player reads, hidden layers."""

PLAYER = """
import sys
from datetime import date

from passline.sim.xla import tune_xla

tune_xla()

import jax
import numpy as np

from passline.envs.making import make_task
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_and_log
from passline.learn import network
from passline.learn.settings import PPOConfig
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.pipeline import untrained_network
from passline.sim.jit import has_multi_output_fusion
from passline.task import env

assert has_multi_output_fusion()
days = SyntheticConfig(start_date=date(2024, 1, 2), end_date=date(2024, 3, 1))
bars = synthesize(days, seed=0).bars
params = make_task(bars, "apex-intraday-50k", "entry", part="whole").params
for n, n_lanes, precision, hidden in {sizes}:
    starts = env.compiled_reset()(params, jax.random.key(n), n)
    weights = untrained_network(PPOConfig(hidden=hidden, precision=precision))
    for kind in (PolicyKind.AGENT, PolicyKind.RANDOM_ENTRY):
        policy = scripted(kind, weights, entry_rate=0.05)
        episodes, trips = play_and_log(
            params, network.act_greedy, policy, starts, seed=0, n_lanes=n_lanes
        )
        counted = np.bincount(trips.episode, minlength=n)
        assert (counted == episodes.n_trips).all() and len(episodes.length) == n
    print("ok", n, flush=True)
"""


def compiled_in_child(script: Path, text: str) -> tuple[list[int], str]:
    """Runs a script in a process of its own; returns what it said was sound, and its errors."""
    script.write_text(text, encoding="utf-8")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    return [int(line.split()[1]) for line in run.stdout.splitlines()], run.stderr


@pytest.mark.proof
def test_the_fused_rollout_compiles_at_sizes_of_every_kind(figure, tmp_path: Path) -> None:
    compiled, errors = compiled_in_child(tmp_path / "child.py", CHILD.format(sizes=SIZES))
    figure("sizes at which the fused rollout compiles", len(compiled), f"all {len(SIZES)}")
    assert compiled == [size[0] for size in SIZES], errors


@pytest.mark.proof
def test_the_fused_player_compiles_at_sizes_of_every_kind(figure, tmp_path: Path) -> None:
    compiled, errors = compiled_in_child(tmp_path / "child.py", PLAYER.format(sizes=PLAYED))
    figure("sizes at which the fused player compiles", len(compiled), f"all {len(PLAYED)}")
    assert compiled == [size[0] for size in PLAYED], errors


ABORTS = """
from passline.sim.xla import tune_xla

tune_xla()

import jax
import jax.numpy as jnp

def body(carry, _):
    a, b, x = carry
    rows = jnp.where(x % 7 == 0, x % 64, 64)
    return (a.at[rows].set(x, mode="drop"), b.at[rows].set(-x, mode="drop"), x + 1), None

zeros, x = jnp.zeros(64, jnp.int32), jnp.arange(16, dtype=jnp.int32)
jax.jit(lambda c: jax.lax.scan(body, c, None, length=8)[0])((zeros, zeros, x))
print("ok 1")
"""


def test_the_fault_that_keeps_fusion_from_being_the_rule_is_still_there(tmp_path: Path) -> None:
    """Where this fails, jaxlib has mended it: everything may be compiled fused (sim/jit.py)."""
    compiled, errors = compiled_in_child(tmp_path / "child.py", ABORTS)
    assert compiled == []
    assert "GetNumDims() == other.GetNumResults()" in errors
