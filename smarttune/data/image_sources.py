"""Sources of pictures: a folder, a table of paths, IDX files, arrays in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.content import Progress
from smarttune.data.dataset import Dataset, ReadOptions
from smarttune.data.decoding import header_of, why_broken
from smarttune.data.folders import Listing, kind_of_path
from smarttune.data.idx import label_file, read_idx
from smarttune.data.images import MEASURED_FILES, ImageArrays, ImageFiles, spread
from smarttune.data.labelling import labelled
from smarttune.data.names import SHOWN_NAMES, listed
from smarttune.errors import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# ours: up to so many bytes and files all pictures are decoded once to find broken ones, which
# takes seconds; of larger folders only the first and last bytes of each file are looked at.
DECODED_BYTES, DECODED_FILES = 32 * 1024 * 1024, 20_000
# ours: above this share the paths or the format are wrong, not some files.
MOST_BROKEN = 0.5
# ours: progress is told after so many files.
_TOLD_EVERY = 200
# ours: more channels than red, green, blue and transparency are no picture.
_MOST_CHANNELS = 4


def image_folder(
    listing: Listing, options: ReadOptions, progress: Progress | None = None
) -> Dataset:
    """Pictures in a folder, the class of each told by its subfolder or by a label picture.

    Broken files are left out, and named.

    Args:
        listing: The files.
        options: Read is `masks`, a folder with a label picture of the same name for each
            picture: segmentation.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If most pictures cannot be read, or one has no label picture.
        MissingExtraError: If Pillow is not installed.
    """
    import pandas as pd

    masks = options.get("masks")
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


def image_table(
    table: Dataset, column: str, root: Path, progress: Progress | None = None
) -> Dataset:
    """Pictures whose paths stand in a column of a table, relative to a folder.

    Args:
        table: One row per picture; rows whose file cannot be read are left out, and named.
        column: The column of paths.
        root: The folder that relative paths start from.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If most of the files cannot be read.
        MissingExtraError: If Pillow is not installed.
    """
    where = Path(table.where)
    paths = [root / str(cell) for cell in table.features[column]]
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


def read_idx_images(path: Path, target: str | None, options: ReadOptions) -> Dataset:
    """Pictures in an IDX file, with the file of labels beside it where there is one.

    Args:
        path: The file of pictures; `...-images-idx3-ubyte` finds `...-labels-idx1-ubyte`.
        target: No column can be named here.
        options: Nothing is read of them.

    Raises:
        DataError: If a file is broken, or pictures and labels differ in number.
        OptionError: If a target is named.
    """
    if target is not None:
        raise OptionError(
            "--target",
            received=f"`{target}`, with an IDX file of pictures",
            expected="no target: the labels are in the file beside it",
            mend="Leave it out.",
        )
    beside = label_file(path)
    labels = None if beside is None else read_idx(beside)
    dataset = image_arrays(read_idx(path), labels, str(path))
    name = path.name.removesuffix(".gz")
    return replace(dataset, name=name, read_options={"path": str(path), "target": None})


def image_arrays(x: Any, y: Any, where: str = "X", beside: pd.DataFrame | None = None) -> Dataset:
    """Pictures in memory.

    Args:
        x: Pictures, shape (n, height, width) or (n, height, width, channels); bytes, or
            floats from 0 to 1 or from 0 to 255.
        y: Labels, shape (n,) or (n, 1); 0/1 columns, shape (n, labels); classes of the pixels,
            shape (n, height, width); or None. Pictures without a label are left out.
        where: What errors call them.
        beside: Further columns, one row per picture.

    Raises:
        DataError: If the shapes do not fit.
    """
    import numpy as np
    import pandas as pd

    pixels, notes = _bytes(np.asarray(x), where)
    labels, masks = pd.DataFrame(index=range(len(pixels))), None
    if y is not None:
        if len(y) != len(pixels):
            raise DataError(
                where,
                received=f"there are {len(pixels):,} pictures and {len(y):,} labels",
                expected="one label per picture",
                mend="Check that both belong to the same part of the data.",
            )
        labels, masks = _labels(y, pixels, where)
    columns = labels if beside is None else labels.join(beside)
    content = ImageArrays(pixels, masks)
    names = [str(c) for c in labels.columns]
    if masks is None and pixels.shape[3] == 1 and len(names) == 1:
        content = replace(content, flips_matter=_single_characters(labels[names[0]]))
    return labelled(
        content,
        columns,
        names,
        where=where,
        name=where,
        warnings=notes,
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
) -> tuple[pd.DataFrame, npt.NDArray[np.integer[Any]] | None]:
    """One label or row of labels per picture, or one class per pixel."""
    import numpy as np
    import pandas as pd

    if isinstance(y, pd.DataFrame):
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
        return pd.DataFrame({"mask": np.arange(len(labels))}), labels.astype(np.int32)
    cells = labels.astype(object) if labels.dtype.kind in "SU" else labels
    if labels.ndim == 2 and labels.shape[1] > 1:
        return pd.DataFrame(cells, columns=[f"label_{i}" for i in range(labels.shape[1])]), None
    return pd.DataFrame({"label": cells.ravel()}), None


def _whole(
    paths: Sequence[Path], where: Path, progress: Progress | None
) -> tuple[list[int], tuple[str, ...]]:
    """Places of the pictures that can be read, and a sentence on those that cannot."""
    sizes = [p.stat().st_size if p.exists() else 0 for p in paths]
    thorough = sum(sizes) <= DECODED_BYTES and len(sizes) <= DECODED_FILES
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
    if len(broken) > MOST_BROKEN * len(paths):
        raise DataError(
            str(where),
            received=f"{len(broken):,} of its {len(paths):,} picture(s) cannot be read: "
            f"{shown}{more}",
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


def _single_characters(target: Any) -> bool:
    """Whether classes are named by digits or letters, which mirrored are others or none."""
    if target is None or target.ndim == 2 or target.dtype.kind == "f":
        return False
    names = {str(label) for label in target.unique().tolist()}
    return len(names) > 2 and all(len(name) == 1 and name.isalnum() for name in names)


def _some(values: Any, kept: list[int]) -> Any:
    return None if values is None else values.iloc[kept].reset_index(drop=True)
