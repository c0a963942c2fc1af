"""A configuration trained again: from other seeds, or on other parts of the same rows."""

from __future__ import annotations

import hashlib
import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from smarttune.data import Split
from smarttune.data.series import SeriesContent
from smarttune.execution import fit_arrays
from smarttune.training import WindowedStopping
from smarttune.training.averaging import AveragedWeights
from smarttune.training.determinism import seed_everything
from smarttune.trials import TrialRecord
from smarttune.tuning.adapting import DECLINED, LENGTH, adaptations
from smarttune.tuning.budget import Clock
from smarttune.tuning.folding import chained_folds, grouped_folds, shuffled_folds
from smarttune.tuning.planning import batch_size_of
from smarttune.tuning.policy import TrialPlan, TrialPolicy
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.recording import is_out_of_memory
from smarttune.tuning.run import Run
from smarttune.tuning.watching import DIVERGED, TIME_LIMIT, TrialWatcher, guard_of

Kind = Literal["seed", "fold"]

# Kinds of data whose samples follow each other, so that a shuffled fold would know the future.
_ORDERED_PROBLEMS = ("forecasting", "language_model", "char_language_model")
_STRATIFIED = ("binary", "multiclass")


@dataclass(frozen=True)
class Repetition:
    """One way in which every finalist is trained again.

    Attributes:
        kind: By another seed alone, or also on another fold.
        number: Counted from 1.
        seed: Seeds weights, dropout and the order of the data, the same for all finalists.
        split: Training and validation rows; None for those of the search.
    """

    kind: Kind
    number: int
    seed: int
    split: Split | None = None

    def name(self, trial_id: str) -> str:
        """What the training of a trial in this way is called."""
        return f"{trial_id}-{self.kind}{self.number}"


def repetitions_of(job: SearchJob) -> tuple[Repetition, ...]:
    """The ways that the rules recommend: folds where one split is too few rows, else seeds."""
    value = job.recommendation.value
    folds = folds_of(job, int(value("data.num_folds", 1)))
    if folds:
        return tuple(
            Repetition("fold", i, _seed(job.seed, i), fold) for i, fold in enumerate(folds, start=1)
        )
    num_seeds = int(value("search.num_confirmation_seeds", 0))
    return tuple(Repetition("seed", i, _seed(job.seed, i)) for i in range(1, num_seeds + 1))


def folds_of(job: SearchJob, num_folds: int) -> tuple[Split, ...]:
    """Divide training and validation rows into folds; the test rows stay out of all of them.

    Args:
        job: The search.
        num_folds: Folds; 1 means none.

    Returns:
        Folds that go forward in time where rows are ordered, and never part a group; none where
        there are not two.
    """
    if num_folds <= 1:
        return ()
    rows = np.sort(np.concatenate([job.split.train, job.split.validation]))
    content = job.dataset.content
    if isinstance(content, SeriesContent):
        return chained_folds(rows, content.places[rows], num_folds, horizon=content.horizon)
    if job.problem in _ORDERED_PROBLEMS or job.recommendation.facts.value("data.time_ordered"):
        return chained_folds(rows, rows, num_folds)
    if job.dataset.groups is not None:
        labels = job.dataset.groups.iloc[rows].to_numpy()
        return grouped_folds(rows, labels, num_folds, seed=job.seed)
    return shuffled_folds(rows, num_folds, seed=job.seed, classes=_classes(job, rows))


def _classes(job: SearchJob, rows: np.ndarray) -> np.ndarray | None:
    target = job.dataset.target
    stratify = bool(job.recommendation.value("data.stratify", True))
    if not stratify or job.problem not in _STRATIFIED or not isinstance(target, pd.Series):
        return None
    return np.asarray(pd.factorize(target.iloc[rows])[0])


def _seed(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed}/repeat/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def job_on(job: SearchJob, split: Split, known: Mapping[str, Any] | None = None) -> SearchJob:
    """The same search on other rows.

    Args:
        job: The search.
        split: Its parts; preprocessing and target encoding are learnt from the training rows.
        known: What shall be taken over in their place, by name of the attribute.
    """
    other = replace(job)
    other.__dict__.update({"split": split, **(known or {})})
    return other


def as_trained(job: SearchJob, run: Run, record: TrialRecord) -> SearchJob:
    """The same search with the length of a full training that held when a trial was trained."""
    before = [r.trial_id for r in run.log].index(record.trial_id)
    lengths = [
        int(event["after"]["value"])
        for event in adaptations(run.path)
        if event["hyperparameter"] == LENGTH
        and event["event"] != DECLINED
        and event["num_trials"] <= before
    ]
    if not lengths or lengths[-1] == job.max_epochs:
        return job
    kept: dict[str, Any] = {"preprocessor": job.preprocessor, "codec": job.codec}
    kept |= {"training_data": job.training_data, "max_epochs": lengths[-1]}
    return job_on(job, job.split, kept)


