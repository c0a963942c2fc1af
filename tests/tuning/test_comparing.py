"""Metrics in NumPy agree with hand values and with Keras; the bootstrap tells gain from luck."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.models import TargetCodec
from smarttune.models.compiling import make_metrics
from smarttune.objectives import PROBLEM_METRICS
from smarttune.tuning.comparing import MAX_ROWS, Difference, compare, metrics_of

RNG = np.random.default_rng
# Problems with a class at each place of a sample.
DENSE = ("segmentation", "language_model", "char_language_model")


def codec(problem: str, **settings: Any) -> TargetCodec:
    """A target codec of the problem, fitted on a few rows."""
    targets: dict[str, Any] = {
        "binary": pd.Series(["no", "yes"] * 4, name="y"),
        "multiclass": pd.Series(list("abcabc"), name="y"),
        "multilabel": pd.DataFrame({"p": [0, 1, 1, 0], "q": [1, 1, 0, 0]}),
        "regression": pd.Series([2.0, 4.0, 10.0, 40.0], name="y"),
    }
    if problem in DENSE:
        return TargetCodec(problem=problem, names=("y",), classes=("a", "b", "c"))
    targets["forecasting"] = pd.DataFrame({"in 1": [2.0, 4.0, 9.0], "in 2": [3.0, 1.0, 7.0]})
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c")}.get(problem, ())
    return TargetCodec.fit(targets[problem], problem, classes, settings)


def logit(share: Any) -> np.ndarray:
    """Log-odds of a probability."""
    odds: np.ndarray = np.asarray(share) / (1 - np.asarray(share))
    return np.log(odds)


def test_binary_metrics_by_hand() -> None:
    """Four rows whose metrics can be counted on fingers."""
    truth = np.array([0.0, 0.0, 1.0, 1.0])
    shares = np.array([0.1, 0.6, 0.4, 0.8])

    found = metrics_of(codec("binary"), logit(shares)[:, None], truth)

    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75  # three of four pairs are in order
    assert found["pr_auc"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    expected = -np.mean(np.log([0.9, 0.4, 0.4, 0.8]))
    assert found["crossentropy"] == pytest.approx(expected)


def test_ties_count_half() -> None:
    """A model that gives every row the same share has an AUC of one half."""
    truth = np.array([0.0, 1.0, 1.0, 0.0, 1.0])

    found = metrics_of(codec("binary"), np.zeros((5, 1)), truth)

    assert found["auc"] == 0.5


def test_average_precision_does_not_depend_on_the_order_of_ties() -> None:
    """Rows with equal shares give the same average precision in whatever order they come."""
    truth = np.array([1.0, 1.0, 0.0, 0.0])
    outputs = np.zeros((4, 1))

    forwards = metrics_of(codec("binary"), outputs, truth)["pr_auc"]
    backwards = metrics_of(codec("binary"), outputs, truth[::-1])["pr_auc"]

    assert forwards == backwards


def test_multiclass_metrics_by_hand() -> None:
    """Accuracy counts the largest logit, cross-entropy the share of the true class."""
    truth = np.array([0, 1, 2])
    shares = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])

    found = metrics_of(codec("multiclass"), np.log(shares), truth)

    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["crossentropy"] == pytest.approx(-np.mean(np.log([0.7, 0.3, 0.8])))


def test_multilabel_metrics_are_means_over_labels() -> None:
    """Each label is scored by itself, and the mean counts them alike."""
    truth = np.array([[0, 1], [1, 0], [1, 1], [0, 0]], float)
    shares = np.array([[0.2, 0.9], [0.7, 0.8], [0.6, 0.7], [0.1, 0.3]])

    found = metrics_of(codec("multilabel"), logit(shares), truth)

    assert found["binary_accuracy"] == 7 / 8
    assert found["auc"] == pytest.approx((1.0 + 0.75) / 2)


def test_regression_metrics_are_in_raw_units() -> None:
    """Errors of a scaled target are told in the target's own units."""
    scaled = codec("regression", **{"model.target_transform": "log1p_standardize"})
    truth = np.array([2.0, 4.0, 10.0])
    predicted = np.array([3.0, 4.0, 7.0])

    found = metrics_of(
        scaled,
        scaled.encode(pd.Series(predicted, name="y")).reshape(-1, 1),
        scaled.encode(pd.Series(truth, name="y")),
    )

    assert found["mean_absolute_error"] == pytest.approx(4 / 3, rel=1e-5)
    assert found["mean_squared_error"] == pytest.approx(10 / 3, rel=1e-5)
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt(10 / 3), rel=1e-5)
    total = np.square(truth - truth.mean()).sum()
    assert found["r2_score"] == pytest.approx(1 - 10 / total, rel=1e-5)


