"""Sequences of measured steps as the contents of samples, of equal or different lengths."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smarttune.data.content import Content, Progress
from smarttune.data.dataset import Dataset
from smarttune.data.labelling import labelled
from smarttune.errors import DataError
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# The length that facts call `data.sequence_length` and that most padding is cut to.
USUAL_PERCENTILE = 95


@dataclass(frozen=True, eq=False)
class SequenceArrays(Content):
    """Sequences in memory, joined end to end.

    Attributes:
        values: float32, shape (steps of all sequences, features); NaN for missing values.
        starts: Place of the first step of each sequence.
        counts: Steps of each sequence.
        notes: What the user should know.
    """

    task: ClassVar[str] = "sequence"

    values: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each sequence."""
        return self.counts

    @property
    def num_features(self) -> int:
        """Values measured at each step."""
        return int(self.values.shape[1])

    def take(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
        """Some sequences, float32, each of shape (its length, features)."""
        return [self.values[self.starts[i] : self.starts[i] + self.counts[i]] for i in rows]

    def select(self, rows: npt.NDArray[np.int64]) -> SequenceArrays:
        """Some of the sequences, numbered from 0; the values are shared, not copied."""
        return SequenceArrays(self.values, self.starts[rows], self.counts[rows], self.notes)

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Lengths (95th percentile, largest, whether all are equal), width, and missing values."""
        import numpy as np

        return {
            "data.sequence_length": int(np.percentile(self.counts, USUAL_PERCENTILE)),
            "data.max_sequence_length": int(self.counts.max()),
            "data.num_features": self.num_features,
            "data.equal_lengths": bool((self.counts == self.counts[0]).all()),
            "data.missing_fraction": self._missing_fraction(),
        }

    def _missing_fraction(self) -> float:
        """Share of values that are missing among the real steps."""
        import numpy as np

        gaps = np.concatenate([[0], np.cumsum(np.isnan(self.values).sum(axis=1))])
        missing = int((gaps[self.starts + self.counts] - gaps[self.starts]).sum())
        return missing / (int(self.counts.sum()) * self.num_features)

    def digest(self) -> str:
        """A hash of all values and of where sequences begin and end."""
        import numpy as np

        found = hashlib.sha256(f"{len(self)} {self.values.shape}".encode())
        for part in (self.starts, self.counts, self.values):
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What was found when the arrays were read."""
        return self.notes


def sequence_arrays(x: Any, y: Any, lengths: Any, where: str) -> Dataset:
    """Sequences in memory, with their targets.

    Args:
        x: Shape (n, steps, features), padded at the end where lengths differ.
        y: Targets, shape (n,) or (n, outputs); None at prediction time.
        lengths: Real steps of each sequence, shape (n,); None: up to the last step that is
            not NaN.
        where: What errors call the data.

    Raises:
        DataError: If the shapes do not fit together.
    """
    import numpy as np
    import pandas as pd

    x = np.asarray(x)
    if x.ndim not in (2, 3):
        raise DataError(
            where,
            received=f"an array of shape {x.shape}",
            expected="sequences of shape (n, steps, features)",
            mend="Reshape it so that each step is one row of values.",
        )
    content, kept = padded(x, None if lengths is None else np.asarray(lengths), where=where)
    columns = pd.DataFrame(index=range(len(x)))
    if y is not None:
        columns = _columns(np.asarray(y), len(x), where)
    target = [str(c) for c in columns.columns]
    columns = columns.iloc[kept].reset_index(drop=True)
    return labelled(content, columns, target, where=where, name=where)


def _columns(y: npt.NDArray[Any], number: int, where: str) -> pd.DataFrame:
    """Targets as columns, one or several."""
    import pandas as pd

    if len(y) != number:
        raise DataError(
            where,
            received=f"there are {number:,} sequences and {len(y):,} targets",
            expected="one target per sequence",
            mend="Check that both were cut and filtered in the same way.",
        )
    flat = y.reshape(number, -1)
    if y.ndim > 2:  # noqa: PLR2004 -- more than samples and outputs
        raise DataError(
            where,
            received=f"targets of shape {y.shape}",
            expected="one target per sequence, shape (n,) or (n, outputs)",
            mend="A label for every step is not learnt; predict one value per sequence.",
        )
    if flat.dtype.kind in "SU":
        flat = flat.astype(object)
    names = ["label"] if flat.shape[1] == 1 else [f"label_{i + 1}" for i in range(flat.shape[1])]
    return pd.DataFrame(flat, columns=names)


def end_to_end(
    values: npt.NDArray[Any], counts: npt.NDArray[np.int64], *, where: str
) -> tuple[SequenceArrays, npt.NDArray[np.int64]]:
    """Sequences that lie in one array, one after the other.

    Args:
        values: Shape (total_steps, features), or (total_steps,) for one value per step.
        counts: Steps of each sequence, shape (n,).
        where: What errors call the source.

    Returns:
        The sequences, and which of the n they are: empty ones are left out.

    Raises:
        DataError: If the lengths do not sum up to the steps, or nothing is left.
    """
    import numpy as np

    total = int(counts.sum())
    if total != len(values) or (counts < 0).any():
        raise DataError(
            where,
            received=f"the lengths sum up to {total:,} and there are {len(values):,} steps",
            expected="the number of steps of every sequence",
            mend="Check that lengths and values belong together.",
        )
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    flat = values.reshape(total, -1)
    return _without_empty(_finite(flat, where), starts, counts, where)


def padded(
    values: npt.NDArray[Any], counts: npt.NDArray[np.int64] | None, *, where: str
) -> tuple[SequenceArrays, npt.NDArray[np.int64]]:
    """Sequences that were padded to one length.

    Args:
        values: Shape (n, steps, features), or (n, steps) for one value per step.
        counts: Steps of each sequence that are real, shape (n,). None: up to the last step
            that has a value, so that padding with NaN is understood.
        where: What errors call the source.

    Returns:
        The sequences, and which of the n they are: empty ones are left out.

    Raises:
        DataError: If a length is larger than the number of steps, or nothing is left.
    """
    import numpy as np

    num, steps = values.shape[:2]
    flat = _finite(values.reshape(num * steps, -1), where)
    if counts is None:
        real = ~np.isnan(flat).all(axis=1).reshape(num, steps)
        counts = np.where(real.any(axis=1), steps - np.argmax(real[:, ::-1], axis=1), 0)
    elif (counts < 0).any() or (counts > steps).any():
        raise DataError(
            where,
            received=f"a length of {int(counts.max()):,} among sequences of {steps:,} steps",
            expected="lengths from 0 to the number of steps",
            mend="Check that lengths and values belong together.",
        )
    starts = np.arange(num, dtype=np.int64) * steps
    return _without_empty(flat, starts, counts.astype(np.int64), where)


def _finite(flat: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    """Values as float32; infinite ones become missing."""
    import numpy as np

    if flat.dtype.kind not in "biuf":
        raise DataError(
            where,
            received=f"values of type {flat.dtype}",
            expected="numbers, one row of them per step",
            mend="Turn names into numbers first, for example one 0/1 column for each.",
        )
    values = flat.astype(np.float32)
    values[np.isinf(values)] = np.nan
    return values


def _without_empty(
    values: npt.NDArray[np.float32],
    starts: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    where: str,
) -> tuple[SequenceArrays, npt.NDArray[np.int64]]:
    import numpy as np

    kept = np.flatnonzero(counts > 0)
    if not len(kept):
        raise DataError(
            where,
            received=f"all {len(counts):,} sequences are empty",
            expected="at least one step in most sequences",
            mend="Check how the lengths were counted.",
        )
    notes = []
    empty = len(counts) - len(kept)
    if empty:
        notes.append(f"{empty:,} of {len(counts):,} sequence(s) have no steps and were skipped.")
    starts, counts = starts[kept], counts[kept]
    change = np.zeros(len(values) + 1, np.int64)
    change[starts] += 1
    np.subtract.at(change, starts + counts, 1)
    real = np.cumsum(change[:-1]) > 0  # steps of padding are missing too, and no concern
    gaps = int((np.isnan(values).any(axis=1) & real).sum())
    if gaps:
        notes.append(f"{gaps:,} step(s) lack values; the mean of the feature stands in for each.")
    return SequenceArrays(values, starts, counts, tuple(notes)), kept
