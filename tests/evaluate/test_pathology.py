"""Warnings while a training runs: each fires on its pathology and not beside it."""

import numpy as np
import pytest

from passline.evaluate.pathology import (
    CHECKS,
    Course,
    Look,
    diverging,
    entropy_collapse,
    flat_collapse,
    frozen,
    value_not_learning,
)

N = 30
HEALTHY = {
    "train/entropy_loss": -np.linspace(0.5, 0.1, N),
    "train/explained_variance": np.linspace(0.0, 0.5, N),
    "train/approx_kl": np.full(N, 3e-4),
    "train/learning_rate": np.linspace(3e-4, 1e-4, N),
    "train/grad_norm": np.full(N, 0.5),
    "actions/hold": np.linspace(0.4, 0.9, N),
    "account/trips": np.full(N, 8000.0),
    "account/trip_r": np.linspace(-0.2, 0.1, N),
    "done/floor": np.full(N, 0.2),
    "rollout/ep_rew_mean": np.linspace(-5, 2, N),
}


def history(**changed: object) -> dict[str, list[float]]:
    named = {name.replace("__", "/"): np.asarray(value) for name, value in changed.items()}
    return {name: list(map(float, values)) for name, values in (HEALTHY | named).items()}


@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize("n", [0, 5, N])
def test_a_healthy_course_is_not_warned_of(kind: str, n: int) -> None:
    part = {name: values[:n] for name, values in history().items()}
    assert CHECKS[kind](part) is None


def test_entropy_collapse_is_told_once_it_lasts() -> None:
    low = np.r_[np.linspace(0.5, 0.02, N - 9), np.full(9, 0.004)]
    told = entropy_collapse(history(train__entropy_loss=-low))
    assert told is not None
    assert "0.004 nats (below 0.01)" in told
    one = np.r_[np.full(N - 1, 0.1), 0.0]
    assert entropy_collapse(history(train__entropy_loss=-one)) is None


@pytest.mark.parametrize("level", [-0.4, 0.0, 0.09])
def test_a_critic_that_explains_nothing_is_told_after_twenty_updates(level: float) -> None:
    flat = np.full(N, level)
    told = value_not_learning(history(train__explained_variance=flat))
    assert told is not None
    assert f"explains {level:.2g}" in told
    assert value_not_learning(history(train__explained_variance=flat[:19])) is None
    assert value_not_learning(history(train__explained_variance=np.full(N, 0.11))) is None


def test_nothing_to_explain_is_not_the_critics_fault() -> None:
    aside = history(train__explained_variance=np.zeros(N), actions__hold=np.full(N, 1.0))
    assert value_not_learning(aside) is None


def test_where_outcomes_are_exact_nothing_has_to_be_tried_and_an_end_is_an_end() -> None:
    """But weights that never moved are told there too."""
    exact = {"train__advantage_rms": np.full(N, 0.3), "train__entropy_loss": np.full(N, -0.001)}
    still = {"train__approx_kl": np.r_[1e-3, np.full(N - 1, 1e-9)]}
    assert entropy_collapse(history(**exact)) is None
    assert frozen(history(**exact, **still)) is None
    assert frozen(history(**still)) is not None
    assert frozen(history(**exact, train__approx_kl=np.full(N, 1e-9))) is not None


def test_a_critic_that_no_advantage_rests_on_is_not_told() -> None:
    exact = history(train__explained_variance=np.zeros(N), train__advantage_rms=np.full(N, 0.3))
    assert value_not_learning(exact) is None


def test_a_frozen_policy_is_told_unless_the_learning_rate_is_zero() -> None:
    still = np.r_[np.full(N - 10, 1e-3), np.full(10, 2e-6)]
    steady = np.full(N, 3e-4)
    told = frozen(history(train__approx_kl=still, train__learning_rate=steady))
    assert told is not None
    assert "KL of an update is 2e-06 (below 1e-05)" in told
    assert frozen(history(train__approx_kl=still, train__learning_rate=np.zeros(N))) is None
    assert frozen(history(train__approx_kl=np.full(N, 2e-5))) is None


