"""A surrogate of real training runs: what a search would see, without training.

The surrogate answers what a network reaches after each of 52 epochs for seven
hyperparameters on an OpenML table (YAHPO Gym's model of LCBench: funnel-shaped
networks, SGD with a cosine schedule). It is free of noise. A method that is
compared here writes

    def method(search: Simulation, setup: Setup) -> None

and calls `search.train(values, start, stop)` until that raises `Spent`. Training costs
its epochs: one full training is 52. A method that can continue a trial passes the epoch
that it had reached as `start` and pays the rest; one that cannot passes 0 and pays all.
The validation error of every epoch trained counts towards the best seen so far.

The regret of an error is normalized per task: 0 is the best of 50,000 configurations drawn
at random and trained in full, 1 the median of them; a search can go below 0.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smarttune.evidence.surrogate import (
    MAX_EPOCHS,
    SPACE,
    as_row,
    errors_of,
)
from smarttune.evidence.surrogate import predict as ask

POOL = 50_000  # random configurations that define the regret of a task


class Spent(Exception):  # noqa: N818 -- the normal end of a simulated search
    """The budget of epochs is used up."""


def folder() -> Path:
    """Where the surrogate lies; ends the program with a message if it does not."""
    given = os.environ.get("SMARTTUNE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    found = Path(given).resolve() / "lcbench"
    if not (found / "model.onnx").exists():
        sys.exit(f"No surrogate in {found}. Set SMARTTUNE_DATA to the folder that holds lcbench/.")
    return found


def predict(task: int, epochs: np.ndarray, configurations: np.ndarray) -> np.ndarray:
    """Ask the surrogate.

    Args:
        task: An OpenML task.
        epochs: Shape (n,).
        configurations: Raw values, shape (n, 7), in the order of `SPACE`.

    Returns:
        Shares of 1 that are wrong, shape (n,): one minus balanced validation accuracy.
    """
    return errors_of(ask(folder(), task, epochs, configurations))


def from_unit(u: np.ndarray) -> np.ndarray:
    """Points of the unit cube as raw values; both have shape (n, 7)."""
    columns = []
    for i, axis in enumerate(SPACE):
        low, high = (axis.low - 0.5, axis.high + 0.5) if axis.integer else (axis.low, axis.high)
        if axis.log:
            values = np.exp(np.log(low) + u[:, i] * (np.log(high) - np.log(low)))
        else:
            values = low + u[:, i] * (high - low)
        columns.append(np.clip(np.round(values) if axis.integer else values, axis.low, axis.high))
    return np.column_stack(columns)


def as_values(row: np.ndarray) -> dict[str, float | int]:
    """One raw row as named values."""
    return {
        a.name: round(float(v)) if a.integer else float(v) for a, v in zip(SPACE, row, strict=True)
    }


@dataclass(frozen=True)
class Task:
    """One table.

    Attributes:
        number: OpenML's number of the task.
        pool: Raw configurations, shape (50000, 7), the same for all tasks.
        errors: Their errors after a full training, shape (50000,).
    """

    number: int
    pool: np.ndarray = field(repr=False)
    errors: np.ndarray = field(repr=False)

    @functools.cached_property
    def best(self) -> float:
        """The error of regret 0."""
        return float(self.errors.min())

    @functools.cached_property
    def median(self) -> float:
        """The error of regret 1."""
        return float(np.median(self.errors))

    def regret(self, error: float | np.ndarray) -> Any:
        """Normalize an error."""
        return (error - self.best) / (self.median - self.best)

    def curve(self, values: Mapping[str, Any]) -> np.ndarray:
        """Errors after 1, 2, ... 52 epochs, shape (52,)."""
        epochs = np.arange(1, MAX_EPOCHS + 1)
        return predict(self.number, epochs, np.repeat(as_row(values)[None], MAX_EPOCHS, axis=0))


@functools.cache
def pool() -> np.ndarray:
    """The configurations that define regret, shape (50000, 7)."""
    return from_unit(np.random.default_rng(POOL).random((POOL, len(SPACE))))


def task(number: int) -> Task:
    """One task; its pool is computed once and kept in the system's folder for caches."""
    kept = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smarttune-benchmarks"
    file = kept / f"lcbench-{number}-{POOL}.npy"
    if file.exists():
        return Task(number, pool(), np.load(file))
    errors = predict(number, np.full(POOL, MAX_EPOCHS), pool())
    kept.mkdir(parents=True, exist_ok=True)
    np.save(file, errors)
    return Task(number, pool(), errors)


