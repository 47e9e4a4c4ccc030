"""One account as a Gymnasium environment, and the ids under which Gymnasium makes it.

Importing this module registers the ids. Nothing is computed here.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from passline.envs.extras import missing
from passline.envs.lanes import DONE_WORDS, Lanes, View
from passline.envs.making import BarSource, Task
from passline.envs.registry import register_ids, task_for
from passline.envs.spaces import action_space, begin, facts_of, observation_space

try:
    import gymnasium
    from gymnasium.error import ResetNeeded
except ModuleNotFoundError as error:
    raise missing(error, "gym") from error

__all__ = ["GymEnv", "make_env"]

Obs = NDArray[np.float32]


class GymEnv(gymnasium.Env[Obs, np.int64]):
    """One account; `info` holds action_mask, done_reason, equity_mills, floor_mills and bar.

    After a step `info` also holds reward_terms, weighted, whose sum is the reward, and is_invalid.
    An episode that ended shows its last observation, and `reset` must follow. Options of `reset`:
    start_bar opens a fresh account at the close of that bar of the tape instead of drawing from
    the phase's mix, end_bar truncates it there.

    Args:
        task: what is played.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, task: Task) -> None:
        self.observation_space = observation_space()
        self.action_space = action_space()
        self._lanes = Lanes(task, 1)
        self._view: View | None = None
        self._is_over = True

    @property
    def task(self) -> Task:
        """What is played."""
        return self._lanes.task

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns the legal actions, bool [A], as sb3-contrib's MaskablePPO asks for them."""
        mask: NDArray[np.bool_] = self._shown().action_mask[0]
        return mask

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Starts an episode; see Gymnasium's Env.reset."""
        super().reset(seed=seed)
        self._view = begin(self._lanes, self.np_random, options)
        self._is_over = False
        return self._view.obs[0], _info(self._view)

    def step(self, action: np.int64) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Plays one bar; see Gymnasium's Env.step.

        Raises:
            ResetNeeded: before the first reset, or when the episode has ended.
        """
        self._shown()
        done = self._lanes.step(np.asarray([action]))
        is_terminated, is_truncated = bool(done.is_terminated[0]), bool(done.is_truncated[0])
        self._is_over = is_terminated or is_truncated
        self._view = done.final if self._is_over else done.now
        info = _info(self._view)
        info["reward_terms"] = {name: float(term[0]) for name, term in done.terms._asdict().items()}
        info["is_invalid"] = bool(done.is_invalid[0])
        return self._view.obs[0], float(done.reward[0]), is_terminated, is_truncated, info

    def _shown(self) -> View:
        if self._view is None or self._is_over:
            raise ResetNeeded("passline.envs: the episode has not begun or has ended; call reset.")
        return self._view


def _info(view: View) -> dict[str, Any]:
    """Returns what `info` says of one account: plain numbers, the mask and a word."""
    facts = facts_of(view)
    info: dict[str, Any] = {name: int(value[0]) for name, value in facts.items() if value.ndim == 1}
    word = str(DONE_WORDS[info["done_reason"]])
    return info | {"done_reason": word, "action_mask": facts["action_mask"][0]}


def make_env(
    *, bars: BarSource | None = None, rulebook: str | None = None, phase: str = "account"
) -> GymEnv:
    """Makes the environment of a registered id; see passline.envs.registry.task_for."""
    return GymEnv(task_for(bars, rulebook, phase))


register_ids()
