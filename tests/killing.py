"""`passline` in a process of its own that is killed, or refused, at a chosen write.

    python tests/killing.py TASK ARGUMENT...

does what the command line does with the arguments. TASK is JSON: `root`, below which changes of the
disk are counted; `notes`, a file that they are told to, one a line; `die_at`, the change at which
the process kills itself with SIGKILL, or `die_on`, words of it, and `die_nth`, which of those that
hold them; `full_on`, words of the change from which on the disk is full; `is_bound`, that it writes
only where permissions allow, though it be root's; `is_trained_alone`, to stop as Ctrl-C does where
the test slices would be played; `canned`, a folder whose files are the results of a walk-forward,
or "market" for a null test whose trainings are replaced by a figure of the market; `is_spare`, to
judge the trainings of a walk-forward on the worst path and against two baselines alone.
"""

import contextlib
import ctypes
import errno
import functools
import json
import os
import resource
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "Ended",
    "Going",
    "at_most",
    "await_end",
    "canned",
    "obeying_permissions",
    "run_passline",
]

MARK = "PASSLINE_TEST_MARK"
"""Environment variable by which the processes of one test are known."""

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
"""Audit events that change the disk whatever their arguments; `open` does so by its flags."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit status; negative is the signal that killed it.
        changes: what it did to the disk below the root, in order: "fsync run.toml" and the like.
        out: its stdout.
        err: its stderr.
    """

    code: int
    changes: list[str]
    out: str
    err: str


def run_passline(
    *arguments: str,
    root: Path,
    cache: Path,
    meanwhile: Callable[["Going"], None] | None = None,
    **task: Any,
) -> Ended:
    """Runs passline with the arguments, and waits for its end and for those it began.

    Args:
        arguments: of the command line, without `--root`.
        root: directory of the runs.
        cache: where compiled code is kept from one process to the next.
        meanwhile: what happens while it runs.
        task: as in the module's text.

    Raises:
        AssertionError: a process that it began is still there a minute after its end.
    """
    mark = secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        notes, out, err = (stack.enter_context(tempfile.NamedTemporaryFile()) for _ in range(3))
        told = json.dumps({"root": str(root.resolve()), "notes": notes.name, **task})
        process = subprocess.Popen(
            [sys.executable, __file__, told, *arguments, "--root", str(root), "--json"],
            stdout=out,  # files, which those that are left behind do not hold open
            stderr=err,
            env=os.environ
            | {
                "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
                "XDG_CACHE_HOME": str(cache),
                "JAX_PLATFORMS": "cpu",
                MARK: mark,
            },
        )
        going = Going(process=process, mark=mark)
        if meanwhile is not None:
            meanwhile(going)
        process.wait()
        await_end(going.others())
        said = [Path(file.name).read_text() for file in (notes, out, err)]
    return Ended(code=process.returncode, changes=said[0].splitlines(), out=said[1], err=said[2])


