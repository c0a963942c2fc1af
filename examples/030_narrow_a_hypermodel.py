"""A KerasTuner program of yours, narrowed by the rules in one line.

`build` below is what many people write: wide ranges, because nothing better is known.
`smarttune.narrow` knows more about this table; the tuner stays KerasTuner's own.
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


def build(hp: Any) -> keras.Model:
    """A plain build function; it knows nothing of SmartTune."""
    model = keras.Sequential([keras.Input((11,))])
    for _ in range(hp.Int("num_layers", 1, 20)):
        model.add(keras.layers.Dense(hp.Int("units", 4, 4096), activation="relu"))
        model.add(keras.layers.Dropout(hp.Float("dropout", 0.0, 0.9)))
    model.add(keras.layers.Dense(1))
    rate = hp.Float("lr", 1e-7, 1.0, sampling="log")
    model.compile(keras.optimizers.Adam(rate), loss="mse", metrics=["mae"])
    return model


def main() -> None:
    wine = pd.read_csv(WINE)
    x = wine.drop(columns=["color", "quality"]).to_numpy("float32")
    y = wine["quality"].to_numpy("float32")
    new, old = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    x = (x - x[old].mean(axis=0)) / x[old].std(axis=0)

    recommendation = smarttune.suggest(WINE, target="quality", problem="regression")
    narrowed = smarttune.narrow(build, recommendation)  # the one line

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            narrowed,
            keras_tuner.Objective("val_mae", "min"),
            max_trials=NUM_TRIALS,
            seed=1,
            directory=folder,
        )
        tuner.search(x[old], y[old], validation_data=(x[new], y[new]), epochs=NUM_EPOCHS, verbose=0)

    print("\nWhat became of the declared ranges")
    for name, change in narrowed.narrowed.items():
        print(f"  {name}: {change}")
    for warning in narrowed.warnings:
        print(f"  {warning}")
    best = tuner.oracle.get_best_trials()[0]
    print(f"Best of {NUM_TRIALS}: val_mae {best.score:.3f}")


if __name__ == "__main__":
    main()
