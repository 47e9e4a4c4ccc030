"""What Gymnasium and SB3 both ask of one lane: its spaces, and where an episode is to start."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.envs.extras import missing
from passline.envs.lanes import Lanes, View
from passline.errors import ConfigError
from passline.sim.layout import AnyArray
from passline.task.actions import N_ACTIONS
from passline.task.features import CLIP
from passline.task.prepare import OBSERVATION_NAMES

try:
    from gymnasium.spaces import Box, Discrete, Space
except ModuleNotFoundError as error:
    raise missing(error, "gym") from error

__all__ = ["action_space", "begin", "facts_of", "observation_space"]

OPTIONS = ("start_bar", "end_bar")


def observation_space() -> Space[NDArray[np.float32]]:
    """Returns the observation of one lane, float32 [F]; its columns are OBSERVATION_NAMES."""
    space: Space[Any] = Box(-CLIP, CLIP, (len(OBSERVATION_NAMES),), np.float32)
    return space


def action_space() -> Discrete:
    """Returns the rows of the action table, in the order of ACTION_NAMES."""
    return Discrete(N_ACTIONS)


def begin(lanes: Lanes, rng: np.random.Generator, options: Mapping[str, Any] | None) -> View:
    """Starts episodes: drawn from the phase's mix, or fresh accounts at `start_bar`.

    Raises:
        ConfigError: an unknown option, an end without a start, or a bar out of range.
    """
    given = dict(options or {})
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown or ("end_bar" in given and "start_bar" not in given):
        raise ConfigError(
            f"reset: options were {sorted(given)}; allowed: start_bar, and end_bar with it."
        )
    if not given:
        return lanes.reset(rng)
    return lanes.begin_at(rng, given["start_bar"], given.get("end_bar"))


def facts_of(view: View) -> dict[str, AnyArray]:
    """Returns what `info` says of each lane's account, arrays [L] by name.

    The mask is int8, as `action_space.sample(mask)` takes it.
    """
    return {
        "action_mask": view.action_mask.astype(np.int8),
        "done_reason": view.done_reason,
        "equity_mills": view.equity_mills,
        "floor_mills": view.floor_mills,
        "bar": view.bar,
    }
