"""From bars and a rulebook to a task: dates, phases, files, and what is refused."""

import subprocess
import sys
from datetime import date

import jax
import numpy as np
import pytest

from made_bars import bars_of
from passline.envs.lanes import Lanes
from passline.envs.making import Task, find_phase, make_task
from passline.errors import ConfigError, SimulationError
from passline.market.load import write_bars
from passline.task.actions import N_ACTIONS

BOOK = "apex-intraday-50k"


@pytest.fixture(scope="module")
def quiet():
    """Three weeks of sessions of an index."""
    days = range(8, 27)
    return bars_of(
        *[
            (f"2024-01-{d - 1:02d} 18:00", f"2024-01-{d:02d} 17:00")
            for d in days
            if d % 7 not in {6, 0}
        ]
    )


def start_days(task: Task) -> np.ndarray:
    """Trading days at the starts of all pools, without what fills up the table."""
    mix = task.params.mix
    used = int((np.asarray(mix.offset) + np.asarray(mix.n_starts)).max())
    return task.prepared.compiled.tape.day[np.asarray(mix.starts)[:used]]


def test_a_task_is_the_phase_on_the_bars(quiet) -> None:
    task = make_task(quiet, BOOK, "entry")
    assert task.phase == find_phase("entry")
    assert task.prepared.rulebook.id == BOOK
    assert len(task.params.tape.close) == len(quiet)
    assert np.asarray(task.params.allowed).sum() == 3


def test_episodes_stay_inside_the_dates(quiet) -> None:
    first, end = date(2024, 1, 18), date(2024, 1, 24)
    inside = make_task(quiet, BOOK, first_date=first, end_date=end)
    days = start_days(inside)
    assert days.min() >= (first - date(1970, 1, 1)).days
    assert days.max() < (end - date(1970, 1, 1)).days
    stop = int(np.asarray(inside.params.mix.segment_end).max())
    assert inside.prepared.compiled.tape.day[stop] < (end - date(1970, 1, 1)).days
    assert start_days(make_task(quiet, BOOK)).max() > days.max()


def test_a_file_gives_what_its_bars_give(quiet, tmp_path) -> None:
    path = tmp_path / "bars.parquet"
    write_bars(quiet, path)
    stored, held = make_task(path, BOOK), make_task([quiet], BOOK)
    for a, b in zip(jax.tree.leaves(stored.params), jax.tree.leaves(held.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_played_is_refused(quiet) -> None:
    with pytest.raises(ConfigError, match=r"no phase 'enter'\. Phases: entry, manage, account"):
        make_task(quiet, BOOK, "enter")
    with pytest.raises(ConfigError, match=r"ES: 0 bars .* from 2025-01-01 to before the end"):
        make_task(quiet, BOOK, first_date=date(2025, 1, 1))


def test_lanes_refuse_actions_and_starts_that_do_not_exist(quiet) -> None:
    lanes, rng = Lanes(make_task(quiet, BOOK), 2), np.random.default_rng(0)
    with pytest.raises(SimulationError, match="call reset"):
        lanes.step([0, 0])
    for sent in ([0], [0, N_ACTIONS], [-1, 0]):
        with pytest.raises(ConfigError, match=r"actions were .* allowed: \(2,\) whole numbers"):
            lanes.step(sent)
    first = lanes.task.prepared.first_bar[0]
    for bars, ends in (([first - 1, first], None), (len(quiet), None), (first, first)):
        with pytest.raises(ConfigError, match=rf"start_bar was .* starts lie in {first} to"):
            lanes.begin_at(rng, bars, ends)
    with pytest.raises(ConfigError, match="n_lanes was 0"):
        Lanes(lanes.task, 0)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("gym_env", "gymnasium", "gym"), ("sb3_vec", "stable_baselines3", "sb3")],
)
def test_a_missing_library_names_its_extra(module, package, extra) -> None:
    code = f"import sys; sys.modules['{package}'] = None; import passline.envs.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"ModuleNotFoundError: passline.envs: {package} is not installed, and this plug needs it. "
        f'Install it with: pip install "passline[{extra}]"'
    )


def test_importing_the_makers_loads_no_plugs_library() -> None:
    code = (
        "import sys, passline.envs.lanes, passline.envs.making\n"
        "print({'gymnasium', 'stable_baselines3', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
