"""A hypermodel of your own that reads the recommendation while it builds.

`smarttune.HyperModel` is a `keras_tuner.HyperModel`. Inside `build`, `self.settings` holds
every recommended value, and each range whose name means a known hyperparameter is narrowed.
The tuner is KerasTuner's base class; the oracle that proposes the trials is ours.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pandas as pd

import smarttune

WINE = Path(__file__).parent / "data" / "wine.csv"
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_TRIALS, NUM_EPOCHS = (2, 2) if QUICK else (8, 10)
VALIDATION_ROWS = 1300


class TwoTowers(smarttune.HyperModel):
    """Chemistry and taste in towers of their own: a shape that no built-in family has."""

    def build(self, hp: Any) -> keras.Model:
        """Declare ranges as widely as you like; the rules narrow those they know."""
        activation = self.settings["model.activation"]
        initializer = self.settings["model.kernel_initializer"]
        units = hp.Int("units", 8, 2048, sampling="log")
        depth = hp.Int("tower_depth", 1, 3)  # a name of our own: left as it is
        dropout = hp.Float("dropout", 0.0, 0.9)
        hp.Int("batch_size", 16, 1024, step=2, sampling="log")  # the inherited fit uses it

        inputs = keras.Input((11,))
        towers = []
        for columns in (slice(0, 7), slice(7, 11)):
            tower = inputs[:, columns]
            for _ in range(depth):
                dense = keras.layers.Dense(units, activation, kernel_initializer=initializer)
                tower = dense(tower)
            towers.append(keras.layers.Dropout(dropout)(tower))
        outputs = keras.layers.Dense(1)(keras.layers.concatenate(towers))
        model = keras.Model(inputs, outputs)
        rate = hp.Float("learning_rate", 1e-6, 1.0, sampling="log")
        model.compile(keras.optimizers.AdamW(rate), loss="mse", metrics=["mae"])
        return model


def main() -> None:
    wine = pd.read_csv(WINE)
    x = wine.drop(columns=["color", "quality"]).to_numpy("float32")
    y = wine["quality"].to_numpy("float32")
    new, old = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    x = (x - x[old].mean(axis=0)) / x[old].std(axis=0)

    recommendation = smarttune.suggest(WINE, target="quality", problem="regression")
    hypermodel = TwoTowers(recommendation)
    objective = keras_tuner.Objective("val_mae", "min")
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Tuner(
            smarttune.BayesianOracle(objective, max_trials=NUM_TRIALS, seed=0),
            hypermodel,
            directory=folder,
        )
        tuner.search(x[old], y[old], validation_data=(x[new], y[new]), epochs=NUM_EPOCHS, verbose=0)

    print("What became of the declared ranges")
    for name, change in hypermodel.narrowed.items():
        print(f"  {name}: {change}")
    best = tuner.oracle.get_best_trials()[0]
    print(f"Best of {NUM_TRIALS}: val_mae {best.score:.3f}")


if __name__ == "__main__":
    main()
