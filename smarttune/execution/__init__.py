"""How trials are trained: one by one, compiled once and shared, many at once, in workers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.execution.fit import (
        TrainingData,
        collect_garbage,
        fit_arrays,
        prepare_process,
    )
    from smarttune.execution.memory import release_memory

# Opened on first use: options are checked without Keras, and so do workers start.
_HOMES = {
    "TrainingData": "fit",
    "collect_garbage": "fit",
    "fit_arrays": "fit",
    "prepare_process": "fit",
    "release_memory": "memory",
}

__all__ = [
    "TrainingData",
    "collect_garbage",
    "fit_arrays",
    "prepare_process",
    "release_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
