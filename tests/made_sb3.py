"""Writes zips as stable-baselines3's model.save does, without torch and without pickling."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passline.learn.network import Params
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES

N_FEATURES = len(OBSERVATION_NAMES)
State = Mapping[str, np.ndarray]

DICT = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def facts_of(**changes: Any) -> dict[str, Any]:
    """What the member `data` tells of a MaskablePPO that was trained through the plug."""
    facts = {
        "policy_class": {
            ":type:": "<class 'abc.ABCMeta'>",
            ":serialized:": "gAWV",
            "__module__": "sb3_contrib.common.maskable.policies",
        },
        "policy_kwargs": {},
        "num_timesteps": 1024,
        "_last_original_obs": None,
        "observation_space": {
            ":type:": "<class 'gymnasium.spaces.box.Box'>",
            "_shape": [N_FEATURES],
            "low": f"[{'-5. ' * 18}\n {'-5. ' * (N_FEATURES - 18)}]",
            "high": f"[{'5. ' * N_FEATURES}]",
        },
        "action_space": {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": "11"},
    }
    return facts | changes


def state_of(
    pi: Sequence[int] = (16, 16), vf: Sequence[int] | None = None, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """The state dict of an MlpPolicy, weights drawn."""
    rng = np.random.default_rng(seed)
    state = {}
    for net, head, widths, n_out in (
        ("policy_net", "action_net", pi, N_ACTIONS),
        ("value_net", "value_net", pi if vf is None else vf, 1),
    ):
        layers = [f"mlp_extractor.{net}.{2 * i}" for i in range(len(widths))] + [head]
        sizes = [N_FEATURES, *widths, n_out]
        for layer, n_in, out in zip(layers, sizes, sizes[1:], strict=False):
            state[f"{layer}.weight"] = rng.normal(0, 0.3, (out, n_in)).astype(np.float32)
            state[f"{layer}.bias"] = rng.normal(0, 0.3, out).astype(np.float32)
    return state


def state_from(params: Params) -> dict[str, np.ndarray]:
    """The state dict of an MlpPolicy that acts like a network of ours."""
    state = {}
    for net, prefix, head in (
        ("actor", "mlp_extractor.policy_net", "action_net"),
        ("critic", "mlp_extractor.value_net", "value_net"),
    ):
        last = len(params[net]) // 2 - 1
        for i in range(last + 1):
            layer = head if i == last else f"{prefix}.{2 * i}"
            weight, bias = (np.asarray(params[net][f"{part}{i}"]) for part in "wb")
            state[f"{layer}.weight"] = np.atleast_2d(weight)
            state[f"{layer}.bias"] = np.atleast_1d(bias)
    return state


def number(n: int) -> bytes:
    """BININT."""
    return b"J" + n.to_bytes(4, "little", signed=True)


def word(text: str) -> bytes:
    """BINUNICODE."""
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()


def sizes(values: Sequence[int]) -> bytes:
    """A tuple of numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key: str, shape: Sequence[int], kind: str = "FloatStorage") -> bytes:
    """The opcodes of an array whose numbers lie in data/key."""
    stride = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    storage = b"(" + word("storage") + f"ctorch\n{kind}\n".encode() + word(key) + word("cpu")
    storage += number(int(np.prod(shape))) + b"tQ"
    return (
        REBUILD + b"(" + storage + number(0) + sizes(shape) + sizes(stride) + b"\x89" + DICT + b"tR"
    )


def pickled(state: State, kind: str = "FloatStorage") -> bytes:
    """The data.pkl of a state dict, without the versions that torch sets on it."""
    items = (
        word(name) + tensor(str(i), array.shape, kind)
        for i, (name, array) in enumerate(state.items())
    )
    return b"\x80\x02" + DICT + b"(" + b"".join(items) + b"u."


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def pth_of(state: State, **changes: bytes) -> bytes:
    """The file that torch.save writes of a state dict."""
    members = {"data.pkl": pickled(state), "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{i}": array.tobytes() for i, array in enumerate(state.values())}
    return zipped({f"archive/{name}": content for name, content in (members | changes).items()})


def model_zip(
    state: State | None = None, facts: Mapping[str, Any] | None = None, **changes: bytes
) -> bytes:
    """The file that model.save writes."""
    members = {
        "data": json.dumps(facts_of() if facts is None else facts).encode(),
        "policy.pth": pth_of(state_of() if state is None else state),
        "_stable_baselines3_version": b"2.9.2",
    }
    return zipped(members | changes)


def write_model(path: Path, *args: Any, **kwargs: Any) -> Path:
    """Writes `model_zip` to a file."""
    path.write_bytes(model_zip(*args, **kwargs))
    return path
