"""The curriculum's file: what it says, and every way in which it is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from passline.errors import ConfigError
from passline.rulebook.catalog import load_rulebook
from passline.sim.compile import compile_rules
from passline.sim.layout import NEVER, LimitKind
from passline.task.actions import ACTION_NAMES
from passline.task.phases import (
    PHASES_FILE,
    Phase,
    allowed_actions,
    budget_steps,
    load_phases,
    phase_rules,
    reward_weights,
)

TEXT = PHASES_FILE.read_text("utf-8")


def load_text(tmp_path: Path, text: str) -> tuple[Phase, ...]:
    file = tmp_path / "mine.toml"
    file.write_text(text, "utf-8")
    return load_phases(file)


def test_the_built_in_curriculum_is_entry_exit_manage_account() -> None:
    assert [phase.name for phase in load_phases()] == ["entry", "exit", "manage", "account"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('actions = ["hold", ', 'actions = ["hold", "wait", ', "'entry': actions: unknown wait."),
        ('actions = ["hold", ', "actions = [", "'hold' must always be allowed"),
        ("actions = [", "actions = 3 #", "'int' object is not iterable"),
        ("sizes = [1]", "sizes = [0]", "sizes was [0]; allowed: 1 to 3"),
        ("sizes = [1]", "sizes = []", "sizes was []; allowed: 1 to 3"),
        ("sizes = [1]", "sizes = [4]", "sizes was [4]; allowed: 1 to 3"),
        ("budget_share = 0.45", "budget_share = 0", "budget_share was 0; it must be above 0"),
        ("budget_share = 0.45", "", "missing keys ['budget_share']"),
        ("budget_share = 0.45", 'budget_share = "x"', "'>' not supported"),
        ("gamma = 0.995\n", "gamma = 1.5\n", "gamma was 1.5; allowed: above 0 to 1"),
        ("gamma = 0.995\n", "gamma = 0.995\nlr = 1\n", "unknown keys ['lr']"),
        ("gamma = 0.995\n", "gamma = 0.995\nlane_share = 0\n", "lane_share was 0; allowed: above"),
        ("entropy = [0.01, 0.001]", "entropy = [0.01]", "entropy was [0.01]; it needs two"),
        ("entropy = [0.01, 0.001]", "entropy = [0.01, -1.0]", "entropy was [0.01, -1.0]"),
        ("trip_utility = 1.0", "sharpe = 1.0", "reward: unknown sharpe. Known: breach, equity"),
        ('floor = "off"', 'ceiling = "off"', "rules: unknown ceiling. Known: daily_limit"),
        ('floor = "off"', 'floor = "half"', "rules.floor: unknown half. Known: off"),
        ('late_flat = "record"', 'late_flat = "off"', "rules.late_flat: unknown off. Known: fail"),
        ('measure = "trip_r"', 'measure = "luck"', "gate: measure was 'luck'; allowed: trip_r"),
        ("above = 0.0", "below = 0.0", "unexpected keyword argument 'below'"),
        ('pool = "day_start"', 'pool = "night"', "mix.long: pool was 'night'; allowed: any"),
        ("weight = 0.6", "weight = -0.6", "mix.window: weight was -0.6"),
        ("weight = 0.6", "wait = 0.6", "unexpected keyword argument 'wait'"),
        ("minutes = [240, 1400]", "minutes = 240", "mix.window: minutes was 240; it needs two"),
        ("minutes = [240, 1400]", "minutes = [9]", "mix.window: minutes was (9,); it needs two"),
        (
            "minutes = [240, 1400]",
            "minutes = [9, 3]",
            "minutes was [9, 3]; allowed: above",
        ),
        ("position = 0.7", "position = 1.5", "mix.before_flat: position was 1.5; allowed: 0 to 1"),
        ("giveback = [0.0, 0.8]", "giveback = [0.0, 1.0]", "'manage': mix.window: giveback was"),
        ("progress = [0.0, 0.6]", "progress = [0.7, 0.6]", "mix.near_floor: progress was [0.7"),
        ("day_loss = [0.4, 0.95]", "day_loss = [0.4, 1]", "mix.daily_limit: day_loss was [0.4, 1]"),
        ('name = "manage"', 'name = "entry"', "phase names given twice: entry"),
        ("[[phase.mix]]", "[[phase.blend]]", "unknown keys ['blend'], missing keys ['mix']"),
        ("[[phase]]", "[[phase", "not readable as TOML"),
    ],
)
def test_every_unusable_field_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    n = -1 if old in ("[[phase]]", "[[phase.mix]]") else 1
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_text(tmp_path, TEXT.replace(old, new, n))
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[phase]] found"),
        ("[[fase]]", "no [[phase]] found"),
        ("phase = 3", "no [[phase]] found"),
        ("phase = [3]", "phase was 3; each phase is a table"),
        ("[[phase]]\nname = 'x'", "phase 'x': unknown keys [], missing keys ['about'"),
    ],
)
def test_files_without_phases_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_text(tmp_path, text)


def test_an_episode_kind_that_is_no_table_is_refused(tmp_path: Path) -> None:
    first = TEXT[: TEXT.index("[[phase.mix]]")].replace("gamma = 0.995", "gamma = 0.995\nmix = [1]")
    with pytest.raises(ConfigError, match="phase 'entry': mix held 1; each kind of episode"):
        load_text(tmp_path, first)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: not readable as TOML"):
        load_phases(tmp_path / "none.toml")


def test_phases_allow_what_their_rows_name(phases: dict[str, Phase]) -> None:
    by_phase = {
        name: [a for a, is_on in zip(ACTION_NAMES, allowed_actions(phase), strict=True) if is_on]
        for name, phase in phases.items()
    }
    assert by_phase["entry"] == ["hold", "long_1", "short_1"]
    assert by_phase["exit"] == ["hold", "close", "long_1", "short_1"]
    managing = ["hold", "close", "breakeven", "trail_on", "trail_off"]
    assert by_phase["manage"] == [*managing, "long_1", "short_1"]
    assert by_phase["account"] == list(ACTION_NAMES)


def test_a_phase_takes_away_the_rules_it_names_and_no_others(phases: dict[str, Phase]) -> None:
    rules = compile_rules(load_rulebook("apex-eod-50k"))
    assert int(rules.limit_kind) != LimitKind.NONE
    entry = phase_rules(rules, phases["entry"])
    changed = {
        name
        for name, a, b in zip(rules._fields, rules, entry, strict=True)
        if not np.array_equal(a, b)
    }
    assert changed == {
        "allowance",
        "lock_trigger",
        "target_balance",
        "limit_kind",
        "time_limit_days",
    }
    assert int(entry.target_balance) == NEVER
    manage = phase_rules(rules, phases["manage"])
    assert int(manage.allowance) == int(rules.allowance)
    assert int(manage.target_balance) == NEVER
    account = phase_rules(rules, phases["account"])
    assert all(np.array_equal(a, b) for a, b in zip(rules, account, strict=True))


def test_late_flat_may_be_made_strict(phases: dict[str, Phase]) -> None:
    rules = compile_rules(load_rulebook("apex-eod-50k"))
    strict = Phase(**{**vars(phases["account"]), "rules": {"late_flat": "fail"}})
    assert int(phase_rules(rules, strict).late_flat_fails) == 1


def test_weights_are_those_of_the_row(phases: dict[str, Phase]) -> None:
    weights = {name: tuple(map(float, reward_weights(p))) for name, p in phases.items()}
    assert weights == {
        "entry": (0.0, 1.0, 0.0, 0.0, 0.0),
        "exit": (0.0, 1.0, 0.0, 0.0, 0.0),
        "manage": (0.0, 1.0, 0.0, 20.0, 0.0),
        "account": (0.0, 0.0, 0.0, 0.0, 10.0),
    }


def test_steps_are_shared_out(phases: dict[str, Phase]) -> None:
    assert budget_steps(tuple(phases.values()), 1_225) == [450, 225, 200, 350]
