"""What reading yields: the samples, their target and what is known of their source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from smarttune.data.content import Content


class ReadOptions(TypedDict, total=False):
    """How a source is written; what is left out is detected.

    Keys:
        delimiter: The character between the fields of a text table.
        encoding: The character encoding of text, as Python names it.
        header: Whether the first line of a text table holds the column names.
        task: The kind of data, where the source itself does not tell.
        group: Column whose equal values belong together; a split never parts them.
        time_column: Column with the time stamps of a series.
        series_column: Column that tells several series in one table apart.
        horizon: Steps of a series to forecast.
        sample_rate: Samples per second of recordings that do not say so themselves.
        masks: Folder with one label picture for each picture (segmentation).
        weights: Pretrained weights on disk: a Keras file with a network for images, or a
            preset folder of KerasHub with an encoder for texts.
    """

    delimiter: str | None
    encoding: str | None
    header: bool | None
    task: str | None
    group: str | None
    time_column: str | None
    series_column: str | None
    horizon: int | None
    sample_rate: int | None
    masks: str | None
    weights: str | None


@dataclass(frozen=True)
class Dataset:
    """Samples that have been read or can be read, one row of columns each.

    Every column is bool, integer, float, datetime or text with NaN for missing cells;
    rows without a target are already gone.

    Attributes:
        name: A short name, for titles.
        features: The input columns, one row per sample.
        target: One column, or several 0/1 columns (multilabel); None at prediction time.
        num_rows: Rows of the source; more than `len(features)` when it was sampled or when
            rows had no target.
        sampled: Whether only a random part of the source was kept.
        warnings: What the user should know, one sentence each.
        where: The path, or "X" for data in memory.
        read_options: How to read it again: `path`, `target`, and for text tables `delimiter`,
            `encoding` and `header`, which are keyword arguments of `read`.
        num_without_target: Rows (among those kept) that were dropped for want of a target.
        task: The kind of data, a value of the fact `data.task`.
        content: What samples hold beyond columns; None for tables.
        groups: One label per row; rows with equal labels are never parted by a split.
    """

    name: str
    features: pd.DataFrame
    target: pd.Series | pd.DataFrame | None
    num_rows: int
    sampled: bool = False
    warnings: tuple[str, ...] = ()
    where: str = "X"
    read_options: dict[str, Any] = field(default_factory=dict)
    num_without_target: int = 0
    task: str = "tabular"
    content: Content | None = None
    groups: pd.Series | None = None

    def select(self, rows: npt.NDArray[np.int64]) -> Dataset:
        """Return some samples only, numbered from 0."""
        return replace(
            self,
            features=self.features.iloc[rows].reset_index(drop=True),
            target=None if self.target is None else self.target.iloc[rows].reset_index(drop=True),
            content=None if self.content is None else self.content.select(rows),
            groups=None if self.groups is None else self.groups.iloc[rows].reset_index(drop=True),
        )


@dataclass(frozen=True)
class RawTable:
    """A table as its source gave it, before columns are cleaned and the target is cut out."""

    frame: pd.DataFrame
    num_rows: int
    sampled: bool = False
    warnings: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
