"""The course of a training: what is counted, what a checkpoint carries, and resuming to the bit."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from driving import same_bits
from passline.errors import CheckpointError, ConfigError
from passline.evaluate.stats import Estimate
from passline.learn import curriculum
from passline.learn.checkpoint import list_checkpoints
from passline.learn.cross_fit import CrossFit
from passline.learn.curriculum import (
    CurriculumConfig,
    best_checkpoints,
    load_network,
    phase_settings,
    updates_by_phase,
)
from passline.learn.full_information import cut_stretches, greedy_results
from passline.sim.layout import DoneReason
from passline.task.actions import ACTION_NAMES
from passline.task.prepare import phase_params
from small_training import CONFIG, N_UPDATES, PPO, Recorder, train, two_phases


@pytest.fixture(scope="module")
def straight(prepared, phases, cut, tmp_path_factory) -> Any:
    """A training that nothing stopped: (result, recorder, folder)."""
    folder = tmp_path_factory.mktemp("straight")
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        trained = train(prepared, phases, cut, folder, patch, recorder)
    return trained, recorder, folder


def newest(folder: Any) -> dict[str, np.ndarray]:
    last = max(list_checkpoints(folder), key=lambda info: info.meta["step"])
    return safetensors.numpy.load_file(last.tensors)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 6])
def test_a_killed_training_goes_on_to_the_same_bits(
    stop_after, straight, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Killed before the first checkpoint, between two, at a phase's end, and in the second.

    The first phase learns from full information, the second from rollouts.
    """
    whole, recorder, folder = straight
    first = Recorder(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, phases, cut, tmp_path, monkeypatch, first)
    again = Recorder()
    resumed = train(prepared, phases, cut, tmp_path, monkeypatch, again)
    assert same_bits(resumed.network, whole.network)
    assert resumed.step == whole.step == 256 * sum(N_UPDATES)
    ours, theirs = newest(tmp_path), newest(folder)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    tail = recorder.scalars[-len(again.scalars) :]
    for (phase, step, mine), (other_phase, other_step, other) in zip(
        again.scalars, tail, strict=True
    ):
        assert (phase, step) == (other_phase, other_step)
        assert {k: v for k, v in mine.items() if k != "time/fps"} == {
            k: v for k, v in other.items() if k != "time/fps"
        }


def kept(folder: Any) -> list[tuple[str, int]]:
    return [(info.meta["phase"], info.meta["update"]) for info in list_checkpoints(folder)]


