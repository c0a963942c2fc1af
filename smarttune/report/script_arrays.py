"""What a script must know of texts, images and sequences: the shape of one sample."""

from __future__ import annotations

from typing import Any, NamedTuple

from smarttune.report.script_layout import assignment
from smarttune.report.script_values import Values
from smarttune.space import Value

# ours: shapes and sizes that are made up where no fact tells them.
_WORDS, _VOCABULARY, _SIDE, _CHANNELS, _STEPS, _FEATURES = 20, 1_000, 32, 3, 50, 8
# ours: made-up samples are for a first run; they hold at most so many rows and cells.
_FEWEST_ROWS, _MOST_ROWS, _MOST_CELLS = 100, 1_000, 4_000_000
# As in `smarttune.models.convolution` and `augmentation`, which need Keras to be read.
_MOST_FILTERS, _SHIFT, _COLOR = 512, 0.125, 0.2


class _Shape(NamedTuple):
    """One sample: in words, in constants, in numbers of the template, and its cells."""

    words: str
    constants: list[str]
    numbers: dict[str, Any]
    cells: int


def array_context(values: Values, template: str) -> dict[str, Any]:
    """Return what the templates for texts, images and sequences need besides the settings.

    Raises:
        OptionError: If a fact without which no script can be written is unknown.
        SettingError: If a value means nothing.
    """
    regression = values.problem == "regression"
    lines = [] if regression else assignment("NUM_CLASSES", values.num_classes())
    shape = {"text": _text, "image": _image, "sequence": _sequence}[template](values)
    rows = _fact(values, "data.num_samples", _MOST_ROWS)
    cell = values.one_of("model.rnn_cell", ("gru", "lstm", "simple"), default="gru")
    downsampling = ("pooled", "strided", "dilated")
    augmentation = ("none", "shift", "shift_flip", "shift_flip_color")
    kinds = 2 if regression or values.problem == "multilabel" else values.num_classes()
    return {
        **shape.numbers,
        "constants": [*lines, *shape.constants],
        "sample_shape": shape.words,
        "num_rows": max(_FEWEST_ROWS, min(rows, _MOST_ROWS, _MOST_CELLS // shape.cells)),
        "made_up_classes": kinds,
        "rnn_layer": {"gru": "GRU", "lstm": "LSTM", "simple": "SimpleRNN"}[cell],
        "downsampling": values.one_of("model.downsampling", downsampling, default="pooled"),
        "augmentation": values.one_of("training.augmentation", augmentation, default="none"),
    }


def _fact(values: Values, name: str, default: Value) -> int:
    """A whole number that a fact tells, else `default`."""
    known = values.facts.value(name)
    return round(float(default if known is None else known))


def _text(values: Values) -> _Shape:
    words = max(1, _fact(values, "data.words_per_sample", _WORDS))
    vocabulary = max(2, _fact(values, "data.vocabulary_size", _VOCABULARY))
    constants = values.constant("model.vocabulary_size")
    bag = values.get("model.family") == "ngram_mlp"
    constants += values.constant("model.ngram_size" if bag else "model.max_sequence_length")
    return _Shape(
        "texts and their labels",
        constants,
        {"words_per_sample": words, "vocabulary": min(vocabulary, _VOCABULARY)},
        cells=words * 10,  # a word takes about ten characters
    )


def _image(values: Values) -> _Shape:
    side = max(1, int(values.get("model.image_side") or _fact(values, "data.image_side", _SIDE)))
    channels = max(1, _fact(values, "data.image_channels", _CHANNELS))
    note = f"{values.code('model.image_side')}: scale your images to it"
    constants = [*assignment("IMAGE_SIDE", side, note), *assignment("CHANNELS", channels)]
    return _Shape(
        "(rows, side, side, channels), 0 to 255",
        constants,
        {"most_filters": _MOST_FILTERS, "shift": _SHIFT, "color": _COLOR},
        cells=side * side * channels,
    )


def _sequence(values: Values) -> _Shape:
    steps = _fact(values, "data.max_sequence_length", 0) or _fact(
        values, "data.sequence_length", _STEPS
    )
    features = max(1, _fact(values, "data.num_features", _FEATURES))
    constants = values.constant("model.max_sequence_length", max(2, steps))
    constants += assignment("NUM_FEATURES", features, "numbers at each step")
    return _Shape("(rows, steps, features)", constants, {}, cells=max(1, steps) * features)
