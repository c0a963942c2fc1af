"""Language models: stretches of text, vocabularies, networks, samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.data import Dataset, read
from smarttune.errors import DataError, SettingError
from smarttune.fingerprint import measure
from smarttune.models import TargetCodec, language
from smarttune.models.family import NetworkHyperModel, TrainingPlan
from smarttune.models.language import LanguagePreprocessor, of_any_length, sampled
from smarttune.models.modalities import modality, preprocessor_of
from smarttune.space import SearchSpace, Value
from smarttune.training.outputs import outputs_of

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
needs_text = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="text needs TensorFlow"
)

TEXT = "The cat sat; the dog ran.\nA cat ran to the dog, and sat!\n" * 80
LENGTH = 12
LANGUAGE = modality("language")
SETTINGS: dict[str, Value] = {
    "model.max_sequence_length": LENGTH,
    "model.vocabulary_size": 100,
    "model.family": "rnn",
    "model.embedding_dim": 8,
    "model.num_rnn_layers": 1,
    "model.rnn_units": 16,
    "model.rnn_cell": "gru",
    "model.output_bias": "log_priors",
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.02,
    "training.batch_size": 16,
}
LEVELS = {"character": "char_language_model", "word": "language_model"}


@pytest.fixture(autouse=True)
def _short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a few symbols, for each costs a call of the network."""
    monkeypatch.setattr(language, "SAMPLED", {"character": 20, "word": 10})


def corpus(folder: Path, text: str = TEXT) -> Dataset:
    """A text file, read."""
    path = folder / "corpus.txt"
    path.write_text(text)
    return read(path, task="text")


def fitted(
    data: Dataset, level: str, **settings: Value
) -> tuple[LanguagePreprocessor, TargetCodec, Any]:
    """Vocabulary, encoding and split."""
    known = {**SETTINGS, **{k.replace("__", "."): v for k, v in settings.items()}}
    found = measure(data, problem=LEVELS[level])
    parts = LANGUAGE.split(data, found, known, validation_fraction=0.2, test_fraction=0.1)
    preprocessor = LANGUAGE.fit(data, found, parts.train, known, ("rnn",))
    assert isinstance(preprocessor, LanguagePreprocessor)
    return preprocessor, LANGUAGE.codec(data, found, parts.train, known, None), parts


def built(preprocessor: LanguagePreprocessor, codec: TargetCodec, **values: Value) -> Any:
    """The network."""
    known = {**SETTINGS, **{k.replace("__", "."): v for k, v in values.items()}}
    hm = NetworkHyperModel(SearchSpace(dimensions=()), preprocessor, codec, TrainingPlan(100, 1))
    return hm.build_from(known)


@pytest.mark.parametrize("level", LEVELS)
def test_each_target_is_the_next_input(level: str, tmp_path: Path) -> None:
    """Stretches join to the text, and what is to be foreseen is the text one symbol later."""
    data = corpus(tmp_path)
    preprocessor, codec, parts = fitted(data, level)
    rows = parts.train[:5]

    x = preprocessor.inputs(data, rows)["tokens"]
    y = preprocessor.targets(data, rows, codec)

    np.testing.assert_array_equal(np.ravel(y)[:-1], np.ravel(x)[1:])
    told = preprocessor.text(np.ravel(x))
    plain = TEXT if level == "character" else "the cat sat the dog ran a cat ran to the dog and sat"
    assert told == plain[: len(told)] if level == "character" else told.startswith(plain)


def test_parts_follow_each_other_and_share_no_target(tmp_path: Path) -> None:
    """Training comes first, the test last, and together they are the text."""
    data = corpus(tmp_path)
    preprocessor, codec, parts = fitted(data, "character")

    joined = np.concatenate([parts.train, parts.validation, parts.test])
    count = np.ravel(preprocessor.targets(data, joined, codec)).size

    np.testing.assert_array_equal(joined, np.arange(len(joined)))
    assert count == (len(TEXT) - 1) // LENGTH * LENGTH


