"""Columns that alone give the target away, and rows that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from smarttune.data.statistics import ColumnStatistics, blocks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Numbers = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.int64]

# ours: rows examined; more do not change the verdict.
MAX_LEAKAGE_ROWS = 50_000
# ours: with fewer rows, a perfect column is chance.
MIN_LEAKAGE_ROWS = 50
# ours: share of the errors of always guessing the commonest class that the column removes.
MIN_ERROR_REMOVED = 0.98
# ours: a level counts once it has so many rows; rarer ones are pure by chance.
MIN_ROWS_PER_LEVEL = 5
# ours: share of rows that such levels must hold.
MIN_COVERED = 0.5
# ours: rank separation of two classes, and linear or rank correlation with an amount.
MIN_SEPARATION = 0.999
MIN_CORRELATION = 0.999
# ours: a column with at most so many values is judged value by value, others by quantile bins.
_MAX_LEVELS = 256


def row_hashes(
    frame: pd.DataFrame, statistics: dict[str, ColumnStatistics]
) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each row, equal for rows with equal cells.

    Args:
        frame: Clean columns; missing equals missing.
        statistics: Those of the columns, for the codes of texts.
    """
    import numpy as np

    total = np.zeros(len(frame), dtype="uint64")
    # Fixed: hashes need to be the same in every process, not secret.
    factors = np.random.default_rng(0).integers(1, 2**63, size=frame.shape[1], dtype="uint64") | 1
    position = 0
    for names in blocks(list(frame.columns), len(frame)):
        values = np.stack([_bits(frame[n], statistics[n]) for n in names], axis=1)
        mixed = _mix(values + factors[position : position + len(names)])
        total += (mixed * factors[position : position + len(names)]).sum(axis=1, dtype="uint64")
        position += len(names)
    return total


def _bits(column: pd.Series, statistics: ColumnStatistics) -> npt.NDArray[np.uint64]:
    """Return cells as 64-bit patterns, one pattern for each value."""
    import numpy as np

    if statistics.codes is not None:
        return statistics.codes.astype("int64").view("uint64")
    if statistics.storage == "datetime":
        return column.to_numpy().astype("datetime64[us]").view("uint64")
    values = column.to_numpy(dtype="float64", copy=True)
    values += 0.0  # -0.0 becomes 0.0
    values[np.isnan(values)] = np.nan  # one pattern for missing
    return values.view("uint64")


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit over the whole word (the finaliser of splitmix64, Steele et al. 2014)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def leaking_columns(
    frame: pd.DataFrame,
    statistics: dict[str, ColumnStatistics],
    target: pd.Series,
    *,
    problem: str,
    order: npt.NDArray[np.uint64],
) -> list[str]:
    """Return the columns that alone predict the target (nearly) without error.

    Args:
        frame: The columns in use.
        statistics: Those of the columns.
        target: A single target column, as many rows.
        problem: "binary", "multiclass" or "regression".
        order: A key per row; the rows with the smallest are examined, so that the verdict
            does not depend on the order of the rows.
    """
    import numpy as np
    import pandas as pd

    if len(frame) < MIN_LEAKAGE_ROWS:
        return []
    rows = np.arange(len(frame))
    if len(rows) > MAX_LEAKAGE_ROWS:
        rows = np.argsort(order, kind="stable")[:MAX_LEAKAGE_ROWS]
        frame, target = frame.iloc[rows], target.iloc[rows]
    if problem == "regression":
        amounts = target.to_numpy(dtype="float64")
        return [n for n, c in _columns(frame, statistics, rows) if _gives_amount(c, amounts)]
    labels = pd.factorize(target.to_numpy(), sort=True)[0].astype("int64")
    return [n for n, c in _columns(frame, statistics, rows) if _gives_class(c, labels)]


class _Column(NamedTuple):
    """A column as levels (texts; 0 where missing) or as numbers (NaN where missing)."""

    levels: Codes | None
    numbers: Numbers | None


def _columns(
    frame: pd.DataFrame, statistics: dict[str, ColumnStatistics], rows: npt.NDArray[np.intp]
) -> Iterator[tuple[str, _Column]]:
    import numpy as np

    for name in frame.columns:
        found = statistics[name]
        if found.codes is not None:
            yield name, _Column(found.codes[rows].astype("int64") + 1, None)
        elif found.storage == "datetime":
            stamps = frame[name].to_numpy().astype("datetime64[s]")
            seconds = np.where(np.isnat(stamps), np.nan, stamps.astype("float64"))
            yield name, _Column(None, seconds)
        else:
            yield name, _Column(None, frame[name].to_numpy(dtype="float64"))


