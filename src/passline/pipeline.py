"""The main job: bars and a rulebook in, a trained agent, its verdict and a report out.

Composes the rooms; what each of them does lives in it. Everything a run produces goes into its own
directory, and a run that was stopped goes on from its last checkpoint.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jax
import numpy as np

from passline.base_policy import BasePolicy, check_dates, check_symmetry, keep_base, kept_base
from passline.config import TrainConfig, from_plain, to_plain
from passline.death_pages import write_death_pages
from passline.errors import BarsError, ConfigError, RunError
from passline.evaluate.by_market import verdicts_by_market
from passline.evaluate.gates import GateResult
from passline.evaluate.judge import BASELINES, Label, judge
from passline.evaluate.market_files import shares_prices
from passline.evaluate.oracle import fit_oracle
from passline.evaluate.policies import Policy, PolicyKind, scripted
from passline.evaluate.rollout import MAX_DAYS, Episodes, TripLog, play_episodes
from passline.evaluate.samples import EquityPaths, write_distributions, write_equity_paths
from passline.evaluate.slices import Split, Starts, evaluation_starts, split
from passline.evaluate.stats import Estimate
from passline.evaluate.table import AGENT, EvaluationTable, append_evaluation, load_evaluations
from passline.evaluate.trip_file import TRIPS_FILE, write_trips
from passline.evaluate.verdict import Verdict, verdict
from passline.evaluate.verdict_file import VERDICT_FILE, write_verdict
from passline.evaluate.windows import final_start, hide_final, trading_span
from passline.kinds import FORCED_FROM, RunKind, forced_phase, kind_of, origin_of, require_agent
from passline.learn import kernel, network
from passline.learn.checkpoint import list_checkpoints, sweep_checkpoints
from passline.learn.curriculum import (
    Trained,
    best_checkpoints,
    is_forced_at,
    load_network,
    train_curriculum,
    updates_by_phase,
)
from passline.learn.ppo import PPOConfig
from passline.learn.reweigh import start_weights, stored_rates
from passline.market.bars import Bars
from passline.market.clock import EPOCH
from passline.market.contracts import find_contract
from passline.market.load import read_bars
from passline.market.synthetic import SyntheticMarket, synthesize
from passline.recording import Recorder, Screen, drop_last_test, note_stop, resume_point
from passline.registry import record_files
from passline.report.data import load_report_data
from passline.rulebook import Rulebook, load_rulebook
from passline.runs import (
    DEFAULT_ROOT,
    Run,
    RunStatus,
    config_fingerprint,
    create_run,
    naming_refusals,
    sweep_temporaries,
)
from passline.sim.layout import NEVER
from passline.task import env
from passline.task.actions import N_ACTIONS
from passline.task.env import TaskParams
from passline.task.phases import Phase, load_phases
from passline.task.prepare import OBSERVATION_NAMES, Prepared, phase_params, prepare

__all__ = [
    "EVALUATIONS",
    "REPORT",
    "TEST_SEED",
    "Job",
    "Markets",
    "Outcome",
    "Plan",
    "Played",
    "Screen",
    "book_entry",
    "check_curriculum",
    "check_run",
    "continue_job",
    "create_job",
    "curriculum_entry",
    "data_entry",
    "evaluate_run",
    "load_markets",
    "manifest_of",
    "markets_of",
    "open_markets",
    "plan_job",
    "play_paths",
    "publish",
    "run_job",
    "start_job",
    "summary_of",
    "untrained_network",
]

EVALUATIONS = "evaluations.npz"
REPORT = "report.html"
TEST_SEED = 20_000
"""Seed of the test slices' random offsets: the same for every run on the same bars."""
N_TRAIN_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training about to run, or the judging of a model that was trained elsewhere.

    Attributes:
        run: its directory.
        config: its settings.
        prepared: the markets under the rulebook.
        split: the cut of time.
        phases: the curriculum.
        market: the built-in market; None for bar files.
        base: weights that training begins with; None if they are drawn.
    """

    run: Run
    config: TrainConfig
    prepared: Prepared
    split: Split
    phases: tuple[Phase, ...]
    market: SyntheticMarket | None
    base: BasePolicy | None = None

    @property
    def is_trained_here(self) -> bool:
        """Whether the agent's training is this run's own."""
        return self.config.model_sha256 is None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job came to.

    Attributes:
        run: its directory.
        verdict: the verdict on the test slices.
        report: the page.
        stopped_at: the gate that ended the training early; None if none did.
        markets: the verdict on each contract by symbol; empty where there are not several.
    """

    run: Run
    verdict: Verdict
    report: Path
    stopped_at: GateResult | None
    markets: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Markets:
    """The bars of a run, with what it may see of them.

    Attributes:
        whole: all bars; only the opening of the final test looks at them.
        bars: those before the sealed final window, which everything else is given.
        made: the built-in market cut likewise; None for bar files.
        final_start: first trading day of the final window; None if there is none.
    """

    whole: tuple[Bars, ...]
    bars: tuple[Bars, ...]
    made: SyntheticMarket | None
    final_start: date | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is about to be made of, before it has a directory.

    Attributes:
        config: its settings.
        markets: the bars, whole and as far as they may be seen.
        prepared: the markets under the rulebook.
        split: the cut of time.
        phases: the curriculum.
    """

    config: TrainConfig
    markets: Markets
    prepared: Prepared
    split: Split
    phases: tuple[Phase, ...]


def load_markets(config: TrainConfig) -> tuple[tuple[Bars, ...], SyntheticMarket | None]:
    """Reads the bar files, or makes the built-in market, without the sealed final window.

    Raises:
        BarsError: a file cannot be read, or `trade_as` has another tick.
        ConfigError: nothing is left before the final window.
    """
    markets = open_markets(config)
    return markets.bars, markets.made


def open_markets(config: TrainConfig) -> Markets:
    """Reads the bars and seals their final window.

    The built-in market has none unless `final_days` asks for it: another seed makes unseen bars.
    """
    whole, made = _read_markets(config)
    slices = config.slices
    if made is not None and slices.final_days is None and not slices.named:
        slices = dataclasses.replace(slices, final_days=0)
    start = final_start(whole, slices)
    bars = tuple(hide_final(b, start, slices) for b in whole)
    if made is not None:
        made = dataclasses.replace(made, bars=bars[0], drift=made.drift[: len(bars[0])])
    return Markets(whole=whole, bars=bars, made=made, final_start=start)


def _read_markets(config: TrainConfig) -> tuple[tuple[Bars, ...], SyntheticMarket | None]:
    """Reads the bar files, or makes the built-in market."""
    if config.market is not None:
        market = synthesize(config.market, seed=config.market_seed)
        return (market.bars,), market
    bars = tuple(read_bars(Path(name)) for name in config.bars)
    prints = [market.fingerprint() for market in bars]
    for i, (name, own) in enumerate(zip(config.bars, prints, strict=True)):
        if (first := prints.index(own)) < i:
            raise BarsError(
                f"{name}: it holds the bars of {config.bars[first]} once more, and every episode "
                "would count twice. Give each market once."
            )
    if config.trade_as:
        bars = tuple(_trade_as(b, config.trade_as) for b in bars)
    return bars, None


def _trade_as(bars: Bars, symbol: str) -> Bars:
    contract = find_contract(symbol)
    if not shares_prices(bars.contract, contract):
        raise BarsError(
            f"{symbol} and the bars of {bars.contract.symbol} do not trade at the same prices. "
            f"Trade {bars.contract.symbol}, its mini or its micro on them."
        )
    return dataclasses.replace(bars, contract=contract)


def plan_job(config: TrainConfig) -> Plan:
    """Prepares the markets of a run and looks at all that can be refused of its settings.

    Raises:
        PasslineError: anything that the settings or the bars do not allow.
    """
    markets = open_markets(config)
    rulebook = load_rulebook(config.rulebook)
    phases = load_phases(Path(config.phases) if config.phases else None)
    prepared = prepare(markets.bars, rulebook, config.task)
    cut = split(prepared, config.slices)
    for slices in (cut.gate, cut.test):
        evaluation_starts(prepared, slices, n=2, span_days=prepared.span_days, seed=0)
    return Plan(config=config, markets=markets, prepared=prepared, split=cut, phases=phases)


def create_job(
    plan: Plan,
    manifest: Mapping[str, Any],
    *,
    root: Path,
    name: str,
    base: BasePolicy | None = None,
) -> Job:
    """Makes the directory of a planned run.

    Args:
        plan: what it is made of.
        manifest: what its run.toml tells.
        root: directory of the runs.
        name: what to call it.
        base: weights to begin with; they are copied into the run.
    """
    run = create_run(root, name, manifest)
    with naming_refusals(run.path):
        (run.path / "checkpoints").mkdir()
        if base is not None:
            keep_base(run, base)
    return Job(
        run=run,
        config=plan.config,
        prepared=plan.prepared,
        split=plan.split,
        phases=plan.phases,
        market=plan.markets.made,
        base=base,
    )


def start_job(
    config: TrainConfig,
    *,
    root: Path = DEFAULT_ROOT,
    name: str | None = None,
    base: BasePolicy | None = None,
) -> Job:
    """Prepares the markets and makes the run's directory.

    Nothing is written before everything that can be refused has been looked at.

    Args:
        config: the settings.
        root: directory of the runs.
        name: what to call the run; the rulebook's id without it.
        base: weights to begin with; they are copied into the run.

    Raises:
        PasslineError: anything that the settings, the bars or the base do not allow.
    """
    known = "" if base is None else base.sha256
    if config.base_sha256 not in ("", known):
        raise ConfigError(
            f"base_sha256 was {config.base_sha256[:12]}…; it is set by --from RUN, not by hand."
        )
    plan = plan_job(dataclasses.replace(config, base_sha256=known))
    manifest = manifest_of(plan) | {"curriculum": curriculum_entry(plan.phases)}
    if base is not None:
        data = frozenset(entry["sha256"] for entry in manifest["data"].values())
        check_dates(base, manifest["slices"], data)
        check_symmetry(base, config.curriculum.symmetric)
        manifest["lineage"] |= base.lineage
    return create_job(plan, manifest, root=root, name=name or plan.prepared.rulebook.id, base=base)


def continue_job(run: Run) -> Job:
    """Prepares a stopped run to go on.

    Raises:
        RunError: it is a walk-forward, its settings were altered, or its bars are not those it was
            trained on.
    """
    if kind_of(run) is RunKind.WALK_FORWARD:
        require_agent(run, "to go on with")
    config = from_plain(run.manifest["config"], f"{run.id}/run.toml")
    markets = open_markets(config)
    check_run(run, config, markets.whole)
    phases = load_phases(Path(config.phases) if config.phases else None)
    prepared = prepare(markets.bars, load_rulebook(config.rulebook), config.task)
    cut = split(prepared, config.slices)
    return Job(
        run=run,
        config=config,
        prepared=prepared,
        split=cut,
        phases=phases,
        market=markets.made,
        base=kept_base(run, config.ppo),
    )


def check_run(run: Run, config: TrainConfig, bars: Sequence[Bars]) -> None:
    """Checks that settings, bars and rulebook are those that a run began with.

    Raises:
        RunError: one of them was altered.
    """
    run.check_fingerprint()
    _check_data(run, bars)
    book = load_rulebook(config.rulebook)
    if book.fingerprint() != run.manifest["rulebook"]["sha256"]:
        raise RunError(
            f"{run.id}: rulebook {book.id} has changed since the run began. Start a new run under "
            "the new rules."
        )


def check_curriculum(run: Run, phases: Sequence[Phase]) -> None:
    """Checks, before training goes on, that the phases are those it began with.

    Raises:
        RunError: one of them was altered.
    """
    if run.manifest.get("curriculum") != curriculum_entry(phases):
        raise RunError(
            f"{run.id}: the phases of the curriculum are not those that the run began with. "
            "Restore them, or start a new run."
        )


def _check_data(run: Run, bars: Sequence[Bars]) -> None:
    known = [item["sha256"] for item in run.manifest["data"].values()]
    found = [b.fingerprint() for b in bars]
    if known != found:
        raise RunError(
            f"{run.id}: the bars are not those the run began with (SHA-256 {found[0][:12]}…, was "
            f"{known[0][:12]}…). Restore them, or start a new run."
        )


def manifest_of(plan: Plan) -> dict[str, Any]:
    """Returns what the run.toml of a training tells: settings, seeds, data, slices, rulebook."""
    config, markets, prepared, cut = plan.config, plan.markets, plan.prepared, plan.split
    book = prepared.rulebook
    pairs = zip(markets.whole, markets.bars, strict=True)
    return {
        "config": to_plain(config),
        "seeds": {"training": config.curriculum.seed, "test": TEST_SEED},
        "markets": [b.contract.symbol for b in prepared.bars],
        "data": {
            f"{i}-{whole.contract.symbol}": data_entry(whole, seen)
            for i, (whole, seen) in enumerate(pairs)
        },
        "slices": _slices_entry(markets, prepared, cut),
        "rulebook": book_entry(book, prepared),
        "hardware": {
            "jax_backend": jax.default_backend(),
            "jax_devices": [str(d) for d in jax.devices()],
            "products": _products(config.ppo),
        },
        "lineage": {"test_slices": [s.name for s in cut.test]} | _left_out(config, prepared),
    }


def _products(config: PPOConfig) -> str:
    """Tells what multiplies in training: the kernel, by which instructions, or XLA."""
    is_fit = config.precision == "bfloat16" and all(w % kernel.UNIT == 0 for w in config.hidden)
    return (kernel.instructions() if is_fit else None) or "xla"


def _left_out(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    """Tells which markets were trained on and which one judged, where one was left out."""
    symbol = config.slices.leave_out
    if not symbol:
        return {}
    trained = [b.contract.symbol for b in prepared.bars if b.contract.symbol != symbol]
    return {"trained_on": trained, "judged_on": [symbol]}


def data_entry(bars: Bars, seen: Bars) -> dict[str, Any]:
    """Tells of a market: all its bars, and where those end that the run may see."""
    first, last = (
        str(np.datetime64(int(t), "ns").astype("datetime64[m]")) for t in bars.ts[[0, -1]]
    )
    hidden = {}
    if len(seen) < len(bars):
        hidden = {"visible_bars": len(seen), "visible_sha256": seen.fingerprint()}
    return {
        "contract": bars.contract.symbol,
        "bars": len(bars),
        "bar_seconds": bars.bar_ns // 10**9,
        "first": first + "Z",
        "last": last + "Z",
        "sha256": bars.fingerprint(),
        **hidden,
    }


def _slices_entry(markets: Markets, prepared: Prepared, cut: Split) -> dict[str, Any]:
    """Tells the trading days of each role, both included, and from where the final is sealed."""
    day = prepared.compiled.tape.day

    def dates(first: int, stop: int) -> list[date]:
        return [EPOCH + timedelta(days=int(day[bar])) for bar in (first, stop - 1)]

    told: dict[str, Any] = {
        "train": [dates(*part) for part in cut.train],
        "gate": {s.name: dates(s.first_bar, s.stop_bar) for s in cut.gate},
        "test": {s.name: dates(s.first_bar, s.stop_bar) for s in cut.test},
    }
    if markets.final_start is not None:
        told["final"] = [markets.final_start, trading_span(markets.whole)[1]]
    return told


def curriculum_entry(phases: Sequence[Phase]) -> dict[str, Any]:
    """Tells of the phases, by name and all they say."""
    return {
        "phases": [phase.name for phase in phases],
        "sha256": config_fingerprint({"phases": list(phases)}),
    }


def book_entry(book: Rulebook, prepared: Prepared) -> dict[str, Any]:
    """Tells of the rulebook and of how long its evaluations last."""
    return {
        "id": book.id,
        "firm": book.firm,
        "plan": book.plan,
        "stage": book.stage,
        "as_of": book.as_of.isoformat(),
        "source": book.source,
        "sha256": book.fingerprint(),
        "start_balance_mills": book.start_balance_mills,
        "time_limit_days": prepared.span_days,
        "automation": {"policy": book.automation.policy, "note": book.automation.note},
    }


def run_job(job: Job, screen: Screen, *, forced: bool = False) -> Outcome:
    """Trains, judges on the test slices and writes the report; holds the run's lock throughout.

    Args:
        job: the training, new or stopped.
        screen: what shows its progress.
        forced: go on past gates, and with what neither holds nor gains on training days, from the
            phase on that the training stands in. A run that was forced once remains so.
    """
    with job.run.lock(), naming_refusals(job.run.path):
        try:
            trained, gates = _train(job, screen, forced=forced)
            screen.say("judging on the held-out test slices")
            found = judge_job(job, trained.network, trained.phase, trained.step, gates)
        except KeyboardInterrupt:
            note_stop(job.run, RunStatus.INTERRUPTED, "stopped by the user")
            raise
        except Exception as error:
            note_stop(job.run, RunStatus.FAILED, str(error))
            raise
        message = trained.stopped_at.sentence() if trained.stopped_at else ""
        progress = {
            "step": trained.step,
            "phase": trained.phase.name,
            "gates": gates,
            "best": best_checkpoints(job.run.path / "checkpoints"),
            "test": summary_of(found),
        }
        if not all(g["is_passed"] for g in gates if g["phase"] != trained.phase.name):
            progress["forced"] = True
        job.run.update_status(RunStatus.FINISHED, message=message, progress=progress)
        record_files(job.run)
        report = publish(job.run)
    return Outcome(
        run=job.run,
        verdict=found,
        report=report,
        stopped_at=trained.stopped_at,
        markets=markets_of(job.run),
    )


def _train(job: Job, screen: Screen, *, forced: bool) -> tuple[Trained, list[dict[str, Any]]]:
    checkpoints = job.run.path / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    sweep_temporaries(job.run.path)
    sweep_checkpoints(checkpoints)
    updates = updates_by_phase(job.phases, job.config.ppo, job.config.curriculum)
    budgets = dict(zip((phase.name for phase in job.phases), updates, strict=True))
    resumed = resume_point(job.run, budgets)
    forced_from = forced_phase(job.run.manifest)
    if forced_from is None and forced:
        now = resumed.phase if resumed is not None else ""
        forced_from = now or job.phases[0].name
        job.run.record_progress({FORCED_FROM: forced_from})
    if resumed is not None:
        check_curriculum(job.run, job.phases)
        job.run.record_resume(resumed.step)
        is_forced = is_forced_at(job.phases, forced_from, resumed.phase)
        drop_last_test(job.run, job.phases, job.split, resumed, forced=is_forced)
    with Recorder(job.run, screen, job.phases, job.split, resumed=resumed) as recorder:
        trained = train_curriculum(
            job.prepared,
            job.phases,
            job.split,
            job.config.ppo,
            job.config.curriculum,
            recorder,
            checkpoints,
            forced_from=forced_from,
            base=None if job.base is None else job.base.network,
        )
    return trained, recorder.gates


def judge_job(
    job: Job,
    trained: network.Params,
    phase: Phase,
    step: int,
    gates: Sequence[Mapping[str, Any]] | None = None,
) -> Verdict:
    """Plays the agent and all baselines on the test slices and stores what happened.

    Args:
        job: what is judged, with its data and settings.
        trained: the agent's network.
        phase: that it was trained in last.
        step: of its training.
        gates: of the training that has just ended; by default those that the run has recorded.
    """
    prepared, config = job.prepared, job.config
    final = job.phases[-1]
    params = phase_params(prepared, final, job.split.train)
    starts = evaluation_starts(
        prepared,
        job.split.test,
        n=config.slices.n_episodes,
        span_days=prepared.span_days,
        seed=TEST_SEED,
    )
    extra = {} if job.market is None else _oracle(job, params, trained)
    played = play_paths(
        prepared,
        params,
        config,
        starts,
        trained,
        phase=final.name,
        step=step,
        seed=TEST_SEED,
        extra=extra,
    )
    write_trips(job.run.path / TRIPS_FILE, prepared, played.trips)
    _store_equity(job, played.worst[AGENT])
    if job.is_trained_here:
        _store_distributions(job, trained, phase, played.worst[AGENT])
    whole = append_evaluation(job.run.path / EVALUATIONS, played.tables)
    checkpoint = checkpoint_of(job.run.path / "checkpoints", step)
    write_death_pages(job.run, prepared, job.split, params, trained, whole, checkpoint=checkpoint)
    return verdict(whole, span_days=prepared.span_days, origin=origin_of(job.run.manifest, gates))


@dataclass(frozen=True, kw_only=True)
class Played:
    """Agent and baselines on the same starts, on both paths inside a bar.

    Attributes:
        tables: the rows of each path, the worst first.
        worst: episodes on the worst path by policy.
        trips: the agent's round trips on it.
    """

    tables: list[EvaluationTable]
    worst: dict[str, Episodes]
    trips: TripLog


def play_paths(
    prepared: Prepared,
    params: TaskParams,
    config: TrainConfig,
    starts: Starts,
    trained: network.Params,
    *,
    phase: str,
    step: int,
    seed: int,
    extra: Mapping[str, Policy] | None = None,
) -> Played:
    """Plays the agent, the baselines and the untrained network on the worst and the best path.

    Args:
        prepared: the markets.
        params: constants of the phase whose rules hold.
        config: the run's settings.
        starts: where episodes begin.
        trained: the agent's parameters.
        phase: name of the phase.
        step: training steps of the agent.
        seed: of the policies' draws.
        extra: further policies by name, such as the oracle.
    """
    others = {"untrained": scripted(PolicyKind.AGENT, untrained_network(config.ppo))}
    others |= extra or {}
    tables: list[EvaluationTable] = []
    on_path: list[tuple[dict[str, Episodes], TripLog]] = []
    flat: dict[str, Episodes] = {}
    for path in ("worst", "best"):
        label = Label(timesteps=step, phase=phase, seed=seed, path=path)
        table, episodes, trips = judge(
            prepared,
            params,
            network.act_greedy,
            trained,
            starts,
            label,
            baselines=tuple(BASELINES),
            extra=others,
            known=flat,
        )
        tables.append(table)
        on_path.append((episodes, trips))
        flat = {"flat": episodes["flat"]}  # no path matters to an account without a position
    return Played(tables=tables, worst=on_path[0][0], trips=on_path[0][1])


def summary_of(found: Verdict) -> dict[str, Any]:
    """Returns the few figures of a verdict that a list of runs shows; unbounded ends left out."""
    told = {"verdict": found.word.value} | _figures(found.agent.pass_rate)
    rival = found.rival
    if rival is not None and rival.advantage is not None:
        told["against"] = {"policy": rival.policy} | _figures(rival.advantage)
    return told


def _figures(estimate: Estimate) -> dict[str, Any]:
    figures = {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "n_effective": estimate.n_effective,
    }
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def checkpoint_of(folder: Path, step: int) -> str:
    """Returns the name of the checkpoint of a step, or the step in words if none was kept."""
    names = [c.path.stem for c in list_checkpoints(folder) if int(c.meta["step"]) == step]
    return names[0] if names else f"step {step:,}"


def untrained_network(ppo: PPOConfig) -> network.Params:
    """Returns a network as it is before any training."""
    return network.init_params(jax.random.key(0), len(OBSERVATION_NAMES), N_ACTIONS, ppo.hidden)


def _oracle(job: Job, params: TaskParams, trained: network.Params) -> dict[str, Policy]:
    assert job.market is not None
    return {
        "oracle": fit_oracle(
            job.prepared, params, job.market, job.split, network.act_greedy, trained
        )
    }


def _store_equity(job: Job, judged: Episodes) -> None:
    """Keeps the agent's equity day by day."""
    prepared = job.prepared
    n_days = np.clip(judged.n_days, 1, MAX_DAYS)
    last = np.arange(MAX_DAYS)[None, :] >= n_days[:, None]
    rows = np.arange(len(n_days))
    start_balance = int(prepared.rules.start_balance)
    first_floor = start_balance - int(prepared.rules.allowance)

    def path(days: Any, first: int) -> Any:
        filled = np.where(last, days[rows, n_days - 1][:, None], days)
        return np.concatenate([np.full((len(days), 1), first), filled], axis=1)

    target = int(prepared.rules.target_balance)
    write_equity_paths(
        job.run.path / "equity.npz",
        EquityPaths(
            equity_mills=path(judged.day_equity, start_balance).astype(np.int64),
            floor_mills=path(judged.day_floor, first_floor).astype(np.int64),
            n_days=n_days.astype(np.int64),
            start_mills=start_balance,
            target_mills=None if target == NEVER else target,
        ),
    )


