"""Real workers and the search itself are killed at random: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from smarttune.tuning import Run
from smarttune.tuning.driving import RESUBMISSIONS
from tests.sittings import PATIENCE, environment, events

pytestmark = pytest.mark.slow

# A run with many kills: SMARTTUNE_KILLS=30 pytest tests/tuning/test_kills.py
KILLS = int(os.environ.get("SMARTTUNE_KILLS", "4"))
TRIALS = 8 + 3 * KILLS
WORKERS = 2
DRIVER_SHARE = 0.4  # of the kills that hit the search itself
SECONDS_PER_TRIAL = 10.0  # on a machine that is busy with other tests
LONGEST_PAUSE = 1.5  # seconds of work within which the random moments lie

# A script without a guard, whose networks and their data are in no module.
PROGRAM = f"""
import sys
import keras, keras_tuner, numpy as np
from smarttune.execution import TrainingData
from smarttune.oracles import HyperbandOracle
from smarttune.tuning import Budget, SmartTuner, TrialPolicy

def build(hp):
    hp.Fixed("training.batch_size", 64)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-1, sampling="log")), "mse")
    return model

rng = np.random.default_rng(0)
x = rng.normal(size=(8000, 4)).astype("float32")
y = (x @ rng.normal(size=(4, 1))).astype("float32")
oracle = HyperbandOracle(
    keras_tuner.Objective("val_loss", "min"), max_epochs=9, hyperband_iterations=None, seed=7
)
SmartTuner(
    oracle, build, directory=".", project_name="run", budget=Budget(trials={TRIALS}),
    policy=TrialPolicy(max_epochs=9, seed=7), workers={WORKERS}, executor=sys.argv[1],
).search(TrainingData(x, y, x[:500], y[:500]))
"""


class Search:
    """One sitting of the search, in a process of its own."""

    def __init__(self, folder: Path, executor: str) -> None:
        self.folder, self.executor = folder, executor
        with (folder / "stderr.txt").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, executor],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment() | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        children = _children(self.process.pid)
        if self.executor != "ray":
            return children
        # Ray's are children of its node's process, beside agents with which the node would go, too.
        return [p for child in children for p in _children(child) if _is_actor(p)]

    def await_work(self, num_begun: int) -> bool:
        """Wait until it has begun a trial; False if it has ended."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if len(started(self.folder)) > num_begun:
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        raise TimeoutError((self.folder / "stderr.txt").read_text())

    def end(self) -> str:
        """Let it end by itself; return what it said if it failed."""
        try:
            code = self.process.wait(PATIENCE + SECONDS_PER_TRIAL * TRIALS)
        finally:
            self.process.kill()
        return f"exit {code}: {(self.folder / 'stderr.txt').read_text()}" if code else ""


def started(folder: Path) -> list[str]:
    """Trials in the order in which they were begun."""
    return [e["trial_id"] for e in events(folder / "run") if e["event"] == "trial_started"]


def recorded(folder: Path) -> dict[str, str]:
    """Finished trials as they stand on disk."""
    if not (folder / "run" / "run.json").exists():
        return {}
    return {r.trial_id: r.model_dump_json() for r in Run.load(folder / "run").log}


def kill(search: Search, rng: random.Random) -> tuple[str, list[int]]:
    """Kill one process at random; return which kind it was, and the workers that were there."""
    workers = search.workers()
    hits_driver = rng.random() < DRIVER_SHARE or not workers
    victim = search.process.pid if hits_driver else rng.choice(workers)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return "missed", []
    if hits_driver:
        search.process.wait(PATIENCE)
    return ("driver", workers) if hits_driver else ("worker", [])


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found.split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_actor(pid: int) -> bool:
    return _command(pid).startswith("ray::Worker")


def await_death(pids: list[int]) -> None:
    """Workers that outlive their search end by themselves."""
    until = time.monotonic() + PATIENCE
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < until, "workers live on without their search"
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    return "smarttune" in _command(pid) or _is_actor(pid)


def killed_at_random(folder: Path, executor: str) -> tuple[Search, Counter[str], dict[str, str]]:
    """Kill so often; return the last sitting, what was hit, and what was on record by then."""
    rng = random.Random(KILLS)
    hits: Counter[str] = Counter()
    known: dict[str, str] = {}
    search = Search(folder, executor)
    while hits["driver"] + hits["worker"] < KILLS and search.await_work(len(started(folder))):
        time.sleep(rng.uniform(0.0, LONGEST_PAUSE))
        kind, orphans = kill(search, rng)
        hits[kind] += 1
        await_death(orphans)
        if search.process.poll() is not None:
            search = Search(folder, executor)
        now = recorded(folder)
        assert list(now.items())[: len(known)] == list(known.items())
        known = now
    return search, hits, known


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_kills_of_workers_and_of_the_search_lose_nothing(tmp_path: Path, executor: str) -> None:
    """After all kills every trial is there once, finished, and as it was when it was recorded."""
    if executor == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    search, hits, known = killed_at_random(tmp_path, executor)
    said = search.end()

    assert not said, said
    records = Run.load(tmp_path / "run").log
    assert list(recorded(tmp_path).items())[: len(known)] == list(known.items())
    assert sorted(int(r.trial_id) for r in records) == list(range(TRIALS))
    lost = Counter(e["trial_id"] for e in events(tmp_path / "run") if e["event"] == "worker_lost")
    for r in records:  # chance may hit one trial so often that it is given up
        assert r.outcome == "completed" or lost[r.trial_id] > RESUBMISSIONS, r.message
    assert any(r.parent for r in records)
    finished = Counter(
        e["trial_id"] for e in events(tmp_path / "run") if e["event"] == "trial_finished"
    )
    assert set(finished.values()) == {1}
    assert not [e for e in events(tmp_path / "run") if e["event"] == "warning"]
    assert not list((tmp_path / "run").glob(".workers"))
    assert hits["driver"] + hits["worker"] > KILLS // 2  # a fast machine may end before the last
    assert min(hits["driver"], hits["worker"]) > 0
    print(f"kills {dict(hits)}, trials {len(records)}, begun {len(started(tmp_path))}")
