"""The lane `ray`: trials in actors of a Ray cluster, or of one that is started on this machine.

Ray places the actors, carries tasks and results, and notices what dies; the search stays in the
one process that began it. Every worker is an actor that lives as long as the pool, so that a
framework is imported once in it. A worker that dies is replaced by a new actor, and its task is
told as lost: whether it is worth another try is not for Ray to say.

A cluster that is started here listens on the loopback interface only and asks everyone for a
token. One that is joined is as its owner set it up.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import math
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smarttune.errors import MissingExtraError, OptionError, RunError
from smarttune.execution.workers import Ended, Setup, WorkerPool

LOOPBACK = ("127.0.0.1", "::1")

# ours: so many workers per place may die one after the other before one of them runs; then the
# cluster is at fault, and new ones would only die as well.
MAX_FAILED_STARTS = 4

# ours: seconds that workers have to start before the search does; the others follow, or find no
# room and are not missed.
START_TIMEOUT = 30.0

# ours: seconds that the nodes have for one small file each, on a slow network disk.
SHARED_TIMEOUT = 120.0

# ours: seconds until an address where nobody answers is given up.
ANSWER_TIMEOUT = 10.0

# Read when Ray is imported, and by the processes that it starts. The first makes it take the
# loopback address for that of the machine; its name speaks of other platforms than it serves.
_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
# ours: a cluster that has not answered three times, or refuses, is not there; Ray tries twenty.
_JOINED = {"RAY_NUM_REDIS_GET_RETRIES": "3"}
_TOKEN = "RAY_AUTH_TOKEN"

# What workers are told where their machine says nothing: several may share a GPU.
_SHARING = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# What goes from the search to its workers, whoever started their machine.
_INHERITED = ("KERAS_BACKEND",)


class RayPool(WorkerPool):
    """Workers on Ray.

    In a process that has called `ray.init` itself, the pool uses what that started or joined.

    Args:
        setup: What every worker runs once, before its first task. It is put into Ray's store
            once, with the data that hang on it: the workers of a node share its arrays.
        num_workers: Tasks that run at a time, if the cluster has room for as many.
        address: `"auto"` for the cluster that runs on this machine, `"host:port"` for another;
            None starts one here, for this pool alone.
        num_cpus: Cores that a worker reserves.
        num_gpus: GPUs that a worker reserves; 0.25 lets four share one.

    Raises:
        MissingExtraError: If Ray is not installed.
        OptionError: If there is no such cluster, it refuses the token, or none of its nodes has
            what a worker reserves.
        RunError: If the cluster that was started could be reached from other machines.

    Example:
        >>> with RayPool(lambda: lambda task: 2 * task, num_workers=2) as pool:
        ...     pool.submit("a", 21)
        ...     pool.wait()
        [Ended(key='a', result=42, error='', lost='')]
    """

    name = "ray"

    def __init__(
        self,
        setup: Setup,
        num_workers: int,
        *,
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
    ) -> None:
        super().__init__(setup, num_workers)
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._waiting: collections.deque[tuple[str, Any]] = collections.deque()
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}  # what answers once an actor runs -> the actor
        self._running: dict[Any, tuple[str, Any]] = {}  # a result to come -> its key, its actor
        self._ended: list[Ended] = []
        self._num_failed_starts = 0
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as failing:
            failing.callback(self.close)
            self.ray = _connected(address, math.ceil(num_cpus * num_workers), self._opened)
            _check_room(self.ray, self._resources)
            self._actor = self.ray.remote(_worker_class()).options(**self._resources)
            self._program = self.ray.put(setup)
            for _ in range(num_workers):
                self._start()
            # A task that is handed in runs at once, without anybody waiting for it.
            self.ray.wait([*self._starting], num_returns=num_workers, timeout=START_TIMEOUT)
            self._look(0.0)
            failing.pop_all()

    def submit(self, key: str, task: Any) -> None:
        """Hand in a task; it waits if all workers are busy."""
        self._waiting.append((key, self.ray.put(task)))
        self._hand_out()

    def wait(self, timeout: float | None = None) -> Sequence[Ended]:
        """Wait until a task has ended, and return all that have, each exactly once."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._ended and (self._running or self._waiting):
            left = until - time.monotonic()
            self._look(None if timeout is None else max(0.0, left))
            if left <= 0:
                break
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Stop the workers, and Ray if this pool started or joined it."""
        busy = [actor for _, actor in self._running.values()]
        for actor in [*self._idle, *self._starting.values(), *busy]:
            self._stop(actor)
        for held in (self._waiting, self._idle, self._starting, self._running):
            held.clear()
        self._opened.close()

    def _start(self) -> None:
        """Have a worker placed; it gets tasks once it runs, for there may be no room yet."""
        actor = self._actor.remote(_told(self._resources["num_cpus"]), [self._program])
        self._starting[actor.ready.remote()] = actor

    def _stop(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead, and so may the cluster
            self.ray.kill(actor)

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            key, task = self._waiting.popleft()
            actor = self._idle.pop()
            self._running[actor.run.remote(task)] = key, actor

    def _look(self, timeout: float | None) -> None:
        """Wait for something to happen, and take in all that has."""
        pending = [*self._starting, *self._running]
        ready, _ = self.ray.wait(pending, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self.ray.wait(pending, num_returns=len(pending), timeout=0)
        for answer in ready:
            if answer in self._starting:
                self._take_start(answer)
            else:
                self._take_end(answer)
        self._hand_out()

    def _take_start(self, answer: Any) -> None:
        """Take in that a worker runs, or died before it did.

        Raises:
            RunError: If one after the other does.
        """
        actor = self._starting.pop(answer)
        try:
            self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            self._num_failed_starts += 1
            if self._num_failed_starts > MAX_FAILED_STARTS * self.num_workers:
                raise RunError(
                    "Ray",
                    received=f"one worker after the other dies at its start ({_reason(error)})",
                    expected="the same Python and packages on all nodes of the cluster",
                    mend="`ray logs` shows what happens there. The search can be resumed: what "
                    "is finished is kept.",
                ) from error
            self._stop(actor)
            self._start()
        else:
            self._num_failed_starts = 0
            self._idle.append(actor)

    def _take_end(self, answer: Any) -> None:
        """Take in what became of a task."""
        key, actor = self._running.pop(answer)
        try:
            result, error = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as unsent:  # a task or a result that is no data
            what = f"the task or its result cannot be sent: {unsent.cause!r}"
            self._ended.append(Ended(key, error=what))
        except self.ray.exceptions.RayError as death:
            self._ended.append(Ended(key, lost=_reason(death)))
            self._stop(actor)
            self._start()
            return
        else:
            self._ended.append(Ended(key, result=result, error=error))
        self._idle.append(actor)


def check_shared(pool: RayPool, path: Path) -> None:
    """See that all nodes of the cluster write into one and the same folder.

    Args:
        pool: Connected to the cluster.
        path: Where a search keeps its checkpoints.

    Raises:
        RunError: If what a node writes there is not seen here.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray, path = pool.ray, path.resolve()
    write = ray.remote(num_cpus=0, max_retries=0)(_writer())
    written = {}
    for node in _alive(ray):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = str(path / f".shared.{secrets.token_hex(8)}")
        answer = write.options(scheduling_strategy=there).remote(name)
        written[answer] = name, node["NodeManagerAddress"]
    ready, _ = ray.wait([*written], num_returns=len(written), timeout=SHARED_TIMEOUT)
    unseen = [host for answer, (name, host) in written.items() if not _arrived(answer, name, ready)]
    if unseen:
        raise RunError(
            str(path),
            received=f"what is written there on {', '.join(unseen)} is not seen here",
            expected="a folder that all nodes of the cluster share under the same path",
            mend="Name one on a shared disk with --run.",
        )


