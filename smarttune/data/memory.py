"""Tables that are already in memory: pandas and polars frames, NumPy arrays, dicts of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any

from smarttune.data.names import clean_names
from smarttune.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def frame_of(source: object, *, where: str = "X") -> tuple[pd.DataFrame, list[str]]:
    """Return any table in memory as a pandas frame numbered from 0, and warnings.

    Args:
        source: A pandas or polars frame or series, a 1-d or 2-d array or nested list, or a
            mapping from column names to 1-d arrays.
        where: What errors call it.

    Raises:
        DataError: If it is none of these, or its columns differ in length.
    """
    import pandas as pd

    names: list[object]
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True)
        if isinstance(frame.columns, pd.MultiIndex):
            names = ["_".join(map(str, levels)) for levels in frame.columns]
        else:
            names = list(frame.columns)
    elif isinstance(source, pd.Series):
        frame = source.reset_index(drop=True).to_frame()
        names = [source.name]
    elif _is_polars(source):
        frame, names = _from_polars(source)
    elif isinstance(source, Mapping):
        frame, names = _from_columns(source, where)
    else:
        frame, names = _from_array(source, where)
    clean, warnings = clean_names(names)
    if list(frame.columns) != clean:
        frame = frame.set_axis(clean, axis="columns")
    return frame, warnings


def _is_polars(source: object) -> bool:
    return type(source).__module__.partition(".")[0] == "polars"


def _from_polars(source: Any) -> tuple[pd.DataFrame, list[object]]:
    """Copy column by column through NumPy, which needs no pyarrow."""
    import pandas as pd

    if hasattr(source, "collect"):
        source = source.collect()
    if hasattr(source, "to_frame"):
        source = source.to_frame()
    columns = {i: source.to_series(i).to_numpy() for i in range(source.width)}
    return pd.DataFrame(columns), list(source.columns)


def _from_columns(source: Mapping[Any, Any], where: str) -> tuple[pd.DataFrame, list[object]]:
    import numpy as np
    import pandas as pd

    lengths: dict[str, int] = {}
    columns: dict[int, Any] = {}
    for index, (name, cells) in enumerate(source.items()):
        if isinstance(cells, str) or not isinstance(cells, Sized):
            raise DataError(
                f"{where}[{name!r}]",
                received=f"a single value of type {type(cells).__name__}",
                expected="an array with one value per sample",
                mend="Give every column as a 1-d array.",
            )
        array = cells if isinstance(cells, pd.Series) else _as_array(cells)
        if isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]  # (num_samples, 1) -> (num_samples,)
        if array.ndim != 1:
            raise _wrong_shape(f"{where}[{name!r}]", array.shape, "a 1-d array")
        lengths[str(name)] = len(array)
        columns[index] = array.reset_index(drop=True) if isinstance(array, pd.Series) else array
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"`{n}` has {k:,}" for n, k in list(lengths.items())[:4])
        raise DataError(
            where,
            received=f"columns of different lengths ({shown})",
            expected="one value per sample in every column",
            mend="Check how the arrays were cut.",
        )
    return pd.DataFrame(columns), list(source)


def _from_array(source: object, where: str) -> tuple[pd.DataFrame, list[object]]:
    import pandas as pd

    if isinstance(source, (str, bytes, int, float)) or source is None:
        raise _not_a_table(source, where)
    array = _as_array(source)
    if array.ndim == 0:
        raise _not_a_table(source, where)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise _wrong_shape(where, array.shape, "an array of shape (num_samples, num_features)")
    if array.dtype.kind in "SU":
        array = array.astype(object)
    names: list[object] = [f"column_{i}" for i in range(1, array.shape[1] + 1)]
    return pd.DataFrame(array), names


def _as_array(source: object) -> Any:
    """Return a NumPy array; framework tensors convert themselves."""
    import numpy as np

    try:
        array = np.asarray(source)
    except ValueError:  # rows of different lengths; as objects they become a column
        rows: Any = source
        array = np.empty(len(rows), dtype=object)
        array[:] = list(rows)
    return array


def _not_a_table(source: object, where: str) -> DataError:
    return DataError(
        where,
        received=f"a value of type {type(source).__name__}",
        expected="a path, a frame, an array, a dict of arrays, or a pair (X, y)",
        mend="Give the data in one of these forms.",
    )


def _wrong_shape(where: str, shape: tuple[int, ...], expected: str) -> DataError:
    return DataError(
        where,
        received=f"an array of shape {shape}",
        expected=expected,
        mend="Flatten each sample to one row, as in X.reshape(len(X), -1).",
    )
