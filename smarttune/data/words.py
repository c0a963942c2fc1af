"""Words of a text, told apart exactly as Keras does inside an exported model."""

from __future__ import annotations

import string

# `TextVectorization(standardize="lower_and_strip_punctuation")` of Keras touches ASCII only:
# it lowers A to Z and drops these marks; all other characters stay as they are.
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_MARKS = string.punctuation.encode()


def words(text: str) -> list[bytes]:
    """The words of a text, in order, as UTF-8.

    Equal to what Keras sees with `standardize="lower_and_strip_punctuation"` and
    `split="whitespace"`: ASCII letters are lowered, ASCII punctuation is dropped, and only
    ASCII whitespace divides words. Half characters, which UTF-8 cannot write, are dropped.
    """
    return text.encode("utf-8", "ignore").translate(_LOWER, _MARKS).split()


def runs(parts: list[bytes], longest: int) -> list[bytes]:
    """All runs of 1 to `longest` words, joined by spaces, repetitions included."""
    found = list(parts)
    for size in range(2, longest + 1):
        found += map(b" ".join, zip(*(parts[i:] for i in range(size)), strict=False))
    return found
