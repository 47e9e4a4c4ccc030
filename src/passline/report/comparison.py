"""What a comparison holds, whatever is compared, and how two agents are set against each other.

`compare` fills it from trainings, `compare_walks` from walk-forwards; `compare_page` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.stats import (
    Estimate,
    clusters_by_span,
    date_bootstrap,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from passline.evaluate.table import EvaluationTable
from passline.evaluate.verdict import Verdict
from passline.kinds import RunKind
from passline.report.tensorboard import Scalars

__all__ = [
    "LETTERS",
    "MILLS_PER_USD",
    "Comparison",
    "Contender",
    "Difference",
    "SharedWindow",
    "difference_of",
    "notes_on",
    "scores_on",
    "setting_differences",
]

MILLS_PER_USD = 1000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BOOTSTRAP_SEED = 0
COSTS = ("task.slippage_ticks", "task.commission_mills")
"""Settings under which the same orders cost more."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One run, or walk-forward, in a comparison.

    Attributes:
        letter: what it is called in tables and figures.
        run_id: its id.
        manifest: its run.toml.
        scalars: its training curves; None for a walk-forward.
        verdict: on its own test slices.
        agent: the agent's last evaluation on the worst path.
        pass_rate: on the slices that all share; None if they share none.
        result_usd: mean net result on them, USD an episode.
        is_forced: it, or a run it descends from, went past a gate that was not passed.
        coverage: what its verdict rests on, in words; "" for a run.
    """

    letter: str
    run_id: str
    manifest: Mapping[str, Any]
    scalars: Scalars | None
    verdict: Verdict
    agent: EvaluationTable
    pass_rate: Estimate | None
    result_usd: Estimate | None
    is_forced: bool
    coverage: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One minus another on the episodes that both played.

    Attributes:
        first: letter of the one.
        second: letter of the other.
        advantage: difference of pass rates, with a cluster-robust interval.
        advantage_redrawn: the same with its interval from drawing dates anew.
        result: difference of mean net results, USD an episode.
        result_redrawn: the same with its interval from drawing dates anew.
        advantage_by_window: the same with its interval from the spread between test windows, each
            trained for anew; None for runs.
        result_by_window: `result` likewise.
        windows: difference of pass rates in each window that all share, None where no start of it
            is; empty for runs.
    """

    first: str
    second: str
    advantage: Estimate
    advantage_redrawn: Estimate
    result: Estimate
    result_redrawn: Estimate
    advantage_by_window: Estimate | None = None
    result_by_window: Estimate | None = None
    windows: tuple[Estimate | None, ...] = ()

    @property
    def word(self) -> str:
        """What can be said; a difference counts only if all of its intervals exclude zero."""
        told = (self.advantage, self.advantage_redrawn, self.advantage_by_window)
        known = [estimate for estimate in told if estimate is not None]
        if all(estimate.low > 0 for estimate in known):
            return f"{self.first} passes more often"
        if all(estimate.high < 0 for estimate in known):
            return f"{self.second} passes more often"
        return "cannot be told apart"