def repeated(
    job: SearchJob, record: TrialRecord, repetition: Repetition, clock: Clock
) -> TrialRecord | None:
    """Train the configuration of a trial again, from the first epoch to its last.

    Args:
        job: The search, on the rows of the repetition and of the trial's length.
        record: The trial; as many epochs are allowed as it had.
        repetition: How.
        clock: Tells when training must stop.

    Returns:
        What came of it; None if the time was up before its end, for then it cannot be compared.
    """
    began, started = time.monotonic(), time.time()
    policy, epochs = job.policy(), _epochs_of(record)
    watcher = watcher_of(job, record, repetition.seed, epochs, policy=policy, clock=clock)
    details: dict[str, Any]
    try:
        model = trained(job, record, repetition.seed, epochs, policy=policy, watcher=watcher)
    except Exception as error:  # noqa: BLE001 -- a trial that fails when repeated is a finding
        details = {
            "outcome": "out_of_memory" if is_out_of_memory(error) else "failed",
            "message": "".join(traceback.format_exception(error)),
        }
    else:
        if watcher.ended_by == TIME_LIMIT:
            return None
        details = _outcome(watcher, model)
    return TrialRecord(
        trial_id=repetition.name(record.trial_id),
        values=record.values,
        max_epochs=epochs,
        seed=repetition.seed,
        is_default=record.is_default,
        num_micro_batches=record.num_micro_batches,
        seconds=time.monotonic() - began,
        started=started,
        repeat_of=record.trial_id,
        fold=repetition.number if repetition.split is not None else None,
        **details,
    )


def _epochs_of(record: TrialRecord) -> int:
    """Epochs that it was allowed; where the time was up, those that it had."""
    return record.num_epochs if record.message == TIME_LIMIT else record.max_epochs


def _outcome(watcher: TrialWatcher, model: Any) -> dict[str, Any]:
    diverged = watcher.ended_by.startswith(DIVERGED)
    return {
        "outcome": "diverged" if diverged else "stopped" if watcher.ended_by else "completed",
        "message": watcher.ended_by,
        "score": None if diverged else watcher.best_score,
        "best_epoch": watcher.best_epoch,
        "num_epochs": len(watcher.curve),
        "curve": tuple(watcher.curve),
        "num_parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "samples_per_second": watcher.samples_per_second,
        "initial_loss": watcher.guard.initial_loss,
    }


def watcher_of(  # noqa: PLR0913 -- a training and what ends it
    job: SearchJob,
    record: TrialRecord,
    seed: int,
    epochs: int,
    *,
    policy: TrialPolicy,
    clock: Clock,
) -> TrialWatcher:
    """Watch a training as the search watched the trial; a policy without patience never stops."""
    num_samples = len(job.training_data.y)
    stopping = None
    if policy.patience is not None:
        stopping = WindowedStopping(
            policy.patience,
            policy.window,
            job.objective.direction,
            statistic=policy.statistic,
            noise_factor=policy.noise_factor,
        )
    plan = TrialPlan(None, range(epochs), seed, record.num_micro_batches)
    return TrialWatcher(
        job.objective,
        stopping=stopping,
        clock=clock,
        deadline=clock.deadline(shared=False),
        on_epoch=lambda epoch, logs: None,
        guard=guard_of(plan, policy.max_epochs, batch_size_of(record.values), num_samples),
        num_samples=num_samples,
    )


def trained(  # noqa: PLR0913 -- as above
    job: SearchJob,
    record: TrialRecord,
    seed: int,
    epochs: int,
    *,
    policy: TrialPolicy,
    watcher: TrialWatcher,
) -> Any:
    """Build the network of a trial anew and train it on the rows of a job.

    Returns:
        The model after its last epoch.
    """
    seed_everything(seed)
    hypermodel, parts = job.hypermodel(), record.num_micro_batches
    hypermodel.prepare(seed, parts)
    model = hypermodel.build_from(record.values)
    extra = policy.extra_callbacks(record.values) if policy.extra_callbacks else []
    grow = policy.growth
    watcher.averages = any(isinstance(c, AveragedWeights) for c in extra)
    fit_arrays(
        model,
        job.training_data,
        batch_size=batch_size_of(record.values) // parts,
        growth=grow(record.values, parts, policy.max_epochs) if grow else None,
        seed=seed,
        epochs=range(epochs),
        sample_weight=policy.sample_weight(record.values) if policy.sample_weight else None,
        callbacks=[watcher, *extra],
    )
    return model