def _arrived(answer: Any, name: str, ready: Sequence[Any]) -> bool:
    if answer not in ready or not os.path.exists(name):
        return False
    os.unlink(name)
    return True


def _connected(address: str | None, num_cpus: int, opened: contextlib.ExitStack) -> Any:
    """Return the module Ray, connected; `opened` gets what undoes what was done for it."""
    if (loaded := sys.modules.get("ray")) is not None and loaded.is_initialized():
        return loaded
    local = {**_LOCAL, _TOKEN: os.environ.get(_TOKEN) or _token()}
    opened.enter_context(_environment({**_QUIET, **(_JOINED if address else local)}))
    ray, was_told = _imported(address is None)
    opened.callback(ray.shutdown)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        _join(ray, address, quiet)
        return ray
    if was_told:
        num_cpus = max(num_cpus, os.cpu_count() or 1)
        ray.init("local", num_cpus=num_cpus, include_dashboard=False, **quiet)
    if not was_told or any(node["NodeManagerAddress"] not in LOOPBACK for node in _alive(ray)):
        raise RunError(
            "Ray",
            received="it was imported before this pool was made, and would listen to other "
            "machines",
            expected="a cluster that only this machine reaches",
            mend="Make the pool before `import ray`, or call `ray.init` yourself.",
        )
    return ray


