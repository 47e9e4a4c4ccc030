"""A pool whose only worker tells its number and then works without end: `endless.py FIFO`."""

import os
import sys
import threading
from pathlib import Path

from passline.walkforward.pool import work_in_processes
from passline.walkforward.work import Task


class Endless:
    """Opens the FIFO for as long as its process lives, and never answers."""

    def __init__(self, fifo: str) -> None:
        self._fifo = fifo

    def work(self, task: Task) -> bytes:
        """Tells the number of its process, and goes on for ever."""
        with Path(self._fifo).open("wb", buffering=0) as pipe:
            pipe.write(f"{os.getpid()}\n".encode())
            threading.Event().wait()
        return b""


if __name__ == "__main__":
    list(work_in_processes(sys.argv[1], [Task(fold=1, seed=0)], 1, Endless))
