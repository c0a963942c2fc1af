"""Arguments, directions and files where ours stands in for KerasTuner's."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial

from smarttune.errors import OptionError, RunError
from smarttune.oracles import RandomOracle
from smarttune.oracles.directions import with_direction
from smarttune.tuning import SmartTuner, kerastuner

from .scripts import quiet, rows

pytestmark = quiet

ORACLES = (
    "RandomSearchOracle",
    "BayesianOptimizationOracle",
    "HyperbandOracle",
    "GridSearchOracle",
)


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_take_positional_arguments_in_the_same_order(name: str) -> None:
    """The defaults of KerasTuner's signature, passed by position, end where they belong."""
    stock = getattr(keras_tuner.oracles, name)
    given = {n: p.default for n, p in inspect.signature(stock).parameters.items()}
    given |= {"objective": "val_loss", "seed": 3, "max_retries_per_trial": 2}
    given |= {name: None for name in ("alpha", "beta") if name in given}

    ours = getattr(kerastuner.oracles, name)(*given.values())

    theirs = stock(**{k: v for k, v in given.items() if v is not None})
    for option in ("max_trials", "seed", "max_retries_per_trial", "max_consecutive_failed_trials"):
        assert getattr(ours, option) == getattr(theirs, option)
    assert ours.objective == theirs.objective


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_f1_score", "max"),
        ("val_r2_score", "max"),
        ("val_mean_io_u", "max"),
        ("val_auc_1", "max"),
        ("val_loss", "min"),
    ],
)
def test_directions_of_names_come_from_the_table(name: str, direction: str) -> None:
    """Metrics that KerasTuner takes for losses, or cannot build, have their direction."""
    assert RandomOracle(name).objective.direction == direction
    (part,) = RandomOracle([name]).objective.objectives
    assert part.direction == direction


@pytest.mark.parametrize(("direction", "best"), [("min", [1, 2, 3]), ("max", [3, 2, 1])])
def test_trials_put_in_by_hand_are_ranked(direction: str, best: list[int]) -> None:
    """Completed trials that a script adds to `trials` are ranked with those that were run."""
    oracle = RandomOracle(keras_tuner.Objective("score", direction), max_trials=2)
    ran = oracle.create_trial("tuner0")
    oracle.update_trial(ran.trial_id, {"score": 2.0})
    ran.status = "COMPLETED"
    oracle.end_trial(ran)
    for score, status in ((3.0, "COMPLETED"), (1.0, "COMPLETED"), (None, "FAILED")):
        added = Trial(keras_tuner.HyperParameters(), status=status)
        added.score = score
        oracle.trials[added.trial_id] = added

    assert [trial.score for trial in oracle.get_best_trials(4)] == best


def test_unknown_directions_are_asked_for() -> None:
    """A metric that needs arguments gets an error that says what to write."""
    with pytest.raises(OptionError, match=r"keras_tuner\.Objective"):
        with_direction("val_precision_at_recall")
    with pytest.raises(ValueError, match="infer optimization direction"):
        with_direction("val_something")


def test_unknown_arguments_are_refused(tmp_path: Path) -> None:
    """A misspelt argument is an error, as in KerasTuner."""
    with pytest.raises(ValueError, match="Unrecognized arguments"):
        kerastuner.Tuner(
            RandomOracle("val_loss"), lambda hp: None, directory=str(tmp_path), direktory=1
        )


def test_settled_arguments_say_so() -> None:
    """Arguments of KerasTuner's Gaussian process warn that they do nothing here."""
    with pytest.warns(UserWarning, match="alpha and beta"):
        kerastuner.oracles.BayesianOptimization("val_loss", alpha=1e-3, beta=2.0)


def test_other_names_are_those_of_keras_tuner() -> None:
    """What is not ours under the new import is KerasTuner's own."""
    assert kerastuner.HyperModel is keras_tuner.HyperModel
    assert kerastuner.Objective is keras_tuner.Objective
    with pytest.raises(AttributeError):
        _ = kerastuner.nothing


class Box(kerastuner.RandomSearch):
    """A search without models."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        return trial.hyperparameters.Float("x", -1.0, 1.0)


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    """Without `overwrite` a project is resumed, with it its trials are gone."""
    Box(max_trials=2, directory=str(tmp_path)).search()

    assert len(Box(max_trials=2, directory=str(tmp_path)).log) == 2
    assert len(Box(max_trials=2, directory=str(tmp_path), overwrite=True).log) == 0


def test_overwrite_spares_foreign_folders(tmp_path: Path) -> None:
    """A folder that is no project is never deleted."""
    notes = tmp_path / "untitled_project" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")

    with pytest.raises(RunError, match=r"notes\.txt"):
        Box(max_trials=2, directory=str(tmp_path), overwrite=True)
    assert notes.read_text() == "mine"


@pytest.mark.slow
def test_hyperband_continues_models_that_are_built_by_their_data(tmp_path: Path) -> None:
    """A subclassed model, which has no weights before its first batch, is promoted and loaded."""

    class Late(keras.Model):  # type: ignore[misc]
        def __init__(self, units: int) -> None:
            super().__init__()
            self.hidden, self.out = keras.layers.Dense(units), keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.out(self.hidden(x))

    def build(hp: Any) -> Any:
        model = Late(hp.Int("units", 1, 8))
        model.compile("sgd", "mse")
        return model

    x, y = rows()
    tuner = kerastuner.Hyperband(build, "val_loss", 2, 2, directory=str(tmp_path), seed=1)
    tuner.search(x, y, validation_data=(x, y), verbose=0)

    promoted = [r for r in tuner.log if r.parent is not None]
    assert promoted
    assert all(r.initial_epoch == 1 for r in promoted)
    loss = tuner.get_best_models()[0].evaluate(x, y, verbose=0)
    assert loss == pytest.approx(tuner.log.best().score, rel=1e-4)


@pytest.mark.slow
def test_executions_are_averaged(tmp_path: Path) -> None:
    """The score is the mean of the executions, and the model that of the best one."""
    seen: list[float] = []

    class Measured(keras_tuner.HyperModel):  # type: ignore[misc]
        def build(self, hp: Any) -> Any:
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            hp.Int("units", 1, 2)
            model.compile("sgd", "mse")
            return model

        def fit(self, hp: Any, model: Any, x: Any, y: Any, **_: Any) -> float:
            seen.append(float(model.evaluate(x, y, verbose=0)))
            return seen[-1]

    x, y = rows()
    oracle = RandomOracle(max_trials=1, seed=1)
    tuner = SmartTuner(oracle, Measured(), directory=tmp_path, executions_per_trial=3)
    tuner.search(x, y)

    assert len(set(seen)) == 3
    assert tuner.log[0].score == pytest.approx(sum(seen) / 3)
    model = tuner.get_best_models()[0]
    assert model.evaluate(x, y, verbose=0) == pytest.approx(min(seen), rel=1e-4)
