"""Scripts with a training loop of their own, with `run_trial` overridden, and failing trials."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from .scripts import both, build, quiet, rows

pytestmark = [pytest.mark.slow, quiet]


@both
def test_a_loop_of_its_own(kt: Any, tmp_path: Path) -> None:
    """A loop tells the callbacks its metric, returns the best, and the best model is loaded."""
    returned = []

    class Looped(kt.HyperModel):
        def build(self, hp: Any) -> Any:
            return build(hp)

        def fit(
            self, hp: Any, model: Any, x: Any, y: Any, callbacks: Any = None, **_: Any
        ) -> float:
            size = hp.Int("size", 4, 8, step=4)
            for callback in callbacks:
                callback.set_model(model)
            best = float("inf")
            for epoch in range(2):
                for start in range(0, len(x), size):
                    model.train_on_batch(x[start : start + size], y[start : start + size])
                score = float(np.mean(np.abs(np.asarray(model(x)) - y)))
                for callback in callbacks:
                    callback.on_epoch_end(epoch, logs={"my_metric": score})
                best = min(best, score)
            returned.append(best)
            return best

    x, y = rows()
    tuner = kt.RandomSearch(
        Looped(), kt.Objective("my_metric", "min"), max_trials=2, directory=str(tmp_path)
    )
    tuner.search(x, y)

    scores = sorted(t.score for t in tuner.oracle.trials.values())
    assert scores == pytest.approx(sorted(returned))
    model = tuner.get_best_models()[0]
    error = np.mean(np.abs(np.asarray(model(x)) - y))
    assert error == pytest.approx(scores[0], rel=1e-4)


@both
@pytest.mark.parametrize("form", ["number", "dictionary", "history", "list"])
def test_run_trial_may_return_many_things(kt: Any, tmp_path: Path, form: str) -> None:
    """A black box without a model is searched, whatever it returns its score in."""

    class Box(kt.RandomSearch):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
            square = trial.hyperparameters.Float("x", -1.0, 1.0) ** 2
            history = keras.callbacks.History()
            history.history = {"score": [square + 1.0, square]}
            forms = {"number": square, "dictionary": {"score": square, "two": 2.0}}
            return {**forms, "history": history, "list": [square, square]}[form]

    box = Box(objective=kt.Objective("score", "min"), max_trials=3, directory=str(tmp_path))
    box.search()

    trials = box.oracle.trials.values()
    assert len(trials) == 3
    for trial in trials:
        assert trial.score == pytest.approx(trial.hyperparameters.get("x") ** 2)
    if form == "dictionary":
        assert {t.metrics.get_best_value("two") for t in trials} == {2.0}


@both
def test_hooks_of_a_subclass_are_called(kt: Any, tmp_path: Path) -> None:
    """Search, trials and epochs are announced in KerasTuner's order."""
    heard = []

    class Loud(kt.RandomSearch):
        def on_search_begin(self) -> None:
            heard.append("search")

        def on_trial_begin(self, trial: Any) -> None:
            heard.append("trial")

        def on_epoch_end(self, trial: Any, model: Any, epoch: int, logs: Any = None) -> None:
            heard.append(epoch)

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            heard.append("end")

        def on_search_end(self) -> None:
            heard.append("over")

    x, y = rows()
    tuner = Loud(build, "val_loss", 1, directory=str(tmp_path))
    tuner.search(x, y, epochs=2, validation_data=(x, y), verbose=0)

    assert heard == ["search", "trial", 0, 1, "end", "over"]
    assert copy.copy(tuner.oracle.end_order) == list(tuner.oracle.trials)


@both
def test_a_failed_trial_costs_one_trial(kt: Any, tmp_path: Path) -> None:
    """`FailedTrialError` is no reason to stop, even in the first trial, nor to try again."""
    runs = []

    class Box(kt.RandomSearch):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
            runs.append(trial.trial_id)
            value = trial.hyperparameters.Float("x", -1.0, 1.0)
            if len(runs) == 1:
                raise kt.errors.FailedTrialError("too large")
            return value**2

    box = Box(max_trials=3, directory=str(tmp_path), max_retries_per_trial=2)
    box.search()

    assert runs == list(box.oracle.trials)
    statuses = [box.oracle.trials[name].status for name in runs]
    assert statuses == ["FAILED", "COMPLETED", "COMPLETED"]


@both
def test_a_crash_is_tried_again(kt: Any, tmp_path: Path) -> None:
    """With retries a trial that crashes once is completed in its second run."""
    runs = []

    class Box(kt.RandomSearch):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
            runs.append(trial.trial_id)
            if len(runs) == 1:
                raise OSError("the disk was busy")
            return trial.hyperparameters.Float("x", -1.0, 1.0) ** 2

    box = Box(max_trials=2, directory=str(tmp_path), max_retries_per_trial=1)
    box.search()

    first, second = box.oracle.trials
    assert runs == [first, first, second]
    assert {t.status for t in box.oracle.trials.values()} == {"COMPLETED"}


@both
def test_a_fatal_error_ends_the_search(kt: Any, tmp_path: Path) -> None:
    """`FatalError` is raised as it is, also after trials that went well."""

    class Box(kt.RandomSearch):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
            if int(trial.trial_id) == 1:
                raise kt.errors.FatalError("no more")
            return trial.hyperparameters.Float("x", -1.0, 1.0)

    with pytest.raises(kt.errors.FatalError, match="no more"):
        Box(max_trials=3, directory=str(tmp_path)).search()


@both
def test_models_that_are_too_large_are_skipped(kt: Any, tmp_path: Path) -> None:
    """`max_model_size` fails a trial and trains nothing of it."""
    x, y = rows()
    tuner = kt.RandomSearch(
        build, "val_loss", 2, directory=str(tmp_path), max_model_size=1,
        max_consecutive_failed_trials=9,
    )  # fmt: skip
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)

    assert {t.status for t in tuner.oracle.trials.values()} == {"FAILED"}
    assert "Oversized" in tuner.oracle.trials["0"].message
