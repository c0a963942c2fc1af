"""Separable convolutions over sequences of words."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as keras_layers
from keras import ops

from smarttune.models.layers import Layers

# Google's text classification guide, build_model.py (sepcnn): two convolutions in each block,
# pools of three words between blocks, twice the filters in the last.
CONVOLUTIONS, POOL, LAST_FACTOR = 2, 3, 2
# Below every activation, and within half precision: padding never is the largest of a pool.
_LOW = -1e4


def sepcnn(layers: Layers, indices: Any, num_indices: int) -> Any:
    """Blocks of separable convolutions, then the mean over the words.

    Padding is kept at zero throughout, so that the padded length changes no output.

    Args:
        layers: Makes the layers of the trial.
        indices: Word indices, (batch, words) int32, 0 where a text has ended.
        num_indices: How many indices there are.

    Returns:
        (batch, 2 * model.filters); zeros for an empty text.
    """
    stages = int(layers.value("model.num_stages"))
    filters = int(layers.value("model.filters"))
    x = layers.embedding(
        indices, num_indices, int(layers.value("model.embedding_dim")), "word_vectors"
    )
    mask = mask_of(indices, x.dtype)
    for stage in range(stages):
        last = stage == stages - 1
        x = layers.drop(x, f"stage_{stage}") * mask
        for i in range(CONVOLUTIONS):
            name = f"convolution_{stage}_{i}"
            x = _separable(layers, filters * LAST_FACTOR if last else filters, name)(x)
            x = layers.activate(x, name) * mask
        if not last:
            x, mask = _pooled(x, mask)
    return layers.drop(masked_mean(x, mask), "mean")


def mask_of(indices: Any, dtype: str) -> Any:
    """1 where there is a word and 0 where there is padding, (batch, words, 1)."""
    return ops.expand_dims(ops.cast(ops.not_equal(indices, 0), dtype), -1)


def masked_mean(x: Any, mask: Any) -> Any:
    """The mean over the words, (batch, words, features) to (batch, features); 0 for no words."""
    return ops.sum(x * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)


def _separable(layers: Layers, filters: int, name: str) -> Any:
    size = int(layers.value("model.kernel_size"))
    # Each channel has a kernel of its own and reads `size` numbers. The initializers of Keras
    # count all channels and start so small that a deep stack passes nothing on.
    depthwise = keras.initializers.RandomNormal(
        stddev=size**-0.5, seed=layers.seed(f"{name}/depthwise")
    )
    return keras_layers.SeparableConv1D(
        filters,
        size,
        padding="same",
        depthwise_initializer=depthwise,
        pointwise_initializer=layers.initializer(f"{name}/pointwise"),
        pointwise_regularizer=layers.regularizer(),
        name=name,
    )


def _pooled(x: Any, mask: Any) -> tuple[Any, Any]:
    """The largest of each three words and the shorter mask; the end is padded to full pools."""
    extra = ((0, 0), (0, -x.shape[1] % POOL), (0, 0))
    x = ops.pad(x + (1.0 - mask) * _LOW, extra, constant_values=_LOW)
    pool = keras_layers.MaxPooling1D(POOL)
    mask = pool(ops.pad(mask, extra))
    return keras_layers.MaxPooling1D(POOL)(x) * mask, mask
