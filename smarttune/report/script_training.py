"""What all scripts share: loss, metrics, optimizer, schedule, stopping, and their constants."""

from __future__ import annotations

from typing import Any

from smarttune.objectives import objective
from smarttune.report.script_layout import assignment
from smarttune.report.script_values import Values, refuse
from smarttune.training.courses import (
    CYCLE_FLOOR,
    HALF_CYCLE_SHARE,
    ONE_CYCLE_END,
    ONE_CYCLE_RISE,
    ONE_CYCLE_START,
)

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
_LOSSES = {
    "binary": ("binary_crossentropy",),
    "multilabel": ("binary_crossentropy",),
    "multiclass": ("sparse_categorical_crossentropy",),
    "regression": ("mse", "huber", "mae"),
}
_REGRESSION_LOSSES = {"mse": "MeanSquaredError", "huber": "Huber", "mae": "MeanAbsoluteError"}
_PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
# ours: a cut to half the rate after five epochs, where no rule sets it; as in a search.
_PLATEAU_FACTOR, _PLATEAU_PATIENCE = 0.5, 5


def training_context(values: Values) -> dict[str, Any]:
    """Return what every template needs.

    Raises:
        OptionError: If a fact or metric does not fit.
        SettingError: If a value means nothing.
    """
    regression = values.problem == "regression"
    goal = objective(str(values.get("search.objective", "val_loss")), problem=values.problem)
    metric = goal.name.removeprefix("val_")
    if metric in ("root_mean_squared_error", "r2_score"):
        raise refuse(
            f"the objective is {goal.name}",
            "one of val_loss, val_mean_absolute_error, val_mean_squared_error",
            "Set it with --set search.objective=NAME.",
        )
    smoothing = _smoothing(values)
    known: dict[str, Any] = {
        "problem": values.problem,
        "regression": regression,
        "is_table": values.task == "tabular",
        "num_outputs": 1 if values.problem in ("binary", "regression") else "NUM_CLASSES",
        "objective": goal.name,
        "mode": goal.direction,
        "loss": _loss(values, smoothing=smoothing),
        "smoothed_loss": smoothing and values.problem == "multiclass",
        "metrics": _metrics(values.problem, metric),
    }
    known |= _division(values) | _stopping(values) | _target(values) | _layers(values)
    known |= _optimizer(values)
    known["bias"] = _bias(values, balanced=known["balanced"])
    return known


def training_constants(values: Values, known: dict[str, Any]) -> list[str]:
    """Lines that define the constants of the training, each with its rule."""
    lines = values.constant("data.validation_fraction", 0.2)
    if known["num_folds"] > 1:
        lines += values.constant("data.num_folds")
    objective_code = values.code("search.objective")
    lines += [f'MONITOR, MODE = "{known["objective"]}", "{known["mode"]}"  # {objective_code}']
    lines += values.constant("training.batch_size")
    epochs, epochs_code = int(values.needed("training.epochs")), values.code("training.epochs")
    lines += [f'EPOCHS = int(os.environ.get("EPOCHS", {epochs}))  # {epochs_code}: at most so many']
    if known["stops"]:
        lines += values.constant("training.early_stopping.patience")
        if known["window"] > 1:
            lines += values.constant("training.early_stopping.window")
    values.one_of("training.precision", _PRECISIONS, default=_PRECISIONS[0])
    lines += values.constant("training.precision", _PRECISIONS[0])
    if _smoothing(values):
        lines += values.constant("training.label_smoothing")
    lines += values.constant("optimizer.learning_rate")
    for name in known["optimizer_constants"]:
        lines += values.constant(name)
    if known["plateau"]:
        lines += values.constant("training.reduce_on_plateau.factor", _PLATEAU_FACTOR)
        lines += values.constant("training.reduce_on_plateau.patience", _PLATEAU_PATIENCE)
    if known["bounds"]:
        lines += assignment("TARGET_MIN", known["bounds"][0], "lower bound of the target, declared")
        lines += assignment("TARGET_MAX", known["bounds"][1], "upper bound of the target, declared")
    return lines


def _division(values: Values) -> dict[str, Any]:
    """How the rows are divided and weighted."""
    classes = values.problem in ("binary", "multiclass")
    weighting = values.one_of("training.class_weight", ("none", "balanced"), default="none")
    ordered = values.facts.value("data.time_ordered")
    if ordered is None:  # the windows of a forecast overlap, so shuffling would leak
        ordered = values.facts.value("model.problem") == "forecasting"
    return {
        "time_ordered": bool(ordered),
        "stratify": bool(values.get("data.stratify", False)) and classes,
        "num_folds": int(values.get("data.num_folds", 1)),
        "balanced": weighting == "balanced" and classes,
    }


