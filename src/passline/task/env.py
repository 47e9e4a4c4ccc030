"""The environment: one pure step of observation, action, simulator, reward and restart.

Training, evaluation, replay and every plug call these functions and no others, so that what is
learned is what is judged. Constants come in as TaskParams; phases differ in values, never in code.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from passline.sim.draws import uniforms
from passline.sim.jit import sim_jit
from passline.sim.layout import (
    AnyArray,
    BarFlag,
    DoneReason,
    Events,
    FillReason,
    Markets,
    Outcome,
    Rules,
    State,
    Tape,
)
from passline.sim.step import is_active, mark_to_close
from passline.sim.step import step as sim_step
from passline.task.account import ACCOUNT_FEATURES, BarFacts, account_features
from passline.task.actions import Bracket, action_mask, is_legal, order_of
from passline.task.episodes import N_DRAWS, Mix, draw_episodes
from passline.task.reward import RewardWeights, reward_terms, total_reward

__all__ = [
    "EnvState",
    "TaskParams",
    "act_on",
    "begin",
    "close_windows",
    "compiled_reset",
    "observe",
    "reset",
    "restart",
    "step",
]

N_DONE_REASONS = len(DoneReason)
N_RESTARTS = 32
"""Episodes that are drawn at once where some ended; few lanes end in the same bar."""


class TaskParams(NamedTuple):
    """Every constant of the environment; B bars of all markets, F features.

    Attributes:
        tape: bars [B].
        features: market features at each close, float32 [B, F].
        atr: average true range at each close, ticks, int32 [B].
        minutes_to_flat: minutes from each close to flat-by, int32 [B].
        market: index of each bar's market, int32 [B].
        bar_minutes: length of a bar, float32.
        markets: constants [M].
        rules: the rulebook, as the phase applies it.
        bracket: distances and sizes.
        allowed: actions that the phase allows, bool [A].
        weights: reward weights.
        mix: where episodes start.
    """

    tape: Tape
    features: AnyArray
    atr: AnyArray
    minutes_to_flat: AnyArray
    market: AnyArray
    bar_minutes: AnyArray
    markets: Markets
    rules: Rules
    bracket: Bracket
    allowed: AnyArray
    weights: RewardWeights
    mix: Mix


class EnvState(NamedTuple):
    """One episode a lane.

    Attributes:
        sim: the account [L].
        end_bar: bar at whose close the episode is truncated [L].
        component: row of the mix it was drawn from [L].
        start_bar: bar at whose close it began [L].
    """

    sim: State
    end_bar: AnyArray
    component: AnyArray
    start_bar: AnyArray


class Info(NamedTuple):
    """What a step adds to the telemetry; summed over lanes and steps by the learner.

    Attributes:
        terms: weighted reward terms [L] each.
        done_reasons: one-hot at the end of an episode, int32 [L, len(DoneReason)].
        n_trips: finished round trips, int32 [L].
        n_wins: of them with a net result above 0, int32 [L].
        trip_r: sum of their net results in units of risk, float32 [L].
        n_invalid: masked actions that were sent anyway, int32 [L].
        n_late_flat: liquidations at flat-by, int32 [L].
        n_ambiguous: ambiguous bars, int32 [L].
        component_episodes: one-hot by mix component at the end of an episode, int32 [L, C].
        component_bars: length of the ended episode by mix component, int32 [L, C].
    """

    terms: RewardWeights
    done_reasons: AnyArray
    n_trips: AnyArray
    n_wins: AnyArray
    trip_r: AnyArray
    n_invalid: AnyArray
    n_late_flat: AnyArray
    n_ambiguous: AnyArray
    component_episodes: AnyArray
    component_bars: AnyArray


def reset(params: TaskParams, key: Array, n_lanes: int, *, at: Array | int = 0) -> EnvState:
    """Starts a training episode in every lane, drawn from the mix at a place of key's stream."""
    sim, end, component = draw_episodes(
        params.tape,
        params.markets,
        params.rules,
        params.bracket,
        params.mix,
        params.atr,
        params.market,
        uniforms(key, (N_DRAWS, n_lanes), at=at),
    )
    return EnvState(sim, end, component, sim.bar)


@cache
def compiled_reset() -> Callable[[TaskParams, Array, int], EnvState]:
    """Returns `reset` compiled for the number of lanes it is given; one program for all who ask."""
    return sim_jit(reset, static_argnums=2, is_fused=True)


def restart(params: TaskParams, state: EnvState, is_done: Array, key: Array) -> EnvState:
    """Starts another training episode in every lane whose own is done, bool [L]."""

    def restart_some(
        carry: tuple[EnvState, Array, Array],
    ) -> tuple[EnvState, Array, Array]:
        now, waits, times = carry
        fresh = reset(params, key, N_RESTARTS, at=times)
        place = jnp.cumsum(waits.astype(jnp.int32)) - 1
        is_next = waits & (place < N_RESTARTS)
        row = jnp.clip(place, 0, N_RESTARTS - 1)
        now = jax.tree.map(lambda a, b: jnp.where(is_next, a[row], b), fresh, now)
        return now, waits & ~is_next, times + 1

    restarted, _, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[1]), restart_some, (state, is_done, jnp.int32(0))
    )
    return restarted


def begin(params: TaskParams, sim: State, end_bar: Array) -> EnvState:
    """Wraps given accounts as episodes that end at `end_bar` at the latest; for evaluation."""
    return EnvState(sim, end_bar, jnp.zeros_like(end_bar), sim.bar)


