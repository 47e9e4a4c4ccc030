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
from passline.learn.phase_gain import PhaseGain, compared_gate, phase_gain
from passline.task.actions import N_ACTIONS
from passline.task.phases import Gate
from passline.task.prepare import OBSERVATION_NAMES
from small_training import Recorder, train

LOST = PhaseGain(
    measure="breach_rate_below_previous",
    estimate=mean_interval(np.array([-1.0, 0.0, 0.0, 0.0]), np.arange(4)),
)


def leaning(action: int) -> network.Params:
    """An untrained policy with one action likelier than all others wherever it is legal."""
    key = jax.random.key(0)
    params = network.init_params(key, len(OBSERVATION_NAMES), N_ACTIONS, (8,))
    actor = dict(params["actor"])
    actor["b1"] = actor["b1"].at[action].add(50.0)
    return {**params, "actor": actor}


FLAT, ALWAYS_LONG = leaning(0), leaning(5)


def gained(prepared, params_of, phase, cut, before, after) -> Any:
    params = params_of(prepared, phase)
    return phase_gain(prepared, params, phase, cut.train, before, after, n=24, seed=3)


def test_policies_are_compared_by_what_the_gate_sets_against_another(phases) -> None:
    assert {name: compared_gate(phase).measure for name, phase in phases.items()} == {
        "entry": "trip_r",
        "manage": "breach_rate_below_previous",
        "account": "pass_rate_above_random",
    }


def test_the_gain_is_what_the_new_policy_does_better_from_the_same_starts(
    prepared, phases, cut, params_of
) -> None:
    """Always long loses accounts that an account which never trades does not."""
    phase = phases["manage"]
    better = gained(prepared, params_of, phase, cut, ALWAYS_LONG, FLAT)
    worse = gained(prepared, params_of, phase, cut, FLAT, ALWAYS_LONG)
    same = gained(prepared, params_of, phase, cut, ALWAYS_LONG, ALWAYS_LONG)
    assert better.estimate.value == -worse.estimate.value > 0.1
    assert (better.is_kept, worse.is_kept, same.is_kept) == (True, False, True)
    assert same.estimate.value == 0
    assert worse.scalars()["phase_gain/is_kept"] == 0.0
    assert worse == gained(prepared, params_of, phase, cut, FLAT, ALWAYS_LONG)


def test_results_are_compared_where_no_gate_sets_policies_against_each_other(
    prepared, phases, cut, params_of
) -> None:
    phase = dataclasses.replace(phases["manage"], gate=(Gate(measure="result", above=0.0, days=7),))
    found = gained(prepared, params_of, phase, cut, FLAT, ALWAYS_LONG)
    assert found.measure == "result"
    assert found.estimate.value != 0


def test_nothing_is_concluded_without_room(prepared, phases, cut, params_of) -> None:
    phase = phases["manage"]
    first, _ = cut.train[0]
    short = dataclasses.replace(cut, train=[(first, first + 500)])
    assert gained(prepared, params_of, phase, short, FLAT, ALWAYS_LONG) is None


@pytest.mark.parametrize("forced", [False, True])
def test_a_phase_that_does_worse_is_undone_unless_forced(
    forced, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """The policy is the one that the phase began with; the critic keeps what it learned."""
    asked = []

    def lost(
        _prepared: Any, _params: Any, phase: Any, _train: Any, before: Any, *_: Any, **__: Any
    ):
        asked.append((phase.name, before))
        return LOST

    monkeypatch.setattr(curriculum, "phase_gain", lost)
    recorder = Recorder()
    trained = train(prepared, phases, cut, tmp_path, monkeypatch, recorder, forced=forced)
    [(name, before)] = asked
    assert name == "manage"
    told = [s["phase_gain/is_kept"] for _, _, s in recorder.scalars if "phase_gain/is_kept" in s]
    assert told == [0.0]
    assert same_bits(trained.network["actor"], before["actor"]) is not forced
    assert not same_bits(trained.network["critic"], before["critic"])
    assert list_checkpoints(tmp_path)


def test_a_phase_from_given_weights_is_compared_and_one_from_drawn_ones_is_not(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    asked = []
    monkeypatch.setattr(curriculum, "phase_gain", lambda *a, **k: asked.append(a[2].name))
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
    assert asked == ["entry"]
