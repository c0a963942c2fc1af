"""Is one model better than another, or is it noise? Metrics in NumPy, and a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from smarttune.models import TargetCodec
from smarttune.objectives import DIRECTIONS, PROBLEM_METRICS

RESAMPLES = 1000  # ours: enough for the ends of a 95 % interval
MAX_ROWS = 20_000  # ours: keeps a bootstrap of a ranking metric within seconds
FEWEST_ROWS = 200  # ours: samples of many places each; fewer would tell nothing
LEVEL = 0.95

Metric = Callable[[np.ndarray, np.ndarray], float]


class Difference(NamedTuple):
    """How much better the new model is on rows that neither saw; positive is better."""

    gain: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out zero, so that luck is an unlikely reason."""
        return self.low > 0 or self.high < 0


def metrics_of(codec: TargetCodec, output: np.ndarray, encoded: np.ndarray) -> dict[str, float]:
    """All metrics of the codec's problem; regression metrics in the target's own units.

    Args:
        codec: The target encoding.
        output: Raw network outputs, shape (rows, num_outputs); as `TargetCodec.reduced` leaves them
            where every place of a sample has a class.
        encoded: Encoded targets of the same rows.
    """
    truth, predicted = _comparable(codec, output, encoded)
    return {
        name: float(_METRICS[codec.problem][name](truth, predicted))
        for name in PROBLEM_METRICS[codec.problem]
    }


