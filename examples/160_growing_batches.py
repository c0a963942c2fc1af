"""Batches that grow, in plain Keras code: probe the machine, measure the noise, train.

How many samples per step? The machine says which batches are fast, the gradient says which
are useful, and both change: late in training larger batches pay that early ones would waste.
"""

from __future__ import annotations

import os
from typing import Any

import keras
from sklearn.datasets import load_digits

from smarttune.training.batch_probe import probe_batch_size
from smarttune.training.growth import BatchGrowth, fit_growing
from smarttune.training.noise_scale import gradient_noise_scale

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_EPOCHS, SECONDS = (6, 1.0) if QUICK else (30, 10.0)
VALIDATION_ROWS = 400
SMALL, BIG, NUM_PAIRS = 16, 512, 4


def build() -> keras.Model:
    """A small network for pictures of 8 x 8 pixels."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def noise(model: keras.Model, x: Any, y: Any) -> str:
    """The noise scale of the model as it is now."""
    found = gradient_noise_scale(model, x, y, small=SMALL, big=BIG, num_pairs=NUM_PAIRS, seed=0)
    return f"{found.noise_scale:.0f} samples"


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    held, rest = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    model = build()

    probe = probe_batch_size(model, x[rest], y[rest], start=16, seconds=SECONDS)
    print("Batch size, samples per second")
    for row in probe.table:
        print(f"  {row.batch_size:5d} {row.samples_per_second:10,.0f}")
    print(f"Stopped because of: {probe.stopped_because}")

    print(f"Noise scale before training: {noise(model, x[rest], y[rest])}")
    largest = max(SMALL, probe.largest_that_raises_throughput or SMALL)
    plan = BatchGrowth(SMALL, NUM_EPOCHS, num_phases=3, largest=largest)
    history = fit_growing(
        model,
        x[rest],
        y[rest],
        growth=plan,
        epochs=NUM_EPOCHS,
        seed=0,
        validation_data=(x[held], y[held]),
    ).history
    print(f"Noise scale after training: {noise(model, x[rest], y[rest])}")

    sizes = [int(size) for size in history["batch_size"]]
    print(f"Batch sizes: {' to '.join(str(size) for size in sorted(set(sizes)))}")
    print(f"Steps: {plan.total_steps(len(y[rest]))}")
    print(f"Accuracy on held-back pictures: {history['val_accuracy'][-1]:.3f}")


if __name__ == "__main__":
    main()
