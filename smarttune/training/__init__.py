"""Policies inside one trial: rates, batches, stopping, what is watched, and continuation.

Each works in plain Keras code as well as in a search. Names are imported when they are first
asked for, so that the order of the data and stopping can be used without importing Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.training.batches import epoch_batches, num_batches
    from smarttune.training.checkpoint import restore_state, save_state
    from smarttune.training.stopping import WindowedStopping

_HOMES = {
    "WindowedStopping": "stopping",
    "epoch_batches": "batches",
    "num_batches": "batches",
    "restore_state": "checkpoint",
    "save_state": "checkpoint",
}

__all__ = ["WindowedStopping", "epoch_batches", "num_batches", "restore_state", "save_state"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
