"""Predictions of a finished run for new rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from smarttune.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

    from smarttune.tuning.run import Run


def predict(run: Run, data: Any) -> pd.DataFrame:
    """Predict with the best model of a run.

    Args:
        run: A finished run.
        data: New rows as a file, frame or array; the target is not needed. Further
            columns are ignored, missing cells and unseen levels are fine.

    Returns:
        One row per row of `data`: `prediction`, and `probability_LABEL` for classes.

    Raises:
        RunError: If the search has not ended.
        DataError: If the rows cannot be read or lack columns.
    """
    import keras

    from smarttune.data import read
    from smarttune.execution import VALIDATION_BATCH_SIZE
    from smarttune.models import TablePreprocessor, TargetCodec

    path = run.path / "core.keras"
    if not path.exists():
        raise RunError(
            str(run.path),
            received="it holds no final model",
            expected="a finished run",
            mend=f"Finish it with `smarttune resume {run.path}`.",
        )
    fitted = run.read("preprocessing.json")
    preprocessor = TablePreprocessor.model_validate(fitted["inputs"])
    codec = TargetCodec.model_validate(fitted["target"])
    written = run.manifest["data"]["read_options"] if isinstance(data, (str, os.PathLike)) else {}
    options = {k: written[k] for k in ("delimiter", "encoding", "header") if k in written}
    rows = read(data, **options).features
    model = keras.saving.load_model(path, compile=False)
    outputs = model.predict(
        preprocessor.transform(rows), batch_size=VALIDATION_BATCH_SIZE, verbose=0
    )
    return codec.decode(outputs)
