"""Stretches of one long array as samples, gathered batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# ours: up to this many numbers (some 64 MB) samples are gathered once, which trains faster.
MOST_NUMBERS = 2**24


class Windows:
    """Samples that overlap in a long array, which they share; only batches are ever copied.

    Args:
        source: Shape (positions, ...).
        starts: First position of each sample.
        length: Positions of each sample.
        encode: From raw stretches, shape (samples, length, ...), to what a network takes,
            sample by sample.
    """

    def __init__(
        self,
        source: np.ndarray,
        starts: np.ndarray,
        length: int,
        encode: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._starts, self._encode = starts, encode
        self._length = length
        self._view = sliding_window_view(source, length, axis=0) if len(starts) else None
        empty = encode(np.zeros((0, length, *source.shape[1:]), source.dtype))
        self._empty = empty
        self.shape = (len(starts), *empty.shape[1:])
        self.dtype = empty.dtype

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some samples; a single number gives one sample without the first axis."""
        starts = self._starts[rows]
        if np.ndim(starts) == 0:
            one: np.ndarray = self[np.array([rows])][0]
            return one
        if self._view is None:
            return self._empty
        # The view has the positions of a window on its last axis.
        return self._encode(np.moveaxis(self._view[starts], -1, 1))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole: np.ndarray = self[:]
        return whole if dtype is None else whole.astype(dtype)


def gathered(windows: Windows) -> Windows | np.ndarray:
    """The samples in memory where they are few, else as they are."""
    return windows[:] if math.prod(windows.shape) <= MOST_NUMBERS else windows
