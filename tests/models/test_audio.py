"""Recordings: spectrograms, three kinds of networks, and models of raw samples."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.data import Dataset, read
from smarttune.data.audio import AudioArrays, joined
from smarttune.data.labelling import labelled
from smarttune.errors import DataError, SettingError
from smarttune.execution.fit import TrainingData, fit_arrays
from smarttune.facts import Facts
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan, spectrogram
from smarttune.models.audio import FAMILIES, Audio
from smarttune.models.modalities import preprocessor_of
from smarttune.models.spectrogram import AudioPreprocessor, Masks, without_masks
from smarttune.recommendation import recommend, searched_families
from smarttune.space import SearchSpace, Value

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RATE = 4000
SETTINGS: dict[str, Value] = {
    "model.frame_seconds": 0.016,
    "model.hop_seconds": 0.008,
    "model.num_mel_bands": 12,
    "model.max_sequence_length": 20,
}
SHARED: dict[str, Value] = {
    **SETTINGS,
    "model.activation": "relu",
    "model.dropout": 0.2,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 16,
    "training.augmentation": "masks",
}
OF_FAMILY: dict[str, dict[str, Value]] = {
    "cnn": {
        "model.num_stages": 2,
        "model.filters": 4,
        "model.kernel_size": 3,
        "model.convolutions_per_stage": 1,
        "model.skip_connections": False,
        "model.downsampling": "pooled",
        "model.pooling_head": "flatten_dense",
        "model.units": 8,
        "model.normalization": "batch",
    },
    "rnn": {"model.rnn_cell": "gru", "model.num_rnn_layers": 1, "model.rnn_units": 8},
    "tcn": {
        "model.num_stages": 2,
        "model.filters": 4,
        "model.kernel_size": 3,
        "model.convolutions_per_stage": 2,
        "model.dilation_base": 2,
        "model.normalization": "layer",
    },
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def clips(count: int = 48, rate: int = RATE) -> Dataset:
    """High and low tones in noise, from 0.05 to 0.25 seconds long."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, count)
    lengths = rng.integers(rate // 20, rate // 4, count)
    parts = []
    for label, length in zip(labels, lengths, strict=True):
        hertz = (300, 900)[label] * rng.uniform(0.9, 1.1)
        wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(length) / rate)
        parts.append(np.rint(32767 * (wave + 0.02 * rng.normal(size=length))).astype(np.int16))
    content, _ = joined(np.concatenate(parts), lengths, rate, where="X")
    columns = pd.DataFrame({"y": np.array(["low", "high"])[labels]})
    return labelled(content, columns, ["y"], where="X", name="X")


@cache
def fitted() -> AudioPreprocessor:
    """Preprocessing learnt from the first 30 recordings."""
    content = clips().content
    assert isinstance(content, AudioArrays)
    return AudioPreprocessor.fit(content, np.arange(30), SETTINGS)


def codec_of(dataset: Dataset) -> TargetCodec:
    """The encoding of the labels of a data set."""
    assert dataset.target is not None
    return TargetCodec.fit(dataset.target, "binary", ("high", "low"), {})


def network(family: str, *, seed: int = 0, **more: Value) -> keras.Model:
    """An untrained network, its output layer apart from zero."""
    values = {**SHARED, **OF_FAMILY[family], "model.family": family, **more}
    hypermodel = NetworkHyperModel(
        SearchSpace(dimensions=()), fitted(), codec_of(clips()), TrainingPlan(48, 5, seed=seed)
    )
    return hypermodel.build_from(values)


def raw(rows: np.ndarray) -> list[np.ndarray]:
    """Recordings as floats between -1 and 1."""
    content = clips().content
    assert content is not None
    return [wave.astype(np.float32) / 32768 for wave in content.take(rows)]


@each_family
def test_exported_model_of_raw_samples_predicts_the_same(family: str, tmp_path: Path) -> None:
    """Loaded by Keras, clips alone, in a padded batch or cut give what the network gives."""
    core = network(family)
    wanted = Audio().predictions(clips(), fitted(), codec_of(clips()), core)
    path = tmp_path / "model.keras"
    Audio().exported(core, fitted(), codec_of(clips())).save(path)

    model = keras.saving.load_model(path)

    waves = raw(np.arange(48))
    longest = max(map(len, waves))
    batch = np.stack([np.pad(w, (0, longest - len(w))) for w in waves])
    together = model.predict(batch, verbose=0)[:, 0]
    alone = [model.predict(w[None], verbose=0)[0, 0] for w in waves[:3]]
    np.testing.assert_allclose(together, wanted["probability_low"], atol=1e-4)
    np.testing.assert_allclose(alone, wanted["probability_low"][:3], atol=1e-4)


