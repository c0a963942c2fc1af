"""Metrics and their directions."""

from __future__ import annotations

import re

import pytest

from smarttune.errors import OptionError
from smarttune.objectives import DIRECTIONS, PROBLEM_METRICS, Objective, objective


@pytest.mark.parametrize(
    "metric",
    ["f1_score", "r2_score", "cosine_similarity", "pearson_correlation", "dice", "auc", "accuracy"],
)
def test_scores_are_maximized(metric: str) -> None:
    """Metrics whose direction KerasTuner misses or crashes on are maximized here."""
    assert objective(metric) == Objective(f"val_{metric}", "max")


@pytest.mark.parametrize(
    "metric", ["loss", "mae", "root_mean_squared_error", "perplexity", "crossentropy"]
)
def test_errors_are_minimized(metric: str) -> None:
    """Losses and errors are minimized."""
    assert objective(f"val_{metric}") == Objective(f"val_{metric}", "min")


@pytest.mark.parametrize("problem", PROBLEM_METRICS)
def test_logged_metrics_have_directions(problem: str) -> None:
    """Every metric that a problem logs can be its objective."""
    for metric in ("loss", *PROBLEM_METRICS[problem]):
        assert objective(metric, problem=problem).direction == DIRECTIONS[metric]


def test_metrics_not_logged_for_a_problem_are_refused() -> None:
    """AUC exists, but a regression does not log it, whatever the direction."""
    with pytest.raises(OptionError, match="measured for a regression problem") as caught:
        objective("val_auc", "max", problem="regression")

    assert "val_mean_absolute_error" in caught.value.expected


def test_unknown_metrics_are_refused_with_the_closest() -> None:
    """A misspelt metric is answered with the right one."""
    with pytest.raises(OptionError, match=re.escape("Did you mean `accuracy`")):
        objective("val_acuracy")


def test_own_metrics_need_a_direction() -> None:
    """A metric outside of the table is accepted together with its direction."""
    assert objective("my_metric", "max") == Objective("val_my_metric", "max")
    with pytest.raises(OptionError):
        objective("my_metric")


def test_a_problem_outside_of_the_table_restricts_nothing() -> None:
    """Problems without a list of logged metrics accept every known one."""
    assert objective("perplexity", problem="language_model").direction == "min"


@pytest.mark.parametrize(("direction", "better", "worse"), [("max", 2.0, 1.0), ("min", 1.0, 2.0)])
def test_better_and_gain_follow_the_direction(direction: str, better: float, worse: float) -> None:
    """The better score beats the worse one with a positive gain, and never itself."""
    goal = Objective("val_x", direction)  # type: ignore[arg-type]

    assert goal.better(better, worse)
    assert not goal.better(worse, better)
    assert not goal.better(better, better)
    assert goal.gain(better, worse) == 1.0
    assert goal.gain(worse, better) == -1.0
