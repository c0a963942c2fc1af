"""NumPy archives: which kind of data one holds, told from its arrays and their names.

Arrays are known by their names in any case: the samples (`x`, `data`, `samples`, ...), perhaps
their lengths (`length`), the rate of recordings (`rate`), and any number of columns with one
value per sample, of which one is the target and one may tell groups apart.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.audio import joined
from smarttune.data.content import Content
from smarttune.data.dataset import Dataset, RawTable, ReadOptions
from smarttune.data.labelling import labelled
from smarttune.data.names import listed
from smarttune.data.sequences import end_to_end, padded
from smarttune.data.targets import resolve_target
from smarttune.errors import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array = npt.NDArray[Any]

_SAMPLES = (
    *("x", "data", "samples", "values", "features", "images", "image", "audio", "sequences"),
    *("x_train", "train_images"),
)
_TARGETS = ("y", "label", "labels", "target", "targets", "y_train", "train_labels", "masks")
_LENGTHS = ("length", "lengths", "num_steps", "sequence_length", "sequence_lengths")
_RATES = ("rate", "sample_rate", "sampling_rate", "sr", "fs")
# ours: square arrays at least so wide look like pictures.
_LEAST_SIDE = 8


def read_npz(
    path: Path, target: Sequence[str], options: ReadOptions
) -> Dataset | tuple[RawTable, list[str]]:
    """Read an archive of pictures, recordings, sequences or rows.

    Args:
        path: The file.
        target: Names of the arrays to predict; none means the one with a usual name.
        options: Read are `task` and `sample_rate`.

    Returns:
        The data set; other arrays with one value per sample are its columns. A plain matrix is
        a raw table, returned with the names of its target columns.

    Raises:
        DataError: If the file is no archive, or its arrays do not fit together.
        OptionError: If the samples cannot be of the task that was asked for.
    """
    archive = _Archive(str(path), _loaded(path))
    rate = options.get("sample_rate") or archive.rate
    kind = _kind(archive, options.get("task"), rate)
    if kind == "tabular":
        return _table(archive, target)
    if kind == "image":
        return _pictures(archive, path.stem, target)
    content, kept = _recordings(archive, rate) if kind == "audio" else _sequences(archive)
    return labelled(
        content,
        archive.columns.iloc[kept].reset_index(drop=True),
        archive.targets(target),
        where=archive.where,
        name=path.stem,
        warnings=archive.warnings,
    )


@dataclass(frozen=True)
class _Archive:
    """The arrays of a file, with the roles that their names give them."""

    where: str
    arrays: Mapping[str, Array]

    def named(self, names: Sequence[str]) -> str | None:
        """The first array with one of some names, in any case."""
        lower = {key.lower(): key for key in self.arrays}
        return next((lower[name] for name in names if name in lower), None)

    @property
    def samples_key(self) -> str:
        """Name of the samples: a usual one, else that of the largest array."""
        return self.named(_SAMPLES) or max(self.arrays, key=lambda k: self.arrays[k].size)

    @property
    def samples(self) -> Array:
        """The samples."""
        return self.arrays[self.samples_key]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64] | None:
        """Lengths of the samples, where they may differ."""
        key = self.named(_LENGTHS)
        if key is None or self.arrays[key].ndim != 1 or self.arrays[key].dtype.kind not in "iu":
            return None
        return self.arrays[key].astype("int64")

    def needed_lengths(self) -> npt.NDArray[np.int64]:
        """Lengths of samples that lie in one array, end to end.

        Raises:
            DataError: If there are none.
        """
        if self.lengths is None:
            raise DataError(
                self.where,
                received=f"`{self.samples_key}` is one row of {len(self.samples):,} numbers",
                expected="the length of every sample beside it, or one row per sample",
                mend="Add the lengths to the file, as an array of whole numbers `length`.",
            )
        return self.lengths

    @property
    def rate(self) -> int | None:
        """Samples per second."""
        key = self.named(_RATES)
        if key is None or self.arrays[key].size != 1 or self.arrays[key].dtype.kind not in "iuf":
            return None
        return int(self.arrays[key].ravel()[0])

    @cached_property
    def columns(self) -> pd.DataFrame:
        """Every other array with one row per sample; one of several values becomes as many."""
        import pandas as pd

        number = len(self.samples) if self.lengths is None else len(self.lengths)
        columns: dict[str, Any] = {}
        for key, array in self._beside.items():
            if array.ndim > 2 or len(array) != number:  # noqa: PLR2004 -- no column
                continue
            cells = array.astype(object) if array.dtype.kind in "SU" else array
            if array.ndim == 1:
                columns[key] = cells
            else:
                columns |= {f"{key}_{i}": column for i, column in enumerate(cells.T, start=1)}
        return pd.DataFrame(columns, index=range(number))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Arrays that are neither samples nor columns."""
        names = [str(c) for c in self.columns]
        used = {*names, *(name.rpartition("_")[0] for name in names)}
        unused = [key for key in self._beside if key not in used]
        return (f"{len(unused)} other array(s) were ignored: {listed(unused)}.",) if unused else ()

    @property
    def _beside(self) -> dict[str, Array]:
        taken = {self.samples_key, self.named(_LENGTHS), self.named(_RATES)}
        return {k: a for k, a in self.arrays.items() if k not in taken and a.ndim}

    def targets(self, wanted: Sequence[str]) -> list[str]:
        """The columns to predict: those of arrays asked for, or of one with a usual name."""
        usual = self.named(_TARGETS)
        names = [str(c) for c in self.columns]
        found: list[str] = []
        for name in wanted or ([usual] if usual else []):
            parts = [c for c in names if name not in names and c.rpartition("_")[0] == name]
            found += parts or [resolve_target(name, names, where=self.where)]
        return found


