"""What all runs of a root say together: which fit a question, whence they come, what was tried.

Reads the runs' own files and trains nothing; all it ever writes is the hashes of a run's files.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from passline.errors import PasslineError
from passline.evaluate.table import load_evaluations
from passline.evaluate.verdict import verdict
from passline.evaluate.walk_results import RESULTS, load_walk
from passline.kinds import NULL_RESULTS_FILE, RunKind, kind_of, origin_of
from passline.learn.checkpoint import list_checkpoints
from passline.openings import OPENINGS_FILE, read_openings
from passline.runs import DEFAULT_ROOT, Run, list_runs

__all__ = [
    "Check",
    "RunFilter",
    "ancestors_of",
    "configurations_tried",
    "contracts_of",
    "data_fingerprints",
    "record_files",
    "rulebook_of",
    "select_runs",
    "verify_run",
]

UNTOLD = ("run.toml", "run.lock", OPENINGS_FILE, "final.npz", NULL_RESULTS_FILE)
"""Files whose hash is not recorded: they change by right after a run has ended."""
TOLD_ENDINGS = (".npz", ".jsonl", ".toml", ".safetensors", ".csv")


def contracts_of(run: Run) -> list[str]:
    """Returns the contracts that a run names, whatever else it tells of its markets."""
    markets = run.manifest.get("markets", [])
    named = markets.values() if isinstance(markets, Mapping) else markets
    told = [item.get("contract", "") if isinstance(item, Mapping) else item for item in named]
    return [str(name) for name in told if name]


def data_fingerprints(run: Run) -> frozenset[str]:
    """Returns the SHA-256 of every bar file or market that the run was made on.

    A market of which the run holds a final window back has two: of all its bars, and of those that
    the run may see.
    """
    found: set[str] = set()
    for entry in run.manifest.get("data", {}).values():
        told = entry if isinstance(entry, Mapping) else {"sha256": entry}
        found |= {str(told[key]) for key in ("sha256", "visible_sha256") if key in told}
    return frozenset(found)


def configurations_tried(root: Path, data_sha256: str) -> int:
    """Counts the distinct configurations that runs of a root were made with on the same data.

    Every run counts that was started, whatever became of it: a configuration given up half way was
    tried too. Runs whose run.toml cannot be read are not known to be on these data.

    Args:
        root: directory of all runs.
        data_sha256: `Bars.fingerprint()` of the market, of all its bars or of those that runs may
            see before the final test is opened.
    """
    return len(
        {
            run.manifest["config_fingerprint"]
            for run in list_runs(root)
            if "config_fingerprint" in run.manifest and data_sha256 in data_fingerprints(run)
        }
    )


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs are asked for; what is None asks nothing.

    Attributes:
        contract: symbol that the run trades.
        rulebook: its book's id, or the beginning of it.
        status: such as "finished".
        data: beginning of a data fingerprint.
        since: first day on which it may have begun, UTC.
    """

    contract: str | None = None
    rulebook: str | None = None
    status: str | None = None
    data: str | None = None
    since: date | None = None

    def fits(self, run: Run) -> bool:
        """Says whether a run is asked for."""
        if self.contract is not None and self.contract.upper() not in contracts_of(run):
            return False
        if self.rulebook is not None and not rulebook_of(run).startswith(self.rulebook):
            return False
        if self.status is not None and run.status.value != self.status:
            return False
        if self.data is not None and not any(
            known.startswith(self.data.lower()) for known in data_fingerprints(run)
        ):
            return False
        return self.since is None or created_on(run) >= self.since


def select_runs(root: Path = DEFAULT_ROOT, wanted: RunFilter | None = None) -> list[Run]:
    """Returns the runs of a root that fit, oldest first."""
    runs: Iterable[Run] = list_runs(root)
    return [run for run in runs if wanted is None or wanted.fits(run)]


def rulebook_of(run: Run) -> str:
    """Returns the id of the run's rulebook; "" if it names none."""
    book: Any = run.manifest.get("rulebook", "")
    return str(book.get("id", "")) if isinstance(book, Mapping) else str(book)


def created_on(run: Run) -> date:
    """Returns the UTC date in the run's name."""
    return date.fromisoformat(run.id.split("T", 1)[0])


def ancestors_of(run: Run, root: Path) -> list[tuple[str, Run | None]]:
    """Returns the runs whose weights a run began with, the nearest first; None for a lost one."""
    known = {other.id: other for other in list_runs(root)}
    found: list[tuple[str, Run | None]] = []
    here: Run | None = run
    while here is not None:
        base = here.manifest.get("lineage", {}).get("base_run")
        if base is None or base in (name for name, _ in found):
            break
        here = known.get(str(base))
        found.append((str(base), here))
    return found


def record_files(run: Run) -> None:
    """Writes the hashes of what a run computed into its run.toml, for `verify_run`."""
    run.record_files({name: _sha256(run.path / name) for name in _files_of(run)})


