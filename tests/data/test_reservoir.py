"""A reservoir keeps a uniform sample, whatever the pieces."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data.reservoir import (
    MAX_SAMPLED_CELLS,
    MAX_SAMPLED_ROWS,
    Reservoir,
    row_limit,
)


def sample(num_rows: int, size: int, piece: int, seed: int = 0) -> list[int]:
    """Sample the numbers from 0 in pieces of one size."""
    reservoir = Reservoir(size, seed=seed)
    for start in range(0, num_rows, piece):
        reservoir.add(pd.DataFrame({"i": np.arange(start, min(num_rows, start + piece))}))
    assert reservoir.num_rows == num_rows
    assert reservoir.sampled == (num_rows > size)
    kept: list[int] = reservoir.rows()["i"].tolist()
    return kept


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_samples_have_the_right_size_and_order(num_rows: int, size: int, piece: int) -> None:
    """As many rows as asked for stay, once each, in their order, however they came."""
    kept = sample(num_rows, size, piece)

    assert len(kept) == min(num_rows, size)
    assert kept == sorted(set(kept))
    assert kept == sample(num_rows, size, num_rows)


def test_every_row_is_equally_likely() -> None:
    """Over many seeds the first and the last rows are kept as often as others."""
    counts = np.zeros(50)
    for seed in range(400):
        counts[sample(50, 10, 7, seed)] += 1

    # Each row is kept in 80 of 400 draws on average, with a standard deviation of 8.
    assert counts.min() > 80 - 5 * 8
    assert counts.max() < 80 + 5 * 8


def test_wide_tables_keep_fewer_rows() -> None:
    """The limit is on cells as well as on rows."""
    assert row_limit(10, None) == MAX_SAMPLED_ROWS
    assert row_limit(10_000, None) == MAX_SAMPLED_CELLS // 10_000
    assert row_limit(10, 500) == 500
