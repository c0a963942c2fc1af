"""Dilated causal convolutions over time, and what sequences of different lengths need."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.models.layers import Layers


def tcn(layers: Layers, x: Any, *, every_step: bool = False, mask: Any = None) -> Any:
    """Residual blocks of causal convolutions whose dilation grows from block to block.

    The temporal convolutional network of Bai, Kolter and Koltun 2018 (section 3): block `i`
    looks `dilation_base ** i` steps apart, whole channels are dropped, and no step sees a
    later one. Their weight normalization is replaced by the one that `model.normalization`
    names. Padding on the right therefore never reaches a real step.

    Read are `model.num_stages` (blocks), `model.convolutions_per_stage`, `model.filters`,
    `model.kernel_size`, `model.dilation_base`, `model.activation`, `model.normalization` and
    `model.dropout`.

    Args:
        layers: Makes the layers of the trial.
        x: A sequence, (batch, steps, features).
        every_step: Whether to give the output of each step instead of the last.
        mask: (batch, steps), true for real steps, padded on the right; None means all are real.

    Returns:
        (batch, filters) of the last real step, or (batch, steps, filters) with `every_step`.

    Raises:
        SettingError: If a value is missing or means nothing here.
    """
    base = int(layers.value("model.dilation_base"))
    for i in range(int(layers.value("model.num_stages"))):
        x = _block(layers, x, base**i, f"dilated_{i}")
    return x if every_step else last_step(x, mask)


def step_mask(lengths: Any, steps: int) -> Any:
    """Lengths, int (batch, 1), to a mask of real steps, bool (batch, steps)."""
    return ops.less(np.arange(steps, dtype="int32")[None], lengths)


def last_step(x: Any, mask: Any = None) -> Any:
    """The last real step, (batch, steps, features) to (batch, features)."""
    if mask is None:
        return x[:, -1]
    last = ops.maximum(ops.sum(ops.cast(mask, "int32"), axis=1) - 1, 0)
    return ops.squeeze(ops.take_along_axis(x, last[:, None, None], axis=1), axis=1)


def mean_step(x: Any, mask: Any = None) -> Any:
    """The mean of all real steps, (batch, steps, features) to (batch, features)."""
    if mask is None:
        return ops.mean(x, axis=1)
    weight = ops.cast(mask, x.dtype)[:, :, None]
    return ops.sum(x * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1.0)


def _block(layers: Layers, x: Any, dilation: int, name: str) -> Any:
    y = x
    for j in range(int(layers.value("model.convolutions_per_stage"))):
        part = f"{name}_{j}"
        y = _convolution(layers, y, int(layers.value("model.kernel_size")), dilation, part)
        y = layers.activate(layers.normalize(y, part), part)
        y = _drop_channels(layers, y, part)
    if x.shape[-1] != y.shape[-1]:
        x = _convolution(layers, x, 1, 1, f"{name}_skip")
    return layers.activate(keras_layers.Add(name=f"{name}_sum")([x, y]), f"{name}_sum")


def _convolution(layers: Layers, x: Any, kernel: int, dilation: int, name: str) -> Any:
    return keras_layers.Conv1D(
        int(layers.value("model.filters")),
        kernel,
        dilation_rate=dilation,
        padding="causal",
        kernel_initializer=layers.initializer(name),
        kernel_regularizer=layers.regularizer(),
        name=name,
    )(x)


def _drop_channels(layers: Layers, x: Any, name: str) -> Any:
    rate = float(layers.values.get("model.dropout", 0.0))
    if not rate:
        return x
    name = f"dropout_{name}"
    return keras_layers.SpatialDropout1D(rate, seed=layers.seed(name), name=name)(x)
