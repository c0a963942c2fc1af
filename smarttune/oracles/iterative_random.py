"""Iterative random search: rounds of draws, each from around the best so far."""

from __future__ import annotations

import bisect
import math
import random
from typing import Any, Unpack

from smarttune.errors import OptionError
from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._boxes import MIN_SHOWN, Boxes
from smarttune.oracles._domain import Values, configuration
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import PRIOR_SHARE, RepairedOracle

# ours: enough draws to show which tenth of a range is good, few enough for several rounds in a
# search of some dozen trials.
DEFAULT_ROUND = 10

# ours: a round narrows around this share of all completed trials; what a side may move in one
# round is bounded besides (see `_boxes`).
BEST_SHARE = 0.2

# ours: more trials than these say nothing more about where the best ones lie.
MAX_BEST = 20


class IterativeRandomOracle(RepairedOracle):
    """Draws at random, and after each round from narrower ranges around the best trials.

    A range whose best trial lies at its end moves outwards there instead, never over the
    declared range (see `smarttune.oracles._boxes`). Every round can be explained by the
    trials that it is drawn from, which no model can.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default, one round.
        round_size: Trials that complete before the ranges are moved.
        **options: See `OracleOptions`. Priors are used where nothing is narrowed yet.

    Raises:
        OptionError: If `round_size` is below the trials that are needed to narrow a range.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        *,
        round_size: int = DEFAULT_ROUND,
        **options: Unpack[OracleOptions],
    ) -> None:
        if round_size < MIN_SHOWN:
            raise OptionError(
                "round_size",
                received=f"round_size is {round_size}",
                expected=f"a whole number of at least {MIN_SHOWN}",
                mend="Give the number of trials that complete before the ranges are moved.",
            )
        self.round_size = round_size
        super().__init__(objective, max_trials, **options)
        self._forget()

    def propose(self, trial_id: str) -> Proposal:
        """Return a configuration of the present ranges, or any other if all were tried."""
        self._follow()
        for attempt in range(self._max_collisions):
            values = self._draw(self.rng(f"round {trial_id.lstrip('0')}", attempt))
            if not self._duplicate(values):
                return running(values)
        untried = self.new_values(trial_id)
        return self.exhausted() if untried is None else running(untried)

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {**super().settings(), "round_size": self.round_size}

    def _draw(self, rng: random.Random) -> Values:
        use_priors = rng.random() < PRIOR_SHARE
        values: Values = {}
        for hp in self.hyperparameters.space:
            if hp.name not in values and _domain.is_active(hp, values):
                prior = self.priors.get(hp.name) if use_priors else None
                values[hp.name] = self._boxes.draw(hp, rng, prior)
        return values

    def _forget(self) -> None:
        self._boxes = Boxes()
        self._num_read = 0  # ended trials that were looked at
        self._ranking: list[tuple[float, int]] = []  # of the best: rank, place in `end_order`
        self._num_completed = 0
        self._space_read: list[Any] = []

    def _follow(self) -> None:
        """Walk through the trials that ended since the last call.

        In a space that changed under way a position means something else: all is walked anew.
        So it is with a state that was read, which brings a space of its own.
        """
        space = list(self.hyperparameters.space)
        if any(a is not b for a, b in zip(self._space_read, space, strict=False)):
            self._forget()
        self._space_read = space
        sign = -1 if self.objective.direction == "max" else 1
        for place in range(self._num_read, len(self.end_order)):
            trial = self.trials[self.end_order[place]]
            if not _outcomes.is_completed(trial):
                continue
            bisect.insort(self._ranking, (sign * float(trial.score), place))
            del self._ranking[MAX_BEST:]
            self._num_completed += 1
            if self._num_completed % self.round_size == 0:
                self._boxes.tighten(space, self._best())
        self._num_read = len(self.end_order)

    def _best(self) -> list[Values]:
        """The configurations of the best trials, the very best first."""
        num_best = max(MIN_SHOWN, math.ceil(BEST_SHARE * self._num_completed))
        return [
            configuration(self.trials[self.end_order[place]].hyperparameters.values)
            for _, place in self._ranking[:num_best]
        ]
