"""A phase that leaves the agent worse off on its training days is undone, and it is told."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from driving import same_bits
from passline.evaluate.stats import mean_interval
from passline.learn import curriculum, network
from passline.learn.checkpoint import list_checkpoints
from passline.learn.phase_gain import gain_scalars, is_gain, phase_gain
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES
from small_training import Recorder, train

LOST = mean_interval(np.array([-1.0, 0.0, 0.0, 0.0]), np.arange(4))


def leaning(action: int) -> network.Params:
    """An untrained policy with one action likelier than all others wherever it is legal."""
    key = jax.random.key(0)
    params = network.init_params(key, len(OBSERVATION_NAMES), N_ACTIONS, (8,))
    actor = dict(params["actor"])
    actor["b1"] = actor["b1"].at[action].add(50.0)
    return {**params, "actor": actor}


FLAT, ALWAYS_LONG = leaning(0), leaning(5)


def gained(prepared, params, cut, before, after) -> Any:
    return phase_gain(prepared, params, cut.train, before, after, n=24, seed=3)


def test_the_gain_is_what_the_new_policy_is_paid_more_from_the_same_starts(
    prepared, phases, cut, params_of
) -> None:
    """Always long ends at the floor, at potential 0; an account that never trades keeps its own."""
    params = params_of(prepared, phases["account"])
    better = gained(prepared, params, cut, ALWAYS_LONG, FLAT)
    worse = gained(prepared, params, cut, FLAT, ALWAYS_LONG)
    same = gained(prepared, params, cut, ALWAYS_LONG, ALWAYS_LONG)
    assert better.value == -worse.value > 1.0
    assert (is_gain(better), is_gain(worse), is_gain(same)) == (True, False, True)
    assert same.value == 0
    assert worse == gained(prepared, params, cut, FLAT, ALWAYS_LONG)
    alone = dataclasses.replace(worse, low=-np.inf, high=np.inf)
    assert gain_scalars(alone) == {"phase_gain/value": worse.value}


def test_nothing_is_concluded_without_room(prepared, phases, cut, params_of) -> None:
    params = params_of(prepared, phases["account"])
    first, _ = cut.train[0]
    short = dataclasses.replace(cut, train=[(first, first + 500)])
    assert gained(prepared, params, short, FLAT, ALWAYS_LONG) is None


@pytest.mark.parametrize("forced", [False, True])
def test_a_phase_that_does_worse_is_undone_unless_forced(
    forced, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """The policy is the one that the phase began with; the critic keeps what it learned."""
    asked = []

    def lost(_prepared: Any, _params: Any, _train: Any, before: Any, *_: Any, **__: Any):
        asked.append(before)
        return LOST

    monkeypatch.setattr(curriculum, "phase_gain", lost)
    recorder = Recorder()
    trained = train(prepared, phases, cut, tmp_path, monkeypatch, recorder, forced=forced)
    [before] = asked
    told = [s["phase_gain/is_kept"] for _, _, s in recorder.scalars if "phase_gain/is_kept" in s]
    assert told == [float(forced)]
    assert same_bits(trained.network["actor"], before["actor"]) is not forced
    assert not same_bits(trained.network["critic"], before["critic"])
    assert list_checkpoints(tmp_path)


def test_a_phase_from_given_weights_is_compared_and_one_from_drawn_ones_is_not(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    asked = []
    monkeypatch.setattr(curriculum, "phase_gain", lambda *a, **k: asked.append(a[2]))
    by_rollouts = dict(phases) | {
        "entry": dataclasses.replace(phases["entry"], learner="ppo", learning_rate=None)
    }
    first = train(prepared, by_rollouts, cut, tmp_path / "a", monkeypatch, Recorder(), n_phases=1)
    assert asked == []
    train(
        prepared,
        by_rollouts,
        cut,
        tmp_path / "b",
        monkeypatch,
        Recorder(),
        n_phases=1,
        base=first.network,
    )
    assert asked == [cut.train]
