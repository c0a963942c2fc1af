"""Bags of words and word runs: a fitted vocabulary, its sparse rows, and the same in Keras."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import keras
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from keras import layers as keras_layers
from keras import ops
from pydantic import BaseModel, ConfigDict

from smarttune.data.words import runs, words
from smarttune.errors import DataError

# A run of words that stands in one text only says nothing about others (Google's text
# classification guide, vectorize_data.py: MIN_DOCUMENT_FREQUENCY).
LEAST_TEXTS = 2


class NgramVocabulary(BaseModel):
    """Which runs of words are counted, and how telling each of them is. Immutable.

    Texts become tf-idf rows: the count of each term times its inverse document frequency
    ln((1 + n) / (1 + df)) + 1, the row scaled to length 1 (scikit-learn's `TfidfVectorizer`).
    ours: the length counts the kept terms only, so that nothing else need be remembered.

    Args:
        terms: The counted words and runs of words, lowered and without punctuation.
        idf: The inverse document frequency of each term among the training texts.
        longest: Words in the longest run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms: tuple[str, ...]
    idf: tuple[float, ...]
    longest: int

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        labels: np.ndarray | None,
        *,
        longest: int,
        most: int,
        numeric: bool = False,
    ) -> NgramVocabulary:
        """Choose the terms of the training texts that tell the labels apart best.

        Chosen are the terms with the largest F of a one-way analysis of variance between the
        classes (of a linear regression for amounts), as in Google's guide, step 3.

        Args:
            texts: The training texts, read once.
            labels: Their targets, shape (n,), or (n, labels) of which each term's best counts;
                None to choose the terms of the most texts instead.
            longest: Words in the longest run.
            most: Terms to keep.
            numeric: Whether the labels are amounts and not classes.

        Raises:
            DataError: If no text holds a word.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        counter = CountVectorizer(analyzer=lambda t: runs(words(t), longest), dtype=np.float32)
        try:
            counts = counter.fit_transform(texts)
        except ValueError:  # all it refuses is an empty vocabulary
            raise _no_words() from None
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        kept = np.flatnonzero(frequency >= min(LEAST_TEXTS, frequency.max()))
        if len(kept) > most:
            merit = frequency[kept].astype(np.float64)
            if labels is not None:
                weighted = TfidfTransformer().fit_transform(counts[:, kept])
                merit = _told_apart(weighted, labels, numeric)
            kept = np.sort(kept[np.argsort(-merit, kind="stable")[:most]])
        terms = counter.get_feature_names_out()[kept]
        idf = np.log((1 + counts.shape[0]) / (1 + frequency[kept])) + 1
        return cls(
            terms=tuple(term.decode() for term in terms),
            idf=tuple(map(float, idf.astype(np.float32))),
            longest=longest,
        )

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {term.encode(): i for i, term in enumerate(self.terms)}

    def rows(self, texts: Iterable[str]) -> SparseRows:
        """The tf-idf rows of texts, (texts, terms); a text without any term is all zeros."""
        places, idf = self._places, np.array(self.idf, np.float32)
        ends, columns, values = [0], [], []
        for text in texts:
            found = Counter(places[r] for r in runs(words(text), self.longest) if r in places)
            where = np.array(sorted(found), np.int64)
            weights = np.array([found[i] for i in where], np.float32) * idf[where]
            columns.append(where)
            values.append(weights / max(float(np.linalg.norm(weights)), _TINY))
            ends.append(ends[-1] + len(where))
        empty = [np.zeros(0)]
        return SparseRows(
            scipy.sparse.csr_array(
                (
                    np.concatenate(values or empty).astype(np.float32),
                    np.concatenate(columns or empty).astype(np.int64),
                    np.array(ends),
                ),
                shape=(len(ends) - 1, len(self.terms)),
            )
        )

    def input(self, name: str) -> Any:
        """The input of a network for such rows."""
        return keras.Input((len(self.terms),), sparse=takes_sparse(), name=name)

    def weighed(self, text: Any, name: str) -> Any:
        """The same arithmetic on raw strings, (batch, 1) to (batch, terms), in Keras layers."""
        counted = keras_layers.TextVectorization(
            standardize="lower_and_strip_punctuation",
            split="whitespace",
            ngrams=self.longest,
            output_mode="count",
            vocabulary=list(self.terms),
            name=name,
        )(text)
        # Keras draws its graph with an axis of 1 that is not there when it runs.
        counted = ops.reshape(ops.cast(counted, "float32"), (-1, len(self.terms) + 1))
        # The first place counts what is not in the vocabulary.
        weights = counted[:, 1:] * np.array([self.idf], np.float32)
        norm = ops.sqrt(ops.sum(ops.square(weights), axis=1, keepdims=True))
        return weights / ops.maximum(norm, _TINY)


_TINY = 1e-12


def _told_apart(weighted: Any, labels: np.ndarray, numeric: bool) -> np.ndarray:
    """How well each term tells the labels apart, shape (terms,)."""
    from sklearn.feature_selection import f_classif, f_regression

    score = f_regression if numeric else f_classif
    columns = labels[:, None] if labels.ndim == 1 else labels
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a label that never varies tells nothing: NaN, then 0
        scores = [score(weighted, column)[0] for column in columns.T]
    return np.asarray(np.nan_to_num(np.max(np.nan_to_num(scores, posinf=np.inf), axis=0)))


def _no_words() -> DataError:
    return DataError(
        "texts",
        received="no training text holds a word",
        expected="texts of words, with spaces between them",
        mend="Check the column or the files; texts of punctuation alone hold no word.",
    )


def takes_sparse() -> bool:
    """Whether networks read sparse rows: under TensorFlow without a GPU.

    The compiler that Keras uses on a GPU wants arrays of fixed shape; dense rows are fast there.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


class SparseRows:
    """Rows of mostly zeros, kept sparse; a batch becomes what networks read when it is taken.

    Attributes:
        matrix: Shape (rows, columns), float32.
        shape: Of all rows as a dense array.
        dtype: Of the numbers.
        numbers_per_row: Numbers of a row in a batch, on average.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape
        self.dtype = matrix.dtype
        kept = matrix.nnz // max(1, matrix.shape[0])
        self.numbers_per_row = max(1, kept) if takes_sparse() else matrix.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        """Some rows, as a sparse tensor of TensorFlow or a dense array."""
        part = self.matrix[rows]
        if not takes_sparse():
            return part.toarray()
        import tensorflow as tf

        found = part.tocoo()
        places = np.stack(found.coords, axis=1).astype(np.int64)
        return tf.SparseTensor(places, found.data, part.shape)
