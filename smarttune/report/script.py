"""Recommendation -> a Keras program that trains the recommended model without SmartTune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smarttune.objectives import objective
from smarttune.report.script_table import table_context
from smarttune.report.script_values import Values, refuse

if TYPE_CHECKING:
    from smarttune.suggestion import Suggestion

# Which template writes which family for which task.
_TEMPLATES = {
    ("tabular", "mlp"): "table",
    ("tabular", "resnet_mlp"): "table",
    ("text", "ngram_mlp"): "text",
    ("text", "sepcnn"): "text",
    ("text", "rnn"): "text",
    ("image", "cnn"): "image",
    ("sequence", "rnn"): "sequence",
    ("timeseries", "rnn"): "sequence",
    ("audio", "rnn"): "sequence",
}
_PROBLEMS = ("binary", "multiclass", "multilabel", "regression", "forecasting")
# ours: as in a search, one honest test at the end; a large table needs a smaller share.
_TEST_FRACTION, _MOST_TEST_ROWS = 0.15, 10_000
# ours: rows that preprocessing handles at a time; it needs no gradients.
_LARGE_BATCH = 4096

_OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "Nadam",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "lion": "Lion",
}
_ADAM_LIKE = ("adam", "adamw", "nadam")
_SCHEDULES = ("constant", "plateau", "cosine", "linear", "one_cycle", "cyclical")
# Shapes of the schedules, as the search draws them: a cycle falls to a quarter of the rate
# (Smith 2017, section 3.3) in two epochs; one cycle rises over 0.3 of the steps from 1/25 of
# the rate (defaults of PyTorch's OneCycleLR).
_CYCLE_FLOOR, _HALF_CYCLE_EPOCHS = 0.25, 2
_ONE_CYCLE_RISE, _ONE_CYCLE_START = 0.3, 0.04
_LOSSES = {
    "binary": ("binary_crossentropy",),
    "multilabel": ("binary_crossentropy",),
    "multiclass": ("sparse_categorical_crossentropy",),
    "regression": ("mse", "huber", "mae"),
}
_REGRESSION_LOSSES = {"mse": "MeanSquaredError", "huber": "Huber", "mae": "MeanAbsoluteError"}
# Google's text classification guide: 20,000 n-grams or words, and 500 words of each text.
_MAX_WORDS, _MAX_LENGTH = 20_000, 500
# ours: shapes and sizes made up where no fact tells them.
_WORDS, _VOCABULARY, _SIDE, _STEPS, _CHANNELS, _SEQUENCE_FEATURES = 20, 1_000, 32, 50, 3, 8
# ours: made-up samples are for a first run; they hold at most so many rows and numbers.
_MOST_ROWS, _MOST_CELLS = 1_000, 4_000_000


def keras_script(suggestion: Suggestion) -> str:
    """Write a Keras program with the recommended model and training loop.

    The program needs Keras with a backend, NumPy and (for tables) pandas. It reads the file
    of the suggestion, or makes up rows in a block that is to be replaced, trains, tests on
    held-back rows and saves a model that takes raw rows.

    Args:
        suggestion: What `make_suggestion` returned.

    Returns:
        Python source in lines of at most 100 columns; the same for the same suggestion.

    Raises:
        OptionError: If there is no template for the task, family or problem, or a fact
            without which nothing can be written is unknown.
        SettingError: If a hyperparameter that the model needs has no usable value.
    """
    import jinja2

    values = Values(suggestion.recommendation)
    template = _template(values)
    if values.problem == "forecasting":
        values.problem = "regression"
    context = _training_context(values)
    if template == "table":
        context |= table_context(suggestion, values)
    else:
        context |= _array_context(values, template)
    context |= _front(suggestion, values, context)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smarttune.report", "templates/script"),
        autoescape=False,  # Python, not HTML; names from the data enter as literals only
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"v": values.get, "code": values.code}
    text = environment.get_template(f"{template}.py.j2").render(context)
    return _tidy(text)


def _template(values: Values) -> str:
    """The template for task, family and problem."""
    family = str(values.needed("model.family"))
    template = _TEMPLATES.get((values.task, family))
    if template is None:
        families = [f for task, f in _TEMPLATES if task == values.task]
        listed = ", ".join(families)
        raise refuse(
            f"there is no script for the family `{family}` on {values.task} data",
            f"one of the families {listed}" if families else "another task",
            f"Add --set model.family={families[0]}." if families else "Use --format json.",
        )
    if values.problem not in _PROBLEMS:
        raise refuse(
            f"there is no script for the problem `{values.problem}`",
            "one of " + ", ".join(_PROBLEMS),
            "Use --format json, whose values hold for any program of yours.",
        )
    if values.problem in ("regression", "forecasting") and _num_outputs(values) > 1:
        raise refuse(
            f"{_num_outputs(values)} numbers are predicted at once",
            "a single number",
            "Write a script per output, or use --format json.",
        )
    return template


def _num_outputs(values: Values) -> int:
    return int(values.facts.value("data.num_outputs") or 1)


def _training_context(values: Values) -> dict[str, Any]:
    """What all templates share: loss, metrics, optimizer, schedule, stopping."""
    problem, regression = values.problem, values.problem == "regression"
    balanced = values.one_of("training.class_weight", ("none", "balanced"), default="none")
    smoothing = values.get("training.label_smoothing", 0.0)
    goal = objective(str(values.get("search.objective", "val_loss")), problem=problem)
    mode = values.one_of(
        "training.early_stopping.mode", ("stop", "best_checkpoint"), default="stop"
    )
    low, high = (values.facts.value(f"data.target_{end}") for end in ("min", "max"))
    output = values.one_of("model.output_activation", ("linear", "sigmoid"), default="linear")
    penalty = _penalty(values)
    known: dict[str, Any] = {
        "problem": problem,
        "regression": regression,
        "is_table": values.task == "tabular",
        "time_ordered": _time_ordered(values),
        "stratify": bool(values.get("data.stratify")) and problem in ("binary", "multiclass"),
        "bounds": None if low is None or high is None or not regression else (low, high),
        "sigmoid_output": output == "sigmoid" and regression,
        "num_outputs": 1 if problem in ("binary", "regression") else "NUM_CLASSES",
        "num_folds": int(values.get("data.num_folds", 1)),
        "balanced": balanced == "balanced" and problem in ("binary", "multiclass"),
        "window": int(values.get("training.early_stopping.window", 1)),
        "stops": mode == "stop",
        "mode": goal.direction,
        "objective": goal.name,
        "smoothed_loss": bool(smoothing) and problem == "multiclass",
        "penalty": penalty,
        "residual": _residual(values),
        "residual_code": values.code("model.skip_connections")
        if values.get("model.skip_connections")
        else values.code("model.family"),
        "loss": _loss(values, smoothing),
        "metrics": _metrics(problem, goal.name.removeprefix("val_")),
        "large_batch": _LARGE_BATCH,
        "augmentation": values.one_of(
            "training.augmentation", ("none", "flips_and_crops", "crops_only"), default="none"
        ),
        "downsampling": values.one_of(
            "model.downsampling", ("pooled", "strided", "dilated"), default="pooled"
        ),
    }
    values.one_of("model.target_transform", ("none", "standardize", "log1p_standardize"), default="none")
    values.one_of("model.normalization", ("none", "batch", "layer"), default="none")
    if known["sigmoid_output"] and known["bounds"] is None:
        raise refuse(
            "model.output_activation is sigmoid without known bounds of the target",
            "the facts data.target_min and data.target_max",
            "Declare both with --fact, or set model.output_activation=linear.",
        )
    return known | _bias(values, balanced=known["balanced"]) | _optimizer(values)


def _time_ordered(values: Values) -> bool:
    """Whether the latest rows are held back; forecasts are, unless the user denies it."""
    declared = values.facts.value("data.time_ordered")
    if declared is None:
        return values.facts.value("model.problem") == "forecasting"
    return bool(declared)