def test_every_nth_checkpoint_of_a_phase_outlives_those_that_follow(
    prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    config = dataclasses.replace(CONFIG, checkpoint_every=1, keep_every=2, evaluations_per_phase=1)
    train(prepared, phases, cut, tmp_path, monkeypatch, Recorder(), config)
    assert kept(tmp_path) == [("entry", 2), ("entry", 4), ("manage", 2), ("manage", 3)]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((0.7, 0.2, 0.6, -0.3, -0.5, -0.4), [(1, 0.7), (1, -0.3)]),
        ((0.1, 0.7, 0.7, 0.1, 0.2, 0.3), [(4, 0.7), (3, 0.3)]),
    ],
)
def test_the_best_checkpoint_of_a_phase_outlives_those_that_follow(
    scores, best, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Looks after updates 1 and 3 of the first phase and 1 and 2 of the second, then the gates.

    Of equals the newest; of checkpoints that were never looked at, none.
    """
    config = dataclasses.replace(CONFIG, checkpoint_every=1, keep_every=0)
    train(prepared, phases, cut, tmp_path, monkeypatch, Recorder(), config, scores)
    (first, low), (second, high) = best
    ends = {("entry", 4), ("manage", 3)}
    assert set(kept(tmp_path)) == {("entry", first), ("manage", second), *ends}
    found = best_checkpoints(tmp_path)
    assert [(b.phase, b.step, b.measure, b.value) for b in found] == [
        ("entry", 256 * first, "trip_r", low),
        ("manage", 256 * (4 + second), "result", high),
    ]
    assert all((tmp_path / f"{b.checkpoint}.toml").is_file() for b in found)


def test_the_phases_follow_one_another_with_their_own_share(straight, phases) -> None:
    _, recorder, _ = straight
    assert [name for name, _, _ in recorder.scalars] == ["entry"] * 4 + ["manage"] * 3
    assert [step for _, step, _ in recorder.scalars] == [256 * (n + 1) for n in range(7)]
    assert recorder.n_gates == 2
    assert recorder.n_looks == 4
    assert updates_by_phase(two_phases(phases), PPO, CONFIG) == list(N_UPDATES)


@pytest.mark.parametrize(
    ("share", "n_lanes"), [(1.0, 16), (0.5, 8), (0.2, 8), (0.75, 16), (0.001, 8)]
)
def test_a_phase_plays_the_lanes_that_fill_whole_minibatches(share, n_lanes, phases) -> None:
    """Minibatches of 128 decisions, 16 steps a lane: 8 lanes fill one."""
    settings = phase_settings(PPO, dataclasses.replace(phases["manage"], lane_share=share))
    assert settings.n_lanes == n_lanes
    assert settings.batch_size % settings.minibatch_size == 0


@pytest.mark.parametrize("stop_after", [4, 7])
def test_fewer_lanes_take_more_updates_and_go_on_to_the_same_bits(
    stop_after, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Killed at the end of the first phase, and within the second, which has half the lanes."""
    folders = tmp_path / "whole", tmp_path / "killed"
    recorder = Recorder()
    whole = train(prepared, phases, cut, folders[0], monkeypatch, recorder, lane_share=0.5)
    steps = [step for _, step, _ in recorder.scalars]
    assert steps == [256 * (n + 1) for n in range(4)] + [1024 + 128 * (n + 1) for n in range(6)]
    lanes = [scalars["rollout/n_lanes"] for _, _, scalars in recorder.scalars]
    assert lanes == [16] * 4 + [8] * 6
    first = Recorder(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, phases, cut, folders[1], monkeypatch, first, lane_share=0.5)
    resumed = train(prepared, phases, cut, folders[1], monkeypatch, Recorder(), lane_share=0.5)
    assert same_bits(resumed.network, whole.network)
    assert resumed.step == whole.step == 256 * sum(N_UPDATES)
    ours, theirs = newest(folders[1]), newest(folders[0])
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_scalars_have_the_usual_names_and_add_up(straight) -> None:
    _, recorder, _ = straight
    for phase, _, scalars in recorder.scalars:
        assert {"train/approx_kl", "train/explained_variance", "time/fps"} <= set(scalars)
        assert all(np.isfinite(v) for v in scalars.values())
        shares = sum(scalars[f"actions/{name}"] for name in ACTION_NAMES)
        assert shares == pytest.approx(1.0)
        unused = [f"actions/{n}" for n in ACTION_NAMES if n.endswith(("_2", "_3"))]
        assert all(scalars[name] == 0 for name in unused)
        if phase == "entry":  # learned from outcomes: no account is played
            assert not any(name.startswith(("account/", "done/", "mix/")) for name in scalars)
            continue
        assert scalars["account/invalid"] == 0
        n_episodes = scalars["rollout/n_episodes"]
        ends = [scalars[f"done/{r.name.lower()}"] for r in DoneReason if r is not DoneReason.NONE]
        assert sum(ends) == pytest.approx(1.0 if n_episodes else 0.0)
        counted = sum(v for k, v in scalars.items() if k.startswith("mix/") and "episodes" in k)
        assert counted == n_episodes
        unpaid = {"trip_r", "equity", "potential"}
        assert all(scalars[f"reward/{name}"] == 0 for name in unpaid)


def test_the_newest_policy_is_read_without_the_learner(straight) -> None:
    trained, _, folder = straight
    params, meta = load_network(folder, PPO)
    assert same_bits(params, trained.network)
    assert meta["phase"] == "manage"
    assert meta["step"] == trained.step


def test_a_policy_of_other_inputs_or_another_network_is_refused(
    straight, monkeypatch, tmp_path
) -> None:
    _, _, folder = straight
    wider = PPO.__class__(n_lanes=16, rollout_steps=16, minibatch_size=128, hidden=(16, 8))
    with pytest.raises(CheckpointError, match=r"not of shape .* give the same --hidden"):
        load_network(folder, wider)
    monkeypatch.setattr("passline.learn.curriculum.OBSERVATION_NAMES", ("one", "two"))
    with pytest.raises(CheckpointError, match="trained on other observation than this version"):
        load_network(folder, PPO)
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        load_network(tmp_path, PPO)


@pytest.mark.parametrize(
    "name", ["total_steps", "checkpoint_every", "n_gate_episodes", "evaluations_per_phase"]
)
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} was 0"):
        CurriculumConfig(**{name: 0})


