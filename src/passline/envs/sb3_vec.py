"""Many accounts as a Stable-Baselines3 VecEnv, with masks for sb3-contrib's MaskablePPO.

Nothing is computed here. As SB3 has it, a lane whose episode ends shows the next one's first
observation, and its last one as `terminal_observation`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.envs.extras import missing
from passline.envs.lanes import DONE_WORDS, Lanes, Step, View
from passline.envs.making import Task
from passline.envs.spaces import action_space, begin, observation_space
from passline.errors import ConfigError, SimulationError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ModuleNotFoundError as error:
    raise missing(error, "sb3") from error

__all__ = ["SB3VecEnv"]

Obs = NDArray[np.float32]
Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """L accounts in one compiled call a step.

    The info of a lane is empty but where its episode ended, so that a step of a thousand lanes
    builds no thousand dicts; what holds in all lanes is in the arrays of `last`.

    Args:
        task: what is played.
        n_lanes: L.
        seed: of all draws; VecEnv.seed sets another for the next reset.
    """

    def __init__(self, task: Task, n_lanes: int, *, seed: int) -> None:
        self._lanes = Lanes(task, n_lanes)
        self._rng = np.random.default_rng(seed)
        self._view: View | None = None
        self._actions: NDArray[np.int64] | None = None
        self.last: Step | None = None
        """The step before, whole: arrays [L, ...]; None before the first."""
        super().__init__(n_lanes, observation_space(), action_space())

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

    def reset(self) -> Obs:
        """Starts an episode in every lane; each draws its own from the one seed.

        VecEnv.set_options takes GymEnv's options, for the next reset.
        """
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
        self._view = begin(self._lanes, self._rng, _joined(self._options))
        self._reset_seeds()
        self._reset_options()
        self.last = None
        obs: Obs = self._view.obs
        return obs

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Takes one action a lane."""
        self._actions = actions

    def step_wait(self) -> tuple[Obs, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Plays one bar in every lane."""
        if self._actions is None:
            raise SimulationError("step_wait was called before step_async.")
        done = self._lanes.step(self._actions)
        self._actions = None
        self._view, self.last = done.now, done
        is_done = done.is_terminated | done.is_truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for lane in np.flatnonzero(is_done):
            infos[lane] = _last_info(done, int(lane))
        return done.now.obs, done.reward, is_done, infos

    def close(self) -> None:
        """Has nothing to release."""

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Returns an attribute of each lane: render_mode, spec or action_masks."""
        known = {"render_mode": None, "spec": None, "action_masks": self.action_masks}
        if attr_name not in known:
            raise AttributeError(
                f"SB3VecEnv: lanes have no attribute '{attr_name}'. Known: {', '.join(known)}."
            )
        return [known[attr_name]] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refuses: lanes have no attributes to set."""
        raise AttributeError(f"SB3VecEnv: '{attr_name}' cannot be set; make a new environment.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of each lane; the one there is, action_masks, gives a row a lane."""
        if method_name != "action_masks" or method_args or method_kwargs:
            raise AttributeError(
                f"SB3VecEnv: lanes have no method '{method_name}' with {len(method_args)} "
                "arguments. Known: action_masks()."
            )
        return list(self.action_masks()[self._chosen(indices)])

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Indices = None) -> list[bool]:
        """Tells that no lane is wrapped; wrap the whole in VecMonitor for episode statistics."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Indices) -> Sequence[int]:
        return list(self._get_indices(indices))


def _joined(options: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lays the lanes' options beside each other."""
    names = {frozenset(given) for given in options}
    if len(names) > 1:
        raise ConfigError("SB3VecEnv: the lanes' options differ in their names; give all the same.")
    return {name: np.array([given[name] for given in options]) for name in options[0]}


def _last_info(done: Step, lane: int) -> dict[str, Any]:
    """Returns the info of a lane whose episode ended in this step."""
    final = done.final
    return {
        "terminal_observation": final.obs[lane],
        "TimeLimit.truncated": bool(done.is_truncated[lane]),
        "action_mask": final.action_mask[lane],
        "done_reason": str(DONE_WORDS[final.done_reason[lane]]),
        "equity_mills": int(final.equity_mills[lane]),
        "floor_mills": int(final.floor_mills[lane]),
        "bar": int(final.bar[lane]),
        "reward_terms": {name: float(term[lane]) for name, term in done.terms._asdict().items()},
        "is_invalid": bool(done.is_invalid[lane]),
    }
