"""Networks for every kind of data, preprocessing, and narrowing of a user's own space.

Names are imported when they are first asked for, so that preprocessing can be used
without importing Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.models.codec import TargetCodec
    from smarttune.models.declaration import declare
    from smarttune.models.export import raw_inputs
    from smarttune.models.family import NetworkHyperModel, TrainingPlan
    from smarttune.models.hypermodel import HyperModel, narrow
    from smarttune.models.modalities import modality_of, preprocessor_of
    from smarttune.models.modality import Modality, Preprocessor
    from smarttune.models.preprocessing import TablePreprocessor

_HOMES = {
    "HyperModel": "hypermodel",
    "Modality": "modality",
    "NetworkHyperModel": "family",
    "Preprocessor": "modality",
    "TablePreprocessor": "preprocessing",
    "TargetCodec": "codec",
    "TrainingPlan": "family",
    "declare": "declaration",
    "modality_of": "modalities",
    "narrow": "hypermodel",
    "preprocessor_of": "modalities",
    "raw_inputs": "export",
}

__all__ = [
    "HyperModel",
    "Modality",
    "NetworkHyperModel",
    "Preprocessor",
    "TablePreprocessor",
    "TargetCodec",
    "TrainingPlan",
    "declare",
    "modality_of",
    "narrow",
    "preprocessor_of",
    "raw_inputs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
