"""Which modality learns from which data; each is imported when data of its kind come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smarttune.models.modality import Modality, Preprocessor

LANGUAGE_MODELS = ("char_language_model", "language_model")


def _tabular() -> Modality:
    from smarttune.models.tabular import Tabular

    return Tabular()


def _text() -> Modality:
    from smarttune.models.text import Text

    return Text()


def _image() -> Modality:
    from smarttune.models.image import Image

    return Image()


def _audio() -> Modality:
    from smarttune.models.audio import Audio

    return Audio()


def _sequence() -> Modality:
    from smarttune.models.sequence import Sequence

    return Sequence()


def _timeseries() -> Modality:
    from smarttune.models.timeseries import TimeSeries

    return TimeSeries()


def _language() -> Modality:
    from smarttune.models.language import Language

    return Language()


MODALITIES: dict[str, Callable[[], Modality]] = {
    "tabular": _tabular,
    "text": _text,
    "image": _image,
    "audio": _audio,
    "sequence": _sequence,
    "timeseries": _timeseries,
    "language": _language,
}


def modality(name: str) -> Modality:
    """The modality of a name."""
    return MODALITIES[name]()


def modality_of(task: str, problem: str) -> Modality:
    """The modality that learns a problem on a kind of data."""
    return modality("language" if problem in LANGUAGE_MODELS else task)


def preprocessor_of(data: Mapping[str, Any]) -> Preprocessor:
    """A preprocessor from the JSON that a run keeps."""
    return modality(str(data["kind"])).preprocessor_type.model_validate(data)