def _stopping(values: Values) -> dict[str, Any]:
    modes = ("stop", "best_checkpoint")
    return {
        "stops": values.one_of("training.early_stopping.mode", modes, default="stop") == "stop",
        "window": int(values.get("training.early_stopping.window", 1)),
    }


def _target(values: Values) -> dict[str, Any]:
    """How a regression target is transformed and bounded."""
    low, high = (values.facts.value(f"data.target_{end}") for end in ("min", "max"))
    known = values.problem == "regression" and low is not None and high is not None
    output = values.one_of("model.output_activation", ("linear", "sigmoid"), default="linear")
    sigmoid = output == "sigmoid" and values.problem == "regression"
    if sigmoid and not known:
        raise refuse(
            "model.output_activation is sigmoid without known bounds of the target",
            "the facts data.target_min and data.target_max",
            "Declare both with --fact, or set model.output_activation=linear.",
        )
    transforms = ("none", "standardize", "log1p_standardize")
    return {
        "bounds": (low, high) if known else None,
        "sigmoid_output": sigmoid,
        "transform": values.one_of("model.target_transform", transforms, default="none"),
    }


def _layers(values: Values) -> dict[str, Any]:
    """Which layers are written at all."""
    values.one_of("model.normalization", ("none", "batch", "layer"), default="none")
    residual = values.get("model.family") == "resnet_mlp"
    skips = bool(values.get("model.skip_connections", False))
    code = values.code("model.family" if residual else "model.skip_connections")
    kind = values.get("optimizer.regularization")
    return {
        "residual": residual or skips,
        "residual_code": code,
        "penalty": any(
            values.get(f"optimizer.{name}") and kind in (None, name, "l1_l2")
            for name in ("l1", "l2")
        ),
    }


def _bias(values: Values, *, balanced: bool) -> str:
    """Where the output starts: the best constant prediction, or "" for zero."""
    if values.get("model.output_bias", "zeros") == "zeros":
        return ""
    if values.problem == "regression":
        return "target_mean"
    if values.problem == "multilabel":
        return "label_log_odds"
    if balanced:  # balanced weights make all classes equally likely in the loss
        return ""
    return "log_odds" if values.problem == "binary" else "log_priors"


def _smoothing(values: Values) -> bool:
    return bool(values.get("training.label_smoothing", 0.0)) and values.problem != "regression"


def _loss(values: Values, *, smoothing: bool) -> str:
    allowed = _LOSSES[values.problem]
    name = values.one_of("model.loss", allowed, default=allowed[0])
    if values.problem == "regression":
        return f"keras.losses.{_REGRESSION_LOSSES[name]}()"
    if values.problem == "multiclass":
        plain = "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
        return "smoothed_crossentropy" if smoothing else plain
    extra = ", label_smoothing=LABEL_SMOOTHING" if smoothing else ""
    return f"keras.losses.BinaryCrossentropy(from_logits=True{extra})"


def _metrics(problem: str, wanted: str) -> list[str]:
    """Metrics as source, the wanted one among them."""
    labels = ", multi_label=True" if problem == "multilabel" else ""
    accuracy = "binary_accuracy" if problem == "multilabel" else "accuracy"
    two = {
        accuracy: f'BinaryAccuracy(threshold=0.0, name="{accuracy}")',
        "auc": f'AUC(from_logits=True{labels}, name="auc")',
        "pr_auc": f'AUC(curve="PR", from_logits=True{labels}, name="pr_auc")',
        "crossentropy": 'BinaryCrossentropy(from_logits=True, name="crossentropy")',
    }
    many = {
        "accuracy": 'SparseCategoricalAccuracy(name="accuracy")',
        "crossentropy": 'SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")',
    }
    numbers = {
        "mean_absolute_error": 'MeanAbsoluteError(name="mean_absolute_error")',
        "mean_squared_error": 'MeanSquaredError(name="mean_squared_error")',
    }
    table = {"multiclass": many, "regression": numbers}.get(problem, two)
    spare = ("crossentropy", "mean_squared_error")
    return [
        f"keras.metrics.{s}" for name, s in table.items() if name == wanted or name not in spare
    ]


