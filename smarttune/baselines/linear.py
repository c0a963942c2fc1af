"""Linear models on features that are computed once: n-grams, pixels, bands, summaries."""

from __future__ import annotations

import warnings
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

# ours: inverse strengths of the penalty; the validation rows choose.
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
# From the middle to weaker penalties as long as that helps, else to stronger ones: what is fitted
# first must do where time is short.
_PATHS = (STRENGTHS[2:], STRENGTHS[1::-1])
# ours: each fit starts where the one before ended, so that few steps do; stopping early only
# adds to the penalty.
MOST_STEPS, FEWEST_STEPS = 50, 5
# The metrics clip probabilities in the same way.
_LEAST_SHARE = 1e-7


def linear_model(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    """Fit logistic or ridge regressions on features of the samples.

    Args:
        contest: The question.
        allowance: Seconds left; they decide the number of steps and of penalties tried.
        given: Features, dense or sparse.

    Returns:
        Answers for the test rows, and the call that fits the same model.

    Raises:
        Unsuited: If the training rows hold a single class.
    """
    with few_threads():
        return _fitted(contest, allowance, given)


def _fitted(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    codec = contest.codec
    if codec.kind == "regression":
        return _ridge(contest, allowance, given)
    if codec.kind == "multilabel":
        return _labels(contest, allowance, given)
    labels = [part.reshape(len(part)).astype(np.int64) for part in given.y]
    if len(np.unique(labels[0])) == 1:
        raise Unsuited("The training rows hold a single class.")
    fitted = _Logistic(given.x, labels, allowance)
    shares = all_classes(fitted.model, fitted.model.predict_proba(given.x[2]), codec)
    return _made(given, as_outputs(codec, shares), fitted.call, hurried=fitted.hurried)


def _made(given: Matrices, outputs: np.ndarray, call: str, *, hurried: bool) -> Made:
    notes = [*given.notes]
    if hurried:
        notes.append("The clock ended its fitting; more steps or a weaker penalty may do better.")
    whole = f"make_pipeline({given.maker}, {call})" if given.maker else call
    return Made(outputs, note=" ".join(notes), call=whole)


class _Logistic:
    """The logistic regression whose penalty has the least validation loss.

    Attributes:
        model: The model of scikit-learn.
        hurried: Whether time was too short for all steps or penalties.
    """

    def __init__(self, x: tuple[Any, Any, Any], y: list[np.ndarray], allowance: Allowance) -> None:
        self.model: Any
        self.hurried = False
        # How long a step takes is not known yet.
        start, per_step = self._fit(_PATHS[0][0], FEWEST_STEPS, x, y, None, allowance)
        self.model, least = start, np.inf
        for path in _PATHS:
            for strength in path:
                steps = _steps(allowance, per_step)
                self.hurried |= steps < MOST_STEPS
                if steps < FEWEST_STEPS:
                    return
                start, took = self._fit(strength, steps, x, y, start, allowance)
                per_step = max(per_step, took)
                loss = _log_loss(start, x[1], y[1])
                if loss >= least:
                    break
                self.model, least = start, loss
            if path[0] != self.model.C:
                return

    @property
    def call(self) -> str:
        """How to make the same model."""
        return f"LogisticRegression(C={self.model.C:g}, max_iter={MOST_STEPS})"

    def _fit(  # noqa: PLR0913, PLR0917 -- the state of the loop
        self,
        strength: float,
        steps: int,
        x: tuple[Any, Any, Any],
        y: list[np.ndarray],
        start: Any,
        allowance: Allowance,
    ) -> tuple[Any, float]:
        """A model that goes on from another, and the seconds of each of its steps."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=strength, max_iter=steps, warm_start=True)
        if start is not None:
            model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
            model.classes_ = start.classes_
        before = allowance.left
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # steps are bounded on purpose
            model.fit(x[0], y[0])
        return model, (before - allowance.left) / max(1, int(model.n_iter_.max()))


def _steps(allowance: Allowance, per_step: float) -> int:
    """Steps that are likely to fit half of what is left; each is slower as penalties weaken."""
    if per_step <= 0:
        return MOST_STEPS
    return min(MOST_STEPS, int(max(0.0, allowance.left) / (2 * per_step)))


def _log_loss(model: Any, x: Any, y: np.ndarray) -> float:
    """Mean negative logarithm of the shares of the true classes that training has seen."""
    known = np.flatnonzero(np.isin(y, model.classes_))
    if not len(known):
        return 0.0
    chosen = model.predict_proba(x)[known, np.searchsorted(model.classes_, y[known])]
    return float(-np.log(np.maximum(chosen, _LEAST_SHARE)).mean())


def _labels(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    """One logistic regression for each label; they share the time."""
    width = given.y[0].shape[1]
    shares = np.empty((given.x[2].shape[0], width))
    hurried, call = False, ""
    for i in range(width):
        label = [part[:, i].astype(np.int64) for part in given.y]
        if len(np.unique(label[0])) == 1:
            shares[:, i] = contest.codec.priors()[i]
            continue
        fitted = _Logistic(given.x, label, Allowance(allowance.left / (width - i)))
        shares[:, i] = fitted.model.predict_proba(given.x[2])[:, 1]
        hurried |= fitted.hurried
        call = f"OneVsRestClassifier({fitted.call})"
    return _made(given, as_outputs(contest.codec, shares), call, hurried=hurried)


def _ridge(contest: Contest, allowance: Allowance, given: Matrices) -> Made:
    """Encoded values from the ridge regression with the least validation error."""
    from sklearn.linear_model import Ridge

    y = [part.reshape(len(part), -1) for part in given.y]
    best, least, slowest, hurried = None, np.inf, 0.0, False
    for strength in STRENGTHS:
        before = allowance.left
        if slowest > before:
            hurried = True
            break
        with warnings.catch_warnings():
            # Features that say the same under a weak penalty.
            warnings.filterwarnings("ignore", message="Ill-conditioned matrix")
            model = Ridge(alpha=1.0 / strength).fit(given.x[0], y[0])
        slowest = max(slowest, before - allowance.left)
        guessed = np.asarray(model.predict(given.x[1])).reshape(y[1].shape)
        error = float(np.mean(np.square(guessed - y[1])))
        if best is None or error < least:
            best, least = model, error
    assert best is not None
    outputs = np.asarray(best.predict(given.x[2])).reshape(given.x[2].shape[0], -1)
    call = f"Ridge(alpha={best.alpha:g})"
    if contest.codec.transform == "log1p_standardize":
        call = f"TransformedTargetRegressor({call}, func=np.log1p, inverse_func=np.expm1)"
    return _made(given, outputs, call, hurried=hurried)
