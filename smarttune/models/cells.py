"""How single cells of a raw table are read: as text, as a number, as a flag, as a date.

Used alike when fitting, when transforming and when feeding an exported model, so
that all three agree on what a cell means.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TRUE_TEXTS = frozenset({"true", "yes", "y", "t", "1", "on"})
FALSE_TEXTS = frozenset({"false", "no", "n", "f", "0", "off"})

# Shape of the timestamps that an exported model reads; ISO 8601 without a zone.
ISO_LENGTH = len("2024-05-06T07:08:09")

_MONTHS = 12
# Day or month, separator, month or day, year.
_THREE_NUMBERS = r"^\s*(\d{1,2})([./-])(\d{1,2})[./-]\d{2,4}"


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
    return np.asarray(names[codes])


def numbers(column: pd.Series[Any]) -> np.ndarray:
    """A column as float64, shape (rows,); what is no finite number is NaN."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column, errors="coerce")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    values[~np.isfinite(values)] = np.nan
    return values


def dates(
    column: pd.Series[Any], *, day_first: bool = False, written: str | None = None
) -> pd.Series[Any]:
    """A column as naive timestamps; zones are dropped after conversion to UTC.

    Args:
        column: Cells; what is no date becomes missing.
        day_first: Whether 05/06/2024 is the fifth of June. ISO 8601 is not touched by it.
        written: Format of the text, as `strptime` takes it, tried before any other.
    """
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = _parse_dates(column, day_first=day_first, written=written)
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column


def _parse_dates(column: pd.Series[Any], *, day_first: bool, written: str | None) -> pd.Series[Any]:
    """The known format or ISO 8601 where that reads a cell, else whatever format fits."""
    import pandas as pd

    raw = column.astype("str").where(column.notna())
    parsed = pd.to_datetime(raw, format=written or "ISO8601", errors="coerce", utc=True)
    left = raw[parsed.isna() & raw.notna()]
    if len(left):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas remarks on single cells; we settled the order
            other = pd.to_datetime(
                left, format="mixed", errors="coerce", utc=True, dayfirst=day_first
            )
        parsed = parsed.astype("datetime64[ns, UTC]")
        parsed.loc[left.index] = other
    return parsed


def writes_day_first(column: pd.Series[Any]) -> bool:
    """Whether a column writes dates as day, month, year: some "month" is above 12, or dots."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return False
    found = column.dropna().astype("str").str.extract(_THREE_NUMBERS).dropna()
    if not len(found):
        return False
    first, second = found[0].astype(int), found[2].astype(int)
    return bool(
        (first > _MONTHS).any() or ((found[1] == ".").all() and not (second > _MONTHS).any())
    )


def iso_texts(
    column: pd.Series[Any], *, day_first: bool = False, written: str | None = None
) -> np.ndarray:
    """A column of dates as ISO 8601 text to the second, shape (rows,); missing is ""."""
    parsed = dates(column, day_first=day_first, written=written)
    text = parsed.dt.strftime("%Y-%m-%dT%H:%M:%S")
    return np.asarray(text.where(parsed.notna(), "").to_numpy(dtype=object))
