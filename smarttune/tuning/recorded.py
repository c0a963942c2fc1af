"""A KerasTuner tuner whose trials are kept in a run instead of KerasTuner's own files."""

from __future__ import annotations

from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from smarttune.objectives import Objective
from smarttune.training import restore_state
from smarttune.training.checkpoint import set_state
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.run import Run


class RecordedTuner(keras_tuner.Tuner):  # type: ignore[misc]
    """What can be had of finished trials, and what KerasTuner need not do for them.

    Attributes:
        run: Where the trials are kept.
        goal: What ranks them.
        records: Finished trials by their ids.
    """

    run: Run
    goal: Objective
    records: dict[str, TrialRecord]

    @property
    def log(self) -> TrialLog:
        """All finished trials."""
        return TrialLog(self.goal, tuple(self.records.values()))

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """The best models, at most one of each lineage of promotions."""
        best = self.log.ranked()[:num_models]
        return [self.load_model(self.oracle.get_trial(r.trial_id)) for r in best]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Any]:
        """The best configurations, at most one of each lineage of promotions."""
        best = self.log.ranked()[:num_trials]
        return [self.oracle.get_trial(r.trial_id).hyperparameters for r in best]

    def load_model(self, trial: Trial) -> Any:
        """Build a trial's model with the weights of its best epoch."""
        if hasattr(self.hypermodel, "prepare"):
            self.hypermodel.prepare(self.records[trial.trial_id].seed)
        model = self._build_hypermodel(trial.hyperparameters)
        weights = restore_state(self.run.best_weights_path(trial.trial_id))
        set_state(model, weights, optimizer=False)
        return model

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
