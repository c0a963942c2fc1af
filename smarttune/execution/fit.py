"""The lane that takes any model: `model.fit`, fed in an order that can be continued."""

from __future__ import annotations

import functools
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from smarttune.training import epoch_batches, num_batches
from smarttune.training.growth import Growth, fit_growing
from smarttune.training.outputs import batch_size_for, chunks, in_memory, some_rows

# ours: clearing the session costs about 0.3 s and frees about 6 MB per trial.
TRIALS_PER_COLLECTION = 25


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Arrays that stay the same over all trials of a search.

    Attributes:
        x: Inputs, an array of shape (n, ...) or a dict of such; or an object that has
            `__len__`, `shape` and `__getitem__(rows)` and reads when it is indexed.
        y: Targets, shape (n,) or (n, outputs).
        x_validation: Inputs of the validation rows.
        y_validation: Targets of the validation rows.
    """

    x: Any
    y: Any
    x_validation: Any
    y_validation: Any


def fit_arrays(  # noqa: PLR0913 -- as `fit`, with what makes it repeatable
    model: Any,
    data: TrainingData,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    sample_weight: Any = None,
    callbacks: Sequence[Any] = (),
    growth: Growth | None = None,
) -> None:
    """Train a compiled model on arrays.

    Training epochs 0 to 5 and then 5 to 15 gives the same weights as 0 to 15, if
    the state of model and optimizer is carried over.

    Args:
        model: A compiled Keras model.
        data: Training and validation arrays.
        batch_size: Samples per step, where there is no growth.
        seed: Decides the order of the samples in every epoch.
        epochs: Epochs to train, counted from 0 over the whole training.
        sample_weight: Weight of each training sample, shape (n,).
        callbacks: Keras callbacks.
        growth: How the batch grows from epoch to epoch, with its own first size; each epoch's
            logs then hold `batch_size`.

    Raises:
        OptionError: If the optimizer cannot be used with this growth.
    """
    if growth is not None:
        fit_growing(
            model,
            data.x,
            data.y,
            growth=growth,
            epochs=epochs,
            seed=seed,
            sample_weight=sample_weight,
            callbacks=callbacks,
            **_validation(model, data),
        )
        return
    model.fit(
        epoch_batches(
            data.x,
            data.y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            seed=seed,
            epochs=epochs,
        ),
        steps_per_epoch=num_batches(len(data.y), batch_size),
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        **_validation(model, data),
        callbacks=list(callbacks),
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Validation batches that are read one after the other."""

    def __init__(self, x: Any, y: Any, size: int) -> None:
        super().__init__()
        self.x, self.y = x, y
        self.rows = list(chunks(len(y), size))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.rows[index]
        return some_rows(self.x, rows), self.y[rows]


def _validation(model: Any, data: TrainingData) -> dict[str, Any]:
    """How `fit` gets its validation data: whole, or batch by batch where they are read."""
    x, y = data.x_validation, data.y_validation
    size = batch_size_for(model, x)
    if in_memory(x) and in_memory(y):
        return {"validation_data": (x, y), "validation_batch_size": size}
    return {"validation_data": _Batches(x, y, size)}


@functools.cache
def prepare_process() -> None:
    """Spare the garbage collector what was imported; it never becomes garbage.

    Only the first call does something: what a search has left must not be spared.
    """
    gc.collect()
    gc.freeze()


def collect_garbage(num_trials: int) -> None:
    """Free what finished trials left, once in a while."""
    if num_trials % TRIALS_PER_COLLECTION == 0:
        keras.backend.clear_session()
        gc.collect()
