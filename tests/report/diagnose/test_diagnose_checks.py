"""Every check fires on the fault it is for, and keeps still without it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_phases import (
    STEPS,
    alike,
    curve,
    detail,
    evaluation,
    healthy,
    training,
    with_curves,
)

from passline.report.diagnose import of_conduct, of_evaluation, of_logs, of_training
from passline.report.diagnose.checks import CHECKS
from passline.report.diagnose.diagnosis import diagnose
from passline.report.diagnose.findings import Answer, Clear, Problem, Unknown
from passline.report.diagnose.logs import EvaluationFile, GateLog, PhaseLog

HALF = np.linspace(0, 1, len(STEPS))


def told(*evaluations, **changes):
    return healthy(evaluations=tuple(evaluations), **changes)


def file(*steps: int, named: bool = True) -> EvaluationFile:
    return EvaluationFile(path="logs/evaluations.npz", is_named_by_run=named, steps=steps)


SHORT = with_curves(ep_len_mean=25.0, ep_rew_mean=50.0)
E4 = 4_000_000
RISING_AND_FALLING = [evaluation(E4 - 2 * 10**6, 3.0), evaluation(E4 - 10**6, 2.0)]

FAULTS: list[tuple[Callable[[PhaseLog], Answer], PhaseLog, str, str]] = [
    (of_evaluation.horizon_mismatch, replace(SHORT, evaluations=(evaluation(E4, -5.0),)),
     "critical", "25 bars"),
    (of_evaluation.horizon_mismatch, SHORT, "warning", "42 times as long"),
    (of_evaluation.horizon_mismatch, told(alike(E4, 1.0, 90.0)), "warning", "times shorter"),
    (of_evaluation.horizon_mismatch, replace(SHORT, bars_per_lane=500.0), "warning",
     "Each lane walked 500 bars"),
    (of_evaluation.evaluation_spread, told(alike(E4, -1.65, 163)), "critical", "5 times"),
    (of_evaluation.evaluation_spread, told(alike(E4, -1.65, 163, n=1)), "critical", "one episode"),
    (of_evaluation.evaluation_spread, told(evaluation(E4, n=5)), "warning", "5 distinct of 5"),
    (of_evaluation.evaluation_spread, told(evaluation(E4, detail=detail(slices=("a",)))),
     "warning", "one slice, a"),
    (of_evaluation.few_checkpoints, told(evaluation(E4)), "warning", "only 1"),
    (of_evaluation.few_checkpoints, told(evaluation(E4), evaluation(E4)), "warning", "only 1"),
    (of_evaluation.few_checkpoints, told(), "critical", "no evaluation"),
    (of_conduct.rule_breach, told(alike(E4, -1191.0, 1846)), "critical", "between -1 and 1"),
    (of_conduct.rule_breach, told(alike(1, -0.5, 1846), alike(E4, -0.4, 327), curves={}),
     "warning", "always be as long"),
    (of_conduct.rule_breach, told(evaluation(E4, detail=detail(n_breached=40))),
     "critical", "40 of 64 accounts"),
    (of_conduct.invalid_actions, told(evaluation(E4, detail=detail(n_invalid=640))),
     "critical", "640 of 64,000"),
    (of_conduct.invalid_actions, with_curves(invalid_actions=12.0), "critical", "12"),
    (of_conduct.flat_collapse, told(evaluation(E4, detail=detail(n_trips=0))),
     "critical", "0 round trips"),
    (of_conduct.flat_collapse, told(evaluation(E4, detail=detail(hold_share=0.999))),
     "critical", "HOLD in 100%"),
    (of_conduct.flat_collapse, told(alike(E4, 0.0, 900)), "critical", "are 0"),
    (of_conduct.flat_collapse, with_curves(hold=1.0), "critical", "HOLD is 100%"),
    (of_evaluation.overfitting, told(*RISING_AND_FALLING, evaluation(E4, 1.0)),
     "warning", "after step 2,000,000"),
    (of_evaluation.overfitting,
     told(*[alike(i * 10**6, r, 900) for i, r in ((1, 3), (2, 2.9), (3, 3), (4, -9))], curves={}),
     "warning", "after step 1,000,000"),
    (of_training.frozen, with_curves(approx_kl=0.0), "critical", "never moved"),
    (of_training.frozen, with_curves(approx_kl=0.005 * (HALF < 0.6)), "warning", "stopped moving"),
    (of_training.undone, with_curves(value=-0.08, is_kept=0.0), "note", "-0.080 reward an eval"),
    (of_training.undone, with_curves(value=-0.08, is_kept=0.0), "note", "it was undone"),
    (of_training.undone, with_curves(value=-0.08, is_kept=1.0), "note", "forced on with it"),
    (of_training.jumps, with_curves(approx_kl=0.3), "warning", "0.3"),
    (of_training.jumps, with_curves(clip_fraction=0.6), "warning", "0.6"),
    (of_training.entropy_collapse, with_curves(entropy_loss=-0.9 * (HALF < 0.5)),
     "critical", "since 2.1M"),
    (of_training.entropy_collapse, with_curves(entropy_loss=-0.005), "warning", "0.005"),
    (of_training.value_collapse, with_curves(explained_variance=-0.2), "critical", "worse than"),
    (of_training.value_collapse, with_curves(explained_variance=0.02), "warning", "hardly better"),
    (of_training.value_collapse, with_curves(explained_variance=np.where(HALF < 0.5, 0.9, 0.2)),
     "warning", "lost what it knew"),
    (of_training.diverged, with_curves(value_loss=np.where(HALF < 0.5, 1.0, np.nan)),
     "critical", "step 2,100,000"),
    (of_training.reward_scale, with_curves(ep_rew_mean=50_000.0), "warning", "too large"),
    (of_training.reward_scale, with_curves(value_loss=4_000.0), "warning", "too large"),
    (of_training.reward_scale, with_curves(ep_rew_mean=0.0004), "warning", "too small"),
    (of_training.throughput, with_curves(fps=np.where(HALF < 0.7, 9000.0, 900.0)),
     "warning", "down by 90%"),
    (of_training.throughput, with_curves(fps=120.0), "note", "23.1 hours"),
    (of_logs.lost_logs, healthy(file=file(E4, named=False)), "warning", "no name of its"),
    (of_logs.lost_logs, healthy(file=file(4_000_000, named=False), n_attempts=3),
     "critical", "3 runs left curves"),
    (of_logs.lost_logs, healthy(n_restarts=2), "warning", "fall back 2"),
    (of_logs.lost_logs, healthy(file=file(3_000_000, 1_000_000, 2_000_000)), "critical", "mixes"),
    (of_logs.lost_logs, healthy(file=file(1_000_000, 2_000_000)), "warning", "2M and 4M"),
    (of_logs.lost_logs, healthy(file=file(3_000_000, 4_000_000)), "warning", "0 and 3M"),
    (of_logs.lost_logs,
     replace(healthy(file=file(4_000_000)),
             curves={**healthy().curves, "eval/mean_reward": curve(1.0)}),
     "critical", "39 of 40 evaluations"),
    (of_logs.lost_logs,
     healthy(curves={"time/fps": curve(1.0, STEPS + 10**6 * (STEPS > 2e6))}, file=None),
     "warning", "1 gap"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "phase", "severity", "words"), FAULTS)
def test_fires_on_its_fault(check, phase, severity, words):
    answer = check(phase)
    assert isinstance(answer, Problem), answer
    assert answer.severity == severity
    assert words in answer.evidence
    assert answer.remedies
    assert all(remedy.endswith(".") for remedy in answer.remedies)


SOUND = [
    *((check.of_phase, healthy()) for check in CHECKS if check.of_phase is not None),
    (of_evaluation.horizon_mismatch, with_curves(ep_len_mean=400.0)),
    (of_evaluation.horizon_mismatch,
     replace(SHORT, curves={**SHORT.curves, "mix/whole_length": curve(800.0),
                            "mix/whole_episodes": curve(6.0), "mix/short_length": curve(20.0),
                            "mix/short_episodes": curve(60.0)})),
    (of_evaluation.evaluation_spread, told(evaluation(E4, detail=detail()))),
    (of_conduct.rule_breach, told(alike(E4, -1.65, 163))),
    (of_conduct.rule_breach, told(alike(E4, 5.0, 163))),
    (of_conduct.rule_breach, told(evaluation(E4, detail=detail()))),
    (of_conduct.invalid_actions, told(evaluation(E4, detail=detail(n_invalid=3)))),
    (of_conduct.flat_collapse, told(evaluation(E4, detail=detail()))),
    (of_evaluation.overfitting, told(evaluation(1, 1.0), evaluation(2, 1.2), evaluation(3, 1.0))),
    (of_evaluation.overfitting, told(*[alike(i, r, 9) for i, r in enumerate((1, 3, 2, 3, 2))])),
    (of_training.frozen, with_curves(approx_kl=0.0002)),
    (of_training.frozen,
     replace(healthy(), curves={"train/approx_kl": curve(1e-4 * (1 - 0.9 * HALF) ** 2),
                                "train/learning_rate": curve(3e-4 * (1 - 0.9 * HALF))})),
    (of_training.value_collapse, with_curves(explained_variance=0.5)),
    (of_training.value_collapse,
     replace(healthy(), curves={"train/explained_variance": curve(0.02),
                                "train/advantage_rms": curve(0.3)})),
    (of_training.entropy_collapse,
     replace(healthy(), curves={"train/entropy_loss": curve(-0.001),
                                "train/advantage_rms": curve(0.3)})),
    (of_training.frozen,
     replace(healthy(), curves={"train/approx_kl": curve(1e-3 * (HALF < 0.1)),
                                "train/advantage_rms": curve(0.3)})),
    (of_training.throughput, with_curves(fps=np.where(HALF < 0.1, 900.0, 90_000.0))),
    (of_logs.lost_logs, healthy(n_attempts=3)),
]  # fmt: skip


@pytest.mark.parametrize(("check", "phase"), SOUND)
def test_keeps_still_without_it(check, phase):
    answer = check(phase)
    assert isinstance(answer, Clear), answer
    assert answer.evidence.endswith(".")


@pytest.mark.parametrize("check", [check for check in CHECKS if check.of_phase is not None])
def test_says_what_is_missing(check):
    answer = check.of_phase(PhaseLog(name="empty"))
    if check.name == "few_checkpoints":
        assert isinstance(answer, Problem)
    else:
        assert isinstance(answer, Unknown)
        assert answer.missing


def test_every_check_of_a_phase_has_a_fault_in_this_table():
    assert {check for check, *_ in FAULTS} == {c.of_phase for c in CHECKS if c.of_phase is not None}


# --- of the whole training -----------------------------------------------------------------------


def gate(phase: str, *, passed: bool) -> GateLog:
    low = 0.1 if passed else -0.2
    return GateLog(phase=phase, measure="trip_r", value=0.15, low=low, high=0.5, n=90, above=0.0,
                   is_passed=passed)  # fmt: skip


WEAK = healthy("phase1", evaluations=(alike(E4, -1.65, 163),))


def test_weak_base():
    answer = of_logs.weak_base(training(WEAK, healthy("phase2")))
    assert isinstance(answer, Problem)
    assert "phase1 was handed on with -1.65" in answer.evidence
    assert isinstance(of_logs.weak_base(training(healthy(), WEAK)), Clear)
    assert isinstance(of_logs.weak_base(training(WEAK)), Unknown)
    unseen = healthy("phase1", evaluations=())
    assert isinstance(of_logs.weak_base(training(unseen, healthy("phase2"))), Unknown)


def test_gates():
    log = training(healthy("entry"), gates=(gate("entry", passed=False),))
    stopped = of_logs.gates(log)
    assert isinstance(stopped, Problem)
    assert "stopped there" in stopped.evidence
    forced = of_logs.gates(replace(log, phases=(healthy("entry"), healthy("manage"))))
    assert isinstance(forced, Problem)
    assert "forced" in forced.evidence
    assert len(forced.remedies) == 2
    passed = of_logs.gates(replace(log, gates=(gate("entry", passed=True),)))
    assert isinstance(passed, Clear)
    assert isinstance(of_logs.gates(training(healthy())), Unknown)


def test_unfinished():
    assert isinstance(of_logs.unfinished(training(healthy(), status="killed")), Problem)
    assert isinstance(of_logs.unfinished(training(healthy(), status="finished")), Clear)
    assert isinstance(of_logs.unfinished(training(healthy())), Unknown)


def test_blind_spots():
    bare = replace(healthy(), curves={"train/clip_fraction": curve(0.1)})
    answer = of_logs.blind_spots(training(bare, has_config=False))
    assert isinstance(answer, Problem)
    assert len(answer.remedies) == 3
    assert isinstance(of_logs.blind_spots(training(healthy())), Clear)


# --- together ------------------------------------------------------------------------------------


def test_nothing_wrong_is_said_with_what_was_checked():
    found = diagnose(training(healthy("phase1"), healthy("phase2")))
    assert found.findings == []
    assert found.sentence().startswith("nothing wrong found: ")
    assert len(found.clear()) + len(found.unknown()) == len(found.answers)
    assert len(found.clear()) >= 30


def test_the_gravest_comes_first():
    spoiled = replace(with_curves(fps=120.0, approx_kl=0.0, clip_fraction=0.6), name="phase1")
    ranks = [item.problem.severity.rank for item in diagnose(training(spoiled)).findings]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 3


def test_names_are_unique():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all((check.of_phase is None) != (check.of_run is None) for check in CHECKS)
