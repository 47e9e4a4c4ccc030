"""Learning when to enter from the exact outcome of every entry at every bar, without playing.

Where positions are left to their brackets, a tape and the table of its entries' outcomes are a
deterministic decision process: flat at one close, flat again at a later one. What the present
policy is worth there, and the advantage of each of its actions with the time that a position takes
included, follow exactly by one pass backwards through each session: no critic, no sampled action.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.learn import network
from passline.learn.mlp import Precision, packed
from passline.learn.objective import descend
from passline.learn.rollout import Metrics, TrainState, Tree
from passline.learn.settings import Hyper, PPOConfig, scheduled
from passline.learn.symmetry import symmetric_part
from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, BarFlag, OrderKind
from passline.sim.step import start
from passline.task import env
from passline.task.account import ACCOUNT_FEATURES, BAR_FEATURES
from passline.task.actions import KINDS, N_ACTIONS
from passline.task.env import TaskParams
from passline.task.mirror import Mirror
from passline.task.outcomes import Outcomes, entry_outcomes
from passline.task.prepare import OBSERVATION_NAMES
from passline.task.reward import trip_utility

__all__ = [
    "UNSEEN",
    "Learner",
    "Stretches",
    "backward_values",
    "cut_stretches",
    "flat_values",
    "greedy_results",
    "make_exact_update",
    "paid",
]

MAX_BARS = 1536
"""Longest stretch; a longer session is cut, and what lies beyond the cut counts as nothing."""
HOLD = 0
_ENTRIES = (OrderKind.LONG, OrderKind.SHORT)
UNSEEN = tuple(
    OBSERVATION_NAMES.index(name) for name in ACCOUNT_FEATURES if name not in BAR_FEATURES
)
"""Inputs that tell accounts apart. All that is learned from here is a fresh one, so that nothing
may be learned about them."""

I32 = NDArray[np.int32]
Learner = Callable[[TrainState, Hyper], tuple[TrainState, Metrics]]
"""(state, hyper) -> (state, metrics); it donates the state."""


class Stretches(NamedTuple):
    """Sessions of the training range, or parts of them; W stretches, B bars, E entries.

    Attributes:
        first: first bar, int32 [W].
        n_bars: bars, int32 [W].
        entries: rows of the action table that enter, int32 [E].
        outcomes: of every entry at every bar of the tape [E, B].
    """

    first: AnyArray
    n_bars: AnyArray
    entries: AnyArray
    outcomes: Outcomes


class Drawn(NamedTuple):
    """What an update learns from; T bars of N stretches, E entries.

    Attributes:
        obs: of a flat account, float32 [T, N, F], or as mlp packs it.
        mask_bits: its legal actions, uint32 [T, N].
        reward: of each entry, paid when its position closes [T, N, E].
        n_ahead: bars until the account is flat again after it [T, N, E].
        is_real: the stretch has this bar [T, N].
    """

    obs: Array
    mask_bits: Array
    reward: Array
    n_ahead: Array
    is_real: Array


class Rows(NamedTuple):
    """What a gradient step reads; n bars, K = 1 + E choices of which the first is HOLD.

    Attributes:
        obs: [n, F].
        mask_bits: [n].
        log_probs: of the choices under the policy that the advantages are of [n, K].
        advantage: of each choice, 0 where there is none to make [n, K].
        value: of being flat [n].
        is_decision: an entry is legal [n].
        is_real: [n].
    """

    obs: Array
    mask_bits: Array
    log_probs: Array
    advantage: Array
    value: Array
    is_decision: Array
    is_real: Array


def backward_values(
    probs: Array, reward: Array, n_ahead: Array, gamma: Array | float
) -> tuple[Array, Array]:
    """Computes what being flat at each bar, and each choice there, is worth under a policy.

    Q(t, hold) = gamma V(t + 1), Q(t, e) = gamma^(n - 1) R(t, e) + gamma^n V(t + n) with n the bars
    until flat again, and V(t) the mean of Q(t, .) under the policy. V is 0 from the end of the
    stretch on: no position outlives its session, so that what follows is the same for all choices.

    Args:
        probs: of hold and of each entry [T, N, 1 + E].
        reward: R of each entry, paid in the last of its n bars [T, N, E].
        n_ahead: n of each entry, at least 1 [T, N, E].
        gamma: discount a bar.

    Returns:
        (V [T, N], Q [T, N, 1 + E]).
    """
    n_steps, n_lanes, _ = reward.shape
    lanes = jnp.arange(n_lanes)[:, None]
    ahead = jnp.concatenate([jnp.ones((n_steps, n_lanes, 1), n_ahead.dtype), n_ahead], axis=2)
    delay = jnp.power(jnp.float32(gamma), (ahead - 1).astype(jnp.float32))
    paid = delay * jnp.concatenate([jnp.zeros_like(reward[:, :, :1]), reward], axis=2)
    until = jnp.minimum(jnp.arange(n_steps)[:, None, None] + ahead, n_steps)

    def back(values: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        t, p, r, discount, to = now
        q = r + discount * values[to, lanes]
        return values.at[t].set(jnp.sum(p * q, axis=1)), q

    later = jnp.zeros((n_steps + 1, n_lanes), jnp.float32)
    steps = (jnp.arange(n_steps), probs, paid, gamma * delay, until)
    values, q = jax.lax.scan(back, later, steps, reverse=True)
    return values[:-1], q


def cut_stretches(
    params: TaskParams, segments: Sequence[tuple[int, int]], config: PPOConfig
) -> Stretches:
    """Lays the sessions of the training range out and simulates all their entries.

    Args:
        params: constants of a phase in which nothing but brackets, flat-by and the agent's own
            order closes a position.
        segments: half-open bar ranges that may be trained on.
        config: the learner's settings; a stretch is no longer than a batch.
    """
    flags = np.asarray(params.tape.flags)
    longest = min(MAX_BARS, config.batch_size)
    first: list[I32] = []
    for begin, stop in segments:
        opens = np.flatnonzero((flags[begin:stop] & BarFlag.SESSION_START) != 0)
        edges = np.unique([0, *opens, stop - begin])
        pieces = [np.arange(a, b, longest) for a, b in pairwise(edges)]
        first.append((begin + np.r_[np.concatenate(pieces), stop - begin]).astype(np.int32))
    n_bars = np.concatenate([np.diff(bars) for bars in first])
    allowed = np.flatnonzero(np.asarray(params.allowed))
    entries = np.array([row for row in allowed if KINDS[row] in _ENTRIES], np.int32)
    inside = np.concatenate([np.arange(*segment, dtype=np.int32) for segment in segments])
    open_bars = inside[(flags[inside] & BarFlag.CAN_ENTER) != 0]
    return Stretches(
        first=np.concatenate([bars[:-1] for bars in first]),
        n_bars=n_bars,
        entries=entries,
        outcomes=entry_outcomes(params, open_bars, entries),
    )


def make_exact_update(
    params: TaskParams, stretches: Stretches, config: PPOConfig, mirror: Mirror | None
) -> Learner:
    """Builds the compiled update: whole sessions at random, their exact advantages, gradient steps.

    Each of the `n_minibatches` gradient steps sees every so many-th bar of all sessions drawn.

    Args:
        params: constants of the phase.
        stretches: its training range and the outcomes of all entries.
        config: the learner's settings; its shapes set the size of a batch.
        mirror: a policy that is symmetric to it stays so; None: whatever is learned.
    """
    n_steps, n_lanes = _shape(stretches, config)
    compiled = _compiled(config, n_steps, n_lanes, mirror)
    device: Stretches = jax.tree.map(jnp.asarray, stretches)

    def update(state: TrainState, hyper: Hyper) -> _Learned:
        key, draw_key = jax.random.split(state.key)
        drawn = compiled.look_up(params, device, compiled.choose(draw_key, device.first))
        learned: _Learned = compiled.learn(state._replace(key=key), drawn, device.entries, hyper)
        return learned

    return update


def greedy_results(
    params: TaskParams, stretches: Stretches, config: PPOConfig, weights: network.Params
) -> tuple[NDArray[np.float64], float]:
    """Plays the greedy policy through every stretch, exactly.

    Args:
        params: constants of the phase.
        stretches: where it plays, with the outcomes of all entries.
        config: the learner's settings; its shapes set how many are played at once.
        weights: the policy.

    Returns:
        (its reward a stretch, float64 [W]; how far the highest logit of an entry lies above
        that of holding, in any bar where an entry is legal: below 0 if it never enters).
    """
    n_steps, n_lanes = _shape(stretches, config)
    compiled = _compiled(config, n_steps, n_lanes, None)
    device: Stretches = jax.tree.map(jnp.asarray, stretches)
    n_known = len(stretches.first)
    results = np.zeros(n_known)
    lead = -np.inf
    for begin in range(0, n_known, n_lanes):
        chosen = np.arange(begin, begin + n_lanes)
        drawn = compiled.look_up(params, device, jnp.asarray(np.minimum(chosen, n_known - 1)))
        reward, ahead = compiled.play(weights, drawn, device.entries)
        stop = min(begin + n_lanes, n_known)
        results[begin:stop] = np.asarray(reward)[: stop - begin]
        lead = max(lead, float(ahead))
    return results, lead


def flat_values(
    params: TaskParams, stretches: Stretches, config: PPOConfig, weights: network.Params
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Computes what being flat is worth at each bar under a policy that leaves positions alone.

    Args:
        params: constants of the phase.
        stretches: where it plays, with the outcomes of all entries.
        config: the learner's settings, its discount among them.
        weights: the policy, which draws its actions.

    Returns:
        (values of B bars and of the end of the tape [B + 1], 0 outside of the stretches;
        log-probabilities of holding and of each entry [B, 1 + E], MASKED_LOGIT outside).
    """
    n_steps, n_lanes = _shape(stretches, config)
    compiled = _compiled(config, n_steps, n_lanes, None)
    device: Stretches = jax.tree.map(jnp.asarray, stretches)
    n_known, n_bars = len(stretches.first), stretches.outcomes.net_r.shape[1]
    values = np.zeros(n_bars + 1, np.float32)
    log_probs = np.full((n_bars, 1 + len(stretches.entries)), network.MASKED_LOGIT, np.float32)
    for begin in range(0, n_known, n_lanes):
        chosen = np.minimum(np.arange(begin, begin + n_lanes), n_known - 1)
        drawn = compiled.look_up(params, device, jnp.asarray(chosen))
        found = compiled.value(weights, drawn, device.entries, config.gamma)
        worth, likely = (np.asarray(x) for x in found)
        for lane, row in enumerate(chosen):
            first, n = int(stretches.first[row]), int(stretches.n_bars[row])
            values[first : first + n] = worth[:n, lane]
            log_probs[first : first + n] = likely[:n, lane]
    return values, log_probs