def test_exported_model_holds_layers_of_keras_only() -> None:
    """Masks are left behind, so that the file loads where SmartTune is not installed."""
    core = network("cnn")
    assert any(isinstance(layer, Masks) for layer in core.layers)

    model = Audio().exported(core, fitted(), codec_of(clips()))

    todo, homes = list(model.layers), set()
    while todo:
        layer = todo.pop()
        homes.add(type(layer).__module__.split(".")[0])
        todo += getattr(layer, "layers", [])
    assert homes == {"keras"}


def test_bands_are_standardized_over_the_sound_of_training_rows() -> None:
    """Training frames with sound have mean 0 and deviation 1 in each band; other rows no say."""
    content = clips().content
    assert isinstance(content, AudioArrays)
    x = fitted().inputs(clips(), np.arange(30))["spectrogram"]
    sound = x[(x > fitted().silence + 1e-3).any(axis=2)]

    louder = AudioArrays(content.samples.copy(), content.starts, content.counts, RATE)
    louder.samples[content.starts[30] :] //= 3
    again = AudioPreprocessor.fit(louder, np.arange(30), SETTINGS)

    np.testing.assert_allclose(sound.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(sound.std(axis=0), 1.0, atol=1e-3)
    assert again == fitted()


def test_spectrogram_shows_the_pitch() -> None:
    """The loudest band of a high tone lies above that of a low one, in every frame of sound."""
    rows = np.arange(48)
    x = fitted().inputs(clips(), rows)["spectrogram"] * np.array(fitted().scale)
    loudest = (x + np.array(fitted().center))[:, 2:4].argmax(axis=2)
    assert clips().target is not None
    high = (clips().target == "high").to_numpy()

    assert loudest[high].min() > loudest[~high].max()


def test_preprocessing_survives_its_json() -> None:
    """What a run keeps gives the same arrays."""
    again = preprocessor_of(fitted().model_dump(mode="json"))

    assert again == fitted()


def test_spectrograms_made_on_demand_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets beyond the memory limit are transformed when indexed, to equal arrays."""
    rows = np.array([7, 1, 30, 44])
    kept = fitted().inputs(clips(), rows)["spectrogram"]
    monkeypatch.setattr(spectrogram, "LARGEST_IN_MEMORY", 0)

    lazy = fitted().inputs(clips(), rows)["spectrogram"]

    assert not isinstance(lazy, np.ndarray)
    assert (len(lazy), lazy.shape) == (4, kept.shape)
    np.testing.assert_array_equal(lazy[np.array([2, 0])], kept[[2, 0]])


@pytest.mark.parametrize("family", ["rnn", "tcn"])
def test_silence_at_the_end_has_no_influence(family: str) -> None:
    """What stands in the padding does not change a recurrent or dilated network's output."""
    core = network(family)
    x = np.tile(fitted().silence, (1, 20, 1)).astype(np.float32)
    x[0, :8] = np.random.default_rng(0).normal(size=(8, 12))
    shorter = keras.Model(core.input, core.output)
    moved = x.copy()
    moved[0, 8:] -= 5.0  # deeper than silence is silence still

    one, other = (np.asarray(shorter({"spectrogram": v})) for v in (x, moved))

    np.testing.assert_allclose(one, other, atol=1e-6)


def test_masks_blank_one_run_of_bands_and_frames_in_training_only() -> None:
    """Blanks are runs within their limits, drawn anew for each sample, and never in prediction."""
    layer = Masks(1, bands=0.5, frames=0.25)
    ones = np.ones((200, 16, 12), np.float32)

    found = np.asarray(layer(ones, training=True)) > 0

    np.testing.assert_array_equal(np.asarray(layer(ones, training=False)), ones)
    for axis, size, share in ((2, 16, 0.25), (1, 12, 0.5)):
        kept = found.any(axis=axis)
        blank = ~kept
        edges = np.diff(np.pad(blank.astype(int), ((0, 0), (1, 1))), axis=1)
        assert (np.maximum(edges, 0).sum(axis=1) <= 1).all(), "more than one run"
        widths = blank.sum(axis=1)
        assert widths.max() <= np.ceil(share * size)
        assert widths.max() >= 0.7 * share * size
        assert len(np.unique(widths)) > 2


def test_network_without_masks_predicts_the_same() -> None:
    """Weights stay; only the layer goes."""
    core = network("cnn")
    x = fitted().inputs(clips(), np.arange(4))

    plain = without_masks(core)

    assert not any(isinstance(layer, Masks) for layer in plain.layers)
    np.testing.assert_allclose(plain.predict(x, verbose=0), core.predict(x, verbose=0), atol=1e-6)


@each_family
def test_seed_decides_the_network(family: str) -> None:
    """Equal seeds give equal weights, another seed others."""
    first, same, other = (network(family, seed=s).get_weights() for s in (1, 1, 2))

    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("training.augmentation", "shift"), ("model.pooling_head", "average")]
)
def test_value_that_means_nothing_is_named(name: str, value: str) -> None:
    """A setting of another kind of data is refused with its name."""
    with pytest.raises(SettingError, match=name):
        network("cnn", **{name: value})


