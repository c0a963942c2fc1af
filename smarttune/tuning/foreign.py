"""What code of the user's own is handed and hands back, in KerasTuner's forms.

A `HyperModel.fit` of his may take fewer arguments than `Model.fit`, may tell the objective
only when it returns, or may train in a loop of its own; a `run_trial` of his may return a
number, a dictionary, a history or a list of them.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.src.engine import tuner_utils

from smarttune.objectives import Objective
from smarttune.training.checkpoint import state_of
from smarttune.trials import TrialRecord
from smarttune.tuning.policy import TrialPlan
from smarttune.tuning.watching import TrialWatcher


class ForeignWatcher(TrialWatcher):
    """Follows a training that the user may have written, whose objective may come at its end.

    Attributes:
        may_be_late: Whether `fit` is the user's own, which may return the objective.
    """

    may_be_late = False

    def inherit(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Take over the epochs of a parent, whose curve may not hold the objective."""
        if all(self.objective.name in logs for logs in curve):
            super().inherit(curve)
        else:
            self.curve.extend(dict(logs) for logs in curve)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch, with or without the objective."""
        if self.objective.name in (logs or {}) or not self.may_be_late:
            super().on_epoch_end(epoch, logs)
            return
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.curve.append(values)
        if not math.isfinite(values.get("loss", 0.0)):
            self._diverged(f"the loss is not a finite number in epoch {epoch + 1}")
        self.notify(len(self.curve), values)

    def settle(self, result: Any, model: Any, measure: Any) -> None:
        """Take the score that a `fit` of the user's returned; it counts more than the curve.

        Args:
            result: What it returned.
            model: The model that it trained.
            measure: KerasTuner's objective.

        Raises:
            FatalTypeError: If it returned no metrics and told none while it trained.
            OptionError: If the objective was not among what it told.
        """
        if self.curve and (result is None or isinstance(result, keras.callbacks.History)):
            if self.best_score is None and not self.ended_by:
                super().on_epoch_end(len(self.curve), self.curve[-1])  # says what is missing
            return
        metrics = metrics_of(result, measure, "HyperModel.fit()")
        score = metrics.pop(self.objective.name)
        if score != self.best_score:
            for logs in self.curve:  # the epochs were measured in another way
                logs.pop(self.objective.name, None)
            self.best_score, self.best_epoch = score, len(self.curve) or None
        if self.curve:
            self.curve[-1] |= metrics
        if not math.isfinite(score):
            self._diverged("the score that `fit` returned is not a finite number")
        if self.best_weights is None:
            self.best_weights = state_of(model, optimizer=False)


def metrics_of(result: Any, measure: Any, where: str) -> dict[str, float]:
    """The metrics in what a user's method returned, the objective among them.

    Args:
        result: A number, a dictionary, a history, or a list of them, which is averaged.
        measure: KerasTuner's objective.
        where: The method, for the error.

    Raises:
        FatalTypeError: If it is nothing of these.
    """
    several = hasattr(measure, "name_to_direction")
    if several and isinstance(result, dict) and measure.has_value(result):
        result = {**result, measure.name: measure.get_value(result)}
    tuner_utils.validate_trial_results(result, measure, where)
    metrics = tuner_utils.convert_to_metrics_dict(result, measure)
    numbers = (int, float, np.number)
    return {name: float(value) for name, value in metrics.items() if isinstance(value, numbers)}


def has_own_fit(hypermodel: Any) -> bool:
    """Whether the user wrote, or something wrapped, the `fit` of a hypermodel."""
    own = getattr(hypermodel.fit, "__func__", hypermodel.fit)
    return own is not keras_tuner.HyperModel.fit


def accepted(fit: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments that a `fit` takes.

    Args:
        fit: The method of a hypermodel.
        arguments: What the tuner would add to the user's own arguments.
    """
    if isinstance(fit, partial):  # that of a `smarttune.HyperModel`
        fit = fit.args[0]
    parameters = inspect.signature(fit).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def executions(plan: TrialPlan, count: int) -> list[TrialPlan]:
    """The plan of each execution of a trial: from seeds of their own.

    A promoted trial goes on from the best of its parent's executions, once.
    """
    if plan.parent is not None:
        return [plan]
    return [plan, *(replace(plan, seed=_seed(plan.seed, k)) for k in range(1, count))]


def averaged(records: Sequence[TrialRecord], objective: Objective) -> TrialRecord:
    """One record of several executions: mean score and curve, model and seed of the best."""
    if len(records) == 1:
        return records[0]
    sign = -1.0 if objective.direction == "max" else 1.0
    best = min(records, key=lambda r: sign * (r.score or 0.0))
    return best.model_copy(
        update={
            "score": float(np.mean([r.score for r in records if r.score is not None])),
            "curve": _mean_curve([r.curve for r in records], len(best.curve)),
            "seconds": sum(r.seconds for r in records),
            "started": records[0].started,
        }
    )


def _mean_curve(
    curves: Sequence[Sequence[Mapping[str, float]]], length: int
) -> tuple[dict[str, float], ...]:
    """Means epoch by epoch, over the curves that reach it."""
    means = []
    for epoch in range(length):
        logs = [curve[epoch] for curve in curves if epoch < len(curve)]
        means.append(
            {
                name: float(np.mean([entry[name] for entry in logs if name in entry]))
                for name in dict.fromkeys(name for entry in logs for name in entry)
            }
        )
    return tuple(means)


def _seed(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed}/execution/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
