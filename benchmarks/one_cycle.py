"""One cycle of the learning rate beside other courses, at equal epochs.

    python benchmarks/one_cycle.py [--quick] [--epochs 10] [--seeds 2] [--fixed-momentum]

A small convolutional network on handwritten digits with SGD and with AdamW, and a multilayer
perceptron on the white wines with AdamW. Every course has the best of three peak rates, chosen on
the validation rows that it is then scored on, which flatters all of them alike. One cycle cycles
the momentum, too; `--fixed-momentum` adds a row without that.

All rows but the last train with the full regularization. The last one is the recipe of
super-convergence, in which the large rate stands in for a part of it: half the dropout, and 30 %
of the weight decay.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from tables import data_folder

from smarttune.training.momentum import with_momentum_cycle
from smarttune.training.schedules import OneCycle, learning_rate

BATCH = 64
# Full regularization: ours, strong enough that leaving out a part can be seen.
DROPOUT, WEIGHT_DECAY = 0.4, 0.01
# Smith and Topin 2018 and Smith 2018, section 4.4: less of it with large rates; the shares are
# ours, half and 30 %, as the papers give the direction only.
LESS_DROPOUT, LESS_DECAY = 0.5, 0.3
PEAKS = {"sgd": (0.03, 0.1, 0.3), "adamw": (0.001, 0.004, 0.016)}
COURSES = ("constant", "cosine", "cyclical", "warm_restarts", "one_cycle")


class Data(NamedTuple):
    """Training and validation rows."""

    x: np.ndarray
    y: np.ndarray
    new_x: np.ndarray
    new_y: np.ndarray


class Row(NamedTuple):
    """One line of the table: what is trained, and how."""

    name: str
    schedule: str
    cycles_momentum: bool = False
    dropout: float = DROPOUT
    weight_decay: float = WEIGHT_DECAY


def digits() -> Data:
    from sklearn.datasets import load_digits

    found = load_digits()
    return parted((found.images[..., None] / 16.0 - 0.3) / 0.37, found.target)


def wine() -> Data:
    table = np.loadtxt(data_folder() / "winequality-white.csv", delimiter=",")
    x, y = table[:, :-1], table[:, -1].astype(int)
    return parted((x - x.mean(axis=0)) / x.std(axis=0), y - y.min())


def parted(x: np.ndarray, y: np.ndarray) -> Data:
    order = np.random.default_rng(0).permutation(len(x))
    new, old = order[: len(x) // 4], order[len(x) // 4 :]
    x = x.astype("float32")
    return Data(x[old], y[old], x[new], y[new])


def network(data: Data, dropout: float) -> keras.Model:
    layers = keras.layers
    model = keras.Sequential([keras.Input(data.x.shape[1:])])
    if data.x.ndim == 4:
        for filters in (16, 32):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(layers.MaxPooling2D())
        model.add(layers.Flatten())
    for _ in range(1 if data.x.ndim == 4 else 2):
        model.add(layers.Dense(64, activation="relu"))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(int(data.y.max()) + 1))
    return model


def optimizer(name: str, row: Row, peak: float, steps: int) -> Any:
    rate = learning_rate(row.schedule, peak, total_steps=steps)
    kind = keras.optimizers.SGD if name == "sgd" else keras.optimizers.AdamW
    if row.cycles_momentum:
        kind = with_momentum_cycle(kind, OneCycle(peak, total_steps=steps))
    # Keras multiplies the decay by the rate, which is 30 times larger in SGD.
    decay = row.weight_decay / 10 if name == "sgd" else row.weight_decay
    own = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    return kind(rate, weight_decay=decay, **own)


def trained(
    data: Data, name: str, row: Row, peak: float, *, epochs: int, seed: int
) -> tuple[float, float]:
    """Accuracy on the validation rows, and seconds."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = network(data, row.dropout)
    steps = epochs * -(-len(data.x) // BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(name, row, peak, steps), loss, metrics=["accuracy"], jit_compile=False)
    began = time.perf_counter()
    model.fit(data.x, data.y, batch_size=BATCH, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - began
    scores = model.evaluate(data.new_x, data.new_y, batch_size=512, verbose=0, return_dict=True)
    return float(scores["accuracy"]), seconds


def rows(fixed_momentum: bool) -> list[Row]:
    made = [Row(course, course, course == "one_cycle") for course in COURSES]
    if fixed_momentum:
        made.append(Row("one_cycle, fixed momentum", "one_cycle"))
    less = (DROPOUT * LESS_DROPOUT, WEIGHT_DECAY * LESS_DECAY)
    return [*made, Row("super-convergence", "one_cycle", True, *less)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one peak, two epochs")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fixed-momentum", action="store_true")
    options = parser.parse_args()
    epochs, seeds = (2, 1) if options.quick else (options.epochs, options.seeds)
    print(
        f"Python {platform.python_version()}, Keras {keras.__version__} on "
        f"{keras.backend.backend()}; {epochs} epochs, {seeds} seeds, batches of {BATCH}"
    )
    print(f"\n{'data':7} {'optimizer':9} {'course':26} {'peak':>6} {'val accuracy':>17} {'s':>5}")
    for label, make, name in (
        ("digits", digits, "sgd"),
        ("digits", digits, "adamw"),
        ("wine", wine, "adamw"),
    ):
        data = make()
        peaks = PEAKS[name][1:2] if options.quick else PEAKS[name]
        for row in rows(options.fixed_momentum):
            runs = {
                peak: [trained(data, name, row, peak, epochs=epochs, seed=s) for s in range(seeds)]
                for peak in peaks
            }
            peak = max(runs, key=lambda one: float(np.mean([score for score, _ in runs[one]])))
            scores, seconds = zip(*runs[peak], strict=True)
            spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
            score = f"{np.mean(scores):.4f} +- {spread:.4f}"
            line = f"{label:7} {name:9} {row.name:26} {peak:6} {score:>17} {np.mean(seconds):5.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
