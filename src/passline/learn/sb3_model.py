"""Reads what stable-baselines3's model.save wrote as one of our policies, without its libraries.

An MlpPolicy of PPO or MaskablePPO is what `network` is: two separate tanh networks, weights [out,
in]. Its zip holds them in `policy.pth` (see torch_file), and in `data` as JSON what the rest of the
model was; what is pickled inside that JSON is never looked at, only what stands beside it as text.
Whatever would act otherwise here than where it was trained is refused.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from passline.errors import CheckpointError
from passline.learn.network import Params
from passline.learn.torch_file import (
    DAMAGED,
    Array,
    read_member,
    read_state_dict,
    shortened,
)
from passline.task.actions import N_ACTIONS
from passline.task.features import CLIP
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["SB3Model", "params_of", "read_sb3_model"]

LARGEST_DATA, LARGEST_POLICY = 1 << 25, 1 << 26
LARGEST_RATIO = 200
"""Of a member unpacked to the whole file; stable-baselines3 packs nothing."""
MOST_STEPS = 1 << 53

POLICIES = {
    "stable_baselines3.common.policies": "MlpPolicy of stable-baselines3",
    "sb3_contrib.common.maskable.policies": "MlpPolicy of sb3-contrib's MaskablePPO",
}
"""What is read, by the module that its class is of."""
TANH = "<class 'torch.nn.modules.activation.Tanh'>"
FLATTEN = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
NEEDED = (
    "Needed is an MlpPolicy of PPO or MaskablePPO: linear layers with tanh, one network for the "
    "actions and one for the value"
)
FOREIGN_LAYERS = {
    "mlp_extractor.shared_net.": "layers that actions and value share",
    "features_extractor.": "a features extractor with weights (such as CnnPolicy's)",
    "pi_features_extractor.": "a features extractor with weights",
    "lstm_": "an LSTM",
    "log_std": "actions that are not discrete",
    "q_net": "a network of action values",
}


@dataclass(frozen=True, kw_only=True)
class SB3Model:
    """A model as one of our policies.

    Attributes:
        file: name of the zip.
        sha256: of the zip.
        policy: which policy it is, in words.
        written_by: version of stable-baselines3; "" if the zip does not tell it.
        n_steps: steps it was trained for, by its own account.
        hidden: widths of the hidden layers.
        params: its weights.
    """

    file: str
    sha256: str
    policy: str
    written_by: str
    n_steps: int
    hidden: tuple[int, ...]
    params: Params


def read_sb3_model(path: Path) -> SB3Model:
    """Reads a zip that stable-baselines3's or sb3-contrib's model.save wrote; runs nothing in it.

    Raises:
        CheckpointError: it cannot be read, is no such zip, or holds a policy that cannot be played
            here as it was trained.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: is no file. Give the .zip that model.save wrote.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            facts, packed, version = _unpack(file, path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be read: {error.strerror or shortened(error)}. Give the .zip that "
            "model.save wrote."
        ) from error
    policy = _require_fit(path.name, facts)
    params = params_of(read_state_dict(packed, f"{path.name}: policy.pth"), path.name)
    layers = params["actor"]
    return SB3Model(
        file=path.name,
        sha256=digest,
        policy=policy,
        written_by=version,
        n_steps=_steps(path.name, facts),
        hidden=tuple(int(layers[f"b{i}"].shape[0]) for i in range(len(layers) // 2 - 1)),
        params=params,
    )


def _unpack(file: IO[bytes], path: Path) -> tuple[Mapping[str, Any], bytes, str]:
    """Returns what the model tells of itself, its weights as they are stored, and the version."""
    most = LARGEST_RATIO * path.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            facts = json.loads(read_member(archive, "data", min(LARGEST_DATA, most)))
            packed = read_member(archive, "policy.pth", min(LARGEST_POLICY, most))
            return facts if isinstance(facts, dict) else {}, packed, _version(archive)
    except (*DAMAGED, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a model as stable-baselines3's model.save writes it: {shortened(error)}."
        ) from error


def _version(archive: zipfile.ZipFile) -> str:
    name = "_stable_baselines3_version"
    if name not in archive.namelist():
        return ""
    return shortened(read_member(archive, name, 64).decode("ascii", "replace"))


def _steps(file: str, facts: Mapping[str, Any]) -> int:
    steps = facts.get("num_timesteps")
    if type(steps) is not int or not 0 <= steps < MOST_STEPS:
        raise CheckpointError(
            f"{file}: num_timesteps was {shortened(steps)}; a count of steps is needed. Save the "
            "model again."
        )
    return steps


def _require_fit(file: str, facts: Mapping[str, Any]) -> str:
    """Refuses a model that was trained as nothing here can play it; returns its policy in words.

    Looks at the texts that stable-baselines3 writes beside what it pickles; those of the weights
    themselves are told from their names and shapes (see `params_of`).
    """
    module = _text(facts, "policy_class", "__module__")
    if module not in POLICIES:
        raise CheckpointError(
            f"{file}: its policy is a class of {shortened(module or 'no module told')}. {NEEDED}."
        )
    if facts.get("_last_original_obs") is not None:
        raise CheckpointError(
            f"{file}: it was trained inside VecNormalize, whose statistics lie in another file, so "
            "that the observations it knows cannot be made here; they are scaled already. Train it "
            "without. If only rewards were normalized (norm_obs=False), set "
            "model._last_original_obs = None and save it again."
        )
    _require_spaces(file, facts)
    activation = _text(facts, "policy_kwargs", "activation_fn") or TANH
    if activation != TANH:
        raise CheckpointError(
            f"{file}: its activation is {_class(activation)}; tanh is needed, which is "
            "MlpPolicy's own. Train it without activation_fn."
        )
    extractor = _text(facts, "policy_kwargs", "features_extractor_class") or FLATTEN
    if extractor != FLATTEN:
        raise CheckpointError(
            f"{file}: its features extractor is {_class(extractor)}; the observation must go in "
            "as it is. Train it without features_extractor_class."
        )
    return POLICIES[module]


def _require_spaces(file: str, facts: Mapping[str, Any]) -> None:
    """Refuses other observations and actions than the plug has, as far as their spaces tell."""
    kind = _text(facts, "action_space", ":type:")
    if not kind.endswith(".Discrete'>"):
        raise CheckpointError(
            f"{file}: its actions are {_class(kind) or 'of a space not told'}; needed is "
            f"Discrete({N_ACTIONS}), the rows of passline.task.actions.ACTION_NAMES."
        )
    low, high = (_text(facts, "observation_space", end) for end in ("low", "high"))
    if (_numbers(low), _numbers(high)) != ({-CLIP}, {CLIP}):
        raise CheckpointError(
            f"{file}: its observations lie from {shortened(low) or '?'} to {shortened(high) or '?'}"
            f"; needed are {len(OBSERVATION_NAMES)} numbers from {-CLIP} to {CLIP}. Train it on "
            "passline.envs, without a wrapper that changes what it sees."
        )


def _numbers(text: str) -> set[float]:
    """Returns the numbers of an array's text, such as "[-5. -5. -5.]"."""
    try:
        return {float(word) for word in text.strip("[]").split()}
    except ValueError:
        return set()


def _class(text: str) -> str:
    """Returns the name in a class's text, such as "<class 'torch.nn.Tanh'>"."""
    return shortened(text.removeprefix("<class '").removesuffix("'>"))


def _text(facts: Mapping[str, Any], name: str, key: str) -> str:
    """Returns a text that stands beside a pickled member, "" if it is not told."""
    told = facts.get(name)
    text = told.get(key) if isinstance(told, Mapping) else None
    return text if isinstance(text, str) else ""


def params_of(state: Mapping[str, Array], file: str) -> Params:
    """Returns the weights of an MlpPolicy's state dict as our networks have them.

    Where one network is narrower than the other, it is filled up with units whose weights are all
    0: they put out tanh(0) = 0, and nothing takes it.

    Args:
        state: arrays by name.
        file: names the model in errors.

    Raises:
        CheckpointError: layers that our networks do not have, or of other shapes.
    """
    actor, critic = (
        [f"mlp_extractor.{net}.{2 * i}" for i in range(_depth(state, f"mlp_extractor.{net}."))]
        for net in ("policy_net", "value_net")
    )
    _require_names(state, [*actor, *critic, "action_net", "value_net"], file)
    if not actor or len(actor) != len(critic):
        raise CheckpointError(
            f"{file}: {len(actor)} hidden layers lead to its actions and {len(critic)} to its "
            "value; needed are as many for both, at least one (net_arch)."
        )
    for layers, n_out in (([*actor, "action_net"], N_ACTIONS), ([*critic, "value_net"], 1)):
        _require_shapes(state, layers, n_out, file)
    widths = [
        max(len(state[f"{a}.bias"]), len(state[f"{c}.bias"]))
        for a, c in zip(actor, critic, strict=True)
    ]
    params = {
        "actor": _net(state, [*actor, "action_net"], [*widths, N_ACTIONS]),
        "critic": _net(state, [*critic, "value_net"], [*widths, 1]),
    }
    last = len(widths)
    params["critic"][f"w{last}"] = params["critic"][f"w{last}"][0]
    params["critic"][f"b{last}"] = params["critic"][f"b{last}"][0]
    return params


def _depth(state: Mapping[str, Array], prefix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(".weight") for name in state)


def _require_names(state: Mapping[str, Array], layers: Sequence[str], file: str) -> None:
    wanted = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    unknown, missing = sorted(state.keys() - wanted), sorted(wanted - state.keys())
    for prefix, words in FOREIGN_LAYERS.items():
        if any(name.startswith(prefix) for name in unknown):
            raise CheckpointError(f"{file}: it has {words}. {NEEDED}.")
    if unknown or missing:
        word, names = ("has", unknown) if unknown else ("lacks", missing)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise CheckpointError(
            f"{file}: its network {word} {', '.join(map(shortened, names[:5]))}{more}. {NEEDED}."
        )


def _require_shapes(
    state: Mapping[str, Array], layers: Sequence[str], n_out: int, file: str
) -> None:
    """Refuses layers that do not follow from each other, from observation to output."""
    n_in = len(OBSERVATION_NAMES)
    for layer in layers:
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        is_last = layer == layers[-1]
        out = n_out if is_last else (len(bias) if bias.ndim else 0)
        if weight.shape != (out, n_in) or bias.shape != (out,):
            raise CheckpointError(
                f"{file}: {layer} was {list(weight.shape)} with {list(bias.shape)} biases; "
                f"{[out if is_last else 'out', n_in]} is needed for {len(OBSERVATION_NAMES)} "
                f"observations and {N_ACTIONS} actions. Train it on this version's passline.envs."
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CheckpointError(f"{file}: {layer} has weights that are not finite.")
        n_in = out


def _net(state: Mapping[str, Array], layers: Sequence[str], widths: Sequence[int]) -> Any:
    """Returns w0, b0, w1, ...: each layer in the top left corner of zeros of the width asked."""
    net = {}
    n_in = len(OBSERVATION_NAMES)
    for i, (layer, n_out) in enumerate(zip(layers, widths, strict=True)):
        weight, bias = np.zeros((n_out, n_in), np.float32), np.zeros(n_out, np.float32)
        own = state[f"{layer}.weight"]
        weight[: own.shape[0], : own.shape[1]] = own
        bias[: own.shape[0]] = state[f"{layer}.bias"]
        net[f"w{i}"], net[f"b{i}"] = jnp.asarray(weight), jnp.asarray(bias)
        n_in = n_out
    return net
