"""Metrics by name, with their direction and the problems they suit.

KerasTuner guesses directions and gets F1, R2, cosine similarity and correlations
wrong, so the direction always comes from this table or from the user.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from smarttune.errors import OptionError, did_you_mean

Direction = Literal["min", "max"]


class Objective(NamedTuple):
    """What ranks the trials: a logged name such as `val_auc`, and its better end."""

    name: str
    direction: Direction

    def better(self, a: float, b: float) -> bool:
        """Whether score `a` beats score `b`."""
        return a > b if self.direction == "max" else a < b

    def gain(self, new: float, old: float) -> float:
        """By how much `new` is better than `old`; negative if it is worse."""
        return new - old if self.direction == "max" else old - new


DIRECTIONS: dict[str, Direction] = {
    "loss": "min",
    "accuracy": "max",
    "binary_accuracy": "max",
    "categorical_accuracy": "max",
    "sparse_categorical_accuracy": "max",
    "top_k_categorical_accuracy": "max",
    "auc": "max",
    "pr_auc": "max",
    "precision": "max",
    "recall": "max",
    "f1_score": "max",
    "fbeta_score": "max",
    "mean_absolute_error": "min",
    "mae": "min",
    "mean_squared_error": "min",
    "mse": "min",
    "root_mean_squared_error": "min",
    "mean_absolute_percentage_error": "min",
    "mean_squared_logarithmic_error": "min",
    "log_cosh": "min",
    "r2_score": "max",
    "cosine_similarity": "max",
    "pearson_correlation": "max",
    "concordance_correlation": "max",
    "crossentropy": "min",
    "binary_crossentropy": "min",
    "categorical_crossentropy": "min",
    "sparse_categorical_crossentropy": "min",
    "kl_divergence": "min",
    "hinge": "min",
    "mean_io_u": "max",
    "binary_io_u": "max",
    "dice": "max",
    "perplexity": "min",
    "bits_per_character": "min",
}

# The metrics that SmartTune's own models log for each problem.
PROBLEM_METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("accuracy", "auc", "pr_auc", "crossentropy"),
    "multiclass": ("accuracy", "crossentropy"),
    "multilabel": ("binary_accuracy", "auc", "pr_auc", "crossentropy"),
    "regression": (
        "mean_absolute_error",
        "mean_squared_error",
        "root_mean_squared_error",
        "r2_score",
    ),
    "forecasting": ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error"),
    "segmentation": ("accuracy", "mean_io_u", "crossentropy"),
    "language_model": ("crossentropy", "accuracy", "perplexity"),
    "char_language_model": ("crossentropy", "accuracy", "bits_per_character"),
}


def objective(
    name: str, direction: Direction | None = None, *, problem: str | None = None
) -> Objective:
    """Return the objective that a user's word means.

    Args:
        name: A metric with or without `val_`, for example `auc` or `val_loss`.
        direction: For metrics that the table does not know.
        problem: Restricts the names to what SmartTune's models log for it.

    Raises:
        OptionError: If the metric is unknown, or is not logged for the problem.
    """
    metric = name.removeprefix("val_")
    known = ("loss", *PROBLEM_METRICS[problem]) if problem in PROBLEM_METRICS else tuple(DIRECTIONS)
    if metric not in known and (problem in PROBLEM_METRICS or direction is None):
        raise OptionError(
            "objective",
            received=f"`{name}` is not a metric"
            + (f" that is measured for a {problem} problem" if problem else ""),
            expected="one of " + ", ".join(f"val_{m}" for m in known),
            mend=f"Choose one of these with --objective.{did_you_mean(metric, known)}",
        )
    return Objective(f"val_{metric}", direction or DIRECTIONS[metric])
