"""Random changes of pictures while a network trains; predictions see them unchanged."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers

from smarttune.models.layers import Layers, bad_value

# Kind of augmentation to the changes that it makes, in their order.
CHANGES: dict[str, tuple[str, ...]] = {
    "none": (),
    "shift": ("shift",),
    "shift_flip": ("shift", "flip"),
    "shift_flip_color": ("shift", "flip", "color"),
}
# Largest shift, as a share of the side (He et al. 2016, section 4.2: 4 of 32 pixels).
SHIFT = 0.125
# ours: brightness and contrast vary by at most a fifth, as between two shots of one scene.
COLOR = 0.2


def augmented(layers: Layers, x: Any) -> Any:
    """Shift, mirror and tint pictures at random, as `training.augmentation` says.

    Shifts are whole pixels and repeat the edge. The layers act in training only.

    Args:
        layers: Makes the layers of the trial.
        x: Pictures from 0 to 255, (batch, height, width, channels).

    Returns:
        The same shape and range.

    Raises:
        SettingError: If the kind is missing or unknown.
    """
    kind = str(layers.value("training.augmentation"))
    if kind not in CHANGES:
        raise bad_value("training.augmentation", kind, tuple(CHANGES))
    for change in CHANGES[kind]:
        for layer in _layers_of(layers, change):
            x = layer(x)
    return x


def _layers_of(layers: Layers, change: str) -> list[Any]:
    if change == "shift":
        shift = keras_layers.RandomTranslation(
            SHIFT,
            SHIFT,
            fill_mode="nearest",
            interpolation="nearest",
            seed=layers.seed("shift"),
            name="shift",
        )
        return [shift]
    if change == "flip":
        return [keras_layers.RandomFlip("horizontal", seed=layers.seed("flip"), name="flip")]
    span = (0.0, 255.0)
    return [
        keras_layers.RandomBrightness(
            COLOR, value_range=span, seed=layers.seed("brightness"), name="brightness"
        ),
        keras_layers.RandomContrast(
            COLOR, value_range=span, seed=layers.seed("contrast"), name="contrast"
        ),
    ]
