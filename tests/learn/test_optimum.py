"""The ladder's dynamic program against closed forms and play, and the learner against it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder import (
    Ladder,
    LadderEnv,
    best,
    best_that_ignores_the_account,
    optimum,
    pass_probability,
    trained_probability,
)
from passline.learn.ppo import PPOConfig

SHORT = Ladder(target=6, allowance=4, n_decisions=30)
SMALL = PPOConfig(
    n_lanes=256,
    rollout_steps=32,
    minibatch_size=1024,
    hidden=(32, 32),
    learning_rate=3e-3,
    learning_rate_floor=1e-4,
    gamma=1.0,
)


@pytest.mark.parametrize("win", [0.5, 0.47, 0.55])
@pytest.mark.parametrize(("below", "above"), [(4, 6), (7, 3)])
def test_one_size_between_fixed_barriers_is_gamblers_ruin(win, below, above) -> None:
    """P = (1 - r^a) / (1 - r^(a + b)) with r = q / p, and a / (a + b) at p = 1/2."""
    ladder = Ladder(
        target=above,
        allowance=below,
        trails=False,
        n_decisions=3000,
        win=(win,),
        sizes=(1,),
        may_hold=False,
    )
    ratio = (1 - win) / win
    right = below / (below + above)
    if win != 0.5:
        right = (1 - ratio**below) / (1 - ratio ** (below + above))
    assert optimum(ladder) == pytest.approx(right, abs=1e-9)


def test_a_floor_lends_what_lies_below_it() -> None:
    """Worked by hand, p = 0.4, q = 0.6, two units either way, bets of one or two.

    One above the start V1 = p + q V0, one below it the best bet is two, of which one is the firm's:
    V-1 = p V1; at the start one unit: V0 = p V1 + q V-1. So V1 = p / (1 - p q (1 + q)) and
    V0 = p (1 + q) V1 = 0.4156, above the p that betting all one has would give.
    """
    ladder = Ladder(target=2, allowance=2, trails=False, n_decisions=200, win=(0.4,), sizes=(1, 2))
    assert optimum(ladder) == pytest.approx(0.64 * 0.4 / (1 - 0.384), abs=1e-9)


def test_played_out_the_best_policy_passes_as_often_as_computed() -> None:
    ladder = SHORT
    right, table = pass_probability(ladder, best)
    env, n = LadderEnv(ladder), 5_000
    zero = jnp.zeros(n, jnp.int32)
    state = env.start(jax.random.key(0), n)._replace(
        equity=zero, floor=zero - ladder.allowance, number=zero
    )
    alive, passed = np.ones(n, bool), np.zeros(n, bool)
    step = jax.jit(env.step)
    for number in range(ladder.n_decisions):
        row = np.asarray(state.floor) + ladder.allowance
        column = np.clip(np.asarray(state.equity) - ladder.equities[0], 0, None)
        action = jnp.asarray(table[number, row, column, np.asarray(state.signal)])
        before = state
        state, reward, is_over, *_ = step(jnp.float32(0), state, action, jax.random.key(number))
        share = (before.equity - before.floor) / (ladder.target - before.floor)
        ended = np.asarray(is_over) & alive
        passed |= ended & (np.asarray(reward / 10.0 + share) > 0.999)
        alive &= ~ended
    assert not alive.any()
    assert passed.mean() == pytest.approx(right, abs=4 * np.sqrt(right * (1 - right) / n))


def test_the_account_is_worth_looking_at_and_the_learner_finds_it() -> None:
    """Threshold 0.8 of the optimum; untrained, and the best rule blind to the account, below it."""
    top, blind = optimum(SHORT), best_that_ignores_the_account(SHORT)
    before, after = trained_probability(SHORT, SMALL, 60, seed=0, standing=0.0)
    assert after <= top + 1e-12
    assert after > 0.8 * top, (before, after, blind, top)
    assert before < 0.6 * top, (before, after, blind, top)
    assert blind < 0.75 * top, (before, after, blind, top)
