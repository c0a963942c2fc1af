"""Quasi-random search: points that fill the space more evenly than random ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from scipy.stats import qmc  # type: ignore[import-untyped]

from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import RepairedOracle

# The two sequences of points take turns, which makes the share of the priors one half
# (PRIOR_SHARE of all oracles).
NUM_SEQUENCES = 2


class QuasiRandomOracle(RepairedOracle):
    """Draws configurations from two scrambled Sobol sequences in turn.

    A point is one number from 0 to 1 per hyperparameter of the space; those of
    inactive ones are ignored. The points of one sequence go through the priors,
    those of the other are uniform, so that both halves are evenly spread by
    themselves. Without priors they are two uniform sets. A point whose
    configuration was tried already is skipped.

    Sources: Sobol (1967); scrambling: Owen (1998), "Scrambling Sobol' and
    Niederreiter-Xing Points", as in `scipy.stats.qmc.Sobol`; for
    hyperparameters: Bergstra & Bengio (2012), section 5.

    Limits: evenness is a property of the whole sequence, best after a power of
    two points of each, and fades with the number of hyperparameters and where
    branches leave many of them inactive. A space that grows during the search
    goes on with points of the larger cube. Another version of SciPy may scramble
    in another way.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default.
        **options: See `OracleOptions`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)
        self._num_points_taken = 0

    def propose(self, trial_id: str) -> Proposal:
        """Return the configuration of the next point."""
        values = self._next_values()
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def get_state(self) -> dict[str, Any]:
        """Return everything but the trials, fit for JSON."""
        return {**super().get_state(), "num_points_taken": self._num_points_taken}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._num_points_taken = state.get("num_points_taken", 0)

    def _next_values(self) -> Values | None:
        """Return the configuration of the next point not tried; None if many in a row were."""
        for _ in range(self._max_collisions if self.hyperparameters.space else 0):
            index, sequence = divmod(self._num_points_taken, NUM_SEQUENCES)
            self._num_points_taken += 1
            point = self._point(sequence, index)
            values = self.draw(_Coordinates(point), use_priors=sequence == 0)
            if not self._duplicate(values):
                return values
        return None

    def _point(self, sequence: int, index: int) -> list[float]:
        engine = qmc.Sobol(
            len(self.hyperparameters.space),
            scramble=True,
            rng=self.rng(f"sequence {sequence}").getrandbits(32),
        )
        if index:  # SciPy cannot skip nothing
            engine.fast_forward(index)
        return [float(u) for u in engine.random()[0]]


class _Coordinates(random.Random):
    """A generator that yields the coordinates of a point, one per draw."""

    def __init__(self, point: list[float]) -> None:
        super().__init__(0)
        self._coordinates: Iterator[float] = iter(point)

    def random(self) -> float:
        """Return the next coordinate."""
        return next(self._coordinates)
