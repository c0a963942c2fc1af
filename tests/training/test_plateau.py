"""Cutting the rate at a plateau, over the rungs of a search."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from smarttune.training.plateau import ContinuedPlateau

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# The best score is that of the second epoch; a patience of 3 then cuts after epochs 5 and 8.
SCORES = [1.0, 0.5, 0.6, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]
CUTS = [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]


def rates(callback: Any, scores: list[float], *, rate: float = 0.1, begin: int = 0) -> list[float]:
    """The learning rate after each epoch of one rung."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    callback.set_model(model)
    callback.on_train_begin()
    found = []
    for epoch, score in enumerate(scores, begin):
        callback.on_epoch_end(epoch, {"val_loss": score})
        found.append(float(np.asarray(model.optimizer.learning_rate)))
    return found


def plateau() -> ContinuedPlateau:
    return ContinuedPlateau(monitor="val_loss", factor=0.5, patience=3)


def test_one_training_is_cut_as_by_keras() -> None:
    """Without a parent it is Keras's own callback."""
    keras_own = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=3)

    np.testing.assert_allclose(rates(plateau(), SCORES), CUTS)
    np.testing.assert_allclose(rates(keras_own, SCORES), CUTS)


@pytest.mark.parametrize("trained", range(1, len(SCORES)))
def test_a_later_rung_goes_on_counting(trained: int) -> None:
    """Wherever a rung ends, the next one cuts where one long training would have."""
    callback = plateau()
    callback.inherit([{"val_loss": score} for score in SCORES[:trained]])

    found = rates(callback, SCORES[trained:], rate=CUTS[trained - 1], begin=trained)

    np.testing.assert_allclose(found, CUTS[trained:])


def test_epochs_of_a_parent_cut_nothing_twice() -> None:
    """The rate that a child begins with is its parent's, cuts included."""
    callback = plateau()
    callback.inherit([{"val_loss": score} for score in SCORES])

    assert rates(callback, [0.1], rate=0.025, begin=len(SCORES)) == [pytest.approx(0.025)]
