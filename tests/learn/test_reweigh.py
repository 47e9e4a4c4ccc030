"""Episodes begin where the agent fails, on training days alone, and a resumed training agrees."""

import dataclasses

import jax
import numpy as np
import pytest

from driving import same_bits
from passline.errors import ConfigError
from passline.learn import network
from passline.learn.checkpoint import list_checkpoints
from passline.learn.curriculum import CurriculumConfig
from passline.learn.reweigh import failure_rates, start_weights, stored_rates
from passline.task.actions import N_ACTIONS
from passline.task.episodes import resampled
from passline.task.prepare import OBSERVATION_NAMES, phase_params
from small_training import CONFIG, Recorder, train

REWEIGHED = dataclasses.replace(CONFIG, reweigh=0.8)


def test_a_pool_is_drawn_by_weight_and_keeps_its_length_and_order() -> None:
    pool = np.arange(100, 200, dtype=np.int32)
    weights = np.ones(300)
    np.testing.assert_array_equal(resampled(pool, weights), pool)
    weights[150:] = 3.0
    drawn = resampled(pool, weights)
    assert len(drawn) == 100
    assert (np.diff(drawn) >= 0).all()
    assert np.count_nonzero(drawn >= 150) == 75
    weights[:] = 0.0
    np.testing.assert_array_equal(resampled(pool, weights), pool)


def test_months_weigh_by_how_often_the_agent_fails_there(prepared, cut) -> None:
    first, stop = cut.train[0]
    days = prepared.compiled.tape.day[first:stop].astype("datetime64[D]")
    names = [f"train-SYN-{m}" for m in np.unique(days.astype("datetime64[M]"))]
    assert len(names) >= 2
    rates = dict.fromkeys(names, 0.2) | {names[0]: 0.6}
    weights = start_weights(prepared, cut.train, rates, 0.5)
    assert weights is not None
    mean = np.mean(list(rates.values()))
    assert weights[first] == pytest.approx(0.5 + 0.5 * 0.6 / mean)
    assert weights[stop - 1] == pytest.approx(0.5 + 0.5 * 0.2 / mean)
    assert start_weights(prepared, cut.train, {}, 0.5) is None
    assert start_weights(prepared, cut.train, dict.fromkeys(names, 0.0), 0.5) is None


def test_rates_are_of_training_months_and_starts_stay_inside_them(prepared, phases, cut) -> None:
    params = phase_params(prepared, phases["account"], cut.train)
    untrained = network.init_params(jax.random.key(0), len(OBSERVATION_NAMES), N_ACTIONS, (16,))
    rates = failure_rates(prepared, params, cut.train, untrained, seed=3)
    assert all(name.startswith("train-SYN-") for name in rates)
    assert all(0 < rate <= 1 for rate in rates.values())
    assert rates == failure_rates(prepared, params, cut.train, untrained, seed=3)
    skewed = {name: float(i == 0) for i, name in enumerate(sorted(rates))}
    weights = start_weights(prepared, cut.train, skewed, 1.0)
    mix = phase_params(prepared, phases["account"], cut.train, weights).mix
    plain = params.mix
    assert np.asarray(mix.starts).shape == np.asarray(plain.starts).shape
    n, begin = int(mix.n_starts[1]), int(mix.offset[1])
    drawn = np.asarray(mix.starts)[begin : begin + n]
    first, stop = cut.train[0]
    assert ((drawn >= first) & (drawn < stop)).all()
    months = prepared.compiled.tape.day[drawn].astype("datetime64[D]").astype("datetime64[M]")
    assert {f"train-SYN-{m}" for m in months} == {sorted(rates)[0]}


@pytest.mark.parametrize("stop_after", [5, 6])
def test_a_killed_training_goes_on_with_the_same_starts(
    stop_after, prepared, phases, cut, tmp_path, monkeypatch
) -> None:
    whole_dir, part_dir = tmp_path / "whole", tmp_path / "part"
    whole_dir.mkdir()
    part_dir.mkdir()
    recorder = Recorder()
    whole = train(prepared, phases, cut, whole_dir, monkeypatch, recorder, REWEIGHED)
    with pytest.raises(KeyboardInterrupt):
        train(
            prepared, phases, cut, part_dir, monkeypatch, Recorder(stop_after=stop_after), REWEIGHED
        )
    resumed = train(prepared, phases, cut, part_dir, monkeypatch, Recorder(), REWEIGHED)
    assert same_bits(resumed.network, whole.network)
    rates = stored_rates(whole_dir)
    assert rates
    assert rates == stored_rates(part_dir)
    by_phase = {info.meta["phase"]: info.meta for info in list_checkpoints(whole_dir)}
    assert "failure_rates" not in by_phase["entry"]
    logged = [s["mix/failure_rate"] for phase, _, s in recorder.scalars if phase == "manage"]
    assert logged[-1] == pytest.approx(np.mean(list(rates.values())))


def test_without_it_nothing_is_stored(prepared, phases, cut, tmp_path, monkeypatch) -> None:
    recorder = Recorder()
    train(prepared, phases, cut, tmp_path, monkeypatch, recorder)
    assert stored_rates(tmp_path) == {}
    assert not any("mix/failure_rate" in scalars for _, _, scalars in recorder.scalars)
    assert stored_rates(tmp_path / "nowhere") == {}
    with pytest.raises(ConfigError, match=r"reweigh was 1.5; allowed: 0 to 1"):
        CurriculumConfig(reweigh=1.5)