@dataclass(frozen=True, kw_only=True)
class Going:
    """A process that was begun, with what it began itself.

    Attributes:
        process: the process.
        mark: what its environment, and theirs, holds.
    """

    process: "subprocess.Popen[bytes]"
    mark: str

    def others(self) -> list[int]:
        """Returns the processes that it began and that are still there, dead ones left out."""
        return [pid for pid in self._marked() if pid != self.process.pid]

    def workers(self) -> list[int]:
        """Returns those of them that were begun to work."""
        found = []
        for pid in self.others():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                found += [pid] * (b"spawn_main" in command)
        return found

    def _marked(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return sorted(found)


def await_end(pids: Iterable[int], seconds: float = 60) -> None:
    """Waits until processes that are no children of this one have ended.

    Raises:
        AssertionError: one of them has not.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            ended, _, _ = select.select([handle], [], [], seconds)
            os.close(handle)
            assert ended, f"process {pid} is still there"


@contextlib.contextmanager
def obeying_permissions() -> Iterator[None]:
    """Takes from this thread root's right to read and write whatever the permissions say."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capabilities(7)
    assert libc.capget(head, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(head, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(head, sets) == 0


class Watch:
    """Counts what changes the disk below a root, and lets the chosen change go wrong."""

    def __init__(
        self,
        root: str,
        notes: int,
        *,
        die_at: int = 0,
        die_on: str = "",
        die_nth: int = 1,
        full_on: str = "",
    ) -> None:
        self._root, self._notes = root, notes
        self._die_at, self._die_on, self._die_nth = die_at, die_on, die_nth
        self._full_on = full_on
        self._n = 0
        self._is_full = False
        self._synced: dict[str, int] = {}

    def begin(self) -> None:
        """Watches this process from now on."""
        fsync: Callable[[int], None] = os.fsync

        def watched(handle: int) -> None:
            path = os.readlink(f"/proc/self/fd/{handle}")
            self._before("fsync", path)
            fsync(handle)

        os.fsync = watched
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR):
            self._before("open", given[0])
        elif event in CHANGES:
            self._before(event.partition(".")[2], given[1 if event == "os.rename" else 0])

    def _before(self, change: str, path: object) -> None:
        """Is called before each change of the disk, wherever it is."""
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self._root):
            return
        self._n += 1
        told = f"{change} {Path(path).name}"
        os.write(self._notes, f"{told}\n".encode())
        is_file = change == "fsync" and os.path.isfile(path)
        self._die_nth -= bool(self._die_on) and self._die_on in told
        if self._n == self._die_at or not self._die_nth:
            if is_file:  # half of what was being written
                kept = self._synced.get(os.fspath(path), 0)
                os.truncate(path, kept + (os.path.getsize(path) - kept) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if is_file:
            self._synced[os.fspath(path)] = os.path.getsize(path)
        self._is_full |= bool(self._full_on) and self._full_on in told
        if self._is_full and change != "remove":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def main() -> None:
    """Does what the command line does, under watch."""
    task = json.loads(sys.argv[1])
    notes = os.open(task["notes"], os.O_WRONLY | os.O_APPEND)
    known = ("die_at", "die_on", "die_nth", "full_on")
    watch = Watch(task["root"], notes, **{name: task[name] for name in known if name in task})
    watch.begin()
    with obeying_permissions() if task.get("is_bound") else contextlib.nullcontext():
        _main(task)


def _main(task: dict[str, Any]) -> None:
    from passline import pipeline  # noqa: PLC0415  (after the watch has begun)
    from passline.cli import main as passline  # noqa: PLC0415

    if task.get("is_trained_alone"):

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        pipeline.judge_job = stop
    if task.get("is_spare"):
        from passline.walkforward import walk  # noqa: PLC0415

        walk.work_in_processes = functools.partial(walk.work_in_processes, hire_doer=spare)
    with canned(task["canned"]) if "canned" in task else contextlib.nullcontext():
        passline(sys.argv[2:])


def spare(order: Any) -> Any:
    """Returns a walk-forward's worker, in its own process, that judges little."""
    from passline.walkforward import work  # noqa: PLC0415

    work.BASELINES, work.PATHS = ("flat", "always long"), ("worst",)
    return work.Worker(order)


class Canned:
    """Stands for a walk-forward's worker: answers a training with a file made before."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def work(self, task: Any) -> bytes:
        """Returns the bytes of the training's result file."""
        return (self._folder / f"{task.name}.npz").read_bytes()


@contextlib.contextmanager
def canned(folder: str) -> Iterator[None]:
    """Lets this process train nothing: a walk-forward's results are files, a null test's figures.

    Args:
        folder: of the files, or "market".
    """
    from passline import nulltest  # noqa: PLC0415  (in the process that is killed, not before)
    from passline.walkforward import pool  # noqa: PLC0415

    def rise(job: Any, plan: Any) -> Callable[[Any], tuple[float, float]]:
        return lambda market: (-abs(float(market.base.features[-1000:].sum())), 0.25)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "Worker", lambda order: Canned(folder))
        patch.setattr(nulltest, "measure_trial", rise)
        yield


@contextlib.contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """Lets this process write no file larger than that, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


if __name__ == "__main__":
    main()
