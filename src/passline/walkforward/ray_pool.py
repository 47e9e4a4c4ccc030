"""Trainings on a Ray cluster; a node or worker that is lost loses the trainings it was at.

Every node needs the same passline installed. Bars, rulebook and curriculum are sent along, and
results come back as bytes: the nodes need no common file system.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from passline.errors import ConfigError
from passline.walkforward.pool import Doer, Done, Hire, attempt
from passline.walkforward.work import Task, Worker

__all__ = ["work_on_ray"]

INSTALL = 'Ray is not installed. Install it with: pip install "passline[ray]"'


def work_on_ray(
    order: Any, tasks: Sequence[Task], address: str, hire_doer: Hire = Worker
) -> Iterator[Done]:
    """Does the trainings on the cluster at an address, one a free core.

    Args:
        order: what they share; `key` names it.
        tasks: the trainings.
        address: of the head node, such as 10.0.0.5:6379, or `auto`.
        hire_doer: makes the doer in each process of a node.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"--ray {address}: {INSTALL}") from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--ray {address}: no cluster answers ({error}). Start one with: ray start --head"
        ) from error
    try:
        yield from _gather(ray, order, tasks, hire_doer)
    finally:
        ray.shutdown()


def _gather(ray: Any, order: Any, tasks: Sequence[Task], hire_doer: Hire) -> Iterator[Done]:
    remote = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_work)
    shared = ray.put(order)
    at_work = {remote.remote(shared, hire_doer, task): task for task in tasks}
    while at_work:
        ready, _ = ray.wait(list(at_work))
        for reference in ready:
            task = at_work.pop(reference)
            try:
                yield Done(*ray.get(reference))
            except ray.exceptions.RayError as error:
                first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                yield Done(task, error=f"{type(error).__name__}: {first_line}")


def _work(order: Any, hire_doer: Hire, task: Task) -> Done:
    """Runs on a node; a process keeps its prepared markets and compiled programs."""
    place = _place(order.key)

    def doer() -> Doer:
        if not place:
            place.append(hire_doer(order))
        return place[0]

    return attempt(doer, task)


@lru_cache(maxsize=1)
def _place(key: str) -> list[Doer]:
    """Returns where a process keeps the doer of the order that it was last sent."""
    del key
    return []
