"""A KerasTuner tuner whose trials are kept in a run instead of KerasTuner's own files."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.src.engine import tuner_utils

from smarttune.objectives import Direction, Objective
from smarttune.oracles.directions import known_direction
from smarttune.training import restore_state
from smarttune.training.checkpoint import set_state
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.checkpoints import KEPT_MODELS, build_like
from smarttune.tuning.costs import goal_of
from smarttune.tuning.foreign import metrics_of
from smarttune.tuning.policy import TrialPlan, TrialPolicy, TrialTask
from smarttune.tuning.recording import crashed, is_fatal, may_be_retried, record_of_result
from smarttune.tuning.run import Run
from smarttune.tuning.watching import DIVERGED

# ours: of metrics that nobody knows the one report is also the best.
_UNKNOWN: Direction = "min"

# What a subclass may override to hear of steps and epochs.
_TRAINING_HOOKS = ("on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end")


class RecordedTuner(keras_tuner.Tuner):  # type: ignore[misc]
    """What can be had of finished trials, and what KerasTuner need not do for them.

    Attributes:
        run: Where the trials are kept.
        goal: What ranks them.
        records: Finished trials by their ids.
    """

    run: Run
    goal: Objective
    policy: TrialPolicy
    records: dict[str, TrialRecord]

    _retries_left = 0

    def _plan(self, trial: Trial, epochs: int | None) -> TrialPlan:
        raise NotImplementedError

    @property
    def log(self) -> TrialLog:
        """All finished trials."""
        return TrialLog(self.goal, tuple(self.records.values()))

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """The best models, at most one of each lineage of promotions.

        No more than the run keeps, unless a subclass loads its models itself.
        """
        if type(self).load_model is RecordedTuner.load_model:
            num_models = min(num_models, KEPT_MODELS)
        best = self.log.ranked()[:num_models]
        return [self.load_model(self.oracle.get_trial(r.trial_id)) for r in best]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Any]:
        """The best configurations, at most one of each lineage of promotions."""
        best = self.log.ranked()[:num_trials]
        return [self.oracle.get_trial(r.trial_id).hyperparameters for r in best]

    def load_model(self, trial: Trial) -> Any:
        """Build a trial's model with the weights of its best epoch."""
        path = self.run.best_weights_path(trial.trial_id)
        if not path.exists() and Path(self._get_checkpoint_fname(trial.trial_id)).exists():
            return super().load_model(trial)  # a `run_trial` of the user's saved it there
        if hasattr(self.hypermodel, "prepare"):
            self.hypermodel.prepare(self.records[trial.trial_id].seed)
        model = self._build_hypermodel(trial.hyperparameters)
        build_like(self.run, model, trial.trial_id)
        set_state(model, restore_state(path), optimizer=False)
        return model

    # Code of the user's.

    def _attempted(
        self, trial: Trial, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> TrialRecord:
        """Run a trial, again if it crashes and the oracle allows it; it has one record."""
        for left in range(self.oracle.max_retries_per_trial, -1, -1):
            self._retries_left = left
            began = time.monotonic(), time.time()
            try:
                result = self.run_trial(trial, *args, **kwargs)
                record = self._record_of(trial, result)
            except Exception as error:
                if is_fatal(error, is_first=not self.records and not left):
                    raise
                plan = self._plan(trial, None)
                record = crashed(trial, plan, self.policy.default, error, began)
            if not may_be_retried(record):
                break
        return record

    def _added(self, trial: Trial, plan: TrialPlan, *, epochs_given: bool) -> dict[str, Any]:
        """Arguments of `fit` beside those that `search` was given."""
        del trial, epochs_given
        return {"verbose": 0, "initial_epoch": plan.epochs.start, "epochs": plan.epochs.stop}

    def _dressed(self, task: TrialTask, callbacks: list[Any]) -> list[Any]:
        """The callbacks of a `fit` of the user's, with what KerasTuner adds to them."""
        trial = self.oracle.get_trial(task.trial_id)
        dressed = [*callbacks, *self._hooks(trial)]
        self._redirect(dressed, trial)
        return dressed

    # What KerasTuner calls on the way.

    def _hooks(self, trial: Trial) -> list[Any]:
        """A callback that calls the methods which a subclass overrides, if it does."""
        stock = keras_tuner.Tuner
        own = (getattr(type(self), name) is not getattr(stock, name) for name in _TRAINING_HOOKS)
        return [tuner_utils.TunerCallback(self, trial)] if any(own) else []

    def _redirect(self, callbacks: list[Any], trial: Trial) -> None:
        """Give each trial a folder of its own under that of a `TensorBoard` callback."""
        if any(type(callback).__name__ == "TensorBoard" for callback in callbacks):
            self._configure_tensorboard_dir(callbacks, trial)

    def _everything(
        self, record: TrialRecord, epoch: int, metrics: dict[str, float]
    ) -> dict[str, float]:
        """What the oracle keeps of an epoch: of the best one all that was logged.

        The directions are said here, because KerasTuner builds a metric to find out.
        """
        if epoch == record.best_epoch and epoch <= len(record.curve):
            metrics = {**record.curve[epoch - 1], **metrics}
        known = self.oracle.get_trial(record.trial_id).metrics
        parts = getattr(self.oracle.objective, "name_to_direction", {})
        said = {**parts, self.oracle.objective.name: self.oracle.objective.direction}
        for name in metrics:
            if not known.exists(name):
                known.register(name, direction=said.get(name) or known_direction(name) or _UNKNOWN)
        return metrics

    def _record_of(self, trial: Trial, result: Any) -> TrialRecord:
        """The record of what `run_trial` returned, in our form or one of KerasTuner's."""
        if isinstance(result, TrialRecord):
            return result
        objective = self.oracle.objective
        told = self.oracle.get_trial(trial.trial_id).metrics
        if result is None and told.exists(objective.name):  # an older way to report
            result = told.get_best_value(objective.name)
        metrics = metrics_of(result, objective, "Tuner.run_trial()")
        plan = self._plan(trial, None)
        record = record_of_result(trial, plan, self.policy.default, objective, metrics)
        if not math.isfinite(metrics[self.goal.name]):
            message = f"{DIVERGED} the score that `run_trial` returned is not a finite number"
            return record.model_copy(
                update={"outcome": "diverged", "score": None, "message": message}
            )
        return record.model_copy(update={"curve": (metrics,), "best_epoch": 1})

    def _populate_initial_space(self) -> None:
        """Spare a model that declares all its hyperparameters the builds that find them."""
        if getattr(self.hypermodel, "declares_everything", False):
            hp = self.oracle.get_space()
            self.hypermodel.declare_hyperparameters(hp)
            self.oracle.update_space(hp)
        else:
            super()._populate_initial_space()

    def _get_tuner_fname(self) -> str:
        # KerasTuner would make a folder to look for its file.
        return str(self.run.path / f"{self.tuner_id}.json")

    def save(self) -> None:
        """Nothing: every trial is recorded when it ends."""

    def reload(self) -> None:
        """Nothing: recorded trials are replayed when the search begins."""


def open_run(
    oracle: Any, directory: str | Path | None, project_name: str | None, *, overwrite: bool = False
) -> Run:
    """Open the run of a project, or begin it.

    Args:
        oracle: Says what the objective is.
        directory: As KerasTuner's.
        project_name: As KerasTuner's.
        overwrite: Delete an earlier project first, be it a run or one of KerasTuner's; a folder
            that is neither stays.

    Raises:
        RunError: If the folder holds something else, or another process searches in it.
    """
    path = Path(directory or ".") / (project_name or "untitled_project")
    if overwrite and (path / "run.json").exists():
        with Run(path, {}).locked():
            shutil.rmtree(path)
    elif overwrite and (path / "oracle.json").exists():
        shutil.rmtree(path)
    if (path / "run.json").exists():
        return Run.load(path)
    # KerasTuner's oracles draw a seed where none was given: a resumed search needs the first one.
    manifest = {"kind": "hypermodel", "seed": getattr(oracle, "seed", None) or 0}
    return Run.create(path, {**manifest, "objective": goal_of(oracle.objective)._asdict()})
