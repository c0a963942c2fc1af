"""SmartTune and stock KerasTuner Hyperband on real tables, equal wall time, side by side.

    python benchmarks/against_kerastuner.py --time 3m [--tables adult,wine] [--seed 0]

Both get the same rows for training, validation and test, one process each, the
same wall time with start-up included, one after the other. SmartTune gets the file
and the metric. KerasTuner gets what people write by hand: standardized numbers,
one-hot categories, a standardized target, and a wide search space over depth,
width, activation, dropout, optimizer and learning rate; Hyperband with 50 epochs,
early stopping, batches of 32. It has no time limit of its own, so it is stopped
after the trial that crosses the limit and only trials that ended in time count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tables import Table, tables

HERE = Path(__file__).resolve()


def smarttune_run(table: Table, seconds: float, seed: int, folder: Path) -> dict:
    """Search with the command line and read the run."""
    run = folder / "smarttune"
    metric = table.metric
    command = [
        *(sys.executable, "-m", "smarttune", "search", str(table.path)),
        *("--target", str(table.target), "--problem", table.problem),
        *("--objective", f"val_{metric}", "--time", f"{seconds:.0f}s"),
        *("--seed", str(seed), "--run", str(run), "--quiet"),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    elapsed = time.perf_counter() - began
    report = json.loads((run / "report.json").read_text())
    return {
        "trials": report["num_trials"],
        "first": report["default"]["score"],
        "best": report["best"]["score"],
        "test": report["test"]["best"][metric],
        "test_default": report["test"]["default"][metric],
        "seconds": elapsed,
        "run": str(run),
    }


def kerastuner_run(table: Table, seconds: float, seed: int, folder: Path) -> dict:
    """Run the hand-written script in its own process."""
    result = folder / "kerastuner.json"
    command = [sys.executable, str(HERE), "--peer", table.name, "--limit", str(seconds)]
    began = time.perf_counter()
    subprocess.run(
        [
            *command,
            "--seed",
            str(seed),
            "--result",
            str(result),
            "--run",
            str(folder / "smarttune"),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return {**json.loads(result.read_text()), "seconds": time.perf_counter() - began}


def peer(table: Table, limit: float, seed: int, result: Path, run: Path) -> None:
    """The hand-written KerasTuner script, with a clock."""
    began = time.perf_counter()
    import keras
    import keras_tuner
    import numpy as np
    import pandas as pd

    from smarttune.data import read, split
    from smarttune.models import TargetCodec
    from smarttune.tuning import Run
    from smarttune.tuning.comparing import metrics_of

    done = Run.load(run)  # the same split as SmartTune's
    dataset = read(table.path, table.target)
    rows = split(
        dataset.target,
        problem=table.problem,
        validation_fraction=float(done.recommendation.value("data.validation_fraction")),
        test_fraction=done.manifest["test_fraction"],
        seed=seed,
        stratify=bool(done.recommendation.value("data.stratify", True)),
    )
    classes = done.fingerprint.classes
    codec = TargetCodec.fit(
        dataset.target.iloc[rows.train],
        table.problem,
        classes,
        {"model.target_transform": "standardize"},
    )
    frame = dataset.features.copy()
    text = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    frame = pd.get_dummies(frame, columns=text, dtype="float32")
    frame = frame.fillna(frame.iloc[rows.train].median())
    mean, deviation = frame.iloc[rows.train].mean(), frame.iloc[rows.train].std().replace(0, 1)
    x = ((frame - mean) / deviation).to_numpy("float32")
    y = codec.encode(dataset.target)
    losses = {
        "binary": keras.losses.BinaryCrossentropy(from_logits=True),
        "multiclass": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "regression": "mse",
    }
    metrics = {
        "binary": lambda: keras.metrics.AUC(from_logits=True, name="auc"),
        "multiclass": lambda: "accuracy",
        "regression": lambda: keras.metrics.MeanAbsoluteError(name="mean_absolute_error"),
    }

    def build(hp):  # noqa: ANN001, ANN202
        model = keras.Sequential([keras.Input((x.shape[1],))])
        activation = hp.Choice("activation", ["relu", "tanh"])
        for i in range(hp.Int("layers", 1, 5)):
            model.add(
                keras.layers.Dense(hp.Int(f"units_{i}", 32, 512, step=32), activation=activation)
            )
            model.add(keras.layers.Dropout(hp.Float(f"dropout_{i}", 0.0, 0.5, step=0.1)))
        model.add(keras.layers.Dense(codec.num_outputs))
        rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        kind = hp.Choice("optimizer", ["adam", "sgd", "rmsprop"])
        optimizers = {
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
        }
        model.compile(
            optimizers[kind](rate), losses[table.problem], metrics=[metrics[table.problem]()]
        )
        return model

    ended: list[tuple[float, float | None]] = []

    class Timed(keras_tuner.Hyperband):
        def on_trial_end(self, trial):  # noqa: ANN001, ANN202
            super().on_trial_end(trial)
            ended.append((time.perf_counter() - began, self.oracle.get_trial(trial.trial_id).score))
            if ended[-1][0] > limit:
                raise TimeoutError

    scale = float(codec.scale[0]) if table.problem == "regression" else 1.0
    with tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(seed)
        tuner = Timed(
            build,
            objective=keras_tuner.Objective(f"val_{table.metric}", table.direction),
            max_epochs=50,
            seed=seed + 1,  # KerasTuner takes 0 for no seed
            directory=folder,
            overwrite=True,
        )
        with contextlib.suppress(TimeoutError):
            tuner.search(
                x[rows.train],
                y[rows.train],
                validation_data=(x[rows.validation], y[rows.validation]),
                callbacks=[keras.callbacks.EarlyStopping(patience=5)],
                verbose=0,
            )
        scores = [s for at, s in ended if at <= limit and s is not None]
        sign = -1 if table.direction == "max" else 1
        kept = list(tuner.oracle.end_order)[: len([1 for at, _ in ended if at <= limit])]
        scored = [tuner.oracle.trials[t] for t in kept if tuner.oracle.trials[t].score is not None]
        best = min(scored, key=lambda t: sign * t.score)
        output = tuner.load_model(best).predict(x[rows.test], verbose=0)
    summary = {
        "trials": len(scores),
        "first_five": scale * float(np.mean(scores[:5])),
        "best": scale * sign * min(sign * s for s in scores),
        "test": metrics_of(codec, output, y[rows.test])[table.metric],
    }
    result.write_text(json.dumps(summary))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", default="3m")
    parser.add_argument("--tables", default="adult,california,wine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    by_name = {t.name: t for t in tables()}
    if options.peer:
        peer(by_name[options.peer], options.limit, options.seed, options.result, options.run)
        return
    from smarttune.tuning import parse_duration

    seconds = parse_duration(options.time)
    header = f"{'table':<11} {'metric':<20} {'':<10} {'trials':>6} {'first':>9} {'best':>9} {'test':>9} {'seconds':>8}"
    print(header)
    wins = []
    for name in options.tables.split(","):
        table = by_name[name]
        with tempfile.TemporaryDirectory() as folder:
            ours = smarttune_run(table, seconds, options.seed, Path(folder))
            theirs = kerastuner_run(table, seconds, options.seed, Path(folder))
        row = "{:<11} {:<20} {:<10} {:>6} {:>9.4g} {:>9.4g} {:>9.4g} {:>8.1f}"
        print(
            row.format(
                name,
                table.metric,
                "SmartTune",
                ours["trials"],
                ours["first"],
                ours["best"],
                ours["test"],
                ours["seconds"],
            )
        )
        print(
            row.format(
                "",
                "",
                "KerasTuner",
                theirs["trials"],
                theirs["first_five"],
                theirs["best"],
                theirs["test"],
                theirs["seconds"],
            ),
            flush=True,
        )
        sign = 1 if table.direction == "max" else -1
        wins.append(
            (
                name,
                sign * (ours["best"] - theirs["best"]) >= 0,
                sign * (ours["first"] - theirs["first_five"]) >= 0,
                sign * (ours["test"] - theirs["test"]) >= 0,
            )
        )
    print("\nfirst: the recommendation alone; for KerasTuner the mean of its first five trials.")
    for name, best, first, test in wins:
        print(
            f"{name}: best at least as good: {best}; first beats first five: {first}; test at least as good: {test}"
        )


if __name__ == "__main__":
    main()
