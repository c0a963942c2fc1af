"""Grid search that can be resumed."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from smarttune.errors import OptionError
from smarttune.oracles import _domain
from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, idle_or_stopped, running
from smarttune.oracles._repaired import RepairedOracle
from smarttune.space import Value

# ours: values of a range without steps; five on a log scale of four decades are one per decade.
DEFAULT_LEVELS = 5

# ours: no search on one machine finishes a larger grid, and a random draw of as many trials
# covers each hyperparameter better.
MAX_GRID = 10_000


class GridOracle(RepairedOracle):
    """Tries every configuration once, defaults first, the last hyperparameter fastest.

    What was tried is known from the trials themselves, so a resumed search, or
    one that meets new hyperparameters on its way, goes on with what is left.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; None means the whole grid.
        levels: How many values a range without steps gets, its ends included.
        **options: See `OracleOptions`. Priors and seed have no effect.

    Raises:
        OptionError: If `levels` is below 2, or, with the first trial, if the grid has more
            than `MAX_GRID` configurations.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        *,
        levels: int = DEFAULT_LEVELS,
        **options: Unpack[OracleOptions],
    ) -> None:
        if levels < 2:
            raise OptionError(
                "levels",
                received=f"levels is {levels}",
                expected="a whole number of at least 2",
                mend="Give the number of values that a range without steps gets.",
            )
        self.levels = levels
        self._walk: Iterator[Values] = iter(())
        self._walked_space: str | None = None
        super().__init__(objective, max_trials, **options)

    @property
    def grid_size(self) -> int:
        """How many configurations the grid has, inactive hyperparameters not counted.

        Raises:
            OptionError: If they are more than `MAX_GRID`.
        """
        size = sum(1 for _ in itertools.islice(self._configurations(), MAX_GRID + 1))
        if size > MAX_GRID:
            sizes = (f"{hp.name} {len(self._levels(hp))}" for hp in self.hyperparameters.space)
            raise OptionError(
                "grid",
                received=f"the grid has more than {MAX_GRID} configurations ({', '.join(sizes)})",
                expected=f"at most {MAX_GRID}",
                mend="Narrow the ranges, give them steps, lower `levels`, or search randomly.",
            )
        return size

    def propose(self, trial_id: str) -> Proposal:
        """Return the next configuration that was not tried."""
        del trial_id  # a grid has one order for all
        # A space that has grown is walked anew; what was tried is skipped.
        space = json.dumps(self.hyperparameters.get_config()["space"])
        if space != self._walked_space:
            _ = self.grid_size  # raises for a grid that is too large
            self._walk, self._walked_space = self._configurations(), space
        for values in self._walk:
            if not self._duplicate(values):
                return running(values)
        # A running trial may still declare hyperparameters, as KerasTuner's grid search allows.
        return idle_or_stopped(bool(self.ongoing_trials) and self.allow_new_entries)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._walked_space = None

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {**super().settings(), "levels": self.levels}

    def _configurations(self) -> Iterator[Values]:
        return _domain.configurations(
            list(self.hyperparameters.space), functools.cache(self._levels)
        )

    def _levels(self, hp: Any) -> list[Value]:
        return _domain.levels(hp, self.levels)
