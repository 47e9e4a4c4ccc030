"""A rollout in shares: threads, cuts and joins change nothing but which draws a lane gets."""

from typing import Any

import cue_env as toy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.errors import ConfigError
from passline.learn import rollout
from passline.learn.ppo import make_update


def config(share_lanes: int) -> Any:
    return toy.small_config(share_lanes=share_lanes, precision="float32")


@pytest.mark.parametrize(
    ("n_lanes", "share_lanes", "n_shares"),
    [(64, 64, 1), (64, 65, 1), (64, 32, 2), (64, 30, 2), (96, 30, 3), (64, 20, 2), (32, 1, 32)],
)
def test_shares_are_equal_and_not_smaller_than_asked(
    n_lanes: int, share_lanes: int, n_shares: int
) -> None:
    made = toy.small_config(n_lanes=n_lanes, minibatch_size=128, share_lanes=share_lanes)
    assert made.n_shares == n_shares


def test_a_share_of_no_lane_is_refused() -> None:
    with pytest.raises(ConfigError, match="share_lanes was 0"):
        config(0)


def test_a_rollout_in_shares_is_each_share_played_alone_and_laid_side_by_side() -> None:
    made, n_shares = config(16), 4
    state = toy.fresh(made)
    keys = jax.random.split(jax.random.key(5), n_shares)
    shares = [
        rollout.play(
            toy.ENV,
            made,
            toy.env_params(),
            state.params,
            rollout.share_of(rollout.lanes_of(state), jnp.int32(share), n_shares),
            keys[share],
        )
        for share in range(n_shares)
    ]
    joined = rollout.join(shares)
    assert joined.steps.reward.shape == (16, 64)
    for share, alone in enumerate(shares):
        own = slice(16 * share, 16 * (share + 1))
        for name in rollout.Steps._fields:
            whole = np.asarray(getattr(joined.steps, name))[:, own]
            np.testing.assert_array_equal(whole, getattr(alone.steps, name))
        np.testing.assert_array_equal(joined.last_obs[own], alone.last_obs)
        np.testing.assert_array_equal(joined.lanes.env_state.lane[own], alone.lanes.env_state.lane)
    assert joined.lanes.env_state.lane.tolist() == list(range(64))
    assert int(joined.sums.n_episodes) == sum(int(s.sums.n_episodes) for s in shares) > 0
    assert int(joined.sums.info["n_by_action"].sum()) == 16 * 64


def test_every_share_draws_its_own_and_the_same_again() -> None:
    """Lanes that start alike part ways between shares; a second run repeats the first."""
    made = config(16)
    update = make_update(toy.ENV, made)
    alike = jax.tree.map(jnp.zeros_like, toy.start(64))
    states = [update(toy.env_params(), toy.fresh(made, env_state=alike))[0] for _ in range(2)]
    first, again = (jax.tree.leaves((s.params, s.env_state)) for s in states)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    cues = np.asarray(states[0].env_state.cue).reshape(4, 16)
    assert len({tuple(share) for share in cues.tolist()}) == 4


def test_learns_in_shares_as_in_one() -> None:
    """Threshold 0.9 of the better one: only draws differ."""
    rewards = {}
    for share_lanes in (16, 64):
        made = config(share_lanes)
        update, state = make_update(toy.ENV, made), toy.fresh(made)
        first = None
        for _ in range(25):
            state, metrics = update(toy.env_params(), state)
            first = first if first is not None else float(metrics["rollout/reward_mean"])
        rewards[share_lanes] = float(metrics["rollout/reward_mean"])
        assert rewards[share_lanes] > first + 0.2
    assert min(rewards.values()) > 0.9 * max(rewards.values())
