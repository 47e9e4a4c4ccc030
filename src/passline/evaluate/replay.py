"""Plays one stored evaluation episode again and checks it against what is stored.

Its actions are chosen again by the program that evaluation plays by. The bars then go through the
very functions that training and evaluation use, and everything is kept: what the agent saw, might
have done and did, and what became of it. Every stored number must come out of both; the first that
does not is an error. docs/replay.md says what each number means.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from passline.errors import RunError
from passline.evaluate.judge import Label, begin_at, rows_of, with_path
from passline.evaluate.policies import Greedy, PolicyKind, scripted
from passline.evaluate.replay_choice import Stored
from passline.evaluate.rollout import FIRST_ENTRY, MAX_DAYS, Episodes, play_alone
from passline.evaluate.slices import Starts
from passline.evaluate.table import AGENT, EvaluationTable
from passline.sim import reference
from passline.sim.jit import sim_jit
from passline.sim.layout import AnyArray, Events, Markets, Orders, PathRule, Rules, State, Tape
from passline.sim.step import mark_to_close
from passline.task.actions import N_ACTIONS, order_of
from passline.task.env import EnvState, TaskParams, act_on, close_windows, observe
from passline.task.prepare import Prepared
from passline.task.reward import RewardWeights, reward_terms, total_reward

__all__ = ["Agent", "KeptPath", "Replay", "Steps", "first_difference", "replay"]

CHUNK_STEPS = 512
ROUNDING = float(np.finfo(np.float32).eps)

Scores = Callable[[Any, Array], tuple[Array, Array]]
"""(network parameters, observation [L, F]) -> (unmasked logits [L, A], value [L])."""


class Agent(NamedTuple):
    """Who acts.

    Attributes:
        greedy: the rule that evaluation played.
        scores: logits and value behind it; only shown.
        network: its parameters.
    """

    greedy: Greedy
    scores: Scores
    network: Any


class Steps(NamedTuple):
    """An episode's T steps, each from the close of one bar to the close of the next; NumPy.

    Attributes:
        obs: what the agent saw at the first close, float32 [T, F].
        mask: what it might do, bool [T, A].
        logits: its network's, before the mask, float32 [T, A].
        value: its critic's, float32 [T].
        action: what it chose [T].
        is_invalid: whether that was masked [T].
        order: what was ordered; State and Events fields are [T] each.
        after: the account at the second close.
        events: what happened between.
        terms: unweighted reward terms.
        reward: their weighted sum, float32 [T].
        equity_before: equity at the first close, mills [T].
    """

    obs: AnyArray
    mask: AnyArray
    logits: AnyArray
    value: AnyArray
    action: AnyArray
    is_invalid: AnyArray
    order: Orders
    after: State
    events: Events
    terms: RewardWeights
    reward: AnyArray
    equity_before: AnyArray


class KeptPath:
    """Which way through a bar the simulator kept."""

    SAME, HIGH_FIRST, LOW_FIRST = range(3)
    NAMES = ("either", "high first", "low first")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One episode, played again and found equal to what is stored.

    Attributes:
        stored: the stored episode.
        prepared: the markets.
        params: constants that were played under.
        steps: every step.
        bar: the bar that each step walked, on the joint tape [T].
        kept_path: KeptPath of each bar, int8 [T].
    """

    stored: Stored
    prepared: Prepared
    params: TaskParams
    steps: Steps
    bar: NDArray[np.int64]
    kept_path: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.bar)

    @property
    def rules(self) -> Rules:
        """The rulebook's numbers as the phase applies them; NumPy."""
        return Rules(*(np.asarray(field) for field in self.params.rules))

    @property
    def market(self) -> int:
        """Index of the market."""
        return int(self.steps.after.market[0])


