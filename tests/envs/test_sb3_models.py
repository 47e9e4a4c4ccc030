"""Models that stable-baselines3 trained through the plug, as `passline evaluate` reads them.

Their logits are ours, and what their own `predict` earns in the plug is what the compiled player
says of them, account by account.
"""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sb3_contrib", reason="the sb3 extra is not installed")

import torch
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecNormalize

from made_sb3 import pth_of, state_from, state_of
from passline.envs.making import Task
from passline.envs.sb3_vec import SB3VecEnv
from passline.errors import CheckpointError
from passline.evaluate.judge import begin_at
from passline.evaluate.policies import PolicyKind, scripted
from passline.evaluate.rollout import play_episodes
from passline.evaluate.slices import evaluation_starts
from passline.learn import network
from passline.learn.sb3_model import read_sb3_model

N_LANES = 8
SHORT: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 2, "seed": 0}


@pytest.fixture(scope="module")
def task(prepared, phases, params_of) -> Task:
    phase = phases["account"]
    return Task(prepared=prepared, phase=phase, params=params_of(prepared, phase))


@pytest.fixture(scope="module")
def env(task) -> SB3VecEnv:
    return SB3VecEnv(task, N_LANES, seed=0)


@pytest.fixture(scope="module")
def trained(env, tmp_path_factory) -> Any:
    """MaskablePPO of 768 steps, and the file that it was saved to."""
    model = MaskablePPO("MlpPolicy", env, **SHORT)
    model.learn(3 * 32 * N_LANES)
    path = tmp_path_factory.mktemp("models") / "model.zip"
    model.save(path)
    return model, path


def saved(folder: Path, model: Any) -> Path:
    model.save(folder / "model.zip")
    return folder / "model.zip"


