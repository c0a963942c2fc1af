"""Whether a long search stays as it began: time and memory per trial over 2,000 small trials.

    python benchmarks/many_trials.py [--trials 2000] [--executor NAME] [--profile]

A random search of tiny networks on 200 rows of the bundled table, one epoch each, through
`SmartTuner` and its run directory, in this process. After every 200 trials a line: seconds per
trial by the clock and of the processor, and the memory that the process holds. The last line is
the ratio of the last block to the second; the first one pays for what is made once. `--profile`
adds the functions that took most of the last block, and compares the one before it.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import os
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np

from smarttune import SmartTuner
from smarttune.execution import TrainingData
from smarttune.oracles import RandomOracle

TABLE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
BLOCKS = 10
ROWS, VALIDATION_ROWS, EPOCHS = 150, 50, 1
PROFILED = 25  # functions


class Block(NamedTuple):
    """What some trials took."""

    seconds: float
    cpu: float
    mebibytes: float


def data() -> TrainingData:
    """The first rows of the bundled table, in standard units."""
    with TABLE.open(encoding="utf-8") as file:
        rows = [[float(v) for v in row[1:]] for row in list(csv.reader(file))[1:]]
    chosen = np.random.default_rng(0).permutation(len(rows))[: ROWS + VALIDATION_ROWS]
    table = np.asarray(rows, dtype="float32")[chosen]
    x = (table[:, :-1] - table[:, :-1].mean(0)) / table[:, :-1].std(0)
    y = table[:, -1:]
    return TrainingData(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def build(hp: Any) -> Any:
    """One hidden layer."""
    hp.Choice("training.batch_size", [32, 64])
    model = keras.Sequential(
        [
            keras.layers.Input((11,)),
            keras.layers.Dense(hp.Int("model.units", 4, 32), activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    rate = hp.Float("optimizer.learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def held() -> float:
    """Resident memory in MiB; where the system does not say, the most that it ever was."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1024**2
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Blocks:
    """Hears of every trial, and measures them in blocks."""

    def __init__(self, size: int, num_blocks: int, profile: cProfile.Profile | None) -> None:
        self.size, self.num_blocks, self.profile = size, num_blocks, profile
        self.done: list[Block] = []
        self.num_trials = 0
        self.began = time.perf_counter(), time.process_time()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take note of a finished trial."""
        if event["event"] != "trial_finished":
            return
        self.num_trials += 1
        if self.num_trials % self.size:
            return
        now = time.perf_counter(), time.process_time()
        seconds, cpu = ((b - a) / self.size for a, b in zip(self.began, now, strict=True))
        self.done.append(Block(seconds, cpu, held()))
        print(f"{self.num_trials:>7} {seconds:>9.4f} {cpu:>9.4f} {held():>9.0f}", flush=True)
        if self.profile is not None and len(self.done) == self.num_blocks - 1:
            self.profile.enable()
        self.began = time.perf_counter(), time.process_time()


def searched(num_trials: int, executor: str, blocks: Blocks, folder: str) -> None:
    """Run the search."""
    oracle = RandomOracle(keras_tuner.Objective("val_loss", "min"), max_trials=num_trials, seed=1)
    tuner = SmartTuner(
        oracle, build, directory=folder, project_name="run", on_event=blocks, executor=executor
    )
    tuner.search(data(), epochs=EPOCHS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--executor", default="auto", help="fit, compiled, ... as SmartTuner's")
    parser.add_argument("--profile", action="store_true", help="of the last block")
    options = parser.parse_args()
    size = max(1, options.trials // BLOCKS)
    profile = cProfile.Profile() if options.profile else None
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; executor {options.executor}")
    print(f"{'trials':>7} {'s/trial':>9} {'CPU s':>9} {'MiB':>9}")
    blocks = Blocks(size, options.trials // size, profile)
    with tempfile.TemporaryDirectory() as folder:
        searched(options.trials, options.executor, blocks, folder)
        disk = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    print(
        f"on disk: {disk / options.trials / 1024:.1f} KiB per trial; load {os.getloadavg()[0]:.1f}"
    )
    if len(blocks.done) > 2:
        # A profiled block is slower than it would be.
        second, last = blocks.done[1], blocks.done[-1 if profile is None else -2]
        ratios = (f"{b / a:.2f}" for a, b in zip(second, last, strict=True))
        print("last block / second, of seconds, CPU and memory:", *ratios)
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(PROFILED)


if __name__ == "__main__":
    main()
