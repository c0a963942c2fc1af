"""Sources of pictures: a folder, a table of paths, npz and IDX files, arrays in memory."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.dataset import Dataset, Progress
from smarttune.data.decoding import header_of, why_broken
from smarttune.data.folders import Listing, kind_of_path
from smarttune.data.idx import label_file, read_idx
from smarttune.data.images import MEASURED_FILES, ImageArrays, ImageFiles, spread
from smarttune.data.names import SHOWN_NAMES, listed
from smarttune.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# Names under which archives keep pictures and what they show, the usual ones first.
_NAMES = (
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("image", "label"),
    ("data", "target"),
    ("x_train", "y_train"),
    ("train_images", "train_labels"),
)
# ours: up to so many bytes all pictures are decoded once to find broken ones, which takes
# seconds; of larger folders only the first and last bytes of each file are looked at.
DECODED_BYTES = 32 * 1024 * 1024
# ours: progress is told after so many files.
_TOLD_EVERY = 200
# ours: more channels than red, green, blue and transparency are no picture.
_MOST_CHANNELS = 4


def images_of_folder(
    listing: Listing, *, masks: str | None = None, progress: Progress | None = None
) -> Dataset:
    """Pictures in a folder, the class of each told by its subfolder or by a label picture.

    Broken files are left out, and named.

    Args:
        listing: The files.
        masks: Folder with a label picture of the same name for each picture: segmentation.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If no picture can be read, or one has no label picture.
        MissingExtraError: If Pillow is not installed.
    """
    import pandas as pd

    paths = [Path(p) for p in listing.paths]
    kept, notes = _whole(paths, listing.root, progress)
    paths = [paths[i] for i in kept]
    channels, more = _channels(paths)
    beside = _masks_beside(paths, Path(masks)) if masks is not None else ()
    said = (*listing.warnings(), *notes, *more)
    target = None
    if masks is not None:
        target = pd.Series([Path(p).name for p in beside], name="mask")
    elif listing.labels is not None:
        target = pd.Series([listing.labels[i] for i in kept], name="label")
    return Dataset(
        name=listing.root.name,
        features=pd.DataFrame({"path": [str(p.relative_to(listing.root)) for p in paths]}),
        target=target,
        num_rows=len(paths),
        warnings=said,
        where=str(listing.root),
        read_options={"path": str(listing.root), "target": None, "masks": masks},
        task="image",
        content=ImageFiles(
            tuple(map(str, paths)), channels, beside, flips_matter=_single_characters(target)
        ),
    )


def images_of_table(table: Dataset, column: str, progress: Progress | None = None) -> Dataset:
    """Pictures whose paths stand in a column of a table, relative to the table's folder.

    Raises:
        DataError: If none of the files can be read.
    """
    where = Path(table.where)
    folder = where.parent
    paths = [folder / str(cell) for cell in table.features[column]]
    kept, notes = _whole(paths, where, progress)
    channels, more = _channels([paths[i] for i in kept])
    target = _some(table.target, kept)
    content = ImageFiles(
        tuple(str(paths[i]) for i in kept), channels, flips_matter=_single_characters(target)
    )
    unused = [c for c in table.features.columns if c != column]
    said = (f"{len(unused)} column(s) beside the pictures not used: {listed(unused)}.",)
    return replace(
        table,
        features=table.features[[column]].iloc[kept].reset_index(drop=True),
        target=target,
        groups=_some(table.groups, kept),
        warnings=(*table.warnings, *notes, *more, *(said if unused else ())),
        task="image",
        content=content,
    )


def images_of_archive(path: Path) -> Dataset:
    """Pictures and labels in an npz file.

    The arrays are called x and y, images and labels, data and target, or x_train and y_train;
    an array y of shape (n, height, width) labels pixels.

    Raises:
        DataError: If the file is broken or holds no pictures under these names.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            str(path),
            received=f"the archive cannot be read ({error})",
            expected="an npz file of plain arrays, as numpy.savez writes it",
            mend="Write it again, without objects.",
        ) from None
    for x, y in _NAMES:
        if x in held:
            dataset = images_of_arrays(held[x], held.get(y), where=str(path))
            options = {"path": str(path), "target": None}
            return replace(dataset, name=path.stem, read_options=options)
    shapes = ", ".join(f"`{n}` {a.shape}" for n, a in held.items())
    raise DataError(
        str(path),
        received=f"it holds {shapes or 'nothing'}",
        expected="an array x of pictures, (n, height, width) or with channels, and an array y",
        mend="Save them with numpy.savez(path, x=pictures, y=labels).",
    )


