"""The gradient steps of one update: minibatches of whole lanes, clipped objective, KL stop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]

from passline.learn import kernel, network
from passline.learn.mlp import PACKED, Precision
from passline.learn.rollout import Batch, Metrics, Tree
from passline.learn.settings import Hyper, PPOConfig, scheduled
from passline.learn.symmetry import symmetric_part
from passline.task.mirror import Mirror

__all__ = ["descend", "is_by_kernel", "make_optimizer", "optimize"]

_ADAM_EPS = 1e-5


def make_optimizer() -> optax.GradientTransformation:
    """Builds Adam without its step size, which the schedule supplies at each update."""
    return optax.scale_by_adam(eps=_ADAM_EPS)


def descend(
    params: network.Params,
    opt_state: Tree,
    grads: network.Params,
    rate: jax.Array,
    max_grad_norm: jax.Array,
) -> tuple[network.Params, Tree, jax.Array]:
    """Takes one step of Adam by a gradient scaled down to a norm; returns that norm before it."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))
    scale = jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))
    scaled = jax.tree.map(lambda g: g * scale, grads)
    steps, opt_state = make_optimizer().update(scaled, opt_state)
    return jax.tree.map(lambda p, s: p - rate * s, params, steps), opt_state, norm


def is_by_kernel(params: network.Params, precision: Precision) -> bool:
    """Returns whether the kernel computes the objective's gradient, and not XLA."""
    actor, critic = params["actor"], params["critic"]
    hidden = [[net[f"b{i}"].shape[0] for i in range(len(net) // 2 - 1)] for net in (actor, critic)]
    obs = np.zeros((1, actor["w0"].shape[1]), PACKED[precision])
    return (
        hidden[0] == hidden[1]
        and network.n_actions(params) <= kernel.MOST_ACTIONS
        and critic[f"w{len(hidden[1])}"].ndim == 1
        and kernel.fits(actor, obs)
        and kernel.fits(critic, obs)
    )


class _Progress(NamedTuple):
    """State of the loop over minibatches."""

    n_seen: jax.Array
    n_applied: jax.Array
    is_stopped: jax.Array
    params: network.Params
    opt_state: Tree
    sums: dict[str, jax.Array]


_TERMS = (
    "train/approx_kl",
    "train/clip_fraction",
    "train/entropy_loss",
    "train/grad_norm",
    "train/loss",
    "train/policy_gradient_loss",
    "train/value_loss",
)


def optimize(
    config: PPOConfig,
    params: network.Params,
    opt_state: Tree,
    batch: Batch,
    key: jax.Array,
    hyper: Hyper,
    n_updates: jax.Array,
    mirror: Mirror | None,
) -> tuple[network.Params, Tree, Metrics]:
    """Takes the gradient steps of one update; stops for good before one that strays too far.

    As in SB3, the approximate KL of a minibatch is read before its step is applied, and one
    above 1.5 * target_kl ends the update; here inside the compiled loop, so that what remains
    costs nothing. A gradient or KL that is not finite ends it too, before it reaches the weights.
    With a mirror a symmetric policy stays so.
    """
    learning_rate, entropy_coef = scheduled(hyper, n_updates)
    n_blocks = config.n_lanes // config.lane_block
    orders = jax.vmap(lambda k: jax.random.permutation(k, n_blocks))(
        jax.random.split(key, config.n_epochs)
    ).reshape(config.n_epochs * config.n_minibatches, -1)

    def is_open(loop: _Progress) -> jax.Array:
        return (loop.n_seen < orders.shape[0]) & ~loop.is_stopped

    def one_minibatch(loop: _Progress) -> _Progress:
        grads, terms = _gradient(
            loop.params, batch, orders[loop.n_seen], config, hyper, entropy_coef
        )
        if mirror is not None:
            grads = symmetric_part(grads, mirror)
        moved, opt_state, norm = descend(
            loop.params, loop.opt_state, grads, learning_rate, hyper.max_grad_norm
        )
        kl = terms["train/approx_kl"]
        is_near = jnp.isfinite(kl) & (kl <= 1.5 * hyper.target_kl)
        is_stopped = ~(is_near & jnp.isfinite(norm))
        terms = terms | {"train/grad_norm": norm}

        def unless_stopped(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(is_stopped, old, new)

        return _Progress(
            n_seen=loop.n_seen + 1,
            n_applied=loop.n_applied + (~is_stopped).astype(jnp.int32),
            is_stopped=is_stopped,
            params=jax.tree.map(unless_stopped, moved, loop.params),
            opt_state=jax.tree.map(unless_stopped, opt_state, loop.opt_state),
            sums={name: loop.sums[name] + terms[name] for name in _TERMS},
        )

    start = _Progress(
        n_seen=jnp.int32(0),
        n_applied=jnp.int32(0),
        is_stopped=jnp.bool_(False),
        params=params,
        opt_state=opt_state,
        sums={name: jnp.float32(0.0) for name in _TERMS},
    )
    end = jax.lax.while_loop(is_open, one_minibatch, start)
    metrics: Metrics = {name: total / end.n_seen for name, total in end.sums.items()}
    metrics["train/learning_rate"] = learning_rate
    metrics["train/entropy_coef"] = entropy_coef
    metrics["train/n_epochs_done"] = end.n_applied / config.n_minibatches
    return end.params, end.opt_state, metrics


def _gradient(
    params: network.Params,
    batch: Batch,
    blocks: jax.Array,
    config: PPOConfig,
    hyper: Hyper,
    entropy_coef: jax.Array,
) -> tuple[network.Params, dict[str, jax.Array]]:
    """Computes the objective's gradient on a minibatch, and its terms.

    Args:
        params: where it is taken.
        batch: the whole rollout.
        blocks: which blocks of neighboring lanes the minibatch has, int32.
        config: the learner's settings.
        hyper: those that are values.
        entropy_coef: weight of the entropy now.
    """
    if not is_by_kernel(params, config.precision):
        part = _take_lanes(batch, blocks, config.lane_block)
        return jax.grad(_loss, has_aux=True)(params, part, config, hyper, entropy_coef)
    obs, *recorded = batch
    grads, means = kernel.gradient(
        [params["actor"], params["critic"]],
        obs,
        recorded,
        blocks,
        (
            *(hyper.clip_range, hyper.clip_range_value, hyper.value_coef, hyper.value_scale),
            entropy_coef,
        ),
        lane_block=config.lane_block,
        is_normalized=config.normalize_advantage == "minibatch",
    )
    value_part = hyper.value_coef * means["value_loss"]
    return {"actor": grads[0], "critic": grads[1]}, {
        "train/approx_kl": means["approx_kl"],
        "train/clip_fraction": means["clip_fraction"],
        "train/entropy_loss": -means["entropy"],
        "train/loss": means["policy_loss"] + value_part - entropy_coef * means["entropy"],
        "train/policy_gradient_loss": means["policy_loss"],
        "train/value_loss": means["value_loss"],
    }


def _take_lanes(batch: Batch, blocks: jax.Array, lane_block: int) -> Batch:
    """Copies blocks of neighboring lanes out of a rollout and flattens them to [T * lanes]."""
    starts = [blocks[i] * lane_block for i in range(blocks.shape[0])]

    def take(x: jax.Array) -> jax.Array:
        parts = [jax.lax.dynamic_slice_in_dim(x, s, lane_block, axis=1) for s in starts]
        joined = jnp.concatenate(parts, axis=1)
        return joined.reshape(-1, *x.shape[2:])

    return Batch(*(take(x) for x in batch))


def _loss(
    params: network.Params, part: Batch, config: PPOConfig, hyper: Hyper, entropy_coef: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the clipped objective (Schulman et al. 2017, equation 9) of one minibatch."""
    logits = network.actor_logits_t(params, part.obs, config.precision)
    mask = network.unpack_mask_t(part.mask_bits, logits.shape[0])
    log_probs = network.masked_log_softmax_t(logits, mask)
    log_ratio = network.take_action_t(log_probs, part.action) - part.log_prob
    ratio = jnp.exp(log_ratio)
    advantage = part.advantage
    if config.normalize_advantage == "minibatch":
        advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
    clipped = jnp.clip(ratio, 1.0 - hyper.clip_range, 1.0 + hyper.clip_range)
    policy_loss = -jnp.mean(jnp.minimum(advantage * ratio, advantage * clipped))
    entropy = -jnp.mean(jnp.sum(jnp.where(mask, jnp.exp(log_probs) * log_probs, 0.0), axis=0))
    old_value = part.value / hyper.value_scale
    change = network.critic_values(params, part.obs, config.precision) - old_value
    change = jnp.clip(change, -hyper.clip_range_value, hyper.clip_range_value)
    value_loss = jnp.mean(jnp.square(old_value + change - part.value_target / hyper.value_scale))
    loss = policy_loss + hyper.value_coef * value_loss - entropy_coef * entropy
    return loss, {
        "train/approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
        "train/clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > hyper.clip_range),
        "train/entropy_loss": -entropy,
        "train/loss": loss,
        "train/policy_gradient_loss": policy_loss,
        "train/value_loss": value_loss,
    }