def test_vocabulary_comes_from_the_training_text_alone(tmp_path: Path) -> None:
    """A letter that first occurs in the test is an unknown one."""
    data = corpus(tmp_path, TEXT + "zzzz zebra zone\n")
    preprocessor, codec, parts = fitted(data, "character")

    last = preprocessor.targets(data, parts.test, codec)

    assert "z" not in preprocessor.symbols
    assert (np.asarray(last) == 0).sum() >= 4
    assert codec.class_counts[0] == 0
    assert sum(codec.class_counts) == codec.num_rows == len(parts.train) * LENGTH + 1


def test_rare_words_are_one_unknown_word(tmp_path: Path) -> None:
    """The most frequent words are kept, the rest is counted together."""
    preprocessor, codec, _ = fitted(corpus(tmp_path), "word", model__vocabulary_size=2)

    assert preprocessor.symbols[0] == "the"
    assert codec.num_outputs == 3
    assert codec.class_counts[0] > codec.class_counts[2]


@needs_text
@pytest.mark.parametrize("level", LEVELS)
def test_exported_model_foresees_raw_text(level: str, tmp_path: Path) -> None:
    """The saved model gives, from text of any length, what core and decoding give."""
    data = corpus(tmp_path)
    preprocessor, codec, _ = fitted(data, level)
    core = built(preprocessor, codec)
    texts = ["The cat sat", "a dog ran to THE xylophone, and", "T", TEXT[:200]]

    LANGUAGE.exported(core, preprocessor, codec).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    found = model.predict(np.array(texts, dtype=object), verbose=0)

    vocabulary = model.get_layer("symbols").get_vocabulary()[1:]
    assert vocabulary == list(codec.classes)
    free = of_any_length(core)
    for text, shares in zip(texts, found, strict=True):
        path = tmp_path / "one.txt"
        path.write_text(text)
        content: Any = read(path, task="text").content
        known = content.characters if level == "character" else content.words
        tokens = preprocessor.numbers(known)[known.codes][None]
        wanted = codec.probabilities(outputs_of(free, {"tokens": tokens})[:, -1])[0]
        np.testing.assert_allclose(shares, wanted, atol=1e-4)


def test_network_of_any_length_agrees_with_the_trained_one(tmp_path: Path) -> None:
    """Only the length of the input differs."""
    data = corpus(tmp_path)
    preprocessor, codec, parts = fitted(data, "character")
    core = built(preprocessor, codec, model__dropout=0.3, model__num_rnn_layers=2)
    x = preprocessor.inputs(data, parts.test)

    a, b = outputs_of(core, x), outputs_of(of_any_length(core), x)

    np.testing.assert_allclose(a, b, atol=1e-5)


def test_untrained_network_foresees_frequencies(tmp_path: Path) -> None:
    """With log-priors the start is no worse than counting symbols."""
    data = corpus(tmp_path)
    preprocessor, codec, parts = fitted(data, "character")
    y = np.asarray(preprocessor.targets(data, parts.train, codec))
    shares = codec.probabilities(
        outputs_of(built(preprocessor, codec), preprocessor.inputs(data, parts.train))
    )
    nats = -np.log(np.take_along_axis(shares, y[..., None].astype(int), axis=-1)).mean()
    priors = codec.priors()

    assert nats < -(priors * np.log(priors)).sum() + 0.2


def test_samples_depend_on_seed_and_temperature_only(tmp_path: Path) -> None:
    """The same seed writes the same text, and unknown symbols are never written."""
    data = corpus(tmp_path)
    preprocessor, codec, _ = fitted(data, "word", model__vocabulary_size=3)
    model = built(preprocessor, codec)
    prompt = np.array([1, 2])

    first, again = (sampled(model, preprocessor, prompt, 1.0, seed=4) for _ in range(2))

    assert first == again
    assert first != sampled(model, preprocessor, prompt, 1.0, seed=5)
    assert set(first.split()) <= set(preprocessor.symbols)
    cold = sampled(model, preprocessor, prompt, 1e-3, seed=1)
    assert cold == sampled(model, preprocessor, prompt, 1e-3, seed=2)


