"""Run directories: one a training or evaluation, self-explaining, never overwriting another.

A run is a directory `<UTC stamp>-<name>-<6 hex>` with `run.toml` in it: configuration, seeds,
markets, data fingerprints, rulebook hash, package versions, hardware, git revision, lineage and
status. What the run computed lies beside it in files that other rooms write and read.
"""

import contextlib
import dataclasses
import difflib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from passline import __version__
from passline.errors import RunError

__all__ = [
    "DEFAULT_ROOT",
    "MANIFEST_KEYS",
    "Run",
    "RunStatus",
    "cannot_write",
    "config_fingerprint",
    "create_run",
    "list_runs",
    "mend_last_line",
    "naming_refusals",
    "note_status",
    "open_run",
    "replace_file",
    "sweep_temporaries",
    "whole_lines",
]

DEFAULT_ROOT = Path("runs")
"""Where runs are kept unless another root is named, relative to the working directory."""

MANIFEST_KEYS = (
    "config",
    "seeds",
    "markets",
    "data",
    "curriculum",
    "slices",
    "rulebook",
    "hardware",
    "lineage",
)
"""What a caller may tell of a run; the rest of run.toml is found out here."""

_FORMAT = 1
_MANIFEST = "run.toml"
_LOCK = "run.lock"
_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "polars", "safetensors", "scipy", "matplotlib")
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}")
_REFUSALS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}
"""What the system answers where a disk is full or a directory may not be written."""
_ID = re.compile(r"\d{8}T\d{6}Z-[a-z0-9][a-z0-9.-]*-[0-9a-f]{6}")


class RunStatus(StrEnum):
    """How far a run has come."""

    RUNNING = "running"
    """At work, or ended without a word (see Run.status)."""
    FINISHED = "finished"
    """Did all it was asked."""
    INTERRUPTED = "interrupted"
    """Stopped by the user; can be resumed."""
    FAILED = "failed"
    """Stopped by an error, which `message` tells."""
    KILLED = "killed"
    """Written as running, but no process holds its lock; can be resumed."""
    UNREADABLE = "unreadable"
    """Its run.toml cannot be read; `message` tells why."""


class Run:
    """One run directory.

    Attributes:
        path: the directory.
        manifest: run.toml as last read or written.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._lock_handle: int | None = None

    @property
    def id(self) -> str:
        """Name of the directory, unique in its root."""
        return self.path.name

    @property
    def name(self) -> str:
        """What the user called the run."""
        return str(self.manifest.get("name", ""))

    @property
    def created(self) -> str:
        """When the run began, ISO 8601 in UTC."""
        return str(self.manifest.get("created", ""))

    @property
    def status(self) -> RunStatus:
        """Status now: KILLED if run.toml says running and no process holds the lock."""
        written = RunStatus(self.manifest["status"])
        if written is RunStatus.RUNNING and self._lock_handle is None and self._lock_is_free():
            return RunStatus.KILLED
        return written

    @contextlib.contextmanager
    def lock(self) -> Iterator["Run"]:
        """Holds the run for writing; the lock of a dead process falls to the next that asks.

        Raises:
            RunError: another process (or another Run object of this one) holds it, or the
                directory cannot be written.
        """
        if self._lock_handle is not None:
            yield self
            return
        try:
            handle = _acquire(self.path / _LOCK)
        except OSError as error:
            raise cannot_write(self.path / _LOCK, error) from error
        if handle is None:
            holder = _read_holder(self.path / _LOCK)
            raise RunError(
                f"{self.path}: the run is being written by {holder}. One process at a time may"
                " write a run; wait for it to end, or start another run"
            )
        self._lock_handle = handle
        try:
            yield self
        finally:
            self._lock_handle = None
            _release(handle)

    def update_status(
        self,
        status: RunStatus,
        *,
        message: str = "",
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes status, message and progress into run.toml in one step that cannot be half done.

        Args:
            status: one of RUNNING, FINISHED, INTERRUPTED, FAILED.
            message: a sentence for the reader, such as the error that stopped the run.
            progress: figures to keep, such as steps and wall seconds; replaces the last ones' keys.

        Raises:
            RunError: the status is not one that can be written, or another process holds the run.
        """
        if status in (RunStatus.KILLED, RunStatus.UNREADABLE):
            raise RunError(f"{self.path}: status {status.value!r} is found out, not written")
        with self.lock():
            manifest = _read_manifest(self.path)
            manifest["status"] = status.value
            manifest["message"] = message
            manifest["updated"] = _now()
            if progress is not None:
                manifest["progress"] = manifest.get("progress", {}) | _plain(progress, "progress")
            self._write(manifest)

    def record_progress(self, progress: Mapping[str, Any]) -> None:
        """Writes figures into [progress]; replaces the last ones' keys, leaves the status."""
        with self.lock():
            manifest = _read_manifest(self.path)
            manifest["progress"] = manifest.get("progress", {}) | _plain(progress, "progress")
            manifest["updated"] = _now()
            self._write(manifest)

    def record_files(self, files: Mapping[str, str]) -> None:
        """Writes the SHA-256 of the run's files into [files], in place of those there."""
        with self.lock():
            manifest = _read_manifest(self.path)
            manifest["files"] = dict(files)
            self._write(manifest)

    def record_resume(self, done: int, unit: str = "step") -> None:
        """Adds a line of lineage: the run goes on with the versions of this process.

        Args:
            done: how far it had come.
            unit: in what that is counted: step, trainings or markets.
        """
        with self.lock():
            manifest = _read_manifest(self.path)
            entry: dict[str, Any] = {
                "time": _now(),
                unit: done,
                "passline": __version__,
                "packages": _package_versions(),
                "host": socket.gethostname(),
            }
            manifest.setdefault("resumes", []).append(entry)
            manifest["status"] = RunStatus.RUNNING.value
            manifest["updated"] = _now()
            self._write(manifest)

    def check_fingerprint(self) -> None:
        """Checks that the configuration in run.toml is the one the run was made with.

        Raises:
            RunError: its hash differs from the one written when the run was created.
        """
        found = config_fingerprint(self.manifest["config"])
        wanted = self.manifest["config_fingerprint"]
        if found != wanted:
            raise RunError(
                f"{self.path / _MANIFEST}: [config] has the hash {found[:12]}, and the run was made"
                f" with {wanted[:12]}: it was edited since. Undo the edit, or start another run"
            )

    def _write(self, manifest: dict[str, Any]) -> None:
        replace_file(self.path / _MANIFEST, tomli_w.dumps(manifest).encode())
        self.manifest = manifest

    def _lock_is_free(self) -> bool:
        path = self.path / _LOCK
        if not path.exists():
            return True
        try:
            handle = _acquire(path)
        except OSError:  # a directory that cannot be written is written by nobody
            return True
        if handle is None:
            return False
        _release(handle)
        return True


