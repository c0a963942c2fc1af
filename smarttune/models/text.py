"""Texts: bags of n-grams, sequences of words, and pieces of words for pretrained encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np

from smarttune.data import Dataset
from smarttune.data.texts import Texts, joined_cells
from smarttune.models.attention import transformer
from smarttune.models.cells import numbers
from smarttune.models.codec import TargetCodec
from smarttune.models.convolution_1d import sepcnn
from smarttune.models.dense import mlp
from smarttune.models.encoder import TokenReader
from smarttune.models.export import bare_copy, check_text_backend, decoded
from smarttune.models.layers import Layers, bad_value
from smarttune.models.modality import Modality, Preprocessor, of_family
from smarttune.models.ngrams import NgramVocabulary
from smarttune.models.optimizers import needed
from smarttune.models.preprocessing import require_columns
from smarttune.models.recurrent import rnn
from smarttune.models.transfer import needed_weights
from smarttune.models.word_sequences import WordVocabulary
from smarttune.space import Value

if TYPE_CHECKING:
    from smarttune.fingerprint import Fingerprint

# Which input each family reads.
INPUTS = {
    "ngram_mlp": "ngrams",
    "sepcnn": "words",
    "rnn": "words",
    "transformer": "words",
    "pretrained": "tokens",
}
# ours: as many texts show which terms matter; more only fill the memory with rare word pairs.
_MOST_FITTED = 100_000
# ours: texts held at a time, of at most 1 MiB each.
_PIECE = 256


class TextPreprocessor(Preprocessor):
    """Turns texts into tf-idf rows, word indices and pieces of words. Immutable.

    Args:
        columns: The columns of a table whose cells, joined by a blank, are the text; empty
            where samples are files.
        ngrams: The counted n-grams, if a family reads them.
        words: The words of sequences, if a family reads them.
        tokens: The pieces of words that a pretrained encoder knows, if there is one.
    """

    kind: Literal["text"] = "text"
    columns: tuple[str, ...] = ()
    ngrams: NgramVocabulary | None = None
    words: WordVocabulary | None = None
    tokens: TokenReader | None = None

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Texts as arrays.

        Returns:
            "ngrams": `SparseRows` of shape (rows, terms), and "words" and "tokens": int32 of
            shape (rows, length); each only if a family of the search reads it.
        """
        made: dict[str, Any] = {}
        if self.ngrams is not None:
            made["ngrams"] = self.ngrams.rows(_texts(dataset, self.columns, rows))
        if self.words is not None:
            made["words"] = self.words.indices(_texts(dataset, self.columns, rows))
        if self.tokens is not None:
            made["tokens"] = self.tokens.tokens(_texts(dataset, self.columns, rows))
        return made

    def input_layers(self) -> dict[str, Any]:
        """The inputs of a network, by name."""
        made: dict[str, Any] = {}
        if self.ngrams is not None:
            made["ngrams"] = self.ngrams.input("ngrams")
        if self.words is not None:
            made["words"] = self.words.input("words")
        if self.tokens is not None:
            made["tokens"] = self.tokens.input("tokens")
        return made


def _texts(dataset: Dataset, columns: tuple[str, ...], rows: np.ndarray) -> Iterator[str]:
    """The texts of some samples, one after the other.

    Raises:
        DataError: If a table lacks a column.
    """
    if not isinstance(dataset.content, Texts):
        require_columns(dataset.features, columns)
    for start in range(0, len(rows), _PIECE):
        piece = rows[start : start + _PIECE]
        if isinstance(dataset.content, Texts):
            yield from dataset.content.take(piece)
        else:
            cells = dataset.features.iloc[piece]
            yield from joined_cells(cells[list(columns)] if columns else cells)


