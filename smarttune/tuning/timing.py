"""How fast the recommended networks train on this machine: two epochs of each, for real."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import keras

from smarttune.execution import fit_arrays, release_memory
from smarttune.space import Value
from smarttune.training import num_batches
from smarttune.tuning.forecasting import Pace
from smarttune.tuning.planning import batch_size_of
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.probing import recommended_model
from smarttune.tuning.recording import is_out_of_memory

# ours: the first epoch compiles, the second may still fill caches.
NUM_EPOCHS = 3
# ours: steps after the first, which compiles, from which the time of an epoch can be told.
FEWEST_STEPS = 3
# ours: a forward pass without gradients costs about a third of a training step.
VALIDATION_COST = 1 / 3


class Stopwatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes the time of steps and epochs and stops a training in time.

    Args:
        began: Moment at which the trial began, before its network was built.
        seconds: How long the training may take from then on; None means no limit.
    """

    def __init__(self, began: float, seconds: float | None) -> None:
        super().__init__()
        self.began = began
        self.ends = None if seconds is None else began + seconds
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the moment; stop once there is no time left and enough is known."""
        now = time.monotonic()
        if not self.epochs:
            self.steps.append(now)
        late = self.ends is not None and now >= self.ends
        if late and (self.epochs or len(self.steps) > FEWEST_STEPS):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the moment, unless the epoch was broken off."""
        if not self.model.stop_training:
            self.epochs.append(time.monotonic())

    def pace(self, num_steps: int, validation: float) -> Pace | None:
        """What the times say; None if too little was seen.

        Args:
            num_steps: Steps of an epoch.
            validation: Validation rows over training rows.
        """
        if len(self.epochs) > 1:
            epoch = min(b - a for a, b in zip(self.epochs, self.epochs[1:], strict=False))
            return Pace(epoch, max(0.0, self.epochs[0] - self.began - epoch))
        if len(self.steps) < 2:
            return None
        step = (self.steps[-1] - self.steps[0]) / (len(self.steps) - 1)
        startup = max(0.0, self.steps[0] - self.began - step)
        return Pace(step * num_steps * (1 + VALIDATION_COST * validation), startup)


def paces(job: SearchJob, *, seconds: float | None = None) -> dict[str, Pace]:
    """Family to the pace of its recommended network, for as many as the time suffices.

    Args:
        job: The search that is being prepared.
        seconds: Wall time that all of them together may take.
    """
    ends = None if seconds is None else time.monotonic() + seconds
    found: dict[str, Pace] = {}
    for number, family in enumerate(job.families):
        left = None if ends is None else (ends - time.monotonic()) / (len(job.families) - number)
        if left is not None and left <= 0:
            break
        try:
            pace = timed(job, job.default_of(family), seconds=left)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            found |= {} if pace is None else {family: pace}
        release_memory()
    return found


def timed(
    job: SearchJob, values: Mapping[str, Value], *, seconds: float | None = None
) -> Pace | None:
    """Train a configuration for a few epochs and say how long one takes.

    Args:
        job: The search.
        values: Its configuration.
        seconds: Wall time that it may take, which compiling may exceed.
    """
    data, policy, batch_size = job.training_data, job.policy(), batch_size_of(values)
    watch = Stopwatch(time.monotonic(), seconds)
    model = recommended_model(job, values)
    weigh, extra = policy.sample_weight, policy.extra_callbacks
    fit_arrays(
        model,
        data,
        batch_size=batch_size,
        seed=job.seed,
        epochs=range(NUM_EPOCHS),
        sample_weight=None if weigh is None else weigh(values),
        callbacks=[watch, *([] if extra is None else extra(values))],
    )
    num_samples = len(data.y)
    return watch.pace(num_batches(num_samples, batch_size), len(data.y_validation) / num_samples)
