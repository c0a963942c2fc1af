"""Trial records: what is kept of a trial, in the words of KerasTuner and of ours."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from typing import Any

from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError, FatalError

from smarttune.errors import SmartTuneError
from smarttune.objectives import Objective
from smarttune.oracles import NO_BRACKET
from smarttune.space import Value
from smarttune.trials import TrialRecord
from smarttune.tuning.costs import COSTS, goal_of
from smarttune.tuning.policy import TrialPlan, TrialTask

# Hyperparameters by which KerasTuner's oracles keep their books.
BOOKKEEPING = "tuner/"

# ours: epochs of a curve that an oracle hears of stand in this ratio. Each report costs an oracle
# about as much as a proposal of random search.
REPORTED_RATIO = 1.25


def configuration(trial: Trial | TrialTask) -> dict[str, Value]:
    """The hyperparameters of a trial without bookkeeping."""
    return {
        name: value
        for name, value in trial.hyperparameters.values.items()
        if not name.startswith(BOOKKEEPING)
    }


def is_another(trial: Trial, record: TrialRecord) -> bool:
    """Whether a proposal is not the one that a record was made of."""
    parent = trial.hyperparameters.values.get("tuner/trial_id", record.parent)
    # A record has no parent where the parent's state was gone.
    return configuration(trial) != record.values or (record.parent or parent) != parent


def bookkeeping(trial: Trial, record: TrialRecord) -> dict[str, Value]:
    """What the record says of rungs, in the words of an oracle that has some."""
    proposed = trial.hyperparameters.values
    if "tuner/epochs" not in proposed:
        return {n: v for n, v in proposed.items() if n.startswith(BOOKKEEPING)}
    steer: dict[str, Value] = {
        "tuner/epochs": record.max_epochs,
        "tuner/initial_epoch": record.initial_epoch,
        "tuner/bracket": NO_BRACKET if record.bracket is None else record.bracket,
        "tuner/round": record.rung,
    }
    return steer if record.parent is None else {**steer, "tuner/trial_id": record.parent}


def record_of(
    trial: Trial | TrialTask, plan: TrialPlan, default: Mapping[str, Value], **details: Any
) -> TrialRecord:
    """The record of a trial.

    Args:
        trial: The oracle's trial, or its task.
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


def reported(record: TrialRecord, goal: Objective) -> list[tuple[int, float]]:
    """Some epochs of a scored trial's lineage and their scores.

    Strategies that look at curves need them at a few epochs, each a quarter later than the one
    before; the best epoch and the last are always among them.
    """
    curve = [logs.get(goal.name, math.nan) for logs in record.curve]
    best = record.best_epoch or 0
    scores = {best: float(record.score or 0.0)}
    epoch = 1
    while epoch < len(curve):
        scores.setdefault(epoch, curve[epoch - 1])
        epoch = max(epoch + 1, round(epoch * REPORTED_RATIO))
    if curve:
        scores.setdefault(len(curve), curve[-1])
    return [(e, s) for e, s in sorted(scores.items()) if math.isfinite(s)]


def told(record: TrialRecord, goal: Objective, oracle: Any) -> list[tuple[int, dict[str, float]]]:
    """What an oracle is told of a scored trial: epochs of its lineage, and metrics by name.

    Beside the score these are the further objectives, costs included, and what the oracle says
    in `listens_to` that it reads. All of it comes from the record, so that a resumed search
    tells what was told before.
    """
    parts = [o.name for o in getattr(oracle.objective, "objectives", ())]
    names = [n for n in (*parts, *getattr(oracle, "listens_to", ())) if n != goal.name]
    steps = []
    for epoch, score in reported(record, goal):
        metrics = {goal.name: score}
        for name in names:
            value = _metric(record, epoch, name)
            if value is not None or name in parts:
                metrics[name] = math.nan if value is None else float(value)
        if parts:  # KerasTuner's own oracles rank by the sum under its name
            metrics[oracle.objective.name] = oracle.objective.get_value(metrics)
        steps.append((epoch, metrics))
    return steps


def _metric(record: TrialRecord, epoch: int, name: str) -> float | None:
    if name in COSTS:
        return COSTS[name].of(record)
    return record.curve[epoch - 1].get(name) if 0 < epoch <= len(record.curve) else None


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
        score=float(metrics[goal_of(objective).name]),
        num_parameters=metrics.get("num_parameters"),
        latency=metrics.get("latency"),
        best_epoch=tuner_utils.get_best_step(result, objective),
        num_epochs=plan.epochs.stop,
        started=time.time(),
    )


def crashed(
    trial: Trial | TrialTask,
    plan: TrialPlan,
    default: Mapping[str, Value],
    error: Exception | str,
    measured: tuple[float, float] | None = None,
) -> TrialRecord:
    """The record of a trial that an exception ended, or of which a message says what did.

    Args:
        trial: The oracle's trial, or its task.
        plan: What was to be trained.
        default: The recommended configuration.
        error: What went wrong.
        measured: When it began: by the monotonic clock, and in seconds since the epoch.
    """
    began, started = measured or (time.monotonic(), time.time())
    said = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    out_of_memory = not isinstance(error, str) and is_out_of_memory(error)
    return record_of(
        trial,
        plan,
        default,
        outcome="out_of_memory" if out_of_memory else "failed",
        message=said,
        num_epochs=plan.epochs.start,
        seconds=time.monotonic() - began,
        started=started,
    )


def is_fatal(error: Exception, *, is_first: bool) -> bool:
    """Whether an error ends the search: the user can mend it, or nothing ever worked.

    Args:
        error: What a trial raised.
        is_first: Whether no trial has ended yet, and this one will not be run again.
    """
    if isinstance(error, FailedTrialError):
        return False
    if isinstance(error, (SmartTuneError, FatalError)):
        return True
    return is_first and not is_out_of_memory(error)


def may_be_retried(record: TrialRecord) -> bool:
    """Whether another run of a trial may help; who raises `FailedTrialError` says that none would."""
    return record.outcome == "failed" and FailedTrialError.__name__ not in record.message


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the machine ran out of memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )
