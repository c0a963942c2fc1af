"""How trials are trained. One lane so far: Keras's own `fit`, one trial after the other."""

from smarttune.execution.fit import (
    TrainingData,
    collect_garbage,
    fit_arrays,
    prepare_process,
)
from smarttune.execution.memory import release_memory

__all__ = [
    "TrainingData",
    "collect_garbage",
    "fit_arrays",
    "prepare_process",
    "release_memory",
]
