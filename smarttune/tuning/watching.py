"""What is watched while one trial trains: curve, best epoch, divergence, stopping, deadline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from smarttune.errors import OptionError, did_you_mean
from smarttune.objectives import Objective
from smarttune.training import WindowedStopping, num_batches
from smarttune.training.averaging import averaged_state
from smarttune.training.checkpoint import state_of
from smarttune.training.divergence import DivergenceGuard
from smarttune.training.gradients import begin_epoch, gradient_statistics
from smarttune.training.hypergradient import learned_rate
from smarttune.tuning.budget import Clock
from smarttune.tuning.policy import TrialPlan

EARLY_STOPPING = "early stopping"
TIME_LIMIT = "time limit"
DIVERGED = "diverged:"  # the word by which the oracles tell divergence from a crash


class TrialWatcher(keras.callbacks.Callback):  # type: ignore[misc]
    """Follows one trial and ends it when there is a reason.

    Args:
        objective: The metric to follow.
        stopping: When to stop for lack of gain; None never does.
        clock: The search's clock.
        deadline: Elapsed seconds at which to stop; None is no limit.
        on_epoch: Called with the epoch, counted from 1, and its logs.
        guard: Tells divergence from the losses of the steps; a new one if None.
        num_samples: Training samples of an epoch, for the throughput; None if unknown.

    Attributes:
        curve: Logs of each epoch, those of the parent included, with what the optimizer
            recorded of its gradients.
        averages: Whether validations score averaged weights, which are then kept, too.
        best_weights: Variables of the model after the best epoch of this trial; None while a parent's epoch is still the best.
        ended_by: "" or why the training ended before its last epoch.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        stopping: WindowedStopping | None,
        clock: Clock,
        deadline: float | None,
        on_epoch: Callable[[int, Mapping[str, float]], None],
        guard: DivergenceGuard | None = None,
        num_samples: int | None = None,
    ) -> None:
        super().__init__()
        self.reads_only_losses = True  # within epochs; a compiled program need not stop for it
        self.averages = False  # whether validations score averaged weights
        self.guard = guard if guard is not None else DivergenceGuard()
        self.num_samples = num_samples
        self.objective = objective
        self.stopping = stopping
        self.clock = clock
        self.deadline = deadline
        self.notify = on_epoch
        self.curve: list[dict[str, float]] = []
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: list[np.ndarray] | None = None
        self.ended_by = ""
        self._epoch_seconds: list[float] = []
        self._epoch_began = 0.0

    def inherit(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Take over the epochs that a parent trained."""
        for logs in curve:
            self.curve.append(dict(logs))
            self._note_score(logs[self.objective.name])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count what is counted for each epoch."""
        self._epoch_began = time.monotonic()
        self._epoch_seconds.append(0.0)
        self.guard.begin_epoch()
        begin_epoch(self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop within a step of the deadline, and within a few of divergence."""
        if self._epoch_seconds:
            self._epoch_seconds[-1] = time.monotonic() - self._epoch_began
        loss = (logs or {}).get("loss")
        if loss is not None and (reason := self.guard.update(batch, float(loss))):
            self._diverged(reason)
        elif self.deadline is not None and self.clock.elapsed >= self.deadline:
            self.ended_by = TIME_LIMIT
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch; stop if it diverged or gains have dried up."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        values |= gradient_statistics(self.model) | learned_rate(self.model)
        if self.objective.name not in values:
            raise _no_objective(self.objective.name, values)
        self.curve.append(values)
        score = values[self.objective.name]
        if not (math.isfinite(score) and math.isfinite(values.get("loss", 0.0))):
            self._diverged(f"the loss is not a finite number in epoch {epoch + 1}")
        elif self._note_score(score):
            state = averaged_state if self.averages else partial(state_of, optimizer=False)
            self.best_weights = state(self.model)
        if reason := self.guard.end_epoch():
            self._diverged(reason)
        self.notify(len(self.curve), values)
        stopped = (
            self.stopping is not None and self.stopping.epochs_since_best >= self.stopping.patience
        )
        if stopped and not self.ended_by:
            self.ended_by = EARLY_STOPPING
            self.model.stop_training = True

    @property
    def samples_per_second(self) -> float | None:
        """Training samples a second, without validation and without the first epoch's tracing."""
        timed = self._epoch_seconds[1:] or self._epoch_seconds
        if self.num_samples is None or not timed or sum(timed) <= 0:
            return None
        return self.num_samples * len(timed) / sum(timed)

    def _diverged(self, reason: str) -> None:
        if not self.ended_by.startswith(DIVERGED):
            self.ended_by = f"{DIVERGED} {reason}"
        self.model.stop_training = True

    def _note_score(self, score: float) -> bool:
        """Take in one epoch's score; return whether it is the best so far."""
        if self.stopping is not None:
            self.stopping.update(score)
        if self.best_score is not None and not self.objective.better(score, self.best_score):
            return False
        self.best_score, self.best_epoch = score, len(self.curve)
        return True


def guard_of(
    plan: TrialPlan, max_epochs: int, batch_size: int, num_samples: int | None
) -> DivergenceGuard:
    """What tells divergence of a trial; of losses that are not ours only that they are numbers.

    Args:
        plan: What is to be trained.
        max_epochs: Epochs of a full training.
        batch_size: Samples per batch, before it is cut.
        num_samples: Training samples; None where a hypermodel of the user trains in its own way,
            and may have losses that rise by design.
    """
    if num_samples is None:
        return DivergenceGuard(initial_loss=0.0)
    steps = num_batches(num_samples, max(1, batch_size // plan.num_micro_batches))
    initial = None
    if plan.parent is not None:
        first = plan.parent.curve[0].get("loss") if plan.parent.curve else None
        initial = plan.parent.initial_loss or first
    guard = DivergenceGuard(steps * max_epochs, initial_loss=initial)
    guard.step = steps * plan.epochs.start
    return guard


def _no_objective(name: str, logged: Mapping[str, float]) -> OptionError:
    return OptionError(
        "objective",
        received=f"`{name}` is not logged by the model",
        expected="one of " + ", ".join(sorted(logged)),
        mend="Choose one of these, compile the model with that metric, or pass validation "
        f"data.{did_you_mean(name, logged)}",
    )
