"""What a training decided by its own days, in words."""

import numpy as np

from passline.report.decisions import decisions
from passline.report.tensorboard import Scalars

LOGGED = {
    "symmetry/is_symmetric": (0, 1.0),
    "symmetry/free_gain": (0, 0.31),
    "symmetry/free_gain_low": (0, -0.07),
    "cross_fit/reward": (1, 6.5),
    "cross_fit/reward_low": (1, 5.9),
    "cross_fit/is_shown": (1, 1.0),
    "cross_fit/is_flat": (1, 1.0),
    "phase_gain/value": (2, -0.25),
    "phase_gain/low": (2, -0.5),
    "phase_gain/high": (2, 0.1),
    "phase_gain/is_kept": (2, 0.0),
}


def logged(**changes: float) -> Scalars:
    """Three updates, with what each logged."""
    values = {}
    for name, (row, value) in LOGGED.items():
        values[name] = np.full(3, np.nan)
        values[name][row] = changes.get(name.replace("/", "__"), value)
    phases = np.array(["entry", "entry", "exit"])
    return Scalars(step=np.arange(1, 4), phase=phases, values=values)


def test_every_decision_is_told_with_what_it_rests_on() -> None:
    told = dict(decisions(logged()))
    assert list(told) == ["Long and short", "Held on other days in entry", "Gained by exit"]
    assert told["Long and short"].startswith("alike; a policy that tells them apart earned +0.310")
    assert told["Held on other days in entry"] == "reward a session +6.500 (95 % from +5.900): kept"
    assert "-0.250 reward an evaluation, 95 % -0.500 to +0.100" in told["Gained by exit"]
    assert told["Gained by exit"].endswith("less than before, so it was undone")


def test_the_other_way_round_is_told_too() -> None:
    other = dict(
        decisions(
            logged(
                symmetry__is_symmetric=0.0,
                cross_fit__is_shown=0.0,
                phase_gain__is_kept=1.0,
                phase_gain__value=0.25,
            )
        )
    )
    assert other["Long and short"].startswith("told apart; ")
    assert other["Held on other days in entry"].endswith("not shown, so the agent stays flat")
    assert other["Gained by exit"].endswith("on training days: kept")


def test_what_a_forced_training_went_on_with_is_not_called_undone() -> None:
    forced = dict(
        decisions(logged(cross_fit__is_shown=0.0, cross_fit__is_flat=0.0, phase_gain__is_kept=1.0))
    )
    for name, found in (("Held on other days in entry", "not shown"), ("Gained by exit", "less")):
        assert found in forced[name]
        assert forced[name].endswith("but the training was forced on with it")


def test_nothing_is_told_of_what_was_not_decided() -> None:
    nothing = Scalars(step=np.arange(2), phase=np.array(["entry"] * 2), values={})
    assert decisions(nothing) == []
    unknown = logged(phase_gain__low=np.nan, phase_gain__high=np.nan)
    assert "on too few days for an interval" in dict(decisions(unknown))["Gained by exit"]
