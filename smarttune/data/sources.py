"""Which reader a source needs: files and folders other than plain tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smarttune.data.content import Progress
from smarttune.data.dataset import Dataset, RawTable, ReadOptions
from smarttune.data.folders import SUFFIXES, Listing, kind_of_path, scan
from smarttune.data.names import listed
from smarttune.data.opening import is_parquet, is_text
from smarttune.errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd

# ours: cells looked at to tell a column of file paths; one that is none settles it.
_PATHS_TRIED = 50

_JSON_LINES = (".jsonl", ".ndjson")


def read_whole(
    path: Path, target: list[str], options: ReadOptions, progress: Progress | None
) -> Dataset | tuple[RawTable, list[str]] | None:
    """Read a source that is no text table: a folder, arrays, pictures, plain text.

    Args:
        path: An existing path, or one that does not exist and so is no source of these.
        target: Names of target columns.
        options: What the user said of the source.
        progress: Called with the share read so far.

    Returns:
        The data set; a raw table and its target columns where arrays are one; or None where
        the source is a file with a table.
    """
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        return _read_folder(path, target, options, progress)
    if not path.exists():
        return None
    if name.endswith(".npz"):
        from smarttune.data.npz import read_npz

        return read_npz(path, target, options)
    if "-ubyte" in name or name.endswith((".idx", ".idx3", ".idx4")):
        from smarttune.data.image_sources import read_idx_images

        return read_idx_images(path, target[0] if target else None, options)
    if kind_of_path(path) == "image":
        from smarttune.data.image_sources import image_folder

        alone = Listing(path.parent, "image", [str(path)], None)
        return image_folder(alone, options, progress)
    if name.endswith(".txt") and not target and options.get("task") == "text":
        from smarttune.data.corpus import read_corpus

        return read_corpus(path, options, progress)
    return None


def _read_folder(
    path: Path, target: list[str], options: ReadOptions, progress: Progress | None
) -> Dataset:
    tables = sorted(p.name for p in path.iterdir() if is_text(p) or is_parquet(p))
    if target and tables:
        raise DataError(
            str(path),
            received="it is a folder",
            expected="one table, with a column to predict",
            mend=f"Name a file in it. It holds: {listed(tables)}.",
        )
    if target:
        raise OptionError(
            "--target",
            received=f"`{target[0]}`, with a folder of files",
            expected="no target: the folder that holds a file is its class",
            mend="Leave it out; or name a csv with a column of paths and a column to predict.",
        )
    wanted = options.get("task")
    listing = scan(path, next((kind for kind in SUFFIXES if kind == wanted), None), progress)
    if listing.kind == "image":
        from smarttune.data.image_sources import image_folder

        return image_folder(listing, options, progress)
    if listing.kind == "audio":
        from smarttune.data.audio import audio_folder

        return audio_folder(listing, options, progress)
    if listing.labels is None and wanted == "text":
        from smarttune.data.corpus import read_corpus

        return read_corpus(path, options, progress)
    from smarttune.data.text_sources import text_folder

    return text_folder(listing, options, progress)


def read_lines(
    path: Path,
    options: ReadOptions,
    *,
    max_rows: int | None,
    seed: int,
    progress: Progress | None,
) -> RawTable | None:
    """Read a table that is written one object or one labelled text per line.

    Returns:
        The raw table, or None where the file is delimited or binary.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(_JSON_LINES):
        from smarttune.data.jsonl import read_jsonl

        return read_jsonl(path, options, max_rows, seed, progress)
    if name.endswith(".txt") and not options.get("delimiter"):
        from smarttune.data.labelled_lines import read_labelled_lines

        return read_labelled_lines(path, options)
    return None


def with_content(dataset: Dataset, options: ReadOptions, progress: Progress | None) -> Dataset:
    """Open what a table points to: pictures or recordings named in one of its columns."""
    for column in dataset.features.columns:
        kind = _points_to(dataset.features[column])
        if kind is None or kind == "text" or options.get("task", kind) not in (None, kind):
            continue
        root = Path(dataset.where).parent
        if kind == "image":
            from smarttune.data.image_sources import image_table

            return image_table(dataset, str(column), root, progress)
        from smarttune.data.audio import audio_table

        return audio_table(dataset, str(column), root, options, progress)
    return dataset


def _points_to(column: pd.Series) -> str | None:
    """What kind of files the cells of a column name, if they all do."""
    cells = column.dropna()
    if column.dtype.kind not in "OUT" or not len(cells):
        return None
    kinds = {kind_of_path(str(cell)) for cell in cells.iloc[:_PATHS_TRIED]}
    return kinds.pop() if len(kinds) == 1 else None
