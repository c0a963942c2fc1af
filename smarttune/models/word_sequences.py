"""Texts as sequences of word indices: a fitted vocabulary, and the same in Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers as keras_layers
from pydantic import BaseModel, ConfigDict

from smarttune.data.words import words

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
# ours: words met once become the unknown word, whose vector would otherwise never be learnt.
_LEAST_COUNT = 2


class WordVocabulary(BaseModel):
    """The words told apart in a sequence, and its length. Immutable.

    Index 0 pads on the right, 1 stands for any word that is not in the vocabulary.

    Args:
        words: The words, the most frequent one first; word i has index i + 2.
        length: Words read of each text, from its start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: tuple[str, ...]
    length: int

    @classmethod
    def fit(cls, texts: Iterable[str], *, most: int, length: int) -> WordVocabulary:
        """Take the most frequent words of the training texts that occur at least twice.

        Args:
            texts: The training texts, read once.
            most: Words to keep.
            length: Words to read of each text.
        """
        counts: Counter[bytes] = Counter()
        for text in texts:
            counts.update(words(text))
        ranked = sorted((-n, w) for w, n in counts.items() if n >= _LEAST_COUNT)
        return cls(words=tuple(w.decode() for _, w in ranked[:most]), length=length)

    @property
    def num_indices(self) -> int:
        """How many indices there are: the words, padding and the unknown word."""
        return len(self.words) + FIRST_WORD

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {word.encode(): i for i, word in enumerate(self.words, FIRST_WORD)}

    def indices(self, texts: Iterable[str]) -> np.ndarray:
        """Texts as indices, int32, shape (texts, length)."""
        places = self._places
        found = [
            [places.get(word, UNKNOWN) for word in words(text)[: self.length]] for text in texts
        ]
        padded = np.full((len(found), self.length), PADDING, np.int32)
        for row, indices in zip(padded, found, strict=True):
            row[: len(indices)] = indices
        return padded

    def input(self, name: str) -> Any:
        """The input of a network for such indices."""
        return keras.Input((self.length,), dtype="int32", name=name)

    def looked_up(self, text: Any, name: str) -> Any:
        """The same on raw strings, (batch, 1) to (batch, length), in a Keras layer."""
        return keras_layers.TextVectorization(
            standardize="lower_and_strip_punctuation",
            split="whitespace",
            output_mode="int",
            output_sequence_length=self.length,
            # Keras wants one word at least; spaces part words, so this one is never met.
            vocabulary=list(self.words) or [" "],
            name=name,
        )(text)
