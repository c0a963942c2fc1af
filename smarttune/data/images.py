"""Pictures as the contents of samples: files decoded when asked for, or arrays in memory."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smarttune.data.content import Content, Progress
from smarttune.data.decoding import decoded, header_of, nearest, read_mask, smooth
from smarttune.errors import DataError, OptionError
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from smarttune.data.problem import TargetProfile

# ours: headers of so many files tell the sizes and channels of any folder.
MEASURED_FILES = 2_000
# ours: label pictures of so many samples tell the classes of pixels.
MEASURED_MASKS = 500
# ours: progress is told after so many files.
_TOLD_EVERY = 200


@dataclass(frozen=True)
class ImageFiles(Content):
    """Pictures on disk, one file per sample.

    Attributes:
        paths: The files.
        channels: 1 where all are grey, else 3; every picture is converted to it.
        masks: One label picture per picture, whose grey values or palette indices are the
            classes of the pixels; empty where samples have a label of their own.
        flips_matter: Whether a mirrored picture would need another label.
    """

    task: ClassVar[str] = "image"

    paths: tuple[str, ...]
    channels: int
    masks: tuple[str, ...] = ()
    flips_matter: bool = False
    _broken: set[str] = field(default_factory=set, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: npt.NDArray[np.int64]) -> Any:
        """Decoded pictures, uint8: (n, height, width, channels), or a list if sizes differ."""
        return _stacked([self._decoded(self.paths[i], None) for i in rows])

    def resized(self, rows: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.uint8]:
        """Pictures scaled to a square, uint8, shape (n, side, side, channels)."""
        import numpy as np

        out = np.empty((len(rows), side, side, self.channels), np.uint8)
        for place, row in enumerate(rows):
            out[place] = self._decoded(self.paths[row], side)
        return out

    def resized_masks(self, rows: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
        """Values of the label pictures at the nearest pixels, shape (n, side, side)."""
        import numpy as np

        return np.stack([nearest(read_mask(Path(self.masks[i])), side) for i in rows])

    def with_channels(self, channels: int) -> ImageFiles:
        """The same pictures, converted to grey (1) or colour (3).

        Raises:
            DataError: If files have no such number of channels.
        """
        if channels not in (1, 3):
            raise _other_channels("files of pictures", f"arrays with {channels} channels")
        return replace(self, channels=channels)

    def select(self, rows: npt.NDArray[np.int64]) -> ImageFiles:
        """Some of the pictures, numbered from 0."""
        masks = tuple(self.masks[i] for i in rows) if self.masks else ()
        return replace(self, paths=tuple(self.paths[i] for i in rows), masks=masks)

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Median shorter side of at most 2,000 files, from their headers, and the channels."""
        import numpy as np

        chosen = spread(len(self.paths), MEASURED_FILES)
        sides = []
        for place, row in enumerate(chosen):
            header = header_of(Path(self.paths[row]))
            if header is not None:
                sides.append(min(header[0]))
            if progress is not None and place % _TOLD_EVERY == 0:
                progress(place / len(chosen))
        return {
            "data.image_side": int(np.median(sides)),
            "data.image_channels": self.channels,
            "data.flip_sensitive": self.flips_matter,
            **(_facts_of_classes(self.mask_counts()) if self.masks else {}),
        }

    def goal(self, problem: str | None) -> TargetProfile | None:
        """The classes of the pixels, where pixels are labelled.

        Raises:
            OptionError: If labels of pixels are given and another problem is asked for.
        """
        return _goal_of_classes(self.mask_counts(), problem) if self.masks else None

    def mask_counts(self, most: int | None = MEASURED_MASKS) -> dict[int, int]:
        """Pixels of each class in the label pictures of some samples, or of all (None)."""
        rows = spread(len(self.masks), len(self.masks) if most is None else most)
        return _counted(read_mask(Path(self.masks[i])) for i in rows)

    def digest(self) -> str:
        """A hash of every file's path, size and time of change."""
        found = hashlib.sha256()
        for path in (*self.paths, *self.masks):
            state = Path(path).stat()
            found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return found.hexdigest()

    def _decoded(self, path: str, side: int | None) -> npt.NDArray[np.uint8]:
        import numpy as np

        try:
            return decoded(Path(path), self.channels, side)
        except OSError as error:
            if path not in self._broken:  # told once, not in every epoch
                self._broken.add(path)
                warnings.warn(
                    f"{path} cannot be decoded ({error}) and counts as a black picture.",
                    UserWarning,
                    stacklevel=2,
                )
            return np.zeros((side or 1, side or 1, self.channels), np.uint8)


