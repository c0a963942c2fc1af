"""Bayesian optimization: a Gaussian process of past trials proposes the next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from smarttune.oracles import _acquisition, _outcomes
from smarttune.oracles._cube import Cube, FloatArray, Points
from smarttune.oracles._domain import Values
from smarttune.oracles._gaussian import ScheduledFit
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import RepairedOracle

# ours: trials before the model takes over, initial ones included: three of them even draws,
# against which the priors are judged, and three from the priors.
MIN_INITIAL_POINTS = 6

# ours: after many initial trials still so many, three of them even draws.
POINTS_AFTER_INITIAL = 5

# ours: fewer finite scores say nothing about what is good.
MIN_FINITE = 3

# The priors' weight is beta / n with beta a tenth of the trials (SMAC's documented default for
# piBO), at least 1; without a limit the value with which piBO was published.
TRIALS_PER_BETA = 10
BETA_WITHOUT_LIMIT = 10.0

# ours: the priors are judged once so many even draws have ended; their median then has a
# meaning.
MIN_EVEN = 3

# ours: one proposal in so many leaves the priors out, in case that they are wrong.
FREE_TURN = 4

# ours: so many of the best points found are offered in case that the first were tried before.
MAX_OFFERS = 50


class BayesianOracle(RepairedOracle):
    """Proposes where a Gaussian process expects the largest improvement, weighted by priors.

    The first trials are the initial ones and then in turn even draws and draws
    from the priors. After them each proposal maximizes the logarithm of the
    expected improvement plus (beta / n) times the log density of the priors, n
    being the number of the proposal: priors lead at first and fade (piBO,
    Hvarfner et al. 2022, "piBO: Augmenting Acquisition Functions with User
    Beliefs").

    Priors may be wrong. If the trial where they are densest did worse than the
    median of the even draws, they are left out, and even draws make up for the
    trials that they spent; and one proposal in four always leaves them out.

    Trials that diverged or crashed count as the worst finite score, so that
    their region is tried less; KerasTuner's own Bayesian oracle scores an infinite
    loss 0. Running trials count as if they had got the score expected of them, so
    that parallel proposals keep apart.

    Limits: the time of a proposal grows with the cube of the number of trials.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default.
        num_initial_points: Trials, initial ones included, before the model takes over; None
            means six, or five more than the initial ones.
        **options: See `OracleOptions`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        *,
        num_initial_points: int | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)
        if num_initial_points is None:
            after = len(self.initial_trials) + POINTS_AFTER_INITIAL
            num_initial_points = max(MIN_INITIAL_POINTS, after)
        self.num_initial_points = num_initial_points
        self._fits = ScheduledFit()

    def propose(self, trial_id: str) -> Proposal:
        """Return a configuration that the model expects to do well."""
        cube = Cube(self.hyperparameters.space)
        values: Values | None = None
        if cube.num_dimensions:
            data = self._data(cube)
            if data is None or self._owes_even_draws(cube, int(trial_id)):
                values = self._first_new(cube, self._designed(cube, trial_id))
            else:
                values = self._first_new(cube, self._promising(cube, trial_id, *data))
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._fits = ScheduledFit()

    def _first_new(self, cube: Cube, points: Points) -> Values | None:
        """Return the first configuration that was not tried."""
        offers = map(cube.decode, points.u[:MAX_OFFERS])
        return next((values for values in offers if not self._duplicate(values)), None)

    def _generator(self, purpose: str, trial_id: str) -> np.random.Generator:
        """Return the generator of one trial's draws for one purpose."""
        seed = self.rng(f"{purpose} {int(trial_id)}").getrandbits(64)
        return np.random.default_rng(seed)

    def _score(self, trial: Any) -> float:
        """Return the trial's score, lower being better; infinite without one."""
        if not _outcomes.is_completed(trial):
            return math.inf
        return float(trial.score if self.objective.direction == "min" else -trial.score)

    # The first trials.

    def _designed(self, cube: Cube, trial_id: str) -> Points:
        """Return the point of a trial before the model takes over."""
        number = int(trial_id)
        if self._is_even(number) or self._owes_even_draws(cube, number):
            return cube.snap(self._evenly(cube, number))
        if number == 0:
            return cube.mode(self.priors)
        return cube.draw(self._generator("design", trial_id), 1, self.priors)

    def _is_even(self, number: int) -> bool:
        """Whether a trial is an even draw, if neither an initial one nor one of the model."""
        if not self.priors:
            return True
        after = number - len(self.initial_trials)
        # Where nothing is recommended, the first trial is the mode of the priors.
        first = 0 if self.initial_trials else 1
        return after >= first and (after - first) % 2 == 0

    def _owes_even_draws(self, cube: Cube, number: int) -> bool:
        """Whether a trial makes up for one that priors spent, which then proved wrong.

        What was tried around a bad place says little about good ones; a whole branch may look
        bad for it.
        """
        after = range(len(self.initial_trials), self.num_initial_points)
        spent = sum(not self._is_even(n) for n in after)
        late = 0 <= number - self.num_initial_points < spent
        return late and bool(self.priors) and not self._trusts_priors(cube)

    def _evenly(self, cube: Cube, number: int) -> FloatArray:
        """Return the draws of one point of a sequence that fills the cube evenly.

        Multiples of fixed irrational steps, modulo 1, from a random start. The steps are
        powers of the root of x^(d + 1) = x + 1, which generalizes the golden ratio to d
        dimensions (Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences").
        """
        rng, size = self._generator("start", "0"), cube.num_dimensions
        root = 2.0
        for _ in range(64):  # a contraction: each round halves the error at least
            root = (1.0 + root) ** (1.0 / (size + 1))
        steps = root ** -np.arange(1.0, size + 1)
        return np.asarray((rng.random(size) + number * steps) % 1.0)[None]

    # The model.

    def _data(self, cube: Cube) -> tuple[Points, FloatArray] | None:
        """Return what ended trials showed, in the order of their ends; None if too little."""
        ended = [self.trials[trial_id] for trial_id in self.end_order]
        # A range may have changed since; where a trial outside would lie, nobody knows.
        ended = [t for t in ended if cube.contains(t.hyperparameters.values)]
        y = np.array([self._score(t) for t in ended])
        finite = y[np.isfinite(y)]
        if len(self.end_order) < self.num_initial_points or len(finite) < MIN_FINITE:
            return None
        points = cube.encode([t.hyperparameters.values for t in ended])
        return points, np.where(np.isfinite(y), y, finite.max())

    def _promising(self, cube: Cube, trial_id: str, points: Points, y: FloatArray) -> Points:
        """Return points that the model expects to do well, the best first."""
        model = self._fits.fit(points, y)
        best = float(model.predict(points)[0].min())
        pending = [t for t in self._in_start_order() if not _outcomes.is_over(t)]
        if pending:
            model = model.imagining(cube.encode([t.hyperparameters.values for t in pending]))
        number = int(trial_id)
        priors = self.priors if number % FREE_TURN and self._trusts_priors(cube) else {}
        weight = self._beta() / max(1, number - self.num_initial_points + 1)

        def gain(candidates: Points) -> FloatArray:
            improvement = _acquisition.log_expected_improvement(*model.predict(candidates), best)
            return improvement + weight * cube.log_prior(candidates, priors)

        known = points.take(np.argsort(y, kind="stable")[: _acquisition.NUM_CENTERS])
        rng = self._generator("model", trial_id)
        return _acquisition.search(cube, gain, known, rng, priors)

    def _beta(self) -> float:
        if self.max_trials is None:
            return BETA_WITHOUT_LIMIT
        return max(1.0, float(self.max_trials) / TRIALS_PER_BETA)

    def _trusts_priors(self, cube: Cube) -> bool:
        """Whether the first trials leave the priors standing."""
        if not self.priors:
            return False
        first = [self.trials[t] for t in self.end_order if int(t) < self.num_initial_points]
        even = [t for t in first if self._is_even(int(t.trial_id))]
        others = [t for t in first if not self._is_even(int(t.trial_id))]
        if len(even) < MIN_EVEN or not others:
            return True
        density = cube.log_prior(
            cube.encode([t.hyperparameters.values for t in others]), self.priors
        )
        mode = others[int(np.argmax(density))]
        return self._score(mode) <= statistics.median(map(self._score, even))
