"""Trainings in this process or in several on this machine; a lost worker loses its own training.

Results come back as they are ready, each a result file's bytes or the sentence of what went wrong.
Workers write no files, and none of them outlives the process that hired it.
"""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from passline.walkforward.work import Order, Task, Worker

__all__ = ["Doer", "Done", "Hire", "attempt", "work_here", "work_in_processes"]

STOP_SECONDS = 10
"""Given to a process that was told to end before it is ended."""


class Done(NamedTuple):
    """How one training ended.

    Attributes:
        task: the training.
        content: bytes of its result file; empty if it failed.
        error: what went wrong; empty if nothing did.
    """

    task: Task
    content: bytes = b""
    error: str = ""


class Doer(Protocol):
    """Does trainings; `work.Worker` is one."""

    def work(self, task: Task) -> bytes:
        """Returns the bytes of the training's result file."""
        ...


Hire = Callable[[Any], Doer]
"""Makes the doer of an order; what reaches other processes must be importable there."""


def work_here(order: Order, tasks: Sequence[Task]) -> Iterator[Done]:
    """Does the trainings one after the other; an error loses only its own."""
    worker = Worker(order)
    for task in tasks:
        yield attempt(lambda: worker, task)


def attempt(doer: Callable[[], Doer], task: Task) -> Done:
    """Does one training, with any error in words."""
    try:
        return Done(task, content=doer().work(task))
    except Exception as error:
        return Done(task, error=f"{type(error).__name__}: {error}")


class _Hand(NamedTuple):
    """A process at work and the pipe to it."""

    process: Any
    pipe: Connection
    task: Task


def work_in_processes(
    order: Any, tasks: Sequence[Task], jobs: int, hire_doer: Hire = Worker
) -> Iterator[Done]:
    """Does the trainings in `jobs` processes, each with its share of the cores.

    A process that dies takes the training it was at with it; another takes its place.

    Args:
        order: what the trainings share.
        tasks: the trainings.
        jobs: processes at once.
        hire_doer: makes the doer in each process.
    """
    context = multiprocessing.get_context("spawn")
    left = deque(tasks)
    cores = _shares(jobs)
    hands: dict[int, _Hand] = {}

    def hire(place: int) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, cores[place], hire_doer), daemon=True
        )
        process.start()
        theirs.close()
        hands[place] = _Hand(process, ours, left.popleft())
        # Not among the arguments: a process that dies before it has read many of them is waited
        # for without end.
        _send(hands[place], order)
        _send(hands[place], hands[place].task)

    try:
        for place in range(min(jobs, len(tasks))):
            hire(place)
        while hands:
            ready = wait([hand.pipe for hand in hands.values()])
            for place, hand in list(hands.items()):
                if hand.pipe not in ready:
                    continue
                done = _receive(hand)
                del hands[place]
                if left and hand.process.is_alive():
                    hands[place] = hand._replace(task=left.popleft())
                    _send(hand, hands[place].task)
                else:
                    _dismiss(hand)
                    if left:
                        hire(place)
                yield done
    finally:
        for hand in hands.values():
            hand.process.terminate()
            _dismiss(hand)


def _send(hand: _Hand, what: Any) -> None:
    """Sends to a process; if it has died, the next look at its pipe finds that out."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        hand.pipe.send(what)


def _receive(hand: _Hand) -> Done:
    try:
        done: Done = hand.pipe.recv()
    except (EOFError, OSError):
        hand.process.join(STOP_SECONDS)
        code = hand.process.exitcode
        return Done(hand.task, error=f"its process died (exit code {code})")
    return done


def _dismiss(hand: _Hand) -> None:
    hand.pipe.close()
    hand.process.join(STOP_SECONDS)
    if hand.process.is_alive():
        hand.process.kill()


def _shares(jobs: int) -> list[set[int]]:
    """Deals the usable cores out; every process gets at least one."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[place::jobs]) or {cores[place % len(cores)]} for place in range(jobs)]


def _serve(pipe: Connection, cores: set[int], hire_doer: Hire) -> None:
    """Takes the order, then answers tasks until the pipe is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        order = pipe.recv()
        doer = cache(lambda: hire_doer(order))
        while True:
            task: Task = pipe.recv()
            pipe.send(attempt(doer, task))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _end_with_parent() -> None:
    """Ends this process as soon as the one that hired it is gone, whatever it is at."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