def paid(params: TaskParams, net_r: Array) -> Array:
    """Returns what the phase pays for round trips of these results in units of risk."""
    utility = trip_utility(params.bracket, net_r)
    return params.weights.trip_r * net_r + params.weights.trip_utility * utility


def _shape(stretches: Stretches, config: PPOConfig) -> tuple[int, int]:
    """Returns how many bars and stretches are looked at together."""
    unit = config.n_minibatches
    n_steps = -(-int(np.max(stretches.n_bars)) // unit) * unit
    return n_steps, max(config.batch_size // n_steps, 1)


_Learned = tuple[TrainState, Metrics]


class _Compiled(NamedTuple):
    """The parts of an update and of a game; what contains the simulator's code is apart."""

    choose: Callable[[Array, Array], Array]
    look_up: Callable[[TaskParams, Stretches, Array], Drawn]
    learn: Callable[[TrainState, Drawn, Array, Hyper], _Learned]
    play: Callable[[network.Params, Drawn, Array], tuple[Array, Array]]
    value: Callable[[network.Params, Drawn, Array, float], tuple[Array, Array]]


@lru_cache(maxsize=8)
def _compiled(config: PPOConfig, n_steps: int, n_lanes: int, mirror: Mirror | None) -> _Compiled:
    def choose(key: Array, first: Array) -> Array:
        n_known = first.shape[0]
        return jax.random.choice(key, n_known, (n_lanes,), replace=n_known < n_lanes)

    def look_up(params: TaskParams, on: Stretches, chosen: Array) -> Drawn:
        return _look_up(params, on, chosen, n_steps)

    def learn(state: TrainState, drawn: Drawn, entries: Array, hyper: Hyper) -> _Learned:
        return _learn(config, state, drawn, entries, hyper, mirror)

    return _Compiled(
        choose=jax.jit(choose),
        look_up=sim_jit(look_up, is_fused=True),
        learn=jax.jit(learn, donate_argnums=(0,)),
        play=jax.jit(partial(_play_greedy, config.n_minibatches)),
        value=jax.jit(partial(_worth, config.n_minibatches)),
    )


def _look_up(params: TaskParams, on: Stretches, chosen: Array, n_steps: int) -> Drawn:
    """Looks up what a flat account sees in each bar of some stretches."""
    n_lanes = chosen.shape[0]
    step = jnp.arange(n_steps, dtype=jnp.int32)[:, None]
    is_real = step < on.n_bars[chosen]
    bars = on.first[chosen] + jnp.minimum(step, on.n_bars[chosen] - 1)
    flat = bars.reshape(-1)
    account = start(params.tape, params.markets, params.rules, flat, params.market[flat])
    obs, mask = env.observe(params, env.begin(params, account, flat))
    net_r = jnp.moveaxis(on.outcomes.net_r[:, bars], 0, 2)
    return Drawn(
        obs=obs.reshape(n_steps, n_lanes, -1),
        mask_bits=network.pack_mask(mask).reshape(n_steps, n_lanes),
        reward=paid(params, net_r),
        n_ahead=jnp.moveaxis(on.outcomes.exit_bar[:, bars], 0, 2) - bars[:, :, None],
        is_real=is_real,
    )


def _choice_log_probs(
    params: network.Params, obs: Array, mask_bits: Array, entries: Array, precision: Precision
) -> Array:
    """Returns the log-probabilities of HOLD and of each entry [n, K]."""
    logits = network.actor_logits_t(params, obs, precision)
    log_probs = network.masked_log_softmax_t(logits, network.unpack_mask_t(mask_bits, N_ACTIONS))
    return log_probs[jnp.concatenate([jnp.array([HOLD]), entries])].T


def _all_log_probs(
    n_parts: int,
    params: network.Params,
    drawn: Drawn,
    entries: Array,
    precision: Precision = "float32",
) -> Array:
    """Returns the log-probabilities of HOLD and of each entry in all bars [T, N, K]."""
    n_steps, n_lanes, n_features = drawn.obs.shape
    found: Array = jax.lax.map(
        lambda now: _choice_log_probs(params, now[0], now[1], entries, precision),
        (drawn.obs.reshape(n_parts, -1, n_features), drawn.mask_bits.reshape(n_parts, -1)),
    )
    return found.reshape(n_steps, n_lanes, -1)


def _play_greedy(
    n_parts: int, params: network.Params, drawn: Drawn, entries: Array
) -> tuple[Array, Array]:
    """Returns the greedy policy's reward in each stretch [N], and an entry's greatest lead."""
    log_probs = _all_log_probs(n_parts, params, drawn, entries)
    choice = jax.nn.one_hot(jnp.argmax(log_probs, axis=2), log_probs.shape[2])
    probs = choice * drawn.is_real[:, :, None]
    values, _ = backward_values(probs, drawn.reward, drawn.n_ahead, 1.0)
    lead = jnp.max(log_probs[:, :, 1:], axis=2) - log_probs[:, :, HOLD]
    return values[0], jnp.max(lead, initial=-jnp.inf, where=drawn.is_real)


def _worth(
    n_parts: int, params: network.Params, drawn: Drawn, entries: Array, gamma: float
) -> tuple[Array, Array]:
    """Returns the value of being flat under the policy [T, N], and its log-probabilities."""
    log_probs = _all_log_probs(n_parts, params, drawn, entries)
    probs = jnp.exp(log_probs) * drawn.is_real[:, :, None]
    return backward_values(probs, drawn.reward, drawn.n_ahead, gamma)[0], log_probs


def _learn(
    config: PPOConfig,
    state: TrainState,
    drawn: Drawn,
    entries: Array,
    hyper: Hyper,
    mirror: Mirror | None,
) -> _Learned:
    """Values the present policy on what was drawn and takes the gradient steps of one update."""
    rate, bonus = scheduled(hyper, state.n_updates)
    drawn = drawn._replace(obs=packed(drawn.obs, config.precision))
    rows, metrics = _value(config, state.params, drawn, entries, hyper)

    def one_step(carry: tuple[network.Params, Tree], number: Array) -> tuple[Tree, Metrics]:
        weights, moments = carry
        part = _every(rows, config.n_minibatches, number)
        grads, terms = jax.grad(_loss, has_aux=True)(
            weights, part, entries, hyper, bonus, config.precision
        )
        grads = network.without_inputs(grads, UNSEEN)
        if mirror is not None:
            grads = symmetric_part(grads, mirror)
        *new, norm = descend(weights, moments, grads, rate, hyper.max_grad_norm)
        kept = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(norm), a, b), tuple(new), carry)
        return kept, terms | {"train/grad_norm": norm}

    (params, opt_state), terms = jax.lax.scan(
        one_step, (state.params, state.opt_state), jnp.arange(config.n_minibatches)
    )
    new = state._replace(params=params, opt_state=opt_state, n_updates=state.n_updates + 1)
    metrics |= {name: jnp.mean(values) for name, values in terms.items()}
    return new, metrics | {"train/learning_rate": rate, "train/entropy_coef": bonus}


