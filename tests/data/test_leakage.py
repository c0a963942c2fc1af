"""Columns that give the target away are found; honest ones are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data import read
from smarttune.data.leakage import leaking_columns, row_hashes
from smarttune.data.statistics import column_statistics

RANDOM = np.random.default_rng(0)
NUM_ROWS = 2000
LABELS = RANDOM.integers(0, 3, NUM_ROWS)
BINARY = (LABELS > 1).astype(int)
AMOUNT = RANDOM.normal(size=NUM_ROWS)
NOISE = RANDOM.normal(size=NUM_ROWS)


def leaks(column: object, target: npt.NDArray[np.generic], problem: str) -> bool:
    """Whether one column is found to leak."""
    dataset = read({"column": column, "noise": NOISE}, target)
    assert isinstance(dataset.target, pd.Series)
    statistics = column_statistics(dataset.features)
    found = leaking_columns(
        dataset.features,
        statistics,
        dataset.target,
        problem=problem,
        order=row_hashes(dataset.features, statistics),
    )
    assert "noise" not in found
    return found == ["column"]


@pytest.mark.parametrize(
    ("column", "target", "problem"),
    [
        (np.array(["u", "v", "w"])[LABELS], LABELS, "multiclass"),
        (LABELS * 10, LABELS, "multiclass"),
        (BINARY.astype(bool), BINARY, "binary"),
        (np.where(BINARY == 1, 5.0, 1.0) + RANDOM.random(NUM_ROWS), BINARY, "binary"),
        (LABELS + 0.5 * RANDOM.random(NUM_ROWS), LABELS, "multiclass"),
        (np.where(BINARY == 1, np.nan, 1.0 + RANDOM.random(NUM_ROWS)), BINARY, "binary"),
        (["paid" if b else None for b in BINARY], BINARY, "binary"),
        (3 * AMOUNT + 2, AMOUNT, "regression"),
        (np.exp(AMOUNT), AMOUNT, "regression"),
        (np.array([f"c{i}" for i in LABELS]), LABELS * 7.5, "regression"),
    ],
)
def test_columns_that_know_the_target_are_found(
    column: object, target: npt.NDArray[np.generic], problem: str
) -> None:
    """Copies, codes, thresholds, gaps and transforms of the target are suspects."""
    assert leaks(column, target, problem)


@pytest.mark.parametrize(
    ("column", "target", "problem"),
    [
        (BINARY + RANDOM.normal(size=NUM_ROWS), BINARY, "binary"),
        (np.where(RANDOM.random(NUM_ROWS) < 0.1, 1 - BINARY, BINARY), BINARY, "binary"),
        ([f"id{i}" for i in range(NUM_ROWS)], BINARY, "binary"),
        ([f"group{i // 3}" for i in range(NUM_ROWS)], BINARY, "binary"),
        (AMOUNT + 0.3 * RANDOM.normal(size=NUM_ROWS), AMOUNT, "regression"),
        ([f"id{i}" for i in range(NUM_ROWS)], AMOUNT, "regression"),
        (np.zeros(NUM_ROWS), np.arange(NUM_ROWS) < 5, "binary"),
    ],
)
def test_honest_columns_are_not_accused(
    column: object, target: npt.NDArray[np.generic], problem: str
) -> None:
    """Strong but imperfect columns, and ids that are pure by rarity, are no suspects."""
    assert not leaks(column, target, problem)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, -0.0, 1.0, 2.0, None]), st.sampled_from("ab")), min_size=1
    )
)
@settings(max_examples=60, deadline=None)
def test_hashes_are_equal_exactly_for_equal_rows(rows: list[tuple[float | None, str]]) -> None:
    """Two rows share a hash if and only if all their cells are equal, missing ones included."""
    frame = pd.DataFrame(rows, columns=["n", "t"]).astype({"n": "float64"})

    hashes = row_hashes(frame, column_statistics(frame))

    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert (hashes[i] == hashes[j]) == (one == other)


def test_every_pattern_of_nan_is_the_same_missing_cell() -> None:
    """A missing cell hashes alike, whatever bits its NaN has."""
    frame = pd.DataFrame({"n": [np.nan, np.copysign(np.nan, -1.0)]})

    hashes = row_hashes(frame, column_statistics(frame))

    assert hashes[0] == hashes[1]
