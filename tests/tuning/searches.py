"""Searches that cost next to nothing, for the tests of this room.

`Scripted` builds a real but tiny Keras model and drives the real callbacks with logs
from a formula, so that the whole loop runs in milliseconds per trial. `Learner` trains
one weight for real.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from smarttune.oracles import STRATEGIES
from smarttune.trials import TrialRecord
from smarttune.tuning import SmartTuner

RATE = "optimizer.learning_rate"
WIDTH = "model.units"

# Keras 3.15 on TensorFlow reads its variables in a way that NumPy 2 is about to end.
keras_reads_variables = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
# KerasTuner 1.4.8 calls old names of threading in its own oracles.
kerastuner_names_threads = pytest.mark.filterwarnings(
    "ignore:getName\\(\\) is deprecated:DeprecationWarning"
)

# From a trial's values and its epoch, counted from 1, to the logs of that epoch.
Formula = Callable[[Mapping[str, Any], int], Mapping[str, float]]


def bowl(values: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """A loss that falls with the epochs towards a bowl around a rate of 0.01."""
    floor = abs(math.log10(values[RATE]) + 2.0) + 0.01 * values[WIDTH]
    return {"loss": floor + 0.9 / epoch, "val_loss": floor + 1.0 / epoch}


def declare(hp: Any) -> None:
    """A rate and a width."""
    hp.Float(RATE, 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Int(WIDTH, 1, 4, default=2)


def tiny_model() -> Any:
    """A compiled model with one weight and one bias."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@cache
def shared_model() -> Any:
    """One tiny model for all trials: building it costs more than all else in such a trial."""
    return tiny_model()


class Scripted(keras_tuner.HyperModel):  # type: ignore[misc]
    """Models whose training is a formula.

    Args:
        formula: Gives the logs of each epoch; may raise.
        fresh: Whether every trial has a model of its own.
    """

    def __init__(self, formula: Formula = bowl, *, fresh: bool = False) -> None:
        super().__init__()
        self.formula = formula
        self.fresh = fresh
        self.trained: list[tuple[dict[str, Any], range]] = []

    def build(self, hp: Any) -> Any:
        """Build the same tiny model for all values."""
        declare(hp)
        return tiny_model() if self.fresh else shared_model()

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        """Report the formula's logs to the callbacks, as Keras does."""
        callbacks = keras.callbacks.CallbackList(kwargs["callbacks"], model=model)
        model.stop_training = False
        epochs = range(kwargs.get("initial_epoch", 0), kwargs["epochs"])
        self.trained.append((dict(hp.values), epochs))
        callbacks.on_train_begin()
        for epoch in epochs:
            callbacks.on_epoch_begin(epoch)
            callbacks.on_train_batch_end(0)
            model.layers[-1].bias.assign([float(epoch + 1)])  # tells checkpoints apart
            callbacks.on_epoch_end(epoch, dict(self.formula(hp.values, epoch + 1)))
            if model.stop_training:
                break
        callbacks.on_train_end()


def build_learner(hp: Any) -> Any:
    """A plain build function: one layer, trained for real."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = hp.Float(RATE, 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def line(rows: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and a target that is linear in them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    return x, (x @ np.array([[2.0], [-1.0]], np.float32) + 0.5)


def oracle(strategy: str = "random", **options: Any) -> Any:
    """One of our strategies with a small budget."""
    base: dict[str, Any] = {"objective": keras_tuner.Objective("val_loss", "min"), "seed": 3}
    if strategy == "hyperband":
        base |= {"max_epochs": 4, "min_epochs": 1, "factor": 2, "hyperband_iterations": 1}
    else:
        base["max_trials"] = 6
    return STRATEGIES[strategy](**(base | options))


def tuner(
    path: Path, strategy: str | Any = "random", hypermodel: Any = None, **options: Any
) -> SmartTuner:
    """A tuner in a folder; a run found there is resumed."""
    return SmartTuner(
        oracle(strategy) if isinstance(strategy, str) else strategy,
        hypermodel if hypermodel is not None else Scripted(),
        directory=path.parent,
        project_name=path.name,
        **options,
    )


def essence(record: TrialRecord) -> dict[str, Any]:
    """Everything of a record but the times."""
    return record.model_dump(exclude={"seconds", "started", "samples_per_second"})


class Interrupt:
    """Listens to events and breaks off as Ctrl-C does, amid a trial.

    Args:
        after: Finished trials after which the next one is broken off.
        events: Events of that trial before the break.
    """

    def __init__(self, after: int, *, events: int = 1) -> None:
        self.after = after
        self.events = events
        self.finished = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Count, and raise when it is time."""
        self.finished += event["event"] == "trial_finished"
        if self.finished == self.after and event["event"] in ("trial_started", "epoch"):
            self.events -= 1
            if self.events < 0:
                raise KeyboardInterrupt
