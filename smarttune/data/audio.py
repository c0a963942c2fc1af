"""Recordings as the contents of samples: WAV files read when asked for, or samples in memory."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smarttune.data.content import Content, Progress
from smarttune.data.dataset import Dataset, ReadOptions
from smarttune.data.folders import Listing
from smarttune.data.labelling import labelled
from smarttune.data.names import listed
from smarttune.data.sequences import USUAL_PERCENTILE
from smarttune.data.wav import (
    UnreadableRecordingError,
    WavHeader,
    read_header,
    read_samples,
    whole_samples,
)
from smarttune.errors import DataError, OptionError
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# ours: files between two calls of a progress function.
_TOLD_EVERY = 200
_SHOWN_FILES = 3  # ours: broken files named before the rest is counted


class Recordings(Content):
    """One recording per sample, all at one rate.

    Attributes:
        sample_rate: Samples per second of what `take` returns.
    """

    task: ClassVar[str] = "audio"

    sample_rate: int

    @property
    @abstractmethod
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each recording."""

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int16]]:
        """Recordings with one channel, int16, each of shape (its length,)."""

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Hours of all, their rate, the median length, and the length that one in twenty exceeds."""
        import numpy as np

        seconds = self.lengths / self.sample_rate
        return {
            "data.audio_hours": float(seconds.sum() / 3600),
            "data.sample_rate": float(self.sample_rate),
            "data.clip_seconds": float(np.median(seconds)),
            "data.long_clip_seconds": float(np.percentile(seconds, USUAL_PERCENTILE)),
        }


@dataclass(frozen=True, eq=False)
class AudioFiles(Recordings):
    """WAV files, one per sample.

    Attributes:
        paths: The files.
        headers: How each is written.
        sample_rate: The rate to which files of another are converted.
        notes: What the user should know.
    """

    paths: tuple[str, ...]
    headers: tuple[WavHeader, ...]
    sample_rate: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each recording after conversion."""
        import numpy as np

        frames = np.array([h.num_frames for h in self.headers], np.int64)
        rates = np.array([h.rate for h in self.headers], np.int64)
        return -(-frames * self.sample_rate // rates)  # rounded up, as the conversion does

    def take(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int16]]:
        """Read some recordings.

        Raises:
            DataError: If a file has gone or changed since its header was read.
        """
        return [self._read(self.paths[i], self.headers[i]) for i in rows]

    def select(self, rows: npt.NDArray[np.int64]) -> AudioFiles:
        """Some of the recordings, numbered from 0."""
        paths, headers = (tuple(part[i] for i in rows) for part in (self.paths, self.headers))
        return AudioFiles(paths, headers, self.sample_rate, self.notes)

    def digest(self) -> str:
        """A hash of every file's path, size and time of change."""
        found = hashlib.sha256(str(self.sample_rate).encode())
        for path in self.paths:
            state = Path(path).stat()
            found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return found.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """Files that were skipped or had to be converted."""
        return self.notes

    def _read(self, path: str, header: WavHeader) -> npt.NDArray[np.int16]:
        try:
            return converted(read_samples(Path(path), header), header.rate, self.sample_rate)
        except UnreadableRecordingError as error:
            raise DataError(
                path,
                received=str(error),
                expected="the recording that was there when the data were first read",
                mend="Leave the files alone while they are used, and start again.",
            ) from None


@dataclass(frozen=True, eq=False)
class AudioArrays(Recordings):
    """Recordings in memory, joined end to end.

    Attributes:
        samples: int16, one channel, shape (samples of all recordings,).
        starts: Place of the first sample of each recording.
        counts: Samples of each recording.
        sample_rate: Samples per second.
        notes: What the user should know.
    """

    samples: npt.NDArray[np.int16]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    sample_rate: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each recording."""
        return self.counts

    def take(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int16]]:
        """Recordings with one channel, int16, each of shape (its length,)."""
        return [self.samples[self.starts[i] : self.starts[i] + self.counts[i]] for i in rows]

    def select(self, rows: npt.NDArray[np.int64]) -> AudioArrays:
        """Some of the recordings, numbered from 0; the samples are shared, not copied."""
        starts, counts = self.starts[rows], self.counts[rows]
        return AudioArrays(self.samples, starts, counts, self.sample_rate, self.notes)

    def digest(self) -> str:
        """A hash of all samples and of where recordings begin and end."""
        import numpy as np

        found = hashlib.sha256(f"{self.sample_rate} {len(self)}".encode())
        for part in (self.starts, self.counts, self.samples):
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What was found when the arrays were read."""
        return self.notes


