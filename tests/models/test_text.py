"""Texts: preprocessing, four kinds of networks, and models of raw strings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data import Dataset, read
from smarttune.data.texts import TextContent, TextFiles
from smarttune.data.words import runs, words
from smarttune.errors import DataError, SettingError
from smarttune.facts import Facts
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan
from smarttune.models.modalities import preprocessor_of
from smarttune.models.ngrams import NgramVocabulary, SparseRows
from smarttune.models.text import Text, TextPreprocessor
from smarttune.models.word_sequences import WordVocabulary
from smarttune.recommendation import recommend, searched_families
from smarttune.space import SearchSpace, Value

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="text needs TensorFlow"),
]

SHARED: dict[str, Value] = {
    "model.vocabulary_size": 40,
    "model.ngram_size": 2,
    "model.max_sequence_length": 8,
    "model.embedding_dim": 8,
    "model.activation": "gelu",
    "model.dropout": 0.2,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 16,
}
OF_FAMILY: dict[str, dict[str, Value]] = {
    "ngram_mlp": {"model.num_layers": 1, "model.units": 8},
    "sepcnn": {"model.num_stages": 3, "model.filters": 4, "model.kernel_size": 3},
    "rnn": {"model.rnn_cell": "gru", "model.num_rnn_layers": 1, "model.rnn_units": 8},
    "transformer": {"model.num_layers": 2, "model.num_heads": 2, "model.units": 16},
}
# A pretrained encoder has tests of its own.
FAMILIES = tuple(OF_FAMILY)
each_family = pytest.mark.parametrize("family", FAMILIES)

# What a model of raw strings must bear: nothing, other scripts, odd blanks, no known word.
ODD = [
    "",
    "   ",
    "?!...",
    "GOOD film, truly good!",
    "a-b don't",
    "Ünïcode 日本語 \U0001f600 good",
    "no\u00a0break good",
    "tab\tand\nline\r\nbad  film",
    "zzz qqq",
    "bad " * 500,
    "good\u2028bad film\x0bgood",
]


def reviews(count: int = 60, seed: int = 0) -> Dataset:
    """Short texts in which `good` or `bad` tells the class."""
    rng = np.random.default_rng(seed)
    fill = ["film", "plot", "the", "a", "was", "actor", "very", "日本", "ünd"]
    labels = rng.integers(0, 2, count)
    texts = [
        " ".join([*rng.choice(fill, rng.integers(1, 9)), "good" if y else "bad", "film"])
        for y in labels
    ]
    frame = pd.DataFrame({"text": texts})
    target = pd.Series(np.where(labels == 1, "pos", "neg"), name="label")
    return Dataset("reviews", frame, target, count, task="text", content=TextContent(frame))


def fitted(
    families: tuple[str, ...] = FAMILIES, rows: np.ndarray | None = None, **changes: Value
) -> tuple[Dataset, TextPreprocessor, TargetCodec]:
    """Data, preprocessing and target encoding for some families."""
    data = reviews()
    chosen = np.arange(40) if rows is None else rows
    found = measure(data)
    values = {**SHARED, **{f"model.{n}": v for n, v in changes.items()}}
    preprocessor = Text().fit(data, found, chosen, values, families)
    return data, preprocessor, Text().codec(data, found, chosen, values, None)


def network(
    family: str, preprocessor: TextPreprocessor, codec: TargetCodec, *, seed: int = 0, **more: Value
) -> keras.Model:
    """The compiled network of a family."""
    values = {**SHARED, **OF_FAMILY[family], "model.family": family}
    values |= {f"model.{n}": v for n, v in more.items()}
    plan = TrainingPlan(num_samples=40, max_epochs=2, seed=seed)
    return NetworkHyperModel(SearchSpace(dimensions=()), preprocessor, codec, plan).build_from(
        values
    )


def content_of(texts: list[str]) -> Dataset:
    """Texts without a target."""
    frame = pd.DataFrame({"text": texts})
    return Dataset("new", frame, None, len(texts), task="text", content=TextContent(frame))


def outputs(model: keras.Model, x: dict[str, Any]) -> np.ndarray:
    """What a network gives for all of its inputs at once."""
    rows = np.arange(len(next(iter(x.values()))))
    return np.asarray(model.predict({n: v[rows] for n, v in x.items()}, verbose=0))


@st.composite
def odd_texts(draw: st.DrawFn) -> list[str]:
    """Texts of known words, punctuation, odd blanks and any other characters."""
    piece = st.sampled_from(
        ["good", "BAD film", "the,", " ", "\u00a0", "\x0b", "\x1c", "-", "\x00"]
    )
    some = st.one_of(piece, st.text(max_size=4))
    return draw(st.lists(st.lists(some, max_size=12).map("".join), min_size=1, max_size=6))


@cache
def _both() -> tuple[NgramVocabulary, WordVocabulary, keras.Model]:
    """Two vocabularies, and both of them as one Keras model of raw strings."""
    learnt = [*ODD, "good film", "BAD film", "the good film"]
    ngrams = NgramVocabulary.fit(learnt, None, longest=2, most=30)
    sequence = WordVocabulary.fit(learnt, most=30, length=7)
    text = keras.Input((1,), dtype="string")
    return (
        ngrams,
        sequence,
        keras.Model(text, [sequence.looked_up(text, "words"), ngrams.weighed(text, "ngrams")]),
    )


@given(odd_texts())
@settings(max_examples=60, deadline=None)
def test_keras_sees_the_same_words(texts: list[str]) -> None:
    """Whatever the text, strings inside Keras become the rows that Python makes of them."""
    ngrams, sequence, model = _both()
    clean = [t.encode("utf-8", "ignore").decode() for t in texts]
    raw = keras.ops.convert_to_tensor(np.array(clean, dtype=object).reshape(-1, 1))

    indices, weighed = map(np.asarray, model(raw))

    assert np.array_equal(indices, sequence.indices(texts))
    assert np.allclose(weighed, ngrams.rows(texts).matrix.toarray(), atol=1e-6)


def test_words_and_runs_are_told_apart() -> None:
    """Case and punctuation go, and runs of two words stand beside the single ones."""
    found = words("Don't STOP, now")

    assert found == [b"dont", b"stop", b"now"]
    assert runs(found, 2) == [b"dont", b"stop", b"now", b"dont stop", b"stop now"]


def test_rows_are_those_of_scikit_learn() -> None:
    """With all terms kept, the rows are those of `TfidfVectorizer`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["a b b c", "b c", "a c c", "b a", "c"] * 2
    reference = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\S+")
    expected = reference.fit_transform(texts).toarray()

    fitted = NgramVocabulary.fit(texts, None, longest=2, most=100)

    assert list(fitted.terms) == reference.get_feature_names_out().tolist()
    assert np.allclose(fitted.rows(texts).matrix.toarray(), expected, atol=1e-6)


