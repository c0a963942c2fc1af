"""Trial records: what is kept of a trial, in the words of KerasTuner and of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from keras_tuner.engine.trial import Trial

from smarttune.space import Value
from smarttune.trials import TrialRecord
from smarttune.tuning.policy import TrialPlan

# Hyperparameters by which KerasTuner's oracles keep their books.
BOOKKEEPING = "tuner/"


def configuration(trial: Trial) -> dict[str, Value]:
    """The hyperparameters of a trial without bookkeeping."""
    return {
        name: value
        for name, value in trial.hyperparameters.values.items()
        if not name.startswith(BOOKKEEPING)
    }


def record_of(
    trial: Trial, plan: TrialPlan, default: Mapping[str, Value], **details: Any
) -> TrialRecord:
    """The record of a trial.

    Args:
        trial: The oracle's trial.
        plan: What was to be trained.
        default: The recommended configuration.
        **details: What came of it.
    """
    values = configuration(trial)
    bookkeeping = trial.hyperparameters.values
    bracket = bookkeeping.get("tuner/bracket")
    return TrialRecord(
        trial_id=trial.trial_id,
        values=values,
        initial_epoch=plan.epochs.start,
        max_epochs=plan.epochs.stop,
        parent=None if plan.parent is None else plan.parent.trial_id,
        rung=int(bookkeeping.get("tuner/round") or 0),
        bracket=bracket if bracket is not None and bracket >= 0 else None,
        is_default=bool(default) and all(default.get(n) == v for n, v in values.items()),
        seed=plan.seed,
        num_micro_batches=plan.num_micro_batches,
        **details,
    )


def record_of_result(
    trial: Trial, plan: TrialPlan, default: Mapping[str, Value], objective: Any, result: Any
) -> TrialRecord:
    """The record of what an overridden `run_trial` returned in KerasTuner's forms."""
    from keras_tuner.src.engine import tuner_utils

    tuner_utils.validate_trial_results(result, objective, "Tuner.run_trial()")
    metrics = tuner_utils.convert_to_metrics_dict(result, objective)
    return record_of(
        trial,
        plan,
        default,
        outcome="completed",
        score=float(metrics[objective.name]),
        best_epoch=tuner_utils.get_best_step(result, objective),
        num_epochs=plan.epochs.stop,
        started=time.time(),
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the machine ran out of memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )
