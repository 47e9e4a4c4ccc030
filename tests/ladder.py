"""A market small enough that the best possible pass probability is known: the ladder.

Equity moves on whole units. At each decision a signal is drawn that tells the chance of winning
this bet; the account holds, or bets one of a few sizes, and wins or loses as much. The rules are
an evaluation's: a floor that trails the peak until it locks at the start, a target, a time limit.
Backward induction over time, floor, equity and signal gives the optimum, and the same recursion
gives the exact pass probability of any policy, a trained network's among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from passline.learn import network
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper, make_update

N_FEATURES_BASE = 4


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rules and the market.

    Attributes:
        target: units above the start that pass.
        allowance: units below the peak at which the floor lies until it reaches the start.
        trails: whether the floor follows the peak.
        n_decisions: time limit.
        win: chance of winning a bet under each signal; signals are equally likely.
        sizes: units of the bets.
        may_hold: whether the account may stay out.
    """

    target: int = 12
    allowance: int = 8
    trails: bool = True
    n_decisions: int = 80
    win: tuple[float, ...] = (0.45, 0.52, 0.60)
    sizes: tuple[int, ...] = (1, 2, 4)
    may_hold: bool = True

    @property
    def floors(self) -> NDArray[np.int64]:
        """Every level that the floor can have, [F]."""
        return np.arange(-self.allowance, 1) if self.trails else np.array([-self.allowance])

    @property
    def equities(self) -> NDArray[np.int64]:
        """Every equity of a living account, [E]."""
        return np.arange(-self.allowance + 1, self.target)

    @property
    def moves(self) -> tuple[int, ...]:
        """Units at stake by action: none, then the sizes, [A]."""
        return (0, *self.sizes)


def pass_probability(
    ladder: Ladder, choose: Callable[[int, NDArray[Any]], NDArray[Any]]
) -> tuple[float, NDArray[np.int64]]:
    """Returns the pass probability from the start, and the action in every state.

    Args:
        ladder: rules and market.
        choose: takes the decision's number and the pass probability after each action,
            [F, E, S, A] (-1 where it is not allowed), and returns the actions, int [F, E, S].

    Returns:
        (probability, actions [N, F, E, S]).
    """
    floors, equities = ladder.floors, ladder.equities
    value = np.zeros((len(floors), len(equities)))
    win = np.array(ladder.win)
    table = []
    for number in reversed(range(ladder.n_decisions)):
        after = np.stack(
            [
                win * _landed(ladder, value, stake)[:, :, None]
                + (1 - win) * _landed(ladder, value, -stake)[:, :, None]
                for stake in ladder.moves
            ],
            axis=-1,
        )
        if not ladder.may_hold:
            after[..., 0] = -1.0
        actions = choose(number, after)
        table.append(actions)
        value = np.take_along_axis(after, actions[..., None], axis=-1)[..., 0].mean(axis=-1)
    at_start = np.flatnonzero(floors == -ladder.allowance)[0], np.flatnonzero(equities == 0)[0]
    return float(value[at_start]), np.stack(table[::-1])


def _landed(ladder: Ladder, value: NDArray[Any], move: int) -> NDArray[Any]:
    """Returns the pass probability after a move: 1 at the target, 0 at the floor [F, E]."""
    floors, equities = ladder.floors[:, None], ladder.equities[None, :]
    equity = equities + move
    floor = np.broadcast_to(floors, (len(floors), equity.shape[1]))
    if ladder.trails:
        floor = np.clip(equity - ladder.allowance, floor, 0)
    row = np.clip(floor - ladder.floors[0], 0, len(floors) - 1)
    column = np.clip(equity - ladder.equities[0], 0, len(ladder.equities) - 1)
    inside = value[row, column]
    return np.where(equity >= ladder.target, 1.0, np.where(equity <= floors, 0.0, inside))


def best(number: int, after: NDArray[Any]) -> NDArray[np.int64]:
    """The optimum's choice."""
    return np.argmax(after, axis=-1)


def optimum(ladder: Ladder) -> float:
    """Returns the highest pass probability that any policy can have."""
    return pass_probability(ladder, best)[0]


def best_that_ignores_the_account(ladder: Ladder) -> float:
    """Returns the highest pass probability of one fixed size from one signal on, always."""
    shape = (len(ladder.floors), len(ladder.equities), len(ladder.win))

    def rule(least: int, size: int) -> Callable[..., NDArray[Any]]:
        chosen = np.where(np.arange(len(ladder.win)) >= least, size, 0)
        return lambda number, after: np.broadcast_to(chosen, shape)

    rules = [rule(s, a) for s in range(len(ladder.win)) for a in range(1, len(ladder.moves))]
    return max(pass_probability(ladder, r)[0] for r in rules)


class Rungs(NamedTuple):
    """One account a lane, int32 [L] each."""

    equity: jax.Array
    floor: jax.Array
    number: jax.Array
    signal: jax.Array


