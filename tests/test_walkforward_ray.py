"""A walk-forward on a Ray cluster of two nodes on this machine, and the loss of a worker."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from passline.errors import ConfigError
from passline.walkforward.ray_pool import work_on_ray
from passline.walkforward.work import Task

SOURCES = os.pathsep.join(str(Path(__file__).parents[1] / name) for name in ("src", "tests"))


class Doomed:
    """Stands for an order; one of its trainings kills its worker, one fails."""

    key = "doomed"

    def __init__(self, deadly: Task, failing: Task, pair: tuple[Task, Task], where: Path) -> None:
        self.deadly, self.failing = deadly, failing
        self.pair, self.where = pair, where


class Worker:
    """Answers a training with its name and where it was done."""

    def __init__(self, order: Doomed) -> None:
        self._order = order

    def work(self, task: Task) -> bytes:
        if task == self._order.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == self._order.failing:
            raise MemoryError("no more")
        if task in self._order.pair:
            self._meet(task)
        return f"{task.name} {os.getppid()}".encode()

    def _meet(self, task: Task) -> None:
        """Goes on when both of a pair are at work, which one core of one node cannot do."""
        (self._order.where / task.name).touch()
        wait = threading.Event()
        for _ in range(1200):
            if all((self._order.where / other.name).exists() for other in self._order.pair):
                return
            wait.wait(0.05)
        raise TimeoutError("the other never came")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'passline[ray]'")
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    monkeypatch.setenv("PYTHONPATH", SOURCES + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    two.add_node(num_cpus=1)
    two.wait_for_nodes()
    yield two
    two.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_two_nodes_share_the_trainings_and_a_killed_worker_loses_its_own_only(
    cluster, tmp_path
) -> None:
    tasks = [Task(fold=fold, seed=seed) for fold in (1, 2, 3) for seed in (0, 1)]
    order: Any = Doomed(tasks[1], tasks[4], (tasks[0], tasks[2]), tmp_path)
    done = {item.task: item for item in work_on_ray(order, tasks, cluster.address, Worker)}
    assert sorted(done) == tasks
    assert "WorkerCrashedError" in done[tasks[1]].error
    assert done[tasks[4]].error == "MemoryError: no more"
    kept = [item for item in done.values() if not item.error]
    assert sorted(item.task for item in kept) == [tasks[0], tasks[2], tasks[3], tasks[5]]
    assert all(item.content.decode().startswith(item.task.name) for item in kept)
    nodes = {item.content.split()[-1] for item in kept}
    assert len(nodes) == 2, "the processes of a node are started by its own raylet"


def test_no_cluster_or_no_ray_is_said_in_one_line(monkeypatch) -> None:
    order: Any = None
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(ConfigError, match=r'pip install "passline\[ray\]"'):
            list(work_on_ray(order, [], "auto"))