def _gives_class(column: _Column, labels: Codes) -> bool:
    import numpy as np

    if column.numbers is None:
        return column.levels is not None and _is_pure(column.levels, labels)
    present = ~np.isnan(column.numbers)
    if not present.any():
        return False
    filled = np.where(present, column.numbers, column.numbers[present].min() - 1.0)
    order = np.argsort(filled, kind="stable")
    ranks = _ranks(filled, order)
    if ranks[order[-1]] < _MAX_LEVELS:
        return _is_pure(ranks, labels)
    if labels.max() == 1:
        return _separates(filled, order, labels)
    bins = min(_MAX_LEVELS, len(labels) // MIN_ROWS_PER_LEVEL)
    # Dense ranks, so that equal values share a bin.
    return _is_pure(ranks * bins // (int(ranks.max()) + 1), labels)


def _ranks(values: Numbers, order: npt.NDArray[np.intp]) -> Codes:
    """Return dense ranks from 0; equal values share one."""
    import numpy as np

    ordered = values[order]
    ranks = np.empty(len(values), dtype="int64")
    ranks[order] = np.concatenate([[0], np.cumsum(np.diff(ordered) > 0)])
    return ranks


def _is_pure(codes: Codes, labels: Codes) -> bool:
    """Whether guessing the commonest class of each level is nearly always right."""
    import numpy as np

    num_labels = int(labels.max()) + 1
    num_levels = int(codes.max()) + 1
    if num_levels * MIN_ROWS_PER_LEVEL * MIN_COVERED > len(codes):
        return False  # too few rows per level to say anything
    table = np.bincount(codes * num_labels + labels, minlength=num_levels * num_labels)
    table = table.reshape(num_levels, num_labels)
    table = table[table.sum(axis=1) >= MIN_ROWS_PER_LEVEL]
    covered = int(table.sum())
    if covered < MIN_COVERED * len(codes):
        return False
    errors = covered - int(table.max(axis=1).sum())
    baseline = covered - int(table.sum(axis=0).max())
    return baseline > 0 and errors <= (1 - MIN_ERROR_REMOVED) * baseline


def _separates(values: Numbers, order: npt.NDArray[np.intp], labels: Codes) -> bool:
    """Whether the two classes lie on two sides of a threshold (area under the ROC curve)."""
    import numpy as np

    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    mean_ranks = (first + last + 1) / 2
    positive = labels[order] == 1
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    wins = mean_ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    area = float(wins / (num_positive * num_negative))
    return max(area, 1 - area) >= MIN_SEPARATION


def _gives_amount(column: _Column, amounts: Numbers) -> bool:
    import numpy as np

    if column.numbers is None:
        return column.levels is not None and _explains(column.levels, amounts)
    present = ~np.isnan(column.numbers)
    if present.sum() < max(MIN_LEAKAGE_ROWS, MIN_COVERED * len(present)):
        return False
    values, wanted = column.numbers[present], amounts[present]
    if _correlation(values, wanted) >= MIN_CORRELATION:
        return True
    # Ranks find amounts that were transformed, for example their logarithm.
    ranks = _ranks(values, np.argsort(values, kind="stable")).astype("float64")
    goal = _ranks(wanted, np.argsort(wanted, kind="stable")).astype("float64")
    return _correlation(ranks, goal) >= MIN_CORRELATION


def _correlation(left: Numbers, right: Numbers) -> float:
    """Absolute linear correlation; 0 where either is constant."""
    import numpy as np

    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return abs(float(left @ right)) / scale if scale > 0 else 0.0


def _explains(codes: Codes, amounts: Numbers) -> bool:
    """Whether the means of the levels explain nearly all variance of the amount."""
    import numpy as np

    counts = np.bincount(codes)
    if np.count_nonzero(counts) * MIN_ROWS_PER_LEVEL * MIN_COVERED > len(codes):
        return False
    centred = amounts - amounts.mean()
    sums = np.bincount(codes, weights=centred)
    used = counts > 0
    between = float((sums[used] ** 2 / counts[used]).sum())
    total = float(centred @ centred)
    return total > 0 and between / total >= MIN_CORRELATION