class Text(Modality):
    """Texts of words, to classify or to tell an amount from."""

    name: ClassVar[str] = "text"
    preprocessor_type: ClassVar[type[Preprocessor]] = TextPreprocessor
    prepared: ClassVar[tuple[str, ...]] = (
        "model.ngram_size",
        "model.vocabulary_size",
        "model.max_sequence_length",
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
    ) -> TextPreprocessor:
        """Learn the vocabularies that the families need from the training texts.

        A pretrained encoder brings its own.

        Raises:
            DataError: If no text holds a word.
            MissingExtraError: If an encoder needs KerasHub and it is not installed.
            OptionError: If no folder with an encoder is named where one is needed.
            SettingError: If a family is none of texts, or a size is missing.
        """
        for family in families:
            if family not in INPUTS:
                raise bad_value("model.family", family, tuple(INPUTS))
        columns = (
            () if dataset.content is not None else tuple(c.name for c in fingerprint.used_columns)
        )
        step = max(1, -(-len(rows) // _MOST_FITTED))
        seen = rows[::step]
        made: dict[str, Any] = {}
        for family in families:
            values, name = of_family(settings, family), INPUTS[family]
            if name in made:
                continue
            if name == "tokens":
                length = int(needed(values, "model.max_sequence_length"))
                made[name] = TokenReader.of_preset(needed_weights(dataset), length=length)
                continue
            texts = _texts(dataset, columns, seen)
            most = int(needed(values, "model.vocabulary_size"))
            if name == "words":
                if values.get("model.padding_side", "right") != "right":
                    raise bad_value("model.padding_side", values["model.padding_side"], ("right",))
                length = int(needed(values, "model.max_sequence_length"))
                made[name] = WordVocabulary.fit(texts, most=most, length=length)
                continue
            numeric = fingerprint.problem == "regression"
            made[name] = NgramVocabulary.fit(
                texts,
                labels_of(dataset, seen, numeric),
                longest=int(needed(values, "model.ngram_size")),
                most=most,
                numeric=numeric,
            )
        return TextPreprocessor(columns=columns, **made)

    def network(self, layers: Layers, preprocessor: TextPreprocessor) -> keras.Model:
        """The network of one family, which reads its own input and passes over the others.

        It takes {"ngrams": (batch, terms) float32, "words": (batch, length) int32, "tokens":
        (batch, length) int32}, as far as `preprocessor` makes them, and gives logits or encoded
        targets, float32, shape (batch, num_outputs).
        """
        family, inputs = layers.family, preprocessor.input_layers()
        available = tuple(f for f, name in INPUTS.items() if name in inputs)
        if family not in available:
            raise bad_value("model.family", family, available)
        if preprocessor.ngrams is not None and family == "ngram_mlp":
            hidden = mlp(layers, inputs["ngrams"])
        elif preprocessor.tokens is not None and family == "pretrained":
            hidden = preprocessor.tokens.encoded(layers, inputs["tokens"])
        else:
            assert preprocessor.words is not None
            hidden = _READERS[family](layers, inputs["words"], preprocessor.words.num_indices)
        return keras.Model(inputs, layers.output(hidden), name=family)

    def exported(
        self, core: keras.Model, preprocessor: TextPreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw texts: one input "text", strings of shape (batch, 1).

        Cells of several columns are given joined by a blank. The output is that of
        `smarttune.models.export.exported_table`. A pretrained encoder and its tokenizer stay
        layers of KerasHub, which must be installed where such a model is loaded.

        Raises:
            MissingExtraError: If TensorFlow is not installed.
            OptionError: If Keras runs on another backend.
        """
        check_text_backend("export of a model of texts")
        text = keras.Input((1,), dtype="string", name="text")
        name = INPUTS[core.name]
        read = keras.Model({name: core.input[name]}, core.output)
        if name == "ngrams":
            assert preprocessor.ngrams is not None
            made = preprocessor.ngrams.weighed(text, "smarttune_ngrams")
        elif name == "tokens":
            assert preprocessor.tokens is not None
            made = preprocessor.tokens.looked_up(text, "smarttune_tokens")
        else:
            assert preprocessor.words is not None
            made = preprocessor.words.looked_up(text, "smarttune_words")
        outputs = decoded(bare_copy(read)({name: made}), codec)
        return keras.Model({"text": text}, outputs, name="raw_texts")


def labels_of(dataset: Dataset, rows: np.ndarray, numeric: bool) -> np.ndarray:
    """Targets as numbers for choosing terms: amounts, codes of classes, or 0/1 by label."""
    assert dataset.target is not None
    target: Any = dataset.target.iloc[rows]
    if target.ndim == 2:  # noqa: PLR2004 -- a column for each label
        return np.asarray(target.to_numpy(np.float64))
    return numbers(target) if numeric else np.asarray(target.factorize()[0])


def _recurrent(layers: Layers, indices: Any, num_indices: int) -> Any:
    """Recurrent layers over embedded words; padding is masked."""
    width = int(layers.value("model.embedding_dim"))
    return rnn(
        layers, layers.embedding(indices, num_indices, width, "word_vectors", mask_zero=True)
    )


_READERS: dict[str, Callable[[Layers, Any, int], Any]] = {
    "sepcnn": sepcnn,
    "rnn": _recurrent,
    "transformer": transformer,
}
