"""Where trials run beside the search: the one interface of the lanes `processes` and `ray`.

A pool runs one program on tasks, several at a time, each in a worker of its own. The search
hands in tasks and takes out what became of them; whatever dies in between is an outcome of one
task, never an exception of the search.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

# Called once in each worker; returns what is called with every task there.
Setup = Callable[[], Callable[[Any], Any]]


@dataclass(frozen=True)
class Ended:
    """What became of a task.

    Attributes:
        key: The name under which it was submitted.
        result: What the program returned; None if it did not return.
        error: The traceback of what it raised; "" if it raised nothing.
        lost: Why its worker is gone, such as `killed by signal 9`; "" if it is not.
    """

    key: str
    result: Any = None
    error: str = ""
    lost: str = ""


class WorkerPool(abc.ABC):
    """Workers that run tasks.

    Args:
        setup: What every worker runs once; must be picklable by `cloudpickle`.
        num_workers: Tasks that run at a time.
    """

    name: str = ""

    def __init__(self, setup: Setup, num_workers: int) -> None:
        self.setup = setup
        self.num_workers = num_workers

    @abc.abstractmethod
    def submit(self, key: str, task: Any) -> None:
        """Hand in a task; it waits if all workers are busy.

        Args:
            key: Its name, unlike that of any task that has not ended.
            task: What the program is called with; must be picklable.
        """

    @abc.abstractmethod
    def wait(self, timeout: float | None = None) -> Sequence[Ended]:
        """Wait until a task has ended, and return all that have, each exactly once.

        Args:
            timeout: Seconds after which it returns empty-handed; None waits as long as it takes.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Stop the workers, whatever they do; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
