"""Contents and the columns beside them: cutting the target out, dropping what lacks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smarttune.data.content import Content
from smarttune.data.dataset import Dataset
from smarttune.data.targets import drop_unlabelled
from smarttune.data.tidy import tidy_frame

if TYPE_CHECKING:
    import pandas as pd

# Column with the position of a sample, where there is no other column.
POSITION = "sample"


def labelled(
    content: Content,
    columns: pd.DataFrame,
    target: Sequence[str],
    *,
    where: str,
    name: str,
    warnings: Sequence[str] = (),
) -> Dataset:
    """Put contents and the columns beside them together.

    Args:
        content: The samples.
        columns: One row per sample, perhaps without any column.
        target: Columns to predict; none at prediction time.
        where: What errors call the source.
        name: A short name, for titles.
        warnings: What the user should know beyond the content's own warnings.

    Returns:
        The data set. Samples without a target are left out.

    Raises:
        DataError: If every sample lacks the target.
    """
    import numpy as np

    notes = list(warnings)
    labels: pd.Series | pd.DataFrame | None = None
    features = columns.drop(columns=list(target))
    if target:
        found, more = tidy_frame(columns[list(target)], targets=list(target))
        kept = np.flatnonzero(found.notna().all(axis=1).to_numpy())
        features, labels, dropped = drop_unlabelled(features, found, where=where)
        notes += [*more, *dropped]
        content = content.select(kept) if len(kept) < len(columns) else content
    if not features.shape[1]:
        features[POSITION] = np.arange(len(features))
    return Dataset(
        name=name,
        features=features,
        target=labels,
        num_rows=len(columns),
        warnings=tuple(notes),
        where=where,
        read_options={"path": where, "target": target[0] if len(target) == 1 else None},
        num_without_target=len(columns) - len(features),
        task=content.task,
        content=content,
    )