def replay(
    prepared: Prepared, params: TaskParams, agent: Agent, stored: Stored, end_bar: int
) -> Replay:
    """Plays a stored episode again.

    Args:
        prepared: the markets.
        params: constants of the phase that the episode was played in.
        agent: with the parameters of the checkpoint that was judged.
        stored: the episode.
        end_bar: last bar it may walk.

    Raises:
        RunError: a number differs from the stored one; the message names the first.
    """
    params = with_path(params, str(stored.table.path[0]))
    starts = _starts(prepared, stored, end_bar)
    begun = begin_at(params, starts)
    policy = scripted(PolicyKind.AGENT, agent.network)
    played, chosen = play_alone(params, agent.greedy, policy, begun)
    steps = _play(params, agent, begun, chosen)
    for episodes in (played, _episodes(params, starts, steps, played.reward)):
        found = rows_of(prepared, episodes, starts, AGENT, _label(stored.table))
        difference = first_difference(stored.table, found)
        if difference is not None:
            raise RunError(
                f"slice {stored.slice}, episode {stored.episode} (row {stored.row}): {difference}. "
                "The replay is not what was judged; nothing of it is shown. Use the version, bars "
                "and machine that judged the run, or judge it again: passline evaluate"
            )
    return Replay(
        stored=stored,
        prepared=prepared,
        params=params,
        steps=steps,
        bar=np.asarray(steps.after.bar, np.int64),
        kept_path=_kept_paths(params, starts, steps),
    )


def first_difference(stored: EvaluationTable, found: EvaluationTable) -> str | None:
    """Returns the first number in which two rows differ, in words; None if they are equal."""
    differing: list[str] = []
    for name in stored.__dict__:
        if name in ("evaluation", "action_names"):
            continue
        old, new = stored.column(name)[0], found.column(name)[0]
        is_float = np.asarray(old).dtype.kind == "f"
        if not np.array_equal(old, new, equal_nan=is_float):
            differing.append(f"{name} was stored as {_told(old)}, the replay found {_told(new)}")
    if not differing:
        return None
    more = f" ({len(differing)} of the stored numbers differ)" if len(differing) > 1 else ""
    return differing[0] + more


def _told(value: Any) -> str:
    return " ".join(map(str, value)) if np.ndim(value) else str(value)


def _starts(prepared: Prepared, stored: Stored, end_bar: int) -> Starts:
    row = stored.table
    symbols = [b.contract.symbol for b in prepared.bars]
    market = symbols.index(str(row.market[0])) if row.market[0] in symbols else 0
    day = prepared.compiled.tape.next_day[row.start_bar]
    return Starts(
        bar=row.start_bar,
        end_bar=np.array([end_bar], np.int64),
        slice=row.slice,
        market=np.array([market], np.int64),
        day=day.astype(np.int64),
    )


def _label(row: EvaluationTable) -> Label:
    return Label(
        timesteps=int(row.timesteps[0]),
        phase=str(row.phase[0]),
        seed=int(row.seed[0]),
        path=str(row.path[0]),
    )


