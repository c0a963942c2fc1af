"""Recordings: log-mel spectrograms read as pictures or step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import ops

from smarttune.data import Dataset
from smarttune.data.audio import Recordings
from smarttune.models.built import families_built
from smarttune.models.codec import TargetCodec
from smarttune.models.convolution import cnn
from smarttune.models.export import decoded
from smarttune.models.layers import Layers, bad_value
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.recurrent import rnn
from smarttune.models.spectrogram import (
    AudioPreprocessor,
    Masks,
    cut_or_padded,
    heard,
    log_mel,
    without_masks,
)
from smarttune.models.temporal import mean_step, tcn
from smarttune.space import Value

if TYPE_CHECKING:
    from smarttune.fingerprint import Fingerprint

FAMILIES = families_built("audio", "multiclass")
AUGMENTATIONS = ("none", "masks")


class Audio(Modality):
    """Recordings with one label or value each."""

    name: ClassVar[str] = "audio"
    preprocessor_type: ClassVar[type[Preprocessor]] = AudioPreprocessor
    prepared: ClassVar[tuple[str, ...]] = (
        "model.frame_seconds",
        "model.hop_seconds",
        "model.num_mel_bands",
        "model.max_sequence_length",
        "model.target_transform",
    )

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> AudioPreprocessor:
        """Learn mean and deviation of each frequency band from the training rows."""
        assert isinstance(dataset.content, Recordings)
        return AudioPreprocessor.fit(dataset.content, rows, settings)

    def network(self, layers: Layers, preprocessor: AudioPreprocessor) -> keras.Model:
        """A network on normalized log-mel spectrograms.

        It takes {"spectrogram": (batch, frames, bands) float32} and gives logits or encoded
        targets, float32, shape (batch, num_outputs). Recurrent and dilated networks leave the
        silence at the end out; a picture keeps it.

        Raises:
            SettingError: If the family or the augmentation is none of recordings.
        """
        family = layers.family_of(self.name)
        shape = (preprocessor.num_frames, preprocessor.num_bands)
        given = keras.Input(shape, name="spectrogram")
        sound = heard(preprocessor, given)
        x = _augmented(layers, given)
        if family == "rnn":
            x = rnn(layers, x, mask=sound)
        elif family == "tcn":
            # Words may lie anywhere in a clip, so every step speaks, not only the last one.
            x = mean_step(tcn(layers, x, every_step=True), sound)
        else:
            x = cnn(layers, ops.expand_dims(x, -1))
        return keras.Model({"spectrogram": given}, layers.output(x), name="audio")

    def exported(
        self, core: keras.Model, preprocessor: AudioPreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw recordings with one channel, at the rate of the training.

        It takes samples between -1 and 1, float32, shape (batch, samples), of any length, with
        shorter recordings padded by zeros at the end; 16-bit samples must be divided by 32768
        first. It gives what `smarttune.models.export.decoded` says.
        """
        waves = keras.Input((None,), dtype="float32", name="samples")
        spectrogram = log_mel(preprocessor, cut_or_padded(waves, preprocessor.num_samples))
        body = without_masks(core)
        body.trainable = False
        return keras.Model(
            waves, decoded(body({"spectrogram": spectrogram}), codec), name="smarttune"
        )


def _augmented(layers: Layers, x: Any) -> Any:
    kind = layers.values.get("training.augmentation", "none")
    if kind not in AUGMENTATIONS:
        raise bad_value("training.augmentation", kind, AUGMENTATIONS)
    return x if kind == "none" else Masks(layers.seed("masks"), name="masks")(x)
