"""What made a run, as labels and texts: settings, versions, data, lineage; no result."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["facts", "flatten", "resumed_words", "status_words"]

_RESUMED = {"step": "at step {}", "trainings": "after {} trainings", "markets": "after {} markets"}
"""By the unit in which a kind of run counts how far it had come."""


def facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what made the run, as label and text."""
    hardware, git = manifest.get("hardware", {}), manifest.get("git", {})
    book, progress = manifest.get("rulebook", {}), manifest.get("progress", {})
    revision = str(git.get("revision", ""))
    if revision and git.get("is_dirty"):
        revision += " with uncommitted changes"
    facts = [
        ("Run", str(manifest.get("id", ""))),
        ("Created", str(manifest.get("created", ""))),
        ("passline", str(manifest.get("passline", ""))),
        ("Commit", revision),
        ("Configuration hash", str(manifest.get("config_fingerprint", ""))),
        ("Rulebook", _join([book.get("id"), book.get("as_of")])),
        ("Rulebook hash", str(book.get("sha256", ""))),
        ("Seeds", _join(f"{key} {value}" for key, value in manifest.get("seeds", {}).items())),
        ("Hardware", _join([hardware.get("cpu"), _cores(hardware), hardware.get("backend")])),
        ("Packages", _join(f"{k} {v}" for k, v in manifest.get("packages", {}).items())),
        ("Trained", _join(_trained(progress))),
        *[(f"Gate of {gate['phase']}", _gate_words(gate)) for gate in progress.get("gates", [])],
        (
            "Lineage",
            _join(f"{_words(k)} {_span_of(v)}" for k, v in manifest.get("lineage", {}).items()),
        ),
        ("Resumed", resumed_words(manifest)),
    ]
    for name, source in manifest.get("data", {}).items():
        told = source.items() if isinstance(source, Mapping) else [("sha256", source)]
        facts.append((f"Data {name}", _join(f"{_words(k)} {_number(v)}" for k, v in told)))
    for index, market in enumerate(manifest.get("markets", []), start=1):
        told = market.items() if isinstance(market, Mapping) else [("contract", market)]
        facts.append((f"Market {index}", _join(f"{_words(k)} {_number(v)}" for k, v in told)))
    return [(label, text) for label, text in facts if text]


def status_words(status: str, manifest: Mapping[str, Any]) -> str:
    """Returns the run's status, and that it went past a gate if it did."""
    forced = manifest.get("progress", {}).get("forced", False)
    return f"{status}, forced past a gate that was not passed" if forced else status


def resumed_words(manifest: Mapping[str, Any]) -> str:
    """Returns where a run was gone on with, such as "at step 4,096, 8,192"; "" if nowhere."""
    resumes = manifest.get("resumes", [])
    for unit, words in _RESUMED.items():
        told = [f"{entry[unit]:,}" for entry in resumes if unit in entry]
        if told:
            return words.format(", ".join(told))
    return ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as dotted names and texts."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _listed(value)))
    return rows


def _trained(progress: Mapping[str, Any]) -> Iterable[str]:
    if "step" in progress:
        yield f"{progress['step']:,} steps"
    if "phase" in progress:
        yield f"to phase {progress['phase']}"
    if progress.get("forced"):
        yield "forced past a gate that was not passed"


def _gate_words(gate: Mapping[str, Any]) -> str:
    word = "passed" if gate["is_passed"] else "not passed"
    return (
        f"{_words(gate['measure'])} {gate['value']:+.3f} (95 % {gate['low']:+.3f} to "
        f"{gate['high']:+.3f}, n {gate['n']}), above {gate['above']:g} needed: {word}"
    )


def _cores(hardware: Mapping[str, Any]) -> str:
    cores, memory = hardware.get("cores"), hardware.get("memory_gib")
    return _join([f"{cores} cores" if cores else None, f"{memory} GiB" if memory else None])


def _join(parts: Iterable[object]) -> str:
    return " · ".join(str(part) for part in parts if part)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _span_of(value: object) -> str:
    """Returns a value, of a long list its ends."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 4:
        return f"{value[0]} to {value[-1]}, {len(value)} in all"
    return _listed(value)


def _listed(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    return str(value)