@pytest.mark.parametrize("size", [5, LENGTH + 1, 2 * LENGTH + 6])
def test_prediction_scores_every_symbol_and_goes_on(size: int, tmp_path: Path) -> None:
    """Short texts, whole stretches and remainders are all scored as the network foresees them."""
    preprocessor, codec, _ = fitted(corpus(tmp_path), "character")
    core = built(preprocessor, codec)
    path = tmp_path / "prompt.txt"
    path.write_text(TEXT[:size])
    prompt = read(path, task="text")

    found = LANGUAGE.predictions(prompt, preprocessor, codec, core).iloc[0]

    content: Any = prompt.content
    tokens = preprocessor.numbers(content.characters)[content.characters.codes]
    model, nats = of_any_length(core), 0.0
    for start in range(0, size - 1, LENGTH):
        end = min(start + LENGTH, size - 1)
        shares = codec.probabilities(outputs_of(model, {"tokens": tokens[None, start:end]}))[0]
        nats -= np.log(shares[np.arange(end - start), tokens[start + 1 : end + 1]]).sum()
    assert found["symbols"] == size - 1
    assert found["perplexity"] == pytest.approx(math.exp(nats / (size - 1)), rel=1e-4)
    assert found["bits_per_character"] == pytest.approx(math.log2(found["perplexity"]), rel=1e-6)
    assert len(found["continuation"]) == 20


def test_what_is_no_text_or_too_short_is_refused(tmp_path: Path) -> None:
    """One symbol foretells nothing, three stretches cannot be divided, tables are no text."""
    data = corpus(tmp_path)
    preprocessor, codec, _ = fitted(data, "word")
    core = built(preprocessor, codec)
    path = tmp_path / "prompt.txt"
    path.write_text("cat")
    with pytest.raises(DataError, match="a text of 1 word"):
        LANGUAGE.predictions(read(path, task="text"), preprocessor, codec, core)
    with pytest.raises(DataError, match="max_sequence_length"):
        fitted(data, "word", model__max_sequence_length=1000)
    with pytest.raises(DataError, match="no running text"):
        LANGUAGE.predictions(read({"a": [1, 2]}), preprocessor, codec, core)


def test_network_that_sees_the_future_is_refused(tmp_path: Path) -> None:
    """Reading in both directions would see what is to be foreseen; other families are unknown."""
    preprocessor, codec, _ = fitted(corpus(tmp_path), "word")
    with pytest.raises(SettingError, match="bidirectional"):
        built(preprocessor, codec, model__bidirectional=True)
    with pytest.raises(SettingError, match="model.family"):
        built(preprocessor, codec, model__family="mlp")


def test_preprocessing_survives_its_file(tmp_path: Path) -> None:
    """What a run keeps as JSON is the preprocessing itself."""
    preprocessor, _, _ = fitted(corpus(tmp_path), "character")

    assert preprocessor_of(preprocessor.model_dump(mode="json")) == preprocessor


@needs_text
@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_search_learns_more_than_frequencies(level: str, tmp_path: Path) -> None:
    """A small search on a repetitive text beats unigrams, shows samples, and continues a prompt."""
    import smarttune

    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    pins: dict[str, Value] = {k: v for k, v in SETTINGS.items() if k.startswith("model.")}

    run = smarttune.search(
        path, task="text", problem=LEVELS[level], trials=1, epochs=6, pinned=pins,
        run=tmp_path / "run",
    )  # fmt: skip
    report = run.report()
    baselines = {b["name"]: b["metrics"] for b in report["baselines"]}
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("the cat sat")
    found = run.predict(prompt)

    assert report["test"]["best"]["crossentropy"] < baselines["unigrams"]["crossentropy"] - 0.1
    assert ("compression" in baselines) == (level == "character")
    assert any("Sampled text" in title for title in report["extras"])
    assert len(found) == 1
    assert found["continuation"][0]
    assert report["export"]["model"] == "model.keras"
