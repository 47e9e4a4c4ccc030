"""Does it learn? Phase 1 against plain PPO and the oracle, and the whole curriculum over seeds.

A piece is one market and seed: `entry` trains the first phase twice, from full information and by
PPO, and plays both on the gate slices on the way; `whole` trains the demo's curriculum and judges
it on the test slices beside the oracle, random entry and an untrained network, and on training
slices as well; `shuffled` does the same on the market with every bar's direction drawn anew, and
`reweighed` lets episodes begin where the agent fails in training (`--reweigh 1`). Every finished
piece is appended to a file of JSON lines, so that a measurement that was stopped goes on
where it stood. Prints one JSON object with all pieces of the file.

    python benchmarks/learning.py --json --kinds entry whole --seeds 0 1 2 3 4
    python benchmarks/learning.py --json --kinds whole --mechanisms open_momentum volatility_drift
    python benchmarks/learning.py --json --kinds whole --strengths 0 0.15 --seeds 0 1 2
"""

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from passline.sim.xla import tune_xla

tune_xla()

import jax  # noqa: E402
import matplotlib as mpl  # noqa: E402

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from passline.cli.training import DEMO, use_cache  # noqa: E402
from passline.config import TrainConfig, read_config  # noqa: E402
from passline.evaluate.judge import begin_at, match_random_entry  # noqa: E402
from passline.evaluate.oracle import fit_oracle  # noqa: E402
from passline.evaluate.policies import Policy, PolicyKind, scripted  # noqa: E402
from passline.evaluate.rollout import Episodes, play_episodes  # noqa: E402
from passline.evaluate.slices import (  # noqa: E402
    Slice,
    Split,
    Starts,
    day_starts,
    evaluation_starts,
    train_slices,
)
from passline.evaluate.slices import split as cut_time  # noqa: E402
from passline.evaluate.stats import Estimate, clusters_by_span, mean_interval, proportion_interval  # noqa: E402
from passline.learn import network  # noqa: E402
from passline.learn.curriculum import phase_settings, train_curriculum  # noqa: E402
from passline.learn.full_information import cut_stretches, make_exact_update  # noqa: E402
from passline.learn.ppo import PPOConfig, init_train_state, make_hyper, make_update  # noqa: E402
from passline.market.nulls import bar_flip  # noqa: E402
from passline.market.synthetic import SyntheticMarket, oracle_signal, synthesize  # noqa: E402
from passline.rulebook import load_rulebook  # noqa: E402
from passline.sim.layout import Outcome  # noqa: E402
from passline.task import env  # noqa: E402
from passline.task.actions import N_ACTIONS  # noqa: E402
from passline.task.mirror import MIRROR  # noqa: E402
from passline.task.phases import Phase, load_phases  # noqa: E402
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params, prepare  # noqa: E402

THRESHOLDS = (0.35, 0.5, 0.7, 1.0, 1.4)
"""Hidden drift a bar, ticks, from which the oracle of phase 1 enters; chosen on training dates."""
LOOK_EVERY = 5
PIECE = ("kind", "mechanism", "strength", "seed", "precision")
"""What tells one measured piece from another."""
N_UPDATES = {"full_information": 31, "ppo": 30}
PPO_BEFORE: dict[str, Any] = {"learner": "ppo", "learning_rate": None, "gamma": 0.99}
"""Phase 1 as it was learned by PPO."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """One market with its cut of time."""

    config: TrainConfig
    market: SyntheticMarket
    prepared: Prepared
    cut: Split
    phases: tuple[Phase, ...]
    seed: int

    @property
    def train_slices(self) -> list[Slice]:
        """The training range as if it were a held-out one."""
        return train_slices(self.prepared, self.cut.train)


def make_world(kind: str, mechanism: str, strength: float, seed: int, precision: str) -> World:
    """Makes a market and cuts its time; shuffled, each bar's move has a random direction."""
    settings = DEMO | {
        "ppo.precision": precision,
        "market.strength": strength,
        "market.mechanism": mechanism,
        "market_seed": seed,
        "curriculum.seed": seed,
        "curriculum.evaluations_per_phase": 1,
        "curriculum.reweigh": float(kind == "reweighed"),
    }
    config = read_config(None, settings)
    assert config.market is not None
    market = synthesize(config.market, seed=seed)
    if kind == "shuffled":
        market = dataclasses.replace(market, bars=bar_flip(market.bars, seed=seed))
    prepared = prepare([market.bars], load_rulebook(config.rulebook), config.task)
    cut = cut_time(prepared, config.slices)
    return World(
        config=config, market=market, prepared=prepared, cut=cut, phases=load_phases(), seed=seed
    )