def create_run(root: Path, name: str | None, manifest: Mapping[str, Any]) -> Run:
    """Makes a new run directory and writes its run.toml; never touches one that exists.

    Args:
        root: directory of all runs; made if missing.
        name: what the user calls the run; letters, digits, dots and hyphens are kept.
        manifest: tables under MANIFEST_KEYS. `config` is demanded: the full configuration.
            `hardware` may add what only the caller knows (JAX backend and devices); `lineage` may
            hold `base_run`, `base_checkpoint`, `base_sha256`. Dataclasses, enums, paths and NumPy
            scalars are written as plain values; keys whose value is None are left out.

    Raises:
        RunError: an unknown key, no `config`, a value that TOML cannot hold, or a disk that cannot
            be written; then no directory is left.
    """
    unknown = sorted(set(manifest) - set(MANIFEST_KEYS))
    if unknown or "config" not in manifest:
        problem = f"unknown key {unknown[0]!r}" if unknown else "no 'config'"
        raise RunError(f"create_run: {problem} in the manifest. Keys: {', '.join(MANIFEST_KEYS)}")
    path = _make_directory(root, _slug(name))
    told = {key: _plain(value, key) for key, value in manifest.items()}
    full = {
        "format": _FORMAT,
        "id": path.name,
        "name": name or "",
        "created": _now(),
        "updated": _now(),
        "status": RunStatus.RUNNING.value,
        "message": "",
        "passline": __version__,
        "config_fingerprint": config_fingerprint(manifest["config"]),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [],
        "git": _git_revision(),
        "packages": _package_versions(),
        **told,
        "hardware": _hardware() | told.get("hardware", {}),
    }
    run = Run(path, full)
    try:
        run._write(full)
    except RunError:
        with contextlib.suppress(OSError):
            path.rmdir()
        raise
    return run


