"""Outputs of trained networks, batch by batch, however large the inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# ours: numbers per batch among inputs or outputs, whichever are more. Hidden layers hold some
# fifty times as many; this keeps them around 50 MB.
NUMBERS_PER_BATCH = 2**18
# ours: fewer calls save time on small models; larger batches save none.
LARGEST_BATCH, SMALLEST_BATCH = 4096, 16
BATCHES_AT_ONCE = 16  # ours: bounds what is held at once, and spares `predict` many starts


def batch_size_for(model: Any, x: Any) -> int:
    """Samples per batch where no gradients are kept, a power of two."""
    parts = list(x.values()) if isinstance(x, Mapping) else [x]
    # Sparse rows hold fewer numbers than their shape says.
    read = sum(getattr(p, "numbers_per_row", math.prod(p.shape[1:])) for p in parts)
    wanted = NUMBERS_PER_BATCH // max(1, read, _numbers_written(model))
    return int(min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** int(math.log2(max(1, wanted))))))


def _numbers_written(model: Any) -> int:
    """Outputs of one sample; 1 where the model does not tell before it has run."""
    try:
        shape = model.output_shape
    except (AttributeError, ValueError):  # a class of its own, or not built yet
        return 1
    if not isinstance(shape, tuple):  # several outputs
        return 1
    return math.prod(n or 1 for n in shape[1:])


def in_memory(x: Any) -> bool:
    """Whether all inputs are plain arrays."""
    parts = x.values() if isinstance(x, Mapping) else [x]
    return all(isinstance(p, np.ndarray) for p in parts)


def chunks(num_samples: int, size: int) -> Iterator[np.ndarray]:
    """Consecutive row numbers."""
    for start in range(0, num_samples, size):
        yield np.arange(start, min(start + size, num_samples))


def some_rows(x: Any, rows: np.ndarray) -> Any:
    """The given rows of one input or of a dict of inputs."""
    return {k: v[rows] for k, v in x.items()} if isinstance(x, Mapping) else x[rows]


def outputs_of(
    model: Any, x: Any, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Outputs for all samples, float32.

    Args:
        model: A trained network.
        x: Inputs, or a dict of them; read in pieces.
        reduce: From the outputs and row numbers of one piece to what shall be kept of it.

    Returns:
        Shape (samples, ...).
    """
    size = batch_size_for(model, x)
    num_samples = len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)
    parts = []
    for rows in chunks(num_samples, BATCHES_AT_ONCE * size):
        output = np.asarray(model.predict(some_rows(x, rows), batch_size=size, verbose=0))
        parts.append(output if reduce is None else reduce(output, rows))
    return np.concatenate(parts)
