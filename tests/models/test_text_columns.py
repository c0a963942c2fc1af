"""Free text beside other columns of a table."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.data import read
from smarttune.errors import SettingError
from smarttune.facts import Facts
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TablePreprocessor, TargetCodec, TrainingPlan
from smarttune.models.columns import TextColumn
from smarttune.models.export import exported_table, raw_inputs
from smarttune.models.modalities import preprocessor_of
from smarttune.recommendation import recommend
from smarttune.space import SearchSpace, Value
from tests.models.tables import VALUES, Profile

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="text needs TensorFlow"),
]
SIZES: dict[str, Value] = {
    "model.vocabulary_size": 6,
    "model.ngram_size": 2,
    "model.embedding_dim": 3,
}
PROFILES = (Profile("size", "numeric"), Profile("note", "text"), Profile("title", "text"))


def table(count: int = 40) -> pd.DataFrame:
    """A number and two columns of text, some cells missing."""
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.choice(["good", "bad", "Fine,", "old"], 4)) for _ in range(count)]
    return pd.DataFrame(
        {
            "size": rng.normal(size=count),
            "note": [n if i % 7 else None for i, n in enumerate(notes)],
            "title": [f"title of row {i % 5}" for i in range(count)],
        }
    )


def network(preprocessor: TablePreprocessor) -> tuple[keras.Model, TargetCodec]:
    """A dense network on such a table, and the encoding of two classes."""
    target = pd.Series(["no", "yes"] * 20, name="y")
    codec = TargetCodec.fit(target, "binary", ["no", "yes"], {})
    plan = TrainingPlan(num_samples=40, max_epochs=2)
    hypermodel = NetworkHyperModel(SearchSpace(dimensions=()), preprocessor, codec, plan)
    return hypermodel.build_from(VALUES), codec


def test_text_joins_the_other_columns() -> None:
    """Each text column has tf-idf rows of its own, and they survive JSON."""
    made = TablePreprocessor.fit(table(), PROFILES, SIZES)

    arrays = made.transform(table())

    assert {n: a.shape for n, a in arrays.items()} == {
        "numeric": (40, 1),
        "text_0": (40, 6),
        "text_1": (40, 6),
    }
    rows = arrays["text_0"].matrix.toarray()
    assert np.allclose(np.linalg.norm(rows, axis=1), [float(i % 7 > 0) for i in range(40)])
    assert preprocessor_of(made.model_dump(mode="json")) == made


def test_exported_table_reads_raw_text() -> None:
    """The model of raw rows gives what the network gives on prepared ones."""
    made = TablePreprocessor.fit(table(), PROFILES, SIZES)
    core, codec = network(made)
    odd = table()
    odd.loc[1, "note"] = "GOOD; bad? \u00fcnd\n fine"

    whole = exported_table(core, made, codec).predict(raw_inputs(odd, made), verbose=0)

    rows = np.arange(40)
    x: dict[str, Any] = {n: a[rows] for n, a in made.transform(odd).items()}
    logits = np.asarray(core.predict(x, verbose=0))
    assert np.allclose(whole, 1 / (1 + np.exp(-logits)), atol=1e-4)
    changed = odd.assign(note="bad")
    assert not np.allclose(
        whole,
        exported_table(core, made, codec).predict(raw_inputs(changed, made), verbose=0),
        atol=1e-4,
    )


def test_a_rule_lets_text_into_a_table() -> None:
    """Text columns enter where a rule gives their size, and are left out otherwise."""
    facts = {"data.task": "tabular", "data.num_samples": 900, "model.problem": "binary"}
    settings = {
        count: {
            n: s.value
            for n, s in recommend(
                Facts.of({**facts, "data.num_text_features": count})
            ).settings.items()
        }
        for count in (0, 1)
    }

    kinds = {
        count: [c.kind for c in TablePreprocessor.fit(table(), PROFILES, found).columns]
        for count, found in settings.items()
    }

    assert kinds == {0: ["numeric"], 1: ["numeric", "text", "text"]}
    assert settings[1]["model.vocabulary_size"] == 90


def test_a_size_that_means_nothing_is_refused() -> None:
    """A vocabulary without an embedding width is an error that names the column."""
    with pytest.raises(SettingError, match="`note`"):
        TablePreprocessor.fit(table(), PROFILES, {**SIZES, "model.embedding_dim": 0})


def test_mixed_tables_stay_tables() -> None:
    """Text beside a number is a table with text, and text alone is a text."""
    frame = table(200).assign(
        note=[f"note number {i} here" for i in range(200)], y=["a", "b"] * 100
    )

    mixed, alone = (measure(read(frame[c], "y")) for c in (["size", "note", "y"], ["note", "y"]))

    assert (mixed.task, alone.task) == ("tabular", "text")
    assert mixed.facts().value("data.num_text_features") == 1


def test_only_training_rows_name_words() -> None:
    """The vocabulary of a column is that of the rows it was fitted on."""
    made = TablePreprocessor.fit(table().iloc[:20].assign(note="seen words"), PROFILES[1:2], SIZES)

    (column,) = made.columns
    assert isinstance(column, TextColumn)
    assert column.ngrams.terms == ("seen", "seen words", "words")