@functools.cache
def _imported(is_local: bool) -> tuple[Any, bool]:
    """Import Ray; return it, and whether it was told on that occasion how to be a local cluster.

    Raises:
        MissingExtraError: If it is not installed.
    """
    first = "ray" not in sys.modules
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--executor ray", module="ray", extra="ray") from error
    return ray, first and is_local


def _join(ray: Any, address: str, quiet: Mapping[str, Any]) -> None:
    """Connect to a cluster that runs.

    Raises:
        OptionError: If there is none, or it refuses.
    """
    try:
        if ":" in address:  # Ray would try for minutes
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT).close()
        ray.init(address, **quiet)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise OptionError(
            f"--address {address}",
            received=f"Ray does not connect ({_reason(error)})",
            expected="a Ray cluster that runs, on the same versions of Ray and Python",
            mend="Start one with `ray start --head`, and `ray start --address HOST:PORT` on further "
            f"machines; if it wants a token, give it in {_TOKEN}.",
        ) from error


def _check_room(ray: Any, wanted: Mapping[str, float]) -> None:
    """Refuse workers that no node has room for: Ray would let them wait for ever.

    Raises:
        OptionError: If there is no such node.
    """
    nodes = [node["Resources"] for node in _alive(ray)]
    cpus, gpus = wanted["num_cpus"], wanted["num_gpus"]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        found = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise OptionError(
            "Ray",
            received=f"no node has {cpus:g} CPUs and {gpus:g} GPUs (its nodes: {found})",
            expected="a node with room for one worker",
            mend="Ask for less per worker, or start such a node first.",
        )


def _alive(ray: Any) -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _reason(error: BaseException) -> str:
    """The part of one of Ray's long messages that says what happened."""
    text = " ".join(str(error).split())
    _, found, detail = text.partition("Worker exit detail: ")
    sentences = (detail if found else text).split(". ")
    return f"{type(error).__name__}: {'. '.join(sentences[:2])}".rstrip(".")


@functools.cache
def _token() -> str:
    """The token of all clusters of this process: Ray reads it once."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change environment variables, and put them back."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _told(num_cpus: float) -> tuple[dict[str, str], dict[str, str]]:
    """Environment of a worker: what it is told, and what it is told if it knows no better."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    threads = str(max(1, int(num_cpus)))
    # Ray sets those of OpenMP.
    given = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    return inherited, {**_SHARING, **given}


def _worker_class() -> type:
    """The class of the actors.

    Made in a function, so that it travels by value: this package would import the framework
    before the worker has its environment.
    """

    class Worker:
        def __init__(self, told: tuple[dict[str, str], dict[str, str]], program: list[Any]) -> None:
            import os

            os.environ.update({**told[1], **os.environ, **told[0]})
            self.source = program[0]
            self.program: Any = None

        def ready(self) -> None:
            """Answer, once this worker runs."""

        def run(self, task: Any) -> tuple[Any, str]:
            """Run a task; return its result and "", or None and the traceback."""
            import traceback

            import ray

            try:
                if self.program is None:
                    self.program = ray.get(self.source)()
                return self.program(task), ""
            except Exception:  # noqa: BLE001 -- whatever it is, the search decides
                return None, traceback.format_exc()

    return Worker


def _writer() -> Any:
    """A function that makes a file; by value, as the class above."""

    def write(name: str) -> None:
        with open(name, "x", encoding="utf-8"):
            pass

    return write