def audio_folder(
    listing: Listing, options: ReadOptions, progress: Progress | None = None
) -> Dataset:
    """Recordings in a folder, the class of each told by its subfolder.

    Args:
        listing: The files.
        options: Read is `sample_rate`.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If no file is a recording.
        OptionError: If the rate is no positive number.
    """
    import pandas as pd

    where = str(listing.root)
    content, kept = open_recordings(
        listing.paths, where=where, sample_rate=options.get("sample_rate"), progress=progress
    )
    names = [str(Path(path).relative_to(listing.root)) for path in content.paths]
    columns = pd.DataFrame({"path": names})
    warnings = list(listing.warnings())
    if listing.labels is not None:
        columns["label"] = [listing.labels[i] for i in kept]
        lost = sorted(set(listing.labels) - set(columns["label"]))
        if lost:
            warnings.append(f"No recording of {len(lost)} class(es) is usable: {listed(lost)}.")
    target = ["label"] if listing.labels is not None else []
    made = labelled(
        content, columns, target, where=where, name=listing.root.name, warnings=warnings
    )
    return replace(made, read_options={"path": where, "target": None})


def audio_table(
    table: Dataset,
    column: str,
    root: Path,
    options: ReadOptions,
    progress: Progress | None = None,
) -> Dataset:
    """Recordings whose paths stand in a column of a table.

    Args:
        table: The table; its other columns stay.
        column: Name of the column of paths.
        root: Folder to which they are relative.
        options: Read is `sample_rate`.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If no file is a recording.
        OptionError: If the rate is no positive number.
    """
    import numpy as np

    # A missing cell becomes the folder itself, which is no recording and so is told.
    cells = table.features[column].fillna("").astype("str")
    content, kept = open_recordings(
        [str(root / cell) for cell in cells],
        where=table.where,
        sample_rate=options.get("sample_rate"),
        progress=progress,
    )
    return replace(table.select(np.array(kept)), task="audio", content=content)


def open_recordings(
    paths: Sequence[str],
    *,
    where: str,
    sample_rate: int | None = None,
    progress: Progress | None = None,
) -> tuple[AudioFiles, list[int]]:
    """Read the headers of WAV files; those that are no recordings are left out.

    The rate of most files becomes the rate of all; others are converted when they are read.

    Args:
        paths: The files, one per sample.
        where: What errors call them together.
        sample_rate: The rate to convert to instead.
        progress: Called with the share of the headers read.

    Returns:
        The recordings, and the places in `paths` of those kept.

    Raises:
        DataError: If no file is a recording.
        OptionError: If the rate is no positive number.
    """
    checked_rate(sample_rate)
    kept: list[int] = []
    headers: list[WavHeader] = []
    broken: list[tuple[str, str]] = []
    for place, path in enumerate(paths):
        try:
            headers.append(read_header(Path(path)))
            kept.append(place)
        except UnreadableRecordingError as error:
            broken.append((path, str(error)))
        if progress is not None and place % _TOLD_EVERY == 0:
            progress(place / len(paths))
    if not headers:
        raise _no_recordings(broken, where)
    rates = Counter(h.rate for h in headers)
    # The most frequent rate; of two equally frequent ones the lower, which all files can fill.
    rate = sample_rate or max(rates, key=lambda r: (rates[r], -r))
    notes = _notes(broken, headers, rate, len(paths))
    return AudioFiles(tuple(paths[i] for i in kept), tuple(headers), rate, tuple(notes)), kept


