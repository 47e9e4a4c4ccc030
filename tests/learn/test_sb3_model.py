"""A zip of stable-baselines3 as a policy of ours: the same numbers, or a refusal that says why."""

import base64
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from made_sb3 import (
    N_FEATURES,
    State,
    facts_of,
    model_zip,
    pth_of,
    state_from,
    state_of,
    write_model,
    zipped,
)
from passline.errors import CheckpointError
from passline.learn import network
from passline.learn.sb3_model import read_sb3_model
from passline.task.actions import N_ACTIONS

OBS = np.random.default_rng(1).uniform(-5, 5, (64, N_FEATURES)).astype(np.float32)


def plain_outputs(state: State, net: str, head: str) -> np.ndarray:
    """What stable-baselines3's layers put out, in float64."""
    x, i = OBS.astype(np.float64), 0
    while (layer := f"mlp_extractor.{net}.{i}") + ".weight" in state:
        x = np.tanh(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])
        i += 2
    return x @ state[f"{head}.weight"].T + state[f"{head}.bias"]


@pytest.mark.parametrize(
    ("pi", "vf", "hidden"),
    [
        ((64, 64), None, (64, 64)),
        ((7,), None, (7,)),
        ((24, 40), (48, 8), (48, 40)),
        ((8, 8, 8), (8, 16, 8), (8, 16, 8)),
    ],
)
def test_logits_and_values_are_those_of_its_layers(pi, vf, hidden, tmp_path) -> None:
    state = state_of(pi, vf)
    model = read_sb3_model(write_model(tmp_path / "model.zip", state))
    assert (model.hidden, model.n_steps, model.written_by) == (hidden, 1024, "2.9.2")
    assert model.policy == "MlpPolicy of sb3-contrib's MaskablePPO"
    blank = network.init_params(jax.random.key(0), N_FEATURES, N_ACTIONS, hidden)
    assert jax.tree.map(jnp.shape, model.params) == jax.tree.map(jnp.shape, blank)
    logits = network.policy_logits(model.params, jnp.asarray(OBS))
    values = network.critic_values(model.params, jnp.asarray(OBS))
    wanted = plain_outputs(state, "policy_net", "action_net")
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        values, plain_outputs(state, "value_net", "value_net")[:, 0], atol=1e-5
    )


def test_a_network_of_ours_comes_back_bit_for_bit(tmp_path) -> None:
    params = network.init_params(jax.random.key(3), N_FEATURES, N_ACTIONS, (16, 12))
    model = read_sb3_model(write_model(tmp_path / "model.zip", state_from(params)))
    jax.tree.map(np.testing.assert_array_equal, model.params, params)


@pytest.mark.parametrize(
    "facts",
    [
        facts_of(),
        facts_of(policy_class={"__module__": "stable_baselines3.common.policies"}),
        facts_of(policy_kwargs={"net_arch": [16, 16]}),
        facts_of(
            policy_kwargs={
                "activation_fn": "<class 'torch.nn.modules.activation.Tanh'>",
                "features_extractor_class": "<class 'stable_baselines3.common.torch_layers."
                "FlattenExtractor'>",
            }
        ),
    ],
)
def test_what_an_mlp_policy_may_tell_of_itself_is_read(facts, tmp_path) -> None:
    assert read_sb3_model(write_model(tmp_path / "model.zip", facts=facts)).hidden == (16, 16)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_sb3_model(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def space(**changes: Any) -> dict[str, Any]:
    return facts_of(observation_space=facts_of()["observation_space"] | changes)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (facts_of(policy_class={"__module__": "__main__"}), "is a class of __main__"),
        (
            facts_of(policy_class={"__module__": "sb3_contrib.common.recurrent.policies"}),
            "is a class of sb3_contrib.common.recurrent.policies",
        ),
        (facts_of(policy_class=None), "is a class of no module told"),
        (facts_of(_last_original_obs={":serialized:": "gAWV"}), "trained inside VecNormalize"),
        (
            facts_of(policy_kwargs={"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"}),
            "its activation is torch.nn.modules.activation.ReLU; tanh is needed",
        ),
        (
            facts_of(policy_kwargs={"features_extractor_class": "<class 'mine.Scaled'>"}),
            "its features extractor is mine.Scaled",
        ),
        (
            facts_of(action_space={":type:": "<class 'gymnasium.spaces.box.Box'>"}),
            "its actions are gymnasium.spaces.box.Box; needed is Discrete(11)",
        ),
        (
            facts_of(
                action_space={":type:": "<class 'gymnasium.spaces.multi_discrete.MultiDiscrete'>"}
            ),
            "its actions are gymnasium.spaces.multi_discrete.MultiDiscrete",
        ),
        (facts_of(action_space=None), "its actions are of a space not told"),
        (space(low="[-inf -inf]", high="[inf inf]"), "from [-inf -inf] to [inf inf]; needed are"),
        (space(low="[-5. -4.]"), "from [-5. -4.] to [5. 5."),
        (space(low=None), "from ? to [5. 5."),
        (facts_of(num_timesteps=-1), "num_timesteps was -1"),
        (facts_of(num_timesteps=True), "num_timesteps was True"),
        (facts_of(num_timesteps=1 << 60), "num_timesteps was 1152921504606846976"),
        ([], "is a class of no module told"),
    ],
)  # fmt: skip
def test_what_would_act_otherwise_here_is_refused(facts, told, tmp_path) -> None:
    assert told in refusal(write_model(tmp_path / "model.zip", facts=facts))