def interval(estimate: Estimate) -> dict[str, float]:
    return {
        "value": round(estimate.value, 4),
        "low": round(estimate.low, 4),
        "high": round(estimate.high, 4),
        "n": estimate.n,
    }


def fresh_network(seed: int) -> network.Params:
    return network.init_params(jax.random.key(seed), len(OBSERVATION_NAMES), N_ACTIONS)


def play(params: Any, policy: Policy, starts: Starts) -> Episodes:
    return play_episodes(params, network.act_greedy, policy, begin_at(params, starts), seed=1)


def agent(weights: network.Params) -> Policy:
    return scripted(PolicyKind.AGENT, weights)


def entry_oracle(world: World, params: Any, starts: Starts) -> dict[str, Any]:
    """The best fixed threshold on the hidden drift, by training sessions, on held-out ones."""
    some = day_starts(world.prepared, world.train_slices)
    some = Starts(**{f.name: getattr(some, f.name)[-200:-1] for f in dataclasses.fields(Starts)})

    def rule(ticks: float) -> Policy:
        signal = oracle_signal(world.market, threshold_ticks=ticks)
        return scripted(PolicyKind.SIGNAL, fresh_network(0), signal=signal)

    on_train = {t: float(play(params, rule(t), some).reward.mean()) for t in THRESHOLDS}
    best = max(on_train, key=lambda t: on_train[t])
    held = play(params, rule(best), starts)
    return {"threshold": best} | interval(mean_interval(held.reward, starts.day))


def measure_entry(world: World) -> dict[str, Any]:
    """Held-out reward a session of phase 1, along the training, for both learners."""
    phase = world.phases[0]
    params = phase_params(world.prepared, phase, world.cut.train)
    starts = day_starts(world.prepared, world.cut.gate)
    play(params, agent(fresh_network(0)), starts)
    row: dict[str, Any] = {"oracle": entry_oracle(world, params, starts)}
    for learner in N_UPDATES:
        own = phase if phase.learner == learner else dataclasses.replace(phase, **PPO_BEFORE)
        row[learner] = entry_curve(world, own, params, starts)
    return row


def entry_curve(world: World, phase: Phase, judged: Any, starts: Starts) -> list[dict[str, Any]]:
    """Trains phase 1 from nothing; seconds count training and compilation, not the looks."""
    params = phase_params(world.prepared, phase, world.cut.train)
    ppo, n = world.config.ppo, N_UPDATES[phase.learner]
    began = time.perf_counter()
    key = jax.random.key(world.seed)
    lanes = env.compiled_reset()(params, key, ppo.n_lanes)
    state = init_train_state(ppo, lanes, len(OBSERVATION_NAMES), N_ACTIONS, key, MIRROR)
    update = entry_update(world, phase, params, ppo)
    hyper = make_hyper(phase_settings(ppo, phase), 0, n)
    seconds, points = 0.0, []
    for number in range(1, n + 1):
        state, _ = update(state, hyper)
        if number % LOOK_EVERY == 0 or number < LOOK_EVERY:
            jax.block_until_ready(state.params)
            seconds += time.perf_counter() - began
            held = play(judged, agent(state.params), starts)
            points.append(
                {"steps": number * ppo.batch_size, "seconds": round(seconds, 2)}
                | interval(mean_interval(held.reward, starts.day))
            )
            began = time.perf_counter()
    return points


def entry_update(world: World, phase: Phase, params: Any, ppo: PPOConfig) -> Callable[..., Any]:
    if phase.learner == "full_information":
        return make_exact_update(params, cut_stretches(params, world.cut.train, ppo), ppo, MIRROR)
    rolling = make_update(env, ppo, MIRROR)
    return lambda state, hyper: rolling(params, state, hyper)


class Quiet:
    """Keeps the gates' results and shows nothing."""

    def __init__(self) -> None:
        self.gates: list[dict[str, Any]] = []

    def on_update(self, phase: Phase, progress: Any, scalars: Any) -> None:
        """Shows nothing."""

    def on_look(self, table: Any) -> None:
        """Shows nothing."""

    def on_gates(self, results: Any, table: Any) -> None:
        """Keeps what the gates found."""
        self.gates += [
            {"phase": r.phase, "measure": r.measure, "passed": r.is_passed} | interval(r.estimate)
            for r in results
        ]


