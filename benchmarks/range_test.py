"""What each reading of a learning-rate range test costs beside a grid of constant rates.

    python benchmarks/range_test.py [--quick] [--only wine,mnist,sms] [--pictures FOLDER]

For each real data set the recommended network is trained with constant rates: a grid of nine, the
rate that the rules recommend, and every suggestion of the range test; same epochs, same rows, two
seeds. Scores are validation values of the search objective. `lost` is the score below the best of
the grid as a share of what the grid spans from its median to its best, so that sets compare:
0 is the best of the grid, 1 is a rate drawn blindly.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FOLDER = Path(
    os.environ.get("SMARTTUNE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
).resolve()
GRID = tuple(10 ** (k / 2) for k in range(-9, 0))  # 3e-5 to 0.3, half an order of magnitude apart
# Rows of training and validation together, and epochs: enough that rates matter in two minutes.
ROWS, EPOCHS = 2500, 5
EVALUATED = 250  # rows of one batch that is only evaluated
QUICK_ROWS, QUICK_EPOCHS = 600, 2


class Case(NamedTuple):
    """One data set: the file and how it is read."""

    name: str
    path: str
    target: Any
    problem: str


CASES = (
    Case("wine", "tabular/winequality-white.csv", -1, "multiclass"),
    Case("california", "tabular/california_housing.csv", "median_house_value", "regression"),
    Case("adult", "tabular/adult/adult-train.csv", -1, "binary"),
    Case("mnist", "images/mnist/train10k.npz", "y", "multiclass"),
    Case("sms", "text/SMSSpamCollection.tsv", "Label", "binary"),
)


def job_of(case: Case) -> Any:
    """The recommended network with all that its training needs."""
    from smarttune.backend import prepare_backend
    from smarttune.facts import Facts
    from smarttune.rulebook import load_rulebook

    prepare_backend()
    from smarttune.preparation import prepare

    pinned = {"optimizer.schedule": "constant", "optimizer.warmup_steps": 0}
    return prepare(
        FOLDER / case.path,
        case.target,
        declared=Facts(),
        pinned=pinned,
        rulebook=load_rulebook(),
        problem=case.problem,
    ).job


class Bench:
    """One network and its rows, trained from the same start with any rate."""

    def __init__(self, job: Any, seed: int, rows: int, epochs: int) -> None:
        from smarttune.training.checkpoint import state_of
        from smarttune.tuning.probing import recommended_model

        self.job, self.seed, self.epochs = job, seed, epochs
        training, validation = job.split.train[: rows * 3 // 4], job.split.validation[: rows // 4]
        self.train, self.validation = job.arrays(training), job.arrays(validation)
        self.model = recommended_model(replace(job, seed=seed), job.settings)
        self.batch_size = int(job.settings["training.batch_size"])
        self.start = state_of(self.model)
        self.scores: dict[float, float] = {}

    def score(self, rate: float) -> float:
        """Validation score after training with one rate."""
        from smarttune.training import epoch_batches, num_batches
        from smarttune.training.checkpoint import set_state

        if rate not in self.scores:
            set_state(self.model, self.start)
            self.model.optimizer.learning_rate = rate
            x, y = self.train
            batches = epoch_batches(
                x, y, batch_size=self.batch_size, seed=self.seed, epochs=range(self.epochs)
            )
            steps = num_batches(len(y), self.batch_size)
            self.model.fit(
                batches, steps_per_epoch=steps, epochs=self.epochs, shuffle=False, verbose=0
            )
            x, y = self.validation
            once = epoch_batches(x, y, batch_size=EVALUATED, seed=0, epochs=range(1))
            steps = num_batches(len(y), EVALUATED)
            logs = self.model.evaluate(once, steps=steps, verbose=0, return_dict=True)
            self.scores[rate] = logs[self.job.objective.name.removeprefix("val_")]
        return self.scores[rate]

    def range_test(self, **options: Any) -> Any:
        """The test on the same start and rows."""
        from smarttune.training.checkpoint import set_state
        from smarttune.training.range_test import find_learning_rate

        set_state(self.model, self.start)
        return find_learning_rate(
            self.model, self.train, batch_size=self.batch_size, seed=self.seed, **options
        )


def mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def results(benches: list[Bench]) -> tuple[dict[float, float], dict[str, tuple[float, float]]]:
    """Score of each grid rate; and of each way to choose one, its mean rate and score."""
    import numpy as np

    grid = {rate: mean(b.score(rate) for b in benches) for rate in GRID}
    rules = float(benches[0].job.settings["optimizer.learning_rate"])
    ways: dict[str, list[tuple[float, float]]] = {
        "rules": [(rules, b.score(rules)) for b in benches]
    }
    for bench in benches:
        for way, rate in bench.range_test().suggestions().items():
            ways.setdefault(way, []).append((rate, bench.score(rate)))
    return grid, {
        way: (float(np.exp(mean(np.log(r) for r, _ in found))), mean(s for _, s in found))
        for way, found in ways.items()
    }


def lines(
    case: Case, goal: Any, grid: Mapping[float, float], ways: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[str, float, str]]:
    """(way, share lost, line) for each way to choose a rate."""
    import numpy as np

    sign = 1.0 if goal.direction == "max" else -1.0
    best = max(grid, key=lambda rate: sign * np.nan_to_num(grid[rate], nan=-sign * np.inf))
    span = abs(grid[best] - float(np.nanmedian(list(grid.values())))) or 1.0
    for way, (rate, score) in {"grid": (best, grid[best]), **ways}.items():
        lost = sign * (grid[best] - score) / span
        cells = [case.name, goal.name, way, f"{rate:.2g}", f"{rate / best:.2g}", f"{score:.4g}"]
        yield way, lost, " | ".join([*cells, f"{lost:.2f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, one seed")
    parser.add_argument("--only", default="wine,california,adult")
    parser.add_argument("--pictures", type=Path, help="draw each curve into this folder")
    options = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if strangers := sorted(set(options.only.split(",")) - set(by_name)):
        sys.exit(f"--only: `{strangers[0]}` is none of {', '.join(by_name)}.")
    import keras
    import numpy as np

    rows, epochs = (QUICK_ROWS, QUICK_EPOCHS) if options.quick else (ROWS, EPOCHS)
    began, all_lost = time.monotonic(), dict[str, list[float]]()
    print(f"keras {keras.__version__} ({keras.backend.backend()}), {rows} rows, {epochs} epochs")
    print("data | objective | rate chosen by | rate | over grid's best | score | lost")
    for name in options.only.split(","):
        case = by_name[name]
        if not (FOLDER / case.path).exists():
            print(f"{name} | skipped: {FOLDER / case.path} is absent")
            continue
        job = job_of(case)
        benches = [Bench(job, seed, rows, epochs) for seed in range(1 if options.quick else 2)]
        if options.pictures is not None:
            from smarttune.report.curves import range_test_picture

            range_test_picture(benches[0].range_test(), options.pictures / f"{name}.png")
        for way, lost, line in lines(case, job.objective, *results(benches)):
            all_lost.setdefault(way, []).append(lost)
            print(line, flush=True)
    print("\nrate chosen by | mean lost | worst lost | sets")
    for way, lost in all_lost.items():
        print(f"{way} | {np.mean(lost):.2f} | {max(lost):.2f} | {len(lost)}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
