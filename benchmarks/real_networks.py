"""Data and networks as people write them by hand, for the peers of `real.py`.

Tables: standardized numbers, one-hot categories, and a wide space over depth, width, activation
and dropout. Pictures: convolutional blocks. Texts: words as numbers, an embedding, and an average,
a convolution or an LSTM over it. All with three optimizers and learning rates over three decades.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from real_data import BYTE, Case, Rows

MOST_WORDS = 10_000  # ours: what a person writes
WORDS_PER_TEXT = 64  # ours: longer than all but a few messages and questions


class Arrays(NamedTuple):
    """What a hand-written network takes.

    Attributes:
        x: Inputs of all rows.
        y: Encoded targets of all rows.
        num_outputs: Units of the last layer.
        center: Of a standardized target.
        scale: Likewise; 1 for classes.
    """

    x: np.ndarray
    y: np.ndarray
    num_outputs: int
    center: float = 0.0
    scale: float = 1.0


def arrays_of(case: Case, rows: Rows) -> Arrays:
    """Inputs and targets as they are prepared by hand, from training rows."""
    x = {"table": _columns, "image": _pictures, "text": _words}[case.kind](rows)
    if case.problem == "regression":
        center, scale = float(rows.y[rows.train].mean()), float(rows.y[rows.train].std())
        return Arrays(x, ((rows.y - center) / scale).astype("float32"), 1, center, scale)
    classes, y = np.unique(rows.y, return_inverse=True)
    return Arrays(x, y, 1 if case.problem == "binary" else len(classes))


def _columns(rows: Rows) -> np.ndarray:
    import pandas as pd

    text = [c for c in rows.x if not pd.api.types.is_numeric_dtype(rows.x[c])]
    frame = pd.get_dummies(rows.x, columns=text, dtype="float32")
    train = frame.iloc[rows.train]
    frame = frame.fillna(train.median())
    return ((frame - train.mean()) / train.std().replace(0, 1)).to_numpy("float32")


def _pictures(rows: Rows) -> np.ndarray:
    x = rows.x.astype("float32") / BYTE
    return x if x.ndim == 4 else x[..., None]  # noqa: PLR2004 -- rows, height, width, channels


def _words(rows: Rows) -> np.ndarray:
    layer = keras.layers.TextVectorization(MOST_WORDS, output_sequence_length=WORDS_PER_TEXT)
    layer.adapt(rows.x[rows.train])
    return np.asarray(layer(rows.x))


def _dense(hp: Any, inputs: Any) -> Any:
    activation, x = hp.Choice("activation", ["relu", "tanh"]), inputs
    for i in range(hp.Int("layers", 1, 5)):
        x = keras.layers.Dense(hp.Int(f"units_{i}", 32, 512, step=32), activation)(x)
        x = keras.layers.Dropout(hp.Float(f"dropout_{i}", 0.0, 0.5, step=0.1))(x)
    return x


def _convolutional(hp: Any, inputs: Any) -> Any:
    size, x = hp.Choice("kernel_size", [3, 5]), inputs
    for i in range(hp.Int("blocks", 1, 3)):
        filters = hp.Int(f"filters_{i}", 16, 128, step=16)
        x = keras.layers.Conv2D(filters, size, activation="relu", padding="same")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(hp.Int("units", 32, 512, step=32), "relu")(x)
    return keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1))(x)


def _embedding(hp: Any, inputs: Any) -> Any:
    width = hp.Int("embedding_dim", 16, 256, step=16)
    encoder = hp.Choice("encoder", ["average", "convolution", "lstm"])
    units = hp.Int("units", 32, 256, step=32)
    x = keras.layers.Embedding(MOST_WORDS, width)(inputs)
    if encoder == "lstm":
        x = keras.layers.LSTM(units)(x)
    elif encoder == "convolution":
        x = keras.layers.Conv1D(units, hp.Choice("kernel_size", [3, 5]), activation="relu")(x)
        x = keras.layers.GlobalMaxPooling1D()(x)
    else:
        x = keras.layers.GlobalAveragePooling1D()(x)
        x = keras.layers.Dense(units, "relu")(x)
    return keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1))(x)


_BODIES = {"table": _dense, "image": _convolutional, "text": _embedding}
_LOSSES: dict[str, Callable[[], Any]] = {
    "binary": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "multiclass": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "regression": lambda: "mse",
}
_METRICS: dict[str, Callable[[], Any]] = {
    "auc": lambda: keras.metrics.AUC(from_logits=True, name="auc"),
    "accuracy": lambda: "accuracy",
    "mean_absolute_error": lambda: keras.metrics.MeanAbsoluteError(name="mean_absolute_error"),
}


def builder(case: Case, arrays: Arrays) -> Callable[[Any], Any]:
    """The hand-written `build(hp)`."""

    def build(hp: Any) -> Any:
        inputs = keras.Input(arrays.x.shape[1:])
        outputs = keras.layers.Dense(arrays.num_outputs)(_BODIES[case.kind](hp, inputs))
        model = keras.Model(inputs, outputs)
        rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        optimizers = {
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
        }
        optimizer = optimizers[hp.Choice("optimizer", list(optimizers))](rate)
        model.compile(optimizer, _LOSSES[case.problem](), metrics=[_METRICS[case.metric]()])
        return model

    return build


def score_of(
    case: Case, truth: np.ndarray, encoded: np.ndarray, output: np.ndarray, arrays: Arrays
) -> float:
    """The metric of raw outputs, by scikit-learn."""
    from sklearn import metrics

    if case.metric == "accuracy":
        return float(metrics.accuracy_score(encoded, output.argmax(axis=1)))
    if case.metric == "auc":
        return float(metrics.roc_auc_score(encoded, output[:, 0]))
    predicted = output[:, 0] * arrays.scale + arrays.center
    return float(metrics.mean_absolute_error(truth, predicted))
