"""What the scripts of this folder share: tiny data, and the two modules that run them."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from smarttune.tuning import kerastuner

# A script is given the module under which it finds KerasTuner's names.
both = pytest.mark.parametrize("kt", [keras_tuner, kerastuner], ids=["keras_tuner", "smarttune"])
# KerasTuner 1.4.8 calls old names of threading in its own oracles.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def rows(count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and a target that is linear in them."""
    x = np.random.default_rng(0).normal(size=(count, 2)).astype("float32")
    return x, x @ np.array([[2.0], [-1.0]], "float32")


def build(hp: Any) -> Any:
    """A width, a rate and a branch that has a hyperparameter of its own."""
    layers = [keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 4))]
    if hp.Boolean("dropout"):
        with hp.conditional_scope("dropout", [True]):
            layers.append(keras.layers.Dropout(hp.Float("rate", 0.0, 0.5)))
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    rate = hp.Float("lr", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.SGD(rate), hp.Choice("loss", ["mse", "mae"]), metrics=["mae"])
    return model
