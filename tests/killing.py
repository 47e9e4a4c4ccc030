"""`passline train` in a process of its own that is killed, or refused, at a chosen write.

    python tests/killing.py TASK ARGUMENT...

does what the command line does with the arguments. TASK is JSON: `root`, below which changes of the
disk are counted; `notes`, a file that they are told to, one a line; `die_at`, the change at which
the process kills itself with SIGKILL; `full_on`, words of the change from which on the disk is
full; `is_bound`, that it writes only where permissions allow, though it be root's;
`is_trained_alone`, to stop as Ctrl-C does where the test slices would be played.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ended", "obeying_permissions", "train"]

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


def train(*arguments: str, root: Path, cache: Path, **task: Any) -> Ended:
    """Runs `passline train` with the arguments, and waits for its end.

    Args:
        arguments: of the command, without `--root`.
        root: directory of the runs.
        cache: where compiled code is kept from one process to the next.
        task: as in the module's text.
    """
    given = ["train", *arguments, "--root", str(root), "--json"]
    with tempfile.NamedTemporaryFile() as notes:
        told = json.dumps({"root": str(root.resolve()), "notes": notes.name, **task})
        done = subprocess.run(
            [sys.executable, __file__, told, *given],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {
                "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
                "XDG_CACHE_HOME": str(cache),
                "JAX_PLATFORMS": "cpu",
            },
        )
        changes = Path(notes.name).read_text().splitlines()
    return Ended(code=done.returncode, changes=changes, out=done.stdout, err=done.stderr)


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

    def __init__(self, root: str, notes: int, die_at: int, full_on: str) -> None:
        self._root, self._notes = root, notes
        self._die_at, self._full_on = die_at, full_on
        self._n = 0
        self._is_full = False

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
        if self._n == self._die_at:
            if change == "fsync" and os.path.isfile(path):  # half of what was being written
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self._is_full |= bool(self._full_on) and self._full_on in told
        if self._is_full and change != "remove":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def main() -> None:
    """Does what the command line does, under watch."""
    task = json.loads(sys.argv[1])
    notes = os.open(task["notes"], os.O_WRONLY | os.O_APPEND)
    watch = Watch(task["root"], notes, task.get("die_at", 0), task.get("full_on", ""))
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
    passline(sys.argv[2:])


if __name__ == "__main__":
    main()
