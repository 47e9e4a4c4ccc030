"""Trainings in this process or in several on this machine; a lost worker loses its own training.

Results come back as they are ready, each a result file's bytes or the sentence of what went wrong.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from passline.walkforward.work import Order, Task, Worker

__all__ = ["Done", "attempt", "serve", "work_here", "work_in_processes"]

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


def work_here(order: Order, tasks: Sequence[Task]) -> Iterator[Done]:
    """Does the trainings one after the other; an error loses only its own."""
    worker = Worker(order)
    for task in tasks:
        yield attempt(worker, task)


def attempt(worker: Worker, task: Task) -> Done:
    """Does one training, with any error in words."""
    try:
        return Done(task, content=worker.work(task))
    except Exception as error:
        return Done(task, error=f"{type(error).__name__}: {error}")


class _Hand(NamedTuple):
    """A process at work and the pipe to it."""

    process: Any
    pipe: Connection
    task: Task


def work_in_processes(order: Order, tasks: Sequence[Task], jobs: int) -> Iterator[Done]:
    """Does the trainings in `jobs` processes, each with its share of the cores.

    A process that dies takes the training it was at with it; another takes its place.
    """
    context = multiprocessing.get_context("spawn")
    left = deque(tasks)
    cores = _shares(jobs)
    hands: dict[int, _Hand] = {}

    def hire(place: int) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, order, cores[place]), daemon=True)
        process.start()
        theirs.close()
        hands[place] = _Hand(process, ours, left.popleft())
        ours.send(hands[place].task)

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
                    hand.pipe.send(hands[place].task)
                else:
                    _dismiss(hand)
                    if left:
                        hire(place)
                yield done
    finally:
        for hand in hands.values():
            hand.process.terminate()
            _dismiss(hand)


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


def serve(pipe: Connection, order: Order, cores: set[int]) -> None:
    """Answers tasks until the pipe is closed."""
    if cores:
        os.sched_setaffinity(0, cores)
    worker = None
    while True:
        try:
            task: Task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            worker = worker or Worker(order)
            done = attempt(worker, task)
        except Exception as error:
            done = Done(task, error=f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            return
        pipe.send(done)