def images_of_idx(path: Path) -> Dataset:
    """Pictures in an IDX file, with the file of labels beside it where there is one.

    Raises:
        DataError: If a file is broken, or pictures and labels differ in number.
    """
    beside = label_file(path)
    labels = None if beside is None else read_idx(beside)
    dataset = images_of_arrays(read_idx(path), labels, where=str(path))
    name = path.name.removesuffix(".gz")
    return replace(dataset, name=name, read_options={"path": str(path), "target": None})


def images_of_arrays(x: Any, y: Any, *, where: str = "X") -> Dataset:
    """Pictures in memory.

    Args:
        x: Pictures, shape (n, height, width) or (n, height, width, channels); bytes, or
            floats from 0 to 1 or from 0 to 255.
        y: Labels, shape (n,) or (n, 1); 0/1 columns, shape (n, labels); classes of the pixels,
            shape (n, height, width); or None.
        where: What errors call them.

    Raises:
        DataError: If the shapes do not fit.
    """
    import numpy as np
    import pandas as pd

    pixels, notes = _bytes(np.asarray(x), where)
    target, masks = None, None
    if y is not None:
        if len(y) != len(pixels):
            raise DataError(
                where,
                received=f"there are {len(pixels):,} pictures and {len(y):,} labels",
                expected="one label per picture",
                mend="Check that both belong to the same part of the data.",
            )
        target, masks = _labels(y, pixels, where)
    if masks is not None:
        target = pd.Series(np.arange(len(pixels)), name="mask")
    digits = pixels.shape[3] == 1 and _single_characters(target)
    return Dataset(
        name=where,
        features=pd.DataFrame({"picture": np.arange(len(pixels))}),
        target=target,
        num_rows=len(pixels),
        warnings=notes,
        where=where,
        task="image",
        content=ImageArrays(pixels, masks, flips_matter=digits),
    )


