"""Parquet files: read whole when they fit, by batches with a sample when they do not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from smarttune.data.content import Progress
from smarttune.data.dataset import RawTable
from smarttune.data.names import clean_names
from smarttune.data.reservoir import Reservoir, row_limit
from smarttune.errors import DataError, MissingExtraError

# Uncompressed size above which the file is read in batches, bytes.
# ours: as for text, but columns in memory are about as large as on disk.
STREAM_ABOVE = 1024 * 1024 * 1024
# ours: rows per batch; some megabytes for common widths.
_BATCH_ROWS = 65_536


def read_parquet(
    path: Path, *, max_rows: int | None, seed: int, progress: Progress | None
) -> RawTable:
    """Read a parquet file.

    Args:
        path: An existing file.
        max_rows: Rows to keep, chosen at random; None keeps all of a file that fits.
        seed: Seeds that choice.
        progress: Called with the share read so far.

    Raises:
        MissingExtraError: If pyarrow is not installed.
        DataError: If the file is not parquet or may not be read.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(str(path), module="pyarrow", extra="parquet")
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(path) as file:
            meta = file.metadata
            size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
            if size <= STREAM_ABOVE:
                frame = file.read().to_pandas(ignore_metadata=True)
                frame.columns, notes = clean_names(frame.columns)
                return RawTable(frame, len(frame), warnings=tuple(notes))
            return _sampled(file, max_rows=max_rows, seed=seed, progress=progress)
    except PermissionError:
        raise DataError(
            str(path),
            received="you may not read this file",
            expected="a file with read permission",
            mend=f"Ask its owner, or run: chmod u+r '{path}'.",
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            str(path),
            received=f"this is not a readable parquet file ({_first_line(error)})",
            expected="a complete parquet file",
            mend="Write it again, or rename it if it is a text table.",
        ) from None


def _sampled(file: Any, *, max_rows: int | None, seed: int, progress: Progress | None) -> RawTable:
    total = max(1, file.metadata.num_rows)
    reservoir = Reservoir(row_limit(file.metadata.num_columns, max_rows), seed=seed)
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        reservoir.add(batch.to_pandas())
        if progress is not None:
            progress(min(1.0, reservoir.num_rows / total))
    frame = reservoir.rows()
    frame.columns, notes = clean_names(frame.columns)
    return RawTable(frame, reservoir.num_rows, reservoir.sampled, tuple(notes))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown reason"])[0].rstrip(".")