def _value(
    config: PPOConfig, params: network.Params, drawn: Drawn, entries: Array, hyper: Hyper
) -> tuple[Rows, Metrics]:
    """Computes the exact values and advantages of the present policy, and what it would do.

    Advantages are divided by their root mean square under the policy, so that the entropy bonus
    weighs alike on every market.
    """
    log_probs = _all_log_probs(config.n_minibatches, params, drawn, entries, config.precision)
    probs = jnp.exp(log_probs) * drawn.is_real[:, :, None]
    gammas = jnp.stack([hyper.gamma, jnp.float32(1.0)])
    values, q = jax.vmap(backward_values, in_axes=(None, None, None, 0))(
        probs, drawn.reward, drawn.n_ahead, gammas
    )
    is_decision = drawn.is_real & (jax.lax.population_count(drawn.mask_bits) > 1)
    advantage = jnp.where(is_decision[:, :, None], q[0] - values[0][:, :, None], 0.0)
    n = jnp.maximum(jnp.sum(is_decision), 1).astype(jnp.float32)
    scale = jnp.sqrt(jnp.sum(probs * jnp.square(advantage)) / n)
    counts = (
        jnp.zeros(N_ACTIONS)
        .at[jnp.concatenate([jnp.array([HOLD]), entries])]
        .set(jnp.sum(probs * is_decision[:, :, None], axis=(0, 1)))
    )
    rows = Rows(
        obs=drawn.obs,
        mask_bits=drawn.mask_bits,
        log_probs=log_probs,
        advantage=advantage / (scale + 1e-8),
        value=values[0],
        is_decision=is_decision,
        is_real=drawn.is_real,
    )
    return rows, {
        "rollout/ep_rew_mean": jnp.mean(values[1][0]),
        "rollout/ep_len_mean": jnp.mean(jnp.sum(drawn.is_real, axis=0).astype(jnp.float32)),
        "rollout/n_episodes": drawn.is_real.shape[1],
        "rollout/n_decisions": jnp.sum(is_decision, dtype=jnp.int32),
        "rollout/action_counts": counts,
        "train/advantage_rms": scale,
    }


