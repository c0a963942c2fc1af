"""Pretrained text encoders: presets on disk, their errors, and networks made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.data import Dataset
from smarttune.data.texts import TextContent
from smarttune.errors import MissingExtraError, OptionError, SettingError
from smarttune.facts import Facts
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan
from smarttune.models import encoder as encoders
from smarttune.models.encoder import TokenReader
from smarttune.models.modalities import preprocessor_of
from smarttune.models.text import Text, TextPreprocessor
from smarttune.recommendation import recommend
from smarttune.space import SearchSpace, Value

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # What KerasHub and TensorFlow Text warn of when they are imported is theirs to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="text needs TensorFlow"),
]

WORDS = ["good", "bad", "film", "the", "##s", "was", "!", ","]
ODD = ["", "Good films!", "bad, bad " * 30, "日本 film", "tab\tthe\nline", "[PAD] good", "?"]
VALUES: dict[str, Value] = {
    "model.family": "pretrained",
    "model.max_sequence_length": 12,
    "model.dropout": 0.1,
    "model.loss": "binary_crossentropy",
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 8,
    "training.frozen_fraction": 0.0,
    "training.unfrozen_factor": 1.0,
}


@pytest.fixture
def bert(tmp_path: Path) -> str:
    """A tiny encoder that marks whole texts, with random weights, as a preset on disk."""
    hub = pytest.importorskip("keras_hub")
    folder = str(tmp_path / "bert")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    hub.models.BertTokenizer([*marks, *WORDS], lowercase=True).save_to_preset(folder)
    keras.utils.set_random_seed(3)
    hub.models.BertBackbone(
        vocabulary_size=len(marks) + len(WORDS),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=10,
    ).save_to_preset(folder)
    return folder


@pytest.fixture
def roberta(tmp_path: Path) -> str:
    """A tiny encoder that gives one vector per piece, with a vocabulary of byte pairs."""
    hub = pytest.importorskip("keras_hub")
    folder = str(tmp_path / "roberta")
    # A vocabulary of byte pairs begins with all bytes, each as a character that can be seen.
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(i) for i in [*seen, *range(256, 512 - len(seen))]]
    letters += ["go", "od", "good", "Ġf", "Ġfi", "lm", "Ġfilm"]
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pairs = ["g o", "o d", "go od", "Ġ f", "Ġf i", "l m", "Ġfi lm"]
    known = {piece: i for i, piece in enumerate([*marks, *letters])}
    hub.models.RobertaTokenizer(vocabulary=known, merges=pairs).save_to_preset(folder)
    keras.utils.set_random_seed(3)
    hub.models.RobertaBackbone(
        vocabulary_size=len(known),
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=16,
    ).save_to_preset(folder)
    return folder


def reviews(folder: str, texts: list[str] | None = None) -> Dataset:
    """Texts in which `good` or `bad` tells the class, and the weights to read them with."""
    labels = np.arange(48) % 2
    made = [
        f"the film{'s' * (i % 3 == 0)} was {'good' if y else 'bad'}" for i, y in enumerate(labels)
    ]
    frame = pd.DataFrame({"text": texts or made})
    target = None if texts else pd.Series(np.where(labels == 1, "pos", "neg"), name="label")
    return Dataset(
        "reviews",
        frame,
        target,
        len(frame),
        task="text",
        content=TextContent(frame),
        read_options={"weights": folder},
    )


def fitted(folder: str, **changes: Value) -> tuple[Dataset, TextPreprocessor, TargetCodec]:
    """Data, preprocessing and target encoding for an encoder on disk."""
    data, rows = reviews(folder), np.arange(32)
    values = {**VALUES, **{f"model.{n}": v for n, v in changes.items()}}
    found = measure(data)
    preprocessor = Text().fit(data, found, rows, values, ("pretrained",))
    return data, preprocessor, Text().codec(data, found, rows, values, None)


def network(preprocessor: TextPreprocessor, codec: TargetCodec, seed: int = 0) -> keras.Model:
    """The compiled network on top of the encoder."""
    plan = TrainingPlan(num_samples=32, max_epochs=2, seed=seed)
    source = SearchSpace(dimensions=())
    return NetworkHyperModel(source, preprocessor, codec, plan).build_from(VALUES)


@pytest.mark.parametrize("written", [None, "{", "[]", '{"model_type": "bert", "config": {}}'])
def test_weights_must_be_a_preset_on_disk(tmp_path: Path, written: str | None) -> None:
    """What is no folder that KerasHub wrote is refused, and how to make one is said."""
    if written is not None:
        (tmp_path / "config.json").write_text(written)
    folder = tmp_path if written else tmp_path / "bert_base_en"

    with pytest.raises(OptionError, match="--weights.*save_to_preset.*nothing is downloaded"):
        TokenReader.of_preset(str(folder), length=12)


def test_weights_must_be_named() -> None:
    """An encoder without named weights is refused."""
    data = replace(reviews("unused"), read_options={})

    with pytest.raises(OptionError, match="no weights were named"):
        Text().fit(data, measure(data), np.arange(32), VALUES, ("pretrained",))


def test_missing_kerashub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without KerasHub the extra to install is told."""
    config = {"registered_name": "keras_hub>BertBackbone", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"`keras_hub`.*smarttune\[hub\]"):
        TokenReader.of_preset(str(tmp_path), length=12)


