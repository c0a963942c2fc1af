"""Raw table to arrays: fitted once per search, frozen, kept as JSON.

The same arithmetic is built into the exported model (`smarttune.models.export`), so
that what was trained on prepared arrays can later be fed raw rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

import numpy as np
from pydantic import Field

from smarttune.data import Dataset
from smarttune.errors import DataError, SettingError, did_you_mean
from smarttune.models.cells import texts
from smarttune.models.columns import (
    BooleanColumn,
    CategoricalColumn,
    DatetimeColumn,
    NumericColumn,
    Scaling,
    TextColumn,
)
from smarttune.models.modality import Preprocessor
from smarttune.models.ngrams import NgramVocabulary
from smarttune.space import Value

if TYPE_CHECKING:
    import pandas as pd

SCALINGS = ("standardize", "robust_scale_smooth_clip", "quantile_normal")
MISSING = ("median", "median_and_indicator")
ENCODINGS = ("one_hot", "embedding")
# ours: an error names at most this many missing columns; more would bury the message.
_MOST_NAMED = 5

Column = Annotated[
    NumericColumn | BooleanColumn | DatetimeColumn | CategoricalColumn | TextColumn,
    Field(discriminator="kind"),
]


class ColumnLike(Protocol):
    """What is read of a column's profile (`smarttune.fingerprint.ColumnProfile`)."""

    @property
    def name(self) -> str:
        """Column name."""

    @property
    def kind(self) -> str:
        """numeric, categorical, boolean, datetime, or a kind that is not used."""

    @property
    def used(self) -> bool:
        """Whether the column enters the model."""


class TablePreprocessor(Preprocessor):
    """Turns raw rows into the arrays that a dense network takes. Immutable.

    Args:
        columns: What was learnt about each used column, in the order of the table.
    """

    kind: Literal["tabular"] = "tabular"
    columns: tuple[Column, ...]

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        columns: Sequence[ColumnLike],
        settings: Mapping[str, Value],
    ) -> TablePreprocessor:
        """Learn fills, scales and levels from the training rows only.

        Args:
            frame: Training rows.
            columns: Profiles; those with `used` false are left out.
            settings: Recommended values; read are `model.numeric_preprocessing`,
                `model.missing_values`, and per categorical column
                `model.encoding[NAME]` and `model.embedding_dim[NAME]`; for text columns
                `model.vocabulary_size`, `model.ngram_size` and `model.embedding_dim`.

        Returns:
            The fitted preprocessor.

        Raises:
            DataError: If no usable column is left, or a profiled column is absent.
            SettingError: If a setting has a value that means nothing here.
        """
        # Free text enters a table where a rule says how many words of it count.
        known = _FITTERS if "model.vocabulary_size" in settings else _FITTERS_OF_CELLS
        used = [c for c in columns if c.used and c.kind in known]
        if not used:
            raise DataError(
                "table",
                received="none of its columns can enter the model",
                expected="at least one numeric, categorical, boolean, date or text column",
                mend="Check the columns' kinds in the fingerprint, or give other columns.",
            )
        require_columns(frame, [c.name for c in used])
        fitted = [_FITTERS[c.kind](c, frame[c.name], settings) for c in used]
        return cls(columns=tuple(fitted))

    @property
    def numeric(self) -> tuple[NumericColumn | BooleanColumn | DatetimeColumn, ...]:
        """The columns that become float inputs, in order."""
        return tuple(c for c in self.columns if not isinstance(c, (CategoricalColumn, TextColumn)))

    @property
    def categorical(self) -> tuple[CategoricalColumn, ...]:
        """The columns that become indices, in order."""
        return tuple(c for c in self.columns if isinstance(c, CategoricalColumn))

    @property
    def texts(self) -> tuple[TextColumn, ...]:
        """The columns that become tf-idf rows, in order."""
        return tuple(c for c in self.columns if isinstance(c, TextColumn))

    @cached_property
    def numeric_inputs(self) -> tuple[str, ...]:
        """Names of the float inputs, in the order of the array "numeric"."""
        return tuple(name for column in self.numeric for name in column.inputs)

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Rows of a table as arrays; see `transform`."""
        return self.transform(dataset.features.iloc[rows])

    def transform(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Raw rows to arrays; missing cells and unseen levels are fine, extra columns ignored.

        Args:
            frame: Rows with at least the used columns.

        Returns:
            "numeric": float32, shape (rows, number of numeric inputs);
            "categorical": int32, shape (rows, number of categorical columns), index 0
            for missing or unseen; and for the text column of place i "text_i": `SparseRows`
            of shape (rows, terms). An array that would have no column is left out.

        Raises:
            DataError: If used columns are absent.
        """
        require_columns(frame, [c.name for c in self.columns])
        arrays: dict[str, Any] = {}
        if self.numeric_inputs:
            parts = [c.encode(frame[c.name]) for c in self.numeric]
            arrays["numeric"] = np.concatenate(parts, axis=1)
        if self.categorical:
            indices = [c.encode(frame[c.name]) for c in self.categorical]
            arrays["categorical"] = np.stack(indices, axis=1)
        for i, text in enumerate(self.texts):
            arrays[f"text_{i}"] = text.encode(frame[text.name])
        return arrays


