"""i-Epoch keeps the contract, finishes the best, and costs what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import OptionError, RunError
from smarttune.oracles.i_epoch import IEpochOracle

from .contract import (
    CRASH,
    SeededContract,
    configuration,
    finish,
    loss,
    num_full_trainings,
    play,
    small_space,
    space,
)


class TestIEpochOracle(SeededContract):
    """i-Epoch under contract: 20 configurations for five epochs, three of them for nine."""

    budget = None  # finalists that fail are replaced, so their number depends on the failures

    def make(self, **options: Any) -> IEpochOracle:
        """Twenty configurations of at most nine epochs."""
        return IEpochOracle(
            **{"objective": "val_loss", "max_trials": 20, "max_epochs": 9, **options}
        )

    def planned_full_trainings(self, oracle: Any) -> int:
        """The finalists."""
        return int(oracle.num_finalists)


def finalists(oracle: IEpochOracle) -> list[Any]:
    """The trials that continue another."""
    return [t for t in oracle.trials.values() if "tuner/trial_id" in t.hyperparameters.values]


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_finalists_continue_the_best(direction: str, workers: int) -> None:
    """The three best after five epochs, and no others, are trained to the end, in place."""
    oracle = IEpochOracle(
        keras_tuner.Objective("score", direction), 20, max_epochs=50, hyperparameters=space()
    )
    play(oracle, workers=workers)
    chosen = finalists(oracle)
    parents = [oracle.trials[t.hyperparameters.values["tuner/trial_id"]] for t in chosen]
    first = [t for t in oracle.trials.values() if t not in chosen]
    ranked = sorted((t.score for t in first), reverse=direction == "max")
    assert sorted((p.score for p in parents), reverse=direction == "max") == ranked[:3]
    assert [configuration(p) for p in parents] == [configuration(t) for t in chosen]
    for trial, epochs in [(first[0], (0, 5, 0)), (chosen[0], (5, 50, 1))]:
        values = trial.hyperparameters.values
        told = values["tuner/initial_epoch"], values["tuner/epochs"], values["tuner/round"]
        assert told == epochs
        assert values["tuner/bracket"] == 1


def test_failed_finalists_are_replaced_by_the_next_best() -> None:
    """If the best configuration cannot be finished, the fourth best is."""
    first_scores: list[float] = []

    def breaks(trial_id: str, values: Any) -> float | str:
        score = loss(trial_id, values)
        if values["tuner/round"] == 0:
            first_scores.append(score)
        return CRASH if values["tuner/round"] == 1 and score == min(first_scores) else score

    oracle = IEpochOracle("val_loss", 12, max_epochs=9, hyperparameters=space(), seed=1)
    play(oracle, breaks)
    done = sorted(t.score for t in finalists(oracle) if t.status == "COMPLETED")
    assert done == sorted(first_scores)[1:4]


def test_finalists_do_not_wait_for_a_trial_that_cannot_displace_them() -> None:
    """With one configuration still running, two finalists are certain and the third is not."""
    oracle = IEpochOracle("val_loss", 6, max_epochs=9, hyperparameters=space(), seed=0)
    running = oracle.create_trials([f"t{i}" for i in range(6)])
    for trial in running[1:]:
        finish(oracle, trial, float(trial.trial_id))
    early = oracle.create_trials(["a", "b", "c"])
    parents = [t.hyperparameters.values["tuner/trial_id"] for t in early]
    assert parents == [running[1].trial_id, running[2].trial_id]
    assert oracle.create_trial("c").status == "IDLE"
    finish(oracle, running[0], 0.0)
    last = oracle.create_trial("c")
    assert last.hyperparameters.values["tuner/trial_id"] == running[0].trial_id


def test_states_are_kept_until_the_finalists_are_through() -> None:
    """A trial that may be a finalist is kept, and when three are through none is."""
    oracle = IEpochOracle("val_loss", 8, max_epochs=9, hyperparameters=space(), seed=3)
    kept: set[str] = set()
    while (trial := oracle.create_trial("worker")).status == "RUNNING":
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        assert parent is None or parent in kept
        finish(oracle, trial, loss("", trial.hyperparameters.values))
        kept = {t for t in oracle.trials if oracle.may_continue(t)}
    assert not kept
    assert len(finalists(oracle)) == 3


def test_search_in_which_no_finalist_completes_ends() -> None:
    """If every long training diverges, each configuration is tried once and nothing is kept."""
    oracle = IEpochOracle("val_loss", 6, max_epochs=9, hyperparameters=space(), seed=3)
    play(oracle, lambda i, v: math.nan if v["tuner/round"] else loss(i, v), workers=2)
    assert len(finalists(oracle)) == 6
    assert not any(oracle.may_continue(t) for t in oracle.trials)


def test_small_space_is_finished_too() -> None:
    """A space of five configurations is compared whole, and three of them are finished."""
    oracle = IEpochOracle("val_loss", 50, max_epochs=9, hyperparameters=small_space())
    play(oracle, lambda _, v: float(v.get("depth", 9)), workers=2)
    assert num_full_trainings(oracle) == 3
    assert len(oracle.trials) == 5 + 3


@pytest.mark.parametrize(
    "options",
    [{"max_trials": 0}, {"num_epochs": 0}, {"num_epochs": 9}, {"num_finalists": 0}],
)
def test_impossible_plans_are_refused(options: dict[str, Any]) -> None:
    """Numbers that do not fit together are an error that says which."""
    with pytest.raises(OptionError, match=next(iter(options))):
        IEpochOracle(**{"objective": "val_loss", "max_epochs": 9, **options})


def test_resume_with_other_epochs_is_refused(tmp_path: Path) -> None:
    """A search that compares after five epochs cannot be resumed as one that does after two."""
    oracle = IEpochOracle("val_loss", 6, max_epochs=9, hyperparameters=space())
    oracle._set_project_dir(str(tmp_path), "p")
    play(oracle, stop_after=1)
    other = IEpochOracle("val_loss", 6, max_epochs=9, num_epochs=2, hyperparameters=space())
    other._set_project_dir(str(tmp_path), "p")
    with pytest.raises(RunError, match="num_epochs was 5 and is now 2"):
        other.reload()
