"""A learning rate that was chosen badly, and one that mends itself.

Each optimizer below begins with a rate that is far too small. The one with a hypergradient looks
at whether two steps in a row agree in direction, and raises its rate as long as they do.
"""

from __future__ import annotations

import os
from typing import Any

import keras
from sklearn.datasets import load_digits

from smarttune.training.hypergradient import hypergradient

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_EPOCHS = 4 if QUICK else 20
TRAINING_ROWS = 1200
TOO_SMALL = 1e-4
# A step changes the rate by at most this share; with `rule="additive"` it would be an amount.
SHARE = 0.05
LARGEST = 0.02


def accuracy(optimizer: Any) -> float:
    """Share of digits that a network trained with this optimizer gets right."""
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16.0
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    train, test = slice(TRAINING_ROWS), slice(TRAINING_ROWS, None)
    model.fit(x[train], y[train], batch_size=50, epochs=NUM_EPOCHS, verbose=0)
    return float(model.evaluate(x[test], y[test], verbose=0)[1])


def main() -> None:
    plain = keras.optimizers.Adam(TOO_SMALL)
    learning = hypergradient(keras.optimizers.Adam)(
        TOO_SMALL, hypergradient_rate=SHARE, rule="multiplicative", maximum_rate=LARGEST
    )
    for name, optimizer in (("fixed rate", plain), ("hypergradient", learning)):
        score = accuracy(optimizer)
        rate = float(optimizer.learning_rate)
        print(f"{name:<14} rate {TOO_SMALL:g} -> {rate:.5f}   accuracy {score:.3f}")


if __name__ == "__main__":
    main()
