"""Learning when to leave a position, from what both choices come to at every bar of it.

The market does not react to the agent. Where nothing but a bracket, flat-by and the agent's own
order closes a position, one walk along it tells at every bar what closing there would have come to,
and what the next bar brings if it is held. With the value of being flat afterwards, known from the
entries (see full_information), a position is a deterministic decision process: its value under the
present policy and the advantage of closing follow exactly by one pass backwards, no critic and no
sampled action. Entries stay as they were: their bars are shown beside, and straying there is
charged.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from passline.errors import ConfigError
from passline.learn import network
from passline.learn.full_information import Learner, Stretches, flat_values, paid
from passline.learn.objective import descend
from passline.learn.rollout import Metrics, TrainState, Tree
from passline.learn.settings import Hyper, PPOConfig, scheduled
from passline.learn.symmetry import symmetric_part
from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, Events, State
from passline.sim.step import start
from passline.task import env
from passline.task.account import ACCOUNT_FEATURES, BAR_FEATURES, POSITION_FEATURES
from passline.task.actions import CLOSE, N_ACTIONS
from passline.task.env import TaskParams
from passline.task.mirror import Mirror
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["Known", "Positions", "backward_positions", "find_positions", "make_exit_update"]

HOLD = 0
N_BARS = 64
"""Bars along which a position is walked; a longer one is left to its bracket from there on."""
WALKS_PER_STEP = 64
"""Positions that a gradient step sees."""
FLAT_PER_STEP = 512
"""Bars that it sees beside them, without a position."""
ANCHOR = 1.0
"""Weight of the divergence from the old policy there."""
FEWEST = 256
"""Entries below which too few are made to learn from, and the likeliest of all bars are taken."""
UNSEEN = tuple(
    OBSERVATION_NAMES.index(name)
    for name in ACCOUNT_FEATURES
    if name not in BAR_FEATURES | POSITION_FEATURES
)
"""Inputs that tell accounts apart; every position is a fresh account's."""


class Positions(NamedTuple):
    """Positions and what their brackets come to, left alone; P positions.

    Attributes:
        bar: at whose close the entry is decided, int32 [P].
        action: the entry, int32 [P].
        end_bar: at whose close its bracket, or flat-by, has closed it, int32 [P].
        end_reward: what the phase pays for it then [P].
    """

    bar: AnyArray
    action: AnyArray
    end_bar: AnyArray
    end_reward: AnyArray


class Known(NamedTuple):
    """What is learned from; Q bars that allow an entry, B bars of the tape.

    Attributes:
        positions: to draw from.
        open_bar: bars at which an entry may be decided, int32 [Q].
        value: of being flat at each bar [B + 1].
    """

    positions: Positions
    open_bar: AnyArray
    value: AnyArray


class Along(NamedTuple):
    """What the bars of positions come to; K bars of N positions.

    Attributes:
        obs: of the open position [K, N, F].
        mask_bits: its legal actions, uint32 [K, N].
        bar: at whose close they are taken, int32 [K, N].
        is_open: there is a position [K, N].
        is_closed: closing it now leaves the account flat a bar later [K, N].
        close_reward: what that pays [K, N].
        is_ended: held, it is gone a bar later [K, N].
        hold_reward: what that pays [K, N].
    """

    obs: Array
    mask_bits: Array
    bar: Array
    is_open: Array
    is_closed: Array
    close_reward: Array
    is_ended: Array
    hold_reward: Array


class Walked(NamedTuple):
    """What an update learns from; N positions, and M bars without one.

    Attributes:
        along: the bars of the positions.
        is_left: there is a position still after the last of them [N].
        flat_obs: [M, F].
        flat_bits: legal actions, uint32 [M].
    """

    along: Along
    is_left: Array
    flat_obs: Array
    flat_bits: Array


class Rows(NamedTuple):
    """What a gradient step reads of positions; n bars.

    Attributes:
        obs: [n, F].
        mask_bits: [n].
        log_probs: of HOLD and CLOSE under the policy that the advantages are of [n, 2].
        advantage: of either [n, 2].
        weight: probability that the policy comes to this decision [n]; 0 where there is none.
        value: of the position [n].
        is_open: [n].
    """

    obs: Array
    mask_bits: Array
    log_probs: Array
    advantage: Array
    weight: Array
    value: Array
    is_open: Array


