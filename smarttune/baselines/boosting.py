"""Gradient-boosted trees: the model to beat on columns.

Categories and missing cells enter as they are, as scikit-learn's histogram boosting takes
them (after LightGBM: Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision
Tree"). The number of trees is chosen on the validation rows, which chose the network too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from smarttune.baselines.contest import (
    Allowance,
    Contest,
    Made,
    Unsuited,
    all_classes,
    as_outputs,
    few_threads,
)
from smarttune.baselines.matrices import Matrices

# The learning rate is scikit-learn's default. ours: numbers of rounds after which the
# validation loss is looked at; it rises again long before the last.
ROUNDS = (1, 10, 25, 50, 100, 200, 400)
# scikit-learn's default is 20 rows in a leaf. ours: fewer in small tables, which otherwise
# could hardly be split.
_MOST_IN_LEAF, _LEAVES_AT_LEAST, _FEWEST_IN_LEAF = 20, 20, 2
# The metrics clip probabilities in the same way.
_LEAST_SHARE = 1e-7


def boosted_trees(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    """Fit trees on features; several labels or outputs have an ensemble each.

    Args:
        contest: The question.
        allowance: Seconds left; a next number of rounds is tried only if it is likely to fit.
        given: Dense features.

    Returns:
        Answers for the test rows, and the call that fits the same trees.

    Raises:
        Unsuited: If the training rows hold a single class.
    """
    codec = contest.codec
    if codec.kind == "regression":
        return _values(contest, allowance, given)
    if codec.kind == "multilabel":
        shares, rounds, hurried = _labels(contest, allowance, given)
    else:
        labels = [part.reshape(len(part)).astype(np.int64) for part in given.y]
        if len(np.unique(labels[0])) == 1:
            raise Unsuited("The training rows hold a single class.")
        ensemble = _Classes(given, contest.seed)
        found = ensemble.grown(given.x, labels, allowance)[len(labels[1]) :]
        shares = all_classes(ensemble.model, found, codec)
        rounds, hurried = ensemble.best, ensemble.hurried
    return _made(given, as_outputs(codec, shares), "Classifier", rounds, hurried=hurried)


def _made(
    given: Matrices, outputs: np.ndarray, kind: str, rounds: int, *, hurried: bool, loss: str = ""
) -> Made:
    options = [f"max_iter={rounds}", "early_stopping=False"]
    if loss:
        options.insert(0, f'loss="{loss}"')
    if any(given.categorical):
        options.append('categorical_features="from_dtype"')
    notes = [*given.notes]
    if hurried:
        notes.append("The clock ended its growth; more rounds may do better.")
    call = f"HistGradientBoosting{kind}({', '.join(options)})"
    return Made(outputs, note=" ".join(notes), call=call)


def _labels(
    contest: Contest, allowance: Allowance, given: Matrices
) -> tuple[np.ndarray, int, bool]:
    """Share of each label, the median number of rounds, and whether time ran short."""
    width = given.y[0].shape[1]
    shares = np.empty((given.x[2].shape[0], width))
    rounds, hurried = [1], False
    for i in range(width):
        label = [part[:, i].astype(np.int64) for part in given.y]
        if len(np.unique(label[0])) == 1:
            shares[:, i] = contest.codec.priors()[i]
            continue
        ensemble = _Classes(given, contest.seed)
        part = Allowance(allowance.left / (width - i))
        shares[:, i] = ensemble.grown(given.x, label, part)[len(label[1]) :, 1]
        rounds.append(ensemble.best)
        hurried |= ensemble.hurried
    return shares, int(np.median(rounds[1:] or rounds)), hurried


def _values(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    """Encoded values, shape (rows, outputs).

    The least squares of a logarithm are not those of the amount itself. Where the network
    learns the logarithm, both are fitted and the validation rows choose.
    """
    codec = contest.codec
    encoded = [part.reshape(len(part), -1) for part in given.y]
    raw = [codec.raw_units(part) for part in encoded]
    absolute = contest.metric == "mean_absolute_error"
    loss = "absolute_error" if absolute else "squared_error"
    views = [(encoded, False)]
    if codec.transform == "log1p_standardize" and not absolute:
        views.append((raw, True))
    kept: tuple[Made, float] | None = None
    for done, (view, is_raw) in enumerate(views):
        part = Allowance(allowance.left / (len(views) - done))
        answers, rounds, hurried = _outputs(contest, part, given, view, loss)
        answers = codec.standardized(answers) if is_raw else answers
        held, test = np.split(answers, [len(raw[1])])
        error = codec.raw_units(held) - raw[1]
        mean = float(np.mean(np.abs(error) if absolute else np.square(error)))
        if kept is None or mean < kept[1]:
            made = _made(given, test, "Regressor", rounds, hurried=hurried, loss=loss)
            if codec.transform == "log1p_standardize" and not is_raw:
                logarithm = "func=np.log1p, inverse_func=np.expm1"
                made = replace(made, call=f"TransformedTargetRegressor({made.call}, {logarithm})")
            kept = made, mean
    assert kept is not None
    return kept[0]


def _outputs(
    contest: Contest, allowance: Allowance, given: Matrices, y: list[np.ndarray], loss: str
) -> tuple[np.ndarray, int, bool]:
    """Values for validation and test rows, the median number of rounds, whether time ran short."""
    columns, rounds, hurried = [], [], False
    width = y[0].shape[1]
    for i in range(width):
        ensemble = _Values(given, contest.seed, loss)
        part = Allowance(allowance.left / (width - i))
        columns.append(ensemble.grown(given.x, [half[:, i] for half in y], part))
        rounds.append(ensemble.best)
        hurried |= ensemble.hurried
    return np.stack(columns, axis=1), int(np.median(rounds)), hurried


class _Ensemble(ABC):
    """Trees that grow until their validation loss rises or the time is over.

    Attributes:
        model: The model of scikit-learn.
        best: Rounds with the least validation loss.
        hurried: Whether the time ended before the loss rose.
    """

    model: Any

    def __init__(self, given: Matrices, seed: int) -> None:
        rows = given.x[0].shape[0]
        leaf = min(_MOST_IN_LEAF, max(_FEWEST_IN_LEAF, rows // _LEAVES_AT_LEAST))
        self.shared: dict[str, Any] = {
            "categorical_features": list(given.categorical) or None,
            "early_stopping": False,
            "min_samples_leaf": leaf,
            "warm_start": True,
            "random_state": seed,
        }
        self.best = 0
        self.hurried = False

    def grown(
        self, x: tuple[Any, Any, Any], y: list[np.ndarray], allowance: Allowance
    ) -> np.ndarray:
        """Fit, and answer for the validation rows followed by the test rows."""
        with few_threads():
            self._grow(x, y, allowance)
            return np.concatenate([self._answered(x[1]), self._answered(x[2])])

    def _grow(self, x: tuple[Any, Any, Any], y: list[np.ndarray], allowance: Allowance) -> None:
        last = 0
        for rounds in growing(allowance):
            self.model.set_params(max_iter=rounds)
            self.model.fit(x[0], y[0])
            losses = [self.loss(answers, y[1]) for answers in self.staged(x[1])]
            self.best, last = int(np.argmin(losses)) + 1, rounds
            if self.best < rounds // 2:
                break
        else:
            self.hurried = last < ROUNDS[-1]

    def _answered(self, x: Any) -> np.ndarray:
        """The answers of the best round."""
        return next(islice(self.staged(x), self.best - 1, None))

    @abstractmethod
    def staged(self, x: Any) -> Iterator[np.ndarray]:
        """Answers after each round."""

    @abstractmethod
    def loss(self, answers: np.ndarray, truth: np.ndarray) -> float:
        """What the rounds are chosen by."""


class _Classes(_Ensemble):
    def __init__(self, given: Matrices, seed: int) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        super().__init__(given, seed)
        self.model = HistGradientBoostingClassifier(**self.shared)

    def staged(self, x: Any) -> Iterator[np.ndarray]:
        yield from self.model.staged_predict_proba(x)

    def loss(self, answers: np.ndarray, truth: np.ndarray) -> float:
        """Mean negative logarithm of the shares of the true classes that training has seen."""
        known = np.flatnonzero(np.isin(truth, self.model.classes_))
        if not len(known):
            return 0.0
        chosen = answers[known, np.searchsorted(self.model.classes_, truth[known])]
        return float(-np.log(np.maximum(chosen, _LEAST_SHARE)).mean())


class _Values(_Ensemble):
    def __init__(self, given: Matrices, seed: int, loss: str) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        super().__init__(given, seed)
        self.absolute = loss == "absolute_error"
        self.model = HistGradientBoostingRegressor(loss=loss, **self.shared)

    def staged(self, x: Any) -> Iterator[np.ndarray]:
        yield from self.model.staged_predict(x)

    def loss(self, answers: np.ndarray, truth: np.ndarray) -> float:
        error = np.abs(answers - truth)
        return float(np.mean(error if self.absolute else np.square(error)))


def growing(allowance: Allowance) -> Iterator[int]:
    """Growing numbers of rounds, as long as the next are likely to fit the time."""
    done, per_round = 0, 0.0
    for rounds in ROUNDS:
        before = allowance.left
        if done and per_round * (rounds - done) > before:
            return
        yield rounds
        per_round = (before - allowance.left) / (rounds - done)
        done = rounds
