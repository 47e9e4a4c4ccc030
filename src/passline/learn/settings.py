"""Settings of the learner, and the part of them that the compiled update takes as values."""

import dataclasses
import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from passline.errors import ConfigError
from passline.learn.mlp import Precision, usual_precision

__all__ = ["Hyper", "PPOConfig", "make_hyper", "require", "scheduled"]

USUAL_PRECISION = usual_precision()
MOST_DECISIONS = 2**26
"""Of one rollout."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of the learner; shapes first, then what may change without compiling anew."""

    n_lanes: int = 1024
    """Accounts simulated at once."""
    share_lanes: int = 128
    """Accounts that one thread plays at least: a rollout of more is cut into equal shares, played
    side by side. Part of what is drawn, so not taken from the machine."""
    rollout_steps: int = 128
    """Decisions per lane between two updates."""
    minibatch_size: int = 8192
    """Decisions per gradient step: whole lanes, so a multiple of rollout_steps * lane_block."""
    lane_block: int = 8
    """Neighboring lanes that are shuffled into minibatches together."""
    n_epochs: int = 4
    """Passes over each rollout."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of the actor and of the critic."""
    precision: Precision = USUAL_PRECISION
    """Operands of the networks' products in training, which add up in float32 either way;
    bfloat16 where the processor multiplies it faster."""
    normalize_advantage: Literal["minibatch", "none"] = "minibatch"
    """Whether advantages are centered and scaled within each minibatch."""
    learning_rate: float = 3e-4
    """Adam's step size at the start of a phase."""
    learning_rate_floor: float = 3e-5
    """Adam's step size at the end of a phase; linear in between."""
    entropy_coef: float = 0.01
    """Weight of the entropy over legal actions at the start of a phase."""
    entropy_coef_floor: float = 0.001
    """Weight of the entropy over legal actions at the end of a phase; linear in between."""
    gamma: float = 0.995
    """Discount per decision."""
    gae_lambda: float = 0.95
    """Decay of the advantage estimator per decision."""
    clip_range: float = 0.2
    """Bound on the change of an action's probability ratio."""
    clip_range_value: float = math.inf
    """Bound on the change of a value, in units of value_scale; inf switches it off."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    value_scale: float = 1.0
    """Units of reward per unit of critic output; rewards themselves are never rescaled."""
    max_grad_norm: float = 0.5
    """Global norm above which a gradient is scaled down."""
    target_kl: float = 0.03
    """The update stops before a step whose approximate KL is above 1.5 times this; inf: never."""

    def __post_init__(self) -> None:
        """Refuses settings that do not fit together."""
        for name in (
            "n_lanes",
            "share_lanes",
            "rollout_steps",
            "minibatch_size",
            "lane_block",
            "n_epochs",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(
            self.batch_size <= MOST_DECISIONS,
            "n_lanes * rollout_steps",
            self.batch_size,
            f"at most {MOST_DECISIONS}, whose observations fill 9 GB",
        )
        unit = self.rollout_steps * self.lane_block
        require(
            self.minibatch_size % unit == 0,
            "minibatch_size",
            self.minibatch_size,
            f"a multiple of rollout_steps * lane_block = {unit}",
        )
        require(
            self.batch_size % self.minibatch_size == 0,
            "minibatch_size",
            self.minibatch_size,
            f"a divisor of n_lanes * rollout_steps = {self.batch_size}",
        )
        require(min(self.hidden, default=0) >= 1, "hidden", self.hidden, "one width or more")
        words = get_args(Precision)
        require(self.precision in words, "precision", self.precision, " or ".join(words))
        for name in ("gamma", "gae_lambda"):
            require(0.0 <= getattr(self, name) <= 1.0, name, getattr(self, name), "0 to 1")
        for name in (
            "learning_rate",
            "clip_range",
            "clip_range_value",
            "value_scale",
            "max_grad_norm",
            "target_kl",
        ):
            require(getattr(self, name) > 0.0, name, getattr(self, name), "above 0")
        for name in ("learning_rate_floor", "entropy_coef", "entropy_coef_floor", "value_coef"):
            require(getattr(self, name) >= 0.0, name, getattr(self, name), "0 or more")

    @property
    def batch_size(self) -> int:
        """Decisions of one rollout, n_lanes * rollout_steps."""
        return self.n_lanes * self.rollout_steps

    @property
    def n_shares(self) -> int:
        """Equal shares of the lanes, as many as have at least share_lanes each."""
        most = max(self.n_lanes // self.share_lanes, 1)
        return next(n for n in range(most, 0, -1) if self.n_lanes % n == 0)

    @property
    def n_minibatches(self) -> int:
        """Gradient steps of one epoch."""
        return self.batch_size // self.minibatch_size


class Hyper(NamedTuple):
    """Settings that enter the compiled update as values, float32 or int32 scalars."""

    first_update: jax.Array
    n_updates: jax.Array
    learning_rate: jax.Array
    learning_rate_floor: jax.Array
    entropy_coef: jax.Array
    entropy_coef_floor: jax.Array
    gamma: jax.Array
    gae_lambda: jax.Array
    clip_range: jax.Array
    clip_range_value: jax.Array
    value_coef: jax.Array
    value_scale: jax.Array
    max_grad_norm: jax.Array
    target_kl: jax.Array


def make_hyper(config: PPOConfig, first_update: int = 0, n_updates: int = 0) -> Hyper:
    """Collects the settings that may change from phase to phase.

    Args:
        config: the learner's settings.
        first_update: n_updates of the state at which the schedules start.
        n_updates: updates over which they run down to their floors; 0 holds them still.
    """
    values = {
        name: jnp.float32(getattr(config, name))
        for name in Hyper._fields
        if name not in {"first_update", "n_updates"}
    }
    return Hyper(first_update=jnp.int32(first_update), n_updates=jnp.int32(n_updates), **values)


def scheduled(hyper: Hyper, n_updates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the step size and the weight of the entropy at an update, linear in between."""
    elapsed = (n_updates - hyper.first_update).astype(jnp.float32)
    share = jnp.clip(elapsed / jnp.maximum(hyper.n_updates, 1).astype(jnp.float32), 0.0, 1.0)
    share = jnp.where(hyper.n_updates > 0, share, 0.0)
    rate = hyper.learning_rate + (hyper.learning_rate_floor - hyper.learning_rate) * share
    return rate, hyper.entropy_coef + (hyper.entropy_coef_floor - hyper.entropy_coef) * share


def require(is_ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises ConfigError, naming the setting and what it may be, unless is_ok."""
    if not is_ok:
        raise ConfigError(f"learn: {name} was {value}; allowed: {allowed}.")