@pytest.mark.parametrize("forced", [False, True])
def test_entries_that_hold_on_no_other_day_end_flat_unless_forced(
    forced, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """Whatever was found is told; only a forced training keeps entries that do not earn."""
    lost = CrossFit(results=np.array([-1.0, 0.5, -2.0, 0.2]), week=np.arange(4))
    monkeypatch.setattr(curriculum, "cross_fit", lambda *a, **k: lost)
    recorder = Recorder()
    trained = train(
        prepared, phases, cut, tmp_path, monkeypatch, recorder, forced=forced, n_phases=1
    )
    shown = [s["cross_fit/is_shown"] for _, _, s in recorder.scalars if "cross_fit/is_shown" in s]
    assert shown == [0.0]
    params = phase_params(prepared, phases["entry"], cut.train)
    results, _ = greedy_results(params, cut_stretches(params, cut.train, PPO), PPO, trained.network)
    assert results.any() == forced


@pytest.mark.parametrize("fails", ["entry", "manage"])
def test_a_training_that_was_stopped_and_forced_on_ends_as_one_forced_at_once(
    fails, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    """What was made flat, or undone, is there still for the one who insists on it."""
    lost = CrossFit(results=np.array([-1.0, 0.5, -2.0, 0.2]), week=np.arange(4))
    worse = Estimate(value=-1.0, low=-2.0, high=-0.5, n=9, n_clusters=9, n_effective=9.0)
    found = (lost, None) if fails == "entry" else (None, worse)
    monkeypatch.setattr(curriculum, "cross_fit", lambda *a, **k: found[0])
    monkeypatch.setattr(curriculum, "phase_gain", lambda *a, **k: found[1])

    def run(name: str, *, forced: bool) -> Any:
        folder = tmp_path / name
        return train(
            prepared, phases, cut, folder, monkeypatch, Recorder(), forced=forced, fails=fails
        )

    whole = run("whole", forced=True)
    stopped = run("parts", forced=False)
    assert not same_bits(whole.network, stopped.network)
    assert same_bits(run("parts", forced=False).network, stopped.network)
    assert same_bits(run("parts", forced=True).network, whole.network)
    assert same_bits(newest(tmp_path / "parts"), newest(tmp_path / "whole"))


def test_weights_from_elsewhere_are_not_tested_on_halves_they_may_know(
    prepared, phases, cut, tmp_path, monkeypatch, straight
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("halves were played")

    monkeypatch.setattr(curriculum, "cross_fit", refuse)
    base = straight[0].network
    train(prepared, phases, cut, tmp_path, monkeypatch, Recorder(), n_phases=1, base=base)


def test_outcomes_are_simulated_once_a_phase(prepared, phases, cut, tmp_path, monkeypatch) -> None:
    calls = []
    real = curriculum.cut_stretches
    monkeypatch.setattr(curriculum, "cut_stretches", lambda *a: calls.append(a) or real(*a))
    train(prepared, phases, cut, tmp_path, monkeypatch, Recorder())
    assert len(calls) == 1
