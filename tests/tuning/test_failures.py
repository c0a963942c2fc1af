"""What goes wrong in a trial: each thing is an outcome, a stop, or the user's own error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import RunError, SettingError
from smarttune.tuning import Run

from .searches import (
    RATE,
    Scripted,
    bowl,
    keras_reads_variables,
    kerastuner_names_threads,
    oracle,
    tuner,
)

pytestmark = [keras_reads_variables, kerastuner_names_threads]


def nth(trials: dict[int, Any]) -> Any:
    """A formula that does something else in some trials, counted by their first epochs."""
    count = -1

    def formula(values: Any, epoch: int) -> dict[str, float]:
        nonlocal count
        count += epoch == 1
        action = trials.get(count)
        if isinstance(action, BaseException):
            raise action
        if callable(action):
            return dict(action(values, epoch))
        return bowl(values, epoch)

    return formula


def lost(value: float, name: str = "val_loss") -> Any:
    """Logs that turn into no number in the second epoch, after a splendid first one."""

    def formula(values: Any, epoch: int) -> dict[str, float]:
        logs = {"loss": 0.0, "val_loss": -100.0}
        return logs if epoch == 1 else {**logs, name: value}

    return formula


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's error is."""


@pytest.mark.parametrize(
    ("strategy", "value"),
    [
        ("random", math.nan),
        ("random", math.inf),
        ("random", -math.inf),
        ("bayesian", -math.inf),
        ("hyperband", math.nan),
    ],
)
def test_divergence_is_an_outcome(tmp_path: Path, strategy: str, value: float) -> None:
    """A trial whose loss is no number is never the best, and the search goes on."""
    diverging = {i: lost(value) for i in (0, 1, 2, 5)}
    searched = tuner(tmp_path / "run", strategy, Scripted(nth(diverging)))

    searched.search(epochs=3)

    log = searched.log
    gone = [r for r in log if r.outcome == "diverged"]
    assert len(gone) >= (3 if strategy != "hyperband" else 1)
    assert all(r.score is None and "epoch 2" in r.message for r in gone)
    assert len(log) >= 6
    assert math.isfinite(log.best().score or math.nan)
    assert log.best().outcome == "completed"
    assert searched.oracle.get_best_trials(1)[0].trial_id == log.best().trial_id
    assert not {f"{r.trial_id}.best.npz" for r in gone} & {
        p.name for p in (tmp_path / "run" / "checkpoints").iterdir()
    }


def test_a_search_in_which_all_diverge_ends_by_itself(tmp_path: Path) -> None:
    """Without one finite score there is no best trial, but no abort either."""
    searched = tuner(
        tmp_path / "run", hypermodel=Scripted(lambda values, epoch: {"val_loss": math.nan})
    )

    searched.search(epochs=2)

    assert [r.outcome for r in searched.log] == ["diverged"] * 6
    with pytest.raises(RunError, match="diverged"):
        searched.log.best()


def test_a_diverged_trial_is_read_back(tmp_path: Path) -> None:
    """A run that holds a diverged trial can be opened again."""
    tuner(tmp_path / "run", hypermodel=Scripted(nth({1: lost(math.nan)}))).search(epochs=2)

    assert [r.outcome for r in Run.load(tmp_path / "run").log][:2] == ["completed", "diverged"]


def test_an_error_in_the_first_trial_is_the_users(tmp_path: Path) -> None:
    """A bug in the model stops the search with its own exception, and the run stays usable."""
    error = ZeroDivisionError("a bug in build")
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth({0: error})))

    with pytest.raises(ZeroDivisionError) as caught:
        searched.search(epochs=1)

    assert caught.value is error
    assert len(Run.load(tmp_path / "run").log) == 0
    again = tuner(tmp_path / "run")
    again.search(epochs=1)
    assert [r.trial_id for r in again.log] == [str(i) for i in range(6)]


def test_an_error_in_a_build_function_is_the_users(tmp_path: Path) -> None:
    """KerasTuner's own retries of a broken build do not hide the exception."""

    class Broken(Scripted):
        def build(self, hp: Any) -> Any:
            super().build(hp)
            raise KeyError("typo")

    with pytest.raises(KeyError, match="typo"):
        tuner(tmp_path / "run", hypermodel=Broken()).search(epochs=1)


