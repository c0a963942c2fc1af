"""Recordings to log-mel spectrograms: the same operations before training and in the export.

Magnitudes of a short-time Fourier transform are gathered into bands that are evenly spaced on
the mel scale, and their logarithm is taken (VGGish, Hershey et al. 2017, input features).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.data import Dataset
from smarttune.data.audio import Recordings, converted
from smarttune.errors import DataError, SettingError
from smarttune.models.modality import Preprocessor
from smarttune.models.optimizers import needed
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy.typing as npt

# Keeps the logarithm of silence finite; the figure of VGGish.
_OFFSET = 0.01
_SILENCE = float(np.log(_OFFSET))
# ours: what a band must rise above silence, in standard deviations, to count as sound.
_HEARD = 1e-3
_LOUDEST = 32768.0  # of 16-bit samples
# ours: recordings from which the mean and deviation of bands are taken; more change neither.
_MEASURED = 2_000
# ours: bytes of spectrograms that are kept in memory; beyond, they are made batch by batch.
LARGEST_IN_MEMORY = 2**30
_AT_ONCE = 128  # ours: recordings transformed together; bounds memory to some 100 MB


class AudioPreprocessor(Preprocessor):
    """Recordings to normalized log-mel spectrograms of one length. Immutable.

    Args:
        sample_rate: Samples per second; recordings at another rate are converted.
        frame: Samples of one frame.
        hop: Samples from one frame to the next.
        num_bands: Mel bands.
        num_frames: Frames kept of each recording; shorter ones are padded with silence at the
            end, longer ones cut.
        center: Mean of each band over the frames with sound of the training rows.
        scale: Standard deviation of each band over these frames; 1 where it does not vary.
    """

    kind: Literal["audio"] = "audio"
    sample_rate: int
    frame: int
    hop: int
    num_bands: int
    num_frames: int
    center: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(
        cls, recordings: Recordings, rows: np.ndarray, settings: Mapping[str, Value]
    ) -> AudioPreprocessor:
        """Learn mean and deviation of each band from the training rows.

        Args:
            recordings: All recordings.
            rows: The training rows.
            settings: Read are `model.frame_seconds`, `model.hop_seconds`,
                `model.num_mel_bands` and `model.max_sequence_length` (in frames).

        Raises:
            SettingError: If one of these is missing, or frames would hold no samples.
        """
        rate = recordings.sample_rate
        frame = _samples("model.frame_seconds", settings, rate)
        bands = int(needed(settings, "model.num_mel_bands"))
        draft = cls(
            sample_rate=rate,
            frame=frame,
            hop=_samples("model.hop_seconds", settings, rate),
            num_bands=bands,
            num_frames=int(needed(settings, "model.max_sequence_length")),
            center=(0.0,) * bands,
            scale=(1.0,) * bands,
        )
        chosen = np.random.default_rng(0).permutation(rows)[:_MEASURED]
        total, squares, count = np.zeros(bands), np.zeros(bands), 0
        for start in range(0, len(chosen), _AT_ONCE):
            found = draft.spectrograms(draft.waves(recordings, chosen[start : start + _AT_ONCE]))
            heard = found[(found > _SILENCE + _HEARD).any(axis=2)].astype(np.float64)
            total += heard.sum(axis=0)
            squares += np.square(heard).sum(axis=0)
            count += len(heard)
        center = total / max(1, count)
        deviation = np.sqrt(np.maximum(squares / max(1, count) - np.square(center), 0.0))
        scale = np.where(deviation > _HEARD, deviation, 1.0)
        return draft.model_copy(
            update={"center": tuple(center.tolist()), "scale": tuple(scale.tolist())}
        )

    @property
    def num_samples(self) -> int:
        """Samples that are read of each recording."""
        # The transform mirrors half a window at the ends, so there must be as much to mirror.
        return max((self.num_frames - 1) * self.hop, self.fft_length // 2 + 1)

    @property
    def fft_length(self) -> int:
        """Samples of one transform, the power of two that holds a frame."""
        return int(2 ** np.ceil(np.log2(self.frame)))

    @property
    def silence(self) -> npt.NDArray[np.float32]:
        """What padding looks like after normalization, shape (num_bands,)."""
        values = (_SILENCE - np.array(self.center)) / np.array(self.scale)
        return np.asarray(values, np.float32)

    def waves(self, recordings: Recordings, rows: np.ndarray) -> npt.NDArray[np.float32]:
        """Recordings cut or padded, between -1 and 1, shape (len(rows), num_samples)."""
        waves = np.zeros((len(rows), self.num_samples), np.float32)
        for place, samples in enumerate(recordings.take(rows)):
            found = converted(samples, recordings.sample_rate, self.sample_rate)
            found = found[: self.num_samples]
            waves[place, : len(found)] = found / np.float32(_LOUDEST)
        return waves

    def spectrograms(self, waves: np.ndarray) -> npt.NDArray[np.float32]:
        """Waves, (n, num_samples), to spectrograms, (n, num_frames, num_bands)."""
        parts = [
            np.asarray(log_mel(self, waves[start : start + _AT_ONCE]), np.float32)
            for start in range(0, len(waves), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Spectrograms, float32, shape (len(rows), num_frames, num_bands).

        They are made once and kept where they fit into memory, else whenever they are read.

        Raises:
            DataError: If the samples are no recordings.
        """
        if not isinstance(dataset.content, Recordings):
            raise DataError(
                dataset.where,
                received=f"samples of the kind {dataset.task}",
                expected="recordings, as those of the training",
                mend="Name a folder of wav files, a csv with their paths, or an npz archive.",
            )
        whole = Spectrograms(self, dataset.content, np.asarray(rows))
        if 4 * len(rows) * self.num_frames * self.num_bands > LARGEST_IN_MEMORY:
            return {"spectrogram": whole}
        return {"spectrogram": whole[np.arange(len(rows))]}


