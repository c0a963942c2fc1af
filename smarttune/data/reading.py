"""One door for every source: path, frame, array, dict or pair in; clean Dataset out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from smarttune.data.content import Progress
from smarttune.data.dataset import Dataset, RawTable, ReadOptions
from smarttune.data.targets import cut_target, drop_unlabelled, resolve_target
from smarttune.errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd


def read(
    source: Any,
    target: Any = None,
    *,
    max_rows: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[ReadOptions],
) -> Dataset:
    """Read samples and cut out what is to be predicted.

    Args:
        source: The path of a csv, tsv, txt (delimiter detected; perhaps with .gz), jsonl or
            parquet file, perhaps with a column of paths to pictures or recordings; of a
            folder of pictures, recordings or texts by class; of an npz or idx file; a pandas
            or polars frame; an array of shape (num_samples, num_features), (num_samples,
            steps, features) or (num_samples, height, width, channels); a dict of 1-d arrays;
            or a pair (X, y) of these.
        target: A column name, or a list of names (multilabel or one-hot); a position such as
            -1 where names are missing; or, for data in memory, an array with one row per
            sample. None reads inputs only, as at prediction time.
        max_rows: Rows to keep, chosen at random with `seed`. Files that are too large to
            hold are sampled even when this is None.
        seed: Seeds the choice of rows.
        progress: Called with the share of the source read, from 0 to 1.
        **options: What the source itself does not tell; see `ReadOptions`.

    Returns:
        The samples, their target, and what is known of the source.

    Raises:
        DataError: If the source cannot be read or lacks what is needed.
        MissingExtraError: If it needs a package that is not installed.
        OptionError: If an option has a value that means nothing.
    """
    if max_rows is not None and max_rows < 1:
        raise OptionError(
            "max_rows",
            received=f"{max_rows} rows were asked for",
            expected="a positive number of rows",
            mend="Leave it out to keep all rows.",
        )
    weights = options.get("weights")
    if weights is not None and not Path(weights).exists():
        raise OptionError(
            "--weights",
            received=f"there is nothing at `{weights}`",
            expected="pretrained weights on disk; nothing is downloaded",
            mend="Check the path, or save the weights there first.",
        )
    if isinstance(source, tuple) and len(source) == 2:
        if target is not None:
            raise _two_targets()
        source, target = source
    if isinstance(source, (str, os.PathLike)):
        dataset = _read_path(
            Path(source), target, options, keep=(max_rows, seed), progress=progress
        )
    else:
        dataset = _read_memory(source, target, options, keep=(max_rows, seed))
    dataset = with_groups(dataset, options.get("group"))
    if progress is not None:
        progress(1.0)
    return dataset


def _two_targets() -> DataError:
    return DataError(
        "target",
        received="a pair (X, y) and a target beside it",
        expected="the target once",
        mend="Give read((X, y)) or read(X, y).",
    )


def _names_in(target: Any, *, where: str) -> list[str]:
    """Return the target as a list of names.

    Raises:
        DataError: If it is not made of names.
    """
    if target is None:
        return []
    if isinstance(target, (str, int)):
        return [str(target)]
    if isinstance(target, Sequence) and target and all(isinstance(t, (str, int)) for t in target):
        return list(dict.fromkeys(map(str, target)))
    raise DataError(
        where,
        received=f"the target is a {type(target).__name__}, not the name of a column",
        expected="a column name or a list of names for a table read from a file",
        mend="Name the column, or pass the data themselves as (X, y).",
    )


def _read_path(
    path: Path,
    target: Any,
    options: ReadOptions,
    *,
    keep: tuple[int | None, int],
    progress: Progress | None,
) -> Dataset:
    """Read a file or a folder."""
    from smarttune.data.sources import read_whole, with_content

    names = _names_in(target, where=str(path))
    whole = read_whole(path, names, options, progress)
    if isinstance(whole, Dataset):
        whole.read_options.update(_given(options), path=str(path))
        return _thinned(whole, keep)
    raw, found = whole or _read_file(path, names, options, keep=keep, progress=progress)
    raw.options.update(_given(options), path=str(path), target=_one_or_more(found))
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if _is_series(options):
        return _series(raw, found, options, where=str(path), name=name)
    dataset = _finish(raw, found, None, where=str(path), name=name, keep=keep)
    return with_content(dataset, options, progress)


def _given(options: ReadOptions) -> dict[str, Any]:
    """What the user said beyond the dialect of a text file, which is kept as detected."""
    dialect = ("delimiter", "encoding", "header")
    return {k: v for k, v in options.items() if k not in dialect and v is not None}


def _is_series(options: ReadOptions) -> bool:
    return options.get("task") == "timeseries" or options.get("horizon") is not None


def _series(
    raw: RawTable, targets: list[str], options: ReadOptions, *, where: str, name: str
) -> Dataset:
    """A table whose rows are steps in time. It is never sampled: a gap would be a gap in time."""
    from smarttune.data.series import series_dataset
    from smarttune.data.tidy import tidy_frame

    frame, notes = tidy_frame(raw.frame, targets=targets)
    made = series_dataset(frame, targets, options, where)
    warnings = (*raw.warnings, *notes, *made.warnings)
    return replace(made, name=name, warnings=warnings, read_options=raw.options)


def _read_file(
    path: Path,
    names: list[str],
    options: ReadOptions,
    *,
    keep: tuple[int | None, int],
    progress: Progress | None,
) -> tuple[RawTable, list[str]]:
    """Read a file with a table; returns the table and the resolved target columns."""
    from smarttune.data.delimited import read_delimited
    from smarttune.data.dialect import dialect_of, sniff
    from smarttune.data.opening import check_path, is_parquet
    from smarttune.data.parquet import read_parquet
    from smarttune.data.sources import read_lines

    check_path(path)
    where = str(path)
    max_rows, seed = keep
    how: dict[str, Any] = {"max_rows": max_rows, "seed": seed, "progress": progress}
    lines = read_lines(path, options, **how)
    if lines is not None or is_parquet(path):
        raw = lines if lines is not None else read_parquet(path, **how)
        columns = [str(c) for c in raw.frame.columns]
        found = [resolve_target(n, columns, where=where) for n in names]
    else:
        # A wrong target name is reported before a large file is read.
        columns = list(sniff(path, **dialect_of(options)).columns)
        found = [resolve_target(n, columns, where=where) for n in names]
        raw = read_delimited(path, options, targets=found, **how)
    return raw, found


def _one_or_more(names: list[str]) -> str | list[str] | None:
    return names[0] if len(names) == 1 else (names or None)


def _read_memory(
    source: Any, target: Any, options: ReadOptions, *, keep: tuple[int | None, int]
) -> Dataset:
    from smarttune.data.memory import frame_of

    if len(getattr(source, "shape", ())) > 2:  # noqa: PLR2004 -- more than rows and columns
        return _thinned(_read_array(source, target, options), keep)
    frame, warnings = frame_of(source)
    names: list[str] = []
    labels: pd.DataFrame | None = None
    if isinstance(target, str) or (isinstance(target, int) and not isinstance(target, bool)):
        names = [str(target)]
    elif isinstance(target, (list, tuple)) and target and _are_columns(target, frame):
        names = [str(t) for t in target]
    elif target is not None:
        labels, notes = frame_of(target, where="y")
        warnings += notes
        if len(labels) != len(frame):
            raise DataError(
                "y",
                received=f"y has {len(labels):,} rows and X has {len(frame):,}",
                expected="one target per sample",
                mend="Check that both were cut and filtered in the same way.",
            )
        if list(labels.columns) in (["column_1"], ["0"]):
            labels = labels.set_axis(["y"], axis="columns")
    columns = [str(c) for c in frame.columns]
    found = [resolve_target(n, columns, where="X") for n in names]
    raw = RawTable(frame, len(frame), warnings=tuple(warnings))
    raw.options.update(_given(options), target=_one_or_more(found))
    if _is_series(options):
        return _series(raw, found, options, where="X", name="X")
    return _finish(raw, found, labels, where="X", name="X", keep=keep)


def _read_array(source: Any, target: Any, options: ReadOptions) -> Dataset:
    """Pictures, (n, height, width[, channels]), or sequences, (n, steps, features)."""
    import numpy as np

    x = np.asarray(source)
    y = None if target is None else np.asarray(target)
    pictures = x.ndim == 4 or x.dtype == np.uint8  # noqa: PLR2004
    if options.get("task", "image" if pictures else "sequence") == "image":
        from smarttune.data.image_sources import image_arrays

        made = image_arrays(x, y, "X")
    else:
        from smarttune.data.sequences import sequence_arrays

        made = sequence_arrays(x, y, None, "X")
    made.read_options.update(_given(options))
    return made


def _thinned(dataset: Dataset, keep: tuple[int | None, int]) -> Dataset:
    """At most the samples asked for, chosen at random, in their order."""
    import numpy as np

    max_rows, seed = keep
    count = len(dataset.features)
    if max_rows is None or count <= max_rows:
        return dataset
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:max_rows])
    return replace(dataset.select(chosen), sampled=True)


def with_groups(dataset: Dataset, column: str | None) -> Dataset:
    """Take the column out that tells which samples belong together.

    Raises:
        DataError: If there is no such column.
    """
    if column is None or dataset.groups is not None:
        return dataset
    name = resolve_target(column, [str(c) for c in dataset.features.columns], where=dataset.where)
    groups = dataset.features[name]
    return replace(dataset, features=dataset.features.drop(columns=name), groups=groups)


def _are_columns(target: Sequence[Any], frame: pd.DataFrame) -> bool:
    """Whether a list holds column names rather than one label per row."""
    if not all(isinstance(t, str) for t in target):
        return False
    return any(t in frame.columns for t in target) or len(target) != len(frame)


def _finish(
    raw: RawTable,
    target: list[str],
    labels: pd.DataFrame | None,
    *,
    where: str,
    name: str,
    keep: tuple[int | None, int],
) -> Dataset:
    """Sample, clean the columns, cut the target out and gather the warnings."""
    from smarttune.data.tidy import tidy_frame

    frame, labels, sampled = _sample(raw, labels, keep)
    warnings = list(raw.warnings)
    if sampled:
        warnings.append(
            f"{len(frame):,} of {raw.num_rows:,} rows were kept, chosen at random; all figures "
            "come from them."
        )
    if frame.shape[1] == 0 or len(frame) == 0:
        raise DataError(
            where,
            received=f"the table has {len(frame):,} rows and {frame.shape[1]:,} columns",
            expected="at least one row and one column",
            mend="Check how it was made.",
        )
    frame, notes = tidy_frame(frame, targets=target)
    warnings += notes
    result: pd.Series | pd.DataFrame | None = None
    features = frame
    if labels is not None:
        labels, notes = tidy_frame(labels, targets=list(labels.columns))
        features, result, more = drop_unlabelled(frame, labels, where="y")
        warnings += notes + more
    elif target:
        features, result, more = cut_target(frame, target, where=where)
        warnings += more
    return Dataset(
        name=name,
        features=features,
        target=result,
        num_rows=raw.num_rows,
        sampled=sampled,
        warnings=tuple(warnings),
        where=where,
        read_options=raw.options,
        num_without_target=len(frame) - len(features),
    )


def _sample(
    raw: RawTable, labels: pd.DataFrame | None, keep: tuple[int | None, int]
) -> tuple[pd.DataFrame, pd.DataFrame | None, bool]:
    """Keep at most the rows asked for, in their order; labels go with them."""
    import numpy as np

    max_rows, seed = keep
    frame = raw.frame
    if max_rows is None or len(frame) <= max_rows:
        return frame, labels, raw.sampled
    chosen = np.sort(np.random.default_rng(seed).permutation(len(frame))[:max_rows])
    frame = frame.iloc[chosen].reset_index(drop=True)
    if labels is not None:
        labels = labels.iloc[chosen].reset_index(drop=True)
    return frame, labels, True
