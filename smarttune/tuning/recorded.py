"""A KerasTuner tuner whose trials are kept in a run instead of KerasTuner's own files."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError, FatalError, FatalTypeError
from keras_tuner.src.engine import tuner_utils

from smarttune.errors import SmartTuneError
from smarttune.files import write_json
from smarttune.objectives import Direction, Objective
from smarttune.oracles.directions import known_direction
from smarttune.training import restore_state
from smarttune.training.checkpoint import set_state
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.checkpoints import KEPT_MODELS
from smarttune.tuning.costs import goal_of
from smarttune.tuning.foreign import accepted, has_own_fit, metrics_of
from smarttune.tuning.policy import TrialPlan, TrialPolicy
from smarttune.tuning.recording import is_out_of_memory, record_of_result
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
    _to_beat: Sequence[float | None] = ()  # scores of the trial's earlier executions

    def _plan(self, trial: Trial, epochs: int | None) -> TrialPlan:
        raise NotImplementedError

    def _failed(
        self, trial: Trial, plan: TrialPlan, error: Exception, measured: tuple[float, float]
    ) -> TrialRecord:
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
        self._build_like(model, trial.trial_id)
        set_state(model, restore_state(path), optimizer=False)
        return model

    # Models that get their weights from the first batch.

    def _checked(self, model: Any) -> Any:
        """Return a model; refuse what `build` must not return, and models above `max_model_size`.

        Raises:
            FatalTypeError: If it is no Keras model.
            FailedTrialError: If it is too large.
        """
        if not isinstance(model, keras.Model):
            raise FatalTypeError(f"build() must return a Keras model, not a {type(model).__name__}")
        size = model.count_params() if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise FailedTrialError(f"Oversized model: {size} parameters. Skip model.")
        return model

    def _keep_build(self, model: Any, trial_id: str) -> None:
        """Note the shapes of a model that training has built."""
        config = model.get_build_config()
        if config:
            write_json(Path(self._get_build_config_fname(trial_id)), config)

    def _build_like(self, model: Any, trial_id: str) -> None:
        """Give a model that is not built the weights' shapes of an earlier trial's."""
        if model.built:
            return  # asking for the name of the file would make its folder
        path = Path(self._get_build_config_fname(trial_id))
        if path.exists():
            model.build_from_config(json.loads(path.read_text(encoding="utf-8")))

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
                if self._is_fatal(error):
                    raise
                record = self._failed(trial, self._plan(trial, None), error, began)
            # Who raises this says that another run would not help.
            if record.outcome != "failed" or FailedTrialError.__name__ in record.message:
                break
        return record

    def _is_fatal(self, error: Exception) -> bool:
        """Whether an error ends the search: the user can mend it, or nothing ever worked."""
        if isinstance(error, FailedTrialError):
            return False
        if isinstance(error, (SmartTuneError, FatalError)):
            return True
        first = not self.records and not self._retries_left
        return first and not is_out_of_memory(error)

    def _is_best_execution(self, score: float | None) -> bool:
        """Whether no earlier execution of the trial was as good."""
        earlier = [s for s in self._to_beat if s is not None]
        return score is None or all(self.goal.better(score, s) for s in earlier)

    def _added(self, trial: Trial, plan: TrialPlan) -> dict[str, Any]:
        """Arguments of `fit` beside those that `search` was given."""
        del trial
        return {"verbose": 0, "initial_epoch": plan.epochs.start, "epochs": plan.epochs.stop}

    def _fit_foreign(  # noqa: PLR0913, PLR0917 -- a trial, and what its `fit` is given
        self,
        trial: Trial,
        model: Any,
        watcher: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        plan: TrialPlan,
    ) -> None:
        """Train a model by the `fit` of its hypermodel."""
        fit = self.hypermodel.fit
        watcher.may_be_late = has_own_fit(self.hypermodel)
        added = accepted(fit, self._added(trial, plan))
        result = fit(trial.hyperparameters, model, *args, **{**added, **kwargs})
        if watcher.may_be_late:
            watcher.settle(result, model, self.oracle.objective)

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
    goal = goal_of(oracle.objective)._asdict()
    return Run.create(path, {"kind": "hypermodel", "objective": goal})
