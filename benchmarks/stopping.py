"""What rules of early stopping save and lose, on real learning curves.

    python benchmarks/stopping.py [--quick] [--curves FILE]

Trains small networks with drawn width, depth, rate, dropout and batch size on three tables for a
fixed number of epochs, without stopping, then replays every rule on the same curves. Saved: share
of the epochs that are not trained. Lost: how much better the best epoch of the whole curve is than
the best epoch before the stop, over the noise of the score (median over the table's curves of the
noise that each curve shows). Ranks: Spearman's correlation of the trials of one table by their best
score with and without stopping, averaged over the tables. Keras's rule is patience on single epochs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tables import Table, tables

from smarttune.training.stopping import WindowedStopping, curve_noise

PATIENCES = (3, 5, 10, 16)
RULES: dict[str, dict[str, Any]] = {
    "Keras's rule": {},
    "single, noise 1": {"noise_factor": 1.0},
    "mean of 3": {"window": 3},
    "mean of 5": {"window": 5},
    "mean of 5, noise 1": {"window": 5, "noise_factor": 1.0},
    "median of 5": {"window": 5, "statistic": "median"},
    "median of 5, noise 1": {"window": 5, "statistic": "median", "noise_factor": 1.0},
    "quantile 0.25 of 5": {"window": 5, "statistic": "quantile", "quantile": 0.25},
    "slope of 5": {"window": 5, "statistic": "slope"},
    "slope of 5, noise 1": {"window": 5, "statistic": "slope", "noise_factor": 1.0},
    "slope of 10, noise 1": {"window": 10, "statistic": "slope", "noise_factor": 1.0},
}


class Curve(NamedTuple):
    """The validation scores of one training, one per epoch."""

    table: str
    direction: str
    scores: list[float]


def arrays(table: Table, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardized inputs, categories one-hot, and a target of 0 and 1, classes or spread 1."""
    import pandas as pd

    header = None if isinstance(table.target, int) else "infer"
    frame = pd.read_csv(table.path, header=header, skipinitialspace=True)
    target = frame.columns[table.target] if isinstance(table.target, int) else table.target
    frame = frame.sample(rows, random_state=seed)
    y, x = frame.pop(target), pd.get_dummies(frame, dtype="float32").fillna(0.0)
    x = (x - x.mean()) / (x.std() + 1e-6)
    if table.problem == "regression":
        return x.to_numpy("float32"), ((y - y.mean()) / y.std()).to_numpy("float32")
    return x.to_numpy("float32"), y.astype("category").cat.codes.to_numpy("int32")


def train(table: Table, data: tuple[np.ndarray, np.ndarray], epochs: int, seed: int) -> Curve:
    """One drawn network, trained to the end."""
    import keras

    draw = random.Random(seed)
    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    x, y = data
    classes = {"binary": 1, "regression": 1}.get(table.problem, int(y.max()) + 1)
    model = keras.Sequential([keras.Input((x.shape[1],))])
    width, dropout = draw.choice([16, 32, 64, 128]), draw.choice([0.0, 0.1, 0.3, 0.5])
    for _ in range(draw.choice([1, 2, 3])):
        model.add(keras.layers.Dense(width, activation="relu"))
        model.add(keras.layers.Dropout(dropout))
    kind = {"binary": "sigmoid", "regression": None}.get(table.problem, "softmax")
    model.add(keras.layers.Dense(classes, activation=kind))
    batch = draw.choice([32, 64, 128])
    train_rows = len(x) * 2 // 3 // batch * batch  # whole batches only
    loss, metric = {
        "binary": ("binary_crossentropy", keras.metrics.AUC(name="auc")),
        "regression": ("mse", keras.metrics.MeanAbsoluteError(name="mean_absolute_error")),
    }.get(table.problem, ("sparse_categorical_crossentropy", "accuracy"))
    rate = 10 ** draw.uniform(-3.7, -1.7)
    model.compile(
        keras.optimizers.Adam(rate),
        loss,
        metrics=[metric],
        steps_per_execution=train_rows // batch,
        jit_compile=False,
    )
    history = model.fit(
        x[:train_rows],
        y[:train_rows],
        validation_data=(x[len(x) * 2 // 3 :], y[len(x) * 2 // 3 :]),
        batch_size=batch,
        epochs=epochs,
        verbose=0,
    ).history
    return Curve(table.name, table.direction, history[f"val_{table.metric}"])


def all_curves(*, quick: bool, file: Path | None) -> list[Curve]:
    """The curves of the file if it is there; else trained, and written to it if one is named."""
    if file is not None and file.exists():
        return [Curve(*curve) for curve in json.loads(file.read_text(encoding="utf-8"))]
    trials, epochs, rows = (2, 20, 600) if quick else (12, 60, 1800)
    curves = []
    for i, table in enumerate(tables()):
        data = arrays(table, rows, seed=0)
        curves += [train(table, data, epochs, seed=100 * i + trial) for trial in range(trials)]
    if file is not None:
        file.write_text(json.dumps(curves), encoding="utf-8")
    return curves


def best(curve: Curve, epochs: int) -> float:
    """The best score of the first epochs, as a loss."""
    sign = 1.0 if curve.direction == "min" else -1.0
    return min(sign * score for score in curve.scores[:epochs])


def stopped(curve: Curve, patience: int, rule: dict[str, Any]) -> int:
    """Epochs that the rule trains."""
    watching = WindowedStopping(patience, direction=curve.direction, **rule)  # type: ignore[arg-type]
    for epoch, score in enumerate(curve.scores, 1):
        if watching.update(score):
            return epoch
    return len(curve.scores)


def judged(curves: list[Curve], patience: int, rule: dict[str, Any]) -> tuple[float, ...]:
    """Epochs saved in percent; score lost, median and 90th percentile; rank correlation."""
    from scipy.stats import spearmanr

    noise: dict[str, list[float]] = defaultdict(list)
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    saved = []
    for curve in curves:
        epochs = stopped(curve, patience, rule)
        saved.append(1.0 - epochs / len(curve.scores))
        noise[curve.table].append(curve_noise(curve.scores))
        pairs[curve.table].append((best(curve, epochs), best(curve, len(curve.scores))))
    lost = [
        (kept - full) / float(np.median(noise[name]) or 1.0)
        for name, both in pairs.items()
        for kept, full in both
    ]
    ranks = [float(spearmanr(*zip(*both, strict=True)).statistic) for both in pairs.values()]
    return (
        100.0 * float(np.mean(saved)),
        float(np.median(lost)),
        float(np.quantile(lost, 0.9)),
        float(np.mean(ranks)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Rules of early stopping on real curves.")
    parser.add_argument("--quick", action="store_true", help="few and short trainings")
    parser.add_argument("--curves", type=Path, help="keep the curves in this file, or read them")
    options = parser.parse_args()
    import keras

    began = time.perf_counter()
    curves = all_curves(quick=options.quick, file=options.curves)
    print(
        f"{len(curves)} curves of {len(curves[0].scores)} epochs in "
        f"{time.perf_counter() - began:.0f} s; Keras {keras.__version__}, "
        f"{keras.backend.backend()}, NumPy {np.__version__}"
    )
    print(f"{'rule':<22} {'patience':>8} {'saved %':>8} {'lost':>6} {'p90':>6} {'ranks':>6}")
    for name, rule in RULES.items():
        for patience in PATIENCES:
            saved, lost, high, ranks = judged(curves, patience, rule)
            print(f"{name:<22} {patience:>8} {saved:>8.0f} {lost:>6.2f} {high:>6.2f} {ranks:>6.2f}")


if __name__ == "__main__":
    main()
