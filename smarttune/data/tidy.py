"""Clean column types: text that is a number becomes one, every word for "missing" becomes NaN."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smarttune.data.names import listed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# Cells that stand for a missing value. ours: the spellings of pandas and of the UCI tables,
# without "-", which is a class label in some of them (see `_drop_dashes`).
NUMERIC_MISSING = ("", "?", "nan", "NaN", "NAN", "-nan", "-NaN", "NA", "N/A", "n/a", "#N/A", "<NA>")
MISSING_WORDS = (*NUMERIC_MISSING, "null", "NULL", "Null", "none", "None", "NONE")
# In a target, "none" and "null" are more often a class than a gap, so they stay.
TARGET_MISSING_WORDS = NUMERIC_MISSING

# ours: above this share of cells that read as numbers, the others are typing errors.
MIN_NUMERIC_SHARE = 0.95

# Words for the two values of a boolean column, in lower case.
BOOLEAN_WORDS = {
    "true": True, "false": False, "yes": True, "no": False, "y": True, "n": False,
    "t": True, "f": False, "on": True, "off": False,
}  # fmt: skip


@dataclass(frozen=True)
class TidyColumn:
    """One clean column, and how many of its cells were set to missing and why."""

    values: pd.Series
    warning: str = ""


def tidy_frame(
    frame: pd.DataFrame, *, targets: Container[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame with clean columns, and warnings about cells that were lost.

    Args:
        frame: Uniquely named columns of any type.
        targets: The target columns, in which "none" and "-" are ordinary words.
    """
    import pandas as pd

    changed: dict[str, pd.Series] = {}
    warnings: list[str] = []
    dropped: list[str] = []
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if getattr(dtype, "kind", "O") in "biu" and not pd.api.types.is_extension_array_dtype(
            dtype
        ):
            continue
        if str(dtype) in ("float64", "float32"):
            continue
        try:
            tidy = tidy_column(frame[name], is_target=name in targets)
        except TypeError:  # lists, arrays, records, complex numbers
            dropped.append(str(name))
            continue
        if tidy.values is not frame[name]:
            changed[str(name)] = tidy.values
        if tidy.warning:
            warnings.append(tidy.warning)
    if dropped:
        frame = frame.drop(columns=dropped)
        warnings.append(f"{listed(dropped)} left out: no numbers, dates or texts.")
    if changed:
        columns = {name: changed.get(str(name), frame[name]) for name in frame.columns}
        frame = pd.DataFrame(columns, copy=False)
    return _without_infinities(frame, warnings), warnings


def tidy_column(column: pd.Series, *, is_target: bool = False) -> TidyColumn:
    """Return one column as bool, number, naive datetime or text.

    Args:
        column: Cells of any type.
        is_target: Whether "none" and "-" are ordinary words here.

    Raises:
        TypeError: If the cells are complex numbers or cannot be hashed.
    """
    import pandas as pd

    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(dtype.categories.dtype if not column.hasnans else object)
        return tidy_column(column, is_target=is_target)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return TidyColumn(column.dt.tz_convert(None) if getattr(dtype, "tz", None) else column)
    if isinstance(dtype, pd.PeriodDtype):
        return TidyColumn(column.dt.to_timestamp())
    if pd.api.types.is_timedelta64_dtype(dtype):
        return TidyColumn(column.dt.total_seconds())
    if dtype.kind == "c":
        raise TypeError(dtype)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        exact = dtype.kind in "iu" and not column.hasnans
        return TidyColumn(column.astype("int64" if exact else "float64"))
    if pd.api.types.is_object_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        plain = _tidy_objects(column)
        if plain is not None:
            return TidyColumn(plain)
    return _tidy_text(column, is_target=is_target)


def _tidy_objects(column: pd.Series) -> pd.Series | None:
    """Return Python numbers, dates or truth values in their own type; None for anything else.

    Truth values with gaps stay text ("True", "False"), since bool knows no missing value.
    """
    import pandas as pd

    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        whole = inferred == "integer" and not column.hasnans
        try:
            return column.astype("int64" if whole else "float64")
        except OverflowError:  # beyond 64 bits
            return column.astype("float64")
    if inferred in ("datetime", "datetime64", "date"):
        return pd.to_datetime(column, errors="coerce")
    if inferred == "boolean" and not column.hasnans:
        return column.astype("bool")
    return None


def _tidy_text(column: pd.Series, *, is_target: bool) -> TidyColumn:
    """Strip the cells, mark missing ones, and turn the column to numbers where it holds them.

    Works on the distinct cells, of which there are far fewer than rows.
    """
    import numpy as np
    import pandas as pd

    codes, levels = pd.factorize(column)
    found = [_as_text(level) for level in levels]
    clean = [text.strip() for text in found]
    missing = set(TARGET_MISSING_WORDS if is_target else MISSING_WORDS)
    if not is_target and "+" not in clean:
        missing |= {"-", "--"}
    gone = np.array([text in missing for text in clean], dtype=bool)
    counts = np.bincount(codes[codes >= 0], minlength=len(clean)) if clean else np.zeros(0)
    present = int(counts[~gone].sum())
    texts = pd.Series(clean, dtype=object)
    numbers = pd.to_numeric(texts.where(~gone), errors="coerce").to_numpy(dtype="float64")
    strays = ~gone & np.isnan(numbers)
    num_strays = int(counts[strays].sum())
    if present and present - num_strays >= MIN_NUMERIC_SHARE * present:
        warning = ""
        if num_strays:
            warning = (
                f"`{column.name}` is numeric but for {num_strays:,} cell(s) such as "
                f"{clean[int(np.flatnonzero(strays)[0])]!r}: taken as missing."
            )
        return TidyColumn(
            _spread(numbers, codes, column, exact=not (gone.any() or num_strays)), warning
        )
    if not gone.any() and clean == [*levels] and column.dtype != object:
        return TidyColumn(column)
    spread = texts.where(~gone, None).to_numpy(dtype=object)
    values = np.append(spread, [None])[codes]  # code -1 (missing) picks the appended None
    return TidyColumn(pd.Series(values, index=column.index, name=column.name, dtype="str"))


def _spread(
    numbers: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], like: pd.Series, *, exact: bool
) -> pd.Series:
    """Return the number of each row; integers where every cell holds one."""
    import numpy as np
    import pandas as pd

    values = np.append(numbers, np.nan)[codes]
    whole = exact and (codes >= 0).all() and bool(np.all(np.abs(numbers) < 2**53))
    if whole and np.array_equal(numbers, np.floor(numbers)):
        values = values.astype("int64")
    return pd.Series(values, index=like.index, name=like.name)


def _as_text(level: object) -> str:
    if isinstance(level, str):
        return level
    if isinstance(level, bytes):
        return level.decode("utf-8", errors="replace")
    return str(level)


def _without_infinities(frame: pd.DataFrame, warnings: list[str]) -> pd.DataFrame:
    """Set infinite cells to missing, which every later step knows how to handle."""
    import numpy as np

    floats = frame.select_dtypes("float")
    if floats.shape[1] == 0:
        return frame
    infinite = np.isinf(floats.to_numpy())
    total = int(infinite.sum())
    if total:
        names = [str(n) for n in floats.columns[infinite.any(axis=0)]]
        warnings.append(f"{total:,} infinite cell(s) in {listed(names)}: taken as missing.")
        frame = frame.assign(**{n: frame[n].replace([np.inf, -np.inf], np.nan) for n in names})
    return frame