def _optimizer(values: Values) -> dict[str, Any]:
    """The optimizer as source: class, arguments, schedule, and the constants they need."""
    name = values.one_of("optimizer.name", tuple(_OPTIMIZERS), default="")
    decays = bool(
        values.get("optimizer.regularization", "weight_decay") == "weight_decay"
        and values.get("optimizer.weight_decay")
    )
    used: list[str] = []
    arguments = []
    if decays:
        arguments.append("weight_decay=WEIGHT_DECAY")
        used.append("optimizer.weight_decay")
    elif name == "adamw":
        arguments.append("weight_decay=0.0")  # Keras would decay by 0.004 if told nothing
    if values.get("optimizer.clipnorm"):
        arguments.append("global_clipnorm=CLIPNORM")
        used.append("optimizer.clipnorm")
    if name == "sgd" and values.get("optimizer.momentum"):
        arguments += ["momentum=MOMENTUM", "nesterov=True"]
        used.append("optimizer.momentum")
    for option in ("beta_1", "beta_2", "epsilon"):
        if name in _ADAM_LIKE and f"optimizer.{option}" in values:
            arguments.append(f"{option}={option.upper()}")
            used.append(f"optimizer.{option}")
    if int(values.get("training.gradient_accumulation_steps", 1)) > 1:
        arguments.append("gradient_accumulation_steps=GRADIENT_ACCUMULATION_STEPS")
        used.append("training.gradient_accumulation_steps")
    used += [f"optimizer.{p}" for p in ("l1", "l2") if values.get(f"optimizer.{p}")]
    schedule = _schedule(values)
    if schedule["warmup"]:
        used.append("optimizer.warmup_steps")
    rate = "learning_rate=" + ("learning_rate" if schedule["schedule_lines"] else "LEARNING_RATE")
    return {
        "optimizer_class": _OPTIMIZERS[name],
        "optimizer_arguments": [rate, *arguments],
        "optimizer_constants": used,
        "left_out": _left_out(values),
        "excludes": decays and bool(values.get("optimizer.decay_exclusions", True)),
        **schedule,
    }


def _left_out(values: Values) -> list[str]:
    """What a search does inside a trial and plain Keras cannot: name and rule."""
    names = []
    if values.get("optimizer.momentum_cycling", False):
        names.append("optimizer.momentum_cycling")
    names += [
        name
        for name in (
            "optimizer.hypergradient_rate",
            "optimizer.ema_momentum",
            "training.early_stopping.noise_factor",
        )
        if values.get(name, 0.0)
    ]
    if values.get("training.early_stopping.statistic", "mean") != "mean":
        names.append("training.early_stopping.statistic")
    if values.get("training.batch_growth", "none") != "none":
        names.append("training.batch_growth")
    return [f"{name} ({values.code(name)})" for name in names]


def _schedule(values: Values) -> dict[str, Any]:
    """The course of the learning rate: a schedule of Keras where it has one, else our own."""
    kind = values.one_of("optimizer.schedule", _SCHEDULES, default="constant")
    warmup = int(values.get("optimizer.warmup_steps", 0)) if kind != "plateau" else 0
    call, arguments = "", []
    if kind == "cosine" and not warmup:
        call, arguments = "CosineDecay", ["LEARNING_RATE", "decay_steps=num_steps"]
    elif kind == "cosine":
        call = "CosineDecay"
        arguments = [
            "LEARNING_RATE / (warmup + 1)",
            "decay_steps=num_steps - warmup",
            "warmup_target=LEARNING_RATE",
            "warmup_steps=warmup",
        ]
    elif kind == "linear" and not warmup:
        call = "PolynomialDecay"
        arguments = ["LEARNING_RATE", "decay_steps=num_steps", "end_learning_rate=0.0"]
    custom = not call and kind != "plateau" and (kind != "constant" or warmup > 0)
    lines = []
    if custom:
        lines = ["learning_rate = Course(EPOCHS * steps_per_epoch, steps_per_epoch)"]
    elif call:
        lines = ["num_steps = EPOCHS * steps_per_epoch"]
        lines += ["warmup = min(WARMUP_STEPS, num_steps - 1)"] if warmup else []
        lines += [f"learning_rate = keras.optimizers.schedules.{call}("]
        lines += [f"    {argument}," for argument in arguments]
        lines += [")"]
    return {
        "course": kind,
        "schedule_lines": lines,
        "custom_schedule": custom,
        "warmup": warmup,
        "plateau": kind == "plateau",
        "cycle_floor": CYCLE_FLOOR,
        "half_cycle_share": HALF_CYCLE_SHARE,
        "rise_share": ONE_CYCLE_RISE,
        "start_share": ONE_CYCLE_START,
        "end_share": ONE_CYCLE_END,
    }
