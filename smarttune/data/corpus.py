"""Running text without labels, from which a network learns what comes next."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from smarttune.data.content import Content, Progress
from smarttune.data.dataset import Dataset, ReadOptions
from smarttune.data.names import listed
from smarttune.data.opening import open_binary
from smarttune.data.problem import TargetProfile
from smarttune.data.text_sources import known_encoding
from smarttune.data.words import words
from smarttune.errors import DataError, OptionError
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# ours: characters that count as one sample where samples are counted; about a line and a half.
ROW = 100
# ours: less text than this cannot be divided into three parts that say anything.
LEAST_ROWS = 30
# ours: the characters read at a time; with their codes some 10 MB.
_PIECE = 2**20
# ours: larger corpora are kept in a file and mapped into memory.
_MOST_BYTES = 2**27
# ours: words are counted in so much of the text, about 700,000 words; some seconds.
_COUNTED = 4 * _PIECE
# ours: more broken files than this mean another encoding, not some broken files.
_MOST_BROKEN = 0.5
_BLANKS = " \t\n\r\x0b\f"  # what divides words, as in `smarttune.data.words`

PROBLEMS = ("char_language_model", "language_model")


class Symbols(NamedTuple):
    """A text as numbers.

    Attributes:
        codes: One number per character or word, shape (length,); perhaps mapped from a file.
        names: What each number stands for; None where it is the character's Unicode number.
    """

    codes: npt.NDArray[np.unsignedinteger]
    names: list[str] | None

    def name(self, code: int) -> str:
        """The character or word of a number."""
        return chr(code) if self.names is None else self.names[code]


@dataclass(frozen=True)
class CorpusContent(Content):
    """One or several text files, read as one text in their order, a line break between them.

    A sample is a stretch of 100 characters; networks cut the text in their own way.

    Attributes:
        paths: The files.
        encoding: How they are written, as Python names it.
        num_chars: Characters in all.
        largest: Largest Unicode number among them.
    """

    task: ClassVar[str] = "text"

    paths: tuple[str, ...]
    encoding: str
    num_chars: int
    largest: int

    def __len__(self) -> int:
        return (self.num_chars + ROW - 1) // ROW

    def take(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Stretches of the text, 100 characters each."""
        codes = self.characters.codes
        return ["".join(map(chr, codes[r * ROW : (r + 1) * ROW].tolist())) for r in rows]

    def select(self, rows: npt.NDArray[np.int64]) -> CorpusContent:
        """Refused: a text with holes is another text.

        Raises:
            DataError: Unless all rows are asked for.
        """
        if len(rows) == len(self):
            return self
        raise DataError(
            "corpus",
            received=f"{len(rows):,} of {len(self):,} stretches were asked for",
            expected="the whole text",
            mend="Shorten the file itself; stretches of a text cannot be drawn at random.",
        )

    def pieces(self) -> Iterator[str]:
        """The text, about a million characters at a time."""
        return _pieces(self.paths, self.encoding)

    @cached_property
    def characters(self) -> Symbols:
        """The text as characters."""
        import numpy as np

        dtype = np.min_scalar_type(self.largest)
        codes = _codes(self.num_chars, dtype)
        filled = 0
        for piece in self.pieces():
            codes[filled : filled + len(piece)] = _unicode_numbers(piece)
            filled += len(piece)
        return Symbols(codes, None)

    @cached_property
    def words(self) -> Symbols:
        """The text as words, lower case and without punctuation, as Keras divides them."""
        import numpy as np

        places: dict[bytes, int] = {}
        codes = _codes(self.num_chars // 2 + 1, np.dtype(np.uint32))  # a blank after each word
        filled = 0
        for found in _words(self.pieces()):
            numbers = [places.setdefault(word, len(places)) for word in found]
            codes[filled : filled + len(numbers)] = numbers
            filled += len(numbers)
        return Symbols(codes[:filled], [word.decode("utf-8", "replace") for word in places])

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Measure the text: its length, and the words that recur in its first four millions.

        Raises:
            DataError: If it is too short to learn from.
        """
        from collections import Counter

        if len(self) < LEAST_ROWS:
            raise DataError(
                ", ".join(self.paths),
                received=f"a text of {self.num_chars:,} characters",
                expected=f"at least {LEAST_ROWS * ROW:,} characters, and better a million",
                mend="Add text; parts for training, validation and test are cut from it.",
            )
        seen: Counter[bytes] = Counter()
        counted = 0
        for found in _words(self.pieces()):
            seen.update(found)
            counted += _PIECE
            if counted >= _COUNTED:
                break
        if progress is not None:
            progress(1.0)
        return {
            "data.corpus_chars": self.num_chars,
            "data.vocabulary_size": sum(n > 1 for n in seen.values()),
            "data.num_samples": len(self),
        }

    def goal(self, problem: str | None) -> TargetProfile:
        """The next character, or the next word where the user says so.

        Raises:
            OptionError: If another problem is asked for.
        """
        if problem not in (None, *PROBLEMS):
            raise OptionError(
                "--problem",
                received=f"`{problem}`, for a text without labels",
                expected=" or ".join(PROBLEMS),
                mend="For a target name its column, or sort the texts into a folder per class.",
            )
        words_asked = problem == "language_model"
        return TargetProfile(
            name="next word" if words_asked else "next character",
            problem=problem or PROBLEMS[0],
            evidence="a text without labels"
            + ("" if problem else "; for words say --problem language_model"),
        )

    def digest(self) -> str:
        """A hash of the text."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def read_corpus(path: Path, options: ReadOptions, progress: Progress | None = None) -> Dataset:
    """Open a text file, perhaps compressed, or a folder of them.

    Files of a folder that are empty, broken or in another encoding are left out and named.

    Args:
        path: A file, or a folder whose text files are read in the order of their names.
        options: Read is `encoding`, UTF-8 unless given.
        progress: Called with the share of the text that has been read.

    Raises:
        DataError: If there is no text, or most of it is in another encoding.
        OptionError: If Python knows no such encoding.
    """
    import pandas as pd

    encoding = known_encoding(options.get("encoding") or "utf-8-sig")
    paths, notes = _files(path, progress)
    num_chars, largest, broken = 0, 0, {}
    kept: list[str] = []
    for done, name in enumerate(paths):
        found = _measured(name, encoding)
        if isinstance(found, str):
            broken[name] = found
        else:
            kept.append(name)
            num_chars += found[0]
            largest = max(largest, found[1])
        if progress is not None:
            progress((done + 1) / len(paths))
    notes += _told(broken, paths, str(path), options.get("encoding"))
    content = CorpusContent(tuple(kept), encoding, num_chars + len(kept) - 1, max(largest, 10))
    return Dataset(
        name=path.name.removesuffix(".gz").rsplit(".", 1)[0],
        features=pd.DataFrame({"stretch": range(len(content))}),
        target=None,
        num_rows=len(content),
        warnings=tuple(notes),
        where=str(path),
        read_options={
            "path": str(path),
            "target": None,
            "task": "text",
            "encoding": options.get("encoding"),
        },
        task="text",
        content=content,
    )


def _files(path: Path, progress: Progress | None) -> tuple[list[str], list[str]]:
    from smarttune.data.folders import scan

    if not path.is_dir():
        return [str(path)], []
    listing = scan(path, "text", progress)
    return listing.paths, list(listing.warnings())


def _measured(name: str, encoding: str) -> tuple[int, int] | str:
    """Characters of a file and the largest Unicode number among them, or why it is no text."""
    length, largest = 0, 0
    try:
        for piece in _pieces((name,), encoding):
            if "\0" in piece:
                return "not text"
            length += len(piece)
            largest = max(largest, int(_unicode_numbers(piece).max()))
    except UnicodeError:
        return "not " + encoding.removesuffix("-sig").upper()
    except OSError as error:
        return error.strerror or str(error)
    except EOFError:
        return "cut short"
    return (length, largest) if length else "empty"


def _told(broken: dict[str, str], paths: list[str], where: str, encoding: str | None) -> list[str]:
    """One sentence on the files left out; an error if too few are left."""
    if not broken:
        return []
    kinds = ", ".join(sorted(set(broken.values())))
    names = [os.path.relpath(name, where) if name != where else name for name in broken]
    if len(broken) == len(paths) or len(broken) > _MOST_BROKEN * len(paths):
        mend = "Name the encoding, for example --encoding latin-1 or --encoding cp1252."
        wrong = any(reason.startswith("not ") for reason in broken.values())
        raise DataError(
            where,
            received=f"{len(broken):,} of {len(paths):,} file(s) cannot be used ({kinds}): "
            + listed(names),
            expected=f"text in {(encoding or 'utf-8').upper()}",
            mend=mend if wrong else "Check how it was written.",
        )
    return [f"{len(broken):,} file(s) left out ({kinds}): {listed(names)}."]


def _pieces(paths: tuple[str, ...], encoding: str) -> Iterator[str]:
    """The text of some files, with a line break between them."""
    for place, name in enumerate(paths):
        if place:
            yield "\n"
        stream, below = open_binary(Path(name))
        with below, io.TextIOWrapper(stream, encoding=encoding) as file:
            while piece := file.read(_PIECE):
                yield piece


def _words(pieces: Iterator[str]) -> Iterator[list[bytes]]:
    """The words of a text piece by piece; a word across a border belongs to the later piece."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        cut = max(text.rfind(blank) for blank in _BLANKS) + 1
        rest = text[cut:]
        yield words(text[:cut])
    yield words(rest)


def _codes(length: int, dtype: np.dtype) -> npt.NDArray[np.unsignedinteger]:
    """Room for numbers, in memory or in a file without a name that goes with the array."""
    import numpy as np

    if length * dtype.itemsize <= _MOST_BYTES:
        return np.zeros(length, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=(length,))


def _unicode_numbers(text: str) -> npt.NDArray[np.uint32]:
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
