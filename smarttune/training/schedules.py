"""The course of the learning rate, drawn over the whole horizon of a search.

A schedule is a pure function of the optimizer's step count and of the *final* number
of steps, never of the epochs that one rung of a search happens to train, so that a
promoted trial goes on exactly where it stopped.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from smarttune.errors import SettingError, did_you_mean

SCHEDULES = ("constant", "plateau", "cosine", "linear", "one_cycle", "cyclical")
# PyTorch's OneCycleLR, defaults pct_start=0.3 and div_factor=25 (after Smith and Topin 2018).
ONE_CYCLE_RISE, ONE_CYCLE_START = 0.3, 1.0 / 25.0
# Smith 2017, section 3.3: the lower bound is a third or a quarter of the upper one.
CYCLE_FLOOR = 0.25
# Smith 2017, section 3.2: half a cycle of two to ten epochs works well; ours: the shortest,
# because searches train few epochs.
HALF_CYCLE_EPOCHS = 2


@keras.saving.register_keras_serializable(package="smarttune")
class HorizonSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Learning rate as a function of the step.

    Args:
        kind: constant, cosine, linear, one_cycle or cyclical.
        peak: Largest learning rate.
        total_steps: Optimizer steps of a full training.
        warmup_steps: Steps of linear rise before the course begins.
        half_cycle: Steps of half a cycle (cyclical only).
    """

    def __init__(
        self,
        kind: str,
        peak: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        half_cycle: int = 1,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.peak = float(peak)
        self.total_steps = max(1, int(total_steps))
        # A warmup as long as the training would never reach the peak.
        self.warmup_steps = max(0, min(int(warmup_steps), self.total_steps - 1))
        self.half_cycle = max(1, int(half_cycle))

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, counted from 0."""
        step = ops.cast(step, "float32")
        after = step - self.warmup_steps
        share = ops.clip(after / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        factor = self._factor(share, ops.maximum(after, 0.0))
        if self.warmup_steps:
            rise = (step + 1.0) / (self.warmup_steps + 1.0)
            factor = ops.where(after < 0.0, ops.minimum(rise, 1.0), factor)
        return self.peak * factor

    def _factor(self, share: Any, after: Any) -> Any:
        if self.kind == "cosine":
            return 0.5 * (1.0 + ops.cos(math.pi * share))
        if self.kind == "linear":
            return 1.0 - share
        if self.kind == "one_cycle":
            rise = ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * share / ONE_CYCLE_RISE
            fall = (share - ONE_CYCLE_RISE) / (1.0 - ONE_CYCLE_RISE)
            return ops.where(share < ONE_CYCLE_RISE, rise, 0.5 * (1.0 + ops.cos(math.pi * fall)))
        if self.kind == "cyclical":
            place = ops.mod(after / self.half_cycle, 2.0)
            return CYCLE_FLOOR + (1.0 - CYCLE_FLOOR) * (1.0 - ops.abs(1.0 - place))
        return ops.ones_like(share)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {
            "kind": self.kind,
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "half_cycle": self.half_cycle,
        }


def learning_rate(
    kind: str, peak: float, *, steps_per_epoch: int, epochs: int, warmup_steps: int = 0
) -> float | HorizonSchedule:
    """The learning rate to give to an optimizer.

    Args:
        kind: One of `SCHEDULES`.
        peak: Largest learning rate.
        steps_per_epoch: Optimizer steps of one epoch.
        epochs: Epochs of a full training, whatever a rung trains.
        warmup_steps: Steps of linear rise; ignored by `plateau`.

    Returns:
        A plain number for a constant rate (a callback may then change it, as
        `plateau` needs), else a schedule.

    Raises:
        SettingError: If the kind is unknown.
    """
    if kind not in SCHEDULES:
        raise SettingError(
            "optimizer.schedule",
            received=f"`{kind}`",
            expected="one of " + ", ".join(SCHEDULES),
            mend=f"Set it to one of them.{did_you_mean(kind, SCHEDULES)}",
        )
    if kind == "plateau" or (kind == "constant" and warmup_steps <= 0):
        return float(peak)
    return HorizonSchedule(
        kind,
        peak,
        total_steps=steps_per_epoch * epochs,
        warmup_steps=warmup_steps,
        half_cycle=HALF_CYCLE_EPOCHS * steps_per_epoch,
    )
