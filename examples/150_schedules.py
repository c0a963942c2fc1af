"""One cycle of the learning rate in a hypermodel of your own, with the momentum going against it.

`learning_rate` draws a schedule over the whole training; `with_momentum_cycle` turns an optimizer
of Keras into one whose momentum follows it. The peak is what is searched.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import keras
import keras_tuner
from sklearn.datasets import load_digits

import smarttune
from smarttune.training.momentum import with_momentum_cycle
from smarttune.training.schedules import learning_rate

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_TRIALS, NUM_EPOCHS = (2, 2) if QUICK else (4, 12)
BATCH, VALIDATION_ROWS, BAR = 64, 400, 40
IMAGES, LABELS = load_digits(return_X_y=True)
ROWS = len(IMAGES) - VALIDATION_ROWS
NUM_STEPS = NUM_EPOCHS * -(-ROWS // BATCH)


class OneCycleDigits(smarttune.HyperModel):
    """Two layers, trained in one cycle."""

    def build(self, hp: Any) -> keras.Model:
        """Only the peak of the rate and the width are left to the search."""
        model = keras.Sequential([keras.Input((64,)), keras.layers.Rescaling(1 / 16)])
        model.add(keras.layers.Dense(hp.Choice("width", [64, 128]), activation="relu"))
        model.add(keras.layers.Dense(10))
        peak = hp.Float("peak", 0.02, 0.2, sampling="log")
        schedule = learning_rate("one_cycle", peak, total_steps=NUM_STEPS)
        cycled = with_momentum_cycle(keras.optimizers.SGD, schedule)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(cycled(schedule, nesterov=True), loss, metrics=["accuracy"])
        return model


def main() -> None:
    new, old = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    facts = {"data.task": "tabular", "model.problem": "multiclass", "data.num_classes": 10}
    size = {"data.num_samples": ROWS, "data.num_features": 64}
    hypermodel = OneCycleDigits(smarttune.suggest(facts={**facts, **size}))
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            hypermodel, "val_accuracy", max_trials=NUM_TRIALS, seed=1, directory=folder
        )
        tuner.search(
            *(IMAGES[old], LABELS[old]),
            validation_data=(IMAGES[new], LABELS[new]),
            epochs=NUM_EPOCHS,
            batch_size=BATCH,
            verbose=0,
        )
        best = tuner.oracle.get_best_trials()[0]

    peak = best.hyperparameters.get("peak")
    schedule: Any = learning_rate("one_cycle", peak, total_steps=NUM_STEPS)
    print(f"\n{'step':>6} {'rate':>8} {'momentum':>9}")
    for step in range(0, NUM_STEPS + 1, NUM_STEPS // 11):
        rate, momentum = float(schedule(step)), float(schedule.momentum(step))
        print(f"{step:6} {rate:8.5f} {momentum:9.3f} {'#' * round(BAR * rate / peak)}")
    print(f"Best of {NUM_TRIALS}: peak {peak:.3f}, val_accuracy {best.score:.3f}")


if __name__ == "__main__":
    main()
