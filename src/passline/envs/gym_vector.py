"""Many accounts as a Gymnasium vector environment, all stepped by one compiled call.

Nothing is computed here. A lane whose episode ends starts the next one in the same step
(AutoresetMode.SAME_STEP): its last observation is in `final_obs`, what was true then in
`final_info`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from passline.envs.extras import missing
from passline.envs.lanes import DONE_WORDS, Lanes, View
from passline.envs.making import BarSource, Task
from passline.envs.registry import task_for
from passline.envs.spaces import action_space, begin, facts_of, observation_space
from passline.errors import SimulationError

try:
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError as error:
    raise missing(error, "gym") from error

__all__ = ["GymVectorEnv", "make_vector_env"]

Obs = NDArray[np.float32]
Array = NDArray[Any]


class GymVectorEnv(VectorEnv[Obs, NDArray[np.int64], Array]):
    """L accounts; `info` holds the fields of GymEnv as arrays, with a mask `_name` beside each.

    Args:
        task: what is played.
        num_envs: L.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, task: Task, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = observation_space()
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._lanes = Lanes(task, num_envs)
        self._view: View | None = None

    @property
    def task(self) -> Task:
        """What is played."""
        return self._lanes.task

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns the legal actions of every lane, bool [L, A].

        Raises:
            SimulationError: before the first reset.
        """
        if self._view is None:
            raise SimulationError("action_masks was called before reset; call reset first.")
        mask: NDArray[np.bool_] = self._view.action_mask
        return mask

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Starts an episode in every lane; each draws its own from the one seed.

        Options: start_bar and end_bar as in GymEnv, one number or one a lane.
        """
        super().reset(seed=seed)
        self._view = begin(self._lanes, self.np_random, options)
        everywhere = np.ones(self.num_envs, np.bool_)
        return self._view.obs, _masked(_words(self._view), everywhere)

    def step(self, actions: NDArray[np.int64]) -> tuple[Obs, Array, Array, Array, dict[str, Any]]:
        """Plays one bar in every lane; see Gymnasium's VectorEnv.step."""
        done = self._lanes.step(actions)
        self._view = done.now
        everywhere = np.ones(self.num_envs, np.bool_)
        of_step = {"reward_terms": done.terms._asdict(), "is_invalid": done.is_invalid}
        info = _masked(_words(done.now) | of_step, everywhere)
        is_done = done.is_terminated | done.is_truncated
        if is_done.any():
            last = np.full(self.num_envs, None, object)
            for lane in np.flatnonzero(is_done):
                last[lane] = done.final.obs[lane]
            info["final_obs"], info["_final_obs"] = last, is_done
            info["final_info"] = _masked(_words(done.final) | of_step, is_done)
            info["_final_info"] = is_done
        return done.now.obs, done.reward, done.is_terminated, done.is_truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Has nothing to release."""


def _words(view: View) -> dict[str, Any]:
    """Returns the facts of every account, with the reason as a word."""
    return facts_of(view) | {"done_reason": DONE_WORDS[view.done_reason]}


def _masked(values: Mapping[str, Any], where: NDArray[np.bool_]) -> dict[str, Any]:
    """Adds Gymnasium's `_name` masks, which tell whose values mean something."""
    info: dict[str, Any] = {}
    for name, value in values.items():
        info[name] = _masked(value, where) if isinstance(value, Mapping) else value
        info[f"_{name}"] = where
    return info


def make_vector_env(
    *,
    num_envs: int = 1,
    bars: BarSource | None = None,
    rulebook: str | None = None,
    phase: str = "account",
) -> GymVectorEnv:
    """Makes the vector environment of a registered id; see passline.envs.registry.task_for."""
    return GymVectorEnv(task_for(bars, rulebook, phase), num_envs)