def _bytes(x: npt.NDArray[Any], where: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Pictures as bytes with an axis of channels, and what was changed for that."""
    import numpy as np

    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or not 1 <= x.shape[3] <= _MOST_CHANNELS or 0 in x.shape:
        raise DataError(
            where,
            received=f"the pictures have the shape {x.shape}",
            expected="(n, height, width), or (n, height, width, channels) with 1 to 4 channels",
            mend="Move the axis of channels to the end: numpy.moveaxis(x, 1, -1).",
        )
    if x.dtype == np.uint8:
        return x, ()
    if x.dtype.kind not in "biuf" or not np.isfinite(low := float(x.min())):
        raise DataError(
            where,
            received=f"the pictures are of type {x.dtype}, or some values are not finite",
            expected="bytes from 0 to 255, or numbers",
            mend="Convert them with x.astype('uint8').",
        )
    high = float(x.max())
    if low >= 0 and high <= 1:
        return np.rint(x * 255.0).astype(np.uint8), ()
    if low >= 0 and high <= 255:
        return np.rint(x).astype(np.uint8), ()
    stretched = (x.astype(np.float32) - low) * (255.0 / (high - low))
    note = f"The values from {low:g} to {high:g} of the pictures were scaled to 0..255."
    return np.rint(stretched).astype(np.uint8), (note,)


def _labels(
    y: Any, pixels: npt.NDArray[np.uint8], where: str
) -> tuple[pd.Series | pd.DataFrame | None, npt.NDArray[np.integer[Any]] | None]:
    """One label or row of labels per picture, or one class per pixel."""
    import numpy as np
    import pandas as pd

    if isinstance(y, (pd.Series, pd.DataFrame)):
        return y.reset_index(drop=True), None
    labels = np.asarray(y)
    if labels.ndim >= 3:
        labels = labels[..., 0] if labels.ndim == 4 and labels.shape[3] == 1 else labels
        if labels.shape != pixels.shape[:3] or labels.dtype.kind not in "biu":
            raise DataError(
                where,
                received=f"the labels have the shape {labels.shape} and the type {labels.dtype}",
                expected=f"one whole number per pixel, shape {pixels.shape[:3]}",
                mend="Save the classes of the pixels as integers of the pictures' size.",
            )
        return None, labels.astype(np.int32)
    if labels.ndim == 2 and labels.shape[1] > 1:
        return pd.DataFrame(labels, columns=[f"label_{i}" for i in range(labels.shape[1])]), None
    return pd.Series(labels.ravel(), name="label"), None


def _whole(
    paths: Sequence[Path], where: Path, progress: Progress | None
) -> tuple[list[int], tuple[str, ...]]:
    """Places of the pictures that can be read, and a sentence on those that cannot."""
    sizes = [p.stat().st_size if p.exists() else 0 for p in paths]
    thorough = sum(sizes) <= DECODED_BYTES
    broken: dict[int, str] = {}
    for place, path in enumerate(paths):
        reason = why_broken(path, thorough=thorough)
        if reason is not None:
            broken[place] = reason
        if progress is not None and place % _TOLD_EVERY == 0:
            progress(place / len(paths))
    kept = [i for i in range(len(paths)) if i not in broken]
    shown = "; ".join(f"{paths[i]} ({why})" for i, why in list(broken.items())[:SHOWN_NAMES])
    more = f" and {len(broken) - SHOWN_NAMES:,} more" if len(broken) > SHOWN_NAMES else ""
    if not kept:
        raise DataError(
            str(where),
            received=f"none of its {len(paths):,} pictures can be read: {shown}{more}",
            expected="pictures in formats such as PNG and JPEG",
            mend="Check one of them with a viewer, and the paths if they are listed in a table.",
        )
    if not broken:
        return kept, ()
    said = f"{len(broken):,} of {len(paths):,} picture(s) cannot be read and are left out"
    return kept, (f"{said}: {shown}{more}.",)


def _channels(paths: Sequence[Path]) -> tuple[int, tuple[str, ...]]:
    """Channels for all pictures, and sentences on modes and sizes that are mixed."""
    chosen = spread(len(paths), MEASURED_FILES)
    headers = [h for i in chosen if (h := header_of(paths[i])) is not None]
    grey = sum(mode in _GREY for _, mode in headers)
    notes = []
    if 0 < grey < len(headers):
        notes.append(
            f"{grey:,} of {len(headers):,} pictures looked at are grey and the others are in "
            "colour: all are read in colour."
        )
    sizes = Counter(size for size, _ in headers)
    if len(sizes) > 1:
        (width, height), count = sizes.most_common(1)[0]
        notes.append(
            f"The pictures differ in size ({len(sizes):,} sizes; {count:,} of {len(headers):,} "
            f"have {width} x {height} pixels): all are scaled to one square."
        )
    return (1 if grey == len(headers) else 3), tuple(notes)


# Modes of Pillow that hold shades of grey, some with transparency.
_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L"})


def _masks_beside(paths: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """The label picture of each picture: the same name in another folder."""
    if not folder.is_dir():
        raise DataError(
            str(folder),
            received="there is no such folder",
            expected="a folder with one label picture per picture",
            mend="Check the path after --masks.",
        )
    by_stem = {p.stem: str(p) for p in sorted(folder.rglob("*")) if kind_of_path(p) == "image"}
    missing = [p.name for p in paths if p.stem not in by_stem]
    if missing:
        raise DataError(
            str(folder),
            received=f"it has no label picture for {len(missing):,} picture(s): {listed(missing)}",
            expected="one of the same name for each picture",
            mend="Add them, or move those pictures elsewhere.",
        )
    return tuple(by_stem[p.stem] for p in paths)


def _single_characters(target: pd.Series | pd.DataFrame | None) -> bool:
    """Whether classes are named by digits or letters, which mirrored are others or none."""
    if target is None or target.ndim == 2 or target.dtype.kind == "f":
        return False
    names = {str(label) for label in target.unique()}
    return len(names) > 2 and all(len(name) == 1 and name.isalnum() for name in names)


def _some(values: Any, kept: list[int]) -> Any:
    return None if values is None else values.iloc[kept].reset_index(drop=True)