class Spectrograms:
    """Spectrograms that are made when they are indexed.

    Attributes:
        shape: (recordings, frames, bands).
        dtype: float32.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, maker: AudioPreprocessor, recordings: Recordings, rows: np.ndarray) -> None:
        self._maker, self._recordings, self._rows = maker, recordings, rows
        self.shape = (len(rows), maker.num_frames, maker.num_bands)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: np.ndarray) -> npt.NDArray[np.float32]:
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            some = self._rows[rows[start : start + _AT_ONCE]]
            found[start : start + len(some)] = self._maker.spectrograms(
                self._maker.waves(self._recordings, some)
            )
        return found


def log_mel(maker: AudioPreprocessor, waves: Any) -> Any:
    """Waves, (batch, num_samples), to normalized spectrograms, (batch, num_frames, num_bands).

    Works on arrays and on symbolic tensors alike.
    """
    mel = keras_layers.MelSpectrogram(
        fft_length=maker.fft_length,
        sequence_stride=maker.hop,
        sequence_length=maker.frame,
        sampling_rate=maker.sample_rate,
        num_mel_bins=maker.num_bands,
        mag_exp=1.0,
        power_to_db=False,
        dtype="float32",
        name="mel",
    )(waves)
    x = ops.log(ops.transpose(mel, (0, 2, 1))[:, : maker.num_frames] + _OFFSET)
    return (x - _row(maker.center)) / _row(maker.scale)


def cut_or_padded(waves: Any, num_samples: int) -> Any:
    """Waves of any length, (batch, samples), to (batch, num_samples)."""
    padded = ops.pad(waves, ((0, 0), (0, num_samples)))
    return padded[:, :num_samples]


def heard(maker: AudioPreprocessor, spectrograms: Any) -> Any:
    """Which frames come before the silence at the end, bool (batch, num_frames).

    The first frame counts always, so that no recording is empty.
    """
    sound = ops.any(spectrograms > maker.silence[None, None] + _HEARD, axis=2)
    following = ops.cumsum(ops.cast(ops.flip(sound, axis=1), "int32"), axis=1)
    first = np.arange(maker.num_frames)[None] == 0
    return ops.logical_or(ops.flip(following, axis=1) > 0, first)


@keras.saving.register_keras_serializable(package="smarttune")
class Masks(keras_layers.Layer):  # type: ignore[misc]
    """Blank out a run of bands and a run of frames of each spectrogram while training.

    SpecAugment without time warping (Park et al. 2019): the length of each run is drawn evenly
    from 0 to its limit, then its place. Blanks hold 0, the mean of normalized bands.

    Args:
        seed: Decides all masks.
        bands: Largest share of the bands that is blanked.
        frames: Largest share of the frames.
    """

    def __init__(
        self,
        seed: int,
        # The paper blanks up to 27 of 80 bands; its 100 frames are too many for short clips.
        bands: float = 0.33,
        frames: float = 0.2,  # ours: a fifth of a clip leaves enough of every word
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.seed, self.bands, self.frames = seed, bands, frames
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Spectrograms, (batch, frames, bands), of the same shape."""
        if not training:
            return x
        rows = self._kept(ops.shape(x)[0], x.shape[1], self.frames)
        columns = self._kept(ops.shape(x)[0], x.shape[2], self.bands)
        return x * ops.cast(rows[:, :, None] & columns[:, None, :], x.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"seed": self.seed, "bands": self.bands, "frames": self.frames}
        return {**super().get_config(), **own}

    def _kept(self, batch: Any, size: int, share: float) -> Any:
        """Bool (batch, size), false in one run of each row."""
        width = self._uniform(batch) * (share * size)
        start = self._uniform(batch) * (size - width)
        place = np.arange(size, dtype="float32")[None]
        return ops.logical_or(place < ops.floor(start), place >= ops.floor(start + width))

    def _uniform(self, batch: Any) -> Any:
        return keras.random.uniform((batch, 1), seed=self.generator)


def without_masks(core: keras.Model) -> keras.Model:
    """The same trained network without `Masks`, which a prediction does not need."""
    config = core.get_config()
    for entry in config["layers"]:
        if entry["class_name"] == Masks.__name__:
            plain = keras_layers.Identity(name=entry["name"])
            entry.update(keras.saving.serialize_keras_object(plain))
    copy = core.__class__.from_config(config)
    copy.set_weights(core.get_weights())
    return copy


def _row(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)[None, None]


def _samples(name: str, settings: Mapping[str, Value], rate: int) -> int:
    """Seconds as whole samples, at least two.

    Raises:
        SettingError: If it is shorter.
    """
    seconds = float(needed(settings, name))
    samples = round(seconds * rate)
    if samples < 2:  # noqa: PLR2004 -- one sample has no frequencies
        raise SettingError(
            name,
            received=f"{seconds:g} seconds, {samples} sample(s) at {rate:,} per second",
            expected="at least two samples",
            mend=f"Set {name} to a longer time, such as 0.02.",
        )
    return samples
