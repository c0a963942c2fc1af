"""Budgets of trials, epochs and time hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smarttune.tuning import Budget
from smarttune.tuning.budget import Clock
from smarttune.tuning.watching import TIME_LIMIT

from .searches import Scripted, keras_reads_variables, oracle, tuner

pytestmark = keras_reads_variables


def test_the_budget_of_trials_holds(tmp_path: Path) -> None:
    """No trial is started beyond the number, whatever the strategy would run."""
    searched = tuner(tmp_path / "run", "hyperband", budget=Budget(trials=4))

    searched.search()

    assert len(searched.log) == 4


@pytest.mark.parametrize("epochs", [1, 7, 10])
def test_the_budget_of_epochs_holds(tmp_path: Path, epochs: int) -> None:
    """Exactly so many epochs are trained; the last trial is cut to fit."""
    hypermodel = Scripted()
    searched = tuner(tmp_path / "run", hypermodel=hypermodel, budget=Budget(epochs=epochs))

    searched.search(epochs=3)

    assert searched.log.num_epochs == epochs
    assert sum(len(trained) for _, trained in hypermodel.trained) == epochs


class Steps(Clock):
    """A clock that moves by one second each time it is read."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.ticks = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that have been read."""
        self.ticks += 1.0
        return self.ticks


def test_the_budget_of_time_holds(tmp_path: Path) -> None:
    """The trial that runs when the time is up is stopped, kept, and is the last one."""
    clock = Steps(100.0)
    events: list[Any] = []
    searched = tuner(tmp_path / "run", oracle(max_trials=99), clock=clock, on_event=events.append)

    searched.search(epochs=20)

    last = searched.log[-1]
    assert (last.outcome, last.message) == ("stopped", TIME_LIMIT)
    assert 0 < last.num_epochs < 20
    assert last.is_scored
    assert clock.ticks < 100.0
    assert [e["reason"] for e in events if e["event"] == "trials_ended"] == ["the time is up"]


def test_the_first_trial_does_not_eat_the_time(tmp_path: Path) -> None:
    """An endless first trial is stopped early enough for others to be tried."""
    searched = tuner(tmp_path / "run", clock=Steps(100.0), budget=Budget(trials=3))

    searched.search(epochs=40)

    assert searched.log[0].message == TIME_LIMIT
    assert searched.log[0].num_epochs < 30
    assert len(searched.log) > 1


def test_a_finished_strategy_ends_the_search(tmp_path: Path) -> None:
    """When the strategy has nothing more to try, the search says so."""
    searched = tuner(tmp_path / "run", oracle(max_trials=2))

    searched.search(epochs=1)

    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["reason"] == "the strategy is done"
