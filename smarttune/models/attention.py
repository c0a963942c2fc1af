"""A small transformer encoder over sequences of words."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers
from keras import ops

from smarttune.errors import SettingError
from smarttune.models.convolution_1d import mask_of, masked_mean
from smarttune.models.layers import Layers


def transformer(layers: Layers, indices: Any, num_indices: int) -> Any:
    """Blocks of self-attention and a dense part, then the mean over the words.

    Vaswani et al. 2017, section 3, the encoder, with learned positions (section 3.5) and with
    normalization before each part, as Xiong et al. 2020 advise for training without long warmup.

    Args:
        layers: Makes the layers of the trial; `model.units` is the width of the dense part.
        indices: Word indices, (batch, words) int32, 0 where a text has ended.
        num_indices: How many indices there are.

    Returns:
        (batch, model.embedding_dim); zeros for an empty text.

    Raises:
        SettingError: If the heads do not divide the width.
    """
    width, heads = int(layers.value("model.embedding_dim")), int(layers.value("model.num_heads"))
    if width % heads:
        raise SettingError(
            "model.num_heads",
            received=f"{heads} heads for vectors of {width} numbers",
            expected="a number of heads that divides model.embedding_dim",
            mend="Set model.num_heads or model.embedding_dim so that it does.",
        )
    positions = ops.cumsum(ops.ones_like(indices), axis=1) - 1
    x = layers.embedding(indices, num_indices, width, "word_vectors")
    x = x + layers.embedding(positions, indices.shape[1], width, "position_vectors")
    x = layers.drop(x, "words")
    mask = mask_of(indices, x.dtype)
    for i in range(int(layers.value("model.num_layers"))):
        x = x + layers.drop(_attention(layers, _normalized(x, f"{i}_0"), mask, heads, i), f"{i}_0")
        y = layers.dense(_normalized(x, f"{i}_1"), f"hidden_{i}")
        y = layers.dense(layers.activate(y, f"{i}"), f"narrowed_{i}", width)
        x = x + layers.drop(y, f"{i}_1")
    return masked_mean(_normalized(x, "last"), mask)


def _normalized(x: Any, name: str) -> Any:
    return keras_layers.LayerNormalization(name=f"normalization_{name}")(x)


def _attention(layers: Layers, x: Any, mask: Any, heads: int, place: int) -> Any:
    """Every word looks at all words of its text, (batch, words, width) to the same.

    Made of dense layers: `MultiHeadAttention` of Keras would start queries, keys and values
    with equal kernels where the initializer is seeded.
    """
    length, width = x.shape[1:]

    def part(name: str) -> Any:
        y = layers.dense(x, f"{name}_{place}", width)
        return ops.reshape(y, (-1, length, heads, width // heads))

    seen = ops.reshape(ops.cast(mask, "bool"), (-1, 1, 1, length))
    y = ops.dot_product_attention(part("query"), part("key"), part("value"), mask=seen)
    return layers.dense(ops.reshape(y, (-1, length, width)), f"joined_{place}", width)