def theirs(model: Any, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a policy's own networks put out: logits and values."""
    policy = model.policy
    with torch.no_grad():
        actions, values = policy.mlp_extractor(policy.extract_features(torch.as_tensor(obs)))
        return policy.action_net(actions).numpy(), policy.value_net(values).numpy()[:, 0]


def seen(env: SB3VecEnv, n_steps: int = 40) -> np.ndarray:
    """Observations of the plug, under random legal actions."""
    rng = np.random.default_rng(0)
    rows = [env.reset()]
    for _ in range(n_steps):
        masks = env.action_masks()
        env.step_async(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
        rows.append(env.step_wait()[0])
    return np.concatenate(rows)


def test_a_trained_model_is_read_with_its_steps(trained) -> None:
    model, path = trained
    read = read_sb3_model(path)
    assert (read.hidden, read.n_steps) == ((64, 64), 768)
    assert read.policy == "MlpPolicy of sb3-contrib's MaskablePPO"
    assert read.written_by
    state = state_from(read.params)
    for name, tensor in model.policy.state_dict().items():
        np.testing.assert_array_equal(state[name], tensor.numpy())


def test_our_own_writing_of_arrays_is_what_torch_reads() -> None:
    """The tests that do without torch stand on it."""
    state = state_of()
    loaded = torch.load(io.BytesIO(pth_of(state)), weights_only=True)
    assert list(loaded) == list(state)
    for name, tensor in loaded.items():
        np.testing.assert_array_equal(tensor.numpy(), state[name])


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (MaskablePPO, {}),
        (PPO, {"net_arch": [32]}),
        (PPO, {"net_arch": {"pi": [24, 40], "vf": [48, 8]}, "activation_fn": torch.nn.Tanh}),
        (A2C, {}),
        (TRPO, {"ortho_init": False, "net_arch": {"pi": [16, 16, 16], "vf": [16, 16, 16]}}),
    ],
)
def test_logits_and_values_are_theirs(algorithm, options, env, tmp_path) -> None:
    model = algorithm("MlpPolicy", env, policy_kwargs=options, seed=1)
    read = read_sb3_model(saved(tmp_path, model))
    obs = seen(env)
    logits, values = theirs(model, obs)
    assert np.abs(obs).max() > 1
    np.testing.assert_allclose(network.policy_logits(read.params, obs), logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(network.critic_values(read.params, obs), values, rtol=0, atol=1e-5)


def test_the_player_earns_what_their_own_predict_earns(trained, task, cut, tmp_path) -> None:
    """Whole evaluation episodes on the test slices, every action compared on the way."""
    model, path = trained
    params = read_sb3_model(path).params
    prepared = task.prepared
    starts = evaluation_starts(prepared, cut.test, n=N_LANES, span_days=prepared.span_days, seed=0)
    env = SB3VecEnv(task, len(starts.bar), seed=0)
    pairs = zip(starts.bar.tolist(), starts.end_bar.tolist(), strict=True)
    env.set_options([{"start_bar": first, "end_bar": last} for first, last in pairs])
    obs = env.reset()
    ended: dict[int, tuple[int, int]] = {}
    greedy = jax.jit(network.act_greedy)
    n_steps = n_choices = 0
    while len(ended) < env.num_envs:
        masks = env.action_masks()
        action, _ = model.predict(obs, action_masks=masks, deterministic=True)
        np.testing.assert_array_equal(action, greedy(params, jnp.asarray(obs), jnp.asarray(masks)))
        n_choices += int((masks.sum(axis=1) > 1).sum())
        env.step_async(action)
        obs, _, is_done, infos = env.step_wait()
        n_steps += 1
        for lane in np.flatnonzero(is_done):
            ended.setdefault(int(lane), (infos[lane]["equity_mills"], n_steps))
    played = play_episodes(
        task.params,
        network.act_greedy,
        scripted(PolicyKind.AGENT, params),
        begin_at(task.params, starts),
        seed=0,
    )
    assert n_choices > 500
    found = [ended[lane] for lane in range(env.num_envs)]
    assert [equity for equity, _ in found] == np.asarray(played.equity).tolist()
    assert [length for _, length in found] == np.asarray(played.length).tolist()


@pytest.mark.parametrize(
    ("algorithm", "options", "told"),
    [
        (
            PPO,
            {"activation_fn": torch.nn.ReLU},
            "its activation is torch.nn.modules.activation.ReLU",
        ),
        (PPO, {"net_arch": []}, "0 hidden layers lead to its actions"),
        (PPO, {"net_arch": {"pi": [8, 8], "vf": [8]}}, "2 hidden layers lead to its actions and 1"),
    ],
)
def test_networks_that_ours_are_not_are_refused(algorithm, options, told, env, tmp_path) -> None:
    path = saved(tmp_path, algorithm("MlpPolicy", env, policy_kwargs=options))
    with pytest.raises(CheckpointError, match=told):
        read_sb3_model(path)


def test_a_recurrent_policy_is_refused(env, tmp_path) -> None:
    path = saved(tmp_path, RecurrentPPO("MlpLstmPolicy", env, n_steps=32, batch_size=32))
    with pytest.raises(CheckpointError, match="is a class of sb3_contrib"):
        read_sb3_model(path)


def test_other_environments_are_refused(tmp_path) -> None:
    for name, told in (("CartPole-v1", "observations lie from"), ("Pendulum-v1", "actions are")):
        path = saved(tmp_path, PPO("MlpPolicy", name, n_steps=32, batch_size=32))
        with pytest.raises(CheckpointError, match=told):
            read_sb3_model(path)


def test_normalized_observations_are_refused_and_normalized_rewards_can_be_told(
    env, tmp_path
) -> None:
    model = PPO("MlpPolicy", VecNormalize(env, norm_obs=False), **SHORT)
    model.learn(32 * N_LANES)
    with pytest.raises(CheckpointError, match="trained inside VecNormalize"):
        read_sb3_model(saved(tmp_path, model))
    model._last_original_obs = None
    assert read_sb3_model(saved(tmp_path, model)).n_steps == 32 * N_LANES
