"""Divergence, seen while an epoch runs: a loss that is no number, explodes, or settles too high."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median_low
from typing import Any

import keras

from smarttune.errors import OptionError

# fastai's learning-rate finder ends its sweep once the smoothed loss is more than four times the
# best one (callback/schedule.py); ours: against the initial loss, which noise does not lower.
EXPLODED = 4.0
# ours: the first loss is one draw from noisy losses. A level is only said to lie above it if it does
# so by as much as it may by chance: two median sizes of the change (of the logarithm) from one step
# to the next, over the last 32 steps. With smooth losses that is far less than the factors here.
CHANCE = 2.0
CHANGES = 32
# ours: on losses with outliers four times the initial loss is common for one or two batches in a
# row, but not for eight; and each run that ends by itself doubles what the next one must last.
EXPLODED_STEPS = 8
RUN_GROWTH = 2
# ours: the mean of an execution of many steps may owe its size to one of them, so that three such
# means are wanted and not one.
MOST_STEPS_OF_ONE_MEAN = 3
# The definition of divergence in rule DIA003: 1.5 times the initial loss after 5 % of the steps.
DRIFTED = 1.5
DRIFT_SHARE = 0.05
# ours: the mean of an epoch may owe its size to few outlying batches; drift lifts nearly all.
DRIFTED_STEPS = 0.75


class DivergenceGuard:
    """Tells from the losses of the steps that a training will come to nothing.

    Keras logs the mean of the losses since the epoch began; the loss of the latest steps is the
    difference of two such means, each times its number of steps. A model whose `train_step` logs
    the loss of the batch alone is judged on noisier values, rarely wrongly.

    - A mean that is no finite number: at once.
    - More than 4 times the initial loss for 8 steps in a row; longer, where the training has come
      back from such a run before.
    - After 5 % of the planned steps, an epoch whose mean loss, and at least three quarters of its
      steps, exceed 1.5 times the initial loss.

    The initial loss is that of the first step. Where losses jump so much from step to step that
    it may be low by chance, both factors are larger. Where it is 0 or negative, multiples of it
    mean nothing, and only losses that are no finite numbers count.

    Args:
        planned_steps: Steps of the whole training; None where it is not known, and drift is then
            judged from the first epoch's end.
        initial_loss: The loss before any training, where this training continues another: a
            nearly trained model may lose a multiple of its last loss for a while and recover.

    Attributes:
        reason: "" or why the training counts as diverged, as a sentence with step and loss.
        step: Steps taken.
    """

    _epoch_steps: int
    _mean: float
    _drifted: int
    _epoch_judged: bool

    def __init__(
        self, planned_steps: int | None = None, *, initial_loss: float | None = None
    ) -> None:
        self.planned_steps = planned_steps
        self.initial_loss = initial_loss
        self.reason = ""
        self.step = 0
        self._last = 0.0
        self._changes: deque[float] = deque(maxlen=CHANGES)
        self._run = self._longest_run = 0
        self._forget_epoch()

    def update(self, step: int, running_mean_loss: float) -> str:
        """Take in what Keras logs after a step.

        Args:
            step: The step's index in its epoch, from 0, as `on_train_batch_end` is told it. May
                skip some, as with `steps_per_execution`; smaller than before, it begins an epoch.
            running_mean_loss: Mean loss of this epoch's steps so far.

        Returns:
            `reason`.
        """
        if step < self._epoch_steps:
            self.begin_epoch()
        if self.reason:
            return self.reason
        num = step + 1 - self._epoch_steps
        self.step += num
        if not math.isfinite(running_mean_loss):
            self.reason = f"The loss is not a finite number in step {self.step}."
            return self.reason
        # The mean plus its change times the steps before: no two large products that cancel.
        change = running_mean_loss - self._mean
        loss = running_mean_loss + change * (self._epoch_steps / num)
        self._epoch_steps, self._mean = step + 1, running_mean_loss
        return self._judge(loss, num)

    def begin_epoch(self) -> None:
        """Judge the epoch that ended, unless `end_epoch` did, and begin the next one."""
        self.end_epoch()
        self._forget_epoch()

    def end_epoch(self) -> str:
        """Judge the drift of an epoch that has ended; return `reason`."""
        seen, self._epoch_judged = self._epoch_judged, True
        if seen or self.reason or self._epoch_steps == 0 or not self._has_scale():
            return self.reason
        if self.planned_steps is not None and self.step < DRIFT_SHARE * self.planned_steps:
            return self.reason
        initial = self.initial_loss or 0.0
        share = self._drifted / self._epoch_steps
        if self._mean > DRIFTED * initial and share >= DRIFTED_STEPS:
            self.reason = (
                f"The mean loss of the epoch that ended with step {self.step} is {self._mean:.4g}, "
                f"more than {DRIFTED:g} times the initial {initial:.4g}."
            )
        return self.reason

    def _forget_epoch(self) -> None:
        self._epoch_steps = 0
        self._mean = 0.0
        self._drifted = 0
        self._epoch_judged = False

    def _has_scale(self) -> bool:
        return self.initial_loss is not None and self.initial_loss > 0.0

    def _judge(self, loss: float, num: int) -> str:
        if self.initial_loss is None:
            self.initial_loss = loss
        if not self._has_scale():
            return ""
        if loss > 0.0 and self._last > 0.0:
            self._changes.append(abs(math.log(loss / self._last)))
        self._last = loss
        ratio = loss / self.initial_loss
        chance = 0.0
        if ratio > DRIFTED and self._changes:
            # The low one of two, or the jump to a new level would pass for noise.
            chance = CHANCE * median_low(self._changes)
        high = ratio > 0.0 and math.log(ratio) > chance
        if high and ratio > DRIFTED:
            self._drifted += num
        if not (high and ratio > EXPLODED):
            self._longest_run = max(self._longest_run, self._run)
            self._run = 0
            return ""
        self._run += min(num, MOST_STEPS_OF_ONE_MEAN)
        if self._run >= max(EXPLODED_STEPS, RUN_GROWTH * self._longest_run):
            self.reason = (
                f"The loss is {loss:.4g} in step {self.step}, and has been more than "
                f"{EXPLODED:g} times the initial {self.initial_loss:.4g} for at least "
                f"{self._run} steps."
            )
        return self.reason


class StopOnDivergence(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a training that has diverged, within a step or a few.

    It reads the loss that Keras hands to every callback after each step, and nothing else from
    the device; reading it makes the host wait for the step, as the progress bar does.

    Args:
        initial_loss: The loss before any training, where `fit` continues an earlier one.

    Attributes:
        reason: "" or why the training was ended, as a sentence with step and loss.

    Raises:
        OptionError: During the training, if the model logs no `loss`.
    """

    def __init__(self, *, initial_loss: float | None = None) -> None:
        super().__init__()
        self.initial_loss = initial_loss
        self.guard = DivergenceGuard(initial_loss=initial_loss)

    @property
    def reason(self) -> str:
        """Why the training was ended, or ""."""
        return self.guard.reason

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget an earlier training."""
        self.guard = DivergenceGuard(initial_loss=self.initial_loss)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin the means anew, as Keras does."""
        epochs, steps = (self.params or {}).get("epochs"), (self.params or {}).get("steps")
        if self.guard.step == 0 and epochs and steps:  # the first of this call of `fit`
            self.guard.planned_steps = (epochs - epoch) * steps
        self.guard.begin_epoch()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Judge the latest steps."""
        if "loss" not in (logs or {}):
            raise OptionError(
                "StopOnDivergence",
                received="the model logs no `loss`",
                expected="a `loss` among " + (", ".join(sorted(logs or {})) or "the logs"),
                mend="Return it from train_step, or leave the callback out.",
            )
        if self.guard.update(batch, float((logs or {})["loss"])):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Judge the epoch as a whole."""
        if self.guard.end_epoch():
            self.model.stop_training = True
