"""A pool that runs tasks in this process, in an order that a test decides."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle

from smarttune.execution.workers import Ended, Setup, WorkerPool


class PlayedPool(WorkerPool):
    """Ends one task for each `wait`: of those that run the one that comes first in an order.

    Args:
        setup: As for any pool.
        num_workers: As for any pool.
        order: From a key to its rank; the lowest ends first.
        losses: How often the worker of a task is lost before it is run.
        breaks_after: Endings after which `wait` breaks off as Ctrl-C does; None never does.
    """

    name = "played"

    def __init__(
        self,
        setup: Setup,
        num_workers: int,
        *,
        order: Callable[[str], int] = int,
        losses: Mapping[str, int] | None = None,
        breaks_after: int | None = None,
    ) -> None:
        super().__init__(setup, num_workers)
        self.program = cloudpickle.loads(cloudpickle.dumps(setup))()
        self.order = order
        self.left_to_lose = Counter(losses or {})
        self.breaks_after = breaks_after
        self.running: dict[str, bytes] = {}
        self.num_ended = 0
        self.most_running = 0

    def submit(self, key: str, task: Any) -> None:
        """Take a task as it would arrive in another process."""
        assert key not in self.running
        self.running[key] = cloudpickle.dumps(task)
        self.most_running = max(self.most_running, len(self.running))

    def wait(self, timeout: float | None = None) -> Sequence[Ended]:
        """Run one task, or lose it."""
        if self.num_ended == self.breaks_after:
            raise KeyboardInterrupt
        self.num_ended += 1
        key = min(self.running, key=self.order)
        task = self.running.pop(key)
        if self.left_to_lose[key] > 0:
            self.left_to_lose[key] -= 1
            return [Ended(key, lost="killed by signal 9 (SIGKILL)")]
        result = self.program(pickle.loads(task))
        return [Ended(key, result=pickle.loads(cloudpickle.dumps(result)))]

    def close(self) -> None:
        """Forget what runs."""
        self.running.clear()


def played(**options: Any) -> Callable[[Setup, int], PlayedPool]:
    """What makes such pools."""
    return lambda setup, num_workers: PlayedPool(setup, num_workers, **options)
