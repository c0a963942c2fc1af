"""A first script: a build function, a search, its results, and retraining the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

import smarttune
from smarttune.oracles import RandomOracle
from smarttune.space import Choice, Dimension, SearchSpace
from smarttune.tuning import SmartTuner

from .scripts import both, build, quiet, rows

pytestmark = [pytest.mark.slow, quiet]


@both
def test_the_first_script_runs(kt: Any, tmp_path: Path, capsys: Any) -> None:
    """Search, summaries, best values and best models of an unchanged script."""
    x, y = rows()
    tuner = kt.RandomSearch(
        hypermodel=build,
        objective="val_mae",
        max_trials=2,
        executions_per_trial=2,
        overwrite=True,
        directory=str(tmp_path),
        project_name="first",
    )
    tuner.search_space_summary()
    tuner.search(x, y, epochs=2, validation_data=(x, y), verbose=0)
    tuner.results_summary()

    assert len(tuner.oracle.trials) == 2
    assert tuner.remaining_trials == 0
    best = tuner.oracle.get_best_trials(1)[0]
    assert best.metrics.get_best_value("val_loss") > 0
    assert len(tuner.get_best_models(num_models=2)) == 2
    model = tuner.hypermodel.build(tuner.get_best_hyperparameters(1)[0])
    model.fit(x, y, epochs=1, verbose=0)
    printed = capsys.readouterr().out
    assert "units (Int)" in printed
    assert f"Results in {tmp_path / 'first'}" in printed
    assert f"Score: {best.score}" in printed


@both
def test_fit_of_a_hypermodel_is_called(kt: Any, tmp_path: Path) -> None:
    """A subclass tunes arguments of `fit`, the epochs among them, and returns its own score."""
    seen = []

    class Tuned(kt.HyperModel):
        def build(self, hp: Any) -> Any:
            return build(hp)

        def fit(
            self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any, callbacks: Any = None
        ):
            epochs = hp.Int("epochs", 1, 2)
            model.fit(
                x, y, epochs=epochs, shuffle=hp.Boolean("shuffle"), verbose=0, callbacks=callbacks
            )
            x_val, y_val = validation_data
            seen.append(float(np.mean(np.abs(model.predict(x_val, verbose=0) - y_val))))
            return seen[-1]

    x, y = rows()
    tuner = kt.RandomSearch(Tuned(), max_trials=2, directory=str(tmp_path))
    tuner.search(x, y, validation_data=(x, y))

    assert sorted(t.score for t in tuner.oracle.trials.values()) == pytest.approx(sorted(seen))
    assert tuner.get_best_hyperparameters()[0].get("epochs") in (1, 2)
    assert {"epochs", "shuffle"} <= {hp.name for hp in tuner.oracle.get_space().space}


@both
def test_compile_arguments_are_overridden(kt: Any, tmp_path: Path) -> None:
    """Optimizer, loss and metrics of the tuner replace those of `build`."""
    x, y = rows()
    tuner = kt.RandomSearch(
        build, "val_mse", 1, directory=str(tmp_path), optimizer="adam", loss="mae", metrics=["mse"]
    )
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)

    (model,) = tuner.get_best_models()
    assert model.loss == "mae"
    assert type(model.optimizer).__name__ == "Adam"


@both
def test_each_trial_has_its_tensorboard_folder(kt: Any, tmp_path: Path) -> None:
    """Curves of the trials are kept apart."""
    x, y = rows()
    tuner = kt.RandomSearch(build, "val_loss", 2, directory=str(tmp_path / "project"))
    watch = keras.callbacks.TensorBoard(str(tmp_path / "logs"))
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0, callbacks=[watch])

    folders = {folder.name for folder in (tmp_path / "logs").iterdir()}
    assert folders == set(tuner.oracle.trials)


def test_our_oracle_serves_their_tuner_and_ours(tmp_path: Path) -> None:
    """With one seed KerasTuner's `Tuner` and ours try the same configurations."""
    x, y = rows()
    tried = []
    for kind in (keras_tuner.Tuner, SmartTuner):
        oracle = RandomOracle("val_loss", max_trials=2, seed=5)
        tuner = kind(oracle, build, directory=str(tmp_path / kind.__name__))
        tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
        tried.append([t.hyperparameters.values for t in oracle.trials.values()])

    assert tried[0] == tried[1]


def test_a_narrowed_hypermodel_runs_in_their_tuner(tmp_path: Path) -> None:
    """KerasTuner's random search keeps to the recommended range."""
    x, y = rows()
    units = Dimension(name="model.units", range=Choice(values=(3,)), value=3)
    space = SearchSpace(dimensions=(units,))
    narrowed = smarttune.narrow(build, space)
    tuner = keras_tuner.RandomSearch(narrowed, "val_loss", 2, directory=str(tmp_path))
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)

    assert {t.hyperparameters.get("units") for t in tuner.oracle.trials.values()} == {3}
