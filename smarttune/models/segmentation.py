"""Networks that give every pixel a class: a U-Net, and a plain network with wide context."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers

from smarttune.models.convolution import convolution, downsampling, filters_of, stage, stages
from smarttune.models.layers import Layers

# Dilations of the parallel convolutions on maps at a sixteenth of the resolution; twice these
# on larger maps (Chen et al. 2017, "Rethinking Atrous Convolution", section 3.3).
RATES = (6, 12, 18)
_SIXTEENTH = 16


def unet(layers: Layers, x: Any) -> Any:
    """A contracting and an expanding half, joined at every resolution.

    After Ronneberger et al. 2015, with maps padded to keep their size and strides for pooling as
    nnU-Net has them.

    Args:
        layers: Makes the layers of the trial.
        x: Pictures, (batch, height, width, channels).

    Returns:
        (batch, height, width, filters of the first stage).

    Raises:
        SettingError: If a setting is missing or means nothing here.
    """
    kind = downsampling(layers, ("strided", "pooled"))
    depth = int(layers.value("model.num_stages"))
    kept = []
    for number in range(depth):
        x = stage(layers, x, f"down_{number}", filters=filters_of(layers, number))
        kept.append(x)
        if kind == "pooled":
            x = keras_layers.MaxPooling2D(2, padding="same", name=f"pooling_{number}")(x)
        else:
            x = _strided(layers, x, f"stride_{number}")
    x = stage(layers, x, "bottom", filters=filters_of(layers, depth))
    for number in reversed(range(depth)):
        filters, beside = filters_of(layers, number), kept[number]
        x = keras_layers.Conv2DTranspose(
            filters,
            2,
            strides=2,
            kernel_initializer=layers.initializer(f"up_{number}"),
            kernel_regularizer=layers.regularizer(),
            name=f"up_{number}",
        )(x)
        x = _cropped(x, beside, f"crop_{number}")
        x = keras_layers.Concatenate(name=f"join_{number}")([beside, x])
        x = stage(layers, x, f"expand_{number}", filters=filters)
    return layers.drop(x, "head")


def dense_cnn(layers: Layers, x: Any) -> Any:
    """Stages of convolutions, and with `model.multiscale_head` several dilations side by side.

    Args:
        layers: Makes the layers of the trial.
        x: Pictures, (batch, height, width, channels).

    Returns:
        Maps, at the full size only where the stages are dilated.
    """
    side = int(x.shape[1])
    x = stages(layers, x)
    if layers.value("model.multiscale_head"):
        x = pyramid(layers, x, stride=round(side / int(x.shape[1])))
    return layers.drop(x, "head")


def pyramid(layers: Layers, x: Any, *, stride: int) -> Any:
    """Parallel convolutions of several dilations, and the average of the map (ASPP).

    Chen et al. 2017, section 3.3. A dilation as wide as the map is left out, since its kernel
    would see its own centre only.

    Args:
        layers: Makes the layers of the trial.
        x: Maps, (batch, height, width, filters).
        stride: Pixels of the picture per place of the map.

    Returns:
        The same shape.
    """
    filters, side = int(x.shape[-1]), int(min(x.shape[1:3]))
    factor = 1 if stride >= _SIXTEENTH else 2
    rates = [factor * rate for rate in RATES if factor * rate < side]
    branches = [
        convolution(layers, x, "pyramid_point", filters=filters, size=1),
        *(
            convolution(layers, x, f"pyramid_rate_{rate}", filters=filters, size=3, dilation=rate)
            for rate in rates
        ),
    ]
    branches = [layers.normalize(b, f"pyramid_{i}") for i, b in enumerate(branches)]
    branches = [layers.activate(b, f"pyramid_{i}") for i, b in enumerate(branches)]
    branches.append(_average(layers, x, filters))
    joined = keras_layers.Concatenate(name="pyramid_join")(branches)
    joined = convolution(layers, joined, "pyramid_last", filters=filters, size=1)
    return layers.activate(layers.normalize(joined, "pyramid_last"), "pyramid_last")


def _average(layers: Layers, x: Any, filters: int) -> Any:
    """The average of the whole map at every place; one place is too few to normalize over."""
    height, width = x.shape[1:3]
    whole = keras_layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_average")(x)
    whole = keras_layers.Conv2D(
        filters,
        1,
        kernel_initializer=layers.initializer("pyramid_whole"),
        kernel_regularizer=layers.regularizer(),
        name="pyramid_whole",
    )(whole)
    whole = layers.activate(whole, "pyramid_whole")
    return keras_layers.UpSampling2D((height, width), name="pyramid_spread")(whole)


def _strided(layers: Layers, x: Any, name: str) -> Any:
    x = convolution(layers, x, name, filters=int(x.shape[-1]), stride=2)
    return layers.activate(layers.normalize(x, name), name)


def _cropped(x: Any, like: Any, name: str) -> Any:
    """Maps of an odd side were rounded up when halved; take the surplus off again."""
    surplus = [int(a) - int(b) for a, b in zip(x.shape[1:3], like.shape[1:3], strict=True)]
    if not any(surplus):
        return x
    return keras_layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name=name)(x)
