"""Gradient-boosted trees on tables: the model to beat on columns.

Categories and missing cells enter as they are, as scikit-learn's histogram boosting takes
them (after LightGBM: Ke et al. 2017). The number of trees is chosen on the validation
rows, which chose the network too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from smarttune.baselines.contest import (
    Allowance,
    Contest,
    Made,
    Recipe,
    Unsuited,
    all_classes,
    as_outputs,
)
from smarttune.models.cells import dates, numbers, texts

if TYPE_CHECKING:
    import pandas as pd

# ours: more rows hardly help trees of 31 leaves, and cost seconds.
MOST_ROWS = 100_000
# The learning rate is scikit-learn's default. ours: rounds after which the validation loss
# is looked at, each at least half as many again as before; it rises again long before the last.
ROUNDS = (1, 10, 25, 50, 100, 200, 400)
# Levels that one feature of scikit-learn's histograms may have; the last is for all others.
_MOST_LEVELS = 255
# ours: more validation rows do not choose better.
_MOST_VALIDATION_ROWS = 20_000


def boosted_trees(contest: Contest, allowance: Allowance) -> Made:
    """Fit trees on the training rows of a table.

    Raises:
        Unsuited: If no column can be used.
    """
    train = contest.drawn(contest.split.train, MOST_ROWS)
    validation = contest.drawn(contest.split.validation, _MOST_VALIDATION_ROWS)
    matrices, categorical = _matrices(contest, (train, validation, contest.split.test))
    targets = [contest.encoded(rows) for rows in (train, validation)]
    kind = contest.codec.kind
    notes = [] if len(train) == len(contest.split.train) else [f"{MOST_ROWS:,} rows were used."]
    if kind in ("binary", "multiclass"):
        labels = [y.reshape(len(y)).astype(np.int64) for y in targets]
        model = _Boosting(contest, categorical)
        outputs = as_outputs(contest.codec, model.answers(matrices, labels, allowance))
    else:
        # One ensemble per label or output, which share the time.
        columns = []
        width = targets[0].shape[1]
        for i in range(width):
            model = _Boosting(contest, categorical)
            part = Allowance(allowance.left / (width - i))
            columns.append(model.answers(matrices, [y[:, i] for y in targets], part))
        outputs = np.stack(columns, axis=1)
        if kind == "multilabel":
            outputs = as_outputs(contest.codec, outputs)
    if any(c.kind == "text" for c in contest.fingerprint.used_columns):
        notes.append("It does not read the columns of text.")
    if allowance.left < 0:
        notes.append("It was stopped by the clock; more rounds may do better.")
    return Made(outputs, note=" ".join(notes))


RECIPE = Recipe(
    "gradient boosting",
    "strong",
    "boosted trees on the raw columns",
    boosted_trees,
    library="scikit-learn",
)


class _Boosting:
    """One ensemble that grows until its validation loss rises or the time is over."""

    def __init__(self, contest: Contest, categorical: list[bool]) -> None:
        self.contest = contest
        self.categorical = categorical
        self.classifies = contest.codec.kind != "regression"

    def answers(self, x: list[np.ndarray], y: list[np.ndarray], allowance: Allowance) -> np.ndarray:
        """Shares of classes, shape (rows, num_classes), of a label, or values, shape (rows,)."""
        if len(np.unique(y[0])) == 1:  # one class or value: nothing to learn
            return self._constant(y[0][0], len(x[2]))
        model = self._model()
        best = 0
        for rounds in _rounds(allowance):
            model.set_params(max_iter=rounds)
            model.fit(x[0], y[0])
            if not len(x[1]):
                continue
            losses = [self._loss(p, y[1], model) for p in self._staged(model, x[1])]
            best = int(np.argmin(losses)) + 1
            if best < rounds // 2:
                break
        stages = list(self._staged(model, x[2]))
        return self._whole(stages[(best or len(stages)) - 1], model)

    def _model(self) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        shared = {
            "categorical_features": self.categorical,
            "early_stopping": False,
            "warm_start": True,
            "random_state": self.contest.seed,
        }
        if self.classifies:
            return HistGradientBoostingClassifier(**shared)
        absolute = self.contest.metric == "mean_absolute_error"
        return HistGradientBoostingRegressor(
            loss="absolute_error" if absolute else "squared_error", **shared
        )

    def _staged(self, model: Any, x: np.ndarray) -> Iterator[np.ndarray]:
        return model.staged_predict_proba(x) if self.classifies else model.staged_predict(x)  # type: ignore[no-any-return]

    def _loss(self, answers: np.ndarray, truth: np.ndarray, model: Any) -> float:
        if not self.classifies:
            error = np.abs(answers - truth)
            squared = self.contest.metric != "mean_absolute_error"
            return float(np.mean(error**2 if squared else error))
        places = np.searchsorted(model.classes_, truth)
        known = (places < len(model.classes_)) & np.isin(truth, model.classes_)
        chosen = answers[np.flatnonzero(known), places[known]]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean()) if len(chosen) else 0.0

    def _whole(self, answers: np.ndarray, model: Any) -> np.ndarray:
        """Answers with a column for every class, or the share of a single label."""
        if not self.classifies:
            return answers
        if self.contest.codec.kind == "multilabel":
            return answers[:, 1]
        return all_classes(model, answers, len(self.contest.codec.classes))

    def _constant(self, value: Any, rows: int) -> np.ndarray:
        if self.contest.codec.kind in ("binary", "multiclass"):
            return np.tile(np.eye(len(self.contest.codec.classes))[int(value)], (rows, 1))
        return np.full(rows, float(value))


def _rounds(allowance: Allowance) -> Iterator[int]:
    """Growing numbers of rounds, as long as the next are likely to fit the time."""
    done, per_round = 0, 0.0
    for rounds in ROUNDS:
        before = allowance.left
        if per_round * (rounds - done) > before:
            return
        yield rounds
        per_round = (before - allowance.left) / (rounds - done)
        done = rounds


def _matrices(
    contest: Contest, parts: tuple[np.ndarray, ...]
) -> tuple[list[np.ndarray], list[bool]]:
    """The used columns of each part as float64, shape (rows, columns), NaN where missing."""
    frame = contest.dataset.features
    columns = [c for c in contest.fingerprint.used_columns if c.kind in _READERS]
    if not columns:
        raise Unsuited("No numeric, categorical, boolean or date column is used.")
    train = frame.iloc[parts[0]]
    read = []
    for column in columns:
        cells = [frame[column.name].iloc[rows] for rows in parts]
        read.append(_READERS[column.kind](train[column.name], cells, column.datetime_format))
    matrices = [np.stack([c[i] for c in read], axis=1) for i in range(len(parts))]
    return matrices, [c.kind == "categorical" for c in columns]


def _numeric(train: pd.Series, parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    return [numbers(cells) for cells in parts]


def _dates(train: pd.Series, parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    found = []
    for cells in parts:
        parsed = dates(cells, written=written)
        seconds = parsed.astype("datetime64[s]").astype("int64").to_numpy().astype(np.float64)
        found.append(np.where(parsed.isna().to_numpy(), np.nan, seconds))
    return found


def _levels(train: pd.Series, parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    """Levels by how common they are in training; rare and unseen ones share the last number."""
    names, counts = np.unique(texts(train).astype(str), return_counts=True)
    common = names[np.argsort(-counts, kind="stable")][: _MOST_LEVELS - 1]
    places = {str(name): float(i) for i, name in enumerate(common) if name}
    others = float(_MOST_LEVELS - 1)
    return [
        np.array([places.get(t, others) if t else np.nan for t in map(str, texts(cells))])
        for cells in parts
    ]


def _flags(train: pd.Series, parts: list[pd.Series], written: str | None) -> list[np.ndarray]:
    """Two values as 0 and 1, in sorted order; whatever else is missing."""
    known = sorted(set(map(str, texts(train))) - {""})[:2]
    places = {name: float(i) for i, name in enumerate(known)}
    return [
        np.array([places.get(str(t), np.nan) for t in texts(cells)], np.float64) for cells in parts
    ]


_READERS = {"numeric": _numeric, "datetime": _dates, "categorical": _levels, "boolean": _flags}