@dataclass(frozen=True)
class ImageArrays(Content):
    """Pictures of one size in memory.

    Attributes:
        pixels: uint8, shape (n, height, width, channels).
        labels: Class of each pixel, integers of shape (n, height, width); None where samples
            have a label of their own.
        flips_matter: Whether a mirrored picture would need another label.
    """

    task: ClassVar[str] = "image"

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer[Any]] | None = None
    flips_matter: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def channels(self) -> int:
        """Channels of every picture."""
        return int(self.pixels.shape[3])

    @property
    def masks(self) -> bool:
        """Whether pixels rather than pictures are labelled."""
        return self.labels is not None

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Pictures, uint8, shape (n, height, width, channels)."""
        return self.pixels[rows]

    def resized(self, rows: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.uint8]:
        """Pictures scaled to a square, uint8, shape (n, side, side, channels)."""
        return smooth(self.pixels[rows], side)

    def resized_masks(self, rows: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
        """Classes at the nearest pixels, shape (n, side, side)."""
        import numpy as np

        assert self.labels is not None
        return nearest(self.labels[rows].astype(np.int64), side)

    def with_channels(self, channels: int) -> ImageArrays:
        """Grey pictures with their one channel repeated.

        Raises:
            DataError: If they are not grey.
        """
        import numpy as np

        if self.channels != 1:
            raise _other_channels(f"pictures with {self.channels} channels", f"{channels}")
        shape = (*self.pixels.shape[:3], channels)
        return replace(self, pixels=np.broadcast_to(self.pixels, shape))

    def select(self, rows: npt.NDArray[np.int64]) -> ImageArrays:
        """Some of the pictures, numbered from 0."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, pixels=self.pixels[rows], labels=labels)

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Shorter side and channels, and the classes of the pixels where those are labelled."""
        found: dict[str, Value] = {
            "data.image_side": int(min(self.pixels.shape[1:3])),
            "data.image_channels": self.channels,
            "data.flip_sensitive": self.flips_matter,
        }
        return found | (_facts_of_classes(self.mask_counts()) if self.masks else {})

    def goal(self, problem: str | None) -> TargetProfile | None:
        """The classes of the pixels, where pixels are labelled.

        Raises:
            OptionError: If labels of pixels are given and another problem is asked for.
        """
        return _goal_of_classes(self.mask_counts(), problem) if self.masks else None

    def mask_counts(self, most: int | None = MEASURED_MASKS) -> dict[int, int]:
        """Pixels of each class in some samples, or in all (None)."""
        assert self.labels is not None
        rows = spread(len(self.labels), len(self.labels) if most is None else most)
        return _counted(self.labels[i] for i in rows)

    def digest(self) -> str:
        """A hash of all pixels and their labels."""
        import numpy as np

        found = hashlib.sha256(str(self.pixels.shape).encode())
        found.update(np.ascontiguousarray(self.pixels).data)
        if self.labels is not None:
            found.update(np.ascontiguousarray(self.labels).data)
        return found.hexdigest()


def _other_channels(received: str, expected: str) -> DataError:
    return DataError(
        "X",
        received=received,
        expected=f"{expected}, as the pictures that were learnt from",
        mend="Convert them, for example to grey by their mean over the last axis.",
    )


def spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of `count` places, evenly spread, so that every class has its share."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _counted(labels: Iterable[Any]) -> dict[int, int]:
    import numpy as np

    counts: dict[int, int] = {}
    for one in labels:
        for label, count in zip(*np.unique(one, return_counts=True), strict=True):
            counts[int(label)] = counts.get(int(label), 0) + int(count)
    return dict(sorted(counts.items()))


def _goal_of_classes(counts: dict[int, int], problem: str | None) -> TargetProfile:
    from smarttune.data.problem import TargetProfile

    if problem not in (None, "segmentation"):
        raise OptionError(
            "--problem",
            received=f"`{problem}`, with a class for every pixel",
            expected="segmentation",
            mend="Leave it out, or leave the label pictures out.",
        )
    if len(counts) < 2:
        raise DataError(
            "masks",
            received=f"all pixels of the label pictures are of class {next(iter(counts))}",
            expected="at least two classes to tell apart",
            mend="Check how the label pictures were made.",
        )
    evidence = f"Every pixel has one of {len(counts)} classes."
    classes, pixels = tuple(counts), tuple(counts.values())
    return TargetProfile("mask", "segmentation", evidence, classes, pixels)


def _facts_of_classes(counts: dict[int, int]) -> dict[str, Value]:
    few, many = min(counts.values()), max(counts.values())
    return {
        "model.problem": "segmentation",
        "data.num_classes": len(counts),
        "data.num_outputs": len(counts),
        "data.imbalance_ratio": many / few,
        "data.min_class_fraction": few / sum(counts.values()),
    }


def _stacked(pictures: list[Any]) -> Any:
    import numpy as np

    same = len({p.shape for p in pictures}) == 1
    return np.stack(pictures) if same else pictures
