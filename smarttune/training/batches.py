"""The order in which samples are seen, a pure function of seed and epoch.

Keras shuffles with a generator whose state is lost when training stops, so a
trial that is continued sees other batches than one that ran through. Here epoch
`e` has the same order whether training began at epoch 0 or at epoch `e`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Arrays = Any  # an array of shape (n, ...), or a dict of such arrays


def num_batches(num_samples: int, batch_size: int) -> int:
    """Batches per epoch; the last one may be smaller."""
    return math.ceil(num_samples / batch_size)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the samples in an epoch, counted from 0, shape (num_samples,)."""
    import numpy as np

    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def epoch_batches(
    x: Arrays,
    y: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    batch_size: int,
    seed: int,
    epochs: range,
) -> Iterator[tuple[Any, ...]]:
    """Yield the batches of the given epochs, one epoch after the other.

    Args:
        x: Inputs, shape (n, ...), or a dict of such.
        y: Targets, shape (n,) or (n, outputs).
        sample_weight: Weight of each sample, shape (n,).
        batch_size: Samples per batch.
        seed: Decides the order of every epoch.
        epochs: Epochs to yield, counted from 0 over the whole training.

    Yields:
        (x, y) or (x, y, sample_weight) of one batch.
    """
    n = len(y)
    for epoch in epochs:
        order = epoch_order(n, seed, epoch)
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            batch = (_rows(x, rows), y[rows])
            yield batch if sample_weight is None else (*batch, sample_weight[rows])


def _rows(x: Arrays, rows: np.ndarray) -> Arrays:
    if isinstance(x, Mapping):
        return {name: values[rows] for name, values in x.items()}
    return x[rows]