def test_one_class_has_no_ranking() -> None:
    """Rows of one class leave the ranking metrics undefined, without a warning."""
    found = metrics_of(codec("binary"), np.zeros((3, 1)), np.zeros(3))

    assert np.isnan(found["auc"])
    assert found["accuracy"] == 0.0  # an even share counts as the positive class


def outputs_of(problem: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Random outputs and targets that belong together a little."""
    rng = RNG(3)
    if problem in ("regression", "forecasting"):
        shape = (rows, 1 if problem == "regression" else 2)
        truth = rng.normal(size=shape)
        return truth + rng.normal(size=shape), truth
    if problem in DENSE:
        labels = rng.integers(0, 3, (rows, 6))
        return rng.normal(size=(rows, 6, 3)) + np.eye(3)[labels], labels
    if problem == "multiclass":
        labels = rng.integers(0, 3, rows)
        return rng.normal(size=(rows, 3)) + np.eye(3)[labels], labels
    width = 2 if problem == "multilabel" else 1
    truth = rng.integers(0, 2, (rows, width)).astype(float)
    outputs = rng.normal(size=(rows, width)) + truth
    return outputs, truth if width > 1 else truth[:, 0]


def keras_metrics(problem: str) -> dict[str, Any]:
    """The same metrics as Keras computes them, with fine thresholds."""
    m, many = keras.metrics, problem == "multilabel"
    if problem in (*DENSE, "forecasting"):
        return {metric.name: metric for metric in make_metrics(codec(problem))}
    area = {"multi_label": many, "num_labels": 2 if many else None, "num_thresholds": 4000}
    return {
        "binary": {
            "accuracy": m.BinaryAccuracy(threshold=0.0),
            "auc": m.AUC(from_logits=True, **area),
            "pr_auc": m.AUC(curve="PR", from_logits=True, **area),
            "crossentropy": m.BinaryCrossentropy(from_logits=True),
        },
        "multiclass": {
            "accuracy": m.SparseCategoricalAccuracy(),
            "crossentropy": m.SparseCategoricalCrossentropy(from_logits=True),
        },
        "multilabel": {
            "binary_accuracy": m.BinaryAccuracy(threshold=0.0),
            "auc": m.AUC(from_logits=True, **area),
            "pr_auc": m.AUC(curve="PR", from_logits=True, **area),
            "crossentropy": m.BinaryCrossentropy(from_logits=True),
        },
        "regression": {
            "mean_absolute_error": m.MeanAbsoluteError(),
            "mean_squared_error": m.MeanSquaredError(),
            "root_mean_squared_error": m.RootMeanSquaredError(),
            "r2_score": m.R2Score(),
        },
    }[problem]


@pytest.mark.parametrize("problem", list(PROBLEM_METRICS))
def test_metrics_agree_with_keras(problem: str) -> None:
    """Every metric of every problem equals what Keras logs for it."""
    outputs, truth = outputs_of(problem, 500)

    kept = codec(problem).reduced(outputs, truth)
    found = metrics_of(codec(problem), kept, truth)

    assert set(found) == set(PROBLEM_METRICS[problem]) == set(keras_metrics(problem))
    for name, metric in keras_metrics(problem).items():
        column = truth[:, None] if truth.ndim == 1 and problem != "multiclass" else truth
        metric.update_state(column.astype(np.float32), outputs.astype(np.float32))
        assert found[name] == pytest.approx(float(metric.result()), abs=2e-3), name


def paired(effect: float, seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, and two regression models of which the first is better by `effect`."""
    rng = RNG(seed)
    truth = rng.normal(size=(rows, 1))
    old = truth + rng.normal(size=(rows, 1))
    new = truth + (old - truth) * (1 - effect) + 0.3 * rng.normal(size=(rows, 1))
    return new, old, truth


def test_a_planted_gain_is_found() -> None:
    """A model whose errors are halved is better, beyond chance, by about that much."""
    new, old, truth = paired(0.5, seed=0)

    found = compare(codec("regression"), new, old, truth, metric="mean_absolute_error", seed=0)

    assert found.low < found.gain < found.high
    assert found.low > 0.2
    assert found.is_real


def test_a_planted_loss_is_found() -> None:
    """Swapping the models turns the sign."""
    new, old, truth = paired(0.5, seed=0)
    forwards = compare(codec("regression"), new, old, truth, metric="mean_squared_error", seed=0)

    backwards = compare(codec("regression"), old, new, truth, metric="mean_squared_error", seed=0)

    assert backwards.gain == -forwards.gain
    assert backwards.high < 0
    assert backwards.is_real


def test_the_gain_of_a_score_that_rises_is_positive() -> None:
    """For metrics where more is better the difference keeps its sign."""
    truth = RNG(1).integers(0, 2, 300).astype(float)
    good, bad = (4 * truth - 2)[:, None], np.zeros((300, 1))

    found = compare(codec("binary"), good, bad, truth, metric="auc", seed=0)

    assert found.gain == pytest.approx(0.5)
    assert found.is_real


def test_luck_is_seldom_taken_for_a_gain() -> None:
    """Of models that are equally good, about one pair in twenty seems to differ."""
    wrong = 0
    for seed in range(60):
        rng = RNG([seed, 1])
        truth = rng.normal(size=(80, 1))
        new, old = (truth + rng.normal(size=(80, 1)) for _ in range(2))
        found = compare(
            codec("regression"), new, old, truth, metric="mean_absolute_error", seed=seed
        )
        wrong += found.is_real
    # 60 pairs at 5 %: more than 9 would happen by chance once in two thousand.
    assert wrong <= 9


def test_a_model_does_not_differ_from_itself() -> None:
    """Equal outputs give no gain, no spread, and no claim."""
    new, _, truth = paired(0.0, seed=2)

    found = compare(codec("regression"), new, new, truth, metric="mean_absolute_error", seed=0)

    assert found == Difference(0.0, 0.0, 0.0)
    assert not found.is_real


def test_the_same_seed_gives_the_same_interval() -> None:
    """Resampling depends on the seed alone."""
    new, old, truth = paired(0.1, seed=4)
    options: dict[str, Any] = {"metric": "mean_absolute_error"}
    first, again, other = (
        compare(codec("regression"), new, old, truth, seed=seed, **options) for seed in (5, 5, 6)
    )

    assert first == again
    assert first.low != other.low
    assert first.gain == other.gain


def test_resamples_of_many_rows_are_smaller_but_as_narrow() -> None:
    """Beyond the limit of rows the interval still narrows with the number of rows."""
    few = paired(0.1, seed=5, rows=MAX_ROWS)
    many = paired(0.1, seed=5, rows=4 * MAX_ROWS)
    options: dict[str, Any] = {"metric": "mean_absolute_error", "seed": 0}
    narrow = compare(codec("regression"), *many, **options)
    wide = compare(codec("regression"), *few, **options)

    ratio = (narrow.high - narrow.low) / (wide.high - wide.low)

    assert ratio == pytest.approx(0.5, abs=0.1)