@dataclass(frozen=True, kw_only=True)
class SharedWindow:
    """A test window that all walk-forwards were judged on.

    Attributes:
        first: its first day, ISO.
        last: its last day.
        rates: pass rate of each walk-forward, all its seeds together, in the order asked for.
        seeds: of each, the pass rate by seed.
    """

    first: str
    last: str
    rates: tuple[Estimate, ...]
    seeds: tuple[Mapping[int, float], ...]

    @property
    def name(self) -> str:
        """Its days in words."""
        return f"{self.first} to {self.last}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs, or several walk-forwards, side by side.

    Attributes:
        kind: what is compared.
        contenders: in the order asked for.
        slices: names of the slices, or test windows, on the same bars that all were judged on.
        windows: of walk-forwards, these windows; empty for runs.
        differences: every pair that played episodes in common.
        unpaired: letters of the pairs that have none.
        settings: settings that differ: dotted name to one text a run, "" where it has none.
        notes: what a reader must know before comparing.
    """

    kind: RunKind
    contenders: tuple[Contender, ...]
    slices: tuple[str, ...]
    differences: tuple[Difference, ...]
    unpaired: tuple[tuple[str, str], ...]
    settings: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    windows: tuple[SharedWindow, ...] = ()

    @property
    def noun(self) -> str:
        """What is compared, in the plural."""
        return "runs" if self.kind is RunKind.TRAINING else "walk-forwards"


def scores_on(rows: EvaluationTable, span_days: int) -> tuple[Estimate, Estimate]:
    """Returns pass rate and mean net result, USD, of an agent's episodes, at least one."""
    clusters = clusters_by_span(rows.start_day, span_days)
    return (
        proportion_interval(rows.is_pass, clusters, is_serial=True),
        mean_interval(rows.result_mills / MILLS_PER_USD, clusters, is_serial=True),
    )


def difference_of(
    first: str,
    second: str,
    one: EvaluationTable,
    other: EvaluationTable,
    span_days: int,
    window: NDArray[np.int64] | None = None,
) -> Difference:
    """Sets two tables of the same episodes, row by row, against each other.

    The spread between dates does not know that another training would have come out otherwise; the
    spread between test windows, each of which was trained for anew, holds both.

    Args:
        first: letter of the one.
        second: letter of the other.
        one: episodes of the one [n].
        other: those of the other, begun where these began [n].
        span_days: longest an episode may last, calendar days.
        window: of walk-forwards, number of each episode's test window [n].
    """
    clusters = clusters_by_span(one.start_day, span_days)
    usd = [table.result_mills / MILLS_PER_USD for table in (one, other)]

    def redrawn(values: NDArray[np.float64]) -> Estimate:
        return date_bootstrap(values, one.start_day, span_days=span_days, seed=BOOTSTRAP_SEED)

    found = Difference(
        first=first,
        second=second,
        advantage=paired_difference(one.is_pass, other.is_pass, clusters, is_serial=True),
        advantage_redrawn=redrawn(one.is_pass.astype(float) - other.is_pass.astype(float)),
        result=paired_difference(usd[0], usd[1], clusters, is_serial=True),
        result_redrawn=redrawn(usd[0] - usd[1]),
    )
    if window is None:
        return found
    passes = [table.is_pass.astype(float) for table in (one, other)]
    return replace(
        found,
        advantage_by_window=mean_interval(passes[0] - passes[1], window),
        result_by_window=mean_interval(usd[0] - usd[1], window),
    )


def setting_differences(manifests: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the settings in which runs differ, with each run's value."""
    flat = [_flatten(manifest.get("config", {})) for manifest in manifests]
    for told, manifest in zip(flat, manifests, strict=True):
        told["passline"] = str(manifest.get("passline", ""))
        told["git revision"] = str(manifest.get("git", {}).get("revision", ""))[:12]
        base = manifest.get("lineage", {}).get("base_run")
        told["weights from"] = str(base or "")
    names = sorted({name for told in flat for name in told})
    rows = {name: tuple(told.get(name, "") for told in flat) for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = ", ".join(str(item) for item in value)
        else:
            found[prefix + key] = str(value)
    return found


def notes_on(
    contenders: Sequence[Contender], settings: Mapping[str, tuple[str, ...]], n_pairs: int
) -> list[str]:
    """Returns what a reader must know of any comparison."""
    notes = []
    costs = [name for name in COSTS if name in settings]
    if costs:
        notes.append(
            f"Costs differ ({', '.join(costs)}): a difference is one of agent and costs together."
        )
    forced = [c.letter for c in contenders if c.is_forced]
    if forced:
        notes.append(f"Forced past a gate that was not passed: {', '.join(forced)}.")
    if n_pairs > 1:
        notes.append(
            f"{n_pairs} pairs are compared; of 20 pairs without any difference about one looks "
            "different by luck."
        )
    return notes
