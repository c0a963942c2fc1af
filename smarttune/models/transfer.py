"""Pretrained networks: read from disk, held still at first, then trained in small steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from smarttune.data import Dataset
from smarttune.errors import OptionError

# What the part with pretrained weights is called in every network that has one.
BACKBONE = "backbone"


def needed_weights(dataset: Dataset) -> str:
    """The file or folder with pretrained weights that the user named.

    Raises:
        OptionError: If none was named.
    """
    found = dataset.read_options.get("weights")
    if found is None:
        raise OptionError(
            "--weights",
            received="model.family is pretrained and no weights were named",
            expected="the path of pretrained weights on disk",
            mend="Name it, for example --weights backbone.keras; nothing is downloaded.",
        )
    return str(found)


def image_backbone(path: str) -> keras.Model:
    """A Keras model from disk as the first part of a network on images.

    Args:
        path: A file that Keras saved: a model that takes pixels from 0 to 255 and does its own
            scaling, and gives maps, (batch, height, width, filters), or one vector per image.

    Returns:
        The model, named "backbone", with its weights. Its batch normalization works as in
        predictions: a few small batches would spoil the statistics it was trained with.

    Raises:
        OptionError: If Keras cannot read the file, or the model has other inputs or outputs.
    """
    try:
        found = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise _unfit(path, f"Keras cannot read it ({reason})") from None
    shapes = [tuple(t.shape) for t in (*found.inputs, *found.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or len(shapes[1]) not in (2, 4):  # noqa: PLR2004
        raise _unfit(path, "its inputs and outputs have the shapes " + ", ".join(map(str, shapes)))
    for layer in found._flatten_layers():  # noqa: SLF001 -- layers of layers have no public list
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return keras.Model(found.inputs[0], found.outputs[0], name=BACKBONE)


def _unfit(path: str, received: str) -> OptionError:
    return OptionError(
        "--weights",
        received=f"`{path}`: {received}",
        expected="a .keras file with a model from images, 0 to 255, to features",
        mend="Make one, for example: keras.applications.EfficientNetV2B0(include_top=False)"
        ".save('backbone.keras').",
    )


def phased(kind: Any, pretrained: Sequence[Any], *, frozen_steps: int, factor: float) -> Any:
    """An optimizer class that holds pretrained variables still, then moves them less.

    The phase is told by the step, which is part of the optimizer's state. So nothing is compiled
    anew when it changes, and a training that is continued goes on in the right phase.

    Args:
        kind: A class of `keras.optimizers`.
        pretrained: The variables with pretrained weights.
        frozen_steps: Steps in which they stay as they are.
        factor: Their learning rate afterwards, as a share of that of all other variables.
    """
    paths = {variable.path for variable in pretrained}

    class Phased(kind):  # type: ignore[misc]
        """The same optimizer with two learning rates."""

        def build(self, variables: Any) -> None:
            """Remember which of the variables are pretrained."""
            self._pretrained = tuple(variable.path in paths for variable in variables)
            super().build(variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Update one variable with the rate of its kind and phase."""
            if self._pretrained[self._get_variable_index(variable)]:
                moving = ops.cast(self.iterations >= frozen_steps, learning_rate.dtype)
                learning_rate = learning_rate * moving * factor
            super().update_step(gradient, variable, learning_rate)

    Phased.__name__ = kind.__name__
    return Phased
