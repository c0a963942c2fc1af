"""Linear models on features that are computed once: n-grams, pixels, bands, summaries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from smarttune.baselines.contest import (
    Allowance,
    Contest,
    Made,
    Unsuited,
    all_classes,
    as_outputs,
)

# ours: inverse strengths of the penalty, from strong to weak; the validation rows choose.
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
# ours: each fit starts where the stronger penalty ended, so that few steps do; stopping early
# only adds to the penalty.
_MOST_STEPS = 50

# From three sets of row numbers (training, validation, test) to three matrices.
Features = Callable[[Contest, tuple[np.ndarray, ...], Allowance], tuple[Any, ...]]


def linear_model(
    contest: Contest, allowance: Allowance, features: Features, *, most_rows: int
) -> Made:
    """Fit a logistic or ridge regression on features of the samples.

    Args:
        contest: The question.
        allowance: Seconds it may take, features included.
        features: Turns rows into matrices, dense or sparse, one row per sample.
        most_rows: Training rows used; drawn at random where there are more.
    """
    train = contest.drawn(contest.split.train, most_rows)
    validation = contest.drawn(contest.split.validation, most_rows)
    x = features(contest, (train, validation, contest.split.test), allowance)
    y = [contest.encoded(rows) for rows in (train, validation)]
    notes = [] if len(train) == len(contest.split.train) else [f"{most_rows:,} rows were used."]
    codec = contest.codec
    if codec.kind == "regression":
        flat = [part.reshape(len(part), -1) for part in y]
        return Made(_ridge(x, flat), note=" ".join(notes))
    if codec.kind == "multilabel":
        shares = _labels(x, y, allowance)
    else:
        labels = [part.reshape(len(part)).astype(np.int64) for part in y]
        model = _logistic(x, labels, allowance)
        shares = all_classes(model, model.predict_proba(x[2]), len(codec.classes))
    if allowance.left < 0:
        notes.append("It was stopped by the clock; more steps may do better.")
    return Made(as_outputs(codec, shares), note=" ".join(notes))


def _logistic(x: tuple[Any, ...], y: list[np.ndarray], allowance: Allowance) -> Any:
    """The logistic regression whose penalty has the least validation loss."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y[0])) == 1:
        raise Unsuited("The training rows hold a single class.")
    best, least = None, np.inf
    start: Any = None
    for strength in _in_time(allowance):
        model = LogisticRegression(C=strength, max_iter=_MOST_STEPS, warm_start=True)
        if start is not None:
            model.coef_, model.intercept_, model.classes_ = start
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps are bounded on purpose
            model.fit(x[0], y[0])
        loss = _log_loss(model, x[1], y[1])
        if best is not None and loss >= least:
            break
        best, least = model, loss
        start = (model.coef_.copy(), model.intercept_.copy(), model.classes_)
    return best


def _in_time(allowance: Allowance) -> Iterator[float]:
    """Penalties, as long as another fit is likely to end in time; each takes longer."""
    slowest = 0.0
    for strength in STRENGTHS:
        before = allowance.left
        if 2 * slowest > before:
            return
        yield strength
        slowest = max(slowest, before - allowance.left)


def _log_loss(model: Any, x: Any, y: np.ndarray) -> float:
    if not len(y):
        return 0.0
    places = np.searchsorted(model.classes_, y)
    known = np.isin(y, model.classes_)
    chosen = model.predict_proba(x)[np.flatnonzero(known), places[known]]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean()) if len(chosen) else 0.0


def _labels(x: tuple[Any, ...], y: list[np.ndarray], allowance: Allowance) -> np.ndarray:
    """Share of each label, one logistic regression each; they share the time."""
    width = y[0].shape[1]
    shares = np.empty((x[2].shape[0], width))
    for i in range(width):
        label = [part[:, i].astype(np.int64) for part in y]
        if len(np.unique(label[0])) == 1:
            shares[:, i] = label[0][0]
            continue
        model = _logistic(x, label, Allowance(allowance.left / (width - i)))
        shares[:, i] = model.predict_proba(x[2])[:, 1]
    return shares


def _ridge(x: tuple[Any, ...], y: list[np.ndarray]) -> np.ndarray:
    """Encoded values from the ridge regression with the least validation error."""
    from sklearn.linear_model import Ridge

    best, least = None, np.inf
    for strength in STRENGTHS:
        model = Ridge(alpha=1.0 / strength).fit(x[0], y[0])
        error = 0.0
        if len(y[1]):
            error = float(np.mean(np.square(model.predict(x[1]).reshape(y[1].shape) - y[1])))
        if best is None or error < least:
            best, least = model, error
    assert best is not None
    return np.asarray(best.predict(x[2])).reshape(x[2].shape[0], -1)
