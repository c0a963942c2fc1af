"""From data and recommendation to all that a search needs: parts, arrays, networks, oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras_tuner
import numpy as np

from smarttune.data import Dataset, Split
from smarttune.execution import TrainingData
from smarttune.fingerprint import Fingerprint
from smarttune.models import (
    Modality,
    NetworkHyperModel,
    Preprocessor,
    TargetCodec,
    TrainingPlan,
    modality_of,
)
from smarttune.models.compiling import sample_weights
from smarttune.models.modality import of_family
from smarttune.models.optimizers import batch_growth
from smarttune.objectives import PROBLEM_METRICS, Objective
from smarttune.oracles import RepairedOracle
from smarttune.oracles.nsga2 import population_for
from smarttune.recommendation import Recommendation, searched_families
from smarttune.space import SearchSpace, Value
from smarttune.training.averaging import AveragedWeights
from smarttune.training.growth import Growth
from smarttune.training.plateau import ContinuedPlateau
from smarttune.tuning.budget import Budget
from smarttune.tuning.costs import checked_costs
from smarttune.tuning.policy import TrialPolicy
from smarttune.tuning.strategies import Length, make_oracle

RATE = "optimizer.learning_rate"

# What is computed from data, and which settings it does not depend on.
_ARRAYS = {"split", "preprocessor", "codec", "training_data"}
_NOT_OF_DATA = ("optimizer.", "training.", "search.")


def _of_data(settings: Mapping[str, Value]) -> dict[str, Value]:
    return {n: v for n, v in settings.items() if not n.startswith(_NOT_OF_DATA)}


@dataclass(frozen=True)
class SearchJob:
    """Everything that the trials of one search share, computed once.

    Args:
        dataset: The data.
        fingerprint: Their measurement.
        recommendation: Every setting.
        objective: What ranks trials.
        seed: Seeds split, oracle and trials.
        test_fraction: Share of rows held back for the end.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    recommendation: Recommendation
    objective: Objective
    seed: int
    test_fraction: float

    @property
    def problem(self) -> str:
        """What is predicted."""
        return str(self.fingerprint.problem)

    @cached_property
    def modality(self) -> Modality:
        """What this kind of data needs."""
        return modality_of(self.fingerprint.task, self.problem)

    @cached_property
    def split(self) -> Split:
        """Training, validation and test rows."""
        value = self.recommendation.value
        return self.modality.split(
            self.dataset,
            self.fingerprint,
            self.settings,
            validation_fraction=float(value("data.validation_fraction")),
            test_fraction=self.test_fraction,
            seed=self.seed,
            stratify=bool(value("data.stratify", True)),
            time_ordered=bool(self.recommendation.facts.value("data.time_ordered") or False),
        )

    @cached_property
    def settings(self) -> dict[str, Value]:
        """The recommended value of every setting, conditional ones included."""
        return {name: s.value for name, s in self.recommendation.settings.items()}

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The kinds of network that trials may choose, the recommended one first."""
        chosen = searched_families(self.recommendation.settings)
        return chosen or (str(self.recommendation.value("model.family", "")),)

    def default_of(self, family: str) -> dict[str, Value]:
        """The recommended configuration of a family."""
        values = {d.name: d.value for d in self.space.dimensions}
        return self.space.active(values | {"model.family": family})

    def with_recommendation(self, recommendation: Recommendation) -> SearchJob:
        """The same search under another recommendation; what stays the same is not made anew."""
        other = replace(self, recommendation=recommendation)
        if _of_data(other.settings) == _of_data(self.settings):
            for name in _ARRAYS & self.__dict__.keys():
                other.__dict__[name] = self.__dict__[name]
        return other

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Preprocessing fitted on the training rows."""
        return self.modality.fit(
            self.dataset, self.fingerprint, self.split.train, self.settings, self.families
        )

    @cached_property
    def codec(self) -> TargetCodec:
        """Target encoding fitted on the training rows."""
        facts = self.recommendation.facts
        low, high = facts.value("data.target_min"), facts.value("data.target_max")
        bounds = None if low is None or high is None else (float(low), float(high))
        return self.modality.codec(
            self.dataset, self.fingerprint, self.split.train, self.settings, bounds
        )

    def arrays(self, rows: np.ndarray) -> tuple[dict[str, Any], Any]:
        """Inputs and encoded targets of some rows."""
        x = self.preprocessor.inputs(self.dataset, rows)
        return x, self.preprocessor.targets(self.dataset, rows, self.codec)

    @cached_property
    def training_data(self) -> TrainingData:
        """The arrays that all trials share."""
        x, y = self.arrays(self.split.train)
        x_validation, y_validation = self.arrays(self.split.validation)
        return TrainingData(x, y, x_validation, y_validation)

    @cached_property
    def space(self) -> SearchSpace:
        """The hyperparameters that trials differ in, and those that they share."""
        names = self.modality.network_settings(self.recommendation.settings)
        return self.recommendation.space(names)

    @cached_property
    def max_epochs(self) -> int:
        """Epochs of a full training in the search."""
        value = self.recommendation.value
        return int(value("search.max_epochs") or value("training.epochs"))

    def hypermodel(self) -> NetworkHyperModel:
        """The networks over the recommended space."""
        metrics = {self.objective.name.removeprefix("val_")} - {"loss"}
        return NetworkHyperModel(
            self.space,
            self.preprocessor,
            self.codec,
            TrainingPlan(
                num_samples=len(self.split.train),
                max_epochs=self.max_epochs,
                seed=self.seed,
                # The first of each problem is cheap and what people look for.
                metrics=tuple(sorted(metrics | {PROBLEM_METRICS[self.problem][0]})),
            ),
        )

    def policy(self) -> TrialPolicy:
        """How trials are trained."""
        value = self.recommendation.value
        stops = value("training.early_stopping.mode", "stop") == "stop"
        return TrialPolicy(
            max_epochs=self.max_epochs,
            patience=int(value("training.early_stopping.patience")) if stops else None,
            window=int(value("training.early_stopping.window", 1)),
            statistic=value("training.early_stopping.statistic", "mean"),
            noise_factor=float(value("training.early_stopping.noise_factor", 0.0)),
            seed=self.seed,
            default=self.space.default,
            sample_weight=self._sample_weight,
            extra_callbacks=self._callbacks,
            growth=self._growth,
        )

    def _growth(
        self, values: Mapping[str, Value], num_micro_batches: int, epochs: int
    ) -> Growth | None:
        return batch_growth(
            of_family(values),
            epochs=epochs,
            num_samples=len(self.split.train),
            num_micro_batches=num_micro_batches,
        )

    def _sample_weight(self, values: Mapping[str, Value]) -> np.ndarray | None:
        weighting = of_family(values).get("training.class_weight", "none")
        return sample_weights(self.training_data.y, self.codec, weighting)

    def _callbacks(self, values: Mapping[str, Value]) -> list[Any]:
        values, value = of_family(values), self.recommendation.value
        callbacks: list[Any] = []
        if values.get("optimizer.ema_momentum"):
            # What is kept is chosen by the watcher; training goes on from the weights themselves.
            callbacks.append(AveragedWeights(keep=False))
        if values.get("optimizer.schedule") == "plateau":
            callbacks.append(
                ContinuedPlateau(
                    monitor=self.objective.name,
                    mode=self.objective.direction,
                    factor=float(value("training.reduce_on_plateau.factor", 0.5)),
                    patience=int(value("training.reduce_on_plateau.patience", 5)),
                )
            )
        return callbacks

    def check(self, strategy: str, budget: Budget, against: Sequence[str] = ()) -> None:
        """Refuse before anything is written what the first trial would refuse.

        Raises:
            OptionError: If the grid has too many configurations, or the strategy does not fit
                the number of objectives.
        """
        checked_costs(against, strategy)
        if strategy == "grid":
            oracle = self.oracle(strategy, budget)
            hp = oracle.get_space()
            self.hypermodel().declare_hyperparameters(hp)
            oracle.update_space(hp)
            _ = oracle.grid_size

    def oracle(
        self,
        strategy: str,
        budget: Budget,
        against: Sequence[str] = (),
        *,
        further: Sequence[Mapping[str, Value]] = (),
    ) -> RepairedOracle:
        """The strategy, told the recommendation and its priors.

        Args:
            strategy: A name of `STRATEGIES`.
            budget: What limits the search.
            against: Costs that are objectives beside the score (see `smarttune.tuning.costs`).
            further: Configurations to try after the recommended one.
        """
        told: dict[str, Any] = {
            "objective": keras_tuner.Objective(*self.objective),
            "seed": self.seed,
            "initial_trials": [self.space.default, *further],
            "priors": {d.name: d.prior for d in self.space.dimensions if d.prior is not None},
        }
        value = self.recommendation.value
        if against:
            costs = [keras_tuner.Objective(name, "min") for name in against]
            told["objective"] = [told["objective"], *costs]
            # By the recommendation, which stays: a run that is given more trials keeps its
            # generations, and one that is limited by time has some at all.
            told["population_size"] = population_for(int(value("search.num_trials", 0)) or None)
        if strategy == "gradient":
            # Where networks of several kinds are searched, one may have a rate of its own.
            own = f"{RATE}[{self.space.default.get('model.family')}]"
            told["rate"] = own if own in self.space.default else RATE
        length = Length(
            self.max_epochs,
            min(int(value("search.min_epochs", 1)), self.max_epochs),
            int(value("search.reduction_factor", 3)),
        )
        return make_oracle(strategy, budget, length, told)


def with_budget(budget: Budget, recommendation: Recommendation) -> Budget:
    """Give a search without any limit the recommended number of trials."""
    if budget.trials is None and budget.seconds is None and budget.epochs is None:
        return replace(budget, trials=int(recommendation.value("search.num_trials")))
    return budget