def test_a_text_needs_three_pieces(tmp_path: Path) -> None:
    """A length that holds nothing but the marks of a text is refused."""
    with pytest.raises(SettingError, match="3 or more"):
        TokenReader.of_preset(str(tmp_path), length=2)


@pytest.mark.parametrize(
    ("words", "pieces"), [(10, 15), (1, 8), (5000, 512)], ids=["usual", "short", "long"]
)
def test_rules_tell_how_much_an_encoder_reads(words: int, pieces: int) -> None:
    """The length of texts in words gives their length in pieces, within bounds."""
    facts: dict[str, Value] = {
        "data.task": "text",
        "model.problem": "binary",
        "data.num_samples": 5000,
        "data.words_per_sample": 20.0,
        "data.sequence_length": words,
        "data.pretrained_available": True,
        "model.fine_tuning": True,
    }
    made = recommend(Facts.of(facts))

    assert made.value("model.family") == "pretrained"
    assert made.value("model.max_sequence_length") == pieces
    assert 0 < float(made.value("model.dropout")) < 0.5


def test_a_preset_without_a_tokenizer_is_refused(bert: str) -> None:
    """A folder with a network alone is refused before a search begins."""
    (Path(bert) / "tokenizer.json").unlink()

    with pytest.raises(OptionError, match=r"KerasHub cannot read it \(.*tokenizer"):
        TokenReader.of_preset(bert, length=12)


def test_a_preset_that_has_gone_is_told(bert: str) -> None:
    """A preset that was moved after preprocessing was kept is named in the error."""
    reader = TokenReader.of_preset(bert, length=8)
    Path(bert).rename(bert + "_moved")

    with pytest.raises(OptionError, match="no folder with a readable config.json"):
        TokenReader(**reader.model_dump()).tokens(["good"])


