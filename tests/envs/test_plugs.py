"""The plugs: Gymnasium's checkers, ends, restarts, seeds, and every number of all of them."""

from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from driving import N_LANES, often_in
from passline.envs import registry
from passline.envs.gym_env import GymEnv
from passline.envs.gym_vector import GymVectorEnv
from passline.envs.lanes import DONE_WORDS
from passline.envs.making import Task
from passline.envs.registry import ENV_IDS
from passline.errors import ConfigError, SimulationError
from passline.sim.jit import sim_jit
from passline.sim.layout import DoneReason
from passline.sim.step import mark_to_close, start
from passline.task import env
from passline.task.env import begin
from passline.task.reward import REWARD_TERMS

N_STEPS, WINDOW, SEED = 60, 25, 7
UNIT_MILLS = 200_000
"""An allowance so small that many accounts are breached."""


@pytest.fixture(scope="module")
def task(prepared, phases, params_of) -> Task:
    phase = replace(phases["manage"], reward={"equity": 10.0, "breach": 5.0})
    params = params_of(prepared, phase)
    unit = jnp.int32(UNIT_MILLS)
    tight = params._replace(
        rules=params.rules._replace(allowance=unit),
        bracket=params.bracket._replace(unit_mills=unit),
    )
    return Task(prepared=prepared, phase=phase, params=tight)


@pytest.fixture(scope="module")
def starts(task) -> dict[str, np.ndarray]:
    """One start a lane, an hour apart; windows of WINDOW bars."""
    bars = task.prepared.first_bar[0] + 900 + 60 * np.arange(N_LANES)
    return {"start_bar": bars, "end_bar": bars + WINDOW}


class Played(NamedTuple):
    """Everything that a plug shows of one step; arrays [T, L, ...]; `last_*` where one ended."""

    obs: Any
    mask: Any
    reward: Any
    terminated: Any
    truncated: Any
    equity: Any
    floor: Any
    bar: Any
    terms: Any
    invalid: Any
    last_obs: Any
    last_equity: Any
    last_floor: Any
    last_reason: Any


def stacked(rows: list[Played]) -> Played:
    return Played(
        *(np.stack([np.asarray(x) for x in column]) for column in zip(*rows, strict=True))
    )


@pytest.fixture(scope="module")
def script(task, starts, env_step) -> tuple[np.ndarray, Played]:
    """Plays the pure functions; every seventh step sends what the mask forbids."""
    params, rng = task.params, np.random.default_rng(SEED)
    env_observe = sim_jit(env.observe)
    key = jax.random.key(int(rng.integers(2**32)))
    bars = jnp.asarray(starts["start_bar"], jnp.int32)
    sim = sim_jit(start)(params.tape, params.markets, params.rules, bars, jnp.zeros_like(bars))
    state = begin(params, sim, jnp.asarray(starts["end_bar"], jnp.int32))
    choose, actions, rows = often_in(3), [], []
    obs, mask = map(np.asarray, env_observe(params, state))
    for t in range(N_STEPS):
        action = choose(obs, mask, t) if t % 7 else np.argmin(mask, axis=1)
        before = np.asarray(mark_to_close(params.tape, params.markets, state.sim))
        step_key, key = jax.random.split(key)
        state, reward, terminated, truncated, final_obs, info = env_step(
            params, state, jnp.asarray(action, jnp.int32), step_key
        )
        obs, mask = map(np.asarray, env_observe(params, state))
        terms = np.stack([np.asarray(x) for x in info.terms], axis=-1)
        weight = float(params.weights.equity)
        moved = np.rint(terms[:, REWARD_TERMS.index("equity")] / weight * UNIT_MILLS)
        row = Played(
            obs=obs,
            mask=mask,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            equity=mark_to_close(params.tape, params.markets, state.sim),
            floor=state.sim.floor,
            bar=state.sim.bar,
            terms=terms,
            invalid=np.asarray(info.n_invalid) == 1,
            last_obs=final_obs,
            last_equity=before + moved.astype(int),
            last_floor=np.zeros(N_LANES),
            last_reason=np.asarray(info.done_reasons).argmax(axis=1),
        )
        actions.append(action)
        rows.append(row)
    return np.stack(actions), stacked(rows)


def play_vector(vector: GymVectorEnv, actions: np.ndarray, options: Any) -> Played:
    vector.reset(seed=SEED, options=options)
    rows = []
    for action in actions:
        obs, reward, terminated, truncated, info = vector.step(action)
        is_done = terminated | truncated
        assert ("final_obs" in info) == is_done.any()
        last = info.get("final_info", info)
        last_obs = np.zeros_like(obs)
        for lane in np.flatnonzero(is_done):
            assert info["_final_obs"][lane]
            assert info["_final_info"][lane]
            last_obs[lane] = info["final_obs"][lane]
        reasons = [list(DONE_WORDS).index(word) for word in last["done_reason"]]
        rows.append(
            Played(
                obs=obs,
                mask=vector.action_masks(),
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                equity=info["equity_mills"],
                floor=info["floor_mills"],
                bar=info["bar"],
                terms=np.stack([info["reward_terms"][name] for name in REWARD_TERMS], axis=-1),
                invalid=info["is_invalid"],
                last_obs=last_obs,
                last_equity=np.where(is_done, last["equity_mills"], 0),
                last_floor=np.where(is_done, last["floor_mills"], 0),
                last_reason=np.where(is_done, reasons, 0),
            )
        )
    return stacked(rows)