def joined(
    samples: npt.NDArray[Any],
    counts: npt.NDArray[np.int64],
    sample_rate: int | None,
    *,
    where: str,
) -> tuple[AudioArrays, npt.NDArray[np.int64]]:
    """Recordings that lie in one array, end to end.

    Args:
        samples: Whole numbers of up to 16 bits, or floats between -1 and 1, shape (total,).
        counts: Samples of each recording, shape (n,).
        sample_rate: Samples per second.
        where: What errors call the source.

    Returns:
        The recordings, and which of the n they are: empty ones are left out.

    Raises:
        DataError: If the rate is unknown, the lengths do not sum up to the samples, or nothing
            is left.
        OptionError: If the rate is no positive number.
    """
    import numpy as np

    if sample_rate is None:
        raise DataError(
            where,
            received="the recordings do not say how many samples make a second",
            expected="an entry `rate`, or the option",
            mend="Say it: --sample-rate 16000 (sample_rate=16000 in Python).",
        )
    checked_rate(sample_rate)
    total = int(counts.sum())
    if total != len(samples) or (counts < 0).any():
        raise DataError(
            where,
            received=f"the lengths sum up to {total:,} and there are {len(samples):,} samples",
            expected="the length of every recording, in samples",
            mend="Check that lengths and samples belong together and count samples, not seconds.",
        )
    kept = np.flatnonzero(counts > 0)
    if not len(kept):
        raise DataError(
            where,
            received=f"all {len(counts):,} recordings are empty",
            expected="samples in most recordings",
            mend="Check how the lengths were counted.",
        )
    empty = len(counts) - len(kept)
    note = f"{empty:,} of {len(counts):,} recording(s) hold no samples and were skipped."
    starts = np.cumsum(counts) - counts
    whole = sixteen_bits(samples, where=where)
    notes = (note,) if empty else ()
    return AudioArrays(whole, starts[kept], counts[kept], int(sample_rate), notes), kept


def sixteen_bits(samples: npt.NDArray[Any], *, where: str) -> npt.NDArray[np.int16]:
    """Samples of any usual type as int16.

    Raises:
        DataError: If they are neither whole numbers of 16 bits nor floats between -1 and 1.
    """
    import numpy as np

    if samples.dtype == np.int16:
        return samples
    peak = float(np.abs(np.nan_to_num(samples.astype(np.float64))).max(initial=0.0))
    if samples.dtype.kind == "f" and peak <= 1.0:
        return whole_samples(samples)
    if samples.dtype.kind in "iuf" and peak <= -np.iinfo(np.int16).min:
        clipped = np.clip(np.nan_to_num(samples), -32768, 32767)
        result: npt.NDArray[np.int16] = np.rint(clipped).astype(np.int16)
        return result
    raise DataError(
        where,
        received=f"samples of type {samples.dtype} that reach {peak:,.0f}",
        expected="16-bit whole numbers, or floats between -1 and 1",
        mend="Scale the samples to one of these.",
    )


def converted(samples: npt.NDArray[np.int16], rate: int, wanted: int) -> npt.NDArray[np.int16]:
    """Samples at another rate, through a low-pass filter that keeps tones from folding over."""
    import numpy as np

    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # type: ignore[import-untyped]

    common = math.gcd(rate, wanted)
    new = resample_poly(samples.astype(np.float32), wanted // common, rate // common)
    result: npt.NDArray[np.int16] = np.rint(np.clip(new, -32768, 32767)).astype(np.int16)
    return result


def checked_rate(sample_rate: int | None) -> None:
    """Refuse a rate that is none.

    Raises:
        OptionError: If it is not positive.
    """
    if sample_rate is not None and sample_rate < 1:
        raise OptionError(
            "sample_rate",
            received=f"{sample_rate} samples per second",
            expected="a positive number, such as 16000",
            mend="Leave it out where the files say it themselves.",
        )


def _no_recordings(broken: Sequence[tuple[str, str]], where: str) -> DataError:
    path, reason = broken[0] if broken else (where, "there is no file")
    return DataError(
        where,
        received=f"none of {len(broken):,} file(s) can be read; {Path(path).name}: {reason}",
        expected="WAV files of plain samples (PCM or float)",
        mend=f"Convert them, for example with: ffmpeg -i {Path(path).name} new.wav",
    )


def _notes(
    broken: Sequence[tuple[str, str]], headers: Sequence[WavHeader], rate: int, count: int
) -> list[str]:
    """One sentence for each thing that was not as it should be."""
    notes = []
    if broken:
        shown = "; ".join(f"{path}: {reason}" for path, reason in broken[:_SHOWN_FILES])
        more = f"; and {len(broken) - _SHOWN_FILES} more" if len(broken) > _SHOWN_FILES else ""
        notes.append(
            f"{len(broken):,} of {count:,} file(s) are no usable recordings and were skipped: "
            f"{shown}{more}."
        )
    others = Counter(h.rate for h in headers if h.rate != rate)
    if others:
        rates = [f"{number:,} file(s) at {r:,} Hz" for r, number in others.most_common()]
        notes.append(
            f"The recordings differ in sample rate: {listed(rates).replace('`', '')} are converted "
            f"to {rate:,} Hz."
        )
    several = sum(h.channels > 1 for h in headers)
    if several:
        notes.append(
            f"{several:,} recording(s) have several channels; the mean of the channels is used."
        )
    return notes