def _play(params: TaskParams, agent: Agent, begun: EnvState, chosen: NDArray[np.int8]) -> Steps:
    """Plays one episode by actions that were chosen before [T], and returns its steps."""
    run = _compiled(agent.scores)
    n_chunks = -(-len(chosen) // CHUNK_STEPS)
    actions = np.pad(chosen.astype(np.int32), (0, n_chunks * CHUNK_STEPS - len(chosen)))
    lanes = begun
    parts: list[Steps] = []
    for part in actions.reshape(n_chunks, CHUNK_STEPS, 1):
        lanes, steps = run(params, agent.network, lanes, part)
        parts.append(jax.tree.map(np.asarray, steps))
    whole: Steps = jax.tree.map(lambda *x: np.concatenate(x)[: len(chosen), 0], *parts)
    return whole


@lru_cache(maxsize=4)
def _compiled(scores: Scores) -> Any:
    def run(
        params: TaskParams, network: Any, lanes: EnvState, actions: Array
    ) -> tuple[EnvState, Steps]:
        def body(env: EnvState, action: Array) -> tuple[EnvState, Steps]:
            return _step(params, scores, network, env, action)

        return jax.lax.scan(body, lanes, actions)

    return sim_jit(run)


def _step(
    params: TaskParams, scores: Scores, network: Any, env: EnvState, action: Array
) -> tuple[EnvState, Steps]:
    """Plays one bar in every lane, as `evaluate.rollout` does, and keeps all of it."""
    before = env.sim
    obs, mask = observe(params, env)
    logits, value = scores(network, obs)
    order = order_of(params.bracket, params.markets, before, action, params.atr[before.bar])
    after, events, is_invalid = act_on(params, before, action, mask)
    after = close_windows(env, after)
    equity_before = mark_to_close(params.tape, params.markets, before)
    terms = reward_terms(
        params.rules,
        before,
        after,
        events,
        equity_before=equity_before,
        bracket=params.bracket,
    )
    step = Steps(
        obs=obs,
        mask=mask,
        logits=logits,
        value=value,
        action=action,
        is_invalid=is_invalid,
        order=order,
        after=after,
        events=events,
        terms=terms,
        reward=total_reward(params.weights, terms),
        equity_before=equity_before,
    )
    return env._replace(sim=after), step


def _episodes(
    params: TaskParams, starts: Starts, steps: Steps, reward: NDArray[np.float32]
) -> Episodes:
    """Adds the steps up to what evaluation stores of an episode; N = 1.

    Rewards are products: the compiler may round them once or twice, and differently in another
    program. So their sum stands for `reward` [1] if it is that but for rounding.
    """
    events, after = steps.events, steps.after
    first_floor = int(params.rules.start_balance) - int(params.rules.allowance)
    equity = np.r_[steps.equity_before[:1], events.equity]
    floor = np.r_[np.int32(first_floor), after.floor]
    one_hot = steps.action[:, None] == np.arange(N_ACTIONS)
    n_legal = steps.mask.sum(axis=1)
    has_trip = events.exit_qty != 0
    risk = np.maximum(events.trip_risk, 1).astype(np.float32)
    trip_r = np.where(events.trip_risk > 0, events.trip_net.astype(np.float32) / risk, 0.0)
    begins_on = int(np.asarray(params.tape.day[starts.bar[0]]))
    first_day = begins_on == int(after.first_day[0])
    by_day = np.zeros((1, MAX_DAYS), np.int32)
    added = _sum32(steps.reward)
    rounding = len(steps.reward) * ROUNDING * np.abs(steps.reward).sum()
    return Episodes(
        sim=jax.tree.map(lambda x: x[-1:], after),
        start_bar=starts.bar,
        equity=equity[-1:],
        reward=reward if abs(added - reward) <= rounding else added,
        length=np.array([len(steps.action)]),
        n_days=np.array([int(first_day) + int(events.is_new_day.sum())]),
        n_trips=np.array([has_trip.sum()]),
        sum_r=_sum32(trip_r),
        n_invalid=np.array([steps.is_invalid.sum()]),
        max_equity=equity.max(keepdims=True),
        min_cushion=(equity - floor).min(keepdims=True),
        action_counts=one_hot.sum(axis=0)[None],
        choice_counts=(one_hot & (n_legal > 1)[:, None]).sum(axis=0)[None],
        n_legal=np.array([n_legal.sum()]),
        n_entry_chances=np.array([steps.mask[:, FIRST_ENTRY:].any(axis=1).sum()]),
        day_equity=by_day,
        day_floor=by_day,
    )


def _sum32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Adds one after the other in float32, as the evaluation does; [1]."""
    return np.cumsum(values.astype(np.float32), dtype=np.float32)[-1:]


def _kept_paths(params: TaskParams, starts: Starts, steps: Steps) -> NDArray[np.int8]:
    """Tells for each ambiguous bar which of its two paths was kept, by the plain-Python twin."""
    kept = np.full(len(steps.action), KeptPath.SAME, np.int8)
    rules = Rules(*(np.asarray(field).tolist() for field in params.rules))
    rules = rules._replace(path_rule=int(PathRule.HIGH_FIRST))
    markets = Markets(*(np.asarray(column).tolist() for column in params.markets))
    for t in np.flatnonzero(steps.events.is_ambiguous):
        bar = int(steps.after.bar[t]) - 1
        before = State(*(_at(column, int(t) - 1) for column in steps.after))
        if t == 0:
            before = reference.start(
                _two_bars(params.tape, bar), markets, rules, bar=0, market=int(starts.market[0])
            )
        order = Orders(*(_at(column, int(t)) for column in steps.order))
        state, events = reference.step(
            _two_bars(params.tape, bar), markets, rules, before._replace(bar=0), order
        )
        mine = State(*(_at(column, int(t)) for column in steps.after))
        is_high_first = events.equity == int(steps.events.equity[t]) and all(
            getattr(state, name) == getattr(mine, name)
            for name in ("balance", "qty", "outcome", "floor", "peak", "is_locked_out")
        )
        kept[t] = KeptPath.HIGH_FIRST if is_high_first else KeptPath.LOW_FIRST
    return kept


def _at(column: NDArray[Any], index: int) -> Any:
    return column[index].item()


def _two_bars(tape: Tape, bar: int) -> Tape:
    return Tape(*(np.asarray(column[bar : bar + 2]).tolist() for column in tape))