@pytest.mark.parametrize(("end", "below"), [(3e-4, 1e-5), (6e-5, 4e-7), (3e-5, 1e-7), (3e-7, 1e-7)])
def test_a_step_size_that_runs_down_as_planned_freezes_nothing(end: float, below: float) -> None:
    """KL falls with the square of the step size; down to a tenth of the highest, not further."""
    rate = np.r_[np.full(N - 10, 3e-4), np.full(10, end)]
    for kl, is_frozen in ((below * 1.1, False), (below * 0.9, True)):
        still = np.r_[np.full(N - 10, 1e-3), np.full(10, kl)]
        told = frozen(history(train__approx_kl=still, train__learning_rate=rate))
        assert (told is not None) == is_frozen, told


def test_flat_collapse_by_costs_names_the_cost_of_a_round_trip() -> None:
    """The course of a real run: costs of a third of the risk, and ever fewer round trips."""
    told = flat_collapse(
        history(
            actions__hold=np.r_[np.linspace(0.7, 0.99, N - 10), np.full(10, 0.998)],
            account__trips=np.r_[np.full(N - 10, 100.0), np.full(10, 1.0)],
            account__trip_r=np.full(N, -0.33),
        )
    )
    assert told is not None
    assert "HOLD is 99.8%" in told
    assert "costs are above the edge; its 2,010 round trips brought -0.330 R" in told


def test_a_policy_that_waits_much_or_for_a_moment_has_not_collapsed() -> None:
    just = flat_collapse(history(actions__hold=np.full(N, 0.9951)))
    assert just is not None
    assert "HOLD is 99.5%" in just
    assert flat_collapse(history(actions__hold=np.full(N, 0.9949))) is None
    moment = np.r_[np.full(N - 4, 0.9), np.full(4, 1.0)]
    assert flat_collapse(history(actions__hold=moment)) is None
    new = {name: values[:9] for name, values in history(actions__hold=np.ones(N)).items()}
    assert flat_collapse(new) is None


def test_flat_collapse_has_other_causes_too() -> None:
    aside = {"actions__hold": np.full(N, 0.999), "account__trip_r": np.full(N, 0.05)}
    died = flat_collapse(history(**aside, done__floor=np.full(N, 0.9)))
    lived = flat_collapse(history(**aside))
    never = flat_collapse(history(**aside, account__trips=np.zeros(N)))
    exact = history(**aside, account__trips=np.full(N, np.nan))
    unplayed = flat_collapse(exact)
    assert died is not None
    assert "died at the floor" in died
    assert lived is not None
    assert "costs do not explain it" in lived
    assert never is not None
    assert "has not traded in this phase" in never
    assert unplayed is not None
    assert "the gate will tell" in unplayed


def test_the_cause_is_told_where_no_round_trips_are_counted() -> None:
    """The learner of exact outcomes knows rewards alone."""
    held = np.r_[np.full(N - 10, 0.5), np.full(10, 0.999)]
    reward = np.r_[np.full(N - 10, -2.0), np.zeros(10)]
    told = flat_collapse(
        history(actions__hold=held, rollout__ep_rew_mean=reward, account__trips=np.full(N, np.nan))
    )
    assert told is not None
    assert "brought -2.00 on average" in told


def look(step: int, trained: float, judged: float, error: float = 0.1) -> Look:
    return Look(step=step, trained=trained, judged=judged, error=error)


@pytest.mark.parametrize(
    ("looks", "word"),
    [
        ([look(1, 2.0, -0.5)], "does not hold elsewhere"),
        ([look(1, -2.0, 1.0), look(2, -1.0, 0.2)], "overfitting"),
        ([], None),
        ([look(1, 2.0, -0.2)], None),
        ([look(1, 2.0, 1.0), look(2, 3.0, 0.7)], None),
        ([look(1, 2.0, 1.0), look(2, 1.0, 0.2)], None),
        ([look(1, float("nan"), -5.0)], None),
        ([look(1, 2.0, -5.0, float("nan"))], None),
    ],
)
def test_training_and_gate_slices_part_beyond_luck(looks: list[Look], word: str | None) -> None:
    told = diverging(looks)
    assert (told is None) == (word is None)
    assert word is None or word in str(told)


