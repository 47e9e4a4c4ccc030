"""SB3's plug: its own checker, masks, wrappers, and a short training."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib", reason="the sb3 extra is not installed")

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from driving import N_LANES
from passline.envs.gym_env import GymEnv
from passline.envs.making import Task
from passline.envs.sb3_vec import SB3VecEnv
from passline.errors import ConfigError, SimulationError
from passline.task.actions import N_ACTIONS


@pytest.fixture(scope="module")
def task(prepared, phases, params_of) -> Task:
    return Task(
        prepared=prepared, phase=phases["entry"], params=params_of(prepared, phases["entry"])
    )


def test_sb3s_checker_is_content(task) -> None:
    check_env(GymEnv(task), warn=True)


def test_masks_are_found_by_sb3_contrib(task) -> None:
    env = SB3VecEnv(task, N_LANES, seed=0)
    assert is_masking_supported(env)
    assert is_masking_supported(VecMonitor(env))
    assert env.has_attr("action_masks")
    assert not env.has_attr("no_such_thing")
    with pytest.raises(SimulationError, match="call reset"):
        env.env_method("action_masks")
    env.reset()
    masks = get_action_masks(env)
    assert (masks.shape, masks.dtype) == ((N_LANES, N_ACTIONS), np.bool_)
    np.testing.assert_array_equal(masks, env.action_masks())
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[2])[0], masks[2])
    with pytest.raises(AttributeError, match="no method 'seed'"):
        env.env_method("seed")


def test_a_seed_fixes_the_lanes_and_options_differ_by_value_alone(task) -> None:
    env, other = SB3VecEnv(task, N_LANES, seed=5), SB3VecEnv(task, N_LANES, seed=6)
    first = env.reset()
    env.seed(5)
    np.testing.assert_array_equal(env.reset(), first)
    assert not np.array_equal(env.reset(), first)
    assert not np.array_equal(other.reset(), first)
    assert len(np.unique(first, axis=0)) >= N_LANES - 1
    env.set_options([{"start_bar": 9_000}] + [{}] * (N_LANES - 1))
    with pytest.raises(ConfigError, match="give all the same"):
        env.reset()


class _Watch(BaseCallback):
    """Counts what the plug tells of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.n_invalid = self.n_ended = self.n_truncated = 0

    def _on_step(self) -> bool:
        env: Any = self.training_env.unwrapped
        self.n_invalid += int(env.last.is_invalid.sum())
        self.n_truncated += int(env.last.is_truncated.sum())
        self.n_ended += int((env.last.is_truncated | env.last.is_terminated).sum())
        return True


def test_maskable_ppo_learns_on_it_for_a_while(task) -> None:
    """No masked action is ever sent, episodes end, and the weights move."""
    env = VecMonitor(SB3VecEnv(task, N_LANES, seed=1))
    model = MaskablePPO("MlpPolicy", env, n_steps=128, batch_size=512, n_epochs=2, seed=0)
    before = {name: p.detach().clone() for name, p in model.policy.named_parameters()}
    watch = _Watch()
    model.learn(4 * 128 * N_LANES, callback=watch)
    assert model.num_timesteps == 4 * 128 * N_LANES
    assert watch.n_invalid == 0
    assert watch.n_ended >= 5
    assert watch.n_truncated >= 1
    assert all((p != before[name]).any() for name, p in model.policy.named_parameters())
    assert len(model.ep_info_buffer) == watch.n_ended
    rewards, lengths = evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
    assert len(rewards) >= 4
    assert min(lengths) >= 1
