"""Evolution of a normal distribution over the unit cube: CMA-ES."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from cmaes import CMA  # type: ignore[import-untyped]

from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import PRIOR_SHARE, RepairedOracle
from smarttune.space import Prior, Value, WeightsPrior

# ours: about a dozen generations of the usual size; with KerasTuner's 10 there would be one.
DEFAULT_TRIALS = 100

# Standard deviation at the start where no prior says better, in units of a range's width
# (Hansen 2016, "The CMA Evolution Strategy: A Tutorial", remarks under the listing of the
# algorithm: 0.3 (b - a) for an optimum expected between a and b).
START_SPREAD = 0.3

# Each restart has a population so many times larger (Auger & Hansen 2005, section II).
RESTART_GROWTH = 2

# ours: stands for the score of a failed trial; above any loss, and differences stay finite.
FAILED_LOSS = 1e300

# ours: proposals that repeat a trial are drawn again so often; then a random one is tried.
MAX_ASKS = 5


class CMAOracle(RepairedOracle):
    """Proposes from a normal distribution whose mean and covariance follow the better half.

    The distribution lives on the unit cube of the numbers and ordered choices
    that are active in every configuration (log scales by their exponents). It
    starts at the first initial trial, else at the centres of the priors, else in
    the middle, with the spreads of the priors or 0.3 of the range. The first
    generation is drawn as by random search, half of it from the priors, so that
    a wrong prior is noticed. When the distribution has collapsed or the scores
    no longer differ, a new one starts at a random point with twice the population.

    The state is not stored but worked out from the trials in the order of their
    end, a generation at a time. Initial, random and belated trials count like any
    other; those far from the distribution are moved towards its mean first, so
    that they cannot throw it off. Failed and diverged trials rank last.

    Sources: Hansen & Ostermeier (2001), "Completely Derandomized Self-Adaptation
    in Evolution Strategies"; Hansen (2016), arXiv:1604.00772; restarts: Auger &
    Hansen (2005), "A Restart CMA Evolution Strategy With Increasing Population
    Size"; trials from elsewhere: Hansen (2011), arXiv:1110.4181.

    Limits: choices without order and hyperparameters under a condition are drawn
    anew each time, half of the times from their priors; nothing is learnt about
    them. A range of few values may freeze at one of them. It needs some ten
    generations of 4 + 3 ln(number of hyperparameters) trials to pay, and is slow to
    leave priors that are narrow and wrong.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; None means no limit.
        **options: See `OracleOptions`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = DEFAULT_TRIALS,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)

    def propose(self, trial_id: str) -> Proposal:
        """Return a configuration drawn from the distribution."""
        values = self._suggest(trial_id)
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def _suggest(self, trial_id: str) -> Values | None:
        space = [hp for hp in self.hyperparameters.space if _is_modelled(hp)]
        evolution = self._evolution(space) if space else None
        if evolution is None or len(self.end_order) < evolution.population_size:
            return None
        for attempt in range(MAX_ASKS):
            rng = self.rng(f"model {trial_id.lstrip('0')}", attempt)
            evolution.reseed_rng(rng.getrandbits(32))
            point = evolution.ask()
            at = {hp.name: float(u) for hp, u in zip(space, point, strict=True)}
            values = self._values(at, rng)
            if not self._duplicate(values):
                return values
        return None

    def _values(self, at: Mapping[str, float], rng: random.Random) -> Values:
        """Return the configuration at a point; what the point leaves out is drawn."""
        use_priors = rng.random() < PRIOR_SHARE
        values: Values = {}
        for hp in self.hyperparameters.space:
            u = rng.random()
            if hp.name in values or not _domain.is_active(hp, values):
                continue
            if hp.name in at:
                values[hp.name] = _domain.draw(hp, at[hp.name])
            else:
                prior = self.priors.get(hp.name) if use_priors else None
                values[hp.name] = _domain.draw(hp, u, prior)
        return values

    def _evolution(self, space: Sequence[Any]) -> CMA:
        """Return the distribution after all trials that have ended."""
        ended = [self.trials[trial_id] for trial_id in self.end_order]
        evolution, first, restarts = self._start(space, 0), 0, 0
        while first + evolution.population_size <= len(ended):
            generation = ended[first : first + evolution.population_size]
            first += len(generation)
            points = [_near(evolution, _point(space, trial)) for trial in generation]
            losses = [self._loss(trial) for trial in generation]
            evolution.tell(list(zip(points, losses, strict=True)))
            if evolution.should_stop():
                restarts += 1
                evolution = self._start(space, restarts)
        return evolution

    def _start(self, space: Sequence[Any], restarts: int) -> CMA:
        """Return a new distribution; after a restart what is known of good regions is used up."""
        if restarts:
            rng = self.rng(f"restart {restarts}")
            mean, spreads = [rng.random() for _ in space], [START_SPREAD] * len(space)
        else:
            mean = [self._start_position(hp) for hp in space]
            spreads = [_spread(self.priors.get(hp.name)) for hp in space]
        size = math.floor(4 + 3 * math.log(len(space)))  # Hansen 2016, equation 48
        return CMA(
            mean=np.array(mean),
            sigma=START_SPREAD,
            bounds=np.array([[0.0, 1.0]] * len(space)),
            population_size=size * RESTART_GROWTH**restarts,
            cov=np.diag((np.array(spreads) / START_SPREAD) ** 2),
        )

    def _start_position(self, hp: Any) -> float:
        if self.initial_trials:
            return _position(hp, self.initial_trials[0].get(hp.name, hp.default))
        prior = self.priors.get(hp.name)
        return 0.5 if prior is None else _center_and_spread(prior)[0]

    def _loss(self, trial: Any) -> float:
        if not _outcomes.is_completed(trial):
            return FAILED_LOSS
        return float(-trial.score if self.objective.direction == "max" else trial.score)


