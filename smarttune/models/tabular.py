"""Tables: numeric inputs beside embedded or one-hot columns, and a dense body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.data import Dataset
from smarttune.models.codec import TargetCodec
from smarttune.models.dense import mlp, resnet_mlp
from smarttune.models.export import exported_table
from smarttune.models.layers import Layers
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.preprocessing import TablePreprocessor
from smarttune.space import Value

if TYPE_CHECKING:
    from smarttune.fingerprint import Fingerprint

FAMILIES = {"mlp": mlp, "resnet_mlp": resnet_mlp}


class Tabular(Modality):
    """Rows of columns."""

    name: ClassVar[str] = "tabular"
    preprocessor_type: ClassVar[type[Preprocessor]] = TablePreprocessor
    prepared: ClassVar[tuple[str, ...]] = (
        "model.encoding",
        "model.embedding_dim",
        "model.numeric_preprocessing",
        "model.missing_values",
        "model.ngram_size",
        "model.target_transform",
        "model.vocabulary_size",
    )

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> TablePreprocessor:
        """Learn fills, scales, levels and words from the training rows."""
        return TablePreprocessor.fit(dataset.features.iloc[rows], fingerprint.columns, settings)

    def network(self, layers: Layers, preprocessor: TablePreprocessor) -> keras.Model:
        """A dense network on the arrays of a `TablePreprocessor`.

        It takes {"numeric": (batch, p) float32, "categorical": (batch, q) int32, "text_0":
        (batch, terms) float32, ...} (each may be absent) and gives logits or encoded targets,
        float32, shape (batch, num_outputs).
        """
        family = layers.family_of(self.name)
        inputs, x = _features(layers, preprocessor)
        hidden = FAMILIES[family](layers, x)
        return keras.Model(inputs, layers.output(hidden), name="dense")

    def exported(
        self, core: keras.Model, preprocessor: TablePreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw columns; see `smarttune.models.export.exported_table`."""
        return exported_table(core, preprocessor, codec)


def _features(layers: Layers, preprocessor: TablePreprocessor) -> tuple[dict[str, Any], Any]:
    inputs: dict[str, Any] = {}
    parts: list[Any] = []
    width = len(preprocessor.numeric_inputs)
    if width:
        inputs["numeric"] = keras.Input((width,), name="numeric")
        parts.append(inputs["numeric"])
    count = len(preprocessor.categorical)
    if count:
        indices = keras.Input((count,), dtype="int32", name="categorical")
        inputs["categorical"] = indices
        parts += [_column(layers, preprocessor, indices[:, i], i) for i in range(count)]
    for i, column in enumerate(preprocessor.texts):
        rows = column.ngrams.input(f"text_{i}")
        inputs[f"text_{i}"] = rows
        parts.append(layers.dense(rows, f"text_{i}_narrowed", column.embedding_dim))
    if len(parts) == 1:
        return inputs, parts[0]
    return inputs, keras_layers.Concatenate(name="features")(parts)


def _column(layers: Layers, preprocessor: TablePreprocessor, indices: Any, place: int) -> Any:
    column = preprocessor.categorical[place]
    if column.encoding == "one_hot":
        # Index 0 (missing or unseen) has no weight of its own: a vector of zeros.
        return ops.one_hot(indices, column.num_indices)[:, 1:]
    return layers.embedding(indices, column.num_indices, column.embedding_dim, f"embedding_{place}")
