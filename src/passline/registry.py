"""What all runs of a root say together: which fit a question, and how often data were tried.

Reads the runs' own files; starts and changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from passline.runs import DEFAULT_ROOT, Run, list_runs

__all__ = [
    "RunFilter",
    "configurations_tried",
    "contracts_of",
    "data_fingerprints",
    "select_runs",
]


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
