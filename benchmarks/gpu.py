"""Many trials in one program beside one `fit` after the other, made for a machine with a GPU.

    python benchmarks/gpu.py [--quick] [--models mlp,cnn,lstm] [--sizes 1,8,32,128] [--minutes 8]

Needs Keras, JAX, NumPy and pydantic beside a checkout of this repository; nothing has to be
installed of it. Data are made here, of the size of a small tuning problem. The trials of a row
differ in learning rate, dropout, L2 and seed.

Trial-epochs per second, three ways: *first* is the first group of trials, building, tracing and
compiling included; *later* is another group of the same structure, as a search has many; *epochs*
counts from the end of the first epoch to the end of the last alone. Of `fit`, which compiles every
trial anew, *first* and *later* are two trials. *times* is *later* beside `model.fit`.
*Difference* is that of the last validation loss of the first trial from what the lane `fit` gives,
relative. *GPU* is the mean of what nvidia-smi samples in the later group. A row that would begin
after the time is left out and named.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # the first group compiles
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from smarttune.execution import TrainingData, fit_arrays
from smarttune.execution.lanes import Lanes
from smarttune.execution.program import Feed
from smarttune.execution.together import Member

MODELS = ("mlp", "cnn", "lstm")
POLICIES = ("float32", "mixed_bfloat16")
SIZES = (1, 8, 32, 128)
SAMPLING_MS = 200
NO_GPU = float("nan")

# Ranges of the trials' numbers.
RATES, DROPOUTS, DECAYS = (1e-4, 1e-2), (0.1, 0.5), (1e-6, 1e-3)


class Size(NamedTuple):
    """How much is trained."""

    rows: int
    validation_rows: int
    batch: int
    epochs: int
    units: int
    filters: int
    side: int
    timesteps: int


# ours: small-model tuning, where a GPU mostly waits for the next step; and what a CPU can prove.
FULL = Size(4096, 1024, 128, 10, 128, 32, 16, 32)
QUICK = Size(256, 128, 64, 4, 16, 4, 8, 8)
QUICK_SIZES = (1, 8)
FEATURES, CHANNELS = {"mlp": 64, "lstm": 16}, 3


class Marks(keras.callbacks.Callback):  # type: ignore[misc]
    """The second of every epoch's end, and the last validation loss."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.loss = float("nan")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Read the watch."""
        self.seconds.append(time.perf_counter())
        self.loss = float(logs["val_loss"])


class Group(NamedTuple):
    """What some trials took, from building to their end."""

    seconds: float
    marks: Sequence[Marks]

    @property
    def rate(self) -> float:
        """Trial-epochs per second, everything included."""
        return sum(len(m.seconds) for m in self.marks) / self.seconds

    @property
    def rate_of_epochs(self) -> float:
        """The same without the first epoch and what came before it."""
        span = max(m.seconds[-1] for m in self.marks) - min(m.seconds[0] for m in self.marks)
        return sum(len(m.seconds) - 1 for m in self.marks) / span


class Row(NamedTuple):
    """One line of the table."""

    name: str
    first: Group
    later: Group
    busy: float  # percent of the time that the GPU was


class Utilisation:
    """Percent of the time in which the GPU did something, sampled while it is entered."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Utilisation:
        if shutil.which("nvidia-smi"):
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                ["nvidia-smi", *query, "-lms", str(SAMPLING_MS)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._reader = threading.Thread(target=self._read, args=(self._process,))
            self._reader.start()
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit():
                self.samples.append(float(line))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._reader.join()

    @property
    def mean(self) -> float:
        """NaN where there is no GPU or nothing was sampled."""
        return float(np.mean(self.samples)) if self.samples else NO_GPU


# What is trained.


def data(kind: str, size: Size) -> TrainingData:
    """Inputs of unit variance, and a number that a network can learn in part."""
    random = np.random.default_rng(0)
    shape = {
        "mlp": (FEATURES["mlp"],),
        "cnn": (size.side, size.side, CHANNELS),
        "lstm": (size.timesteps, FEATURES["lstm"]),
    }[kind]
    x = random.normal(size=(size.rows + size.validation_rows, *shape)).astype("float32")
    flat = x.reshape(len(x), -1)
    weights = random.normal(size=(flat.shape[1], 1)).astype("float32") / np.sqrt(flat.shape[1])
    y = np.tanh(flat @ weights)
    return TrainingData(x[: size.rows], y[: size.rows], x[size.rows :], y[size.rows :])


def hidden(kind: str, size: Size, decay: Any) -> list[Any]:
    """The layers between input and dropout."""
    layers = keras.layers
    if kind == "mlp":
        return [layers.Dense(size.units, "relu", kernel_regularizer=decay) for _ in range(2)]
    if kind == "lstm":
        return [layers.LSTM(size.units // 2, kernel_regularizer=decay)]
    return [
        layers.Conv2D(size.filters, 3, activation="relu", kernel_regularizer=decay),
        layers.MaxPooling2D(),
        layers.Conv2D(size.filters, 3, activation="relu", kernel_regularizer=decay),
        layers.GlobalAveragePooling2D(),
    ]


def build(kind: str, size: Size, shape: tuple[int, ...], seed: int) -> Any:
    """A compiled network of a seed, which draws its numbers too; its output is float32."""
    random = np.random.default_rng(seed)
    rate, decay = (float(np.exp(random.uniform(*np.log(r)))) for r in (RATES, DECAYS))
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(shape),
            *hidden(kind, size, keras.regularizers.L2(decay)),
            keras.layers.Dropout(float(random.uniform(*DROPOUTS))),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
    return model


# How it is trained.

Trainer = Callable[[Sequence[Any], Sequence[int], Sequence[Marks]], None]


def by_stock(rows: TrainingData, size: Size) -> Trainer:
    """Keras's `fit`, as everybody calls it."""

    def train(models: Sequence[Any], seeds: Sequence[int], marks: Sequence[Marks]) -> None:
        for model, mark in zip(models, marks, strict=True):
            model.fit(
                rows.x,
                rows.y,
                batch_size=size.batch,
                epochs=size.epochs,
                validation_data=(rows.x_validation, rows.y_validation),
                callbacks=[mark],
                verbose=0,
            )

    return train