class LadderEnv:
    """The ladder as the learner's environment; params: [standing], what a time-out keeps.

    The reward is ten times the change of the potential (equity - floor) / (target - floor), 1 when
    passed and 0 when breached. With standing 1 an account that runs out of time keeps its
    potential, as in the curriculum's account phase; with 0 it loses it, so that the sum of rewards
    is the pass probability up to a constant.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder

    def observe(self, params: Any, state: Rungs) -> tuple[jax.Array, jax.Array]:
        ladder = self.ladder
        columns = (
            state.equity / ladder.target,
            (state.equity - state.floor) / ladder.allowance,
            1.0 - state.number / ladder.n_decisions,
            (ladder.target - state.equity) / ladder.allowance,
        )
        shown = jax.nn.one_hot(state.signal, len(ladder.win))
        obs = jnp.concatenate([jnp.stack(columns, axis=-1), shown], axis=-1)
        mask = jnp.ones((state.equity.shape[0], len(ladder.moves)), bool)
        return obs.astype(jnp.float32), mask.at[:, 0].set(ladder.may_hold)

    def start(self, key: jax.Array, n_lanes: int) -> Rungs:
        """Half the lanes begin at the start, half anywhere, so that all states are met."""
        ladder = self.ladder
        keys = jax.random.split(key, 4)
        zero = jnp.zeros(n_lanes, jnp.int32)
        low = -ladder.allowance if ladder.trails else 0
        floor = jax.random.randint(keys[0], (n_lanes,), low, 1) if low else zero - ladder.allowance
        reach = jnp.minimum(ladder.allowance, ladder.target - 1 - floor)
        above = 1 + (jax.random.uniform(keys[1], (n_lanes,)) * reach).astype(jnp.int32)
        number = jax.random.randint(keys[2], (n_lanes,), 0, ladder.n_decisions)
        from_start = jnp.arange(n_lanes) % 2 == 0
        return Rungs(
            jnp.where(from_start, 0, floor + jnp.minimum(above, reach)),
            jnp.where(from_start, -ladder.allowance, floor),
            jnp.where(from_start, 0, number),
            jax.random.randint(keys[3], (n_lanes,), 0, len(ladder.win)),
        )

    def step(
        self, params: Any, state: Rungs, action: jax.Array, key: jax.Array
    ) -> tuple[Rungs, jax.Array, jax.Array, jax.Array, jax.Array, Any]:
        ladder = self.ladder
        keys = jax.random.split(key, 3)
        stake = jnp.array(ladder.moves)[action]
        wins = jax.random.uniform(keys[0], action.shape) < jnp.array(ladder.win)[state.signal]
        equity = state.equity + jnp.where(wins, stake, -stake)
        passes, breaches = equity >= ladder.target, equity <= state.floor
        trailed = jnp.clip(equity - ladder.allowance, state.floor, 0)
        floor = trailed if ladder.trails else state.floor
        number = state.number + 1
        is_over = passes | breaches | (number >= ladder.n_decisions)
        before = (state.equity - state.floor) / (ladder.target - state.floor)
        kept = jnp.where(
            number >= ladder.n_decisions, params * (equity - floor) / (ladder.target - floor), 0.0
        )
        standing = jnp.where(
            number >= ladder.n_decisions, kept, (equity - floor) / (ladder.target - floor)
        )
        now = jnp.where(passes, 1.0, jnp.where(breaches, 0.0, standing))
        signal = jax.random.randint(keys[1], action.shape, 0, len(ladder.win))
        after = Rungs(equity, floor, number, signal)
        fresh = self.start(keys[2], action.shape[0])
        new = jax.tree.map(lambda a, b: jnp.where(is_over, a, b), fresh, after)
        never = jnp.zeros_like(is_over)
        return new, 10.0 * (now - before), is_over, never, self.observe(params, after)[0], {}


def trained_probability(
    ladder: Ladder, config: PPOConfig, n_updates: int, *, seed: int, standing: float = 1.0
) -> tuple[float, float]:
    """Returns the exact pass probabilities of the greedy policy before and after training."""
    env = LadderEnv(ladder)
    key = jax.random.key(seed)
    n_features = N_FEATURES_BASE + len(ladder.win)
    lanes = env.start(key, config.n_lanes)
    state = init_train_state(config, lanes, n_features, len(ladder.moves), key)
    before = network_probability(env, state.params)
    update = make_update(env, config)
    hyper = make_hyper(config, 0, n_updates)
    for _ in range(n_updates):
        state, _ = update(jnp.float32(standing), state, hyper)
    return before, network_probability(env, state.params)


def network_probability(env: LadderEnv, params: network.Params) -> float:
    """Returns the exact pass probability of a network's greedy policy."""
    ladder = env.ladder
    axes = (ladder.floors, ladder.equities, np.arange(len(ladder.win)))
    grid = [jnp.asarray(g.ravel(), jnp.int32) for g in np.meshgrid(*axes, indexing="ij")]
    shape = tuple(len(axis) for axis in axes)

    @jax.jit
    def greedy(number: jax.Array) -> jax.Array:
        floor, equity, signal = grid
        obs, mask = env.observe(None, Rungs(equity, floor, jnp.full_like(floor, number), signal))
        return network.act_greedy(params, obs, mask)

    def choose(number: int, after: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(greedy(jnp.int32(number))).reshape(shape)

    return pass_probability(ladder, choose)[0]
