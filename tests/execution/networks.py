"""Networks on which every lane must agree with `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from smarttune.execution import TrainingData

NUM_CLASSES = 3
ROWS, HELD_OUT = 90, 41  # neither is a multiple of the batch size
BATCH_SIZE = 16


def _data(shape: tuple[int, ...], integers: int = 0) -> TrainingData:
    """Learnable data: the class is hidden in the mean of the first values."""
    random = np.random.default_rng(1)
    num = ROWS + HELD_OUT
    y = random.integers(0, NUM_CLASSES, num)
    if integers:
        x: Any = (random.integers(0, integers // 2, (num, *shape)) + y[:, None]).astype("int32")
    else:
        x = random.normal(size=(num, *shape)).astype("float32")
        x += y.reshape(-1, *(1 for _ in shape))
    return TrainingData(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def _compiled(model: Any, optimizer: Any = None, *, smoothing: bool = False, **options: Any) -> Any:
    loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if smoothing:
        loss = SmoothedCrossentropy(0.05)
    model.compile(
        optimizer or keras.optimizers.Adam(1e-2), loss=loss, metrics=["accuracy"], **options
    )
    return model


class SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """A loss of the user's with a number in it."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Crossentropy with part of the target spread evenly."""
        target = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), NUM_CLASSES)
        target = target * (1 - self.smoothing) + self.smoothing / NUM_CLASSES
        return keras.ops.categorical_crossentropy(target, y_pred, from_logits=True)


def mlp(number: float) -> Any:
    """Dropout, L2, decay and clipping."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(0.01 * number)),
            layers.Dropout(number),
            layers.Dense(8, "gelu"),
            layers.GaussianNoise(0.1 * number),
            layers.Dense(NUM_CLASSES),
        ]
    )
    adamw = keras.optimizers.AdamW(0.01 * number, weight_decay=0.1 * number, clipnorm=number)
    return _compiled(model, adamw)


def normalized(number: float) -> Any:
    """Batch and layer normalization."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.LayerNormalization(),
            layers.Dropout(number),
            layers.Dense(NUM_CLASSES),
        ]
    )
    return _compiled(model, keras.optimizers.SGD(0.05, momentum=number, nesterov=True))


def cnn(number: float) -> Any:
    """Convolutions, pooling and augmentation."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.SpatialDropout2D(number),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(NUM_CLASSES),
        ]
    )
    return _compiled(model, keras.optimizers.Nadam(0.01))


def rnn(number: float) -> Any:
    """Embedding with masks, LSTM with dropout inside."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(12, 5, mask_zero=True),
            layers.LSTM(6, dropout=number, recurrent_dropout=number),
            layers.Dense(NUM_CLASSES),
        ]
    )
    return _compiled(model, keras.optimizers.Adam(0.01, global_clipnorm=number))


def plain_rnn(number: float) -> Any:
    """Recurrence without masks or dropout inside."""
    model = keras.Sequential(
        [
            keras.Input((6, 2)),
            keras.layers.LSTM(5),
            keras.layers.Dropout(number),
            keras.layers.Dense(NUM_CLASSES),
        ]
    )
    return _compiled(model)


def scheduled(number: float) -> Any:
    """A schedule, averaged weights, a loss of the user's."""
    schedule = keras.optimizers.schedules.CosineDecay(0.05 * number, 40, alpha=0.1 * number)
    optimizer = keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.9)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(NUM_CLASSES)]
    )
    return _compiled(model, optimizer, smoothing=True)


def summed(number: float) -> Any:
    """Gradients of two batches are summed."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(number),
            keras.layers.Dense(NUM_CLASSES),
        ]
    )
    return _compiled(model, keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))


def mixed(number: float) -> Any:
    """Half precision."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return mlp(number)
    finally:
        keras.config.set_dtype_policy("float32")


def two_inputs(number: float) -> Any:
    """Several inputs by name."""
    one, other = keras.Input((4,), name="one"), keras.Input((2,), name="other")
    joined = keras.layers.Concatenate()([keras.layers.Dense(8, "relu")(one), other])
    output = keras.layers.Dense(NUM_CLASSES)(keras.layers.Dropout(number)(joined))
    return _compiled(keras.Model({"one": one, "other": other}, output))


class Own(keras.Model):  # type: ignore[misc]
    """A model of the user's, with a loss that it adds itself."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number
        self.hidden = keras.layers.Dense(8, "relu")
        self.dropout = keras.layers.Dropout(number)
        self.out = keras.layers.Dense(NUM_CLASSES)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits."""
        hidden = self.dropout(self.hidden(inputs), training=training)
        self.add_loss(self.number * 0.01 * keras.ops.mean(keras.ops.square(hidden)))
        return self.out(hidden)


def own(number: float) -> Any:
    """A subclass."""
    return _compiled(Own(number))


def _two() -> TrainingData:
    plain = _data((6,))
    split = [{"one": x[:, :4], "other": x[:, 4:]} for x in (plain.x, plain.x_validation)]
    return TrainingData(split[0], plain.y, split[1], plain.y_validation)


NETWORKS: dict[str, tuple[Callable[[float], Any], Callable[[], TrainingData]]] = {
    "mlp": (mlp, lambda: _data((6,))),
    "normalized": (normalized, lambda: _data((6,))),
    "cnn": (cnn, lambda: _data((8, 8, 1))),
    "rnn": (rnn, lambda: _data((7,), integers=12)),
    "plain_rnn": (plain_rnn, lambda: _data((6, 2))),
    "scheduled": (scheduled, lambda: _data((6,))),
    "summed": (summed, lambda: _data((6,))),
    "mixed": (mixed, lambda: _data((6,))),
    "two_inputs": (two_inputs, _two),
    "own": (own, lambda: _data((6,))),
}
