"""The search keeps to its time, spends its tail, and loses little of a trial to a crash."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.execution import TrainingData
from smarttune.tuning import Run, SmartTuner, TrialPolicy, interrupted
from smarttune.tuning.budget import Clock
from smarttune.tuning.interrupted import left_of
from smarttune.tuning.policy import TrialPlan
from smarttune.tuning.watching import TIME_LIMIT
from tests.sittings import Sitting

from .searches import (
    Interrupt,
    Scripted,
    build_learner,
    essence,
    keras_reads_variables,
    line,
    oracle,
    tuner,
)

pytestmark = keras_reads_variables

EPOCHS = 20


class PlayedClock(Clock):
    """A clock that only training moves."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.now = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that were played."""
        return self.now


class Passing(keras.callbacks.Callback):  # type: ignore[misc]
    """Lets the time of an epoch pass before its first batch has ended."""

    def __init__(self, clock: PlayedClock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Move the clock."""
        self.clock.now += self.seconds


class Timed(Scripted):
    """A network that takes so long to build, and its epochs so long to train."""

    def __init__(self, clock: PlayedClock, startup: float, epoch: float) -> None:
        super().__init__()
        self.clock, self.startup, self.seconds = clock, startup, epoch

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        """Let the start-up pass, then train."""
        self.clock.now += self.startup
        passing = Passing(self.clock, self.seconds)
        super().fit(hp, model, *args, **{**kwargs, "callbacks": [passing, *kwargs["callbacks"]]})


def played(
    path: Path, limit: float, startup: float, epoch: float
) -> tuple[SmartTuner, PlayedClock]:
    """A finished search of random full trials under a played clock."""
    clock = PlayedClock(limit)
    searched = tuner(path, oracle(max_trials=999), Timed(clock, startup, epoch), clock=clock)
    searched.search(epochs=EPOCHS)
    return searched, clock


@pytest.fixture
def _records_by_the_played_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the seconds of records be those of the played clock, which `elapsed` alone knows."""
    from smarttune.tuning.running import TrialRunner

    finished = TrialRunner._finished

    def with_played_seconds(self: Any, task: Any, plan: Any, watcher: Any, *rest: Any) -> Any:
        record = finished(self, task, plan, watcher, *rest)
        network = self.hypermodel
        seconds = network.startup + network.seconds * (record.num_epochs - record.initial_epoch)
        return record.model_copy(update={"seconds": seconds})

    monkeypatch.setattr(TrialRunner, "_finished", with_played_seconds)


@pytest.mark.usefixtures("_records_by_the_played_clock")
@pytest.mark.parametrize("limit", [100.0, 131.0, 277.0])
@pytest.mark.parametrize(("startup", "epoch"), [(2.0, 1.0), (0.0, 3.0), (7.0, 0.5)])
def test_the_limit_holds_and_the_tail_is_spent(
    tmp_path: Path, limit: float, startup: float, epoch: float
) -> None:
    """Training ends within one epoch after its end and one trial's first epoch before it."""
    searched, clock = played(tmp_path / "run", limit, startup, epoch)

    ends = clock.training_ends
    assert ends is not None
    assert ends - (startup + epoch) <= clock.now <= ends + epoch
    assert all(r.is_scored for r in searched.log)


@pytest.mark.usefixtures("_records_by_the_played_clock")
def test_a_tail_too_short_for_a_trial_is_given_to_one_that_the_clock_cuts(tmp_path: Path) -> None:
    """A search of long trials ends with a part of one, which has a score as every other."""
    searched, _ = played(tmp_path / "run", 150.0, 2.0, 1.0)

    *whole, last = list(searched.log)[1:]
    assert whole
    assert all(r.num_epochs == EPOCHS for r in whole)
    assert last.message == TIME_LIMIT
    assert 0 < last.num_epochs < EPOCHS


def arrays() -> TrainingData:
    """A line to learn."""
    x, y = line(32)
    return TrainingData(x, y, x[:8], y[:8])


def learner(path: Path, **options: Any) -> SmartTuner:
    """A search that trains one layer for real on the arrays of the search."""
    policy = TrialPolicy(max_epochs=6, seed=3)
    return tuner(path, oracle(max_trials=3), build_learner, policy=policy, **options)


def unfinished(path: Path) -> list[str]:
    """Files of trials that have not ended."""
    return sorted(
        p.name for p in (path / "checkpoints").iterdir() if ".at" in p.name or "unfin" in p.name
    )


@pytest.mark.parametrize("keep_every", [0.0, 1000.0])
def test_an_interrupted_first_trial_goes_on_where_it_was(
    tmp_path: Path, keep_every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in its fourth epoch it trains only what is missing, and ends as if untouched."""
    monkeypatch.setattr(interrupted, "KEEP_EVERY", keep_every)
    monkeypatch.setattr(interrupted, "WRITING_SHARE", 0.0)
    whole = learner(tmp_path / "whole")
    whole.search(arrays())
    with pytest.raises(KeyboardInterrupt):
        learner(tmp_path / "run", on_event=Interrupt(0, events=4)).search(arrays())
    kept = 3 if keep_every == 0 else 1
    assert unfinished(tmp_path / "run") == [
        f"0.at{kept}.best.npz", f"0.at{kept}.last.npz", "0.unfinished.json",
    ]  # fmt: skip
    events: list[Any] = []

    resumed = learner(tmp_path / "run", on_event=events.append)
    resumed.search(arrays())

    trained = [e["epoch"] for e in events if e["event"] == "epoch"]
    assert trained[: 6 - kept] == list(range(kept + 1, 7))
    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]
    assert unfinished(tmp_path / "run") == []
    for record in resumed.log.ranked()[:1]:
        ours, theirs = (np.load(s.run.best_weights_path(record.trial_id)) for s in (resumed, whole))
        assert all(np.array_equal(ours[n], theirs[n]) for n in ours.files)


def test_what_belongs_to_another_trial_is_left_alone(tmp_path: Path) -> None:
    """Of other values, another seed, a plan that is already trained, or a torn file nothing comes."""
    with pytest.raises(KeyboardInterrupt):
        learner(tmp_path / "run", on_event=Interrupt(0, events=2)).search(arrays())
    run = Run.load(tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "0.unfinished.json"
    written = json.loads(file.read_text())
    values, plan = written["values"], TrialPlan(None, range(6), written["seed"])

    assert left_of(run, "0", values, plan) is not None
    assert left_of(run, "1", values, plan) is None
    assert left_of(run, "0", {**values, "model.units": 9}, plan) is None
    assert left_of(run, "0", values, TrialPlan(None, range(6), written["seed"] + 1)) is None
    assert left_of(run, "0", values, TrialPlan(None, range(1), written["seed"])) is None
    file.write_text(file.read_text()[:-9])
    assert left_of(run, "0", values, plan) is None


def test_a_net_that_cannot_be_spread_ends_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the state of a running trial cannot be written the trial goes on without it."""

    def refuse(*args: Any) -> None:
        raise interrupted.RunError("disk", received="full", expected="space", mend="Free some.")

    monkeypatch.setattr(interrupted, "write_bytes", refuse)
    searched = learner(tmp_path / "run")

    searched.search(arrays())

    assert [r.outcome for r in searched.log] == ["completed"] * 3


@pytest.mark.slow
def test_a_kill_in_the_first_minute_leaves_a_model(tmp_path: Path) -> None:
    """Killed after its first epoch a search can be finished at once, and its model predicts."""
    rng = random.Random(1)
    rows = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(400)]
    text = "\n".join(["p,q,y", *(f"{a:.4f},{b:.4f},{2 * a - b:.4f}" for a, b in rows)])
    (tmp_path / "data.csv").write_text(text + "\n")
    options = ("--target", "y", "--problem", "regression", "--trials", "5", "--run", "run")
    long = ("--set", "search.max_epochs=5000", "--set", "training.epochs=5000")
    patient = ("--set", "training.early_stopping.patience=5000")
    sitting = Sitting(tmp_path, "search", "data.csv", *options, *long, *patient)
    checkpoints = tmp_path / "run" / "checkpoints"
    while not list(checkpoints.glob("*.unfinished.json")) and sitting.process.poll() is None:
        time.sleep(0.02)
    assert sitting.kill()
    assert len(Run.load(tmp_path / "run").log) == 0

    finishing = Sitting(tmp_path, "resume", "run", "--time", "1s", "--quiet")
    assert finishing.end() == 0, finishing.errors.read_text()

    run = Run.load(tmp_path / "run")
    assert run.is_finished
    assert len(run.log) == 1
    assert len(run.predict(tmp_path / "data.csv")) == 400