@pytest.mark.parametrize("name", SETTINGS)
def test_spectrogram_without_a_setting_is_refused(name: str) -> None:
    """The error names what no rule gave."""
    content = clips().content
    assert isinstance(content, AudioArrays)
    with pytest.raises(SettingError, match=name):
        AudioPreprocessor.fit(
            content, np.arange(30), {k: v for k, v in SETTINGS.items() if k != name}
        )


def test_frames_without_samples_are_refused() -> None:
    """A frame shorter than two samples has no frequencies."""
    content = clips().content
    assert isinstance(content, AudioArrays)
    with pytest.raises(SettingError, match=r"model\.hop_seconds"):
        AudioPreprocessor.fit(content, np.arange(30), {**SETTINGS, "model.hop_seconds": 1e-4})


def test_recordings_at_another_rate_are_converted_for_predictions() -> None:
    """New files at twice the rate are heard like those of the training."""
    slow = fitted().waves(clips().content, np.arange(3))  # type: ignore[arg-type]
    fast = fitted().waves(clips(48, 2 * RATE).content, np.arange(3))  # type: ignore[arg-type]

    assert fast.shape == slow.shape
    content = clips(48, 2 * RATE).content
    assert isinstance(content, AudioArrays)
    heard = (np.abs(fast) > 0).sum(axis=1)
    wanted = np.minimum((content.counts[:3] + 1) // 2, fitted().num_samples)
    np.testing.assert_allclose(heard, wanted, rtol=0.1)


def test_other_data_are_refused() -> None:
    """A table is no set of recordings, and the error says so."""
    table = read(pd.DataFrame({"x": np.arange(20.0)}), np.arange(20) % 2)

    with pytest.raises(DataError, match="tabular"):
        fitted().inputs(table, np.arange(2))


@each_family
def test_rules_give_every_setting_of_every_family(family: str) -> None:
    """Measured recordings and a budget are enough to build each network that may be chosen."""
    measured = measure(clips()).facts()
    declared = Facts.of({"budget.num_trials": 40, "hardware.device": "cpu"})
    settings = recommend(measured | declared).settings
    assert set(searched_families(settings)) == set(FAMILIES)
    values = {name: s.value for name, s in settings.items()}
    content = clips().content
    assert isinstance(content, AudioArrays)
    made = AudioPreprocessor.fit(content, np.arange(30), values)
    hypermodel = NetworkHyperModel(
        SearchSpace(dimensions=()), made, codec_of(clips()), TrainingPlan(48, 5)
    )

    model = hypermodel.build_from({**values, "model.family": family})

    assert model.output_shape == (None, 1)


def test_little_budget_keeps_one_family() -> None:
    """Few trials are not divided among kinds of networks."""
    facts = Facts.of({"data.task": "audio", "budget.num_trials": 5})

    settings = recommend(facts).settings

    assert settings["model.family"].value == "cnn"
    assert searched_families(settings) == ()


@pytest.mark.slow
@each_family
def test_network_learns_to_tell_tones_apart(family: str) -> None:
    """Some epochs on high and low tones leave few errors on other tones."""
    train, test = np.arange(36), np.arange(36, 48)
    codec = codec_of(clips())
    x: dict[str, Any] = fitted().inputs(clips(), train)
    y = fitted().targets(clips(), train, codec)
    held, truth = fitted().inputs(clips(), test), fitted().targets(clips(), test, codec)
    model = network(family, **{"training.augmentation": "none", "model.dropout": 0.0})

    fit_arrays(model, TrainingData(x, y, held, truth), batch_size=12, seed=0, epochs=range(25))

    right = (model.predict(held, verbose=0) > 0) == (truth > 0.5)
    assert right.mean() > 0.9
