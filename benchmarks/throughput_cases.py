"""The six pairs of data and network of `throughput.py`, written as users of KerasTuner write them.

Each network has a learning rate, dropout, an L2 factor and one choice of two widths, which are two
structures; the optimizer is fixed. Rows are divided once, whatever the trial's seed.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SPLIT_SEED = 0
VALIDATION_SHARE = 0.2
HOURS = 24  # ours: a day of the series is what the recurrent network reads
WINDOWS = 3750
PIXEL_LEVELS = 16  # of scikit-learn's digits
BYTE = 255
MNIST_HEADER = {"images": 16, "labels": 8}  # bytes in front of the values, of the IDX format
MNIST_SIDE, MNIST_ROWS = 28, 5000


class Rows(NamedTuple):
    """Arrays to train and to validate on."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray


class Case(NamedTuple):
    """One pair.

    Attributes:
        load: Reads its rows.
        hidden: From the hyperparameters, the regularizer and the dropout to the layers between
            input and output.
        widths: Choices of its width.
        num_outputs: Classes; 1 for a number.
        epochs: Epochs of a trial.
        batch_size: Samples per step.
        trials: Trials of a search, where no number is asked for.
        target: How many times as many trial-epochs per processor second as KerasTuner's a lane
            shall reach, warm.
    """

    load: Callable[[], Rows]
    hidden: Callable[..., list[Any]]
    widths: tuple[int, int]
    num_outputs: int
    epochs: int
    batch_size: int
    trials: int
    target: float


def build_model(case: Case, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """The hypermodel of a case, for inputs of a shape."""
    import keras

    def build(hp: Any) -> Any:
        hp.Fixed("training.batch_size", case.batch_size)  # where `search` is not told of it
        width = hp.Choice("units", list(case.widths))
        decay = keras.regularizers.L2(hp.Float("l2", 1e-6, 1e-3, sampling="log"))
        dropout = hp.Float("dropout", 0.1, 0.5)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
        is_number = case.num_outputs == 1
        output = keras.layers.Dense(case.num_outputs, None if is_number else "softmax")
        model = keras.Sequential([keras.Input(shape), *case.hidden(width, decay, dropout), output])
        model.compile(
            keras.optimizers.Adam(rate),
            "mse" if is_number else "sparse_categorical_crossentropy",
            metrics=["mae" if is_number else "accuracy"],
        )
        return model

    return build


# Networks.


def dense(width: int, decay: Any, dropout: float) -> list[Any]:
    """Two dense layers."""
    from keras import layers

    return [
        layers.Dense(width, "relu", kernel_regularizer=decay),
        layers.Dropout(dropout),
        layers.Dense(width, "relu", kernel_regularizer=decay),
        layers.Dropout(dropout),
    ]


def recurrent(width: int, decay: Any, dropout: float) -> list[Any]:
    """One LSTM."""
    from keras import layers

    return [layers.LSTM(width, kernel_regularizer=decay), layers.Dropout(dropout)]


def convolutional(width: int, decay: Any, dropout: float) -> list[Any]:
    """Two convolutions, the second with twice the filters."""
    from keras import layers

    return [
        layers.Conv2D(width, 3, padding="same", activation="relu", kernel_regularizer=decay),
        layers.MaxPooling2D(),
        layers.Conv2D(2 * width, 3, padding="same", activation="relu", kernel_regularizer=decay),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


# Data.


def divided(x: Any, y: Any, *, in_order: bool = False) -> Rows:
    """The last rows are for validation, after they are shuffled unless asked; inputs in float32."""
    order = np.arange(len(y)) if in_order else np.random.default_rng(SPLIT_SEED).permutation(len(y))
    kept, held_out = np.split(order, [len(y) - int(VALIDATION_SHARE * len(y))])
    x, y = np.asarray(x, "float32"), np.asarray(y)
    return Rows(x[kept], y[kept], x[held_out], y[held_out])


def in_standard_units(rows: Rows) -> Rows:
    """Each column with mean 0 and deviation 1 over the training rows."""
    axes = tuple(range(rows.x.ndim - 1))
    center, scale = rows.x.mean(axes), rows.x.std(axes)
    scale[scale == 0] = 1.0
    return rows._replace(
        x=(rows.x - center) / scale, x_validation=(rows.x_validation - center) / scale
    )


def digits() -> Rows:
    """1,797 digits of 64 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return divided(found.data / PIXEL_LEVELS, found.target)


def small_pictures() -> Rows:
    """The same digits as pictures of 8 x 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return divided(found.images[..., None] / PIXEL_LEVELS, found.target)


def cancer() -> Rows:
    """569 tumours of 30 measures."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return in_standard_units(divided(found.data, found.target))


def adult() -> Rows:
    """32,561 people; words become columns of 0 and 1."""
    import pandas as pd
    from tables import data_folder

    path = data_folder() / "adult" / "adult-train.csv"
    frame = pd.read_csv(path, header=None, skipinitialspace=True).dropna()
    columns = pd.get_dummies(frame.iloc[:, :-1], dtype="float32")
    return in_standard_units(divided(columns, (frame.iloc[:, -1] == ">50K").astype("int32")))


def series() -> Rows:
    """Days of a transformer's loads and oil temperature, and the temperature an hour later."""
    import pandas as pd
    from tables import data_folder

    path = data_folder().parent / "timeseries" / "ETTh1.csv"
    hours = pd.read_csv(path, nrows=WINDOWS + HOURS).iloc[:, 1:].to_numpy("float32")
    hours = (hours - hours.mean(0)) / hours.std(0)
    x = np.lib.stride_tricks.sliding_window_view(hours, HOURS, axis=0)[:-1].swapaxes(1, 2)
    return divided(x, hours[HOURS:, -1:], in_order=True)


def mnist() -> Rows:
    """5,000 digits of 28 x 28."""
    from tables import data_folder

    folder = data_folder().parent / "images" / "mnist"

    def values(kind: str, rank: int) -> np.ndarray:
        packed = (folder / f"t10k-{kind}-idx{rank}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), "uint8", offset=MNIST_HEADER[kind])

    x = values("images", 3).reshape(-1, MNIST_SIDE, MNIST_SIDE, 1)[:MNIST_ROWS]
    return divided(x / BYTE, values("labels", 1)[:MNIST_ROWS].astype("int32"))


CASES = {
    "digits": Case(digits, dense, (64, 96), 10, 10, 32, 24, 20.0),
    "cancer": Case(cancer, dense, (32, 48), 2, 10, 32, 24, 20.0),
    "adult": Case(adult, dense, (192, 256), 2, 3, 128, 8, 5.0),
    "series": Case(series, recurrent, (24, 32), 1, 5, 64, 8, 5.0),
    "small_pictures": Case(small_pictures, convolutional, (8, 12), 10, 5, 32, 6, 1.2),
    "mnist": Case(mnist, convolutional, (12, 16), 10, 3, 64, 4, 1.2),
}
