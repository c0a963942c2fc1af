"""One worker of the pool of child processes; a script that the pool starts, imported by nobody.

It imports nothing of this package, which would bring Keras along: what a worker needs is for
its setup to say.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# ours: an orphan lives no longer than this; two looks a second cost nothing.
_GLANCE_SECONDS = 0.5
# ours: halfway up the kernel's scale to 1000 (proc_pid_oom_score_adj(5)), so that it takes a
# worker before the driver, and leaves room for what the user wants killed even sooner.
_OOM_SCORE = 500


def serve(descriptor: int, driver: int) -> None:
    """Run tasks until the driver closes the channel or is gone.

    Args:
        descriptor: The channel to the driver, an inherited socket.
        driver: The process id of the driver.
    """
    # The driver decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    os.set_inheritable(descriptor, False)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # the driver's standard output may be read by a program
    _offer_to_memory_killer()
    channel = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        _run_tasks(channel)
    # Exit hooks are run, but the interpreter is not taken apart: with TensorFlow that is more
    # than a second of work for nothing.
    atexit._run_exitfuncs()  # noqa: SLF001 -- the documented way would take it apart
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def _run_tasks(channel: Connection[Any, Any]) -> None:
    sys.path[:], cores = pickle.loads(channel.recv_bytes())
    if cores:
        with contextlib.suppress(OSError):  # a container may have taken some since
            os.sched_setaffinity(0, cores)
    setup, task = channel.recv_bytes(), channel.recv_bytes()
    program, failure = _set_up(setup)
    del setup
    while True:
        channel.send((b"", failure) if failure else _outcome(program, task))
        task = channel.recv_bytes()


def _set_up(setup: bytes) -> tuple[Callable[[Any], Any], str]:
    """Return the program and "", or what went wrong in making it: the error of every task."""
    try:
        return pickle.loads(setup)(), ""
    except BaseException:  # noqa: BLE001 -- whatever it is, it is the outcome
        return repr, traceback.format_exc()


def _outcome(program: Callable[[Any], Any], task: bytes) -> tuple[bytes, str]:
    """Return the pickled result and "", or nothing and the traceback."""
    import cloudpickle

    try:
        return cloudpickle.dumps(program(pickle.loads(task))), ""
    except BaseException:  # noqa: BLE001 -- also SystemExit: a task ends, not its worker
        return b"", traceback.format_exc()


def _end_with(driver: int) -> None:
    """End this process and its children at once when the driver is gone, whatever they do."""
    while os.getppid() == driver:
        time.sleep(_GLANCE_SECONDS)
    with contextlib.suppress(OSError):
        os.killpg(os.getpid(), signal.SIGKILL)  # the pool made it the leader of a group
    os._exit(1)


def _offer_to_memory_killer() -> None:
    """Have the kernel kill this process before the driver when memory runs out."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        if int(score.read_text()) < _OOM_SCORE:
            score.write_text(str(_OOM_SCORE))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
