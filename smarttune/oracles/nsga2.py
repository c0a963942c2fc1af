"""Several objectives at once: NSGA-II."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from keras_tuner import Objective
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from smarttune.errors import OptionError
from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._domain import Values, configuration
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._optuna import Mirror, Seen, key
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import PRIOR_SHARE, RepairedOracle
from smarttune.space import Value

# ours: ten generations of the population that belongs to it; KerasTuner's 10 would be one.
DEFAULT_TRIALS = 100

# ours: the root of the number of trials gives as many generations as individuals; on ZDT1 in
# six dimensions 6 and 10 did better than 14, 20 and 30 with 100 trials, 6 best with 40.
MIN_POPULATION = 6

# Default of Optuna's NSGAIISampler (population_size); taken without a limit of trials.
MAX_POPULATION = 50

# ours: fewer trials with finite values are no parents.
MIN_FINITE = 2

# ours: children that repeat a trial are bred again so often; then a random one is tried.
MAX_ASKS = 5


class NSGA2Oracle(RepairedOracle):
    """Breeds configurations towards the Pareto front of several objectives.

    A trial dominates another if it is at least as good in every objective and
    better in one; those that none dominates are the Pareto front. Each
    generation has parents: the best of all before, front by front and the
    loneliest first. A child takes each hyperparameter from one of two parents,
    now and then one is drawn anew, half of the times from its prior. The first
    generation is drawn as by random search.

    The values of a trial are those at its best step, the step where the *first*
    objective is best among those at which all objectives are finite; `best_step`
    says which. `score` stays KerasTuner's: the smallest sum over the steps,
    maximized objectives subtracted. Where all other objectives are constant in a
    trial (its number of parameters), both steps are the same; else KerasTuner's
    checkpoints hold the epoch of the sum. Trials that diverged or crashed count
    as the worst in every objective.

    Source: Deb et al. (2002), "A Fast and Elitist Multiobjective Genetic
    Algorithm: NSGA-II", section III, in the form of Optuna's `NSGAIISampler`
    (uniform crossover, redrawing as mutation).

    Limits: with four and more objectives most trials dominate none and the
    search is close to random. Parents change only after a whole generation, and
    with fewer than some ten generations random search is as good.

    Args:
        objective: A list of two or more: metrics' names or `keras_tuner.Objective`. The
            first one orders each front.
        max_trials: Most trials to run; None means no limit.
        population_size: Trials in a generation, 2 or more; None takes the root of
            `max_trials`, from 6 to 50.
        **options: See `OracleOptions`.

    Raises:
        OptionError: If there are fewer than two objectives, or two of one name.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = DEFAULT_TRIALS,
        *,
        population_size: int | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        _check_population(population_size)
        super().__init__(_checked(objective), max_trials, **options)
        self._wanted_population = population_size
        self.population_size = population_size or population_for(max_trials)
        self._mirror = self._new_mirror()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives in the order given."""
        return tuple(self.objective.objectives)

    def propose(self, trial_id: str) -> Proposal:
        """Return a child of two good trials, or a random one in the first generation."""
        values = self._child(trial_id) if self._has_parents() else None
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def objective_values(self, trial: Any) -> tuple[float, ...] | None:
        """Return the value of each objective at the trial's best step.

        Args:
            trial: One of the oracle's trials, running ones included.

        Returns:
            Values in the order of `objectives`, each in its metric's unit; None if there is
            no step at which all are finite.
        """
        best = self._best_vector(trial)
        return None if best is None else best[1]

    def pareto_front(self) -> list[Any]:
        """Return the completed trials that none dominates, best in the first objective first."""
        fronts = self._fronts()
        return fronts[0] if fronts else []

    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """Return the Pareto front, then the front without it, and so on.

        Args:
            num_trials: Most trials to return; fewer if no more have completed.
        """
        with self._lock:
            return list(itertools.chain.from_iterable(self._fronts()))[:num_trials]

    def score_trial(self, trial: Any) -> None:
        """Set the trial's score to KerasTuner's sum, nan if the objectives were never finite."""
        super().score_trial(trial)
        best = self._best_vector(trial)
        if best is None:
            trial.score = math.nan
        else:
            trial.best_step = best[0]

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {**super().settings(), "population_size": self._wanted_population}

    def get_state(self) -> dict[str, Any]:
        """Return everything but the trials, fit for JSON."""
        return {**super().get_state(), "population_size": self.population_size}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned; its generations keep their size."""
        super().set_state(state)
        self.population_size = state.get("population_size", self.population_size)
        self._mirror = self._new_mirror()

    # Breeding.

    def _child(self, trial_id: str) -> Values | None:
        seen = [self._seen(self.trials[ended]) for ended in self.end_order]
        for attempt in range(MAX_ASKS):
            rng = self.rng(f"model {trial_id.lstrip('0')}", attempt)
            values = self._mirror.suggest(
                self.hyperparameters.space,
                seen,
                sampler=functools.partial(
                    _Breeder, population_size=self.population_size, seed=rng.getrandbits(32)
                ),
                fresh=self._drawn(rng),
            )
            if not self._duplicate(values):
                return values
        return None

    def _seen(self, trial: Any) -> Seen:
        vector = self.objective_values(trial) if _outcomes.is_completed(trial) else None
        # What a trial has not can be inherited from it too; without that, branches would
        # have no hyperparameters in common, and Optuna would draw them all anew.
        draw = self._drawn(self.rng(f"dormant {trial.trial_id.lstrip('0')}"))
        return Seen(
            configuration(trial.hyperparameters.values),
            vector or (math.nan,) * len(self.objectives),
            {key(hp): draw(hp) for hp in self.hyperparameters.space},
        )

    def _drawn(self, rng: Any) -> Any:
        """Return a function that draws values, all from the priors or all uniformly."""
        use_priors = rng.random() < PRIOR_SHARE

        def draw(hp: Any) -> Value:
            return _domain.draw(hp, rng.random(), self.priors.get(hp.name) if use_priors else None)

        return draw

    def _has_parents(self) -> bool:
        finite = sum(_outcomes.is_completed(trial) for trial in self.trials.values())
        return (
            bool(self.hyperparameters.space)
            and len(self.end_order) >= self.population_size
            and finite >= MIN_FINITE
        )

    def _new_mirror(self) -> Mirror:
        return Mirror([objective.direction for objective in self.objectives])

    # Fronts.

    def _fronts(self) -> list[list[Any]]:
        done = [trial for trial in self._in_start_order() if _outcomes.is_completed(trial)]
        losses = {trial.trial_id: self._losses(trial) for trial in done}
        ranks = front_numbers([losses[trial.trial_id] for trial in done])
        fronts: list[list[Any]] = [[] for _ in range(max(ranks, default=-1) + 1)]
        for trial, rank in zip(done, ranks, strict=True):
            fronts[rank].append(trial)
        return [sorted(front, key=lambda t: losses[t.trial_id][0]) for front in fronts]

    def _losses(self, trial: Any) -> tuple[float, ...]:
        """Return the values with their signs turned so that less is better."""
        values = self.objective_values(trial) or ()
        signs = [-1.0 if objective.direction == "max" else 1.0 for objective in self.objectives]
        return tuple(sign * value for sign, value in zip(signs, values, strict=True))

    def _best_vector(self, trial: Any) -> tuple[int, tuple[float, ...]] | None:
        names = [objective.name for objective in self.objectives]
        if not all(trial.metrics.exists(name) for name in names):
            return None
        histories = [
            {seen.step: float(seen.mean()) for seen in trial.metrics.get_history(name)}
            for name in names
        ]
        vectors = {
            step: tuple(history.get(step, math.nan) for history in histories)
            for step in sorted(histories[0])
        }
        finite = {step: v for step, v in vectors.items() if all(map(math.isfinite, v))}
        if not finite:
            return None
        choose = max if self.objectives[0].direction == "max" else min
        step = choose(finite, key=lambda step: finite[step][0])
        return step, finite[step]


