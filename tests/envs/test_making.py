"""From bars and a rulebook to a task: dates, phases, files, and what is refused."""

import subprocess
import sys
from datetime import date, timedelta

import jax
import numpy as np
import pytest

from made_bars import bars_of, take
from passline.envs.lanes import Lanes
from passline.envs.making import PARTS, Task, find_phase, make_task
from passline.errors import ConfigError, SimulationError
from passline.evaluate.slices import SliceConfig, split
from passline.evaluate.windows import final_start, hide_final
from passline.market.bars import Bars
from passline.market.clock import EPOCH, trade_date
from passline.market.load import write_bars
from passline.rulebook import load_rulebook
from passline.task.actions import N_ACTIONS
from passline.task.prepare import TaskConfig, prepare

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
    task = make_task(quiet, BOOK, "entry", part="whole")
    assert task.phase == find_phase("entry")
    assert task.prepared.rulebook.id == BOOK
    assert len(task.params.tape.close) == len(quiet)
    assert np.asarray(task.params.allowed).sum() == 3


def test_episodes_stay_inside_the_dates(quiet) -> None:
    first, end = date(2024, 1, 18), date(2024, 1, 24)
    inside = make_task(quiet, BOOK, part="whole", first_date=first, end_date=end)
    days = start_days(inside)
    assert days.min() >= (first - date(1970, 1, 1)).days
    assert days.max() < (end - date(1970, 1, 1)).days
    stop = int(np.asarray(inside.params.mix.segment_end).max())
    assert inside.prepared.compiled.tape.day[stop] < (end - date(1970, 1, 1)).days
    assert start_days(make_task(quiet, BOOK, part="whole")).max() > days.max()


def test_a_file_gives_what_its_bars_give(quiet, tmp_path) -> None:
    path = tmp_path / "bars.parquet"
    write_bars(quiet, path)
    stored, held = (make_task(bars, BOOK, part="whole") for bars in (path, [quiet]))
    for a, b in zip(jax.tree.leaves(stored.params), jax.tree.leaves(held.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def years() -> Bars:
    """Two and a half years of a few bars a day: enough for a sealed window by default."""
    day, spans = date(2021, 1, 4), []
    while day < date(2023, 7, 1):
        if day.weekday() < 5:
            spans.append((f"{day} 10:00", f"{day} 15:00"))
        day += timedelta(days=1)
    return bars_of(*spans, minutes=15)


def test_gates_test_and_sealed_days_are_left_out_by_default(years) -> None:
    """The parts lie in order, embargoes between them, and only `whole` has the sealed days."""
    sealed = final_start([years], SliceConfig())
    assert sealed is not None
    parts = {}
    for part in PARTS:
        task = make_task(years, BOOK, part=part)
        day = task.prepared.compiled.tape.day
        parts[part] = (
            start_days(task).min(),
            day[int(np.asarray(task.params.mix.segment_end).max())],
        )
        last = int(day[-1])
        assert (last >= (sealed - EPOCH).days) == (part == "whole")
    default = make_task(years, BOOK)
    assert start_days(default).tolist() == start_days(make_task(years, BOOK, part="train")).tolist()
    for before, after in (("train", "gate"), ("gate", "test")):
        assert parts[before][1] + SliceConfig().embargo_days < parts[after][0]
    assert parts["whole"][1] > parts["test"][1]
    hidden = hide_final(years, sealed, SliceConfig())
    cut = split(prepare([hidden], load_rulebook(BOOK), TaskConfig()), SliceConfig())
    assert parts["train"][1] <= default.prepared.compiled.tape.day[cut.train[0][1] - 1]


def test_what_cannot_be_played_is_refused(quiet) -> None:
    with pytest.raises(ConfigError, match=r'left for training .* play all bars: part="whole"'):
        make_task(quiet, BOOK)
    with pytest.raises(ConfigError, match=r"part was 'tests'; allowed: train, gate, test, whole"):
        make_task(quiet, BOOK, part="tests")
    with pytest.raises(ConfigError, match=r"no phase 'enter'\. Phases: entry, exit, manage, "):
        make_task(quiet, BOOK, "enter")
    with pytest.raises(ConfigError, match=r"ES: fewer than 3 bars .* from 2025-01-01 to before"):
        make_task(quiet, BOOK, part="whole", first_date=date(2025, 1, 1))


FEW = "ES: the bars hold 3 trading days, .* only after 5 whole ones.* 6 trading days .* 45 beside"


@pytest.mark.parametrize("part", PARTS)
def test_bars_without_known_features_are_refused_in_every_part(part) -> None:
    days = [(f"2024-01-{d - 1:02d} 18:00", f"2024-01-{d:02d} 17:00") for d in (9, 10, 11)]
    with pytest.raises(ConfigError, match=FEW) as caught:
        make_task(bars_of(*days), BOOK, part=part)
    assert "whole" not in str(caught.value).replace("whole ones", "")


def test_six_days_are_played_whole_and_not_cut(quiet) -> None:
    days = np.unique(trade_date(quiet.ts))
    six = take(quiet, trade_date(quiet.ts) <= days[5])
    lanes = Lanes(make_task(six, BOOK, part="whole"), 2)
    lanes.reset(np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r'at least 40 .* play all bars: part="whole"'):
        make_task(six, BOOK)


def test_lanes_refuse_actions_and_starts_that_do_not_exist(quiet) -> None:
    lanes, rng = Lanes(make_task(quiet, BOOK, part="whole"), 2), np.random.default_rng(0)
    with pytest.raises(SimulationError, match="call reset"):
        lanes.step([0, 0])
    for sent in ([0], [0, N_ACTIONS], [-1, 0], [2.5, 0], [np.nan, 0]):
        with pytest.raises(ConfigError, match=r"actions were .* allowed: \(2,\) whole numbers"):
            lanes.step(sent)
    first = lanes.task.prepared.first_bar[0]
    for bars, ends in (([first - 1, first], None), (len(quiet), None), (first, first)):
        with pytest.raises(ConfigError, match=rf"start_bar was .* starts lie in {first} to"):
            lanes.begin_at(rng, bars, ends)
    with pytest.raises(ConfigError, match="n_lanes was 0"):
        Lanes(lanes.task, 0)


def test_a_part_is_not_left_by_a_start_of_ones_own(years) -> None:
    """An episode opened on a training day ends with the part; none opens on a held-out day."""
    lanes = Lanes(make_task(years, BOOK, part="train"), 1)
    rng, (*_, (first, stop)) = np.random.default_rng(0), lanes.task.playable()
    for bar in (stop - 1, stop, len(lanes.task.prepared.compiled.tape.day) - 2):
        with pytest.raises(ConfigError, match="the bars of this task"):
            lanes.begin_at(rng, bar)
    lanes.begin_at(rng, stop - 3, stop + 1_000)
    assert [bool(lanes.step([0]).is_truncated[0]) for _ in range(2)] == [False, True]
    assert first < stop - 3


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
