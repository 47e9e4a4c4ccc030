"""A trial: the whole job in memory, the same for the same seed, and compiled once."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from driving import same_bits
from passline.errors import ConfigError
from passline.evaluate.slices import SliceConfig, Split, split
from passline.evaluate.table import AGENT
from passline.evaluate.verdict import VerdictWord
from passline.learn.curriculum import CurriculumConfig, train_curriculum
from passline.task.phases import Gate, Phase
from passline.task.prepare import Prepared
from passline.trials import Earned, TrialResult, earn, run_trial
from small_training import PPO, Recorder

BUDGET = CurriculumConfig(total_steps=256 * 2, n_gate_episodes=8)


def asking(above: float, *phases: Phase) -> tuple[Phase, ...]:
    """The phases, their gates on single sessions and asking for `above`."""
    gate = Gate(measure="trip_r", above=above, days=0)
    return tuple(replace(phase, gate=(gate,)) for phase in phases)


def trial(prepared: Prepared, cut: Split, curriculum: Any, **changes: Any) -> TrialResult:
    given = {"seed": 1, "n_episodes": 12, "test_seed": 5, "baselines": ("flat", "always long")}
    return run_trial(prepared, cut, curriculum, PPO, BUDGET, **{**given, **changes})


@pytest.fixture(scope="module")
def quick(prepared: Prepared) -> Prepared:
    """The shared market under a book that gives two days: short episodes, the same shapes."""
    days = np.asarray(2, np.int32)
    return replace(prepared, rules=prepared.rules._replace(time_limit_days=days))


@pytest.fixture(scope="module")
def easy(phases: Mapping[str, Phase]) -> tuple[Phase, ...]:
    """One phase with a gate that everyone passes."""
    return asking(-1e9, phases["manage"])


@pytest.fixture(scope="module")
def first(quick: Prepared, cut: Split, easy: tuple[Phase, ...]) -> TrialResult:
    return trial(quick, cut, easy)


def test_a_trial_is_the_run_without_its_files(first, quick, cut, easy, tmp_path) -> None:
    settings = replace(BUDGET, seed=1, evaluations_per_phase=1)
    recorder = Recorder()
    kept = train_curriculum(quick, easy, cut, PPO, settings, recorder, tmp_path)
    assert same_bits(kept.network, first.policy)
    assert kept.step == first.n_steps == 512
    assert [gate.measure for gate in kept.gates] == [gate.measure for gate in first.gates]
    assert list(tmp_path.glob("*.safetensors"))


def test_the_same_seed_gives_the_same_trial_and_another_seed_another(
    first, quick, cut, easy
) -> None:
    again, other = trial(quick, cut, easy), trial(quick, cut, easy, seed=2)
    assert again.weights_sha256 == first.weights_sha256 != other.weights_sha256
    assert again.fingerprint == first.fingerprint != other.fingerprint
    np.testing.assert_array_equal(again.table.result_mills, first.table.result_mills)
    assert not np.array_equal(other.table.result_mills, first.table.result_mills)
    assert sorted(set(first.table.policy)) == [AGENT, "always long", "flat"]
    assert (first.pass_rate, first.advantage, first.result) == (
        again.pass_rate,
        again.advantage,
        again.result,
    )


def test_a_later_trial_on_another_cut_compiles_nothing(first, quick, easy, caplog) -> None:
    """Other training, gate and test ranges, another number of episodes, other learning rates."""
    other = split(quick, SliceConfig(test_days=44, gate_days=34, embargo_days=4))
    ppo = replace(PPO, learning_rate=1e-3, clip_range=0.1)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run_trial(
            quick, other, easy, ppo, BUDGET, seed=9, n_episodes=17, test_seed=3,
            baselines=("flat", "always long", "random entry"),
        )  # fmt: skip
    compiled = [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]
    assert compiled == []
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x * 3 + len(compiled))(np.arange(7))
    assert any("Compiling" in r.getMessage() for r in caplog.records), "the log would show it"


def test_a_training_that_a_gate_stopped_is_judged_as_staying_flat(
    quick, cut, phases, first
) -> None:
    stopped = trial(quick, cut, asking(1e9, phases["entry"], phases["manage"]))
    agent = stopped.table.where(policy=AGENT)
    assert stopped.is_flat
    assert stopped.stopped_at is not None
    assert (stopped.phase, stopped.n_steps) == ("entry", 256)
    assert not agent.n_trips.any()
    assert not agent.result_mills.any()
    assert stopped.verdict.word is VerdictWord.NO_EDGE
    assert "It never traded." in stopped.verdict.reasons
    assert not first.is_flat
    assert first.table.where(policy=AGENT).n_trips.any()


def test_a_failed_last_gate_counts_too_and_a_forced_trial_goes_on(quick, cut, phases) -> None:
    last = trial(quick, cut, asking(1e9, phases["manage"]))
    assert last.stopped_at is None
    assert last.is_flat
    forced = trial(quick, cut, asking(1e9, phases["entry"], phases["manage"]), forced=True)
    # One update of each: 16 lanes, then the 8 that fill a minibatch.
    assert (forced.phase, forced.n_steps) == ("manage", 256 + 128)
    assert not forced.is_flat
    assert forced.table.where(policy=AGENT).n_trips.any()


def test_what_the_agent_earns_is_what_the_trial_says_and_a_flat_one_earns_nothing(
    first, quick, cut, easy, phases
) -> None:
    given: dict[str, Any] = {"seed": 1, "n_episodes": 12, "test_seed": 5}
    earned = earn(quick, cut, easy, PPO, BUDGET, **given)
    assert earned.result == pytest.approx(first.result, rel=1e-12)
    assert earned.result != 0
    assert (earned.pass_rate, earned.is_flat) == (first.pass_rate, False)
    stopped = asking(1e9, phases["entry"], phases["manage"])
    assert earn(quick, cut, stopped, PPO, BUDGET, **given) == Earned(0.0, 0.0, True)


def test_the_worst_path_comes_first(quick, cut, easy) -> None:
    with pytest.raises(ConfigError, match=r"paths was \['best'\]; the first must be worst"):
        trial(quick, cut, easy, paths=("best",))