def play_sb3(vec: Any, actions: np.ndarray, options: Any) -> Played:
    vec.seed(SEED)
    vec.set_options(
        [dict(zip(options, row, strict=True)) for row in zip(*options.values(), strict=True)]
    )
    vec.reset()
    rows = []
    for action in actions:
        obs, reward, dones, infos = vec.step(action)
        last = {name: np.zeros(len(dones), int) for name in ("equity", "floor", "reason")}
        last_obs, truncated = np.zeros_like(obs), np.zeros(len(dones), bool)
        for lane, info in enumerate(infos):
            assert bool(info) == dones[lane]
            if info:
                truncated[lane] = info["TimeLimit.truncated"]
                last_obs[lane] = info["terminal_observation"]
                last["equity"][lane] = info["equity_mills"]
                last["floor"][lane] = info["floor_mills"]
                last["reason"][lane] = list(DONE_WORDS).index(info["done_reason"])
                assert sum(info["reward_terms"].values()) == pytest.approx(reward[lane], abs=1e-6)
        rows.append(
            Played(
                obs=obs,
                mask=np.stack(vec.env_method("action_masks")),
                reward=reward,
                terminated=dones & ~truncated,
                truncated=truncated,
                equity=vec.last.now.equity_mills,
                floor=vec.last.now.floor_mills,
                bar=vec.last.now.bar,
                terms=np.stack(vec.last.terms, axis=-1),
                invalid=vec.last.is_invalid,
                last_obs=last_obs,
                last_equity=last["equity"],
                last_floor=last["floor"],
                last_reason=last["reason"],
            )
        )
    return stacked(rows)


def check_same(plug: Played, pure: Played) -> int:
    """Compares every number; returns how many episodes ended."""
    is_done = pure.terminated | pure.truncated
    for name in ("obs", "mask", "reward", "terminated", "truncated", "equity", "floor", "bar",
                 "terms", "invalid", "last_reason"):  # fmt: skip
        np.testing.assert_array_equal(getattr(plug, name), getattr(pure, name), err_msg=name)
    np.testing.assert_array_equal(plug.last_obs[pure.truncated], pure.last_obs[pure.truncated])
    np.testing.assert_array_equal(plug.last_equity[is_done], pure.last_equity[is_done])
    breached = is_done & (pure.last_reason == DoneReason.FLOOR)
    assert (plug.last_equity[breached] <= plug.last_floor[breached]).all()
    assert breached.sum() >= 5
    assert pure.truncated.sum() >= 5
    return int(is_done.sum())


def test_the_vector_env_shows_every_number_of_the_pure_functions(task, starts, script) -> None:
    actions, pure = script
    plug = GymVectorEnv(task, N_LANES)
    assert plug.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    played = play_vector(plug, actions, starts)
    assert check_same(played, pure) >= N_LANES
    assert pure.invalid.sum() >= N_LANES
    ended = played.terminated | played.truncated
    assert not np.array_equal(played.last_obs[ended], played.obs[ended])


def test_sb3s_env_shows_every_number_of_the_pure_functions(task, starts, script) -> None:
    pytest.importorskip("stable_baselines3", reason="the sb3 extra is not installed")
    from passline.envs.sb3_vec import SB3VecEnv  # noqa: PLC0415

    actions, pure = script
    played = play_sb3(SB3VecEnv(task, N_LANES, seed=0), actions, starts)
    assert check_same(played, pure) >= N_LANES
    other = play_vector(GymVectorEnv(task, N_LANES), actions, starts)
    ended = pure.terminated | pure.truncated
    for name in ("last_obs", "last_floor"):
        np.testing.assert_array_equal(getattr(played, name)[ended], getattr(other, name)[ended])


