"""Predictions of a trained network for new raw rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Options of reading that new data share with those of the training: what the source tells
# only to those who ask, and how text files are written.
OF_ANY_SOURCE = ("task", "time_column", "series_column", "horizon", "sample_rate")
OF_FILES = ("delimiter", "encoding", "header")


def predict(
    core: Path, fitted: Mapping[str, Any], data: Any, written: Mapping[str, Any]
) -> pd.DataFrame:
    """Predict with a saved network and its fitted preprocessing.

    Args:
        core: The network without preprocessing, as Keras saved it.
        fitted: `inputs` and `target`: preprocessing and target encoding as JSON.
        data: New rows. Further columns are ignored, missing cells and unseen levels
            are fine.
        written: How the training file was written; a new file is taken to be alike.
    """
    import keras

    from smarttune.data import read
    from smarttune.models import TargetCodec, modality_of, preprocessor_of

    preprocessor = preprocessor_of(fitted["inputs"])
    codec = TargetCodec.model_validate(fitted["target"])
    is_file = isinstance(data, (str, os.PathLike))
    alike = (*OF_ANY_SOURCE, *OF_FILES) if is_file else OF_ANY_SOURCE
    learnt = modality_of(preprocessor.kind, codec.problem)
    target = written.get("target") if learnt.reads_target else None
    rows = read(data, target, **{k: written[k] for k in alike if k in written})
    model = keras.saving.load_model(core, compile=False)
    return learnt.predictions(rows, preprocessor, codec, model)
