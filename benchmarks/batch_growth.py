"""Time to the same score with fixed and with growing batches, on real data.

    python benchmarks/batch_growth.py [--quick] [--seeds 2] [--only adult,mnist]

Four trainings of one network on the same rows, from the same weights and in the same order:
a small batch, a large batch with the learning rate that scaling in proportion gives it, the
small batch that doubles at fixed epochs (AdaBatch), and the small batch that follows the
measured gradient noise. All of them train the same number of epochs with SGD and momentum.

The mark is the best validation score of the small batch less a tolerance, per seed. Seconds
and samples are those of training up to the end of the first epoch at or above the mark;
the seconds hold compilation and measurements, not validation. Scores are on rows held back: AUC
for adult, accuracy for mnist (10,000 of its training images). A dash: the mark was not reached.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from smarttune.training.growth import BatchGrowth, Growth, NoiseScaleGrowth, fit_growing

FOLDER = Path(
    os.environ.get("SMARTTUNE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
).resolve()
SMALL, LARGE = 32, 512
RATE, MOMENTUM = 0.02, 0.9
NUM_PHASES = 4
TOLERANCE = 0.002  # of AUC or accuracy: about what another seed changes
EPOCHS, QUICK_EPOCHS = {"adult": 8, "mnist": 8}, {"adult": 4, "mnist": 4}
QUICK_ROWS = 2000


class Problem(NamedTuple):
    """Rows to train and to validate on, and the metric that counts."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    metric: str


class Run(NamedTuple):
    """One training: score, seconds and samples up to the end of each epoch."""

    scores: list[float]
    seconds: list[float]
    samples: list[int]
    sizes: list[int]


def adult() -> Problem:
    """Numbers standardized, categories one-hot; a fifth of the rows validate."""
    import pandas as pd

    table = pd.read_csv(FOLDER / "tabular" / "adult" / "adult-train.csv", skipinitialspace=True)
    y = (table.iloc[:, -1] == table.iloc[:, -1].unique()[-1]).to_numpy("float32")[:, None]
    x = pd.get_dummies(table.iloc[:, :-1]).to_numpy("float32")
    return split((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6), y, "auc")


def mnist() -> Problem:
    """Ten thousand images."""
    with np.load(FOLDER / "images" / "mnist" / "train10k.npz") as archive:
        names = [name for name in archive.files if name != "y"]
        x, y = archive[names[0]], archive["y"]
    return split(x.reshape(len(x), -1).astype("float32") / 255, y, "accuracy")


def split(x: np.ndarray, y: np.ndarray, metric: str) -> Problem:
    rows = np.random.default_rng(0).permutation(len(y))
    held, rest = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    return Problem(x[rest], y[rest], x[held], y[held], metric)


def network(problem: Problem, rate: float, seed: int) -> Any:
    keras.utils.set_random_seed(seed)
    binary = problem.metric == "auc"
    model = keras.Sequential(
        [
            keras.Input((problem.x.shape[1],)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(*((1, "sigmoid") if binary else (10, "softmax"))),
        ]
    )
    model.compile(
        keras.optimizers.SGD(rate, momentum=MOMENTUM),
        "binary_crossentropy" if binary else "sparse_categorical_crossentropy",
        metrics=[keras.metrics.AUC(name="auc") if binary else "accuracy"],
        jit_compile=False,
    )
    return model


class Clock(keras.callbacks.Callback):
    """Seconds of training at the end of each epoch, validation left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.spent = 0.0
        self.began = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Pause."""
        self.spent += time.perf_counter() - self.began

    def on_test_end(self, logs: Any = None) -> None:
        """Go on."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the time."""
        self.seconds.append(self.spent)


def run(problem: Problem, growth: Growth, *, rate: float, epochs: int, seed: int) -> Run:
    keras.backend.clear_session()
    clock = Clock()
    history = fit_growing(
        network(problem, rate, seed),
        problem.x,
        problem.y,
        growth=growth,
        epochs=epochs,
        seed=seed,
        callbacks=[clock],
        validation_data=(problem.x_validation, problem.y_validation),
        validation_batch_size=2048,
    ).history
    return Run(
        history[f"val_{problem.metric}"],
        clock.seconds,
        [len(problem.y) * (e + 1) for e in range(epochs)],
        [int(n) for n in history["batch_size"]],
    )


def trainings(epochs: int) -> dict[str, tuple[Growth, float]]:
    """Name to growth and first learning rate."""
    return {
        f"fixed {SMALL}": (BatchGrowth(SMALL, epochs, 1), RATE),
        f"fixed {LARGE}": (BatchGrowth(LARGE, epochs, 1), RATE * LARGE / SMALL),
        "AdaBatch": (BatchGrowth(SMALL, epochs, NUM_PHASES, largest=LARGE), RATE),
        "noise scale": (NoiseScaleGrowth(SMALL, LARGE, every_epochs=1), RATE),
    }


def compare(name: str, problem: Problem, epochs: int, seeds: int) -> None:
    print(f"\n{name}: {len(problem.y)} rows, {epochs} epochs, val_{problem.metric}")
    print(f"{'training':<12} {'seed':>4} {'s to mark':>9} {'samples':>9} {'s in all':>8}", end=" ")
    print(f"{'best':>7} {'last':>7}  batch sizes")
    for seed in range(seeds):
        mark = None
        for label, (growth, rate) in trainings(epochs).items():
            done = run(problem, growth, rate=rate, epochs=epochs, seed=seed)
            if mark is None:  # the small batch comes first
                mark = max(done.scores) - TOLERANCE
            there = next((e for e, score in enumerate(done.scores) if score >= mark), None)
            seconds = "-" if there is None else f"{done.seconds[there]:.1f}"
            samples = "-" if there is None else f"{done.samples[there]}"
            sizes = " ".join(str(n) for n in done.sizes)
            print(f"{label:<12} {seed:>4} {seconds:>9} {samples:>9}", end=" ")
            print(f"{done.seconds[-1]:>8.1f} {max(done.scores):>7.4f}", end=" ")
            print(f"{done.scores[-1]:>7.4f}  {sizes}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, one seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="adult,mnist")
    options = parser.parse_args()
    if not FOLDER.is_dir():
        sys.exit(f"No data in {FOLDER}. Set SMARTTUNE_DATA to the folder that holds them.")
    print(f"Python {platform.python_version()}, Keras {keras.__version__}", end=", ")
    print(f"backend {keras.backend.backend()}, {os.cpu_count()} cores; tolerance {TOLERANCE}")
    for name in options.only.split(","):
        problem = {"adult": adult, "mnist": mnist}[name]()
        if options.quick:
            problem = problem._replace(x=problem.x[:QUICK_ROWS], y=problem.y[:QUICK_ROWS])
        epochs = (QUICK_EPOCHS if options.quick else EPOCHS)[name]
        compare(name, problem, epochs, 1 if options.quick else options.seeds)


if __name__ == "__main__":
    main()
