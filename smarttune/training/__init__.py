"""Policies inside one trial: rates, batches, stopping, what is watched, and continuation.

Each works in plain Keras code as well as in a search. Names are imported when they are first
asked for, so that the order of the data and stopping can be used without importing Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.training.averaging import AveragedWeights
    from smarttune.training.batch_probe import BatchProbe, probe_batch_size
    from smarttune.training.batches import epoch_batches, num_batches
    from smarttune.training.checkpoint import restore_state, save_state
    from smarttune.training.determinism import make_deterministic
    from smarttune.training.divergence import StopOnDivergence
    from smarttune.training.early_stopping import WindowedEarlyStopping
    from smarttune.training.gradients import gradient_statistics, watched
    from smarttune.training.growth import BatchGrowth, NoiseScaleGrowth, fit_growing
    from smarttune.training.hypergradient import hypergradient
    from smarttune.training.momentum import with_momentum_cycle
    from smarttune.training.noise_scale import gradient_noise_scale
    from smarttune.training.range_test import RangeTest, find_learning_rate
    from smarttune.training.schedules import learning_rate
    from smarttune.training.stopping import WindowedStopping

_HOMES = {
    "AveragedWeights": "averaging",
    "BatchGrowth": "growth",
    "BatchProbe": "batch_probe",
    "NoiseScaleGrowth": "growth",
    "RangeTest": "range_test",
    "StopOnDivergence": "divergence",
    "WindowedEarlyStopping": "early_stopping",
    "WindowedStopping": "stopping",
    "epoch_batches": "batches",
    "find_learning_rate": "range_test",
    "fit_growing": "growth",
    "gradient_noise_scale": "noise_scale",
    "gradient_statistics": "gradients",
    "hypergradient": "hypergradient",
    "learning_rate": "schedules",
    "make_deterministic": "determinism",
    "num_batches": "batches",
    "probe_batch_size": "batch_probe",
    "restore_state": "checkpoint",
    "save_state": "checkpoint",
    "watched": "gradients",
    "with_momentum_cycle": "momentum",
}

__all__ = [
    "AveragedWeights",
    "BatchGrowth",
    "BatchProbe",
    "NoiseScaleGrowth",
    "RangeTest",
    "StopOnDivergence",
    "WindowedEarlyStopping",
    "WindowedStopping",
    "epoch_batches",
    "find_learning_rate",
    "fit_growing",
    "gradient_noise_scale",
    "gradient_statistics",
    "hypergradient",
    "learning_rate",
    "make_deterministic",
    "num_batches",
    "probe_batch_size",
    "restore_state",
    "save_state",
    "watched",
    "with_momentum_cycle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
