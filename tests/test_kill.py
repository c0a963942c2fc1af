"""`kill -9` and Ctrl-C at any moment: nothing finished is lost, nothing runs twice."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smarttune.tuning import Run
from tests.sittings import Nursery, Sitting, environment, events

pytestmark = pytest.mark.slow

KILLS = 10  # for each of two strategies
TRIALS = 9
MOST_STARTUP, MOST_TRAINING = 2.0, 2.5  # seconds within which the random moments lie

OPTIONS = [
    "--target", "y", "--problem", "regression", "--seed", "4", "--quiet", "--no-confirm",
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


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """Every finished trial of a run, as it stands on disk."""
    if not (path / "run.json").exists():
        return {}
    return {r.trial_id: r.model_dump() for r in Run.load(path).log}


def essence(trial: dict[str, Any]) -> dict[str, Any]:
    """A trial without its times."""
    return {k: v for k, v in trial.items() if k not in ("seconds", "started", "samples_per_second")}


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
