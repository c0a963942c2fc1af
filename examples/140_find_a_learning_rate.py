"""Find a learning rate for a Keras model of your own, before its first epoch.

A range test trains a few steps with ever larger rates and puts the model back as it was. The rate
that it suggests is then compared with rates ten times larger and smaller.
"""

from __future__ import annotations

import os

import keras
import numpy as np
from sklearn.datasets import load_digits

from smarttune.report.curves import range_test_text
from smarttune.training.range_test import find_learning_rate

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_EPOCHS = 2 if QUICK else 6
VALIDATION_ROWS = 400


def build() -> keras.Model:
    """A model as many people write it; the rate is a guess and much too large."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3.0), loss, metrics=["accuracy"])
    return model


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    new, old = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    model = build()
    before = [np.array(w) for w in model.get_weights()]

    found = find_learning_rate(model, (x[old], y[old]))

    print(range_test_text(found))
    print(found.evidence)
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    print(f"Weights as before the test: {'yes' if same else 'no'}")
    if found.suggestion is None:
        return
    for factor in (0.1, 1.0, 10.0):
        model.set_weights(before)
        rate = found.suggestion * factor
        model.compile(keras.optimizers.Adam(rate), model.loss, metrics=["accuracy"])
        model.fit(x[old], y[old], epochs=NUM_EPOCHS, verbose=0)
        accuracy = model.evaluate(x[new], y[new], verbose=0, return_dict=True)["accuracy"]
        print(f"  rate {rate:.2g}: accuracy {accuracy:.3f} after {NUM_EPOCHS} epochs")


if __name__ == "__main__":
    main()
