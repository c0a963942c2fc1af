"""Sequences of measured steps: padded, masked, and read by recurrence, dilation or at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.data import Dataset
from smarttune.data.sequences import SequenceArrays
from smarttune.errors import DataError, SettingError
from smarttune.models.built import families_built
from smarttune.models.codec import TargetCodec
from smarttune.models.dense import mlp
from smarttune.models.export import bare_copy, decoded
from smarttune.models.layers import Layers, bad_value
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.optimizers import needed
from smarttune.models.recurrent import rnn
from smarttune.models.temporal import step_mask, tcn
from smarttune.space import Value

if TYPE_CHECKING:
    from smarttune.fingerprint import Fingerprint

FAMILIES = families_built("sequence", "multiclass")
MISSING = ("mean", "mean_and_indicator")
# ours: a feature that varies less, relative to its mean, is constant but for rounding.
_LEAST_DEVIATION = 1e-6


class SequencePreprocessor(Preprocessor):
    """Sequences of any length to standardized arrays of one length. Immutable.

    Args:
        num_steps: Steps kept of each sequence; shorter ones are padded at the end, longer ones
            cut.
        center: Mean of each feature over the steps of the training rows.
        scale: Standard deviation of each feature; 1 where it does not vary.
        indicator: Whether a flag for each feature tells that its value is missing.
    """

    kind: Literal["sequence"] = "sequence"
    num_steps: int
    center: tuple[float, ...]
    scale: tuple[float, ...]
    indicator: bool = False

    @classmethod
    def fit(
        cls, sequences: SequenceArrays, rows: np.ndarray, settings: Mapping[str, Value]
    ) -> SequencePreprocessor:
        """Learn mean and deviation of each feature from the training rows.

        Args:
            sequences: All sequences.
            rows: The training rows.
            settings: Read are `model.max_sequence_length` and `model.missing_values`.

        Raises:
            SettingError: If one is missing or means nothing here.
        """
        missing = needed(settings, "model.missing_values")
        if missing not in MISSING:
            raise bad_value("model.missing_values", missing, MISSING)
        num_steps = int(needed(settings, "model.max_sequence_length"))
        if num_steps < 1:
            raise SettingError(
                "model.max_sequence_length",
                received=f"{num_steps}",
                expected="at least one step",
                mend="Leave it to the rules.",
            )
        steps = np.concatenate([s[:num_steps] for s in sequences.take(rows)]).astype(np.float64)
        known = np.isfinite(steps)
        count = np.maximum(known.sum(axis=0), 1)
        center = np.where(known, steps, 0.0).sum(axis=0) / count
        apart = np.where(known, steps - center, 0.0)
        deviation = np.sqrt(np.square(apart).sum(axis=0) / count)
        varies = deviation > _LEAST_DEVIATION * np.maximum(np.abs(center), _LEAST_DEVIATION)
        return cls(
            num_steps=num_steps,
            center=tuple(center.tolist()),
            scale=tuple(np.where(varies, deviation, 1.0).tolist()),
            indicator=missing == "mean_and_indicator",
        )

    @property
    def width(self) -> int:
        """Inputs at each step."""
        return len(self.center) * (2 if self.indicator else 1)

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Sequences as a network takes them.

        Returns:
            "steps": float32, shape (len(rows), num_steps, width), 0 for missing values and for
            padding; "length": int32, shape (len(rows), 1), steps up to the last that has a
            value, at least 1.

        Raises:
            DataError: If the samples are no sequences, or have another number of features.
        """
        content = dataset.content
        if not isinstance(content, SequenceArrays):
            raise DataError(
                dataset.where,
                received=f"samples of the kind {dataset.task}",
                expected="sequences, as those of the training",
                mend="Give an npz archive or an array of shape (n, steps, features).",
            )
        if content.num_features != len(self.center):
            raise DataError(
                dataset.where,
                received=f"{content.num_features:,} features at each step",
                expected=f"{len(self.center):,}, as in the training",
                mend="Give the same features in the same order.",
            )
        steps = np.full((len(rows), self.num_steps, content.num_features), np.nan, np.float32)
        for place, values in enumerate(content.take(rows)):
            kept = values[: self.num_steps]
            steps[place, : len(kept)] = kept
        known = np.isfinite(steps)
        x = np.where(known, (steps - _row(self.center)) / _row(self.scale), np.float32(0))
        real = known.any(axis=2)
        length = np.where(real, np.arange(1, self.num_steps + 1), 1).max(axis=1, keepdims=True)
        if self.indicator:
            inside = np.arange(self.num_steps)[None, :, None] < length[:, :, None]
            x = np.concatenate([x, ~known & inside], axis=2, dtype=np.float32)
        return {"steps": x.astype(np.float32), "length": length.astype(np.int32)}