def _is_modelled(hp: Any) -> bool:
    """Whether `hp` has an order, several values, and is active in every configuration."""
    ordered = not _domain.is_discrete(hp) or getattr(hp, "ordered", False)
    return bool(ordered and not hp.conditions and _domain.num_values(hp) > 1)


def _point(space: Sequence[Any], trial: Any) -> np.ndarray:
    values = trial.hyperparameters.values
    return np.array([_position(hp, values.get(hp.name, hp.default)) for hp in space])


def _position(hp: Any, value: Value) -> float:
    """Return where `value` lies on the unit interval; the inverse of a draw without prior.

    Ranges may change during a search: a number outside stands for the nearest one inside, a
    choice that is gone for the middle.
    """
    if _domain.is_discrete(hp):
        index = _domain.index_of(hp, value)
        return float((index + 0.5) / _domain.num_values(hp)) if index >= 0 else 0.5
    inside = min(hp.max_value, max(hp.min_value, value))
    if hp.step is not None:
        return float((_domain.index_of(hp, inside) + 0.5) / _domain.num_values(hp))
    return min(1.0, max(0.0, float(hp.value_to_prob(inside))))


def _spread(prior: Prior | None) -> float:
    """Return the standard deviation to start with; no prior widens it."""
    return START_SPREAD if prior is None else min(START_SPREAD, _center_and_spread(prior)[1])


def _center_and_spread(prior: Prior) -> tuple[float, float]:
    """Return mean and standard deviation of a prior on the unit interval."""
    if not isinstance(prior, WeightsPrior):
        return min(1.0, max(0.0, prior.center)), prior.spread
    weights = np.array(prior.weights) / sum(prior.weights)
    middles = (np.arange(len(weights)) + 0.5) / len(weights)
    center = float(weights @ middles)
    # Between the values, and within the bin of one of them.
    variance = float(weights @ (middles - center) ** 2) + (1 / len(weights)) ** 2 / 12
    return center, math.sqrt(variance)


def _near(evolution: CMA, point: np.ndarray) -> np.ndarray:
    """Return `point`, moved towards the mean if the distribution would hardly draw it.

    The longest step allowed, in standard deviations, is that of Hansen (2011).
    """
    axes, lengths = evolution._eigen_decomposition()  # noqa: SLF001 -- no public way to either
    step = point - evolution.mean
    length = float(np.linalg.norm(axes.T @ step / lengths)) / evolution._sigma  # noqa: SLF001
    n = evolution.dim
    longest = math.sqrt(n) + 2 * n / (n + 2)
    return evolution.mean + step * min(1.0, longest / length) if length else point