def _loaded(path: Path) -> dict[str, Array]:
    """All arrays of an archive.

    Raises:
        DataError: If it is damaged, empty, or holds Python objects.
    """
    import numpy as np

    try:
        # Opened here, for NumPy leaves the file of a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, AttributeError) as error:
        raise _damaged(path, str(error)) from None
    except ValueError as error:
        if "pickle" not in str(error) or not zipfile.is_zipfile(path):
            raise _damaged(path, str(error)) from None
        raise DataError(  # unpickling could run foreign code
            str(path),
            received="an array of Python objects, such as arrays of different lengths",
            expected="arrays of numbers or text",
            mend="Join the samples end to end and add their lengths: "
            "np.savez(path, x=np.concatenate(samples), length=[len(s) for s in samples], y=y).",
        ) from None
    if not any(array.size for array in arrays.values()):
        raise DataError(
            str(path),
            received=f"the archive holds {len(arrays)} array(s), all empty",
            expected="an array of samples",
            mend="Check how it was written.",
        )
    return arrays


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        str(path),
        received=f"not a readable NumPy archive ({reason})",
        expected="a file that numpy.savez or numpy.savez_compressed has written",
        mend="Write or download it again.",
    )


def _kind(archive: _Archive, task: str | None, rate: int | None) -> str:
    """Which kind of data the samples are: a value of the fact `data.task`.

    Raises:
        OptionError: If the samples cannot be what was asked for.
    """
    x = archive.samples
    found = _told_by_shape(archive, sound=task == "audio" or rate is not None)
    possible = {
        "tabular": x.ndim == 2 and archive.lengths is None,
        "image": x.ndim in (3, 4) and archive.lengths is None,
        "audio": x.ndim <= 2 and x.dtype.kind in "iuf",
        "sequence": x.ndim <= 3 and x.dtype.kind in "biuf",
    }
    if task is not None and not possible.get(task, False):
        raise OptionError(
            "task",
            received=f"`{task}`, and `{archive.samples_key}` has the shape {x.shape}",
            expected=f"one that fits it, such as {found}",
            mend="Leave the task out, or check the arrays of the file.",
        )
    return task or found


def _told_by_shape(archive: _Archive, *, sound: bool) -> str:
    x, lengths = archive.samples, archive.lengths
    if x.ndim == 1:
        return "audio" if sound or x.dtype.name == "int16" else "sequence"
    if x.ndim == 2 and sound:
        return "audio"
    if x.ndim == 2:
        return "tabular" if lengths is None else "sequence"
    square = x.ndim == 3 and x.shape[1] == x.shape[2] >= _LEAST_SIDE
    if x.ndim == 3 and (lengths is not None or not (square or x.dtype.name == "uint8")):
        return "sequence"
    return "image"


def _recordings(archive: _Archive, rate: int | None) -> tuple[Content, npt.NDArray[np.int64]]:
    """Recordings joined end to end, or padded to one length; and which of them are not empty."""
    import numpy as np

    x, counts = archive.samples, archive.lengths
    if x.ndim == 1:
        return joined(x, archive.needed_lengths(), rate, where=archive.where)
    counts = np.full(len(x), x.shape[1]) if counts is None else counts
    real = np.arange(x.shape[1])[None] < counts[:, None]
    return joined(x[real], counts, rate, where=archive.where)


def _sequences(archive: _Archive) -> tuple[Content, npt.NDArray[np.int64]]:
    """Sequences padded to one length, or joined end to end; and which of them are not empty."""
    x, counts = archive.samples, archive.lengths
    if x.ndim == 3 or (x.ndim == 2 and (counts is None or len(counts) == len(x) != counts.sum())):
        return padded(x, counts, where=archive.where)
    return end_to_end(x, archive.needed_lengths(), where=archive.where)


def _pictures(archive: _Archive, name: str, target: Sequence[str]) -> Dataset:
    """Pictures with a label each, or with labels of their pixels."""
    from smarttune.data.image_sources import image_arrays

    key = target[0] if target else archive.named(_TARGETS)
    if key is not None and key not in archive.arrays:
        key = resolve_target(key, list(archive.arrays), where=archive.where)
    labels = None if key is None else archive.arrays[key]
    others = [c for c in archive.columns if key not in (c, str(c).rpartition("_")[0])]
    made = image_arrays(archive.samples, labels, archive.where, archive.columns[others])
    return replace(made, name=name, read_options={"path": archive.where, "target": key})


def _table(archive: _Archive, target: Sequence[str]) -> tuple[RawTable, list[str]]:
    """A matrix of rows and columns, and beside it the other columns."""
    import pandas as pd

    names = [f"column_{i}" for i in range(1, archive.samples.shape[1] + 1)]
    frame = pd.DataFrame(archive.samples, columns=names).join(archive.columns)
    wanted = archive.targets(target)
    options = {"path": archive.where, "target": wanted[0] if len(wanted) == 1 else wanted or None}
    return RawTable(frame, len(frame), warnings=archive.warnings, options=options), wanted