def open_run(path_or_id: str | Path, root: Path = DEFAULT_ROOT) -> Run:
    """Opens a run by its directory, its id, or a part of the id that fits only one run.

    Raises:
        RunError: no run fits, several do, or its run.toml cannot be read.
    """
    direct = Path(path_or_id)
    if (direct / _MANIFEST).is_file():
        return Run(direct, _read_manifest(direct))
    wanted = str(path_or_id)
    if (root / wanted / _MANIFEST).is_file():
        return Run(root / wanted, _read_manifest(root / wanted))
    names = [path.name for path in _run_directories(root)]
    fits = [name for name in names if wanted and wanted in name]
    if len(fits) == 1:
        return Run(root / fits[0], _read_manifest(root / fits[0]))
    if fits:
        shown = ", ".join(fits[:5]) + (f" and {len(fits) - 5} more" if len(fits) > 5 else "")
        raise RunError(f"{root}: {wanted!r} fits {len(fits)} runs: {shown}. Give more of the id")
    near = difflib.get_close_matches(wanted, names, n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise RunError(f"{root}: no run {wanted!r} among {len(names)}.{hint} All: passline runs")


def list_runs(root: Path = DEFAULT_ROOT) -> list[Run]:
    """Returns all runs under a root, oldest first; damaged ones with status UNREADABLE."""
    runs = []
    for path in _run_directories(root):
        try:
            runs.append(Run(path, _read_manifest(path)))
        except RunError as error:
            damaged = {"status": RunStatus.UNREADABLE.value, "message": str(error)}
            runs.append(Run(path, damaged))
    return runs


def config_fingerprint(config: object) -> str:
    """Returns the SHA-256 in hex of a configuration, whatever the order of its keys."""
    text = json.dumps(_plain(config, "config"), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def cannot_write(path: Path, error: OSError) -> RunError:
    """Returns the error to raise where a full disk or a read-only directory kept `path` back."""
    return RunError(
        f"{path}: could not be written: {error.strerror or error}. What was saved before is"
        " untouched. Free space or make the directory writable, and run the command again; a"
        " training or walk-forward goes on with --resume RUN, a null test with its RUN"
    )


@contextlib.contextmanager
def naming_refusals(folder: Path) -> Iterator[None]:
    """Names file and remedy where the system refuses to write below a folder.

    Raises:
        RunError: in place of the system's error; any other error passes as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise cannot_write(Path(error.filename or folder), error) from error


def note_status(run: Run, status: RunStatus, message: str) -> None:
    """Writes how a run stopped; where even that is refused, its first error is what matters."""
    with contextlib.suppress(RunError):
        run.update_status(status, message=message)


def replace_file(path: Path, content: bytes) -> None:
    """Puts content in place of a file so that a reader or a crash meets the old or the new one.

    Raises:
        RunError: the disk is full or the directory cannot be written; the old file stays.
    """
    try:
        _replace_file(path, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def _replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def mend_last_line(path: Path) -> None:
    """Makes a file of lines of JSON end with a whole one, as `whole_lines` says."""
    content = path.read_bytes() if path.exists() else b""
    whole = whole_lines(content)
    if whole != content:
        replace_file(path, whole)


def whole_lines(content: bytes) -> bytes:
    """Returns lines of JSON without the last one if it is torn, and with its end if it lacks that.

    A file that only grows ends in a torn line where its process was killed or the disk was full.
    """
    whole, newline, last = content.rpartition(b"\n")
    if not last:
        return content
    try:
        json.loads(last)
    except ValueError:
        return whole + newline
    return content + b"\n"


def sweep_temporaries(folder: Path) -> None:
    """Deletes what `replace_file` left half written below a folder when its process was killed.

    Only who holds the run's lock may call it: such files of a living process are in use.
    """
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _slug(name: str | None) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", (name or "run").lower()).strip("-.")
    return slug[:48].strip("-.") or "run"


def _make_directory(root: Path, slug: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            path = root / f"{stamp}-{slug}-{secrets.token_hex(3)}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise cannot_write(root, error) from error


def _run_directories(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _ID.fullmatch(path.name) and path.is_dir())


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    try:
        manifest = tomllib.loads(file.read_text())
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror}). Is {path} a run?") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file}: is not TOML ({error}). Restore it from a copy") from error
    if manifest.get("format") != _FORMAT or manifest.get("status") not in list(RunStatus):
        raise RunError(
            f"{file}: format {manifest.get('format')!r} with status {manifest.get('status')!r} was"
            f" found; this passline ({__version__}) reads format {_FORMAT}"
        )
    return manifest


def _plain(value: object, where: str) -> Any:
    """Turns a value into what TOML holds; `where` is its path for the message."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        items = ((str(key), item) for key, item in value.items() if item is not None)
        return {key: _plain(item, f"{where}.{key}") for key, item in items}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (str, bool, int, float, date)):
        return value
    raise RunError(f"run.toml: {where} is a {type(value).__name__}; TOML cannot hold it")


def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _hardware() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": _usable_cores(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory_gib"] = round(size / 2**30, 1)
    return facts


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def _git_revision() -> dict[str, Any]:
    """Revision of the repository that this program's source lies in; empty outside of one."""
    here = Path(__file__).resolve().parent
    revision = _git(here, "rev-parse", "HEAD")
    # A program installed inside someone's repository (as in .venv) is not that repository's code.
    if revision is None or _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {}
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "is_dirty": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read_holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip() or "another process"
    return "another process"


if sys.platform == "win32":
    import msvcrt

    def _acquire(path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            os.lseek(handle, 2**30, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(handle)
            return None
        return _sign(handle)

    def _release(handle: int) -> None:
        os.lseek(handle, 2**30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)

else:
    import fcntl

    def _acquire(path: Path) -> int | None:
        """Takes the lock without waiting; the system frees it when the process dies."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return _sign(handle)

    def _release(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _sign(handle: int) -> int:
    """Writes who holds the lock, for the message that others get."""
    os.lseek(handle, 0, os.SEEK_SET)
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n".encode())
    return handle