class _Breeder(NSGAIISampler):
    """NSGA-II whose generations follow from the order in which trials ended."""

    def get_trial_generation(self, study: Any, trial: Any) -> int:
        """Return the number of full generations."""
        return len(_complete(study)) // (self.population_size or 1)

    def get_population(self, study: Any, generation: int) -> list[Any]:
        """Return the trials of a generation."""
        size = self.population_size or 1
        return _complete(study)[generation * size : (generation + 1) * size]

    def get_parent_population(self, study: Any, generation: int) -> list[Any]:
        """Return the parents in the order in which they ended."""
        # Optuna orders them in one way at first and in another once they are cached.
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


def front_numbers(losses: Sequence[Sequence[float]]) -> list[int]:
    """Return the front of each row: 0 if no row dominates it, 1 if only rows of front 0 do...

    Args:
        losses: One row per trial and one column per objective; less is better.
    """
    if not losses:
        return []
    table = np.array(losses, dtype=float)
    no_worse: np.ndarray = np.all(table[:, None, :] <= table[None, :, :], axis=2)
    dominates = no_worse & ~no_worse.T
    numbers = np.full(len(table), -1)
    for number in itertools.count():
        left = numbers < 0
        if not left.any():
            break
        numbers[left & ~dominates[left].any(axis=0)] = number
    return [int(number) for number in numbers]


def _complete(study: Any) -> list[Any]:
    return list(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))


def population_for(max_trials: int | None) -> int:
    """Return the trials of a generation where so many trials are run; None means no limit."""
    if max_trials is None:
        return MAX_POPULATION
    return min(MAX_POPULATION, max(MIN_POPULATION, round(math.sqrt(max_trials))))


def _check_population(population_size: int | None) -> None:
    if population_size is not None and population_size < 2:
        raise OptionError(
            "population_size",
            received=f"a generation has {population_size} trials",
            expected="2 or more, or None",
            mend="Leave it out to let the number of trials decide.",
        )


def _checked(objective: Any) -> list[Any]:
    """Return the objectives as a list, the only form that KerasTuner knows."""
    several = list(objective) if isinstance(objective, (list, tuple)) else [objective]
    names = [getattr(one, "name", one) for one in several]
    if len(several) < 2 or len(set(names)) < len(names):
        raise OptionError(
            "objective",
            received="the objectives are " + (", ".join(map(str, names)) or "none"),
            expected="a list of two or more objectives of different names",
            mend="Name two, such as [Objective('val_loss', 'min'), "
            "Objective('num_parameters', 'min')], or choose another oracle.",
        )
    return several
