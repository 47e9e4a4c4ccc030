"""Makes a run directory of made-up but plausible figures, as a training would leave it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passline.evaluate.samples import EquityPaths, write_distributions, write_equity_paths
from passline.evaluate.table import EvaluationTable, append_evaluation
from passline.report.tensorboard import ScalarWriter
from passline.runs import Run, RunStatus, create_run
from passline.sim.layout import DoneReason, Outcome

ACTIONS = (
    "hold", "close", "breakeven", "trail_on", "trail_off",
    "long_1", "long_2", "long_4", "short_1", "short_2", "short_4",
)  # fmt: skip
START, TARGET, ALLOWANCE = 50_000_000, 53_000_000, 2_500_000
FIRST_DAY = 18_993  # 2022-01-01


@dataclass(frozen=True)
class Accounts:
    equity: np.ndarray
    floor: np.ndarray
    n_days: np.ndarray
    outcome: np.ndarray
    reason: np.ndarray


def walk(drift: float, luck: np.ndarray, generator: np.random.Generator) -> Accounts:
    """Plays accounts of up to 21 days under an intraday trailing floor. luck: [n, 21]."""
    n, longest = luck.shape
    steps = (drift + 330 * (0.6 * luck + 0.8 * generator.standard_normal(luck.shape))) * 1000
    equity = np.full((n, longest + 1), START, dtype=np.int64)
    floor = np.full((n, longest + 1), START - ALLOWANCE, dtype=np.int64)
    n_days = np.full(n, longest)
    outcome = np.full(n, int(Outcome.TIMED_OUT))
    reason = np.full(n, int(DoneReason.TIME_LIMIT))
    for lane in range(n):
        for day in range(1, longest + 1):
            now = equity[lane, day - 1] + int(steps[lane, day - 1])
            rise = int(abs(generator.normal(0, 250_000)))
            floor[lane, day:] = min(max(floor[lane, day], now + rise - ALLOWANCE), START + 100_000)
            equity[lane, day:] = max(now, floor[lane, day])
            if now <= floor[lane, day] or now >= TARGET:
                n_days[lane] = day
                is_pass = now >= TARGET
                outcome[lane] = Outcome.PASSED if is_pass else Outcome.BREACHED
                causes = [DoneReason.FLOOR, DoneReason.FLOOR, DoneReason.DAILY_LIMIT]
                reason[lane] = DoneReason.TARGET if is_pass else generator.choice(causes)
                break
    return Accounts(equity=equity, floor=floor, n_days=n_days, outcome=outcome, reason=reason)


def table_of(
    accounts: Accounts, policy: str, steps: int, generator: np.random.Generator, **more: object
) -> EvaluationTable:
    n = len(accounts.n_days)
    choices = generator.dirichlet(np.array([9, 1, 2, 2, 0.5, 3, 1, 0.4, 3, 1, 0.4]), n)
    counts = (choices * 400).astype(int)
    starts = np.linspace(0, 330, n).astype(int)
    final = accounts.equity[np.arange(n), accounts.n_days]
    is_idle = policy == "flat"
    return EvaluationTable.build(
        {
            "timesteps": steps,
            "phase": "account",
            "policy": policy,
            "slice": "2022",
            "path": "worst",
            "market": "ES",
            "start_bar": starts * 276,
            "start_ns": (FIRST_DAY + starts) * 86_400 * 10**9,
            "start_day": FIRST_DAY + starts,
            "seed": np.arange(n),
            "result_mills": final - START,
            "reward": (accounts.outcome == Outcome.PASSED) - 0.45,
            "ep_length": accounts.n_days * 276,
            "n_days": accounts.n_days,
            "outcome": accounts.outcome,
            "done_reason": accounts.reason,
            "n_trips": 0 if is_idle else accounts.n_days * 3,
            "mean_r": np.nan if is_idle else generator.normal(0.02, 0.3, n),
            "n_invalid": 0,
            "n_late_flat": 0 if is_idle else generator.integers(0, 3, n),
            "n_ambiguous": accounts.n_days * 2,
            "commissions_mills": accounts.n_days * 3 * 4_960,
            "max_equity_mills": accounts.equity.max(axis=1),
            "min_cushion_mills": (accounts.equity - accounts.floor).min(axis=1),
            "action_counts": counts * 2,
            "choice_counts": counts,
            **more,
        },
        ACTIONS,
    )


def evaluate(run: Run, drift: float, best_drift: float, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((360, 21)).cumsum(axis=0)
    luck = np.diff(shared, axis=0, prepend=0)[np.linspace(0, 330, n).astype(int)]
    path = run.path / "evaluations.npz"
    for share in (0.4, 0.7):
        early = walk(drift * share, luck, generator)
        steps = int(2e7 * share) + 6_000_000
        append_evaluation(path, [table_of(early, "agent", steps, generator)])
    for index, phase in enumerate(("entry", "manage")):
        for part in (1, 2, 3):
            early = walk(0, luck, generator)
            reward = generator.normal(0.03 * part - 0.08, 1.1, n)
            steps = (3 * index + part) * 1_000_000
            part_table = table_of(early, "agent", steps, generator, phase=phase, reward=reward)
            append_evaluation(path, [part_table])
    agent = walk(drift, luck, generator)
    rivals = {"random_matched": -25.0, "long": 15.0, "random_legal": -90.0, "oracle": 330.0}
    tables = [table_of(agent, "agent", 26_000_000, generator)]
    for policy, its_drift in rivals.items():
        played = walk(its_drift, luck, generator)
        tables.append(table_of(played, policy, 26_000_000, generator))
    flat = Accounts(
        equity=np.full((n, 22), START),
        floor=np.full((n, 22), START - ALLOWANCE),
        n_days=np.full(n, 21),
        outcome=np.full(n, int(Outcome.TIMED_OUT)),
        reason=np.full(n, int(DoneReason.TIME_LIMIT)),
    )
    tables.append(table_of(flat, "flat", 26_000_000, generator))
    tables.append(table_of(flat, "flat", 26_000_000, generator, path="best"))
    on_best = {"agent": best_drift, "random_matched": -20.0, "long": 18.0, "random_legal": -80.0}
    for policy, its_drift in on_best.items():
        played = walk(its_drift, luck, generator)
        tables.append(table_of(played, policy, 26_000_000, generator, path="best"))
    # Actual order in time matters to the file: the final phase is evaluated last.
    append_evaluation(path, tables)
    write_equity_paths(
        run.path / "equity.npz",
        EquityPaths(
            equity_mills=agent.equity,
            floor_mills=agent.floor,
            n_days=agent.n_days,
            start_mills=START,
            target_mills=TARGET,
        ),
    )


def trade(run: Run, seed: int, n: int = 1500) -> None:
    """Keeps round trips at all hours of the year, better in the afternoon than at night."""
    generator = np.random.default_rng(seed)
    day = FIRST_DAY + np.sort(generator.integers(0, 330, n))
    day = day[(day + 3) % 7 < 5]
    minute = generator.choice([60, 500, 960, 1020, 1200], len(day)) + generator.integers(0, 50)
    entry = (day * 1440 + minute - 60) * 60 * 10**9  # 18:00 ET is 23:00 UTC of the day before
    usd = generator.normal(np.where(minute > 900, 8.0, -4.0), 60.0)
    np.savez_compressed(
        run.path / "trips.npz",
        entry_ns=entry,
        exit_ns=entry + 30 * 60 * 10**9,
        pnl_mills=(usd * 1000).astype(np.int64),
        mae_mills=np.full(len(day), 50_000),
        mfe_mills=np.full(len(day), 50_000),
        qty=np.ones(len(day), np.int64),
        commission_mills=np.full(len(day), 4_960),
        episode=np.arange(len(day)) % 96,
        symbol=np.full(len(day), "ES"),
        volatility=generator.lognormal(0, 0.3, len(day)).astype(np.float32),
    )


def train(run: Run, seed: int) -> None:
    generator = np.random.default_rng(seed)
    phases = {"entry": (3, -0.3, 0.04), "manage": (3, -0.2, 0.06), "account": (20, 0.2, 0.42)}
    step = 0
    with ScalarWriter(run.path) as writer:
        for phase, (millions, first, last) in phases.items():
            updates = 40
            for update in range(updates):
                done = update / updates
                step += millions * 1_000_000 // updates
                scalars = {
                    "rollout/ep_rew_mean": last + (first - last) * np.exp(-4 * done)
                    + generator.normal(0, 0.01),
                    "rollout/ep_len_mean": 900 + 2000 * done + generator.normal(0, 60),
                    "train/explained_variance": 0.9 - 1.1 * np.exp(-6 * done),
                    "train/approx_kl": 0.004 + abs(generator.normal(0, 0.001)),
                    "train/entropy_loss": -1.6 + 1.1 * done,
                    "time/fps": 148_000 + generator.normal(0, 4000),
                }  # fmt: skip
                writer.write(step, phase, scalars)
    for phase in phases:
        write_distributions(
            run.path / "distributions.npz",
            phase,
            {
                "ep_length": generator.gamma(3, 900, 2000),
                "start_hour": generator.integers(0, 24, 2000),
                "volatility": generator.lognormal(0.0, 0.4, 2000),
                "n_legal": generator.choice([1, 3, 4, 7], 2000, p=[0.2, 0.3, 0.3, 0.2]),
            },
            {
                "ep_length": generator.gamma(3, 1300, 512),
                "start_hour": generator.integers(0, 24, 512),
                "volatility": generator.lognormal(0.25, 0.45, 512),
                "n_legal": generator.choice([1, 3, 4, 7], 512, p=[0.2, 0.3, 0.28, 0.22]),
            },
        )


def make_run(
    root: Path, *, drift: float = 30.0, best_drift: float | None = None, n: int = 384, seed: int = 7
) -> Run:
    """Makes a finished run; `drift` is the agent's edge in USD a day on the worst path."""
    run = create_run(
        root,
        "es-5m-apex",
        {
            "config": {
                "train": {"steps": 26_000_000, "seed": 1},
                "ppo": {"learning_rate": 3e-4, "clip": 0.2, "epochs": 4, "lanes": 2048},
                "network": {"widths": [128, 128], "activation": "tanh"},
                "evaluate": {"episodes": n, "purge_days": 5, "embargo_days": 5},
            },
            "seeds": {"train": 1, "evaluate": 2},
            "markets": [
                {"contract": "ES", "bar_s": 300, "first": "2015-01-02", "last": "2022-12-30"}
            ],
            "data": {"ES": {"bars": 552_000, "sha256": "5d1f" * 16, "source": "es_5m.parquet"}},
            "rulebook": {
                "id": "apex-intraday-50k",
                "firm": "Apex Trader Funding",
                "plan": "Intraday trailing 50K",
                "as_of": "2026-01-15",
                "source": "https://example.com/rules",
                "sha256": "ab12" * 16,
                "time_limit_days": 30,
                "start_balance_mills": START,
                "automation": {
                    "policy": "forbidden",
                    "note": "The firm's terms do not allow programs to place orders.",
                },
            },
            "hardware": {"backend": "cpu", "devices": ["cpu:0"]},
        },
    )
    train(run, seed)
    trade(run, seed)
    evaluate(run, drift, drift if best_drift is None else best_drift, n, seed)
    progress = {"steps": 26_000_000, "wall_s": 188.4, "steps_per_s": 138_000}
    run.update_status(RunStatus.FINISHED, progress=progress)
    return run