def test_texts_become_pieces(bert: str) -> None:
    """Pieces stand between two marks, are cut to what the encoder takes, and are padded."""
    reader = TokenReader.of_preset(bert, length=99)
    places = {word: i for i, word in enumerate(WORDS, 5)}
    pieces = ["the", "film", "##s", "was", "good", "!"]

    found = reader.tokens(iter(["The films was GOOD!", "bad " * 300, ""]))

    assert reader.length == 10
    assert found.dtype == np.int32
    assert found[0].tolist() == [2, *(places[p] for p in pieces), 3, 0, 0]
    assert found[1].tolist() == [2, *[places["bad"]] * 8, 3]
    assert found[2].tolist() == [2, 3, *[0] * 8]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_exported_model_takes_raw_texts(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The saved model gives, for odd texts, what preprocessing, network and decoding give."""
    folder = request.getfixturevalue(kind)
    _, preprocessor, codec = fitted(folder)
    model = network(preprocessor, codec)
    data = reviews(folder, ODD)

    path = tmp_path / "model.keras"
    Text().exported(model, preprocessor, codec).save(path)
    Path(folder).rename(folder + "_moved")  # the saved model needs it no more
    whole = keras.saving.load_model(path)

    expected = Text().predictions(data, preprocessor, codec, model)
    raw = {"text": keras.ops.convert_to_tensor(np.array(ODD, dtype=object))}
    given = np.asarray(whole.predict(raw, verbose=0))
    assert np.allclose(given[:, 0], expected["probability_pos"], atol=1e-4)
    assert len(np.unique(given.round(5))) > 3


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_networks_read_what_the_encoder_gives(kind: str, request: pytest.FixtureRequest) -> None:
    """The output sees the encoder's own vector of a text, or the mean over its pieces."""
    hub = pytest.importorskip("keras_hub")
    folder = request.getfixturevalue(kind)
    _, preprocessor, codec = fitted(folder)
    model = network(preprocessor, codec)
    texts = ["the film was good", "bad"]
    assert preprocessor.tokens is not None

    seen = keras.Model(model.inputs, model.get_layer("output").input)
    found = np.asarray(seen({"tokens": preprocessor.tokens.tokens(texts)}))

    length = preprocessor.tokens.length
    reader = hub.models.TextClassifierPreprocessor.from_preset(folder, sequence_length=length)
    backbone = hub.models.Backbone.from_preset(folder)
    if kind == "bert":
        expected = np.asarray(backbone(reader(texts))["pooled_output"])
    else:  # texts of different lengths, each without padding
        shorts = [reader([t]) for t in texts]
        ends = [int(np.sum(s["padding_mask"])) for s in shorts]
        cut = [{n: v[:, :e] for n, v in s.items()} for s, e in zip(shorts, ends, strict=True)]
        whole = [np.asarray(backbone({n: c[n] for n in backbone.input})) for c in cut]
        expected = np.concatenate([w.mean(axis=1) for w in whole])
    assert np.allclose(found, expected, atol=1e-4)


def test_preprocessing_survives_json(bert: str) -> None:
    """Preprocessing kept as JSON reads texts alike."""
    data, preprocessor, _ = fitted(bert)
    again: Any = preprocessor_of(json.loads(preprocessor.model_dump_json()))

    assert again == preprocessor
    rows = np.arange(5)
    one, other = preprocessor.inputs(data, rows), again.inputs(data, rows)
    assert set(one) == {"tokens"}
    assert np.array_equal(one["tokens"], other["tokens"])


def test_the_seed_decides_the_network(bert: str) -> None:
    """The same seed gives the same head and the same dropout, another seed others."""
    _, preprocessor, codec = fitted(bert)
    assert preprocessor.tokens is not None
    x = {"tokens": preprocessor.tokens.tokens(["the film was good"] * 2)}

    one, same, other = (
        np.asarray(network(preprocessor, codec, seed=s)(x, training=True)) for s in (1, 1, 2)
    )

    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.isclose(one[0], one[1])


@pytest.mark.slow
def test_the_encoder_learns(bert: str) -> None:
    """Training moves the encoder's own weights, and a telling word is found."""
    data, preprocessor, codec = fitted(bert)
    model = network(preprocessor, codec)
    before = model.get_layer("backbone").get_weights()
    rows = np.arange(32)
    x, y = preprocessor.inputs(data, rows), preprocessor.targets(data, rows, codec)

    model.fit(x, y, batch_size=8, epochs=8, verbose=0, shuffle=False)

    moved = [
        not np.allclose(a, b)
        for a, b in zip(before, model.get_layer("backbone").get_weights(), strict=True)
    ]
    assert np.mean(moved) > 0.5
    found = Text().predictions(data, preprocessor, codec, model)
    expected = np.asarray(data.target == "pos", float)
    assert np.mean((found["probability_pos"] > 0.5) == expected) > 0.9
