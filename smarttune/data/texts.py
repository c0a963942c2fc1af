"""Texts as the contents of samples: cells of a column, or files read when asked for."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from smarttune.data.content import Content, Progress
from smarttune.data.words import words
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# ours: as many texts settle the medians and all words that matter; some seconds.
MEASURED_TEXTS = 50_000
# ours: texts read at a time while measuring, so that one piece of them is held.
_PIECE = 500
# ours: of a file no more is read, about 150,000 words; networks read some hundred of them.
MOST_BYTES = 1024 * 1024
# ours: the length that all but the longest texts stay below.
_LONG_SHARE = 0.95


class Texts(Content):
    """One text per sample."""

    task: ClassVar[str] = "text"

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of some samples, in the order of `rows`."""

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Measure lengths and words on at most 50,000 texts, evenly spread over the data.

        Returns:
            `data.words_per_sample` (median), `data.sequence_length` (95th percentile) and
            `data.max_sequence_length`, in words, and `data.vocabulary_size`, the distinct
            words that occur at least twice among these texts.
        """
        import numpy as np

        count = min(len(self), MEASURED_TEXTS)
        rows = np.linspace(0, len(self) - 1, count).astype(np.int64)
        lengths: list[int] = []
        seen: Counter[bytes] = Counter()
        for start in range(0, count, _PIECE):
            for text in self.take(rows[start : start + _PIECE]):
                found = words(text)
                lengths.append(len(found))
                seen.update(found)
            if progress is not None:
                progress(min(1.0, (start + _PIECE) / count))
        return {
            "data.words_per_sample": float(np.median(lengths)),
            "data.sequence_length": int(np.ceil(np.quantile(lengths, _LONG_SHARE))),
            "data.max_sequence_length": max(lengths),
            "data.vocabulary_size": sum(n > 1 for n in seen.values()),
        }


@dataclass(frozen=True)
class TextContent(Texts):
    """Texts in memory: the cells of columns; a missing cell is an empty text.

    Attributes:
        columns: One row per sample; the cells of several columns are joined by a blank.
    """

    columns: pd.DataFrame

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of some samples, in the order of `rows`."""
        return joined_cells(self.columns.iloc[rows])

    def select(self, rows: npt.NDArray[np.int64]) -> TextContent:
        """Some of the texts, numbered from 0."""
        return TextContent(self.columns.iloc[rows].reset_index(drop=True))

    def digest(self) -> str:
        """A hash of all texts."""
        import numpy as np

        found = hashlib.sha256()
        for text in self.take(np.arange(len(self))):
            raw = text.encode("utf-8", "ignore")
            found.update(b"%d\n" % len(raw) + raw)
        return found.hexdigest()


@dataclass(frozen=True)
class TextFiles(Texts):
    """Texts on disk, one file per sample.

    Of each file the first 1 MiB counts.

    Attributes:
        paths: The files.
        encoding: How they are written, as Python names it.
    """

    paths: tuple[str, ...]
    encoding: str = "utf-8"
    _lost: set[str] = field(default_factory=set, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of some files, in the order of `rows`; one that is gone is empty."""
        return [self._read(self.paths[i]) for i in rows]

    def select(self, rows: npt.NDArray[np.int64]) -> TextFiles:
        """Some of the files, numbered from 0."""
        return TextFiles(tuple(self.paths[i] for i in rows), self.encoding)

    def digest(self) -> str:
        """A hash of every file's path, size and time of change."""
        found = hashlib.sha256()
        for path in self.paths:
            state = Path(path).stat()
            found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return found.hexdigest()

    def _read(self, path: str) -> str:
        try:
            return read_text(Path(path), self.encoding)
        except (OSError, UnicodeError) as error:
            if path not in self._lost:  # told once, not in every epoch
                self._lost.add(path)
                warnings.warn(
                    f"{path} can no longer be read ({error}) and counts as an empty text.",
                    UserWarning,
                    stacklevel=2,
                )
            return ""


def joined_cells(frame: pd.DataFrame) -> list[str]:
    """The cells of each row as one text, joined by a blank; missing ones are left out."""
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    filled = [column.astype(object).where(column.notna(), "").astype(str) for column in columns]
    return [" ".join(filter(None, cells)) for cells in zip(*filled, strict=True)]


def read_text(path: Path, encoding: str) -> str:
    """The first 1 MiB of a text file.

    Raises:
        OSError: If it cannot be read.
        UnicodeError: If it is not in the encoding.
    """
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) <= MOST_BYTES:
        return raw.decode(encoding)
    # The cut may go through a character: only what lies before its last line must be sound.
    whole = raw[: raw.rfind(b"\n") + 1] or raw[:MOST_BYTES]
    try:
        return whole.decode(encoding)
    except UnicodeDecodeError as error:
        if error.end < len(whole):
            raise
        return whole[: error.start].decode(encoding)