@pytest.mark.parametrize("labels", ["classes", "amounts", "labels"])
def test_kept_terms_tell_the_labels_apart(labels: str) -> None:
    """Of many terms the few that go with the labels are kept."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 80)
    noise = [f"w{i}" for i in range(30)]
    texts = [" ".join([*rng.choice(noise, 6), "yes" if y else "no"]) for y in classes]
    target = {"classes": classes, "amounts": classes * 5.0, "labels": np.eye(2)[classes]}[labels]

    fitted = NgramVocabulary.fit(texts, target, longest=1, most=2, numeric=labels == "amounts")

    assert set(fitted.terms) == {"yes", "no"}


def test_terms_of_one_text_are_not_counted() -> None:
    """A term needs two texts, unless none has them."""
    assert NgramVocabulary.fit(["a b", "a c c"], None, longest=1, most=9).terms == ("a",)
    assert NgramVocabulary.fit(["b", "c"], None, longest=1, most=9).terms == ("b", "c")


def test_the_most_frequent_words_come_first() -> None:
    """Words are ranked by count, cut at the size asked for, and those met once are unknown."""
    fitted = WordVocabulary.fit(["b a a", "a b c d d"], most=2, length=4)

    assert fitted.words == ("a", "b")
    assert fitted.indices(["a d b", "c", "a a a a b"]).tolist() == [
        [2, 1, 3, 0],
        [1, 0, 0, 0],
        [2, 2, 2, 2],
    ]


def test_only_training_rows_are_read() -> None:
    """A word of other rows is unknown, though it stands in many of them."""
    data = reviews()
    assert isinstance(data.content, TextContent)
    data.content.columns.loc[40:, "text"] += " leaked leaked"

    preprocessor = Text().fit(data, measure(data), np.arange(40), SHARED, FAMILIES)

    assert preprocessor.ngrams is not None
    assert preprocessor.words is not None
    assert not any("leaked" in t for t in (*preprocessor.ngrams.terms, *preprocessor.words.words))
    last = preprocessor.inputs(content_of(["leaked"]), np.arange(1))
    assert last["words"].tolist() == [[1] + [0] * 7]
    assert last["ngrams"].matrix.nnz == 0


def test_preprocessing_survives_json() -> None:
    """What a run keeps as JSON makes the same arrays."""
    data, preprocessor, _ = fitted()

    copy = preprocessor_of(preprocessor.model_dump(mode="json"))

    assert copy == preprocessor
    one, other = (p.inputs(data, np.arange(50, 60)) for p in (preprocessor, copy))
    assert np.array_equal(one["words"], other["words"])
    assert (one["ngrams"].matrix != other["ngrams"].matrix).nnz == 0


@pytest.mark.parametrize(
    ("families", "names"),
    [
        (("ngram_mlp",), {"ngrams"}),
        (("rnn", "sepcnn"), {"words"}),
        (FAMILIES, {"ngrams", "words"}),
    ],
)
def test_only_what_families_read_is_prepared(families: tuple[str, ...], names: set[str]) -> None:
    """A search over one kind of network makes no arrays for another."""
    data, preprocessor, _ = fitted(families)

    assert preprocessor.inputs(data, np.arange(3)).keys() == names


def test_sparse_rows_are_batches_of_dense_ones() -> None:
    """A batch of sparse rows holds what the dense rows hold, in the order asked for."""
    dense = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0]], np.float32)
    rows = SparseRows(scipy.sparse.csr_array(dense))

    batch = keras.ops.convert_to_numpy(rows[np.array([2, 1, 1])])

    assert (len(rows), rows.shape) == (3, (3, 3))
    assert np.array_equal(batch, dense[[2, 1, 1]])


@each_family
def test_exported_model_takes_raw_texts(family: str, tmp_path: Path) -> None:
    """The saved model gives, for the oddest texts, what preprocessing and network give."""
    _, preprocessor, codec = fitted()
    model = network(family, preprocessor, codec)
    data = content_of(ODD)

    path = tmp_path / "model.keras"
    Text().exported(model, preprocessor, codec).save(path)
    whole = keras.saving.load_model(path)

    expected = Text().predictions(data, preprocessor, codec, model)
    raw = {"text": keras.ops.convert_to_tensor(np.array(ODD, dtype=object))}
    given = np.asarray(whole.predict(raw, verbose=0))
    probability = expected[[c for c in expected if c.endswith("pos")][-1]].to_numpy()
    assert np.isfinite(given).all()
    assert np.allclose(given[:, 0], probability, atol=1e-4)
    assert len(np.unique(given.round(5))) > 3


@each_family
def test_the_seed_decides_the_network(family: str) -> None:
    """The same seed gives the same weights, another seed others."""
    _, preprocessor, codec = fitted()

    one, same, other = (
        network(family, preprocessor, codec, seed=s).get_weights() for s in (1, 1, 2)
    )

    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@each_family
def test_no_two_kernels_start_alike(family: str) -> None:
    """Every kernel has a start of its own, those of queries and keys too."""
    _, preprocessor, codec = fitted()
    kernels = [w for w in network(family, preprocessor, codec).get_weights() if w.std() > 0]

    for i, kernel in enumerate(kernels):
        assert not any(np.array_equal(kernel, other) for other in kernels[i + 1 :])


@pytest.mark.parametrize("family", ["sepcnn", "rnn", "transformer"])
@pytest.mark.parametrize("length", [9, 10, 16])
def test_padding_changes_nothing(family: str, length: int) -> None:
    """A text gives the same output however many places of padding follow it."""
    _, short, codec = fitted((family,), max_sequence_length=8)
    _, long, _ = fitted((family,), max_sequence_length=length)
    texts = content_of(["good", "the film was very good film", ""])
    model, padded = (network(family, p, codec) for p in (short, long))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape, scale=0.5) for w in padded.get_weights()]
    padded.set_weights(weights)
    # Positions beyond the shorter length are the only weights that one has more.
    model.set_weights([w[: m.shape[0]] for w, m in zip(weights, model.get_weights(), strict=True)])

    one, other = (
        outputs(m, p.inputs(texts, np.arange(3))) for m, p in ((model, short), (padded, long))
    )

    assert np.allclose(one, other, atol=1e-5)
    assert abs(one[0, 0] - one[1, 0]) > 1e-3


@pytest.mark.slow
@each_family
def test_networks_learn_a_telling_word(family: str) -> None:
    """Some steps suffice to learn that one word tells the class."""
    data, preprocessor, codec = fitted(vocabulary_size=200)
    model = network(family, preprocessor, codec, dropout=0.0, num_stages=1)
    model.optimizer.learning_rate = 0.03
    rows = np.arange(40)
    x = {n: v[rows] for n, v in preprocessor.inputs(data, rows).items()}
    y = preprocessor.targets(data, rows, codec)

    for _ in range(40):
        model.train_on_batch(x, y)

    found = Text().predictions(data, preprocessor, codec, model).iloc[40:, 0]
    assert data.target is not None
    assert (found == data.target.iloc[40:]).mean() >= 0.8


def test_texts_of_files_are_read_when_needed(tmp_path: Path) -> None:
    """Files give the arrays that the same texts in memory give."""
    data, preprocessor, _ = fitted()
    assert isinstance(data.content, TextContent)
    texts = data.content.take(np.arange(5))
    paths = [tmp_path / f"{i}.txt" for i in range(5)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    files = Dataset(
        "files",
        pd.DataFrame({"path": range(5)}),
        None,
        5,
        content=TextFiles(tuple(map(str, paths))),
    )

    one, other = (preprocessor.inputs(d, np.arange(5)) for d in (data, files))

    assert np.array_equal(one["words"], other["words"])


def test_columns_of_text_are_joined() -> None:
    """A table whose columns all are texts is read as one text per row."""
    frame = pd.DataFrame(
        {
            "title": [f"good title number {i}" for i in range(30)],
            "body": [f"and body text {i} here" for i in range(30)],
            "y": ["a", "b"] * 15,
        }
    )
    data = read(frame, "y")
    found = measure(data)

    preprocessor = Text().fit(data, found, np.arange(30), SHARED, ("rnn",))

    assert (found.task, preprocessor.columns) == ("text", ("title", "body"))
    indices = preprocessor.inputs(data, np.arange(1))["words"]
    assert indices.shape == (1, 8)
    assert np.count_nonzero(indices) == 8
    with pytest.raises(DataError, match="body"):
        preprocessor.inputs(read(frame[["title"]]), np.arange(1))


def test_texts_without_words_are_refused() -> None:
    """Nothing can be counted where every text is punctuation."""
    with pytest.raises(DataError, match="no training text holds a word"):
        NgramVocabulary.fit(["?!", "..."], None, longest=2, most=5)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("mlp", {}, "model.family"),
        ("rnn", {"padding_side": "left"}, "model.padding_side"),
    ],
)
def test_settings_that_texts_do_not_know_are_refused(
    family: str, changes: dict[str, Value], message: str
) -> None:
    """A family of other data, or padding on the left, is an error and not passed over."""
    with pytest.raises(SettingError, match=message):
        fitted((family,), **changes)


def test_heads_must_divide_the_width() -> None:
    """Attention heads that do not fit the vectors are named."""
    _, preprocessor, codec = fitted(("transformer",))

    with pytest.raises(SettingError, match="3 heads for vectors of 8"):
        network("transformer", preprocessor, codec, num_heads=3)


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("num_samples", [5_000, 200_000])
def test_rules_give_what_networks_read(problem: str, num_samples: int) -> None:
    """Under a long search every family finds each of its settings, and none of another's."""
    facts: dict[str, Value] = {
        "data.task": "text",
        "model.problem": problem,
        "data.num_samples": num_samples,
        "data.words_per_sample": 20.0,
        "data.sequence_length": 30,
        "data.vocabulary_size": 4000,
        "budget.seconds": 3600.0,
        "hardware.device": "cpu",
    }
    made = recommend(Facts.of(facts))
    families = searched_families(made.settings)
    space = made.space(Text().network_settings(made.settings))
    _, preprocessor, codec = fitted(families)

    assert len(families) >= 3
    for family in families:
        values = space.active(
            {d.name: d.value for d in space.dimensions} | {"model.family": family}
        )
        own = {n for n in values if n.startswith("model.")}
        assert own.isdisjoint(Text.prepared)
        for other, names in OF_FAMILY.items():
            if other != family:
                theirs = set(names) - set(OF_FAMILY[family])
                assert own.isdisjoint(theirs), (family, other)
        values |= {"model.loss": "binary_crossentropy", "model.output_bias": "zeros"}
        plan = TrainingPlan(num_samples=40, max_epochs=2)
        NetworkHyperModel(space, preprocessor, codec, plan).build_from(values)
