"""The rollout is compiled with multi-output fusion, on which jaxlib aborts for some programs."""

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
    lanes = sim_jit(env.reset, static_argnums=2)(params, key, n_lanes)
    state = ppo.init_train_state(config, lanes, len(OBSERVATION_NAMES), N_ACTIONS, key)

    def play(params, weights, lanes, key):
        return rollout.play(env, config, params, weights, lanes, key)

    played = sim_jit(play, is_fused=True)(params, state.params, rollout.lanes_of(state), key)
    assert bool((played.steps.log_prob <= 0).all())
    print("ok", n_lanes, flush=True)
"""


@pytest.mark.proof
def test_the_fused_rollout_compiles_at_sizes_of_every_kind(figure, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(sizes=SIZES), encoding="utf-8")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    compiled = [int(line.split()[1]) for line in run.stdout.splitlines()]
    figure("sizes at which the fused rollout compiles", len(compiled), f"all {len(SIZES)}")
    assert compiled == [size[0] for size in SIZES], run.stderr[-2000:]
