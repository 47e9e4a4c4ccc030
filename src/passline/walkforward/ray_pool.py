"""Trainings on a Ray cluster; a node or worker that is lost loses the trainings it was at.

Every node needs the same passline installed. Bars, rulebook and curriculum are sent along, and
results come back as bytes: the nodes need no common file system.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from passline.errors import ConfigError
from passline.walkforward.pool import Done, attempt
from passline.walkforward.work import Order, Task, Worker

__all__ = ["work_on_ray"]

INSTALL = 'Ray is not installed. Install it with: pip install "passline[ray]"'


def work_on_ray(order: Order, tasks: Sequence[Task], address: str) -> Iterator[Done]:
    """Does the trainings on the cluster at an address, one a free core.

    Args:
        order: what they share.
        tasks: the trainings.
        address: of the head node, such as 10.0.0.5:6379, or `auto`.

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
        yield from _gather(ray, order, tasks)
    finally:
        ray.shutdown()


def _gather(ray: Any, order: Order, tasks: Sequence[Task]) -> Iterator[Done]:
    remote = ray.remote(num_cpus=1, max_retries=0)(_work)
    shared = ray.put(order)
    at_work = {remote.remote(shared, task): task for task in tasks}
    while at_work:
        ready, _ = ray.wait(list(at_work))
        for reference in ready:
            task = at_work.pop(reference)
            try:
                yield Done(*ray.get(reference))
            except ray.exceptions.RayError as error:
                first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                yield Done(task, error=f"{type(error).__name__}: {first_line}")


def _work(order: Order, task: Task) -> Done:
    """Runs on a node; a process keeps its prepared markets and compiled programs."""
    key = (tuple(bars.fingerprint() for bars in order.bars), repr(order.config), repr(order.folds))
    worker = _workers(key)
    if not worker:
        worker.append(Worker(order))
    return attempt(worker[0], task)


@lru_cache(maxsize=1)
def _workers(key: Any) -> list[Worker]:
    """Returns the place where the process keeps the worker of a walk-forward."""
    del key
    return []