def _files_of(run: Run) -> list[str]:
    """Returns the run's own files that its report and verdict rest on."""
    found = [
        path for folder in ("", "checkpoints", RESULTS) for path in (run.path / folder).glob("*")
    ]
    return sorted(
        str(path.relative_to(run.path))
        for path in found
        if path.suffix in TOLD_ENDINGS and path.name not in UNTOLD and not path.name.startswith(".")
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at in a run.

    Attributes:
        name: what.
        is_sound: whether it is as it was recorded; None if nothing was recorded.
        text: what was found, in words.
    """

    name: str
    is_sound: bool | None
    text: str


def verify_run(run: Run, root: Path) -> list[Check]:
    """Compares a run with what it recorded of itself: settings, files, weights, verdict, lineage.

    It finds what was altered or lost by mistake; someone who rewrites run.toml as well is not
    found out by it, but by `passline reproduce`.
    """
    return [
        _check_settings(run),
        _check_files(run),
        _check_checkpoints(run),
        _check_verdict(run),
        _check_openings(run),
        _check_lineage(run, root),
    ]


def _check_settings(run: Run) -> Check:
    try:
        run.check_fingerprint()
    except PasslineError as error:
        return Check(name="configuration", is_sound=False, text=str(error))
    digest = str(run.manifest["config_fingerprint"])
    return Check(name="configuration", is_sound=True, text=f"has its hash, {digest[:12]}")


def _check_files(run: Run) -> Check:
    told: Mapping[str, str] = run.manifest.get("files", {})
    if not told:
        text = "no hashes were recorded; the run has not ended, or an older version made it"
        return Check(name="files", is_sound=None, text=text)
    lost = [name for name in told if not (run.path / name).is_file()]
    altered = [name for name in told if name not in lost and _sha256(run.path / name) != told[name]]
    new = sorted(set(_files_of(run)) - set(told))
    problems = [
        f"{word}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for word, names in (("missing", lost), ("altered", altered), ("not recorded", new))
        if names
    ]
    text = "; ".join(problems) or f"{len(told)} have their hashes"
    return Check(name="files", is_sound=not problems, text=text)


def _check_checkpoints(run: Run) -> Check:
    try:
        known = list_checkpoints(run.path / "checkpoints")
        bad = [i.tensors.name for i in known if _sha256(i.tensors) != i.sha256]
    except (PasslineError, OSError) as error:
        return Check(name="checkpoints", is_sound=False, text=str(error))
    if not known:
        return Check(name="checkpoints", is_sound=None, text="there is none")
    text = f"not the tensors vouched for: {', '.join(bad)}" if bad else f"{len(known)} are whole"
    return Check(name="checkpoints", is_sound=not bad, text=text)


def _check_verdict(run: Run) -> Check:
    told = run.manifest.get("progress", {}).get("test")
    days = run.manifest.get("rulebook", {}).get("time_limit_days")
    if told is None or days is None:
        return Check(name="verdict", is_sound=None, text="none was recorded")
    try:
        if kind_of(run) is RunKind.WALK_FORWARD:
            found = load_walk(run).verdict
        else:
            table = load_evaluations(run.path / "evaluations.npz")
            found = verdict(table, span_days=int(days), origin=origin_of(run.manifest))
    except PasslineError as error:
        return Check(name="verdict", is_sound=False, text=str(error))
    rate = found.agent.pass_rate.value
    is_same = found.word.value == told["verdict"] and rate == told["value"]
    text = f"{found.word.value}, pass rate {rate:.1%}, from the stored episodes"
    if not is_same:
        text += f"; recorded was {told['verdict']}, {told['value']:.1%}"
    return Check(name="verdict", is_sound=is_same, text=text)


def _check_openings(run: Run) -> Check:
    try:
        n = len(read_openings(run))
    except PasslineError as error:
        return Check(name="openings", is_sound=False, text=str(error))
    if "final" not in run.manifest.get("slices", {}):
        return Check(name="openings", is_sound=None, text="no final window is held back")
    text = f"the final window was opened {n} times by this run" if n else "still sealed by this run"
    return Check(name="openings", is_sound=True, text=text)


def _check_lineage(run: Run, root: Path) -> Check:
    lineage = run.manifest.get("lineage", {})
    if kind_of(run) is RunKind.MODEL:
        digest = str(lineage.get("model_sha256", ""))[:12]
        text = f"a model of stable-baselines3 ({digest}), trained elsewhere"
        return Check(name="lineage", is_sound=None, text=text)
    if "base_run" not in lineage:
        return Check(name="lineage", is_sound=None, text="began with fresh weights")
    name, base = ancestors_of(run, root)[0]
    if base is None:
        return Check(name="lineage", is_sound=False, text=f"its base run {name} is not in {root}")
    digest = lineage["base_sha256"]
    if all(info.sha256 != digest for info in list_checkpoints(base.path / "checkpoints")):
        text = f"{name} holds no checkpoint {digest[:12]} any more"
        return Check(name="lineage", is_sound=False, text=text)
    return Check(
        name="lineage", is_sound=True, text=f"began with checkpoint {digest[:12]} of {name}"
    )