def without(name: str) -> dict[str, np.ndarray]:
    state = state_of()
    del state[name]
    return state


def with_layer(name: str, shape: tuple[int, ...], fill: float = 0.0) -> dict[str, np.ndarray]:
    return state_of() | {name: np.full(shape, fill, np.float32)}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (with_layer("features_extractor.cnn.0.weight", (8, 3)), "a features extractor with"),
        (with_layer("pi_features_extractor.linear.weight", (8, 3)), "a features extractor"),
        (with_layer("mlp_extractor.shared_net.0.weight", (8, 3)), "that actions and value share"),
        (with_layer("lstm_actor.weight_ih_l0", (8, 3)), "an LSTM"),
        (with_layer("log_std", (8,)), "actions that are not discrete"),
        (with_layer("mlp_extractor.policy_net.1.weight", (16,)), "its network has mlp_extractor"),
        (without("action_net.bias"), "its network lacks action_net.bias"),
        ({}, "lacks action_net.bias, action_net.weight, value_net.bias, value_net.weight"),
        (state_of((), ()), "0 hidden layers lead to its actions and 0 to its value"),
        (state_of((16, 16), (16,)), "2 hidden layers lead to its actions and 1 to its value"),
        (
            with_layer("action_net.weight", (2, 16)),
            f"action_net was [2, 16] with [{N_ACTIONS}] biases; [{N_ACTIONS}, 16] is needed",
        ),
        (
            with_layer("mlp_extractor.policy_net.0.weight", (16, 20)),
            f"mlp_extractor.policy_net.0 was [16, 20] with [16] biases; ['out', {N_FEATURES}]",
        ),
        (with_layer("mlp_extractor.value_net.2.bias", (4,)), "value_net.2 was [16, 16] with [4]"),
        (with_layer("mlp_extractor.value_net.2.bias", (16, 1)), "with [16, 1] biases"),
        (with_layer("value_net.weight", (16,)), "value_net was [16] with [1] biases"),
        (with_layer("action_net.bias", (N_ACTIONS,), np.nan), "action_net has weights that"),
        (with_layer("value_net.bias", (1,), np.inf), "value_net has weights that are not finite"),
    ],
)  # fmt: skip
def test_other_networks_are_refused(state, told, tmp_path) -> None:
    assert told in refusal(write_model(tmp_path / "model.zip", state))


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("unpickled").touch, ())


def test_nothing_pickled_in_the_json_is_looked_at(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()
    facts = facts_of()
    for name in ("policy_class", "policy_kwargs", "observation_space", "action_space"):
        facts[name] = facts[name] | {":type:": facts[name].get(":type:", ""), ":serialized:": bomb}
    write_model(
        tmp_path / "model.zip", facts=facts, **{"pytorch_variables.pth": pickle.dumps(Bomb())}
    )
    assert read_sb3_model(tmp_path / "model.zip").n_steps == 1024
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "File is not a zip file"),
        (b"a text\n", "File is not a zip file"),
        (zipped({"readme.txt": b""}), "There is no item named 'data' in the archive"),
        (zipped({"data": b"{}"}), "There is no item named 'policy.pth' in the archive"),
        (model_zip(data=b"{"), "Expecting property name"),
        (model_zip(data=b"[" * 100_000), "maximum recursion depth exceeded"),
        (model_zip(data=b'{"a": ' + b"9" * 5_000 + b"}"), "Exceeds the limit"),
        (model_zip(data=b"\xff"), "can't decode byte"),
        (model_zip(**{"policy.pth": b"nothing"}), "policy.pth: not a dict of float32 arrays"),
        (model_zip()[:-9], "File is not a zip file"),
        (model_zip()[40:], "not a model as stable-baselines3's model.save writes it"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_told(content: bytes, told: str, tmp_path) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    assert told in refusal(tmp_path / "model.zip")


def test_a_missing_file_and_a_folder_are_told(tmp_path) -> None:
    assert "could not be read: No such file or directory" in refusal(tmp_path / "model.zip")
    assert "is no file" in refusal(tmp_path)


def test_bombs_are_refused_before_they_unpack(tmp_path) -> None:
    """Members that unpack to 200 times the whole file, and to more than any model has."""
    path = tmp_path / "model.zip"
    for name in ("data", "policy.pth"):
        members = {"data": json.dumps(facts_of()).encode(), "policy.pth": pth_of(state_of((4,)))}
        path.write_bytes(zipped(members | {name: bytes(1 << 27)}, zipfile.ZIP_DEFLATED))
        assert path.stat().st_size < 200_000
        assert f"{name} holds more than" in refusal(path)


def test_an_encrypted_zip_is_told(tmp_path) -> None:
    data = bytearray(zipped({"data": b"{}", "policy.pth": b""}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    (tmp_path / "model.zip").write_bytes(data)
    assert "is encrypted" in refusal(tmp_path / "model.zip")
