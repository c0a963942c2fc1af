"""Dense networks: a plain stack, and residual blocks."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers

from smarttune.models.layers import Layers


def mlp(layers: Layers, x: Any) -> Any:
    """Hidden layers one after the other, (batch, features) to (batch, units)."""
    count = int(layers.value("model.num_layers"))
    if layers.values.get("model.skip_connections", False):
        return resnet_mlp(layers, x)
    for i in range(count):
        x = layers.activate(layers.normalize(layers.dense(x, f"hidden_{i}"), f"{i}"), f"{i}")
        x = layers.drop(x, f"{i}")
    return x


def resnet_mlp(layers: Layers, x: Any) -> Any:
    """A first layer that sets the width, then blocks normalized before their weights.

    The order inside a block follows Gorishniy et al. 2021, section 3.2.
    """
    count = int(layers.value("model.num_layers"))
    if not count:
        return x
    x = layers.dense(x, "hidden_0")
    for i in range(1, count):
        y = layers.dense(layers.normalize(x, f"{i}"), f"hidden_{i}")
        y = layers.drop(layers.activate(y, f"{i}"), f"{i}")
        x = keras_layers.Add(name=f"skip_{i}")([x, y])
    return layers.activate(layers.normalize(x, "last"), "last")
