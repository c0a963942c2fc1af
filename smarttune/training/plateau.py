"""Cutting the learning rate at a plateau, over the rungs of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras


class ContinuedPlateau(keras.callbacks.ReduceLROnPlateau):  # type: ignore[misc]
    """Keras's callback, which counts the epochs of earlier rungs, too.

    Keras starts counting anew with every `fit`. The cut rate itself is part of the
    optimizer's state; what has to be carried over is how long the wait has been.
    Takes the arguments of `keras.callbacks.ReduceLROnPlateau`.
    """

    _replaying = False
    _past: Sequence[Mapping[str, float]] = ()

    def inherit(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Take over the epochs that a parent trained."""
        self._past = curve

    def on_train_begin(self, logs: Any = None) -> None:
        """Start counting where the parent stopped."""
        super().on_train_begin(logs)
        self._replaying = True
        for epoch, past in enumerate(self._past):
            self.on_epoch_end(epoch, dict(past))
        self._replaying = False

    def _reduce_optimizer_lr(self, optimizer: Any, epoch: int, name: str = "") -> bool:
        # The parent's cuts are in the optimizer's state already.
        return True if self._replaying else super()._reduce_optimizer_lr(optimizer, epoch, name)
