"""docs/plugs.md names every argument, field of info and id."""

import inspect
from pathlib import Path

from passline.envs.gym_env import GymEnv
from passline.envs.making import make_task
from passline.envs.registry import ENV_IDS

PAGE = (Path(__file__).parents[2] / "docs" / "plugs.md").read_text()


def test_every_argument_and_id_is_named() -> None:
    for name in (*inspect.signature(make_task).parameters, *ENV_IDS):
        assert f"`{name}`" in PAGE, name


def test_every_field_of_info_is_named() -> None:
    assert GymEnv.__doc__ is not None
    fields = ("action_mask", "done_reason", "equity_mills", "floor_mills", "bar", "reward_terms",
              "is_invalid", "final_obs", "final_info", "terminal_observation",
              "TimeLimit.truncated", "start_bar", "end_bar")  # fmt: skip
    for name in fields:
        assert name in PAGE, name


def test_the_examples_are_sound_python() -> None:
    lines = [line[4:] for line in PAGE.splitlines() if line.startswith("    ")]
    code = "\n".join(line for line in lines if not line.startswith(("pip ", "passline ")))
    compile(code, "plugs.md", "exec")
    assert code.count("import ") >= 5