def _store_distributions(job: Job, trained: network.Params, phase: Phase, judged: Episodes) -> None:
    """Keeps episodes of the agent's training beside those of its evaluation."""
    prepared = job.prepared
    train, strength = job.split.train, job.config.curriculum.reweigh
    rates = stored_rates(job.run.path / "checkpoints")
    own = phase_params(prepared, phase, train, start_weights(prepared, train, rates, strength))
    key = jax.random.key(job.config.curriculum.seed + 1)
    drawn = env.compiled_reset()(own, key, N_TRAIN_SAMPLE)
    agent = scripted(PolicyKind.AGENT, trained)
    played = play_episodes(own, network.act_greedy, agent, drawn, seed=0)
    write_distributions(
        job.run.path / "distributions.npz",
        phase.name,
        _sample(prepared, played),
        _sample(prepared, judged),
    )


def _sample(prepared: Prepared, episodes: Episodes) -> dict[str, Any]:
    """Returns what the train-against-evaluation picture compares, one number an episode."""
    bars = np.asarray(episodes.start_bar)
    length = np.maximum(episodes.length, 1)
    hours = prepared.compiled.minutes_to_flat[np.minimum(bars + 1, len(prepared.compiled.ts) - 1)]
    atr = np.asarray(prepared.base.atr)
    edges = zip(prepared.first_bar, prepared.offsets[1:], strict=True)
    usual = np.array([np.median(atr[first:stop]) for first, stop in edges])
    return {
        "ep_length": episodes.length,
        "hours_to_flat": hours / 60.0,
        "volatility": atr[bars] / usual[prepared.compiled.market[bars]],
        "n_legal": episodes.n_legal / length,
    }


