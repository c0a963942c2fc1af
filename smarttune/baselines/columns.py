"""Tables as boosting takes them: numbers, category numbers, and NaN where a cell is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smarttune.baselines.boosting import boosted_trees
from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited
from smarttune.baselines.matrices import Matrices, drawn_note
from smarttune.models.cells import dates, numbers, texts, writes_day_first

if TYPE_CHECKING:
    import pandas as pd

# ours: more rows hardly help trees of 31 leaves, and cost seconds; cells bound the memory.
MOST_ROWS, MOST_CELLS = 100_000, 20_000_000
# ours: more validation rows do not choose better.
MOST_VALIDATION_ROWS = 20_000
# Levels that one feature of scikit-learn's histograms may have; the last is for all others.
_MOST_LEVELS = 255


def boosted_columns(contest: Contest, allowance: Allowance) -> Made:
    """Fit trees on the used columns of a table.

    Raises:
        Unsuited: If no column can be used.
    """
    columns = [c for c in contest.fingerprint.used_columns if c.kind in _READERS]
    if not columns:
        raise Unsuited("No numeric, categorical, boolean or date column is used.")
    split = contest.split
    train = contest.drawn(split.train, min(MOST_ROWS, MOST_CELLS // len(columns)))
    validation = contest.drawn(split.validation, MOST_VALIDATION_ROWS)
    frame = contest.dataset.features
    parts = (train, validation, split.test)
    read, categorical = [], []
    for column in columns:
        cells = [frame[column.name].iloc[rows] for rows in parts]
        found = _READERS[column.kind](cells, column.datetime_format)
        if not np.isnan(found[0]).all():  # scikit-learn refuses what has no value at all
            read.append(found)
            categorical.append(column.kind == "categorical")
    if not read:
        raise Unsuited("No column has a value in the training rows.")
    x = [np.stack([part[i] for part in read], axis=1) for i in range(len(parts))]
    notes = drawn_note(train, split.train)
    if any(c.kind == "text" for c in contest.fingerprint.used_columns):
        notes += ("It does not read the columns of text.",)
    given = Matrices(
        (x[0], x[1], x[2]),
        (contest.encoded(train), contest.encoded(validation)),
        notes,
        categorical=tuple(categorical),
    )
    return boosted_trees(contest, allowance, given)


RECIPE = Recipe(
    "gradient boosting",
    "strong",
    "boosted trees on the raw columns",
    boosted_columns,
    library="scikit-learn",
)


# Each reader takes the cells of training, validation and test rows, and learns from the first.


def _numeric(parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    return [numbers(cells) for cells in parts]


def _dates(parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    found = []
    day_first = writes_day_first(parts[0])
    for cells in parts:
        parsed = dates(cells, day_first=day_first, written=written)
        seconds = parsed.astype("datetime64[s]").astype("int64").to_numpy().astype(np.float64)
        found.append(np.where(parsed.isna().to_numpy(), np.nan, seconds))
    return found


def _levels(parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    """Levels by how common they are in training; rare and unseen ones share the last number."""
    names, counts = np.unique(texts(parts[0]).astype(str), return_counts=True)
    common = names[np.argsort(-counts, kind="stable")][: _MOST_LEVELS - 1]
    places = {str(name): float(i) for i, name in enumerate(common) if name}
    others = float(_MOST_LEVELS - 1)
    return [
        np.array([places.get(t, others) if t else np.nan for t in map(str, texts(cells))])
        for cells in parts
    ]


def _flags(parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    """Two values as 0 and 1, in sorted order; whatever else is missing."""
    known = sorted(set(map(str, texts(parts[0]))) - {""})[:2]
    places = {name: float(i) for i, name in enumerate(known)}
    return [
        np.array([places.get(str(t), np.nan) for t in texts(cells)], np.float64) for cells in parts
    ]


_READERS = {"numeric": _numeric, "datetime": _dates, "categorical": _levels, "boolean": _flags}