def by_fit(rows: TrainingData, size: Size) -> Trainer:
    """The lane `fit`, which orders the rows as the programs do."""

    def train(models: Sequence[Any], seeds: Sequence[int], marks: Sequence[Marks]) -> None:
        for model, seed, mark in zip(models, seeds, marks, strict=True):
            fit_arrays(
                model,
                rows,
                batch_size=size.batch,
                seed=seed,
                epochs=range(size.epochs),
                callbacks=[mark],
            )

    return train


def by_lanes(rows: TrainingData, size: Size) -> Trainer:
    """One program for all trials; ends the program if the lanes refuse them."""
    refused: list[str] = []
    lanes = Lanes("fused", on_choice=lambda lane, why: refused.append(f"{lane}: {why}"))

    def train(models: Sequence[Any], seeds: Sequence[int], marks: Sequence[Marks]) -> None:
        members = [
            Member(model, Feed.of(model, rows, size.batch, None), seed, range(size.epochs), [mark])
            for model, seed, mark in zip(models, seeds, marks, strict=True)
        ]
        if lanes.train(members):
            sys.exit(f"No program takes these trials. {'; '.join(refused)}")

    return train


def group(kind: str, size: Size, rows: TrainingData, seeds: Sequence[int], train: Trainer) -> Group:
    """Build and train some trials."""
    marks = [Marks() for _ in seeds]
    began = time.perf_counter()
    train([build(kind, size, rows.x.shape[1:], seed) for seed in seeds], seeds, marks)
    return Group(time.perf_counter() - began, marks)


def measured(
    name: str, kind: str, size: Size, rows: TrainingData, num_trials: int, train: Trainer
) -> Row:
    """Two groups, one after the other, with other seeds."""
    first = group(kind, size, rows, range(num_trials), train)
    with Utilisation() as busy:
        later = group(kind, size, rows, range(num_trials, 2 * num_trials), train)
    return Row(name, first, later, busy.mean)


# What is shown.


def line(kind: str, policy: str, row: Row, *, stock: Row, lane: Row) -> str:
    """A row of the Markdown table."""
    wanted = lane.first.marks[0].loss
    difference = abs(row.first.marks[0].loss - wanted) / abs(wanted)
    cells = [
        *(kind, policy, row.name),
        *(f"{v:.3g}" for v in (row.first.rate, row.later.rate, row.later.rate_of_epochs)),
        f"{row.later.rate / stock.later.rate:.1f}",
        "-" if row is stock else f"{difference:.1e}",  # its rows come in another order
        "-" if np.isnan(row.busy) else f"{row.busy:.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def compared(kind: str, policy: str, size: Size, sizes: Sequence[int], ends_at: float) -> list[str]:
    """Print the lines of one network in one precision; returns what the time left out."""
    keras.config.set_dtype_policy(policy)
    rows = data(kind, size)
    left_out, stock, lane = [], None, None
    for num_trials in (0, *sizes):
        name = f"fused, {num_trials}" if num_trials else "fit"
        if time.monotonic() > ends_at:
            left_out.append(f"{kind} {policy} {name}")
        elif num_trials == 0:
            stock = measured("model.fit", kind, size, rows, 1, by_stock(rows, size))
            lane = measured("lane fit", kind, size, rows, 1, by_fit(rows, size))
            for row in (stock, lane):
                print(line(kind, policy, row, stock=stock, lane=lane), flush=True)
        elif stock is not None and lane is not None:
            row = measured(name, kind, size, rows, num_trials, by_lanes(rows, size))
            print(line(kind, policy, row, stock=stock, lane=lane), flush=True)
    keras.config.set_dtype_policy("float32")
    return left_out


def machine() -> str:
    """The device and the versions of what matters."""
    import jax

    found = jax.devices()[0]
    kind = f"{os.cpu_count()} cores" if found.platform == "cpu" else found.device_kind
    packages = ("keras", "jax", "jaxlib", "numpy")
    return f"{kind}; Python {platform.python_version()}, {', '.join(map(_version, packages))}"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} of unknown version"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--sizes", help="numbers of trials at once")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no row after these")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    options = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(f"needs KERAS_BACKEND=jax, not {keras.backend.backend()}")
    size, default = (QUICK, QUICK_SIZES) if options.quick else (FULL, SIZES)
    sizes = [int(n) for n in options.sizes.split(",")] if options.sizes else default
    ends_at, left_out = time.monotonic() + 60 * options.minutes, []
    print(f"{machine()}\n{size}\n")
    print("| model | precision | lane | first | later | epochs | times | difference | GPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    for policy in options.policies.split(","):
        for kind in options.models.split(","):
            left_out += compared(kind, policy, size, sizes, ends_at)
    if left_out:
        print(f"\nno time was left for: {', '.join(left_out)}")


if __name__ == "__main__":
    main()
