"""Pictures: decoding and scaling in batches, convolutional networks, and export of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.data import Dataset
from smarttune.data.images import ImageArrays, ImageFiles, spread
from smarttune.errors import DataError
from smarttune.models.augmentation import augmented
from smarttune.models.codec import TargetCodec
from smarttune.models.convolution import cnn
from smarttune.models.export import bare_copy, decoded
from smarttune.models.layers import Layers
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.optimizers import needed
from smarttune.models.segmentation import dense_cnn, unet
from smarttune.models.transfer import image_backbone, needed_weights
from smarttune.space import Value
from smarttune.training.outputs import outputs_of

if TYPE_CHECKING:
    import pandas as pd

    from smarttune.fingerprint import Fingerprint

Pictures = ImageFiles | ImageArrays

PRETRAINED = "pretrained"
FAMILIES: dict[str, Any] = {"cnn": cnn}
FAMILIES_BY_PIXEL: dict[str, Any] = {"unet": unet, "cnn": dense_cnn}
# ours: scaled pictures of one part are kept in memory up to so many bytes; above, every batch
# is decoded anew.
BYTES_IN_MEMORY = 512 * 1024 * 1024
# ours: so many pictures tell mean and deviation of the channels to a hundredth.
MEASURED = 2_000
# ours: a channel that hardly varies is not blown up; one step of 256 would be noise.
LEAST_DEVIATION = 1.0
# ours: pictures whose label pictures are read at once.
_MASKS_AT_ONCE = 256
_HIGHEST = 255.0
# Name of the layer that follows augmentation; an exported network begins there.
_SCALING = "scaling"


class ImagePreprocessor(Preprocessor):
    """Turns pictures of any size into squares of bytes. Immutable.

    The network itself scales the bytes, so that arrays stay a quarter as large and an exported
    model takes plain pictures.

    Args:
        side: Side of the square, in pixels.
        channels: 1 for grey, 3 for colour; 2 or 4 only for arrays that have as many.
        mean: Mean of each channel over training pictures, from 0 to 255.
        deviation: Standard deviation of each channel.
        weights: File with a pretrained network; None where a family begins from nothing.
    """

    kind: Literal["image"] = "image"
    side: int
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    weights: str | None = None

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Pictures, uint8, shape (rows, side, side, channels).

        Small sets are decoded once and kept; of large ones every batch is decoded when it is
        indexed.

        Raises:
            DataError: If the pictures have other channels than those learnt from.
        """
        batches = _Squares(_with_channels(_pictures(dataset), self.channels), rows, self.side)
        small = len(rows) * self.side**2 * self.channels <= BYTES_IN_MEMORY
        return {"image": batches[np.arange(len(rows))] if small else batches}

    def targets(self, dataset: Dataset, rows: np.ndarray, codec: TargetCodec) -> np.ndarray:
        """Encoded labels; for segmentation the place of each pixel's class among the classes.

        Returns:
            Shape (rows, ...), or for segmentation uint8 (uint16 beyond 256 classes) of shape
            (rows, side, side).
        """
        if codec.problem != "segmentation":
            return np.asarray(super().targets(dataset, rows, codec))
        classes = np.array(codec.classes, np.int64)
        small = np.uint8 if len(classes) <= 256 else np.uint16  # noqa: PLR2004 -- values of a byte
        places = np.empty((len(rows), self.side, self.side), small)
        for part in _parts(len(rows)):
            masks = _pictures(dataset).resized_masks(rows[part], self.side)
            places[part] = np.searchsorted(classes, masks)
        return places


