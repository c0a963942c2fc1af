"""`kill -9` and Ctrl-C at any moment: nothing finished is lost, nothing runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from smarttune.tuning import Run

pytestmark = pytest.mark.slow

KILLS = 10  # for each of two strategies
TRIALS = 9
PATIENCE = 180.0  # seconds until a process that does not move counts as hung
MOST_STARTUP, MOST_TRAINING = 2.0, 2.5  # seconds within which the random moments lie

OPTIONS = [
    "--target", "y", "--problem", "regression", "--seed", "4", "--quiet",
    "--trials", str(TRIALS), "--run", "run",
    "--set", "search.max_epochs=3", "--set", "search.min_epochs=1",
    "--set", "training.batch_size=64", "--set", "model.num_layers=1", "--set", "model.units=16",
]  # fmt: skip


def write_table(path: Path) -> None:
    """A small csv whose target follows from two columns."""
    rng = random.Random(1)
    rows = [(rng.gauss(0, 1), rng.gauss(0, 1), rng.choice("ab")) for _ in range(120)]
    lines = [f"{a:.4f},{b:.4f},{c},{2 * a - b + (c == 'a'):.4f}" for a, b, c in rows]
    path.write_text("\n".join(["p,q,c,y", *lines]) + "\n")


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
from smarttune.job import prepare_backend
prepare_backend()
import keras_tuner, matplotlib.figure, optuna.storages._rdb.storage
import smarttune.report.files, smarttune.report.html
import smarttune.tuning.finishing, smarttune.tuning.table, smarttune.tuning.tuner
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


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """Every finished trial of a run, as it stands on disk."""
    if not (path / "run.json").exists():
        return {}
    return {r.trial_id: r.model_dump() for r in Run.load(path).log}


def essence(trial: dict[str, Any]) -> dict[str, Any]:
    """A trial without its times."""
    return {k: v for k, v in trial.items() if k not in ("seconds", "started")}


def sit(folder: Path, strategy: str, nursery: Nursery | None = None) -> Sitting:
    """Start the search, or go on with it if it has begun."""
    if (folder / "run" / "run.json").exists():
        return Sitting(folder, "resume", "run", "--quiet", nursery=nursery)
    options = ("--strategy", strategy, *OPTIONS)
    return Sitting(folder, "search", "data.csv", *options, nursery=nursery)


def kill_at_random(folder: Path, strategy: str, rng: random.Random, nursery: Nursery) -> bool:
    """One sitting that is killed at a random moment; whether the kill hit it at work."""
    before = Counter(e["event"] for e in events(folder / "run"))
    sitting = sit(folder, strategy, nursery)
    if rng.random() < 0.2:  # amid reading, measuring, splitting
        time.sleep(rng.uniform(0.0, MOST_STARTUP))
    elif sitting.wait_for("trial_started", before["trial_started"]):
        time.sleep(rng.uniform(0.0, MOST_TRAINING))
    return sitting.kill()


def check_after_kill(run: Path, known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every trial that was finished before is there, unchanged, in a sound file."""
    now = recorded(run)
    assert list(now)[: len(known)] == list(known)
    for trial_id, trial in known.items():
        assert now[trial_id] == trial
    if (run / "study.db").exists():
        with sqlite3.connect(run / "study.db") as file:
            assert file.execute("pragma integrity_check").fetchone() == ("ok",)
    return now


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """A process to fork searches from."""
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize("strategy", ["hyperband", "random"])
def test_kills_at_random_moments_lose_nothing(
    tmp_path: Path, nursery: Nursery, strategy: str
) -> None:
    """Killed ten times, a search ends with the very trials of one that was never touched."""
    rng = random.Random(strategy)
    (tmp_path / "killed").mkdir()
    write_table(tmp_path / "killed" / "data.csv")
    run = tmp_path / "killed" / "run"
    known: dict[str, dict[str, Any]] = {}
    hits = 0
    for _ in range(KILLS):
        num_events = len(events(run))
        hits += kill_at_random(tmp_path / "killed", strategy, rng, nursery)
        started = [e["trial_id"] for e in events(run)[num_events:] if e["event"] == "trial_started"]
        assert not set(started) & set(known), "a finished trial was run again"
        known = check_after_kill(run, known)
    last = sit(tmp_path / "killed", strategy)
    assert last.end() == 0, last.errors.read_text()
    assert "Traceback" not in last.errors.read_text()
    check_after_kill(run, known)
    check_finished(run)
    assert hits >= KILLS // 2  # the kills did hit a search at work

    (tmp_path / "whole").mkdir()
    write_table(tmp_path / "whole" / "data.csv")
    whole = sit(tmp_path / "whole", strategy, nursery)
    assert whole.end() == 0, whole.errors.read_text()
    expected = [essence(t) for t in recorded(tmp_path / "whole" / "run").values()]
    assert [essence(t) for t in recorded(run).values()] == expected
    assert len(expected) == TRIALS
    if strategy == "hyperband":
        assert any(t["parent"] for t in expected)


def check_finished(run: Path) -> None:
    """The run is complete, each trial ended once, and what is left over is hidden."""
    finished = Counter(e["trial_id"] for e in events(run) if e["event"] == "trial_finished")
    assert set(finished.values()) == {1}
    # A kill between the record and its event leaves the trial without one.
    assert set(finished) <= set(recorded(run))
    report = json.loads((run / "report.json").read_text())
    assert report["num_trials"] == TRIALS
    for name in ("model.keras", "core.keras"):
        with zipfile.ZipFile(run / name) as file:
            assert file.testzip() is None
    names = {p.name for p in run.iterdir()}
    strangers = names - {
        "run.json", "recommendation.json", "fingerprint.json", "preprocessing.json", "study.db",
        "events.jsonl", "checkpoints", "core.keras", "model.keras", "report.json", "report.md",
        "report.html",
    }  # fmt: skip
    assert all(name.startswith(".") for name in strangers), strangers
    assert len(list((run / "checkpoints").glob("*.best.npz"))) <= 16


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """Interrupted amid the second trial, the search exits with 130 and names the next command."""
    write_table(tmp_path / "data.csv")
    sitting = sit(tmp_path, "random")
    assert sitting.wait_for("trial_finished", 0), sitting.errors.read_text()

    sitting.process.send_signal(signal.SIGINT)

    assert sitting.end() == 130
    said = sitting.errors.read_text()
    assert "smarttune resume run" in said
    assert "Traceback" not in said
    assert len(recorded(tmp_path / "run")) >= 1
    assert not Run.load(tmp_path / "run").is_finished


def test_a_disk_that_fills_amid_a_search_is_no_loss(tmp_path: Path) -> None:
    """When the first trial cannot be recorded the search says so, and goes on once it can."""
    write_table(tmp_path / "data.csv")
    arguments = ["search", "data.csv", "--strategy", "random", *OPTIONS, "--trials", "2"]
    full = 60_000  # bytes; an empty study alone takes more
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({full}, {full}));"
        "from smarttune.cli import main; main()"
    )

    refused = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert refused.returncode == 2
    assert "Error: run/study.db: the trial cannot be recorded" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert recorded(tmp_path / "run") == {}

    resumed = sit(tmp_path, "random")
    assert resumed.end() == 0, resumed.errors.read_text()
    assert len(recorded(tmp_path / "run")) == 2
