"""Plain statistics of every column, computed over blocks of columns so that width is cheap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

Storage = Literal["number", "boolean", "datetime", "text"]

# ours: cells sorted at a time (16 MB of floats).
_BLOCK_CELLS = 2_000_000
# Percentiles that measure the tails, and the ratio of their spans that counts as heavy:
# the definition of the fact `data.heavy_tailed`.
_TAIL_PERCENTILES = (1, 25, 75, 99)
HEAVY_TAIL_RATIO = 10.0
# ours: where more than half of the cells are equal the interquartile range is zero; a handful
# of codes is then no tail.
_MIN_TAIL_LEVELS = 10


@dataclass(frozen=True)
class ColumnStatistics:
    """What one column holds.

    Attributes:
        name: The column.
        storage: How its cells are stored.
        num_missing: Cells without a value.
        cardinality: Distinct values apart from missing ones.
        whole: Whether all are whole numbers.
        low: The smallest number (NaN unless numbers).
        high: The largest number (NaN unless numbers).
        heavy_tailed: Whether the 1st and 99th percentile lie over ten interquartile ranges apart.
        words: Median number of words of a cell (0 unless text).
        levels: Distinct texts in sorted order (empty unless text).
        codes: Index into `levels` of every row, -1 where missing (empty unless text).
    """

    name: str
    storage: Storage
    num_missing: int
    cardinality: int
    whole: bool = False
    low: float = float("nan")
    high: float = float("nan")
    heavy_tailed: bool = False
    words: float = 0.0
    levels: list[str] = field(default_factory=list, repr=False)
    codes: npt.NDArray[np.intp] | None = field(default=None, repr=False, compare=False)


def column_statistics(frame: pd.DataFrame) -> dict[str, ColumnStatistics]:
    """Return the statistics of every column of a clean frame, in its order."""
    numbers: list[str] = []
    found: dict[str, ColumnStatistics] = {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        kind = getattr(dtype, "kind", "O")
        if kind in "iuf":
            numbers.append(name)
        elif kind == "b":
            found[name] = ColumnStatistics(name, "boolean", 0, int(frame[name].nunique()))
        elif kind == "M":
            column = frame[name]
            missing = int(column.isna().sum())
            found[name] = ColumnStatistics(name, "datetime", missing, int(column.nunique()))
        else:
            found[name] = _text(frame[name])
    for block in blocks(numbers, len(frame)):
        for statistics in _numbers(frame, block):
            found[statistics.name] = statistics
    return {name: found[name] for name in frame.columns}


def blocks(names: list[str], num_rows: int) -> Iterator[list[str]]:
    """Cut column names into groups whose cells fit comfortably in memory."""
    width = max(1, _BLOCK_CELLS // max(1, num_rows))
    for start in range(0, len(names), width):
        yield names[start : start + width]


def _numbers(frame: pd.DataFrame, names: list[str]) -> Iterator[ColumnStatistics]:
    """Sort a block of columns once and read everything off the sorted cells."""
    import numpy as np

    values = np.sort(frame[names].to_numpy(dtype="float64"), axis=0)  # NaN last
    num_rows = len(values)
    present = num_rows - np.isnan(values).sum(axis=0)
    steps = np.diff(values, axis=0) > 0  # False beside NaN
    cardinality = np.where(present > 0, steps.sum(axis=0) + 1, 0)
    whole = (np.isnan(values) | (values == np.floor(values))).all(axis=0)
    high = values[np.maximum(present - 1, 0), np.arange(len(names))]
    low_tail, low_quartile, high_quartile, high_tail = (
        _percentile(values, present, p) for p in _TAIL_PERCENTILES
    )
    span, spread = high_tail - low_tail, high_quartile - low_quartile
    heavy = np.where(
        spread > 0, span > HEAVY_TAIL_RATIO * spread, (span > 0) & (cardinality > _MIN_TAIL_LEVELS)
    )
    for i, name in enumerate(names):
        yield ColumnStatistics(
            name,
            "number",
            num_missing=int(num_rows - present[i]),
            cardinality=int(cardinality[i]),
            whole=bool(whole[i]),
            low=float(values[0, i]),
            high=float(high[i]),
            heavy_tailed=bool(heavy[i]),
        )


def _percentile(
    values: npt.NDArray[np.float64], present: npt.NDArray[np.intp], percent: int
) -> npt.NDArray[np.float64]:
    """Interpolated percentile of each sorted column, over its present cells."""
    import numpy as np

    position = percent / 100 * np.maximum(present - 1, 0)
    below = np.floor(position).astype("int64")
    above = np.ceil(position).astype("int64")
    columns = np.arange(values.shape[1])
    lower = values[below, columns]
    result: npt.NDArray[np.float64] = lower + (position - below) * (values[above, columns] - lower)
    return result


def _text(column: pd.Series) -> ColumnStatistics:
    import numpy as np
    import pandas as pd

    codes, levels = pd.factorize(column, sort=True)
    texts = [str(level) for level in levels]
    words = np.array([len(text.split()) for text in texts] or [0])
    present = codes >= 0
    return ColumnStatistics(
        str(column.name),
        "text",
        num_missing=int((~present).sum()),
        cardinality=len(texts),
        words=float(np.median(words[codes[present]])) if present.any() else 0.0,
        levels=texts,
        codes=codes,
    )
