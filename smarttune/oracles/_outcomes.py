"""How an oracle answers, and how it reads what became of a trial.

KerasTuner knows completed and failed trials. A trial whose objective is not a
finite number did not crash: it *diverged*. It ends as failed for KerasTuner,
with a message that starts with `DIVERGED`, so that it is never the best, never
stops the search, and can still be told apart from a crash.
"""

from __future__ import annotations

import math
from typing import Any

from keras_tuner.engine.metrics_tracking import infer_metric_direction
from keras_tuner.engine.trial import TrialStatus

from smarttune.errors import RunError
from smarttune.oracles._domain import Values

# What `populate_space` returns: {"status": ..., "values": ...}.
Proposal = dict[str, Any]

# First word of the message of a trial that diverged; a tuner that stops a trial
# because its loss is no number may send it too.
DIVERGED = "diverged:"

# Message of a completed trial that the clock cut before its epochs were trained.
CUT_SHORT = "cut short by the time limit"


class ConsecutiveFailuresError(RunError, RuntimeError):
    """Trials crash one after the other.

    A `RuntimeError` as well, which is what KerasTuner raises here.
    """

    def __init__(self, limit: int, message: str | None) -> None:
        super().__init__(
            "search",
            received=f"Number of consecutive crashed trials reached the limit of {limit}; "
            f"the last one said: {(message or 'nothing').strip()}",
            expected="trials that can be built and trained",
            mend="Mend the error, or raise max_consecutive_failed_trials.",
        )


def running(values: Values) -> Proposal:
    """Propose a configuration."""
    return {"status": TrialStatus.RUNNING, "values": values}


def idle() -> Proposal:
    """Ask the tuner to come back: the next proposal depends on a trial that runs."""
    return {"status": TrialStatus.IDLE, "values": None}


def stopped() -> Proposal:
    """End the search."""
    return {"status": TrialStatus.STOPPED, "values": None}


def idle_or_stopped(waiting: bool) -> Proposal:
    """Return `idle()` while something is awaited, else `stopped()`."""
    return idle() if waiting else stopped()


def is_completed(trial: Any) -> bool:
    """Whether the trial has a score."""
    return bool(trial.status == TrialStatus.COMPLETED and trial.score is not None)


def has_failed(trial: Any) -> bool:
    """Whether the trial ended without a score, for whatever reason."""
    return bool(trial.status == TrialStatus.FAILED)


def is_over(trial: Any) -> bool:
    """Whether the trial will not be run again."""
    return trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)


def has_diverged(trial: Any) -> bool:
    """Whether the trial failed because its objective was not a finite number."""
    return has_failed(trial) and (trial.message or "").startswith(DIVERGED)


def has_crashed(trial: Any) -> bool:
    """Whether the trial failed for another reason."""
    return has_failed(trial) and not has_diverged(trial)


def direction(metric: str, objective: Any) -> str:
    """Return "min" or "max" for a metric; for one that is no objective, as far as known."""
    if metric == objective.name:
        return str(objective.direction)
    parts = getattr(objective, "name_to_direction", {})
    if metric in parts:
        return str(parts[metric])
    try:
        return infer_metric_direction(metric) or "min"
    except TypeError:  # KerasTuner builds the metric to see, and some need arguments
        return "min"


def best_score(metrics: Any, objective: Any) -> tuple[float, int] | None:
    """Return the best finite value of the objective and its step.

    Args:
        metrics: A trial's `MetricsTracker`.
        objective: A KerasTuner `Objective`.

    Returns:
        The value and its step, (nan, step) if no value is finite, None if there is none.
    """
    values = objective_by_step(metrics, objective)
    if not values:
        return None
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    if not finite:
        return math.nan, max(values)
    choose = max if objective.direction == "max" else min
    step = choose(finite, key=finite.__getitem__)
    return finite[step], step


def objective_by_step(metrics: Any, objective: Any) -> dict[int, float]:
    """Return the objective at each reported step, as it was reported."""
    if metrics.exists(objective.name):
        return _means(metrics, objective.name)
    # A sum of objectives may be reported by its parts alone.
    parts = getattr(objective, "name_to_direction", {})
    if not parts or not all(metrics.exists(name) for name in parts):
        return {}
    by_name = {name: _means(metrics, name) for name in parts}
    steps = set.intersection(*(set(means) for means in by_name.values()))
    return {
        step: float(objective.get_value({name: by_name[name][step] for name in parts}))
        for step in sorted(steps)
    }


def _means(metrics: Any, name: str) -> dict[int, float]:
    return {o.step: float(o.mean()) for o in metrics.get_history(name)}
