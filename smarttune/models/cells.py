"""How single cells of a raw table are read: as text, as a number, as a flag, as a date.

Used alike when fitting, when transforming and when feeding an exported model, so
that all three agree on what a cell means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TRUE_TEXTS = frozenset({"true", "yes", "y", "t", "1", "on"})
FALSE_TEXTS = frozenset({"false", "no", "n", "f", "0", "off"})

# Shape of the timestamps that an exported model reads; ISO 8601 without a zone.
ISO_LENGTH = len("2024-05-06T07:08:09")


def text_of(value: Any) -> str:
    """One cell as text: stripped, whole numbers without a point, flags as 1 and 0."""
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def texts(column: pd.Series[Any]) -> np.ndarray:
    """A column as text, shape (rows,), dtype object; missing cells are ""."""
    codes, levels = column.factorize()
    names = np.array([text_of(level) for level in levels] + [""], dtype=object)
    return names[codes]


def numbers(column: pd.Series[Any]) -> np.ndarray:
    """A column as float64, shape (rows,); what is no finite number is NaN."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column, errors="coerce")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    values[~np.isfinite(values)] = np.nan
    return values


def dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as naive timestamps; zones are dropped after conversion to UTC."""
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = _parse_dates(column)
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column


def _parse_dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """ISO 8601 where that reads every cell, else cell by cell in whatever format fits."""
    import pandas as pd

    raw = column.astype("str").where(column.notna())
    parsed = pd.to_datetime(raw, format="ISO8601", errors="coerce", utc=True)
    left = parsed.isna() & raw.notna()
    if left.any():
        parsed = parsed.where(
            ~left, pd.to_datetime(raw, format="mixed", errors="coerce", utc=True)
        )
    return parsed


def iso_texts(column: pd.Series[Any]) -> np.ndarray:
    """A column of dates as ISO 8601 text to the second, shape (rows,); missing is ""."""
    parsed = dates(column)
    text = parsed.dt.strftime("%Y-%m-%dT%H:%M:%S")
    return np.asarray(text.where(parsed.notna(), "").to_numpy(dtype=object))
