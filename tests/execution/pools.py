"""What every pool of workers promises: a suite that the test of each kind inherits.

Programs are closures, so that a pool has to carry code that no worker can import.
"""

from __future__ import annotations

import abc
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smarttune.execution.workers import Ended, Setup, WorkerPool

PATIENCE = 120.0  # seconds until a pool that ends no task counts as hung
GLANCE = 0.01  # seconds between two looks at a folder
KILLS, KILL_TASKS = 20, 40
MEGABYTE = 10**6


def collect(pool: WorkerPool, count: int) -> dict[str, Ended]:
    """What became of so many tasks, by key; none may come twice."""
    until = time.monotonic() + PATIENCE
    found: dict[str, Ended] = {}
    while len(found) < count:
        assert time.monotonic() < until, f"only {sorted(found)} of {count} tasks ended"
        for ended in pool.wait(timeout=1.0):
            assert ended.key not in found
            found[ended.key] = ended
    return found


def await_file(path: Path) -> str:
    """Wait for a file that is written by rename, and return its text."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} was never written"
        time.sleep(GLANCE)
    return path.read_text()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def await_death(pid: int) -> None:
    """Wait until a process is gone."""
    until = time.monotonic() + PATIENCE
    while is_alive(pid):
        assert time.monotonic() < until, f"process {pid} lives on"
        time.sleep(GLANCE)


def applying(function: Callable[[Any], Any]) -> Setup:
    """A setup that makes nothing, for a program without state."""
    return lambda: function


def waiting(folder: Path) -> Setup:
    """A program that writes its process id to `TASK.pid` and returns once `TASK.go` is there."""

    def program(task: str) -> str:
        draft = folder / f"{task}.draft"
        draft.write_text(str(os.getpid()))
        draft.rename(folder / f"{task}.pid")
        while not (folder / f"{task}.go").exists():
            time.sleep(0.01)
        return task

    return lambda: program


class WorkerPoolContract(abc.ABC):
    """The promises of `WorkerPool`; a subclass says how a pool is made."""

    @abc.abstractmethod
    def make(self, setup: Setup, num_workers: int) -> WorkerPool:
        """A new pool; the test closes it."""

    @pytest.fixture
    def start(self) -> Iterator[Callable[[Setup, int], WorkerPool]]:
        """Makes pools that are closed when the test ends."""
        pools: list[WorkerPool] = []

        def start(setup: Setup, num_workers: int) -> WorkerPool:
            pools.append(self.make(setup, num_workers))
            return pools[-1]

        yield start
        for pool in pools:
            pool.close()

    def test_a_result_comes_back(self, start: Any) -> None:
        """What the program returns arrives under the key of its task."""
        pool = start(applying(lambda task: {"twice": task * 2}), 1)

        pool.submit("a", 21)

        assert collect(pool, 1) == {"a": Ended("a", result={"twice": 42})}

    def test_an_exception_is_an_outcome(self, start: Any) -> None:
        """A program that raises ends its task with the traceback, and its worker goes on."""
        pool = start(applying(lambda task: 1 / task), 1)

        pool.submit("bad", 0)
        pool.submit("good", 2)
        ended = collect(pool, 2)

        assert "ZeroDivisionError: division by zero" in ended["bad"].error
        assert (ended["bad"].result, ended["bad"].lost) == (None, "")
        assert ended["good"] == Ended("good", result=0.5)

    def test_an_exit_is_an_outcome(self, start: Any) -> None:
        """A program that calls `sys.exit` ends its own task, not the pool."""

        def program(task: int) -> int:
            if task == 0:
                raise SystemExit(3)
            return task

        pool = start(applying(program), 1)
        pool.submit("exit", 0)
        pool.submit("next", 1)
        ended = collect(pool, 2)

        assert ended["exit"].error or ended["exit"].lost
        assert ended["next"] == Ended("next", result=1)

    def test_a_setup_that_raises_is_an_outcome(self, start: Any) -> None:
        """Every task of a pool whose setup raises ends with that traceback."""

        def setup() -> Callable[[Any], Any]:
            raise LookupError("no data today")

        pool = start(setup, 2)
        for key in "abc":
            pool.submit(key, key)
        ended = collect(pool, 3)

        assert sorted(ended) == ["a", "b", "c"]
        assert all("no data today" in e.error and not e.lost for e in ended.values())

    def test_a_killed_worker_loses_its_task_alone(self, start: Any) -> None:
        """A worker killed in a task ends it as lost, and all other tasks return."""

        def program(task: str) -> str:
            if task == "doomed":
                os.kill(os.getpid(), signal.SIGKILL)
            return task

        pool = start(applying(program), 2)
        for key in ("before", "doomed", "beside", "after"):
            pool.submit(key, key)
        ended = collect(pool, 4)

        lost = ended.pop("doomed")
        assert lost.lost
        assert (lost.result, lost.error) == (None, "")
        assert ended == {k: Ended(k, result=k) for k in ("before", "beside", "after")}

    def test_random_kills_end_every_task_exactly_once(self, start: Any, tmp_path: Path) -> None:
        """Of 40 tasks 20 are killed: those are lost, the others return, and none ends twice."""
        rng = random.Random(6)
        keys = [f"t{i}" for i in range(KILL_TASKS)]
        doomed = set(rng.sample(keys, KILLS))
        pool = start(waiting(tmp_path), 2)
        for key in keys:
            pool.submit(key, key)

        ended: dict[str, Ended] = {}
        seen: set[str] = set()
        until = time.monotonic() + PATIENCE
        while len(ended) < len(keys):
            assert time.monotonic() < until, f"{len(ended)} of {len(keys)} tasks ended"
            for key in [k for k in keys if k not in seen and (tmp_path / f"{k}.pid").exists()]:
                seen.add(key)
                if key in doomed:
                    os.kill(int((tmp_path / f"{key}.pid").read_text()), signal.SIGKILL)
                else:
                    (tmp_path / f"{key}.go").touch()
            for one in pool.wait(timeout=0.02):
                assert one.key not in ended
                ended[one.key] = one

        assert {k for k, e in ended.items() if e.lost} == doomed
        assert all(ended[k] == Ended(k, result=k) for k in set(keys) - doomed)
        assert not pool.wait(timeout=0.0)

    def test_tasks_run_at_the_same_time(self, start: Any, tmp_path: Path) -> None:
        """Two workers run two tasks at once, in two processes."""
        pool = start(waiting(tmp_path), 2)
        pool.submit("a", "a")
        pool.submit("b", "b")
        # Each waits for its own leave, which is only given when both have begun.
        pids = {await_file(tmp_path / f"{key}.pid") for key in "ab"}

        for key in "ab":
            (tmp_path / f"{key}.go").touch()

        assert set(collect(pool, 2)) == {"a", "b"}
        assert len(pids) == 2
        assert str(os.getpid()) not in pids

    def test_no_more_tasks_run_than_there_are_workers(self, start: Any, tmp_path: Path) -> None:
        """A task for which there is no worker waits until one is free."""
        pool = start(waiting(tmp_path), 1)
        pool.submit("a", "a")
        pool.submit("b", "b")
        await_file(tmp_path / "a.pid")

        assert not pool.wait(timeout=0.2)
        assert not (tmp_path / "b.pid").exists()
        for key in "ab":
            (tmp_path / f"{key}.go").touch()
        assert set(collect(pool, 2)) == {"a", "b"}

    def test_tasks_end_in_whatever_order(self, start: Any, tmp_path: Path) -> None:
        """A task that was handed in later comes back first if it ends first."""
        pool = start(waiting(tmp_path), 2)
        pool.submit("slow", "slow")
        pool.submit("fast", "fast")

        (tmp_path / "fast.go").touch()
        first = collect(pool, 1)
        (tmp_path / "slow.go").touch()

        assert list(first) == ["fast"]
        assert list(collect(pool, 1)) == ["slow"]

    def test_every_task_comes_back_once(self, start: Any) -> None:
        """Many more tasks than workers all return, each with its own result."""
        pool = start(applying(lambda task: task + 1), 2)
        for i in range(50):
            pool.submit(str(i), i)

        ended = collect(pool, 50)

        assert {k: e.result for k, e in ended.items()} == {str(i): i + 1 for i in range(50)}
        assert not pool.wait(timeout=0.0)

    def test_a_task_may_follow_an_outcome(self, start: Any) -> None:
        """Tasks may be handed in after others came back, under the same key as well."""
        pool = start(applying(lambda task: task), 2)

        for turn in range(3):
            pool.submit("again", turn)
            assert collect(pool, 1)["again"].result == turn

    def test_waiting_has_an_end(self, start: Any, tmp_path: Path) -> None:
        """A wait that times out returns nothing and loses nothing."""
        pool = start(waiting(tmp_path), 1)
        pool.submit("a", "a")

        assert not pool.wait(timeout=0.0)
        assert not pool.wait(timeout=0.05)
        (tmp_path / "a.go").touch()
        assert set(collect(pool, 1)) == {"a"}

    def test_waiting_for_nothing_ends_at_once(self, start: Any) -> None:
        """With no task under way a wait returns empty, even one without a time limit."""
        assert not start(applying(lambda task: task), 1).wait()

    def test_a_busy_pool_closes(self, start: Any, tmp_path: Path) -> None:
        """Closing ends a worker in the middle of its task."""
        pool = start(waiting(tmp_path), 1)
        pool.submit("a", "a")
        pool.submit("never begun", "b")
        pid = int(await_file(tmp_path / "a.pid"))

        pool.close()

        await_death(pid)
        assert not (tmp_path / "b.pid").exists()

    def test_an_idle_pool_closes(self, start: Any) -> None:
        """Closing ends a worker that waits for tasks."""
        pool = start(applying(lambda task: os.getpid()), 1)
        pool.submit("a", None)
        pid = collect(pool, 1)["a"].result

        pool.close()

        await_death(pid)

    def test_closing_twice_does_nothing(self, start: Any) -> None:
        """A pool may be closed before any task, and closed again."""
        pool = start(applying(lambda task: task), 2)

        pool.close()
        pool.close()

    def test_a_pool_closes_with_its_block(self, start: Any, tmp_path: Path) -> None:
        """Leaving a `with` block by an exception ends the workers and lets it pass."""
        with pytest.raises(KeyError), start(waiting(tmp_path), 1) as pool:
            pool.submit("a", "a")
            pid = int(await_file(tmp_path / "a.pid"))
            raise KeyError

        await_death(pid)

    def test_setup_runs_once_per_worker(self, start: Any, tmp_path: Path) -> None:
        """Each worker runs the setup once, however many tasks it runs."""

        def setup() -> Callable[[Any], Any]:
            (tmp_path / uuid.uuid4().hex).write_text(str(os.getpid()))
            return lambda task: os.getpid()

        pool = start(setup, 2)
        for i in range(20):
            pool.submit(str(i), i)
        workers = {ended.result for ended in collect(pool, 20).values()}
        started = [int(f.read_text()) for f in tmp_path.iterdir()]

        assert len(started) == len(set(started)) <= 2
        assert workers <= set(started)

    def test_a_program_keeps_what_its_setup_made(self, start: Any) -> None:
        """A program keeps state from task to task within its worker."""

        def setup() -> Callable[[Any], Any]:
            seen: list[int] = []
            return lambda task: [*seen, seen.append(task)][:-1]

        pool = start(setup, 1)
        for i in range(3):
            pool.submit(str(i), i)

        assert {k: e.result for k, e in collect(pool, 3).items()} == {
            "0": [],
            "1": [0],
            "2": [0, 1],
        }

    def test_big_tasks_and_results_pass(self, start: Any) -> None:
        """20 MB go to a worker and come back whole, on two workers at once."""
        pool = start(applying(lambda task: task[::-1]), 2)
        sent = {key: os.urandom(MEGABYTE) * 20 for key in "abc"}
        for key, content in sent.items():
            pool.submit(key, content)

        ended = collect(pool, 3)

        assert all(ended[key].result == content[::-1] for key, content in sent.items())

    def test_a_result_that_cannot_be_sent_is_an_outcome(self, start: Any) -> None:
        """A result that cannot be pickled ends its task with an error, and its worker goes on."""

        def program(task: int) -> Any:
            return (i for i in range(3)) if task else "fine"

        pool = start(applying(program), 1)
        pool.submit("generator", 1)
        pool.submit("fine", 0)
        ended = collect(pool, 2)

        assert "generator" in ended["generator"].error
        assert ended["fine"] == Ended("fine", result="fine")