def test_a_course_tells_each_pathology_once_a_phase() -> None:
    course = Course()
    rows = [
        {name: float(values[i]) for name, values in HEALTHY.items()} | {"train/approx_kl": 1e-7}
        for i in range(N)
    ]
    for phase in ("entry", "manage"):
        found = [course.on_update(phase, 100 * i, row) for i, row in enumerate(rows)]
        assert [[w.kind for w in new] for new in found if new] == [["frozen"]]
        assert found[9][0].step == 900
        assert found[9][0].line().startswith(f"warning, phase '{phase}': the policy is frozen")
    assert [warned.phase for warned in course.warned] == ["entry", "manage"]


SICK: dict[str, dict[str, object]] = {  # but "undone", which one update tells
    "entropy_collapse": {"train__entropy_loss": np.full(N, -0.001)},
    "value_not_learning": {"train__explained_variance": np.zeros(N)},
    "frozen": {"train__approx_kl": np.full(N, 1e-7)},
    "flat_collapse": {"actions__hold": np.ones(N)},
}


def test_a_phase_that_made_the_policy_worse_is_told_with_its_numbers() -> None:
    """Once, by the last update; a phase that gained, or was not compared, is not."""
    gain = {"phase_gain/value": -0.04, "phase_gain/low": -0.09, "phase_gain/high": 0.01}
    course = Course()
    assert course.on_update("manage", 1, {}) == []
    (warned,) = course.on_update("manage", 2, gain | {"phase_gain/is_kept": 0.0})
    assert warned.kind == "undone"
    assert "(-0.040 reward an evaluation, 95 % -0.090 to +0.010)" in warned.text
    assert "the agent goes on with the old one" in warned.text
    kept = {"phase_gain/is_kept": 1.0}
    assert course.on_update("exit", 3, gain | {"phase_gain/value": 0.04} | kept) == []
    (warned,) = course.on_update("account", 4, gain | kept)
    assert "being forced, the agent goes on with it all the same" in warned.text
    short = {"phase_gain/value": -0.04, "phase_gain/is_kept": 0.0}
    (warned,) = Course().on_update("manage", 2, short)
    assert "(-0.040 reward an evaluation, on too few days for an interval)" in warned.text


@pytest.mark.parametrize("kind", SICK)
def test_a_course_tells_each_pathology_and_no_other_as_soon_as_it_can(kind: str) -> None:
    told = []
    for i in range(N):
        row = {name: values[i] for name, values in history(**SICK[kind]).items()}
        told += Course().on_update("entry", i, row)  # of one update nothing can be said
    assert told == []
    course = Course()
    for i in range(N):
        row = {name: values[i] for name, values in history(**SICK[kind]).items()}
        told += course.on_update("entry", i, row)
    (warned,) = told
    patience = 20 if kind == "value_not_learning" else 10
    assert (warned.kind, warned.phase, warned.step) == (kind, "entry", patience - 1)


def test_a_healthy_course_is_told_nothing() -> None:
    course = Course()
    for i in range(N):
        row = {name: values[i] for name, values in history().items()}
        assert course.on_update("entry", i, row) == []
    days = np.arange(40) // 2
    assert course.on_look("entry", N, 2.0 + days / 100, days) == []


def test_a_course_sets_looks_against_the_training_of_its_phase() -> None:
    course = Course()
    days = np.arange(40) // 2
    for i in range(N):
        course.on_update("entry", i, {"rollout/ep_rew_mean": 2.0})
    assert course.on_look("entry", 30, np.tile([0.9, 1.1], 20), days) == []
    (warned,) = course.on_look("entry", 31, np.tile([-0.9, -1.1], 20) + days / 100, days)
    assert warned.kind == "diverging"
    assert course.on_look("manage", 32, np.tile([-0.9, -1.1], 20), days) == []
