"""What a resumed training drops of its run before it plays it again, and what it recalls."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluate.test_table import assert_same_rows, table
from passline.evaluate.table import append_evaluation, load_evaluations
from passline.learn.curriculum import Progress
from passline.recording import Recorder, ResumePoint, drop_last_test
from passline.runs import Run, create_run, open_run

PHASES: Any = [SimpleNamespace(name=n, gate=[SimpleNamespace(days=0)]) for n in ("entry", "manage")]
SPLIT: Any = SimpleNamespace(
    gate=[SimpleNamespace(name="gate-a")], test=[SimpleNamespace(name="t")]
)


class Screen:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keeps a line."""
        self.lines.append(text)

    def update(self, *_: object) -> None:
        """Shows nothing."""


def rows(step: int, phase: str, where: str, *policies: str, reward: float = 1.0) -> list[Any]:
    """Forty episodes of each policy, two a day, with rewards close to one value."""
    near = np.tile([-0.1, 0.1], 20) + np.arange(40) // 2 / 100
    day = np.arange(40) // 2
    more = {"slice": where, "phase": phase, "reward": reward + near, "start_day": day}
    return [table(step, 40, policy, **more) for policy in policies]


@pytest.fixture
def run(tmp_path) -> Run:
    """A run of two phases that were trained, looked at, put to their gates and tested."""
    made = create_run(tmp_path, "x", {"config": {"a": 1}})
    for step, phase in ((100, "entry"), (200, "entry"), (300, "manage"), (400, "manage")):
        others = ("agent",) if step % 200 else ("agent", "random entry")
        append_evaluation(made.path / "evaluations.npz", rows(step, phase, "gate-a", *others))
    append_evaluation(made.path / "evaluations.npz", rows(400, "manage", "t", "agent", "flat"))
    gates = [{"phase": "entry", "is_passed": False}, {"phase": "manage", "is_passed": True}]
    made.record_progress({"gates": gates})
    return made


def left(run: Run) -> list[tuple[int, str, str]]:
    """What the file still holds: (step, slice, policy) of each evaluation."""
    kept = load_evaluations(run.path / "evaluations.npz")
    found = zip(kept.timesteps.tolist(), kept.slice.tolist(), kept.policy.tolist(), strict=True)
    return sorted(set(found))


@pytest.mark.parametrize(
    ("step", "phase", "is_phase_end", "kept"),
    [
        (100, "entry", False, [100]),
        (199, "entry", False, [100]),
        (200, "entry", True, [100]),
        (300, "manage", False, [100, 200, 300]),
        (400, "manage", True, [100, 200, 300]),
    ],
)
def test_looks_of_the_checkpoint_stay_and_its_gates_are_played_again(
    step, phase, is_phase_end, kept, run
) -> None:
    before = load_evaluations(run.path / "evaluations.npz")
    point = ResumePoint(step=step, phase=phase, is_phase_end=is_phase_end)
    with Recorder(run, Screen(), PHASES, SPLIT, resumed=point):
        pass
    assert sorted({s for s, name, _ in left(run) if name == "gate-a"}) == kept
    assert {s for s, name, _ in left(run) if name == "t"} == {400}
    still = np.isin(before.timesteps, kept) | (before.slice == "t")
    after = load_evaluations(run.path / "evaluations.npz")
    assert_same_rows(after, before.select(still))
    np.testing.assert_array_equal(after.evaluation, before.evaluation[still])


@pytest.mark.parametrize(
    ("step", "phase", "is_phase_end", "forced", "is_kept"),
    [
        (400, "manage", True, False, False),  # the last phase: it is tested again
        (400, "manage", True, True, False),
        (400, "manage", False, False, True),
        (400, "entry", True, False, False),  # its gate was not passed: it is stopped again
        (400, "entry", True, True, True),  # it goes on past the gate, to a test of another step
        (300, "manage", True, False, True),
    ],
)
def test_a_test_is_dropped_where_it_will_be_played_again_alone(
    step, phase, is_phase_end, forced, is_kept, run
) -> None:
    point = ResumePoint(step=step, phase=phase, is_phase_end=is_phase_end)
    n_before = len(left(run))
    drop_last_test(run, PHASES, SPLIT, point, forced=forced)
    assert any(name == "t" for _, name, _ in left(run)) == is_kept
    assert len(left(run)) == (n_before if is_kept else n_before - 2)


def test_warnings_of_looks_are_recalled_and_not_said_twice(tmp_path) -> None:
    """Training earns 2 an episode; the gate slices gain 1 at the first look and then lose 1."""
    run, screen = create_run(tmp_path, "x", {"config": {"a": 1}}), Screen()

    def play(recorder: Recorder, *steps: int) -> None:
        for step in steps:
            at = Progress(step=step, total_steps=99, phase_step=step, phase_steps=99)
            recorder.on_update(PHASES[0], at, {"rollout/ep_rew_mean": 2.0})
            value = 1.0 if step == 1 else -1.0
            recorder.on_look(rows(step, "entry", "gate-a", "agent", reward=value)[0])

    def told() -> list[tuple[str, int]]:
        known = open_run(run.path).manifest["progress"]["warnings"]
        return [(warning["kind"], warning["step"]) for warning in known]

    with Recorder(run, screen, PHASES, SPLIT, resumed=None) as recorder:
        play(recorder, 1, 2, 3)
    assert told() == [("diverging", 2)]
    for step, known in ((2, [("diverging", 2)]), (1, [])):
        point = ResumePoint(step=step, phase="entry", is_phase_end=False)
        with Recorder(open_run(run.path), screen, PHASES, SPLIT, resumed=point) as recorder:
            assert told() == known
            play(recorder, *range(step + 1, 4))
        assert told() == [("diverging", 2)]
    assert len(screen.lines) == 2  # at first, and when it was played again from before it