def measure_whole(world: World) -> dict[str, Any]:
    """Trains the demo's curriculum and judges it on the test slices and on training slices."""
    config, prepared, watcher = world.config, world.prepared, Quiet()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trained = train_curriculum(
            prepared,
            world.phases,
            world.cut,
            config.ppo,
            config.curriculum,
            watcher,
            Path(folder),
        )
    seconds = time.perf_counter() - began
    params = phase_params(prepared, world.phases[-1], world.cut.train)
    n, span = config.slices.n_episodes, prepared.span_days
    test = evaluation_starts(prepared, world.cut.test, n=n, span_days=span, seed=20_000)
    train = evaluation_starts(prepared, world.train_slices, n=n, span_days=span, seed=20_000)
    best = fit_oracle(
        prepared, params, world.market, world.cut, network.act_greedy, trained.network
    )
    mine = play(params, agent(trained.network), test)
    policies = {
        "oracle": best,
        "untrained": agent(fresh_network(world.seed)),
        "random entry": match_random_entry(
            params, network.act_greedy, trained.network, begin_at(params, test), mine, seed=2
        ),
    }
    played = {"agent": mine}
    played |= {name: play(params, policy, test) for name, policy in policies.items()}
    return {
        "train_seconds": round(seconds, 1),
        "stopped_at": trained.stopped_at.phase if trained.stopped_at else None,
        "gates": watcher.gates,
        "passes": {name: pass_rate(found, test, span) for name, found in played.items()},
        "agent_on_training_days": pass_rate(
            play(params, agent(trained.network), train), train, span
        ),
        "oracle_on_training_days": pass_rate(play(params, best, train), train, span),
        "late_flat": int(np.sum(mine.sim.n_late_flat)),
        "invalid": int(np.sum(mine.n_invalid)),
        "trips": int(np.sum(mine.n_trips)),
        "bars": int(np.sum(mine.length)),
    }


def pass_rate(found: Episodes, starts: Starts, span: int) -> dict[str, float]:
    passed = (np.asarray(found.sim.outcome) == Outcome.PASSED).astype(float)
    estimate = proportion_interval(passed, clusters_by_span(starts.day, span), is_serial=True)
    return interval(estimate) | {"worth": round(estimate.n_effective)}


KINDS: dict[str, Callable[[World], dict[str, Any]]] = {
    "entry": measure_entry,
    "whole": measure_whole,
    "shuffled": measure_whole,
    "reweighed": measure_whole,
}


def draw_entry(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws every `entry` piece: share of the oracle's reward against steps and seconds."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    colors = {"full_information": "tab:blue", "ppo": "tab:orange"}
    pieces = [row for row in rows if row["kind"] == "entry"]
    for row, (learner, color), (panel, x) in itertools.product(
        pieces, colors.items(), zip(panels, ("steps", "seconds"), strict=True)
    ):
        top, points = row["oracle"]["value"], row[learner]
        at = [point[x] for point in points]
        panel.plot(at, [point["value"] / top for point in points], color=color)
        low, high = ([point[side] / top for point in points] for side in ("low", "high"))
        panel.fill_between(at, low, high, color=color, alpha=0.15)
        panel.set_xlabel(x)
    for panel in panels:
        panel.axhline(0.9, color="gray", linestyle=":")
        panel.set_ylim(-1.0, 1.2)
    panels[0].set_ylabel("utility a session / oracle's")
    names = [plt.Line2D([], [], color=color, label=name) for name, color in colors.items()]
    panels[1].legend(handles=names)
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def commit() -> str:
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--mechanisms", nargs="+", default=["vwap_reversion"])
    parser.add_argument("--strengths", type=float, nargs="+", default=[1.0])
    parser.add_argument("--precisions", nargs="+", default=[PPOConfig().precision])
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--store", type=Path, default=Path("learning.jsonl"))
    parser.add_argument("--at-most", type=int, default=10**9, help="new pieces to measure now")
    parser.add_argument("--figure", type=Path, help="PNG of the first phase's curves")
    parser.add_argument("--json", action="store_true", help="print JSON (the only form)")
    options = parser.parse_args()
    use_cache()
    store: Path = options.store
    rows = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    known = {tuple(row[key] for key in PIECE) for row in rows}
    asked = itertools.product(
        options.kinds, options.mechanisms, options.strengths, options.seeds, options.precisions
    )
    for piece in [piece for piece in asked if piece not in known][: options.at_most]:
        began = time.perf_counter()
        row = dict(zip(PIECE, piece, strict=True)) | KINDS[piece[0]](make_world(*piece))
        row |= {"seconds": round(time.perf_counter() - began, 1), "commit": commit()}
        row["load"] = round(os.getloadavg()[0], 1)
        rows.append(row)
        with store.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{piece}: {row['seconds']} s", file=sys.stderr)
    if options.figure:
        draw_entry(rows, options.figure)
    print(json.dumps({"pieces": rows}, indent=2))


if __name__ == "__main__":
    main()
