"""Cutting the target out of a table, and dropping the rows that have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smarttune.data.names import listed
from smarttune.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def resolve_target(wanted: str, names: Sequence[str], *, where: str) -> str:
    """Return the column meant by a name, or by a position where no name is equal.

    Args:
        wanted: A name; or a whole number counted from 1, or from the end if negative, which
            is how to name a column of a table without header.
        names: All columns.
        where: The source, for the error.

    Raises:
        DataError: If there is no such column.
    """
    if wanted in names:
        return wanted
    stripped = wanted.strip()
    if stripped in names:
        return stripped
    try:
        position = int(stripped)
    except ValueError:
        position = 0
    if 1 <= abs(position) <= len(names):
        return names[position - 1 if position > 0 else position]
    lower = {n.lower(): n for n in names}
    near = lower.get(stripped.lower())
    hint = f" Did you mean `{near}`?" if near else did_you_mean(stripped, names)
    raise DataError(
        where,
        received=f"there is no column `{wanted}`",
        expected=f"one of the columns {listed(names)}",
        mend=f"Name the column to predict (--target NAME; -1 is the last one).{hint}",
    )


def cut_target(
    frame: pd.DataFrame, target: Sequence[str], *, where: str
) -> tuple[pd.DataFrame, pd.Series | pd.DataFrame, list[str]]:
    """Return the features, the target and warnings; several columns stay together.

    Args:
        frame: The whole, clean table.
        target: Names that exist in it.
        where: The source, for errors.

    Raises:
        DataError: If no feature is left or every row lacks the target.
    """
    features = frame.drop(columns=list(target))
    if features.shape[1] == 0:
        raise DataError(
            where,
            received="the table holds nothing but the target",
            expected="at least one input column beside it",
            mend="Add the columns to predict from, or check the delimiter.",
        )
    return drop_unlabelled(features, frame[list(target)], where=where)


def drop_unlabelled(
    features: pd.DataFrame, target: pd.DataFrame, *, where: str
) -> tuple[pd.DataFrame, pd.Series | pd.DataFrame, list[str]]:
    """Drop rows whose target is missing and simplify its shape.

    One column becomes a series. One-hot columns (0/1 with exactly one 1 per row) become one
    column of labels, which means the same and is what every later step expects.

    Args:
        features: The inputs, one row per sample.
        target: One or several columns, as many rows.
        where: The source, for errors.

    Raises:
        DataError: If every row lacks the target.
    """
    names = listed(list(target.columns))
    warnings: list[str] = []
    missing = target.isna().any(axis=1).to_numpy()
    num_missing = int(missing.sum())
    if num_missing == len(target) and num_missing:
        raise DataError(
            where,
            received=f"all {num_missing:,} rows lack a value of the target {names}",
            expected="a target value in most rows",
            mend="Check that you named the right column and that it was exported.",
        )
    if num_missing:
        warnings.append(f"{num_missing:,} row(s) without a value of {names} were dropped.")
        features = features.loc[~missing].reset_index(drop=True)
        target = target.loc[~missing].reset_index(drop=True)
    if target.shape[1] == 1:
        return features, _whole_numbers(target.iloc[:, 0]), warnings
    return features, _from_one_hot(target, names, warnings), warnings


def _whole_numbers(series: pd.Series) -> pd.Series:
    """Return integers where a float column became whole once its gaps were dropped."""
    import numpy as np

    if series.dtype.kind == "f" and len(series):
        values = series.to_numpy()
        # 2**53: beyond it, floats no longer hold every whole number.
        if np.array_equal(values, np.floor(values)) and np.abs(values).max() < 2**53:
            return series.astype("int64")
    return series


def _from_one_hot(
    target: pd.DataFrame, names: str, warnings: list[str]
) -> pd.Series | pd.DataFrame:
    import numpy as np
    import pandas as pd

    if not all(dtype.kind in "biuf" for dtype in target.dtypes):
        return target
    values = target.to_numpy(dtype="float64")  # (num_samples, num_labels)
    if not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
        return target
    warnings.append(
        f"Exactly one of the target columns {names} is 1 in every row: they are one-hot and "
        "were joined to a single column of labels."
    )
    labels = np.asarray([str(n) for n in target.columns], dtype=object)[values.argmax(axis=1)]
    return pd.Series(labels, name="label", dtype="str")
