"""A model that takes raw rows: preprocessing, network and decoding in one Keras graph.

Only layers and operations of Keras itself are used, dates included, so that the saved
`.keras` file loads with `keras.saving.load_model` where SmartTune is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from smarttune.errors import MissingExtraError, OptionError
from smarttune.models.cells import ISO_LENGTH, iso_texts, numbers, texts
from smarttune.models.codec import TargetCodec
from smarttune.models.columns import (
    CYCLES,
    FARTHEST,
    SMOOTH_CLIP,
    BooleanColumn,
    CategoricalColumn,
    DatetimeColumn,
    NumericColumn,
)
from smarttune.models.preprocessing import TablePreprocessor, require_columns

if TYPE_CHECKING:
    import pandas as pd

# Never a cell: text that stands where Keras wants a token for what it does not know.
_UNKNOWN = "\x00"
# Largest exponent whose exp fits a float32, the type of the output.
_MAX_EXPONENT = 88.0
# TextVectorization keeps 0 for padding and 1 for unknown characters; digits follow.
_FIRST_DIGIT = 2


def input_names(preprocessor: TablePreprocessor) -> dict[str, str]:
    """Raw column to the name of its input.

    They are alike but for characters that Keras refuses in names (`/`).
    """
    taken: dict[str, str] = {}
    for column in preprocessor.columns:
        name = column.name.replace("/", "_") or "column"
        while name in taken.values():
            name += "_"
        taken[column.name] = name
    return taken


def raw_inputs(frame: pd.DataFrame, preprocessor: TablePreprocessor) -> dict[str, np.ndarray]:
    """Rows of a table as the exported model takes them.

    Args:
        frame: Rows with at least the used columns.
        preprocessor: The preprocessing inside the model.

    Returns:
        Per used column an array of shape (rows,): numbers as floats with NaN for
        missing; names and flags as text, dates as ISO 8601 text, with "" for missing.
        Keras adds the second axis itself; its `predict` refuses text that has one.

    Raises:
        DataError: If used columns are absent.
    """
    require_columns(frame, [c.name for c in preprocessor.columns])
    names = input_names(preprocessor)
    raw: dict[str, np.ndarray] = {}
    for column in preprocessor.columns:
        cells = frame[column.name]
        if isinstance(column, NumericColumn):
            values = numbers(cells)
        elif isinstance(column, DatetimeColumn):
            values = iso_texts(cells, day_first=column.day_first, written=column.written)
        else:
            values = texts(cells)
        raw[names[column.name]] = values
    return raw


def exported_table(
    core: keras.Model, preprocessor: TablePreprocessor, codec: TargetCodec
) -> keras.Model:
    """Put preprocessing before and decoding after a trained network.

    Args:
        core: A network on the arrays of `preprocessor`, as `NetworkHyperModel` builds it.
        preprocessor: Fitted preprocessing.
        codec: Fitted target codec.

    Returns:
        An uncompiled model that takes a dict of one tensor of shape (batch, 1) per used
        raw column, as `raw_inputs` makes them, and gives float32: the probability of
        the second class, shape (batch, 1), for binary; of each class or label, shape
        (batch, num_outputs); or the target in its own units.

    Raises:
        MissingExtraError: If text columns need TensorFlow and it is not installed.
        OptionError: If they need it and Keras runs on another backend.
    """
    if any(not isinstance(c, NumericColumn) for c in preprocessor.columns):
        check_text_backend("export of a table with text, flags or dates")
    names = input_names(preprocessor)
    inputs: dict[str, Any] = {}
    for column in preprocessor.columns:
        dtype = _float_type() if isinstance(column, NumericColumn) else "string"
        inputs[names[column.name]] = keras.Input((1,), dtype=dtype, name=names[column.name])
    columns = {column: inputs[name] for column, name in names.items()}
    features: dict[str, Any] = {}
    if preprocessor.numeric_inputs:
        features["numeric"] = _numeric_features(preprocessor, columns)
    if preprocessor.categorical:
        indices = [_indices(c, columns[c.name], i) for i, c in enumerate(preprocessor.categorical)]
        features["categorical"] = ops.cast(_side_by_side(indices), "int32")
    for i, text in enumerate(preprocessor.texts):
        features[f"text_{i}"] = text.ngrams.weighed(columns[text.name], f"smarttune_text_{i}")
    outputs = decoded(bare_copy(core)(features), codec)
    return keras.Model(inputs, outputs, name="raw_rows")


def check_text_backend(where: str) -> None:
    """Check that Keras layers can read strings.

    Raises:
        MissingExtraError: If TensorFlow is not installed.
        OptionError: If Keras runs on another backend.
    """
    if keras.backend.backend() == "tensorflow":
        return
    if find_spec("tensorflow") is None:
        raise MissingExtraError(where, module="tensorflow", extra="tensorflow")
    raise OptionError(
        "export",
        received=f"the Keras backend {keras.backend.backend()} for a model that reads text",
        expected="the TensorFlow backend, the only one whose Keras layers read text",
        mend="Export with the environment variable KERAS_BACKEND=tensorflow.",
    )


def _float_type() -> str:
    """Double precision where the backend has it, so that large raw numbers lose nothing."""
    return "float64" if keras.backend.backend() == "tensorflow" else "float32"


def bare_copy(core: keras.Model) -> keras.Model:
    """The network without optimizer, loss and metrics, which a prediction does not need."""
    config = {**core.get_config(), "name": "smarttune_core"}
    copy = core.__class__.from_config(config)
    copy.set_weights(core.get_weights())
    copy.trainable = False
    return copy


def _side_by_side(parts: list[Any]) -> Any:
    return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _numeric_features(preprocessor: TablePreprocessor, columns: dict[str, Any]) -> Any:
    """The array "numeric", shape (batch, number of numeric inputs), float32."""
    blocks: list[Any] = []
    order: list[str] = []
    numeric = [c for c in preprocessor.columns if isinstance(c, NumericColumn)]
    if numeric:
        scaled, missing = _scaled(numeric, _side_by_side([columns[c.name] for c in numeric]))
        blocks += [scaled]
        order += [c.name for c in numeric]
        told = [i for i, c in enumerate(numeric) if c.indicator]
        if told:
            blocks.append(ops.take(missing, np.array(told), axis=1))
            order += [numeric[i].inputs[1] for i in told]
    for place, column in enumerate(preprocessor.columns):
        if isinstance(column, BooleanColumn):
            blocks += _flags(column, columns[column.name], place)
            order += column.inputs
        elif isinstance(column, DatetimeColumn) and column.inputs:
            blocks += _date_parts(column, columns[column.name], place)
            order += column.inputs
    merged = _side_by_side([ops.cast(b, "float32") for b in blocks])
    places = [order.index(name) for name in preprocessor.numeric_inputs]
    if places == list(range(len(places))):
        return merged
    return ops.take(merged, np.array(places), axis=1)


def _row(values: list[float]) -> np.ndarray:
    return np.array([values], dtype=_float_type())


def _scaled(columns: list[NumericColumn], x: Any) -> tuple[Any, Any]:
    """Scaled values and missing flags, each of shape (batch, columns)."""
    missing = ops.logical_not(ops.isfinite(x))
    x = ops.where(missing, _row([c.fill for c in columns]), x)
    flags = ops.cast(missing, "float32")
    if columns[0].scaling == "quantile_normal":  # one setting holds for all columns
        return _interpolated(columns, x), flags
    x = (x - _row([c.center for c in columns])) / _row([c.scale for c in columns])
    x = ops.clip(x, -FARTHEST, FARTHEST)
    if columns[0].scaling == "robust_scale_smooth_clip":
        x = x / ops.sqrt(1.0 + ops.square(x / SMOOTH_CLIP))
    return x, flags


def _interpolated(columns: list[NumericColumn], x: Any) -> Any:
    """Piecewise linear from knots to scores, flat beyond the ends."""
    width = max(len(c.knots) for c in columns) + 1
    # Padding knots are never reached: they lie beyond every finite number.
    knots = np.full((len(columns), width), np.finfo(_float_type()).max, dtype=_float_type())
    scores = np.zeros_like(knots)
    for i, column in enumerate(columns):
        knots[i, : len(column.knots)] = column.knots
        scores[i] = column.scores[-1]
        scores[i, : len(column.scores)] = column.scores
    reached = ops.cast(ops.expand_dims(x, -1) >= knots[None], "int32")
    last = np.array([[max(len(c.knots) - 2, 0) for c in columns]], dtype="int32")
    left = ops.maximum(ops.sum(reached, axis=-1) - 1, 0)
    left = ops.minimum(left, last) + np.arange(len(columns), dtype="int32")[None] * width
    k0, k1 = ops.take(knots.ravel(), left), ops.take(knots.ravel(), left + 1)
    s0, s1 = ops.take(scores.ravel(), left), ops.take(scores.ravel(), left + 1)
    share = ops.clip((x - k0) / (k1 - k0), 0.0, 1.0)
    return s0 + (s1 - s0) * share


def _lookup(vocabulary: list[str], text: Any, name: str) -> Any:
    """Place of each text in the vocabulary, counted from 1; 0 for any other text."""
    layer = layers.StringLookup(
        vocabulary=vocabulary or [_UNKNOWN * 2], oov_token=_UNKNOWN, mask_token=None, name=name
    )
    return layer(text)


def _indices(column: CategoricalColumn, text: Any, place: int) -> Any:
    return _lookup(list(column.levels), text, f"smarttune_levels_{place}")


def _flags(column: BooleanColumn, text: Any, place: int) -> list[Any]:
    words = [*column.no, *column.yes]
    found = _lookup(words, text, f"smarttune_flags_{place}")
    table = np.array([column.fill, *[0.0] * len(column.no), *[1.0] * len(column.yes)], "float32")
    flags = ops.take(table, found)
    if not column.indicator:
        return [flags]
    return [flags, ops.cast(ops.equal(found, 0), "float32")]


def _date_parts(column: DatetimeColumn, text: Any, place: int) -> list[Any]:
    """Parts of ISO 8601 text, read digit by digit; each of shape (batch, 1)."""
    reader = layers.TextVectorization(
        standardize=None,
        split="character",
        output_mode="int",
        output_sequence_length=ISO_LENGTH,
        vocabulary=list("0123456789"),
        name=f"smarttune_date_{place}",
    )
    digits = ops.cast(reader(text), "int32") - _FIRST_DIGIT
    in_date = np.array([0, 1, 2, 3, 5, 6, 8, 9])
    known = ops.all(ops.take(digits, in_date, axis=1) >= 0, axis=1, keepdims=True)
    digits = ops.maximum(digits, 0)

    def number(*places: int) -> Any:
        powers = np.array([[10 ** (len(places) - 1 - i) for i in range(len(places))]], "int32")
        return ops.sum(ops.take(digits, np.array(places), axis=1) * powers, axis=1, keepdims=True)

    year, month, day, hour = number(0, 1, 2, 3), number(5, 6), number(8, 9), number(11, 12)
    values = {"month": month, "day": day, "hour": hour, "weekday": _weekday(year, month, day)}
    parts: list[Any] = []
    for part in column.parts:
        if part == "year":
            parts.append((ops.cast(year, _float_type()) - column.center) / column.scale)
            continue
        first, length = CYCLES[part]
        angle = (2.0 * np.pi / length) * ops.cast(values[part] - first, _float_type())
        parts += [ops.sin(angle), ops.cos(angle)]
    parts = [ops.cast(ops.where(known, p, 0.0), "float32") for p in parts]
    return [*parts, ops.cast(ops.logical_not(known), "float32")] if column.indicator else parts


def _weekday(year: Any, month: Any, day: Any) -> Any:
    """Day of the week, Monday 0, in the Gregorian calendar.

    Counts days from 1 March of year 0, so that leap days end each year.
    """
    early = ops.cast(month <= 2, "int32")  # noqa: PLR2004 -- January and February
    year = year - early
    month = month + 12 * early - 3  # March is 0
    days = 365 * year + year // 4 - year // 100 + year // 400
    days = days + (153 * month + 2) // 5 + day - 1
    return (days + 2) % 7  # 1 March of year 0 was a Wednesday


def decoded(output: Any, codec: TargetCodec) -> Any:
    """The end of an exported model: logits to probabilities, encoded targets to their own units."""
    if codec.kind == "multiclass":
        return ops.softmax(output, axis=-1)
    if codec.kind != "regression":
        return ops.sigmoid(output)
    x = ops.cast(output, _float_type()) * _row(list(codec.scale)) + _row(list(codec.center))
    if codec.transform == "log1p_standardize":
        x = ops.expm1(ops.minimum(x, _MAX_EXPONENT)) + _row(list(codec.shift))
    if codec.bounds is not None:
        x = ops.clip(x, *codec.bounds)
    return ops.cast(x, "float32")
