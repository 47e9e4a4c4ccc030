"""The sealed final test: the one place that looks at the last part of a run's bars.

Everything else is given bars that end before it (see `pipeline.load_markets`). An opening is
written down before it shows anything, and its episodes lie in a file of their own, so that they
never become the run's ordinary verdict.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from passline.config import from_plain
from passline.errors import RunError
from passline.evaluate.slices import evaluation_starts, final_slices
from passline.evaluate.table import append_evaluation
from passline.evaluate.verdict import Verdict, verdict
from passline.evaluate.windows import trading_span
from passline.kinds import origin_of, require_agent, require_training
from passline.learn.checkpoint import list_checkpoints
from passline.learn.curriculum import load_policy
from passline.openings import Opening, SealedWindow, record_opening, record_result
from passline.pipeline import Markets, check_run, open_markets, play_paths, publish, summary_of
from passline.report.data import FINAL_FILE
from passline.rulebook import load_rulebook
from passline.runs import Run, RunStatus
from passline.task.phases import load_phases
from passline.task.prepare import phase_params, prepare

__all__ = ["FINAL_SEED", "FinalTest", "unseal"]

FINAL_SEED = 30_000
"""Seed of the final slices' random offsets: the same for every run on the same bars."""


@dataclass(frozen=True, kw_only=True)
class FinalTest:
    """What an opening came to.

    Attributes:
        run: whose agent was judged.
        opening: its record, with the openings before it.
        verdict: the verdict on the final slices, the count of openings among its reasons.
        report: the page, renewed.
    """

    run: Run
    opening: Opening
    verdict: Verdict
    report: Path


def unseal(run: Run) -> FinalTest:
    """Opens the run's final window, judges its agent on it and writes both down.

    Raises:
        RunError: the run is not finished, has no final window, or was altered.
        CheckpointError: it has no agent.
    """
    require_agent(run, "to judge on its final window")
    require_training(run, "that is known not to have seen its final window")
    if run.status is not RunStatus.FINISHED:
        raise RunError(
            f"{run.id}: its status is {run.status.value}; the final test is for a finished agent. "
            f"Finish it first with: passline train --resume {run.id}"
        )
    config = from_plain(run.manifest["config"], f"{run.id}/run.toml")
    markets = open_markets(config)
    check_run(run, config, markets.whole)
    if markets.final_start is None:
        raise RunError(
            f"{run.id}: it holds no final window back. The built-in market has none unless "
            "--final-days asks for it, nor have bars of less than two years; another market seed, "
            "or later bars, are unseen just as well."
        )
    phases = load_phases(Path(config.phases) if config.phases else None)
    prepared = prepare(markets.whole, load_rulebook(config.rulebook), config.task)
    parts = final_slices(prepared, config.slices, markets.final_start)
    starts = evaluation_starts(
        prepared,
        parts,
        n=config.slices.n_episodes,
        span_days=prepared.span_days,
        seed=FINAL_SEED,
    )
    last = max(
        list_checkpoints(run.path / "checkpoints"),
        key=lambda info: int(info.meta["step"]),
        default=None,
    )
    if last is None:
        raise RunError(f"{run.id}: it has no checkpoint. Train it first.")
    policy = load_policy(last, config.ppo)
    # Episodes begin at `starts`; the ranges that training would draw from are not asked.
    params = phase_params(prepared, phases[-1], [(part.first_bar, part.stop_bar) for part in parts])
    with run.lock():
        opening = record_opening(
            run,
            _window(markets),
            checkpoint=last.path.stem,
            checkpoint_sha256=last.sha256,
            step=int(last.meta["step"]),
            slices=[part.name for part in parts],
        )
        played = play_paths(
            prepared,
            params,
            config,
            starts,
            policy,
            phase=phases[-1].name,
            step=int(last.meta["step"]),
            seed=FINAL_SEED,
        )
        whole = append_evaluation(run.path / FINAL_FILE, played.tables)
        found = verdict(whole, span_days=prepared.span_days, origin=origin_of(run.manifest))
        opening = record_result(run, opening, summary_of(found) | {"sentence": found.sentence})
    told = dataclasses.replace(found, reasons=(opening.sentence(), *found.reasons))
    return FinalTest(run=run, opening=opening, verdict=told, report=publish(run))


def _window(markets: Markets) -> SealedWindow:
    assert markets.final_start is not None
    return SealedWindow(
        contracts=tuple(bars.contract.symbol for bars in markets.whole),
        data=tuple(bars.fingerprint() for bars in markets.whole),
        first=markets.final_start,
        last=trading_span(markets.whole)[1],
    )