@dataclass(frozen=True)
class _Squares:
    """Pictures that are decoded and scaled when they are indexed."""

    pictures: Pictures
    rows: np.ndarray
    side: int

    dtype: ClassVar[Any] = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(pictures, side, side, channels)."""
        return (len(self.rows), self.side, self.side, self.pictures.channels)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.pictures.resized(self.rows[places], self.side)


class Image(Modality):
    """Pictures with a label each, or with a class for every pixel."""

    name: ClassVar[str] = "image"
    preprocessor_type: ClassVar[type[Preprocessor]] = ImagePreprocessor
    prepared: ClassVar[tuple[str, ...]] = ("model.image_side", "model.target_transform")

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> ImagePreprocessor:
        """Measure the channels of at most 2,000 training pictures.

        Raises:
            SettingError: If nothing gives `model.image_side` a value.
        """
        side = int(needed(settings, "model.image_side"))
        pictures, weights = _pictures(dataset), None
        if PRETRAINED in families:
            weights = needed_weights(dataset)
            _, height, _, channels = image_backbone(weights).inputs[0].shape
            side = height or side  # a network for one size only gets that size
            pictures = _with_channels(pictures, channels)
        some = pictures.resized(rows[spread(len(rows), MEASURED)], side)
        mean = some.mean(axis=(0, 1, 2), dtype=np.float64)
        deviation = some.std(axis=(0, 1, 2), dtype=np.float64)
        return ImagePreprocessor(
            side=side,
            channels=pictures.channels,
            mean=tuple(mean.tolist()),
            deviation=tuple(np.maximum(deviation, LEAST_DEVIATION).tolist()),
            weights=weights,
        )

    def codec(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        bounds: tuple[float, float] | None,
    ) -> TargetCodec:
        """Learn the encoding of the target from the training rows.

        For segmentation all label pictures tell which classes there are, and those of the
        training rows how many pixels each has.
        """
        if fingerprint.problem != "segmentation":
            return super().codec(dataset, fingerprint, rows, settings, bounds)
        pictures = _pictures(dataset)
        classes = tuple(pictures.mask_counts(most=None))
        counts = pictures.select(rows).mask_counts(most=None)
        return TargetCodec(
            problem="segmentation",
            names=("mask",),
            classes=classes,
            class_counts=tuple(counts.get(label, 0) for label in classes),
            num_rows=len(rows),
        )

    def network(self, layers: Layers, preprocessor: ImagePreprocessor) -> keras.Model:
        """A convolutional network on the arrays of an `ImagePreprocessor`.

        It takes {"image": (batch, side, side, channels) uint8} and gives float32 logits or
        encoded targets, shape (batch, num_outputs), or (batch, side, side, num_classes) for
        segmentation.

        Raises:
            SettingError: If a setting is missing or means nothing here.
        """
        by_pixel = layers.codec.problem == "segmentation"
        families = FAMILIES_BY_PIXEL if by_pixel else FAMILIES
        family = layers.family_of(self.name)
        side = preprocessor.side
        image = keras.Input((side, side, preprocessor.channels), dtype="uint8", name="image")
        x = augmented(layers, ops.cast(image, "float32"))
        if family == PRETRAINED:
            features = _pretrained_features(x, preprocessor)
            return keras.Model({"image": image}, layers.output(layers.drop(features, "head")))
        x = keras_layers.Rescaling(
            [1.0 / d for d in preprocessor.deviation],
            [-m / d for m, d in zip(preprocessor.mean, preprocessor.deviation, strict=True)],
            name=_SCALING,
        )(x)
        output = layers.output(families[family](layers, x))
        if by_pixel and output.shape[1] != side:
            output = keras_layers.Resizing(side, side, dtype="float32", name="full_size")(output)
        return keras.Model({"image": image}, output, name="image")

    def exported(
        self, core: keras.Model, preprocessor: ImagePreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of plain pictures of any size, free of augmentation.

        Args:
            core: A network on the arrays of `preprocessor`.
            preprocessor: Fitted preprocessing.
            codec: Fitted target codec.

        Returns:
            An uncompiled model that takes (batch, height, width, channels), bytes or floats
            from 0 to 255, and scales them to the square as Pillow does, to within one step of
            256. It gives the probability of the second class, shape (batch, 1), for binary; of
            each class or label, shape (batch, num_outputs); for segmentation of each class at
            each pixel of the square, shape (batch, side, side, num_classes); or the target in
            its own units.
        """
        side = preprocessor.side
        image = keras.Input((None, None, preprocessor.channels), name="image")
        scaled = keras_layers.Resizing(
            side, side, interpolation="bilinear", antialias=True, name="square"
        )(image)
        scaled = ops.clip(ops.round(scaled), 0.0, _HIGHEST)  # training saw bytes
        network = keras.Model(core.get_layer(_SCALING).input, core.output)
        return keras.Model(image, decoded(bare_copy(network)(scaled), codec), name="pictures")

    def predictions(
        self, dataset: Dataset, preprocessor: Any, codec: TargetCodec, core: keras.Model
    ) -> pd.DataFrame:
        """Predict for every picture of a data set, one row each.

        For segmentation a row holds the share of the pixels that each class takes,
        `share_CLASS`, and the class that takes most, `prediction`.
        """
        if codec.problem != "segmentation":
            return super().predictions(dataset, preprocessor, codec, core)
        import pandas as pd

        number = len(codec.classes)

        def shares(output: np.ndarray, _: np.ndarray) -> np.ndarray:
            chosen = output.argmax(axis=-1).reshape(len(output), -1)
            return np.stack([(chosen == i).mean(axis=1) for i in range(number)], axis=1)

        rows = np.arange(len(dataset.features))
        found = outputs_of(core, preprocessor.inputs(dataset, rows), shares)
        columns = {f"share_{label}": found[:, i] for i, label in enumerate(codec.classes)}
        winners = [codec.classes[i] for i in found.argmax(axis=1)]
        return pd.DataFrame({"prediction": winners, **columns})


def _pretrained_features(x: Any, preprocessor: ImagePreprocessor) -> Any:
    """Features of pixels from 0 to 255, (batch, features), by the network on disk."""
    assert preprocessor.weights is not None
    # An exported model begins here, behind augmentation; the network scales by itself.
    x = keras_layers.Rescaling(1.0, name=_SCALING)(x)
    x = image_backbone(preprocessor.weights)(x)
    if len(x.shape) == 4:  # noqa: PLR2004 -- maps
        x = keras_layers.GlobalAveragePooling2D(name="global_average")(x)
    return x


def _pictures(dataset: Dataset) -> Pictures:
    """The pictures of a data set.

    Raises:
        DataError: If it holds none.
    """
    if isinstance(dataset.content, (ImageFiles, ImageArrays)):
        return dataset.content
    raise DataError(
        dataset.where,
        received=f"data of the kind {dataset.task}",
        expected="pictures, as the model was trained on",
        mend="Give a folder of pictures, a picture, a table of paths, or an array of them.",
    )


def _with_channels(pictures: Pictures, channels: int) -> Pictures:
    """The same pictures in grey or in colour.

    Raises:
        DataError: If arrays have other channels and are not grey.
    """
    return pictures if pictures.channels == channels else pictures.with_channels(channels)


def _parts(count: int) -> list[slice]:
    return [slice(i, i + _MASKS_AT_ONCE) for i in range(0, count, _MASKS_AT_ONCE)]