def test_a_later_error_fails_one_trial(tmp_path: Path) -> None:
    """Once a trial has worked, a crash costs its own trial and keeps the traceback."""
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth({2: ValueError("bad shape")})))

    searched.search(epochs=2)

    outcomes = [r.outcome for r in searched.log]
    assert outcomes == ["completed", "completed", "failed", "completed", "completed", "completed"]
    message = searched.log[2].message
    assert "Traceback" in message
    assert "ValueError: bad shape" in message
    assert "test_failures.py" in message
    assert searched.log[2].score is None
    assert [r.outcome for r in Run.load(tmp_path / "run").log] == outcomes


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        ResourceExhaustedError("OOM when allocating"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
    ],
    ids=["MemoryError", "TensorFlow", "JAX"],
)
@pytest.mark.parametrize("when", [0, 2])
def test_want_of_memory_costs_one_trial(tmp_path: Path, error: Exception, when: int) -> None:
    """Out of memory is an outcome of its own, even in the first trial."""
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth({when: error})))

    searched.search(epochs=1)

    assert [r.outcome for r in searched.log].count("out_of_memory") == 1
    assert searched.log[when].outcome == "out_of_memory"
    assert len(searched.log) == 6


def test_crashes_in_a_row_end_the_search(tmp_path: Path) -> None:
    """The third crash in a row is an error that shows the last one, and all are on record."""
    crashes = {i: ValueError(f"crash {i}") for i in (1, 2, 3)}
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth(crashes)))

    with pytest.raises(RunError, match="crash 3"):
        searched.search(epochs=1)

    outcomes = [r.outcome for r in Run.load(tmp_path / "run").log]
    assert outcomes == ["completed", "failed", "failed", "failed"]


def test_a_run_goes_on_after_crashes_in_a_row(tmp_path: Path) -> None:
    """Once the cause is mended, resuming keeps the crashed trials and runs the rest."""
    crashes = {i: ValueError("crash") for i in (1, 2, 3)}
    with pytest.raises(RunError):
        tuner(tmp_path / "run", hypermodel=Scripted(nth(crashes))).search(epochs=1)

    mended = tuner(tmp_path / "run")
    mended.search(epochs=1)

    outcomes = [r.outcome for r in mended.log]
    assert outcomes == ["completed", *["failed"] * 3, "completed", "completed"]


def test_mistakes_of_the_user_are_never_swallowed(tmp_path: Path) -> None:
    """An error that the user can mend stops the search in any trial."""
    error = SettingError("optimizer.name", received="`x`", expected="adam", mend="Set it.")
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth({3: error})))

    with pytest.raises(SettingError):
        searched.search(epochs=1)

    assert len(Run.load(tmp_path / "run").log) == 3


def test_an_interrupt_is_no_failure(tmp_path: Path) -> None:
    """Ctrl-C leaves the loop at once and records nothing of the trial it hit."""
    searched = tuner(tmp_path / "run", hypermodel=Scripted(nth({2: KeyboardInterrupt()})))

    with pytest.raises(KeyboardInterrupt):
        searched.search(epochs=2)

    assert [r.trial_id for r in Run.load(tmp_path / "run").log] == ["0", "1"]


def test_a_failed_promotion_is_replaced(tmp_path: Path) -> None:
    """When a promoted trial crashes, another takes its place and still reaches the top."""
    crashed: list[int] = []

    def once(values: Any, epoch: int) -> dict[str, float]:
        if epoch == 4 and not crashed:
            crashed.append(epoch)
            raise ValueError("crash on the last rung")
        return bowl(values, epoch)

    searched = tuner(tmp_path / "run", "hyperband", Scripted(once))
    searched.search()

    top = [r for r in searched.log if r.bracket == 2 and r.rung == 2]
    assert sorted(r.outcome for r in top) == ["completed", "failed"]


def test_the_reason_for_the_end_is_noted(tmp_path: Path) -> None:
    """Each failed trial is an event with its outcome, so the log tells the story."""
    tuner(tmp_path / "run", hypermodel=Scripted(nth({1: ValueError("x")}))).search(epochs=1)

    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    finished = [e for e in map(json.loads, lines) if e["event"] == "trial_finished"]

    assert [e["outcome"] for e in finished][:3] == ["completed", "failed", "completed"]
    assert finished[1]["best_score"] == finished[0]["score"]


def test_one_crash_with_a_stock_oracle_is_no_end(tmp_path: Path) -> None:
    """A failing trial is told to KerasTuner's own oracle in its own words."""
    stock = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"), max_trials=4, seed=1
    )
    searched = tuner(tmp_path / "run", stock, Scripted(nth({1: ValueError("x")})))

    searched.search(epochs=1)

    assert [r.outcome for r in searched.log] == ["completed", "failed", "completed", "completed"]
    assert searched.oracle.get_best_trials(1)[0].hyperparameters.get(RATE)
    assert oracle().max_trials == 6