def test_single_envs_show_every_number_of_the_vector_env(task, starts, script) -> None:
    """Each account by itself, until its episode ends.

    Integers agree exactly; floats to the last digit, which the compiler rounds by the batch's size.
    """
    actions, _ = script
    played = play_vector(GymVectorEnv(task, N_LANES), actions, starts)
    n_ended = {True: 0, False: 0}
    for lane in range(N_LANES):
        plug = GymEnv(task)
        plug.reset(seed=1, options={name: int(values[lane]) for name, values in starts.items()})
        for t, row in enumerate(actions):
            obs, reward, terminated, truncated, info = plug.step(row[lane])
            at = (t, lane)
            assert reward == pytest.approx(played.reward[at], rel=1e-6)
            assert (terminated, truncated) == (played.terminated[at], played.truncated[at])
            assert list(info["reward_terms"]) == list(REWARD_TERMS)
            terms = list(info["reward_terms"].values())
            assert terms == pytest.approx(played.terms[at].tolist(), rel=1e-6)
            assert info["is_invalid"] == played.invalid[at]
            if terminated or truncated:
                n_ended[terminated] += 1
                np.testing.assert_allclose(obs, played.last_obs[at], rtol=1e-6, atol=1e-6)
                assert info["equity_mills"] == played.last_equity[at]
                assert info["floor_mills"] == played.last_floor[at]
                assert info["done_reason"] == DONE_WORDS[played.last_reason[at]]
                break
            np.testing.assert_allclose(obs, played.obs[at], rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(info["action_mask"], played.mask[at])
            np.testing.assert_array_equal(plug.action_masks(), played.mask[at])
            assert info["equity_mills"] == played.equity[at]
            assert info["floor_mills"] == played.floor[at]
            assert (info["bar"], info["done_reason"]) == (played.bar[at], "none")
        else:
            pytest.fail(f"no episode ended in lane {lane}")
    assert min(n_ended.values()) >= 3, n_ended


def test_gymnasiums_checker_is_content(task) -> None:
    registry._built_in.cache_clear()
    spec_task = pytest.MonkeyPatch()
    spec_task.setattr(registry, "_built_in", lambda rulebook, phase: task)
    try:
        for id in ENV_IDS:
            plug = gymnasium.make(id)
            check_env(plug.unwrapped)
            plug.close()
    finally:
        spec_task.undo()


def test_every_phase_has_its_id_for_one_account_and_for_many(monkeypatch, task) -> None:
    asked = []
    monkeypatch.setattr(
        registry, "_built_in", lambda book, phase: asked.append((book, phase)) or task
    )
    for id in ENV_IDS:
        assert isinstance(gymnasium.make(id).unwrapped, GymEnv)
        many = gymnasium.make_vec(id, num_envs=N_LANES, rulebook="topstep-combine-50k")
        assert isinstance(many, GymVectorEnv)
        assert many.observation_space.shape == (N_LANES, *many.single_observation_space.shape)
    expected = [
        (book, phase)
        for phase in ("entry", "exit", "manage", "account")
        for book in ("apex-intraday-50k", "topstep-combine-50k")
    ]
    assert asked == expected


def test_a_seed_fixes_everything_and_lanes_differ(task, env_reset) -> None:
    """And the episodes are those that env.reset draws with the same key."""
    plug = GymVectorEnv(task, N_LANES)
    first, info = plug.reset(seed=3)
    again, _ = plug.reset(seed=3)
    going_on, _ = plug.reset()
    other, _ = plug.reset(seed=4)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(info["bar"])) >= N_LANES - 1
    assert not np.array_equal(first, going_on)
    assert not np.array_equal(first, other)
    key = jax.random.key(int(np.random.default_rng(3).integers(2**32)))
    drawn = env_reset(task.params, jax.random.split(key)[0], N_LANES)
    np.testing.assert_array_equal(info["bar"], drawn.sim.bar)
    single = GymEnv(task)
    for seed in (3, None):
        assert single.reset(seed=seed)[0].shape == first[0].shape
    np.testing.assert_array_equal(single.reset(seed=3)[0], single.reset(seed=3)[0])


def test_single_envs_end_once_and_start_again(task, starts) -> None:
    """An ended account takes no further step; reset twice in a row is allowed."""
    plug = GymEnv(task)
    with pytest.raises(ResetNeeded):
        plug.step(0)
    options = {name: int(values[0]) for name, values in starts.items()}
    for _ in range(2):
        plug.reset(seed=0)
        obs, info = plug.reset(seed=0, options=options)
        assert info["bar"] == options["start_bar"]
        steps = [plug.step(0) for _ in range(WINDOW)]
        assert [s[3] for s in steps] == [False] * (WINDOW - 1) + [True]
        assert not any(s[2] for s in steps)
        assert steps[-1][4]["done_reason"] == "window_end"
        assert plug.observation_space.contains(steps[-1][0])
        assert plug.observation_space.contains(obs)
        with pytest.raises(ResetNeeded):
            plug.step(0)
        with pytest.raises(ResetNeeded):
            plug.action_masks()


def test_what_is_handed_out_stays_as_it_was(task) -> None:
    """Observations and masks of a step are no views of what the next one overwrites."""
    plug = GymVectorEnv(task, N_LANES)
    obs, info = plug.reset(seed=0)
    kept = obs.copy(), info["action_mask"].copy()
    obs_now, *_ = plug.step(np.zeros(N_LANES, int))
    obs_now[:] = 9.0
    plug.step(np.zeros(N_LANES, int))
    np.testing.assert_array_equal(obs, kept[0])
    np.testing.assert_array_equal(info["action_mask"], kept[1])


def test_unknown_options_are_refused(task) -> None:
    plug = GymVectorEnv(task, N_LANES)
    with pytest.raises(SimulationError, match="call reset"):
        plug.action_masks()
    for options in ({"start": 3}, {"end_bar": 3}):
        with pytest.raises(ConfigError, match="allowed: start_bar, and end_bar with it"):
            plug.reset(seed=0, options=options)
