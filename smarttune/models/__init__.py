"""Model families, preprocessing inside the model, and narrowing of a user's own space.

Names are imported when they are first asked for, so that preprocessing can be used
without importing Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.models.codec import TargetCodec
    from smarttune.models.declaration import declare
    from smarttune.models.dense import DenseHyperModel, TrainingPlan
    from smarttune.models.export import exported_model, raw_inputs
    from smarttune.models.hypermodel import HyperModel, narrow
    from smarttune.models.preprocessing import TablePreprocessor

_HOMES = {
    "DenseHyperModel": "dense",
    "HyperModel": "hypermodel",
    "TablePreprocessor": "preprocessing",
    "TargetCodec": "codec",
    "TrainingPlan": "dense",
    "declare": "declaration",
    "exported_model": "export",
    "narrow": "hypermodel",
    "raw_inputs": "export",
}

__all__ = [
    "DenseHyperModel",
    "HyperModel",
    "TablePreprocessor",
    "TargetCodec",
    "TrainingPlan",
    "declare",
    "exported_model",
    "narrow",
    "raw_inputs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