def require_columns(frame: pd.DataFrame, needed: Iterable[str]) -> None:
    """Check that a table has the columns that are needed.

    Raises:
        DataError: If some are absent; it names the first ones.
    """
    absent = [name for name in needed if name not in frame.columns]
    if not absent:
        return
    shown = ", ".join(f"`{name}`" for name in absent[:_MOST_NAMED])
    more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
    hint = did_you_mean(absent[0], [str(c) for c in frame.columns])
    raise DataError(
        "table",
        received=f"it lacks the column {shown}{more}",
        expected="every column that the model was trained on",
        mend=f"Add the column, or rename the one that holds it.{hint}",
    )


def _one_of(settings: Mapping[str, Value], name: str, allowed: Sequence[str], key: str) -> str:
    """The value of setting `key` (or of `name`, its general form), checked; default the first."""
    value = settings.get(key, settings.get(name, allowed[0]))
    if value not in allowed:
        raise SettingError(
            key,
            received=f"{value!r}",
            expected="one of " + ", ".join(allowed),
            mend=f"Set {name} to one of them.{did_you_mean(str(value), allowed)}",
        )
    return str(value)


def _indicate(settings: Mapping[str, Value]) -> bool:
    name = "model.missing_values"
    return _one_of(settings, name, MISSING, name) == "median_and_indicator"


def _numeric(profile: ColumnLike, column: pd.Series[Any], settings: Mapping[str, Value]) -> Column:
    key = "model.numeric_preprocessing"
    scaling = cast("Scaling", _one_of(settings, key, SCALINGS, key))
    return NumericColumn.fit(profile.name, column, scaling=scaling, indicate=_indicate(settings))


def _boolean(profile: ColumnLike, column: pd.Series[Any], settings: Mapping[str, Value]) -> Column:
    return BooleanColumn.fit(profile.name, column, indicate=_indicate(settings))


def _datetime(profile: ColumnLike, column: pd.Series[Any], settings: Mapping[str, Value]) -> Column:
    # Not every profile measures the format; without it the column's own cells decide.
    written = getattr(profile, "datetime_format", None)
    return DatetimeColumn.fit(profile.name, column, indicate=_indicate(settings), written=written)


def _categorical(
    profile: ColumnLike, column: pd.Series[Any], settings: Mapping[str, Value]
) -> Column:
    name = profile.name
    encoding = _one_of(settings, "model.encoding", ENCODINGS, f"model.encoding[{name}]")
    levels = tuple(sorted({t for t in texts(column) if t}))
    if encoding == "one_hot":
        return CategoricalColumn(name=name, levels=levels)
    key = f"model.embedding_dim[{name}]"
    width = settings.get(key, settings.get("model.embedding_dim"))
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise SettingError(
            key,
            received=f"{width!r}, with an embedding chosen for `{name}`",
            expected="a whole number of at least 1",
            mend=f"Set {key}, or choose one_hot for model.encoding[{name}].",
        )
    return CategoricalColumn(name=name, levels=levels, encoding="embedding", embedding_dim=width)


def _text(profile: ColumnLike, column: pd.Series[Any], settings: Mapping[str, Value]) -> Column:
    sizes = {}
    for key in ("model.vocabulary_size", "model.ngram_size", "model.embedding_dim"):
        size = settings.get(f"{key}[{profile.name}]", settings.get(key))
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise SettingError(
                key,
                received=f"{size!r}, for the text column `{profile.name}`",
                expected="a whole number of at least 1",
                mend=f"Set {key}, or leave the column out: --drop {profile.name}.",
            )
        sizes[key] = size
    ngrams = NgramVocabulary.fit(
        texts(column), None, longest=sizes["model.ngram_size"], most=sizes["model.vocabulary_size"]
    )
    return TextColumn(name=profile.name, ngrams=ngrams, embedding_dim=sizes["model.embedding_dim"])


_FITTERS_OF_CELLS = {
    "numeric": _numeric,
    "boolean": _boolean,
    "datetime": _datetime,
    "categorical": _categorical,
}
_FITTERS = {**_FITTERS_OF_CELLS, "text": _text}
