"""A plain Keras training that ends when it should, and says what its gradients were like.

Three parts that work without a search: early stopping on the median of a window of epochs, a
watch for divergence that ends a hopeless training within steps, and an optimizer that records
the size of its gradients. The digits are the small set that scikit-learn brings along.
"""

from __future__ import annotations

import os

import keras
from sklearn.datasets import load_digits

from smarttune.training.divergence import StopOnDivergence
from smarttune.training.early_stopping import WindowedEarlyStopping
from smarttune.training.gradients import begin_epoch, gradient_statistics, watched

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_EPOCHS = 6 if QUICK else 100
VALIDATION_ROWS = 400


class PrintGradients(keras.callbacks.Callback):
    """Prints now and then what the optimizer recorded in the epoch."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forget the epoch before."""
        begin_epoch(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the record of every tenth epoch."""
        if epoch % 10 == 0:
            found = gradient_statistics(self.model)
            values = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            print(f"Epoch {epoch + 1}: {values}")


def build(rate: float) -> keras.Model:
    """A small network with an optimizer that is SGD in all but its record."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = watched(keras.optimizers.SGD)(rate, momentum=0.9, global_clipnorm=1.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    return model


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    new, old = slice(None, VALIDATION_ROWS), slice(VALIDATION_ROWS, None)
    data = {"x": x[old], "y": y[old], "validation_data": (x[new], y[new]), "batch_size": 64}

    stopping = WindowedEarlyStopping("val_loss", 5, window=5, statistic="median", noise_factor=0.5)
    guard = StopOnDivergence()
    model = build(0.05)
    model.fit(**data, epochs=NUM_EPOCHS, verbose=0, callbacks=[stopping, guard, PrintGradients()])
    ended = stopping.stopped_epoch
    print(f"Ended after epoch {NUM_EPOCHS if ended is None else ended + 1} of {NUM_EPOCHS}")
    print(f"Epoch {stopping.best_epoch + 1} is back: val_loss {stopping.best_score:.4f}")

    hopeless = build(1000.0)
    history = hopeless.fit(**data, epochs=NUM_EPOCHS, verbose=0, callbacks=[guard])
    print(f"With a rate of 1000 it ended in epoch {len(history.epoch)}: {guard.reason}")


if __name__ == "__main__":
    main()
