"""The lane `processes`: tasks in child processes of this machine.

Each child is a fresh interpreter that runs `_worker.py` and nothing of the calling program, so a
script needs no `if __name__ == "__main__":`. It talks to the pool over one inherited socket:
nobody else can reach it, and a task that kills its process closes only that.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cloudpickle

from smarttune.errors import OptionError
from smarttune.execution.workers import Ended, Setup, WorkerPool
from smarttune.hardware import memory_gib, num_cores, visible_gpus

_GIB = 1024**3
# ours: a worker whose children keep its socket open is noticed after this.
_GLANCE_SECONDS = 0.5
# ours: time for the exit hooks of a worker without a task; most take no tenth of it.
_GRACE_SECONDS = 2.0
# ours: between two looks at a worker that is leaving.
_PAUSE_SECONDS = 0.01
# ours: growth of a new worker's memory from which on replacing it gains enough for its start.
_GROWTH = 2.0
# ours: the part of the machine's memory that all workers together may hold between tasks.
_MEMORY_SHARE = 0.8


class ProcessPool(WorkerPool):
    """Child processes on this machine, each with its own cores and GPU.

    For one thread of the program, as any pool. A worker is started by the first task it gets, and
    anew after it died or was recycled; tasks are pickled by `cloudpickle`, and so are results.

    Args:
        setup: What every worker runs once. What it raises is the error of all its tasks.
        num_workers: Tasks that run at a time.
        memory_limit: GiB of main memory; a worker that holds more after a task is replaced. By
            default an equal share of most of the machine's, but at least twice what a new
            worker holds: one that has hardly grown is not worth replacing.
        tasks_per_worker: Tasks after which a worker is replaced; None never does.

    Raises:
        OptionError: If a number is not positive, or the setup cannot be pickled.
    """

    name = "processes"

    def __init__(
        self,
        setup: Setup,
        num_workers: int,
        *,
        memory_limit: float | None = None,
        tasks_per_worker: int | None = None,
    ) -> None:
        super().__init__(setup, num_workers)
        for option, number in (
            ("num_workers", num_workers),
            ("memory_limit", memory_limit),
            ("tasks_per_worker", tasks_per_worker),
        ):
            _check_positive(option, number)
        self.memory_limit = memory_limit
        self.tasks_per_worker = tasks_per_worker
        self._pickled_setup = _pickled("the setup of the workers", setup)
        self._shares = shares_of_machine(num_workers)
        self._memory_share = (memory_gib() or math.inf) * _MEMORY_SHARE / num_workers
        self._fresh_gib = math.inf  # the least that a worker held after its first task
        self._workers: list[_Worker | None] = [None] * num_workers
        self._leaving: list[_Worker] = []
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._ended: list[Ended] = []
        self._closed = False

    def submit(self, key: str, task: Any) -> None:
        """Hand in a task; it waits if all workers are busy.

        Raises:
            OptionError: If the task cannot be pickled.
            RuntimeError: If the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the pool is closed")
        self._waiting.append((key, _pickled(f"task `{key}`", task)))
        self._hand_out()

    def wait(self, timeout: float | None = None) -> Sequence[Ended]:
        """Wait until a task has ended, and return all that have, each exactly once.

        With no task under way it returns at once.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self._hand_out()
        while busy := [w for w in self._workers if w is not None and w.key is not None]:
            left = _GLANCE_SECONDS if until is None else max(0.0, until - time.monotonic())
            connection.wait([w.channel for w in busy], min(left, _GLANCE_SECONDS))
            for worker in busy:
                self._look_at(worker)
            self._hand_out()
            if self._ended or (until is not None and time.monotonic() >= until):
                break
        self._leaving = [w for w in self._leaving if not w.has_left()]
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Stop the workers, whatever they do; may be called twice."""
        self._closed = True
        self._waiting.clear()
        for worker in filter(None, self._workers):
            if worker.key is not None:
                worker.kill()
            self._dismiss(worker)
        for worker in self._leaving:
            worker.wait_for_end()
        self._leaving.clear()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers, starting those that are missing."""
        for place in range(self.num_workers):
            if not self._waiting:
                return
            worker = self._workers[place]
            if worker is not None and worker.key is None and worker.has_ended():
                self._dismiss(worker)  # it died idle: that costs no task
                worker = None
            if worker is None:
                worker = _Worker(self._shares[place], self._pickled_setup)
                self._workers[place] = worker
            if worker.key is None:
                worker.begin(*self._waiting.popleft())

    def _look_at(self, worker: _Worker) -> None:
        """Take what a busy worker has sent, or note that it is gone."""
        key = worker.key or ""
        # Asked before the channel is: what was sent before the end is still there.
        is_gone = worker.has_ended()
        try:
            sent = worker.channel.recv() if worker.channel.poll() else None
        except (EOFError, OSError):
            sent, is_gone = None, True
        if sent is not None:
            worker.key = None
            worker.num_tasks += 1
            self._ended.append(_ended(key, *sent))
            if self._is_worn(worker):
                self._dismiss(worker)
        elif is_gone:
            self._dismiss(worker)
            self._ended.append(Ended(key, lost=_cause_of_end(worker.wait_for_end())))

    def _is_worn(self, worker: _Worker) -> bool:
        """Whether a worker has run its tasks or holds too much memory."""
        if self.tasks_per_worker is not None and worker.num_tasks >= self.tasks_per_worker:
            return True
        held = worker.resident_gib()
        if worker.num_tasks == 1:
            self._fresh_gib = min(self._fresh_gib, held)
        if self.memory_limit is not None:
            return held > self.memory_limit
        return held > max(self._memory_share, _GROWTH * self._fresh_gib)

    def _dismiss(self, worker: _Worker) -> None:
        """Let a worker leave; its place is free at once."""
        self._workers[self._workers.index(worker)] = None
        self._leaving.append(worker)
        worker.dismiss()


@dataclass(frozen=True)
class Share:
    """The part of the machine that one worker gets.

    Attributes:
        cores: The processor cores it is pinned to; empty where that cannot be done.
        num_threads: Threads that its libraries compute with.
        gpu: The one GPU it sees, as `CUDA_VISIBLE_DEVICES` names it; None leaves all as they are.
    """

    cores: tuple[int, ...]
    num_threads: int
    gpu: str | None

    def environment(self) -> dict[str, str]:
        """The environment variables of the worker; what the user has set stays."""
        threads = str(self.num_threads)
        ours = {
            "OMP_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several workers may share a GPU: none may take all of its memory at the start.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        device = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {**ours, **os.environ, **device}


def shares_of_machine(num_workers: int) -> list[Share]:
    """Split cores and GPUs of this process among workers.

    Cores are cut into even slices; workers that are more than the cores share some. GPUs are
    dealt out in turn.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    num_threads = max(1, num_cores() // num_workers)
    gpus = _gpu_names()
    shares = []
    for place in range(num_workers):
        first, last = (n * len(cores) // num_workers for n in (place, place + 1))
        shares.append(
            Share(
                cores=tuple(cores[first : max(last, first + 1)]),
                num_threads=num_threads,
                gpu=gpus[place % len(gpus)] if gpus else None,
            )
        )
    return shares


def _gpu_names() -> list[str]:
    """The GPUs of this process as `CUDA_VISIBLE_DEVICES` names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(i) for i in range(len(visible_gpus(os.environ)))]
    names = [name.strip() for name in chosen.split(",")]
    # CUDA reads a list up to its first name without meaning; `-1` is the usual one for "none".
    return names[: next((i for i, name in enumerate(names) if name in ("", "-1")), None)]


class _Worker:
    """A child process as its pool sees it."""

    def __init__(self, share: Share, setup: bytes) -> None:
        self.key: str | None = None
        self.num_tasks = 0
        self._leaves_until = 0.0
        self.channel, theirs = connection.Pipe()
        script = str(Path(__file__).with_name("_worker.py"))
        with theirs:
            self.process = subprocess.Popen(
                # -P keeps the script's own folder from hiding modules of the same names.
                [sys.executable, "-P", script, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                env=share.environment(),
                stdin=subprocess.DEVNULL,
                # Out of reach of the terminal's Ctrl-C, and one group with its own children.
                start_new_session=True,
            )
        self._send(pickle.dumps((sys.path, share.cores)))
        self._send(setup)

    def begin(self, key: str, task: bytes) -> None:
        """Hand over a task; a worker that has just died is noticed when it is looked at."""
        self.key = key
        self._send(task)

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.channel.send_bytes(message)

    def resident_gib(self) -> float:
        """Main memory that it holds, GiB; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE") / _GIB
        with contextlib.suppress(OSError, ValueError):
            ask = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
            return int(subprocess.run(ask, capture_output=True, check=False).stdout) * 1024 / _GIB
        return 0.0

    def dismiss(self) -> None:
        """Close the channel, upon which an idle worker ends by itself."""
        self.channel.close()
        self._leaves_until = time.monotonic() + _GRACE_SECONDS

    def has_left(self) -> bool:
        """Whether a dismissed worker has ended; one that takes too long is killed."""
        if time.monotonic() > self._leaves_until:
            self.kill()
        return self.has_ended()

    def wait_for_end(self) -> int:
        """Wait until a dismissed worker has ended, and return its exit status."""
        while not self.has_left():
            time.sleep(_PAUSE_SECONDS)
        return self.process.returncode

    def has_ended(self) -> bool:
        """Whether it has ended; what it has started then ends with it."""
        if self.process.returncode is None and self.process.poll() is not None:
            self._kill_group()  # at once, before its number can be that of a stranger
        return self.process.returncode is not None

    def kill(self) -> None:
        """Kill it with all that it has started."""
        if self.process.returncode is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _ended(key: str, result: bytes, error: str) -> Ended:
    """What a worker sent, with the result unpickled."""
    if error:
        return Ended(key, error=error)
    try:
        return Ended(key, result=pickle.loads(result))
    except Exception:  # noqa: BLE001 -- a result that cannot be read is an outcome of its task
        return Ended(key, error=traceback.format_exc())


def _cause_of_end(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:  # a real-time signal
        name = ""
    return f"killed by signal {-status}{name}"


def _pickled(what: str, content: Any) -> bytes:
    try:
        return bytes(cloudpickle.dumps(content))
    except Exception as error:
        raise OptionError(
            what,
            received=f"it cannot be sent to another process ({type(error).__name__}: {error})",
            expected="functions and objects that can be pickled",
            mend="Make what cannot be sent (locks, open files, ...) inside the function that "
            "uses it, or search without workers.",
        ) from error


def _check_positive(option: str, number: float | None) -> None:
    if number is not None and not number > 0:
        raise OptionError(
            option,
            received=f"{number}",
            expected="a number above 0",
            mend="Choose a greater one, or leave it out.",
        )