def facts_at(params: TaskParams, bar: Array) -> BarFacts:
    """Looks up what is known at the close of each lane's bar."""
    return BarFacts(
        close=params.tape.close[bar],
        flags=params.tape.flags[bar],
        atr=params.atr[bar],
        minutes_to_flat=params.minutes_to_flat[bar],
        is_closing=(params.tape.flags[bar] & BarFlag.CLOSING) != 0,
        bar_minutes=params.bar_minutes,
        day=params.tape.day[bar],
    )


def mask_at(params: TaskParams, sim: State, facts: BarFacts) -> Array:
    """Tells which actions each account may take at the close of its bar, bool [L, A]."""
    return action_mask(
        params.bracket,
        params.markets,
        params.rules,
        sim,
        params.allowed,
        close=facts.close,
        flags=facts.flags,
        atr=facts.atr,
        is_closing=facts.is_closing,
    )


def observe(params: TaskParams, state: EnvState) -> tuple[Array, Array]:
    """Returns what the agent sees and may do at the close of its bar.

    Returns:
        (observation float32 [L, F + account features], action_mask bool [L, A]).
    """
    sim = state.sim
    facts = facts_at(params, sim.bar)
    account = account_features(params.bracket, params.markets, params.rules, sim, facts)
    observation = jnp.concatenate([params.features[sim.bar], account], axis=-1)
    return observation, mask_at(params, sim, facts)


def act_on(
    params: TaskParams, state: State, action: Array, mask: Array
) -> tuple[State, Events, Array]:
    """Sends actions to the simulator; a masked action counts as HOLD.

    Args:
        params: constants.
        state: accounts [L].
        action: rows of the action table, int32 [L].
        mask: legal actions [L, A].

    Returns:
        (accounts one bar later, events, where a masked action was sent [L]).
    """
    is_invalid = ~is_legal(mask, action)
    action = jnp.where(is_invalid, 0, action)
    orders = order_of(params.bracket, params.markets, state, action, params.atr[state.bar])
    after, events = sim_step(params.tape, params.markets, params.rules, state, orders)
    return after, events, is_invalid & is_active(state)


def close_windows(state: EnvState, sim: State) -> State:
    """Marks accounts that are still open at the last bar of their episode as WINDOW_END."""
    ends = is_active(sim) & (sim.bar >= state.end_bar)
    return sim._replace(done_reason=jnp.where(ends, DoneReason.WINDOW_END, sim.done_reason))


def step(
    params: TaskParams, state: EnvState, action: Array, key: Array
) -> tuple[EnvState, Array, Array, Array, Array, Info]:
    """Advances all lanes by one decision and restarts those that ended (learn.rollout.Env)."""
    before = state.sim
    mask = mask_at(params, before, facts_at(params, before.bar))
    equity_before = mark_to_close(params.tape, params.markets, before)
    sim, events, is_invalid = act_on(params, before, action, mask)
    sim = close_windows(state, sim)
    terms = reward_terms(
        params.rules,
        before,
        sim,
        events,
        equity_before=equity_before,
        bracket=params.bracket,
    )
    reward = total_reward(params.weights, terms)
    is_terminated = sim.outcome != Outcome.OPEN
    is_truncated = ~is_terminated & (sim.done_reason != DoneReason.NONE)
    is_done = is_terminated | is_truncated
    ended = state._replace(sim=sim)
    info = make_info(params, ended, events, terms, is_done, is_invalid)
    n_lanes = action.shape[0]
    final_obs = jax.lax.cond(
        jnp.any(is_truncated),
        lambda: observe(params, ended)[0],
        lambda: jnp.zeros((n_lanes, params.features.shape[1] + len(ACCOUNT_FEATURES)), jnp.float32),
    )
    new = restart(params, ended, is_done, key)
    return new, reward, is_terminated, is_truncated, final_obs, info


def make_info(
    params: TaskParams,
    ended: EnvState,
    events: Events,
    terms: RewardWeights,
    is_done: Array,
    is_invalid: Array,
) -> Info:
    """Collects the telemetry of one step."""
    sim = ended.sim
    count = is_done.astype(jnp.int32)
    risk = jnp.maximum(events.trip_risk, 1).astype(jnp.float32)
    is_trip = events.exit_qty != 0
    components = jnp.arange(params.mix.n_starts.shape[0], dtype=jnp.int32)
    by_component = (ended.component[:, None] == components) & is_done[:, None]
    bars = sim.bar - ended.start_bar
    reasons = jnp.arange(N_DONE_REASONS, dtype=jnp.int32)
    return Info(
        terms=RewardWeights(*(w * t for w, t in zip(params.weights, terms, strict=True))),
        done_reasons=(sim.done_reason[:, None] == reasons) * count[:, None],
        n_trips=is_trip.astype(jnp.int32),
        n_wins=(is_trip & (events.trip_net > 0)).astype(jnp.int32),
        trip_r=jnp.where(events.trip_risk > 0, events.trip_net.astype(jnp.float32) / risk, 0.0),
        n_invalid=is_invalid.astype(jnp.int32),
        n_late_flat=(events.exit_reason == FillReason.LATE_FLAT).astype(jnp.int32),
        n_ambiguous=events.is_ambiguous.astype(jnp.int32),
        component_episodes=by_component.astype(jnp.int32),
        component_bars=by_component * bars[:, None],
    )
