"""One door for every source: path, frame, array, dict or pair in; clean Dataset out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from smarttune.data.dataset import Dataset, Progress, RawTable, ReadOptions
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
    """Read a table and cut out what is to be predicted.

    Args:
        source: The path of a csv, tsv, txt (delimiter detected; perhaps with .gz) or parquet
            file; a pandas or polars frame; an array of shape (num_samples, num_features); a
            dict of 1-d arrays; or a pair (X, y) of these.
        target: A column name, or a list of names (multilabel or one-hot); a position such as
            -1 where names are missing; or, for data in memory, an array with one row per
            sample. None reads inputs only, as at prediction time.
        max_rows: Rows to keep, chosen at random with `seed`. Files that are too large to
            hold are sampled even when this is None.
        seed: Seeds the choice of rows.
        progress: Called with the share of the source read, from 0 to 1.
        **options: `delimiter`, `encoding`, `header` of a text file, where detection fails.

    Returns:
        The clean table.

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
    if isinstance(source, tuple) and len(source) == 2:
        if target is not None:
            raise _two_targets()
        source, target = source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        names = _names_in(target, where=str(path))
        raw, found = _read_file(
            path, names, options, max_rows=max_rows, seed=seed, progress=progress
        )
        where = str(path)
        name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
        dataset = _finish(raw, found, None, where=where, name=name, keep=(max_rows, seed))
    else:
        dataset = _read_memory(source, target, keep=(max_rows, seed))
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


def _read_file(
    path: Path,
    names: list[str],
    options: ReadOptions,
    *,
    max_rows: int | None,
    seed: int,
    progress: Progress | None,
) -> tuple[RawTable, list[str]]:
    """Read a file; returns the table and the resolved target columns."""
    from smarttune.data.delimited import read_delimited
    from smarttune.data.dialect import sniff
    from smarttune.data.opening import check_path, is_parquet
    from smarttune.data.parquet import read_parquet

    check_path(path)
    where = str(path)
    if is_parquet(path):
        raw = read_parquet(path, max_rows=max_rows, seed=seed, progress=progress)
        columns = [str(c) for c in raw.frame.columns]
        found = [resolve_target(n, columns, where=where) for n in names]
        raw.options.update(path=where, target=_one_or_more(found))
        return raw, found
    # A wrong target name is reported before a large file is read.
    columns = list(sniff(path, **options).columns)
    found = [resolve_target(n, columns, where=where) for n in names]
    raw = read_delimited(
        path, options, targets=found, max_rows=max_rows, seed=seed, progress=progress
    )
    raw.options.update(path=where, target=_one_or_more(found))
    return raw, found


def _one_or_more(names: list[str]) -> str | list[str] | None:
    return names[0] if len(names) == 1 else (names or None)


def _read_memory(source: Any, target: Any, *, keep: tuple[int | None, int]) -> Dataset:
    from smarttune.data.memory import frame_of

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
    raw.options.update(target=_one_or_more(found))
    return _finish(raw, found, labels, where="X", name="X", keep=keep)


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