class Sequence(Modality):
    """Sequences with one label, several labels, or one value each."""

    name: ClassVar[str] = "sequence"
    preprocessor_type: ClassVar[type[Preprocessor]] = SequencePreprocessor
    prepared: ClassVar[tuple[str, ...]] = (
        "model.max_sequence_length",
        "model.missing_values",
        "model.padding_side",
        "model.target_transform",
    )

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> SequencePreprocessor:
        """Learn mean and deviation of each feature from the training rows."""
        assert isinstance(dataset.content, SequenceArrays)
        return SequencePreprocessor.fit(dataset.content, rows, settings)

    def network(self, layers: Layers, preprocessor: SequencePreprocessor) -> keras.Model:
        """A network on the arrays of a `SequencePreprocessor`.

        It takes {"steps": (batch, num_steps, width) float32, "length": (batch, 1) int32} and
        gives logits or encoded targets, float32, shape (batch, num_outputs). What lies behind
        the length has no influence, except on a dense network, for which it is 0.

        Raises:
            SettingError: If the family is none of sequences.
        """
        family = layers.family_of(self.name)
        x = keras.Input((preprocessor.num_steps, preprocessor.width), name="steps")
        length = keras.Input((1,), dtype="int32", name="length")
        mask = step_mask(length, preprocessor.num_steps)
        if family == "rnn":
            hidden = rnn(layers, x, mask=mask)
        elif family == "tcn":
            hidden = tcn(layers, x, mask=mask)
        else:
            hidden = mlp(layers, keras_layers.Flatten(name="window")(x))
        return keras.Model({"steps": x, "length": length}, layers.output(hidden), name="sequence")

    def exported(
        self, core: keras.Model, preprocessor: SequencePreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw sequences.

        It takes float32 of shape (batch, steps, features), NaN for missing values, with any
        number of steps; shorter sequences of a batch are padded at the end with NaN. It gives
        what `smarttune.models.export.decoded` says.
        """
        raw = keras.Input((None, len(preprocessor.center)), dtype="float32", name="sequence")
        output = bare_copy(core)(_prepared(preprocessor, raw))
        return keras.Model(raw, decoded(output, codec), name="smarttune")


def _prepared(preprocessor: SequencePreprocessor, raw: Any) -> dict[str, Any]:
    """The same as `SequencePreprocessor.inputs`, for tensors."""
    count = preprocessor.num_steps
    known = ops.isfinite(raw)
    scaled = (raw - _row(preprocessor.center)) / _row(preprocessor.scale)
    x = _cut_or_padded(ops.where(known, scaled, 0.0), count)
    known = _cut_or_padded(ops.cast(known, "float32"), count) > 0
    place = np.arange(1, count + 1, dtype="int32")[None]
    length = ops.max(ops.where(ops.any(known, axis=2), place, 1), axis=1, keepdims=True)
    if preprocessor.indicator:
        inside = ops.expand_dims(step_mask(length, count), -1)
        missing = ops.logical_and(ops.logical_not(known), inside)
        x = ops.concatenate([x, ops.cast(missing, "float32")], axis=2)
    return {"steps": x, "length": length}


def _cut_or_padded(x: Any, num_steps: int) -> Any:
    return ops.pad(x, ((0, 0), (0, num_steps), (0, 0)))[:, :num_steps]


def _row(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)[None, None]