class Simulation:
    """A search on one task with a budget of epochs.

    Args:
        task: The table.
        budget: Full trainings that may be spent.
    """

    def __init__(self, task: Task, budget: float) -> None:
        self.task = task
        self.left = round(budget * MAX_EPOCHS)
        self.bests: list[float] = []  # after each epoch spent
        self._curves: dict[bytes, np.ndarray] = {}

    def train(self, values: Mapping[str, Any], start: int = 0, stop: int = MAX_EPOCHS) -> float:
        """Train on from `start` to `stop` epochs and return the error there.

        Raises:
            Spent: If the budget ends before; what was trained until then counts.
        """
        curve = self.curve(values)[start:stop]
        paid = curve[: self.left]
        before = self.bests[-1] if self.bests else np.inf
        self.bests += np.minimum(np.minimum.accumulate(paid), before).tolist()
        self.left -= len(paid)
        if len(paid) < len(curve) or self.left == 0:
            raise Spent
        return float(curve[-1])

    def curve(self, values: Mapping[str, Any]) -> np.ndarray:
        """The whole curve; a method may look only at the part that it has paid for."""
        key = as_row(values).tobytes()
        if key not in self._curves:
            self._curves[key] = self.task.curve(values)
        return self._curves[key]

    def regret_after(self, trainings: float) -> float:
        """The regret of the best seen after so many full trainings."""
        return float(self.task.regret(self.bests[round(trainings * MAX_EPOCHS) - 1]))


@dataclass(frozen=True)
class Setup:
    """What a method starts from.

    Attributes:
        seed: Seeds everything; hashed, so that neighbouring seeds share nothing.
        budget: Full trainings.
        default: The recommended configuration, by the surrogate's names.
        ranges: Name to (low, high, log) where a recommendation narrows the space.
        space: The recommended space and its priors, a `smarttune.space.SearchSpace` by the
            surrogate's names; it precedes `ranges`.
        portfolio: Further configurations to try early.
    """

    seed: int
    budget: float
    default: Mapping[str, Any] | None = None
    ranges: Mapping[str, tuple[float, float, bool]] = field(default_factory=dict)
    space: Any = None
    portfolio: tuple[Mapping[str, Any], ...] = ()


def hashed(*parts: Any) -> int:
    """A seed of 31 bits from anything printable."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


# ours: a configuration that a competent person would find, as in the tables of the PriorBand paper.
DRAWS_OF_A_PERSON = 25


def a_persons_default(on: Task, seed: int) -> dict[str, Any]:
    """The best of 25 configurations drawn at random, different for each seed."""
    rng = np.random.default_rng(hashed("person", on.number, seed))
    drawn = rng.choice(len(on.pool), DRAWS_OF_A_PERSON, replace=False)
    return as_values(on.pool[drawn[np.argmin(on.errors[drawn])]])


def hyperparameters(setup: Setup | None = None) -> Any:
    """The space as `keras_tuner.HyperParameters`, narrowed where the setup says so."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    if setup is not None and setup.space is not None:
        from smarttune.models.declaration import declare

        declare(hp, setup.space)
        return hp
    narrowed = {} if setup is None else setup.ranges
    for axis in SPACE:
        low, high, log = narrowed.get(axis.name, (axis.low, axis.high, axis.log))
        sampling = "log" if log else "linear"
        if axis.integer:
            hp.Int(axis.name, int(low), int(high), sampling=sampling)
        else:
            hp.Float(axis.name, float(low), float(high), sampling=sampling)
    return hp


# Epochs at which a played oracle hears of a curve, one after the other 1.2 times as far.
HEARD = tuple(sorted({math.ceil(1.2**i) for i in range(22)} | {MAX_EPOCHS}))


def play(oracle: Any, search: Simulation) -> None:
    """Run a KerasTuner oracle until the budget or the oracle ends.

    Raises:
        Spent: When the budget ends.
    """
    while True:
        trial = oracle.create_trial("tuner0")
        if trial.status != "RUNNING":
            return
        values = trial.hyperparameters.values
        start, stop = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", MAX_EPOCHS)
        search.train(values, start, stop)
        curve = search.curve(values)
        for epoch in [e for e in HEARD if e < stop] + [stop]:
            error = float(curve[epoch - 1])
            oracle.update_trial(trial.trial_id, {oracle.objective.name: error}, step=epoch)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