def backward_positions(
    probs: Array, along: Along, tail: Array, flat_value: Array, gamma: Array | float
) -> tuple[Array, Array]:
    """Computes what each position is worth at each bar under a policy, and both choices there.

    Q(t, close) = R_close(t) + gamma V(t + 1), with V the value of being flat; Q(t, hold) the same
    with what the bar pays where it ends the position, else gamma W(t + 1); and W(t) the mean of
    Q(t, .) under the policy. Where an order to close would not fill, it is worth what holding is.

    Args:
        probs: of hold and close [K, N, 2].
        along: the bars of the positions.
        tail: W after the last of them, 0 where no position is left there [N].
        flat_value: V a bar after each [K, N].
        gamma: discount a bar.

    Returns:
        (W [K, N], 0 where there is no position; Q [K, N, 2]).
    """

    def back(later: Array, now: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        p, is_open, is_closed, close, is_ended, ended, flat = now
        hold = jnp.where(is_ended, ended + gamma * flat, gamma * later)
        q = jnp.stack([hold, jnp.where(is_closed, close + gamma * flat, hold)], axis=-1)
        worth = jnp.where(is_open, jnp.sum(p * q, axis=-1), 0.0)
        return worth, (worth, q)

    steps = (
        probs,
        along.is_open,
        along.is_closed,
        along.close_reward,
        along.is_ended,
        along.hold_reward,
        flat_value,
    )
    found: tuple[Array, Array] = jax.lax.scan(back, tail, steps, reverse=True)[1]
    return found


def find_positions(
    params: TaskParams, stretches: Stretches, config: PPOConfig, weights: network.Params
) -> Known:
    """Collects the entries that the greedy policy makes wherever it is flat.

    Args:
        params: constants of the phase.
        stretches: its training range, with the outcomes of all entries.
        config: the learner's settings as the phase has them.
        weights: the policy that the phase begins with.

    Raises:
        ConfigError: no bar of the training range allows an entry.
    """
    value, log_probs = flat_values(params, stretches, config, weights)
    best = np.argmax(log_probs[:, 1:], axis=1)
    lead = log_probs[:, 1:].max(axis=1) - log_probs[:, HOLD]
    can_enter = log_probs[:, 1:].max(axis=1) > network.MASKED_LOGIT / 2
    open_bar = np.flatnonzero(can_enter).astype(np.int32)
    if not len(open_bar):
        raise ConfigError(
            "no bar of the training range allows an entry, so there is no position to learn to "
            "leave. Look at the rulebook's sizes and stops (task.stop_atr, task.target_r) and at "
            "the hours of the bars."
        )
    bar = np.flatnonzero(can_enter & (lead > 0)).astype(np.int32)
    bar = bar if len(bar) >= FEWEST else open_bar
    row = best[bar]
    outcomes = stretches.outcomes
    positions = Positions(
        bar=bar,
        action=np.asarray(stretches.entries)[row].astype(np.int32),
        end_bar=np.asarray(outcomes.exit_bar)[row, bar],
        end_reward=np.asarray(paid(params, jnp.asarray(np.asarray(outcomes.net_r)[row, bar]))),
    )
    return Known(positions, open_bar, value)


def make_exit_update(
    params: TaskParams,
    known: Known,
    config: PPOConfig,
    begun: network.Params,
    mirror: Mirror | None,
) -> Learner:
    """Builds the compiled update: positions at random, their exact advantages, gradient steps.

    Args:
        params: constants of the phase.
        known: what to learn from.
        config: the learner's settings; a batch is bars of positions.
        begun: the policy that the phase begins with, which entries are kept to; it is copied.
        mirror: a policy that is symmetric to it stays so; None: whatever is learned.
    """
    compiled = _compiled(*_shape(config), mirror)
    device: Known = jax.tree.map(jnp.asarray, known)
    old = jax.tree.map(jnp.copy, begun)

    def update(state: TrainState, hyper: Hyper) -> _Learned:
        key, draw_key = jax.random.split(state.key)
        drawn, flat_bars = compiled.choose(draw_key, device)
        walked = compiled.walk(params, drawn, flat_bars)
        return compiled.learn(state._replace(key=key), old, drawn, walked, device.value, hyper)

    return update


def _shape(config: PPOConfig) -> tuple[int, int]:
    """Returns how many positions an update walks, whole steps of them, and its gradient steps."""
    n_walks = max(config.batch_size // N_BARS, 1)
    n_steps = max(n_walks // WALKS_PER_STEP, 1)
    return n_walks // n_steps * n_steps, n_steps


_Learned = tuple[TrainState, Metrics]


class _Compiled(NamedTuple):
    """The parts of an update; what contains the simulator's code is apart."""

    choose: Callable[[Array, Known], tuple[Positions, Array]]
    walk: Callable[[TaskParams, Positions, Array], Walked]
    learn: Callable[[TrainState, network.Params, Positions, Walked, Array, Hyper], _Learned]


@lru_cache(maxsize=4)
def _compiled(n_walks: int, n_steps: int, mirror: Mirror | None) -> _Compiled:
    def choose(key: Array, known: Known) -> tuple[Positions, Array]:
        return _choose(key, known, n_walks, n_steps * FLAT_PER_STEP)

    def learn(
        state: TrainState,
        old: network.Params,
        drawn: Positions,
        walked: Walked,
        flat_value: Array,
        hyper: Hyper,
    ) -> _Learned:
        return _learn(n_steps, mirror, state, old, drawn, walked, flat_value, hyper)

    return _Compiled(
        choose=jax.jit(choose),
        walk=sim_jit(_walk, is_fused=True),
        learn=jax.jit(learn, donate_argnums=(0,)),
    )


def _choose(key: Array, known: Known, n_walks: int, n_flat: int) -> tuple[Positions, Array]:
    """Draws positions, and as many bars where one begins as where one might."""
    walk_key, own_key, open_key = jax.random.split(key, 3)
    n_known, n_open, half = known.positions.bar.shape[0], known.open_bar.shape[0], n_flat // 2
    chosen = jax.random.randint(walk_key, (n_walks,), 0, n_known)
    drawn: Positions = jax.tree.map(lambda x: x[chosen], known.positions)
    own = known.positions.bar[jax.random.randint(own_key, (half,), 0, n_known)]
    others = known.open_bar[jax.random.randint(open_key, (half,), 0, n_open)]
    # Alternating, so that every gradient step sees as many of either.
    return drawn, jnp.stack([own, others], axis=1).reshape(-1)


def _walk(params: TaskParams, drawn: Positions, flat_bars: Array) -> Walked:
    """Enters, holds for N_BARS bars, and tries at each of them what closing comes to."""
    flat = _fresh(params, drawn.bar)
    opened, _, _ = env.act_on(params, flat, drawn.action, _see(params, flat)[1])

    def one_bar(now: State, nothing: None) -> tuple[State, Along]:
        del nothing
        obs, mask = _see(params, now)
        left, on_close, _ = env.act_on(params, now, jnp.full_like(now.bar, CLOSE), mask)
        later, on_hold, _ = env.act_on(params, now, jnp.zeros_like(now.bar), mask)
        is_open = now.qty != 0
        return later, Along(
            obs=obs,
            mask_bits=network.pack_mask(mask),
            bar=now.bar,
            is_open=is_open,
            is_closed=is_open & (left.qty == 0),
            close_reward=_paid_for(params, on_close),
            is_ended=is_open & (later.qty == 0),
            hold_reward=_paid_for(params, on_hold),
        )

    last, along = jax.lax.scan(one_bar, opened, None, length=N_BARS)
    flat_obs, flat_mask = _see(params, _fresh(params, flat_bars))
    return Walked(along, last.qty != 0, flat_obs, network.pack_mask(flat_mask))


def _fresh(params: TaskParams, bars: Array) -> State:
    """Returns an account a bar that has done nothing yet."""
    return start(params.tape, params.markets, params.rules, bars, params.market[bars])


def _see(params: TaskParams, accounts: State) -> tuple[Array, Array]:
    return env.observe(params, env.begin(params, accounts, accounts.bar))


def _paid_for(params: TaskParams, events: Events) -> Array:
    """Returns what the phase pays for the round trip that ended in this bar, 0 without one."""
    risk = jnp.maximum(events.trip_risk, 1).astype(jnp.float32)
    net_r = jnp.where(events.trip_risk > 0, events.trip_net.astype(jnp.float32) / risk, 0.0)
    return paid(params, net_r)


def _learn(
    n_steps: int,
    mirror: Mirror | None,
    state: TrainState,
    old: network.Params,
    drawn: Positions,
    walked: Walked,
    flat_value: Array,
    hyper: Hyper,
) -> _Learned:
    """Values the present policy on what was walked and takes the gradient steps of one update."""
    rate, bonus = scheduled(hyper, state.n_updates)
    rows, metrics = _value(state.params, drawn, walked, flat_value, hyper)
    flat = (walked.flat_obs, walked.flat_bits, _flat_log_probs(old, walked).T)

    def one_step(carry: tuple[network.Params, Tree], number: Array) -> tuple[Tree, Metrics]:
        weights, moments = carry
        part = Rows(*(_walks_of(x, n_steps, number) for x in rows))
        beside = tuple(x.reshape(n_steps, -1, *x.shape[1:])[number] for x in flat)
        grads, terms = jax.grad(_loss, has_aux=True)(weights, part, beside, hyper, bonus)
        grads = network.without_inputs(grads, UNSEEN)
        if mirror is not None:
            grads = symmetric_part(grads, mirror)
        *new, norm = descend(weights, moments, grads, rate, hyper.max_grad_norm)
        kept = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(norm), a, b), tuple(new), carry)
        return kept, terms | {"train/grad_norm": norm}

    (params, opt_state), terms = jax.lax.scan(
        one_step, (state.params, state.opt_state), jnp.arange(n_steps)
    )
    new = state._replace(params=params, opt_state=opt_state, n_updates=state.n_updates + 1)
    metrics |= {name: jnp.mean(values) for name, values in terms.items()}
    return new, metrics | {"train/learning_rate": rate, "train/entropy_coef": bonus}


def _value(
    params: network.Params, drawn: Positions, walked: Walked, flat_value: Array, hyper: Hyper
) -> tuple[Rows, Metrics]:
    """Computes the exact values and advantages of the present policy, and what it would do.

    Decisions weigh as much as the policy is likely to come to them; advantages are divided by
    their root mean square, so that the entropy bonus weighs alike on every market.
    """
    along = walked.along
    log_probs: Array = jax.lax.map(
        lambda now: _log_probs(params, now[0], now[1]), (along.obs, along.mask_bits)
    )
    probs = jnp.exp(log_probs)
    end_of_tape = flat_value.shape[0] - 1
    wait = jnp.maximum(drawn.end_bar - (drawn.bar + 1 + N_BARS), 1).astype(jnp.float32)
    after_end = flat_value[jnp.minimum(drawn.end_bar, end_of_tape)]
    tail = jnp.power(hyper.gamma, wait - 1) * (drawn.end_reward + hyper.gamma * after_end)
    flat_next = flat_value[jnp.minimum(along.bar + 1, end_of_tape)]
    nothing = jnp.zeros_like(flat_next)
    tail, own_tail = (jnp.where(walked.is_left, x, 0.0) for x in (tail, drawn.end_reward))
    values, q = backward_positions(probs, along, tail, flat_next, hyper.gamma)
    own, _ = backward_positions(probs, along, own_tail, nothing, 1.0)
    is_decision = along.is_closed & (jax.lax.population_count(along.mask_bits) > 1)
    stays = jnp.where(along.is_open, probs[:, :, HOLD], 0.0)
    reach = jnp.cumprod(jnp.concatenate([jnp.ones_like(stays[:1]), stays[:-1]]), axis=0)
    reach = reach * along.is_open
    weight = reach * is_decision
    n = jnp.maximum(jnp.sum(weight), 1.0)
    advantage = jnp.where(is_decision[:, :, None], q - values[:, :, None], 0.0)
    scale = jnp.sqrt(jnp.sum(weight[:, :, None] * probs * jnp.square(advantage)) / n)
    flat_probs = jnp.exp(_flat_log_probs(params, walked))
    counts = jnp.sum(flat_probs, axis=1)
    counts = counts.at[HOLD].add(jnp.sum(weight * probs[:, :, HOLD]))
    counts = counts.at[CLOSE].add(jnp.sum(weight * probs[:, :, 1]))
    n_positions = jnp.maximum(jnp.sum(along.is_open[0]), 1).astype(jnp.float32)
    rows = Rows(
        obs=along.obs,
        mask_bits=along.mask_bits,
        log_probs=log_probs,
        advantage=advantage / (scale + 1e-8),
        weight=weight,
        value=values,
        is_open=along.is_open,
    )
    return rows, {
        "rollout/position_reward": jnp.sum(own[0]) / n_positions,
        "rollout/position_length": jnp.sum(reach) / n_positions,
        "rollout/n_positions": jnp.sum(along.is_open[0]),
        "rollout/n_decisions": (jnp.sum(weight) + flat_probs.shape[1]).astype(jnp.int32),
        "rollout/action_counts": counts,
        "train/advantage_rms": scale,
    }


def _log_probs(params: network.Params, obs: Array, mask_bits: Array) -> Array:
    """Returns the log-probabilities of HOLD and CLOSE [n, 2]."""
    logits = network.actor_logits_t(params, obs)
    log_probs = network.masked_log_softmax_t(logits, network.unpack_mask_t(mask_bits, N_ACTIONS))
    return log_probs[jnp.array([HOLD, CLOSE])].T


def _flat_log_probs(params: network.Params, walked: Walked) -> Array:
    """Returns the log-probabilities of all actions where there is no position [A, M]."""
    logits = network.actor_logits_t(params, walked.flat_obs)
    mask = network.unpack_mask_t(walked.flat_bits, N_ACTIONS)
    return network.masked_log_softmax_t(logits, mask)


def _walks_of(x: Array, n_steps: int, number: Array) -> Array:
    """Takes all bars of every n_steps-th position, as [n, ...]."""
    parts = x.reshape(x.shape[0], -1, n_steps, *x.shape[2:])
    return parts[:, :, number].reshape(-1, *x.shape[2:])


def _loss(
    params: network.Params, part: Rows, beside: tuple[Array, ...], hyper: Hyper, bonus: Array
) -> tuple[Array, Metrics]:
    """Computes minus the expected advantage, entropy, the critic's error, straying of entries."""
    log_probs = _log_probs(params, part.obs, part.mask_bits)
    weight = part.weight[:, None]
    probs = jnp.where(weight > 0, jnp.exp(log_probs), 0.0)
    n = jnp.maximum(jnp.sum(weight), 1e-6)
    gain = jnp.sum(weight * probs * part.advantage) / n
    entropy = -jnp.sum(jnp.where(weight > 0, weight * probs * log_probs, 0.0)) / n
    error = network.critic_values(params, part.obs) - part.value / hyper.value_scale
    n_open = jnp.maximum(jnp.sum(part.is_open), 1).astype(jnp.float32)
    value_loss = jnp.sum(jnp.where(part.is_open, jnp.square(error), 0.0)) / n_open
    flat_obs, flat_bits, flat_old = beside
    mask = network.unpack_mask_t(flat_bits, N_ACTIONS)
    flat_now = network.masked_log_softmax_t(network.actor_logits_t(params, flat_obs), mask)
    apart = jnp.where(mask, jnp.exp(flat_old.T) * (flat_old.T - flat_now), 0.0)
    strayed = jnp.sum(apart) / flat_obs.shape[0]
    loss = -gain + hyper.value_coef * value_loss - bonus * entropy + ANCHOR * strayed
    divergence = jnp.where(weight > 0, jnp.exp(part.log_probs) * (part.log_probs - log_probs), 0.0)
    spread = jnp.var(part.value, where=part.is_open) / jnp.square(hyper.value_scale)
    return loss, {
        "train/approx_kl": jnp.sum(weight * divergence) / n,
        "train/entropy_loss": -entropy,
        "train/explained_variance": 1.0 - value_loss / jnp.maximum(spread, 1e-12),
        "train/loss": loss,
        "train/policy_gradient_loss": -gain,
        "train/value_loss": value_loss,
    }
