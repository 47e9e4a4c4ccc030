"""Composes the rooms' own settings into one, read from TOML and the command line.

Every setting lives beside what it sets; this module only gathers them, refuses what is unknown,
and lends their docstrings to the command line's help.
"""

import ast
import dataclasses
import inspect
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from passline.errors import ConfigError
from passline.evaluate.windows import SliceConfig, Window, windows_of
from passline.learn.curriculum import CurriculumConfig
from passline.learn.settings import PPOConfig, require
from passline.market.synthetic import SyntheticConfig
from passline.task.prepare import TaskConfig

__all__ = ["TrainConfig", "field_help", "from_plain", "read_config", "to_plain"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training depends on; its hash is the run's fingerprint."""

    bars: tuple[str, ...] = ()
    """Bar files made by `passline data import`; empty for the built-in market."""
    trade_as: str = ""
    """Contract to trade on the bars if not their own, such as MES on ES bars."""
    market: SyntheticConfig | None = None
    """The built-in market; None for bar files."""
    market_seed: int = 0
    """Seed of the built-in market."""
    rulebook: str = "apex-intraday-50k"
    """Id of a built-in rulebook, or the path of a TOML file."""
    phases: str = ""
    """TOML file of the curriculum; empty for the built-in one."""
    base_sha256: str = ""
    """SHA-256 of the checkpoint that training begins with, set by --from; empty draws weights."""
    model_sha256: str | None = None
    """SHA-256 of the stable-baselines3 model judged in place of a training, set by evaluate."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """Bracket, sizes and costs."""
    slices: SliceConfig = field(default_factory=SliceConfig)
    """What is held out."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The learner."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    """Budget and seed."""

    def __post_init__(self) -> None:
        """Refuses no market, or two, and widths that a symmetric policy cannot have."""
        if bool(self.bars) == (self.market is not None):
            raise ConfigError("give either bar files or the built-in market, not both or neither.")
        symmetric = self.curriculum.symmetric
        is_in_pairs = symmetric == "always" or (symmetric == "auto" and not self.base_sha256)
        require(
            not is_in_pairs or not any(width % 2 for width in self.ppo.hidden),
            "hidden",
            self.ppo.hidden,
            "even widths, or --symmetric never",
        )


SECTIONS: dict[str, type] = {
    "market": SyntheticConfig,
    "task": TaskConfig,
    "slices": SliceConfig,
    "ppo": PPOConfig,
    "curriculum": CurriculumConfig,
}


@cache
def field_help(owner: type) -> dict[str, str]:
    """Returns the docstring under each field of a dataclass, by field name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            value = following.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                assert isinstance(statement.target, ast.Name)
                found[statement.target.id] = " ".join(value.value.split())
    return found


def to_plain(config: Any) -> Any:
    """Returns a configuration as dicts, lists and scalars; None values are left out."""
    if isinstance(config, Window):
        return config.to_plain()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        pairs = ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
        return {name: to_plain(value) for name, value in pairs if value is not None}
    if isinstance(config, tuple):
        return [to_plain(item) for item in config]
    return config


def from_plain(plain: Mapping[str, Any], where: str) -> TrainConfig:
    """Builds a configuration from plain data, such as a TOML file or run.toml.

    Args:
        plain: settings; sections as nested mappings.
        where: names the source in errors.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind or out of range.
    """
    values: dict[str, Any] = {}
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for key, value in plain.items():
        if key not in known:
            raise ConfigError(
                f"{where}: unknown key {key}. Known keys: {', '.join(sorted(known))}."
            )
        if key in SECTIONS:
            values[key] = _section(SECTIONS[key], value, f"{where}: [{key}]")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return TrainConfig(**values)


def _section(owner: type, plain: Any, where: str) -> Any:
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{where} was {plain!r}; it must be a table.")
    fields = {f.name: f for f in dataclasses.fields(owner)}
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key not in fields:
            raise ConfigError(
                f"{where} unknown key {key}. Known keys: {', '.join(sorted(fields))}."
            )
        if owner is SliceConfig and key == "named":
            values[key] = windows_of(value, f"{where} {key}")
        else:
            values[key] = _fit(value, str(fields[key].type), f"{where} {key}")
    return owner(**values)


def _fit(value: Any, kind: str, where: str) -> Any:
    """Brings a TOML or command-line value to the kind that a field declares."""
    if isinstance(value, list):
        return tuple(value)
    if "Literal" in kind:  # its words are the owner's to check, and may contain "float"
        return value
    if "date" in kind and isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(f"{where} was '{value}'; a date looks like 2024-03-14.") from error
    if "float" in kind and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if ("int" in kind or "float" in kind) and "str" not in kind and not is_number:
        raise ConfigError(f"{where} was {value!r}; a number is needed.")
    if "int" in kind and "float" not in kind and "str" not in kind and not isinstance(value, int):
        raise ConfigError(f"{where} was {value!r}; a whole number is needed.")
    return value


def read_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Reads a configuration file and lays the command line's settings over it.

    Args:
        path: TOML file; None for the defaults.
        overrides: "section.key" or "key" to value; None values are skipped.

    Raises:
        ConfigError: the file cannot be read, or a setting is refused.
    """
    plain: dict[str, Any] = {}
    if path is not None:
        try:
            plain = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not readable as TOML: {error}.") from error
    for name, value in overrides.items():
        if value is None:
            continue
        section, _, key = name.rpartition(".")
        target = plain.setdefault(section, {}) if section else plain
        if not isinstance(target, dict):
            raise ConfigError(f"{path}: {section} must be a table.")
        target[key] = list(value) if isinstance(value, tuple) else value
    where = path.name if path else "settings"
    if "model_sha256" in plain:
        raise ConfigError(
            f"{where}: model_sha256 is set by passline evaluate MODEL.zip, not by hand. Leave it "
            "out."
        )
    return from_plain(plain, where)
