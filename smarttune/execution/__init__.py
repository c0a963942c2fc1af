"""How trials are trained. One lane so far: Keras's own `fit`, one trial after the other."""

from smarttune.execution.fit import (
    VALIDATION_BATCH_SIZE,
    TrainingData,
    collect_garbage,
    fit_arrays,
    prepare_process,
)

__all__ = [
    "VALIDATION_BATCH_SIZE",
    "TrainingData",
    "collect_garbage",
    "fit_arrays",
    "prepare_process",
]
