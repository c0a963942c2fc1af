"""Processes of the command line that a test starts, watches and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 180.0  # seconds until a process that does not move counts as hung


class Sitting:
    """One process of the command line at work in a folder.

    Args:
        folder: Where it works.
        arguments: The command.
        nursery: Starts it quickly; without one it is a Python of its own.
    """

    def __init__(self, folder: Path, *arguments: str, nursery: Nursery | None = None) -> None:
        self.folder = folder
        self.errors = folder / "stderr.txt"
        self.process: subprocess.Popen[bytes] | Child
        if nursery is not None:
            self.process = nursery.start(folder, self.errors, arguments)
            return
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "smarttune", *arguments],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment(),
                # A test run in the background is deaf to Ctrl-C, and so would be its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )

    def wait_for(self, event: str, already: int) -> bool:
        """Wait until more events of a kind are written; False if the process ends before."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if sum(e["event"] == event for e in events(self.folder / "run")) > already:
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        self.kill()
        raise TimeoutError(self.errors.read_text())

    def kill(self) -> bool:
        """Kill it as the system does; return whether it was still at work."""
        running = self.process.poll() is None
        self.process.kill()
        self.process.wait(PATIENCE)
        return running

    def end(self) -> int:
        """Let it end by itself."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


# Imports what a search imports, then forks a process for each command that it reads. A
# process that is killed so often would else spend most of its life importing TensorFlow.
NURSERY = """
import json, os, sys
from smarttune.backend import prepare_backend
prepare_backend()
import keras_tuner, matplotlib.figure, optuna.storages._rdb.storage
import smarttune.report.files, smarttune.report.html
import smarttune.tuning.finishing, smarttune.tuning.preparing, smarttune.tuning.tuner
from smarttune.cli import run
for line in sys.stdin:
    order = json.loads(line)
    if "pid" in order:
        pid, status = os.waitpid(order["pid"], order["options"])
        print(os.waitstatus_to_exitcode(status) if pid else "", flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        os.chdir(order["folder"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os._exit(run(order["arguments"]))
    print(pid, flush=True)
"""


def environment() -> dict[str, str]:
    """One thread each, so that two searches share two cores in peace."""
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **dict.fromkeys(threads, "1")}


class Nursery:
    """A process from which searches are forked, each a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )

    def ask(self, **order: Any) -> str:
        """Send an order and read the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def start(self, folder: Path, errors: Path, arguments: Sequence[str]) -> Child:
        """Fork a search."""
        order = {"folder": str(folder), "errors": str(errors), "arguments": list(arguments)}
        return Child(self, int(self.ask(**order)))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Child:
    """A forked search, with the methods of `subprocess.Popen` that are needed."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.nursery = nursery
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.code is None:
            answer = self.nursery.ask(pid=self.pid, options=os.WNOHANG)
            self.code = int(answer) if answer else None
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for its end."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise TimeoutError(str(self.pid))
            time.sleep(0.02)
        assert self.code is not None
        return self.code


def events(path: Path) -> list[dict[str, Any]]:
    """All whole events of a run."""
    file = path / "events.jsonl"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]