def markets_of(run: Run) -> dict[str, Verdict]:
    """Returns the verdict on each contract of a judged run; empty where there are not several."""
    table = load_evaluations(run.path / EVALUATIONS)
    return verdicts_by_market(
        table,
        span_days=run.manifest["rulebook"]["time_limit_days"],
        origin=origin_of(run.manifest),
    )


def publish(run: Run) -> Path:
    """Writes the run's report and its figures from its folder alone."""
    # They load matplotlib, which no training waits for.
    from passline.report.page import write_figures, write_report  # noqa: PLC0415
    from passline.report.views import ruling_of  # noqa: PLC0415

    data = load_report_data(run)
    if (found := ruling_of(data)) is not None and data.evaluations is not None:
        markets = verdicts_by_market(
            data.evaluations,
            span_days=data.span_days,
            origin=origin_of(data.manifest),
        )
        write_verdict(run.path / VERDICT_FILE, found, markets)
    write_figures(data, run.path / "figures")
    return write_report(run, data, run.path / REPORT)


def evaluate_run(job: Job) -> Verdict:
    """Judges a run's newest checkpoint on its test slices and renews the report.

    That ends the run of a model that was trained elsewhere; a training ends by itself.
    """
    with job.run.lock(), naming_refusals(job.run.path):
        trained, meta = load_network(job.run.path / "checkpoints", job.config.ppo)
        phase = next(p for p in job.phases if p.name == meta["phase"])
        found = judge_job(job, trained, phase, int(meta["step"]))
        job.run.record_progress({"test": summary_of(found)})
        if not job.is_trained_here:
            job.run.update_status(RunStatus.FINISHED)
        record_files(job.run)
        publish(job.run)
    return found