def _every(rows: Rows, n_parts: int, number: Array) -> Rows:
    """Takes every n_parts-th bar of all stretches, beginning with bar `number`, as [n, ...]."""

    def take(x: Array) -> Array:
        return x.reshape(-1, n_parts, *x.shape[1:])[:, number].reshape(-1, *x.shape[2:])

    return Rows(*(take(x) for x in rows))


def _loss(
    params: network.Params,
    part: Rows,
    entries: Array,
    hyper: Hyper,
    bonus: Array,
    precision: Precision,
) -> tuple[Array, Metrics]:
    """Computes minus the expected advantage over all choices, entropy and the critic's error."""
    log_probs = _choice_log_probs(params, part.obs, part.mask_bits, entries, precision)
    probs = jnp.exp(log_probs)
    n = jnp.maximum(jnp.sum(part.is_decision), 1).astype(jnp.float32)
    gain = jnp.sum(probs * part.advantage) / n
    where = part.is_decision[:, None]
    entropy = -jnp.sum(jnp.where(where, probs * log_probs, 0.0)) / n
    error = network.critic_values(params, part.obs, precision) - part.value / hyper.value_scale
    n_real = jnp.maximum(jnp.sum(part.is_real), 1).astype(jnp.float32)
    value_loss = jnp.sum(jnp.where(part.is_real, jnp.square(error), 0.0)) / n_real
    loss = -gain + hyper.value_coef * value_loss - bonus * entropy
    old = jnp.exp(part.log_probs)
    divergence = jnp.where(where, old * (part.log_probs - log_probs), 0.0)
    spread = jnp.var(part.value, where=part.is_real) / jnp.square(hyper.value_scale)
    return loss, {
        "train/approx_kl": jnp.sum(divergence) / n,
        "train/entropy_loss": -entropy,
        "train/explained_variance": 1.0 - value_loss / jnp.maximum(spread, 1e-12),
        "train/loss": loss,
        "train/policy_gradient_loss": -gain,
        "train/value_loss": value_loss,
    }
