"""Recommendation -> a Keras program that trains the recommended model without SmartTune."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from smarttune.data.names import listed
from smarttune.report.script_arrays import array_context
from smarttune.report.script_layout import assignment, wrapped
from smarttune.report.script_table import table_context
from smarttune.report.script_training import training_constants, training_context
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
    ("sequence", "mlp"): "sequence",
}
_PROBLEMS = ("binary", "multiclass", "multilabel", "regression")
# Hyperparameters that a family cannot do without, and those with a default of Keras.
_DENSE = ("model.num_layers", "model.units", "model.activation")
_CONVOLUTION = ("model.num_stages", "model.filters", "model.kernel_size", "model.activation")
_RECURRENT = ("model.num_rnn_layers", "model.rnn_units")
_CONSTANTS = {
    "mlp": _DENSE,
    "resnet_mlp": _DENSE,
    "ngram_mlp": _DENSE,
    "sepcnn": ("model.embedding_dim", *_CONVOLUTION),
    "cnn": _CONVOLUTION,
    "rnn": _RECURRENT,
}
# ours: one honest test at the end, as in a search; a large table needs a smaller share.
_TEST_FRACTION, _MOST_TEST_ROWS = 0.15, 10_000
# ours: rows that preprocessing handles at a time; it needs no gradients.
_LARGE_BATCH = 4096


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
    context = training_context(values)
    settings = training_constants(values, context) + _model_constants(values, context)
    if template == "table":
        context |= table_context(suggestion, values)
    else:
        context |= array_context(values, template)
    context["settings"] = settings
    context |= _front(suggestion, values, context)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smarttune.report", "templates/script"),
        autoescape=False,  # Python, not HTML: what comes from the data enters as a literal
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"v": values.get, "code": values.code}
    return _tidy(environment.get_template(f"{template}.py.j2").render(context))


def _template(values: Values) -> str:
    """The template for task, family and problem."""
    if values.problem not in _PROBLEMS:
        raise refuse(
            f"there is no script for the problem `{values.problem}`",
            "one of " + ", ".join(_PROBLEMS),
            "Use --format json, whose values hold for any program of yours.",
        )
    family = str(values.needed("model.family"))
    template = _TEMPLATES.get((values.task, family))
    if values.task not in {task for task, _ in _TEMPLATES}:
        raise refuse(
            f"there is no script for {values.task} data",
            "tables, texts, images or sequences",
            "`smarttune search` leaves a model.keras that needs no SmartTune; or use --format json.",
        )
    if template is None:
        families = [known for task, known in _TEMPLATES if task == values.task]
        raise refuse(
            f"there is no script for the family `{family}` on {values.task} data",
            "a family with a script: " + ", ".join(families),
            f"Add --set model.family={families[0]}, or use --format json.",
        )
    outputs = int(values.facts.value("data.num_outputs") or 1)
    if values.problem == "regression" and outputs > 1:
        raise refuse(
            f"{outputs} numbers are predicted at once",
            "a single number",
            "Make one script per number, or use --format json.",
        )
    return template


def _model_constants(values: Values, known: dict[str, Any]) -> list[str]:
    """Lines that define the constants of the model, each with its rule."""
    family = str(values.needed("model.family"))
    names = _CONSTANTS[family]
    if family == "rnn" and values.task == "text":
        names = ("model.embedding_dim", *names)
    if values.task == "image":
        names = (*names, "model.convolutions_per_stage")
        head = ("model.units",) if values.get("model.pooling_head") == "flatten_dense" else ()
        names = (*names, *head)
    lines = [line for name in names for line in values.constant(name)]
    if family != "rnn":
        lines += values.constant("model.kernel_initializer", "glorot_uniform")
    if values.get("model.dropout"):
        lines += values.constant("model.dropout")
    if family == "rnn" and values.get("model.recurrent_dropout"):
        lines += values.constant("model.recurrent_dropout")
    if values.task == "sequence":
        side = values.one_of("model.padding_side", ("right", "left"), default="right")
        word = "post" if side == "right" else "pre"  # what Keras calls the sides
        lines += assignment("PADDING", word, f"{values.code('model.padding_side')}: on the {side}")
    known |= {"scaling": "standardize", "indicate": False, "large_batch": _LARGE_BATCH}
    if values.task == "tabular":
        scalings = ("standardize", "robust_scale_smooth_clip", "quantile_normal")
        missing = ("median", "median_and_indicator")
        filling = values.one_of("model.missing_values", missing, default=missing[0])
        known["indicate"] = filling != "median"
        known["scaling"] = values.one_of(
            "model.numeric_preprocessing", scalings, default=scalings[0]
        )
    known["quantiles"] = known["scaling"] == "quantile_normal"
    return lines


def _front(suggestion: Suggestion, values: Values, known: dict[str, Any]) -> dict[str, Any]:
    """Header, imports and the list of reasons."""
    source = known.get("source", {"kind": "made_up"})["kind"]
    rows = int(values.facts.value("data.num_samples") or 0)
    reads_text = values.task == "text" or bool(known.get("categorical"))
    packages = ["keras", "tensorflow" if reads_text else "tensorflow (or jax, or torch)"]
    packages += ["pandas"] if known["is_table"] else []
    packages += ["pyarrow"] if source == "parquet" else []
    modules = ["math", "os"] if known["schedule_lines"] else ["os"]
    imports = ["from statistics import NormalDist"] if known["quantiles"] else []
    rules = [s.because[0].rule for s in values.settings.values() if s.because]
    codes = [rule for rule in rules if rule != "you"]
    notes: list[str] = []
    used = suggestion.fingerprint.used_columns if suggestion.fingerprint else ()
    unwritten = [column.name for column in used if column.kind == "text"]
    said = list(suggestion.recommendation.warnings)
    if values.task == "tabular" and unwritten:
        said.append(f"The text of {listed(unwritten)} is left out; `smarttune search` reads it.")
    for warning in said:
        notes += wrapped(f"Mind: {warning}", indent="    ")
    return {
        "header": wrapped(_title(suggestion, values)),
        "packages": " ".join(packages),
        "modules": modules,
        "imports": imports,
        "example_code": codes[0] if codes else "CAP001",
        "text_layers": reads_text,
        "notes": ["", *notes] if notes else [],
        "test_fraction": round(min(_TEST_FRACTION, _MOST_TEST_ROWS / max(rows, 1)), 4),
        "reasons": values.reasons(),
    }


def _title(suggestion: Suggestion, values: Values) -> str:
    problem = values.facts.value("model.problem")
    fingerprint = suggestion.fingerprint
    if fingerprint is None:
        return f"Train the recommended Keras model for a {problem} problem on {values.task} data."
    what = "binary classification" if problem == "binary" else problem
    source, target = fingerprint.source, fingerprint.target
    return f"Train the recommended Keras model on {source} to predict {target} ({what})."


def _tidy(text: str) -> str:
    """Drop an import without use, blanks at line ends, and all but two blank lines in a row."""
    if "ops." not in text:
        text = text.replace("from keras import layers, ops\n", "from keras import layers\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n") + "\n"
