"""Regularised evolution: the young replace the old, not the better the worse.

Source: Real, Aggarwal, Huang, Le (2019), "Regularized Evolution for Image
Classifier Architecture Search", AAAI, Algorithm 1 (P, S there are
`population_size`, `tournament_size` here). The population are the trials that
completed last, so a trial that did well by luck dies out.

A configuration is never tried twice: a child that was seen mutates on. On
repeating spaces such a cache is the difference between evolution and waste.
"""

from __future__ import annotations

import itertools
import random
from typing import Any, Unpack

from smarttune.errors import OptionError
from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._domain import Values, configuration
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._positions import allows, mutated
from smarttune.oracles._repaired import PRIOR_SHARE, RepairedOracle

# ours: a search here has a hundred trials, not the 20,000 of Real et al., whose 100 and 25
# stand in the same ratio.
DEFAULT_POPULATION = 20
DEFAULT_TOURNAMENT = 5

# Standard deviation of a numeric mutation on the unit interval: that of PriorBand's mutation
# of the incumbent (Mallik et al. 2023).
MUTATION_SPREAD = 0.25


class EvolutionOracle(RepairedOracle):
    """Mutates the best of a random sample of the trials that completed last.

    The first `population_size` trials are initial ones and random draws. Trials that failed
    or diverged are no parents. In a child each active hyperparameter is mutated with
    probability one over their number, and at least one is: numbers by a normal step,
    choices to another value. A branch that a mutation opens is drawn anew.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default, too few for evolution.
        population_size: Trials that may become parents.
        tournament_size: Trials of which the best becomes the parent, drawn with
            replacement.
        crossover_rate: Share of the children that take each value from one of two parents
            before they mutate; 0, as in the paper, for none.
        **options: See `OracleOptions`. Priors guide the draws.

    Raises:
        OptionError: If a size is below 1 or the rate is no probability.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        *,
        population_size: int = DEFAULT_POPULATION,
        tournament_size: int = DEFAULT_TOURNAMENT,
        crossover_rate: float = 0.0,
        **options: Unpack[OracleOptions],
    ) -> None:
        _check("population_size", population_size, population_size >= 1, "at least 1")
        _check("tournament_size", tournament_size, tournament_size >= 1, "at least 1")
        _check("crossover_rate", crossover_rate, 0 <= crossover_rate <= 1, "from 0 to 1")
        self.population_size = population_size
        self.tournament_size = tournament_size
        self.crossover_rate = crossover_rate
        super().__init__(objective, max_trials, **options)

    def propose(self, trial_id: str) -> Proposal:
        """Return a child of a good young trial, or a draw while the population grows."""
        population = self._population()
        values = None
        if len(population) == self.population_size:
            values = self._unseen_child(population, trial_id)
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {
            **super().settings(),
            "population_size": self.population_size,
            "tournament_size": self.tournament_size,
            "crossover_rate": self.crossover_rate,
        }

    def _population(self) -> list[Any]:
        """The trials that completed last, the youngest first."""
        ended = (self.trials[trial_id] for trial_id in reversed(self.end_order))
        completed = (trial for trial in ended if _outcomes.is_completed(trial))
        return list(itertools.islice(completed, self.population_size))

    def _unseen_child(self, population: list[Any], trial_id: str) -> Values | None:
        """Breed a child and mutate it until nobody has tried it."""
        rng = self.rng(f"child {trial_id.lstrip('0')}")
        values = self._inherited(population, rng)
        for _ in range(self._max_collisions):
            values = self._mutated(values, rng)
            if not self._duplicate(values):
                return values
        return None

    def _inherited(self, population: list[Any], rng: random.Random) -> Values:
        values = configuration(self._winner(population, rng).hyperparameters.values)
        if rng.random() < self.crossover_rate:
            other = configuration(self._winner(population, rng).hyperparameters.values)
            for name in other:
                if name not in values or rng.random() < 0.5:  # either parent alike
                    values[name] = other[name]
        return values

    def _winner(self, population: list[Any], rng: random.Random) -> Any:
        sign = -1 if self.objective.direction == "max" else 1
        sample = rng.choices(population, k=self.tournament_size)
        return min(sample, key=lambda trial: sign * trial.score)

    def _mutated(self, values: Values, rng: random.Random) -> Values:
        """Return a child that differs in at least one value, if there is another."""
        before = self._settled(values, rng)
        free = [hp for hp in self._active(before) if _domain.num_values(hp) > 1]
        if not free:
            return before
        chosen = [hp for hp in free if rng.random() * len(free) < 1] or [rng.choice(free)]
        for hp in chosen:
            prior = self._prior(hp, rng)
            before[hp.name] = mutated(hp, before[hp.name], rng, spread=MUTATION_SPREAD, prior=prior)
        return self._settled(before, rng)

    def _settled(self, values: Values, rng: random.Random) -> Values:
        """Return the active values, those that are missing or no longer allowed drawn anew."""
        settled: Values = {}
        for hp in self.hyperparameters.space:
            if hp.name in settled or not _domain.is_active(hp, settled):
                continue
            if hp.name in values and allows(hp, values[hp.name]):
                settled[hp.name] = values[hp.name]
            else:
                settled[hp.name] = _domain.draw(hp, rng.random(), self._prior(hp, rng))
        return settled

    def _active(self, values: Values) -> list[Any]:
        active: dict[str, Any] = {}
        for hp in self.hyperparameters.space:
            if hp.name not in active and _domain.is_active(hp, values):
                active[hp.name] = hp
        return list(active.values())

    def _prior(self, hp: Any, rng: random.Random) -> Any:
        """The prior of a hyperparameter for the share of draws that follow it."""
        return self.priors.get(hp.name) if rng.random() < PRIOR_SHARE else None


def _check(name: str, value: float, fits: bool, expected: str) -> None:
    if not fits:
        raise OptionError(
            name,
            received=f"{name} is {value}",
            expected=f"a number {expected}",
            mend=f"Give `{name}` such a value.",
        )