def compare(
    codec: TargetCodec,
    new: np.ndarray,
    old: np.ndarray,
    encoded: np.ndarray,
    *,
    metric: str,
    seed: int,
) -> Difference:
    """Estimate the gain of one model over another on the same rows.

    A paired bootstrap: rows are drawn with replacement, both models scored on them
    (Efron and Tibshirani 1993, An Introduction to the Bootstrap, percentile interval).

    Args:
        codec: The target encoding.
        new: Outputs of the new model, shape (rows, num_outputs).
        old: Outputs of the old model, of the same rows.
        encoded: Encoded targets of these rows.
        metric: One of `PROBLEM_METRICS` of the problem.
        seed: Seeds the resampling.
    """
    rng = np.random.default_rng(seed)
    truth, predicted_new = _comparable(codec, new, encoded)
    _, predicted_old = _comparable(codec, old, encoded)
    sign = -1.0 if DIRECTIONS[metric] == "min" else 1.0
    score = _METRICS[codec.problem][metric]
    gain = sign * (score(truth, predicted_new) - score(truth, predicted_old))
    n = len(truth)
    size = min(n, max(FEWEST_ROWS, MAX_ROWS // max(1, truth[0].size)))
    gains = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, n, size)
        a, b = score(truth[rows], predicted_new[rows]), score(truth[rows], predicted_old[rows])
        gains.append(sign * (a - b))
    spread = np.nanquantile(np.array(gains), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # A smaller resample has a wider spread; undo that around the middle.
    shrink = np.sqrt(size / n)
    low, high = gain + (spread - np.nanmedian(gains)) * shrink
    return Difference(float(gain), float(low), float(high))


def _comparable(
    codec: TargetCodec, output: np.ndarray, encoded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction in the form that the metrics take, one row per sample."""
    if codec.is_dense:
        return encoded, output
    output = np.asarray(output, np.float64).reshape(len(output), -1)
    if codec.kind == "regression":
        return codec.raw_units(encoded.reshape(output.shape)), codec.raw_units(output)
    shares = codec.probabilities(output)
    if codec.problem == "binary":
        return encoded.reshape(-1), shares[:, 1]
    return encoded, shares


def _place_accuracy(truth: np.ndarray, places: np.ndarray) -> float:
    return float(np.mean(places[..., 1] == truth))


def _place_crossentropy(truth: np.ndarray, places: np.ndarray) -> float:
    return float(-np.mean(places[..., 0]))


def _mean_io_u(truth: np.ndarray, places: np.ndarray) -> float:
    """Intersection over union, averaged over the classes that occur."""
    chosen = places[..., 1]
    shares = []
    for label in np.unique(np.concatenate([np.unique(truth), np.unique(chosen)])):
        both = np.sum((truth == label) & (chosen == label))
        shares.append(both / np.sum((truth == label) | (chosen == label)))
    return float(np.mean(shares))


def _accuracy(truth: np.ndarray, shares: np.ndarray) -> float:
    return float(np.mean((shares >= 0.5) == (truth >= 0.5)))


def _class_accuracy(truth: np.ndarray, shares: np.ndarray) -> float:
    return float(np.mean(shares.argmax(axis=1) == truth))


def _crossentropy(truth: np.ndarray, shares: np.ndarray) -> float:
    p = np.clip(shares, 1e-7, 1 - 1e-7)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)))


def _class_crossentropy(truth: np.ndarray, shares: np.ndarray) -> float:
    return float(-np.mean(np.log(np.clip(shares[np.arange(len(truth)), truth], 1e-7, 1.0))))


def _auc(truth: np.ndarray, shares: np.ndarray) -> float:
    """Share of pairs in the right order, ties counting half (Mann-Whitney)."""
    positive = truth >= 0.5
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(shares, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    above = ranks[positive].sum() - num_positive * (num_positive + 1) / 2.0
    return float(above / (num_positive * num_negative))


def _pr_auc(truth: np.ndarray, shares: np.ndarray) -> float:
    """Average precision."""
    order = np.argsort(-shares, kind="stable")
    hits = np.cumsum(truth[order] >= 0.5)
    if not hits[-1]:
        return float("nan")
    # Rows with equal shares pass the threshold together.
    last = np.append(np.flatnonzero(np.diff(shares[order])), len(order) - 1)
    gained = np.diff(hits[last], prepend=0)
    return float(np.sum(gained * hits[last] / (last + 1)) / hits[-1])


def _by_label(metric: Metric) -> Metric:
    def mean_over_labels(truth: np.ndarray, shares: np.ndarray) -> float:
        columns = range(truth.shape[1])
        return float(np.nanmean([metric(truth[:, i], shares[:, i]) for i in columns]))

    return mean_over_labels


def _mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.abs(truth - predicted)))


def _mean_squared_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.square(truth - predicted)))


def _root_mean_squared_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.sqrt(_mean_squared_error(truth, predicted)))


def _r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    total = np.square(truth - truth.mean(axis=0)).sum()
    return float(1.0 - np.square(truth - predicted).sum() / total) if total else float("nan")


_PLACES: dict[str, Any] = {
    "accuracy": _place_accuracy,
    "crossentropy": _place_crossentropy,
    "mean_io_u": _mean_io_u,
    "perplexity": lambda truth, places: float(np.exp(_place_crossentropy(truth, places))),
    "bits_per_character": lambda truth, places: _place_crossentropy(truth, places) / np.log(2),
}
_METRICS: dict[str, dict[str, Any]] = {
    "binary": {
        "accuracy": _accuracy,
        "auc": _auc,
        "pr_auc": _pr_auc,
        "crossentropy": _crossentropy,
    },
    "multiclass": {"accuracy": _class_accuracy, "crossentropy": _class_crossentropy},
    "multilabel": {
        "binary_accuracy": _accuracy,
        "auc": _by_label(_auc),
        "pr_auc": _by_label(_pr_auc),
        "crossentropy": _crossentropy,
    },
    "regression": {
        "mean_absolute_error": _mean_absolute_error,
        "mean_squared_error": _mean_squared_error,
        "root_mean_squared_error": _root_mean_squared_error,
        "r2_score": _r2,
    },
}
_METRICS["forecasting"] = _METRICS["regression"]
for _problem in ("segmentation", "language_model", "char_language_model"):
    _METRICS[_problem] = _PLACES
