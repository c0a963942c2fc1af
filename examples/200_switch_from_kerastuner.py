"""A KerasTuner script that runs on SmartTune's search: only one import is another one.

The script below the imports is as it was written for KerasTuner. What it gains: a search that
goes on where it was broken off, trials that are continued and not begun anew, and failures that
cost one trial.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import keras
import numpy as np

from smarttune.tuning import kerastuner as keras_tuner  # was: import keras_tuner

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_ROWS, MAX_EPOCHS = (64, 2) if QUICK else (1024, 9)


def build(hp: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((2,))])
    for i in range(hp.Int("num_layers", 1, 2)):
        model.add(keras.layers.Dense(hp.Int(f"units_{i}", 4, 32, step=4), activation="relu"))
    model.add(keras.layers.Dense(1))
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), loss="mse", metrics=["mae"])
    return model


def main() -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (NUM_ROWS, 2)).astype("float32")
    y = np.sin(x[:, :1]) * x[:, 1:]
    half = NUM_ROWS // 2
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Hyperband(
            build,
            objective="val_mae",
            max_epochs=MAX_EPOCHS,
            factor=2 if QUICK else 3,
            seed=1,
            overwrite=True,
            directory=folder,
            project_name="switched",
        )
        tuner.search(x[:half], y[:half], validation_data=(x[half:], y[half:]), verbose=0)
        tuner.results_summary(num_trials=1)
        model = tuner.get_best_models(num_models=1)[0]
        _, error = model.evaluate(x[half:], y[half:], verbose=0)
        print(f"Best model: mean absolute error {error:.3f}")

        # What KerasTuner has not: every trial's curve and lineage.
        continued = [record for record in tuner.log if record.parent is not None]
        print(f"{len(tuner.log)} trials, {len(continued)} of them continued from another")


if __name__ == "__main__":
    main()
