"""Convolutional networks over maps: stages that shrink the map and widen what each place sees."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers

from smarttune.models.layers import Layers, bad_value

DOWNSAMPLINGS = ("pooled", "strided", "dilated")
HEADS = ("global_average", "flatten_dense")
# Filters double from stage to stage up to here (nnU-Net, default_experiment_planner.py).
MOST_FILTERS = 512


def cnn(layers: Layers, x: Any) -> Any:
    """Stages of convolutions and a head, one vector per map.

    Dropout acts in front of the output layer alone: ahead of batch normalization it would shift
    the stored variances (Li et al. 2019, "Understanding the Disharmony between Dropout and Batch
    Normalization by Variance Shift").

    Args:
        layers: Makes the layers of the trial.
        x: Maps, (batch, height, width, channels).

    Returns:
        (batch, features).

    Raises:
        SettingError: If a setting is missing or means nothing here.
    """
    head = str(layers.value("model.pooling_head"))
    if head not in HEADS:
        raise bad_value("model.pooling_head", head, HEADS)
    x = stages(layers, x)
    if head == "global_average":
        x = keras_layers.GlobalAveragePooling2D(name="global_average")(x)
    else:
        x = layers.dense(keras_layers.Flatten(name="flatten")(x), "head")
        x = layers.activate(x, "head")
    return layers.drop(x, "head")


def stages(layers: Layers, x: Any) -> Any:
    """`model.num_stages` stages, each of which halves the map or, dilated, doubles the reach.

    Halving is done by max pooling behind a stage, or by a stride of 2 in its last convolution
    (Springenberg et al. 2014, section 2). Dilation keeps the map: the spacing of the kernels'
    taps doubles from stage to stage instead.

    Args:
        layers: Makes the layers of the trial.
        x: Maps, (batch, height, width, channels).

    Returns:
        (batch, height', width', filters of the last stage).
    """
    kind = downsampling(layers, DOWNSAMPLINGS)
    for number in range(int(layers.value("model.num_stages"))):
        x = stage(
            layers,
            x,
            f"stage_{number}",
            filters=filters_of(layers, number),
            stride=2 if kind == "strided" else 1,
            dilation=2**number if kind == "dilated" else 1,
        )
        if kind == "pooled":
            x = keras_layers.MaxPooling2D(2, padding="same", name=f"pooling_{number}")(x)
    return x


def downsampling(layers: Layers, allowed: tuple[str, ...]) -> str:
    """How the network shrinks its maps, checked."""
    kind = str(layers.value("model.downsampling"))
    if kind not in allowed:
        raise bad_value("model.downsampling", kind, allowed)
    return kind


def filters_of(layers: Layers, number: int) -> int:
    """Filters of a stage, counted from 0."""
    wanted = int(layers.value("model.filters")) << number
    return min(wanted, MOST_FILTERS)


def stage(
    layers: Layers, x: Any, name: str, *, filters: int, stride: int = 1, dilation: int = 1
) -> Any:
    """`model.convolutions_per_stage` convolutions, perhaps bridged by a skip connection.

    With `model.skip_connections` the input is added before the last activation, through a
    convolution of 1x1 where its shape differs: the basic block of He et al. 2016, "Deep Residual
    Learning for Image Recognition", section 3.3, option B.
    """
    start, count = x, int(layers.value("model.convolutions_per_stage"))
    residual = bool(layers.value("model.skip_connections"))
    for i in range(count):
        last, part = i == count - 1, f"{name}_{i}"
        x = convolution(
            layers, x, part, filters=filters, stride=stride if last else 1, dilation=dilation
        )
        x = layers.normalize(x, part)
        if last and residual:
            x = keras_layers.Add(name=f"{name}_add")([_matched(layers, start, x, name), x])
        x = layers.activate(x, part)
    return x


def convolution(
    layers: Layers,
    x: Any,
    name: str,
    *,
    filters: int,
    size: int | None = None,
    stride: int = 1,
    dilation: int = 1,
) -> Any:
    """One convolution, `model.kernel_size` wide unless told otherwise, at the map's size.

    It has no bias where batch normalization follows, which would subtract it again (Ioffe and
    Szegedy 2015, section 3.2).
    """
    return keras_layers.Conv2D(
        filters,
        int(layers.value("model.kernel_size")) if size is None else size,
        strides=stride,
        dilation_rate=dilation,
        padding="same",
        use_bias=layers.values.get("model.normalization", "none") != "batch",
        kernel_initializer=layers.initializer(name),
        kernel_regularizer=layers.regularizer(),
        name=name,
    )(x)


def _matched(layers: Layers, start: Any, end: Any, name: str) -> Any:
    """The input of a stage in the shape of its output."""
    if start.shape[1:] == end.shape[1:]:
        return start
    part, filters = f"{name}_shortcut", int(end.shape[-1])
    stride = 1 if start.shape[1:3] == end.shape[1:3] else 2
    start = convolution(layers, start, part, filters=filters, size=1, stride=stride)
    return layers.normalize(start, part)
