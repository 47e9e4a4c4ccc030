"""A training that begins with given weights: its first phase has them, and only them, before it."""

from dataclasses import replace

import jax
import numpy as np

from passline.learn import curriculum, network
from passline.learn.curriculum import train_curriculum
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES
from small_training import CONFIG, MAKE_ONCE, PPO, Recorder, two_phases


def test_training_begins_with_the_weights_given(prepared, phases, cut, tmp_path, monkeypatch):
    seen = []

    def gates(*given, **_):
        seen.append(given[6])
        return [], None

    monkeypatch.setattr(curriculum, "make_update", MAKE_ONCE)
    monkeypatch.setattr(curriculum, "pass_gates", gates)
    monkeypatch.setattr(curriculum, "look_at_gate", lambda *a, **k: (None, 0.0))
    base = network.init_params(jax.random.key(99), len(OBSERVATION_NAMES), N_ACTIONS, PPO.hidden)
    short = replace(CONFIG, total_steps=2 * PPO.batch_size)
    trained = train_curriculum(
        prepared, two_phases(phases)[1:], cut, PPO, short, Recorder(), tmp_path, base=base
    )
    (before,) = seen
    for net, layers in base.items():
        for name, values in layers.items():
            np.testing.assert_array_equal(before[net][name], values)
    after = jax.tree.leaves(trained.network)
    assert any(
        (np.asarray(a) != b).any() for a, b in zip(after, jax.tree.leaves(base), strict=True)
    )
