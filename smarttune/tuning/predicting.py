"""Predictions of a trained network for new raw rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
    from smarttune.execution import VALIDATION_BATCH_SIZE
    from smarttune.models import TablePreprocessor, TargetCodec

    preprocessor = TablePreprocessor.model_validate(fitted["inputs"])
    codec = TargetCodec.model_validate(fitted["target"])
    is_file = isinstance(data, (str, os.PathLike))
    alike = [k for k in ("delimiter", "encoding", "header") if is_file and k in written]
    rows = read(data, **{k: written[k] for k in alike}).features
    model = keras.saving.load_model(core, compile=False)
    outputs = model.predict(
        preprocessor.transform(rows), batch_size=VALIDATION_BATCH_SIZE, verbose=0
    )
    return codec.decode(outputs)
