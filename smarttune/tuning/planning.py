"""What a trial shall train, decided from the trials before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_tuner.engine.trial import Trial

from smarttune.models.modality import of_family
from smarttune.trials import TrialRecord
from smarttune.tuning.budget import Budget
from smarttune.tuning.policy import TrialPlan, TrialPolicy


def plan_of(
    trial: Trial,
    parent: TrialRecord | None,
    log: Sequence[TrialRecord],
    *,
    policy: TrialPolicy,
    budget: Budget,
    epochs: int | None = None,
) -> TrialPlan:
    """The epochs, the seed and the cut of a trial.

    Args:
        trial: The oracle's trial.
        parent: The trial that it continues, if its state is there.
        log: Finished trials.
        policy: How trials are trained.
        budget: What may still be spent.
        epochs: Epochs of a trial where the oracle gives none.
    """
    values = trial.hyperparameters.values
    last = int(values.get("tuner/epochs") or epochs or policy.max_epochs)
    first = 0 if parent is None else parent.num_epochs
    if budget.epochs is not None:
        trained = sum(r.num_epochs - r.initial_epoch for r in log)
        last = min(last, first + max(1, budget.epochs - trained))
    return TrialPlan(
        parent,
        range(first, max(first, last)),
        _seed(trial, log, policy.seed),
        parent.num_micro_batches if parent else _num_micro_batches(values, log),
    )


def _seed(trial: Trial, log: Sequence[TrialRecord], seed: int) -> int:
    """The seed of a trial and of all that continue it, with or without a parent's state."""
    parent = trial.hyperparameters.values.get("tuner/trial_id")
    for record in log:
        if record.trial_id == parent:
            return record.seed
    digest = hashlib.sha256(f"{seed}/trial/{int(trial.trial_id)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def batch_size_of(values: Mapping[str, Any]) -> int:
    """The batch size of a configuration, whose name may carry its family; 1 without one."""
    return int(of_family(values).get("training.batch_size", 1))


def _num_micro_batches(values: Mapping[str, Any], log: Sequence[TrialRecord]) -> int:
    """Parts into which a batch must be cut, going by the trials that ran out of memory."""
    same = [r for r in log if r.values.get("model.family") == values.get("model.family")]
    fitting = min(
        (batch_size_of(r.values) // r.num_micro_batches for r in same if r.num_micro_batches > 1),
        default=None,
    )
    batch_size, parts = batch_size_of(values), 1
    while fitting is not None and batch_size // parts > max(fitting, 1):
        parts *= 2
    return parts
