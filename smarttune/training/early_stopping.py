"""Windowed early stopping for plain Keras programs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack, get_args

import keras
import numpy as np

from smarttune.errors import OptionError, did_you_mean
from smarttune.objectives import DIRECTIONS, Direction, Objective
from smarttune.training.stopping import Statistic, WindowedStopping

Mode = Literal["stop", "best_checkpoint"]

_LOG = logging.getLogger(__name__)


class StoppingOptions(TypedDict, total=False):
    """How scores are smoothed and compared; see `WindowedStopping`."""

    window: int
    statistic: Statistic
    noise_factor: float
    quantile: float


class WindowedEarlyStopping(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a training whose windowed score gains no more, and puts the best epoch back.

    What stops is the statistic of a window; what is put back is the best single epoch, the one
    whose weights exist. Weights, and statistics of normalization, are kept in memory (one copy of
    the model); the seeds of dropout run on, as after any other epoch. With validation data, every
    epoch must be validated.

    Args:
        monitor: The logged score, for example `val_loss`.
        patience: Epochs without gain before the training ends.
        direction: Whether lower or higher is better. None takes it from the table of known
            metrics, with or without `val_`.
        mode: "stop" ends the training. "best_checkpoint" never does, and only puts the best
            epoch back: for schedules with a planned end, whose best epochs are the last.
        restore_best_weights: Whether to put the best epoch's weights back at the end.
        start_from_epoch: Epochs before this one, counted from 0, are not looked at.
        verbose: 1 to log what was done at the end.
        options: `window`, `statistic`, `noise_factor` and `quantile` of `WindowedStopping`.

    Attributes:
        best_epoch: The best single epoch, counted from 0; None if none had a finite score.
        best_score: Its score, or None.
        stopped_epoch: The epoch, counted from 0, after which training was ended; None if not.

    Raises:
        OptionError: If an option is not allowed or the direction is unknown; during the
            training, if the monitor is not logged.
    """

    rule: WindowedStopping
    best_epoch: int | None
    best_score: float | None
    stopped_epoch: int | None
    _best_weights: list[np.ndarray] | None

    def __init__(  # noqa: PLR0913 -- a callback; all but two are options by keyword
        self,
        monitor: str,
        patience: int,
        *,
        direction: Direction | None = None,
        mode: Mode = "stop",
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        verbose: int = 0,
        **options: Unpack[StoppingOptions],
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise OptionError(
                "mode",
                received=f"`{mode}`",
                expected="one of " + ", ".join(get_args(Mode)),
                mend=f"Choose one of these.{did_you_mean(mode, get_args(Mode))}",
            )
        self.objective = Objective(monitor, direction or _direction(monitor))
        self.patience = patience
        self.options = options
        self.mode = mode
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.verbose = verbose
        self._begin()

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget an earlier training."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Note the score; keep the weights if it is the best; end the training if it is time."""
        score = self._score(logs or {})
        if epoch < self.start_from_epoch:
            return
        if math.isfinite(score) and (
            self.best_score is None or self.objective.better(score, self.best_score)
        ):
            self.best_score, self.best_epoch = score, epoch
            if self.restore_best_weights:
                # `weights` and not `variables`: the latter hold the seeds of dropout.
                self._best_weights = self.model.get_weights()
        if self.rule.update(score) and self.mode == "stop":
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Put the best epoch back."""
        restored = self._best_weights is not None
        if restored:
            self.model.set_weights(self._best_weights)
            self._best_weights = None  # one more copy of the model is not needed any longer
        if self.verbose:
            ended = "" if self.stopped_epoch is None else f"stopped after {self.stopped_epoch + 1} "
            best = "no epoch had a finite score"
            if self.best_epoch is not None:
                best = f"best was epoch {self.best_epoch + 1} with {self.best_score:.6g}"
            # A warning, because lower levels are not shown where logging is not set up.
            _LOG.warning(
                "%s: %s%s%s",
                self.objective.name,
                ended and f"{ended}epochs; ",
                best,
                ", now restored" if restored else "",
            )

    def _begin(self) -> None:
        self.rule = WindowedStopping(
            self.patience, direction=self.objective.direction, **self.options
        )
        self.best_epoch = self.best_score = self.stopped_epoch = self._best_weights = None

    def _score(self, logs: Mapping[str, Any]) -> float:
        name = self.objective.name
        if name not in logs:
            mend = "Monitor one of these, or compile the model with that metric"
            if name.startswith("val_") and not any(key.startswith("val_") for key in logs):
                mend = "Pass validation data to fit and validate each epoch"
            raise OptionError(
                "monitor",
                received=f"`{name}` is not logged by the model",
                expected="one of " + ", ".join(sorted(logs)),
                mend=f"{mend}.{did_you_mean(name, logs)}",
            )
        return float(logs[name])


def _direction(monitor: str) -> Direction:
    metric = monitor.removeprefix("val_")
    if metric not in DIRECTIONS:
        raise OptionError(
            "direction",
            received=f"none, and `{monitor}` is not a metric with a known better end",
            expected="min or max",
            mend='Pass direction="min" if lower scores are better, else direction="max".'
            f"{did_you_mean(metric, DIRECTIONS)}",
        )
    return DIRECTIONS[metric]
